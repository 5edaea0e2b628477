/**
 * Connections that carry one call at a time: as many to an endpoint as there are calls at once, between a low and a high mark, and
 * a queue for the calls beyond that (Finagle's `WatermarkPool` with its `CachingPool`).
 *
 * A call takes the connection that was used last, or has a new one made, or waits its turn; who has waited longest comes first. Only a
 * connection whose status is Open is handed on: one that broke, drains, or was closed by its transport because a call left
 * it in the middle, is dropped, that one only, and replaced when somebody waits. A transport that closes a connection for such
 * a call gives no fault: a fault says that the endpoint may be down.
 *
 * The pool is Closed, with the cause, when a connect fails or the last connection breaks while it has no other, or ends in good order after a
 * connect that failed; it is Idle when its last connection was drained or no longer needed, and Open with the next that it gets.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { duration, given } from "./Describe.ts"
import { ConnectionStats } from "./internal/ConnectionStats.ts"
import { type Limits, make, type Shared } from "./internal/EndpointPool.ts"
import { table } from "./metricTable.ts"
import * as Metrics from "./Metrics.ts"
import { durationMillis, wholeNumber } from "./options.ts"
import type { InvalidOption, RpcError } from "./RpcError.ts"
import type { Family } from "./Sink.ts"
import { Stack } from "./Stack.ts"

/** Options of the watermark pool; each endpoint has marks and a queue of its own. */
export interface WatermarkPoolOptions {
  /**
   * Connections that are kept open however long they are idle. Default 0, as in Finagle: what a client does not use, its server need
   * not keep. As much as `high` keeps all.
   */
  readonly low?: number | undefined
  /**
   * The most connections to one endpoint, at least 1; `Infinity`: no limit. Default 512: more than a healthy endpoint has any use
   * for, and one that is frozen does not take all the descriptors that a process may have (1024, as a rule).
   */
  readonly high?: number | undefined
  /**
   * The most calls that may wait for one of `high` connections to be free; more fail at once with `MaxWaiters`. Default
   * `Infinity`, as in Finagle and Scales: each ends at its deadline, and a place in the queue costs less than the call itself.
   */
  readonly maxWaiters?: number | undefined
  /**
   * How long a connection above the low mark is kept without a call. Default 1 minute: enough to outlast the pauses of
   * uneven traffic (closing at once made Scales connect for every call at 64 in flight), and less than the 4 minutes after
   * which routers and load balancers begin to forget a silent connection without a word.
   */
  readonly idleTime?: Duration.Input | undefined
  /** How old a connection may get: an older one takes no more calls. Default: any age. */
  readonly lifeTime?: Duration.Input | undefined
}

/** A number of connections or calls: whole, or without limit. */
const limit = (option: string, value: number | undefined, fallback: number, min: number, max = Infinity) =>
  value === Infinity && max === Infinity
    ? Effect.succeed(Infinity)
    : wholeNumber(option, value, fallback, min, max)

/**
 * The pool for a family: turns its connector into endpoints. Fails with `InvalidOption` for a number out of its range, a low mark
 * above the high one among them.
 *
 * A connection belongs to an attempt until that ends, which is when its response is no longer held. Shows
 * `scales.pool.*`.
 */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  options: WatermarkPoolOptions = {}
): Layer.Layer<`${Id}/Endpoints`, InvalidOption, `${Id}/Connector` | Stack> =>
  Layer.effect(
    family.Endpoints,
    Effect.gen(function*() {
      const stack = yield* Stack
      const connector = yield* family.Connector
      const high = yield* limit("high", options.high, 512, 1)
      const limits: Limits = {
        low: yield* limit("low", options.low, 0, 0, high),
        high,
        maxWaiters: yield* limit("maxWaiters", options.maxWaiters, Infinity, 0),
        idleMillis: yield* durationMillis("idleTime", options.idleTime, 60_000),
        lifeMillis: yield* durationMillis("lifeTime", options.lifeTime, Infinity, 1)
      }
      const shared: Shared = { limits, pools: new Set(), stats: new ConnectionStats(stack), refused: 0 }
      const sum = (what: "size" | "idle" | "inUse" | "waiting") => {
        let total = 0
        for (const view of shared.pools) total += view()[what]
        return total
      }
      yield* stack.register({
        role: "pool",
        description: "connections that carry one call at a time, made on demand and kept for a while",
        options: given(options, {
          low: limits.low,
          high: limits.high,
          maxWaiters: limits.maxWaiters,
          idleTime: duration(limits.idleMillis),
          lifeTime: limits.lifeMillis === Infinity ? Infinity : duration(limits.lifeMillis)
        }),
        snapshot: () => ({
          size: sum("size"),
          inUse: sum("inUse"),
          idle: sum("idle"),
          waiting: sum("waiting"),
          refused: shared.refused,
          ...shared.stats.snapshot
        })
      })
      yield* Metrics.show(
        stack,
        Metrics.value(table["scales.pool.size"], () => sum("size")),
        Metrics.value(table["scales.pool.in_use"], () => sum("inUse")),
        Metrics.value(table["scales.pool.idle"], () => sum("idle")),
        Metrics.value(table["scales.pool.waiting"], () => sum("waiting")),
        Metrics.value(table["scales.pool.refused"], () => shared.refused),
        ...shared.stats.series
      )
      return family.Endpoints.of({ make: (endpoint) => make(stack, connector, endpoint, shared) })
    })
  )
