/** Opens mux connections over TCP or Unix sockets: connect, handshake, then a session, each step bounded in time. */
import { ConnectFailed, Endpoint, type InvalidOption, type RpcError, Stack, type StackShape } from "@scales-rpc/core"
import { durationMillis, wholeNumber } from "@scales-rpc/core/options"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import { ClientContexts } from "./ClientContexts.ts"
import { type ClientCounts, ClientSession } from "./ClientSession.ts"
import { checkedLimits } from "./limitOptions.ts"
import type { Limits } from "./Message.ts"
import { Mux } from "./Mux.ts"

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
}

interface Settings {
  readonly connectTimeoutMillis: number
  readonly handshakeTimeoutMillis: number
  readonly pingIntervalMillis: number
  readonly pingTimeoutMillis: number
  readonly window: number
  readonly limits: Limits
}

const settingsOf = (options: MuxTransportOptions): Effect.Effect<Settings, InvalidOption> =>
  Effect.gen(function*() {
    const limits = yield* checkedLimits(options.limits)
    return {
      connectTimeoutMillis: yield* durationMillis("connectTimeout", options.connectTimeout, 1000, 1),
      handshakeTimeoutMillis: yield* durationMillis("handshakeTimeout", options.handshakeTimeout, 1000, 1),
      pingIntervalMillis: yield* durationMillis("pingInterval", options.pingInterval, 5000, 1),
      pingTimeoutMillis: yield* durationMillis("pingTimeout", options.pingTimeout, 4000, 1),
      window: yield* wholeNumber("window", options.window, 0x7fffffff, 1, 0x7fffffff),
      limits
    }
  })

/** A name with several addresses fails with an error that has no text of its own, one for each address inside. */
const firstOf = (cause: unknown): unknown => cause instanceof AggregateError ? cause.errors[0] ?? cause : cause

/** A connected socket, destroyed when the scope closes. */
const openSocket = (
  endpoint: Endpoint,
  timeoutMillis: number
): Effect.Effect<Net.Socket, ConnectFailed, Scope.Scope> => {
  let resolved = Endpoint.isUnix(endpoint) || Net.isIP(endpoint.host) !== 0
  const failed = (cause: unknown) =>
    Effect.fail(new ConnectFailed({ endpoint, phase: resolved ? "connect" : "resolve", cause }))
  return Effect.acquireRelease(
    Effect.callback<Net.Socket, ConnectFailed>((resume) => {
      const socket = Net.connect(
        Endpoint.isUnix(endpoint)
          ? { path: endpoint.host }
          : { host: endpoint.host, port: endpoint.port, noDelay: true, keepAlive: true }
      )
      const onError = (cause: unknown) => {
        socket.destroy()
        resume(failed(firstOf(cause)))
      }
      socket.once("lookup", (error: unknown) => {
        if (error === null || error === undefined) resolved = true
      })
      socket.once("error", onError)
      socket.once("connect", () => {
        socket.off("error", onError)
        // From here on an error is the session's; until it listens, a socket that breaks must not throw.
        socket.on("error", () => {})
        resume(Effect.succeed(socket))
      })
      return Effect.sync(() => socket.destroy())
    }),
    (socket) => Effect.sync(() => socket.destroy()),
    { interruptible: true }
  ).pipe(Effect.timeoutOrElse({
    duration: timeoutMillis,
    orElse: () => failed(`no connection within ${timeoutMillis} ms`)
  }))
}

/** What all connections of a transport share. */
interface Shared {
  readonly stack: StackShape
  readonly settings: Settings
  readonly contexts: ClientContexts
  readonly counts: ClientCounts
  readonly sessions: Map<ClientSession, Endpoint>
}

const connect = (shared: Shared, endpoint: Endpoint) =>
  Effect.gen(function*() {
    const socket = yield* openSocket(endpoint, shared.settings.connectTimeoutMillis)
    const session = yield* Effect.acquireRelease(
      Effect.callback<ClientSession, RpcError>((resume) => {
        const session = start(shared, endpoint, socket, (fault) => {
          resume(fault === undefined ? Effect.succeed(session) : Effect.fail(fault))
        })
        shared.sessions.set(session, endpoint)
        session.start()
        // Broken between its connecting and now: nobody will say so again.
        if (socket.destroyed) session.connectionLost(socket.errored ?? "the connection was lost at once")
        return Effect.sync(() => session.close("the attempt to connect was given up"))
      }),
      (session) => Effect.sync(() => session.close("the connection was closed by the client")),
      { interruptible: true }
    )
    return { send: session.send, status: session.status, open: Effect.void }
  })

/** Joins a socket and a session. */
const start = (
  shared: Shared,
  endpoint: Endpoint,
  socket: Net.Socket,
  onReady: (fault: RpcError | undefined) => void
): ClientSession => {
  const { settings, stack } = shared
  const session = new ClientSession({
    endpoint,
    sink: { write: (chunk) => socket.write(chunk) },
    limits: settings.limits,
    window: settings.window,
    pingIntervalMillis: settings.pingIntervalMillis,
    pingTimeoutMillis: settings.pingTimeoutMillis,
    handshakeTimeoutMillis: settings.handshakeTimeoutMillis,
    now: stack.now,
    deadlines: stack.deadlines,
    contexts: shared.contexts,
    counts: shared.counts,
    onReady,
    onEnd: () => {
      shared.sessions.delete(session)
      // What was written still goes out (an Rdrain, say); a peer that does not read cannot hold the socket, the scope destroys it.
      socket.end()
    }
  })
  let cause: unknown = "the server closed the connection"
  socket.on("data", (chunk: Buffer) => session.receive(chunk))
  socket.on("drain", () => session.writable())
  socket.on("error", (error) => {
    cause = error
  })
  socket.once("end", () => session.connectionLost(cause))
  socket.once("close", () => session.connectionLost(cause))
  return session
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
      const counts: ClientCounts = {
        dispatches: 0,
        discards: 0,
        nacks: 0,
        drains: 0,
        leases: 0,
        pings: 0,
        pingTimeouts: 0,
        downgrades: 0
      }
      const shared: Shared = {
        stack,
        settings,
        contexts: new ClientContexts(stack.random),
        counts,
        sessions: new Map()
      }
      yield* stack.register({
        role: "transport",
        description: "mux sessions over sockets",
        options: { ...settings },
        snapshot: () => ({
          ...counts,
          sessions: Array.from(shared.sessions, ([session, endpoint]) => ({
            endpoint: endpoint.key,
            state: session.status.state,
            outstanding: session.outstanding,
            tags: session.tagsInUse
          }))
        })
      })
      return Mux.Connector.of({ connect: (endpoint) => connect(shared, endpoint) })
    })
  )
