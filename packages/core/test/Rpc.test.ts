import { assert, describe, it } from "@effect/vitest"
import {
  bytesKey,
  type Call,
  CallContext,
  classifyExit,
  ClientId,
  Destination,
  Dispatcher,
  Rpc,
  Stack,
  textKey
} from "@scales-rpc/core"
import { Context, Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { start } from "./support.ts"

/** What the abort of a call was, or the failure in its place. */
interface Ended {
  readonly _tag: string
  readonly reached?: string
  readonly timeoutMillis?: number
}

/** A dispatcher whose calls never leave it: what it gave them is seen, and the reply is the test's. */
class Calls extends Context.Service<Calls, {
  readonly call: Effect.Effect<Call>
  readonly hang: Effect.Effect<never, Ended>
}>()("test/Calls") {
  static readonly layer = (own?: CallContext) =>
    Layer.effect(
      Calls,
      Effect.gen(function*() {
        const { dispatch } = yield* Dispatcher.make({ service: "text", timeout: "10 seconds", context: own })
        const method = { name: "call", idempotent: false, classify: classifyExit }
        return Calls.of({
          call: Effect.orDie(dispatch(method, Effect.succeed)),
          hang: dispatch(method, (call) =>
            Effect.callback<never, Ended>((resume) => {
              const listener = { onAbort: (reason: Ended) => resume(Effect.fail(reason)) }
              call.abort.on(listener)
              return Effect.sync(() => call.abort.off(listener))
            }))
        })
      })
    ).pipe(Layer.provideMerge(Stack.layer("text")))
}

const tenant = textKey("com.example.tenant")

describe("Rpc.deadline", () => {
  it.effect("bounds a call from when the effect starts, and the stack's own timeout bounds it otherwise", () =>
    Effect.gen(function*() {
      const { call } = yield* Calls
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* call).deadline, 70_000)
      assert.strictEqual((yield* call.pipe(Rpc.deadline("2 seconds"))).deadline, 62_000)
      assert.strictEqual((yield* call.pipe(Rpc.deadline("20 seconds"))).deadline, 70_000)
      assert.strictEqual((yield* call.pipe(Rpc.deadline(Infinity))).deadline, 70_000)
    }).pipe(Effect.provide(Calls.layer())))

  it.effect("lets the nearest win, however they are nested", () =>
    Effect.gen(function*() {
      const { call } = yield* Calls
      const both = [
        call.pipe(Rpc.deadline("2 seconds"), Rpc.deadline("3 seconds")),
        call.pipe(Rpc.deadline("3 seconds"), Rpc.deadline("2 seconds"))
      ]
      for (const each of both) assert.strictEqual((yield* each).deadline, 2_000)
    }).pipe(Effect.provide(Calls.layer())))

  it.effect("bounds a group of calls as a whole", () =>
    Effect.gen(function*() {
      const { call } = yield* Calls
      const group = Effect.gen(function*() {
        const first = yield* call
        yield* Effect.sleep("4 seconds")
        const second = yield* call
        const third = yield* call.pipe(Rpc.deadline("500 millis"))
        return [first.deadline, second.deadline, third.deadline, second.abort.timeoutMillis]
      })
      const fiber = yield* start(group.pipe(Rpc.deadline("5 seconds")))
      yield* TestClock.adjust("4 seconds")
      assert.deepStrictEqual(yield* Fiber.join(fiber), [5_000, 5_000, 4_500, 1_000])
      assert.strictEqual((yield* call).deadline, 14_000)
    }).pipe(Effect.provide(Calls.layer())))

  it.effect("ends the call with the time it was given", () =>
    Effect.gen(function*() {
      const { hang } = yield* Calls
      const fiber = yield* start(Effect.flip(hang.pipe(Rpc.deadline("300 millis"))))
      yield* TestClock.adjust("299 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* Fiber.join(fiber), { _tag: "Timeout", timeoutMillis: 300 })
    }).pipe(Effect.provide(Calls.layer())))

  it.effect("refuses a call whose time is over, and runs nothing of it", () =>
    Effect.gen(function*() {
      const { hang } = yield* Calls
      const { deadlines } = yield* Stack
      for (const input of ["0 millis", 0] as const) {
        const error = yield* Effect.flip(hang.pipe(Rpc.deadline(input)))
        assert.strictEqual(error._tag, "Timeout")
        assert.deepInclude(error, { reached: "no" })
      }
      const late = Effect.andThen(Effect.sleep("2 seconds"), hang).pipe(Rpc.deadline("1 second"))
      const fiber = yield* start(Effect.flip(late))
      yield* TestClock.adjust("2 seconds")
      assert.deepInclude(yield* Fiber.join(fiber), { _tag: "Timeout", reached: "no" })
      assert.strictEqual(deadlines.size, 0)
    }).pipe(Effect.provide(Calls.layer())))
})

describe("Rpc.context", () => {
  it.effect("sends an entry with every call inside, the nearer value first", () =>
    Effect.gen(function*() {
      const { call } = yield* Calls
      const seen = yield* Effect.gen(function*() {
        const outer = yield* call
        const inner = yield* call.pipe(Rpc.context(tenant, "inner"), Rpc.context("plain", "text"))
        const after = yield* call
        return [outer, inner, after].map(({ context }) => [context.get(tenant), context.get(textKey("plain"))])
      }).pipe(Rpc.context(tenant, "outer"))
      assert.deepStrictEqual(seen, [["outer", undefined], ["inner", "text"], ["outer", undefined]])
      assert.isTrue((yield* call).context.isEmpty)
    }).pipe(Effect.provide(Calls.layer())))

  it.effect("does not cross from one fiber into another beside it", () =>
    Effect.gen(function*() {
      const { call } = yield* Calls
      const values = yield* Effect.forEach(
        ["a", "b", "c"],
        (value) => Effect.andThen(Effect.yieldNow, call).pipe(Rpc.context(tenant, value)),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(values.map(({ context }) => context.get(tenant)), ["a", "b", "c"])
    }).pipe(Effect.provide(Calls.layer())))

  it.effect("is beaten by what the client itself sends with every call", () =>
    Effect.gen(function*() {
      const { call } = yield* Calls
      const seen = yield* call.pipe(Rpc.context(ClientId, "caller's"), Rpc.context(tenant, "t"))
      assert.strictEqual(seen.context.get(ClientId), "client's")
      assert.strictEqual(seen.context.get(tenant), "t")
      assert.strictEqual((yield* call).context.get(ClientId), "client's")
    }).pipe(Effect.provide(Calls.layer(CallContext.empty.with(ClientId, "client's")))))
})

describe("Rpc.idempotent", () => {
  it.effect("marks the calls inside, and none outside", () =>
    Effect.gen(function*() {
      const { call } = yield* Calls
      assert.isTrue((yield* call.pipe(Rpc.idempotent, Rpc.deadline("1 second"))).idempotent)
      assert.isFalse((yield* call).idempotent)
    }).pipe(Effect.provide(Calls.layer())))
})

describe("Rpc.withReplyHeaders", () => {
  it.effect("gives the headers that came with the reply", () =>
    Effect.gen(function*() {
      const { call } = yield* Calls
      const answered = Effect.tap(call, ({ reply }) =>
        Effect.sync(() => {
          reply!.headers = [["k", "v"]]
        }))
      const [result, headers] = yield* Rpc.withReplyHeaders(answered)
      assert.deepStrictEqual(headers, [["k", "v"]])
      assert.strictEqual(result.method, "call")
      const again = yield* Rpc.withReplyHeaders(call)
      assert.deepStrictEqual(again[1], [])
      assert.isUndefined((yield* call).reply)
    }).pipe(Effect.provide(Calls.layer())))

  it.effect("keeps the headers of calls at the same time apart", () =>
    Effect.gen(function*() {
      const { call } = yield* Calls
      const one = (name: string) =>
        Rpc.withReplyHeaders(Effect.tap(call, ({ reply }) =>
          Effect.andThen(
            Effect.yieldNow,
            Effect.sync(() => {
              reply!.headers = [["name", name]]
            })
          )))
      const all = yield* Effect.forEach(["a", "b"], one, { concurrency: "unbounded" })
      assert.deepStrictEqual(all.map(([, headers]) => headers), [[["name", "a"]], [["name", "b"]]])
    }).pipe(Effect.provide(Calls.layer())))
})

describe("serving an inbound call", () => {
  const inbound = (deadline: number, context: CallContext): Rpc.InboundCall => ({
    peer: "10.0.0.1:999",
    deadline,
    context,
    setReplyHeaders: () => {}
  })

  it.effect("hands its deadline and what is not for one hop to the calls made under it", () =>
    Effect.gen(function*() {
      const { call } = yield* Calls
      const context = CallContext.empty
        .with(ClientId, "caller")
        .with(Destination, "/svc/me")
        .with(tenant, "t")
        .with(bytesKey("com.unknown"), Uint8Array.of(1))
      const seen = yield* Rpc.serving(inbound(3_000, context), call)
      assert.strictEqual(seen.deadline, 3_000)
      assert.deepStrictEqual([...seen.context].map(({ key }) => key.id), [tenant.id, "com.unknown"])
    }).pipe(Effect.provide(Calls.layer())))

  it.effect("lets the handler tighten the deadline, never widen it", () =>
    Effect.gen(function*() {
      const { call } = yield* Calls
      const serve = (handler: Effect.Effect<Call>) => Rpc.serving(inbound(3_000, CallContext.empty), handler)
      assert.strictEqual((yield* serve(call.pipe(Rpc.deadline("1 second")))).deadline, 1_000)
      assert.strictEqual((yield* serve(call.pipe(Rpc.deadline("5 seconds")))).deadline, 3_000)
    }).pipe(Effect.provide(Calls.layer())))

  it.effect("takes nothing from whatever started the server", () =>
    Effect.gen(function*() {
      const { call } = yield* Calls
      const seen = yield* Rpc.serving(inbound(Infinity, CallContext.empty), call).pipe(
        Rpc.deadline("1 second"),
        Rpc.context(tenant, "the server's own"),
        Rpc.idempotent
      )
      assert.deepStrictEqual([seen.deadline, seen.context.isEmpty, seen.idempotent], [10_000, true, false])
    }).pipe(Effect.provide(Calls.layer())))

  it.effect("shows the handler the whole call, and nobody else", () =>
    Effect.gen(function*() {
      const served = inbound(3_000, CallContext.empty.with(ClientId, "caller"))
      const seen = yield* Rpc.serving(
        served,
        Effect.gen(function*() {
          return yield* Rpc.Inbound
        })
      )
      assert.strictEqual(seen, served)
      assert.strictEqual(seen?.context.get(ClientId), "caller")
      assert.isUndefined(yield* Rpc.Inbound)
    }))
})
