/**
 * Sends calls to the endpoints in turn, each as often as its weight says, whatever load they have: for calls that cost all the
 * same, or where every endpoint must be seen to be used.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Balancer from "./Balancer.ts"
import { RoundRobinPicker } from "./internal/RoundRobinPicker.ts"
import type { InvalidOption, RpcError } from "./RpcError.ts"
import type { ServerSet } from "./ServerSet.ts"
import type { Family } from "./Sink.ts"
import type { Stack } from "./Stack.ts"

/** Options of the balancer: those that every balancer has. */
export interface RoundRobinOptions extends Balancer.BalancerOptions {}

/**
 * The balancer for a family. With weights that are whole numbers, as many calls as their sum give each endpoint exactly as many as its weight, spread
 * between those of the others. One that is down is passed over and keeps its place; one that joins finds one; the others go on where
 * they were. (Finagle begins its cycle again after each change, and knows no weights in it.) Fails with `InvalidOption` for a
 * `whenEmpty` that is none.
 */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  options: RoundRobinOptions = {}
): Layer.Layer<`${Id}/Balanced`, InvalidOption, `${Id}/Endpoints` | ServerSet | Stack> =>
  Layer.effect(
    family.Balanced,
    Balancer.assemble(family, {
      description: "sends calls to the endpoints in turn, by weight",
      options: {},
      common: options,
      picker: ({ stack }) => Effect.sync(() => new RoundRobinPicker(stack.random))
    })
  )
