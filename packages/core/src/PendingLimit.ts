/**
 * At most so many attempts outstanding at one endpoint; more fail at once with `LimitExceeded`, which never ran and may
 * go elsewhere (Finagle's `PendingRequestFilter`). It keeps a slow endpoint from piling up what others could do.
 *
 * Its place is the nearest to the balancer, above failure accrual and the resurrector: what it rejects is this client's
 * own decision and says nothing of the endpoint's health, so accrual must not see it, while attempts that wait for a
 * connection count. (Finagle has it below accrual, which counts its rejections as failures of the endpoint: a burst
 * takes out endpoints that only were busy.)
 *
 * At the limit the endpoint shows Busy, so that any balancer, also one that does not go by load, chooses another first
 * and no requeue has to be paid from the budget. It shows so until a quarter of the limit is free again: an endpoint
 * that works at its limit changes its status once in so many attempts, not with each. Busy endpoints are still used
 * when nothing better is left.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Endpoint } from "./Endpoint.ts"
import { given } from "./Describe.ts"
import { table } from "./metricTable.ts"
import * as Metrics from "./Metrics.ts"
import { wholeNumber } from "./options.ts"
import { type InvalidOption, LimitExceeded, type RpcError } from "./RpcError.ts"
import type { EndpointSink, Family } from "./Sink.ts"
import { Stack } from "./Stack.ts"
import { rank, StatusCell } from "./Status.ts"

/** Options of the pending limit. */
export interface PendingLimitOptions {
  /** How many attempts may be outstanding at one endpoint, 1 at least. */
  readonly maxPending: number
}

/** What the endpoints of one limit share. */
interface Shared {
  readonly maxPending: number
  /** Outstanding attempts that end a Busy spell. */
  readonly relief: number
  /** Attempts outstanding, at all endpoints. */
  pending: number
  /** Endpoints that show Busy because of the limit. */
  full: number
  rejected: number
}

const make = <Req, Res, E>(
  shared: Shared,
  inner: EndpointSink<Req, Res, E>,
  endpoint: Endpoint
): Effect.Effect<EndpointSink<Req, Res, E | RpcError>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { maxPending, relief } = shared
    const exceeded = () => new LimitExceeded({ limit: "pending", max: maxPending, endpoint })
    // One for all the spells: a fault that is renewed would be a change.
    const fault = exceeded()
    const status = new StatusCell(inner.status.state, inner.status.fault)
    let pending = 0
    let full = false
    let closed = false

    const show = () => {
      if (closed) return
      if (full && rank(inner.status.state) === 0) status.set("Busy", fault)
      else status.set(inner.status.state, inner.status.fault)
    }

    const setFull = (now: boolean) => {
      full = now
      shared.full += now ? 1 : -1
      show()
    }

    const release = () => {
      pending--
      shared.pending--
      if (full && pending <= relief) setFull(false)
    }

    const unsubscribe = inner.status.subscribe(show)
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        unsubscribe()
        status.set("Closed")
      })
    )
    return {
      status,
      open: inner.open,
      send: (request, attempt) =>
        Effect.suspend((): Effect.Effect<Res, E | RpcError> => {
          if (pending >= maxPending) {
            shared.rejected++
            return Effect.fail(exceeded())
          }
          pending++
          shared.pending++
          attempt.onEnd(release)
          if (pending === maxPending && !full) setFull(true)
          return inner.send(request, attempt)
        })
    }
  })

/**
 * The limit for a family: wraps the endpoints below it, each with a count of its own. An attempt over it fails with
 * `LimitExceeded` (limit `pending`, with the endpoint); its outcome is `rejected`, and `Requeue` sends it elsewhere as
 * long as the budget lasts.
 *
 * Shown as `scales.pending_limit.in_use`, `.full` (endpoints) and `.rejected`. Fails with `InvalidOption` for a number
 * out of its range.
 */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  options: PendingLimitOptions
): Layer.Layer<`${Id}/Endpoints`, InvalidOption, `${Id}/Endpoints` | Stack> =>
  Layer.effect(
    family.Endpoints,
    Effect.gen(function*() {
      const stack = yield* Stack
      const inner = yield* family.Endpoints
      const maxPending = yield* wholeNumber("maxPending", options.maxPending ?? NaN, 1, 1)
      const relief = maxPending - Math.max(1, Math.ceil(maxPending / 4))
      const shared: Shared = { maxPending, relief, pending: 0, full: 0, rejected: 0 }
      yield* Metrics.show(
        stack,
        Metrics.value(table["scales.pending_limit.in_use"], () => shared.pending),
        Metrics.value(table["scales.pending_limit.full"], () => shared.full),
        Metrics.value(table["scales.pending_limit.rejected"], () => shared.rejected)
      )
      yield* stack.register({
        role: "pendingLimit",
        description: "keeps the attempts outstanding at one endpoint within a limit",
        options: given(options, { maxPending }),
        snapshot: () => ({ pending: shared.pending, full: shared.full, rejected: shared.rejected })
      })
      return family.Endpoints.of({
        make: (endpoint) => Effect.flatMap(inner.make(endpoint), (sink) => make(shared, sink, endpoint))
      })
    })
  )
