/**
 * A program whose clients and servers can be looked at while it runs: a server of Echo, a client of it and of an endpoint that is down, and the page
 * of both. `node --conditions=@scales-rpc/source packages/examples/src/admin.ts` serves it until it is interrupted.
 */
import { Admin } from "@scales-rpc/admin"
import { ThriftMux, ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Effect, Layer } from "effect"
import { Echo, echoHandlers } from "./echo.ts"

/** Calls Echo a few times a second, for ever. */
const callForEver = Effect.gen(function*() {
  const echo = yield* Echo
  return yield* echo.ping().pipe(Effect.ignore, Effect.andThen(Effect.sleep("100 millis")), Effect.forever)
})

/** Serves the page on `port`, and what it shows. */
export const watched = (port: number): Layer.Layer<Admin | Echo, unknown> =>
  Layer.unwrap(
    Effect.map(
      ThriftMuxServer.make(Echo, echoHandlers(), { label: "echo server" }),
      ({ uri }) => ThriftMux.layer(Echo, { uri: `${uri},127.0.0.1:1`, label: "echo" })
    )
  ).pipe(Layer.provideMerge(Admin.layer({ port })))

if (import.meta.main) {
  await Effect.runPromise(Effect.provide(callForEver, watched(9990)))
}
