/** One HTTP server of the chaos runs, in a process of its own: echoes after its service time, and misbehaves when it is told to. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import * as Net from "node:net"
import { type Mood, serviceMillis, slowness } from "../mood.ts"

// The run that started this one has gone: nobody is left to stop it.
process.on("disconnect", () => process.exit(0))

/**
 * How long a draining server goes on to answer on connections that idle. It cannot tell its clients that they are of no use any more but with a
 * response: who is just sending when it closes does not know whether that was heard.
 */
const lingerMillis = 1000

let mood: Mood = "well"
let draining = false
const sockets = new Set<Net.Socket>()

const answer = (request: IncomingMessage, response: ServerResponse): void => {
  const chunks: Array<Buffer> = []
  request.on("data", (chunk: Buffer) => chunks.push(chunk))
  request.on("end", () => {
    const body = Buffer.concat(chunks)
    const say = (status: number, headers: Record<string, string>, text: string | Buffer) => {
      response.shouldKeepAlive = !draining
      response.writeHead(status, { ...headers, "content-length": String(Buffer.byteLength(text)) }).end(text)
    }
    // What refuses or fails does so at once, as broken servers do: to the least loaded it looks like the best.
    if (mood === "errors") return say(500, {}, "an error storm")
    if (mood === "nacks") return say(503, { "finagle-http-nack": "true", "retry-after": "0" }, "")
    setTimeout(() => say(200, {}, body), mood === "slow" ? slowness * serviceMillis : serviceMillis)
  })
}

// Who uses a connection again and again is never told to close it, but by what comes to pass here.
const server = createServer({ keepAliveTimeout: 60_000 }, answer)
server.on("connection", (socket) => {
  sockets.add(socket)
  socket.on("close", () => sockets.delete(socket))
})
server.listen(Number(process.argv[2]), "127.0.0.1", () => {
  process.send?.({ port: (server.address() as Net.AddressInfo).port })
})

process.on("message", (told: Mood | "reset") => {
  if (told === "reset") { for (const socket of sockets) socket.resetAndDestroy() }
  else mood = told
  process.send?.({ done: told })
})

process.once("SIGTERM", () => {
  draining = true
  // Of HTTP's own, `close` closes what idles at once.
  Net.Server.prototype.close.call(server, () => process.exit(0))
  setTimeout(() => server.closeIdleConnections(), lingerMillis)
})
