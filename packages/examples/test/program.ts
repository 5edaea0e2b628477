/** Programs of the repository as child processes. */
import { Effect, type Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"

/** A program that runs. */
export interface Running {
  readonly child: ChildProcess
  /** All that it has written so far. */
  readonly stdout: () => string
  readonly stderr: () => string
  /** Completes when it has written a line that matches; dies when it ends without one. */
  readonly line: (pattern: RegExp) => Effect.Effect<RegExpExecArray>
  /** How it ended: its code, or the signal. */
  readonly ended: Effect.Effect<number | string>
}

/** The path of a file of this package. */
export const pathOf = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url))

/** Starts a program on the Node that runs the tests, from the sources; it is killed when the scope closes. */
export const start = (
  path: string,
  args: ReadonlyArray<string> = []
): Effect.Effect<Running, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(process.execPath, ["--conditions=@scales-rpc/source", path, ...args], {
        stdio: ["ignore", "pipe", "pipe"],
        env: {
          ...process.env,
          // As a reader's shell has it, not as vitest sets it.
          NODE_OPTIONS: "",
          FORCE_COLOR: undefined,
          NO_COLOR: undefined,
          // Half of what a short program costs is the compiling of what it imports: 0.5 s to 0.25 s of CPU.
          NODE_COMPILE_CACHE: pathOf("../../node_modules/.cache/examples")
        }
      })
      const written = { stdout: "", stderr: "" }
      const listeners = new Set<() => void>()
      let end: number | string | undefined
      const tell = () => {
        for (const listener of listeners) listener()
      }
      for (const name of ["stdout", "stderr"] as const) {
        child[name].setEncoding("utf8").on("data", (text: string) => {
          written[name] += text
          tell()
        })
      }
      child.on("close", (code, signal) => {
        end = signal ?? code ?? -1
        tell()
      })
      /** Completes with the first value that `look` gives. */
      const until = <A>(look: () => Effect.Effect<A> | undefined) =>
        Effect.callback<A>((resume) => {
          const listener = () => {
            const found = look()
            if (found === undefined) return
            listeners.delete(listener)
            resume(found)
          }
          listeners.add(listener)
          listener()
          return Effect.sync(() => void listeners.delete(listener))
        })
      return {
        child,
        stdout: () => written.stdout,
        stderr: () => written.stderr,
        line: (pattern: RegExp) =>
          until(() => {
            const match = pattern.exec(written.stdout)
            if (match !== null) return Effect.succeed(match)
            return end === undefined ? undefined : Effect.die(
              new Error(`ended with ${end} before ${pattern} was seen:\n${written.stdout}\n${written.stderr}`)
            )
          }),
        ended: until(() => end === undefined ? undefined : Effect.succeed(end))
      }
    }),
    ({ child, ended }) => {
      child.kill("SIGKILL")
      return ended
    }
  )

/** Runs a program to its end. */
export const run = (
  path: string,
  args: ReadonlyArray<string> = []
): Effect.Effect<{ readonly code: number | string; readonly stdout: string; readonly stderr: string }> =>
  Effect.scoped(Effect.gen(function*() {
    const { ended, stderr, stdout } = yield* start(path, args)
    const code = yield* ended
    return { code, stdout: stdout(), stderr: stderr() }
  }))
