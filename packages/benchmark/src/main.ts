/**
 * `npm run bench`: client CPU a call, and calls a second, of a ThriftMux call through the default stack, of the same bytes by hand, of
 * the peers, of framed Thrift by ours and by npm's `thrift` with as many connections, and of HTTP by ours, by undici and by Effect's own
 * client, side by side in one run. The last line of the output is one JSON object.
 *
 *     npm run bench                                             about five minutes
 *     npm run bench -- --quick                                  about two; --full: about twenty
 *     npm run bench -- --profile ours --in-flight 1             where the time of one client goes
 */
import { parseArgs } from "node:util"
import { type ClientName, clientNames, type GroupName, groupNames, type Level, levelsOf } from "./peers.ts"
import { profile } from "./profile.ts"
import { json, reportOf, text } from "./report.ts"
import { measure, type Series, type Size } from "./rounds.ts"

/** The clients of framed Thrift and of HTTP are twice as many: less often is as long. */
const sizes = {
  quick: {
    mux: { starts: 2, rounds: 5, millis: 180 },
    framed: { starts: 2, rounds: 4, millis: 150 },
    http: { starts: 1, rounds: 5, millis: 150 }
  },
  standard: {
    mux: { starts: 4, rounds: 7, millis: 250 },
    framed: { starts: 2, rounds: 7, millis: 250 },
    http: { starts: 2, rounds: 7, millis: 250 }
  },
  full: {
    mux: { starts: 8, rounds: 16, millis: 400 },
    framed: { starts: 4, rounds: 12, millis: 400 },
    http: { starts: 4, rounds: 12, millis: 400 }
  }
} satisfies Record<string, Record<GroupName, Size>>

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    full: { type: "boolean", default: false },
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

const run = async (): Promise<void> => {
  if (options.profile !== undefined) {
    const name: ClientName = oneOf("profile", options.profile, clientNames)
    const level: Level = oneOf("in-flight", options["in-flight"], levelsOf(name))
    progress(`profiling ${name} with ${level} in flight`)
    const profiled = await profile(name, level, 5000)
    console.log(profiled.text)
    console.log(JSON.stringify({ profile: profiled.file }))
    return
  }
  const size = options.full ? sizes.full : options.quick ? sizes.quick : sizes.standard
  const series: Array<Series> = []
  for (const group of groupNames) series.push(await measure(group, size[group], progress))
  const report = reportOf(new Map(series.flatMap((each) => [...each])))
  console.log(text(report))
  console.log(json(report))
}

try {
  await run()
} catch (error) {
  console.error(error)
  process.exitCode = 1
}
