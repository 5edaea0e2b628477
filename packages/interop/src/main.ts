/**
 * The interop suite: what we build against real peers of each family.
 *
 *     npm run interop [-- [FAMILY [TEXT]] [--full]]
 *
 * FAMILY runs one family, TEXT only its cases whose name contains it; `--full` the large sizes. The last line of stdout is a JSON
 * object with `passed`, `failed` and `skipped`; the exit code is 1 when a case failed or nothing could be run that was asked for.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import { parseArgs } from "node:util"
import * as HttpFamily from "./http/family.ts"
import * as ObservabilityFamily from "./observability/family.ts"
import { budget, Full, type Tally } from "./Suite.ts"
import * as ThriftFamily from "./thrift/family.ts"
import * as ThriftMuxFamily from "./thriftmux/family.ts"
import * as ZooKeeperFamily from "./zookeeper/family.ts"

/** A family runs its cases that `select` picks, and says how they ended. */
type Family = (select: (name: string) => boolean, deadline: number) => Effect.Effect<Tally>

const families: Readonly<Record<string, Family>> = {
  thriftmux: ThriftMuxFamily.run,
  thrift: ThriftFamily.run,
  http: HttpFamily.run,
  zookeeper: ZooKeeperFamily.run,
  observability: ObservabilityFamily.run
}

const usage = (what: string): never => {
  console.error(
    `${what}\nusage: npm run interop [-- [FAMILY [TEXT]] [--full]]\nfamilies: ${Object.keys(families).join(", ")}`
  )
  process.exit(2)
}

const options = () => {
  try {
    const { positionals, values } = parseArgs({ allowPositionals: true, options: { full: { type: "boolean" } } })
    const [family, text = "", ...rest] = positionals
    if (rest.length > 0) return usage(`too many words: ${rest.join(" ")}`)
    if (family !== undefined && !Object.hasOwn(families, family)) return usage(`unknown family "${family}"`)
    return { names: family === undefined ? Object.keys(families) : [family], text, full: values.full === true }
  } catch (error) {
    return usage((error as Error).message)
  }
}

const { full, names, text } = options()
const deadline = performance.now() + Duration.toMillis(budget)

const main = Effect.gen(function*() {
  const total = { passed: 0, failed: 0, skipped: 0 }
  for (const name of names) {
    const tally = yield* families[name]!((one) => one.includes(text), deadline)
    total.passed += tally.passed
    total.failed += tally.failed
    total.skipped += tally.skipped
  }
  return total
}).pipe(
  Effect.provideService(Full, full),
  // stdout is for the cases and their sum.
  Effect.provideService(Logger.LogToStderr, true)
)

const fiber = Effect.runFork(main)
// Peers end with their scopes: whoever stops the run must not leave them to notice by themselves.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => fiber.interruptUnsafe())
fiber.addObserver((exit) => {
  if (Exit.isFailure(exit)) process.exit(130)
  const { failed, passed, skipped } = exit.value
  if (passed + failed + skipped === 0) usage(`no case's name contains "${text}"`)
  console.log(JSON.stringify(exit.value))
  process.exit(failed > 0 ? 1 : 0)
})
