/**
 * Opens HTTP connections over TCP or Unix sockets, secured if wanted: connect and TLS are those of the other protocols, HTTP itself is
 * undici's.
 *
 * A connection of HTTP/1.1 carries one call at a time, without pipelining, and belongs under a pool that keeps to that (`WatermarkPool`). One
 * of HTTP/2 carries many, and belongs under `SingletonPool`. One undici client a connection was measured against one undici pool an
 * endpoint: 64 calls in flight cost 21 to 24 microseconds of CPU each against 24 to 25, one at a time the same.
 */
import { ConnectFailed, Describe, type Endpoint, type InvalidOption, Stack, type StackShape } from "@scales-rpc/core"
import { durationMillis, wholeNumber } from "@scales-rpc/core/options"
import { type CountedConnection, Socket, Tls, TransportStats } from "@scales-rpc/core/socket"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { HttpWire } from "./HttpWire.ts"
import type { Connection, ConnectionOptions } from "./internal/Connection.ts"
import { finagleFields, givenFields } from "./internal/contexts.ts"
import * as Counts from "./internal/TransportCounts.ts"

type Counted = CountedConnection<Counts.ConnectionEnd>

/** Options of the transport. */
export interface HttpTransportOptions {
  /** How long resolving and connecting may take; a TLS handshake has a limit of its own. Default 1 second. */
  readonly connectTimeout?: Duration.Input | undefined
  /** TLS from the first byte on. Default: none. */
  readonly tls?: Tls.TlsClientOptions | undefined
  /**
   * HTTP/2: with `tls` it has to be what the server chooses (ALPN), without it is spoken from the first byte on. A server that has only
   * HTTP/1.1 fails to be connected to, with `ConnectFailed`. Default: HTTP/1.1.
   */
  readonly http2?: boolean | undefined
  /**
   * The most bytes of names and values in the head of a response over HTTP/1.1; one that has more ends its connection, with a
   * `ProtocolError`. Default 16384 (Node's; Finagle's is 8192).
   */
  readonly maxHeaderBytes?: number | undefined
  /**
   * Sends Finagle's header fields: the deadline, which attempt it is, whether it is a hedge's second, the client's id (`ClientId`), the trace
   * (`Trace`, as B3), and that a request with a body may come again when it is refused. Default: none is sent.
   */
  readonly finagle?: boolean | undefined
}

/** What all connections of a transport share. */
interface Shared {
  readonly open: (options: ConnectionOptions) => Connection
  readonly connectTimeoutMillis: number
  readonly tls: Tls.TlsClient | undefined
  readonly stack: StackShape
  readonly connection: Omit<ConnectionOptions, "endpoint" | "socket" | "turn" | "ended" | "wrong">
  readonly connections: Map<Connection, Endpoint>
  /** Bytes of connections that are not among these any more. */
  readonly bytes: { received: number; sent: number }
}

/** Servers that speak HTTP/2 to nobody end the handshake with an alert, or choose nothing. */
const isAlpnRefusal = (cause: unknown): boolean =>
  cause instanceof Tls.TlsFailed &&
  (cause.cause as { readonly code?: unknown } | undefined)?.code === "ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL"

const connect = (shared: Shared, endpoint: Endpoint, counted: Counted) =>
  Effect.gen(function*() {
    const { bytes, connection: options, connectTimeoutMillis, connections, open, stack: { faults, log }, tls } = shared
    const { counts } = options
    const socket = yield* Effect.tapError(
      counted.socket(endpoint, { connectTimeoutMillis, tls }),
      ({ cause }) => Effect.sync(() => isAlpnRefusal(cause) ? counts.alpnRefusals++ : 0)
    )
    if (options.http2 && tls !== undefined && !("alpnProtocol" in socket && socket.alpnProtocol === "h2")) {
      const cause = "the server does not speak HTTP/2"
      counts.alpnRefusals++
      return yield* Effect.fail(new ConnectFailed({ endpoint, phase: "handshake", cause }))
    }
    const turn = yield* Socket.turn
    const connection = yield* Effect.acquireRelease(
      Effect.sync(() => {
        counted.made()
        const made = open({
          ...options,
          endpoint,
          socket,
          turn,
          ended: (why) => counted.closed(why),
          wrong: (what, { message: cause }) => {
            log.say("warning", what, { endpoint: endpoint.key, cause })
            faults.note({ endpoint: endpoint.key, what, cause })
          }
        })
        connections.set(made, endpoint)
        return made
      }),
      (made) =>
        Effect.sync(() => {
          made.close("the connection was closed by the client")
          connections.delete(made)
          bytes.received += made.bytesRead
          bytes.sent += made.bytesWritten
        })
    )
    // Broken between its connecting and now: nobody will say so again.
    if (socket.destroyed) connection.close("the connection closed at once")
    return { send: connection.send, status: connection.status, open: Effect.void }
  })

/**
 * The transport of an HTTP stack. Fails with `InvalidOption` for an option out of its range; connecting, with `ConnectFailed`.
 *
 * A request that HTTP does not allow, or whose length could be read in two ways, fails with `Unsendable`, whose cause is an
 * `InvalidRequest`; one whose streamed body breaks, with `Unsendable`, whose cause is a `RequestBodyFailed`. 503 with Finagle's
 * `finagle-http-nack`, or `Retry-After: 0`, is `Nacked`, and sent again; with `finagle-http-nonretryable-nack` it is not. Any other status
 * is an answer. A connection that the server has closed before the request left says so (`reached: "no"`), and the request goes elsewhere.
 *
 * What is undici's, over HTTP/1.1: a connection ends after `HEAD`, and after a `GET` or `DELETE` with a body, since servers are known that
 * answer those with bytes which nobody expects; one whose server announces an end of its patience (`keep-alive: timeout=`) ends 2 seconds
 * before it, and when it has been idle for 600 seconds however late that is. Refused with `ProtocolError`, though RFC 9110 allows them or
 * leaves it open, are 100 Continue, for which nothing here asks; a `content-length` that is there twice, with the same number; and one with
 * blanks behind its number.
 *
 * Interrupting a call, its deadline, and cancelling a body that still comes close the connection over HTTP/1.1, and reset the stream over
 * HTTP/2; of a request with a body they close the connection there too, and a streamed body is refused with `Unsendable`: undici 8.12 on
 * Node 24 was seen to block the process for ever when such a stream is reset.
 */
export const layer = (
  options: HttpTransportOptions = {}
): Layer.Layer<"Http/Connector", InvalidOption, Stack> =>
  Layer.effect(
    HttpWire.Connector,
    Effect.gen(function*() {
      const stack = yield* Stack
      const http2 = options.http2 ?? false
      const finagle = options.finagle ?? false
      const connectTimeoutMillis = yield* durationMillis("connectTimeout", options.connectTimeout, 1000, 1)
      const maxHeaderBytes = yield* wholeNumber("maxHeaderBytes", options.maxHeaderBytes, 16_384, 256)
      const tls = options.tls === undefined ? undefined : yield* Tls.client(options.tls, http2 ? ["h2"] : [])
      // undici sets a global, and takes longer to load than all of this: not for whoever only imports it.
      const { Connection } = yield* Effect.promise(() => import("./internal/Connection.ts"))
      const connections = new Map<Connection, Endpoint>()
      const bytes = { received: 0, sent: 0 }
      const sum = (read: (connection: Connection) => number): number => {
        let all = 0
        for (const connection of connections.keys()) all += read(connection)
        return all
      }
      const counts = yield* Counts.make(stack, http2 ? "h2" : "http/1.1", () => sum(({ busy }) => busy))
      const stats = new TransportStats(stack, Counts.connectionEnds, () => ({
        receivedBytes: bytes.received + sum(({ bytesRead }) => bytesRead),
        sentBytes: bytes.sent + sum(({ bytesWritten }) => bytesWritten)
      }))
      yield* stats.show(stack)
      const shared: Shared = {
        open: (connection) => new Connection(connection),
        stack,
        connectTimeoutMillis,
        tls,
        connection: {
          http2,
          secure: tls !== undefined,
          maxHeaderBytes,
          counts,
          now: stack.now,
          fieldsFor: finagle
            ? (request, attempt) => finagleFields(request, attempt, stack.now(), stack.deadlines.ahead, stack.random)
            : givenFields
        },
        connections,
        bytes
      }
      yield* stack.register({
        role: "transport",
        description: http2 ? "HTTP/2, many calls on a connection" : "HTTP/1.1, one call at a time on a connection",
        options: Describe.given(options, {
          http2,
          connectTimeout: Describe.duration(connectTimeoutMillis),
          tls: tls?.description ?? "none",
          maxHeaderBytes,
          finagle
        }),
        snapshot: () => ({
          ...stats.snapshot,
          ...counts.snapshot,
          ...Describe.list("connections", connections, ([connection, endpoint]) => ({
            endpoint: endpoint.key,
            state: connection.status.state,
            busy: connection.busy
          }))
        })
      })
      return HttpWire.Connector.of({
        connect: (endpoint) => stats.counted((connection) => connect(shared, endpoint, connection))
      })
    })
  )
