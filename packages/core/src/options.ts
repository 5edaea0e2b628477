/** Checks of options, made when a layer is built: for protocols and stages of other packages too. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { InvalidOption } from "./RpcError.ts"

/**
 * A duration as milliseconds, or `fallback`, also in milliseconds. Fails with `InvalidOption` unless it is finite and
 * at least `min` ms.
 */
export const durationMillis = (
  option: string,
  input: Duration.Input | undefined,
  fallback: number,
  min = 0
): Effect.Effect<number, InvalidOption> => {
  if (input === undefined) return Effect.succeed(fallback)
  const duration = Duration.fromInput(input)
  const millis = Option.isSome(duration) ? Duration.toMillis(duration.value) : NaN
  return millis >= min && millis < Infinity
    ? Effect.succeed(millis)
    : Effect.fail(
      new InvalidOption({
        option,
        got: typeof input === "object" ? JSON.stringify(input) : input,
        expected: `a finite duration of at least ${min} ms`
      })
    )
}

/** A whole number, or `fallback`. Fails with `InvalidOption` unless it is from `min` to `max`, both included. */
export const wholeNumber = (
  option: string,
  value: number | undefined,
  fallback: number,
  min: number,
  max = Number.MAX_SAFE_INTEGER
): Effect.Effect<number, InvalidOption> =>
  value === undefined
    ? Effect.succeed(fallback)
    : Number.isInteger(value) && value >= min && value <= max
    ? Effect.succeed(value)
    : Effect.fail(new InvalidOption({ option, got: value, expected: `a whole number, ${min} to ${max}` }))

/** A number, or `fallback`. Fails with `InvalidOption` unless it is finite and at least `min`. */
export const finiteNumber = (
  option: string,
  value: number | undefined,
  fallback: number,
  min: number
): Effect.Effect<number, InvalidOption> =>
  value === undefined
    ? Effect.succeed(fallback)
    : Number.isFinite(value) && value >= min
    ? Effect.succeed(value)
    : Effect.fail(new InvalidOption({ option, got: value, expected: `a finite number of at least ${min}` }))

/** A share of all, or `fallback`. Fails with `InvalidOption` unless it is from 0 to 1, both included. */
export const ratio = (
  option: string,
  value: number | undefined,
  fallback: number
): Effect.Effect<number, InvalidOption> =>
  value === undefined
    ? Effect.succeed(fallback)
    : value >= 0 && value <= 1
    ? Effect.succeed(value)
    : Effect.fail(new InvalidOption({ option, got: value, expected: "a number from 0 to 1" }))

/** A share, or `fallback`. Fails with `InvalidOption` unless it is from a millionth, and below 1. */
export const fraction = (
  option: string,
  value: number | undefined,
  fallback: number
): Effect.Effect<number, InvalidOption> =>
  value === undefined
    ? Effect.succeed(fallback)
    : value >= 1e-6 && value < 1
    ? Effect.succeed(value)
    : Effect.fail(new InvalidOption({ option, got: value, expected: "a number from 0.000001, below 1" }))
