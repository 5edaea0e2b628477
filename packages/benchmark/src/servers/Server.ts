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

/** Starts as many as are asked for, in this process, as one. */
export const listenMany = async (count: number, make: () => Net.Server): Promise<Server> => {
  const servers = await Promise.all(Array.from({ length: count }, () => listen(make())))
  return {
    ports: servers.flatMap(({ ports }) => ports),
    close: async () => {
      await Promise.all(servers.map((server) => server.close()))
    }
  }
}
