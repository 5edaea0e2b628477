/** Real Finagle as peers: Java programs that are told over stdin what to do (`../finagle/README.md`). */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { fileURLToPath } from "node:url"
import * as Maven from "./Maven.ts"
import { flags, type Options, type Peer, PeerError, start as startProgram } from "./Peer.ts"

/** `tm22`: ThriftMux 22.7.0, the service of echo.thrift. `mux24`: Mux 24.2.0, bodies of bytes; and HTTP. */
export type Library = "tm22" | "mux24"

/** Where the Maven project of a library is. */
export const folder = (library: Library): string => fileURLToPath(new URL(`../finagle/${library}`, import.meta.url))

const start = (library: Library, args: ReadonlyArray<string>): Effect.Effect<Peer, PeerError, Scope.Scope> =>
  startProgram(Maven.program("Finagle", folder(library), args))

/** The frames of one session as the server saw them, by type; `+` marks fragments that others follow. */
export interface SessionStats {
  readonly session: number
  readonly in: Readonly<Record<string, number>>
  readonly out: Readonly<Record<string, number>>
  /** Bytes of the largest frame without size, type and tag. */
  readonly largestIn: number
  readonly largestOut: number
}

/** What a server has served. */
export interface ServerStats {
  /** By method; nacked calls count. */
  readonly calls: Readonly<Record<string, number>>
  /** The open ones. */
  readonly sessions: ReadonlyArray<SessionStats>
  /** How many there have been. */
  readonly sessionsEver: number
}

/** A Finagle server on a port of 127.0.0.1. */
export interface Server extends Peer {
  readonly port: number
  /** `127.0.0.1:port`. */
  readonly address: string
  /** Stops listening, drains every session and closes them all within so many milliseconds. */
  readonly drain: (millis: number) => Effect.Effect<void, PeerError>
  /** Listens on the same port again. */
  readonly listen: Effect.Effect<void, PeerError>
  /** Drains every open session, and listens on. */
  readonly drainSessions: (millis: number) => Effect.Effect<void, PeerError>
  /** Sends a lease to every open session; says how many. */
  readonly lease: (millis: number) => Effect.Effect<number, PeerError>
  /** Pings every open session. An answer means that the client has read all that was sent to it before. */
  readonly ping: Effect.Effect<{ readonly sessions: number; readonly answered: number }, PeerError>
  readonly stats: Effect.Effect<ServerStats, PeerError>
  /** The open session of a number. */
  readonly session: (session: number) => Effect.Effect<SessionStats, PeerError>
}

const startServer = (
  library: Library,
  mode: "server" | "thrift-server" | "http-server",
  options: Options
): Effect.Effect<Server, PeerError, Scope.Scope> =>
  Effect.map(start(library, [mode, ...flags(options)]), (peer) => ({
    ...peer,
    port: peer.ready.port,
    address: `127.0.0.1:${peer.ready.port}`,
    drain: (millis) => peer.command(["drain", millis]),
    listen: peer.command(["listen"]),
    drainSessions: (millis) => peer.command(["drain-sessions", millis]),
    lease: (millis) => Effect.map(peer.command(["lease", millis]), ({ sessions }) => sessions),
    ping: peer.command(["ping"]),
    stats: peer.command(["stats"]),
    session: (session) =>
      Effect.flatMap(peer.command(["stats"]), ({ sessions }: ServerStats) => {
        const found = sessions.find((one) => one.session === session)
        return found === undefined
          ? Effect.fail(new PeerError({ what: `session ${session} is not open` }))
          : Effect.succeed(found)
      })
  }))

/** Starts a server. Options are those of the program: `window`, `rejectSessions`, `port`, `tls`, `forward`. */
export const server = (library: Library, options: Options = {}): Effect.Effect<Server, PeerError, Scope.Scope> =>
  startServer(library, "server", options)

/** Starts a server of plain Thrift. */
export const thriftServer = (options: Options = {}): Effect.Effect<Server, PeerError, Scope.Scope> =>
  startServer("tm22", "thrift-server", options)

/** Starts a server of HTTP. */
export const httpServer = (options: Options = {}): Effect.Effect<Server, PeerError, Scope.Scope> =>
  startServer("mux24", "http-server", options)

/** How a call through Finagle's client ended. */
export interface CallResult {
  readonly ok: boolean
  /** The method's, when `ok`; else the fields that the failure has. */
  readonly result?: any
  readonly exception?: string
  readonly message?: string
  readonly cause?: string
  readonly flags?: ReadonlyArray<string>
  readonly declared?: string
  readonly why?: string
  readonly missing?: string
  /** Of a TApplicationException. */
  readonly type?: number
  readonly millis: number
}

/** How many calls ended how. */
export interface LoadResult {
  readonly requests: number
  readonly succeeded: number
  /** Given up by the load itself: option `discards`. */
  readonly discarded: number
  readonly failed: number
  /** Successes with another call's answer, or a damaged one: of the methods that answer their argument. */
  readonly wrong: number
  /** By class and message. */
  readonly errors: Readonly<Record<string, number>>
}

/** A Finagle client. Each combination of client id, timeout and window has connections of its own. */
export interface Client extends Peer {
  readonly call: (words: ReadonlyArray<string | number>, options?: Options) => Effect.Effect<CallResult, PeerError>
  /**
   * One call many times: options `requests`, `concurrency`, `discards` and `seed`. In a word, `{}` is the call's number and `{x:N}` less
   * than N times `x`.
   */
  readonly load: (words: ReadonlyArray<string | number>, options: Options) => Effect.Effect<LoadResult, PeerError>
  /** Closes all connections; the next call makes new ones. */
  readonly close: Effect.Effect<void, PeerError>
}

const startClient = (
  library: Library,
  mode: "client" | "thrift-client",
  addresses: ReadonlyArray<string>,
  options: Options
): Effect.Effect<Client, PeerError, Scope.Scope> =>
  Effect.map(start(library, [mode, addresses.join(","), ...flags(options)]), (peer) => ({
    ...peer,
    call: (words, options) => peer.command(["call", ...words], options),
    load: (words, options) => peer.command(["load", ...words], options),
    close: peer.command(["close"])
  }))

/** Starts a client of servers given as `host:port`. Options hold for every call. */
export const client = (
  library: Library,
  addresses: ReadonlyArray<string>,
  options: Options = {}
): Effect.Effect<Client, PeerError, Scope.Scope> => startClient(library, "client", addresses, options)

/** Starts a client of plain Thrift. */
export const thriftClient = (
  addresses: ReadonlyArray<string>,
  options: Options = {}
): Effect.Effect<Client, PeerError, Scope.Scope> => startClient("tm22", "thrift-client", addresses, options)
