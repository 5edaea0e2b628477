/**
 * Plain framed Thrift, as Apache's own clients and servers speak it, both ends in one program: eight calls at once over two connections,
 * a call in another protocol to the same server, and one that waits for no reply. `node framed.ts`
 */
import { Protocols, Thrift, ThriftServer, ThriftService } from "@scales-rpc/thrift"
import { Effect } from "effect"
import Int64 from "node-int64"
import { Message } from "../gen/echo_types.js"
import * as EchoGen from "../gen/Echo.js"
import { echoHandlers } from "./echo.ts"

class Echo extends ThriftService<Echo>()("Echo", EchoGen) {}

const hi = new Message({ text: "hi!", number: new Int64(42), items: [1, 2] })

const program = Effect.gen(function*() {
  const heard = Promise.withResolvers<string>()
  const server = yield* ThriftServer.make(Echo, {
    ...echoHandlers(),
    note: (text) => Effect.sync(() => heard.resolve(text))
  }, { protocol: "auto" })

  yield* Effect.gen(function*() {
    const echo = yield* Echo
    const replies = yield* Effect.all(Array.from({ length: 8 }, () => echo.passMessage(hi)), {
      concurrency: "unbounded"
    })
    console.log(`binary: ${replies.length} replies over ${server.connections().length} connections`)
    yield* echo.note("nobody answers this")
    console.log(`heard: ${yield* Effect.promise(() => heard.promise)}`)
  }).pipe(Effect.provide(Thrift.layer(Echo, { uri: server.uri, connections: { high: 2 } })))

  const { text } = yield* Echo.use((echo) => echo.passMessage(hi)).pipe(
    Effect.provide(Thrift.layer(Echo, { uri: server.uri, protocol: Protocols.compact }))
  )
  console.log(`compact: ${text}`)
})

await Effect.runPromise(Effect.scoped(program))
