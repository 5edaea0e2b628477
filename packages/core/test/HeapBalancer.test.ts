import { assert, describe, it } from "@effect/vitest"
import { describe as describeStack, Endpoint, Nacked, ServerSetState, Stack } from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Deferred, Effect, Fiber } from "effect"
import { endpoints, settle, stack, start, TextClient } from "./support.ts"

interface Balancer {
  readonly size: number
  readonly endpoints: ReadonlyArray<{
    readonly endpoint: string
    readonly state: string
    readonly load: number
    readonly weight: number
    readonly fault: string | undefined
  }>
}

const balancer = Effect.map(
  Stack,
  (shared) => () => describeStack(shared).stages.find(({ role }) => role === "balancer")!.state as Balancer
)

describe("the heap balancer of a stack", () => {
  it.effect("spreads calls at the same time evenly, and shows what it sees", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const state = yield* balancer
      const reply = Deferred.makeUnsafe<string>()
      script.answer = () => Deferred.await(reply)
      yield* (yield* TestServerSet).bind(endpoints(1, 2, 3, 4, 5))
      const fibers = yield* Effect.forEach(Array(20).fill("hi"), (text) => start(client.call(text)))
      yield* settle
      assert.deepStrictEqual(state().endpoints.map(({ load }) => load), [4, 4, 4, 4, 4])
      assert.strictEqual(state().size, 5)
      yield* Deferred.succeed(reply, "hello")
      yield* Effect.forEach(fibers, Fiber.join)
      const quantiles = [0.5, 0.9, 0.95, 0.99, 0.999, 0.9999].map((share) => [share, 0])
      assert.deepStrictEqual(
        state().endpoints,
        [1, 2, 3, 4, 5].map((port) => ({
          endpoint: `h:${port}`,
          state: "Open",
          load: 0,
          weight: 1,
          latencyMillis: 0,
          calls: { attempts: 4, successes: 4, ignored: 0, failures: {}, quantiles },
          active: true
        })) as never
      )
    }).pipe(Effect.provide(stack())))

  it.effect("spreads by weight", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const state = yield* balancer
      script.answer = () => Effect.never
      yield* (yield* TestServerSet).push(ServerSetState.Bound([
        Endpoint.tcp("h", 1, { weight: 1 }),
        Endpoint.tcp("h", 2, { weight: 4 })
      ]))
      yield* Effect.forEach(Array(20).fill("hi"), (text) => start(Effect.exit(client.call(text))))
      yield* settle
      assert.deepStrictEqual(state().endpoints.map(({ load, weight }) => [weight, load]), [[1, 4], [4, 16]])
    }).pipe(Effect.provide(stack({ stack: { drainTimeout: 0 } }))))

  it.effect("picks the same endpoints for the same seed", () => {
    const picks = (seed: number) =>
      Effect.gen(function*() {
        const client = yield* TextClient
        yield* (yield* TestServerSet).bind(endpoints(1, 2, 3, 4, 5, 6, 7))
        return yield* Effect.forEach(Array(50).fill("hi"), (text) => client.call(text))
      }).pipe(Effect.provide(stack({ seed })))
    return Effect.gen(function*() {
      const first = yield* picks(3)
      assert.deepStrictEqual(yield* picks(3), first)
      assert.notDeepEqual(yield* picks(4), first)
      assert.lengthOf([...new Set(first)], 7)
    })
  })

  it.effect("shows why an endpoint is down", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const state = yield* balancer
      script.refuse("h:1")
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      for (let i = 0; i < 10; i++) yield* client.call("hi")
      const [down, up] = state().endpoints
      assert.strictEqual(down!.state, "Closed")
      assert.include(down!.fault, "refused by the script")
      assert.deepStrictEqual([up!.state, up!.fault], ["Open", undefined])
    }).pipe(Effect.provide(stack())))

  it.effect("gives a refused call's load back to the endpoint that refused it", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const state = yield* balancer
      script.answer = (_, { endpoint }) => Effect.fail(new Nacked({ endpoint, why: "busy", retryable: true }))
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      yield* Effect.flip(client.call("hi"))
      assert.deepStrictEqual(state().endpoints.map(({ load }) => load), [0, 0])
    }).pipe(Effect.provide(stack())))
})
