/** How long calls took, and what that comes to. */

/** Quantiles of the time of a call, in microseconds. */
export interface Latency {
  readonly p50: number
  readonly p99: number
  readonly p999: number
  /** How many calls they are of. */
  readonly calls: number
}

/** Every time that was seen: exact, because what is asked for is at the far end of them. */
export class Latencies {
  #millis = new Float64Array(1 << 16)
  #count = 0

  add(millis: number): void {
    if (this.#count === this.#millis.length) {
      const more = new Float64Array(this.#count * 2)
      more.set(this.#millis)
      this.#millis = more
    }
    this.#millis[this.#count++] = millis
  }

  clear(): void {
    this.#count = 0
  }

  /** Of all that were added, at least one; each quantile is one of them (the nearest rank). */
  quantiles(): Latency {
    const sorted = this.#millis.subarray(0, this.#count).toSorted()
    if (sorted.length === 0) throw new RangeError("no call was timed")
    const at = (share: number) => sorted[Math.ceil(share * sorted.length) - 1]! * 1000
    return { p50: at(0.5), p99: at(0.99), p999: at(0.999), calls: sorted.length }
  }
}
