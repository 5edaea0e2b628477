/**
 * Decides when to connect to an endpoint again after its connection broke or could not be made, and fails its calls fast
 * meanwhile, with the cause.
 *
 * Attempts follow a backoff: 250 ms first, then half as long again each time, at most 10 s, jittered. They need not be waited for: a
 * call that finds the endpoint down (a balancer sends it there only when nothing else is usable) makes it try now, and
 * joins that attempt; the first endpoint to come back after all were down makes the others of its client try now. (Scales' backoff is blind and
 * was measured to fail calls for seconds after all servers were back.)
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { abortFailure, type AbortListener, type AbortReason } from "./Abort.ts"
import * as Backoff from "./Backoff.ts"
import type { Attempt } from "./Call.ts"
import * as Direct from "./Direct.ts"
import type { Endpoint } from "./Endpoint.ts"
import { duration, given } from "./Describe.ts"
import { LatencyHistogram } from "./LatencyHistogram.ts"
import { table } from "./metricTable.ts"
import * as Metrics from "./Metrics.ts"
import { durationMillis } from "./options.ts"
import { FastFailure, type InvalidOption, type RpcError } from "./RpcError.ts"
import type { EndpointSink, Family } from "./Sink.ts"
import { Stack, type StackShape } from "./Stack.ts"
import { StatusCell } from "./Status.ts"

/** Options of the resurrector. */
export interface ResurrectorOptions {
  /**
   * Delays between attempts that nobody asked for. When it ends, only demand makes it try. Default: jittered exponential, 250 ms
   * first, times 1.5, at most 10 s.
   */
  readonly backoff?: Schedule.Schedule<unknown> | undefined
  /** The least time between a failed attempt and the next one on demand, so that a storm of calls is no storm of connects. Default 50 ms. */
  readonly demandInterval?: Duration.Input | undefined
}

/** 250 ms first, times 1.5, each spread over 80 to 120 percent, at most 10 s. */
export const defaultBackoff: Schedule.Schedule<unknown> = Schedule.exponential("250 millis", 1.5).pipe(
  Schedule.jittered,
  Schedule.modifyDelay(({ duration }) => Effect.succeed(Duration.min(duration, Duration.seconds(10))))
)

/** How many other endpoints that are down one call makes try. */
const wokenAtOnce = 100

/** The first of a set, so many at most. */
function* take<A>(set: Iterable<A>, count: number): Iterable<A> {
  for (const each of set) {
    if (count-- <= 0) return
    yield each
  }
}

/** What one resurrector needs of its layer. */
interface Shared {
  readonly stack: StackShape
  readonly backoff: Schedule.Schedule<unknown>
  readonly demandMillis: number
  /** The endpoints of this client that are down: each tries now when called. Who was called last stands last. */
  readonly down: Set<() => void>
  /** When a call last made others than its own endpoint try. */
  lastDemand: number
  /** How many endpoints there are. */
  size: number
  downs: number
  attempts: number
  revivals: number
  /** Attempts of calls that failed at once. */
  fastFailures: number
  /** How long those were down that came back. */
  readonly downTimes: LatencyHistogram
}

const make = <Req, Res, E>(
  shared: Shared,
  inner: EndpointSink<Req, Res, E>,
  endpoint: Endpoint
): Effect.Effect<EndpointSink<Req, Res, E | RpcError>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { stack } = shared
    const context = yield* Effect.context<never>()
    const run = Effect.runForkWith(context)
    const status = new StatusCell(inner.status.state, inner.status.fault)
    let isDown = false
    let closed = false
    let cause: RpcError | undefined
    /** By the stack's `elapsed`. */
    let downSince = 0
    /** Steps the backoff: its next delay in milliseconds; `undefined` when it has ended. */
    let nextDelay: () => number | undefined = () => undefined
    /** Where the backoff stands. Attempts on demand leave it there: under load they come every 50 ms. */
    let delay: number | undefined
    let sleeping: Fiber.Fiber<unknown, unknown> | undefined
    let attempting: Fiber.Fiber<unknown, unknown> | undefined
    let joined: Set<(fault: RpcError | undefined) => void> | undefined
    let nextAttempt = Infinity
    let lastFailed = -Infinity
    let openSince = -Infinity

    const fastFailure = () => new FastFailure({ endpoint, cause, nextAttempt })

    /** Closed without a fault was drained or closed on purpose: it is opened again on demand, with no backoff. */
    const mirror = () => {
      const { fault, state } = inner.status
      if (state === "Open" && status.state !== "Open") openSince = stack.now()
      status.set(state === "Closed" ? "Idle" : state, fault)
    }

    const stopSleeping = () => {
      sleeping?.interruptUnsafe()
      sleeping = undefined
    }

    /** `stepping`: the attempt is one of the backoff's, which waits longer for the next. */
    const sleepThenTry = (millis: number, stepping: boolean) => {
      stopSleeping()
      nextAttempt = stack.now() + millis
      sleeping = run(Effect.andThen(
        Effect.sleep(Duration.millis(millis)),
        Effect.sync(() => {
          sleeping = undefined
          if (stepping) delay = nextDelay()
          tryNow()
        })
      ))
    }

    const scheduleNext = () => {
      if (delay === undefined) nextAttempt = Infinity
      // Never in this turn: a backoff without delays is not to try for ever before anybody else gets to run.
      else sleepThenTry(Math.max(1, delay), true)
    }

    const answer = (fault: RpcError | undefined) => {
      const waiting = joined
      joined = undefined
      if (waiting !== undefined) { for (const done of waiting) done(fault) }
    }

    const up = () => {
      isDown = false
      cause = undefined
      nextAttempt = Infinity
      stopSleeping()
      const allWereDown = shared.down.size === shared.size
      shared.down.delete(wake)
      shared.revivals++
      const at = stack.elapsed()
      shared.downTimes.record(at - downSince, at)
      stack.log.say("info", "endpoint up", { endpoint: endpoint.key, downMillis: Math.round(at - downSince) })
      mirror()
      answer(undefined)
      if (allWereDown) wakeAll()
    }

    const tryNow = () => {
      if (!isDown || closed || attempting !== undefined) return
      stopSleeping()
      shared.attempts++
      nextAttempt = stack.now()
      const fiber = run(inner.open)
      attempting = fiber
      fiber.addObserver((exit) => {
        attempting = undefined
        if (closed || !isDown) return
        const { fault, state } = inner.status
        const brokeAgain = state === "Closed" && fault !== undefined
        if (Exit.isSuccess(exit) && !brokeAgain) return up()
        lastFailed = stack.now()
        const reason = Exit.isSuccess(exit) ? undefined : exit.cause.reasons.find(Cause.isFailReason)
        cause = reason?.error ?? fault ?? cause
        scheduleNext()
        status.set("Closed", fastFailure())
        answer(cause ?? fastFailure())
      })
    }

    /** Somebody wants it: tries at once, or as soon as the demand interval allows. */
    const wake = () => {
      if (!isDown || closed || attempting !== undefined) return
      const wait = lastFailed + shared.demandMillis - stack.now()
      if (wait <= 0) tryNow()
      else if (stack.now() + wait < nextAttempt) sleepThenTry(wait, false)
    }

    const goDown = (fault: RpcError) => {
      isDown = true
      cause = fault
      downSince = stack.elapsed()
      shared.downs++
      stack.log.say("warning", "endpoint down", { endpoint: endpoint.key, cause: fault.message })
      stack.faults.note({ endpoint: endpoint.key, what: "down", cause: fault })
      // A connection that broke is no failed attempt: a call that needs the endpoint may try at once. One that broke as soon as
      // it was there is: a server that accepts and resets is not to be connected to for every call.
      const failed = fault._tag === "ConnectFailed" || stack.now() - openSince < shared.demandMillis
      lastFailed = failed ? stack.now() : -Infinity
      nextDelay = Backoff.delays(shared.backoff, stack, run)
      delay = nextDelay()
      shared.down.add(wake)
      scheduleNext()
      status.set("Closed", fastFailure())
    }

    const unsubscribe = inner.status.subscribe(() => {
      if (isDown || closed) return
      const { fault, state } = inner.status
      if (state === "Closed" && fault !== undefined) goDown(fault)
      else mirror()
    })

    /** A reason to try now, for others that are down too: some at a time, so that a large set is no storm of connects. */
    const wakeAll = () => {
      shared.lastDemand = stack.now()
      for (const each of [...take(shared.down, wokenAtOnce)]) {
        shared.down.delete(each)
        shared.down.add(each)
        if (each !== wake) each()
      }
    }

    /** Nothing else was usable, or this would not have been asked. */
    const demand = () => {
      wake()
      if (stack.now() - shared.lastDemand >= shared.demandMillis) wakeAll()
    }

    const failFast = () => {
      shared.fastFailures++
      return Effect.fail(fastFailure())
    }

    const sendWhenUp = (request: Req, attempt: Attempt): Effect.Effect<Res, E | RpcError> =>
      Effect.callback((resume) => {
        const reason = attempt.abort.reason
        const at = { waiting: "connection", reached: "no", endpoint } as const
        if (reason !== undefined) return resume(Effect.fail(abortFailure(reason, at)))
        demand()
        if (!isDown) return resume(inner.send(request, attempt))
        if (attempting === undefined) return resume(failFast())
        const listener: AbortListener = {
          onAbort: (why: AbortReason) => {
            joined?.delete(done)
            resume(Effect.fail(abortFailure(why, { ...at, cause })))
          }
        }
        const done = (fault: RpcError | undefined) => {
          attempt.abort.off(listener)
          resume(fault === undefined ? inner.send(request, attempt) : failFast())
        }
        ;(joined ??= new Set()).add(done)
        attempt.abort.on(listener)
        return Effect.sync(() => {
          joined?.delete(done)
          attempt.abort.off(listener)
        })
      })

    const open: Effect.Effect<void, RpcError> = Effect.suspend(() => {
      if (!isDown) return inner.open
      return Effect.callback<void, RpcError>((resume) => {
        demand()
        if (!isDown) return resume(Effect.void)
        if (attempting === undefined) return resume(Effect.fail(fastFailure()))
        const done = (fault: RpcError | undefined) => resume(fault === undefined ? Effect.void : Effect.fail(fault))
        ;(joined ??= new Set()).add(done)
        return Effect.sync(() => void joined?.delete(done))
      })
    })

    shared.size++
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        shared.size--
        unsubscribe()
        stopSleeping()
        attempting?.interruptUnsafe()
        shared.down.delete(wake)
        answer(fastFailure())
        status.set("Closed")
      })
    )
    const direct = Direct.throughEndpoint(inner)
    return {
      send: Direct.offer(
        (request: Req, attempt: Attempt) =>
          Effect.suspend(() => isDown ? sendWhenUp(request, attempt) : inner.send(request, attempt)),
        direct && { ready: () => !isDown && direct.ready(), send: direct.send }
      ),
      status,
      open
    }
  })

/**
 * The resurrector for a family: wraps the endpoints below it. Fails with `InvalidOption` for a `demandInterval` that
 * is none.
 */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  options: ResurrectorOptions = {}
): Layer.Layer<`${Id}/Endpoints`, InvalidOption, `${Id}/Endpoints` | Stack> =>
  Layer.effect(
    family.Endpoints,
    Effect.gen(function*() {
      const stack = yield* Stack
      const inner = yield* family.Endpoints
      const demandMillis = yield* durationMillis("demandInterval", options.demandInterval, 50)
      const shared: Shared = {
        stack,
        backoff: options.backoff ?? defaultBackoff,
        demandMillis,
        down: new Set(),
        lastDemand: -Infinity,
        size: 0,
        downs: 0,
        attempts: 0,
        revivals: 0,
        fastFailures: 0,
        downTimes: new LatencyHistogram(stack.elapsed())
      }
      yield* stack.register({
        role: "resurrector",
        description: "connects again what broke, and fails its calls fast meanwhile",
        options: given(options, {
          backoff: options.backoff === undefined ? "250 ms x 1.5, at most 10 s, jittered" : "a schedule",
          demandInterval: duration(demandMillis)
        }),
        snapshot: () => ({
          down: shared.down.size,
          downs: shared.downs,
          attempts: shared.attempts,
          revivals: shared.revivals,
          fastFailures: shared.fastFailures
        })
      })
      yield* Metrics.show(
        stack,
        Metrics.value(table["scales.resurrector.down"], () => shared.down.size),
        Metrics.value(table["scales.resurrector.downs"], () => shared.downs),
        Metrics.value(table["scales.resurrector.attempts"], () => shared.attempts),
        Metrics.value(table["scales.resurrector.revivals"], () => shared.revivals),
        Metrics.value(table["scales.resurrector.fast_failures"], () => shared.fastFailures),
        Metrics.latencies(table["scales.resurrector.down_ms"], () => shared.downTimes, stack.elapsed)
      )
      return family.Endpoints.of({
        make: (endpoint) => Effect.flatMap(inner.make(endpoint), (sink) => make(shared, sink, endpoint))
      })
    })
  )
