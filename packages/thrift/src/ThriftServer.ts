/**
 * A Thrift server on sockets: handlers that are Effects, typed by the service, for every client of Apache's and for Finagle's.
 *
 *     const EchoServer = ThriftServer.layer(Echo, { passMessage: (message) => Effect.succeed(message), ... }, { port: 9090 })
 *
 * A client's requests may run at once, and are answered in their order. What a handler ends with reaches its caller as
 * `ThriftProcessor` says; a oneway call is answered with nothing, however it ends.
 */
import {
  type BuildError,
  type InvalidOption,
  type Observed,
  ObservedServer,
  ServerTracing,
  type ServerTracingOptions,
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
  Tls,
  type TlsServerOptions
} from "@scales-rpc/core/socket"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type * as Net from "node:net"
import type { ThriftProtocolError } from "./errors.ts"
import { detectable } from "./internal/Detection.ts"
import { checkedFraming, type Framing } from "./internal/Framing.ts"
import { checkedLimits } from "./internal/limitOptions.ts"
import { closeIdle, type Connection, Served } from "./internal/ServedConnection.ts"
import { type ConnectionCounts, ServerConnection } from "./internal/ServerConnection.ts"
import { ServerRequests } from "./internal/ServerRequests.ts"
import { type Services, showServer } from "./internal/ServerView.ts"
import * as Multiplexed from "./Multiplexed.ts"
import type { Limits, Protocol } from "./Protocol.ts"
import * as Protocols from "./Protocols.ts"
import type { ServiceDefinition } from "./ServiceDefinition.ts"
import * as ThriftProcessor from "./ThriftProcessor.ts"
import type { HandlersOf, ThriftService } from "./ThriftService.ts"

export { ListenFailed } from "@scales-rpc/core/socket"
export type { Connection } from "./internal/ServedConnection.ts"

/** Options of a server; its label is the service's name by default, with several services `thrift`. */
export interface ThriftServerOptions extends ServerTracingOptions, ObservedServer.ObservedServerOptions {
  /** The address to listen on. Default 127.0.0.1. */
  readonly host?: string | undefined
  /** Default 0: one that is free, which `address` tells. */
  readonly port?: number | undefined
  /** A Unix socket's path, in place of host and port. */
  readonly path?: string | undefined
  /**
   * How clients tell messages apart: `"framed"`, each with its length before it; `"buffered"`, one behind the other; `"auto"`, as each
   * client does it, told from its first byte. Default `"framed"`.
   */
  readonly framing?: Framing | "auto" | undefined
  /** What requests and replies are written in; `"auto"`: what each client writes, told from its first message. Default `Protocols.binary`. */
  readonly protocol?: Protocol | "auto" | undefined
  /**
   * Whether a framed client may ask for Twitter's upgrade, as Finagle's do: its client id, trace, deadline and contexts are then those of
   * `Rpc.Inbound`. Default true, as in Finagle's servers.
   */
  readonly upgrade?: boolean | undefined
  /** Connections served at once; one more is closed as soon as it is accepted. Default: no bound. */
  readonly maxConnections?: number | undefined
  /**
   * Requests of one connection that are begun and whose replies have not been written; no more is read while others wait. Default 100; with 1 a
   * connection's requests run one after the other, as in servers of Apache's and Finagle's.
   */
  readonly maxPipelined?: number | undefined
  /**
   * Of one message: what is accepted in a request and written in a reply; the defaults are those of `Limits`. A client whose message is
   * longer than `maxMessageBytes`, or says that it will be, loses its connection.
   */
  readonly limits?: Limits | undefined
  /** A connection on which nothing runs is closed when nothing has come, and no reply has left, for so long. Default: never. */
  readonly idleTimeout?: Duration.Input | undefined
  /** How long closing waits for requests that run before it interrupts them. Default 5 seconds. */
  readonly drainTimeout?: Duration.Input | undefined
  /**
   * Server sets that it announces itself in: from when it listens until its drain begins. What `ServerSet.announce` needs is found in the
   * context. Default: none.
   */
  readonly announce?: ServerAnnounceOptions | ReadonlyArray<ServerAnnounceOptions> | undefined
  /** Secures every connection. Default: they stay plain. */
  readonly tls?: TlsServerOptions | undefined
}

/** What a server has seen since it began. */
export interface ThriftServerCounts extends ConnectionCounts {
  /** Connections served. */
  connections: number
  /** Connections closed because `maxConnections` were open. */
  refused: number
  /** Connections closed because their TLS handshake failed. */
  insecure: number
  /** Connections closed because nothing came or left for `idleTimeout`. */
  idle: number
  /** Requests that were not run because their deadline had passed when they came. */
  expired: number
  /** Connections that were secured. */
  tlsHandshakes: number
  /** Bytes that came; within TLS, where there is any. */
  receivedBytes: number
}

/** A running server; `describe` takes it, and shows what it is made of. */
export interface Shape extends Observed.Observed {
  /** Where it listens; `path` for a Unix socket. */
  readonly address: { readonly host: string; readonly port: number; readonly path: string | undefined }
  /** The same as a server-set URI: `tcp://127.0.0.1:9090` or `unix:///path`. */
  readonly uri: string
  /** Its announcements, in the order of the options. */
  readonly announcements: ReadonlyArray<ServerAnnouncement>
  /** The connections that are open, in the order they began. */
  readonly connections: () => ReadonlyArray<Connection>
  /** Requests that run, in all connections and of those that are gone. */
  readonly outstanding: () => number
  /** Live. */
  readonly counts: Readonly<ThriftServerCounts>
}

type ClientTypeOf<Service> = Service extends ThriftService<any, any, infer Client> ? Client : never

/** What implements a service, given as `typeof Echo`: a handler for each of its methods, each of which may need `R`. */
export type Handlers<Service, R = never> = HandlersOf<ClientTypeOf<Service>, R>

/** What the handlers of a service need. */
type NeedsOf<H> = { [Name in keyof H]: H[Name] extends ThriftProcessor.Handler<infer R> ? R : never }[keyof H]

/** The same beside the scope of their call: a resource that a handler acquires is released before its reply leaves. */
type Needs<H> = Exclude<NeedsOf<H>, Scope.Scope>

/** A service with what implements it, for a server of several. */
export const implement = <Self, Id extends string, Client, H extends HandlersOf<Client, unknown>>(
  service: ThriftService<Self, Id, Client>,
  handlers: H
): ThriftProcessor.Implementation<NeedsOf<H>> => ({
  definition: service.definition,
  // Typed by the service above; from here on they are called by name.
  handlers: handlers as unknown as Readonly<Record<string, ThriftProcessor.Handler<NeedsOf<H>>>>
})

/** Options of a server of several services. */
export interface MultiplexedServerOptions extends ThriftServerOptions {
  /** The name of the service that also answers calls that name none. Default: those are answered as unknown methods. */
  readonly unnamed?: string | undefined
}

/** The framing that was asked for, if all protocols that may be spoken can be carried by it. */
const checkedFramings = (
  framing: Framing | "auto" | undefined,
  protocol: Protocol | "auto"
): Effect.Effect<Framing | "auto", InvalidOption> => {
  if (framing === "auto") {
    return protocol === "auto" ? Effect.succeed(framing) : Effect.as(checkedFraming("buffered", protocol), framing)
  }
  return checkedFraming(framing, protocol === "auto" ? Protocols.binary : protocol)
}

/** Methods without a reply, by their names in calls. */
const onewaysOf = (definition: ServiceDefinition, nameOf: (method: string) => string): Array<string> =>
  [...definition.methods.values()].filter(({ oneway }) => oneway).map(({ name }) => nameOf(name))

/** Serves what a processor of each protocol answers, until the scope closes. */
const serve = <R>(
  processorOf: (
    options: ThriftProcessor.ProcessorOptions<never>
  ) => Effect.Effect<ThriftProcessor.Processor<never, R>, InvalidOption>,
  oneways: ReadonlySet<string>,
  services: Services,
  options: ThriftServerOptions
): Effect.Effect<Shape, BuildError | ListenFailed, Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.gen(function*() {
    const protocol = options.protocol ?? Protocols.binary
    const framing = yield* checkedFramings(options.framing, protocol)
    yield* wholeNumber("port", options.port, 0, 0, 65535)
    const maxConnections = yield* wholeNumber("maxConnections", options.maxConnections, Number.MAX_SAFE_INTEGER, 1)
    const maxPipelined = yield* wholeNumber("maxPipelined", options.maxPipelined, 100, 1)
    const idleMillis = yield* durationMillis("idleTimeout", options.idleTimeout, Infinity, 1)
    const drainMillis = yield* durationMillis("drainTimeout", options.drainTimeout, 5000)
    const limits = yield* checkedLimits("limits", options.limits)
    const tls = options.tls === undefined ? undefined : yield* Tls.server(options.tls)
    const counts: ThriftServerCounts = {
      connections: 0,
      refused: 0,
      insecure: 0,
      idle: 0,
      requests: 0,
      expired: 0,
      upgrades: 0,
      oversized: 0,
      undecodable: 0,
      drains: 0,
      aborted: 0,
      tlsHandshakes: 0,
      receivedBytes: 0,
      sentBytes: 0
    }
    const served = new Set<Served>()
    /** Sockets that are not secured yet, by the fibers that do it. */
    const securing = new Map<Net.Socket, Fiber.Fiber<void>>()
    let closing = false
    let address: Shape["address"] | undefined
    const observed = yield* ObservedServer.make(services.label, options)
    const fibers = new Set<Fiber.Fiber<Uint8Array, ThriftProtocolError>>()
    yield* showServer(observed, {
      options,
      framing,
      protocol,
      services,
      limits,
      maxConnections,
      maxPipelined,
      idleMillis,
      drainMillis,
      tls: tls?.description,
      counts,
      served,
      securing: () => securing.size,
      running: () => fibers.size,
      listening: () => closing ? undefined : address
    })
    const context = withoutSpan(yield* Effect.context<Exclude<R, Scope.Scope>>())
    const tracing = yield* ServerTracing.make(options, context as Context.Context<never>)
    const run = Effect.runForkWith(context)
    const clock = Context.get(context as Context.Context<never>, Clock.Clock)
    const now = () => clock.currentTimeMillisUnsafe()
    const requests = new Map<Protocol, ServerRequests<R>>()
    for (const spoken of protocol === "auto" ? detectable : [protocol]) {
      const processor = yield* processorOf({ limits, protocol: spoken, observed })
      requests.set(
        spoken,
        new ServerRequests(spoken, processor, {
          run,
          fibers,
          oneways,
          limits,
          now,
          tracing,
          counts,
          onDefect: observed.handlerFailed
        })
      )
    }

    const begin = (socket: Net.Socket): void => {
      // It may have ended while it was secured: nothing would tell.
      if (socket.destroyed) return
      counts.connections++
      const connection = new ServerConnection({
        socket,
        peer: addressOf(socket.remoteAddress, socket.remotePort),
        framing,
        protocol,
        requests: (spoken) => requests.get(spoken)!,
        maxMessageBytes: limits.maxMessageBytes,
        maxDepth: limits.maxDepth,
        maxPipelined,
        upgrade: options.upgrade ?? true,
        counts,
        now,
        onFault: (cause) => {
          observed.log.say("warning", "a client's connection ended: protocol error", { peer: connection.peer, cause })
        }
      })
      const entry = new Served(socket, connection, observed.elapsed(), drainMillis, run)
      served.add(entry)
      socket.on("data", (chunk: Buffer) => {
        counts.receivedBytes += chunk.length
        connection.receive(chunk)
      })
      socket.on("drain", () => connection.drained())
      socket.on("end", () => connection.clientEnded())
      // What follows is its end.
      socket.on("error", () => {})
      socket.on("close", () => {
        served.delete(entry)
        connection.closed()
        entry.onClose()
        observed.connectionEnded(observed.elapsed() - entry.begunAt)
      })
    }

    const accept = (socket: Net.Socket): void => {
      // Accepted by the kernel before the listener closed.
      if (closing) return void socket.destroy()
      if (served.size + securing.size >= maxConnections) {
        counts.refused++
        return void socket.destroy()
      }
      if (tls === undefined) return begin(socket)
      const peer = addressOf(socket.remoteAddress, socket.remotePort)
      const begunAt = observed.elapsed()
      const fiber = run(
        Effect.match(tls.secure(socket), {
          onSuccess: (secured) => {
            securing.delete(socket)
            counts.tlsHandshakes++
            observed.secured(observed.elapsed() - begunAt)
            begin(secured)
          },
          onFailure: (failed) => {
            securing.delete(socket)
            counts.insecure++
            observed.notSecured(peer, failed)
          }
        })
      )
      if (fiber.pollUnsafe() === undefined) securing.set(socket, fiber)
    }

    // Released in reverse: the listener is closed first, but waits for its connections, so they are drained beside it.
    const server = yield* listen({ ...options, halfOpen: true }, accept)
    if (idleMillis !== Infinity) yield* Effect.forkScoped(closeIdle(served, idleMillis, now, counts))
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        closing = true
        server.close()
        for (const fiber of securing.values()) fiber.interruptUnsafe()
        const timer = run(Effect.andThen(
          Effect.sleep(drainMillis),
          Effect.sync(() => {
            const aborted = counts.aborted + fibers.size
            for (const { connection } of served) connection.abort()
            for (const fiber of fibers) fiber.interruptUnsafe()
            counts.aborted = aborted
          })
        ))
        const ending = [...served].map(({ connection, ended }) => {
          connection.drain()
          return ended
        })
        return observed.draining(
          { connections: ending.length, running: fibers.size },
          () => counts.aborted,
          Effect.all(ending, { discard: true }).pipe(
            Effect.andThen(Effect.suspend(() => Fiber.awaitAll([...fibers, ...securing.values()]))),
            Effect.andThen(Effect.sync(() => timer.interruptUnsafe()))
          )
        )
      })
    )
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
      connections: () => [...served],
      outstanding: () => fibers.size,
      counts
    }
  })

/**
 * Serves until the scope closes. Then it leaves the server sets that it was announced in; no connection is accepted any more, idle ones are
 * closed, those with requests end when they are answered, and what still runs after `drainTimeout` is interrupted. Fails with `ListenFailed`
 * when the address cannot be listened on, with `InvalidOption` for an option out of its range, and as `ServerSet.announce` does when it is
 * to be announced.
 */
export const make = <Self, Id extends string, Client, H extends HandlersOf<Client, unknown>>(
  service: ThriftService<Self, Id, Client>,
  handlers: H,
  options: ThriftServerOptions = {}
): Effect.Effect<Shape, BuildError | ListenFailed, Needs<H> | Scope.Scope> => {
  const { definition, handlers: served } = implement(service, handlers)
  return serve<NeedsOf<H>>(
    (options) => ThriftProcessor.make(definition, served, options),
    new Set(onewaysOf(definition, (method) => method)),
    { label: definition.name, methods: { [definition.name]: Object.keys(handlers) } },
    options
  )
}

/** `make` for several services, by the names that clients put before the method's (`Multiplexed`); each is made by `implement`. */
export const makeMultiplexed = <R = never>(
  services: Readonly<Record<string, ThriftProcessor.Implementation<R>>>,
  options: MultiplexedServerOptions = {}
): Effect.Effect<Shape, BuildError | ListenFailed, Exclude<R, Scope.Scope> | Scope.Scope> => {
  const { unnamed } = options
  const oneways = Object.entries(services).flatMap(([name, { definition }]) => [
    ...onewaysOf(definition, (method) => Multiplexed.prefixed(name, method)),
    ...(name === unnamed ? onewaysOf(definition, (method) => method) : [])
  ])
  return serve<R>(
    (options) => ThriftProcessor.multiplexed(services, { ...options, unnamed }),
    new Set(oneways),
    {
      label: "thrift",
      methods: Object.fromEntries(
        Object.entries(services).map(([name, { handlers }]) => [name, Object.keys(handlers)])
      )
    },
    options
  )
}

/** A running server as a service, which `layer` and `layerMultiplexed` provide. */
export class Server extends Context.Service<Server, Shape>()("@scales-rpc/thrift/ThriftServer") {}

/** `make` as a layer. */
export const layer = <Self, Id extends string, Client, H extends HandlersOf<Client, unknown>>(
  service: ThriftService<Self, Id, Client>,
  handlers: H,
  options: ThriftServerOptions = {}
): Layer.Layer<Server, BuildError | ListenFailed, Needs<H>> => Layer.effect(Server, make(service, handlers, options))

/** `makeMultiplexed` as a layer. */
export const layerMultiplexed = <R = never>(
  services: Readonly<Record<string, ThriftProcessor.Implementation<R>>>,
  options: MultiplexedServerOptions = {}
): Layer.Layer<Server, BuildError | ListenFailed, Exclude<R, Scope.Scope>> =>
  Layer.effect(Server, makeMultiplexed(services, options))
