/** The programs that the docs show, run as a reader would run them. */
import { assert, it } from "@effect/vitest"
import { Endpoint, RequestHeaders, resolve, Rpc, ServerSet } from "@scales-rpc/core"
import { Scripted } from "@scales-rpc/core/testing"
import { Mux } from "@scales-rpc/mux"
import { ThriftMux, ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Context, Effect, Fiber, Layer, Stream } from "effect"
import { TestClock } from "effect/testing"
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises"
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
    const last = yield* Effect.forkChild(direct.slow(800), { startImmediately: true })
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

it.live("filter.ts signs every call", () =>
  Effect.gen(function*() {
    const { uri } = yield* ThriftMuxServer.make(Echo, {
      ...echoHandlers(),
      seen: () =>
        Effect.map(Effect.service(Rpc.Inbound), (inbound) => JSON.stringify(inbound?.context.get(RequestHeaders)))
    })
    const EchoLive = ThriftMux.layer(Echo, { uri, above: Example.signed }).pipe(
      Layer.provide(Layer.succeed(Example.Token, { current: Effect.succeed("secret") }))
    )
    const call = Echo.use((echo) => echo.seen()).pipe(Rpc.context(RequestHeaders, [["lang", "en"]]))
    const seen = yield* Effect.provide(call, EchoLive)
    assert.deepStrictEqual(JSON.parse(seen), [["lang", "en"], ["authorization", "secret"]])
  }))

it.effect("filter.ts tells of slow attempts, whatever ended them", () =>
  Effect.gen(function*() {
    const told: Array<string> = []
    const EchoLive = ThriftMux.layer(Echo, {
      serverSet: ServerSet.fixed([Endpoint.tcp("a", 1)]),
      transport: Scripted.layer(Mux, () => Effect.never),
      below: Example.slow(30, ({ key }, millis) => told.push(`${key} ${millis}`))
    })
    const givingUpAfter = (millis: number) =>
      Effect.gen(function*() {
        const call = Effect.exit(Echo.use((echo) => echo.ping()).pipe(Rpc.deadline(millis)))
        const fiber = yield* Effect.forkChild(Effect.provide(call, EchoLive), { startImmediately: true })
        yield* TestClock.adjust(millis)
        yield* Fiber.join(fiber)
        return told
      })
    assert.deepStrictEqual(yield* givingUpAfter(30), [])
    assert.deepStrictEqual(yield* givingUpAfter(31), ["a:1 31"])
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
        ({ address }) =>
          Effect.promise(async () => {
            await writeFile(`${file}.new`, `127.0.0.1:${address.port}\n`)
            await rename(`${file}.new`, file)
          })
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
