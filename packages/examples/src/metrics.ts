/** The table of every metric, as `docs/metrics.md` has it: made from what the packages say of their series. */
import { metricTable as core } from "@scales-rpc/core"
import { metricTable as http } from "@scales-rpc/http"
import { metricTable as mux } from "@scales-rpc/mux"
import { metricTable as thrift } from "@scales-rpc/thrift"
import { metricTable as zookeeper } from "@scales-rpc/zookeeper"
import { readFileSync, writeFileSync } from "node:fs"

/** By name, over all packages. */
export const definitions = { ...core, ...mux, ...thrift, ...http, ...zookeeper }

const stageOf = (name: string): string => name.split(".")[1]!

/** The rows, those of a stage under each other. */
export const table = (): string => {
  const rows = Object.values(definitions).map(({ attributes, description, kind, name }) =>
    `| \`${name}\` | ${kind} | ${attributes.map((attribute) => `\`${attribute}\``).join(", ")} | ${description} |`
  )
  const stages = [...new Set(Object.keys(definitions).map(stageOf))]
  const ordered = stages.flatMap((stage) => rows.filter((row) => row.startsWith(`| \`scales.${stage}.`)))
  return ["| metric | kind | attributes | what |", "| --- | --- | --- | --- |", ...ordered].join("\n")
}

/** The page, which has the table between two comments. */
export const page = new URL("../../../docs/metrics.md", import.meta.url)

const begin = "<!-- The table: node --conditions=@scales-rpc/source packages/examples/src/metrics.ts -->"
const end = "<!-- The end of the table. -->"

/** The page with the table as it must be. */
export const written = (): string => {
  const text = readFileSync(page, "utf8")
  const from = text.indexOf(begin) + begin.length
  const to = text.indexOf(end)
  if (to < from || from < begin.length) {
    throw new Error(`docs/metrics.md has no place for the table: "${begin}" and "${end}"`)
  }
  return `${text.slice(0, from)}\n\n${table()}\n\n${text.slice(to)}`
}

if (import.meta.main) writeFileSync(page, written())
