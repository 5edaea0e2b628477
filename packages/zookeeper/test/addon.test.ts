import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { dirname } from "node:path"
import { fileURLToPath } from "node:url"
import { loadAddon } from "../src/internal/addon.ts"

const failing = (code: string, message: string) => () => Promise.reject(Object.assign(new Error(message), { code }))

it.effect("a package that is not installed is named, with the command that installs it", () =>
  Effect.gen(function*() {
    const load = failing("ERR_MODULE_NOT_FOUND", "Cannot find package 'zookeeper' imported from /app/x.js")
    const failure = yield* Effect.flip(loadAddon("zk://h:2181", load))
    assert.strictEqual(failure._tag, "ResolverFailed")
    assert.strictEqual(
      failure.message,
      "cannot resolve \"zk://h:2181\": zk:// needs the package zookeeper, which is not installed: npm install zookeeper"
    )
  }))

it.effect("one that was built for another Node says how to build it again, and so does one that was not built", () =>
  Effect.gen(function*() {
    for (
      const load of [
        failing("ERR_DLOPEN_FAILED", "Module did not self-register: zookeeper.node"),
        failing("MODULE_NOT_FOUND", "Cannot find module 'nan'"),
        () => Promise.reject(new Error("No native build was found for platform=linux arch=x64"))
      ]
    ) {
      const failure = yield* Effect.flip(loadAddon("zk://h:2181", load))
      assert.include(failure.message, "npm rebuild zookeeper")
      assert.include(failure.message, process.versions.node)
      assert.instanceOf(failure.cause, Error)
    }
  }))

const here = dirname(fileURLToPath(import.meta.url))

it("importing any package, and building the layer of this one, loads no addon", () => {
  const program = `
    import { createRequire } from "node:module"
    const packages = {}
    for (const name of ["core", "mux", "thrift", "thriftmux", "http", "thrifthttp", "zookeeper"]) {
      packages[name] = Object.keys(await import("@scales-rpc/" + name)).length > 0
    }
    const Effect = await import("effect/Effect")
    const Layer = await import("effect/Layer")
    const { ZooKeeper } = await import("@scales-rpc/zookeeper")
    await Effect.runPromise(Effect.scoped(Layer.build(ZooKeeper.layer())))
    const { cache } = createRequire(import.meta.url)
    const loaded = () => [...Object.keys(cache), ...process.report.getReport().sharedObjects]
      .filter((path) => /node_modules.zookeeper/.test(path))
    const before = loaded()
    const active = process.getActiveResourcesInfo().filter((name) => /Timer|TCP|Timeout/.test(name))
    // What is looked at shows it when it is loaded.
    const after = await import("zookeeper").then(() => loaded().length > 1, () => "it does not load here")
    console.log(JSON.stringify({ packages, before, active, after }))
  `
  const { stderr, stdout } = spawnSync(
    process.execPath,
    ["--conditions=@scales-rpc/source", "--input-type=module", "--eval", program],
    { cwd: here, encoding: "utf8" }
  )
  const { after, ...rest } = stdout.trim() === "" ? { after: stderr } : JSON.parse(stdout)
  assert.include([true, "it does not load here"], after)
  const names = ["core", "mux", "thrift", "thriftmux", "http", "thrifthttp", "zookeeper"]
  assert.deepStrictEqual(rest, {
    packages: Object.fromEntries(names.map((name) => [name, true])),
    before: [],
    active: []
  })
})
