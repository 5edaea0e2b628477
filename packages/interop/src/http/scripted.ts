/**
 * A server of HTTP/1 by hand, which answers as a script says: with bytes that no library would write, and by closing when no library would. It
 * reads requests whole, and keeps all that came in.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"

/** One request as it came in. */
export interface Seen {
  /** Of the connection, from 1. */
  readonly connection: number
  /** Of the requests on its connection, from 1. */
  readonly turn: number
  readonly method: string
  readonly target: string
  /** Request line and headers, as they came. */
  readonly head: string
  readonly body: string
}

/** What a script can do with the connection that a request came on. */
export interface Connection {
  readonly write: (text: string | Uint8Array) => void
  /** Ends it in good order, after what was written. */
  readonly end: () => void
  /** Ends it by a reset: what was written may be lost. */
  readonly reset: () => void
  /** Answers with 200, a length, and this body. */
  readonly answer: (body: string) => void
}

/** The server. */
export interface Scripted {
  readonly address: string
  readonly requests: ReadonlyArray<Seen>
  /** How many connections there have been. */
  readonly connections: () => number
  /** How many of them are open. */
  readonly open: () => number
  /** All bytes that came in, of all connections. */
  readonly bytes: () => number
  /** Waits until this holds; what it reads must change with a request that comes in, or a connection that opens or closes. */
  readonly until: (holds: () => boolean) => Effect.Effect<void>
}

/** A 200 with a length. */
export const ok = (body: string, ...headers: ReadonlyArray<string>): string =>
  ["HTTP/1.1 200 OK", `content-length: ${Buffer.byteLength(body)}`, ...headers, "", body].join("\r\n")

/** Where the body at `at` ends that `head` speaks of; `undefined`: not all of it has come. */
const endOf = (head: string, bytes: Buffer, at: number): number | undefined => {
  if (/^transfer-encoding: *chunked/im.test(head)) {
    const end = bytes.indexOf("0\r\n\r\n", at)
    return end < 0 ? undefined : end + 5
  }
  const end = at + Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? "0")
  return end <= bytes.length ? end : undefined
}

/** Starts one. `answer` is run for each request; `accepted`, when given, for each connection before its first. */
export const serve = (
  answer: (request: Seen, connection: Connection) => void,
  accepted?: (connection: Connection, number: number) => void
): Effect.Effect<Scripted, never, Scope.Scope> =>
  Effect.gen(function*() {
    const requests: Array<Seen> = []
    const sockets = new Set<Net.Socket>()
    const waiting = new Set<() => void>()
    let connections = 0
    let received = 0
    const changed = () => {
      for (const look of [...waiting]) look()
    }

    const server = Net.createServer((socket) => {
      const number = ++connections
      let turn = 0
      let rest: Buffer = Buffer.alloc(0)
      sockets.add(socket.setNoDelay(true))
      const connection: Connection = {
        write: (text) => void socket.write(text),
        end: () => void socket.end(),
        reset: () => void socket.resetAndDestroy(),
        answer: (body) => void socket.write(ok(body))
      }
      const take = (): boolean => {
        const at = rest.indexOf("\r\n\r\n")
        if (at < 0) return false
        const head = rest.toString("latin1", 0, at)
        const end = endOf(head, rest, at + 4)
        if (end === undefined) return false
        const [method = "", target = ""] = head.split(" ", 2)
        const body = rest.toString("latin1", at + 4, end)
        rest = rest.subarray(end)
        const seen = { connection: number, turn: ++turn, method, target, head, body }
        requests.push(seen)
        answer(seen, connection)
        return true
      }
      socket.on("data", (chunk) => {
        received += chunk.length
        rest = Buffer.concat([rest, chunk])
        while (take());
        changed()
      })
      socket.on("error", () => {})
      socket.on("close", () => {
        sockets.delete(socket)
        changed()
      })
      accepted?.(connection, number)
      changed()
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
      address: `127.0.0.1:${(server.address() as Net.AddressInfo).port}`,
      requests,
      connections: () => connections,
      open: () => sockets.size,
      bytes: () => received,
      until: (holds) =>
        Effect.callback<void>((resume) => {
          const look = () => {
            if (!holds()) return
            waiting.delete(look)
            resume(Effect.void)
          }
          waiting.add(look)
          look()
          return Effect.sync(() => waiting.delete(look))
        })
    }
  })
