/** One ThriftMux server of the chaos runs, in a process of its own: echoes after its service time, and misbehaves when it is told to. */
import { ErrorReply, Nack } from "@scales-rpc/mux"
import { ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Effect, Fiber } from "effect"
import { Echo, echoHandlers } from "../../../../examples/src/echo.ts"
import { type Mood, serviceMillis, slowness } from "../mood.ts"

// The run that started this one has gone: nobody is left to stop it.
process.on("disconnect", () => process.exit(0))

let mood: Mood = "well"

const handlers = echoHandlers(() => mood === "slow" ? slowness * serviceMillis : serviceMillis)

const program = Effect.gen(function*() {
  const server = yield* ThriftMuxServer.make(Echo, {
    ...handlers,
    // What refuses or fails does so at once, as broken servers do: to the least loaded it looks like the best.
    passMessage: (message) => {
      if (mood === "errors") return Effect.fail(new ErrorReply({ why: "an error storm" }))
      if (mood === "nacks") return Effect.fail(new Nack({}))
      return handlers.passMessage(message)
    }
  }, { port: Number(process.argv[2]), drainTimeout: "2 seconds" })
  process.on("message", (told: Mood | "reset") => {
    if (told === "reset") { for (const session of server.sessions()) session.destroy() }
    else mood = told
    process.send?.({ done: told })
  })
  process.send?.({ port: server.address.port })
  return yield* Effect.never
})

const main = Effect.runFork(Effect.scoped(program))
process.once("SIGTERM", () => {
  Effect.runFork(Effect.ensuring(Fiber.interrupt(main), Effect.sync(() => process.exit(0))))
})
