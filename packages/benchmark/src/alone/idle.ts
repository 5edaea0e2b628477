/**
 * What an endpoint costs in memory that nothing is asked of: one that no call has come to, one that has been called and has lost its connection
 * since (its sink is made: pool, resurrector, failure accrual; what the target is of), and one that is connected. By the heap after garbage
 * collection, of two sizes of the set, so that what a client costs whatever its size cancels out.
 */
import { Endpoint, RoundRobin, ServerSet, StatusCell } from "@scales-rpc/core"
import { Mux, type MuxRequest } from "@scales-rpc/mux"
import { MessageType } from "@scales-rpc/thrift"
import { ThriftMux } from "@scales-rpc/thriftmux"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { Echo, method, workOf } from "../workload.ts"
import { answering, type Extent, heapAfterGc, isolated } from "./isolated.ts"
import { startServers } from "./muxServers.ts"

/** What an endpoint has been through. */
export type IdleKind = "untouched" | "called" | "connected"

/** Bytes of heap for each endpoint. */
export interface IdleCost {
  readonly kind: IdleKind
  readonly bytes: number
  /** The sizes that were compared. */
  readonly endpoints: readonly [number, number]
}

/** All kinds, and what the target is of: `called`. */
export interface IdleReport {
  readonly costs: ReadonlyArray<IdleCost>
  readonly ratios: { readonly idleEndpointBytes: number }
}

interface Task {
  readonly kind: IdleKind
  readonly endpoints: readonly [number, number]
  readonly ports: ReadonlyArray<number>
}

const { message } = workOf(86)

/** The reply to a call of `T f(1: T)`: its own bytes, but for the type of the message and the number of the field. */
const replyTo = ({ body }: MuxRequest): Uint8Array => {
  const reply = Uint8Array.from(body)
  reply[3] = MessageType.REPLY
  reply[((reply[6]! << 8) | reply[7]!) + 14] = 0
  return reply
}

/** Connections that are nothing but open, and answer at once; all are closed together, without a fault. */
const stubs = () => {
  const open: Array<StatusCell> = []
  const transport = Layer.sync(Mux.Connector, () =>
    Mux.Connector.of({
      connect: () =>
        Effect.sync(() => {
          const status = new StatusCell("Open")
          open.push(status)
          return {
            status,
            open: Effect.void,
            send: (request) => Effect.sync(() => ({ body: replyTo(request), contexts: [] }))
          }
        })
    }))
  return {
    transport,
    closeAll: () => {
      for (const status of open.splice(0)) status.set("Closed")
    }
  }
}

/** The text in one piece, as one that was read is, and not as the pieces that it was put together from. */
const flat = (text: string): string => Buffer.from(text).toString("latin1")

/** A client of so many endpoints of a kind; it is given back so that it is kept. */
const client = async (kind: IdleKind, ports: ReadonlyArray<number>, size: number): Promise<() => Promise<void>> => {
  const { closeAll, transport } = stubs()
  const endpoints = kind === "connected"
    ? ports.slice(0, size).map((port) => Endpoint.tcp("127.0.0.1", port))
    : Array.from({ length: size }, (_, i) => Endpoint.tcp(flat(`10.0.${i >> 8}.${i & 255}`), 8080))
  const runtime = ManagedRuntime.make(ThriftMux.layer(Echo, {
    serverSet: ServerSet.fixed(endpoints),
    balancer: RoundRobin.layer(Mux),
    ...(kind === "connected" ? {} : { transport })
  }))
  const echo = await runtime.runPromise(Echo)
  if (kind !== "untouched") {
    // In turn: each of them gets one.
    await runtime.runPromise(
      Effect.all(endpoints.map(() => echo[method](message)), { concurrency: 16, discard: true })
    )
    closeAll()
  }
  return () => runtime.dispose()
}

const measureOne = async ({ endpoints, kind, ports }: Task): Promise<IdleCost> => {
  await (await client(kind, ports, 20))()
  const held: Array<() => Promise<void>> = []
  const heaps: Array<number> = []
  for (const size of endpoints) {
    const before = await heapAfterGc()
    held.push(await client(kind, ports, size))
    heaps.push(await heapAfterGc() - before)
  }
  for (const close of held) await close()
  return { kind, bytes: Math.round((heaps[1]! - heaps[0]!) / (endpoints[1] - endpoints[0])), endpoints }
}

/** Measures each kind in a process of its own; `quick` only what the target is of. */
export const measureIdle = async (extent: Extent, progress: (line: string) => void): Promise<IdleReport> => {
  const costs: Array<IdleCost> = []
  const kinds: ReadonlyArray<IdleKind> = extent === "quick" ? ["called"] : ["untouched", "called", "connected"]
  for (const kind of kinds) {
    progress(`an idle endpoint: ${kind}`)
    const endpoints = kind === "connected" ? [200, 800] as const : [1_000, 10_000] as const
    const servers = kind === "connected" ? await startServers(endpoints[1]) : undefined
    try {
      const task: Task = { kind, endpoints, ports: servers?.ports ?? [] }
      costs.push(await isolated<IdleCost>(import.meta.url, task, ["--expose-gc"]))
    } finally {
      await servers?.stop()
    }
  }
  return { costs, ratios: { idleEndpointBytes: costs.find(({ kind }) => kind === "called")!.bytes } }
}

answering(import.meta, measureOne)
