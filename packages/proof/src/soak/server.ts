/** One server of the soak, in a process of its own: echoes, refuses, dawdles; drains on SIGTERM, and measures itself when asked. */
import { Nack } from "@scales-rpc/mux"
import { ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Effect, Fiber, Metric } from "effect"
import { Echo, echoHandlers } from "../../../examples/src/echo.ts"
import { measure } from "./measure.ts"
import type { Point } from "./verdict.ts"

// The soak that started this one has gone: nobody is left to stop it.
process.on("disconnect", () => process.exit(0))

const program = Effect.gen(function*() {
  let touched = 0
  const server = yield* ThriftMuxServer.make(Echo, {
    ...echoHandlers(),
    // Every second one is refused, and goes elsewhere.
    touch: () => ++touched % 2 === 0 ? Effect.void : Effect.fail(new Nack({}))
  }, { port: Number(process.argv[2] ?? 0), drainTimeout: "2 seconds" })
  const run = Effect.runForkWith(yield* Effect.context<never>())
  process.on("message", () => {
    run(Effect.map(measure, (figures) => {
      const sessions = server.sessions()
      const point: Point = {
        ...figures,
        outstanding: server.outstanding(),
        tags: 0,
        loads: sessions.reduce((sum, { outstanding }) => sum + outstanding, 0),
        sessions: sessions.length
      }
      process.send?.({ point })
    }))
  })
  process.send?.({ port: server.address.port })
  return yield* Effect.never
})

const main = Effect.runFork(Metric.enableRuntimeMetrics(Effect.scoped(program)))
process.once("SIGTERM", () => {
  Effect.runFork(Effect.ensuring(Fiber.interrupt(main), Effect.sync(() => process.exit(0))))
})
