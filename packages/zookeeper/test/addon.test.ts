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

it("importing the package, and building its layer, loads no addon", () => {
  const program = `
    import { createRequire } from "node:module"
    import * as Effect from "effect/Effect"
    import * as Layer from "effect/Layer"
    import { ZooKeeper } from "@scales-rpc/zookeeper"
    await Effect.runPromise(Effect.scoped(Layer.build(ZooKeeper.layer())))
    const loaded = Object.keys(createRequire(import.meta.url).cache).filter((path) => /node_modules.zookeeper/.test(path))
    console.log(JSON.stringify({ loaded, active: process.getActiveResourcesInfo().filter((name) => /Timer|TCP|Timeout/.test(name)) }))
  `
  const { stderr, stdout } = spawnSync(
    process.execPath,
    ["--conditions=@scales-rpc/source", "--input-type=module", "--eval", program],
    { cwd: here, encoding: "utf8" }
  )
  assert.deepStrictEqual(stdout.trim() === "" ? stderr : JSON.parse(stdout), { loaded: [], active: [] })
})
