/** The report for people, as tables. */
import { lowRate } from "./openRounds.ts"
import { type ClientName, clients } from "./peers.ts"
import { targetText } from "./ratios.ts"
import type { Cost, Found, LatencySummary, OpenReport, Report, SceneReport } from "./report.ts"
import { type Level, type Scene, scenes } from "./scenes.ts"
import { table } from "./table.ts"
import { workOf } from "./workload.ts"

/** What the rows of framed Thrift compare. */
const whatFramedIs = [
  "Framed Thrift, all against one server process: npm thrift pipelines, all calls of a connection are on their way at once;",
  "ours has one call at a time on a connection, and the others wait for their turn. Over 8 connections, npm thrift has 8",
  "clients that are used in turn, ours a pool of up to 8, of which it opens as many as there are calls in flight."
].join("\n")

/** What the rows of HTTP compare. */
const whatHttpIs = [
  `HTTP, a GET of ${
    workOf(86).json.length
  } bytes of JSON from one server, or from four in one process: undici and Effect's client on it go to four in`,
  "turn, and neither balances, nor gives up on a server that is down, nor has deadlines; ours does all of it."
].join("\n")

/** What the rows of several endpoints compare. */
const whatEndpointsAre =
  "Several endpoints in one process: the floor is connected to all of them and goes to them in turn; ours to as many as its aperture holds."

const notes: Partial<Record<SceneReport["scene"], string>> = {
  framed: whatFramedIs,
  http: whatHttpIs,
  endpoints1000: whatEndpointsAre
}

const connectionsOf = (name: ClientName, level: Level): string => `${clients[name].connections ?? level}`

const micros = (value: number): string => value.toFixed(value < 100 ? 2 : 0)

const latencyCells = (latency: LatencySummary | undefined): ReadonlyArray<string> =>
  latency === undefined
    ? ["", "", ""]
    : [micros(latency.p50Micros), micros(latency.p99Micros), micros(latency.p999Micros)]

const row = (cost: Cost, endpoints: number | undefined): ReadonlyArray<string> => {
  const { callsPerSecond, client, level, microsPerCall } = cost
  return [
    clients[client].title,
    `${endpoints ?? clients[client].servers}`,
    connectionsOf(client, level),
    `${level}`,
    micros(microsPerCall.median),
    microsPerCall.quartiles.map(micros).join(" to "),
    micros(cost.userMicros),
    micros(cost.systemMicros),
    `${Math.round(callsPerSecond.median)}`,
    ...latencyCells(cost.latency),
    cost.allocatedBytes === undefined ? "" : `${Math.round(cost.allocatedBytes)}`,
    cost.residentBytes === undefined ? "" : `${Math.round(cost.residentBytes / 1e6)}`
  ]
}

const heads = [
  "client",
  "servers",
  "connections",
  "in flight",
  "CPU us a call",
  "half of the rounds",
  "user",
  "system",
  "calls a second",
  "p50 us",
  "p99",
  "p999",
  "bytes allocated",
  "resident MB"
]

/** Columns that nothing is in are left out. */
const sceneText = ({ costs, rounds, scene }: SceneReport): string => {
  const { endpoints, title }: Scene = scenes[scene]
  const rows = costs.map((cost) => row(cost, endpoints))
  const used = heads.map((_, column) => rows.some((cells) => cells[column] !== ""))
  const shown = [heads, ...rows].map((cells) => cells.filter((_, column) => used[column]))
  const note = notes[scene]
  return [`${title}, ${rounds} rounds`, table(shown), ...(note === undefined ? [] : [note])].join("\n")
}

const openText = ({ floor, low, ours, rate }: OpenReport): string => {
  const rows = (asked: number, client: ClientName, latency: LatencySummary) => [
    clients[client].title,
    `${Math.round(asked)}`,
    ...latencyCells(latency)
  ]
  return [
    "Open loop: calls at a fixed rate, each timed from when it should have begun; the first two at half of our highest rate",
    table([
      ["client", "calls a second", "p50 us", "p99", "p999"],
      rows(rate, "floor", floor),
      rows(rate, "ours", ours),
      ...low.map(({ client, latency }) => rows(lowRate, client, latency))
    ])
  ].join("\n")
}

/** What the keys are that are no ratio of CPU. */
const meanings: Readonly<Record<string, string>> = {
  p99: "p99 at half of our highest rate: ours / mux by hand",
  pick10kMicros: "pick and release among 10,000 endpoints, us",
  pickGrowth: "the same / among 10 endpoints",
  idleEndpointBytes: "heap of an idle endpoint without its connection, bytes",
  heap: "heap after all calls of the soak / at the first hundred thousand",
  buildMillis: "building a stack of one endpoint, ms",
  coldStart: "import of @scales-rpc/thriftmux, ms"
}

const titleOf = ({ key, ratio }: Found): string =>
  ratio === undefined
    ? meanings[key] ?? key
    : `${clients[ratio.above].title} / ${clients[ratio.below].title}, ${ratio.level} in flight` +
      (ratio.scene === "mux" ? "" : ` (${scenes[ratio.scene].title})`)

const foundText = (found: ReadonlyArray<Found>): string =>
  table([
    ["ratio of CPU a call", "median", "half of the rounds", "target", "met", "key"],
    ...found.map((each) => [
      titleOf(each),
      each.value < 100 ? each.value.toFixed(2) : each.value.toFixed(0),
      each.quartiles === undefined ? "" : each.quartiles.map((value) => value.toFixed(2)).join(" to "),
      each.target === undefined ? "" : targetText(each.target),
      each.met === undefined ? "" : each.met ? "yes" : "NO",
      each.key
    ])
  ])

const missedText = (found: ReadonlyArray<Found>): string => {
  const missed = found.filter(({ met }) => met === false).map(({ key }) => key)
  return missed.length === 0 ? "every target is met" : `targets that are not met: ${missed.join(", ")}`
}

/** The report for people. */
export const text = ({ absent, found, machine, open, scenes }: Report): string =>
  [
    ...scenes.map(sceneText),
    ...(open === undefined ? [] : [openText(open)]),
    foundText(found),
    ...Array.from(absent, ([name, missing]) => `${clients[name].title} is left out: ${missing}`),
    missedText(found),
    `Node ${machine.node}, ${machine.platform}, ${machine.cores} cores`
  ].join("\n\n")
