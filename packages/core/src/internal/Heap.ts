/**
 * Members by (rank, load against weight): the best is at the root. A pick, a release and a change of status cost the
 * logarithm of the size; a member that becomes idle goes to a random place among its equals, so that sequential calls spread.
 */
import type { Endpoint } from "../Endpoint.ts"
import type { Member, Picker } from "../Balancer.ts"

/** Whether `a` is to be picked before `b`. */
const before = (a: Member, b: Member): boolean => {
  if (a.rank !== b.rank) return a.rank < b.rank
  // The load each would have with one call more, per unit of weight.
  return (a.load + 1) * b.endpoint.weight < (b.load + 1) * a.endpoint.weight
}

/** A binary heap of members, 0-indexed; `member.index` is where each stands. */
export class Heap implements Picker {
  readonly #members: Array<Member> = []
  readonly #random: () => number

  /** `random` gives numbers from 0 to 1, without 1. */
  constructor(random: () => number) {
    this.#random = random
  }

  readonly add = (member: Member): void => {
    member.index = this.#members.push(member) - 1
    this.#shuffleIn(member)
  }

  readonly remove = (member: Member): void => {
    const index = member.index
    const last = this.#members.pop()!
    member.index = -1
    if (last === member) return
    this.#members[index] = last
    last.index = index
    this.#fix(index)
  }

  readonly changed = (member: Member): void => {
    this.#fix(member.index)
  }

  readonly began = (member: Member): void => {
    this.#fix(member.index)
  }

  readonly ended = (member: Member): void => {
    if (member.load === 0) this.#shuffleIn(member)
    else this.#fix(member.index)
  }

  readonly pick = (tried: ReadonlyArray<Endpoint>): Member | undefined => {
    const best = this.#members[0]
    if (best === undefined || tried.length === 0) return best
    // A call that was tried before goes elsewhere when elsewhere is as good. Only such calls look at every member.
    let chosen: Member | undefined
    for (const member of this.#members) {
      if (member.rank !== best.rank || tried.some((endpoint) => endpoint.key === member.endpoint.key)) continue
      if (chosen === undefined || before(member, chosen)) chosen = member
    }
    return chosen ?? best
  }

  /** Whether every member stands before those below it: for tests. */
  get valid(): boolean {
    return this.#members.every((member, index) =>
      member.index === index && (index === 0 || !before(member, this.#members[(index - 1) >> 1]!))
    )
  }

  get size(): number {
    return this.#members.length
  }

  /** Puts a member in a random place that it may stand in, and lets the one it displaced find its own. */
  #shuffleIn(member: Member): void {
    this.#fix(member.index)
    const index = member.index
    const other = Math.floor(this.#random() * this.#members.length)
    if (other === index || before(this.#members[other]!, member)) return
    // The displaced one is no better than the member, so it can only sink; then only the member can stand too low.
    this.#swap(index, other)
    this.#down(index)
    this.#up(member.index)
  }

  #fix(index: number): void {
    if (!this.#up(index)) this.#down(index)
  }

  #up(index: number): boolean {
    const members = this.#members
    let moved = false
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!before(members[index]!, members[parent]!)) break
      this.#swap(index, parent)
      index = parent
      moved = true
    }
    return moved
  }

  #down(index: number): void {
    const members = this.#members
    for (;;) {
      const left = 2 * index + 1
      if (left >= members.length) return
      const right = left + 1
      const child = right < members.length && before(members[right]!, members[left]!) ? right : left
      if (!before(members[child]!, members[index]!)) return
      this.#swap(index, child)
      index = child
    }
  }

  #swap(a: number, b: number): void {
    const members = this.#members
    const first = members[a]!
    const second = members[b]!
    members[a] = second
    members[b] = first
    first.index = b
    second.index = a
  }
}
