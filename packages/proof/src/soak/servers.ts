/** Servers in child processes that are killed, drained and started again: the soak's own, and any other program that tells its port. */
import { Data, Effect, type Scope } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Point } from "./verdict.ts"

/** A server did not come up, or went away by itself. */
export class ServerLost extends Data.TaggedError("ServerLost")<{ readonly message: string }> {}

/** One server, on one port for its whole life. */
export interface ChildServer {
  /** `127.0.0.1:port`. */
  readonly address: string
  /** Ends its process: SIGKILL leaves at once, SIGTERM drains. Completes when it is gone. */
  readonly stop: (signal: "SIGKILL" | "SIGTERM") => Effect.Effect<void>
  /** Holds its process (SIGSTOP), or lets it go on (SIGCONT). */
  readonly signal: (signal: "SIGSTOP" | "SIGCONT") => Effect.Effect<void>
  /** Starts it again. Completes when it listens. */
  readonly restart: Effect.Effect<void, ServerLost>
  /** Starts another program in its place, on its port. Completes when that listens. */
  readonly replace: (program: URL, ...args: ReadonlyArray<string>) => Effect.Effect<void, ServerLost>
  /** Sends it a message, and waits for what `pick` finds in one of its own. */
  readonly ask: <Told, A>(message: string, pick: (told: Told) => A | undefined) => Effect.Effect<A, ServerLost>
}

/** A server of the soak. */
export interface SoakServer extends ChildServer {
  /** Its own figures. */
  readonly point: Effect.Effect<Point, ServerLost>
}

/** The next thing that a server tells; fails when it ends first. */
const told = <Told, A>(child: ChildProcess, pick: (told: Told) => A | undefined): Effect.Effect<A, ServerLost> =>
  Effect.callback((resume) => {
    const off = () => {
      child.off("message", onMessage)
      child.off("exit", onExit)
    }
    const onMessage = (message: unknown) => {
      const picked = pick(message as Told)
      if (picked === undefined) return
      off()
      resume(Effect.succeed(picked))
    }
    const onExit = (code: number | null, signal: string | null) => {
      off()
      resume(Effect.fail(new ServerLost({ message: `a server ended with ${signal ?? code}` })))
    }
    child.on("message", onMessage)
    child.on("exit", onExit)
    return Effect.sync(off)
  })

const stop = (child: ChildProcess, signal: "SIGKILL" | "SIGTERM"): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.kill(signal)
  })

/**
 * Starts a program that listens on the port in its first argument, 0 for any, and then tells it: `{ port }`. It is killed when the scope
 * closes, if not before. `flags` are Node's.
 */
export const launch = (
  program: URL,
  flags: ReadonlyArray<string> = []
): Effect.Effect<ChildServer, ServerLost, Scope.Scope> =>
  Effect.gen(function*() {
    const begin = (path: URL, ...args: ReadonlyArray<string>) =>
      fork(fileURLToPath(path), args, {
        execArgv: ["--conditions=@scales-rpc/source", ...flags],
        stdio: "inherit"
      })
    const listening = (started: ChildProcess) => told(started, ({ port }: { readonly port?: number }) => port)
    let child = begin(program, "0")
    yield* Effect.addFinalizer(() => Effect.suspend(() => stop(child, "SIGKILL")))
    const port = yield* listening(child)
    const replace = (path: URL, ...args: ReadonlyArray<string>) =>
      Effect.suspend(() => {
        child = begin(path, String(port), ...args)
        return Effect.asVoid(listening(child))
      })
    return {
      address: `127.0.0.1:${port}`,
      stop: (signal) => Effect.suspend(() => stop(child, signal)),
      signal: (signal) => Effect.sync(() => void child.kill(signal)),
      restart: replace(program),
      replace,
      ask: (message, pick) =>
        Effect.suspend(() => {
          child.send(message)
          return told(child, pick)
        })
    }
  })

/** Starts a server of the soak. */
export const start: Effect.Effect<SoakServer, ServerLost, Scope.Scope> = Effect.map(
  launch(new URL("./server.ts", import.meta.url), ["--expose-gc"]),
  (server) => ({ ...server, point: server.ask("measure", ({ point }: { readonly point?: Point }) => point) })
)
