/**
 * An exponentially weighted moving average over time, of a value that is told whenever it changes: one that held for a window has 63
 * percent of the weight. Of several changes in one millisecond the first counts, so that a burst counts for as long as it lasts.
 */
export class MovingAverage {
  /** The average. */
  value = 0
  readonly #window: number
  #at: number

  /** Of the last `window` milliseconds, from `now` on; with 0 it is the newest value. */
  constructor(window: number, now: number) {
    this.#window = window
    this.#at = now
  }

  /** The value is `next` at `now`; the average, which moves towards it by 1 - exp(-passed / window). */
  update(next: number, now: number): number {
    if (this.#window === 0) return this.value = next
    const passed = now - this.#at
    // Most events of a busy client share their millisecond with one before: they cost no exponential. A clock may be set back.
    if (passed > 0) this.value += (next - this.value) * (1 - Math.exp(-passed / this.#window))
    if (passed !== 0) this.#at = now
    return this.value
  }
}
