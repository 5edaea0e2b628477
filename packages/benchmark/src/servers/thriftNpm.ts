/** The server of Apache's client: generated code over the framed transport and the binary protocol of npm's `thrift`. */
import type * as Net from "node:net"
import * as thrift from "thrift"
import { EchoGen, type Message, method } from "../workload.ts"
import { listen, type Server } from "./Server.ts"

type Callback = (error: null, reply: Message) => void

/** Starts the server. */
export const start = (): Promise<Server> => {
  const server = thrift.createServer(
    EchoGen,
    { [method]: (message: Message, callback: Callback) => callback(null, message) },
    { transport: thrift.TFramedTransport, protocol: thrift.TBinaryProtocol }
  )
  // Its declared type says HTTP; it is a plain TCP server.
  return listen(server as unknown as Net.Server)
}
