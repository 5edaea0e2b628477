/**
 * The connections to one endpoint that carry one call at a time, and the calls that wait for one: what a watermark pool is made of.
 *
 * Whatever connection is there first, freed or new, goes to the call that has waited longest; one that nobody wants any more is
 * kept for the next. A refused connect fails the call that has waited longest for a connect, no other, as long as there are
 * other connections or other connects to wait for; with the last of them, it fails all.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { abortFailure, type AbortListener, type AbortReason } from "../Abort.ts"
import type { Attempt, Outcome } from "../Call.ts"
import { CallAt } from "../Deadlines.ts"
import * as Direct from "../Direct.ts"
import type { Endpoint } from "../Endpoint.ts"
import { ConnectionClosed, MaxWaiters, type RpcError, StackClosed } from "../RpcError.ts"
import type { Connector, EndpointSink } from "../Sink.ts"
import type { StackShape } from "../Stack.ts"
import { StatusCell } from "../Status.ts"
import { Chain, Link } from "./Chain.ts"
import { connectFailed, faultOf } from "./connectFault.ts"
import type { ConnectionStats } from "./ConnectionStats.ts"

/** The options in force. */
export interface Limits {
  readonly low: number
  readonly high: number
  readonly maxWaiters: number
  readonly idleMillis: number
  readonly lifeMillis: number
}

/** What the pools of one layer have done, and how they stand. */
export interface Shared {
  readonly limits: Limits
  readonly pools: Set<
    () => {
      readonly size: number
      readonly inUse: number
      readonly idle: number
      readonly waiting: number
    }
  >
  readonly stats: ConnectionStats
  /** Calls that found the queue full. */
  refused: number
}

/** A connection that the pool has opened. Idle ones are linked in the order they became idle. */
class Connection<Req, Res, E> extends Link {
  readonly sink: EndpointSink<Req, Res, E>
  readonly direct: Direct.DirectEndpoint<Req, Res, E> | undefined
  readonly scope: Scope.Closeable
  readonly madeAt: number
  /** Given to every attempt that uses it: made once. */
  readonly release: (outcome: Outcome) => void
  use: "idle" | "used" | "dropped" = "idle"
  idleSince = 0
  unsubscribe: () => void = () => {}

  constructor(
    sink: EndpointSink<Req, Res, E>,
    scope: Scope.Closeable,
    madeAt: number,
    ended: (connection: Connection<Req, Res, E>, outcome: Outcome) => void
  ) {
    super()
    this.sink = sink
    this.direct = Direct.throughEndpoint(sink)
    this.scope = scope
    this.madeAt = madeAt
    this.release = (outcome) => ended(this, outcome)
  }
}

/** A call that has no connection yet. */
class Waiter<Req, Res, E> extends Link implements AbortListener {
  readonly attempt: Attempt
  readonly begunAt: number
  readonly resume: (result: Connection<Req, Res, E> | RpcError) => void
  readonly #aborted: (waiter: Waiter<Req, Res, E>, reason: AbortReason) => void

  constructor(
    attempt: Attempt,
    begunAt: number,
    resume: (result: Connection<Req, Res, E> | RpcError) => void,
    aborted: (waiter: Waiter<Req, Res, E>, reason: AbortReason) => void
  ) {
    super()
    this.attempt = attempt
    this.begunAt = begunAt
    this.resume = resume
    this.#aborted = aborted
  }

  onAbort(reason: AbortReason): void {
    this.#aborted(this, reason)
  }
}

/** The pool of one endpoint. */
export const make = <Req, Res, E>(
  stack: StackShape,
  connector: Connector<Req, Res, E>,
  endpoint: Endpoint,
  shared: Shared
): Effect.Effect<EndpointSink<Req, Res, E | RpcError>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { high, idleMillis, lifeMillis, low, maxWaiters } = shared.limits
    const { stats } = shared
    const run = Effect.runForkWith(yield* Effect.context<never>())
    // Closed by this scope after the finalizer below: while connections close, nobody is to be given a new one.
    const connections = Scope.forkUnsafe(yield* Scope.Scope, "parallel")
    const status = new StatusCell("Idle")
    const idle = new Chain<Connection<Req, Res, E>>()
    /** Connections, idle and used. */
    const live = new Set<Connection<Req, Res, E>>()
    const connecting = new Set<Fiber.Fiber<unknown, unknown>>()
    /** Calls in order: first those that a connect under way is for, one for each, then those that wait for a turn. */
    const promised = new Chain<Waiter<Req, Res, E>>()
    const queue = new Chain<Waiter<Req, Res, E>>()
    const openers = new Set<(fault: RpcError | undefined) => void>()
    let closed = false
    /** What the connector gives has a direct way. */
    let isDirect = false
    /** Why the last connect failed, until one succeeds. */
    let refusal: RpcError | undefined

    const closedError = () => new StackClosed({ stack: stack.name, reached: "no", endpoint })

    const isOld = (connection: Connection<Req, Res, E>) =>
      lifeMillis < Infinity && stack.now() - connection.madeAt >= lifeMillis

    const mayConnect = () => live.size + connecting.size < high

    /** Somebody waits for whom no connect is under way, and one more is within the high mark. */
    const lacking = () =>
      mayConnect() &&
      (promised.size + queue.size > connecting.size || (openers.size > 0 && live.size + connecting.size === 0))

    const promote = () => {
      while (promised.size < connecting.size && queue.size > 0) promised.push(queue.shift()!)
    }

    const leave = (waiter: Waiter<Req, Res, E>) => {
      waiter.attempt.abort.off(waiter)
      if (waiter.chain !== undefined) stats.waitEnded(waiter.begunAt)
      waiter.unlink()
      promote()
    }

    const takeIdle = (): Connection<Req, Res, E> | undefined => {
      // The one used last: what is not needed stays idle until its time is over.
      for (let last = idle.last; last !== undefined; last = idle.last) {
        if (last.sink.status.state === "Open" && !isOld(last)) {
          idle.remove(last)
          return last
        }
        drop(last)
      }
      return undefined
    }

    const use = (connection: Connection<Req, Res, E>, attempt: Attempt) => {
      connection.use = "used"
      attempt.onEnd(connection.release)
    }

    let pumping = false
    /** There is a connection more, which is told when those who waited have it. */
    let gained = false
    /** Connects that may be begun though no connection is good: after a refusal, one for each call that comes. */
    let allowance = 0
    /**
     * Gives connections to those who wait, and begins connects for the others, until there is nothing to do. A call that is given
     * one goes on within this turn, and may end and come back here: a loop, not a recursion as deep as the queue is long.
     */
    const pump = () => {
      if (pumping) return
      pumping = true
      try {
        for (;;) {
          const waiter = promised.first ?? queue.first
          const connection = waiter === undefined ? undefined : takeIdle()
          if (waiter !== undefined && connection !== undefined) {
            leave(waiter)
            use(connection, waiter.attempt)
            waiter.resume(connection)
          } else if (lacking() && (live.size > 0 || allowance-- > 0)) connect()
          else break
        }
      } finally {
        allowance = 0
        pumping = false
      }
      if (!gained) return
      gained = false
      if (live.size > 0) status.set("Open")
      answerOpeners(undefined)
    }

    let sweep: CallAt | undefined
    const sweepAt = (at: number) => {
      if (at >= (sweep?.at ?? Infinity)) return
      if (sweep !== undefined) stack.deadlines.remove(sweep)
      sweep = new CallAt(at, swept)
      stack.deadlines.add(sweep, stack.now())
    }

    /** When it is to be closed if nobody uses it. */
    const dueAt = (connection: Connection<Req, Res, E>) =>
      Math.min(live.size > low ? connection.idleSince + idleMillis : Infinity, connection.madeAt + lifeMillis)

    const swept = () => {
      sweep = undefined
      const now = stack.now()
      // The one idle for longest first; what closes may leave no more than the low mark, and the next one stays.
      for (let each = idle.first; each !== undefined;) {
        const { next } = each
        if (dueAt(each) <= now) drop(each)
        each = next
      }
      let at = Infinity
      for (let each = idle.first; each !== undefined; each = each.next) at = Math.min(at, dueAt(each))
      sweepAt(at)
    }

    /** It is free: for whoever waits, or else for later. */
    const free = (connection: Connection<Req, Res, E>) => {
      connection.use = "idle"
      idle.push(connection)
      pump()
      if (connection.use !== "idle") return
      connection.idleSince = stack.now()
      sweepAt(dueAt(connection))
    }

    const putBack = (connection: Connection<Req, Res, E>) => {
      if (connection.use !== "used") return
      if (connection.sink.status.state === "Open") free(connection)
      else drop(connection)
    }

    /** An attempt has ended: with `send`, or with the response that it held. */
    const ended = (connection: Connection<Req, Res, E>, outcome: Outcome) => {
      // The transport may hear of an abort after whoever held the response: it has until the end of this turn to close the connection.
      const aborted = outcome === "failure" || outcome === "ignored"
      if (aborted && connection.sink.status.state === "Open") queueMicrotask(() => putBack(connection))
      else putBack(connection)
    }

    /** Closes a connection, and lets whoever waits have another in its place. */
    const drop = (connection: Connection<Req, Res, E>) => {
      if (connection.use === "dropped") return
      connection.unlink()
      connection.use = "dropped"
      connection.unsubscribe()
      live.delete(connection)
      stats.closes++
      const { fault, state } = connection.sink.status
      run(Scope.close(connection.scope, Exit.void))
      if (live.size === 0) {
        // One that was refused since says more of the endpoint than an end in good order: it goes down with its last connection.
        const why = state === "Closed" && fault !== undefined ? fault : refusal
        status.set(why === undefined ? "Idle" : "Closed", why)
      }
      allowance++
      pump()
    }

    const answerOpeners = (fault: RpcError | undefined) => {
      for (const done of [...openers]) done(fault)
    }

    const connected = (sink: EndpointSink<Req, Res, E>, scope: Scope.Closeable, begunAt: number) => {
      stats.made(begunAt)
      if (sink.status.state !== "Open") {
        stats.dead++
        return failed(connectFailed(endpoint, sink.status.fault ?? "the connection closed at once"), scope)
      }
      const connection = new Connection(sink, scope, stack.now(), ended)
      connection.unsubscribe = sink.status.subscribe(() => {
        const { state } = sink.status
        // One in use finishes what it has, unless nothing on it can succeed any more.
        if (state === "Closed" || (state !== "Open" && connection.use === "idle")) drop(connection)
      })
      isDirect = connection.direct !== undefined
      live.add(connection)
      refusal = undefined
      gained = true
      free(connection)
      // One more than the low mark, perhaps: what was kept by it has been idle for some time.
      if (idle.first !== undefined) sweepAt(dueAt(idle.first))
    }

    const failed = (fault: RpcError, scope: Scope.Closeable) => {
      run(Scope.close(scope, Exit.void))
      refusal = fault
      const losers: Array<Waiter<Req, Res, E>> = []
      const hopeless = live.size === 0 && connecting.size === 0
      if (hopeless) {
        for (const { first } of [promised, queue]) {
          for (let waiter = first; waiter !== undefined; waiter = waiter.next) losers.push(waiter)
        }
      } else if (promised.size > connecting.size) {
        // Else it was a connect that nobody waits for any more.
        losers.push(promised.first!)
      }
      for (const waiter of losers) leave(waiter)
      if (live.size === 0) status.set("Closed", fault)
      for (const waiter of losers) waiter.resume(fault)
      if (hopeless) answerOpeners(fault)
      pump()
    }

    const connect = () => {
      const begunAt = stats.began()
      const scope = Scope.forkUnsafe(connections)
      const fiber = run(Scope.provide(connector.connect(endpoint), scope))
      connecting.add(fiber)
      promote()
      fiber.addObserver((exit) => {
        connecting.delete(fiber)
        // What still arrives is closed as it is made: its scope is.
        if (closed) return
        if (Exit.isSuccess(exit)) return connected(exit.value, scope, begunAt)
        stats.connectFailures++
        failed(faultOf(endpoint, exit.cause), scope)
      })
    }

    const open: Effect.Effect<void, RpcError> = Effect.callback((resume) => {
      if (closed) return resume(Effect.fail(closedError()))
      if (live.size > 0) return resume(Effect.void)
      const done = (fault: RpcError | undefined) => {
        openers.delete(done)
        resume(fault === undefined ? Effect.void : Effect.fail(fault))
      }
      openers.add(done)
      allowance++
      pump()
      return Effect.sync(() => void openers.delete(done))
    })

    const aborted = (waiting: "connection" | "queue", reason: AbortReason) =>
      abortFailure(reason, { waiting, reached: "no", endpoint, cause: status.fault })

    const onAbort = (waiter: Waiter<Req, Res, E>, reason: AbortReason) => {
      const waiting = waiter.chain === promised ? "connection" : "queue"
      leave(waiter)
      waiter.resume(aborted(waiting, reason))
    }

    /** Why a call may not even wait. */
    const turnedAway = ({ abort }: Attempt): RpcError | undefined => {
      if (abort.reason !== undefined) return aborted("connection", abort.reason)
      if (closed) return closedError()
      if (mayConnect() || promised.size !== connecting.size || queue.size < maxWaiters) return undefined
      shared.refused++
      return new MaxWaiters({ endpoint, max: maxWaiters })
    }

    /** Waits for a connection; `undefined`: there is nothing to wait for, `resume` has been called. */
    const wait = (attempt: Attempt, resume: Waiter<Req, Res, E>["resume"]): Waiter<Req, Res, E> | undefined => {
      const error = turnedAway(attempt)
      if (error !== undefined) {
        resume(error)
        return undefined
      }
      const waiter = new Waiter(attempt, stats.waits(), resume, onAbort)
      attempt.abort.on(waiter)
      queue.push(waiter)
      promote()
      allowance++
      pump()
      return waiter
    }

    const sendWhenFree = (request: Req, attempt: Attempt): Effect.Effect<Res, E | RpcError> =>
      Effect.callback((resume) => {
        const waiter = wait(
          attempt,
          (result) => resume(result instanceof Connection ? sendOn(result, request, attempt) : Effect.fail(result))
        )
        return waiter && Effect.sync(() => leave(waiter))
      })

    const closedAtOnce = (connection: Connection<Req, Res, E>) =>
      new ConnectionClosed({ endpoint, reached: "no", cause: connection.sink.status.fault ?? "closed at once" })

    /** Between being given a connection and sending, a fiber may have let others run. */
    const sendOn = (connection: Connection<Req, Res, E>, request: Req, attempt: Attempt) =>
      Effect.suspend((): Effect.Effect<Res, E | RpcError> =>
        connection.use === "used" ? connection.sink.send(request, attempt) : Effect.fail(closedAtOnce(connection))
      )

    /** Nobody overtakes those who wait. */
    const takeFree = () => promised.size + queue.size === 0 ? takeIdle() : undefined

    const directOn = (
      connection: Connection<Req, Res, E>,
      request: Req,
      attempt: Attempt,
      done: Direct.Done<Res, E | RpcError>
    ): void => {
      if (connection.direct === undefined) Direct.goOn(() => connection.sink.send(request, attempt), attempt, done)
      else connection.direct.send(request, attempt, done)
    }

    /** Begins an exchange that has waited, in the end of another: what is thrown is its own end, and no harm to that one. */
    const directLater = (
      connection: Connection<Req, Res, E>,
      request: Req,
      attempt: Attempt,
      done: Direct.Done<Res, E | RpcError>
    ): void => {
      let over = false
      const once: Direct.Done<Res, E | RpcError> = (exit) => {
        if (over) return
        over = true
        done(exit)
      }
      try {
        directOn(connection, request, attempt, once)
      } catch (defect) {
        once(Exit.die(defect))
      }
    }

    const send = Direct.offer(
      (request: Req, attempt: Attempt): Effect.Effect<Res, E | RpcError> =>
        Effect.suspend(() => {
          const connection = takeFree()
          if (connection === undefined) return sendWhenFree(request, attempt)
          use(connection, attempt)
          return connection.sink.send(request, attempt)
        }),
      {
        ready: () => isDirect && live.size > 0,
        send: (request: Req, attempt: Attempt, done: Direct.Done<Res, E | RpcError>): void => {
          const connection = takeFree()
          if (connection === undefined) {
            wait(
              attempt,
              (result) =>
                result instanceof Connection ? directLater(result, request, attempt, done) : done(Exit.fail(result))
            )
            return
          }
          use(connection, attempt)
          directOn(connection, request, attempt, done)
        }
      }
    )

    const view = () => ({
      size: live.size + connecting.size,
      inUse: live.size - idle.size,
      idle: idle.size,
      waiting: promised.size + queue.size
    })
    shared.pools.add(view)
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        shared.pools.delete(view)
        if (sweep !== undefined) stack.deadlines.remove(sweep)
        for (const fiber of connecting) fiber.interruptUnsafe()
        for (const connection of live) {
          connection.unsubscribe()
          connection.unlink()
          connection.use = "dropped"
        }
        stats.closes += live.size
        live.clear()
        for (let waiter = promised.first ?? queue.first; waiter !== undefined; waiter = promised.first ?? queue.first) {
          leave(waiter)
          waiter.resume(closedError())
        }
        answerOpeners(closedError())
        status.set("Closed")
      })
    )
    return { send, status, open }
  })
