/** Apache's own client for Node: generated code over the framed transport and a protocol of npm's `thrift`. */
import * as thrift from "thrift"
import { type Client, promising } from "../Load.ts"
import { EchoGen, type Message, method, type Work } from "../workload.ts"

/** The protocols by name. */
const protocols = { binary: thrift.TBinaryProtocol, compact: thrift.TCompactProtocol }

/**
 * Connects to a framed Thrift server on this machine. Every connection has a client of its own, which pipelines the calls it is given;
 * with several they are used in turn, call by call.
 */
export const connectBy =
  (protocol: keyof typeof protocols, connections: number) => async (port: number): Promise<Client> => {
    const opened = Promise.withResolvers<void>()
    let onLost: (cause: Error) => void = opened.reject
    let opening = connections
    const all = Array.from({ length: connections }, () => {
      const connection = thrift.createConnection("127.0.0.1", port, {
        transport: thrift.TFramedTransport,
        protocol: protocols[protocol]
      })
      connection.on("connect", () => {
        if (--opening === 0) opened.resolve()
      })
      connection.on("error", (error: Error) => onLost(error))
      connection.on("close", () => onLost(new Error("the server closed the connection")))
      return connection
    })
    const clients = all.map((connection) => thrift.createClient(EchoGen, connection))
    await opened.promise
    let next = 0

    const call = ({ message }: Work): Promise<Message> => {
      const client = clients[next]!
      next = next + 1 === clients.length ? 0 : next + 1
      return client[method](message)
    }
    const { begin, drive } = promising(call)
    return {
      drive: (inFlight, load) =>
        new Promise((resolve, reject) => {
          onLost = reject
          drive(inFlight, load).then(resolve, reject)
        }),
      begin,
      close: async () => {
        onLost = () => {}
        for (const connection of all) connection.end()
      }
    }
  }

/** One connection, the binary protocol. */
export const connect: (port: number) => Promise<Client> = connectBy("binary", 1)
