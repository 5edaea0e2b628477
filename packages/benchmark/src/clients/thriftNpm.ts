/** Apache's own client for Node: generated code over the framed transport and the binary protocol of npm's `thrift`. */
import * as thrift from "thrift"
import type { Client, Load } from "../Load.ts"
import { EchoGen, message, method } from "../workload.ts"

/** Connects to a framed Thrift server on this machine. */
export const connect = async (port: number): Promise<Client> => {
  const opened = Promise.withResolvers<void>()
  const connection = thrift.createConnection("127.0.0.1", port, {
    transport: thrift.TFramedTransport,
    protocol: thrift.TBinaryProtocol
  })
  let onLost: (cause: Error) => void = opened.reject
  connection.on("connect", opened.resolve)
  connection.on("error", (error: Error) => onLost(error))
  connection.on("close", () => onLost(new Error("the server closed the connection")))
  const client = thrift.createClient(EchoGen, connection)
  await opened.promise

  const calls = async (load: Load) => {
    do load.accept(await client[method](message))
    while (load.running)
  }
  return {
    drive: (inFlight, load) =>
      new Promise((resolve, reject) => {
        onLost = reject
        Promise.all(Array.from({ length: inFlight }, () => calls(load))).then(() => resolve(), reject)
      }),
    close: async () => {
      onLost = () => {}
      connection.end()
    }
  }
}
