/**
 * Sends again what provably never ran, to another endpoint first, and at once. What could not even be connected is tried up to 25
 * times at no cost, as Finagle does with acquisitions; what a server refused is paid from the stack's retry budget, and at
 * most a fifth of what is in it for one call.
 *
 * A refusal that was refused another try, because the call's share or the budget is used up, reaches the caller as not
 * retryable: whoever called us is not to multiply the load that we hold back.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type Call, tagOf } from "./Call.ts"
import { given } from "./Describe.ts"
import * as Direct from "./Direct.ts"
import { table } from "./metricTable.ts"
import * as Metrics from "./Metrics.ts"
import { Nacked, ServerFailed } from "./RpcError.ts"
import type { Family, MessageSink } from "./Sink.ts"
import { Stack, type StackShape } from "./Stack.ts"
import { rank } from "./Status.ts"
import * as Tracing from "./Tracing.ts"

/** Attempts at connecting for one call, Finagle's `Effort`. */
const effort = 25
/** Share of the budget that one call may take, Finagle's `MaxRequeuesPerReq`. */
const share = 0.2

const isRetryable = (error: unknown): error is { readonly retryable: true; readonly _tag?: unknown } =>
  typeof error === "object" && error !== null && "retryable" in error && error.retryable === true

const neverConnected = (error: { readonly _tag?: unknown }) =>
  error._tag === "ConnectFailed" || error._tag === "FastFailure"

/** The same failure without leave to try again, where that is the server's word; else as it is. */
const final = <E>(error: E): E => {
  if (error instanceof Nacked) return new Nacked({ endpoint: error.endpoint, why: error.why, retryable: false }) as E
  if (error instanceof ServerFailed) {
    const { cause, endpoint, rejected, why } = error
    const because = cause === undefined ? undefined : { cause }
    return new ServerFailed({ endpoint, why, retryable: false, rejected, ...because }) as E
  }
  return error
}

/** What has been spent on one `send`. */
interface History {
  /** Attempts at connecting. */
  connects: number
  /** It went on once though nothing was good to use. */
  wasNotOpen: boolean
}

/** What a requeue stage has done. */
interface Counts {
  /** What could not even be connected, at no cost. */
  notConnected: number
  /** What a server refused, paid for. */
  refused: number
  budgetExhausted: number
  limitReached: number
  notOpen: number
  notRetryable: number
  outOfTime: number
}

/** `"stop"`: nothing can be used now, which says nothing of what was refused; `"final"`: enough was spent on it. */
type Verdict = "again" | "stop" | "final"

const requeue = <Req, Res, E>(
  inner: MessageSink<Req, Res, E>,
  stack: StackShape,
  counts: Counts
): MessageSink<Req, Res, E> => {
  /** Paid requeues that a call may still have. By what all copies of it share: retries and hedges have no share of their own. */
  const shares = new WeakMap<Call["tried"], { left: number }>()

  /**
   * Taken when the call is first refused, not when it starts as Finagle does: a call that succeeds pays nothing for it, and one that
   * ran for long while others emptied the budget gets its share of what is left.
   */
  const shareOf = (call: Call): { left: number } => {
    let own = shares.get(call.tried)
    if (own === undefined) shares.set(call.tried, own = { left: Math.ceil(share * stack.budget.balance) })
    return own
  }

  /** Whether the call may go on, and pays for it. */
  const judge = (error: { readonly _tag?: unknown }, call: Call, history: History): Verdict => {
    const usable = rank(inner.status.state)
    if (neverConnected(error)) {
      // With everything down, connecting again would meet the same: whoever is down has just been tried.
      if (usable === 2) {
        counts.notOpen++
        return "stop"
      }
      if (history.connects++ < effort) {
        counts.notConnected++
        return "again"
      }
      counts.limitReached++
      return "final"
    }
    // Finagle stops here. One that got as far as a connection has one more try, even if that was the last there was: what drains
    // or broke is often back by then.
    if (usable > 0 && history.wasNotOpen) {
      counts.notOpen++
      return "stop"
    }
    history.wasNotOpen ||= usable > 0
    const own = shareOf(call)
    if (own.left <= 0) {
      counts.limitReached++
      return "final"
    }
    if (!stack.budget.withdraw()) {
      counts.budgetExhausted++
      return "final"
    }
    own.left--
    counts.refused++
    return "again"
  }

  const again =
    (request: Req, call: Call, history: History | undefined) => (cause: Cause.Cause<E>): Effect.Effect<Res, E> => {
      const reason = cause.reasons[0]
      const error = cause.reasons.length === 1 && reason !== undefined && Cause.isFailReason(reason)
        ? reason.error
        : undefined
      // One that was aborted failed with that, whatever it says.
      if (call.abort.reason !== undefined) return Effect.failCause(cause)
      if (!isRetryable(error)) {
        counts.notRetryable++
        return Effect.failCause(cause)
      }
      // A deadline may have passed that nobody was told of yet: its timer waits for this turn to end.
      if (!stack.inTime(call.deadline, 0)) {
        counts.outOfTime++
        return Effect.failCause(cause)
      }
      const spent = history ?? { connects: 1, wasNotOpen: false }
      const verdict = judge(error, call, spent)
      if (verdict !== "again") return Effect.failCause(verdict === "final" ? Cause.map(cause, final) : cause)
      if (call.span !== undefined) Tracing.event(stack, call.span, "requeue", { "error.type": tagOf(cause) })
      return Effect.catchCause(inner.send(request, call), again(request, call, spent))
    }
  const direct = Direct.through(inner)
  return {
    ...inner,
    send: Direct.offer(
      (request: Req, call: Call) => Effect.catchCause(inner.send(request, call), again(request, call, undefined)),
      direct && ((request: Req, call: Call, done: Direct.Done<Res, E>) =>
        direct(
          request,
          call,
          (exit) =>
            exit._tag === "Success"
              ? done(exit)
              : Direct.goOn(() => again(request, call, undefined)(exit.cause), call, done)
        ))
    )
  }
}

/** The stage for a family. Shows `scales.requeue.*`. */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E>
): Layer.Layer<`${Id}/Balanced`, never, `${Id}/Balanced` | Stack> =>
  Layer.effect(
    family.Balanced,
    Effect.gen(function*() {
      const stack = yield* Stack
      const counts: Counts = {
        notConnected: 0,
        refused: 0,
        budgetExhausted: 0,
        limitReached: 0,
        notOpen: 0,
        notRetryable: 0,
        outOfTime: 0
      }
      yield* stack.register({
        role: "requeue",
        description: "sends again what provably never ran, elsewhere, under a budget",
        options: given(undefined, { effort, share }),
        snapshot: () => ({ requeues: counts.notConnected + counts.refused, ...counts, budget: stack.budget.balance })
      })
      const requeues = table["scales.requeue.requeues"]
      yield* Metrics.show(
        stack,
        Metrics.value(requeues, () => counts.notConnected, { cause: "not_connected" }),
        Metrics.value(requeues, () => counts.refused, { cause: "refused" }),
        Metrics.value(table["scales.requeue.budget_exhausted"], () => counts.budgetExhausted),
        Metrics.value(table["scales.requeue.request_limit"], () => counts.limitReached),
        Metrics.value(table["scales.requeue.not_open"], () => counts.notOpen),
        Metrics.value(table["scales.requeue.not_retryable"], () => counts.notRetryable),
        Metrics.value(table["scales.requeue.out_of_time"], () => counts.outOfTime)
      )
      return requeue(yield* family.Balanced, stack, counts)
    })
  )
