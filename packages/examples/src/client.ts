/** A client: one call, balanced over a server set. `node client.ts tcp://localhost:8080,localhost:8081` */
import { ThriftService } from "@scales-rpc/thrift"
import { ThriftMux } from "@scales-rpc/thriftmux"
import { Effect } from "effect"
import Int64 from "node-int64"
import { Message } from "../gen/echo_types.js"
import * as EchoGen from "../gen/Echo.js"

class Echo extends ThriftService<Echo>()("Echo", EchoGen) {}
const EchoLive = ThriftMux.layer(Echo, { uri: process.argv[2] ?? "tcp://localhost:8080" })

const call = Echo.use((echo) => echo.passMessage(new Message({ text: "hi!", number: new Int64(42), items: [1, 2] })))
console.log(await Effect.runPromise(Effect.provide(call, EchoLive)))
