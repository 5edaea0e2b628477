import { assert, describe, it } from "@effect/vitest"
import { describe as describeStack, Filter, Nacked, type Outcome, Stack, textKey } from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Context, Effect, Exit, Layer, Scope } from "effect"
import { endpoints, settle, stack, start, stop, Text, TextClient } from "./support.ts"

class Token extends Context.Service<Token, string>()("test/Token") {}

const token = textKey("token")

describe("a filter above the balancer", () => {
  it.effect("is made once, sees each call once whatever is sent again, and may need services", () => {
    let made = 0
    const seen: Array<string> = []
    const auth = Filter.above(Text, (inner) =>
      Effect.gen(function*() {
        made++
        const value = yield* Token
        return {
          ...inner,
          send: (request, call) => {
            seen.push(request)
            return inner.send(request, { ...call, context: call.context.with(token, value) })
          }
        }
      })).pipe(Layer.provide(Layer.succeed(Token, "secret")))
    return Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      script.answer = (_, { context, endpoint, number }) =>
        number === 0
          ? Effect.fail(new Nacked({ endpoint, why: "busy", retryable: true }))
          : Effect.succeed(context.get(token) ?? "none")
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      assert.strictEqual(yield* client.call("a"), "secret")
      assert.strictEqual(yield* client.call("b"), "secret")
      assert.deepStrictEqual(seen, ["a", "b"])
      assert.strictEqual(made, 1)
    }).pipe(Effect.provide(stack({ above: auth })))
  })

  it.effect("is told to the stack, which runs calls so that a deadline can end it", () =>
    Effect.gen(function*() {
      const plain = Effect.map(Stack, (shared) => shared.filtered())
      const above = Filter.above(Text, (inner) => Effect.succeed(inner))
      const below = Filter.below(Text, (inner) => Effect.succeed(inner))
      assert.isFalse(yield* plain.pipe(Effect.provide(stack())))
      assert.isTrue(yield* plain.pipe(Effect.provide(stack({ above }))))
      assert.isTrue(yield* plain.pipe(Effect.provide(stack({ below }))))
    }))

  it.effect("has the scope of the stack for what it opens", () =>
    Effect.gen(function*() {
      let open = 0
      const above = Filter.above(Text, (inner) =>
        Effect.as(
          Effect.acquireRelease(Effect.sync(() => open++), () => Effect.sync(() => open--)),
          inner
        ))
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(stack({ above }), scope)
      assert.strictEqual(open, 1)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(open, 0)
    }))
})

describe("a filter below the balancer", () => {
  it.effect("is made once for each endpoint, in the scope of that endpoint", () => {
    const log: Array<string> = []
    const below = Filter.below(Text, (inner, endpoint) =>
      Effect.as(
        Effect.acquireRelease(
          Effect.sync(() => log.push(`made ${endpoint.key}`)),
          () => Effect.sync(() => log.push(`gone ${endpoint.key}`))
        ),
        inner
      ))
    return Effect.gen(function*() {
      const client = yield* TextClient
      const set = yield* TestServerSet
      const call = Effect.all([client.call("a"), client.call("b"), client.call("c")], { concurrency: "unbounded" })
      yield* set.bind(endpoints(1, 2))
      yield* call
      assert.sameMembers(log, ["made h:1", "made h:2"])
      yield* set.bind(endpoints(2, 3))
      yield* call
      assert.sameMembers(log, ["made h:1", "made h:2", "gone h:1", "made h:3"])
    }).pipe(Effect.provide(stack({ below })))
  })

  it.effect("that cannot be made costs its endpoint, not the others", () => {
    const below = Filter.below(
      Text,
      (inner, endpoint) => endpoint.port === 1 ? Effect.die(new Error("no")) : Effect.succeed(inner)
    )
    return Effect.gen(function*() {
      const client = yield* TextClient
      const set = yield* TestServerSet
      yield* set.bind(endpoints(1, 2))
      assert.strictEqual(yield* client.call("hi"), "h:2 hi")
      yield* set.bind(endpoints(1, 3))
      yield* settle
      assert.strictEqual(yield* client.call("hi"), "h:3 hi")
    }).pipe(Effect.provide(stack({ below })))
  })

  it.effect("is shown when the stack is described", () => {
    const below = Filter.below(Text, (inner) => Effect.succeed(inner))
    return Effect.gen(function*() {
      const roles = describeStack(yield* Stack).stages.map(({ role }) => role)
      assert.deepStrictEqual(
        roles,
        ["client", "dispatcher", "requeue", "balancer", "serverSet", "filter", "resurrector", "pool"]
      )
    }).pipe(Effect.provide(stack({ below })))
  })

  it.effect("may need services, and is given those its layer was", () => {
    const below = Filter.below(Text, (inner) =>
      Effect.map(Token, (value) => ({
        ...inner,
        send: (request, attempt) => Effect.map(inner.send(request, attempt), (reply) => `${reply} ${value}`)
      }))).pipe(Layer.provide(Layer.succeed(Token, "secret")))
    return Effect.gen(function*() {
      const client = yield* TextClient
      yield* (yield* TestServerSet).bind(endpoints(1))
      assert.strictEqual(yield* client.call("hi"), "h:1 hi secret")
    }).pipe(Effect.provide(stack({ below })))
  })

  it.effect("sees each attempt and hears what became of it", () => {
    const outcomes: Array<[endpoint: string, Outcome]> = []
    const below = Filter.below(Text, (inner, endpoint) =>
      Effect.succeed({
        ...inner,
        send: (request, attempt) => {
          attempt.onEnd((outcome) => outcomes.push([endpoint.key, outcome]))
          return inner.send(request, attempt)
        }
      }))
    return Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      script.answer = (_, { endpoint, number }) =>
        number === 0
          ? Effect.fail(new Nacked({ endpoint, why: "busy", retryable: true }))
          : Effect.succeed("hello")
      yield* client.call("hi")
      assert.deepStrictEqual(outcomes.map(([, outcome]) => outcome), ["rejected", "success"])
      assert.notStrictEqual(outcomes[0]![0], outcomes[1]![0])
      script.answer = () => Effect.never
      const fiber = yield* start(client.call("hi"))
      yield* settle
      yield* stop(fiber)
      assert.strictEqual(outcomes[2]![1], "ignored")
    }).pipe(Effect.provide(stack({ below })))
  })
})
