/**
 * The picker of the deterministic aperture: the better of two members of its window, drawn by how much of each lies in it. When nothing in
 * the window is usable it picks outside of it, where Finagle would use what is not usable.
 */
import type { Control, Member, Picker } from "../Balancer.ts"
import type { Call } from "../Call.ts"
import type { Timer } from "../Deadlines.ts"
import type { Endpoint } from "../Endpoint.ts"
import { type AddressOrder, compareOrder, orderOf } from "./addressOrder.ts"
import { type Expiring, Expiry } from "./Expiry.ts"
import { RankedSet, type Standing } from "./RankedSet.ts"
import { normalize, overlaps, windowOf } from "./Ring.ts"
import { wasTried } from "./tried.ts"

/** Which window; durations are milliseconds. */
export interface WindowSettings {
  readonly instance: number
  readonly instances: number
  readonly minAperture: number
  readonly idleMillis: number
}

/** How often a draw that is no help is made again: Finagle's number for a second one that is the first. */
const draws = 5

/** What the picker knows of a member. */
class Place implements Standing, Expiring {
  rank: 0 | 1 | 2 = 0
  at = -1
  expires: Timer | undefined = undefined
  /** How much of the ring it has in the window; 0: it is outside. */
  share = 0
  /** The weight that the ring was last laid out with. */
  weight: number
  left = false
  readonly member: Member
  readonly order: AddressOrder

  constructor(member: Member) {
    this.member = member
    this.weight = member.endpoint.weight
    this.order = orderOf(member.endpoint)
  }
}

const placeOf = (member: Member): Place => member.own

/** See above. Whoever makes one calls `stop` at the end. */
export class WindowPicker implements Picker {
  readonly #settings: WindowSettings
  readonly #random: () => number
  readonly #inside: RankedSet
  readonly #outside: RankedSet
  readonly #expiry: Expiry
  /** In their order around the ring, as of the last rebuild. */
  #ring: Array<Place> = []
  readonly #joined: Array<Place> = []
  #anyLeft = false
  #stale = false
  /** Those in the window, in their order; where each ends when their shares are laid end to end. */
  #window: Array<Member> = []
  #ends = new Float64Array(0)
  /** How often the ring was laid out anew. */
  rebuilds = 0
  /** Endpoints outside that were closed. */
  expired = 0

  constructor(control: Control, settings: WindowSettings) {
    const { random } = control.stack
    this.#settings = settings
    this.#random = random
    this.#inside = new RankedSet(random)
    this.#outside = new RankedSet(random)
    this.#expiry = new Expiry(control, settings.idleMillis, () => {
      this.expired++
    })
  }

  /** How many are in the window. */
  get size(): number {
    this.#rebuild()
    return this.#inside.size
  }

  /** How many are outside of it. */
  get idle(): number {
    this.#rebuild()
    return this.#outside.size
  }

  /** Leaves no timer behind. */
  stop(): void {
    this.#expiry.stop()
    for (const set of [this.#inside, this.#outside]) {
      for (const rank of [0, 1, 2]) for (const member of set.of(rank)) this.#expiry.forget(member)
    }
  }

  readonly add = (member: Member): void => {
    const place = new Place(member)
    member.own = place
    this.#outside.add(member)
    this.#joined.push(place)
    this.#stale = true
    this.#watch(place)
  }

  readonly remove = (member: Member): void => {
    const place = placeOf(member)
    this.#expiry.forget(member)
    this.#setOf(place).remove(member)
    place.left = true
    this.#anyLeft = true
    this.#stale = true
  }

  readonly changed = (member: Member): void => {
    const place = placeOf(member)
    this.#setOf(place).changed(member)
    if (place.weight !== member.endpoint.weight) this.#stale = true
    this.#watch(place)
  }

  readonly began = (member: Member): void => {
    this.#watch(placeOf(member))
  }

  readonly ended = (member: Member): void => {
    this.#watch(placeOf(member))
  }

  readonly pick = (tried: ReadonlyArray<Endpoint>, call: Call | undefined): Member | undefined => {
    this.#rebuild()
    const inside = this.#inside.best
    const outside = this.#outside.best
    if (inside === 3) return undefined
    const chosen = inside <= outside ? this.#better(inside) : this.#stranger(outside)
    if (tried.length === 0 || call === undefined || !wasTried(chosen, tried)) return chosen
    return this.#inside.untried(chosen.rank, tried) ?? this.#outside.untried(chosen.rank, tried) ?? chosen
  }

  readonly view = (member: Member): { readonly active: boolean } => {
    this.#rebuild()
    return { active: placeOf(member).share > 0 }
  }

  /** How much of the ring a member has in the window. */
  shareOf(member: Member): number {
    this.#rebuild()
    return placeOf(member).share
  }

  readonly snapshot = (): Readonly<Record<string, unknown>> => ({
    active: this.size,
    idle: this.idle,
    rebuilds: this.rebuilds,
    expired: this.expired
  })

  #setOf(place: Place): RankedSet {
    return place.share > 0 ? this.#inside : this.#outside
  }

  #watch(place: Place): void {
    this.#expiry.watch(place.member, place.share === 0)
  }

  /** Lays the ring out anew when members or weights have changed: once for all changes since the last pick. */
  #rebuild(): void {
    if (!this.#stale) return
    this.#stale = false
    this.rebuilds++
    if (this.#anyLeft) {
      this.#anyLeft = false
      this.#ring = this.#ring.filter(({ left }) => !left)
    }
    if (this.#joined.length > 0) {
      for (const place of this.#joined) if (!place.left) this.#ring.push(place)
      this.#joined.length = 0
      // In time linear in what is sorted already.
      this.#ring.sort((a, b) => compareOrder(a.order, b.order))
    }
    const ring = this.#ring
    this.#window = []
    if (ring.length === 0) return
    for (const place of ring) place.weight = place.member.endpoint.weight
    const { instance, instances, minAperture } = this.#settings
    const window = windowOf(instance, instances, ring.length, minAperture)
    const shares = overlaps(normalize(ring.map(({ weight }) => weight)), window)
    for (const [nth, place] of ring.entries()) {
      const share = shares[nth]!
      if (share > 0) this.#window.push(place.member)
      if ((share > 0) === (place.share > 0)) {
        place.share = share
        continue
      }
      this.#setOf(place).remove(place.member)
      place.share = share
      this.#setOf(place).add(place.member)
      this.#watch(place)
    }
    this.#ends = new Float64Array(this.#window.length)
    let end = 0
    for (const [nth, member] of this.#window.entries()) this.#ends[nth] = end += placeOf(member).share
  }

  /** A member of the window, each as often as its share. */
  #draw(): Member {
    const ends = this.#ends
    const at = this.#random() * ends[ends.length - 1]!
    let low = 0
    let high = ends.length - 1
    while (low < high) {
      const middle = (low + high) >> 1
      if (ends[middle]! > at) high = middle
      else low = middle + 1
    }
    return this.#window[low]!
  }

  /** A member of the window of that rank, which some have. When few have, any of them, and the comparison sees to the shares. */
  #drawRanked(rank: number): Member {
    for (let draw = 0; draw < draws; draw++) {
      const member = this.#draw()
      if (member.rank === rank) return member
    }
    return this.#inside.any(rank)
  }

  /** The less loaded, for its share, of two members of the window. */
  #better(rank: number): Member {
    const first = this.#drawRanked(rank)
    for (let draw = 0; draw < draws; draw++) {
      const second = this.#drawRanked(rank)
      if (second === first) continue
      // With equal loads the first: it was drawn by its share.
      return second.load * placeOf(first).share < first.load * placeOf(second).share ? second : first
    }
    return first
  }

  /** The less loaded, for its weight, of two members outside of the window. */
  #stranger(rank: number): Member {
    const first = this.#outside.any(rank)
    const second = this.#outside.any(rank)
    return second.load * first.endpoint.weight < first.load * second.endpoint.weight ? second : first
  }
}
