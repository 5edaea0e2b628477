/**
 * The deadline queue of a stack: one structure and one sleeping fiber for all calls, in place of a timer a call.
 *
 * Timers of one duration form a list in order of expiry, so adding and removing is linking and unlinking (a call that ends in
 * time leaves nothing behind); the lists stand in a heap by the expiry of their head, which is a lower bound that is
 * put right when it comes up. `Effect.timeout` around each call costs 2.6 microseconds, this 0.1.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"

/** Something that happens at a time unless it is removed before. */
export abstract class Timer {
  /** Milliseconds of the stack's clock; `Infinity`: never by itself. */
  readonly at: number
  /** @internal */
  prev: Timer | undefined = undefined
  /** @internal */
  next: Timer | undefined = undefined
  /** @internal */
  list: TimerList | undefined = undefined

  constructor(at: number) {
    this.at = at
  }

  /** Runs once, when its time has come. */
  abstract fire(): void
}

/** A timer that calls a function. */
export class CallAt extends Timer {
  readonly #f: () => void

  constructor(at: number, f: () => void) {
    super(at)
    this.#f = f
  }

  override fire(): void {
    this.#f()
  }
}

/** Timers of one duration, oldest first. */
class TimerList {
  readonly duration: number
  /** No timer of the list is due before this. */
  bound = Infinity
  head: Timer | undefined = undefined
  tail: Timer | undefined = undefined

  constructor(duration: number) {
    this.duration = duration
  }

  push(timer: Timer): void {
    // A clock that was set back makes a later timer due earlier: it is put where it belongs.
    let after = this.tail
    while (after !== undefined && after.at > timer.at) after = after.prev
    timer.list = this
    timer.prev = after
    timer.next = after === undefined ? this.head : after.next
    if (timer.prev === undefined) this.head = timer
    else timer.prev.next = timer
    if (timer.next === undefined) this.tail = timer
    else timer.next.prev = timer
  }

  remove(timer: Timer): void {
    if (timer.prev === undefined) this.head = timer.next
    else timer.prev.next = timer.next
    if (timer.next === undefined) this.tail = timer.prev
    else timer.next.prev = timer.prev
    timer.list = undefined
    timer.prev = undefined
    timer.next = undefined
  }
}

/** How much a sleep may fall short of the clock before the clock is taken to have been set back, in milliseconds. */
const tolerance = 50

/** The queue. Made by `make`; its fiber ends with the scope. */
export class Deadlines {
  readonly #clock: Clock.Clock
  #last = -Infinity
  #ahead = 0
  readonly #sleep: (millis: number, wake: () => void) => () => void
  readonly #lists = new Map<number, TimerList>()
  /** Lists by `bound`, a binary heap. */
  readonly #heap: Array<TimerList> = []
  #wakeAt = Infinity
  #cancelSleep: (() => void) | undefined = undefined
  /** Where timers are between being due and being fired: each may still be removed by one that fires before it. */
  readonly #firing = new TimerList(0)
  #size = 0
  #stopped = false

  constructor(clock: Clock.Clock, sleep: (millis: number, wake: () => void) => () => void) {
    this.#clock = clock
    this.#sleep = sleep
  }

  /**
   * Milliseconds of the clock, except that they never go back: a clock that is set back would put off every deadline by as much.
   */
  readonly now = (): number => this.#pass(this.#last)

  /** How far `now` is ahead of the clock because that was set back. */
  get ahead(): number {
    return this.#ahead
  }

  /** How many timers wait. */
  get size(): number {
    return this.#size
  }

  /** Adds a timer; `now` is the clock's time that the caller has just read. */
  add(timer: Timer, now: number): void {
    this.#size++
    const duration = timer.at === Infinity ? Infinity : Math.max(0, Math.ceil(timer.at - now))
    let list = this.#lists.get(duration)
    if (list === undefined) {
      list = new TimerList(duration)
      this.#lists.set(duration, list)
    }
    list.push(timer)
    if (timer.at < list.bound) {
      const queued = list.bound !== Infinity
      list.bound = timer.at
      if (queued) this.#up(this.#heap.indexOf(list))
      else {
        this.#heap.push(list)
        this.#up(this.#heap.length - 1)
      }
      if (timer.at < this.#wakeAt) this.#arm(now)
    }
  }

  /** Removes a timer; one that fired or was removed is ignored. */
  remove(timer: Timer): void {
    if (timer.list === undefined) return
    timer.list.remove(timer)
    this.#size--
  }

  /** Every waiting timer, in no particular order. */
  *[Symbol.iterator](): Iterator<Timer> {
    for (const list of this.#lists.values()) {
      for (let timer = list.head; timer !== undefined;) {
        const next: Timer | undefined = timer.next
        yield timer
        timer = next
      }
    }
  }

  /** Ends the sleep. Timers that wait never fire; the stack's dispatcher has drained or aborted its calls before. */
  stop(): void {
    this.#stopped = true
    this.#cancelSleep?.()
    this.#cancelSleep = undefined
  }

  #arm(now: number): void {
    this.#cancelSleep?.()
    this.#cancelSleep = undefined
    const next = this.#heap[0]
    this.#wakeAt = next === undefined ? Infinity : next.bound
    if (next === undefined || this.#stopped) return
    // Whole milliseconds, as the clock has them: a sleep that ends within one finds nothing due.
    this.#cancelSleep = this.#sleep(Math.max(0, Math.ceil(this.#wakeAt - now)), this.#wake)
  }

  readonly #wake = (): void => {
    this.#cancelSleep = undefined
    // A sleep lasts as long as it was to, whatever the clock says.
    let now = this.now()
    if (now < this.#wakeAt - tolerance) now = this.#pass(this.#wakeAt)
    // All that is due is taken out before anything fires: what fires may add and remove timers.
    const due: Array<Timer> = []
    for (let list = this.#heap[0]; list !== undefined && list.bound <= now; list = this.#heap[0]) {
      for (let timer = list.head; timer !== undefined && timer.at <= now; timer = list.head) {
        list.remove(timer)
        timer.list = this.#firing
        due.push(timer)
      }
      if (list.head === undefined) {
        list.bound = Infinity
        this.#lists.delete(list.duration)
        const last = this.#heap.pop()!
        if (last !== list) this.#heap[0] = last
      } else list.bound = list.head.at
      this.#down(0)
    }
    this.#arm(now)
    // A wake that comes late finds several lists due.
    if (due.length > 1) due.sort((a, b) => a.at - b.at)
    let failed = false
    let failure: unknown
    for (const timer of due) {
      if (timer.list !== this.#firing) continue
      timer.list = undefined
      this.#size--
      try {
        timer.fire()
      } catch (error) {
        // Its own bug, and not to be that of the others.
        failed = true
        failure = error
      }
    }
    if (failed) throw failure
  }

  /** The time, `least` at least. */
  #pass(least: number): number {
    const now = this.#clock.currentTimeMillisUnsafe() + this.#ahead
    if (now >= least) return this.#last = now
    this.#ahead += least - now
    return this.#last = least
  }

  #up(index: number): void {
    const heap = this.#heap
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (heap[parent]!.bound <= heap[index]!.bound) return
      this.#swap(index, parent)
      index = parent
    }
  }

  #down(index: number): void {
    const heap = this.#heap
    for (;;) {
      const left = 2 * index + 1
      if (left >= heap.length) return
      const right = left + 1
      const child = right < heap.length && heap[right]!.bound < heap[left]!.bound ? right : left
      if (heap[index]!.bound <= heap[child]!.bound) return
      this.#swap(index, child)
      index = child
    }
  }

  #swap(a: number, b: number): void {
    const list = this.#heap[a]!
    this.#heap[a] = this.#heap[b]!
    this.#heap[b] = list
  }
}

/** A queue that lives as long as the scope, on the `Clock` of the fiber that makes it. */
export const make: Effect.Effect<Deadlines, never, Scope.Scope> = Effect.gen(function*() {
  const context = yield* Effect.context<never>()
  const run = Effect.runForkWith(context)
  const deadlines = new Deadlines(Context.get(context, Clock.Clock), (millis, wake) => {
    // What is due already fires in the next turn: nothing may fire while it is being added. (A clock may sleep 0 ms in no time.)
    const slept = millis > 0 ? Effect.sleep(Duration.millis(millis)) : Effect.yieldNow
    const fiber: Fiber.Fiber<void> = run(Effect.andThen(
      slept,
      Effect.catchCause(Effect.sync(wake), (cause) => Effect.logError("a timer failed", cause))
    ))
    return () => fiber.interruptUnsafe()
  })
  yield* Effect.addFinalizer(() => Effect.sync(() => deadlines.stop()))
  return deadlines
})
