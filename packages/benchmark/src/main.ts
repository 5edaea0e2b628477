/**
 * `npm run bench`: client CPU a call, and calls a second, of a ThriftMux call through the default stack, of the same bytes by hand, and of
 * the peers, side by side in one run. The last line of the output is one JSON object.
 *
 *     npm run bench                                             about two minutes
 *     npm run bench -- --quick                                  under one; --full: about ten
 *     npm run bench -- --profile ours --in-flight 1             where the time of one client goes
 */
import { parseArgs } from "node:util"
import { type ClientName, clientNames } from "./peers.ts"
import { profile } from "./profile.ts"
import { json, reportOf, text } from "./report.ts"
import { type Level, levels, measure, type Size } from "./rounds.ts"

const sizes = {
  quick: { starts: 2, rounds: 5, millis: 180 },
  standard: { starts: 4, rounds: 7, millis: 250 },
  full: { starts: 8, rounds: 16, millis: 400 }
} satisfies Record<string, Size>

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
    const level: Level = oneOf("in-flight", options["in-flight"], levels)
    progress(`profiling ${name} with ${level} in flight`)
    const profiled = await profile(name, level, 5000)
    console.log(profiled.text)
    console.log(JSON.stringify({ profile: profiled.file }))
    return
  }
  const size = options.full ? sizes.full : options.quick ? sizes.quick : sizes.standard
  const report = reportOf(await measure(size, progress))
  console.log(text(report))
  console.log(json(report))
}

try {
  await run()
} catch (error) {
  console.error(error)
  process.exitCode = 1
}
