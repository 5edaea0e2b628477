/**
 * Takes members in turn, each as often as its weight says, whatever load they have. Every member has a time of its next turn,
 * and turns that are one over its weight apart (stride scheduling): the earliest is next. Members of one weight come in
 * a cycle; the turns of a heavy one are spread between those of the others.
 */
import type { Member, Picker } from "../Balancer.ts"
import type { Endpoint } from "../Endpoint.ts"
import { IndexedHeap } from "./IndexedHeap.ts"
import { wasTried } from "./tried.ts"

/** When a member is next, in a time of its rank that only picks move on. */
class Turn {
  readonly member: Member
  rank: 0 | 1 | 2
  next: number
  /** From one turn to the next. */
  stride: number
  /** The cycle that it is in; `undefined`: it is in the heap. */
  cycle: Cycle | undefined = undefined
  earlier: Turn | undefined = undefined
  later: Turn | undefined = undefined

  constructor(member: Member, next: number, stride: number) {
    this.member = member
    this.rank = member.rank
    this.next = next
    this.stride = stride
  }
}

/**
 * Turns of one rank and stride, earliest first. One that was taken has its next a stride later, which is after all the others: it goes to the end, and nothing
 * else is touched, however many there are.
 */
class Cycle {
  readonly rank: number
  readonly stride: number
  first: Turn | undefined = undefined
  last: Turn | undefined = undefined

  constructor(rank: number, stride: number) {
    this.rank = rank
    this.stride = stride
  }

  push(turn: Turn): void {
    turn.cycle = this
    turn.earlier = this.last
    if (this.last === undefined) this.first = turn
    else this.last.later = turn
    this.last = turn
  }

  remove(turn: Turn): void {
    if (turn.earlier === undefined) this.first = turn.later
    else turn.earlier.later = turn.later
    if (turn.later === undefined) this.last = turn.earlier
    else turn.later.earlier = turn.earlier
    turn.cycle = turn.earlier = turn.later = undefined
  }
}

const turnOf = (member: Member): Turn => member.own

const isBefore = (first: Turn, second: Turn): boolean =>
  first.rank !== second.rank ? first.rank < second.rank : first.next < second.next

const before = (a: Member, b: Member): boolean => isBefore(turnOf(a), turnOf(b))

/** The earlier of two. */
const earlierOf = (a: Turn | undefined, b: Turn | undefined): Turn | undefined =>
  a === undefined || (b !== undefined && isBefore(b, a)) ? b : a

/** How many cycles there are at most: of so many ranks and weights the turns cost the same for any number of members. */
const mostCycles = 4

/** Multiples of it lie as evenly between 0 and 1 as any numbers can, however many there are. */
const goldenRatio = (Math.sqrt(5) - 1) / 2

/** Turns nearer than this part of a stride are one. */
const tolerance = 2 ** -20

/** Times are counted anew from 0 after so many strides, while they still tell members apart. */
const strides = 2 ** 24

/**
 * A pick looks at the first of each cycle and at the root of the heap. In the heap is who has joined or changed and had no turn since, and what the cycles
 * have no room for: beginning a call there costs the logarithm of the size.
 */
export class RoundRobinPicker implements Picker {
  readonly #heap = new IndexedHeap(before)
  readonly #cycles: Array<Cycle> = []
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
    member.own = new Turn(member, this.#time[rank] + (1 - this.#phase) * stride, stride)
    this.#phase = (this.#phase + goldenRatio) % 1
    this.#heap.add(member)
  }

  readonly remove = (member: Member): void => {
    const turn = turnOf(member)
    if (turn.cycle === undefined) this.#heap.remove(member)
    else turn.cycle.remove(turn)
  }

  /** Keeps its place: one that comes back has its turn when it would have had it, and not twice because it has missed some. */
  readonly changed = (member: Member): void => {
    const turn = turnOf(member)
    const stride = 1 / member.endpoint.weight
    if (stride === turn.stride && member.rank === turn.rank) return
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
    if (turn.cycle === undefined) return this.#heap.fix(member)
    turn.cycle.remove(turn)
    this.#heap.add(member)
  }

  /** Its turn is taken when it gets a call: looking does not move anything on. */
  readonly began = (member: Member): void => {
    const turn = turnOf(member)
    const earliest = this.#first()!
    this.#time[earliest.rank] = earliest.next
    if (turn.next > strides * turn.stride) this.#restart(turn.rank)
    turn.next += turn.stride
    if (turn.cycle !== undefined) turn.cycle.remove(turn)
    const cycle = this.#cycleFor(turn)
    if (cycle === undefined) {
      if (member.index < 0) this.#heap.add(member)
      else this.#heap.fix(member)
      return
    }
    if (member.index >= 0) this.#heap.remove(member)
    cycle.push(turn)
  }

  readonly ended = (): void => {}

  readonly pick = (tried: ReadonlyArray<Endpoint>): Member | undefined => {
    const first = this.#first()
    if (first === undefined || tried.length === 0) return first?.member
    const { rank } = first
    let best: Turn | undefined
    const inHeap = this.#heap.pick(tried)
    if (inHeap !== undefined && inHeap.rank === rank && !wasTried(inHeap, tried)) best = turnOf(inHeap)
    for (const cycle of this.#cycles) {
      if (cycle.rank !== rank) continue
      let turn = cycle.first
      while (turn !== undefined && wasTried(turn.member, tried)) turn = turn.later
      best = earlierOf(best, turn)
    }
    return (best ?? first).member
  }

  /** Whose turn it is. */
  #first(): Turn | undefined {
    const root = this.#heap.members[0]
    let first = root === undefined ? undefined : turnOf(root)
    for (const cycle of this.#cycles) first = earlierOf(first, cycle.first)
    return first
  }

  /** The cycle at whose end a turn belongs; `undefined`: there is none. One that was taken before it was due is not the last of its cycle. */
  #cycleFor({ next, rank, stride }: Turn): Cycle | undefined {
    if (next > this.#time[rank] + stride * (1 + tolerance)) return undefined
    const cycles = this.#cycles
    let empty = -1
    for (let i = 0; i < cycles.length; i++) {
      const { first, last, rank: itsRank, stride: itsStride } = cycles[i]!
      if (itsRank === rank && itsStride === stride) {
        return last === undefined || last.next <= next
          ? cycles[i]
          : undefined
      }
      if (first === undefined) empty = i
    }
    if (empty < 0 && cycles.length === mostCycles) return undefined
    const cycle = new Cycle(rank, stride)
    if (empty < 0) cycles.push(cycle)
    else cycles[empty] = cycle
    return cycle
  }

  /** How many members there are. */
  get size(): number {
    return this.#heap.members.length + this.#inCycles().length
  }

  /** Whether the turns of the heap and of each cycle stand in order, and each knows where: for tests. */
  get valid(): boolean {
    return this.#heap.valid &&
      this.#inCycles().every(({ cycle, earlier, member, next, rank, stride }) =>
        member.index < 0 && cycle?.rank === rank && cycle.stride === stride &&
        (earlier === undefined || earlier.next <= next)
      )
  }

  #inCycles(): ReadonlyArray<Turn> {
    const turns: Array<Turn> = []
    for (const { first } of this.#cycles) {
      for (let turn = first; turn !== undefined; turn = turn.later) turns.push(turn)
    }
    return turns
  }

  /** The order stays as it is. */
  #restart(rank: 0 | 1 | 2): void {
    const time = this.#time[rank]
    for (const member of this.#heap.members) if (turnOf(member).rank === rank) turnOf(member).next -= time
    for (const turn of this.#inCycles()) if (turn.rank === rank) turn.next -= time
    this.#time[rank] = 0
  }
}
