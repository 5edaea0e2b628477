/**
 * Latencies counted in cells: any quantile within 1 % over a sliding window, and exact counts since the beginning in buckets that double.
 *
 * A latency's cell is the top of its bits as a double: exponent and six bits of the mantissa, so each octave from 2^-10 ms (about 1 us) to 2^22 ms
 * (about 70 minutes) has 64 cells, none wider than 1/64 of what it holds. Noting one costs an increment; octaves that nothing falls into take no memory.
 */

/** Cells of an octave. */
const cells = 64
/** The shortest latency told apart, 2^-10 ms; what is shorter counts as this. */
const shortest = 2 ** -10
/** Octaves told apart. */
const octaves = 32
/** The exponent of the shortest as a double has it, in cells. */
const offset = (1023 - 10) * cells

const double = new Float64Array(1)
const words = new Uint32Array(double.buffer)
const little = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1 ? 1 : 0

/** The cell that holds `millis`, from 0: each holds what is longer than its lower edge and no longer than its upper. Those from `octaves` on are beyond. */
const cellOf = (millis: number): number => {
  if (!(millis > shortest)) return 0
  double[0] = millis
  // A cell includes its upper edge, as a bucket's `le` does: one unit in the last place less.
  const high = words[little]! - (words[1 - little] === 0 ? 1 : 0)
  return (high >>> 14) - offset
}

/** The middle of a cell, in milliseconds. */
const middleOf = (cell: number): number => {
  const octave = shortest * 2 ** Math.floor(cell / cells)
  return octave + octave * ((cell % cells) + 0.5) / cells
}

/** The upper edges of the buckets that are exported, in milliseconds: each is twice the one before, 1/16 ms to about a minute. */
export const boundaries: ReadonlyArray<number> = Array.from({ length: 21 }, (_, i) => 2 ** (i - 4))

/** The same for what takes longer than a call, such as an outage: each is four times the one before, 1 ms to about 70 minutes. */
export const longBoundaries: ReadonlyArray<number> = Array.from({ length: 12 }, (_, i) => 4 ** i)

/** The quantiles that are exported. */
export const quantiles: ReadonlyArray<number> = [0.5, 0.9, 0.95, 0.99, 0.999, 0.9999]

/** How the window is cut: what is older than `slices` times `sliceMillis` falls out of it a slice at a time. */
const slices = 6
const sliceMillis = 10_000

/** What was counted since the beginning. */
export interface Totals {
  readonly count: number
  /** Of all of them, in milliseconds. */
  readonly sum: number
  /** The shortest; 0 before the first. */
  readonly min: number
  /** The longest; 0 before the first. */
  readonly max: number
}

/** Latencies of one kind of calls. The window is the last 50 to 60 seconds. */
export class LatencyHistogram {
  /** Since the beginning, by octave; the last is for what is longer than all of them. */
  readonly #octaves = Array.from({ length: octaves + 1 }, () => 0)
  /** The window, by octave: the cells of each slice in turn. */
  readonly #pages: Array<Uint32Array | undefined> = Array.from<Uint32Array | undefined>({ length: octaves })
  /** Where the cells of the newest slice begin. */
  #newest = 0
  /** When the newest slice is full. */
  #until: number
  #count = 0
  #sum = 0
  #min = Infinity
  #max = 0

  /** `now` in milliseconds of any clock that does not go back; the others are given times of the same. */
  constructor(now: number) {
    this.#until = now + sliceMillis
  }

  /** Notes one. */
  record(millis: number, now: number): void {
    if (now >= this.#until) this.#turn(now)
    let cell = cellOf(millis)
    if (cell < octaves * cells) this.#octaves[cell >>> 6]!++
    else {
      this.#octaves[octaves]!++
      cell = octaves * cells - 1
    }
    const page = this.#pages[cell >>> 6] ??= new Uint32Array(slices * cells)
    page[this.#newest + (cell & 63)]!++
    this.#count++
    this.#sum += millis
    if (millis < this.#min) this.#min = millis
    if (millis > this.#max) this.#max = millis
  }

  /** Since the beginning. */
  get totals(): Totals {
    return { count: this.#count, sum: this.#sum, min: this.#count === 0 ? 0 : this.#min, max: this.#max }
  }

  /** How many were at most as long as each of `boundaries`, since the beginning; exact. */
  get buckets(): ReadonlyArray<[boundary: number, count: number]> {
    return this.bucketsOf(boundaries)
  }

  /** The same for other edges: powers of two, in their order. */
  bucketsOf(edges: ReadonlyArray<number>): ReadonlyArray<[boundary: number, count: number]> {
    let count = 0
    let octave = 0
    return edges.map((boundary) => {
      for (; octave < octaves && shortest * 2 ** (octave + 1) <= boundary; octave++) count += this.#octaves[octave]!
      return [boundary, count]
    })
  }

  /** How many the window holds. */
  windowCount(now: number): number {
    return this.#quantilesAt(now, [])[1]
  }

  /** The latencies that the given shares of the window are no longer than, within 1 %; `undefined` when it is empty. */
  quantiles(
    shares: ReadonlyArray<number>,
    now: number
  ): ReadonlyArray<readonly [share: number, millis: number | undefined]> {
    return this.#quantilesAt(now, shares)[0]
  }

  #quantilesAt(
    now: number,
    shares: ReadonlyArray<number>
  ): [quantiles: ReadonlyArray<readonly [number, number | undefined]>, count: number] {
    if (now >= this.#until) this.#turn(now)
    let total = 0
    for (const page of this.#pages) for (const count of page ?? []) total += count
    const wanted = shares.map((share) => Math.max(1, Math.ceil(share * total)))
    const found: Array<readonly [number, number | undefined]> = shares.map((share) => [share, undefined])
    if (total === 0) return [found, 0]
    let below = 0
    for (let cell = 0; cell < octaves * cells; cell++) {
      const page = this.#pages[cell >>> 6]
      if (page === undefined) continue
      let count = 0
      for (let at = cell & 63; at < page.length; at += cells) count += page[at]!
      if (count === 0) continue
      for (let i = 0; i < wanted.length; i++) {
        if (wanted[i]! > below && wanted[i]! <= below + count) {
          // Never outside of what was seen.
          found[i] = [shares[i]!, Math.min(Math.max(middleOf(cell), this.#min), this.#max)]
        }
      }
      below += count
    }
    return [found, total]
  }

  /** Begins a slice in place of the oldest, and lets go of octaves that have nothing in the window any more. */
  #turn(now: number): void {
    const passed = Math.floor((now - this.#until) / sliceMillis) + 1
    this.#until += passed * sliceMillis
    for (let i = 0; i < Math.min(passed, slices); i++) {
      this.#newest = (this.#newest + cells) % (slices * cells)
      for (const page of this.#pages) page?.fill(0, this.#newest, this.#newest + cells)
    }
    this.#pages.forEach((page, octave) => {
      if (page?.every((count) => count === 0)) this.#pages[octave] = undefined
    })
  }
}
