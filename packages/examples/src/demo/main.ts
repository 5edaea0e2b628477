/**
 * `npm start`: five servers, 64 callers, one client. One server is killed, started again, another slowed down; the client loses
 * no call that could be saved, and nothing leaks.
 */
import { Effect, Logger } from "effect"
import { demo } from "./demo.ts"
import { type DemoOptions, parse, usage } from "./options.ts"
import * as Screen from "./screen.ts"
import { faults, figures, sentences } from "./summary.ts"

const titleOf = ({ callers, seconds, servers, uri }: DemoOptions) =>
  `ThriftMux: ${callers} callers, one client, ${
    uri ?? (servers === 1 ? "1 server" : `${servers} servers`)
  }, ${seconds} s`

/** The whole program: its exit code. */
const program = Effect.gen(function*() {
  const options = yield* parse(process.argv.slice(2))
  if (options === "help") {
    console.log(usage)
    return 0
  }
  const screen = yield* Effect.acquireRelease(
    Effect.sync(() => Screen.on(process.stdout, titleOf(options))),
    (screen) => Effect.sync(() => screen.close())
  )
  const result = yield* demo(options, screen)
  screen.end(result.final, sentences(result))
  if (options.json) console.log(JSON.stringify(figures(result)))
  return faults(result).length === 0 ? 0 : 1
}).pipe(
  Effect.scoped,
  // The screen shows what a log would tell.
  Effect.provide(Logger.layer([])),
  Effect.catch((error) =>
    Effect.sync(() => {
      console.error(error._tag === "UsageError" ? `${error.message}\n\n${usage}` : error.message)
      return error._tag === "UsageError" ? 2 : 1
    })
  )
)

// Ctrl-C ends the effect, and with it the servers; the exit code is the shell's for it.
const stop = new AbortController()
process.once("SIGINT", () => stop.abort(130))
process.once("SIGTERM", () => stop.abort(143))
process.exitCode = await Effect.runPromise(program, { signal: stop.signal }).catch((error: unknown) => {
  if (stop.signal.aborted) return stop.signal.reason as number
  console.error(error)
  return 1
})
