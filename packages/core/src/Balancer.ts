/**
 * What every balancer shares: which endpoints there are, by the states of a server set; a sink for each, made when it
 * joins and closed when it has left and drained; load counted by attempt; calls that wait for a first state or a first open
 * endpoint. How to choose is the balancer's own: a `Picker`.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { abortFailure, type AbortListener, type AbortReason } from "./Abort.ts"
import { type Attempt, beginAttempt, type Call, type Outcome, settleAttempt } from "./Call.ts"
import type { Endpoint } from "./Endpoint.ts"
import { NoEndpoints, type RpcError, StackClosed } from "./RpcError.ts"
import type { ServerSetState, States } from "./ServerSet.ts"
import type { EndpointSink, MessageSink, SinkFactory } from "./Sink.ts"
import type { StackShape } from "./Stack.ts"
import { rank, type SinkState, StatusCell } from "./Status.ts"

/** One endpoint of a balancer. */
export class Member<Req = any, Res = any, E = any> {
  /** The newest description of the endpoint; weight and metadata may change. */
  endpoint: Endpoint
  readonly sink: EndpointSink<Req, Res, E>
  readonly scope: Scope.Closeable
  /** Attempts that have begun and not ended. */
  load = 0
  /** 0 usable, 1 busy, 2 down. */
  rank: 0 | 1 | 2 = 0
  /** Where the picker keeps it; a picker's own. */
  index = -1
  removed = false
  /** Given to every attempt as its end hook: made once, not once a call. */
  readonly release: (outcome: Outcome, millis: number) => void
  unsubscribe: () => void = () => {}

  constructor(
    endpoint: Endpoint,
    sink: EndpointSink<Req, Res, E>,
    scope: Scope.Closeable,
    release: (member: Member<Req, Res, E>, outcome: Outcome, millis: number) => void
  ) {
    this.endpoint = endpoint
    this.sink = sink
    this.scope = scope
    this.release = (outcome, millis) => release(this, outcome, millis)
  }
}

/** Chooses among the members. Told of every change that can matter to it. */
export interface Picker {
  readonly add: (member: Member) => void
  readonly remove: (member: Member) => void
  /** Its rank or its weight changed. */
  readonly changed: (member: Member) => void
  /** An attempt has begun: its load is up by one. */
  readonly began: (member: Member) => void
  /** An attempt has ended so, `millis` after it began: its load is down by one. Not told of members that have left. */
  readonly ended: (member: Member, outcome: Outcome, millis: number) => void
  /**
   * The best one, not among `tried` when there is as good another; `undefined` when there are none. Without `call` nothing is sent:
   * the whole is asked how good it is.
   */
  readonly pick: (tried: ReadonlyArray<Endpoint>, call?: Call) => Member | undefined
}

/** A call that waits for something to be there. */
interface Waiter extends AbortListener {
  readonly wake: () => void
}

/** How many endpoints `open` connects to at once. */
const opensAtOnce = 8

const stateOf: ReadonlyArray<SinkState> = ["Open", "Busy", "Closed"]

/** A balanced sink over the states of a server set. It lives as long as the scope. */
export const make = <Req, Res, E>(
  stack: StackShape,
  factory: SinkFactory<Req, Res, E>,
  states: States,
  picker: Picker
): Effect.Effect<
  { readonly sink: MessageSink<Req, Res, E | RpcError>; readonly members: () => Iterable<Member<Req, Res, E>> },
  never,
  Scope.Scope
> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<never>()
    // Closed after the stream of states has ended, all members at once.
    const scope = Scope.forkUnsafe(yield* Scope.Scope, "parallel")
    const run = Effect.runForkWith(context)
    const members = new Map<string, Member<Req, Res, E>>()
    /** Left the set with calls on them; by key, so that one that comes back is taken up again. */
    const draining = new Map<string, Member<Req, Res, E>>()
    const waiters = new Set<Waiter>()
    const status = new StatusCell("Idle")
    let latest: ServerSetState = { _tag: "Pending" }
    let bound = false
    let opened = false
    let closed = false

    const wakeAll = () => {
      for (const waiter of [...waiters]) waiter.wake()
    }

    const close = (member: Member<Req, Res, E>) => {
      member.unsubscribe()
      if (draining.get(member.endpoint.key) === member) draining.delete(member.endpoint.key)
      run(Scope.close(member.scope, Exit.void))
    }

    /** The status of the whole is that of its best member; Idle, with what was met so far, until one was open. */
    const refresh = () => {
      const best = picker.pick([])
      const fault = best === undefined || best.rank === 0 ? undefined : best.sink.status.fault
      status.set(!opened ? "Idle" : best === undefined ? "Closed" : stateOf[best.rank]!, fault)
    }

    const observe = (member: Member<Req, Res, E>) => {
      member.rank = rank(member.sink.status.state)
      if (!member.removed) picker.changed(member)
      if (member.sink.status.state === "Open") opened = true
      refresh()
      if (waiters.size > 0) wakeAll()
    }

    const release = (member: Member<Req, Res, E>, outcome: Outcome, millis: number) => {
      member.load--
      if (!member.removed) picker.ended(member, outcome, millis)
      else if (member.load === 0) close(member)
    }

    const join = (endpoint: Endpoint) =>
      Effect.gen(function*() {
        const returning = draining.get(endpoint.key)
        if (returning !== undefined) {
          draining.delete(endpoint.key)
          returning.removed = false
          returning.endpoint = endpoint
          members.set(endpoint.key, returning)
          picker.add(returning)
          return
        }
        const own = Scope.forkUnsafe(scope)
        const made = yield* Effect.exit(Scope.provide(factory.make(endpoint), own))
        if (Exit.isFailure(made)) {
          yield* Scope.close(own, made)
          if (Cause.hasInterruptsOnly(made.cause)) return yield* made
          // A filter's defect costs its endpoint, not the watch over the others.
          return yield* Effect.logError(
            `${stack.name}: endpoint ${endpoint.key} is left out: its sink could not be made`,
            made.cause
          )
        }
        const sink = made.value
        const member = new Member(endpoint, sink, own, release)
        member.rank = rank(sink.status.state)
        member.unsubscribe = sink.status.subscribe(() => observe(member))
        members.set(endpoint.key, member)
        picker.add(member)
      })

    const leave = (member: Member<Req, Res, E>) => {
      members.delete(member.endpoint.key)
      member.removed = true
      picker.remove(member)
      if (member.load === 0) close(member)
      else draining.set(member.endpoint.key, member)
    }

    const apply = (state: ServerSetState) =>
      Effect.gen(function*() {
        if (bound && (state._tag === "Pending" || state._tag === "Failed")) return
        latest = state
        if (state._tag === "Pending") return
        if (state._tag !== "Failed") bound = true
        const next = new Map<string, Endpoint>()
        if (state._tag === "Bound") { for (const endpoint of state.endpoints) next.set(endpoint.key, endpoint) }
        for (const member of [...members.values()]) if (!next.has(member.endpoint.key)) leave(member)
        for (const endpoint of next.values()) {
          const member = members.get(endpoint.key)
          if (member === undefined) yield* join(endpoint)
          else if (member.endpoint !== endpoint) {
            const reweighed = member.endpoint.weight !== endpoint.weight
            member.endpoint = endpoint
            if (reweighed) picker.changed(member)
          }
        }
        refresh()
        wakeAll()
      })

    const noEndpoints = () =>
      new NoEndpoints({ stack: stack.name, cause: latest._tag === "Failed" ? latest.cause : undefined })

    const stackClosed = () => new StackClosed({ stack: stack.name, reached: "no", endpoint: undefined })

    /** Nothing can be chosen yet: no state, or no endpoint was ever open and all that were tried are down. */
    const mustWait = () => {
      if (closed) return false
      if (latest._tag === "Pending") return true
      if (opened) return false
      const best = picker.pick([])
      return best !== undefined && best.rank === 2
    }

    /** Waits until something can be chosen, and then goes on; at once when `ready` already. */
    const waitThen = <A, E2>(call: Call | undefined, ready: () => boolean, then: () => Effect.Effect<A, E2>) =>
      Effect.callback<A, E2 | RpcError>((resume) => {
        const aborted = (reason: AbortReason) => {
          const cause = picker.pick([])?.sink.status.fault
          resume(Effect.fail(abortFailure(reason, { waiting: "endpoint", reached: "no", cause })))
        }
        // Either may have come since the caller looked.
        if (call?.abort.reason !== undefined) return aborted(call.abort.reason)
        if (ready()) return resume(Effect.suspend(then))
        const leaveWait = () => {
          waiters.delete(waiter)
          call?.abort.off(waiter)
          opening?.interruptUnsafe()
        }
        const waiter: Waiter = {
          wake: () => {
            if (mustWait()) return
            leaveWait()
            resume(Effect.suspend(then))
          },
          onAbort: (reason) => {
            leaveWait()
            aborted(reason)
          }
        }
        waiters.add(waiter)
        call?.abort.on(waiter)
        // A call that finds all down is a reason to try now. It may be answered in this turn.
        const down = call === undefined ? undefined : picker.pick([])
        let opening: Fiber.Fiber<void, RpcError> | undefined
        if (down !== undefined) opening = run((down as Member<Req, Res, E>).sink.open)
        return Effect.sync(leaveWait)
      })

    const send = (request: Req, call: Call): Effect.Effect<Res, E | RpcError> =>
      Effect.suspend(() => {
        let trying: Attempt | undefined
        // The attempt begins inside of what ends it: between any two steps of a fiber it may be interrupted.
        return Effect.onExitPrimitive(
          Effect.suspend((): Effect.Effect<Res, E | RpcError> => {
            const reason = call.abort.reason
            if (reason !== undefined) return Effect.fail(abortFailure(reason, { waiting: "endpoint", reached: "no" }))
            if (closed) return Effect.fail(stackClosed())
            if (!opened && mustWait()) return waitThen(call, () => !mustWait(), () => send(request, call))
            const member = picker.pick(call.tried, call) as Member<Req, Res, E> | undefined
            if (member === undefined) return Effect.fail(noEndpoints())
            const attempt = trying = beginAttempt(call, member.endpoint, stack.now)
            member.load++
            picker.began(member)
            attempt.onEnd(member.release)
            return member.sink.send(request, attempt)
          }),
          (exit) => {
            if (trying !== undefined) settleAttempt(trying, exit)
            return undefined
          }
        )
      })

    /** Opens endpoints, some at a time, until one is open; when none ever was, waits for one that heals. */
    const open: Effect.Effect<void, RpcError> = Effect.suspend((): Effect.Effect<void, RpcError> => {
      if (closed) return Effect.fail(stackClosed())
      if (latest._tag === "Pending") return waitThen(undefined, () => !mustWait(), () => open)
      if (members.size === 0) return Effect.fail(noEndpoints())
      const untried = [...members.values()].toSorted((a, b) => a.rank - b.rank)
      if (untried.some((member) => member.sink.status.state === "Open")) return Effect.void
      const next = (cause?: Cause.Cause<RpcError>): Effect.Effect<void, RpcError> => {
        // Some at a time: one that says nothing takes its connect timeout, and must not keep the others waiting.
        const some = untried.splice(0, opensAtOnce)
        if (some.length > 0) return Effect.catchCause(Effect.raceAll(some.map(({ sink }) => sink.open)), next)
        if (opened && cause !== undefined) return Effect.failCause(cause)
        return waitThen(undefined, () => opened || closed || members.size === 0, () => open)
      }
      return next()
    })

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        status.set("Closed")
        wakeAll()
      })
    )
    /** A server set does not fail; should one die all the same, what was known stands, and calls that wait are told. */
    const died = (cause: Cause.Cause<never>) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.failCause(cause)
        : Effect.andThen(
          Effect.logError(`${stack.name}: the server set is not watched any more`, cause),
          apply({ _tag: "Failed", cause: Cause.squash(cause) })
        )
    yield* Effect.forkScoped(Effect.catchCause(Stream.runForEach(states, apply), died), { startImmediately: true })
    return { sink: { send, status, open }, members: () => members.values() }
  })
