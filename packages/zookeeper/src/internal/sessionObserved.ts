/** What shows a session to whoever looks at it: its series, the lines of its log, and what is described of it. */
import { makeDeadlines, Metrics, type OptionInForce, StateLog } from "@scales-rpc/core"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { table } from "../metricTable.ts"
import type { Session, SessionState, WatchEvent } from "../Session.ts"
import type { Requests } from "./Requests.ts"
import type { States } from "./States.ts"
import type { Watches } from "./Watches.ts"

/** Who counts and logs what happens to a session, and in it. */
export interface SessionObserved {
  /** Series that say whose servers the session is with. */
  readonly metrics: Metrics.Registry
  /** Lines that say the same. */
  readonly log: StateLog
  /** Milliseconds since some time, with fractions, that never go back. */
  readonly now: () => number
}

/** What a session is made of that is counted. */
export interface SessionParts {
  readonly states: States
  readonly watches: Watches
  readonly requests: Requests
}

/** What is known of a session beside what it is for. */
interface Known {
  readonly observed: SessionObserved
  readonly parts: SessionParts
  /** The options in force, as a stage has them. */
  readonly options: Readonly<Record<string, OptionInForce>>
}

/** The contract of sessions says nothing of it: others may implement that. */
const known = new WeakMap<Session, Known>()

const states: ReadonlyArray<SessionState> = ["Connecting", "Connected", "Disconnected", "Expired", "AuthFailed"]
const events: ReadonlyArray<WatchEvent> = ["Created", "Deleted", "DataChanged", "ChildrenChanged", "Lost"]

/** Observes a session with the servers that `connect` names, or what is done in one, until the scope closes. */
export const observe = (connect: string): Effect.Effect<SessionObserved, never, Scope.Scope> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<never>()
    const clock = yield* Clock.Clock
    const { name } = Metrics.ownName("connect", connect, true, context)
    const metrics = new Metrics.Registry(true, { connect: name }, context)
    const log = new StateLog({ connect }, yield* makeDeadlines, Effect.runForkWith(context))
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        log.close()
        metrics.close()
      })
    )
    return { metrics, log, now: () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6 }
  })

/** Shows a session of ours until the scope closes: first of all, before it ends itself, since the next one with the same servers may begin then. */
export const show = (
  session: Session,
  observed: SessionObserved,
  parts: SessionParts,
  options: Readonly<Record<string, OptionInForce>> = {}
): Effect.Effect<void, never, Scope.Scope> => {
  const { requests, states: at, watches } = parts
  const { counts } = at
  known.set(session, { observed, parts, options })
  const shown = Metrics.show(
    observed,
    ...states.map((state) =>
      Metrics.value(table["scales.zookeeper.session"], () => at.status().state === state ? 1 : 0, { state })
    ),
    Metrics.value(table["scales.zookeeper.sessions"], () => counts.sessions),
    Metrics.value(table["scales.zookeeper.reconnects"], () => counts.reconnects),
    Metrics.value(table["scales.zookeeper.expirations"], () => counts.expirations),
    Metrics.value(table["scales.zookeeper.auth_failures"], () => counts.authFailures),
    Metrics.value(table["scales.zookeeper.connection_losses"], () => counts.connectionLosses),
    Metrics.value(table["scales.zookeeper.disconnected_ms"], () => at.disconnectedMillis),
    Metrics.value(table["scales.zookeeper.watches"], () => watches.size),
    ...events.map((event) =>
      Metrics.value(table["scales.zookeeper.watch_events"], () => watches.events[event], { event })
    )
  )
  return Effect.andThen(
    shown,
    Effect.addFinalizer(() =>
      Effect.sync(() => {
        requests.hide()
        observed.metrics.close()
      })
    )
  )
}

/** Who observes what is done in a session: whoever observes the session, as a rule. */
export const observerOf = (session: Session): Effect.Effect<SessionObserved, never, Scope.Scope> => {
  const of = known.get(session)
  return of === undefined ? observe(session.connect) : Effect.succeed(of.observed)
}

/** The options in force of a session. */
export const optionsOf = (session: Session): Readonly<Record<string, OptionInForce>> =>
  known.get(session)?.options ?? {}

/** A session as plain data. What proves that it is ours is not in it. */
export const snapshotOf = (session: Session): unknown => {
  const { cause, id, state } = session.status()
  const of = known.get(session)?.parts
  return {
    connect: session.connect,
    state,
    id,
    cause: cause instanceof Error ? cause.message : cause,
    watches: session.watches(),
    ...(of === undefined ? {} : {
      ...of.states.counts,
      disconnectedMillis: Math.round(of.states.disconnectedMillis),
      operations: of.requests.snapshot
    })
  }
}
