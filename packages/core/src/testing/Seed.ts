/** Random numbers that repeat. */
import * as Layer from "effect/Layer"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"

/** Every `Random` below this layer comes from `seed`: the same seed, the same picks and jitter. */
export const layer = (seed: string | number): Layer.Layer<never> =>
  Layer.effect(Random.Random, Random.withSeed(Effect.service(Random.Random), seed))
