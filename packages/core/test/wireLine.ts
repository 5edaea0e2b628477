/** The line between a client and a server on 127.0.0.1: passes bytes on, counts them, says things that neither has said, and can be cut. */
import { Effect, type Scope } from "effect"
import Net from "node:net"

/** Told of all bytes that one direction of one connection has, in their order. */
export type Tap = (chunk: Uint8Array) => void

/** One direction of all connections. */
export interface Direction {
  /** That came from its sender, and was passed on. */
  passed: number
  /** That the test put in. */
  injected: number
}

/** Where the client connects. */
export interface WireLine {
  readonly port: number
  readonly endpoint: string
  /** Connections that were taken, and those that are there. */
  readonly connects: () => number
  readonly connected: () => number
  readonly toServer: Direction
  readonly toClient: Direction
  /** Says something to an end of the connection that its client spoke on last, in the name of the other. */
  readonly say: (to: "client" | "server", bytes: Uint8Array) => void
  /** Resets all connections, and refuses to connect from then on. */
  readonly cut: Effect.Effect<void>
  /** Takes connections again, on the same port. */
  readonly mend: Effect.Effect<void>
}

/** A line to a port, as long as the scope is open; `tap` is made for each direction of each connection. */
export const make = (
  to: number,
  tap: (direction: "toServer" | "toClient") => Tap = () => () => {}
): Effect.Effect<WireLine, never, Scope.Scope> =>
  Effect.gen(function*() {
    const toServer: Direction = { passed: 0, injected: 0 }
    const toClient: Direction = { passed: 0, injected: 0 }
    const open = new Set<Net.Socket>()
    interface Pair {
      readonly client: Net.Socket
      readonly server: Net.Socket
      readonly taps: Readonly<Record<"client" | "server", Tap>>
    }
    const pairs: Array<Pair> = []
    let connects = 0
    let connected = 0
    let port = 0
    const accept = (client: Net.Socket) => {
      connects++
      connected++
      client.once("close", () => connected--)
      const server = Net.connect({ host: "127.0.0.1", port: to, noDelay: true, allowHalfOpen: true })
      const taps = { client: tap("toClient"), server: tap("toServer") }
      const pair = { client, server, taps }
      pairs.push(pair)
      client.once("close", () => void pairs.splice(pairs.indexOf(pair), 1))
      const pass = (from: Net.Socket, into: Net.Socket, count: Direction, seen: Tap) => {
        open.add(from)
        from.on("data", (chunk) => {
          count.passed += chunk.length
          if (from === client) pairs.push(...pairs.splice(pairs.indexOf(pair), 1))
          seen(chunk)
          into.write(chunk)
        })
        from.on("end", () => into.end())
        // A reset is passed on as one.
        from.on("error", () => into.destroyed || into.resetAndDestroy())
        from.on("close", () => {
          open.delete(from)
          into.end()
        })
      }
      pass(client, server, toServer, taps.server)
      pass(server, client, toClient, taps.client)
    }
    let listener: Net.Server
    const listen = Effect.callback<void>((resume) => {
      listener = Net.createServer({ noDelay: true, allowHalfOpen: true }, accept)
      listener.listen(port, "127.0.0.1", () => {
        port = (listener.address() as Net.AddressInfo).port
        resume(Effect.void)
      })
    })
    const close = (end: (socket: Net.Socket) => void) =>
      Effect.callback<void>((resume) => {
        listener.close(() => resume(Effect.void))
        for (const socket of [...open]) end(socket)
      })
    yield* Effect.acquireRelease(listen, () => close((socket) => socket.destroy()))
    return {
      port,
      endpoint: `127.0.0.1:${port}`,
      connects: () => connects,
      connected: () => connected,
      toServer,
      toClient,
      say: (to, bytes) => {
        const pair = pairs.at(-1)!
        const direction = to === "client" ? toClient : toServer
        direction.injected += bytes.length
        pair.taps[to](bytes)
        pair[to].write(bytes)
      },
      cut: close((socket) => socket.resetAndDestroy()),
      mend: listen
    }
  })
