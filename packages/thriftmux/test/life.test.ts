import { assert, describe, it } from "@effect/vitest"
import { Endpoint, PromiseClient, StackClosed } from "@scales-rpc/core"
import { RawPeer } from "@scales-rpc/mux/testing"
import { TestServerSet } from "@scales-rpc/core/testing"
import { ThriftMux } from "@scales-rpc/thriftmux"
import { Context, Deferred, Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { build, connect, Echo, type EchoHandlers, leavesNoSockets, scripted, serve, spread, until } from "./support.ts"

leavesNoSockets()

const pong = Buffer.from("800100020000000470696e67000000010b000000000004706f6e6700", "hex")

/** Handlers of which `slow` answers when the gate is opened. */
const gated = () => {
  const gate = Deferred.makeUnsafe<void>()
  const handlers: Partial<EchoHandlers> = { slow: () => Effect.as(Deferred.await(gate), "slow") }
  return { handlers, open: Deferred.succeed(gate, undefined) }
}

describe("closing a client", () => {
  it.live("lets its calls end, refuses new ones, then ends its connections", () =>
    Effect.gen(function*() {
      const { handlers, open } = gated()
      const server = yield* serve(handlers)
      const { close, echo } = yield* connect(server)
      const call = yield* Effect.forkChild(echo.slow(1))
      yield* until("it runs", () => server.outstanding() === 1)
      const closing = yield* Effect.forkChild(close, { startImmediately: true })
      const refused = yield* Effect.flip(echo.ping())
      assert.instanceOf(refused, StackClosed)
      assert.deepInclude(refused, { stack: "Echo", reached: "no" })
      assert.isUndefined(closing.pollUnsafe())
      assert.strictEqual(server.sessions().length, 1)
      yield* open
      assert.strictEqual(yield* Fiber.join(call), "slow")
      yield* Fiber.join(closing)
      yield* until("the connection has ended", () => server.sessions().length === 0)
      assert.instanceOf(yield* Effect.flip(echo.ping()), StackClosed)
    }))

  it.live("ends what has not ended in its time, and tells the server", () =>
    Effect.gen(function*() {
      let interrupted = 0
      const server = yield* serve({
        slow: () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => void interrupted++))
      })
      const { close, echo } = yield* connect(server, { drainTimeout: "30 millis", label: "echo-client" })
      const call = yield* Effect.forkChild(Effect.flip(echo.slow(1)))
      yield* until("it runs", () => server.outstanding() === 1)
      yield* close
      const error = yield* Fiber.join(call)
      assert.instanceOf(error, StackClosed)
      assert.deepInclude(error, { stack: "echo-client", reached: "maybe" })
      yield* until("the handler is interrupted", () => interrupted === 1)
    }))

  it.effect("waits five seconds, unless told otherwise", () =>
    Effect.gen(function*() {
      for (const [drainTimeout, millis] of [[undefined, 5000], ["1 second", 1000]] as const) {
        const { transport } = scripted()
        const { close, echo } = yield* build(ThriftMux.layer(Echo, { uri: "tcp://a:1", transport, drainTimeout }))
        const call = yield* Effect.forkChild(Effect.flip(echo.ping()), { startImmediately: true })
        const closing = yield* Effect.forkChild(close, { startImmediately: true })
        yield* TestClock.adjust(millis - 1)
        assert.isUndefined(closing.pollUnsafe())
        yield* TestClock.adjust(1)
        yield* Fiber.join(closing)
        assert.strictEqual((yield* Fiber.join(call))._tag, "StackClosed")
      }
    }))

  it.effect("ends calls that wait for a first endpoint", () =>
    Effect.gen(function*() {
      const { script, transport } = scripted()
      script.connecting = () => Effect.never
      const { close, echo } = yield* build(ThriftMux.layer(Echo, { uri: "tcp://a:1", transport, drainTimeout: 0 }))
      const call = yield* Effect.forkChild(Effect.flip(echo.ping()), { startImmediately: true })
      yield* close
      const error = yield* Fiber.join(call)
      assert.deepInclude(error, { _tag: "StackClosed", reached: "no" })
    }))
})

describe("closing a server", () => {
  it.live("lets its calls end, and others go to the server that is left", () =>
    Effect.gen(function*() {
      const { handlers, open } = gated()
      const [first, second] = [yield* serve(handlers), yield* serve(handlers)]
      const { echo, live } = yield* spread([first, second])
      const calls = yield* Effect.forEach([1, 2, 3, 4], (millis) => Effect.forkChild(echo.slow(millis)))
      yield* until("both have some", () => first.outstanding() === 2 && second.outstanding() === 2)
      const closing = yield* Effect.forkChild(first.close, { startImmediately: true })
      yield* until("the client knows", () => live().endpoints.some(({ state }) => state === "Busy"))
      for (let i = 0; i < 10; i++) assert.strictEqual(yield* echo.ping(), "pong")
      assert.strictEqual(first.counts.requests, 2)
      assert.isUndefined(closing.pollUnsafe())
      yield* open
      assert.deepStrictEqual(yield* Effect.forEach(calls, Fiber.join), ["slow", "slow", "slow", "slow"])
      yield* Fiber.join(closing)
      // Drained, and gone: nobody was failed by it.
      for (let i = 0; i < 10; i++) assert.strictEqual(yield* echo.ping(), "pong")
      assert.strictEqual(second.counts.requests, 22)
    }))

  it.live("interrupts what has not ended in its time: those calls may have run", () =>
    Effect.gen(function*() {
      let interrupted = 0
      const server = yield* serve({
        slow: () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => void interrupted++))
      }, { drainTimeout: "30 millis" })
      const { echo } = yield* connect(server)
      const call = yield* Effect.forkChild(Effect.flip(echo.slow(1)))
      yield* until("it runs", () => server.outstanding() === 1)
      yield* server.close
      assert.strictEqual(interrupted, 1)
      const error = yield* Fiber.join(call)
      assert.deepInclude(error, { _tag: "ConnectionClosed", reached: "maybe" })
    }))

  it.live("under a hundred callers fails none of them", () =>
    Effect.gen(function*() {
      const handlers: Partial<EchoHandlers> = { slow: (millis) => Effect.as(Effect.sleep(millis), "slow") }
      const [first, second] = [yield* serve(handlers), yield* serve(handlers)]
      const { echo } = yield* spread([first, second])
      const caller = (id: number) =>
        Effect.forEach(Array.from({ length: 10 }, (_, i) => (id + i) % 4), (millis) => echo.slow(millis))
      const callers = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: 100 }, (_, id) => id), caller, { concurrency: "unbounded" })
      )
      yield* until("they are under way", () => first.counts.requests > 150)
      yield* first.close
      assert.strictEqual((yield* Fiber.join(callers)).flat().length, 1000)
      assert.strictEqual(first.counts.requests + second.counts.requests, 1000)
    }))
})

describe("the first call", () => {
  it.effect("waits for a first endpoint, and has the time that it has", () =>
    Effect.gen(function*() {
      const { script, transport } = scripted(() => Effect.succeed(pong))
      script.refuse("a:1")
      const { echo } = yield* build(ThriftMux.layer(Echo, { uri: "tcp://a:1", transport }))
      const call = yield* Effect.forkChild(echo.ping(), { startImmediately: true })
      yield* TestClock.adjust("5 seconds")
      assert.isUndefined(call.pollUnsafe())
      script.accept("a:1")
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual(yield* Fiber.join(call), "pong")
    }))

  it.effect("fails at its deadline with why there is no endpoint", () =>
    Effect.gen(function*() {
      const { script, transport } = scripted()
      script.refuse("a:1")
      const { echo } = yield* build(ThriftMux.layer(Echo, { uri: "tcp://a:1", transport }))
      const call = yield* Effect.forkChild(Effect.flip(echo.ping()), { startImmediately: true })
      yield* TestClock.adjust("9999 millis")
      assert.isUndefined(call.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const error = yield* Fiber.join(call)
      assert.deepInclude(error, { _tag: "Timeout", timeoutMillis: 10_000, waiting: "endpoint", reached: "no" })
      assert.include(error.message, "refused by the script")
    }))

  it.effect("waits for a first state of its server set", () =>
    Effect.gen(function*() {
      const { transport } = scripted(() => Effect.succeed(pong))
      const context = yield* Layer.build(Layer.provideMerge(Layer.empty, TestServerSet.layer()))
      const { echo } = yield* build(ThriftMux.layer(Echo, { serverSet: Layer.succeedContext(context), transport }))
      const call = yield* Effect.forkChild(echo.ping(), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      assert.isUndefined(call.pollUnsafe())
      yield* Context.get(context, TestServerSet).bind([Endpoint.tcp("a", 1)])
      assert.strictEqual(yield* Fiber.join(call), "pong")
    }))
})

describe("a promise client over ThriftMux", () => {
  it.live("calls, rejects with the typed error, and drains on close", () =>
    Effect.gen(function*() {
      const { handlers, open } = gated()
      const server = yield* serve(handlers)
      const { client, close } = PromiseClient.make(Echo, ThriftMux.layer(Echo, { uri: server.uri }))
      assert.strictEqual(yield* Effect.promise(() => client.ping()), "pong")
      const error = yield* Effect.promise(() => client.crash("oops").catch((error: unknown) => error))
      assert.deepInclude(error, { _tag: "ThriftApplicationException", typeName: "INTERNAL_ERROR" })
      const call = client.slow(1)
      yield* until("it runs", () => server.outstanding() === 1)
      const closed = close()
      yield* open
      assert.strictEqual(yield* Effect.promise(() => call), "slow")
      yield* Effect.promise(() => closed)
      yield* until("the connection has ended", () => server.sessions().length === 0)
    }))
})

it.live("a server that is told to misbehave: pings, leases and drains one session", () =>
  Effect.gen(function*() {
    const server = yield* serve()
    const { echo } = yield* connect(server)
    yield* echo.ping()
    const [session] = server.sessions()
    assert.isTrue(yield* session!.ping)
    yield* session!.lease("1 minute")
    yield* session!.drain()
    assert.strictEqual(yield* echo.ping(), "pong")
    assert.strictEqual(server.counts.sessions, 2)
  }))

it.live("a client that only connects holds up no close", () =>
  Effect.gen(function*() {
    const server = yield* serve()
    const connection = yield* RawPeer.connect(server.address)
    yield* until("it is there", () => server.sessions().length === 1)
    yield* server.close
    yield* connection.ended
  }))
