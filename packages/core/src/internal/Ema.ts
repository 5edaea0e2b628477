/** An exponential moving average over time: what was observed counts less the longer ago it was. */

/** `windowMillis` is the mean lifetime of an observation: after it, 1/e of its weight is left. */
export class Ema {
  readonly #windowMillis: number
  #at: number
  /** The average before what was observed at `#at`, and how much of it is left. */
  #before: number
  #kept = 1
  /** What was observed at `#at`: a clock of milliseconds gives many the same time, and they count alike. */
  #sum: number
  #count = 1

  /** Begins with `value`, observed at `at` in milliseconds. */
  constructor(windowMillis: number, at: number, value: number) {
    this.#windowMillis = windowMillis
    this.#at = at
    this.#before = value
    this.#sum = value
  }

  /** The average as of the last observation: it does not move by itself. */
  get value(): number {
    return this.#before * this.#kept + (this.#sum / this.#count) * (1 - this.#kept)
  }

  /** Notes `value` at `at`. A clock that was set back is taken to have stood still. */
  update(at: number, value: number): void {
    if (at === this.#at) {
      this.#sum += value
      this.#count++
      return
    }
    this.#before = this.value
    this.#kept = Math.exp(-Math.max(0, at - this.#at) / this.#windowMillis)
    this.#at = at
    this.#sum = value
    this.#count = 1
  }
}
