/**
 * `npm run fuzz`: mutated inputs into every decoder, a million each; `--full` ten million. Every input ends in a value or in
 * the decoder's own error: not in another error, a hang, or a value that is out of proportion.
 */
import { fork } from "node:child_process"
import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { targets } from "./targets.ts"
import type { Crash } from "./worker.ts"

const usage = `Usage: npm run fuzz -- [options]

  --inputs N   inputs for each decoder (default 1000000; with --full 10000000)
  --seed N     where to start (default: one that is printed)
  --only NAME  one decoder: ${targets.map(({ name }) => name).join(", ")}
  --index N    one input only, to run a crash again`

/** A worker that says nothing for so long hangs. 2000 inputs take some milliseconds. */
const silenceMillis = 30_000

const number = (text: string | undefined, fallback: number): number => {
  const value = text === undefined ? fallback : Number(text)
  if (Number.isSafeInteger(value) && value >= 0) return value
  console.error(`not a whole number: ${text}\n\n${usage}`)
  process.exit(2)
}

const { values } = parseArgs({
  options: {
    inputs: { type: "string" },
    seed: { type: "string" },
    only: { type: "string" },
    index: { type: "string" },
    full: { type: "boolean" },
    help: { type: "boolean" }
  }
})
if (values.help === true) {
  console.log(usage)
  process.exit(0)
}
const inputs = number(values.inputs, values.full === true ? 10_000_000 : 1_000_000)
const seed = number(values.seed, Date.now() % 0x7fffffff)
const chosen = targets.filter(({ name }) => values.only === undefined || values.only === name)
if (chosen.length === 0) {
  console.error(`no decoder "${values.only}"\n\n${usage}`)
  process.exit(2)
}
const from = number(values.index, 0)
const to = values.index === undefined ? inputs : from + 1

/** Runs one target from an input on; a process that dies or hangs is a crash of the input it was at, and the next takes over behind it. */
const attack = (name: string, from: number): Promise<{ readonly crashes: ReadonlyArray<Crash>; readonly at: number }> =>
  new Promise((resolve) => {
    const child = fork(fileURLToPath(new URL("./worker.ts", import.meta.url)), [
      name,
      String(seed),
      String(from),
      String(to)
    ], {
      execArgv: ["--conditions=@scales-rpc/source", "--max-old-space-size=256"]
    })
    const crashes: Array<Crash> = []
    let at = from
    let done = false
    let timer = setTimeout(() => {}, 0)
    const watch = () => {
      clearTimeout(timer)
      timer = setTimeout(() => child.kill("SIGKILL"), silenceMillis)
    }
    watch()
    child.on("message", (message: { readonly at?: number; readonly crash?: Crash; readonly done?: boolean }) => {
      watch()
      if (message.at !== undefined) at = message.at
      if (message.crash !== undefined) crashes.push(message.crash)
      if (message.done === true) done = true
    })
    child.on("exit", (code, signal) => {
      clearTimeout(timer)
      if (!done) {
        const what = `the process ended with ${signal ?? code} within 2000 inputs from ${at}: out of memory, or a hang`
        crashes.push({ index: at, hex: "", what })
      }
      resolve({ crashes, at: done ? to : at + 2000 })
    })
  })

let crashed = 0
let run = 0

/** All of the inputs of one target. */
const fuzz = async (name: string): Promise<void> => {
  const started = performance.now()
  let crashes = 0
  for (let at = from; at < to && crashes < 20;) {
    const result = await attack(name, at)
    for (const { hex, index, what } of result.crashes.slice(0, 5)) {
      console.log(`CRASH ${name}, seed ${seed}, input ${index}: ${what}\n  ${hex}`)
      console.log(`  again: npm run fuzz -- --only ${name} --seed ${seed} --index ${index}`)
    }
    crashes += result.crashes.length
    at = result.at
  }
  run += to - from
  crashed += crashes
  console.log(
    `${name.padEnd(10)} ${to - from} inputs, ${crashes} crashes, ${Math.round(performance.now() - started)} ms`
  )
}

// One process a core, each with the next target; the last ones take longest, and begin.
const left = chosen.toReversed()
await Promise.all(Array.from({ length: availableParallelism() }, async () => {
  for (let target = left.shift(); target !== undefined; target = left.shift()) await fuzz(target.name)
}))
console.log(JSON.stringify({ inputs: run, crashes: crashed, seed }))
process.exit(crashed === 0 ? 0 : 1)
