/** What the rounds come to: ratios with their targets, and costs. */
import { availableParallelism } from "node:os"
import type { AloneReport } from "./aloneReport.ts"
import { cpuOf, type Memory, type Timed } from "./Child.ts"
import type { OpenSeries } from "./openRounds.ts"
import type { ClientName } from "./peers.ts"
import { meets, otherTargets, type Ratio, type RatioName, ratioNames, ratios, type Target } from "./ratios.ts"
import type { CostResult, CostResults, LatencyResult, Results } from "./results.ts"
import type { Absent, CellSeries, SceneSeries } from "./rounds.ts"
import type { Level, SceneName } from "./scenes.ts"
import { neighbourRatios, summarize, type Summary } from "./statistics.ts"

/** All that a run has seen. */
export interface Seen {
  readonly scenes: ReadonlyArray<SceneSeries>
  /** `undefined`, as `alone`: not asked for. */
  readonly open: OpenSeries | undefined
  readonly alone: AloneReport | undefined
  readonly absent: Absent
}

/** How long calls took: each quantile is the median of what the windows had. */
export interface LatencySummary {
  readonly p50Micros: number
  readonly p99Micros: number
  readonly p999Micros: number
  readonly callsPerSecond: number
}

/** One client with one number of calls in flight. */
export interface Cost {
  readonly client: ClientName
  readonly level: Level
  /** User and system time together. */
  readonly microsPerCall: Summary
  readonly userMicros: number
  readonly systemMicros: number
  readonly callsPerSecond: Summary
  /** `undefined` where nobody looked. */
  readonly latency: LatencySummary | undefined
  /** Allocated a call; `undefined` where nobody looked, or the language does not count it. */
  readonly allocatedBytes: number | undefined
  readonly residentBytes: number | undefined
}

/** What one scene came to. */
export interface SceneReport {
  readonly scene: SceneName
  readonly rounds: number
  readonly costs: ReadonlyArray<Cost>
}

/** A number that the benchmark is for. */
export interface Found {
  readonly key: string
  /** `undefined`: it is no ratio of CPU. */
  readonly ratio: Ratio | undefined
  readonly value: number
  /** `undefined`: measured alone, in rounds of its own. */
  readonly quartiles: readonly [lower: number, upper: number] | undefined
  readonly target: Target | undefined
  /** `undefined` without a target. */
  readonly met: boolean | undefined
}

/** Calls at a fixed rate. */
export interface OpenReport {
  /** Calls a second: half of our highest, the median of the rounds. */
  readonly rate: number
  readonly ours: LatencySummary
  readonly floor: LatencySummary
  readonly low: ReadonlyArray<{ readonly client: ClientName; readonly latency: LatencySummary }>
}

/** All that a run has found. */
export interface Report {
  readonly found: ReadonlyArray<Found>
  readonly scenes: ReadonlyArray<SceneReport>
  /** `undefined`, as `alone`: not asked for. */
  readonly open: OpenReport | undefined
  readonly alone: AloneReport | undefined
  readonly absent: Absent
  readonly machine: { readonly node: string; readonly platform: string; readonly cores: number }
}

const median = (values: ReadonlyArray<number>): number => summarize(values).median

const latencyOf = (timed: ReadonlyArray<Timed>): LatencySummary => ({
  p50Micros: median(timed.map(({ p50 }) => p50)),
  p99Micros: median(timed.map(({ p99 }) => p99)),
  p999Micros: median(timed.map(({ p999 }) => p999)),
  callsPerSecond: median(timed.map(({ callsPerSecond }) => callsPerSecond))
})

const bytesOf = (memory: ReadonlyArray<Memory>, which: keyof Memory): number | undefined => {
  const known = memory.map((each) => each[which]).filter((bytes) => bytes !== null)
  return known.length === 0 ? undefined : median(known)
}

const costOf = ({ client, level, memory, samples, timed }: CellSeries): Cost => ({
  client,
  level,
  microsPerCall: summarize(samples.map(cpuOf)),
  userMicros: median(samples.map(({ userMicros }) => userMicros)),
  systemMicros: median(samples.map(({ systemMicros }) => systemMicros)),
  callsPerSecond: summarize(samples.map(({ callsPerSecond }) => callsPerSecond)),
  latency: timed.length === 0 ? undefined : latencyOf(timed),
  allocatedBytes: bytesOf(memory, "allocatedBytes"),
  residentBytes: bytesOf(memory, "residentBytes")
})

const judged = (
  key: string,
  ratio: Ratio | undefined,
  value: number,
  quartiles: Found["quartiles"],
  target: Target | undefined
): Found => ({ key, ratio, value, quartiles, target, met: target === undefined ? undefined : meets(value, target) })

const summarized = (key: string, ratio: Ratio | undefined, values: ReadonlyArray<number>, target?: Target): Found => {
  const { median, quartiles } = summarize(values)
  return judged(key, ratio, median, quartiles, target)
}

/** Of a ratio both of whose sides were measured. */
const foundOf = (name: RatioName, scenes: ReadonlyArray<SceneSeries>): Found | undefined => {
  const ratio: Ratio = ratios[name]
  const series = scenes.find(({ scene }) => scene === ratio.scene)
  const of = (client: ClientName) =>
    series?.cells.find((cell) => cell.client === client && cell.level === ratio.level)?.samples.map(cpuOf)
  const above = of(ratio.above)
  const below = of(ratio.below)
  if (above === undefined || below === undefined) return undefined
  return summarized(name, ratio, neighbourRatios(above, below), ratio.target)
}

const openOf = ({ floor, low, ours, rates }: OpenSeries): OpenReport => ({
  rate: median(rates),
  ours: latencyOf(ours),
  floor: latencyOf(floor),
  low: Array.from(low, ([client, timed]) => ({ client, latency: latencyOf(timed) }))
})

/** Sums up what was seen. */
export const reportOf = ({ absent, alone, open, scenes }: Seen): Report => {
  const cpu = ratioNames.map((name) => foundOf(name, scenes)).filter((found) => found !== undefined)
  const p99 = (timed: ReadonlyArray<Timed>) => timed.map(({ p99 }) => p99)
  return {
    found: [
      ...cpu,
      ...(open === undefined
        ? []
        : [summarized("p99", undefined, neighbourRatios(p99(open.ours), p99(open.floor)), otherTargets["p99"])]),
      ...Object.entries(alone?.ratios ?? {}).map(([key, value]) =>
        judged(key, undefined, value, undefined, otherTargets[key])
      )
    ],
    scenes: scenes.map(({ cells, rounds, scene }) => ({ scene, rounds, costs: cells.map(costOf) })),
    open: open === undefined ? undefined : openOf(open),
    alone,
    absent,
    machine: { node: process.version, platform: `${process.platform} ${process.arch}`, cores: availableParallelism() }
  }
}

const rounded = (value: number): number => Number(value.toPrecision(4))

const latencyResult = ({ callsPerSecond, p50Micros, p999Micros, p99Micros }: LatencySummary): LatencyResult => ({
  p50Micros: rounded(p50Micros),
  p99Micros: rounded(p99Micros),
  p999Micros: rounded(p999Micros),
  callsPerSecond: Math.round(callsPerSecond)
})

const roundedPair = ([lower, upper]: readonly [number, number]): readonly [number, number] => [
  rounded(lower),
  rounded(upper)
]

const costResult = (cost: Cost): CostResult => ({
  microsPerCall: rounded(cost.microsPerCall.median),
  quartiles: roundedPair(cost.microsPerCall.quartiles),
  userMicros: rounded(cost.userMicros),
  systemMicros: rounded(cost.systemMicros),
  callsPerSecond: Math.round(cost.callsPerSecond.median),
  ...(cost.latency === undefined ? {} : { latency: latencyResult(cost.latency) }),
  ...(cost.allocatedBytes === undefined ? {} : { allocatedBytes: Math.round(cost.allocatedBytes) }),
  ...(cost.residentBytes === undefined ? {} : { residentBytes: Math.round(cost.residentBytes) })
})

/** By client, and then by calls in flight. */
const costResults = (costs: ReadonlyArray<Cost>): CostResults => {
  const byClient: { [name in ClientName]?: Record<string, CostResult> } = {}
  for (const cost of costs) (byClient[cost.client] ??= {})[cost.level] = costResult(cost)
  return byClient
}

const openResult = ({ floor, low, ours, rate }: OpenReport): NonNullable<Results["open"]> => ({
  rate: Math.round(rate),
  ours: latencyResult(ours),
  floor: latencyResult(floor),
  low: Object.fromEntries(low.map(({ client, latency }) => [client, latencyResult(latency)]))
})

/** Scenes whose clients are of one struct of 86 bytes and of as few servers as can be; no client is in two of them. */
const plain: ReadonlyArray<SceneName> = ["mux", "framed", "http"]

/** The report for machines: times in microseconds, quartiles beside each median. */
export const resultsOf = ({ absent, alone, found, machine, open, scenes }: Report): Results => {
  const roundsOf = (name: SceneName) => scenes.find(({ scene }) => scene === name)?.rounds ?? 0
  return {
    ratios: Object.fromEntries(found.map(({ key, value }) => [key, rounded(value)])),
    quartiles: Object.fromEntries(
      found.flatMap(({ key, quartiles }) => quartiles === undefined ? [] : [[key, roundedPair(quartiles)]])
    ),
    targets: Object.fromEntries(
      found.flatMap(({ key, met, target }) =>
        target === undefined || met === undefined ? [] : [[key, { ...target, met }]]
      )
    ),
    clients: costResults(scenes.flatMap(({ costs, scene }) => plain.includes(scene) ? costs : [])),
    scenes: Object.fromEntries(
      scenes.flatMap(({ costs, scene }) => plain.includes(scene) ? [] : [[scene, costResults(costs)]])
    ),
    ...(open === undefined ? {} : { open: openResult(open) }),
    ...(alone === undefined ? {} : { alone: alone.details }),
    absent: Object.fromEntries(absent),
    rounds: roundsOf("mux"),
    framedRounds: roundsOf("framed"),
    httpRounds: roundsOf("http"),
    node: machine.node,
    platform: machine.platform,
    cores: machine.cores
  }
}
