/** A binary heap of members that know where they stand: the first is at the root, and any may be moved or taken out. */
import type { Member } from "../Balancer.ts"
import type { Endpoint } from "../Endpoint.ts"
import { wasTried } from "./tried.ts"

/** From how many members on the way down is long: it then passes members that the processor has not at hand. */
const largeHeap = 64

/** `member.index` is where each stands, from 0. Each operation costs the logarithm of the size. */
export class IndexedHeap {
  readonly members: Array<Member> = []
  readonly #before: (a: Member, b: Member) => boolean
  /** The leaf to ask next. */
  #leaf = 0

  /** `before` tells whether `a` is to stand above `b`. */
  constructor(before: (a: Member, b: Member) => boolean) {
    this.#before = before
  }

  add(member: Member): void {
    member.index = this.members.push(member) - 1
    this.#up(member.index)
  }

  remove(member: Member): void {
    const index = member.index
    const last = this.members.pop()!
    member.index = -1
    if (last === member) return
    this.members[index] = last
    last.index = index
    this.fix(last)
  }

  /** Puts a member in its place after its order has changed. */
  fix(member: Member): void {
    if (!this.#up(member.index)) this.#down(member.index)
  }

  /**
   * Puts the first in its place after it has become worse. In a large heap of which most are equal that is where a leaf stands which is as good as the
   * first was: the leaves are asked in turn, one a time, before the long way down.
   */
  sink(member: Member): void {
    const { members } = this
    const { length } = members
    if (member.index === 0 && length >= largeHeap) {
      const firstLeaf = length >> 1
      if (this.#leaf < firstLeaf || this.#leaf >= length) this.#leaf = firstLeaf
      const at = this.#leaf++
      const leaf = members[at]!
      const before = this.#before
      if (!before(members[1]!, leaf) && !before(members[2]!, leaf) && !before(member, members[(at - 1) >> 1]!)) {
        return this.swap(0, at)
      }
    }
    this.fix(member)
  }

  /** Whether every member stands where it says, and before those below it: for tests. */
  get valid(): boolean {
    const { members } = this
    return members.every((member, index) =>
      member.index === index && (index === 0 || !this.#before(member, members[(index - 1) >> 1]!))
    )
  }

  /** The first; for a call that was tried before, the first of the same rank that it was not tried at, if there is one. */
  pick(tried: ReadonlyArray<Endpoint>): Member | undefined {
    const first = this.members[0]
    return first === undefined || tried.length === 0 ? first : this.#untried(0, first.rank, tried) ?? first
  }

  /** The first at or below a place in the heap: looks below those that were tried only. */
  #untried(index: number, rank: number, tried: ReadonlyArray<Endpoint>): Member | undefined {
    const member = this.members[index]
    if (member === undefined || member.rank !== rank) return undefined
    if (!wasTried(member, tried)) return member
    const left = this.#untried(2 * index + 1, rank, tried)
    const right = this.#untried(2 * index + 2, rank, tried)
    return left === undefined || (right !== undefined && this.#before(right, left)) ? right : left
  }

  #up(index: number): boolean {
    const { members } = this
    let moved = false
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!this.#before(members[index]!, members[parent]!)) break
      this.swap(index, parent)
      index = parent
      moved = true
    }
    return moved
  }

  #down(index: number): void {
    const { members } = this
    for (;;) {
      const left = 2 * index + 1
      if (left >= members.length) return
      const right = left + 1
      const child = right < members.length && this.#before(members[right]!, members[left]!) ? right : left
      if (!this.#before(members[child]!, members[index]!)) return
      this.swap(index, child)
      index = child
    }
  }

  /** Exchanges two: whoever does that sees to it that both may stand where they then are. */
  swap(a: number, b: number): void {
    const { members } = this
    const first = members[a]!
    const second = members[b]!
    members[a] = second
    members[b] = first
    first.index = b
    second.index = a
  }
}
