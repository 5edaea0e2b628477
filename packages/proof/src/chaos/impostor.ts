/** What listens in a server's place and is none: it accepts, and either never says anything or answers whatever comes with garbage. */
import { createServer } from "node:net"

// The run that started this one has gone: nobody is left to stop it.
process.on("disconnect", () => process.exit(0))

const [port, kind] = process.argv.slice(2)

/** Read as frames of mux: sizes of gigabytes, types that there are none of. */
const garbage = Buffer.from(Array.from({ length: 512 }, (_, index) => (index * 167 + 0x7e) & 0xff))

const server = createServer((socket) => {
  socket.on("error", () => {})
  socket.on("data", () => {
    if (kind === "garbage") socket.write(garbage)
  })
})
server.listen(Number(port), "127.0.0.1", () => process.send?.({ port: Number(port) }))
