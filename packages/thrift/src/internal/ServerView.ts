/** What a Thrift server shows of itself: its stages from the wire up, and its series. */
import { Describe, Metrics, ObservedServer } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { table } from "../metricTable.ts"
import type { Limits, Protocol } from "../Protocol.ts"
import type { Shape, ThriftServerCounts, ThriftServerOptions } from "../ThriftServer.ts"
import type { Framing } from "./Framing.ts"
import type { Served } from "./ServedConnection.ts"

/** Connections that `describe` shows one by one. */
const connectionsShown = 100

/** What is served, for `describe`. */
export interface Services {
  /** What the server is called by default. */
  readonly label: string
  /** Methods by service. */
  readonly methods: Readonly<Record<string, ReadonlyArray<string>>>
}

/** What it reads. */
interface ServerParts {
  readonly options: ThriftServerOptions
  readonly framing: Framing | "auto"
  readonly protocol: Protocol | "auto"
  readonly services: Services
  readonly limits: Limits
  readonly maxConnections: number
  readonly maxPipelined: number
  readonly idleMillis: number
  readonly drainMillis: number
  readonly tls: Readonly<Record<string, unknown>> | undefined
  readonly counts: ThriftServerCounts
  readonly served: ReadonlySet<Served>
  /** Connections that are being secured. */
  readonly securing: () => number
  /** Requests that run. */
  readonly running: () => number
  /** Where it listens; `undefined`: not yet, or not any more. */
  readonly listening: () => Shape["address"] | undefined
}

/** Shows it until the scope closes. */
export const showServer = (
  observed: ObservedServer.ObservedServer,
  parts: ServerParts
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { counts, listening, options, protocol, running, securing, served, tls } = parts
    yield* observed.show({
      connections: () => served.size,
      connects: () => counts.connections,
      refusedConnections: () => counts.refused,
      receivedBytes: () => counts.receivedBytes,
      sentBytes: () => counts.sentBytes,
      tlsHandshakes: () => counts.tlsHandshakes,
      tlsFailures: () => counts.insecure,
      protocolErrors: () => counts.oversized + counts.undecodable,
      expired: () => counts.expired,
      drains: () => counts.drains,
      aborted: () => counts.aborted
    })
    yield* Metrics.show(
      observed,
      Metrics.value(table["scales.thrift_server.outstanding"], running),
      Metrics.value(table["scales.thrift_server.upgrades"], () => counts.upgrades),
      Metrics.value(table["scales.thrift_server.oversized"], () => counts.oversized),
      Metrics.value(table["scales.thrift_server.undecodable"], () => counts.undecodable),
      Metrics.value(table["scales.thrift_server.idle_closed"], () => counts.idle)
    )
    yield* observed.register({
      role: "listener",
      description: "takes connections of Thrift clients",
      options: Describe.given(options, ObservedServer.listenerOptions(options)),
      snapshot: () => ({ listening: listening() !== undefined, ...listening() })
    })
    if (tls !== undefined) {
      yield* observed.register({
        role: "tls",
        description: "secures connections",
        options: Describe.given(options, { tls }),
        snapshot: () => ({ securing: securing(), handshakes: counts.tlsHandshakes, failures: counts.insecure })
      })
    }
    yield* observed.register({
      role: "connections",
      description: "Thrift connections, whose requests are answered in their order",
      options: Describe.given(options, {
        framing: parts.framing,
        protocol: protocol === "auto" ? protocol : protocol.name,
        upgrade: options.upgrade ?? true,
        maxPipelined: parts.maxPipelined,
        idleTimeout: parts.idleMillis === Infinity ? "never" : Describe.duration(parts.idleMillis)
      }),
      snapshot: () => ({
        open: served.size,
        served: counts.connections,
        refused: counts.refused,
        receivedBytes: counts.receivedBytes,
        sentBytes: counts.sentBytes,
        upgrades: counts.upgrades,
        oversized: counts.oversized,
        undecodable: counts.undecodable,
        idleClosed: counts.idle,
        connections: [...served].slice(0, connectionsShown).map(({ begunAt, outstanding, peer, secured }) => ({
          peer,
          secured,
          ageMillis: observed.elapsed() - begunAt,
          outstanding
        }))
      })
    })
    yield* observed.register({
      role: "limits",
      description: "refuses connections that are too many, and what is too long or too late",
      options: Describe.given(options, {
        maxConnections: ObservedServer.bound(parts.maxConnections),
        limits: parts.limits,
        drainTimeout: Describe.duration(parts.drainMillis)
      }),
      snapshot: () => ({ running: running(), expired: counts.expired, aborted: counts.aborted })
    })
    yield* observed.register({
      role: "service",
      description: "handlers by method",
      options: Describe.given(undefined, { methods: parts.services.methods }),
      snapshot: () => observed.calls.snapshot
    })
  })
