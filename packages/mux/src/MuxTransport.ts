/**
 * Opens mux connections over TCP or Unix sockets: connect, TLS if wanted, handshake, then a session, each step bounded
 * in time.
 */
import {
  Describe,
  type Endpoint,
  type InvalidOption,
  Metrics,
  type RpcError,
  Stack,
  type StackShape
} from "@scales-rpc/core"
import { durationMillis, wholeNumber } from "@scales-rpc/core/options"
import { type CountedConnection, Tls, TransportStats } from "@scales-rpc/core/socket"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Net from "node:net"
import { ClientContexts } from "./ClientContexts.ts"
import { ClientCounts, type SessionEnd, sessionEnds } from "./ClientCounts.ts"
import { ClientSession } from "./ClientSession.ts"
import { checkedLimits } from "./limitOptions.ts"
import type { Limits } from "./Message.ts"
import { table } from "./metricTable.ts"
import { Mux } from "./Mux.ts"
import { modeOf, type TlsMode } from "./tlsMode.ts"

/** Options of the transport. */
export interface MuxTransportOptions {
  /** How long resolving and connecting may take. Default 1 second. */
  readonly connectTimeout?: Duration.Input | undefined
  /** How long the handshake may take once connected. Default 1 second. */
  readonly handshakeTimeout?: Duration.Input | undefined
  /** Time between pings. The first is sent when the session begins. Default 5 seconds. */
  readonly pingInterval?: Duration.Input | undefined
  /** A ping that is not answered in this time ends the connection. Default 4 seconds. */
  readonly pingTimeout?: Duration.Input | undefined
  /** Bytes of one fragment that the server may send, above 0. Default 2^31 - 1: no fragments. */
  readonly window?: number | undefined
  /** What is accepted from a server; the defaults are `Message.defaultLimits`. */
  readonly limits?: Partial<Limits> | undefined
  /**
   * TLS, from the first byte on unless `mode` says otherwise: `desired`: if the server offers it in the mux handshake;
   * `required`: negotiated in the same way, and no connection without; `off`: none, for configurations. Default: none.
   */
  readonly tls?: (Tls.TlsClientOptions & { readonly mode?: TlsMode | undefined }) | undefined
}

interface Settings {
  readonly connectTimeoutMillis: number
  readonly handshakeTimeoutMillis: number
  readonly pingIntervalMillis: number
  readonly pingTimeoutMillis: number
  readonly window: number
  readonly limits: Limits
  readonly tls: { readonly mode: Exclude<TlsMode, "off">; readonly client: Tls.TlsClient } | undefined
}

const settingsOf = (options: MuxTransportOptions): Effect.Effect<Settings, InvalidOption> =>
  Effect.gen(function*() {
    const limits = yield* checkedLimits(options.limits)
    const mode = yield* modeOf(options.tls)
    return {
      connectTimeoutMillis: yield* durationMillis("connectTimeout", options.connectTimeout, 1000, 1),
      handshakeTimeoutMillis: yield* durationMillis("handshakeTimeout", options.handshakeTimeout, 1000, 1),
      pingIntervalMillis: yield* durationMillis("pingInterval", options.pingInterval, 5000, 1),
      pingTimeoutMillis: yield* durationMillis("pingTimeout", options.pingTimeout, 4000, 1),
      window: yield* wholeNumber("window", options.window, 0x7fffffff, 1, 0x7fffffff),
      limits,
      tls: mode === "off" ? undefined : { mode, client: yield* Tls.client(options.tls) }
    }
  })

/** What all connections of a transport share. */
interface Shared {
  readonly stack: StackShape
  readonly settings: Settings
  readonly contexts: ClientContexts
  readonly counts: ClientCounts
  readonly connections: TransportStats<SessionEnd>
  readonly sessions: Map<Connection, Endpoint>
}

/** What waits for the next step of a connection's handshake. */
type Step = (result: Effect.Effect<"open" | "secure", RpcError>) => void

const connect = (shared: Shared, endpoint: Endpoint, counted: CountedConnection<SessionEnd>) =>
  Effect.gen(function*() {
    const { connectTimeoutMillis, tls } = shared.settings
    const negotiated = tls !== undefined && tls.mode !== "always"
    let receive: (chunk: Buffer) => void = () => {}
    const socket = yield* counted.socket(endpoint, {
      connectTimeoutMillis,
      tls: negotiated ? undefined : tls?.client,
      // What TLS may take over emits what it reads.
      onRead: negotiated ? undefined : (chunk) => receive(chunk)
    })
    const connection = new Connection(shared, endpoint, counted)
    const { session } = connection
    if (!negotiated) receive = (chunk) => connection.receive(chunk)
    yield* Effect.addFinalizer(() => Effect.sync(() => session.close("the connection was closed by the client")))
    const next = yield* connection.use(socket, negotiated, () => session.start())
    if (next === "secure") {
      const secured = yield* Effect.tapError(
        counted.tls(tls!.client).secure(socket, endpoint),
        (fault) => Effect.sync(() => session.refused(fault))
      )
      yield* connection.use(secured, true, () => session.secured())
    }
    return { send: session.send, status: session.status, open: Effect.void }
  })

/**
 * A session, and the socket that it is on: the one that was connected, and after TLS was negotiated the one that
 * secures it.
 */
class Connection {
  readonly session: ClientSession
  readonly #stats: TransportStats<SessionEnd>
  readonly #counted: CountedConnection<SessionEnd>
  #socket: Net.Socket | undefined
  #step: Step = () => {}
  /** Takes the socket from the session; what comes from then on waits for whoever reads it next. */
  #detach: () => void = () => {}

  constructor(shared: Shared, endpoint: Endpoint, counted: CountedConnection<SessionEnd>) {
    const { connections, settings, stack } = shared
    const { tls } = settings
    this.#stats = connections
    this.#counted = counted
    this.session = new ClientSession({
      endpoint,
      sink: {
        write: (chunk) => {
          connections.sentBytes += chunk.length
          return this.#socket!.write(chunk)
        },
        taken: () => this.#socket!.writableLength === 0
      },
      limits: settings.limits,
      window: settings.window,
      pingIntervalMillis: settings.pingIntervalMillis,
      pingTimeoutMillis: settings.pingTimeoutMillis,
      handshakeTimeoutMillis: settings.handshakeTimeoutMillis,
      tls: tls === undefined ? undefined : tls.mode === "always" ? "secured" : {
        level: tls.mode,
        begin: () => {
          this.#detach()
          this.#step(Effect.succeed("secure"))
        }
      },
      now: stack.now,
      deadlines: stack.deadlines,
      contexts: shared.contexts,
      counts: shared.counts,
      onReady: (fault) => {
        if (fault === undefined) {
          counted.made()
          return this.#step(Effect.succeed("open"))
        }
        stack.log.say("warning", "no mux session with a server", { endpoint: endpoint.key, cause: fault.message })
        this.#step(Effect.fail(fault))
      },
      onDrain: () => stack.log.say("debug", "a server drains its session", { endpoint: endpoint.key }),
      onEnd: (why, cause) => {
        shared.sessions.delete(this)
        counted.closed(why)
        this.#noteEnd(stack, endpoint, why, cause)
        // What was written still goes out (an Rdrain, say); a peer that does not read cannot hold the socket, the scope destroys it.
        this.#socket?.end()
      }
    })
    shared.sessions.set(this, endpoint)
  }

  /** How long it could carry calls, in milliseconds. */
  get age(): number {
    return this.#counted.age
  }

  /** Whether what is sent is encrypted. */
  get secured(): boolean {
    return this.#socket !== undefined && "encrypted" in this.#socket
  }

  /**
   * Joins the session to a socket, which gives it what it reads or emits that, goes on with `step`, and waits until the session is open or
   * asks for TLS.
   */
  use(socket: Net.Socket, emits: boolean, step: () => void): Effect.Effect<"open" | "secure", RpcError> {
    return Effect.callback((resume) => {
      this.#step = resume
      this.#attach(socket, emits)
      // Broken between its connecting and now: nobody will say so again.
      if (socket.destroyed) this.#lost(socket.errored ?? "the connection was lost at once")
      else step()
      return Effect.sync(() => this.session.close("the attempt to connect was given up"))
    })
  }

  /** Bytes from the socket. */
  receive(chunk: Buffer): void {
    this.#stats.receivedBytes += chunk.length
    this.session.receive(chunk)
  }

  #attach(socket: Net.Socket, emits: boolean): void {
    const { session } = this
    let cause: unknown = "the server closed the connection"
    const lost = () => this.#lost(cause)
    const onData = (chunk: Buffer) => this.receive(chunk)
    const onDrain = () => session.writable()
    if (emits) socket.on("data", onData)
    else socket.resume()
    socket.on("drain", onDrain).once("end", lost).once("close", lost).on("error", (error) => {
      cause = error
    })
    this.#socket = socket
    this.#detach = () =>
      void socket.pause().off("data", onData).off("drain", onDrain).off("end", lost).off("close", lost)
  }

  /** What the server has to answer for. */
  #noteEnd({ faults, log }: StackShape, endpoint: Endpoint, why: SessionEnd, cause: unknown): void {
    if (why !== "ping_timeout" && why !== "protocol_error") return
    const what = why === "ping_timeout" ? "a server does not answer pings" : "a server broke the mux protocol"
    const text = cause instanceof Error ? cause.message : String(cause)
    faults.note({ endpoint: endpoint.key, what, cause: text })
    log.say("warning", what, { endpoint: endpoint.key, cause: text })
  }

  #lost(cause: unknown): void {
    this.session.connectionLost(Tls.lateFailure(cause) ?? cause)
  }
}

/** A session as the register shows it. */
const viewOf = (connection: Connection, endpoint: Endpoint, now: number) => {
  const { session } = connection
  const { leasedUntil } = session
  return {
    endpoint: endpoint.key,
    secured: connection.secured,
    state: session.status.state,
    draining: session.draining,
    ageMillis: connection.age,
    outstanding: session.outstanding,
    tags: session.tagsInUse,
    queued: session.queued,
    leasedMillis: leasedUntil === undefined ? undefined : Math.max(0, leasedUntil - now),
    pingMillis: session.pingMillis
  }
}

/** The series of the sessions of a client, summed when they are read. */
const showSessions = (stack: StackShape, counts: ClientCounts, sessions: ReadonlyMap<Connection, Endpoint>) => {
  const sum = (of: (session: ClientSession) => number) => () => {
    let all = 0
    for (const { session } of sessions.keys()) all += of(session)
    return all
  }
  const { elapsed, handshakeLatency, pingLatency } = counts
  return Metrics.show(
    stack,
    Metrics.value(table["scales.mux.sessions"], sum(({ negotiating }) => negotiating ? 0 : 1)),
    Metrics.value(table["scales.mux.negotiating"], sum(({ negotiating }) => negotiating ? 1 : 0)),
    Metrics.value(table["scales.mux.handshakes"], () => counts.handshakes),
    Metrics.value(table["scales.mux.draining"], sum(({ draining }) => draining ? 1 : 0)),
    Metrics.value(table["scales.mux.drains"], () => counts.drains),
    Metrics.value(table["scales.mux.drained"], () => counts.drained),
    Metrics.value(table["scales.mux.leases"], () => counts.leases),
    Metrics.value(table["scales.mux.leased"], sum(({ leasedUntil }) => leasedUntil === undefined ? 0 : 1)),
    Metrics.value(table["scales.mux.lease_remaining_ms"], () => {
      let first = Infinity
      for (const { session } of sessions.keys()) first = Math.min(first, session.leasedUntil ?? Infinity)
      return first === Infinity ? 0 : Math.max(0, first - stack.now())
    }),
    Metrics.value(table["scales.mux.pings"], () => counts.pings),
    Metrics.value(table["scales.mux.ping_timeouts"], () => counts.pingTimeouts),
    Metrics.value(table["scales.mux.dispatches"], () => counts.dispatches),
    Metrics.value(table["scales.mux.outstanding"], sum(({ outstanding }) => outstanding)),
    Metrics.value(table["scales.mux.discards"], () => counts.discards),
    Metrics.value(table["scales.mux.tags_in_use"], sum(({ tagsInUse }) => tagsInUse)),
    Metrics.value(table["scales.mux.tags_held"], sum(({ tagsHeld }) => tagsHeld)),
    Metrics.value(table["scales.mux.nacks"], () => counts.nacks),
    Metrics.value(table["scales.mux.unknown_tags"], () => counts.unknownTags),
    Metrics.value(table["scales.mux.protocol_errors"], () => counts.protocolErrors),
    Metrics.value(table["scales.mux.downgrades"], () => counts.downgrades),
    Metrics.value(table["scales.mux.messages_sent"], () => counts.sent.messages),
    Metrics.value(table["scales.mux.messages_received"], () => counts.messagesReceived),
    Metrics.value(table["scales.mux.fragments_sent"], () => counts.sent.fragments),
    Metrics.value(table["scales.mux.fragments_received"], () => counts.fragmentsReceived),
    Metrics.value(table["scales.mux.queued"], sum(({ queued }) => queued)),
    Metrics.value(table["scales.mux.queued_bytes"], sum(({ queuedBytes }) => queuedBytes)),
    ...Metrics.measured(table["scales.mux.handshake_latency_ms"], handshakeLatency, elapsed),
    ...Metrics.measured(table["scales.mux.ping_latency_ms"], pingLatency, elapsed),
    ...Metrics.measured(table["scales.mux.ping_latency_quantiles_ms"], pingLatency, elapsed)
  )
}

/**
 * The transport of a mux stack. Fails with `InvalidOption` for an option out of its range; connecting, with
 * `ConnectFailed`.
 */
export const layer = (options: MuxTransportOptions = {}): Layer.Layer<"Mux/Connector", InvalidOption, Stack> =>
  Layer.effect(
    Mux.Connector,
    Effect.gen(function*() {
      const stack = yield* Stack
      const settings = yield* settingsOf(options)
      const counts = new ClientCounts(stack)
      const connections = new TransportStats(stack, sessionEnds)
      const sessions = new Map<Connection, Endpoint>()
      const shared: Shared = {
        stack,
        settings,
        contexts: new ClientContexts(stack.random),
        counts,
        connections,
        sessions
      }
      yield* stack.register({
        role: "transport",
        description: "mux sessions over sockets",
        options: Describe.given(options, {
          connectTimeout: Describe.duration(settings.connectTimeoutMillis),
          handshakeTimeout: Describe.duration(settings.handshakeTimeoutMillis),
          pingInterval: Describe.duration(settings.pingIntervalMillis),
          pingTimeout: Describe.duration(settings.pingTimeoutMillis),
          window: settings.window,
          limits: settings.limits,
          tls: settings.tls && { mode: settings.tls.mode, ...settings.tls.client.description }
        }),
        snapshot: () => ({
          ...counts.snapshot,
          ...connections.snapshot,
          ...Describe.list("sessions", sessions, ([connection, endpoint]) => viewOf(connection, endpoint, stack.now()))
        })
      })
      yield* connections.show(stack)
      yield* showSessions(stack, counts, sessions)
      return Mux.Connector.of({
        connect: (endpoint) => connections.counted((counted) => connect(shared, endpoint, counted))
      })
    })
  )
