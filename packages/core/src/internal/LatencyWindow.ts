/**
 * Latencies of the last while, for percentiles: Finagle's `WindowedPercentileHistogram`. Three buckets of 10 seconds; one counts once
 * it is full, so a percentile is of 10 to 30 seconds that have passed. Turned by the clock when it is used: no fiber, no timer.
 *
 * A bucket is a histogram of whole milliseconds: exact below 128, and from there each power of two is cut in 64, so that what is
 * read is at most 1/64 (1.6 %) above what was noted, and never below.
 */

/** More than this is noted as this, in milliseconds. */
export const highestMillis = 2000

const buckets = 3
const bucketMillis = 10_000

/** The cell of a latency of whole milliseconds. */
const cellOf = (millis: number): number => {
  const shift = Math.max(0, 25 - Math.clz32(millis))
  return shift * 64 + (millis >> shift)
}

/** The highest latency of a cell. */
const highestOf = (cell: number): number => {
  const shift = Math.max(0, (cell >> 6) - 1)
  return ((cell - shift * 64 + 1) << shift) - 1
}

const cells = cellOf(highestMillis) + 1

/** A window over the stack's clock. */
export class LatencyWindow {
  readonly #now: () => number
  readonly #startedAt: number
  /** The full buckets and the one that fills, as a ring. */
  readonly #ring: ReadonlyArray<Uint32Array> = Array.from({ length: buckets + 1 }, () => new Uint32Array(cells))
  /** The number of the bucket that fills. */
  #filling = 0

  /** `now` reads milliseconds. */
  constructor(now: () => number) {
    this.#now = now
    this.#startedAt = now()
  }

  /** Notes a latency. */
  add(millis: number): void {
    this.#turn()
    this.#ring[this.#filling % this.#ring.length]![
      cellOf(Math.min(highestMillis, Math.max(0, Math.ceil(millis))))
    ]!++
  }

  /**
   * The latency that a share (0 to 1) of those in the full buckets did not exceed, by nearest rank and at most 1/64 too high;
   * `undefined` when there are none.
   */
  percentile(share: number): number | undefined {
    this.#turn()
    const filling = this.#ring[this.#filling % this.#ring.length]
    const sums = new Float64Array(cells)
    let total = 0
    for (const bucket of this.#ring) {
      if (bucket === filling) continue
      for (let cell = 0; cell < cells; cell++) {
        sums[cell]! += bucket[cell]!
        total += bucket[cell]!
      }
    }
    if (total === 0) return undefined
    // A share such as 1 - 0.3 is a hair above what it should be: it must not cost a rank.
    const rank = Math.max(1, Math.ceil(share * total - 1e-9 * total))
    let seen = 0
    let cell = 0
    while ((seen += sums[cell]!) < rank) cell++
    return Math.min(highestMillis, highestOf(cell))
  }

  /** Begins the bucket of now, and empties those that have aged. */
  #turn(): void {
    const current = Math.floor((this.#now() - this.#startedAt) / bucketMillis)
    if (current <= this.#filling) return
    const { length } = this.#ring
    for (let next = Math.max(this.#filling + 1, current - length + 1); next <= current; next++) {
      this.#ring[next % length]!.fill(0)
    }
    this.#filling = current
  }
}
