/**
 * An embedded mux server: an Effect for each request, on a TCP port or a Unix socket, for as long as a scope is open. Closing the
 * scope drains it.
 */
import {
  type BuildError,
  type Observed,
  ObservedServer,
  ServerTracing,
  type ServerTracingOptions,
  type Tracing,
  withoutSpan
} from "@scales-rpc/core"
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
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type * as Net from "node:net"
import { noWindow } from "./FrameWriter.ts"
import { checkedLimits } from "./limitOptions.ts"
import type { Limits } from "./Message.ts"
import { type Handler, type MuxServerRequest, type RequestFibers, Requests } from "./ServerRequest.ts"
import { Served, type ServedSession } from "./ServedSession.ts"
import { ServerSession } from "./ServerSession.ts"
import { MuxServerCounts, showServer } from "./ServerView.ts"
import { modeOf, type TlsMode } from "./tlsMode.ts"

/** Options of a server; its label is `mux` by default. */
export interface MuxServerOptions extends ServerTracingOptions, ObservedServer.ObservedServerOptions {
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
  /**
   * What the span of a request says, where a tracer listens; `undefined`: it has none here, and its handler runs in the span that came. Default: a
   * span called `mux`, with the destination as `mux.destination`.
   */
  readonly span?: ((request: MuxServerRequest) => Tracing.MethodSpan | undefined) | undefined
}

export { ListenFailed } from "@scales-rpc/core/socket"

/** A running server; `describe` takes it, and shows what it is made of. */
export interface MuxServerShape extends Observed.Observed {
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

/** The one method of a server whose requests are bytes. */
const anyMethod = "any"

/** What makes the handler, once there is something to show it with. */
type HandlerOf<E, R, E2, R2> = (server: ObservedServer.ObservedServer) => Effect.Effect<Handler<E, R>, E2, R2>

/** `counting`: the handler counts what it serves. */
const serve = <E, R, E2, R2>(
  handlerOf: HandlerOf<E, R, E2, R2>,
  counting: boolean,
  label: string,
  options: MuxServerOptions
): Effect.Effect<MuxServerShape, BuildError | ListenFailed | E2, R | R2 | Scope.Scope> =>
  Effect.gen(function*() {
    const window = yield* wholeNumber("window", options.window, noWindow, 1, noWindow)
    const maxConcurrent = yield* wholeNumber("maxConcurrent", options.maxConcurrent, Number.MAX_SAFE_INTEGER, 0)
    const maxSessions = yield* wholeNumber("maxSessions", options.maxSessions, Number.MAX_SAFE_INTEGER, 0)
    yield* wholeNumber("port", options.port, 0, 0, 65535)
    const drainMillis = yield* durationMillis("drainTimeout", options.drainTimeout, 5000)
    const limits = yield* checkedLimits(options.limits)
    const mode = yield* modeOf(options.tls)
    const tls = options.tls === undefined || mode === "off" ? undefined : yield* Tls.server(options.tls)
    const counts = new MuxServerCounts()
    const served = new Set<Served>()
    /** Requests that run, or are being interrupted. */
    const running: RequestFibers<E> = new Set()
    let acceptedSessions = 0
    let closing = false
    let address: MuxServerShape["address"] | undefined
    const observed = yield* ObservedServer.make(label, options)
    yield* showServer(observed, {
      options,
      limits,
      window,
      maxConcurrent,
      maxSessions,
      drainMillis,
      tls: tls && { mode, ...tls.description },
      counts,
      served,
      accepted: () => acceptedSessions,
      running: () => running.size,
      listening: () => closing ? undefined : address
    })
    const handler = yield* handlerOf(observed)
    const context = withoutSpan(yield* Effect.context<R>())
    const tracing = yield* ServerTracing.make(options, context as Context.Context<never>)
    const run = Effect.runForkWith(context)
    const clock = Context.get(context as Context.Context<never>, Clock.Clock)
    const requests = new Requests({
      handler,
      run,
      fibers: running,
      now: () => clock.currentTimeMillisUnsafe(),
      maxConcurrent,
      counts,
      onDefect: (cause) => observed.handlerFailed(cause, {}),
      tracing,
      span: options.span,
      counted: counting
        ? undefined
        : { stats: observed.calls.of(observed.name, anyMethod), elapsed: observed.elapsed }
    })
    if (!counting) {
      yield* observed.register({
        role: "service",
        description: "an Effect for each request",
        options: {},
        snapshot: () => observed.calls.snapshot
      })
    }

    const accept = (accepted: Net.Socket): void => {
      const refused = acceptedSessions >= maxSessions
      const session = new ServerSession({
        connection: {
          write: (chunk) => {
            counts.sentBytes += chunk.length
            return connection.socket.write(chunk)
          },
          taken: () => connection.socket.writableLength === 0,
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
        onFault: (what, why) => {
          const cause = why instanceof Error ? why.message : String(why)
          observed.log.say("warning", `a client's session ended: ${what}`, { peer: connection.peer, cause })
        },
        onEnd: () => {}
      })
      const connection = new Served(accepted, session, observed.elapsed(), drainMillis, run)
      served.add(connection)
      if (refused) counts.refusedSessions++
      else acceptedSessions++
      let fault: unknown
      let detach = () => {}
      /** Gives the session a socket; what it returns takes it away again. */
      const attach = (socket: Net.Socket): () => void => {
        const onData = (chunk: Uint8Array) => {
          counts.receivedBytes += chunk.length
          session.receive(chunk)
        }
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
      const secure = Effect.suspend(() => {
        const begunAt = observed.elapsed()
        return Effect.match(tls!.secure(accepted), {
          onSuccess: (socket) => {
            counts.tlsHandshakes++
            observed.secured(observed.elapsed() - begunAt)
            attach(socket)
            session.secured()
          },
          onFailure: (failed) => {
            fault = failed
            counts.tlsFailures++
            observed.notSecured(connection.peer, failed)
          }
        })
      })
      accepted.on("close", () => {
        served.delete(connection)
        if (!refused) acceptedSessions--
        observed.connectionEnded(observed.elapsed() - connection.acceptedAt)
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
      return observed.draining(
        { connections: served.size, running: running.size },
        () => counts.aborted,
        Effect.andThen(
          Effect.forEach([...served], (connection) => connection.drain(), { concurrency: "unbounded", discard: true }),
          Effect.suspend(() => Fiber.awaitAll(running))
        )
      )
    })
    const bound = server.address()
    const listening = address = bound === null || typeof bound === "string"
      ? { host: "", port: 0, path: bound ?? options.path }
      : { host: bound.address, port: bound.port, path: undefined }
    const uri = listening.path === undefined
      ? `tcp://${addressOf(listening.host, listening.port)}`
      : `unix://${listening.path}`
    observed.log.say("info", "listening", { uri })
    // After the finalizer that drains: whoever reads the sets is to have left when the drain sends clients away.
    const announcements = yield* announceServer(options.announce, listening)
    return {
      ...observed,
      address: listening,
      uri,
      announcements,
      sessions: () => [...served],
      outstanding: () => running.size,
      counts
    }
  })

/**
 * Serves `handler` until the scope closes. Then it leaves the server sets that it was announced in; no connection is accepted any more,
 * every client is asked to send no more, requests that run have `drainTimeout` to end, the rest is interrupted, and all sockets are closed.
 */
const make = <E, R>(
  handler: Handler<E, R>,
  options: MuxServerOptions = {}
): Effect.Effect<MuxServerShape, BuildError | ListenFailed, R | Scope.Scope> =>
  serve(() => Effect.succeed(handler), false, "mux", options)

/**
 * `make` for a protocol on mux, whose handler knows which method a request is of: it counts what it serves in `server.calls`, and registers
 * itself as a stage. `label` is the default of the option.
 */
const makeObserved = <E, R, E2, R2>(
  handlerOf: HandlerOf<E, R, E2, R2>,
  label: string,
  options: MuxServerOptions = {}
): Effect.Effect<MuxServerShape, BuildError | ListenFailed | E2, R | R2 | Scope.Scope> =>
  serve(handlerOf, true, label, options)

/**
 * A mux server: `MuxServer.make` as a scoped effect, `MuxServer.layer` as a layer, whose service tells the address and the sessions.
 * Both fail with `ListenFailed` when the address cannot be listened on, with `InvalidOption`, and as `ServerSet.announce` does when it is
 * to be announced.
 */
export class MuxServer extends Context.Service<MuxServer, MuxServerShape>()("@scales-rpc/mux/MuxServer") {
  static readonly make = make

  static readonly makeObserved = makeObserved

  static readonly layer = <E, R>(
    handler: Handler<E, R>,
    options: MuxServerOptions = {}
  ): Layer.Layer<MuxServer, BuildError | ListenFailed, Exclude<R, Scope.Scope>> =>
    Layer.effect(MuxServer, make(handler, options))
}
