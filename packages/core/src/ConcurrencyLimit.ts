/**
 * At most so many calls of this client at a time: over that some wait for their turn, in order, and the rest fail at
 * once with `LimitExceeded` (Finagle's `RequestSemaphoreFilter`). It bounds what the client asks of all its servers
 * together; what bounds one endpoint is `PendingLimit`.
 *
 * Its place is above requeues and the balancer, so that a call has one slot for all its attempts. A slot is held until
 * the call has really ended, a streamed response included, and passes to the first in the queue in that same turn.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { type Abort, abortFailure, type AbortListener, type AbortReason } from "./Abort.ts"
import type { Call } from "./Call.ts"
import { given } from "./Describe.ts"
import { table } from "./metricTable.ts"
import * as Metrics from "./Metrics.ts"
import { wholeNumber } from "./options.ts"
import { type InvalidOption, LimitExceeded, type RpcError } from "./RpcError.ts"
import type { Family, MessageSink } from "./Sink.ts"
import { Stack } from "./Stack.ts"

/** Options of the concurrency limit. */
export interface ConcurrencyLimitOptions {
  /** How many calls run at a time, 1 at least. */
  readonly maxConcurrent: number
  /** How many more may wait for their turn, each until its deadline. Default 0: over the limit a call fails at once. */
  readonly maxWaiting?: number | undefined
}

/** One call at the limit: it has a slot, waits for one, or neither. */
class Entry implements AbortListener {
  readonly call: Call
  /**
   * Has a slot. Whoever passes the slot on says so here, before the call's fiber hears of it: interrupted in between,
   * it gives back what it never used.
   */
  holding = false
  /** The abort of the call as those below see it: what they hold is told from what others hold of the same call. */
  below: Abort | undefined = undefined
  /** Ends the wait, which leaves the queue: with a slot, or for a reason. */
  wake: (reason: AbortReason | undefined) => void = () => {}
  queued = false
  previous: Entry | undefined = undefined
  next: Entry | undefined = undefined

  constructor(call: Call) {
    this.call = call
  }

  onAbort(reason: AbortReason): void {
    this.wake(reason)
  }
}

/**
 * The slots and the queue for them, a linked list: whoever leaves it leaves nothing behind. While anybody waits, no
 * slot is free.
 */
class Slots {
  readonly maxConcurrent: number
  readonly maxWaiting: number
  readonly now: () => number
  inUse = 0
  waiting = 0
  waited = 0
  rejected = 0
  #first: Entry | undefined = undefined
  #last: Entry | undefined = undefined
  /** Slots that were given back and not passed on yet. */
  #free = 0
  #passing = false

  constructor(maxConcurrent: number, maxWaiting: number, now: () => number) {
    this.maxConcurrent = maxConcurrent
    this.maxWaiting = maxWaiting
    this.now = now
  }

  /** Takes a slot, if one is free. */
  take(entry: Entry): boolean {
    if (this.inUse === this.maxConcurrent) return false
    this.inUse++
    entry.holding = true
    return true
  }

  /** Waits behind those who wait already, if there is room. */
  queue(entry: Entry): boolean {
    if (this.waiting === this.maxWaiting) {
      this.rejected++
      return false
    }
    this.waiting++
    this.waited++
    entry.queued = true
    entry.previous = this.#last
    if (this.#last === undefined) this.#first = entry
    else this.#last.next = entry
    this.#last = entry
    return true
  }

  /** Leaves the queue; one that is not in it is ignored. */
  leave(entry: Entry): void {
    if (!entry.queued) return
    this.waiting--
    entry.queued = false
    if (entry.previous === undefined) this.#first = entry.next
    else entry.previous.next = entry.next
    if (entry.next === undefined) this.#last = entry.previous
    else entry.next.previous = entry.previous
    entry.previous = undefined
    entry.next = undefined
  }

  /**
   * A slot that was given back is to the first who waits. Whoever has it may end in this turn, as when everything is
   * down: that slot is passed on when this call returns, not inside of it, or a long queue would overflow the stack.
   */
  release(): void {
    this.#free++
    if (this.#passing) return
    this.#passing = true
    try {
      for (; this.#free > 0; this.#free--) this.#passOn()
    } finally {
      this.#passing = false
    }
  }

  #passOn(): void {
    for (let next = this.#first; next !== undefined; next = this.#first) {
      // Calls made together end together: no slot for one that is about to hear of its own deadline.
      const { abort, deadline } = next.call
      const late = abort.reason === undefined && deadline <= this.now()
      const reason: AbortReason | undefined = late
        ? { _tag: "Timeout", timeoutMillis: abort.timeoutMillis }
        : abort.reason
      next.holding = reason === undefined
      next.wake(reason)
      if (reason === undefined) return
    }
    this.inUse--
  }
}

const limited = <Req, Res, E>(
  slots: Slots,
  inner: MessageSink<Req, Res, E>
): MessageSink<Req, Res, E | RpcError> => {
  const begin = (request: Req, entry: Entry): Effect.Effect<Res, E> =>
    Effect.suspend(() => {
      const abort = entry.below = entry.call.abort.fork()
      return inner.send(request, { ...entry.call, abort })
    })

  const wait = (request: Req, entry: Entry): Effect.Effect<Res, E | RpcError> =>
    Effect.callback<Res, E | RpcError>((resume) => {
      const { abort } = entry.call
      const aborted = (reason: AbortReason) =>
        Effect.fail(abortFailure(reason, { waiting: "queue", reached: "no", endpoint: undefined }))
      // Either may have come since the caller looked.
      if (abort.reason !== undefined) return resume(aborted(abort.reason))
      if (slots.take(entry)) return resume(begin(request, entry))
      if (!slots.queue(entry)) {
        return resume(
          Effect.fail(new LimitExceeded({ limit: "concurrency", max: slots.maxConcurrent, endpoint: undefined }))
        )
      }
      const leave = () => {
        slots.leave(entry)
        abort.off(entry)
      }
      entry.wake = (reason) => {
        leave()
        resume(reason === undefined ? begin(request, entry) : aborted(reason))
      }
      abort.on(entry)
      return Effect.sync(leave)
    })

  const ended = (entry: Entry, exit: Exit.Exit<unknown, unknown>): undefined => {
    if (!entry.holding) return
    const { below } = entry
    const release = () => {
      below?.release()
      slots.release()
    }
    if (Exit.isSuccess(exit) && below?.held === true) below.whenReleased(release)
    else release()
  }

  return {
    ...inner,
    send: (request, call) =>
      Effect.suspend(() => {
        const entry = new Entry(call)
        // The slot is taken inside of what gives it back: between any two steps of a fiber it may be interrupted.
        return Effect.onExitPrimitive(
          Effect.suspend(() => slots.take(entry) ? begin(request, entry) : wait(request, entry)),
          (exit) => ended(entry, exit)
        )
      })
  }
}

/**
 * The limit for a family, over everything below it. A call over it fails with `LimitExceeded` (limit `concurrency`),
 * one whose deadline passes in the queue with `Timeout` (waiting for `queue`); neither has reached a server. The status
 * is that of what is below: one client has nowhere else to go.
 *
 * Shown as `scales.concurrency_limit.in_use`, `.waiting`, `.waited` and `.rejected`. Fails with `InvalidOption` for a number out
 * of its range.
 */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  options: ConcurrencyLimitOptions
): Layer.Layer<`${Id}/Balanced`, InvalidOption, `${Id}/Balanced` | Stack> =>
  Layer.effect(
    family.Balanced,
    Effect.gen(function*() {
      const stack = yield* Stack
      const inner = yield* family.Balanced
      const maxConcurrent = yield* wholeNumber("maxConcurrent", options.maxConcurrent ?? NaN, 1, 1)
      const maxWaiting = yield* wholeNumber("maxWaiting", options.maxWaiting, 0, 0)
      const slots = new Slots(maxConcurrent, maxWaiting, stack.now)
      yield* Metrics.show(
        stack,
        Metrics.value(table["scales.concurrency_limit.in_use"], () => slots.inUse),
        Metrics.value(table["scales.concurrency_limit.waiting"], () => slots.waiting),
        Metrics.value(table["scales.concurrency_limit.waited"], () => slots.waited),
        Metrics.value(table["scales.concurrency_limit.rejected"], () => slots.rejected)
      )
      yield* stack.register({
        role: "concurrencyLimit",
        description: "runs so many calls at a time, lets some wait in order, and fails the rest",
        options: given(options, { maxConcurrent, maxWaiting }),
        snapshot: () => ({
          inUse: slots.inUse,
          waiting: slots.waiting,
          waited: slots.waited,
          rejected: slots.rejected
        })
      })
      return limited(slots, inner)
    })
  )
