/**
 * Opens mux connections over TCP or Unix sockets: connect, TLS if wanted, handshake, then a session, each step bounded
 * in time.
 */
import { type Endpoint, type InvalidOption, type RpcError, Stack, type StackShape } from "@scales-rpc/core"
import { durationMillis, wholeNumber } from "@scales-rpc/core/options"
import { Socket, Tls } from "@scales-rpc/core/socket"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Net from "node:net"
import { ClientContexts } from "./ClientContexts.ts"
import { type ClientCounts, ClientSession } from "./ClientSession.ts"
import { checkedLimits } from "./limitOptions.ts"
import type { Limits } from "./Message.ts"
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
  readonly sessions: Map<Connection, Endpoint>
}

/** What waits for the next step of a connection's handshake. */
type Step = (result: Effect.Effect<"open" | "secure", RpcError>) => void

const connect = (shared: Shared, endpoint: Endpoint) =>
  Effect.gen(function*() {
    const { connectTimeoutMillis, tls } = shared.settings
    const negotiated = tls !== undefined && tls.mode !== "always"
    let receive: (chunk: Buffer) => void = () => {}
    const socket = yield* Socket.open(endpoint, {
      connectTimeoutMillis,
      tls: negotiated ? undefined : tls?.client,
      // What TLS may take over emits what it reads.
      onRead: negotiated ? undefined : (chunk) => receive(chunk)
    })
    const connection = new Connection(shared, endpoint)
    const { session } = connection
    if (!negotiated) receive = (chunk) => session.receive(chunk)
    yield* Effect.addFinalizer(() => Effect.sync(() => session.close("the connection was closed by the client")))
    const next = yield* connection.use(socket, negotiated, () => session.start())
    if (next === "secure") {
      const secured = yield* Effect.tapError(
        tls!.client.secure(socket, endpoint),
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
  #socket: Net.Socket | undefined
  #step: Step = () => {}
  /** Takes the socket from the session; what comes from then on waits for whoever reads it next. */
  #detach: () => void = () => {}

  constructor(shared: Shared, endpoint: Endpoint) {
    const { settings, stack } = shared
    const { tls } = settings
    this.session = new ClientSession({
      endpoint,
      sink: { write: (chunk) => this.#socket!.write(chunk) },
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
      onReady: (fault) => this.#step(fault === undefined ? Effect.succeed("open") : Effect.fail(fault)),
      onEnd: () => {
        shared.sessions.delete(this)
        // What was written still goes out (an Rdrain, say); a peer that does not read cannot hold the socket, the scope destroys it.
        this.#socket?.end()
      }
    })
    shared.sessions.set(this, endpoint)
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

  #attach(socket: Net.Socket, emits: boolean): void {
    const { session } = this
    let cause: unknown = "the server closed the connection"
    const lost = () => this.#lost(cause)
    const onData = (chunk: Buffer) => session.receive(chunk)
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

  #lost(cause: unknown): void {
    this.session.connectionLost(Tls.lateFailure(cause) ?? cause)
  }
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
        options: {
          ...settings,
          tls: settings.tls && { mode: settings.tls.mode, ...settings.tls.client.description }
        },
        snapshot: () => ({
          ...counts,
          sessions: Array.from(shared.sessions, ([{ secured, session }, endpoint]) => ({
            endpoint: endpoint.key,
            secured,
            state: session.status.state,
            outstanding: session.outstanding,
            tags: session.tagsInUse
          }))
        })
      })
      return Mux.Connector.of({ connect: (endpoint) => connect(shared, endpoint) })
    })
  )
