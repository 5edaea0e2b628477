// Node's own HTTP servers, with a handler of the test's.
import { Effect, type Scope } from "effect"
import * as NodeHttp from "node:http"
import type * as Net from "node:net"

/** The server. */
export interface NodeServer<S extends Net.Server> {
  readonly port: number
  readonly uri: string
  /** Connections that are open. */
  readonly open: () => number
  /** Connections so far. */
  readonly accepted: () => number
  readonly server: S
}

/** Any server of Node's listens until the scope closes. */
export const listening = <S extends Net.Server>(server: S): Effect.Effect<NodeServer<S>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const sockets = new Set<Net.Socket>()
    let accepted = 0
    server.on("connection", (socket) => {
      accepted++
      sockets.add(socket)
      socket.on("close", () => sockets.delete(socket))
    })
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
      () =>
        Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
          for (const socket of sockets) socket.destroy()
        })
    )
    const { port } = server.address() as Net.AddressInfo
    return { port, uri: `tcp://127.0.0.1:${port}`, open: () => sockets.size, accepted: () => accepted, server }
  })

/** A plain one, which keeps connections for a minute. */
export const listen = (
  handler: NodeHttp.RequestListener,
  options: NodeHttp.ServerOptions = {}
): Effect.Effect<NodeServer<NodeHttp.Server>, never, Scope.Scope> =>
  listening(NodeHttp.createServer({ keepAliveTimeout: 60_000, ...options }, handler))

/** What a request said, as JSON. */
export const echo: NodeHttp.RequestListener = (request, response) => {
  const chunks: Array<Buffer> = []
  request.on("data", (chunk: Buffer) => chunks.push(chunk))
  request.on("end", () => {
    const { headers, method, url } = request
    response.setHeader("content-type", "application/json")
    response.end(JSON.stringify({ method, url, headers, body: Buffer.concat(chunks).toString() }))
  })
}
