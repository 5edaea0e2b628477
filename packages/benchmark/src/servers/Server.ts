/** What a server is to the benchmark. */
import type * as Net from "node:net"

/** A server that listens on a port of 127.0.0.1 which the system chose, or is several, with a port each. */
export interface Server {
  readonly ports: ReadonlyArray<number>
  /** Stops listening and breaks every connection. */
  readonly close: () => Promise<void>
}

/** Starts a server. */
export const listen = async (server: Net.Server): Promise<Server> => {
  const sockets = new Set<Net.Socket>()
  server.on("connection", (socket) => {
    sockets.add(socket)
    socket.on("close", () => sockets.delete(socket))
  })
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject)
    server.listen(0, "127.0.0.1", resolve)
  })
  return {
    ports: [(server.address() as Net.AddressInfo).port],
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      })
  }
}
