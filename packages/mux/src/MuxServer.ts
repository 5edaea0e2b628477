/**
 * An embedded mux server: an Effect for each request, on a TCP port or a Unix socket, for as long as a scope is open. Closing the
 * scope drains it.
 */
import type { BuildError } from "@scales-rpc/core"
import { durationMillis, wholeNumber } from "@scales-rpc/core/options"
import {
  addressOf,
  announceServer,
  listen,
  type ListenFailed,
  type ServerAnnouncement,
  type ServerAnnounceOptions,
  Tls
} from "@scales-rpc/core/socket"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { X509Certificate } from "node:crypto"
import type * as Net from "node:net"
import { TLSSocket } from "node:tls"
import { noWindow } from "./FrameWriter.ts"
import { checkedLimits } from "./limitOptions.ts"
import type { Limits } from "./Message.ts"
import { type Handler, Requests } from "./ServerRequest.ts"
import { type ServerCounts, ServerSession } from "./ServerSession.ts"
import { modeOf, type TlsMode } from "./tlsMode.ts"

/** Options of a server. */
export interface MuxServerOptions {
  /** The address to listen on. Default 127.0.0.1. */
  readonly host?: string | undefined
  /** Default 0: one that is free, which `address` tells. */
  readonly port?: number | undefined
  /** A Unix socket's path, in place of host and port. */
  readonly path?: string | undefined
  /** Bytes of one fragment that a client may send, above 0. Default 2^31 - 1: no fragments. */
  readonly window?: number | undefined
  /** Requests that run at once, in all sessions; one more is nacked, and its client may try elsewhere. Default: no bound. */
  readonly maxConcurrent?: number | undefined
  /**
   * Sessions served at once; of one more every request is nacked, and after 10 seconds it is drained for as long again, as Finagle
   * does with a session that its service refuses. Default: no bound.
   */
  readonly maxSessions?: number | undefined
  /** What is accepted from a client; the defaults are `Message.defaultLimits`. */
  readonly limits?: Partial<Limits> | undefined
  /**
   * TLS, from the first byte on unless `mode` says otherwise: `desired`: offered in the mux handshake; `required`:
   * negotiated in the same way, and clients that do not want it are refused; `off`: none, for configurations. Default:
   * none.
   */
  readonly tls?: (Tls.TlsServerOptions & { readonly mode?: TlsMode | undefined }) | undefined
  /** How long closing waits for requests that run before it interrupts them. Default 5 seconds. */
  readonly drainTimeout?: Duration.Input | undefined
  /**
   * Server sets that it announces itself in: from when it listens until its drain begins. What `ServerSet.announce` needs is found in the
   * context. Default: none.
   */
  readonly announce?: ServerAnnounceOptions | ReadonlyArray<ServerAnnounceOptions> | undefined
}

export { ListenFailed } from "@scales-rpc/core/socket"

/** What a server has seen since it began. */
export interface MuxServerCounts extends ServerCounts {
  /** Requests nacked because `maxConcurrent` ran. */
  concurrencyNacks: number
  /** Requests refused because their deadline had passed when they came. */
  expired: number
  /** Requests nacked because `maxSessions` were open when theirs began. */
  refusals: number
  /** Connections cut because they could not be secured. */
  tlsFailures: number
}

/** One connection of a client. */
export interface ServedSession {
  /** The client's address, `host:port`; empty on a Unix socket. */
  readonly peer: string
  /** Whether it is encrypted by now. */
  readonly secured: boolean
  /** What the client has shown, and the server has found good; `undefined`: none was shown. */
  readonly certificate: X509Certificate | undefined
  /** Requests that have not been answered. */
  readonly outstanding: number
  /**
   * Asks the client to send no more, and waits until the connection has ended; after `timeout` (default: the server's) it
   * interrupts what still runs. Leaving the wait does not undo the drain.
   */
  readonly drain: (timeout?: Duration.Input) => Effect.Effect<void>
  /** Tells the client how long it may count on this server. */
  readonly lease: (duration: Duration.Input) => Effect.Effect<void>
  /** Waits until the client answers a ping. `false`: none could be sent, or the connection ended first. */
  readonly ping: Effect.Effect<boolean>
  /** Cuts the connection: a reset where the transport knows one. */
  readonly destroy: () => void
}

/** A running server. */
export interface MuxServerShape {
  /** Where it listens; `path` for a Unix socket. */
  readonly address: { readonly host: string; readonly port: number; readonly path: string | undefined }
  /** The same as a server-set URI: `tcp://127.0.0.1:8080` or `unix:///path`. */
  readonly uri: string
  /** Its announcements, in the order of the options. */
  readonly announcements: ReadonlyArray<ServerAnnouncement>
  /** The sessions that are open, in the order they began. */
  readonly sessions: () => ReadonlyArray<ServedSession>
  /** Requests that run, in all sessions. */
  readonly outstanding: () => number
  /** Live. */
  readonly counts: Readonly<MuxServerCounts>
}

const refusedSessionMillis = 10_000

type Run = (effect: Effect.Effect<void>) => Fiber.Fiber<void>

/** A connection with its session. */
class Served implements ServedSession {
  readonly peer: string
  readonly session: ServerSession
  /** Where the session's bytes go: what was accepted, or the socket that secures it. */
  socket: Net.Socket
  readonly #accepted: Net.Socket
  readonly #drainMillis: number
  readonly #run: Run
  /** Who waits for the connection to end. */
  #waiting: Array<() => void> = []
  #ended = false

  constructor(socket: Net.Socket, session: ServerSession, drainMillis: number, run: Run) {
    this.socket = socket
    this.#accepted = socket
    this.session = session
    this.#drainMillis = drainMillis
    this.#run = run
    this.peer = addressOf(socket.remoteAddress, socket.remotePort)
  }

  get secured(): boolean {
    return this.socket !== this.#accepted
  }

  get certificate(): X509Certificate | undefined {
    return this.socket instanceof TLSSocket ? this.socket.getPeerX509Certificate() : undefined
  }

  get outstanding(): number {
    return this.session.outstanding
  }

  /** The connection is gone. */
  onClose(): void {
    this.#ended = true
    const waiting = this.#waiting
    this.#waiting = []
    for (const resume of waiting) resume()
  }

  readonly ended: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.#ended) return resume(Effect.void)
    const done = () => resume(Effect.void)
    this.#waiting.push(done)
    return Effect.sync(() => {
      this.#waiting = this.#waiting.filter((other) => other !== done)
    })
  })

  /** Interrupts what runs, and lets go of a socket that its peer does not read. */
  abort(): void {
    this.session.abort()
    if (this.socket.writableLength > 0) this.socket.destroy()
  }

  // Not a race of Effects: a scope that closes because its fiber was interrupted must drain all the same, and cannot interrupt.
  readonly drain = (timeout?: Duration.Input): Effect.Effect<void> =>
    Effect.suspend(() => {
      this.session.drain()
      if (this.#ended) return Effect.void
      const millis = timeout === undefined ? this.#drainMillis : Duration.toMillis(Duration.fromInputUnsafe(timeout))
      const timer = this.#run(Effect.andThen(Effect.sleep(millis), Effect.sync(() => this.abort())))
      this.#waiting.push(() => timer.interruptUnsafe())
      return this.ended
    })

  readonly lease = (duration: Duration.Input): Effect.Effect<void> =>
    Effect.sync(() => this.session.lease(Duration.toMillis(Duration.fromInputUnsafe(duration))))

  readonly ping: Effect.Effect<boolean> = Effect.raceFirst(
    Effect.callback<boolean>((resume) => {
      if (!this.session.ping(() => resume(Effect.succeed(true)))) resume(Effect.succeed(false))
    }),
    Effect.as(Effect.suspend(() => this.ended), false)
  )

  readonly destroy = (): void => {
    const { remotePort, writableEnded } = this.#accepted
    // One that has begun to end would be destroyed by a reset and never say that it is closed (Node 24).
    if (remotePort === undefined || writableEnded) this.#accepted.destroy()
    else this.#accepted.resetAndDestroy()
  }
}

/**
 * Serves `handler` until the scope closes. Then it leaves the server sets that it was announced in; no connection is accepted any more,
 * every client is asked to send no more, requests that run have `drainTimeout` to end, the rest is interrupted, and all sockets are closed.
 */
const make = <E, R>(
  handler: Handler<E, R>,
  options: MuxServerOptions = {}
): Effect.Effect<MuxServerShape, BuildError | ListenFailed, R | Scope.Scope> =>
  Effect.gen(function*() {
    const window = yield* wholeNumber("window", options.window, noWindow, 1, noWindow)
    const maxConcurrent = yield* wholeNumber("maxConcurrent", options.maxConcurrent, Number.MAX_SAFE_INTEGER, 0)
    const maxSessions = yield* wholeNumber("maxSessions", options.maxSessions, Number.MAX_SAFE_INTEGER, 0)
    yield* wholeNumber("port", options.port, 0, 0, 65535)
    const drainMillis = yield* durationMillis("drainTimeout", options.drainTimeout, 5000)
    const limits = yield* checkedLimits(options.limits)
    const mode = yield* modeOf(options.tls)
    const tls = options.tls === undefined || mode === "off" ? undefined : yield* Tls.server(options.tls)
    const counts: MuxServerCounts = {
      sessions: 0,
      requests: 0,
      drainNacks: 0,
      discards: 0,
      orphanedDiscards: 0,
      duplicateTags: 0,
      undecodable: 0,
      concurrencyNacks: 0,
      expired: 0,
      refusals: 0,
      tlsFailures: 0
    }
    const context = yield* Effect.context<R>()
    const run = Effect.runForkWith(context)
    const clock = Context.get(context as Context.Context<never>, Clock.Clock)
    const requests = new Requests(
      handler,
      run,
      () => clock.currentTimeMillisUnsafe(),
      maxConcurrent,
      counts,
      (cause) => void run(Effect.logError("the handler of a request died", cause))
    )
    const served = new Set<Served>()
    let acceptedSessions = 0
    let closing = false

    const accept = (accepted: Net.Socket): void => {
      const refused = acceptedSessions >= maxSessions
      const session = new ServerSession({
        connection: {
          write: (chunk) => connection.socket.write(chunk),
          end: () => connection.socket.destroySoon(),
          destroy: () => void connection.socket.destroy(),
          pause: () => void connection.socket.pause(),
          resume: () => void connection.socket.resume()
        },
        limits,
        window,
        tls: mode === "off" ? undefined : mode === "always" ? "secured" : {
          level: mode,
          begin: () => {
            detach()
            run(secure)
          }
        },
        counts,
        onRequest: (exchange) => refused ? requests.refuse(exchange) : requests.serve(exchange, connection.peer),
        onEnd: () => {}
      })
      const connection = new Served(accepted, session, drainMillis, run)
      served.add(connection)
      if (!refused) acceptedSessions++
      let fault: unknown
      let detach = () => {}
      /** Gives the session a socket; what it returns takes it away again. */
      const attach = (socket: Net.Socket): () => void => {
        const onData = (chunk: Uint8Array) => session.receive(chunk)
        const onDrain = () => session.drained()
        // A client that has closed its half is taken to have left, as Finagle does: replies may never drain.
        const onEnd = () => {
          session.closed(undefined)
          socket.destroy()
        }
        connection.socket = socket
        socket.on("data", onData).on("drain", onDrain).on("end", onEnd).on("error", (error) => {
          fault = error
        })
        return () => void socket.pause().off("data", onData).off("drain", onDrain).off("end", onEnd)
      }
      const secure = Effect.suspend(() =>
        Effect.matchEffect(tls!.secure(accepted), {
          onSuccess: (socket) =>
            Effect.sync(() => {
              attach(socket)
              session.secured()
            }),
          onFailure: (failed) => {
            fault = failed
            counts.tlsFailures++
            return Effect.logDebug("a client's connection could not be secured", failed)
          }
        })
      )
      accepted.on("close", () => {
        served.delete(connection)
        if (!refused) acceptedSessions--
        session.closed(fault)
        connection.onClose()
      })
      if (mode === "always") run(secure)
      else detach = attach(accepted)
      // Accepted by the kernel before the listener closed.
      if (closing) session.drain()
      else if (refused) {
        run(Effect.andThen(
          Effect.raceFirst(Effect.sleep(refusedSessionMillis), connection.ended),
          connection.drain(refusedSessionMillis)
        ))
      }
    }

    // Released in reverse: the listener is closed first, but waits for its connections, so they are drained beside it.
    const server = yield* listen(options, accept)
    yield* Effect.addFinalizer(() => {
      closing = true
      server.close()
      return Effect.andThen(
        Effect.forEach([...served], (connection) => connection.drain(), { concurrency: "unbounded", discard: true }),
        Effect.suspend(() => Fiber.awaitAll(requests.fibers))
      )
    })
    const bound = server.address()
    const address = bound === null || typeof bound === "string"
      ? { host: "", port: 0, path: bound ?? options.path }
      : { host: bound.address, port: bound.port, path: undefined }
    // After the finalizer that drains: whoever reads the sets is to have left when the drain sends clients away.
    const announcements = yield* announceServer(options.announce, address)
    return {
      address,
      uri: address.path === undefined ? `tcp://${addressOf(address.host, address.port)}` : `unix://${address.path}`,
      announcements,
      sessions: () => [...served],
      outstanding: () => requests.fibers.size,
      counts
    }
  })

/**
 * A mux server: `MuxServer.make` as a scoped effect, `MuxServer.layer` as a layer, whose service tells the address and the sessions.
 * Both fail with `ListenFailed` when the address cannot be listened on, with `InvalidOption`, and as `ServerSet.announce` does when it is
 * to be announced.
 */
export class MuxServer extends Context.Service<MuxServer, MuxServerShape>()("@scales-rpc/mux/MuxServer") {
  static readonly make = make

  static readonly layer = <E, R>(
    handler: Handler<E, R>,
    options: MuxServerOptions = {}
  ): Layer.Layer<MuxServer, BuildError | ListenFailed, Exclude<R, Scope.Scope>> =>
    Layer.effect(MuxServer, make(handler, options))
}
