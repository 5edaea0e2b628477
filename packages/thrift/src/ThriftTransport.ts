/**
 * Opens plain Thrift connections over TCP or Unix sockets, secured if wanted: connect, Twitter's upgrade if it is asked for, each step
 * bounded in time. A connection carries one call at a time, and belongs under a pool that keeps to that (`WatermarkPool`).
 */
import {
  Describe,
  type Endpoint,
  type InvalidOption,
  Metrics,
  type RpcError,
  Stack,
  type StackShape
} from "@scales-rpc/core"
import { durationMillis } from "@scales-rpc/core/options"
import { type CountedConnection, Socket, Tls, TransportStats } from "@scales-rpc/core/socket"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Net from "node:net"
import {
  ClientConnection,
  type ConnectionCounts,
  type ConnectionEnd,
  connectionEnds
} from "./internal/ClientConnection.ts"
import { checkedFraming, type Framing, splitter } from "./internal/Framing.ts"
import { checkedLimits } from "./internal/limitOptions.ts"
import { UpgradeCodec } from "./internal/UpgradeCodec.ts"
import { table } from "./metricTable.ts"
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
  readonly stats: TransportStats<ConnectionEnd>
  readonly connections: Map<ClientConnection, Opened>
}

/** A connection as it is shown. */
interface Opened {
  readonly endpoint: Endpoint
  readonly counted: CountedConnection<ConnectionEnd>
}

const connect = (shared: Shared, endpoint: Endpoint, counted: CountedConnection<ConnectionEnd>) =>
  Effect.gen(function*() {
    const { connectTimeoutMillis, tls } = shared
    let receive: (chunk: Buffer) => void = () => {}
    const socket = yield* counted.socket(endpoint, { connectTimeoutMillis, tls, onRead: (chunk) => receive(chunk) })
    const turn = yield* Socket.turn
    const connection = yield* Effect.acquireRelease(
      Effect.callback<ClientConnection, RpcError>((resume) => {
        const connection = join(shared, { endpoint, counted }, socket, turn, (fault) => {
          resume(fault === undefined ? Effect.succeed(connection) : Effect.fail(fault))
        })
        shared.connections.set(connection, { endpoint, counted })
        receive = (chunk) => {
          shared.stats.receivedBytes += chunk.length
          connection.receive(chunk)
        }
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
  { counted, endpoint }: Opened,
  socket: Net.Socket,
  turn: (f: () => void) => void,
  onReady: (fault: RpcError | undefined) => void
): ClientConnection => {
  const { connectTimeoutMillis, framing, limits, protocol, stack, stats } = shared
  const connection = new ClientConnection({
    endpoint,
    sink: {
      write: (chunks, left) => {
        for (let i = 0; i < chunks.length; i++) stats.sentBytes += chunks[i]!.length
        write(socket, chunks, left)
      },
      taken: () => socket.writableLength === 0
    },
    framing,
    splitter: splitter(framing, protocol, limits.maxMessageBytes, limits.maxDepth),
    reader: shared.reader,
    upgrade: shared.upgrade,
    upgradeTimeoutMillis: connectTimeoutMillis,
    now: stack.now,
    deadlines: stack.deadlines,
    turn,
    counts: shared.counts,
    onReady: (fault) => {
      if (fault === undefined) counted.made()
      else {
        stack.log.say("warning", "no Thrift connection with a server", { endpoint: endpoint.key, cause: fault.message })
      }
      onReady(fault)
    },
    onGivenUp: () => {
      // A server takes a plain end for one of the client's half, and runs the call on: a reset says that nobody waits for the reply.
      // (TLS sockets and Unix sockets have none.)
      if (socket.remotePort !== undefined && !("encrypted" in socket)) socket.resetAndDestroy()
    },
    onEnd: (why, cause) => {
      shared.connections.delete(connection)
      counted.closed(why)
      if (why === "protocol_error") {
        const what = "a server broke the Thrift protocol"
        const text = cause instanceof Error ? cause.message : String(cause)
        stack.faults.note({ endpoint: endpoint.key, what, cause: text })
        stack.log.say("warning", what, { endpoint: endpoint.key, cause: text })
      }
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
        stats: new TransportStats(stack, connectionEnds),
        connections: new Map()
      }
      yield* stack.register({
        role: "transport",
        description: "plain Thrift over sockets, one call at a time on each",
        options: Describe.given(options, {
          framing,
          protocol: protocol.name,
          connectTimeout: Describe.duration(connectTimeoutMillis),
          tls: tls?.description,
          limits,
          upgrade
        }),
        snapshot: () => ({
          ...counts,
          ...shared.stats.snapshot,
          ...Describe.list("connections", shared.connections, ([connection, { counted, endpoint }]) => ({
            endpoint: endpoint.key,
            state: connection.status.state,
            busy: connection.busy,
            upgraded: connection.upgraded,
            ageMillis: counted.age
          }))
        })
      })
      yield* shared.stats.show(stack)
      yield* Metrics.show(
        stack,
        Metrics.value(table["scales.thrift.calls"], () => counts.calls),
        Metrics.value(table["scales.thrift.busy"], () => {
          let busy = 0
          for (const connection of shared.connections.keys()) if (connection.busy) busy++
          return busy
        }),
        Metrics.value(table["scales.thrift.abandoned"], () => counts.abandoned),
        Metrics.value(table["scales.thrift.idle_closed"], () => counts.idleClosed),
        Metrics.value(table["scales.thrift.protocol_errors"], () => counts.protocolErrors),
        Metrics.value(table["scales.thrift.upgrades"], () => counts.upgrades)
      )
      return ThriftWire.Connector.of({
        connect: (endpoint) => shared.stats.counted((counted) => connect(shared, endpoint, counted))
      })
    })
  )
