/**
 * Members by (rank, load against weight): the best is at the root. A pick, a release and a change of status cost the
 * logarithm of the size; a member that becomes idle goes to a random place among its equals, so that sequential calls spread.
 */
import type { Member, Picker } from "../Balancer.ts"
import type { Endpoint } from "../Endpoint.ts"
import { IndexedHeap } from "./IndexedHeap.ts"

/** Whether `a` is to be picked before `b`. */
const before = (a: Member, b: Member): boolean => {
  if (a.rank !== b.rank) return a.rank < b.rank
  // The load each would have with one call more, per unit of weight.
  return (a.load + 1) * b.endpoint.weight < (b.load + 1) * a.endpoint.weight
}

/** The least loaded first. */
export class Heap implements Picker {
  readonly #heap = new IndexedHeap(before)
  readonly #random: () => number

  /** `random` gives numbers from 0 to 1, without 1. */
  constructor(random: () => number) {
    this.#random = random
  }

  readonly add = (member: Member): void => {
    this.#heap.add(member)
    this.#shuffleIn(member)
  }

  readonly remove = (member: Member): void => {
    this.#heap.remove(member)
  }

  readonly changed = (member: Member): void => {
    this.#heap.fix(member)
  }

  readonly began = (member: Member): void => {
    this.#heap.sink(member)
  }

  readonly ended = (member: Member): void => {
    this.#heap.fix(member)
    if (member.load === 0) this.#shuffleIn(member)
  }

  readonly pick = (tried: ReadonlyArray<Endpoint>): Member | undefined => this.#heap.pick(tried)

  /** Whether every member stands before those below it: for tests. */
  get valid(): boolean {
    return this.#heap.valid
  }

  get size(): number {
    return this.#heap.members.length
  }

  /** Puts a member in a random place that it may stand in, and lets the one it displaced find its own. */
  #shuffleIn(member: Member): void {
    const { members } = this.#heap
    const { index } = member
    const displaced = members[Math.floor(this.#random() * members.length)]!
    if (displaced === member || before(displaced, member)) return
    const equal = !before(member, displaced)
    this.#heap.swap(index, displaced.index)
    // Equals stand as well in the place of the other.
    if (equal) return
    // The displaced one is worse than the member, so it can only sink; then only the member can stand too low.
    this.#heap.fix(displaced)
    this.#heap.fix(member)
  }
}
