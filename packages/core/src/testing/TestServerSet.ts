/** A server set that a test pushes states into, and that tells when the stacks that follow it have taken them. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Endpoint } from "../Endpoint.ts"
import { ServerSet, ServerSetState, type States } from "../ServerSet.ts"

/** One who follows the set. */
interface Follower {
  /** How many of the states it has taken. */
  taken: number
}

/** Sets the states that the stack sees. */
export class TestServerSet extends Context.Service<TestServerSet, {
  /** The next state: `ServerSetState.Pending`, `Bound(endpoints)`, `Neg` or `Failed(cause)`. It does not wait for anybody. */
  readonly push: (state: ServerSetState) => Effect.Effect<void>
  /** The same as pushing these as `Bound`. */
  readonly bind: (endpoints: ReadonlyArray<Endpoint>) => Effect.Effect<void>
  /**
   * Waits until every stack that follows the set has taken the last state that was pushed: its balancer knows it. At once when nobody
   * follows.
   */
  readonly seen: Effect.Effect<void>
  /** How many follow the set: 0 before a stack is built, and once it is closed. */
  readonly followers: () => number
  /** The set itself, for who follows it. */
  readonly states: States
}>()("@scales-rpc/core/testing/TestServerSet") {
  /** The set, as a ready-made client takes it: `ThriftMux.layer(Echo, { serverSet: TestServerSet.serverSet })`, with `layer` provided to it. */
  static readonly serverSet: Layer.Layer<ServerSet, never, TestServerSet> = Layer.effect(
    ServerSet,
    Effect.map(TestServerSet, ({ states }) => states)
  )

  /** Starts with `initial`, `Pending` by default. */
  static readonly layer = (
    initial: ServerSetState = ServerSetState.Pending
  ): Layer.Layer<ServerSet | TestServerSet> =>
    Layer.effectContext(
      Effect.map(SubscriptionRef.make({ state: initial, number: 1 }), (ref) => {
        const followers = new Set<Follower>()
        let waiting: Array<() => void> = []
        let pushed = 1
        const allHave = () => [...followers].every(({ taken }) => taken >= pushed)
        const look = () => {
          if (!allHave()) return
          for (const resume of waiting.splice(0)) resume()
        }
        const push = (state: ServerSetState) =>
          Effect.suspend(() => SubscriptionRef.set(ref, { state, number: ++pushed }))
        const states: States = Stream.unwrap(Effect.sync(() => {
          const follower: Follower = { taken: 0 }
          followers.add(follower)
          return SubscriptionRef.changes(ref).pipe(
            Stream.flatMap(({ number, state }) =>
              Stream.concat(
                Stream.succeed(state),
                // Whoever asks for what comes after a state has taken it.
                Stream.fromEffectDrain(Effect.sync(() => {
                  follower.taken = number
                  look()
                }))
              )
            ),
            Stream.ensuring(Effect.sync(() => {
              followers.delete(follower)
              look()
            }))
          )
        }))
        const seen = Effect.callback<void>((resume) => {
          if (allHave()) return resume(Effect.void)
          const done = () => resume(Effect.void)
          waiting.push(done)
          return Effect.sync(() => {
            waiting = waiting.filter((other) => other !== done)
          })
        })
        return Context.make(ServerSet, states).pipe(
          Context.add(
            TestServerSet,
            TestServerSet.of({
              push,
              bind: (endpoints) => push(ServerSetState.Bound(endpoints)),
              seen,
              followers: () => followers.size,
              states
            })
          )
        )
      })
    )
}
