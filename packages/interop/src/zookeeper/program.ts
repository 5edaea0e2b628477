/** A program that uses a `zk://` set, an announcement and a client of it, closes them, and has nothing else to do. Its argument is the URI. */
import { Endpoint, ServerSet } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Stream from "effect/Stream"
import { connect } from "../thriftmux/echo.ts"
import { serve } from "../thriftmux/ours.ts"

const uri = process.argv[2]!

const main = Effect.gen(function*() {
  const { port } = yield* serve()
  const announcement = yield* ServerSet.announce(uri, Endpoint.tcp("127.0.0.1", port))
  yield* announcement.announced
  const { echo } = yield* connect(uri)
  yield* echo.ping()
  yield* Stream.runHead(Stream.filter(ServerSet.states(uri), ({ _tag }) => _tag === "Bound"))
})

await Effect.runPromise(Effect.provideService(Effect.scoped(main), Logger.LogToStderr, true))
console.log(`closed at ${Math.round(performance.now())}, and nothing else to do`)
