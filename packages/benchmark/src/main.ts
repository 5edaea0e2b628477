/**
 * `npm run bench`: what a ThriftMux call through the default stack costs its client, beside the same bytes by hand and every peer, in one
 * run; the same of other payloads, of many endpoints, of framed Thrift and of HTTP; how long calls take at a fixed rate; and what is
 * measured alone. The last line of the output is one JSON object, whose `ratios` are what the targets are of.
 *
 *     npm run bench                                             about twenty minutes
 *     npm run bench -- --quick                                  what has a target, in under four
 *     npm run bench -- --full                                   all of it with more rounds: hours
 *     npm run bench -- --only mux,open                          some scenes, or `open`, or `alone`
 *     npm run bench -- --profile ours --in-flight 1             where the time of one client goes
 */
import { parseArgs } from "node:util"
import type { Extent } from "./alone/isolated.ts"
import { type AloneReport, measureAlone } from "./aloneReport.ts"
import { measureOpen, type OpenSize } from "./openRounds.ts"
import { nodeClientNames } from "./peers.ts"
import { profile } from "./profile.ts"
import { publish } from "./publish.ts"
import { aimedAt } from "./ratios.ts"
import { reportOf, resultsOf } from "./report.ts"
import { type Absent, measureScene, prepareForeign, type SceneSeries, type Size } from "./rounds.ts"
import { type Cell, cellsOf, type Level, type SceneName, sceneNames } from "./scenes.ts"
import { text } from "./text.ts"

const quick = { starts: 2, rounds: 6, looks: 0, millis: 180 }
const standard = { starts: 1, rounds: 6, looks: 1, millis: 200 }
const full = { starts: 4, rounds: 12, looks: 4, millis: 400 }

/** Large payloads need a longer window for as many calls, and their calls last beyond it. */
const large = (size: Size): Size => ({
  starts: size.starts,
  rounds: Math.ceil(size.rounds / 2),
  looks: Math.ceil(size.looks / 2),
  millis: size.millis * 2
})

const sizes: Record<Extent, { readonly of: (scene: SceneName) => Size; readonly open: OpenSize }> = {
  quick: {
    of: (scene) => scene === "mux" ? quick : { ...quick, rounds: 5 },
    open: { starts: 2, rounds: 16, millis: 150, lowRounds: 0, lowMillis: 0 }
  },
  standard: {
    of: (scene) =>
      scene === "mux" ? { ...standard, starts: 2, rounds: 5 } : scene === "payload1m" ? large(standard) : standard,
    open: { starts: 2, rounds: 20, millis: 150, lowRounds: 1, lowMillis: 1000 }
  },
  full: {
    of: (scene) => scene === "payload1m" ? large(full) : full,
    open: { starts: 5, rounds: 40, millis: 250, lowRounds: 4, lowMillis: 4000 }
  }
}

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    full: { type: "boolean", default: false },
    only: { type: "string" },
    profile: { type: "string" },
    "in-flight": { type: "string", default: "64" }
  }
})

const oneOf = <A extends string | number>(option: string, given: string, known: ReadonlyArray<A>): A => {
  const found = known.find((value) => String(value) === given)
  if (found === undefined) throw new Error(`--${option} ${given}: one of ${known.join(", ")}`)
  return found
}

const progress = (line: string): void => {
  process.stderr.write(`${line}\n`)
}

/** What `--quick` leaves out is what no target is of. */
const cellsFor = (scene: SceneName, extent: Extent): ReadonlyArray<Cell> => {
  if (extent !== "quick") return cellsOf(scene)
  const aims = aimedAt(scene)
  return cellsOf(scene).filter(({ client, level }) => aims.some((aim) => aim.client === client && aim.level === level))
}

const parts = [...sceneNames, "open", "alone"] as const

const run = async (): Promise<void> => {
  if (options.profile !== undefined) {
    const name = oneOf("profile", options.profile, nodeClientNames)
    const level = oneOf<Level>("in-flight", options["in-flight"], [1, 8, 64, 512])
    progress(`profiling ${name} with ${level} in flight`)
    const profiled = await profile(name, level, 5000)
    console.log(profiled.text)
    console.log(JSON.stringify({ profile: profiled.file }))
    return
  }
  const only = options.only?.split(",").map((part) => oneOf("only", part, parts)) ?? parts
  const extent: Extent = options.full ? "full" : options.quick ? "quick" : "standard"
  // Those of other languages are in these two.
  const absent: Absent = only.includes("mux") || only.includes("open") ? await prepareForeign(progress) : new Map()
  if (absent.size > 0 && process.env["CI"] === "true") throw new Error("a peer is missing, see above")

  const scenes: Array<SceneSeries> = []
  for (const scene of sceneNames) {
    if (!only.includes(scene)) continue
    const cells = cellsFor(scene, extent).filter(({ client }) => !absent.has(client))
    if (cells.length > 0) scenes.push(await measureScene(scene, cells, sizes[extent].of(scene), progress))
  }
  const others = cellsOf("mux").filter(({ client, level }) => level === 64 && !absent.has(client))
    .map(({ client }) => client).filter((client) => client !== "ours" && client !== "floor")
  const open = only.includes("open") ? await measureOpen(others, sizes[extent].open, progress) : undefined
  let alone: AloneReport | undefined
  let failure: unknown
  try {
    if (only.includes("alone")) alone = await measureAlone(extent, progress)
  } catch (error) {
    // What was measured by turns is told all the same.
    failure = error
  }
  const report = reportOf({ scenes, open, alone, absent })
  const line = JSON.stringify(resultsOf(report))
  console.log(text(report))
  // A run that leaves things out does not take the place of one that was whole.
  if (extent !== "quick" && options.only === undefined && failure === undefined) {
    progress(`written to docs/performance: the results, the tables, and ${publish(line).join(", ")}`)
  }
  console.log(line)
  if (failure !== undefined) throw failure
}

try {
  await run()
} catch (error) {
  console.error(error)
  process.exitCode = 1
}
