/** The listening socket of a server, of any protocol. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Net from "node:net"
import { Network } from "./internal/Network.ts"
import { Failure } from "./RpcError.ts"

/** The server could not listen: the port is taken, the path not writable. */
export class ListenFailed extends Failure("ListenFailed")<{ readonly address: string; readonly cause: unknown }> {
  override get message(): string {
    return `cannot listen on ${this.address}: ${this.cause instanceof Error ? this.cause.message : String(this.cause)}`
  }
}

/** An address as it is written in a URI; empty for that of a Unix socket. */
export const addressOf = (host: string | undefined, port: number | undefined): string =>
  host === undefined ? "" : host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`

/** Where to listen. */
export interface ListenOptions {
  /** The address of an interface, or a name of this machine. Default 127.0.0.1. */
  readonly host?: string | undefined
  /** 0: a free one. Default 0. */
  readonly port?: number | undefined
  /** A Unix socket in their place. */
  readonly path?: string | undefined
  /** A client that has closed its half still reads. Default false. */
  readonly halfOpen?: boolean | undefined
}

/** A listening server; it stops listening when the scope closes. Connections are the caller's. */
export const listen = (
  options: ListenOptions,
  onConnection: (socket: Net.Socket) => void
): Effect.Effect<Net.Server, ListenFailed, Scope.Scope> =>
  Effect.flatMap(Effect.service(Network), (network) => listenOn(network, options, onConnection))

const listenOn = (
  network: Network,
  options: ListenOptions,
  onConnection: (socket: Net.Socket) => void
): Effect.Effect<Net.Server, ListenFailed, Scope.Scope> => {
  const where = options.path === undefined
    ? { host: options.host ?? "127.0.0.1", port: options.port ?? 0 }
    : { path: options.path }
  return Effect.acquireRelease(
    Effect.callback<Net.Server, ListenFailed>((resume) => {
      const settings = { allowHalfOpen: options.halfOpen ?? false, noDelay: true, keepAlive: true }
      const server = network.createServer(settings, onConnection)
      // Stays for good: a connection that cannot be accepted is its client's loss, not the process's end.
      server.on("error", (cause) =>
        resume(Effect.fail(
          new ListenFailed({ address: "path" in where ? where.path! : addressOf(where.host, where.port), cause })
        )))
      server.listen(where, () => resume(Effect.succeed(server)))
      return Effect.sync(() => void server.close())
    }),
    (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
  )
}
