/** One server of the demo, in a process of its own: echoes, and takes as long about it as it is told to. */
import { ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Effect } from "effect"
import { Echo, echoHandlers } from "../echo.ts"

// The demo that started this one has gone: nobody is left to stop it.
process.on("disconnect", () => process.exit(0))

let extraMillis = 0
process.on("message", (message: { readonly slow: number }) => {
  extraMillis = message.slow
})

const program = Effect.gen(function*() {
  const server = yield* ThriftMuxServer.make(Echo, echoHandlers(() => extraMillis), {
    port: Number(process.argv[2] ?? 0)
  })
  process.send?.({ port: server.address.port })
  return yield* Effect.never
})

Effect.runFork(Effect.scoped(program))
