/** Connections over TCP or a Unix socket, secured if wanted: resolve, connect, TLS handshake, each bounded in time. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import { Endpoint } from "./Endpoint.ts"
import { Network } from "./internal/Network.ts"
import { ConnectFailed } from "./RpcError.ts"
import type { TlsClient } from "./Tls.ts"

/** How a connection is made. */
export interface SocketOptions {
  /** How long resolving and connecting may take, in milliseconds. */
  readonly connectTimeoutMillis: number
  /** Secures the connection before anything else is sent. Default: it stays plain. */
  readonly tls?: TlsClient | undefined
  /**
   * Hears what comes, chunk by chunk, in place of the socket's `data` events: a fifth of what a small message costs in Node lies in those. The
   * socket is paused until its owner calls `resume`. Not for one that somebody else secures later.
   */
  readonly onRead?: ((chunk: Buffer) => void) | undefined
}

/** What one read may bring: as much as Node asks for. All sockets read into the same bytes, which are copied before the next read. */
const readBytes = 64 * 1024

let scratch: Buffer | undefined

const reading = (onRead: (chunk: Buffer) => void): Net.OnReadOpts => ({
  buffer: scratch ??= Buffer.allocUnsafeSlow(readBytes),
  callback: (length, bytes) => {
    const chunk = Buffer.allocUnsafe(length)
    chunk.set(length === bytes.length ? bytes : bytes.subarray(0, length))
    onRead(chunk)
    return true
  }
})

/** A name with several addresses fails with an error that has no text of its own, one for each address inside. */
const firstOf = (cause: unknown): unknown => cause instanceof AggregateError ? cause.errors[0] ?? cause : cause

const connect = (
  network: Network,
  endpoint: Endpoint,
  timeoutMillis: number,
  onRead: ((chunk: Buffer) => void) | undefined
): Effect.Effect<Net.Socket, ConnectFailed, Scope.Scope> => {
  let resolved = Endpoint.isUnix(endpoint) || Net.isIP(endpoint.host) !== 0
  const failed = (cause: unknown) =>
    Effect.fail(new ConnectFailed({ endpoint, phase: resolved ? "connect" : "resolve", cause }))
  return Effect.acquireRelease(
    Effect.callback<Net.Socket, ConnectFailed>((resume) => {
      const socket = network.connect({
        ...(Endpoint.isUnix(endpoint)
          ? { path: endpoint.host }
          : { host: endpoint.host, port: endpoint.port, noDelay: true, keepAlive: true }),
        ...(onRead === undefined ? undefined : { onread: reading(onRead) })
      })
      // One that is not Node's own emits what it reads.
      if (onRead !== undefined) socket.pause().on("data", onRead)
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
 * Calls a function once the event loop has read what has come by now on the network that `open` connects on. One turn of the loop may
 * be over already but for its last part: who must be sure takes two.
 */
export const turn: Effect.Effect<(f: () => void) => void> = Effect.map(
  Effect.service(Network),
  (network) => network.turn
)

/**
 * A connected socket, with `noDelay` and `keepAlive`, destroyed when the scope closes. Fails with `ConnectFailed`,
 * whose phase says how far it came. It has a listener for errors, so that one which breaks before its owner listens
 * does not throw: look at `destroyed` and `errored` first.
 */
export const open = (
  endpoint: Endpoint,
  options: SocketOptions
): Effect.Effect<Net.Socket, ConnectFailed, Scope.Scope> => {
  const { connectTimeoutMillis, onRead, tls } = options
  const plain = (onRead?: (chunk: Buffer) => void) =>
    Effect.flatMap(Effect.service(Network), (network) => connect(network, endpoint, connectTimeoutMillis, onRead))
  if (tls === undefined) return plain(onRead)
  return Effect.flatMap(plain(), (socket) =>
    Effect.acquireRelease(
      Effect.map(
        tls.secure(socket, endpoint),
        (secured) => onRead === undefined ? secured : secured.pause().on("data", onRead)
      ),
      (secured) => Effect.sync(() => secured.destroy()),
      { interruptible: true }
    ))
}
