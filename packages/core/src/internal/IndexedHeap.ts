/** A binary heap of members that know where they stand: the first is at the root, and any may be moved or taken out. */
import type { Member } from "../Balancer.ts"

/** `member.index` is where each stands, from 0. Each operation costs the logarithm of the size. */
export class IndexedHeap {
  readonly members: Array<Member> = []
  readonly #before: (a: Member, b: Member) => boolean

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

  #up(index: number): boolean {
    const { members } = this
    let moved = false
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!this.#before(members[index]!, members[parent]!)) break
      this.#swap(index, parent)
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
      this.#swap(index, child)
      index = child
    }
  }

  #swap(a: number, b: number): void {
    const { members } = this
    const first = members[a]!
    const second = members[b]!
    members[a] = second
    members[b] = first
    first.index = b
    second.index = a
  }
}
