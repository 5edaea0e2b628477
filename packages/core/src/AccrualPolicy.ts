/**
 * When an endpoint has failed often enough to be avoided, and for how long: the policies of failure accrual. They are Finagle's, as are
 * their numbers.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import type * as Schedule from "effect/Schedule"
import * as Backoff from "./Backoff.ts"
import { durationMillis, wholeNumber } from "./options.ts"
import { InvalidOption } from "./RpcError.ts"
import { Stack } from "./Stack.ts"

/**
 * Judges one endpoint. Told of its attempts in the order they end; of failures not while it is marked dead. `at`: when the attempt ended, in
 * milliseconds by the stack's `elapsed`.
 */
export interface Policy {
  /** An attempt succeeded. */
  readonly recordSuccess: (at: number) => void
  /** An attempt failed: for how many milliseconds the endpoint is to be marked dead, or `undefined` for not at all. */
  readonly markDeadOnFailure: (at: number) => number | undefined
  /** A probe succeeded: what was known is forgotten, and the backoff begins anew. */
  readonly revived: () => void
}

/**
 * Makes a policy for each endpoint. Built with the layer, when its options are checked. One of your own:
 * `Effect.succeed(() => ({ recordSuccess, markDeadOnFailure, revived }))`.
 */
export type AccrualPolicy = Effect.Effect<() => Policy, InvalidOption, Stack>

/** How long once a backoff has ended, in milliseconds. */
const afterBackoff = 300_000

/** Shares of the window that requests are counted by. */
const slices = 5

const checkedRate = (value: number) =>
  value >= 0 && value <= 1
    ? Effect.succeed(value)
    : Effect.fail(new InvalidOption({ option: "accrual.rate", got: value, expected: "0 to 1" }))

/** Makes backoffs that begin anew: how long to mark dead now, in milliseconds. */
const backoffs = (backoff: Schedule.Schedule<unknown>): Effect.Effect<() => () => number, never, Stack> =>
  Effect.gen(function*() {
    const stack = yield* Stack
    const run = Effect.runForkWith(yield* Effect.context<never>())
    return () => {
      // Of most endpoints it is never asked.
      let next: (() => number | undefined) | undefined
      return () => (next ??= Backoff.delays(backoff, stack, run))() ?? afterBackoff
    }
  })

/** Marks dead after `failures` failures without a success between them, from 1. */
export const consecutiveFailures = (failures: number, backoff: Schedule.Schedule<unknown>): AccrualPolicy =>
  Effect.gen(function*() {
    const most = yield* wholeNumber("accrual.failures", failures, failures, 1)
    const begin = yield* backoffs(backoff)
    return (): Policy => {
      let count = 0
      let next = begin()
      return {
        recordSuccess: () => {
          count = 0
        },
        markDeadOnFailure: () => ++count >= most ? next() : undefined,
        revived: () => {
          count = 0
          next = begin()
        }
      }
    }
  })

/** An average of successes (1) and failures (0) that forgets with the distance of their stamps. */
class SuccessRate {
  readonly #window: number
  #stamp: number | undefined = undefined
  #average = 0

  /** `window` is the mean lifetime of what it is told, in the unit of the stamps. */
  constructor(window: number) {
    this.#window = window
  }

  /** Notes an outcome at `stamp` and gives the new average. */
  update(stamp: number, success: 0 | 1): number {
    if (this.#stamp === undefined) this.#average = success
    else {
      // A clock that was set back ages nothing.
      const weight = Math.exp(-Math.max(0, stamp - this.#stamp) / this.#window)
      this.#average = success * (1 - weight) + this.#average * weight
    }
    this.#stamp = stamp
    return this.#average
  }
}

/** How much there was within a window of time, by slices of it. Times are ms that do not go back. */
class WindowedCount {
  readonly #sliceMillis: number
  readonly #counts = new Float64Array(slices)
  #slice: number

  constructor(windowMillis: number, now: number) {
    this.#sliceMillis = windowMillis / slices
    this.#slice = Math.floor(now / this.#sliceMillis)
  }

  /** Counts one more, at that time. */
  increment(at: number): void {
    const slice = Math.floor(at / this.#sliceMillis)
    if (slice > this.#slice) this.#turn(slice)
    this.#counts[this.#slice % slices]!++
  }

  /** How many there were up to the last one, which is among them. */
  get sum(): number {
    return this.#counts.reduce((sum, count) => sum + count, 0)
  }

  #turn(slice: number): void {
    const aged = Math.min(slices, slice - this.#slice)
    for (let i = 1; i <= aged; i++) this.#counts[(this.#slice + i) % slices] = 0
    this.#slice = slice
  }
}

/**
 * Marks dead when the moving average of successes is under `rate`, 0 to 1, once there were `requests` requests since the start
 * or the last revival. The average is over about that many.
 */
export const successRate = (rate: number, requests: number, backoff: Schedule.Schedule<unknown>): AccrualPolicy =>
  Effect.gen(function*() {
    const least = yield* checkedRate(rate)
    const window = yield* wholeNumber("accrual.requests", requests, requests, 1)
    const begin = yield* backoffs(backoff)
    return (): Policy => {
      let average = new SuccessRate(window)
      let count = 0
      let next = begin()
      return {
        recordSuccess: () => void average.update(++count, 1),
        markDeadOnFailure: () => average.update(++count, 0) < least && count >= window ? next() : undefined,
        revived: () => {
          average = new SuccessRate(window)
          count = 0
          next = begin()
        }
      }
    }
  })

/**
 * Marks dead when the moving average of successes over `window` is under `rate`, 0 to 1, once `window` has passed since the start or the
 * last revival, if there were `minRequests` requests within it (default 5).
 */
export const successRateWithinDuration = (
  rate: number,
  window: Duration.Input,
  backoff: Schedule.Schedule<unknown>,
  minRequests = 5
): AccrualPolicy =>
  Effect.gen(function*() {
    const { elapsed } = yield* Stack
    const least = yield* checkedRate(rate)
    const windowMillis = yield* durationMillis("accrual.window", window, 0, 1)
    const enough = yield* wholeNumber("accrual.minRequests", minRequests, minRequests, 0)
    const begin = yield* backoffs(backoff)
    return (): Policy => {
      let average = new SuccessRate(windowMillis)
      let since = elapsed()
      const count = new WindowedCount(windowMillis, since)
      let next = begin()
      return {
        recordSuccess: (at) => {
          count.increment(at)
          average.update(at - since, 1)
        },
        markDeadOnFailure: (at) => {
          count.increment(at)
          const age = at - since
          const low = average.update(age, 0) < least
          return low && age >= windowMillis && count.sum >= enough ? next() : undefined
        },
        revived: () => {
          average = new SuccessRate(windowMillis)
          // What was counted before is out of the window by the time that it matters.
          since = elapsed()
          next = begin()
        }
      }
    }
  })

/** Both policies, each told of everything: when either marks dead it is, and for the longer time when both do. */
export const orElse: {
  (that: AccrualPolicy): (self: AccrualPolicy) => AccrualPolicy
  (self: AccrualPolicy, that: AccrualPolicy): AccrualPolicy
} = dual(
  2,
  (self: AccrualPolicy, that: AccrualPolicy): AccrualPolicy =>
    Effect.map(Effect.all([self, that]), ([makeOne, makeOther]) => (): Policy => {
      const one = makeOne()
      const other = makeOther()
      return {
        recordSuccess: (at) => {
          one.recordSuccess(at)
          other.recordSuccess(at)
        },
        markDeadOnFailure: (at) => {
          const a = one.markDeadOnFailure(at)
          const b = other.markDeadOnFailure(at)
          return a === undefined ? b : b === undefined ? a : Math.max(a, b)
        },
        revived: () => {
          one.revived()
          other.revived()
        }
      }
    })
)

/** From 5 s to 300 s, jittered: an endpoint that failed its probes too is likely to go on failing. */
const defaultBackoff = Backoff.equalJittered("5 seconds", "300 seconds")

/**
 * Under 80 % of successes within 30 s and at least 5 requests, or 5 failures in a row; dead for 5 s first, then longer with each
 * probe that fails, up to 300 s.
 */
export const defaultPolicy: AccrualPolicy = orElse(
  successRateWithinDuration(0.8, "30 seconds", defaultBackoff, 5),
  consecutiveFailures(5, defaultBackoff)
)
