/** What is done with the tools of this machine before peers can be started, and how it fails. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"

/** Something of the machine's is missing: `what` says what, and how to get it. */
export class Missing extends Data.TaggedError("Missing")<{ readonly what: string }> {}

/** A tool failed: sources do not compile, or what they need could not be fetched. `what` says which tool, and where. */
export class BuildFailed extends Data.TaggedError("BuildFailed")<{ readonly what: string; readonly output: string }> {
  override get message(): string {
    return `${this.what} failed:\n${this.output}`
  }
}

/**
 * Runs a program to its end, with `variables` beside those of this process; `code` is undefined when there is no such program. Interruption ends
 * the program.
 */
export const execute = (
  command: string,
  args: ReadonlyArray<string>,
  cwd?: string,
  variables?: Readonly<Record<string, string>>
) =>
  Effect.callback<{ readonly code: number | null | undefined; readonly output: string }>((resume) => {
    const env = { ...globalThis.process.env, ...variables }
    const process = spawn(command, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] })
    let output = ""
    for (const stream of [process.stdout, process.stderr]) stream.on("data", (chunk: Buffer) => (output += chunk))
    process.on("error", () => resume(Effect.succeed({ code: undefined, output })))
    process.on("close", (code) => resume(Effect.succeed({ code, output })))
    return Effect.callback<void>((stopped) => {
      process.once("close", () => stopped(Effect.void))
      process.kill()
    })
  })
