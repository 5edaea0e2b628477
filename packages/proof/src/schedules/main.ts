/**
 * `npm run schedules`: random schedules of sends, replies in any order, discards, interrupts, drains, leases, pings, garbage and
 * closes against the client's and the server's session, 60,000 each; `--full` a million. The first that fails of each is made short.
 */
import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { attempt, explore, report } from "./explore.ts"
import type { Schedule } from "./grammar.ts"
import { subjects } from "./subjects.ts"

const usage = `Usage: npm run schedules -- [options]

  --schedules N   schedules for each side (default 60000; with --full 1000000)
  --seed N        where to start (default: one that is printed)
  --side NAME     one side: ${subjects.map(({ name }) => name).join(", ")}
  --index N       one schedule only, to run a failing one again
  --replay JSON   one schedule, given`

const wrong = (what: string): never => {
  console.error(`${what}\n\n${usage}`)
  process.exit(2)
}

const number = (text: string | undefined, fallback: number): number => {
  const value = text === undefined ? fallback : Number(text)
  return Number.isSafeInteger(value) && value >= 0 ? value : wrong(`not a whole number: ${text}`)
}

const { values } = parseArgs({
  options: {
    schedules: { type: "string" },
    seed: { type: "string" },
    side: { type: "string" },
    index: { type: "string" },
    replay: { type: "string" },
    full: { type: "boolean" },
    help: { type: "boolean" }
  }
})
if (values.help === true) {
  console.log(usage)
  process.exit(0)
}
const schedules = number(values.schedules, values.full === true ? 1_000_000 : 60_000)
const seed = number(values.seed, Date.now() % 0x7fffffff)
const chosen = subjects.filter(({ name }) => values.side === undefined || values.side === name)
if (chosen.length === 0) wrong(`no side "${values.side}"`)
const from = number(values.index, 0)
const to = values.index === undefined ? schedules : from + 1

if (values.replay !== undefined) {
  if (chosen.length > 1) wrong("--replay needs --side")
  const error = await attempt(chosen[0]!, JSON.parse(values.replay) as Schedule)
  console.log(error === undefined ? "it holds" : error.stack)
  process.exit(error === undefined ? 0 : 1)
}

/** Of several sides each has a process: there are two cores. */
const apart = (name: string): Promise<boolean> =>
  new Promise((resolve) => {
    const child = fork(
      fileURLToPath(import.meta.url),
      ["--side", name, "--seed", `${seed}`, "--schedules", `${schedules}`, ...index],
      { execArgv: ["--conditions=@scales-rpc/source"] }
    )
    child.on("exit", (code) => resolve(code === 0))
  })
const index = values.index === undefined ? [] : ["--index", values.index]

if (chosen.length > 1) {
  const held = await Promise.all(chosen.map(({ name }) => apart(name)))
  const failures = held.filter((holds) => !holds).length
  console.log(JSON.stringify({ schedules: chosen.length * (to - from), failures, seed }))
  process.exit(failures === 0 ? 0 : 1)
}
const subject = chosen[0]!
const started = performance.now()
const failing = await explore(subject, seed, from, to)
if (failing === undefined) {
  console.log(`${subject.name}: ${to - from} schedules hold, ${Math.round(performance.now() - started)} ms`)
} else console.log(report(subject, seed, failing))
if (process.send === undefined) {
  const ran = failing === undefined ? to - from : failing.index - from + 1
  console.log(JSON.stringify({ schedules: ran, failures: failing === undefined ? 0 : 1, seed }))
}
process.exit(failing === undefined ? 0 : 1)
