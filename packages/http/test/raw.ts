// A server that says what a test tells it to, byte by byte, whatever HTTP makes of it.
import { Deferred, Effect, Queue, type Scope } from "effect"
import * as Net from "node:net"

/** A request as it came: its lines without the last two, and the bytes of a body of announced length. */
export interface RawRequest {
  readonly line: string
  readonly headers: ReadonlyArray<string>
  readonly body: string
}

/** The server's end of a connection. */
export class RawConnection {
  readonly socket: Net.Socket
  /** Everything that came. */
  received = ""
  readonly #requests = Effect.runSync(Queue.unbounded<RawRequest>())
  readonly #ended = Deferred.makeUnsafe<void>()
  #read = 0

  constructor(socket: Net.Socket) {
    this.socket = socket
    socket.setNoDelay(true)
    socket.setEncoding("latin1")
    socket.on("data", (text: string) => {
      this.received += text
      while (this.#next()) {}
    })
    socket.on("error", () => {})
    const end = () => Deferred.doneUnsafe(this.#ended, Effect.void)
    socket.on("end", end)
    socket.on("close", end)
  }

  #next(): boolean {
    const head = this.received.indexOf("\r\n\r\n", this.#read)
    if (head < 0) return false
    const [line, ...headers] = this.received.slice(this.#read, head).split("\r\n")
    const length = Number(headers.find((header) => /^content-length:/i.test(header))?.slice(15) ?? 0)
    if (this.received.length < head + 4 + length) return false
    const body = this.received.slice(head + 4, head + 4 + length)
    this.#read = head + 4 + length
    Queue.offerUnsafe(this.#requests, { line: line!, headers, body })
    return true
  }

  /** The next request, once it is whole; of one sent in chunks, its head. */
  get request(): Effect.Effect<RawRequest> {
    return Queue.take(this.#requests)
  }

  /** The client has ended or broken the connection. */
  get ended(): Effect.Effect<void> {
    return Deferred.await(this.#ended)
  }

  write(text: string): void {
    this.socket.write(text, "latin1")
  }

  /** Ends the connection as one does. */
  end(text = ""): void {
    this.socket.end(text, "latin1")
  }

  /** Breaks it. */
  reset(): void {
    this.socket.resetAndDestroy()
  }
}

/** The server. */
export interface RawServer {
  readonly port: number
  /** The next connection. */
  readonly accept: Effect.Effect<RawConnection>
  readonly accepted: () => number
}

/** Listens until the scope closes. */
export const listen: Effect.Effect<RawServer, never, Scope.Scope> = Effect.gen(function*() {
  const connections = yield* Queue.unbounded<RawConnection>()
  const sockets = new Set<Net.Socket>()
  let accepted = 0
  const server = Net.createServer({ allowHalfOpen: true }, (socket) => {
    accepted++
    sockets.add(socket)
    socket.on("close", () => sockets.delete(socket))
    Queue.offerUnsafe(connections, new RawConnection(socket))
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.void))
    }),
    () =>
      Effect.callback<void>((resume) => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resume(Effect.void))
      })
  )
  const { port } = server.address() as Net.AddressInfo
  return { port, accept: Queue.take(connections), accepted: () => accepted }
})

/** An answer of announced length. */
export const ok = (body: string, ...headers: ReadonlyArray<string>): string =>
  ["HTTP/1.1 200 OK", ...headers, `content-length: ${body.length}`, "", body].join("\r\n")
