/** What the rounds come to: ratios and costs, as a table and as the object of the last line. */
import { type ClientName, clientNames, clients, groupNames, type Level, levelsOf, membersOf } from "./peers.ts"
import type { Series } from "./rounds.ts"
import { neighbourRatios, summarize, type Summary } from "./statistics.ts"
import { json as body } from "./workload.ts"

/** The ratios by key: whose cost against whose, at how many calls in flight. */
const ratios = {
  thriftNpm: { above: "thriftNpm", below: "ours", level: 64 },
  floor64: { above: "ours", below: "floor", level: 64 },
  floor1: { above: "ours", below: "floor", level: 1 },
  framed: { above: "npmBinary8", below: "oursBinary8", level: 64 },
  framedCompact: { above: "npmCompact8", below: "oursCompact8", level: 64 },
  framedOne: { above: "npmBinary1", below: "oursBinary1", level: 64 },
  http: { above: "oursHttp", below: "undici", level: 64 },
  http1: { above: "oursHttp", below: "undici", level: 1 },
  httpFour: { above: "oursHttpFour", below: "undiciFour", level: 64 },
  httpFour1: { above: "oursHttpFour", below: "undiciFour", level: 1 },
  balancedHttp: { above: "oursBalancedHttp", below: "effectHttp", level: 64 },
  balancedHttp1: { above: "oursBalancedHttp", below: "effectHttp", level: 1 },
  balancedHttpFour: { above: "oursBalancedHttpFour", below: "effectHttpFour", level: 64 },
  balancedHttpFour1: { above: "oursBalancedHttpFour", below: "effectHttpFour", level: 1 }
} as const satisfies Record<string, { above: ClientName; below: ClientName; level: Level }>

type RatioName = keyof typeof ratios
const ratioNames = Object.keys(ratios) as ReadonlyArray<RatioName>

/** One client with one number of calls in flight. */
interface Cost {
  readonly level: Level
  readonly microsPerCall: Summary
  readonly callsPerSecond: Summary
}

/** All that a run has found. */
export interface Report {
  readonly ratios: Readonly<Record<RatioName, Summary>>
  readonly clients: Readonly<Record<ClientName, ReadonlyArray<Cost>>>
  /** Of mux, of framed Thrift, and of HTTP. */
  readonly rounds: number
  readonly framedRounds: number
  readonly httpRounds: number
}

/** Sums up the rounds. */
export const reportOf = (series: Series): Report => {
  const samples = (name: ClientName, level: Level) => series.get(name)!.get(level)!
  const micros = (name: ClientName, level: Level) => samples(name, level).map((sample) => sample.microsPerCall)
  const cost = (name: ClientName, level: Level): Cost => ({
    level,
    microsPerCall: summarize(micros(name, level)),
    callsPerSecond: summarize(samples(name, level).map((sample) => sample.callsPerSecond))
  })
  return {
    ratios: Object.fromEntries(ratioNames.map((key) => {
      const { above, below, level } = ratios[key]
      return [key, summarize(neighbourRatios(micros(above, level), micros(below, level)))]
    })) as Report["ratios"],
    clients: Object.fromEntries(
      clientNames.map((name) => [name, levelsOf(name).map((level) => cost(name, level))])
    ) as unknown as Report["clients"],
    rounds: samples("ours", 1).length,
    framedRounds: samples("oursBinary1", 1).length,
    httpRounds: samples("oursHttp", 1).length
  }
}

/** Rows with their columns under each other, the first to the left, the others to the right. */
export const table = (rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows.map((row) =>
    row.map((cell, column) => column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)).join("  ")
  ).join("\n")
}

const fixed = ({ median, quartiles: [lower, upper] }: Summary): ReadonlyArray<string> => [
  median.toFixed(2),
  `${lower.toFixed(2)} to ${upper.toFixed(2)}`
]

/** What the rows of framed Thrift compare. */
const whatFramedIs = [
  "Framed Thrift, all against one server process: npm thrift pipelines, all calls of a connection are on their way at once;",
  "ours has one call at a time on a connection, and the others wait for their turn. Over 8 connections, npm thrift has 8",
  "clients that are used in turn, ours a pool of up to 8, of which it opens as many as there are calls in flight."
].join("\n")

/** What the rows of HTTP compare. */
const whatHttpIs = [
  `HTTP, a GET of ${body.length} bytes of JSON from one server, or from four in one process: undici and Effect's client on it go to four in`,
  "turn, and neither balances, nor gives up on a server that is down, nor has deadlines; ours does all of it."
].join("\n")

const connectionsOf = (name: ClientName, level: Level): string => `${clients[name].connections ?? level}`

/** The report for people. */
export const text = (report: Report): string => {
  const costs = groupNames.map((group) =>
    table([
      ["client", "servers", "connections", "in flight", "CPU us a call", "half of the rounds", "calls a second"],
      ...membersOf(group).flatMap((name) =>
        report.clients[name].map(({ callsPerSecond, level, microsPerCall }) => [
          clients[name].title,
          `${clients[name].servers}`,
          connectionsOf(name, level),
          `${level}`,
          ...fixed(microsPerCall),
          `${Math.round(callsPerSecond.median)}`
        ])
      )
    ])
  )
  const found = ratioNames.map((key) => {
    const { above, below, level } = ratios[key]
    return [
      `${clients[above].title} / ${clients[below].title}`,
      `${clients[above].servers}`,
      connectionsOf(above, level),
      `${level}`,
      ...fixed(report.ratios[key]),
      key
    ]
  })
  return [
    ...costs,
    whatFramedIs,
    whatHttpIs,
    table([
      ["ratio of CPU a call", "servers", "connections", "in flight", "median", "half of the rounds", "key"],
      ...found
    ]),
    `${report.rounds} rounds, of framed Thrift ${report.framedRounds}, of HTTP ${report.httpRounds}, Node ${process.version}`
  ].join("\n\n")
}

const rounded = (value: number): number => Number(value.toPrecision(4))

/** The report for machines. Times in microseconds; quartiles beside each median. */
export const json = (report: Report): string =>
  JSON.stringify({
    ratios: Object.fromEntries(ratioNames.map((key) => [key, rounded(report.ratios[key].median)])),
    quartiles: Object.fromEntries(ratioNames.map((key) => [key, report.ratios[key].quartiles.map(rounded)])),
    clients: Object.fromEntries(
      clientNames.map((name) => [
        name,
        Object.fromEntries(
          report.clients[name].map(({ callsPerSecond, level, microsPerCall }) => [level, {
            microsPerCall: rounded(microsPerCall.median),
            quartiles: microsPerCall.quartiles.map(rounded),
            callsPerSecond: Math.round(callsPerSecond.median)
          }])
        )
      ])
    ),
    rounds: report.rounds,
    framedRounds: report.framedRounds,
    httpRounds: report.httpRounds,
    node: process.version
  })
