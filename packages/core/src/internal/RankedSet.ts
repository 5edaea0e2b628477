/** Members by rank: the best and the worst rank there is, and any member of a rank at random, each in constant time. */
import type { Member } from "../Balancer.ts"
import type { Endpoint } from "../Endpoint.ts"
import { wasTried } from "./tried.ts"

/** Where a member stands in the one `RankedSet` that holds it; what a picker keeps as `member.own` has these. */
export interface Standing {
  /** The rank it had when the set was last told. */
  rank: 0 | 1 | 2
  /** Its place among those of its rank. */
  at: number
}

const standing = (member: Member): Standing => member.own

/** A set that is told of every change of rank; its members' `own` is a `Standing`. */
export class RankedSet {
  readonly #usable: Array<Member> = []
  readonly #busy: Array<Member> = []
  readonly #down: Array<Member> = []
  readonly #ranks = [this.#usable, this.#busy, this.#down] as const
  readonly #random: () => number

  /** `random` gives numbers from 0 to 1, without 1. */
  constructor(random: () => number) {
    this.#random = random
  }

  /** How many there are. */
  get size(): number {
    return this.#usable.length + this.#busy.length + this.#down.length
  }

  /** The best rank of a member; 3 when there is none. */
  get best(): 0 | 1 | 2 | 3 {
    return this.#usable.length > 0 ? 0 : this.#busy.length > 0 ? 1 : this.#down.length > 0 ? 2 : 3
  }

  /** The worst rank of a member; -1 when there is none. */
  get worst(): -1 | 0 | 1 | 2 {
    return this.#down.length > 0 ? 2 : this.#busy.length > 0 ? 1 : this.#usable.length > 0 ? 0 : -1
  }

  /** Those of a rank, in no particular order; not to be changed. */
  of(rank: number): ReadonlyArray<Member> {
    return this.#ranks[rank] ?? []
  }

  add(member: Member): void {
    const own = standing(member)
    own.rank = member.rank
    own.at = this.#ranks[own.rank].push(member) - 1
  }

  remove(member: Member): void {
    const { at, rank } = standing(member)
    const members = this.#ranks[rank]
    const last = members.pop()!
    if (last === member) return
    members[at] = last
    standing(last).at = at
  }

  /** Its rank may have changed. */
  changed(member: Member): void {
    if (standing(member).rank === member.rank) return
    this.remove(member)
    this.add(member)
  }

  /** Any member of a rank that has one. */
  any(rank: number): Member {
    const members = this.of(rank)
    return members[Math.floor(this.#random() * members.length)]!
  }

  /** Any member of a rank that a call has not been sent to. */
  untried(rank: number, tried: ReadonlyArray<Endpoint>): Member | undefined {
    const members = this.of(rank)
    const first = Math.floor(this.#random() * members.length)
    for (let i = 0; i < members.length; i++) {
      const member = members[(first + i) % members.length]!
      if (!wasTried(member, tried)) return member
    }
    return undefined
  }
}
