/**
 * Two choices compared by expected latency: how long each has taken lately, times the calls it would have. The average jumps to a
 * slow reply at once and comes down over the decay time, also while nothing is sent, so that a slow one is tried again.
 */
import type { Member, Picker } from "../Balancer.ts"
import type { Outcome } from "../Call.ts"
import { P2CPicker } from "./P2CPicker.ts"

/** What is known of how long a member takes. */
interface Latency {
  /** Milliseconds at `at`; 0: no attempt has ended yet. */
  millis: number
  at: number
  /** It has replied: `millis` is no mere lower bound. */
  replied: boolean
}

/** The least that a clock of whole milliseconds can tell. */
const leastMillis = 1

/** More than any latency: what one costs that was sent a call and has never replied. 2^40 ms are 35 years. */
const penalty = 2 ** 40

/** `member.own` is its latency, kept when it leaves and comes back with calls on it. */
const latencyOf = (member: Member): Latency => member.own ??= { millis: 0, at: 0, replied: false }

/** A pick reads the clock once. */
export class PeakEwmaPicker implements Picker {
  readonly #now: () => number
  readonly #decayMillis: number
  readonly #p2c: P2CPicker
  readonly add: Picker["add"]
  readonly remove: Picker["remove"]
  readonly changed: Picker["changed"]
  readonly began: Picker["began"]
  readonly pick: Picker["pick"]

  /** `random` gives numbers from 0 to 1, without 1; `now` milliseconds; `decayMillis` is above 0. */
  constructor(random: () => number, now: () => number, decayMillis: number) {
    this.#now = now
    this.#decayMillis = decayMillis
    this.#p2c = new P2CPicker(random, this.#cheaper)
    this.add = this.#p2c.add
    this.remove = this.#p2c.remove
    this.changed = this.#p2c.changed
    this.began = this.#p2c.began
    this.pick = this.#p2c.pick
  }

  /**
   * A reply counts whichever way it goes. An attempt that ended in another way says only that a reply takes longer than this, so it
   * never lowers the average; and a failure takes back what the average came down since it was last seen, or an endpoint
   * that fails at once would become the most attractive of all.
   */
  readonly ended = (member: Member, outcome: Outcome, millis: number): void => {
    const latency = latencyOf(member)
    const now = this.#now()
    const took = Math.max(leastMillis, millis)
    if (outcome === "success") {
      latency.millis = took + Math.max(0, latency.millis - took) * this.#left(latency, now)
      latency.replied = true
    } else if (outcome === "ignored") {
      if (took <= this.#read(latency, now)) return
      latency.millis = took
    } else {
      latency.millis = Math.max(took, latency.millis)
    }
    latency.at = now
  }

  readonly view = (member: Member): { readonly latencyMillis?: number } => {
    const latency = latencyOf(member)
    return latency.replied ? { latencyMillis: this.#read(latency, this.#now()) } : {}
  }

  readonly #cheaper = (first: Member, second: Member, mean: number): Member => {
    const now = this.#now()
    const a = latencyOf(first)
    const b = latencyOf(second)
    const x = this.#read(a, now)
    let y = this.#read(b, now)
    // One that only ever failed is taken to be no faster than the other, so that it wins when it was drawn first; one that nothing
    // is known of is worth a call.
    if (!b.replied && y > 0) y = Math.max(x, y)
    return cost(first, a, x, mean) <= cost(second, b, y, mean) ? first : second
  }

  /** The average now, 0 when nothing is known. */
  #read(latency: Latency, now: number): number {
    return latency.millis === 0 ? 0 : Math.max(leastMillis, latency.millis * this.#left(latency, now))
  }

  /** What is left of an average since it was last seen. A clock that was set back takes nothing off. */
  #left({ at }: Latency, now: number): number {
    return now <= at ? 1 : Math.exp((at - now) / this.#decayMillis)
  }
}

/**
 * Load counts against weight as in `lessLoaded`: idle ones of equal latency cost the same, since they were drawn by weight. With
 * equal weights this is latency times load and one.
 */
const cost = ({ endpoint, load }: Member, { replied }: Latency, millis: number, mean: number): number => {
  const share = load * mean / endpoint.weight
  return !replied && load > 0 ? penalty + share : millis * (share + 1)
}
