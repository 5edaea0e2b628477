/** What a mux server shows of itself: its counts, its stages from the wire up, and its series. */
import { Describe, Metrics, type Observed, ObservedServer } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Limits } from "./Message.ts"
import { table } from "./metricTable.ts"
import type { MuxServerOptions, MuxServerShape } from "./MuxServer.ts"
import type { Served } from "./ServedSession.ts"
import { ServerCounts, type ServerSession } from "./ServerSession.ts"

/** What a server has seen since it began. */
export class MuxServerCounts extends ServerCounts {
  /** Requests nacked because `maxConcurrent` ran. */
  concurrencyNacks = 0
  /** Requests refused because their deadline had passed when they came. */
  expired = 0
  /** Requests nacked because `maxSessions` were open when theirs began. */
  refusals = 0
  /** Sessions whose requests are so. */
  refusedSessions = 0
  /** Requests that their handler nacked. */
  handlerNacks = 0
  /** Connections that were secured. */
  tlsHandshakes = 0
  /** Connections cut because they could not be secured. */
  tlsFailures = 0
  /** Bytes that came, and were given to sockets; within TLS, where there is any. */
  receivedBytes = 0
  sentBytes = 0
}

/** Sessions that `describe` shows one by one. */
const sessionsShown = 100

/** What it reads. */
interface ServerParts {
  readonly options: MuxServerOptions
  readonly limits: Limits
  readonly window: number
  readonly maxConcurrent: number
  readonly maxSessions: number
  readonly drainMillis: number
  readonly tls: Readonly<Record<string, unknown>> | undefined
  readonly counts: MuxServerCounts
  readonly served: ReadonlySet<Served>
  /** Sessions that are served. */
  readonly accepted: () => number
  /** Requests that run. */
  readonly running: () => number
  /** Where it listens; `undefined`: not yet, or not any more. */
  readonly listening: () => MuxServerShape["address"] | undefined
}

/** Shows it until the scope closes. What serves the requests registers itself, above. */
export const showServer = (
  observed: ObservedServer.ObservedServer,
  parts: ServerParts
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { accepted, counts, listening, options, running, served, tls } = parts
    yield* observed.show({
      connections: accepted,
      connects: () => counts.sessions - counts.refusedSessions,
      refusedConnections: () => counts.refusedSessions,
      receivedBytes: () => counts.receivedBytes,
      sentBytes: () => counts.sentBytes,
      tlsHandshakes: () => counts.tlsHandshakes,
      tlsFailures: () => counts.tlsFailures,
      protocolErrors: () => counts.undecodable + counts.duplicateTags,
      expired: () => counts.expired,
      drains: () => counts.drains,
      aborted: () => counts.aborted
    })
    yield* showSessions(observed, counts, served)
    yield* observed.register({
      role: "listener",
      description: "takes connections of mux clients",
      options: Describe.given(options, ObservedServer.listenerOptions(options)),
      snapshot: () => ({ listening: listening() !== undefined, ...listening() })
    })
    if (tls !== undefined) {
      yield* observed.register({
        role: "tls",
        description: "secures connections",
        options: Describe.given(options, { tls }),
        snapshot: () => ({ handshakes: counts.tlsHandshakes, failures: counts.tlsFailures })
      })
    }
    yield* observed.register({
      role: "sessions",
      description: "mux sessions, each of one client",
      options: Describe.given(options, {
        window: parts.window,
        maxSessions: ObservedServer.bound(parts.maxSessions),
        limits: parts.limits
      }),
      snapshot: () => ({
        open: served.size,
        begun: counts.sessions,
        refused: counts.refusedSessions,
        draining: [...served].filter(({ session }) => session.draining).length,
        receivedBytes: counts.receivedBytes,
        sentBytes: counts.sentBytes,
        messagesReceived: counts.messagesReceived,
        messagesSent: counts.sent.messages,
        undecodable: counts.undecodable,
        duplicateTags: counts.duplicateTags,
        sessions: [...served].slice(0, sessionsShown).map(({ acceptedAt, outstanding, peer, secured, session }) => ({
          peer,
          secured,
          draining: session.draining,
          ageMillis: observed.elapsed() - acceptedAt,
          outstanding,
          queued: session.queued
        }))
      })
    })
    yield* observed.register({
      role: "limits",
      description: "refuses requests that are too many, or too late",
      options: Describe.given(options, {
        maxConcurrent: ObservedServer.bound(parts.maxConcurrent),
        drainTimeout: Describe.duration(parts.drainMillis)
      }),
      snapshot: () => ({
        running: running(),
        concurrencyNacks: counts.concurrencyNacks,
        sessionNacks: counts.refusals,
        drainNacks: counts.drainNacks,
        expired: counts.expired,
        aborted: counts.aborted
      })
    })
  })

/** The series that mux servers have beside those of every server. */
const showSessions = (observed: Observed.Observed, counts: MuxServerCounts, served: ReadonlySet<Served>) => {
  const sum = (of: (session: ServerSession) => number) => () => {
    let all = 0
    for (const { session } of served) all += of(session)
    return all
  }
  const nacks = (why: string, read: () => number) => Metrics.value(table["scales.mux_server.nacks"], read, { why })
  return Metrics.show(
    observed,
    nacks("concurrency", () => counts.concurrencyNacks),
    nacks("sessions", () => counts.refusals),
    nacks("draining", () => counts.drainNacks),
    nacks("handler", () => counts.handlerNacks),
    Metrics.value(table["scales.mux_server.discards"], () => counts.discards),
    Metrics.value(table["scales.mux_server.orphaned_discards"], () => counts.orphanedDiscards),
    Metrics.value(table["scales.mux_server.duplicate_tags"], () => counts.duplicateTags),
    Metrics.value(table["scales.mux_server.leases"], () => counts.leases),
    Metrics.value(table["scales.mux_server.pings"], () => counts.pings),
    Metrics.value(table["scales.mux_server.outstanding"], sum(({ outstanding }) => outstanding)),
    Metrics.value(table["scales.mux_server.messages_sent"], () => counts.sent.messages),
    Metrics.value(table["scales.mux_server.messages_received"], () => counts.messagesReceived),
    Metrics.value(table["scales.mux_server.fragments_sent"], () => counts.sent.fragments),
    Metrics.value(table["scales.mux_server.fragments_received"], () => counts.fragmentsReceived),
    Metrics.value(table["scales.mux_server.queued"], sum(({ queued }) => queued)),
    Metrics.value(table["scales.mux_server.queued_bytes"], sum(({ queuedBytes }) => queuedBytes))
  )
}
