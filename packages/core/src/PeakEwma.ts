/**
 * Of two endpoints drawn at random, each call goes to the one that is expected to answer sooner: by an average of its latencies that
 * jumps to a slow one at once and forgets it over the decay time, times the calls it would have. Finagle's P2C peak EWMA: for
 * endpoints that are not equally fast, or not always.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Balancer from "./Balancer.ts"
import { duration, given } from "./Describe.ts"
import { PeakEwmaPicker } from "./internal/PeakEwmaPicker.ts"
import { durationMillis } from "./options.ts"
import type { InvalidOption, RpcError } from "./RpcError.ts"
import type { ServerSet } from "./ServerSet.ts"
import type { Family } from "./Sink.ts"
import type { Stack } from "./Stack.ts"

/** Options of the balancer. */
export interface PeakEwmaOptions extends Balancer.BalancerOptions {
  /**
   * How long it takes until an old latency counts 1/e, 37 percent, of what it did: for how long a slow reply keeps calls away. At least
   * 1 ms. Default 10 seconds, as Finagle's.
   */
  readonly decayTime?: Duration.Input | undefined
}

/**
 * The balancer for a family. Latency is from the pick until the attempt has ended, connecting included; below 1 ms all are equal. An endpoint
 * that has never replied gets one call at a time while others are known. Only replies lower an average: a failure, a refusal or a
 * call that was given up raises it when it took longer (Finagle takes each for a latency, so that an endpoint that fails at once draws
 * calls). Fails with `InvalidOption` for an option out of its range.
 */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  options: PeakEwmaOptions = {}
): Layer.Layer<`${Id}/Balanced`, InvalidOption, `${Id}/Endpoints` | ServerSet | Stack> =>
  Layer.effect(
    family.Balanced,
    Effect.gen(function*() {
      const decayMillis = yield* durationMillis("decayTime", options.decayTime, 10_000, 1)
      return yield* Balancer.assemble(family, {
        description: "sends each call to the one of two endpoints drawn at random that is expected to answer sooner",
        options: given(options, { decayTime: duration(decayMillis) }),
        common: options,
        picker: ({ stack }) => Effect.sync(() => new PeakEwmaPicker(stack.random, stack.now, decayMillis))
      })
    })
  )
