/** The demo's command line. */
import { Data, Effect } from "effect"
import { parseArgs } from "node:util"

/** What the demo was asked to do. */
export interface DemoOptions {
  readonly seconds: number
  readonly servers: number
  readonly callers: number
  readonly json: boolean
  /** Servers that are already there: none are started, killed or slowed down. */
  readonly uri: string | undefined
}

/** An option that cannot be read. */
export class UsageError extends Data.TaggedError("UsageError")<{ readonly message: string }> {}

/** What there is to say on the command line. */
export const usage = `Usage: npm start -- [options]

  --seconds N   how long to call, 1 to 3600 (default 10); longer if a server takes longer to come back
  --servers N   how many servers to start, 1 to 50 (default 5)
  --callers N   how many callers, 1 to 10000 (default 64)
  --uri URI     call servers that are already there, such as tcp://localhost:8080; starts none
  --json        the last line is one JSON object
  --help        this text

Exits 1 if a reply was wrong, anything leaked or a killed server was not taken back, 2 if an option cannot be read.`

const wholeNumber = (name: string, text: string | undefined, fallback: number, max: number) => {
  const value = text === undefined ? fallback : Number(text)
  return text?.trim() !== "" && Number.isInteger(value) && value >= 1 && value <= max
    ? Effect.succeed(value)
    : Effect.fail(new UsageError({ message: `--${name} takes a whole number from 1 to ${max}, not "${text}"` }))
}

/** Reads the arguments behind the program's name; `"help"` when that was asked for. */
export const parse = (argv: ReadonlyArray<string>): Effect.Effect<DemoOptions | "help", UsageError> =>
  Effect.gen(function*() {
    const { values } = yield* Effect.try({
      try: () =>
        parseArgs({
          args: [...argv],
          options: {
            seconds: { type: "string" },
            servers: { type: "string" },
            callers: { type: "string" },
            uri: { type: "string" },
            json: { type: "boolean" },
            help: { type: "boolean" }
          }
        }),
      catch: (error) => new UsageError({ message: error instanceof Error ? error.message : String(error) })
    })
    if (values.help === true) return "help"
    return {
      seconds: yield* wholeNumber("seconds", values.seconds, 10, 3600),
      servers: yield* wholeNumber("servers", values.servers, 5, 50),
      callers: yield* wholeNumber("callers", values.callers, 64, 10_000),
      json: values.json === true,
      uri: values.uri
    }
  })
