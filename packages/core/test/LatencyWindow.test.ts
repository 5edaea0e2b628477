import { assert, describe, it } from "@effect/vitest"
import { highestMillis, LatencyWindow } from "../src/internal/LatencyWindow.ts"
import { Ema } from "../src/internal/Ema.ts"
import { seeded } from "./support.ts"

/** A window on a clock that the test drives. */
const windowOf = () => {
  const clock = { now: 1_234 }
  const startedAt = clock.now
  const window = new LatencyWindow(() => clock.now)
  const at = (millis: number) => {
    clock.now = startedAt + millis
  }
  return { at, window }
}

/** The exact one, by nearest rank. */
const exact = (values: ReadonlyArray<number>, share: number): number =>
  values.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(share * values.length - 1e-9 * values.length) - 1)]!

describe("a window of latencies", () => {
  it("knows no percentile before its first bucket of 10 seconds is full", () => {
    const { at, window } = windowOf()
    window.add(5)
    at(9_999)
    window.add(5)
    assert.isUndefined(window.percentile(0.5))
    at(10_000)
    assert.strictEqual(window.percentile(0.5), 5)
  })

  it("counts the last three full buckets, and forgets the one before", () => {
    const { at, window } = windowOf()
    for (const [second, millis] of [[0, 100], [10, 1], [20, 1], [30, 1]] as const) {
      at(second * 1_000)
      for (let i = 0; i < 10; i++) window.add(millis)
    }
    // Full: 0 to 30. The one that fills does not count.
    assert.strictEqual(window.percentile(1), 100)
    assert.strictEqual(window.percentile(0.66), 1)
    at(39_999)
    assert.strictEqual(window.percentile(1), 100)
    at(40_000)
    assert.strictEqual(window.percentile(1), 1)
  })

  it("knows nothing when all of it has aged, however long nobody looked", () => {
    for (const millis of [40_000, 45_000, 50_000, 1_000_000]) {
      const { at, window } = windowOf()
      window.add(7)
      at(millis)
      assert.isUndefined(window.percentile(0.5), `after ${millis} ms`)
      window.add(9)
      at(millis + 10_000)
      assert.strictEqual(window.percentile(0.5), 9)
    }
  })

  it("is not put out by a clock that was set back", () => {
    const { at, window } = windowOf()
    at(10_000)
    window.add(3)
    at(0)
    window.add(3)
    at(20_000)
    assert.strictEqual(window.percentile(1), 3)
  })

  it("is exact below 128 ms, and reads at most 1/64 too high up to 2 s", () => {
    for (let millis = 0; millis <= highestMillis; millis++) {
      const { at, window } = windowOf()
      window.add(millis)
      at(10_000)
      const read = window.percentile(0.5)!
      if (millis < 128) assert.strictEqual(read, millis)
      else if (read < millis || read > millis * (1 + 1 / 64) || read > highestMillis) assert.fail(`${millis}: ${read}`)
    }
  })

  it("takes what is longer than 2 s as 2 s, parts of a millisecond as whole ones, and less than nothing as nothing", () => {
    for (const [millis, read] of [[2_001, 2_000], [1e9, 2_000], [0.2, 1], [4.5, 5], [-3, 0]] as const) {
      const { at, window } = windowOf()
      window.add(millis)
      at(10_000)
      assert.strictEqual(window.percentile(0.5), read)
    }
  })

  it("loses no rank to a share that is no exact number", () => {
    const { at, window } = windowOf()
    for (let millis = 1; millis <= 100; millis++) window.add(millis)
    at(10_000)
    for (let percent = 1; percent <= 100; percent++) {
      assert.strictEqual(window.percentile(percent / 100), percent)
      assert.strictEqual(window.percentile(1 - (100 - percent) / 100), percent)
    }
    assert.strictEqual(window.percentile(0), 1)
  })

  it("gives the exact percentile, to 1/64, of any latencies", () => {
    for (let seed = 1; seed <= 300; seed++) {
      const random = seeded(seed)
      const { at, window } = windowOf()
      const counted: Array<number> = []
      const size = 1 + Math.floor(random() * 400)
      const most = [3, 50, 500, 2_000][seed % 4]!
      for (let i = 0; i < size; i++) {
        at(10_000 + Math.floor(random() * 10_000) + 10_000 * Math.floor((3 * i) / size))
        const millis = Math.floor(random() ** 3 * most)
        counted.push(millis)
        window.add(millis)
      }
      at(40_000)
      // The last bucket may have been begun late by another: all of them count at 40 s.
      for (const share of [0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1, random()]) {
        const truth = exact(counted, share)
        const read = window.percentile(share)!
        if (read < truth || read > truth * (1 + 1 / 64)) {
          assert.fail(`seed ${seed}: percentile ${share} of ${size} is ${truth}, read ${read}`)
        }
      }
    }
  })
})

describe("a moving average", () => {
  it("keeps 1/e of what it was after its window", () => {
    const ema = new Ema(1_000, 0, 1)
    ema.update(1_000, 0)
    assert.approximately(ema.value, Math.exp(-1), 1e-12)
    ema.update(3_000, 1)
    assert.approximately(ema.value, 1 - Math.exp(-2) + Math.exp(-3), 1e-12)
  })

  it("counts alike what comes at one time, in whatever order", () => {
    const one = new Ema(1_000, 0, 1)
    const other = new Ema(1_000, 0, 1)
    for (const value of [0, 1, 1, 1]) one.update(500, value)
    for (const value of [1, 1, 0, 1]) other.update(500, value)
    assert.approximately(one.value, Math.exp(-0.5) + 0.75 * (1 - Math.exp(-0.5)), 1e-12)
    assert.approximately(other.value, one.value, 1e-12)
  })

  it("is what it began with until time has passed", () => {
    const ema = new Ema(1_000, 50, 1)
    for (let i = 0; i < 10; i++) ema.update(50, 0)
    assert.strictEqual(ema.value, 1)
    ema.update(40, 0)
    assert.strictEqual(ema.value, 1)
  })
})
