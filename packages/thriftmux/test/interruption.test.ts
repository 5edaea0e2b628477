import { assert, describe, it } from "@effect/vitest"
import { Rpc, Timeout } from "@scales-rpc/core"
import { MuxServer } from "@scales-rpc/mux"
import { RawPeer } from "@scales-rpc/mux/testing"
import { ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Context, Deferred, Effect, Fiber, Layer } from "effect"
import { echoHandlers } from "../../examples/src/echo.ts"
import { connect, Echo, type EchoHandlers, leavesNoSockets, serve, until } from "./support.ts"

leavesNoSockets()

/** Handlers of which `slow` never answers, and what has become of its calls. */
const endless = () => {
  const seen = { begun: 0, interrupted: 0 }
  const handlers: Partial<EchoHandlers> = {
    slow: () =>
      Effect.suspend(() => {
        seen.begun++
        return Effect.onInterrupt(Effect.never, () => Effect.sync(() => void seen.interrupted++))
      })
  }
  return { seen, handlers }
}

describe("a handler is interrupted", () => {
  it.live("when its caller leaves, and the connection serves on", () =>
    Effect.gen(function*() {
      const { handlers, seen } = endless()
      const server = yield* serve(handlers)
      const { echo, live } = yield* connect(server)
      const calls = yield* Effect.forEach([1, 2, 3], (millis) => Effect.forkChild(echo.slow(millis)))
      yield* until("the handlers run", () => seen.begun === 3)
      yield* Fiber.interrupt(calls[1]!)
      yield* until("one is interrupted", () => seen.interrupted === 1)
      assert.deepStrictEqual([server.outstanding(), live().outstanding], [2, 2])
      yield* until("its tag is free", () => live().sessions[0]!.tags === 2)
      assert.strictEqual(yield* echo.ping(), "pong")
      yield* Effect.forEach(calls, Fiber.interrupt)
      yield* until("all are interrupted", () => seen.interrupted === 3)
      assert.deepStrictEqual([server.counts.sessions, server.counts.discards], [1, 3])
    }))

  it.live("when the call's time is over", () =>
    Effect.gen(function*() {
      const { handlers, seen } = endless()
      const { echo } = yield* connect(yield* serve(handlers))
      yield* echo.ping()
      const error = yield* Effect.flip(echo.slow(1).pipe(Rpc.deadline("50 millis")))
      assert.instanceOf(error, Timeout)
      assert.deepInclude(error, { waiting: "reply", reached: "maybe" })
      // From the call's start, which is a moment after its deadline was set.
      assert.isAtMost(error.timeoutMillis, 50)
      assert.isAbove(error.timeoutMillis, 0)
      yield* until("the handler is interrupted", () => seen.interrupted === 1)
      assert.strictEqual(yield* echo.ping(), "pong")
    }))

  it.live("when its caller loses a race", () =>
    Effect.gen(function*() {
      const { handlers, seen } = endless()
      const { echo } = yield* connect(yield* serve(handlers))
      const winner = Effect.delay(echo.ping(), "10 millis")
      assert.strictEqual(yield* Effect.raceFirst(echo.slow(1), winner), "pong")
      yield* until("the loser is interrupted", () => seen.interrupted === seen.begun)
    }))

  it.live("when its client's connection ends, by a close or by a reset", () =>
    Effect.gen(function*() {
      const { handlers, seen } = endless()
      const server = yield* serve(handlers)
      const slow = Buffer.from("80010001 00000004 736c6f77 00000001 080001 00000001 00".replaceAll(" ", ""), "hex")
      for (const end of ["end", "reset"] as const) {
        const connection = yield* RawPeer.connect(server.address)
        connection.send({ _tag: "Tdispatch", tag: 2, contexts: [], destination: "", dtab: [], body: slow })
        yield* until("the handler runs", () => server.outstanding() === 1)
        connection[end]()
        yield* until("it is interrupted", () => server.outstanding() === 0)
      }
      assert.deepStrictEqual(seen, { begun: 2, interrupted: 2 })
    }))
})

describe("a handler that cannot be interrupted", () => {
  it.live("answers nobody: the next call with its tag gets its own reply", () =>
    Effect.gen(function*() {
      const gate = Deferred.makeUnsafe<void>()
      const server = yield* serve({
        slow: (millis) =>
          millis === 1 ? Effect.uninterruptible(Effect.as(Deferred.await(gate), "late")) : Effect.succeed("its own")
      })
      const { echo, live } = yield* connect(server)
      const call = yield* Effect.forkChild(echo.slow(1))
      yield* until("the handler runs", () => server.outstanding() === 1)
      yield* Fiber.interrupt(call)
      yield* until("the tag is free", () => live().sessions[0]!.tags === 0)
      assert.strictEqual(yield* echo.slow(2), "its own")
      yield* Deferred.succeed(gate, undefined)
      yield* until("the handler has ended", () => server.outstanding() === 0)
      assert.strictEqual(yield* echo.slow(2), "its own")
    }))
})

describe("a handler's scope", () => {
  class Log extends Context.Service<Log, Array<string>>()("Log") {}

  /** A server whose `slow` acquires a resource from a service, and whose answer waits for `gate`. */
  const scoped = (gate: Deferred.Deferred<void>) =>
    ThriftMuxServer.layer(Echo, {
      ...echoHandlers(),
      slow: (millis) =>
        Effect.gen(function*() {
          const log = yield* Log
          yield* Effect.acquireRelease(
            Effect.sync(() => void log.push(`acquired ${millis}`)),
            () => Effect.sync(() => void log.push(`released ${millis}`))
          )
          if (millis > 0) yield* Deferred.await(gate)
          return "slow"
        })
    })

  const started = (log: Array<string>, gate: Deferred.Deferred<void>) =>
    Effect.gen(function*() {
      const server = Context.get(
        yield* Layer.build(scoped(gate).pipe(Layer.provide(Layer.succeed(Log, log)))),
        MuxServer
      )
      return { server, ...(yield* connect(server)) }
    })

  it.live("is its call's: closed before the reply leaves", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const { echo } = yield* started(log, Deferred.makeUnsafe())
      yield* echo.slow(0)
      assert.deepStrictEqual(log, ["acquired 0", "released 0"])
      yield* echo.slow(0)
      assert.deepStrictEqual(log, ["acquired 0", "released 0", "acquired 0", "released 0"])
    }))

  it.live("is closed when the handler is interrupted, and no other call's", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const gate = Deferred.makeUnsafe<void>()
      const { echo } = yield* started(log, gate)
      const first = yield* Effect.forkChild(echo.slow(1))
      const second = yield* Effect.forkChild(echo.slow(2))
      yield* until("both run", () => log.length === 2)
      yield* Fiber.interrupt(first)
      yield* until("the first is released", () => log.length === 3)
      assert.deepStrictEqual(log, ["acquired 1", "acquired 2", "released 1"])
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual(yield* Fiber.join(second), "slow")
      assert.strictEqual(log.at(-1), "released 2")
    }))
})

it.live("a call that has its reply is not discarded when its caller goes on to leave", () =>
  Effect.gen(function*() {
    const server = yield* serve()
    const { echo } = yield* connect(server)
    const call = yield* Effect.forkChild(Effect.andThen(echo.ping().pipe(Rpc.deadline("1 second")), Effect.never))
    yield* until("it is answered", () => server.counts.requests === 1 && server.outstanding() === 0)
    yield* echo.ping()
    yield* Fiber.interrupt(call)
    yield* echo.ping()
    assert.strictEqual(server.counts.discards, 0)
  }))
