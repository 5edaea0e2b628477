/** Reads a clock to measure how long something takes. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"

/**
 * Milliseconds since some time, with fractions. The system's clock is in whole ones, which is longer than most calls take: in its place
 * 32 ns for a reading, where `Clock`'s own nanoseconds take three times that and make a bigint.
 */
export const elapsedOf = (clock: Clock.Clock): () => number =>
  clock === Context.get(Context.empty(), Clock.Clock)
    ? () => performance.now()
    : () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
