/** A constant open-loop load: calls begin at fixed times whatever came of those before, and each reply is held against its request. */
import { Cause, Effect, Exit, type Scope } from "effect"
import type { Caller } from "./protocol.ts"

/** When calls begin: one every `1000 / rate` milliseconds from `startedAt` on, however often or late somebody looks. */
export class Timetable {
  readonly rate: number
  readonly startedAt: number
  #begun = 0

  constructor(rate: number, startedAt: number) {
    this.rate = rate
    this.startedAt = startedAt
  }

  /** When call `index` is due, in milliseconds. */
  at(index: number): number {
    return this.startedAt + index * 1000 / this.rate
  }

  /** The index of the next call that is due at `now`; `undefined` when none is. Each is given once, in order. */
  next(now: number): number | undefined {
    return this.at(this.#begun) <= now ? this.#begun++ : undefined
  }
}

/** A call that failed: when, since the load began, in milliseconds. */
export interface FailedCall {
  readonly tag: string
  readonly at: number
}

/** What came of the calls. */
export class Tally {
  calls = 0
  ok = 0
  /** Replies that were not what their request asked for. */
  wrong = 0
  /** The longest that a call took, from when it was due: a load that is late makes no call faster. */
  slowestMillis = 0
  readonly failed: Array<FailedCall> = []

  /** Notes how a call ended that was due at `due`: `true` is the reply that was asked for. Times are of one clock. */
  end<E>(exit: Exit.Exit<boolean, E>, due: number, now: number): void {
    this.slowestMillis = Math.max(this.slowestMillis, now - due)
    if (Exit.isSuccess(exit)) {
      if (exit.value) this.ok++
      else this.wrong++
      return
    }
    const error = Cause.squash(exit.cause)
    const tag = typeof error === "object" && error !== null && "_tag" in error ? String(error._tag) : "Defect"
    this.failed.push({ tag, at: now })
  }

  get ended(): number {
    return this.ok + this.wrong + this.failed.length
  }
}

/** Begins calls at `rate` a second until the scope closes; a call that has begun ends by itself. */
export const run = (
  call: Caller,
  rate: number,
  tally: Tally
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function*() {
    const fork = Effect.runForkWith(yield* Effect.context<never>())
    const timetable = new Timetable(rate, performance.now())
    const begin = (index: number) => {
      const due = timetable.at(index)
      tally.calls++
      fork(call(index)).addObserver((exit) => tally.end(exit, due, performance.now()))
    }
    const tick = () => {
      const now = performance.now()
      for (let index = timetable.next(now); index !== undefined; index = timetable.next(now)) begin(index)
    }
    yield* Effect.acquireRelease(
      Effect.sync(() => setInterval(tick, 1)),
      (timer) => Effect.sync(() => clearInterval(timer))
    )
  })
