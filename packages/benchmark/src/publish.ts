/**
 * What a run leaves in `docs/performance`: its results, the plots of them, and the tables of the page, which lie between marks there. Run by itself it draws
 * the plots and writes the tables anew from the results that are there.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { plotsOf } from "./plots/all.ts"
import type { Results } from "./results.ts"
import { tables } from "./tables.ts"

const folder = fileURLToPath(new URL("../../../docs/performance", import.meta.url))

/** Where the results are. */
export const resultsFile: string = join(folder, "results.json")

/** The page that the tables are in. */
export const pageFile: string = join(folder, "index.md")

/** Where a plot is. */
export const plotFile = (name: string): string => join(folder, name)

/** From the mark of a table to its end. */
const marked = /<!-- table: (\w+) -->\n.*?<!-- end of table -->/gs

/** A page with the tables of these results between its marks. */
export const withTables = (page: string, results: Results): string =>
  page.replace(marked, (_, name: string) => {
    const table = tables[name]
    if (table === undefined) throw new Error(`there is no table ${name}; there are ${Object.keys(tables).join(", ")}`)
    return `<!-- table: ${name} -->\n\n${table(results)}\n\n<!-- end of table -->`
  })

/** Numbers that nobody counted, to four digits. */
const rounded = (_: string, value: unknown): unknown =>
  typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value

/** Keeps the last line of a run, and writes what is made of it. Gives the names of the plots. */
export const publish = (line: string): ReadonlyArray<string> => {
  writeFileSync(resultsFile, `${JSON.stringify(JSON.parse(line), rounded, 1)}\n`)
  return renew()
}

/** Writes what is made of the results that are kept. */
export const renew = (): ReadonlyArray<string> => {
  const results = JSON.parse(readFileSync(resultsFile, "utf8")) as Results
  const plots = plotsOf(results)
  for (const [name, svg] of plots) writeFileSync(plotFile(name), svg)
  writeFileSync(pageFile, withTables(readFileSync(pageFile, "utf8"), results))
  return [...plots.keys()]
}

if (import.meta.main) console.log(`drawn anew: ${renew().join(", ")}`)
