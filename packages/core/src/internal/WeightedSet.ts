/**
 * Members to be drawn at random, each as often as its weight says. Adding, removing, reweighing and drawing cost the logarithm of
 * the size; while all weights are equal a draw costs one multiplication.
 */
import type { Member } from "../Balancer.ts"

/** `member.index` is where each stands in `members`. */
export class WeightedSet {
  readonly members: Array<Member> = []
  readonly #random: () => number
  #capacity = 1
  /**
   * A binary tree: node `i` is the sum of `2i` and `2i + 1`, the weights begin at the capacity. Sums are made anew from below,
   * never added to and taken from, so that they do not drift.
   */
  #sums = new Float64Array(2)
  /** How many members have each weight. */
  readonly #weights = new Map<number, number>()

  /** `random` gives numbers from 0 to 1, without 1. */
  constructor(random: () => number) {
    this.#random = random
  }

  get size(): number {
    return this.members.length
  }

  /** The mean weight. */
  get mean(): number {
    return this.#sums[1]! / this.members.length
  }

  has(member: Member): boolean {
    return this.members[member.index] === member
  }

  add(member: Member): void {
    if (this.members.length === this.#capacity) this.#grow()
    member.index = this.members.push(member) - 1
    this.#setWeight(member.index, member.endpoint.weight)
  }

  remove(member: Member): void {
    const index = member.index
    const last = this.members.pop()!
    if (last !== member) {
      this.members[index] = last
      last.index = index
      this.#setWeight(index, this.#sums[this.#capacity + this.members.length]!)
    }
    this.#setWeight(this.members.length, 0)
    member.index = -1
  }

  /** Takes the member's weight as it is now. */
  reweigh(member: Member): void {
    this.#setWeight(member.index, member.endpoint.weight)
  }

  /** Where a member stands that was drawn. There must be one. */
  draw(): number {
    const size = this.members.length
    return this.#weights.size === 1 ? Math.floor(this.#random() * size) : this.#drawByWeight()
  }

  /** Where another stands than the one at `index`, drawn in the same way. There must be two. */
  drawOther(index: number): number {
    const size = this.members.length
    if (this.#weights.size === 1) {
      const other = Math.floor(this.#random() * (size - 1))
      return other < index ? other : other + 1
    }
    const weight = this.#sums[this.#capacity + index]!
    this.#setSum(index, 0)
    const other = this.#drawByWeight()
    this.#setSum(index, weight)
    return other === index ? (index + 1) % size : other
  }

  #drawByWeight(): number {
    let left = this.#random() * this.#sums[1]!
    let node = 1
    while (node < this.#capacity) {
      node *= 2
      const sum = this.#sums[node]!
      if (left < sum) continue
      left -= sum
      node++
    }
    // Rounding may lead past the last one.
    return Math.min(node - this.#capacity, this.members.length - 1)
  }

  #setWeight(index: number, weight: number): void {
    const old = this.#sums[this.#capacity + index]!
    if (old === weight) return
    if (old > 0) {
      const others = this.#weights.get(old)! - 1
      if (others > 0) this.#weights.set(old, others)
      else this.#weights.delete(old)
    }
    if (weight > 0) this.#weights.set(weight, (this.#weights.get(weight) ?? 0) + 1)
    this.#setSum(index, weight)
  }

  #setSum(index: number, weight: number): void {
    const sums = this.#sums
    let node = this.#capacity + index
    sums[node] = weight
    while (node > 1) {
      node >>= 1
      sums[node] = sums[2 * node]! + sums[2 * node + 1]!
    }
  }

  #grow(): void {
    const old = this.#sums.subarray(this.#capacity)
    this.#capacity *= 2
    const sums = this.#sums = new Float64Array(2 * this.#capacity)
    sums.set(old, this.#capacity)
    for (let node = this.#capacity - 1; node > 0; node--) sums[node] = sums[2 * node]! + sums[2 * node + 1]!
  }
}
