/**
 * The aperture: a heap over as many of the members as the load needs, chosen at random; a load band moves its size, what goes
 * down is replaced, one is exchanged now and then, and what stays outside is closed after a while.
 *
 * Every member stands inside or outside. One that comes in is opened at once, and stands with those that open until it is: no call
 * waits for a connection while another could take it. It counts as inside from the start, so that a burst does not widen
 * once more for every call; and while one opens nothing is narrowed.
 */
import type { Control, Member, Picker } from "../Balancer.ts"
import type { Call, Outcome } from "../Call.ts"
import { CallAt, type Timer } from "../Deadlines.ts"
import type { Endpoint } from "../Endpoint.ts"
import { type Expiring, Expiry } from "./Expiry.ts"
import { Heap } from "./Heap.ts"
import { MovingAverage } from "./MovingAverage.ts"
import { RankedSet, type Standing } from "./RankedSet.ts"
import { wasTried } from "./tried.ts"

/** How an aperture behaves; durations are milliseconds. */
export interface ApertureSettings {
  readonly minSize: number
  readonly maxSize: number
  readonly minLoad: number
  readonly maxLoad: number
  readonly windowMillis: number
  readonly idleMillis: number
  /** `undefined`: none. */
  readonly jitter: { readonly minMillis: number; readonly maxMillis: number } | undefined
}

/** What the aperture did with a member. */
export type Move = "widened" | "narrowed" | "replaced" | "swapped" | "expired"

/** One that comes in and has not opened after this long is used as it is: longer than connecting takes by default. */
const openingMillis = 5000

/** What the aperture knows of a member. */
class Place implements Standing, Expiring {
  rank: 0 | 1 | 2 = 0
  at = -1
  active = false
  opening = false
  expires: Timer | undefined = undefined
  /** While it opens: until it is used as it is. */
  patience: Timer | undefined = undefined
}

const placeOf = (member: Member): Place => member.own

/** See above. Whoever makes one calls `start`, and `stop` at the end. */
export class AperturePicker implements Picker {
  readonly #control: Control
  readonly #settings: ApertureSettings
  readonly #moved: (move: Move, member: Member) => void
  /** Inside: what calls go to, but for those that open. */
  readonly #heap: Heap
  /** Inside: come in and not open yet. */
  readonly #opening: Heap
  readonly #inside: RankedSet
  readonly #outside: RankedSet
  readonly #expiry: Expiry
  /** How often each was done. */
  readonly moves: Record<Move, number> = { widened: 0, narrowed: 0, replaced: 0, swapped: 0, expired: 0 }
  /** Attempts that have not ended, on members in the set. */
  #load = 0
  readonly #average: MovingAverage
  /** A call was made: before, nothing is opened. */
  #used = false
  #settling = false
  #stopped = false
  /** Outside, and opened to be exchanged for one inside. */
  #incoming: Member | undefined = undefined
  #jitter: Timer | undefined = undefined

  /** `moved` hears of every move. */
  constructor(control: Control, settings: ApertureSettings, moved: (move: Move, member: Member) => void) {
    const { elapsed, random } = control.stack
    this.#control = control
    this.#settings = settings
    this.#moved = moved
    this.#heap = new Heap(random)
    this.#opening = new Heap(random)
    this.#inside = new RankedSet(random)
    this.#outside = new RankedSet(random)
    this.#expiry = new Expiry(control, settings.idleMillis, (member) => this.#note("expired", member))
    this.#average = new MovingAverage(settings.windowMillis, Math.floor(elapsed()))
  }

  /** How many are inside. */
  get size(): number {
    return this.#inside.size
  }

  /** How many are outside. */
  get idle(): number {
    return this.#outside.size
  }

  /** How many of those inside are not open yet. */
  get opening(): number {
    return this.#opening.size
  }

  /** Outstanding calls, averaged over the window, for each member inside. */
  get loadAverage(): number {
    return this.size === 0 ? 0 : this.#averaged(this.#control.stack.elapsed())
  }

  /** Whether all that it keeps agrees: for tests. */
  get valid(): boolean {
    const inside = [0, 1, 2].flatMap((rank) => this.#inside.of(rank))
    return this.#heap.valid && this.#opening.valid &&
      this.#heap.size + this.#opening.size === this.size &&
      [this.#inside, this.#outside].every((set) =>
        [0, 1, 2].every((rank) => set.of(rank).every((member, at) => member.rank === rank && placeOf(member).at === at))
      ) &&
      inside.every((member) => placeOf(member).active && (!placeOf(member).opening || member.rank === 0))
  }

  /** Begins to exchange members now and then. */
  start(): void {
    const { jitter, minLoad } = this.#settings
    if (jitter === undefined) return
    const { minMillis, maxMillis } = jitter
    const millis = minMillis + (maxMillis - minMillis) * this.#control.stack.random()
    this.#jitter = this.#after(millis, () => {
      // Without calls nothing else says that they have become fewer.
      while (this.loadAverage <= minLoad && this.#narrow());
      this.#exchange()
      this.start()
    })
  }

  /** Leaves no timer behind; nothing moves any more. */
  stop(): void {
    this.#stopped = true
    this.#expiry.stop()
    const { deadlines } = this.#control.stack
    if (this.#jitter !== undefined) deadlines.remove(this.#jitter)
    for (const set of [this.#inside, this.#outside]) {
      for (const rank of [0, 1, 2]) for (const member of set.of(rank)) this.#forget(member)
    }
  }

  readonly add = (member: Member): void => {
    member.own = new Place()
    this.#load += member.load
    this.#outside.add(member)
    this.#watch(member)
    if (!this.#used) this.#shuffleIn(member)
    this.#settle()
  }

  readonly remove = (member: Member): void => {
    const place = placeOf(member)
    this.#load -= member.load
    this.#forget(member)
    if (member === this.#incoming) this.#incoming = undefined
    if (!place.active) return this.#outside.remove(member)
    this.#inside.remove(member)
    this.#heapOf(place).remove(member)
    place.active = false
    place.opening = false
    // One that enters may be unable to, and be removed from within: its successor is the loop's to find.
    if (this.#outside.best === 0 && !this.#settling) {
      this.#settling = true
      this.#note("replaced", member)
      this.#enter(this.#outside.any(0))
      this.#settling = false
    }
    this.#settle()
  }

  readonly changed = (member: Member): void => {
    const place = placeOf(member)
    if (place.active) {
      this.#inside.changed(member)
      if (place.opening && member.state !== "Idle") this.#opened(member, place)
      else this.#heapOf(place).changed(member)
    } else {
      this.#outside.changed(member)
      if (member === this.#incoming) this.#arrived(member)
      else if (!this.#used && member.state === "Open") this.#prefer(member)
      this.#watch(member)
    }
    this.#settle()
  }

  readonly began = (member: Member, at: number): void => {
    const place = placeOf(member)
    if (place.active) this.#heapOf(place).began(member)
    else this.#watch(member)
    if (!this.#used) {
      this.#used = true
      // The one that the call goes to is opened by it.
      if (place.opening) this.#expect(member, place)
      for (const each of this.#inside.of(0).slice()) this.#open(each)
    }
    this.#weigh(1, at)
  }

  readonly ended = (member: Member, _outcome: Outcome, _millis: number, at: number): void => {
    const place = placeOf(member)
    if (place.active) this.#heapOf(place).ended(member)
    else this.#watch(member)
    this.#weigh(-1, at)
  }

  readonly pick = (tried: ReadonlyArray<Endpoint>, call: Call | undefined): Member | undefined => {
    const best = this.#heap.pick(tried)
    if (best !== undefined && best.rank === 0 && (tried.length === 0 || !wasTried(best, tried))) return best
    const opening = this.#opening.pick(tried)
    if (tried.length === 0) return opening ?? best
    if (opening !== undefined && !wasTried(opening, tried)) return opening
    const here = best === undefined || (best.rank > 0 && opening !== undefined) ? opening : best
    // All inside that are as good were tried: the call takes one more in, and those that are tried again after it find it there.
    if (here === undefined || call === undefined || !wasTried(here, tried) || this.size >= this.#settings.maxSize) {
      return here
    }
    const there = this.#outside.best
    const other = there > here.rank ? undefined : this.#outside.untried(there, tried)
    if (other === undefined) return here
    this.#note("widened", other)
    this.#enter(other)
    return other
  }

  readonly view = (member: Member): { readonly active: boolean } => ({ active: placeOf(member).active })

  readonly snapshot = (): Readonly<Record<string, unknown>> => ({
    active: this.size,
    opening: this.opening,
    idle: this.idle,
    loadAverage: this.loadAverage,
    ...this.moves
  })

  #heapOf(place: Place): Heap {
    return place.opening ? this.#opening : this.#heap
  }

  #note(move: Move, member: Member): void {
    this.moves[move]++
    this.#moved(move, member)
  }

  /** The average for each member inside, by the stack's `elapsed`. */
  #averaged(at: number): number {
    return this.#average.update(this.#load, Math.floor(at)) / this.size
  }

  /** The load went up or down by one: the average follows it, and the size the average. */
  #weigh(by: 1 | -1, at: number): void {
    this.#load += by
    const { maxLoad, maxSize, minLoad } = this.#settings
    const average = this.#averaged(at)
    if (average >= maxLoad) {
      const best = this.#outside.best
      // One that is no better than nothing is no help, unless all that are inside are as bad.
      if (best <= this.#inside.best && this.size < maxSize) {
        const member = this.#outside.any(best)
        this.#note("widened", member)
        this.#enter(member)
      }
    } else if (average <= minLoad) this.#narrow()
  }

  /** Lets go of one, unless there is none to spare. */
  #narrow(): boolean {
    if (this.#opening.size > 0 || this.size <= this.#least) return false
    const member = this.#expendable()
    this.#note("narrowed", member)
    this.#leave(member)
    return true
  }

  /** The smallest size that it may have now. */
  get #least(): number {
    return Math.min(this.#settings.minSize, this.#inside.size + this.#outside.size)
  }

  /** Whom to let go of: one that is not usable before others, then the least loaded. Some are not opening. */
  #expendable(): Member {
    const { worst } = this.#inside
    return worst > 0 ? this.#inside.any(worst) : this.#heap.pick([])!
  }

  /** Keeps the size above its least, and no member inside that is worse than one outside. */
  #settle(): void {
    // What is opened here may fail at once, and tell of it from within: the loop below sees it, however many they are.
    if (this.#settling || this.#stopped) return
    this.#settling = true
    for (;;) {
      const best = this.#outside.best
      if (this.size < this.#least) this.#enter(this.#outside.any(best))
      else if (best < this.#inside.worst) {
        const worse = this.#inside.any(this.#inside.worst)
        const better = this.#outside.any(best)
        this.#note("replaced", worse)
        this.#leave(worse)
        this.#enter(better)
      } else break
    }
    this.#settling = false
  }

  #enter(member: Member): void {
    const place = placeOf(member)
    this.#outside.remove(member)
    if (member === this.#incoming) this.#incoming = undefined
    this.#forget(member)
    place.active = true
    place.opening = member.state === "Idle"
    this.#inside.add(member)
    this.#heapOf(place).add(member)
    if (this.#used) this.#open(member)
  }

  #leave(member: Member): void {
    const place = placeOf(member)
    this.#inside.remove(member)
    this.#heapOf(place).remove(member)
    this.#forget(member)
    place.active = false
    place.opening = false
    this.#outside.add(member)
    this.#watch(member)
  }

  /** Opens one that has come in, unless it is open. It may be so, or have left again, when this returns. */
  #open(member: Member): void {
    const place = placeOf(member)
    if (!place.opening || place.patience !== undefined) return
    this.#expect(member, place)
    this.#control.open(member)
  }

  /** What opens is not waited for for ever. */
  #expect(member: Member, place: Place): void {
    place.patience = this.#after(openingMillis, () => {
      this.#opened(member, place)
    })
  }

  /** It is open, or will not be: calls go there, or it is replaced. */
  #opened(member: Member, place: Place): void {
    this.#forget(member)
    this.#opening.remove(member)
    place.opening = false
    this.#heap.add(member)
  }

  /**
   * Before the first call, every member is as likely to be inside as any other, whatever the order they join in: or the clients of a
   * service would all begin with the endpoint that its server set names first.
   */
  #shuffleIn(member: Member): void {
    if (this.size < this.#least || member.rank !== 0) return
    if (this.#control.stack.random() * (this.size + this.idle) >= this.size) return
    const other = this.#inside.any(this.#inside.worst)
    if (other.state === "Open") return
    this.#leave(other)
    this.#enter(member)
  }

  /** Takes one in that was opened before any call was made, in place of one that was not. */
  #prefer(member: Member): void {
    const closed = this.#inside.of(0).find((each) => each.state !== "Open")
    if (closed === undefined) return
    this.#leave(closed)
    this.#enter(member)
  }

  /** Opens one that is outside, to exchange it for one inside once it is open. */
  #exchange(): void {
    this.#incoming = undefined
    if (!this.#used || this.#outside.best !== 0) return
    const member = this.#incoming = this.#outside.any(0)
    if (member.state === "Open") this.#arrived(member)
    else this.#control.open(member)
  }

  /** The one to be exchanged is open, or could not be opened. */
  #arrived(member: Member): void {
    if (member.state === "Idle") return
    this.#incoming = undefined
    // With all inside still opening there is none to spare.
    if (member.state !== "Open" || this.#heap.size === 0) return
    const other = this.#expendable()
    this.#note("swapped", other)
    this.#leave(other)
    this.#enter(member)
  }

  /** One outside is closed once it has been idle for a while. */
  #watch(member: Member): void {
    this.#expiry.watch(member, !placeOf(member).active)
  }

  #after(millis: number, fire: () => void): Timer | undefined {
    if (this.#stopped) return undefined
    const { deadlines, now } = this.#control.stack
    const at = now()
    const timer = new CallAt(at + millis, fire)
    deadlines.add(timer, at)
    return timer
  }

  /** Nothing is to happen to it at a time. */
  #forget(member: Member): void {
    const place = placeOf(member)
    this.#expiry.forget(member)
    if (place.patience === undefined) return
    this.#control.stack.deadlines.remove(place.patience)
    place.patience = undefined
  }
}
