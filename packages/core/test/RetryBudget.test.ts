import { assert, describe, it } from "@effect/vitest"
import { RetryBudget } from "@scales-rpc/core"
import { Effect } from "effect"
import { seeded } from "./support.ts"

/** A budget on a clock that the test drives. */
const budgetOf = (options?: RetryBudget.RetryBudgetOptions) => {
  const clock = { now: 0 }
  const budget = new RetryBudget.RetryBudget(() => clock.now, options)
  const drain = () => {
    let taken = 0
    while (budget.withdraw()) taken++
    return taken
  }
  return { budget, clock, drain }
}

describe("a retry budget", () => {
  it("has 100 retries at the start: 10 a second for its 10 seconds", () => {
    const { budget, drain } = budgetOf()
    assert.strictEqual(budget.balance, 100)
    assert.strictEqual(drain(), 100)
    assert.strictEqual(budget.balance, 0)
    assert.isFalse(budget.withdraw())
  })

  it("gives one retry for five successes", () => {
    const { budget, drain } = budgetOf({ minRetriesPerSecond: 0 })
    for (let i = 0; i < 4; i++) budget.deposit()
    assert.isFalse(budget.withdraw())
    budget.deposit()
    assert.strictEqual(budget.balance, 1)
    assert.strictEqual(drain(), 1)
  })

  it("allows its share of 10000 successes, to one, whatever the share", () => {
    for (
      const percentCanRetry of [
        0.0001,
        0.001,
        0.01,
        0.1,
        0.2,
        0.25,
        0.33,
        0.5,
        0.66,
        0.75,
        0.8,
        0.9,
        0.99,
        0.999,
        0.9999
      ]
    ) {
      for (const [ttlMillis, minRetriesPerSecond] of [[60_000, 0], [10_000, 10], [1_000, 3]] as const) {
        const { budget, drain } = budgetOf({ ttlMillis, minRetriesPerSecond, percentCanRetry })
        for (let i = 0; i < 10_000; i++) budget.deposit()
        const expected = 10_000 * percentCanRetry + (ttlMillis / 1_000) * minRetriesPerSecond
        assert.approximately(
          drain(),
          expected,
          1,
          `${percentCanRetry} of ${ttlMillis} ms, ${minRetriesPerSecond} a second`
        )
      }
    }
  })

  it("allows more retries than successes when its share is above 1", () => {
    for (const [percentCanRetry, expected] of [[2, 20_000], [10, 100_000], [1_000, 10_000_000]] as const) {
      const { budget } = budgetOf({ minRetriesPerSecond: 0, percentCanRetry })
      for (let i = 0; i < 10_000; i++) budget.deposit()
      assert.strictEqual(budget.balance, expected)
    }
  })

  it("allows a mixture of successes and retries as they come", () => {
    const { budget, drain } = budgetOf({ minRetriesPerSecond: 0, percentCanRetry: 0.5 })
    let retried = 0
    for (let i = 0; i < 10_000; i++) {
      budget.deposit()
      if (budget.withdraw()) retried++
    }
    assert.strictEqual(retried + drain(), 5_000)
  })

  it("allows the free ones only when its share is 0", () => {
    const { budget, drain } = budgetOf({ minRetriesPerSecond: 5, percentCanRetry: 0 })
    for (let i = 0; i < 10_000; i++) budget.deposit()
    assert.strictEqual(drain(), 50)
  })

  it("allows none when both are 0", () => {
    const { budget, drain } = budgetOf({ minRetriesPerSecond: 0, percentCanRetry: 0 })
    for (let i = 0; i < 100; i++) budget.deposit()
    assert.strictEqual(budget.balance, 0)
    assert.strictEqual(drain(), 0)
  })

  it("forgets successes after its time to live", () => {
    const { budget, clock } = budgetOf({ minRetriesPerSecond: 0, percentCanRetry: 1 })
    for (let i = 0; i < 10; i++) budget.deposit()
    clock.now = 8_999
    assert.strictEqual(budget.balance, 10)
    clock.now = 10_000
    assert.strictEqual(budget.balance, 0)
  })

  it("gives back the free retries after its time to live", () => {
    const { budget, clock, drain } = budgetOf()
    assert.strictEqual(drain(), 100)
    clock.now = 9_999
    assert.strictEqual(budget.balance, 0)
    clock.now = 10_000
    assert.strictEqual(budget.balance, 100)
  })

  it("forgets a tenth of its time to live at a time", () => {
    const { budget, clock } = budgetOf({ minRetriesPerSecond: 0, percentCanRetry: 1 })
    for (let second = 0; second < 10; second++) {
      clock.now = second * 1_000
      for (let i = 0; i <= second; i++) budget.deposit()
    }
    assert.strictEqual(budget.balance, 55)
    for (let second = 10; second < 20; second++) {
      clock.now = second * 1_000
      const left = Array.from({ length: 10 }, (_, i) => i + 1).filter((made) => made > second - 9)
      assert.strictEqual(budget.balance, left.reduce((sum, made) => sum + made, 0), `at ${second} s`)
    }
  })

  it("counts on when the clock was set back", () => {
    const { budget, clock, drain } = budgetOf({ minRetriesPerSecond: 0, percentCanRetry: 1 })
    clock.now = 100_000
    for (let i = 0; i < 3; i++) budget.deposit()
    clock.now = 1_000
    budget.deposit()
    assert.strictEqual(drain(), 4)
    clock.now = 110_000
    assert.strictEqual(budget.balance, 0)
  })

  it("gives a retry only if that, with all others of its time to live, was put in within it or is free", () => {
    for (let seed = 1; seed <= 20; seed++) {
      const random = seeded(seed)
      const options = {
        ttlMillis: 2_000,
        minRetriesPerSecond: 1 + (seed % 3),
        percentCanRetry: 0.25 * (1 + (seed % 6))
      }
      const { budget, clock } = budgetOf(options)
      const events: Array<{ readonly slice: number; readonly retry: boolean }> = []
      for (let step = 0; step < 2_000; step++) {
        const slice = Math.floor(clock.now / 200)
        if (random() < 0.5) {
          budget.deposit()
          events.push({ slice, retry: false })
        } else if (budget.withdraw()) {
          events.push({ slice, retry: true })
          const window = events.filter((event) => event.slice > slice - 10)
          const retries = window.filter(({ retry }) => retry).length
          const given = (window.length - retries) * options.percentCanRetry + 2 * options.minRetriesPerSecond
          // A retry costs whole tokens, of which a thousandth is rounded off at most.
          assert.isAtMost(retries, given * 1.002, `seed ${seed}, step ${step}`)
        }
        if (random() < 0.3) clock.now += Math.floor(random() * 100)
      }
    }
  })

  it("never goes below nothing nor loses count, whatever happens when", () => {
    for (let seed = 1; seed <= 20; seed++) {
      const random = seeded(seed)
      const { budget, clock } = budgetOf({ ttlMillis: 1_000, minRetriesPerSecond: 2, percentCanRetry: 0.5 })
      for (let step = 0; step < 2_000; step++) {
        const dice = random()
        if (dice < 0.5) budget.deposit()
        else if (dice < 0.9) assert.strictEqual(budget.balance > 0, budget.withdraw(), `seed ${seed}, step ${step}`)
        else clock.now += Math.floor(random() * 300)
        assert.isAtLeast(budget.balance, 0)
      }
      clock.now += 1_000
      assert.strictEqual(budget.balance, 2, `seed ${seed}: back to the free ones`)
    }
  })
})

describe("the options of a retry budget", () => {
  it.effect("are checked, and a wrong one is named", () =>
    Effect.gen(function*() {
      const wrong: ReadonlyArray<[RetryBudget.RetryBudgetOptions, option: string]> = [
        [{ ttlMillis: 999 }, "budget.ttlMillis"],
        [{ ttlMillis: 60_001 }, "budget.ttlMillis"],
        [{ ttlMillis: NaN }, "budget.ttlMillis"],
        [{ minRetriesPerSecond: -1 }, "budget.minRetriesPerSecond"],
        [{ minRetriesPerSecond: Infinity }, "budget.minRetriesPerSecond"],
        [{ percentCanRetry: -0.1 }, "budget.percentCanRetry"],
        [{ percentCanRetry: 1_001 }, "budget.percentCanRetry"],
        [{ percentCanRetry: NaN }, "budget.percentCanRetry"]
      ]
      for (const [options, option] of wrong) {
        const error = yield* Effect.flip(RetryBudget.make(() => 0, options))
        assert.strictEqual(error._tag, "InvalidOption")
        assert.strictEqual(error.option, option)
      }
    }))

  it.effect("may be at their bounds", () =>
    Effect.gen(function*() {
      yield* RetryBudget.make(() => 0, { ttlMillis: 1_000, minRetriesPerSecond: 0, percentCanRetry: 0 })
      const budget = yield* RetryBudget.make(() => 0, { ttlMillis: 60_000, percentCanRetry: 1_000 })
      assert.strictEqual(budget.balance, 600)
    }))
})
