/**
 * The power of two choices, Finagle's default balancer: of two endpoints drawn at random, each call goes to the one with fewer calls
 * outstanding for its weight. Nearly as even as a heap; and of `n` endpoints one that joins idle gets two calls in `n`, where a heap
 * gives it all of them until it has caught up.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Balancer from "./Balancer.ts"
import { lessLoaded, P2CPicker } from "./internal/P2CPicker.ts"
import type { InvalidOption, RpcError } from "./RpcError.ts"
import type { ServerSet } from "./ServerSet.ts"
import type { Family } from "./Sink.ts"
import type { Stack } from "./Stack.ts"

/** Options of the balancer: those that every balancer has. */
export interface P2COptions extends Balancer.BalancerOptions {}

/**
 * The balancer for a family. Endpoints are drawn by weight among the best there are: one that is down never gets a call while another
 * is usable. (Finagle draws among all, four times by default: with a share `u` down, `u^8` of its calls are sent to those.)
 * Fails with `InvalidOption` for a `whenEmpty` that is none.
 */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  options: P2COptions = {}
): Layer.Layer<`${Id}/Balanced`, InvalidOption, `${Id}/Endpoints` | ServerSet | Stack> =>
  Layer.effect(
    family.Balanced,
    Balancer.assemble(family, {
      description: "sends each call to the less loaded of two endpoints drawn at random",
      options: {},
      common: options,
      picker: ({ stack }) => Effect.sync(() => new P2CPicker(stack.random, lessLoaded))
    })
  )
