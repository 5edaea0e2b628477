/** A queue, first in, first out, whose both ends cost the same however long it is. */

/** Below so many places that were left, they are not worth a copy. */
const leastGap = 64

/** The queue. */
export class Fifo<A> {
  #items: Array<A | undefined> = []
  #first = 0

  get length(): number {
    return this.#items.length - this.#first
  }

  /** The one that is next; `undefined` when there is none. */
  get head(): A | undefined {
    return this.#items[this.#first]
  }

  push(item: A): void {
    this.#items.push(item)
  }

  /** Takes the next one out. */
  shift(): A | undefined {
    const { head } = this
    if (head === undefined) return undefined
    this.#items[this.#first++] = undefined
    if (this.#first === this.#items.length) this.clear()
    else if (this.#first > leastGap && this.#first * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#first)
      this.#first = 0
    }
    return head
  }

  clear(): void {
    this.#items = []
    this.#first = 0
  }

  /** Those that wait, in order. */
  *[Symbol.iterator](): Iterator<A> {
    for (let at = this.#first; at < this.#items.length; at++) yield this.#items[at]!
  }
}
