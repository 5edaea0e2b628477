/** The plots of `docs/performance`, from the results of a run. */
import { type ClientName, clients } from "../peers.ts"
import type { LatencyResult, Results } from "../results.ts"
import { scenes } from "../scenes.ts"
import { bars } from "./bars.ts"
import { dots } from "./dots.ts"
import { lines, type Series } from "./lines.ts"

const titleOf = (name: ClientName): string => clients[name].title

/** Of clients over mux and beside it: those that were measured. */
const measured = ({ clients: costs }: Results, level: number) =>
  scenes.mux.clients.flatMap((name) => {
    const cost = costs[name]?.[level]
    return cost === undefined ? [] : [{ name, cost }]
  })

const cpu = (results: Results): string | undefined => {
  const all = measured(results, 64)
  const ours = all.find(({ name }) => name === "ours")
  if (ours === undefined) return undefined
  return bars({
    title: "CPU of the client for a call, 64 calls in flight",
    description: `Microseconds of CPU a call, by client: ${
      all.map(({ cost, name }) => `${titleOf(name)} ${cost.microsPerCall}`).join(", ")
    }.`,
    axis: "CPU a call, user and system, in microseconds (µs); whiskers: half of the rounds",
    unit: " µs",
    bars: all.toSorted((a, b) => a.cost.microsPerCall - b.cost.microsPerCall).map(({ cost, name }) => ({
      name: titleOf(name),
      value: cost.microsPerCall,
      quartiles: cost.quartiles,
      ours: name.startsWith("ours")
    }))
  })
}

/** What the ratios of CPU with a target, and their like, are of: how many times ours. */
const peers = ["thriftNpm", "grpcJs", "effectRpc", "undiciJson", "finagle", "scalesPython"] as const

const ratioBars = ({ quartiles, ratios }: Results): string | undefined => {
  const found = peers.flatMap((key) => ratios[key] === undefined ? [] : [{ key, value: ratios[key] }])
  const floor = ratios["floor64"]
  if (floor === undefined) return undefined
  const [lower, upper] = quartiles["floor64"]!
  const all = [
    { name: titleOf("floor"), value: 1 / floor, quartiles: [1 / upper, 1 / lower] as const },
    { name: titleOf("ours"), value: 1, ours: true },
    ...found.toSorted((a, b) => a.value - b.value).map(({ key, value }) => ({
      name: titleOf(key),
      value,
      quartiles: quartiles[key]
    }))
  ]
  return bars({
    title: "CPU a call, as a multiple of ours, 64 calls in flight",
    description: all.map(({ name, value }) => `${name} ${value.toPrecision(3)}`).join(", "),
    axis: "CPU a call / that of ours, each from neighbouring rounds; whiskers: half of the rounds",
    unit: "×",
    bars: all
  })
}

const levels = ({ clients: costs }: Results): string | undefined => {
  const series = scenes.mux.clients.flatMap((name): ReadonlyArray<Series> => {
    // What differs from ours in an option only lies on its line.
    if (name === "oursQuiet" || name === "oursTraced") return []
    const points = scenes.mux.levels.flatMap((level) => {
      const cost = costs[name]?.[level]
      return cost === undefined ? [] : [[level, cost.microsPerCall] as const]
    })
    return points.length === 0 ? [] : [{ name: titleOf(name), points }]
  })
  if (series.length === 0) return undefined
  return lines({
    title: "CPU a call, by calls in flight",
    description:
      "Microseconds of CPU a call for each client with 1, 8, 64 and 512 calls in flight; both axes logarithmic.",
    xAxis: "calls in flight",
    yAxis: "CPU a call, µs",
    x: "logarithmic",
    y: "logarithmic",
    series
  })
}

const percentiles = ["p50", "p99", "p99.9"]

const latencies = (
  title: string,
  all: ReadonlyArray<{ readonly name: ClientName; readonly latency: LatencyResult | undefined }>
): string | undefined => {
  const rows = all.flatMap(({ latency, name }) =>
    latency === undefined
      ? []
      : [{ name: titleOf(name), values: [latency.p50Micros, latency.p99Micros, latency.p999Micros] }]
  )
  if (rows.length === 0) return undefined
  return dots({
    title,
    description: rows.map(({ name, values }) =>
      `${name}: ${values.map((value, i) => `${percentiles[i]} ${value} µs`).join(", ")}`
    )
      .join("; "),
    axis: "time of a call in microseconds (µs), logarithmic",
    marks: percentiles,
    rows: rows.toSorted((a, b) => a.values[1]! - b.values[1]!)
  })
}

const closed = (results: Results): string | undefined =>
  latencies(
    "How long a call takes: closed loop, 64 in flight",
    measured(results, 64).map(({ cost, name }) => ({ name, latency: cost.latency }))
  )

const open = ({ open }: Results): string | undefined =>
  open === undefined ? undefined : latencies(
    "How long a call takes: open loop, 1,000 calls a second",
    Object.entries(open.low).map(([name, latency]) => ({ name: name as ClientName, latency }))
  )

const pick = ({ alone }: Results): string | undefined => {
  const costs = alone?.pick.costs ?? []
  const names = [...new Set(costs.map(({ balancer }) => balancer))]
  if (names.length === 0) return undefined
  return lines({
    title: "A pick and its release, by endpoints",
    description:
      "Microseconds of CPU for a pick with its load counted and given back, by balancer and number of endpoints.",
    xAxis: "endpoints in the set, logarithmic",
    yAxis: "CPU a pick, µs",
    x: "logarithmic",
    y: "linear",
    series: names.map((name) => ({
      name,
      points: costs.filter(({ balancer }) => balancer === name).map((
        { endpoints, micros }
      ) => [endpoints, micros.median])
    })),
    aim: { value: 1, name: "the target among 10,000" }
  })
}

const soak = ({ alone }: Results): string | undefined => {
  const points = alone?.soak?.points ?? []
  if (points.length === 0) return undefined
  return lines({
    title: "The heap in a soak",
    description: `Heap after garbage collection: ${
      points.map(({ calls, heapBytes }) => `${(heapBytes / 1e6).toFixed(2)} MB after ${calls} calls`).join(", ")
    }.`,
    xAxis: "calls, in thousands",
    yAxis: "heap after garbage collection, MB",
    x: "linear",
    y: "linear",
    series: [{ name: "heap", points: points.map(({ calls, heapBytes }) => [calls / 1000, heapBytes / 1e6]) }]
  })
}

const stages = ({ alone, clients: costs }: Results): string | undefined => {
  const report = alone?.stages.find(({ inFlight }) => inFlight === 64)
  const cost = costs.ours?.[64]
  if (report === undefined || cost === undefined) return undefined
  const all = report.shares.map(({ percent, stage }) => ({
    name: stage.replace(/:.*/, ""),
    value: Number((cost.microsPerCall * percent / 100).toPrecision(3))
  }))
  return bars({
    title: "Where the time of one call goes, 64 calls in flight",
    description: all.map(({ name, value }) => `${name}: ${value} µs`).join(", "),
    axis: "CPU a call in the stage itself, in microseconds (µs), by samples of a profile",
    unit: " µs",
    bars: all.map((bar) => ({ ...bar, ours: true }))
  })
}

const drawings: Readonly<Record<string, (results: Results) => string | undefined>> = {
  "ratios.svg": ratioBars,
  "cpu.svg": cpu,
  "in-flight.svg": levels,
  "latency-closed.svg": closed,
  "latency-open.svg": open,
  "stages.svg": stages,
  "pick.svg": pick,
  "heap.svg": soak
}

/** By the name of its file; without those that nothing was measured for. */
export const plotsOf = (results: Results): ReadonlyMap<string, string> =>
  new Map(
    Object.entries(drawings).flatMap(([file, draw]) => {
      const svg = draw(results)
      return svg === undefined ? [] : [[file, svg] as const]
    })
  )
