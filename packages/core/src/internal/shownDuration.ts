/** A duration as somebody has given it, as an option in force is described. */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import { duration } from "../Describe.ts"

/** In milliseconds; what is none, as it was given. */
export const shownDuration = (input: Duration.Input): string => {
  const known = Duration.fromInput(input)
  return Option.isSome(known) ? duration(Duration.toMillis(known.value)) : String(input)
}
