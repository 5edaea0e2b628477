/**
 * Sends each call to the least loaded endpoint: Scales' and Finagle's heap balancer. Loads are calls outstanding against
 * the endpoint's weight. Endpoints that are down are used only when all are, and then the least loaded of them.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Balancer from "./Balancer.ts"
import { Heap } from "./internal/Heap.ts"
import type { RpcError } from "./RpcError.ts"
import { ServerSet } from "./ServerSet.ts"
import type { Family } from "./Sink.ts"
import { Stack } from "./Stack.ts"
import type { SinkState } from "./Status.ts"

/** One endpoint as the balancer sees it. */
export interface EndpointView {
  /** Its key, `host:port`. */
  readonly endpoint: string
  /** A `SinkState`. */
  readonly state: SinkState
  /** Attempts that have not ended. */
  readonly load: number
  /** Its share against other endpoints: the balancer compares load by weight. */
  readonly weight: number
  /** Why it is down, as text. */
  readonly fault: string | undefined
}

/**
 * The balancer for a family. A call waits for the server set's first state and for the first endpoint to open, up to its
 * deadline; after that it fails at once when nothing can be used.
 */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>
): Layer.Layer<`${Id}/Balanced`, never, `${Id}/Endpoints` | ServerSet | Stack> =>
  Layer.effect(
    family.Balanced,
    Effect.gen(function*() {
      const stack = yield* Stack
      const heap = new Heap(stack.random)
      const { members, sink } = yield* Balancer.make(stack, yield* family.Endpoints, yield* ServerSet, heap)
      yield* stack.register({
        role: "balancer",
        description: "sends each call to the least loaded endpoint",
        options: {},
        snapshot: () => ({
          size: heap.size,
          endpoints: Array.from(members(), (member): EndpointView => ({
            endpoint: member.endpoint.key,
            state: member.sink.status.state,
            load: member.load,
            weight: member.endpoint.weight,
            fault: member.sink.status.fault?.message
          }))
        })
      })
      return sink
    })
  )
