/** The check of `Limits` when a layer is built. */
import type { InvalidOption } from "@scales-rpc/core"
import { wholeNumber } from "@scales-rpc/core/options"
import * as Effect from "effect/Effect"
import { type Limits, limitsOf } from "../Protocol.ts"

/** The limits with their defaults: whole numbers from 0 to 2^31 - 1. `option` is what the user calls them. */
export const checkedLimits = (
  option: string,
  limits: Limits | undefined
): Effect.Effect<Required<Limits>, InvalidOption> =>
  Effect.gen(function*() {
    const checked = limitsOf(limits)
    for (const [name, value] of Object.entries(checked)) {
      yield* wholeNumber(`${option}.${name}`, value, 0, 0, 0x7fffffff)
    }
    return checked
  })
