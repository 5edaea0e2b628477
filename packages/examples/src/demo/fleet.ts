/** The demo's servers: child processes that can be killed, started again and slowed down. */
import { Data, Effect, type Scope } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"

/** A server did not come up. */
export class ServerFailed extends Data.TaggedError("ServerFailed")<{ readonly message: string }> {}

/** One server of the fleet. */
export interface FleetServer {
  /** What the demo calls it: `server 1`. */
  readonly name: string
  /** `127.0.0.1:port`, the same for its whole life, restarts included. */
  readonly address: string
  /** SIGKILL: no goodbye. Completes when the process is gone. */
  readonly kill: Effect.Effect<void>
  /** Starts it again on the same port. Completes when it listens. */
  readonly restart: Effect.Effect<void, ServerFailed>
  /** Makes every call take so much longer. */
  readonly slow: (millis: number) => Effect.Effect<void>
}

const program = fileURLToPath(new URL("./server.ts", import.meta.url))

const kill = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.kill("SIGKILL")
  })

/** Starts server number `number`. It is killed when the scope closes, if not before. */
export const start = (number: number): Effect.Effect<FleetServer, ServerFailed, Scope.Scope> =>
  Effect.gen(function*() {
    const name = `server ${number}`
    let child: ChildProcess | undefined
    yield* Effect.addFinalizer(() => Effect.suspend(() => child === undefined ? Effect.void : kill(child)))

    /** A new process; gives the port that it listens on. */
    const launch = (port: number) =>
      Effect.callback<number, ServerFailed>((resume) => {
        const launched = child = fork(program, [String(port)], {
          execArgv: ["--conditions=@scales-rpc/source"],
          stdio: ["ignore", "inherit", "inherit", "ipc"]
        })
        const failed = (why: string) =>
          resume(Effect.fail(new ServerFailed({ message: `${name} did not start: ${why}` })))
        const onExit = (code: number | null, signal: string | null) =>
          failed(`it ended with ${signal ?? `code ${code}`}`)
        launched.once("error", (error) => failed(error.message))
        launched.once("exit", onExit)
        launched.once("message", (message: { readonly port: number }) => {
          launched.off("exit", onExit)
          resume(Effect.succeed(message.port))
        })
      })

    const port = yield* launch(0)
    return {
      name,
      address: `127.0.0.1:${port}`,
      kill: Effect.suspend(() => kill(child!)),
      restart: Effect.asVoid(launch(port)),
      slow: (millis) => Effect.sync(() => void child!.send({ slow: millis }))
    }
  })
