/** The tags of one session: always the smallest that is free, as Finagle's. */
import { maxTag, minTag } from "./Message.ts"

/** A set of tags as a bitmap that grows with the highest one in use. */
export class Tags {
  #words = new Uint32Array(4)
  /** No word below this has a free tag. */
  #from = 0
  #size = 0
  readonly #limit: number

  /** `max` is the highest tag to give out, for tests; 2^23 - 1 otherwise. */
  constructor(max: number = maxTag) {
    this.#limit = max
    this.#words[0] = (1 << minTag) - 1
  }

  /** How many are in use. */
  get size(): number {
    return this.#size
  }

  /** Takes the smallest free tag; -1 when all are taken. */
  take(): number {
    let at = this.#from
    while (at < this.#words.length && this.#words[at] === 0xffffffff) at++
    this.#from = at
    if (at === this.#words.length) {
      const grown = new Uint32Array(2 * at)
      grown.set(this.#words)
      this.#words = grown
    }
    const word = this.#words[at]!
    const bit = 31 - Math.clz32(~word & (word + 1))
    const tag = 32 * at + bit
    if (tag > this.#limit) return -1
    this.#words[at] = (word | (1 << bit)) >>> 0
    this.#size++
    return tag
  }

  /** Gives a tag back. */
  free(tag: number): void {
    const at = tag >>> 5
    this.#words[at] = (this.#words[at]! & ~(1 << (tag & 31))) >>> 0
    if (at < this.#from) this.#from = at
    this.#size--
  }
}
