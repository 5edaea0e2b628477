/**
 * How to test a program that calls a service, without a socket and without waiting: alone with the service mocked, and with its whole
 * client and a real server on a network in memory, under a clock that the test moves.
 */
import { assert, describe, it } from "@effect/vitest"
import { Endpoint } from "@scales-rpc/core"
import { FaultySink, MemoryNetwork, Mock, Seed, TestServerSet } from "@scales-rpc/core/testing"
import { Mux, MuxTransport } from "@scales-rpc/mux"
import { MuxFrames } from "@scales-rpc/mux/testing"
import { ThriftException } from "@scales-rpc/thrift"
import { ThriftMux, ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Effect, Exit, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import Int64 from "node-int64"
import { Overdrawn, Refused } from "../gen/echo_types.js"
import { Echo, echoHandlers } from "../src/echo.ts"
import { readAll, submit } from "../src/submit.ts"

/** Runs until it first waits, beside the test, which may then move the clock. */
const begin = <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.forkChild(self, { startImmediately: true })

describe("alone: the service is a mock", () => {
  /** The service, which answers every `fail` so. */
  const answering = (fail: (typeof Echo.Service)["fail"]) => Mock.layer(Echo, { fail })

  it.effect("says what was refused and why", () =>
    Effect.gen(function*() {
      const refusal = new ThriftException({ exception: new Refused({ why: "no x" }) })
      const overdraft = new ThriftException({ exception: new Overdrawn({ missing: new Int64(3) }) })
      const answers = [Effect.void, Effect.fail(refusal), Effect.fail(overdraft)]
      const said = yield* Effect.forEach(answers, (answer) => Effect.provide(submit("x"), answering(() => answer)))
      assert.deepStrictEqual(said, ["accepted", "refused: no x", "3 missing"])
    }))

  it.effect("gives up after two seconds", () =>
    Effect.gen(function*() {
      const submitting = yield* begin(submit("x"))
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* Fiber.join(submitting), "nobody there")
      const [call] = (yield* Mock.recorded(Echo)).of("fail")
      assert.deepStrictEqual([call!.args[0], call!.remainingMillis], ["x", 2000])
    }).pipe(Effect.provide(answering(() => Mock.silent))))

  it.effect("takes an answer that is slow, but not too slow", () =>
    Effect.gen(function*() {
      const submitting = yield* begin(submit("x"))
      yield* TestClock.adjust("1999 millis")
      assert.strictEqual(yield* Fiber.join(submitting), "accepted")
    }).pipe(Effect.provide(answering(() => Effect.void.pipe(Mock.slow("1999 millis"))))))

  it.effect("reads two at a time, and says that reading may be repeated", () =>
    Effect.gen(function*() {
      const { called, of } = yield* Mock.recorded(Echo)
      const reading = yield* begin(readAll(["a", "b", "c"]))
      yield* called("passMessage", 2)
      yield* TestClock.adjust("999 millis")
      assert.lengthOf(of("passMessage"), 2)
      yield* TestClock.adjust("1001 millis")
      assert.deepStrictEqual(yield* Fiber.join(reading), ["a", "b", "c"])
      const calls = of("passMessage")
      assert.deepStrictEqual(calls.map(({ args: [{ text }], at }) => [text, at]), [["a", 0], ["b", 0], ["c", 1000]])
      assert.isTrue(calls.every(({ exit, idempotent }) => idempotent && exit !== undefined && Exit.isSuccess(exit)))
    }).pipe(Effect.provide(Mock.layer(Echo, {
      passMessage: (message) => Effect.succeed(message).pipe(Mock.slow("1 second"))
    }))))
})

describe("with its client and a real server, in memory", () => {
  /** Servers at `echo:1` and `echo:2`, whose `fail` is given. */
  const serving = (fail: ThriftMuxServer.Handlers<typeof Echo>["fail"]) =>
    Effect.forEach([1, 2], (port) => ThriftMuxServer.make(Echo, { ...echoHandlers(), fail }, { host: "echo", port }))

  /** A client of both. */
  const client = (options: ThriftMux.ThriftMuxOptions = {}) =>
    ThriftMux.layer(Echo, { ...options, uri: "tcp://echo:1,echo:2" })

  const inMemory = Effect.provide([MemoryNetwork.layer, Seed.layer(1)])

  it.effect("tells the server when it gives up", () =>
    Effect.gen(function*() {
      const frames = yield* MuxFrames.record
      let interrupted = 0
      yield* serving(() => Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++)))
      yield* Effect.gen(function*() {
        const submitting = yield* begin(submit("x"))
        yield* frames.seen("Tdispatch")
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual(yield* Fiber.join(submitting), "nobody there")
        const [discarded] = yield* frames.seen("Tdiscarded")
        assert.strictEqual(discarded!.at, 2000)
        yield* frames.seen("Rdiscarded")
        assert.strictEqual(interrupted, 1)
      }).pipe(Effect.provide(client()))
    }).pipe(inMemory))

  it.effect("hands a text in though a server is down", () =>
    Effect.gen(function*() {
      const network = yield* MemoryNetwork
      network.refuse("echo:1")
      yield* serving(() => Effect.void)
      const all = Effect.forEach(["a", "b", "c", "d"], submit)
      assert.deepStrictEqual(yield* Effect.provide(all, client()), ["accepted", "accepted", "accepted", "accepted"])
    }).pipe(inMemory))

  it.effect("goes to the servers that there are now", () =>
    Effect.gen(function*() {
      const network = yield* MemoryNetwork
      yield* serving(() => Effect.void)
      yield* Effect.gen(function*() {
        const servers = yield* TestServerSet
        yield* servers.bind([Endpoint.tcp("echo", 1)])
        assert.strictEqual(yield* submit("a"), "accepted")
        yield* servers.bind([Endpoint.tcp("echo", 2)])
        yield* servers.seen
        assert.strictEqual(yield* submit("b"), "accepted")
        assert.deepStrictEqual(network.connections.map(({ address }) => address), ["echo:1", "echo:2"])
      }).pipe(
        Effect.provide(
          ThriftMux.layer(Echo, { serverSet: TestServerSet.serverSet }).pipe(Layer.provideMerge(TestServerSet.layer()))
        )
      )
    }).pipe(inMemory))

  it.effect("reads everything through a bad night", () =>
    Effect.gen(function*() {
      yield* serving(() => Effect.void)
      const night = FaultySink.plan([
        { endpoint: "echo:1", probability: 0.1, fault: FaultySink.nack({ why: "busy" }) },
        { method: "passMessage", probability: 0.2, fault: FaultySink.delay("10 millis", "500 millis") },
        { on: "reply", nth: [3, 20], fault: FaultySink.breakConnection },
        { on: "connect", nth: [2, 3], fault: FaultySink.delay("50 millis") }
      ], { seed: 7 })
      const transport = FaultySink.connector(Mux, night).pipe(Layer.provide(MuxTransport.layer()))
      const texts = Array.from({ length: 50 }, (_, index) => `${index}`)
      const reading = yield* begin(
        Effect.provide(readAll(texts), ThriftMux.layer(Echo, { uri: "tcp://echo:1,echo:2", transport }))
      )
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* Fiber.join(reading), texts, String(night))
      assert.strictEqual(night.counts.Break, 2, String(night))
      assert.isAbove(night.counts.Delay, 0)
    }).pipe(inMemory))
})
