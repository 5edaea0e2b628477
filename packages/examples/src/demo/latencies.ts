/** Latencies, counted in steps of five percent: percentiles of any number of calls in a constant space. */

/** The shortest that is told apart, in milliseconds. */
const shortest = 0.01
const ratio = Math.log(1.05)
/** Up to half a minute; what takes longer counts as that. */
const steps = 307

/** A histogram. */
export class Latencies {
  count = 0
  readonly #counts = new Uint32Array(steps)

  add(millis: number): void {
    const step = Math.round(Math.log(Math.max(millis, shortest) / shortest) / ratio)
    this.#counts[Math.min(step, steps - 1)]!++
    this.count++
  }

  /** The milliseconds that `share` of the calls, 0 to 1, did not exceed; `undefined` when there are none. */
  percentile(share: number): number | undefined {
    let left = Math.ceil(share * this.count)
    if (left === 0) return undefined
    let step = 0
    while ((left -= this.#counts[step]!) > 0) step++
    return shortest * Math.exp(step * ratio)
  }
}
