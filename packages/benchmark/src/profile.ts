/** Where the time of one client goes: a CPU profile of its steady state, summed up by function and by file. */
import { mkdtemp, readFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import type { NodeClientName } from "./peers.ts"
import { startProcesses, warmUp } from "./rounds.ts"
import type { Level } from "./scenes.ts"
import { table } from "./table.ts"

/** The parts of a `.cpuprofile` that are read here. */
interface CpuProfile {
  readonly nodes: ReadonlyArray<{
    readonly id: number
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number }
  }>
  readonly samples: ReadonlyArray<number>
  /** Microseconds from each sample to the one before it. */
  readonly timeDeltas: ReadonlyArray<number>
}

/** Time that the process spent in one function, or in one file, itself: not in what it calls. */
export interface SelfTime {
  readonly name: string
  /** Of all the time that it worked, in percent. */
  readonly percent: number
}

const root = fileURLToPath(new URL("../../..", import.meta.url))

const place = (url: string): string =>
  url.startsWith("file:") ? relative(root, fileURLToPath(url)) : url === "" ? "native" : url

const sorted = (micros: ReadonlyMap<string, number>, total: number): ReadonlyArray<SelfTime> =>
  Array.from(micros, ([name, time]) => ({ name, percent: 100 * time / total }))
    .toSorted((a, b) => b.percent - a.percent)

/** Sums up a profile; both lists begin with the most expensive. */
export const selfTimes = (
  profile: CpuProfile
): { readonly functions: ReadonlyArray<SelfTime>; readonly files: ReadonlyArray<SelfTime> } => {
  const frames = new Map(profile.nodes.map((node) => [node.id, node.callFrame]))
  const functions = new Map<string, number>()
  const files = new Map<string, number>()
  let total = 0
  for (const [i, id] of profile.samples.entries()) {
    const { functionName, lineNumber, url } = frames.get(id)!
    // Neither waiting nor the profiler's own start and end.
    if (functionName === "(idle)" || url === "node:inspector") continue
    const time = profile.timeDeltas[i]!
    // V8's own states, such as the garbage collector, are written in parentheses.
    const own = functionName.startsWith("(") && url === ""
    const file = own ? functionName : place(url)
    const name = own ? functionName : `${functionName || "(anonymous)"}  ${file}:${lineNumber + 1}`
    total += time
    functions.set(name, (functions.get(name) ?? 0) + time)
    files.set(file, (files.get(file) ?? 0) + time)
  }
  return { functions: sorted(functions, total), files: sorted(files, total) }
}

const rows = (title: string, times: ReadonlyArray<SelfTime>, most: number): string =>
  table([
    [title, "self"],
    ...times.slice(0, most).map(({ name, percent }) => [name, `${percent.toFixed(1)} %`])
  ])

/** Profiles a client; gives the file and the tables. */
export const profile = async (
  name: NodeClientName,
  level: Level,
  millis: number
): Promise<{ readonly file: string; readonly text: string }> => {
  const file = join(await mkdtemp(join(tmpdir(), "scales-profile-")), `${name}-${level}.cpuprofile`)
  const processes = await startProcesses([name])
  try {
    const client = processes.clients.get(name)!
    await warmUp(client, level, 86)
    await client.profile(level, millis, file)
  } finally {
    await processes.stop()
  }
  const { files, functions } = selfTimes(JSON.parse(await readFile(file, "utf8")) as CpuProfile)
  return { file, text: `${rows("function", functions, 40)}\n\n${rows("file", files, 30)}` }
}
