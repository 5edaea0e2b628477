/**
 * The power of two choices: draws two members of the best rank there is, and takes the better of them. Members stand in one
 * set a rank, so that one that is down is never drawn while one is usable.
 */
import type { Member, Picker } from "../Balancer.ts"
import type { Endpoint } from "../Endpoint.ts"
import { wasTried } from "./tried.ts"
import { WeightedSet } from "./WeightedSet.ts"

/** The one to take of two; the first when neither is better. `mean` is the mean weight of those they were drawn from. */
export type Better = (first: Member, second: Member, mean: number) => Member

/**
 * The one with less load for its weight. Both were drawn by weight: idle ones are taken in proportion to it already, so what
 * is compared is the load there is, not the load there would be (which would count the weight twice).
 */
export const lessLoaded: Better = (first, second) =>
  first.load * second.endpoint.weight <= second.load * first.endpoint.weight ? first : second

/** A pick costs two random numbers, and the logarithm of the size when weights differ. */
export class P2CPicker implements Picker {
  /** Usable, busy, down. */
  readonly #sets: readonly [WeightedSet, WeightedSet, WeightedSet]
  readonly #better: Better

  /** `random` gives numbers from 0 to 1, without 1. */
  constructor(random: () => number, better: Better) {
    this.#sets = [new WeightedSet(random), new WeightedSet(random), new WeightedSet(random)]
    this.#better = better
  }

  readonly add = (member: Member): void => {
    this.#sets[member.rank].add(member)
  }

  readonly remove = (member: Member): void => {
    this.#setOf(member).remove(member)
  }

  readonly changed = (member: Member): void => {
    const old = this.#setOf(member)
    const set = this.#sets[member.rank]
    if (old === set) return set.reweigh(member)
    old.remove(member)
    set.add(member)
  }

  readonly began = (): void => {}

  readonly ended = (): void => {}

  readonly pick = (tried: ReadonlyArray<Endpoint>): Member | undefined => {
    const sets = this.#sets
    const set = sets[0].size > 0 ? sets[0] : sets[1].size > 0 ? sets[1] : sets[2]
    const { members } = set
    if (members.length < 2) return members[0]
    const first = set.draw()
    const second = set.drawOther(first)
    if (tried.length > 0) {
      const one = untried(members, first, tried)
      if (one !== undefined) {
        const other = untried(members, second, tried, one)
        return other === undefined ? one : this.#better(one, other, set.mean)
      }
    }
    return this.#better(members[first]!, members[second]!, set.mean)
  }

  /** Where it stands, which its rank may not tell any more. */
  #setOf(member: Member): WeightedSet {
    return this.#sets.find((set) => set.has(member))!
  }
}

/** The next one from `start` on that was not tried and is not `except`; looks at no more members than were tried, and one or two. */
const untried = (
  members: ReadonlyArray<Member>,
  start: number,
  tried: ReadonlyArray<Endpoint>,
  except?: Member
): Member | undefined => {
  for (let i = 0; i < members.length; i++) {
    const member = members[(start + i) % members.length]!
    if (member !== except && !wasTried(member, tried)) return member
  }
  return undefined
}
