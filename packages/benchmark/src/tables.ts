/** The tables of `docs/performance`, in markdown, from the results of a run. */
import { type ClientName, clients } from "./peers.ts"
import { type Ratio, ratios, targetText } from "./ratios.ts"
import type { CostResult, CostResults, LatencyResult, Results } from "./results.ts"
import { scenes } from "./scenes.ts"
import type { Summary } from "./statistics.ts"

/** Three digits, thousands apart. */
export const told = (value: number): string => {
  const rounded = Number(value.toPrecision(3))
  return Math.abs(rounded) >= 1000 ? Math.round(rounded).toLocaleString("en-US") : String(rounded)
}

const spread = ([lower, upper]: readonly [number, number]): string => `${told(lower)} to ${told(upper)}`

const bytes = (value: number): string =>
  value >= 1e6 ? `${told(value / 1e6)} MB` : value >= 1000 ? `${told(value / 1000)} kB` : `${told(value)} B`

/** Columns: those whose name ends in a colon are of numbers, to the right. */
const markdown = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string =>
  [
    head.map((name) => name.replace(/:$/, "")),
    head.map((name) => name.endsWith(":") ? "---:" : "---"),
    ...rows
  ].map((cells) => `| ${cells.join(" | ")} |`).join("\n")

/** What is compared, where its key alone does not say it. */
const others: Readonly<Record<string, string>> = {
  p99: "p99 at half of our highest rate: ours / mux by hand",
  pick10kMicros: "a pick among 10,000 endpoints, in microseconds",
  pickGrowth: "the same / a pick among 10",
  heap: "heap after a soak / at its first hundred thousand calls",
  idleEndpointBytes: "bytes of an idle endpoint"
}

const compared = (key: string): string => {
  if (!(key in ratios)) return others[key] ?? key
  const { above, below, level }: Ratio = ratios[key as keyof typeof ratios]
  return `${clients[above].title} / ${clients[below].title}, ${level} in flight${placeOf(key)}`
}

const targets = ({ quartiles, ratios: found, targets }: Results): string =>
  markdown(
    ["ratio", "key", "target", "measured:", "half of the rounds", ""],
    Object.entries(targets).map(([key, target]) => [
      compared(key),
      `\`${key}\``,
      targetText(target),
      told(found[key]!),
      quartiles[key] === undefined ? "" : spread(quartiles[key]),
      target.met ? "met" : "missed"
    ])
  )

const rest = ({ quartiles, ratios: found, targets }: Results): string =>
  markdown(
    ["ratio of CPU a call", "key", "measured:", "half of the rounds"],
    Object.entries(found).flatMap(([key, value]) =>
      key in targets || !(key in ratios)
        ? []
        : [[compared(key), `\`${key}\``, told(value), spread(quartiles[key]!)]]
    )
  )

/** Where a ratio is of, when it is not of one endpoint and the smallest struct: several have the same clients. */
const placeOf = (key: string): string => {
  const { above, scene }: Ratio = ratios[key as keyof typeof ratios]
  const { connections, servers } = clients[above]
  switch (scene) {
    case "mux":
      return ""
    case "framed":
      return `, connections: ${connections}`
    case "http":
      return `, servers: ${servers}`
    default: {
      const [first = "", ...rest] = scenes[scene].title
      return `, ${first.toLowerCase()}${rest.join("")}`
    }
  }
}

type Row = readonly [name: ClientName, level: string, cost: CostResult]

/** The costs of clients that were measured, at some numbers of calls in flight. */
const rowsOf = (
  costs: CostResults | undefined,
  names: ReadonlyArray<ClientName>,
  levels: ReadonlyArray<number>
): ReadonlyArray<Row> =>
  levels.flatMap((level) =>
    names.flatMap((name): ReadonlyArray<Row> => {
      const cost = costs?.[name]?.[level]
      return cost === undefined ? [] : [[name, String(level), cost]]
    })
  )

/** `to` tells of each client to how many servers and over how many connections it is, where that is what they differ in. */
const costs = (
  found: CostResults | undefined,
  names: ReadonlyArray<ClientName>,
  levels: ReadonlyArray<number>,
  to = false
): string =>
  markdown(
    [
      "client",
      ...(to ? ["servers:", "connections:"] : []),
      "in flight:",
      "CPU µs:",
      "half of the rounds:",
      "of it system:",
      "calls a second:",
      "p50 µs:",
      "p99 µs:",
      "p99.9 µs:",
      "allocated:",
      "resident:"
    ],
    rowsOf(found, names, levels).map(([name, level, cost]) => {
      const { connections, servers, title } = clients[name]
      return [
        title,
        ...(to ? [String(servers), String(connections ?? level)] : []),
        level,
        told(cost.microsPerCall),
        spread(cost.quartiles),
        told(cost.systemMicros),
        told(cost.callsPerSecond),
        ...latencyCells(cost.latency),
        cost.allocatedBytes === undefined ? "" : bytes(cost.allocatedBytes),
        cost.residentBytes === undefined ? "" : bytes(cost.residentBytes)
      ]
    })
  )

const latencyCells = (latency: LatencyResult | undefined): ReadonlyArray<string> =>
  latency === undefined
    ? ["", "", ""]
    : [told(latency.p50Micros), told(latency.p99Micros), told(latency.p999Micros)]

/** Of scenes that differ in one thing only. */
const inScenes =
  (names: ReadonlyArray<"payload4k" | "payload1m" | "endpoints10" | "endpoints1000">) => (results: Results) =>
    markdown(
      ["", "client", "in flight:", "CPU µs:", "half of the rounds:", "calls a second:", "p99 µs:"],
      names.flatMap((scene) =>
        rowsOf(results.scenes[scene], scenes[scene].clients, [scene === "payload1m" ? 8 : 64]).map((
          [name, level, cost]
        ) => [
          scenes[scene].title,
          clients[name].title,
          level,
          told(cost.microsPerCall),
          spread(cost.quartiles),
          told(cost.callsPerSecond),
          cost.latency === undefined ? "" : told(cost.latency.p99Micros)
        ])
      )
    )

const open = ({ open }: Results): string => {
  if (open === undefined) return ""
  const row = (name: ClientName, rate: number, latency: LatencyResult) => [
    clients[name].title,
    told(rate),
    ...latencyCells(latency)
  ]
  return markdown(["client", "calls a second:", "p50 µs:", "p99 µs:", "p99.9 µs:"], [
    ...Object.entries(open.low).map(([name, latency]) => row(name as ClientName, 1000, latency)),
    row("floor", open.rate, open.floor),
    row("ours", open.rate, open.ours)
  ])
}

const summary = ({ median, quartiles }: Summary, scale = 1): ReadonlyArray<string> => [
  told(median * scale),
  spread([quartiles[0] * scale, quartiles[1] * scale])
]

const pick = ({ alone }: Results): string =>
  markdown(
    ["balancer", "endpoints:", "a pick µs:", "half of the rounds:", "with a call in Effect µs:"],
    (alone?.pick.costs ?? []).map(({ balancer, endpoints, micros, sendMicros }) => [
      balancer,
      told(endpoints),
      ...summary(micros),
      told(sendMicros.median)
    ])
  )

const codec = ({ alone }: Results): string =>
  markdown(
    ["codec", "protocol", "message", "bytes:", "encode ns:", "decode ns:"],
    (alone?.codec ?? []).map(({ bytes, codec, decodeNanos, encodeNanos, payload, protocol }) => [
      codec,
      protocol,
      payload === "small" ? "the struct of 86 bytes" : "1,000 numbers",
      told(bytes),
      told(encodeNanos.median),
      told(decodeNanos.median)
    ])
  )

const build = ({ alone }: Results): string =>
  markdown(
    ["endpoints:", "build ms:", "half of the rounds:", "the first in a process ms:", "close ms:"],
    (alone?.build ?? []).map(({ buildMillis, closeMillis, endpoints, firstMillis }) => [
      told(endpoints),
      ...summary(buildMillis),
      told(firstMillis),
      told(closeMillis.median)
    ])
  )

const idleKinds = {
  untouched: "in the set, never called",
  called: "called, its connection gone",
  connected: "called, connected"
}

const idle = ({ alone }: Results): string =>
  markdown(
    ["an endpoint that is", "heap:"],
    (alone?.idle.costs ?? []).map(({ bytes: each, kind }) => [idleKinds[kind], bytes(each)])
  )

const soak = ({ alone }: Results): string =>
  markdown(
    ["calls:", "heap MB:"],
    (alone?.soak?.points ?? []).map(({ calls, heapBytes }) => [told(calls), (heapBytes / 1e6).toFixed(2)])
  )

const options = ({ alone }: Results): string =>
  markdown(
    ["with", "CPU µs:", "of the defaults:", "half of the rounds"],
    (alone?.options ?? []).map((
      { microsPerCall, name, ratio }
    ) => [name, told(microsPerCall.median), ...summary(ratio)])
  )

const start = ({ alone }: Results): string =>
  markdown(
    ["import", "ms more than Node alone:", "half of the rounds", "installed:", "packages:"],
    (alone?.coldStart?.modules ?? []).map(({ importMillis, installedBytes, name, packages }) => [
      name === "effect alone" ? "`effect/Effect`" : `\`${name}\``,
      ...summary(importMillis),
      bytes(installedBytes),
      String(packages)
    ])
  )

const histogram = ({ alone }: Results): string =>
  markdown(
    ["histogram", "a record ns:", "half of the rounds", "memory:", "p50 off by:", "p90:", "p99:", "p99.9:", "p99.99:"],
    (alone?.latencyHistogram ?? []).map(({ bytes: each, errors, name, recordNanos }) => [
      name,
      ...summary(recordNanos),
      bytes(each),
      ...errors.map((error) => `${(100 * error).toFixed(2)} %`)
    ])
  )

const stages = ({ alone, clients: costs }: Results): string => {
  const [one, many] = [1, 64].map((inFlight) => alone?.stages.find((each) => each.inFlight === inFlight))
  const cells = (report: typeof one, i: number): ReadonlyArray<string> => {
    const share = report?.shares[i]
    const cost = report === undefined ? undefined : costs.ours?.[report.inFlight]
    if (share === undefined) return ["", ""]
    return [`${share.percent.toFixed(1)} %`, cost === undefined ? "" : told(cost.microsPerCall * share.percent / 100)]
  }
  return markdown(
    ["stage", "1 in flight:", "µs:", "64 in flight:", "µs:"],
    (many?.shares ?? []).map(({ stage }, i) => [stage, ...cells(one, i), ...cells(many, i)])
  )
}

const machine = ({ absent, cores, node, platform, rounds }: Results): string =>
  [
    `Node ${node.replace(/^v/, "")}, ${platform}, ${cores} cores, ${rounds} rounds.`,
    ...Object.keys(absent).map((name) => `Not measured: ${clients[name as ClientName].title}.`)
  ].join(" ")

/** By the name that the page has for each. */
export const tables: Readonly<Record<string, (results: Results) => string>> = {
  machine,
  targets,
  rest,
  mux: (results) => costs(results.clients, scenes.mux.clients, [1, 64]),
  framed: (results) => costs(results.clients, scenes.framed.clients, [64], true),
  http: (results) => costs(results.clients, scenes.http.clients, [64], true),
  open,
  payloads: inScenes(["payload4k", "payload1m"]),
  endpoints: inScenes(["endpoints10", "endpoints1000"]),
  stages,
  options,
  pick,
  idle,
  soak,
  build,
  codec,
  histogram,
  start
}
