/**
 * `npm run chaos`: five servers in processes of their own under a constant open-loop load, and one fault after another: killed, frozen, reset,
 * silent, slow, and so on; over ThriftMux, and over HTTP those that differ there. Each scenario has bounds on what it may cost; a broken one is named, and makes the exit code 1.
 */
import { Effect } from "effect"
import { parseArgs } from "node:util"
import { launch } from "../soak/servers.ts"
import { http } from "./http/protocol.ts"
import type { Protocol } from "./protocol.ts"
import { type Row, table } from "./report.ts"
import { run } from "./run.ts"
import { scenarios, type Settings } from "./scenarios.ts"
import { thriftmux } from "./thriftmux/protocol.ts"
import { broken } from "./verdict.ts"

const protocols: Readonly<Record<string, Protocol>> = { thriftmux, http }

const usage = `Usage: npm run chaos -- [options]

  --protocol NAME  one only: ${Object.keys(protocols).join(", ")}
  --scenario NAME  one only, or several: ${scenarios.map(({ name }) => name).join(", ")}
  --servers N      servers, 2 to 20 (default 5)
  --rate N         calls a second, from 100 for each server to 5000 (default 1000)
  --seconds N      how long a fault lasts, 2 to 60 (default 2)
  --json           the line of figures only, without the table`

const { values } = parseArgs({
  options: {
    protocol: { type: "string" },
    scenario: { type: "string", multiple: true },
    servers: { type: "string", default: "5" },
    rate: { type: "string", default: "1000" },
    seconds: { type: "string", default: "2" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false }
  }
})

const wrong = (what: string): never => {
  console.error(`${what}\n\n${usage}`)
  process.exit(2)
}

const whole = (name: string, text: string, least: number, most: number): number => {
  const value = Number(text)
  return Number.isSafeInteger(value) && value >= least && value <= most
    ? value
    : wrong(`--${name} ${text}: not a whole number from ${least} to ${most}`)
}

if (values.help) {
  console.log(usage)
  process.exit(0)
}
const servers = whole("servers", values.servers, 2, 20)
const settings: Settings = {
  servers,
  // With fewer calls on each a frozen one is not found out in one round of timeouts.
  rate: whole("rate", values.rate, 100 * servers, 5000),
  seconds: whole("seconds", values.seconds, 2, 60)
}
for (const name of values.scenario ?? []) {
  if (scenarios.every((scenario) => scenario.name !== name)) wrong(`no scenario "${name}"`)
}
const protocol = values.protocol
if (protocol !== undefined && !Object.hasOwn(protocols, protocol)) wrong(`no protocol "${protocol}"`)

/** What came of the scenarios of one protocol. */
interface Rows {
  readonly protocol: string
  readonly rows: ReadonlyArray<Row>
}

const runAll = (protocol: Protocol) =>
  Effect.gen(function*() {
    const fleet = yield* Effect.all(Array.from({ length: settings.servers }, () => launch(protocol.server)), {
      concurrency: "unbounded"
    })
    const rows: Array<Row> = []
    const chosen = values.scenario ?? protocol.scenarios
    for (const scenario of scenarios.filter(({ name }) => chosen.includes(name))) {
      if (!values.json) console.error(`${protocol.name}, ${scenario.name}: ${scenario.does}`)
      const figures = yield* run(protocol, scenario, settings, fleet)
      rows.push({ name: scenario.name, figures, broken: broken(figures, scenario.bounds(settings, figures.faultMs)) })
    }
    return { protocol: protocol.name, rows }
  }).pipe(Effect.scoped)

const chosen = Object.values(protocols).filter(({ name }) => name === (protocol ?? name))
// One after the other: the machine is not theirs to share.
const chaos: Effect.Effect<ReadonlyArray<Rows>, unknown> = Effect.forEach(chosen, runAll)

// Ctrl-C ends the effect, and with it the servers: one that is held would not end by itself.
const stop = new AbortController()
process.once("SIGINT", () => stop.abort(130))
process.once("SIGTERM", () => stop.abort(143))
const all = await Effect.runPromise(chaos, { signal: stop.signal }).catch((error: unknown) => {
  if (!stop.signal.aborted) throw error
  process.exit(stop.signal.reason as number)
})
for (const { protocol, rows } of all) {
  if (!values.json) console.log(`${protocol}\n${table(rows)}\n`)
  else {for (const { broken, name } of rows) {
      for (const each of broken) console.error(`BROKEN ${protocol}, ${name}: ${each}`)
    }}
}
const figures = Object.fromEntries(all.map(({ protocol, rows }) => [
  protocol,
  Object.fromEntries(rows.map(({ figures, name }) => [name, figures]))
]))
const { thriftmux: scenariosOf, ...others } = figures
console.log(JSON.stringify({ ...(scenariosOf !== undefined && { scenarios: scenariosOf }), ...others }))
process.exitCode = all.every(({ rows }) => rows.every(({ broken }) => broken.length === 0)) ? 0 : 1
