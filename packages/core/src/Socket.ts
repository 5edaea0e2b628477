/** Connections over TCP or a Unix socket, secured if wanted: resolve, connect, TLS handshake, each bounded in time. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import { Endpoint } from "./Endpoint.ts"
import { ConnectFailed } from "./RpcError.ts"
import type { TlsClient } from "./Tls.ts"

/** How a connection is made. */
export interface SocketOptions {
  /** How long resolving and connecting may take, in milliseconds. */
  readonly connectTimeoutMillis: number
  /** Secures the connection before anything else is sent. Default: it stays plain. */
  readonly tls?: TlsClient | undefined
}

/** A name with several addresses fails with an error that has no text of its own, one for each address inside. */
const firstOf = (cause: unknown): unknown => cause instanceof AggregateError ? cause.errors[0] ?? cause : cause

const connect = (endpoint: Endpoint, timeoutMillis: number): Effect.Effect<Net.Socket, ConnectFailed, Scope.Scope> => {
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
        // From here on an error is its owner's; until it listens, a socket that breaks must not throw.
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

/**
 * A connected socket, with `noDelay` and `keepAlive`, destroyed when the scope closes. Fails with `ConnectFailed`,
 * whose phase says how far it came. It has a listener for errors, so that one which breaks before its owner listens
 * does not throw: look at `destroyed` and `errored` first.
 */
export const open = (
  endpoint: Endpoint,
  options: SocketOptions
): Effect.Effect<Net.Socket, ConnectFailed, Scope.Scope> => {
  const { tls } = options
  const plain = connect(endpoint, options.connectTimeoutMillis)
  if (tls === undefined) return plain
  return Effect.flatMap(plain, (socket) =>
    Effect.acquireRelease(
      tls.secure(socket, endpoint),
      (secured) => Effect.sync(() => secured.destroy()),
      { interruptible: true }
    ))
}
