/**
 * Opens plain Thrift connections over TCP or Unix sockets, secured if wanted: connect, Twitter's upgrade if it is asked for, each step
 * bounded in time. A connection carries one call at a time, and belongs under a pool that keeps to that (`WatermarkPool`).
 */
import { type Endpoint, type InvalidOption, type RpcError, Stack, type StackShape } from "@scales-rpc/core"
import { durationMillis } from "@scales-rpc/core/options"
import { Socket, Tls } from "@scales-rpc/core/socket"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Net from "node:net"
import { ClientConnection, type ConnectionCounts } from "./internal/ClientConnection.ts"
import { checkedFraming, type Framing, splitter } from "./internal/Framing.ts"
import { checkedLimits } from "./internal/limitOptions.ts"
import { UpgradeCodec } from "./internal/UpgradeCodec.ts"
import type { Limits, Protocol, ProtocolReader } from "./Protocol.ts"
import * as Protocols from "./Protocols.ts"
import { checkedUpgrade, type ThriftUpgradeOptions } from "./ThriftUpgrade.ts"
import { ThriftWire } from "./ThriftWire.ts"

export type { Framing } from "./internal/Framing.ts"

/** Options of the transport. */
export interface ThriftTransportOptions {
  /** How messages are told apart; the server must do the same. Default `"framed"`. */
  readonly framing?: Framing | undefined
  /** What the messages are written in, as `Thrift.client` was told. Default `Protocols.binary`. */
  readonly protocol?: Protocol | undefined
  /**
   * How long resolving and connecting may take, and then the answer to the upgrade if it is asked for; a TLS handshake has a limit of
   * its own. Default 1 second.
   */
  readonly connectTimeout?: Duration.Input | undefined
  /** TLS from the first byte on. Default: none. */
  readonly tls?: Tls.TlsClientOptions | undefined
  /**
   * What is accepted from a server; the defaults are those of `Limits`. A reply of more than `maxMessageBytes` ends its connection, with a
   * `ProtocolError`, before anything is allocated for it.
   */
  readonly limits?: Limits | undefined
  /** Twitter's upgrade, over `"framed"` only: `true`, or its options. Default: it is not asked for. */
  readonly upgrade?: ThriftUpgradeOptions | boolean | undefined
}

/** What all connections of a transport share. */
interface Shared {
  readonly stack: StackShape
  readonly framing: Framing
  readonly protocol: Protocol
  readonly connectTimeoutMillis: number
  readonly tls: Tls.TlsClient | undefined
  readonly limits: Required<Limits>
  readonly reader: ProtocolReader
  readonly upgrade: UpgradeCodec | undefined
  readonly counts: ConnectionCounts
  readonly connections: Map<ClientConnection, Endpoint>
}

const connect = (shared: Shared, endpoint: Endpoint) =>
  Effect.gen(function*() {
    const { connectTimeoutMillis, tls } = shared
    let receive: (chunk: Buffer) => void = () => {}
    const socket = yield* Socket.open(endpoint, { connectTimeoutMillis, tls, onRead: (chunk) => receive(chunk) })
    const connection = yield* Effect.acquireRelease(
      Effect.callback<ClientConnection, RpcError>((resume) => {
        const connection = join(shared, endpoint, socket, (fault) => {
          resume(fault === undefined ? Effect.succeed(connection) : Effect.fail(fault))
        })
        shared.connections.set(connection, endpoint)
        receive = (chunk) => connection.receive(chunk)
        socket.resume()
        connection.start()
        // Broken between its connecting and now: nobody will say so again.
        if (socket.destroyed) connection.connectionLost(socket.errored ?? undefined)
        return Effect.sync(() => connection.close("the attempt to connect was given up"))
      }),
      (connection) => Effect.sync(() => connection.close("the connection was closed by the client")),
      { interruptible: true }
    )
    return { send: connection.send, status: connection.status, open: Effect.void }
  })

/** Joins a socket and a connection. */
const join = (
  shared: Shared,
  endpoint: Endpoint,
  socket: Net.Socket,
  onReady: (fault: RpcError | undefined) => void
): ClientConnection => {
  const { connectTimeoutMillis, framing, limits, protocol, stack } = shared
  const connection = new ClientConnection({
    endpoint,
    sink: { write: (chunks, left) => write(socket, chunks, left) },
    framing,
    splitter: splitter(framing, protocol, limits.maxMessageBytes, limits.maxDepth),
    reader: shared.reader,
    upgrade: shared.upgrade,
    upgradeTimeoutMillis: connectTimeoutMillis,
    now: stack.now,
    deadlines: stack.deadlines,
    counts: shared.counts,
    onReady,
    onGivenUp: () => {
      // A server takes a plain end for one of the client's half, and runs the call on: a reset says that nobody waits for the reply.
      // (TLS sockets and Unix sockets have none.)
      if (socket.remotePort !== undefined && !("encrypted" in socket)) socket.resetAndDestroy()
    },
    onEnd: () => {
      shared.connections.delete(connection)
      // Half a request is of no use to anybody.
      socket.destroy()
    }
  })
  let cause: unknown
  const lost = () => connection.connectionLost(Tls.lateFailure(cause) ?? cause)
  // Whatever it says, it is destroyed by then; that it is closed comes only later.
  socket.on("error", (error) => {
    cause = error
    lost()
  })
  socket.once("end", lost)
  socket.once("close", lost)
  return connection
}

/** All chunks in one write. */
const write = (socket: Net.Socket, chunks: ReadonlyArray<Uint8Array>, left: (() => void) | undefined): void => {
  const written = left === undefined ? undefined : (error: Error | null | undefined) => {
    if (error === null || error === undefined) left()
  }
  const last = chunks.length - 1
  if (last > 0) socket.cork()
  for (let i = 0; i < last; i++) socket.write(chunks[i]!)
  socket.write(chunks[last]!, written)
  if (last > 0) socket.uncork()
}

/**
 * The transport of a plain Thrift stack. Fails with `InvalidOption` for an option out of its range; connecting, with
 * `ConnectFailed`.
 *
 * The reply to a call must carry its sequence id and its method's name, or the call fails with `ProtocolError`; a call that is interrupted or
 * timed out while its reply is awaited takes its connection with it, and so does a byte that no call has asked for: what
 * comes late meets nobody.
 */
export const layer = (
  options: ThriftTransportOptions = {}
): Layer.Layer<"Thrift/Connector", InvalidOption, Stack> =>
  Layer.effect(
    ThriftWire.Connector,
    Effect.gen(function*() {
      const stack = yield* Stack
      const protocol = options.protocol ?? Protocols.binary
      const framing = yield* checkedFraming(options.framing, protocol)
      const limits = yield* checkedLimits("limits", options.limits)
      const connectTimeoutMillis = yield* durationMillis("connectTimeout", options.connectTimeout, 1000, 1)
      const tls = options.tls === undefined ? undefined : yield* Tls.client(options.tls)
      const upgrade = yield* checkedUpgrade(options.upgrade, framing)
      const counts: ConnectionCounts = { calls: 0, abandoned: 0, idleClosed: 0, protocolErrors: 0, upgrades: 0 }
      const shared: Shared = {
        stack,
        framing,
        protocol,
        connectTimeoutMillis,
        tls,
        limits,
        reader: protocol.reader(limits),
        upgrade: upgrade && new UpgradeCodec(protocol.writer(limits), upgrade.clientId, stack.random),
        counts,
        connections: new Map()
      }
      yield* stack.register({
        role: "transport",
        description: "plain Thrift over sockets, one call at a time on each",
        options: { framing, protocol: protocol.name, connectTimeoutMillis, tls: tls?.description, limits, upgrade },
        snapshot: () => ({
          ...counts,
          connections: Array.from(shared.connections, ([connection, endpoint]) => ({
            endpoint: endpoint.key,
            state: connection.status.state,
            busy: connection.busy,
            upgraded: connection.upgraded
          }))
        })
      })
      return ThriftWire.Connector.of({ connect: (endpoint) => connect(shared, endpoint) })
    })
  )
