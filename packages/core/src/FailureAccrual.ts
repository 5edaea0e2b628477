/**
 * Avoids an endpoint whose calls fail, and probes it with one call at a time until one succeeds: Finagle's failure accrual.
 *
 *     Alive -> Dead -> ProbeOpen -> ProbeClosed -> Alive when a call succeeds
 *               ^                        |
 *               +------------------------+         when one fails
 *
 * Dead and ProbeClosed are Busy: a balancer picks the endpoint only when nothing better is there, and then the call is sent as any
 * other. It fails open: a client with one endpoint never locks itself out.
 *
 * Three things are not Finagle's. They bring an endpoint back before its time has passed, which after a long failure of all is up to
 * 300 s: the one that happened to be probed first was measured to get the calls of all others for most of a minute.
 * - A call that was sent while the endpoint was dead, because nothing better was there, and succeeds is as good as a probe.
 * - A dead endpoint that was down and is connected again is probed at once, the first time since it was in use: what broke has been
 *   replaced, as by a restart.
 * - A dead endpoint that has no connection left is connected once, without a call: those go elsewhere, and nobody would notice that it is
 *   down, and then up again.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { type AccrualPolicy, defaultPolicy, type Policy } from "./AccrualPolicy.ts"
import type { Attempt, Outcome } from "./Call.ts"
import { CallAt } from "./Deadlines.ts"
import * as Direct from "./Direct.ts"
import type { Endpoint } from "./Endpoint.ts"
import { given } from "./Describe.ts"
import { LatencyHistogram } from "./LatencyHistogram.ts"
import { table } from "./metricTable.ts"
import * as Metrics from "./Metrics.ts"
import { FastFailure, type InvalidOption, type RpcError } from "./RpcError.ts"
import type { EndpointSink, Family } from "./Sink.ts"
import { Stack, type StackShape } from "./Stack.ts"
import { StatusCell } from "./Status.ts"

/** Options of failure accrual. */
export interface FailureAccrualOptions {
  /** When an endpoint is marked dead, and for how long. Default `AccrualPolicy.defaultPolicy`. */
  readonly policy?: AccrualPolicy | undefined
}

/** What one layer has done, over all its endpoints. */
interface Counts {
  /** Marked dead and not revived yet. */
  dead: number
  /** Times that one in use was marked dead; a probe that failed does not count. */
  removals: number
  /** Times that one marked dead was found to answer again. */
  revivals: number
  /** Calls sent as probes. */
  probes: number
  /** How long those were marked dead that were revived. */
  readonly removedFor: LatencyHistogram
}

const tooMany = "too many of its calls failed"

const make = <Req, Res, E>(
  stack: StackShape,
  inner: EndpointSink<Req, Res, E>,
  endpoint: Endpoint,
  policy: Policy,
  counts: Counts
): Effect.Effect<EndpointSink<Req, Res, E>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const status = new StatusCell(inner.status.state, inner.status.fault)
    let state: "Alive" | "Dead" | "ProbeOpen" | "ProbeClosed" = "Alive"
    /** Why it is avoided, while it is. */
    let avoided: FastFailure | undefined
    let revival: CallAt | undefined
    let down = inner.status.state === "Closed"
    /** Nothing has connected it again since it was removed: a server that accepts and breaks is not to be probed each time. */
    let untried = false
    let deadSince = Infinity
    /** When it was removed, by the stack's `elapsed`; `deadSince` is that of the last probe that failed. */
    let removedAt = 0
    const run = Effect.runForkWith(yield* Effect.context<never>())
    /** Connecting it, at most once for each removal. */
    let opening: Fiber.Fiber<unknown, unknown> | undefined
    let closed = false

    /** An endpoint that is down is worse than one that is avoided. */
    const show = () => {
      const { fault, state: below } = inner.status
      if (avoided === undefined || below === "Closed") status.set(below, fault)
      else status.set("Busy", avoided)
    }

    const enter = (next: typeof state, fault?: FastFailure) => {
      state = next
      avoided = fault
      show()
    }

    const stopWaiting = () => {
      if (revival !== undefined) stack.deadlines.remove(revival)
      revival = undefined
    }

    const openProbe = () => {
      stopWaiting()
      enter("ProbeOpen")
    }

    const markDead = (millis: number) => {
      if (state === "Alive") {
        counts.removals++
        counts.dead++
        untried = true
        removedAt = stack.elapsed()
        stack.log.say("warning", "endpoint marked dead", { endpoint: endpoint.key, millis: Math.round(millis) })
        stack.faults.note({ endpoint: endpoint.key, what: "marked dead", cause: tooMany })
        if (opening?.pollUnsafe() !== undefined) opening = undefined
      }
      const now = deadSince = stack.now()
      revival = new CallAt(Math.ceil(now + millis), openProbe)
      stack.deadlines.add(revival, now)
      enter("Dead", new FastFailure({ endpoint, cause: tooMany, nextAttempt: revival.at }))
      connect()
    }

    const connect = () => {
      if (state === "Dead" && opening === undefined && inner.status.state === "Idle") opening = run(inner.open)
    }

    const succeeded = (millis: number, at: number) => {
      if (state === "ProbeClosed" || (state !== "Alive" && stack.now() - millis > deadSince)) {
        stopWaiting()
        counts.revivals++
        counts.dead--
        counts.removedFor.record(at - removedAt, at)
        stack.log.say("info", "endpoint revived", { endpoint: endpoint.key, deadMillis: Math.round(at - removedAt) })
        policy.revived()
        enter("Alive")
      }
      policy.recordSuccess(at)
    }

    const failed = (at: number) => {
      // What began before and ends now says nothing that is not known.
      if (state === "Dead" || state === "ProbeOpen") return
      const millis = policy.markDeadOnFailure(at)
      if (millis !== undefined) markDead(millis)
      // The policy thinks better of it than the probe: another one is to tell.
      else if (state === "ProbeClosed") enter("ProbeOpen")
    }

    /** Given to every attempt: made once. While a probe is out, whichever call ends first decides. */
    const ended = (outcome: Outcome, millis: number, _error: string | undefined, at: number) => {
      if (closed) return
      if (outcome === "success") succeeded(millis, at)
      else if (outcome !== "ignored") failed(at)
      else if (state === "ProbeClosed") enter("ProbeOpen")
    }

    const unsubscribe = inner.status.subscribe(() => {
      const connected = down && inner.status.state !== "Closed"
      down = inner.status.state === "Closed"
      if (!connected || !untried || state !== "Dead") {
        show()
        return connect()
      }
      untried = false
      openProbe()
    })
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        unsubscribe()
        stopWaiting()
        opening?.interruptUnsafe()
        if (state !== "Alive") counts.dead--
        status.set("Closed")
      })
    )
    const begin = (attempt: Attempt) => {
      if (state === "ProbeOpen") {
        counts.probes++
        const fault = {
          endpoint,
          cause: `${tooMany}; one call probes it`,
          nextAttempt: stack.now()
        }
        enter("ProbeClosed", new FastFailure(fault))
      }
      attempt.onEnd(ended)
    }

    const direct = Direct.throughEndpoint(inner)
    return {
      send: Direct.offer(
        (request: Req, attempt: Attempt) =>
          Effect.suspend(() => {
            begin(attempt)
            return inner.send(request, attempt)
          }),
        direct && {
          ready: direct.ready,
          send: (request: Req, attempt: Attempt, done: Direct.Done<Res, E>) => {
            begin(attempt)
            direct.send(request, attempt, done)
          }
        }
      ),
      status,
      open: inner.open
    }
  })

/**
 * Failure accrual for a family: wraps the endpoints below it, over the resurrector. Every attempt counts by its outcome: a success; a
 * failure, which a refusal by the server, a connection that cannot be had and a deadline that passes are too; what is ignored
 * says nothing. Limits of the client's own belong above it: their rejections are no failures of the endpoint. Fails with `InvalidOption` for
 * a policy out of its range.
 */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  options: FailureAccrualOptions = {}
): Layer.Layer<`${Id}/Endpoints`, InvalidOption, `${Id}/Endpoints` | Stack> =>
  Layer.effect(
    family.Endpoints,
    Effect.gen(function*() {
      const stack = yield* Stack
      const inner = yield* family.Endpoints
      const makePolicy = yield* options.policy ?? defaultPolicy
      const removedFor = new LatencyHistogram(stack.elapsed())
      const counts: Counts = { dead: 0, removals: 0, revivals: 0, probes: 0, removedFor }
      yield* stack.register({
        role: "failureAccrual",
        description: "avoids an endpoint whose calls fail, and probes it until one succeeds",
        options: given(options, {
          policy: options.policy === undefined
            ? "under 80 % in 30 s, or 5 in a row; 5 s to 300 s, jittered"
            : "a policy"
        }),
        snapshot: () => ({
          dead: counts.dead,
          removals: counts.removals,
          revivals: counts.revivals,
          probes: counts.probes
        })
      })
      yield* Metrics.show(
        stack,
        Metrics.value(table["scales.accrual.dead"], () => counts.dead),
        Metrics.value(table["scales.accrual.removals"], () => counts.removals),
        Metrics.value(table["scales.accrual.revivals"], () => counts.revivals),
        Metrics.value(table["scales.accrual.probes"], () => counts.probes),
        Metrics.latencies(table["scales.accrual.removed_for_ms"], () => removedFor, stack.elapsed)
      )
      return family.Endpoints.of({
        make: (endpoint) =>
          Effect.flatMap(inner.make(endpoint), (sink) => make(stack, sink, endpoint, makePolicy(), counts))
      })
    })
  )
