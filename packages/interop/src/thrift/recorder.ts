/** What a client and a server really send each other: a port of 127.0.0.1 that passes everything on, and keeps it. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"

/** Where clients connect, and the bytes of each direction. */
export interface Recorder {
  readonly port: number
  readonly requests: () => Buffer
  readonly replies: () => Buffer
}

/** A recorder in front of a port, for as long as the scope is open. */
export const make = (port: number): Effect.Effect<Recorder, never, Scope.Scope> =>
  Effect.gen(function*() {
    const requests: Array<Buffer> = []
    const replies: Array<Buffer> = []
    const sockets = new Set<Net.Socket>()
    const server = Net.createServer((client) => {
      const upstream = Net.connect({ host: "127.0.0.1", port, noDelay: true })
      client.on("data", (chunk) => requests.push(chunk))
      upstream.on("data", (chunk) => replies.push(chunk))
      client.pipe(upstream).pipe(client)
      for (const socket of [client, upstream]) {
        sockets.add(socket)
        socket.on("error", () => {
          client.destroy()
          upstream.destroy()
        })
      }
    })
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
      () =>
        Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
          for (const socket of sockets) socket.destroy()
        })
    )
    return {
      port: (server.address() as Net.AddressInfo).port,
      requests: () => Buffer.concat(requests),
      replies: () => Buffer.concat(replies)
    }
  })
