/**
 * Sends a call again that may have been executed, when executing it twice is no harm (`call.idempotent`) and its failure is one that
 * another server may not repeat. It stands above `Requeue`, which has by then dealt with everything that provably never ran.
 *
 * As Finagle's `MethodBuilder` has it: at most 2 retries, 5 ms to 200 ms apart, jittered; each is paid from the client's retry budget. A
 * retry that could not end before the deadline is not waited for: the call fails at once with what it met last.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schedule from "effect/Schedule"
import { abortFailure, type AbortListener } from "./Abort.ts"
import * as Backoff from "./Backoff.ts"
import { type Call, tagOf } from "./Call.ts"
import { CallAt } from "./Deadlines.ts"
import { given } from "./Describe.ts"
import * as Direct from "./Direct.ts"
import { table } from "./metricTable.ts"
import * as Metrics from "./Metrics.ts"
import { wholeNumber } from "./options.ts"
import type { InvalidOption, RpcError } from "./RpcError.ts"
import type { Family, MessageSink } from "./Sink.ts"
import { Stack, type StackShape } from "./Stack.ts"
import * as Tracing from "./Tracing.ts"

/** Options of the retries of a family that fails with `E`. */
export interface RetryOptions<E = RpcError> {
  /** Retries of one call, 0 to 100; 0: none is made. Default 2. */
  readonly retries?: number | undefined
  /**
   * How long to wait before each. When it ends, so do the retries. Default `Backoff.decorrelatedJittered`, 5 ms to 200 ms.
   */
  readonly backoff?: Schedule.Schedule<unknown> | undefined
  /**
   * Whether a call that failed so may be sent again, in place of `mayDiffer`. Asked of idempotent calls alone, and never once a call
   * was aborted. Must not throw.
   */
  readonly when?: ((error: E) => boolean) | undefined
}

/**
 * The default: failures of one server or one connection that may have come after the call was executed. These are `ConnectionClosed` after
 * the request was sent, `ServerFailed` unless the server says that it did not run the call, and `ProtocolError`.
 *
 * Not among them is what provably never ran, which `Requeue` has tried elsewhere already; and what would be the same anywhere: a passed
 * deadline, a client that is closed, a request that cannot be sent.
 */
export const mayDiffer = (error: unknown): boolean => {
  if (typeof error !== "object" || error === null) return false
  const { _tag, reached } = error as { readonly _tag?: unknown; readonly reached?: unknown }
  return reached === "maybe" && (_tag === "ConnectionClosed" || _tag === "ServerFailed" || _tag === "ProtocolError")
}

/** What a retry stage has done. */
interface Counts {
  retries: number
  budgetExhausted: number
  exhausted: number
  outOfTime: number
  notRetryable: number
}

/** What one call has left; made when it first fails. */
interface Left {
  retries: number
  readonly delay: () => number | undefined
}

/** What the stage knows once it is built. */
interface Shared<E> {
  readonly stack: StackShape
  readonly counts: Counts
  readonly retries: number
  readonly when: (error: E) => boolean
  /** The delays of one call, in milliseconds. */
  readonly delays: () => () => number | undefined
}

const retry = <Req, Res, E>(
  inner: MessageSink<Req, Res, E | RpcError>,
  { counts, delays, retries, stack, when }: Shared<E | RpcError>
): MessageSink<Req, Res, E | RpcError> => {
  /** The delay before the next try, in whole milliseconds, paid for; `undefined`: there is none. */
  const next = (call: Call, left: Left): number | undefined => {
    const delay = left.retries === 0 ? undefined : left.delay()
    if (delay === undefined) {
      counts.exhausted++
      return undefined
    }
    // Whole ones: the deadline queue keeps a list for each duration.
    const millis = Math.max(0, Math.ceil(delay))
    if (!stack.inTime(call.deadline, millis)) {
      counts.outOfTime++
      return undefined
    }
    // Before the wait: of many that wait, none is to find the budget empty when its time has come.
    if (!stack.budget.withdraw()) {
      counts.budgetExhausted++
      return undefined
    }
    left.retries--
    return millis
  }

  const pauseThen = (
    millis: number,
    call: Call,
    error: unknown,
    then: Effect.Effect<Res, E | RpcError>
  ): Effect.Effect<Res, E | RpcError> =>
    Effect.callback((resume) => {
      const { abort } = call
      const listener: AbortListener = {
        onAbort: (reason) => {
          stack.deadlines.remove(pause)
          const endpoint = call.tried.at(-1)
          resume(Effect.fail(abortFailure(reason, { waiting: "backoff", reached: "maybe", endpoint, cause: error })))
        }
      }
      const now = stack.now()
      const pause = new CallAt(now + millis, () => {
        abort.off(listener)
        resume(then)
      })
      if (abort.reason !== undefined) return listener.onAbort(abort.reason)
      stack.deadlines.add(pause, now)
      abort.on(listener)
      return Effect.sync(() => {
        stack.deadlines.remove(pause)
        abort.off(listener)
      })
    })

  const again =
    (request: Req, call: Call, before: Left | undefined) =>
    (cause: Cause.Cause<E | RpcError>): Effect.Effect<Res, E | RpcError> => {
      const reason = cause.reasons[0]
      if (
        call.abort.reason !== undefined || cause.reasons.length !== 1 || reason === undefined ||
        !Cause.isFailReason(reason)
      ) return Effect.failCause(cause)
      if (!when(reason.error)) {
        counts.notRetryable++
        return Effect.failCause(cause)
      }
      const left = before ?? { retries, delay: delays() }
      const millis = next(call, left)
      if (millis === undefined) return Effect.failCause(cause)
      const sendAgain = Effect.suspend(() => {
        counts.retries++
        if (call.span !== undefined) {
          Tracing.event(stack, call.span, "retry", { "error.type": tagOf(cause), delay_ms: millis })
        }
        return Effect.catchCause(inner.send(request, call), again(request, call, left))
      })
      return millis === 0 ? sendAgain : pauseThen(millis, call, reason.error, sendAgain)
    }

  const direct = Direct.through(inner)
  return {
    ...inner,
    send: Direct.offer(
      (request: Req, call: Call) =>
        call.idempotent
          ? Effect.catchCause(inner.send(request, call), again(request, call, undefined))
          : inner.send(request, call),
      direct && ((request: Req, call: Call, done: Direct.Done<Res, E | RpcError>) =>
        direct(
          request,
          call,
          call.idempotent
            ? (exit) =>
              exit._tag === "Success"
                ? done(exit)
                : Direct.goOn(() => again(request, call, undefined)(exit.cause), call, done)
            : done
        ))
    )
  }
}

/**
 * The stage for a family, to stand above `Requeue`. A call that is not idempotent, and one whose first attempt ends well, pays nothing
 * for it. Shows `scales.retry.*`. Fails with `InvalidOption` for a number of retries that is none.
 */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  options: RetryOptions<NoInfer<E | RpcError>> = {}
): Layer.Layer<`${Id}/Balanced`, InvalidOption, `${Id}/Balanced` | Stack> =>
  Layer.effect(
    family.Balanced,
    Effect.gen(function*() {
      const stack = yield* Stack
      const inner = yield* family.Balanced
      const retries = yield* wholeNumber("retries", options.retries, 2, 0, 100)
      const run = Effect.runForkWith(yield* Effect.context<never>())
      const backoff = options.backoff ?? Backoff.decorrelatedJittered(5, 200)
      const counts: Counts = { retries: 0, budgetExhausted: 0, exhausted: 0, outOfTime: 0, notRetryable: 0 }
      yield* stack.register({
        role: "retry",
        description: "sends idempotent calls again that may have been executed, under a budget",
        options: given(options, {
          retries,
          backoff: options.backoff === undefined ? "5 ms to 200 ms, decorrelated jitter" : "a schedule",
          when: options.when === undefined ? "mayDiffer" : "a function"
        }),
        snapshot: () => ({ ...counts })
      })
      yield* Metrics.show(
        stack,
        Metrics.value(table["scales.retry.retries"], () => counts.retries),
        Metrics.value(table["scales.retry.budget_exhausted"], () => counts.budgetExhausted),
        Metrics.value(table["scales.retry.exhausted"], () => counts.exhausted),
        Metrics.value(table["scales.retry.out_of_time"], () => counts.outOfTime),
        Metrics.value(table["scales.retry.not_retryable"], () => counts.notRetryable)
      )
      if (retries === 0) return inner
      return retry(inner, {
        stack,
        counts,
        retries,
        when: options.when ?? mayDiffer,
        delays: () => Backoff.delays(backoff, stack, run)
      })
    })
  )
