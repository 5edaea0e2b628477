import { assert, describe, it } from "@effect/vitest"
import { durationMillis, wholeNumber } from "@scales-rpc/core/options"
import { Duration, Effect } from "effect"

describe("an option that is a duration", () => {
  it.effect("is milliseconds, or the fallback when it was not given", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* durationMillis("x", undefined, 250), 250)
      assert.strictEqual(yield* durationMillis("x", "2 seconds", 250), 2_000)
      assert.strictEqual(yield* durationMillis("x", Duration.minutes(1), 250), 60_000)
      assert.strictEqual(yield* durationMillis("x", 0, 250), 0)
      assert.strictEqual(yield* durationMillis("x", 1.5, 250, 1), 1.5)
    }))

  it.effect("is refused when it is too short, endless or no duration, and says which option it is", () =>
    Effect.gen(function*() {
      const inputs: ReadonlyArray<Duration.Input> = [0, "0 millis", Infinity, NaN, Duration.infinity, "soon" as never]
      for (const input of [...inputs, {} as never]) {
        const error = yield* Effect.flip(durationMillis("timeout", input, 250, 1))
        assert.strictEqual(error._tag, "InvalidOption")
        assert.strictEqual(error.option, "timeout")
        assert.strictEqual(error.expected, "a finite duration of at least 1 ms")
        assert.include(error.message, "invalid option timeout")
      }
    }))
})

describe("an option that is a whole number", () => {
  it.effect("is taken within its bounds, or the fallback when it was not given", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* wholeNumber("x", undefined, 7, 1, 10), 7)
      assert.strictEqual(yield* wholeNumber("x", 1, 7, 1, 10), 1)
      assert.strictEqual(yield* wholeNumber("x", 10, 7, 1, 10), 10)
    }))

  it.effect("is refused outside of them, and when it is not whole", () =>
    Effect.gen(function*() {
      for (const value of [0, 11, 1.5, NaN, Infinity, "3" as never]) {
        const error = yield* Effect.flip(wholeNumber("size", value, 7, 1, 10))
        assert.strictEqual(error.option, "size")
        assert.deepStrictEqual(error.got, value)
        assert.strictEqual(error.expected, "a whole number, 1 to 10")
      }
    }))
})
