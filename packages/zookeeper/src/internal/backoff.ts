/** How long to wait before something is tried again. */

/** The bounds of a backoff, in milliseconds. */
export interface Backoff {
  /** The first delay, spread over half of it to one and a half. */
  readonly first: number
  readonly max: number
}

/**
 * The delay after `previous`, 0 for the first: from the previous one to three times that, so that those who failed together do not
 * try again together. Finagle's `decorrelatedJittered`. `random` is from 0 to 1, without 1.
 */
export const nextDelay = (previous: number, { first, max }: Backoff, random: number): number =>
  Math.min(max, previous === 0 ? first * (0.5 + random) : previous * (1 + 2 * random))
