/**
 * Backoffs: how long to wait before each next try, as Effect schedules with Finagle's shapes. The first delay is `start`, none is over
 * `max`, and once one is `max` all that follow are. Jitter comes from Effect's `Random`: a seed repeats it. A constant backoff is
 * `Schedule.spaced`.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import { InvalidOption } from "./RpcError.ts"
import type { StackShape } from "./Stack.ts"

/** What the next delay is made of: all in milliseconds, `n` is 1 for the delay after the first. */
interface Step {
  readonly previous: number
  readonly n: number
  readonly start: number
  readonly max: number
  /** From 0 to 1, without 1. */
  readonly random: () => number
}

const invalid = (shape: string, option: string, got: unknown, expected: string) =>
  new InvalidOption({ option: `${shape}.${option}`, got, expected })

const millisOf = (input: Duration.Input): number => {
  const duration = Duration.fromInput(input)
  return Option.isSome(duration) ? Duration.toMillis(duration.value) : NaN
}

const grow = (
  shape: string,
  from: Duration.Input,
  to: Duration.Input,
  next: (step: Step) => number
): Schedule.Schedule<Duration.Duration> => {
  const start = millisOf(from)
  const max = millisOf(to)
  if (!(start > 0 && start < Infinity)) throw invalid(shape, "start", from, "a finite duration over 0 ms")
  if (!(max >= start && max < Infinity)) throw invalid(shape, "max", to, "a finite duration from start")
  return Schedule.fromStep(Effect.sync(() => {
    let previous = 0
    let n = 0
    return () =>
      Random.Random.useSync((source): [Duration.Duration, Duration.Duration] => {
        const random = () => source.nextDoubleUnsafe()
        if (n === 0) previous = start
        else previous = Math.min(max, next({ previous, n, start, max, random }))
        n++
        const delay = Duration.millis(previous)
        return [delay, delay]
      })
  }))
}

/** `multiplier` times as long again each time, from 1. Throws `InvalidOption` for arguments that make no such backoff. */
export const exponential = (
  start: Duration.Input,
  multiplier: number,
  max: Duration.Input
): Schedule.Schedule<Duration.Duration> => {
  if (!(multiplier >= 1 && multiplier < Infinity)) {
    throw invalid("exponential", "multiplier", multiplier, "a number from 1")
  }
  return grow("exponential", start, max, ({ previous }) => previous * multiplier)
}

/** `offset` longer each time. Throws `InvalidOption` for arguments that make no such backoff. */
export const linear = (
  start: Duration.Input,
  offset: Duration.Input,
  max: Duration.Input
): Schedule.Schedule<Duration.Duration> => {
  const by = millisOf(offset)
  if (!(by >= 0 && by < Infinity)) throw invalid("linear", "offset", offset, "a finite duration")
  return grow("linear", start, max, ({ previous }) => previous + by)
}

/**
 * Keeps half of an exponential growth by 2 and spreads the other half: after `start`, from `start` to twice that, then from twice
 * `start` to four times, and so on. Failure accrual's. Throws `InvalidOption` unless 0 < `start` <= `max`.
 */
export const equalJittered = (start: Duration.Input, max: Duration.Input): Schedule.Schedule<Duration.Duration> =>
  grow("equalJittered", start, max, ({ n, random, start: first }) => first * 2 ** (n - 1) * (1 + random()))

/**
 * Anywhere between nothing and a bound that is the previous delay, itself random, times 2, then 4, 8 and so on; `max` once that
 * bound reaches it. Finagle's fail-fast uses it. Throws `InvalidOption` unless 0 < `start` <= `max`.
 */
export const exponentialJittered = (
  start: Duration.Input,
  max: Duration.Input
): Schedule.Schedule<Duration.Duration> =>
  grow("exponentialJittered", start, max, ({ max: most, n, previous, random }) => {
    const bound = previous * 2 ** n
    // Never nothing: twice nothing would be nothing for ever.
    return bound >= most ? most : (1 - random()) * bound
  })

/**
 * From the previous delay to three times that, or to `max`: it only grows, and comes as near to `max` as chance has it. Retries use
 * it. Throws `InvalidOption` unless 0 < `start` <= `max`.
 */
export const decorrelatedJittered = (
  start: Duration.Input,
  max: Duration.Input
): Schedule.Schedule<Duration.Duration> =>
  grow(
    "decorrelatedJittered",
    start,
    max,
    ({ max: most, previous, random }) => previous + random() * (Math.min(most, 3 * previous) - previous)
  )

/**
 * The delays of a schedule as numbers, in milliseconds, one a call; `undefined` when it has ended. Its steps are run on the spot: a
 * backoff that waits for anything else is none.
 */
export const delays = (
  schedule: Schedule.Schedule<unknown>,
  stack: StackShape,
  run: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
): () => number | undefined => {
  const made = run(Schedule.toStep(schedule)).pollUnsafe()
  if (made === undefined || Exit.isFailure(made)) return () => undefined
  return () => {
    const step = run(made.value(stack.now(), undefined)).pollUnsafe()
    return step === undefined || Exit.isFailure(step) ? undefined : Duration.toMillis(step.value[1])
  }
}
