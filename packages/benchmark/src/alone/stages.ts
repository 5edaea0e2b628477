/**
 * Where the time of one call goes: a CPU profile of the client through the default stack, its samples summed up by the stage whose code ran. Time in native
 * code is told apart by what called it.
 */
import { readFile } from "node:fs/promises"
import { relative } from "node:path"
import { fileURLToPath } from "node:url"
import { profile } from "../profile.ts"
import type { Extent } from "./isolated.ts"

/** The parts of a `.cpuprofile` that are read here. */
export interface CpuProfile {
  readonly nodes: ReadonlyArray<{
    readonly id: number
    readonly callFrame: { readonly functionName: string; readonly url: string }
    readonly children?: ReadonlyArray<number>
  }>
  readonly samples: ReadonlyArray<number>
  /** Microseconds from each sample to the one before it. */
  readonly timeDeltas: ReadonlyArray<number>
}

/** The stages, from the caller down, and what surrounds them. */
export const stages = [
  "the caller: the benchmark's loop, and what checks replies",
  "typed client and dispatcher: call, deadline, span",
  "metrics",
  "codec: Thrift",
  "retries, requeues, admission",
  "balancer",
  "pool, resurrector, failure accrual",
  "mux session: frames, tags, exchanges",
  "Effect's runtime",
  "Node's sockets and streams, in JavaScript",
  "writing to the socket: the system call",
  "reading from the socket, timers, microtasks: native code",
  "garbage collection"
] as const

/** The name of a stage. */
export type StageName = (typeof stages)[number]

/** By path from the root of the repository; the first that fits. */
const byPath: ReadonlyArray<readonly [RegExp, StageName]> = [
  [
    /^packages\/core\/(src|dist)\/(internal\/)?(CallStats|ConnectionStats|TransportStats|LatencyHistogram|Metrics|metricTable|Observed|StateLog)\b/,
    "metrics"
  ],
  [
    /^packages\/core\/(src|dist)\/(Balancer|Member|Aperture|HeapBalancer|P2C|PeakEwma|RoundRobin|Deterministic)/,
    "balancer"
  ],
  [
    /^packages\/core\/(src|dist)\/internal\/(AperturePicker|Expiry|Heap|IndexedHeap|MovingAverage|RankedSet|tried)\b/,
    "balancer"
  ],
  [
    /^packages\/core\/(src|dist)\/(SingletonPool|WatermarkPool|Resurrector|FailureAccrual|AccrualPolicy|Status)\b/,
    "pool, resurrector, failure accrual"
  ],
  [/^packages\/core\/(src|dist)\/internal\/(WindowedCount|EndpointPool|Ema)\b/, "pool, resurrector, failure accrual"],
  [/^packages\/core\/(src|dist)\/(Requeue|Retry|RetryBudget|NackAdmission|Hedge)\b/, "retries, requeues, admission"],
  [/^packages\/core\/(src|dist)\/socket\//, "Node's sockets and streams, in JavaScript"],
  [/^packages\/core\//, "typed client and dispatcher: call, deadline, span"],
  [
    /^packages\/thrift\/(src|dist)\/(ThriftClient|ThriftService|ThriftWire|Thrift)\./,
    "typed client and dispatcher: call, deadline, span"
  ],
  [/^packages\/(thrift|examples)\/|(^|\/)node_modules\/(thrift|node-int64)\//, "codec: Thrift"],
  [/^packages\/mux\//, "mux session: frames, tags, exchanges"],
  [/^packages\/thriftmux\//, "typed client and dispatcher: call, deadline, span"],
  [/^packages\/benchmark\//, "the caller: the benchmark's loop, and what checks replies"],
  [/(^|\/)node_modules\/effect\//, "Effect's runtime"]
]

/** Native functions that are system calls of a socket that is written to. */
const writes = /^(write|shutdown)/

const root = fileURLToPath(new URL("../../../..", import.meta.url))

/** Where a function of JavaScript is, from the root of the repository; `undefined` for a native one. */
const pathOf = (url: string): string | undefined =>
  url.startsWith("file:") ? relative(root, fileURLToPath(url)) : url === "" ? undefined : url

const stageOfPath = (path: string): StageName =>
  path.startsWith("node:")
    ? "Node's sockets and streams, in JavaScript"
    : byPath.find(([pattern]) => pattern.test(path))?.[1] ?? "the caller: the benchmark's loop, and what checks replies"

/** One stage: its share of all the time that the process worked. */
export interface StageShare {
  readonly stage: StageName
  readonly percent: number
}

/** Sums up a profile by stage, in their order. */
export const stagesOf = (profile: CpuProfile): ReadonlyArray<StageShare> => {
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]))
  const parents = new Map(profile.nodes.flatMap(({ children, id }) => (children ?? []).map((child) => [child, id])))
  const known = new Map<number, StageName | undefined>()
  /** What ran when a sample was taken; `undefined`: nothing of the client's. */
  const stageOf = (id: number): StageName | undefined => {
    const { callFrame: { functionName, url } } = nodes.get(id)!
    if (functionName === "(idle)" || functionName === "(root)" || url === "node:inspector") return undefined
    if (functionName === "(garbage collector)") return "garbage collection"
    if (functionName === "(program)") return "reading from the socket, timers, microtasks: native code"
    const path = pathOf(url)
    if (path !== undefined) return stageOfPath(path)
    if (writes.test(functionName)) return "writing to the socket: the system call"
    // A builtin works for whoever called it.
    const parent = parents.get(id)
    const caller = parent === undefined ? undefined : nodes.get(parent)!.callFrame
    return parent === undefined || caller?.functionName === "(root)"
      ? "reading from the socket, timers, microtasks: native code"
      : memoized(parent)
  }
  const memoized = (id: number): StageName | undefined => {
    if (!known.has(id)) known.set(id, stageOf(id))
    return known.get(id)
  }
  const micros = new Map<StageName, number>()
  let total = 0
  for (const [i, id] of profile.samples.entries()) {
    const stage = memoized(id)
    if (stage === undefined) continue
    const time = Math.max(0, profile.timeDeltas[i]!)
    total += time
    micros.set(stage, (micros.get(stage) ?? 0) + time)
  }
  return stages.map((stage) => ({ stage, percent: total === 0 ? 0 : 100 * (micros.get(stage) ?? 0) / total }))
}

/** With so many calls in flight. */
export interface StagesReport {
  readonly inFlight: 1 | 64
  readonly shares: ReadonlyArray<StageShare>
}

/** Profiles the default client; `quick` measures nothing. */
export const measureStages = async (
  extent: Extent,
  progress: (line: string) => void
): Promise<ReadonlyArray<StagesReport>> => {
  if (extent === "quick") return []
  const reports: Array<StagesReport> = []
  for (const inFlight of [1, 64] as const) {
    progress(`where the time goes: ${inFlight} in flight`)
    const { file } = await profile("ours", inFlight, extent === "full" ? 10_000 : 3000)
    reports.push({ inFlight, shares: stagesOf(JSON.parse(await readFile(file, "utf8")) as CpuProfile) })
  }
  return reports
}
