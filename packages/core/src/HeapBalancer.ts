/**
 * Sends each call to the least loaded endpoint: Scales' and Finagle's heap balancer. Loads are calls outstanding against
 * the endpoint's weight. Endpoints that are down are used only when all are, and then the least loaded of them.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Balancer from "./Balancer.ts"
import { Heap } from "./internal/Heap.ts"
import type { InvalidOption, RpcError } from "./RpcError.ts"
import type { ServerSet } from "./ServerSet.ts"
import type { Family } from "./Sink.ts"
import type { Stack } from "./Stack.ts"

/**
 * The balancer for a family. A call waits for the server set's first state and for the first endpoint to open, up to its
 * deadline. Once one was open it waits for none: with all down it goes to the least loaded all the same. Fails with `InvalidOption` for an
 * option that is none.
 */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  options: Balancer.BalancerOptions = {}
): Layer.Layer<`${Id}/Balanced`, InvalidOption, `${Id}/Endpoints` | ServerSet | Stack> =>
  Layer.effect(
    family.Balanced,
    Balancer.assemble(family, {
      description: "sends each call to the least loaded endpoint",
      options: {},
      common: options,
      picker: ({ stack }) => Effect.sync(() => new Heap(stack.random))
    })
  )
