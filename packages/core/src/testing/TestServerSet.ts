/** A server set that a test pushes states into. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Endpoint } from "../Endpoint.ts"
import { ServerSet, ServerSetState } from "../ServerSet.ts"

/** Sets the states that the stack sees. */
export class TestServerSet extends Context.Service<TestServerSet, {
  /** The next state. */
  readonly push: (state: ServerSetState) => Effect.Effect<void>
  /** The same as pushing these as `Bound`. */
  readonly bind: (endpoints: ReadonlyArray<Endpoint>) => Effect.Effect<void>
}>()("@scales-rpc/core/testing/TestServerSet") {
  /** Starts with `initial`, `Pending` by default. */
  static readonly layer = (
    initial: ServerSetState = ServerSetState.Pending
  ): Layer.Layer<ServerSet | TestServerSet> =>
    Layer.effectContext(
      Effect.map(SubscriptionRef.make(initial), (ref) => {
        const push = (state: ServerSetState) => SubscriptionRef.set(ref, state)
        return Context.make(ServerSet, SubscriptionRef.changes(ref) as Stream.Stream<ServerSetState>).pipe(
          Context.add(
            TestServerSet,
            TestServerSet.of({ push, bind: (endpoints) => push(ServerSetState.Bound(endpoints)) })
          )
        )
      })
    )
}
