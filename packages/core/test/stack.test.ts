import { assert, describe, it } from "@effect/vitest"
import { describe as describeStack, Rpc, Stack } from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Effect, Exit, Fiber, Layer, Scope } from "effect"
import { TestClock } from "effect/testing"
import { endpoints, stack, TextClient } from "./support.ts"

describe("a stack", () => {
  it.effect("connects nothing until it is called, then answers", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      assert.strictEqual(script.attempts.size, 0)
      assert.match(yield* client.call("hi"), /^h:[12] hi$/)
      assert.strictEqual(script.connections.length, 1)
    }).pipe(Effect.provide(stack())))

  it.effect("waits for a first state up to the deadline", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const fiber = yield* Effect.forkChild(Effect.flip(client.call("hi").pipe(Rpc.deadline("2 seconds"))), {
        startImmediately: true
      })
      yield* TestClock.adjust("1999 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error._tag, "Timeout")
      assert.strictEqual(error.reached, "no")
      const { deadlines } = yield* Stack
      assert.strictEqual(deadlines.size, 0)
    }).pipe(Effect.provide(stack())))

  it.effect("sends a call that could not connect to another endpoint", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      script.refuse("h:1")
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      for (let i = 0; i < 10; i++) assert.strictEqual(yield* client.call("hi"), "h:2 hi")
      assert.strictEqual(script.attempts.get("h:1"), 1)
    }).pipe(Effect.provide(stack())))

  it.effect("waits for the first endpoint to open, and tells what it met when it gives up", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      script.refuse("h:1")
      yield* (yield* TestServerSet).bind(endpoints(1))
      const fiber = yield* Effect.forkChild(Effect.flip(client.call("hi")), { startImmediately: true })
      yield* TestClock.adjust("9999 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error._tag, "Timeout")
      assert.include(error.message, "refused by the script")
      script.accept("h:1")
      const second = yield* Effect.forkChild(client.call("again"), { startImmediately: true })
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual(yield* Fiber.join(second), "h:1 again")
    }).pipe(Effect.provide(stack())))

  it.effect("fails fast with the cause when all are down, and recovers on demand", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1))
      yield* client.call("hi")
      script.refuse("h:1")
      script.breakAll("h:1")
      const error = yield* Effect.flip(client.call("hi"))
      assert.strictEqual(error._tag, "FastFailure")
      assert.include(error.message, "broken by the script")
      yield* TestClock.adjust("1 minute")
      script.accept("h:1")
      assert.strictEqual(yield* client.call("back"), "h:1 back")
    }).pipe(Effect.provide(stack())))

  it.effect("ends a call at its deadline and releases everything it held", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      script.answer = () => Effect.never
      yield* (yield* TestServerSet).bind(endpoints(1))
      const fiber = yield* Effect.forkChild(Effect.flip(client.call("hi")), { startImmediately: true })
      yield* TestClock.adjust("10 seconds")
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error._tag, "Timeout")
      assert.strictEqual(error.reached, "maybe")
      assert.strictEqual(script.connections[0]!.outstanding, 0)
      const balancer = describeStack(yield* Stack).find((node) => node.role === "balancer")!
      assert.deepStrictEqual((balancer.state as { endpoints: Array<{ load: number }> }).endpoints.map((e) => e.load), [
        0
      ])
    }).pipe(Effect.provide(stack())))

  it.effect("drains on close: waits for what is outstanding, then aborts it", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(stack({ stack: { drainTimeout: "3 seconds" } }), scope)
      const run = Effect.provideContext(context)
      const { client, script } = yield* Effect.gen(function*() {
        yield* (yield* TestServerSet).bind(endpoints(1))
        return { client: yield* TextClient, script: yield* ScriptedConnector }
      }).pipe(run)
      script.answer = () => Effect.never
      const call = yield* Effect.forkChild(Effect.flip(client.call("hi")), { startImmediately: true })
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      assert.strictEqual((yield* Effect.flip(client.call("late")))._tag, "StackClosed")
      yield* TestClock.adjust("2999 millis")
      assert.isUndefined(call.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.strictEqual((yield* Fiber.join(call))._tag, "StackClosed")
      yield* Fiber.join(closing)
      assert.strictEqual(script.live().length, 0)
    }))
})
