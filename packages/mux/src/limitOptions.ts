/** What a user says of the limits, checked when a transport or a server is built. */
import type { InvalidOption } from "@scales-rpc/core"
import { wholeNumber } from "@scales-rpc/core/options"
import * as Effect from "effect/Effect"
import { defaultLimits, type Limits } from "./Message.ts"

/** Fewer bytes than this hold no handshake: a session could never begin. */
const leastMessageBytes = 64

/** The limits with their defaults filled in. Fails with `InvalidOption` for one out of its range, under the name `limits.<name>`. */
export const checkedLimits = (given: Partial<Limits> | undefined): Effect.Effect<Limits, InvalidOption> =>
  Effect.gen(function*() {
    const limits = { ...defaultLimits }
    for (const name of Object.keys(limits) as Array<keyof Limits>) {
      const least = name === "messageBytes" ? leastMessageBytes : 0
      limits[name] = yield* wholeNumber(`limits.${name}`, given?.[name], limits[name], least, 0x7fffffff)
    }
    return limits
  })
