/** Stages of the user's own: above the balancer on every call, or below it once for each endpoint. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import type { Endpoint } from "./Endpoint.ts"
import type { EndpointSink, Family, MessageSink } from "./Sink.ts"
import { Stack } from "./Stack.ts"

const registered = (where: string) =>
  Effect.flatMap(Stack, (stack) => {
    stack.markFiltered()
    return stack.register({ role: "filter", description: `a filter ${where}`, options: {}, snapshot: () => undefined })
  })

/**
 * A filter above the balancer: sees each call once, whatever is sent again below it. `make` gets the sink below and gives the one
 * to use in its place; it runs once, when the layer is built, and may need services and a scope.
 *
 * Because a filter may wait in its own ways, a stack with one runs each call in a fiber of its own so that a deadline can end
 * it (1.5 microseconds a call).
 */
export const above = <Id extends string, Req, Res, E, E2 = never, R = never>(
  family: Family<Id, Req, Res, E>,
  make: (inner: MessageSink<Req, Res, E>) => Effect.Effect<MessageSink<Req, Res, E>, E2, R>
): Layer.Layer<`${Id}/Balanced`, E2, `${Id}/Balanced` | Stack | Exclude<R, Scope.Scope>> =>
  Layer.effect(
    family.Balanced,
    Effect.gen(function*() {
      yield* registered("above the balancer: on every call")
      return yield* make(yield* family.Balanced)
    })
  ) as Layer.Layer<`${Id}/Balanced`, E2, `${Id}/Balanced` | Stack | Exclude<R, Scope.Scope>>

/**
 * A filter below the balancer: sees each attempt at one endpoint. `make` runs once for each endpoint, in the endpoint's scope;
 * what an attempt came to is heard with `attempt.onEnd`.
 */
export const below = <Id extends string, Req, Res, E, R = never>(
  family: Family<Id, Req, Res, E>,
  make: (
    inner: EndpointSink<Req, Res, E>,
    endpoint: Endpoint
  ) => Effect.Effect<EndpointSink<Req, Res, E>, never, R>
): Layer.Layer<`${Id}/Endpoints`, never, `${Id}/Endpoints` | Stack | Exclude<R, Scope.Scope>> =>
  Layer.effect(
    family.Endpoints,
    Effect.gen(function*() {
      yield* registered("below the balancer: on every attempt at one endpoint")
      const inner = yield* family.Endpoints
      const context = yield* Effect.context<Exclude<R, Scope.Scope>>()
      return family.Endpoints.of({
        make: (endpoint) =>
          Effect.flatMap(inner.make(endpoint), (sink) =>
            Effect.updateContext(
              make(sink, endpoint) as Effect.Effect<EndpointSink<Req, Res, E>, never, Scope.Scope>,
              (own: Context.Context<Scope.Scope>) =>
                Context.add(context, Scope.Scope, Context.get(own, Scope.Scope)) as Context.Context<Scope.Scope>
            ))
      })
    })
  ) as Layer.Layer<`${Id}/Endpoints`, never, `${Id}/Endpoints` | Stack | Exclude<R, Scope.Scope>>
