/**
 * The books of a test against the registry: each series is compared with what the test counted itself, or said to be such that only a relation can be
 * checked, and why. A series that nobody asked about fails the test.
 */
import { assert } from "@effect/vitest"
import { Effect, Metric } from "effect"

type Attributes = Readonly<Record<string, string>>

/** What is compared of latencies. */
export interface Measured {
  readonly count: number
  /** Of all of them, in milliseconds. */
  readonly sum: number
}

interface Entry {
  readonly name: string
  readonly attributes: Attributes
  readonly state: any
}

/** Attributes that say whose a series is, and its unit. */
const owners = ["client", "server", "unit"]

const entriesOf = (all: ReadonlyArray<Metric.Metric.Snapshot>): ReadonlyArray<Entry> =>
  all.filter(({ id }) => id.startsWith("scales.")).map(({ attributes, id, state }) => ({
    name: id,
    attributes: (attributes ?? {}) as Attributes,
    state
  }))

/** All series of ours as they stand, or those of one owner. */
export const entries = (owner: Attributes = {}): Effect.Effect<ReadonlyArray<Entry>> =>
  Effect.map(Metric.snapshot, (all) => entriesOf(all).filter(({ attributes }) => has(attributes, owner)))

const has = (attributes: Attributes, some: Attributes): boolean =>
  Object.entries(some).every(([key, value]) => attributes[key] === value)

/** Its own attributes, as one word. */
const keyOf = ({ attributes }: Entry, without: Attributes): string =>
  Object.keys(attributes).filter((name) => !owners.includes(name) && !(name in without)).toSorted()
    .map((name) => attributes[name]).join(" ")

const numberOf = ({ name, state }: Entry): number => {
  assert.isTrue("value" in state || "incremental" in state, `${name} is a number`)
  return Number("value" in state ? state.value : state.count)
}

const nonZero = (counts: Readonly<Record<string, number>>) =>
  Object.fromEntries(Object.entries(counts).filter(([, count]) => count !== 0))

/** The books. */
export class Audit {
  readonly #entries: ReadonlyArray<Entry>
  readonly #open: Set<Entry>
  readonly #seed: number
  /** Series of which only a relation was checked, with the reason. */
  readonly relations = new Map<string, string>()
  /** Series that were compared. */
  readonly compared = new Set<string>()

  /** `seed` is said with whatever fails. */
  constructor(entries: ReadonlyArray<Entry>, seed: number) {
    this.#entries = entries
    this.#open = new Set(entries)
    this.#seed = seed
  }

  #take(name: string, where: Attributes): ReadonlyArray<Entry> {
    const found = this.#entries.filter((entry) => entry.name === name && has(entry.attributes, where))
    for (const entry of found) this.#open.delete(entry)
    return found
  }

  #what(name: string, where: Attributes): string {
    return `${name} ${JSON.stringify(where)} (seed ${this.#seed})`
  }

  #byKey(name: string, where: Attributes): Record<string, number> {
    const found: Record<string, number> = {}
    for (const entry of this.#take(name, where)) {
      const key = keyOf(entry, where)
      found[key] = (found[key] ?? 0) + numberOf(entry)
    }
    return found
  }

  /** Numbers are as counted: one, or by the series' own attributes in the order of their names, where one that is not there is 0. */
  equal(name: string, expected: number | Readonly<Record<string, number>>, where: Attributes = {}): void {
    this.compared.add(name)
    const found = this.#byKey(name, where)
    if (typeof expected === "number") {
      assert.isAbove(Object.keys(found).length, 0, `${this.#what(name, where)} is shown`)
      assert.strictEqual(Object.values(found).reduce((sum, each) => sum + each, 0), expected, this.#what(name, where))
    } else assert.deepStrictEqual(nonZero(found), nonZero(expected), this.#what(name, where))
  }

  /** Many numbers of a stage at once. */
  all(prefix: string, expected: Readonly<Record<string, number>>, where: Attributes = {}): void {
    for (const [name, value] of Object.entries(expected)) this.equal(`${prefix}${name}`, value, where)
  }

  /** Only a relation can be checked, because of `why`. */
  relation(name: string, why: string, holds: (value: number) => boolean, where: Attributes = {}): void {
    this.relations.set(name, why)
    const found = this.#byKey(name, where)
    assert.isAbove(Object.keys(found).length, 0, `${this.#what(name, where)} is shown`)
    for (const [key, value] of Object.entries(found)) {
      assert.isTrue(holds(value), `${this.#what(name, where)} ${key}: ${value}; ${why}`)
    }
  }

  /** What is shown, to be used in a relation of others. */
  sum(name: string, where: Attributes = {}): number {
    return Object.values(this.#byKey(name, where)).reduce((sum, each) => sum + each, 0)
  }

  #latencies(name: string, where: Attributes): Record<string, any> {
    const found: Record<string, any> = {}
    for (const entry of this.#take(name, where)) {
      const key = keyOf(entry, where)
      assert.isUndefined(found[key], `${this.#what(name, where)} ${key} is one series`)
      found[key] = entry.state
    }
    return found
  }

  /**
   * A histogram, by its own attributes, has as many as were counted, each of which took as long as the test measured within it, or longer, but not
   * longer than what the test measured around it.
   */
  between(
    name: string,
    within: Readonly<Record<string, Measured>>,
    around: Readonly<Record<string, Measured>>,
    where: Attributes = {}
  ): void {
    this.compared.add(name)
    const found = this.#latencies(name, where)
    const counts = (from: Readonly<Record<string, { readonly count: number }>>) =>
      nonZero(Object.fromEntries(Object.entries(from).map(([key, { count }]) => [key, count])))
    assert.deepStrictEqual(counts(found), counts(around), this.#what(name, where))
    for (const [key, { buckets, count, max, min, sum }] of Object.entries(found)) {
      if (count === 0) continue
      const what = `${this.#what(name, where)} ${key}`
      assert.isAtLeast(sum, (within[key]?.sum ?? 0) - tolerance(sum), what)
      assert.isAtMost(sum, around[key]!.sum + tolerance(sum), what)
      assert.isTrue(min <= sum / count && sum / count <= max + tolerance(max), what)
      if (buckets !== undefined) assert.isAtMost(buckets.at(-1)![1], count, what)
    }
  }

  /** A histogram is exactly of these, in milliseconds: how many, their sum, and each of its buckets. */
  histogram(name: string, expected: Readonly<Record<string, ReadonlyArray<number>>>, where: Attributes = {}): void {
    this.compared.add(name)
    const found = this.#latencies(name, where)
    const keys = Object.keys(expected).filter((key) => expected[key]!.length > 0).toSorted()
    const shown = Object.keys(found).filter((key) => found[key].count > 0).toSorted()
    assert.deepStrictEqual(shown, keys, this.#what(name, where))
    for (const key of keys) {
      const own = expected[key]!
      const what = `${this.#what(name, where)} ${key}`
      const { buckets, count, max, min, sum } = found[key]
      const total = own.reduce((total, each) => total + each, 0)
      assert.strictEqual(count, own.length, what)
      assert.closeTo(sum, total, tolerance(total), what)
      assert.deepStrictEqual([min, max], [Math.min(...own), Math.max(...own)], what)
      assert.deepStrictEqual(
        buckets,
        buckets.map(([edge]: [number]) => [edge, own.filter((each) => each <= edge).length]),
        what
      )
    }
  }

  /** The quantiles of a summary are those of these latencies, within 1 %; all of them are of the last minute. */
  quantiles(name: string, expected: Readonly<Record<string, ReadonlyArray<number>>>, where: Attributes = {}): void {
    this.compared.add(name)
    const found = this.#latencies(name, where)
    for (const [key, own] of Object.entries(expected)) {
      if (own.length === 0) continue
      const what = `${this.#what(name, where)} ${key}`
      const sorted = own.toSorted((a, b) => a - b)
      assert.strictEqual(found[key]?.count, own.length, what)
      for (const [quantile, value] of found[key].quantiles) {
        // Shorter ones than a microsecond are not told apart.
        const exact = sorted[Math.max(0, Math.ceil(quantile * own.length) - 1)]!
        assert.closeTo(value, exact, 0.01 * exact + 0.001, `${what} p${quantile}`)
      }
    }
  }

  /** As many as counted, and of the same quantiles within what was measured around them: those of the test are at least as long. */
  summary(name: string, expected: Readonly<Record<string, ReadonlyArray<number>>>, where: Attributes = {}): void {
    this.compared.add(name)
    const found = this.#latencies(name, where)
    for (const [key, { count, quantiles }] of Object.entries(found)) {
      const own = expected[key] ?? []
      const what = `${this.#what(name, where)} ${key}`
      const sorted = own.toSorted((a, b) => a - b)
      assert.strictEqual(count, own.length, what)
      for (const [quantile, value] of quantiles) {
        if (value === undefined) continue
        const most = sorted[Math.max(0, Math.ceil(quantile * own.length) - 1)]!
        assert.isAtMost(value, most * 1.01 + 0.001, `${what} p${quantile}`)
      }
    }
  }

  /** Nothing is left that was not asked about. */
  done(): void {
    const left = [...this.#open].map(({ attributes, name }) => `${name} ${JSON.stringify(attributes)}`)
    assert.deepStrictEqual(left, [], `neither compared nor said to be only a relation (seed ${this.#seed})`)
  }
}

/** Sums in another order. */
const tolerance = (sum: number): number => 1e-9 * Math.max(1, Math.abs(sum))
