/** What the rounds come to: ratios and costs, as a table and as the object of the last line. */
import { type ClientName, clientNames, clients } from "./peers.ts"
import { type Level, levels, type Series } from "./rounds.ts"
import { neighbourRatios, summarize, type Summary } from "./statistics.ts"

/** The ratios by key: whose cost against whose, at how many calls in flight. */
const ratios = {
  thriftNpm: { above: "thriftNpm", below: "ours", level: 64 },
  floor64: { above: "ours", below: "floor", level: 64 },
  floor1: { above: "ours", below: "floor", level: 1 }
} as const satisfies Record<string, { above: ClientName; below: ClientName; level: Level }>

type RatioName = keyof typeof ratios
const ratioNames = Object.keys(ratios) as ReadonlyArray<RatioName>

/** One client at one level. */
interface Cost {
  readonly microsPerCall: Summary
  readonly callsPerSecond: Summary
}

/** All that a run has found. */
export interface Report {
  readonly ratios: Readonly<Record<RatioName, Summary>>
  readonly clients: Readonly<Record<ClientName, Readonly<Record<Level, Cost>>>>
  readonly rounds: number
}

/** Sums up the rounds. */
export const reportOf = (series: Series): Report => {
  const micros = (name: ClientName, level: Level) => series[name][level].map((sample) => sample.microsPerCall)
  const cost = (name: ClientName, level: Level): Cost => ({
    microsPerCall: summarize(micros(name, level)),
    callsPerSecond: summarize(series[name][level].map((sample) => sample.callsPerSecond))
  })
  return {
    ratios: Object.fromEntries(ratioNames.map((key) => {
      const { above, below, level } = ratios[key]
      return [key, summarize(neighbourRatios(micros(above, level), micros(below, level)))]
    })) as Report["ratios"],
    clients: Object.fromEntries(
      clientNames.map((name) => [name, Object.fromEntries(levels.map((level) => [level, cost(name, level)]))])
    ) as unknown as Report["clients"],
    rounds: series.ours[1].length
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

/** The report for people. */
export const text = (report: Report): string => {
  const costs = clientNames.flatMap((name) =>
    levels.map((level) => {
      const { callsPerSecond, microsPerCall } = report.clients[name][level]
      return [clients[name].title, `${level}`, ...fixed(microsPerCall), `${Math.round(callsPerSecond.median)}`]
    })
  )
  const found = ratioNames.map((key) => {
    const { above, below, level } = ratios[key]
    return [`${clients[above].title} / ${clients[below].title}`, `${level}`, ...fixed(report.ratios[key]), key]
  })
  return [
    table([["client", "in flight", "CPU us a call", "half of the rounds", "calls a second"], ...costs]),
    table([["ratio of CPU a call", "in flight", "median", "half of the rounds", "key"], ...found]),
    `${report.rounds} rounds, Node ${process.version}`
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
        Object.fromEntries(levels.map((level) => {
          const { callsPerSecond, microsPerCall } = report.clients[name][level]
          return [level, {
            microsPerCall: rounded(microsPerCall.median),
            quartiles: microsPerCall.quartiles.map(rounded),
            callsPerSecond: Math.round(callsPerSecond.median)
          }]
        }))
      ])
    ),
    rounds: report.rounds,
    node: process.version
  })
