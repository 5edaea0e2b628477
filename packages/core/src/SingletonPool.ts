/**
 * At most one connection to an endpoint, shared by any number of calls: for protocols that multiplex. Connected on demand;
 * concurrent calls share one attempt; a caller that leaves does not cancel it for the others (Finagle's `SingletonPool`).
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { abortFailure, type AbortListener, type AbortReason } from "./Abort.ts"
import type { Attempt } from "./Call.ts"
import * as Direct from "./Direct.ts"
import type { Endpoint } from "./Endpoint.ts"
import { connectFailed, faultOf } from "./internal/connectFault.ts"
import { ConnectionStats } from "./internal/ConnectionStats.ts"
import { table } from "./metricTable.ts"
import * as Metrics from "./Metrics.ts"
import { type RpcError, StackClosed } from "./RpcError.ts"
import type { Connector, EndpointSink, Family } from "./Sink.ts"
import { Stack, type StackShape } from "./Stack.ts"
import { StatusCell } from "./Status.ts"

const nothing = (): void => {}

/** A connection that the pool has opened. */
interface Connection<Req, Res, E> {
  readonly sink: EndpointSink<Req, Res, E>
  readonly direct: Direct.DirectEndpoint<Req, Res, E> | undefined
  readonly scope: Scope.Closeable
  unsubscribe: () => void
}

/** Somebody who waits for the attempt under way. */
interface Waiter {
  readonly done: (fault: RpcError | undefined) => void
}

/** What the pools of one layer share. */
interface Shared {
  readonly stats: ConnectionStats
  /** How each stands. */
  readonly pools: Set<() => { readonly size: number; readonly waiting: number }>
}

const make = <Req, Res, E>(
  stack: StackShape,
  connector: Connector<Req, Res, E>,
  endpoint: Endpoint,
  { pools, stats }: Shared
): Effect.Effect<EndpointSink<Req, Res, E | RpcError>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<never>()
    const poolScope = yield* Scope.Scope
    const run = Effect.runForkWith(context)
    const status = new StatusCell("Idle")
    let current: Connection<Req, Res, E> | undefined
    /** The current one, and those before it that still drain; `undefined`: none. */
    let opened: Set<Connection<Req, Res, E>> | undefined
    let waiters: Set<Waiter> | undefined
    let closed = false

    const closedError = () => new StackClosed({ stack: stack.name, reached: "no", endpoint })

    const discard = (connection: Connection<Req, Res, E>) => {
      connection.unsubscribe()
      opened?.delete(connection)
      if (opened?.size === 0) opened = undefined
      stats.closes++
      run(Scope.close(connection.scope, Exit.void))
    }

    /** The pool's status is its connection's; a drained connection leaves an idle pool, a broken one a closed pool. */
    const observe = (connection: Connection<Req, Res, E>) => {
      const { fault, state } = connection.sink.status
      if (state === "Closed") {
        discard(connection)
        if (current !== connection) return
        current = undefined
        status.set(fault === undefined ? "Idle" : "Closed", fault)
      } else if (current === connection) status.set(state, fault)
    }

    const settle = (fault: RpcError | undefined) => {
      const waiting = waiters
      waiters = undefined
      if (waiting !== undefined) { for (const waiter of [...waiting]) waiter.done(fault) }
    }

    const connected = (sink: EndpointSink<Req, Res, E>, scope: Scope.Closeable, begunAt: number) => {
      const connection: Connection<Req, Res, E> = {
        sink,
        direct: Direct.throughEndpoint(sink),
        scope,
        unsubscribe: () => {}
      }
      stats.made(begunAt)
      if (sink.status.state === "Closed") {
        stats.dead++
        const fault = connectFailed(endpoint, sink.status.fault ?? "the connection closed at once")
        run(Scope.close(scope, Exit.void))
        status.set("Closed", fault)
        return settle(fault)
      }
      connection.unsubscribe = sink.status.subscribe(() => observe(connection))
      ;(opened ??= new Set()).add(connection)
      current = connection
      status.set(sink.status.state, sink.status.fault)
      settle(undefined)
    }

    /** Starts an attempt unless one is under way. A connection that is Busy for good (draining) lives on until it is Closed. */
    const connect = () => {
      if (waiters !== undefined) return
      waiters = new Set()
      const begunAt = stats.began()
      const scope = Scope.forkUnsafe(poolScope)
      const fiber = run(Scope.provide(connector.connect(endpoint), scope))
      // Before it is heard: whoever waited may have the next attempt made in this turn.
      cancel = () => fiber.interruptUnsafe()
      fiber.addObserver((exit) => {
        // There is nothing left to cancel, and the fiber is not to be kept for it: a tenth of what an idle endpoint takes.
        cancel = nothing
        // What still arrives is closed as it is made: its scope is.
        if (closed) return settle(closedError())
        if (Exit.isSuccess(exit)) return connected(exit.value, scope, begunAt)
        stats.connectFailures++
        const fault = faultOf(endpoint, exit.cause)
        run(Scope.close(scope, Exit.void))
        // One that drains takes no more calls: without a successor the endpoint is down. It still finishes what it has.
        if (current === undefined || !usable(current)) {
          current = undefined
          status.set("Closed", fault)
        }
        settle(fault)
      })
    }
    let cancel = nothing

    /** Still takes calls. One that is Busy with a fault is being drained by its peer: it finishes what it has, no more. */
    const usable = (connection: Connection<Req, Res, E>) =>
      connection.sink.status.state !== "Closed" &&
      !(connection.sink.status.state === "Busy" && connection.sink.status.fault !== undefined)

    const open: Effect.Effect<void, RpcError> = Effect.callback((resume) => {
      if (closed) return resume(Effect.fail(closedError()))
      if (current !== undefined && usable(current)) return resume(Effect.void)
      connect()
      if (waiters === undefined) {
        // Decided in this turn.
        return resume(current === undefined ? Effect.fail(status.fault ?? closedError()) : Effect.void)
      }
      const waiter: Waiter = { done: (fault) => resume(fault === undefined ? Effect.void : Effect.fail(fault)) }
      waiters.add(waiter)
      return Effect.sync(() => void waiters?.delete(waiter))
    })

    const sendWhenOpen = (request: Req, attempt: Attempt): Effect.Effect<Res, E | RpcError> =>
      Effect.callback((resume) => {
        const at = { waiting: "connection", reached: "no", endpoint } as const
        const reason = attempt.abort.reason
        if (reason !== undefined) return resume(Effect.fail(abortFailure(reason, at)))
        if (closed) return resume(Effect.fail(closedError()))
        connect()
        if (waiters === undefined) return resume(sendOnCurrent(request, attempt))
        const begunAt = stats.waits()
        const waiter: Waiter & AbortListener = {
          done: (fault) => {
            attempt.abort.off(waiter)
            stats.waitEnded(begunAt)
            resume(fault === undefined ? sendOnCurrent(request, attempt) : Effect.fail(fault))
          },
          onAbort: (why: AbortReason) => {
            waiters?.delete(waiter)
            stats.waitEnded(begunAt)
            resume(Effect.fail(abortFailure(why, at)))
          }
        }
        waiters.add(waiter)
        attempt.abort.on(waiter)
        return Effect.sync(() => {
          attempt.abort.off(waiter)
          if (waiters?.delete(waiter) === true) stats.waitEnded(begunAt)
        })
      })

    /**
     * Sends on what connecting gave, also when that has begun to drain: then it refuses the call, and that goes elsewhere. One
     * attempt to connect for each attempt of a call: a peer that drops every connection must not be called in a loop.
     */
    const sendOnCurrent = (request: Req, attempt: Attempt): Effect.Effect<Res, E | RpcError> =>
      Effect.suspend((): Effect.Effect<Res, E | RpcError> => {
        if (current !== undefined) return current.sink.send(request, attempt)
        const { fault } = status
        return Effect.fail(
          closed
            ? closedError()
            : fault?.reached === "no"
            ? fault
            : connectFailed(endpoint, fault ?? "the connection closed at once")
        )
      })

    const send = Direct.offer(
      (request: Req, attempt: Attempt): Effect.Effect<Res, E | RpcError> =>
        Effect.suspend(() => {
          const connection = current
          return connection !== undefined && usable(connection)
            ? connection.sink.send(request, attempt)
            : sendWhenOpen(request, attempt)
        }),
      {
        ready: () => current !== undefined && current.direct !== undefined && usable(current) && current.direct.ready(),
        send: (request: Req, attempt: Attempt, done: Direct.Done<Res, E | RpcError>) => {
          const direct = current?.direct
          if (direct !== undefined) direct.send(request, attempt, done)
          // It was ready, and has been lost since.
          else Direct.goOn(() => sendWhenOpen(request, attempt), attempt, done)
        }
      }
    )

    const view = () => ({ size: (opened?.size ?? 0) + (waiters === undefined ? 0 : 1), waiting: waiters?.size ?? 0 })
    pools.add(view)
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        pools.delete(view)
        if (opened !== undefined) {
          for (const connection of opened) connection.unsubscribe()
          stats.closes += opened.size
          opened = undefined
        }
        current = undefined
        cancel()
        settle(closedError())
        status.set("Closed")
      })
    )
    return { send, status, open }
  })

/** The pool for a family: turns its connector into endpoints. */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>
): Layer.Layer<`${Id}/Endpoints`, never, `${Id}/Connector` | Stack> =>
  Layer.effect(
    family.Endpoints,
    Effect.gen(function*() {
      const stack = yield* Stack
      const connector = yield* family.Connector
      const shared: Shared = { stats: new ConnectionStats(stack), pools: new Set() }
      const sum = (what: "size" | "waiting") => {
        let total = 0
        for (const view of shared.pools) total += view()[what]
        return total
      }
      yield* stack.register({
        role: "pool",
        description: "one shared connection an endpoint, made on demand",
        options: {},
        snapshot: () => ({ size: sum("size"), waiting: sum("waiting"), ...shared.stats.snapshot })
      })
      yield* Metrics.show(
        stack,
        Metrics.value(table["scales.pool.size"], () => sum("size")),
        Metrics.value(table["scales.pool.waiting"], () => sum("waiting")),
        ...shared.stats.series
      )
      return family.Endpoints.of({ make: (endpoint) => make(stack, connector, endpoint, shared) })
    })
  )
