/** Plain Thrift on a network in memory: a real client and a real server, under the clock of the test. */
import { assert, it } from "@effect/vitest"
import { Rpc } from "@scales-rpc/core"
import { MemoryNetwork, Seed } from "@scales-rpc/core/testing"
import { Thrift, ThriftServer } from "@scales-rpc/thrift"
import { Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { Echo, echoHandlers } from "../../examples/src/echo.ts"

it.effect("the clock waits for what calls do, one after the other", () =>
  Effect.gen(function*() {
    const handlers = { ...echoHandlers(), ping: () => Effect.as(Effect.sleep("10 millis"), "pong") }
    yield* ThriftServer.make(Echo, handlers, { host: "echo", port: 1 })
    const context = yield* Layer.build(Thrift.layer(Echo, { uri: "tcp://echo:1" }))
    // Idle for longer than a connection is used without being looked at
    const call = Effect.andThen(
      Effect.sleep("7 millis"),
      Echo.use((echo) => echo.ping()).pipe(Rpc.deadline("11 millis"), Effect.provide(context))
    )
    const calls = yield* Effect.forkChild(Effect.forEach(Array.from({ length: 40 }), () => call), {
      startImmediately: true
    })
    yield* TestClock.adjust(40 * 17 - 1)
    assert.isUndefined(calls.pollUnsafe())
    yield* TestClock.adjust("1 millis")
    assert.lengthOf(yield* Fiber.join(calls), 40)
  }).pipe(Effect.provide([MemoryNetwork.layer, Seed.layer(1)])))

for (const framing of ["framed", "buffered"] as const) {
  it.effect(`${framing} calls are answered, time out, and their connections are cut`, () =>
    Effect.gen(function*() {
      const network = yield* MemoryNetwork
      let interrupted = 0
      yield* ThriftServer.make(Echo, {
        ...echoHandlers(),
        slow: () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => void interrupted++))
      }, { host: "echo", port: 1, framing })
      const context = yield* Layer.build(Thrift.layer(Echo, { uri: "tcp://echo:1", framing }))
      const echo = yield* Effect.provide(Effect.service(Echo), context)
      assert.strictEqual(yield* echo.ping(), "pong")
      const [connection] = network.open()
      assert.isAbove(connection!.toServer.bytes, 0)
      const call = yield* Effect.forkChild(Effect.flip(echo.slow(1).pipe(Rpc.deadline("1 second"))), {
        startImmediately: true
      })
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(call))._tag, "Timeout")
      // A connection without multiplexing is of no more use, and its server is told by its end.
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(network.open(), [])
      assert.strictEqual(interrupted, 1)
      assert.strictEqual(yield* echo.ping(), "pong")
    }).pipe(Effect.provide([MemoryNetwork.layer, Seed.layer(1)])))
}
