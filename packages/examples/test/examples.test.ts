/** The programs that the docs show, run as a reader would run them. */
import { assert, it } from "@effect/vitest"
import { RequestHeaders, resolve, Rpc } from "@scales-rpc/core"
import { ThriftMux, ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Context, Effect, Fiber, Layer, Stream } from "effect"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Echo, echoHandlers } from "../src/echo.ts"
import * as Example from "../src/filter.ts"
import { FileResolver } from "../src/resolver.ts"
import { pathOf, run, start } from "./program.ts"

/** A client for as long as the test runs. */
const client = (uri: string) =>
  Effect.map(Layer.build(ThriftMux.layer(Echo, { uri })), (context) => Context.get(context, Echo))

it.live("client.ts calls a server and prints the reply", () =>
  Effect.gen(function*() {
    const { uri } = yield* ThriftMuxServer.make(Echo, echoHandlers())
    const { code, stderr, stdout } = yield* run(pathOf("src/client.ts"), [uri])
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 0)
    assert.match(stdout, /text: 'hi!'/)
  }))

it.live("server.ts loses no call when it gets SIGTERM under load", () =>
  Effect.gen(function*() {
    const stopping = yield* start(pathOf("src/server.ts"), ["0"])
    const [, uri] = yield* stopping.line(/listening on (.*)\n/)
    const staying = yield* ThriftMuxServer.make(Echo, echoHandlers())
    const both = yield* client(`${uri},${staying.uri.slice("tcp://".length)}`)
    const direct = yield* client(uri!)

    let ok = 0
    let stopped = false
    const isStopped = () => stopped
    const caller = Effect.gen(function*() {
      while (!isStopped()) {
        assert.strictEqual(yield* both.slow(10), "slow")
        ok++
      }
    })
    const callers = yield* Effect.forkChild(
      Effect.all(Array.from({ length: 16 }, () => caller), { concurrency: "unbounded", discard: true })
    )
    const more = (count: number) =>
      Effect.suspend(() => {
        const goal = ok + count
        const enough = Effect.repeat(Effect.sleep("1 millis"), { until: () => ok >= goal })
        return Effect.raceFirst(enough, Fiber.join(callers))
      })
    yield* more(100)
    const last = yield* Effect.forkChild(direct.slow(500), { startImmediately: true })
    // Answered: the call before it, on the same connection, has come as well.
    yield* direct.ping()
    stopping.child.kill("SIGTERM")
    const [, outstanding] = yield* stopping.line(/draining, (\d+) calls to finish/)
    assert.isAbove(Number(outstanding), 0)
    assert.strictEqual(yield* Fiber.join(last), "slow")
    assert.strictEqual(yield* stopping.ended, 0)
    assert.match(stopping.stdout(), /drained\n$/)
    yield* more(100)
    stopped = true
    yield* Fiber.join(callers)
  }))

it.live("filter.ts signs every call and tells of slow attempts", () =>
  Effect.gen(function*() {
    const { address, uri } = yield* ThriftMuxServer.make(Echo, {
      ...echoHandlers(),
      seen: () =>
        Effect.map(Effect.service(Rpc.Inbound), (inbound) => JSON.stringify(inbound?.context.get(RequestHeaders)))
    })
    const told: Array<string> = []
    const EchoLive = ThriftMux.layer(Echo, {
      uri,
      above: Example.signed,
      below: Example.slow(30, ({ key }, millis) => told.push(`${key} ${millis >= 40}`))
    }).pipe(Layer.provide(Layer.succeed(Example.Token, { current: Effect.succeed("secret") })))
    yield* Effect.provide(
      Effect.gen(function*() {
        const echo = yield* Echo
        const seen = yield* echo.seen().pipe(Rpc.context(RequestHeaders, [["lang", "en"]]))
        assert.deepStrictEqual(JSON.parse(seen), [["lang", "en"], ["authorization", "secret"]])
        yield* echo.slow(0)
        assert.deepStrictEqual(told, [])
        yield* echo.slow(50)
        assert.deepStrictEqual(told, [`127.0.0.1:${address.port} true`])
      }),
      EchoLive
    )
  }))

it.live("resolver.ts follows the endpoints that a file names", () =>
  Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.promise(() => mkdtemp(join(tmpdir(), "endpoints-"))),
      (folder) => Effect.promise(() => rm(folder, { recursive: true }))
    )
    const file = join(folder, "echo")
    const serve = (name: string) =>
      Effect.map(
        ThriftMuxServer.make(Echo, { ...echoHandlers(), ping: () => Effect.succeed(name) }),
        ({ address }) => Effect.promise(() => writeFile(file, `127.0.0.1:${address.port}\n`))
      )
    const toA = yield* serve("a")
    const toB = yield* serve("b")
    yield* toA
    const EchoLive = ThriftMux.layer(Echo, { uri: `file://${file}` }).pipe(Layer.provide(FileResolver("5 millis")))
    yield* Effect.provide(
      Effect.gen(function*() {
        const echo = yield* Echo
        assert.strictEqual(yield* echo.ping(), "a")
        yield* toB
        yield* Effect.repeat(echo.ping(), { until: (name) => name === "b" })
      }),
      EchoLive
    )
  }))

it.live("resolver.ts does not take a file that it cannot read for an empty set", () =>
  Effect.gen(function*() {
    const missing = yield* Effect.flatMap(resolve("file:///no/such/file"), Stream.runHead)
    assert.strictEqual(missing._tag === "Some" ? missing.value._tag : "no state", "Failed")
    assert.strictEqual((yield* Effect.flip(resolve("file://relative")))._tag, "InvalidUri")
  }).pipe(Effect.provide(FileResolver())))
