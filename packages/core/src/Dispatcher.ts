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
import * as Tracer from "effect/Tracer"
import { Abort, abortFailure, type AbortListener, type AbortReason } from "./Abort.ts"
import { type Call, type Classifier, type ReplyHeaders, tagOf } from "./Call.ts"
import type { Endpoint } from "./Endpoint.ts"
import { CallContext } from "./CallContext.ts"
import { CallStats } from "./CallStats.ts"
import { duration, given } from "./Describe.ts"
import * as Direct from "./Direct.ts"
import { quantiles } from "./LatencyHistogram.ts"
import { table } from "./metricTable.ts"
import * as Metrics from "./Metrics.ts"
import { durationMillis } from "./options.ts"
import { CallSettings } from "./Rpc.ts"
import { Failure, type InvalidOption, type RpcError, StackClosed, Timeout } from "./RpcError.ts"
import { Stack, type StackShape } from "./Stack.ts"
import { Unsampled } from "./TraceContext.ts"
import * as Tracing from "./Tracing.ts"

/** What is known of a method before it is called. */
export interface CalledMethod {
  readonly name: string
  /** May be executed twice, whatever the caller says. */
  readonly idempotent: boolean
  readonly classify: Classifier
  /** What the spans of its calls are called and say. Default: `Tracing.rpcSpan` of the service and the name. */
  readonly span?: Tracing.MethodSpan | undefined
}

/** Options of a dispatcher. */
export interface DispatcherOptions {
  /** What calls, metrics and spans name. */
  readonly service: string
  /** How long a call may take when it says nothing nearer: finite, 1 ms at least. */
  readonly timeout: Duration.Input
  /** What says whether `timeout` was given, for `describe`: the options of whoever gives it its default. Default: these options. */
  readonly given?: object | undefined
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
export type DirectRun<A, E> = (call: Call, done: Direct.Done<A, E>) => boolean

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

/** What a call ends with whose reply had begun and did not come to its end. Whoever reads the reply hears why. */
class ReplyBroken extends Failure("ReplyBroken")<{}> {
  override get message(): string {
    return "the reply did not come to its end"
  }
}

const replyBroken = Exit.fail(new ReplyBroken({}))

/** The series of the calls of a method. */
const series = {
  requests: table["scales.call.requests"],
  success: table["scales.call.success"],
  failed: table["scales.call.failed"],
  failures: table["scales.call.failures"],
  pending: table["scales.call.pending"],
  latency: table["scales.call.latency_ms"],
  quantiles: table["scales.call.latency_quantiles_ms"]
}

/** Copied, because that is no literal either. */
const untried: ReadonlyArray<Endpoint> = []

/**
 * A call as it begins. What lives as long as a call is made by classes, not written as literals: of literals whose first objects
 * outlive a collection, as those of a burst of calls do, V8 makes all later ones in its old space, where each keeps what it refers to until
 * the next full collection. Seen with Node 24.21: pauses of 2 ms a collection in place of 0.5.
 */
class BegunCall implements Call {
  readonly service: string
  readonly method: string
  readonly idempotent: boolean
  readonly deadline: number
  readonly context: CallContext
  readonly abort: Abort
  readonly tried: ReadonlyArray<Endpoint>
  readonly classify: Classifier
  readonly reply: ReplyHeaders | undefined
  readonly span: Tracer.Span | undefined
  readonly trace: Tracer.AnySpan | undefined

  constructor(
    service: string,
    method: string,
    idempotent: boolean,
    deadline: number,
    context: CallContext,
    abort: Abort,
    classify: Classifier,
    reply: ReplyHeaders | undefined,
    span: Tracer.Span | undefined,
    trace: Tracer.AnySpan | undefined
  ) {
    this.service = service
    this.method = method
    this.idempotent = idempotent
    this.deadline = deadline
    this.context = context
    this.abort = abort
    this.tried = untried.slice()
    this.classify = classify
    this.reply = reply
    this.span = span
    this.trace = trace
  }
}

/** A call under way, and what it is counted and recorded as. */
class Begun {
  readonly call: Call
  readonly method: CalledMethod
  readonly stats: CallStats
  /** Its own, sampled or not. */
  readonly span: Tracer.Span | undefined
  readonly startedAt: number

  constructor(
    call: Call,
    method: CalledMethod,
    stats: CallStats,
    span: Tracer.Span | undefined,
    startedAt: number
  ) {
    this.call = call
    this.method = method
    this.stats = stats
    this.span = span
    this.startedAt = startedAt
  }
}

/** How many methods are told apart; a service has fewer, but HTTP's are whatever a caller says. */
const methodsShown = 200

/** What is counted of each method. */
class Counts {
  outstanding = 0
  readonly #stack: StackShape
  readonly #service: string
  readonly #methods = new Map<string, CallStats>()
  #removed = false

  constructor(stack: StackShape, service: string) {
    this.#stack = stack
    this.#service = service
  }

  /** From the first call of a method on. */
  of(method: string): CallStats {
    const found = this.#methods.get(method)
    if (found !== undefined) return found
    const name = this.#methods.size < methodsShown ? method : "other"
    let stats = this.#methods.get(name)
    if (stats === undefined) {
      stats = new CallStats(
        this.#stack.metrics,
        series,
        { service: this.#service, method: name },
        this.#stack.elapsed
      )
      this.#methods.set(name, stats)
      if (this.#removed) stats.remove()
    }
    return stats
  }

  get snapshot() {
    let calls = 0
    let successes = 0
    // A tag may be called as something that every object has.
    const failures = new Map<string, number>()
    for (const stats of this.#methods.values()) {
      calls += stats.requests
      successes += stats.successes
      for (const [tag, count] of stats.failures) failures.set(tag, (failures.get(tag) ?? 0) + count)
    }
    const now = this.#stack.elapsed()
    return {
      calls,
      successes,
      outstanding: this.outstanding,
      failures: Object.fromEntries(failures),
      methods: Object.fromEntries(
        Array.from(this.#methods, ([name, stats]) => [name, {
          ...stats.snapshot,
          quantiles: stats.latency?.quantiles(quantiles, now) ?? []
        }])
      )
    }
  }

  /** Takes the series away; a call that comes after that is counted, and shown nowhere. */
  remove(): void {
    this.#removed = true
    for (const stats of this.#methods.values()) stats.remove()
  }
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
    const { deadlines, elapsed } = stack
    const own = options.context ?? CallContext.empty
    const counts = new Counts(stack, options.service)
    yield* Effect.addFinalizer(() => Effect.sync(() => counts.remove()))
    const timeouts = yield* Metrics.tally(stack, table["scales.call.timeouts"], "waiting")
    let closed = false
    let idle: Deferred.Deferred<void> | undefined

    yield* stack.register({
      role: "dispatcher",
      description: "turns method calls into calls with a deadline, and drains on close",
      options: given(stack.given ?? options.given ?? options, {
        service: options.service,
        timeout: duration(timeoutMillis)
      }),
      snapshot: () => counts.snapshot
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

    const spanOf = ({ name, span }: CalledMethod) => span ?? Tracing.rpcSpan(undefined, options.service, name)

    /** The tag of a failure; a deadline that passed is counted by what the call waited for. */
    const failedWith = (cause: Cause.Cause<unknown>): string => {
      const reason = cause.reasons[0]
      if (reason !== undefined && Cause.isFailReason(reason) && reason.error instanceof Timeout) {
        timeouts.count(reason.error.waiting)
      }
      return tagOf(cause)
    }

    /** `span`: the call's own, sampled or not. */
    const ended = (
      abort: Abort,
      method: CalledMethod,
      stats: CallStats,
      span: Tracer.Span | undefined,
      startedAt: number,
      exit: Exit.Exit<unknown, unknown>
    ): undefined => {
      deadlines.remove(abort)
      counts.outstanding--
      try {
        const at = elapsed()
        stats.ended(
          Exit.isSuccess(exit) ? method.span?.errorOf?.(exit.value) : failedWith(exit.cause),
          at - startedAt,
          at
        )
        if (span !== undefined) Tracing.end(span, spanOf(method), exit, stack.nanos(), stack.log)
      } finally {
        // Whoever waits for the last call waits for no defect of what looks at it.
        if (counts.outstanding === 0 && idle !== undefined) Deferred.doneUnsafe(idle, Exit.void)
      }
      return undefined
    }

    /** What a call ends with whose reply has been let go of. */
    const replyEnd = (
      { brokenBy, reason }: Abort,
      { span }: CalledMethod,
      exit: Exit.Exit<unknown, unknown>
    ): Exit.Exit<unknown, unknown> => {
      if (reason !== undefined) return Exit.fail(abortFailure(reason, { waiting: "reply", reached: "maybe" }))
      if (brokenBy === "Interrupted") return Exit.interrupt()
      // A reply that says by itself that it is a failure is that.
      const broken = brokenBy !== undefined && Exit.isSuccess(exit) && span?.errorOf?.(exit.value) === undefined
      return broken ? replyBroken : exit
    }

    /**
     * Ends a call with its reply, which is held. Apart from what called, which this would keep for as long: its span may have the reply, and that is
     * let go of when nobody has it any more.
     */
    const endsWithReply = (
      abort: Abort,
      method: CalledMethod,
      stats: CallStats,
      span: Tracer.Span | undefined,
      startedAt: number,
      exit: Exit.Exit<unknown, unknown>
    ): undefined => {
      abort.whenReleased(() => ended(abort, method, stats, span, startedAt, replyEnd(abort, method, exit)))
    }

    /** The end of a call, now or when nothing of it is held any more. */
    const settle = ({ call: { abort }, method, span, startedAt, stats }: Begun, exit: Exit.Exit<unknown, unknown>) => {
      if (Exit.isSuccess(exit)) {
        if (abort.held) return endsWithReply(abort, method, stats, span, startedAt, exit)
        // It broke before anybody had it.
        if (abort.brokenBy !== undefined) exit = replyEnd(abort, method, exit)
      }
      return ended(abort, method, stats, span, startedAt, exit)
    }

    /** A call that ends before it has begun. */
    const refused = (
      method: CalledMethod,
      error: RpcError,
      span: Tracer.Span | undefined
    ): Exit.Exit<never, RpcError> => {
      counts.of(method.name).refused(error._tag)
      if (error instanceof Timeout) timeouts.count(error.waiting)
      const failure = Exit.fail(error)
      if (span !== undefined) Tracing.end(span, spanOf(method), failure, stack.nanos(), stack.log)
      return failure
    }

    /** A call that a fiber begins now; the failure of one that does not. `unsampled`: it began before, and is not among those that are recorded. */
    const begin = (
      method: CalledMethod,
      fiber: Fiber.Fiber<unknown, unknown>,
      unsampled?: Unsampled
    ): Begun | Exit.Exit<never, RpcError> => {
      const settings = fiber.getRef(CallSettings)
      let trace: Tracer.AnySpan | undefined = unsampled
      let span: Tracer.Span | undefined
      // Nothing of it where there is neither a tracer nor a span.
      const { cache } = fiber
      if (unsampled === undefined && (cache.tracer !== undefined || cache.span !== undefined)) {
        const caller = Tracing.callerSpan(fiber)
        const begun = Tracing.listening(fiber)
          ? Tracing.beginCall(fiber, caller, spanOf(method), stack)
          : undefined
        trace = begun ?? caller
        if (begun?._tag === "Span") span = begun
      }
      if (closed) {
        return refused(method, new StackClosed({ stack: stack.name, reached: "no", endpoint: undefined }), span)
      }
      const now = stack.now()
      const deadline = Math.min(now + timeoutMillis, settings.deadline + deadlines.ahead)
      if (deadline <= now) {
        return refused(
          method,
          abortFailure({ _tag: "Timeout", timeoutMillis: 0 }, { waiting: "endpoint", reached: "no" }),
          span
        )
      }
      const call = new BegunCall(
        options.service,
        method.name,
        method.idempotent || settings.idempotent,
        deadline,
        own.isEmpty ? settings.context : settings.context.merge(own),
        new Abort(deadline, deadline - now),
        method.classify,
        settings.reply,
        span?.sampled === true ? span : undefined,
        trace
      )
      const begun = new Begun(call, method, counts.of(method.name), span, elapsed())
      begun.stats.began()
      counts.outstanding++
      deadlines.add(call.abort, now)
      return begun
    }

    /** Has it never begun. */
    const takeBack = ({ call, stats }: Begun) => {
      deadlines.remove(call.abort)
      counts.outstanding--
      stats.takeBack()
    }

    const dispatch: Dispatcher["dispatch"] = <A, E>(
      method: CalledMethod,
      run: (call: Call) => Effect.Effect<A, E>,
      direct: DirectRun<A, E> | undefined
    ) =>
      direct === undefined ? dispatchByEffect(method, run) : Effect.callback<A, E | RpcError>((resume) => {
        if (stack.filtered()) return resume(dispatchByEffect(method, run))
        const fiber = Fiber.getCurrent()!
        const begun = begin(method, fiber)
        if (!(begun instanceof Begun)) return resume(begun)
        const { call } = begun
        const { abort } = call
        abort.context = fiber.context
        let over = false
        let stopped: (() => void) | undefined
        const done = (exit: Exit.Exit<A, E>): void => {
          if (over) return
          over = true
          // Nothing that is held with the reply is to keep its caller.
          abort.context = Context.empty()
          let answer = exit
          try {
            settle(begun, abort.reason?._tag === "Interrupted" ? Exit.interrupt() : exit)
          } catch (defect) {
            // A tracer's, or a classifier's: this may be deep in the exchange of another call.
            answer = Exit.die(defect)
          }
          if (stopped === undefined) resume(answer)
          else stopped()
        }
        try {
          if (!direct(call, done)) {
            // Nothing was done; what was recorded of it already is recorded once.
            if (begun.span === undefined) {
              takeBack(begun)
              const { trace } = call
              return resume(
                dispatchByEffect(method, run, trace instanceof Unsampled && trace.ofCall ? trace : undefined)
              )
            }
            Direct.goOn(() => run(call), call, done)
          }
        } catch (defect) {
          done(Exit.die(defect))
        }
        if (over) return undefined
        return Effect.callback<void>((resume) => {
          if (over) return resume(Effect.void)
          stopped = () => resume(Effect.void)
          abort.abort({ _tag: "Interrupted" })
        })
      })

    const dispatchByEffect = <A, E>(
      method: CalledMethod,
      run: (call: Call) => Effect.Effect<A, E>,
      unsampled?: Unsampled
    ): Effect.Effect<A, E | RpcError> =>
      Effect.withFiber<A, E | RpcError>((fiber) => {
        let begun: Begun | undefined
        // The call begins inside of what ends it: between any two steps of a fiber it may be interrupted.
        return Effect.onExitPrimitive(
          Effect.suspend((): Effect.Effect<A, E | RpcError> => {
            const beginning = begin(method, fiber, unsampled)
            if (!(beginning instanceof Begun)) return beginning
            begun = beginning
            const { call, span } = begun
            const exchange = run(call)
            if (!stack.filtered()) return exchange
            // What filters do by themselves is a part of the call.
            return bounded(
              call,
              span === undefined ? exchange : Effect.provideService(exchange, Tracer.ParentSpan, span)
            )
          }),
          (exit) => begun === undefined ? undefined : settle(begun, exit)
        )
      })
    return { dispatch }
  })
