// The package's own clients against its server: what travels beside the call, and what a client that gives up does to its handler.
import { assert, describe, it } from "@effect/vitest"
import { ClientId, Rpc } from "@scales-rpc/core"
import { Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { Protocols, Thrift, ThriftServer } from "../src/index.ts"
import { Echo, handlers } from "./echoServer.ts"
import { until } from "./rawClient.ts"

const client = (uri: string, options: Omit<Thrift.ThriftOptions, "uri"> = {}) =>
  Effect.map(Layer.build(Thrift.layer(Echo, { ...options, uri })), (context) => Effect.provide(context))

describe("a client of ours", () => {
  for (const framing of ["framed", "buffered"] as const) {
    for (const protocol of [Protocols.binary, Protocols.binaryOld, Protocols.compact, Protocols.json]) {
      // Without frames nothing but its protocol tells how an old header begins.
      const auto = framing === "framed" || protocol !== Protocols.binaryOld
      it.effect(`calls over ${framing} ${protocol.name}`, () =>
        Effect.gen(function*() {
          const server = yield* ThriftServer.makeMultiplexed(
            { Echo: ThriftServer.implement(Echo, handlers) },
            { framing: auto ? "auto" : framing, protocol: "auto" }
          )
          const provide = yield* client(server.uri, { framing, protocol, multiplexed: "Echo" })
          const answers = Effect.gen(function*() {
            const echo = yield* Echo
            yield* echo.note("oneway")
            const failed = yield* Effect.flip(echo.fail("why", 0 as never))
            assert.strictEqual(failed._tag, "ThriftException")
            return yield* Effect.all([echo.ping(), echo.blob(Buffer.alloc(200_000, 1)), echo.ping()], {
              concurrency: "unbounded"
            })
          })
          const [first, blob, last] = yield* provide(answers)
          assert.deepStrictEqual([first, blob.length, last], ["pong", 200_000, "pong"])
          assert.strictEqual(server.counts.undecodable, 0)
        }))
    }
  }

  for (const protocol of [Protocols.binary, Protocols.compact, Protocols.json]) {
    it.effect(`is known after Twitter's upgrade (${protocol.name}), and its deadline too`, () =>
      Effect.gen(function*() {
        yield* TestClock.setTime(1_700_000_000_000)
        const server = yield* ThriftServer.make(Echo, {
          ...handlers,
          seen: () => Effect.map(Rpc.Inbound, (inbound) => `${inbound?.context.get(ClientId)} ${inbound?.deadline}`),
          blob: (bytes) => Effect.succeed(bytes)
        }, { protocol })
        const provide = yield* client(server.uri, { protocol, upgrade: { clientId: "me" }, timeout: "7 seconds" })
        const seen = provide(Effect.flatMap(Echo, (echo) => echo.seen()))
        assert.strictEqual(yield* seen, "me 1700000007000")
        // A reply that is longer than what is copied behind its header.
        const blob = yield* provide(Effect.flatMap(Echo, (echo) => echo.blob(Buffer.alloc(300_000, 9))))
        assert.isTrue(Buffer.from(blob).equals(Buffer.alloc(300_000, 9)))
        assert.strictEqual(server.counts.upgrades, 1)
      }))
  }

  it.effect("that gives up a call ends its handler, and leaves the next call unharmed", () =>
    Effect.gen(function*() {
      let interrupted = 0
      const server = yield* ThriftServer.make(Echo, {
        ...handlers,
        slow: () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => void interrupted++))
      })
      const provide = yield* client(server.uri)
      const slow = yield* Effect.forkChild(provide(Effect.flatMap(Echo, (echo) => echo.slow(1))))
      yield* until(() => server.outstanding() === 1)
      yield* Fiber.interrupt(slow)
      assert.strictEqual(yield* provide(Effect.flatMap(Echo, (echo) => echo.ping())), "pong")
      yield* until(() => interrupted === 1 && server.outstanding() === 0)
      assert.strictEqual(yield* provide(Effect.flatMap(Echo, (echo) => echo.ping())), "pong")
      yield* until(() => server.connections().length === 1)
    }))
})
