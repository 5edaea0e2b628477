/**
 * A process in the middle that ends without losing a call: it serves Echo, and calls another Echo to do so. Told to stop, it first
 * drains its server, whose handlers still have their client, and then closes the client.
 * `node shutdown.ts 8080 tcp://localhost:8081,localhost:8082`
 */
import { MuxServer } from "@scales-rpc/mux"
import { ThriftService } from "@scales-rpc/thrift"
import { ThriftMux, ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Effect, Layer } from "effect"
import * as EchoGen from "../gen/Echo.js"
import { Echo, echoHandlers } from "./echo.ts"

/** The same IDL in another place: a service of its own. */
class Behind extends ThriftService<Behind>()("Behind", EchoGen) {}

// The server needs the client, so it is closed before it.
const Live = ThriftMuxServer.layer(Echo, {
  ...echoHandlers(),
  // The deadline of the call that is served holds for this one too. Its errors are none that Echo declares.
  slow: (millis) => Effect.orDie(Behind.use((behind) => behind.slow(millis)))
}, { port: Number(process.argv[2] ?? 8080), drainTimeout: "10 seconds" }).pipe(
  Layer.provide(ThriftMux.layer(Behind, { uri: process.argv[3] ?? "tcp://localhost:8081" }))
)

const told = Effect.callback<void>((resume) => {
  for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => resume(Effect.void))
})

const program = Effect.gen(function*() {
  const server = yield* MuxServer
  console.log(`listening on ${server.uri}`)
  yield* told
  console.log(`draining, ${server.outstanding()} calls to finish`)
})

await Effect.runPromise(Effect.provide(program, Live))
console.log("drained")
