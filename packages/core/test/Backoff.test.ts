import { assert, describe, it } from "@effect/vitest"
import { Backoff, InvalidOption, Stack } from "@scales-rpc/core"
import { Seed } from "@scales-rpc/core/testing"
import { type Duration, Effect, Layer, Schedule } from "effect"
import { seeded } from "./support.ts"

/** A duration is a whole number of nanoseconds. */
const rounding = 1e-6

/** The first delays of a backoff, begun anew for each round, with the random numbers of one seed. */
const rounds = (schedule: Schedule.Schedule<unknown>, count: number, times: number, seed: number) =>
  Effect.gen(function*() {
    const stack = yield* Stack
    const run = Effect.runForkWith(yield* Effect.context<never>())
    return Array.from({ length: times }, () => {
      const next = Backoff.delays(schedule, stack, run)
      return Array.from({ length: count }, next)
    })
  }).pipe(Effect.provide(Layer.fresh(Stack.layer("text").pipe(Layer.provideMerge(Seed.layer(seed))))))

const first = (schedule: Schedule.Schedule<unknown>, count: number, seed = 1) =>
  Effect.map(rounds(schedule, count, 1, seed), ([delays]) => delays!)

type Shape = (start: Duration.Input, max: Duration.Input) => Schedule.Schedule<Duration.Duration>

/** Every step of `shape` holds, for starts of 1 ms to 1 s, and for bounds from the start to twice it and far above. */
const everyStep = (
  shape: Shape,
  holds: (step: { previous: number; delay: number; n: number; start: number; max: number }) => void
) =>
  Effect.gen(function*() {
    const random = seeded(5)
    for (let seed = 1; seed <= 100; seed++) {
      const start = 1 + Math.floor(random() * 1000)
      const max = Math.floor(start * (1 + random() * (seed % 2 === 0 ? 1 : 10_000)))
      const delays = (yield* first(shape(start, max), 12, seed)) as Array<number>
      assert.strictEqual(delays[0], start)
      for (let n = 1; n < delays.length; n++) {
        const previous = delays[n - 1]!
        const delay = delays[n]!
        assert.isAtMost(delay, max)
        if (previous === max) assert.strictEqual(delay, max, "once there it stays")
        else holds({ previous, delay, n, start, max })
      }
    }
  })

const mean = (numbers: ReadonlyArray<number>) => numbers.reduce((sum, each) => sum + each, 0) / numbers.length

/** The delays after the first one, over 2000 beginnings. */
const second = (schedule: Schedule.Schedule<unknown>) =>
  Effect.map(rounds(schedule, 2, 2000, 7), (all) => all.map((delays) => delays[1]!))

const close = (actual: ReadonlyArray<number | undefined>, expected: ReadonlyArray<number>) => {
  assert.lengthOf(actual, expected.length)
  for (const [n, delay] of expected.entries()) assert.approximately(actual[n]!, delay, delay * 1e-5)
}

describe("an exponential backoff", () => {
  it.effect("grows by its multiplier", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* first(Backoff.exponential("2 millis", 2, "1 hour"), 5), [2, 4, 8, 16, 32])
      close(yield* first(Backoff.exponential("250 millis", 1.5, "10 seconds"), 4), [250, 375, 562.5, 843.75])
    }))

  it.effect("stays at its maximum", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* first(Backoff.exponential("2 millis", 2, "15 millis"), 5), [2, 4, 8, 15, 15])
      assert.deepStrictEqual(yield* first(Backoff.exponential("7 millis", 2, "7 millis"), 3), [7, 7, 7])
    }))
})

describe("a linear backoff", () => {
  it.effect("grows by its offset", () =>
    Effect.gen(function*() {
      const backoff = Backoff.linear("7 millis", "10 millis", "1 hour")
      assert.deepStrictEqual(yield* first(backoff, 5), [7, 17, 27, 37, 47])
    }))

  it.effect("stays at its maximum", () =>
    Effect.gen(function*() {
      const backoff = Backoff.linear("9 millis", "30 millis", "99 millis")
      assert.deepStrictEqual(yield* first(backoff, 5), [9, 39, 69, 99, 99])
    }))
})

describe("an equal jittered backoff", () => {
  it.effect("keeps half of the growth and spreads the rest, up to its maximum", () =>
    everyStep(Backoff.equalJittered, ({ delay, max, n, start }) => {
      assert.isAtLeast(delay, Math.min(max, start * 2 ** (n - 1)) - rounding)
      assert.isAtMost(delay, Math.min(max, start * 2 ** n) + rounding)
    }))

  it.effect("spreads evenly", () =>
    Effect.gen(function*() {
      const delays = yield* second(Backoff.equalJittered("1 second", "1 hour"))
      // A uniform spread over 1000 ms: the mean of 2000 strays by 6.5 ms, five of these allowed.
      assert.approximately(mean(delays), 1500, 33)
      assert.isBelow(Math.min(...delays), 1010)
      assert.isAbove(Math.max(...delays), 1990)
    }))
})

describe("an exponential jittered backoff", () => {
  it.effect("is anywhere up to a bound that grows with the last delay, and its maximum once the bound is", () =>
    everyStep(Backoff.exponentialJittered, ({ delay, max, n, previous }) => {
      const bound = previous * 2 ** n
      assert.isAbove(delay, 0)
      if (bound >= max) assert.strictEqual(delay, max)
      else assert.isAtMost(delay, bound + rounding)
    }))

  it.effect("spreads evenly", () =>
    Effect.gen(function*() {
      const delays = yield* second(Backoff.exponentialJittered("1 second", "1 hour"))
      // A uniform spread over 2000 ms: the mean of 2000 strays by 13 ms, five of these allowed.
      assert.approximately(mean(delays), 1000, 65)
      assert.isBelow(Math.min(...delays), 20)
      assert.isAbove(Math.max(...delays), 1980)
    }))
})

describe("a decorrelated jittered backoff", () => {
  it.effect("is between the last delay and three times that, or its maximum", () =>
    everyStep(Backoff.decorrelatedJittered, ({ delay, max, previous }) => {
      assert.isAtLeast(delay, previous)
      assert.isAtMost(delay, Math.min(max, previous * 3) + rounding)
    }))

  it.effect("spreads evenly", () =>
    Effect.gen(function*() {
      const delays = yield* second(Backoff.decorrelatedJittered("1 second", "1 hour"))
      assert.approximately(mean(delays), 2000, 65)
      assert.isBelow(Math.min(...delays), 1020)
      assert.isAbove(Math.max(...delays), 2980)
    }))
})

describe("jitter", () => {
  it.effect("repeats for a seed, and begins anew with other numbers", () =>
    Effect.gen(function*() {
      for (const shape of [Backoff.equalJittered, Backoff.exponentialJittered, Backoff.decorrelatedJittered]) {
        const backoff = shape("5 millis", "1 hour")
        const [one, other] = yield* rounds(backoff, 6, 2, 3)
        assert.deepStrictEqual(yield* rounds(backoff, 6, 2, 3), [one!, other!])
        assert.notDeepEqual(one, other)
        assert.notDeepEqual(yield* first(backoff, 6, 4), one)
      }
    }))
})

describe("a backoff with arguments that make none", () => {
  it.each([
    ["a start of nothing", "equalJittered.start", () => Backoff.equalJittered(0, "1 second")],
    ["a start without end", "exponentialJittered.start", () => Backoff.exponentialJittered("Infinity", "Infinity")],
    [
      "a maximum under its start",
      "decorrelatedJittered.max",
      () => Backoff.decorrelatedJittered("2 seconds", "1 second")
    ],
    ["a maximum without end", "exponential.max", () => Backoff.exponential("1 second", 2, "Infinity")],
    ["a multiplier that shrinks", "exponential.multiplier", () => Backoff.exponential("1 second", 0.5, "1 minute")],
    ["an offset that is none", "linear.offset", () => Backoff.linear("1 second", "soon" as never, "1 minute")]
  ])("%s throws", (_, option, make) => {
    let thrown: unknown
    try {
      make()
    } catch (error) {
      thrown = error
    }
    assert.instanceOf(thrown, InvalidOption)
    assert.strictEqual((thrown as InvalidOption).option, option)
  })
})

describe("the delays of a schedule", () => {
  it.effect("end with it", () =>
    Effect.gen(function*() {
      const backoff = Backoff.linear("7 millis", "10 millis", "1 hour").pipe(Schedule.upTo({ times: 3 }))
      assert.deepStrictEqual(yield* first(backoff, 5), [7, 17, 27, undefined, undefined])
    }))

  it.effect("follow one another when schedules do", () =>
    Effect.gen(function*() {
      const once = Schedule.upTo({ times: 1 })
      const backoff = Schedule.spaced("1 second").pipe(
        once,
        Schedule.concat(Backoff.linear("2 seconds", "1 second", "1 minute").pipe(Schedule.upTo({ times: 2 }))),
        Schedule.concat(Schedule.spaced("4 seconds"))
      )
      assert.deepStrictEqual(yield* first(backoff, 5), [1000, 2000, 3000, 4000, 4000])
    }))

  it.effect("are none when it waits for something else", () =>
    Effect.gen(function*() {
      const backoff = Schedule.spaced("1 millis").pipe(Schedule.modifyDelay(() => Effect.as(Effect.never, "1 millis")))
      assert.deepStrictEqual(yield* first(backoff, 2), [undefined, undefined])
    }))
})
