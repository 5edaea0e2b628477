/** The soak's servers: child processes that are killed, drained and started again. */
import { Data, Effect, type Scope } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Point } from "./verdict.ts"

/** A server did not come up, or went away by itself. */
export class ServerLost extends Data.TaggedError("ServerLost")<{ readonly message: string }> {}

/** One server, on one port for its whole life. */
export interface SoakServer {
  /** `127.0.0.1:port`. */
  readonly address: string
  /** Ends its process: SIGKILL leaves at once, SIGTERM drains. Completes when it is gone. */
  readonly stop: (signal: "SIGKILL" | "SIGTERM") => Effect.Effect<void>
  /** Starts it again. Completes when it listens. */
  readonly restart: Effect.Effect<void, ServerLost>
  /** Its own figures. */
  readonly point: Effect.Effect<Point, ServerLost>
}

const program = fileURLToPath(new URL("./server.ts", import.meta.url))

type Told = { readonly port?: number; readonly point?: Point }

/** The next thing that a server tells; fails when it ends first. */
const told = <A>(child: ChildProcess, pick: (told: Told) => A | undefined): Effect.Effect<A, ServerLost> =>
  Effect.callback((resume) => {
    const off = () => {
      child.off("message", onMessage)
      child.off("exit", onExit)
    }
    const onMessage = (message: Told) => {
      const picked = pick(message)
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

/** Starts a server. It is killed when the scope closes, if not before. */
export const start: Effect.Effect<SoakServer, ServerLost, Scope.Scope> = Effect.gen(function*() {
  const launch = (port: number) =>
    fork(program, [String(port)], { execArgv: ["--conditions=@scales-rpc/source", "--expose-gc"], stdio: "inherit" })
  let child = launch(0)
  yield* Effect.addFinalizer(() => Effect.suspend(() => stop(child, "SIGKILL")))
  const port = yield* told(child, ({ port }) => port)
  return {
    address: `127.0.0.1:${port}`,
    stop: (signal) => Effect.suspend(() => stop(child, signal)),
    restart: Effect.suspend(() => {
      child = launch(port)
      return Effect.asVoid(told(child, ({ port }) => port))
    }),
    point: Effect.suspend(() => {
      child.send("measure")
      return told(child, ({ point }) => point)
    })
  }
})
