/** Quantiles within 1 %, exact counts, and a window that forgets. */
import { assert, describe, it } from "@effect/vitest"
import { LatencyHistogram } from "@scales-rpc/core"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { boundaries, longBoundaries, quantiles } from "../src/LatencyHistogram.ts"

/** Numbers from 0 to 1 that repeat with the seed (mulberry32). */
const randomOf = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
}

/** How latencies come about. */
const distributions: Readonly<Record<string, (random: () => number) => number>> = {
  uniform: (random) => 0.05 + random() * 20,
  exponential: (random) => 0.01 - 5 * Math.log(1 - random()),
  "log-normal over six decades": (random) => 10 ** (-2 + 6 * random()),
  "a few microseconds": (random) => 0.002 + random() * 0.01,
  "two modes, a thousand times apart": (random) => random() < 0.99 ? 1 + random() : 1000 + 100 * random(),
  "whole milliseconds": (random) => 1 + Math.floor(random() * 100)
}

/** The latency that `share` of all are no longer than. */
const exactly = (sorted: ReadonlyArray<number>, share: number) =>
  sorted[Math.max(1, Math.ceil(share * sorted.length)) - 1]!

describe("LatencyHistogram", () => {
  for (const [name, draw] of Object.entries(distributions)) {
    it(`gives p50 to p9999 of ${name} within 1 %`, () => {
      for (const seed of [1, 2, 3, 4, 5]) {
        const random = randomOf(seed)
        const histogram = new LatencyHistogram(0)
        const drawn: Array<number> = []
        for (let i = 0; i < 20_000; i++) {
          const millis = draw(random)
          drawn.push(millis)
          histogram.record(millis, 0)
        }
        drawn.sort((a, b) => a - b)
        for (const [share, found] of histogram.quantiles(quantiles, 0)) {
          const exact = exactly(drawn, share)
          assert.isAtMost(
            Math.abs(found! - exact) / exact,
            0.01,
            `p${share} with seed ${seed}: ${found}, exactly ${exact}`
          )
        }
      }
    })

    it(`counts ${name} exactly in the buckets that are exported`, () => {
      const random = randomOf(6)
      const histogram = new LatencyHistogram(0)
      const drawn = Array.from({ length: 5000 }, () => draw(random))
      // Over more time than the window holds: what has fallen out of it still counts.
      drawn.forEach((millis, i) => histogram.record(millis, i * 50))
      assert.deepStrictEqual(
        histogram.buckets,
        boundaries.map((boundary) => [boundary, drawn.filter((millis) => millis <= boundary).length])
      )
      const { count, max, min, sum } = histogram.totals
      assert.deepStrictEqual([count, min, max], [5000, Math.min(...drawn), Math.max(...drawn)])
      assert.closeTo(sum, drawn.reduce((a, b) => a + b, 0), 1e-6 * sum)
    })
  }

  it("counts a latency that is a bucket's edge in that bucket, and what is longer in the next", () => {
    for (const [i, boundary] of boundaries.entries()) {
      const histogram = new LatencyHistogram(0)
      histogram.record(boundary, 0)
      histogram.record(boundary * (1 + 2 ** -52), 0)
      assert.strictEqual(histogram.buckets[i]![1], 1, `${boundary}`)
      assert.strictEqual(histogram.buckets[i - 1]?.[1] ?? 0, 0)
      if (i + 1 < boundaries.length) assert.strictEqual(histogram.buckets[i + 1]![1], 2)
    }
  })

  it("takes latencies from nothing to beyond its range", () => {
    const histogram = new LatencyHistogram(0)
    for (const millis of [0, Number.MIN_VALUE, 2 ** -11, 2 ** 22, 1e12]) histogram.record(millis, 0)
    assert.strictEqual(histogram.totals.count, 5)
    assert.strictEqual(histogram.buckets[0]![1], 3)
    const [[, shortest], [, longest]] = histogram.quantiles([0, 1], 0) as [[number, number], [number, number]]
    assert.isAtMost(shortest, 2 ** -10 * 1.01)
    assert.isAtLeast(longest, 2 ** 21)
  })

  it("counts what is longer than the last bucket in none, whichever the buckets are", () => {
    const histogram = new LatencyHistogram(0)
    const longest = longBoundaries.at(-1)!
    for (const millis of [1, longest, longest * (1 + 2 ** -52), 2 * longest, 1e12, Infinity]) {
      histogram.record(millis, 0)
    }
    assert.deepStrictEqual(histogram.bucketsOf(longBoundaries).at(-1), [longest, 2])
    assert.deepStrictEqual(histogram.buckets.at(-1), [65_536, 1])
    assert.strictEqual(histogram.totals.count, 6)
    assert.strictEqual(histogram.windowCount(0), 6)
  })

  it("takes at most 20 kB with latencies over a factor of a thousand in all of its window, and little a minute later", async () => {
    setFlagsFromString("--expose-gc")
    const collect = runInNewContext("gc") as () => void
    const instances = 400
    const used = async () => {
      for (let i = 0; i < 3; i++) {
        collect()
        await new Promise((resume) => setTimeout(resume, 20))
      }
      const { external, heapUsed } = process.memoryUsage()
      return heapUsed + external
    }
    const filled = () =>
      Array.from({ length: instances }, () => {
        const histogram = new LatencyHistogram(0)
        for (let second = 0; second < 60; second++) {
          for (let i = 0; i < 40; i++) histogram.record(1.01 * 1000 ** (i / 39), second * 1000)
        }
        return histogram
      })
    const first = filled()
    const before = await used()
    const second = filled()
    const bytes = (await used() - before) / instances
    assert.isAtMost(bytes, 20_000)
    // What was allocated is what is measured.
    assert.isAtLeast(bytes, 5000)
    for (const histogram of second) histogram.record(1.5, 120_000)
    const later = (await used() - before) / instances
    assert.isAtMost(later, 4000)
    assert.lengthOf([...first, ...second], 2 * instances)
  })

  it("has no quantiles before the first, and never one outside of what it was given", () => {
    const histogram = new LatencyHistogram(0)
    assert.deepStrictEqual(histogram.quantiles([0.5, 1], 0), [[0.5, undefined], [1, undefined]])
    assert.deepStrictEqual(histogram.totals, { count: 0, sum: 0, min: 0, max: 0 })
    histogram.record(7, 0)
    assert.deepStrictEqual(histogram.quantiles([0, 0.5, 1], 0), [[0, 7], [0.5, 7], [1, 7]])
  })

  it("forgets what is older than a minute, and nothing younger than 50 seconds", () => {
    const histogram = new LatencyHistogram(0)
    for (let second = 0; second < 300; second++) {
      histogram.record(second + 1, second * 1000)
      const now = second * 1000
      const [[, oldest]] = histogram.quantiles([0], now) as [[number, number]]
      const age = second - (oldest - 1)
      assert.isAtMost(age, 60.5 * 1.01, `at ${second} s`)
      if (second >= 60) assert.isAtLeast(age, 49 - 3, `at ${second} s`)
    }
    assert.strictEqual(histogram.totals.count, 300)
  })

  it("is empty after a minute without calls, and after a year; what was counted stays counted", () => {
    for (const later of [60_000, 61_234, 366 * 86_400_000]) {
      const histogram = new LatencyHistogram(1000)
      histogram.record(5, 1000)
      assert.deepStrictEqual(histogram.quantiles([0.5], 1000 + later), [[0.5, undefined]])
      assert.strictEqual(histogram.windowCount(1000 + later), 0)
      assert.strictEqual(histogram.totals.count, 1)
      assert.strictEqual(histogram.buckets.at(-1)![1], 1)
      histogram.record(6, 1000 + later)
      const [[, median]] = histogram.quantiles([0.5], 1000 + later) as [[number, number]]
      assert.closeTo(median, 6, 0.06)
    }
  })
})
