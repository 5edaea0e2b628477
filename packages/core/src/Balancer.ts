/**
 * What every balancer shares: which endpoints there are, by the states of a server set; a sink for each, made when it is first
 * needed and closed when it has left and drained; load counted by attempt; calls that wait for a first state or a first open
 * endpoint; what can be seen of it. How to choose is the balancer's own: a `Picker`.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { abortFailure, type AbortListener, type AbortReason } from "./Abort.ts"
import { type Attempt, beginAttempt, type Call, type Outcome, settleAttempt } from "./Call.ts"
import { CallCounts, CallStats } from "./CallStats.ts"
import { type DescribeBounds, given, list, type OptionInForce } from "./Describe.ts"
import { type Done, offer, throughEndpoint } from "./Direct.ts"
import type { Endpoint } from "./Endpoint.ts"
import { cut } from "./internal/secrets.ts"
import { ServerSetSource } from "./internal/serverSetSource.ts"
import { SetView } from "./internal/SetView.ts"
import { quantiles } from "./LatencyHistogram.ts"
import {
  type BalancerOptions,
  type BalancerView,
  type Control,
  type EndpointCalls,
  type EndpointView,
  Member,
  type Picker
} from "./Member.ts"
import { table } from "./metricTable.ts"
import * as Metrics from "./Metrics.ts"
import { ConnectFailed, InvalidOption, NoEndpoints, type RpcError, StackClosed } from "./RpcError.ts"
import { ServerSet, type ServerSetState, type States } from "./ServerSet.ts"
import type { EndpointSink, Family, MessageSink, SinkFactory } from "./Sink.ts"
import { Stack, type StackShape } from "./Stack.ts"
import { rank, type SinkState, StatusCell } from "./Status.ts"
import { noteAttempt } from "./Tracing.ts"

export * from "./Member.ts"

/** How long the text of a fault may be: a peer has written some of it. */
const longestFault = 1000

/** Share of a new latency in the average that is shown. */
const latencyShare = 0.1

/** A balanced sink, and what there is to see of it. */
export interface Balanced<Req, Res, E> {
  readonly sink: MessageSink<Req, Res, E | RpcError>
  readonly members: () => Iterable<Member<Req, Res, E>>
  readonly view: (bounds?: DescribeBounds) => BalancerView & Readonly<Record<string, unknown>>
}

/** A call that waits for something to be there. */
interface Waiter extends AbortListener {
  readonly wake: () => void
}

/** The series of the attempts at an endpoint. */
const series = {
  requests: table["scales.endpoint.attempts"],
  success: table["scales.endpoint.success"],
  failed: table["scales.endpoint.failed"],
  failures: table["scales.endpoint.failures"],
  ignored: table["scales.endpoint.ignored"],
  pending: table["scales.endpoint.load"],
  latency: table["scales.endpoint.latency_ms"],
  quantiles: table["scales.endpoint.latency_quantiles_ms"]
}

/** How many endpoints `open` connects to at once. */
const opensAtOnce = 8

const stateOf: ReadonlyArray<SinkState> = ["Open", "Busy", "Closed"]

/** A balanced sink over the states of a server set. It lives as long as the scope. */
export const make = <Req, Res, E, E2 = never>(
  stack: StackShape,
  factory: SinkFactory<Req, Res, E>,
  states: States,
  makePicker: (control: Control) => Effect.Effect<Picker, E2, Scope.Scope>,
  options: BalancerOptions = {}
): Effect.Effect<Balanced<Req, Res, E>, E2 | InvalidOption, Scope.Scope> =>
  Effect.gen(function*() {
    const { whenEmpty = "fail" } = options
    if (whenEmpty !== "fail" && whenEmpty !== "wait") {
      return yield* new InvalidOption({ option: "whenEmpty", got: whenEmpty, expected: `"fail" or "wait"` })
    }
    const context = yield* Effect.context<never>()
    // Closed after the stream of states has ended, all members at once.
    const scope = Scope.forkUnsafe(yield* Scope.Scope, "parallel")
    const run = Effect.runForkWith(context)
    const members = new Map<string, Member<Req, Res, E>>()
    /** Left the set with calls on them; by key, so that one that comes back is taken up again. */
    const draining = new Map<string, Member<Req, Res, E>>()
    const waiters = new Set<Waiter>()
    const status = new StatusCell("Idle")
    /** How many members have each rank. */
    const ranks: [number, number, number] = [0, 0, 0]
    /** The newest fault of a member of each rank. */
    const faults: Array<RpcError | undefined> = [undefined, undefined, undefined]
    let latest: ServerSetState = { _tag: "Pending" }
    let generation = 0
    let load = 0
    let adds = 0
    let removes = 0
    let panics = 0
    let bound = false
    let opened = false
    let closed = false

    const wakeAll = () => {
      for (const waiter of [...waiters]) waiter.wake()
    }

    /** Since when all are down. */
    let outageSince: number | undefined

    /** Says when the last one goes down, and when the first is back. */
    const tellOutage = () => {
      if (members.size === 0 || (ranks[2] === members.size) === (outageSince !== undefined)) return
      if (outageSince !== undefined) {
        const downMillis = stack.now() - outageSince
        outageSince = undefined
        return stack.log.say("info", "an endpoint can be used again", { downMillis })
      }
      outageSince = stack.now()
      const cause = faults[2]
      stack.log.say("error", "all endpoints down", { endpoints: members.size, cause: cause?.message })
      stack.faults.note({ what: "all endpoints down", cause })
    }

    /** The status of the whole is that of its best member; Idle, with what was met so far, until one was open. */
    const refresh = () => {
      if (closed) return
      tellOutage()
      const best = ranks.findIndex((count) => count > 0)
      status.set(!opened ? "Idle" : best < 0 ? "Closed" : stateOf[best]!, best <= 0 ? undefined : faults[best])
    }

    const observe = (member: Member<Req, Res, E>) => {
      const next = rank(member.state)
      if (next !== 0) faults[next] = member.fault
      if (!member.removed && next !== member.rank) {
        ranks[member.rank]--
        ranks[next]++
      }
      member.rank = next
      if (next !== 0) showOwn(member)
      if (!member.removed) picker.changed(member)
      if (member.state === "Open") opened = true
      refresh()
      if (waiters.size > 0) wakeAll()
    }

    /** Tells those who wait for the member's sink that there is one, or that there will be none. */
    const answer = (member: Member<Req, Res, E>) => {
      const { wanting } = member
      member.wanting = undefined
      if (wanting !== undefined) { for (const go of wanting) go() }
    }

    /** Lets go of the member's sink. */
    const letGo = (member: Member<Req, Res, E>) => {
      const { making, scope } = member
      member.unsubscribe()
      member.unsubscribe = () => {}
      member.sink = undefined
      member.direct = undefined
      member.scope = undefined
      if (scope !== undefined) run(Scope.close(scope, Exit.void))
      member.making = undefined
      making?.interruptUnsafe()
      answer(member)
    }

    const enter = (member: Member<Req, Res, E>) => {
      members.set(member.endpoint.key, member)
      member.removed = false
      ranks[member.rank]++
      adds++
      picker.add(member)
    }

    const leave = (member: Member<Req, Res, E>) => {
      members.delete(member.endpoint.key)
      member.removed = true
      ranks[member.rank]--
      removes++
      picker.remove(member)
      if (member.load === 0) {
        uncount(member)
        letGo(member)
      } else draining.set(member.endpoint.key, member)
    }

    /** Endpoints that have series of their own. */
    let shown = 0
    /** Counts the attempts at all others. */
    let others: CallStats | undefined

    /** Gives a member series of its own, if there is a place and it has none; between calls, as what has begun in one series ends there. */
    const showOwn = (member: Member<Req, Res, E>): CallStats | undefined => {
      const { load, removed, stats } = member
      if (stats !== undefined && stats !== others) return stats
      if (shown >= stack.endpointSeries || load > 0 || removed || closed) return stats
      shown++
      const attributes = { endpoint: member.endpoint.key }
      const own = new CallStats(stack.metrics, series, attributes, stack.elapsed)
      own.alsoShow(stack.metrics.add(Metrics.value(table["scales.endpoint.state"], () => member.rank, attributes)))
      return member.stats = own
    }

    /** Where the attempt at a member that begins is shown. */
    const statsOf = (member: Member<Req, Res, E>): CallStats =>
      showOwn(member) ??
        (member.stats = others ??= new CallStats(stack.metrics, series, { endpoint: "other" }, stack.elapsed))

    /** Its series end with it. */
    const uncount = (member: Member<Req, Res, E>) => {
      if (member.stats === undefined || member.stats === others) return
      shown--
      member.stats.remove()
      member.stats = undefined
    }

    const release = (
      member: Member<Req, Res, E>,
      outcome: Outcome,
      millis: number,
      error: string | undefined,
      at: number
    ) => {
      member.load--
      load--
      if (outcome === "ignored") {
        member.counts!.ignore()
        member.stats!.ignore()
      } else {
        member.counts!.over(error)
        member.stats!.ended(error, millis, at)
      }
      if (outcome === "success") {
        stack.budget.deposit(at)
        stack.succeeded(millis)
        const before = member.latencyMillis
        member.latencyMillis = before === undefined ? millis : before + (millis - before) * latencyShare
      }
      if (!member.removed) {
        // One that is not well is the one to look at.
        if (member.rank !== 0) showOwn(member)
        picker.ended(member, outcome, millis, at)
      } else if (member.load === 0) {
        if (draining.get(member.endpoint.key) === member) draining.delete(member.endpoint.key)
        uncount(member)
        letGo(member)
      }
    }

    /** The member's sink, made if there is none; `undefined` when that takes its time or went wrong. */
    const materialize = (member: Member<Req, Res, E>): EndpointSink<Req, Res, E> | undefined => {
      if (member.sink !== undefined || member.making !== undefined || closed) return member.sink
      const own = Scope.forkUnsafe(scope)
      member.scope = own
      const made = (exit: Exit.Exit<EndpointSink<Req, Res, E>>) => {
        // It was let go of meanwhile, with its scope and whoever waited.
        if (member.scope !== own) return
        member.making = undefined
        if (Exit.isSuccess(exit)) {
          member.sink = exit.value
          member.direct = throughEndpoint(exit.value)
          member.unsubscribe = exit.value.status.subscribe(() => observe(member))
          if (exit.value.status.state !== "Idle") observe(member)
        } else if (!closed && !member.removed) {
          // A filter's defect costs its endpoint, not the others.
          const what = "endpoint left out: its sink could not be made"
          const { key } = member.endpoint
          stack.log.say("error", what, { endpoint: key, cause: Cause.pretty(exit.cause) })
          stack.faults.note({ endpoint: key, what, cause: Cause.squash(exit.cause) })
          leave(member)
          refresh()
          wakeAll()
        }
        answer(member)
      }
      const fiber = run(Scope.provide(factory.make(member.endpoint), own))
      const exit = fiber.pollUnsafe()
      if (exit !== undefined) made(exit)
      else {
        member.making = fiber
        fiber.addObserver(made)
      }
      return member.sink
    }

    /** Opens a member whose sink may have to be made first. */
    const openMember = (member: Member<Req, Res, E>): Effect.Effect<void, RpcError> =>
      Effect.suspend((): Effect.Effect<void, RpcError> => {
        const sink = materialize(member)
        if (sink !== undefined) return sink.open
        return Effect.callback((resume) => {
          const go = () => resume(member.sink === undefined ? Effect.fail(notMade(member)) : member.sink.open)
          if (member.making === undefined) return go()
          ;(member.wanting ??= new Set()).add(go)
          return Effect.sync(() => void member.wanting?.delete(go))
        })
      })

    const notMade = (member: Member<Req, Res, E>) =>
      closed
        ? stackClosed()
        : new ConnectFailed({ endpoint: member.endpoint, phase: "connect", cause: "its sink could not be made" })

    const join = (endpoint: Endpoint) => {
      let member = draining.get(endpoint.key)
      if (member === undefined) member = new Member<Req, Res, E>(endpoint, release)
      else {
        draining.delete(endpoint.key)
        member.endpoint = endpoint
      }
      member.seen = generation
      enter(member)
    }

    const apply = (state: ServerSetState) => {
      if (bound && (state._tag === "Pending" || state._tag === "Failed")) return
      latest = state
      if (state._tag === "Pending") return
      if (state._tag !== "Failed") bound = true
      generation++
      let gone = members.size
      if (state._tag === "Bound") {
        for (const endpoint of state.endpoints) {
          const member = members.get(endpoint.key)
          if (member === undefined) {
            join(endpoint)
            continue
          }
          if (member.seen !== generation) {
            member.seen = generation
            gone--
          }
          if (member.endpoint === endpoint) continue
          const reweighed = member.endpoint.weight !== endpoint.weight
          member.endpoint = endpoint
          if (reweighed) picker.changed(member)
        }
      }
      if (gone > 0) { for (const member of members.values()) if (member.seen !== generation) leave(member) }
      refresh()
      wakeAll()
    }

    const noEndpoints = () =>
      new NoEndpoints({ stack: stack.name, cause: latest._tag === "Failed" ? latest.cause : undefined })

    const stackClosed = () => new StackClosed({ stack: stack.name, reached: "no", endpoint: undefined })

    /** Nothing can be chosen yet: no state, no endpoint and it is to be waited for, or none was ever open and all are down. */
    const mustWait = () => {
      if (closed) return false
      if (latest._tag === "Pending") return true
      if (members.size === 0) return whenEmpty === "wait"
      return !opened && ranks[0] + ranks[1] === 0
    }

    /** Waits until something can be chosen, and then goes on; at once when `ready` already. */
    const waitThen = <A, E3>(call: Call | undefined, ready: () => boolean, then: () => Effect.Effect<A, E3>) =>
      Effect.callback<A, E3 | RpcError>((resume) => {
        const aborted = (reason: AbortReason) => {
          const cause = members.size === 0 && latest._tag !== "Pending" ? noEndpoints() : faults[2]
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
        const down = call === undefined ? undefined : picker.pick([], call)
        let opening: Fiber.Fiber<void, RpcError> | undefined
        if (down !== undefined) opening = run(openMember(down))
        return Effect.sync(leaveWait)
      })

    /** Sends once the member's sink is made. */
    const sendWhenMade = (member: Member<Req, Res, E>, request: Req, attempt: Attempt) =>
      Effect.callback<Res, E | RpcError>((resume) => {
        const at = { waiting: "connection", reached: "no", endpoint: member.endpoint } as const
        const reason = attempt.abort.reason
        if (reason !== undefined) return resume(Effect.fail(abortFailure(reason, at)))
        const go = () => {
          attempt.abort.off(listener)
          resume(member.sink === undefined ? Effect.fail(notMade(member)) : member.sink.send(request, attempt))
        }
        const listener: AbortListener = {
          onAbort: (why) => {
            member.wanting?.delete(go)
            resume(Effect.fail(abortFailure(why, at)))
          }
        }
        if (member.making === undefined) return go()
        ;(member.wanting ??= new Set()).add(go)
        attempt.abort.on(listener)
        return Effect.sync(() => {
          member.wanting?.delete(go)
          attempt.abort.off(listener)
        })
      })

    const begin = (call: Call, member: Member<Req, Res, E>): Attempt => {
      if (member.rank !== 0) panics++
      const attempt = beginAttempt(call, member.endpoint, stack.elapsed)
      ;(member.counts ??= new CallCounts()).began()
      statsOf(member).began()
      member.load++
      load++
      picker.began(member, attempt.state.startedAt)
      attempt.onEnd(member.release)
      if (attempt.span !== undefined) noteAttempt(stack, attempt.span, attempt)
      return attempt
    }

    /** Whether a call has to wait for something, or is refused. */
    const held = (call: Call) =>
      call.abort.reason !== undefined || closed || ((!opened || members.size === 0) && mustWait())

    const sendDirect = (request: Req, call: Call, done: Done<Res, E | RpcError>): boolean => {
      if (held(call)) return false
      const member = picker.pick(call.tried, call) as Member<Req, Res, E> | undefined
      if (member === undefined || member.removed) return false
      const { direct } = member
      if (direct === undefined || !direct.ready()) return false
      const attempt = begin(call, member)
      let over = false
      const ended = (exit: Exit.Exit<Res, E>): void => {
        if (over) return
        over = true
        let answer = exit
        try {
          settleAttempt(attempt, exit)
        } catch (defect) {
          const bug = Cause.die(defect)
          answer = Exit.failCause(exit._tag === "Failure" ? Cause.combine(exit.cause, bug) : bug)
        }
        done(answer)
      }
      try {
        direct.send(request, attempt, ended)
      } catch (defect) {
        // What has ended has been heard of.
        if (over) throw defect
        ended(Exit.die(defect))
      }
      return true
    }

    const send = offer((request: Req, call: Call): Effect.Effect<Res, E | RpcError> =>
      Effect.suspend(() => {
        let trying: Attempt | undefined
        // The attempt begins inside of what ends it: between any two steps of a fiber it may be interrupted.
        return Effect.onExitPrimitive(
          Effect.suspend((): Effect.Effect<Res, E | RpcError> => {
            const reason = call.abort.reason
            if (reason !== undefined) return Effect.fail(abortFailure(reason, { waiting: "endpoint", reached: "no" }))
            if (closed) return Effect.fail(stackClosed())
            if ((!opened || members.size === 0) && mustWait()) {
              return waitThen(call, () => !mustWait(), () => send(request, call))
            }
            const member = picker.pick(call.tried, call) as Member<Req, Res, E> | undefined
            if (member === undefined) return Effect.fail(noEndpoints())
            // Picking it may have been the end of it: what comes in is opened, and may fail or make others leave.
            if (member.removed) return send(request, call)
            const attempt = trying = begin(call, member)
            const sink = member.sink ?? materialize(member)
            return sink === undefined ? sendWhenMade(member, request, attempt) : sink.send(request, attempt)
          }),
          (exit) => {
            if (trying !== undefined) settleAttempt(trying, exit)
            return undefined
          }
        )
      }), sendDirect)

    /** Opens endpoints, some at a time, until one is open; when none ever was, waits for one that heals. */
    const open: Effect.Effect<void, RpcError> = Effect.suspend((): Effect.Effect<void, RpcError> => {
      if (closed) return Effect.fail(stackClosed())
      if (mustWait() && (members.size === 0 || latest._tag === "Pending")) {
        return waitThen(undefined, () => !mustWait(), () => open)
      }
      if (members.size === 0) return Effect.fail(noEndpoints())
      const untried = [...members.values()].toSorted((a, b) => a.rank - b.rank)
      if (untried.some((member) => member.state === "Open")) return Effect.void
      // Where the calls would go comes first.
      const first = picker.pick([], undefined) as Member<Req, Res, E>
      untried.splice(untried.indexOf(first), 1)
      untried.unshift(first)
      const next = (cause?: Cause.Cause<RpcError>): Effect.Effect<void, RpcError> => {
        // Some at a time: one that says nothing takes its connect timeout, and must not keep the others waiting.
        const some = untried.splice(0, opensAtOnce).filter(({ removed }) => !removed)
        if (some.length > 0) return Effect.catchCause(Effect.raceAll(some.map(openMember)), next)
        if (untried.length > 0) return next(cause)
        if (opened && cause !== undefined) return Effect.failCause(cause)
        return waitThen(undefined, () => opened || closed || members.size === 0, () => open)
      }
      return next()
    })

    const control: Control = {
      stack,
      open: (member) => {
        if (!closed && member.state !== "Open") run(openMember(member))
      },
      shelve: (member) => {
        if (member.load > 0 || (member.sink === undefined && member.making === undefined)) return
        letGo(member)
        if (member.rank !== 0) {
          ranks[member.rank]--
          ranks[0]++
          member.rank = 0
        }
        if (!member.removed) picker.changed(member)
        refresh()
      }
    }
    const picker = yield* makePicker(control)

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        for (const member of [...members.values(), ...draining.values()]) {
          member.making?.interruptUnsafe()
          member.stats?.remove()
        }
        others?.remove()
        status.set("Closed")
        wakeAll()
      })
    )
    /** A server set does not fail; should one die all the same, what was known stands, and calls that wait are told. */
    const died = (cause: Cause.Cause<never>) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.failCause(cause)
        : Effect.sync(() => {
          const what = "the server set is not watched any more"
          stack.log.say("error", what, { cause: Cause.pretty(cause) })
          stack.faults.note({ what, cause: Cause.squash(cause) })
          apply({ _tag: "Failed", cause: Cause.squash(cause) })
        })
    yield* Effect.forkScoped(
      Effect.catchCause(Stream.runForEach(states, (state) => Effect.sync(() => apply(state))), died),
      { startImmediately: true }
    )

    const callsOf = ({ counts, stats }: Member<Req, Res, E>): EndpointCalls | undefined =>
      counts && {
        attempts: counts.requests,
        successes: counts.successes,
        failures: Object.fromEntries(counts.failures),
        ignored: counts.ignored,
        quantiles: stats === others ? [] : stats?.latency?.quantiles(quantiles, stack.elapsed()) ?? []
      }

    const viewOf = (member: Member<Req, Res, E>): EndpointView => ({
      endpoint: member.endpoint.key,
      state: member.state,
      load: member.load,
      weight: member.endpoint.weight,
      latencyMillis: member.latencyMillis,
      calls: callsOf(member),
      active: true,
      fault: member.fault === undefined ? undefined : cut(member.fault.message, longestFault),
      ...picker.view?.(member)
    })
    /** All of them, or those that matter most to whoever looks. */
    const chosen = (most: number): ReadonlyArray<Member<Req, Res, E>> =>
      members.size <= most
        ? [...members.values()]
        : [...members.values()].toSorted((a, b) => b.rank - a.rank || b.load - a.load).slice(0, most)
    const view = ({ endpoints: most = Infinity }: DescribeBounds = {}) => ({
      ...picker.snapshot?.(),
      size: members.size,
      usable: ranks[0],
      busy: ranks[1],
      down: ranks[2],
      draining: draining.size,
      load,
      adds,
      removes,
      panics,
      waiting: waiters.size,
      endpoints: chosen(most).map(viewOf),
      endpointsLeftOut: members.size > most ? members.size - most : undefined,
      ...list("drainingEndpoints", draining, ([endpoint, { load, state }]) => ({ endpoint, state, load }))
    })
    yield* Metrics.show(
      stack,
      Metrics.value(table["scales.balancer.size"], () => members.size),
      Metrics.value(table["scales.balancer.usable"], () => ranks[0]),
      Metrics.value(table["scales.balancer.busy"], () => ranks[1]),
      Metrics.value(table["scales.balancer.down"], () => ranks[2]),
      Metrics.value(table["scales.balancer.draining"], () => draining.size),
      Metrics.value(table["scales.balancer.load"], () => load),
      Metrics.value(table["scales.balancer.adds"], () => adds),
      Metrics.value(table["scales.balancer.removes"], () => removes),
      Metrics.value(table["scales.balancer.panics"], () => panics),
      Metrics.value(table["scales.balancer.waiting"], () => waiters.size)
    )
    return { sink: { send, status, open }, members: () => members.values(), view }
  })

/** What a balancer is made of besides its options. */
export interface Assembly {
  /** One sentence, for `describe`. */
  readonly description: string
  /** Its options in force, for `describe`: made by `Describe.given`. */
  readonly options: Readonly<Record<string, OptionInForce>>
  /** The options it was given that every balancer has. */
  readonly common: BalancerOptions
  /** Makes what chooses. It lives in the balancer's scope. */
  readonly picker: (control: Control) => Effect.Effect<Picker, InvalidOption, Scope.Scope>
}

/**
 * A balancer out of a picker: what a balancer's layer does besides checking its options.
 *
 *     const First = (family) => Layer.effect(family.Balanced, Balancer.assemble(family, { description, options: {}, common: {}, picker }))
 */
export const assemble = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  assembly: Assembly
): Effect.Effect<
  MessageSink<Req, Res, E | RpcError>,
  InvalidOption,
  `${Id}/Endpoints` | ServerSet | Stack | Scope.Scope
> =>
  Effect.gen(function*() {
    const stack = yield* Stack
    const states = yield* ServerSet
    const source = yield* ServerSetSource
    const known = source?.states === states ? source : undefined
    const set = new SetView(stack, known?.logs ?? false)
    yield* stack.register({
      role: "serverSet",
      description: "says which endpoints there are",
      options: known?.options ?? given(undefined, { source: "a stream of states" }),
      snapshot: () => set.snapshot
    })
    yield* Metrics.show(stack, ...set.series)
    const { sink, view } = yield* make(
      stack,
      yield* family.Endpoints,
      Stream.map(states, (state) => {
        set.told(state)
        return state
      }),
      assembly.picker,
      assembly.common
    )
    yield* stack.register({
      role: "balancer",
      description: assembly.description,
      options: { ...assembly.options, ...given(assembly.common, { whenEmpty: assembly.common.whenEmpty ?? "fail" }) },
      snapshot: view
    })
    return sink
  })
