/**
 * Where a method call becomes a Call: takes what the caller said of it, gives it a deadline, counts it, and sees it end. Closing
 * refuses new calls, waits for those outstanding up to the stack's `drainTimeout`, then aborts them.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { Abort, abortFailure, type AbortListener, type AbortReason } from "./Abort.ts"
import type { Call, Classifier } from "./Call.ts"
import { CallContext } from "./CallContext.ts"
import type { Done } from "./Direct.ts"
import { durationMillis } from "./options.ts"
import { CallSettings } from "./Rpc.ts"
import { type InvalidOption, type RpcError, StackClosed } from "./RpcError.ts"
import { Stack } from "./Stack.ts"

/** What is known of a method before it is called. */
export interface CalledMethod {
  readonly name: string
  /** May be executed twice, whatever the caller says. */
  readonly idempotent: boolean
  readonly classify: Classifier
}

/** Options of a dispatcher. */
export interface DispatcherOptions {
  /** What calls, metrics and spans name. */
  readonly service: string
  /** How long a call may take when it says nothing nearer: finite, 1 ms at least. */
  readonly timeout: Duration.Input
  /** Entries that every call carries, over what its caller set. Default: none. */
  readonly context?: CallContext | undefined
}

/** Runs calls. */
export interface Dispatcher {
  /** `run` is given the call and does everything below; what it fails with is what the caller gets. */
  readonly dispatch: <A, E>(
    method: CalledMethod,
    run: (call: Call) => Effect.Effect<A, E>,
    direct?: DirectRun<A, E>
  ) => Effect.Effect<A, E | RpcError>
}

/** Does what `run` does, the direct way; `false`: it did nothing, and the call is to be run. */
export type DirectRun<A, E> = (call: Call, done: Done<A, E>) => boolean

/** Runs a call in a fiber of its own, so that an abort ends it wherever it waits. */
const bounded = <A, E>(call: Call, self: Effect.Effect<A, E>): Effect.Effect<A, E | RpcError> =>
  Effect.withFiber((parent) =>
    Effect.callback<A, E | RpcError>((resume) => {
      const failure = (reason: AbortReason) =>
        Effect.fail(abortFailure(reason, { waiting: "filter", reached: call.tried.length === 0 ? "no" : "maybe" }))
      if (call.abort.reason !== undefined) return resume(failure(call.abort.reason))
      const child = Effect.runForkWith(parent.context)(self)
      const exit = child.pollUnsafe()
      if (exit !== undefined) return resume(exit)
      let aborted: Effect.Effect<never, RpcError> | undefined
      const listener: AbortListener = {
        // The wait of ours that the call is in hears of the abort as well, and knows more: it answers first, in this turn.
        onAbort: (reason: AbortReason) =>
          queueMicrotask(() => {
            if (child.pollUnsafe() !== undefined) return
            aborted = failure(reason)
            child.interruptUnsafe()
            // One that does not let itself be interrupted ends some time: its caller does not wait for that.
            resume(aborted)
          })
      }
      child.addObserver((exit) => {
        call.abort.off(listener)
        resume(aborted ?? exit)
      })
      // Its first steps may have taken until the deadline.
      if (call.abort.reason !== undefined) listener.onAbort(call.abort.reason)
      else call.abort.on(listener)
      return Effect.suspend(() => {
        call.abort.off(listener)
        return Fiber.interrupt(child)
      })
    })
  )

/** What a dispatcher has seen. */
interface Counts {
  calls: number
  successes: number
  outstanding: number
  readonly failures: Record<string, number>
}

const tagOf = (cause: Cause.Cause<unknown>): string => {
  const reason = cause.reasons[0]
  if (reason === undefined || Cause.isInterruptReason(reason)) return "Interrupted"
  if (Cause.isDieReason(reason)) return "Defect"
  const error: unknown = reason.error
  return typeof error === "object" && error !== null && "_tag" in error ? String(error._tag) : "Unknown"
}

/**
 * A dispatcher for one service; it drains when the scope closes. Fails with `InvalidOption` when the timeout is less
 * than 1 ms or infinite.
 */
export const make = (
  options: DispatcherOptions
): Effect.Effect<Dispatcher, InvalidOption, Stack | Scope.Scope> =>
  Effect.gen(function*() {
    const stack = yield* Stack
    const timeoutMillis = yield* durationMillis("timeout", options.timeout, 0, 1)
    const { deadlines } = stack
    const own = options.context ?? CallContext.empty
    const counts: Counts = { calls: 0, successes: 0, outstanding: 0, failures: {} }
    let closed = false
    let idle: Deferred.Deferred<void> | undefined

    yield* stack.register({
      role: "dispatcher",
      description: "turns method calls into calls with a deadline, and drains on close",
      options: { service: options.service, timeoutMillis, drainTimeoutMillis: stack.drainTimeoutMillis },
      snapshot: () => ({ ...counts, failures: { ...counts.failures } })
    })

    yield* Effect.addFinalizer(() =>
      Effect.gen(function*() {
        closed = true
        if (counts.outstanding === 0) return
        const drained = idle = Deferred.makeUnsafe<void>()
        const inTime = yield* Effect.timeoutOption(Deferred.await(drained), stack.drainTimeoutMillis)
        if (inTime._tag === "Some") return
        // Copied first: an aborted call leaves the queue while it ends.
        for (const timer of [...deadlines]) {
          if (timer instanceof Abort) timer.abort({ _tag: "StackClosed", stack: stack.name })
        }
        yield* Deferred.await(drained)
      })
    )

    const ended = (call: Call, exit: Exit.Exit<unknown, unknown>): undefined => {
      deadlines.remove(call.abort)
      counts.outstanding--
      if (Exit.isSuccess(exit)) {
        counts.successes++
      } else {
        const tag = tagOf(exit.cause)
        counts.failures[tag] = (counts.failures[tag] ?? 0) + 1
      }
      if (counts.outstanding === 0 && idle !== undefined) Deferred.doneUnsafe(idle, Exit.void)
      return undefined
    }

    /** A call that ends before it has begun. */
    const refused = (error: RpcError): Effect.Effect<never, RpcError> => {
      counts.calls++
      counts.failures[error._tag] = (counts.failures[error._tag] ?? 0) + 1
      return Effect.fail(error)
    }

    /** A call that begins now; the failure of one that does not. */
    const beginCall = (method: CalledMethod, settings: CallSettings): Call | RpcError => {
      if (closed) return new StackClosed({ stack: stack.name, reached: "no", endpoint: undefined })
      const now = stack.now()
      const deadline = Math.min(now + timeoutMillis, settings.deadline + deadlines.ahead)
      if (deadline <= now) {
        return abortFailure({ _tag: "Timeout", timeoutMillis: 0 }, { waiting: "endpoint", reached: "no" })
      }
      const call: Call = {
        service: options.service,
        method: method.name,
        idempotent: method.idempotent || settings.idempotent,
        deadline,
        context: own.isEmpty ? settings.context : settings.context.merge(own),
        abort: new Abort(deadline, deadline - now),
        tried: [],
        classify: method.classify,
        reply: settings.reply
      }
      counts.calls++
      counts.outstanding++
      deadlines.add(call.abort, now)
      return call
    }

    /** Has it never begun. */
    const takeBack = (call: Call) => {
      deadlines.remove(call.abort)
      counts.outstanding--
      counts.calls--
    }

    /** The end of a call, now or when nothing of it is held any more. */
    const settle = (call: Call, exit: Exit.Exit<unknown, unknown>): undefined => {
      if (Exit.isFailure(exit) || !call.abort.held) return ended(call, exit)
      call.abort.whenReleased(() => {
        const { reason } = call.abort
        ended(
          call,
          reason === undefined ? exit : Exit.fail(abortFailure(reason, { waiting: "reply", reached: "maybe" }))
        )
      })
      return undefined
    }

    const dispatch: Dispatcher["dispatch"] = <A, E>(
      method: CalledMethod,
      run: (call: Call) => Effect.Effect<A, E>,
      direct: DirectRun<A, E> | undefined
    ) =>
      direct === undefined ? dispatchByEffect(method, run) : Effect.callback<A, E | RpcError>((resume) => {
        if (stack.filtered()) return resume(dispatchByEffect(method, run))
        const fiber = Fiber.getCurrent()!
        const call = beginCall(method, fiber.getRef(CallSettings))
        if (!("abort" in call)) return resume(refused(call))
        const { abort } = call
        abort.context = fiber.context
        let over: (() => void) | undefined | true
        const done = (exit: Exit.Exit<A, E>): void => {
          if (over === true) return
          const interrupted = over
          over = true
          // Nothing that is held with the reply is to keep its caller.
          abort.context = Context.empty()
          settle(call, abort.reason?._tag === "Interrupted" ? Exit.interrupt() : exit)
          resume(exit)
          interrupted?.()
        }
        try {
          if (!direct(call, done)) {
            takeBack(call)
            return resume(dispatchByEffect(method, run))
          }
        } catch (defect) {
          done(Exit.die(defect))
        }
        if (over === true) return undefined
        return Effect.callback<void>((stopped) => {
          if (over === true) return stopped(Effect.void)
          over = () => stopped(Effect.void)
          abort.abort({ _tag: "Interrupted" })
        })
      })

    const dispatchByEffect = <A, E>(
      method: CalledMethod,
      run: (call: Call) => Effect.Effect<A, E>
    ): Effect.Effect<A, E | RpcError> =>
      Effect.withFiber<A, E | RpcError>((fiber) => {
        const settings = fiber.getRef(CallSettings)
        let call: Call | undefined
        // The call begins inside of what ends it: between any two steps of a fiber it may be interrupted.
        return Effect.onExitPrimitive(
          Effect.suspend((): Effect.Effect<A, E | RpcError> => {
            const begun = beginCall(method, settings)
            if (!("abort" in begun)) return refused(begun)
            call = begun
            const exchange = run(call)
            return stack.filtered() ? bounded(call, exchange) : exchange
          }),
          (exit) => {
            return call === undefined ? undefined : settle(call, exit)
          }
        )
      })
    return { dispatch }
  })
