/** How a case says what it saw in place of what it expects. */
import * as Cause from "effect/Cause"
import { format } from "effect/Formatter"

/** What a case saw in place of what it expects: thrown in the middle of it. */
export class Mismatch {
  readonly what: string
  readonly expected: string
  readonly seen: string

  constructor(what: string, expected: string, seen: string) {
    this.what = what
    this.expected = expected
    this.seen = seen
  }
}

/** What a world ended with, and the seed of it. */
export class WorldFailure {
  readonly inner: Cause.Cause<unknown>
  readonly seed: number

  constructor(inner: Cause.Cause<unknown>, seed: number) {
    this.inner = inner
    this.seed = seed
  }
}

/** A value as a failure shows it. */
export const shown = (value: unknown): string => typeof value === "string" ? value : format(value)

/** A cause as a failure shows it. */
export const causeOf = (cause: Cause.Cause<unknown>): string => {
  if (Cause.hasInterruptsOnly(cause)) return "an interruption"
  const error = Cause.squash(cause)
  return error instanceof Error ? `${error.name}: ${error.message}` : shown(error)
}
