/**
 * Sends again what provably never ran, to another endpoint first. What could not even be connected is tried up to 25 times at no
 * cost, as Finagle does with acquisitions; what a server refused is paid from the stack's retry budget, and at most a fifth
 * of what is in it for one call.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Call } from "./Call.ts"
import type { Family, MessageSink } from "./Sink.ts"
import { Stack, type StackShape } from "./Stack.ts"

/** Attempts at connecting for one call, Finagle's `Effort`. */
const effort = 25
/** Share of the budget that one call may take, Finagle's `MaxRequeuesPerReq`. */
const share = 0.2

const isRetryable = (error: unknown): error is { readonly retryable: true; readonly _tag?: unknown } =>
  typeof error === "object" && error !== null && "retryable" in error && error.retryable === true

const neverConnected = (error: { readonly _tag?: unknown }) =>
  error._tag === "ConnectFailed" || error._tag === "FastFailure"

/** What has been spent on one call. */
interface History {
  /** Attempts at connecting. */
  connects: number
  /** Paid requeues that the call may still have; not known before the first. */
  left: number | undefined
  /** It went on once though nothing was usable. */
  wasDown: boolean
}

/** What a requeue stage has done. */
interface Counts {
  requeues: number
  budgetExhausted: number
  limitReached: number
}

const requeue = <Req, Res, E>(
  inner: MessageSink<Req, Res, E>,
  stack: StackShape,
  counts: Counts
): MessageSink<Req, Res, E> => {
  /** Whether the call may go on, and pays for it. */
  const allowed = (error: { readonly _tag?: unknown }, history: History): boolean => {
    const down = inner.status.state === "Closed"
    if (neverConnected(error)) {
      // With everything down, connecting again would meet the same: whoever is down has just been tried.
      return !down && history.connects++ < effort
    }
    // One that got as far as a connection has it made anew once, even if that was the last there was.
    if (down && history.wasDown) return false
    history.wasDown ||= down
    history.left ??= Math.ceil(share * stack.budget.balance)
    if (history.left <= 0) {
      counts.limitReached++
      return false
    }
    if (!stack.budget.withdraw()) {
      counts.budgetExhausted++
      return false
    }
    history.left--
    return true
  }
  const again =
    (request: Req, call: Call, history: History | undefined) => (cause: Cause.Cause<E>): Effect.Effect<Res, E> => {
      const reason = cause.reasons[0]
      const error = cause.reasons.length === 1 && reason !== undefined && Cause.isFailReason(reason)
        ? reason.error
        : undefined
      const spent = history ?? { connects: 1, left: undefined, wasDown: false }
      if (!isRetryable(error) || call.abort.reason !== undefined || !allowed(error, spent)) {
        return Effect.failCause(cause)
      }
      counts.requeues++
      return Effect.catchCause(inner.send(request, call), again(request, call, spent))
    }
  return {
    ...inner,
    send: (request, call) => Effect.catchCause(inner.send(request, call), again(request, call, undefined))
  }
}

/** The stage for a family. */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E>
): Layer.Layer<`${Id}/Balanced`, never, `${Id}/Balanced` | Stack> =>
  Layer.effect(
    family.Balanced,
    Effect.gen(function*() {
      const stack = yield* Stack
      const counts: Counts = { requeues: 0, budgetExhausted: 0, limitReached: 0 }
      yield* stack.register({
        role: "requeue",
        description: "sends again what provably never ran, elsewhere, under a budget",
        options: { effort, share },
        snapshot: () => ({ ...counts, budget: stack.budget.balance })
      })
      return requeue(yield* family.Balanced, stack, counts)
    })
  )
