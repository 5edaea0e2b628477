/** The package that `zk://` needs, as a process finds it in which it is missing, broken, of another version, or there. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"

/** What the package is in that process: a module, or nowhere to be found. */
const packages = {
  missing: undefined,
  broken: `import "./not-there.js"`,
  old: "export const other = 1",
  present: "export const zk = globalThis.zk"
}

/** The scheme's work, by stand-ins; what they were asked becomes what they give. */
const program = (module: string | undefined) => `
import { registerHooks } from "node:module"
const loaded = []
registerHooks({
  resolve: (name, context, next) => {
    if (name !== "@scales-rpc/zookeeper") return next(name, context)
    loaded.push(name)
    const module = ${JSON.stringify(module)}
    return module === undefined
      ? next(name, { ...context, parentURL: "file:///nobody/main.js" })
      : { url: "data:text/javascript," + encodeURIComponent(module), shortCircuit: true }
  }
})
const { Effect, Stream } = await import("effect")
const { Endpoint, resolve, ServerSet, ServerSetState } = await import("@scales-rpc/core")
globalThis.zk = {
  resolve: (uri, rest) => Effect.succeed(Stream.make(ServerSetState.Bound([Endpoint.tcp(rest, 1)]))),
  announce: (uri, rest, endpoint) => Effect.succeed(rest + " " + endpoint.key)
}
const told = (effect) =>
  Effect.runPromise(Effect.scoped(Effect.match(effect, {
    onSuccess: (done) => ({ done }),
    onFailure: ({ _tag, message, cause }) => ({ _tag, message, cause: String(cause?.code ?? cause) })
  })))
const states = (uri) => Effect.flatMap(resolve(uri), Stream.runCollect)
await told(states("tcp://a:1"))
await told(states("nobody://a:1"))
const unasked = loaded.length
const mine = ServerSet.resolver("zk", () => Effect.succeed(Stream.make(ServerSetState.Neg)))
const provided = await told(Effect.provide(states("zk://h/path"), mine))
const unneeded = loaded.length
const resolved = await told(states("zk://h/path"))
const announced = await told(ServerSet.announce("zk://h/path", Endpoint.tcp("a", 1)))
console.log(JSON.stringify({ unasked, provided, unneeded, resolved, announced }))
`

const outcome = (which: keyof typeof packages) =>
  Effect.callback<any>((resume) => {
    const child = execFile(
      process.execPath,
      ["--conditions=@scales-rpc/source", "--input-type=module", "--eval", program(packages[which])],
      { cwd: fileURLToPath(new URL("..", import.meta.url)) },
      (error, stdout, stderr) =>
        resume(error === null ? Effect.succeed(JSON.parse(stdout)) : Effect.die(new Error(stderr, { cause: error })))
    )
    return Effect.sync(() => child.kill())
  })

describe("zk:// without a resolver of one's own", () => {
  it.live("uses the package that implements it, which is loaded when the first URI asks for it", () =>
    Effect.gen(function*() {
      const { announced, provided, resolved, unasked, unneeded } = yield* outcome("present")
      assert.deepStrictEqual([unasked, unneeded], [0, 0])
      assert.deepStrictEqual(provided, { done: [{ _tag: "Neg" }] })
      assert.strictEqual(resolved.done[0].endpoints[0].host, "h/path")
      assert.deepStrictEqual(announced, { done: "h/path a:1" })
    }))

  it.live("says which package to install when it is missing, whether it resolves or announces", () =>
    Effect.gen(function*() {
      const { announced, provided, resolved, unasked } = yield* outcome("missing")
      assert.strictEqual(unasked, 0)
      assert.deepStrictEqual(provided, { done: [{ _tag: "Neg" }] })
      assert.deepStrictEqual(resolved, {
        _tag: "ResolverFailed",
        message:
          `cannot resolve "zk://h/path": zk:// needs the package @scales-rpc/zookeeper, which is not installed: ` +
          "npm install @scales-rpc/zookeeper",
        cause: "ERR_MODULE_NOT_FOUND"
      })
      assert.deepStrictEqual(announced, resolved)
    }))

  it.live("says that the package cannot be loaded, and why, when it is there", () =>
    Effect.gen(function*() {
      const { announced, resolved } = yield* outcome("broken")
      assert.strictEqual(resolved._tag, "ResolverFailed")
      assert.match(resolved.message, /needs the package @scales-rpc\/zookeeper, which could not be loaded$/)
      assert.notStrictEqual(resolved.cause, "undefined")
      assert.deepStrictEqual(announced, resolved)
    }))

  it.live("says that the package is of another version when it does not implement it", () =>
    Effect.gen(function*() {
      const { resolved } = yield* outcome("old")
      assert.strictEqual(resolved._tag, "ResolverFailed")
      assert.match(resolved.message, /does not implement it: it must be of the same version as @scales-rpc\/core$/)
    }))
})
