/**
 * Why a call is ended from outside, and who must hear it: the one wait that the call is in. The reason is set before
 * anything is interrupted, so that every stage that ends can read it.
 */
import * as Context from "effect/Context"
import { Timer } from "./Deadlines.ts"
import type { Endpoint } from "./Endpoint.ts"
import { type Reached, type RpcError, StackClosed, Superseded, Timeout, type Waiting } from "./RpcError.ts"

/** Where a call was when it was aborted: makes the failure that its caller gets. */
export interface AbortedAt {
  readonly waiting: Waiting
  readonly reached: Reached
  readonly endpoint?: Endpoint | undefined
  readonly cause?: unknown
}

/** Why a call was aborted. */
export type AbortReason =
  | { readonly _tag: "Timeout"; readonly timeoutMillis: number }
  | { readonly _tag: "Superseded" }
  | { readonly _tag: "StackClosed"; readonly stack: string }
  /** Its caller was interrupted: nobody hears what it ends with. */
  | { readonly _tag: "Interrupted" }

/** The failure of a call that was aborted for `reason` in the wait `at`. */
export const abortFailure = (reason: AbortReason, at: AbortedAt): RpcError => {
  switch (reason._tag) {
    case "Timeout":
      return new Timeout({
        timeoutMillis: reason.timeoutMillis,
        waiting: at.waiting,
        reached: at.reached,
        endpoint: at.endpoint,
        cause: at.cause
      })
    case "Superseded":
    case "Interrupted":
      return new Superseded({ reached: at.reached, endpoint: at.endpoint })
    case "StackClosed":
      return new StackClosed({ stack: reason.stack, reached: at.reached, endpoint: at.endpoint })
  }
}

/** A wait that ends when its call is aborted. It takes itself off with `Abort.off` when it ends for another reason. */
export interface AbortListener {
  onAbort(reason: AbortReason): void
}

/** The abort state of one call, shared by every view of it. It is also the call's entry in the stack's deadline queue. */
export class Abort extends Timer implements AbortListener {
  /** Set once, before any listener runs. */
  reason: AbortReason | undefined = undefined
  readonly timeoutMillis: number
  /** What a fiber that goes on with the call is given: its caller's. */
  context: Context.Context<never> = Context.empty()
  // A call is in one wait at a time, two when it is hedged: one slot, and a list for the rest.
  #first: AbortListener | undefined = undefined
  #rest: Array<AbortListener> | undefined = undefined
  #parent: Abort | undefined = undefined
  /** What this was forked from, for as long as anything is held. */
  #origin: Abort | undefined = undefined
  #holds = 0
  #brokenBy: "ReplyBroken" | "Interrupted" | undefined = undefined
  #whenReleased: (() => void) | undefined = undefined

  /** `deadline` in milliseconds of the stack's clock; `timeoutMillis` how long that was from the call's start. */
  constructor(deadline: number, timeoutMillis: number) {
    super(deadline)
    this.timeoutMillis = timeoutMillis
  }

  /** Called by the deadline queue. */
  override fire(): void {
    this.abort({ _tag: "Timeout", timeoutMillis: this.timeoutMillis })
  }

  /** Ends the call: the first reason stays, and whoever waits hears it once. */
  abort(reason: AbortReason): void {
    if (this.reason !== undefined) return
    this.reason = reason
    // Taken off one by one: a listener that hears of it may end the wait of another, which is then not told any more.
    for (let listener = this.#first; listener !== undefined; listener = this.#first) {
      this.off(listener)
      listener.onAbort(reason)
    }
  }

  onAbort(reason: AbortReason): void {
    this.#parent = undefined
    this.abort(reason)
  }

  /** Hears of the abort. The caller has looked at `reason` first: a call already aborted tells nobody again. */
  on(listener: AbortListener): void {
    if (this.#first === undefined) this.#first = listener
    else if (this.#rest === undefined) this.#rest = [listener]
    else this.#rest.push(listener)
  }

  /** Takes a listener off; one that is not there is ignored. */
  off(listener: AbortListener): void {
    if (this.#first === listener) {
      this.#first = this.#rest?.pop()
      return
    }
    const index = this.#rest === undefined ? -1 : this.#rest.indexOf(listener)
    if (index >= 0) this.#rest!.splice(index, 1)
  }

  /** An abort of its own for one of several attempts: ended with this one, or alone. `release` it when the attempt ends. */
  fork(): Abort {
    const child = new Abort(this.at, this.timeoutMillis)
    child.context = this.context
    if (this.reason !== undefined) child.reason = this.reason
    else {
      child.#parent = this
      child.#origin = this
      this.on(child)
    }
    return child
  }

  /** Detaches a forked abort from its parent. */
  release(): void {
    this.#parent?.off(this)
    this.#parent = undefined
  }

  /** Whether something of the call outlives its `send`: a response that an attempt holds. */
  get held(): boolean {
    return this.#holds > 0
  }

  /** Something more is held, or with -1 less. The call, with its deadline, lasts until nothing is. */
  hold(change: number): void {
    this.#holds += change
    this.#origin?.hold(change)
    if (this.#holds > 0 || change > 0) return
    const released = this.#whenReleased
    this.#whenReleased = undefined
    released?.()
  }

  /** Why what was held did not come to its end: `Interrupted`, its caller had enough of it. `undefined`: it did, or has not ended. */
  get brokenBy(): "ReplyBroken" | "Interrupted" | undefined {
    return this.#brokenBy
  }

  /** What is held does not come to its end; `undefined`: it is of no account any more. */
  breaks(by: "ReplyBroken" | "Interrupted" | undefined): void {
    this.#brokenBy = by
    this.#origin?.breaks(by)
  }

  /** Calls `f` once, when nothing is held any more. */
  whenReleased(f: () => void): void {
    this.#whenReleased = f
  }

  /** How many waits listen: 0 once the call has ended. */
  get listeners(): number {
    return (this.#first === undefined ? 0 : 1) + (this.#rest?.length ?? 0)
  }
}
