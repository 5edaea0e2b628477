/**
 * Takes members in turn, each as often as its weight says, whatever load they have. Every member has a time of its next turn,
 * and turns that are one over its weight apart (stride scheduling): the earliest is next. Members of one weight come in
 * a cycle; the turns of a heavy one are spread between those of the others.
 */
import type { Member, Picker } from "../Balancer.ts"
import type { Endpoint } from "../Endpoint.ts"
import { IndexedHeap } from "./IndexedHeap.ts"

/** When a member is next, in a time of its rank that only picks move on. */
interface Turn {
  rank: 0 | 1 | 2
  next: number
  /** From one turn to the next. */
  stride: number
}

const turnOf = (member: Member): Turn => member.own

const before = (a: Member, b: Member): boolean => {
  const first = turnOf(a)
  const second = turnOf(b)
  return first.rank !== second.rank ? first.rank < second.rank : first.next < second.next
}

/** Multiples of it lie as evenly between 0 and 1 as any numbers can, however many there are. */
const goldenRatio = (Math.sqrt(5) - 1) / 2

/** Turns nearer than this part of a stride are one. */
const tolerance = 2 ** -20

/** Times are counted anew from 0 after so many strides, while they still tell members apart. */
const strides = 2 ** 24

/** A pick looks at the root; beginning a call costs the logarithm of the size. */
export class RoundRobinPicker implements Picker {
  readonly #heap = new IndexedHeap(before)
  /** The time of each rank: when the turn was that was taken last. */
  readonly #time: [number, number, number] = [0, 0, 0]
  /** Where in its first stride the next to join has its turn, from 0 to 1, without 1. */
  #phase: number

  /** `random` gives numbers from 0 to 1, without 1: where in the cycle to begin, so that not all clients begin with the same one. */
  constructor(random: () => number) {
    this.#phase = random()
  }

  readonly add = (member: Member): void => {
    const { rank } = member
    const stride = 1 / member.endpoint.weight
    const turn: Turn = { rank, next: this.#time[rank] + (1 - this.#phase) * stride, stride }
    member.own = turn
    this.#phase = (this.#phase + goldenRatio) % 1
    this.#heap.add(member)
  }

  readonly remove = (member: Member): void => {
    this.#heap.remove(member)
  }

  /** Keeps its place: one that comes back has its turn when it would have had it, and not twice because it has missed some. */
  readonly changed = (member: Member): void => {
    const turn = turnOf(member)
    const stride = 1 / member.endpoint.weight
    if (stride !== turn.stride) {
      const time = this.#time[turn.rank]
      turn.next = time + (turn.next - time) * (stride / turn.stride)
      turn.stride = stride
    }
    if (member.rank !== turn.rank) {
      const time = this.#time[member.rank]
      let ahead = (turn.next - time) % stride
      while (ahead < tolerance * stride) ahead += stride
      turn.next = time + ahead
      turn.rank = member.rank
    }
    this.#heap.fix(member)
  }

  /** Its turn is taken when it gets a call: looking does not move anything on. */
  readonly began = (member: Member): void => {
    const turn = turnOf(member)
    const earliest = turnOf(this.#heap.members[0]!)
    this.#time[earliest.rank] = earliest.next
    if (turn.next > strides * turn.stride) this.#restart(turn.rank)
    turn.next += turn.stride
    this.#heap.fix(member)
  }

  readonly ended = (): void => {}

  readonly pick = (tried: ReadonlyArray<Endpoint>): Member | undefined => this.#heap.pick(tried)

  /** The order stays as it is. */
  #restart(rank: 0 | 1 | 2): void {
    const time = this.#time[rank]
    for (const member of this.#heap.members) if (turnOf(member).rank === rank) turnOf(member).next -= time
    this.#time[rank] = 0
  }
}
