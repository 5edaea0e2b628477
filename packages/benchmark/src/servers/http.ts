/**
 * The servers of all HTTP clients, four in one process, cheap enough not to be what is measured: to each request, which has no body, they
 * write the same bytes, to all requests of one chunk at once.
 */
import * as Net from "node:net"
import { json } from "../workload.ts"
import { listen, type Server } from "./Server.ts"

const response = Buffer.from(
  `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${json.length}\r\n\r\n${json}`
)
const endOfHead = "\r\n\r\n"

const serve = (socket: Net.Socket): void => {
  let rest = ""
  socket.setNoDelay(true)
  socket.on("data", (chunk: Buffer) => {
    const heads = (rest + chunk.toString("latin1")).split(endOfHead)
    rest = heads.pop()!
    for (const head of heads) if (!head.startsWith("GET /message ")) throw new Error(`not the call: ${head}`)
    if (heads.length > 0) socket.write(heads.length === 1 ? response : Buffer.concat(heads.map(() => response)))
  })
  // A client that is gone is no failure of the server.
  socket.on("error", () => {})
}

/** Starts them. */
export const start = async (): Promise<Server> => {
  const servers = await Promise.all(Array.from({ length: 4 }, () => listen(Net.createServer(serve))))
  return {
    ports: servers.flatMap(({ ports }) => ports),
    close: async () => {
      await Promise.all(servers.map((server) => server.close()))
    }
  }
}
