/** Peers that are told what to do by a file, and say what they see in a log: they live as long as their scope, in a folder of their own. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { PeerError } from "./Peer.ts"

/** A running program. */
export interface Daemon {
  /** All that it has said so far. */
  readonly output: () => string
}

/** How a program is started. */
export interface DaemonProgram {
  readonly name: string
  readonly command: string
  /** Given the folder that has `files`. */
  readonly args: (folder: string) => ReadonlyArray<string>
  readonly files: Readonly<Record<string, string>>
}

/** How often something is looked at that is waited for. */
const lookMillis = 50

/** Starts a program; `ready` is asked until it succeeds, or the program has ended. */
export const start = (
  { args, command, files, name }: DaemonProgram,
  ready: (daemon: Daemon) => Effect.Effect<unknown, unknown>
): Effect.Effect<Daemon, PeerError, Scope.Scope> =>
  Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "scales-interop-"))),
      (made) => Effect.sync(() => rmSync(made, { recursive: true }))
    )
    for (const [file, content] of Object.entries(files)) writeFileSync(join(folder, file), content)
    let output = ""
    let ended: string | undefined
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn(command, args(folder), { cwd: folder, stdio: ["ignore", "pipe", "pipe"] })
        for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (output += chunk))
        child.on("error", (error) => (ended = error.message))
        child.on("exit", (code, signal) => (ended = `ended with ${signal ?? code}`))
        return child
      }),
      (child) =>
        Effect.callback<void>((resume) => {
          if (ended !== undefined) return resume(Effect.void)
          child.once("exit", () => resume(Effect.void))
          child.kill("SIGKILL")
        })
    )
    const daemon: Daemon = { output: () => output }
    for (;;) {
      if (ended !== undefined) return yield* new PeerError({ what: `${name} ${ended}\n${output.slice(-2000)}` })
      if ((yield* Effect.exit(ready(daemon)))._tag === "Success") return daemon
      yield* Effect.sleep(lookMillis)
    }
  })
