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
import * as Metrics from "./Metrics.ts"
import { type RpcError, StackClosed } from "./RpcError.ts"
import type { Connector, EndpointSink, Family } from "./Sink.ts"
import { Stack, type StackShape } from "./Stack.ts"
import { StatusCell } from "./Status.ts"

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

/** What a pool has done. */
interface Counts {
  connects: number
  connectFailures: number
  /** Connected, but closed again before anybody could use it. */
  dead: number
}

const make = <Req, Res, E>(
  stack: StackShape,
  connector: Connector<Req, Res, E>,
  endpoint: Endpoint,
  counts: Counts
): Effect.Effect<EndpointSink<Req, Res, E | RpcError>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<never>()
    const poolScope = yield* Scope.Scope
    const run = Effect.runForkWith(context)
    const status = new StatusCell("Idle")
    let current: Connection<Req, Res, E> | undefined
    let waiters: Set<Waiter> | undefined
    let closed = false

    const closedError = () => new StackClosed({ stack: stack.name, reached: "no", endpoint })

    const discard = (connection: Connection<Req, Res, E>) => {
      connection.unsubscribe()
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

    const connected = (sink: EndpointSink<Req, Res, E>, scope: Scope.Closeable) => {
      const connection: Connection<Req, Res, E> = {
        sink,
        direct: Direct.throughEndpoint(sink),
        scope,
        unsubscribe: () => {}
      }
      if (sink.status.state === "Closed") {
        counts.dead++
        const fault = connectFailed(endpoint, sink.status.fault ?? "the connection closed at once")
        discard(connection)
        status.set("Closed", fault)
        return settle(fault)
      }
      connection.unsubscribe = sink.status.subscribe(() => observe(connection))
      current = connection
      status.set(sink.status.state, sink.status.fault)
      settle(undefined)
    }

    /** Starts an attempt unless one is under way. A connection that is Busy for good (draining) lives on until it is Closed. */
    const connect = () => {
      if (waiters !== undefined) return
      waiters = new Set()
      counts.connects++
      const scope = Scope.forkUnsafe(poolScope)
      const fiber = run(Scope.provide(connector.connect(endpoint), scope))
      // Before it is heard: whoever waited may have the next attempt made in this turn.
      cancel = () => fiber.interruptUnsafe()
      fiber.addObserver((exit) => {
        // What still arrives is closed as it is made: its scope is.
        if (closed) return settle(closedError())
        if (Exit.isSuccess(exit)) return connected(exit.value, scope)
        counts.connectFailures++
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
    let cancel: () => void = () => {}

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
        const waiter: Waiter & AbortListener = {
          done: (fault) => {
            attempt.abort.off(waiter)
            resume(fault === undefined ? sendOnCurrent(request, attempt) : Effect.fail(fault))
          },
          onAbort: (why: AbortReason) => {
            waiters?.delete(waiter)
            resume(Effect.fail(abortFailure(why, at)))
          }
        }
        waiters.add(waiter)
        attempt.abort.on(waiter)
        return Effect.sync(() => {
          waiters?.delete(waiter)
          attempt.abort.off(waiter)
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
          else Direct.goOn(sendWhenOpen(request, attempt), attempt, done)
        }
      }
    )

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        current?.unsubscribe()
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
      const counts: Counts = { connects: 0, connectFailures: 0, dead: 0 }
      yield* stack.register({
        role: "pool",
        description: "one shared connection an endpoint, made on demand",
        options: {},
        snapshot: () => ({ ...counts })
      })
      const counter = (what: string, description: string, read: () => number) => ({
        name: `scales.singleton_pool.${what}`,
        description,
        read
      })
      yield* Metrics.counters(
        stack,
        counter("connects", "connections begun", () => counts.connects),
        counter("connect_failures", "connections that could not be made", () => counts.connectFailures),
        counter("dead", "connections that were closed again before anybody could use them", () => counts.dead)
      )
      return family.Endpoints.of({ make: (endpoint) => make(stack, connector, endpoint, counts) })
    })
  )
