import { assert, describe, it } from "@effect/vitest"
import { AccrualPolicy, Backoff, Stack } from "@scales-rpc/core"
import { Seed } from "@scales-rpc/core/testing"
import { Effect, Layer, Schedule } from "effect"
import { TestClock } from "effect/testing"

/** One endpoint's policy, told of what ends now. */
const policy = (accrual: AccrualPolicy.AccrualPolicy) =>
  Effect.map(Effect.all([accrual, Stack]), ([make, { elapsed }]) => now(make(), elapsed)).pipe(
    Effect.provide(Layer.fresh(Stack.layer("text").pipe(Layer.provideMerge(Seed.layer(1)))))
  )

const now = (self: AccrualPolicy.Policy, elapsed: () => number) => ({
  recordSuccess: () => self.recordSuccess(elapsed()),
  markDeadOnFailure: () => self.markDeadOnFailure(elapsed()),
  revived: self.revived
})

const constant = Schedule.spaced("5 seconds")
/** 5 s, 15 s, 25 s, then it has ended. */
const growing = Backoff.linear("5 seconds", "10 seconds", "1 hour").pipe(Schedule.upTo({ times: 3 }))

const fail = (self: ReturnType<typeof now>, times: number) =>
  Array.from({ length: times }, () => self.markDeadOnFailure())

const none = (times: number) => Array.from({ length: times }, () => undefined)

describe("consecutive failures", () => {
  it.effect("mark dead from the given one on", () =>
    Effect.gen(function*() {
      const self = yield* policy(AccrualPolicy.consecutiveFailures(3, constant))
      assert.deepStrictEqual(fail(self, 4), [undefined, undefined, 5000, 5000])
    }))

  it.effect("begin anew with a success", () =>
    Effect.gen(function*() {
      const self = yield* policy(AccrualPolicy.consecutiveFailures(3, constant))
      assert.deepStrictEqual(fail(self, 2), none(2))
      self.recordSuccess()
      assert.deepStrictEqual(fail(self, 3), [undefined, undefined, 5000])
    }))

  it.effect("begin anew with a revival", () =>
    Effect.gen(function*() {
      const self = yield* policy(AccrualPolicy.consecutiveFailures(3, constant))
      assert.deepStrictEqual(fail(self, 2), none(2))
      self.revived()
      assert.deepStrictEqual(fail(self, 3), [undefined, undefined, 5000])
    }))

  it.effect("go through the backoff, are 300 s once it has ended, and begin it anew with a revival only", () =>
    Effect.gen(function*() {
      const self = yield* policy(AccrualPolicy.consecutiveFailures(1, growing))
      assert.deepStrictEqual(fail(self, 2), [5000, 15_000])
      self.recordSuccess()
      assert.deepStrictEqual(fail(self, 3), [25_000, 300_000, 300_000])
      self.revived()
      assert.deepStrictEqual(fail(self, 4), [5000, 15_000, 25_000, 300_000])
    }))
})

describe("a success rate over requests", () => {
  it.effect("marks dead only after that many requests", () =>
    Effect.gen(function*() {
      const self = yield* policy(AccrualPolicy.successRate(0.5, 5, constant))
      assert.deepStrictEqual(fail(self, 5), [...none(4), 5000])
    }))

  it.effect("of 0.5 over 100 is missed with the 70th failure after 100 successes: 100 ln 2 + 1", () =>
    Effect.gen(function*() {
      const self = yield* policy(AccrualPolicy.successRate(0.5, 100, constant))
      for (let i = 0; i < 100; i++) self.recordSuccess()
      assert.deepStrictEqual(fail(self, 69), none(69))
      assert.deepStrictEqual(fail(self, 1), [5000])
    }))

  it.effect("goes through the backoff, is 300 s once it has ended, and begins anew with a revival", () =>
    Effect.gen(function*() {
      const self = yield* policy(AccrualPolicy.successRate(1, 2, growing))
      assert.deepStrictEqual(fail(self, 5), [undefined, 5000, 15_000, 25_000, 300_000])
      self.revived()
      assert.deepStrictEqual(fail(self, 3), [undefined, 5000, 15_000])
    }))

  it.effect("that is met exactly does not mark dead", () =>
    Effect.gen(function*() {
      const self = yield* policy(AccrualPolicy.successRate(0, 1, constant))
      assert.deepStrictEqual(fail(self, 50), none(50))
    }))
})

describe("a success rate within a duration", () => {
  it.effect("marks dead only once the duration has passed", () =>
    Effect.gen(function*() {
      const self = yield* policy(AccrualPolicy.successRateWithinDuration(1, "30 seconds", growing, 0))
      assert.deepStrictEqual(fail(self, 1), none(1))
      yield* TestClock.adjust("29999 millis")
      assert.deepStrictEqual(fail(self, 1), none(1))
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(fail(self, 5), [5000, 15_000, 25_000, 300_000, 300_000])
    }))

  it.effect("begins anew with a revival, also its backoff and its duration", () =>
    Effect.gen(function*() {
      const self = yield* policy(AccrualPolicy.successRateWithinDuration(1, "30 seconds", growing, 0))
      yield* TestClock.adjust("30 seconds")
      assert.deepStrictEqual(fail(self, 2), [5000, 15_000])
      self.revived()
      assert.deepStrictEqual(fail(self, 1), none(1))
      yield* TestClock.adjust("30 seconds")
      assert.deepStrictEqual(fail(self, 1), [5000])
    }))

  it.effect("forgets the average with a revival", () =>
    Effect.gen(function*() {
      const self = yield* policy(AccrualPolicy.successRateWithinDuration(0.5, "30 seconds", constant, 0))
      yield* TestClock.adjust("30 seconds")
      assert.deepStrictEqual(fail(self, 1), [5000])
      self.revived()
      yield* TestClock.adjust("30 seconds")
      self.recordSuccess()
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(fail(self, 1), none(1))
    }))

  it.effect("of 0.5 over 100 s is missed with the 70th second of failures after 100 s of successes", () =>
    Effect.gen(function*() {
      const self = yield* policy(AccrualPolicy.successRateWithinDuration(0.5, "100 seconds", constant, 0))
      for (let second = 0; second < 100; second++) {
        yield* TestClock.adjust("1 second")
        self.recordSuccess()
      }
      for (let second = 0; second < 69; second++) {
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(fail(self, 1), none(1))
      }
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(fail(self, 1), [5000])
    }))

  it.effect("needs enough requests within the duration, 5 by default", () =>
    Effect.gen(function*() {
      const self = yield* policy(AccrualPolicy.successRateWithinDuration(1, "30 seconds", constant))
      assert.deepStrictEqual(fail(self, 3), none(3))
      yield* TestClock.adjust("60 seconds")
      // The three before are too old to count.
      assert.deepStrictEqual(fail(self, 4), none(4))
      assert.deepStrictEqual(fail(self, 1), [5000])
      self.revived()
      yield* TestClock.adjust("30 seconds")
      self.recordSuccess()
      self.recordSuccess()
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(fail(self, 3), [undefined, undefined, 5000])
    }))

  it.effect("forgets requests by fifths of the duration", () =>
    Effect.gen(function*() {
      const self = yield* policy(AccrualPolicy.successRateWithinDuration(1, "30 seconds", constant, 5))
      yield* TestClock.adjust("66 seconds")
      assert.deepStrictEqual(fail(self, 2), none(2))
      yield* TestClock.adjust("18 seconds")
      assert.deepStrictEqual(fail(self, 2), none(2))
      yield* TestClock.adjust("11999 millis")
      // All four are there still, and this is the fifth.
      assert.deepStrictEqual(fail(self, 1), [5000])
      yield* TestClock.adjust("1 millis")
      // The first two have gone: this is the fourth.
      assert.deepStrictEqual(fail(self, 2), [undefined, 5000])
    }))

  it.effect("takes a clock that was set back for one that stands", () =>
    Effect.gen(function*() {
      const day = 86_400_000
      yield* TestClock.setTime(day)
      const self = yield* policy(AccrualPolicy.successRateWithinDuration(0.5, "30 seconds", constant, 0))
      self.recordSuccess()
      yield* TestClock.setTime(0)
      assert.deepStrictEqual(fail(self, 3), none(3))
      yield* TestClock.setTime(day + 60_000)
      assert.deepStrictEqual(fail(self, 1), [5000])
    }))
})

describe("one policy or else another", () => {
  const hybrid = AccrualPolicy.consecutiveFailures(3, constant).pipe(
    AccrualPolicy.orElse(AccrualPolicy.successRateWithinDuration(0.8, "30 seconds", constant, 0))
  )

  it.effect("marks dead when the first does, and begins anew with a success or a revival", () =>
    Effect.gen(function*() {
      const self = yield* policy(hybrid)
      assert.deepStrictEqual(fail(self, 2), none(2))
      self.recordSuccess()
      assert.deepStrictEqual(fail(self, 2), none(2))
      self.revived()
      assert.deepStrictEqual(fail(self, 3), [undefined, undefined, 5000])
    }))

  it.effect("marks dead when the second does", () =>
    Effect.gen(function*() {
      const self = yield* policy(hybrid)
      for (let i = 0; i < 15; i++) {
        self.recordSuccess()
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(fail(self, 1), none(1))
        yield* TestClock.adjust("1 second")
      }
      assert.deepStrictEqual(fail(self, 1), [5000])
      self.revived()
      assert.deepStrictEqual(fail(self, 3), [undefined, undefined, 5000])
    }))

  it.effect("marks dead for the longer time when both do", () =>
    Effect.gen(function*() {
      const short = AccrualPolicy.consecutiveFailures(3, Schedule.spaced("5 seconds"))
      const long = AccrualPolicy.consecutiveFailures(3, Schedule.spaced("10 seconds"))
      for (const both of [AccrualPolicy.orElse(short, long), AccrualPolicy.orElse(long, short)]) {
        assert.deepStrictEqual(fail(yield* policy(both), 3), [undefined, undefined, 10_000])
      }
    }))
})

describe("the default policy", () => {
  it.effect("marks dead with the fifth failure in a row, for 5 s, then 5 to 10 s, 10 to 20 s, up to 300 s", () =>
    Effect.gen(function*() {
      const self = yield* policy(AccrualPolicy.defaultPolicy)
      assert.deepStrictEqual(fail(self, 4), none(4))
      const millis = fail(self, 9) as Array<number>
      assert.strictEqual(millis[0], 5000)
      for (let n = 1; n < millis.length; n++) {
        assert.isAtLeast(millis[n]!, Math.min(300_000, 5000 * 2 ** (n - 1)))
        assert.isAtMost(millis[n]!, Math.min(300_000, 5000 * 2 ** n))
      }
      assert.strictEqual(millis.at(-1), 300_000)
    }))

  it.effect("marks an endpoint dead within 30 s that fails every third call", () =>
    Effect.gen(function*() {
      const self = yield* policy(AccrualPolicy.defaultPolicy)
      for (let second = 1; second <= 30; second++) {
        yield* TestClock.adjust("1 second")
        if (second % 3 !== 0) self.recordSuccess()
        else assert.deepStrictEqual(fail(self, 1), second < 30 ? [undefined] : [5000])
      }
    }))

  it.effect("leaves an endpoint alone that fails one call in ten", () =>
    Effect.gen(function*() {
      const self = yield* policy(AccrualPolicy.defaultPolicy)
      for (let second = 1; second <= 300; second++) {
        yield* TestClock.adjust("1 second")
        if (second % 10 !== 0) self.recordSuccess()
        else assert.deepStrictEqual(fail(self, 1), none(1))
      }
    }))
})

describe("the endpoints of one policy", () => {
  it.effect("share nothing", () =>
    Effect.gen(function*() {
      const make = yield* AccrualPolicy.consecutiveFailures(2, growing)
      const { elapsed } = yield* Stack
      const [one, other] = [now(make(), elapsed), now(make(), elapsed)]
      assert.deepStrictEqual(fail(one, 3), [undefined, 5000, 15_000])
      assert.deepStrictEqual(fail(other, 3), [undefined, 5000, 15_000])
    }).pipe(Effect.provide(Stack.layer("text"))))
})

describe("the options of a policy", () => {
  it.effect("are checked", () =>
    Effect.gen(function*() {
      const wrong: ReadonlyArray<readonly [string, AccrualPolicy.AccrualPolicy]> = [
        ["accrual.failures", AccrualPolicy.consecutiveFailures(0, constant)],
        ["accrual.rate", AccrualPolicy.successRate(1.1, 5, constant)],
        ["accrual.requests", AccrualPolicy.successRate(0.5, 0, constant)],
        ["accrual.rate", AccrualPolicy.successRateWithinDuration(NaN, "1 second", constant)],
        ["accrual.window", AccrualPolicy.successRateWithinDuration(0.5, 0, constant)],
        ["accrual.minRequests", AccrualPolicy.successRateWithinDuration(0.5, "1 second", constant, -1)]
      ]
      for (const [option, accrual] of wrong) {
        assert.strictEqual((yield* Effect.flip(policy(accrual))).option, option)
        const both = AccrualPolicy.orElse(AccrualPolicy.defaultPolicy, accrual)
        assert.strictEqual((yield* Effect.flip(policy(both))).option, option)
      }
    }))
})
