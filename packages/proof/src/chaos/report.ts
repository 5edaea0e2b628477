/** The table of the scenarios. */
import type { Figures } from "./verdict.ts"

/** What came of one scenario, and its broken bounds. */
export interface Row {
  readonly name: string
  readonly figures: Figures
  readonly broken: ReadonlyArray<string>
}

const columns: ReadonlyArray<readonly [heading: string, cell: (row: Row) => string]> = [
  ["scenario", ({ name }) => name],
  ["calls", ({ figures }) => String(figures.calls)],
  ["failed", ({ figures }) => String(figures.failures)],
  ["at risk", ({ figures }) => String(figures.atRisk)],
  ["wrong", ({ figures }) => String(figures.wrong)],
  ["leaked", ({ figures }) => String(figures.leaked)],
  ["slowest", ({ figures }) => time(figures.slowestMs)],
  ["found out", ({ figures }) => time(figures.foundOutMs)],
  ["quiet after", ({ figures }) => time(figures.quietAfterMs)],
  ["back after", ({ figures }) => time(figures.backAfterMs)],
  ["connected", ({ figures }) => String(figures.connects)],
  ["others kept", ({ figures }) => figures.othersKept === null ? "-" : `${Math.round(figures.othersKept * 100)} %`],
  ["verdict", ({ broken }) => broken.length === 0 ? "ok" : "BROKEN"]
]

const time = (millis: number | null): string => millis === null ? "never" : `${(millis / 1000).toFixed(2)} s`

/** A heading, a line a scenario, and below each its failures by tag and what it broke. */
export const table = (rows: ReadonlyArray<Row>): string => {
  const lines = [columns.map(([heading]) => heading), ...rows.map((row) => columns.map(([, cell]) => cell(row)))]
  const widths = columns.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  const written = lines.map((line) =>
    line.map((cell, column) => column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)).join("  ")
  )
  return written.flatMap((line, index) => {
    const row = rows[index - 1]
    if (row === undefined) return [line]
    const tags = Object.entries(row.figures.byTag).map(([tag, count]) => `${count} ${tag}`)
    return [
      line,
      ...(tags.length === 0 ? [] : [`  failed: ${tags.join(", ")}`]),
      ...row.broken.map((sentence) => `  BROKEN ${sentence}`)
    ]
  }).join("\n")
}
