/** The demo's servers: child processes that can be killed, started again and slowed down. */
import { Data, Effect, type Scope } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"

/** A server did not come up. */
export class ServerFailed extends Data.TaggedError("ServerFailed")<{ readonly message: string }> {}

/** One server of the fleet. */
export interface FleetServer {
  /** The same for its whole life, restarts included. */
  readonly port: number
  /** SIGKILL: no goodbye. */
  readonly kill: Effect.Effect<void>
  /** Starts it again on the same port. */
  readonly restart: Effect.Effect<void, ServerFailed>
  /** Makes every call take so much longer. */
  readonly slow: (millis: number) => Effect.Effect<void>
}

const program = fileURLToPath(new URL("./server.ts", import.meta.url))

/** Starts a process and waits for the port it listens on. */
const spawn = (port: number): Effect.Effect<{ readonly child: ChildProcess; readonly port: number }, ServerFailed> =>
  Effect.callback((resume) => {
    const child = fork(program, [String(port)], {
      execArgv: ["--conditions=source"],
      stdio: ["ignore", "inherit", "inherit", "ipc"]
    })
    const failed = (message: string) => {
      child.kill("SIGKILL")
      resume(Effect.fail(new ServerFailed({ message })))
    }
    child.once("error", (error) => failed(`a server could not be started: ${error.message}`))
    child.once("exit", (code, signal) => failed(`a server ended with ${signal ?? code} before it was up`))
    child.once("message", (message: { readonly port: number }) => {
      child.removeAllListeners("exit")
      resume(Effect.succeed({ child, port: message.port }))
    })
    return Effect.sync(() => child.kill("SIGKILL"))
  })

const kill = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.kill("SIGKILL")
  })

/** A server that is killed when the scope closes, if not before. */
export const server: Effect.Effect<FleetServer, ServerFailed, Scope.Scope> = Effect.gen(function*() {
  const first = yield* Effect.acquireRelease(spawn(0), ({ child }) => Effect.suspend(() => kill(current ?? child)))
  let current: ChildProcess | undefined = first.child
  return {
    port: first.port,
    kill: Effect.suspend(() => kill(current!)),
    restart: Effect.map(spawn(first.port), ({ child }) => {
      current = child
    }),
    slow: (millis) => Effect.sync(() => void current!.send({ slow: millis }))
  }
})
