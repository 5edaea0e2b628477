/**
 * A server that ends well: told to stop, it asks its clients to send no more, finishes the calls it has, and goes.
 * `node server.ts 8080`
 */
import { ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Effect } from "effect"
import { Echo, echoHandlers } from "./echo.ts"

/** Completes when the process is told to stop. */
const told = Effect.callback<void>((resume) => {
  for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => resume(Effect.void))
})

const program = Effect.gen(function*() {
  const server = yield* ThriftMuxServer.make(Echo, echoHandlers(), {
    port: Number(process.argv[2] ?? 8080),
    drainTimeout: "10 seconds"
  })
  console.log(`listening on ${server.uri}`)
  yield* told
  console.log(`draining, ${server.outstanding()} calls to finish`)
})

// The scope closes when the program ends; closing it drains the server.
await Effect.runPromise(Effect.scoped(program))
console.log("drained")
