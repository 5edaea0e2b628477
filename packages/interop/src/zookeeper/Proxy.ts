/**
 * A TCP proxy between clients and a ZooKeeper server: it counts the requests by their type, and is the network that breaks. It passes
 * whole frames on, one after the other.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import { Frames, type Granted, granted, read } from "./Wire.ts"

/** After how many frames of both directions a connection is reset, and after how many bytes of the next one. */
export interface Cut {
  readonly frames: number
  readonly bytes: number
}

/** What a proxy is made with. */
export interface ProxyOptions {
  /** Default: 127.0.0.1. */
  readonly host?: string
  /** Default: one of the system's. */
  readonly port?: number
  /** The fate of the n-th connection, from 0. Default: none is cut. */
  readonly cut?: (connection: number) => Cut | undefined
}

/** A network to one server. */
export interface Proxy {
  readonly host: string
  readonly port: number
  readonly address: string
  /** How many requests of a type have passed since `forget`: `Op`. */
  readonly requests: (...ops: ReadonlyArray<number>) => number
  readonly forget: () => void
  /** How many connections there have been. */
  readonly connections: () => number
  /** How many frames of both directions have passed, of all connections. */
  readonly frames: () => number
  /** The session that the server granted last. */
  readonly session: () => Granted | undefined
  /** From now on nothing passes, neither bytes nor the end of a connection, and nobody is told: what is sent meanwhile comes after `heal`. */
  readonly partition: () => void
  readonly heal: () => void
  /** Holds each frame back for so long. */
  readonly delay: (millis: number) => void
  /** Resets the connections there are. */
  readonly reset: () => void
  /** Resets each new connection at once, until it is told not to. */
  readonly refuse: (yes: boolean) => void
}

/** What a proxy does to all of its connections at the moment, and what it has seen on them. */
class Network {
  readonly connections = new Set<Connection>()
  readonly requests = new Map<number, number>()
  session: Granted | undefined
  opened = 0
  frames = 0
  partitioned = false
  refusing = false
  delayMillis = 0
}

/** A connection of a client, and that of the proxy to the server. */
class Connection {
  readonly #network: Network
  readonly #cut: Cut | undefined
  readonly #client: Net.Socket
  readonly #server: Net.Socket
  #frames = 0

  constructor(network: Network, client: Net.Socket, upstream: number, cut: Cut | undefined) {
    this.#network = network
    this.#cut = cut
    this.#client = client
    this.#server = Net.connect({ port: upstream, host: "127.0.0.1", noDelay: true, allowHalfOpen: true })
    this.#forward(this.#client, this.#server, (frame, nth) => {
      if (nth === 0) return
      const reader = read(frame)
      reader.int()
      const op = reader.int()
      network.requests.set(op, (network.requests.get(op) ?? 0) + 1)
    })
    this.#forward(this.#server, this.#client, (frame, nth) => {
      if (nth > 0) return
      const session = granted(frame)
      if (session.timeout > 0) network.session = session
    })
  }

  hold(): void {
    this.#client.pause()
    this.#server.pause()
  }

  release(): void {
    this.#client.resume()
    this.#server.resume()
  }

  reset(): void {
    this.#client.resetAndDestroy()
    this.#server.resetAndDestroy()
  }

  #forward(from: Net.Socket, to: Net.Socket, seen: (frame: Buffer, nth: number) => void): void {
    const network = this.#network
    const frames = new Frames()
    let nth = 0
    const pass = (frame: Buffer): void => {
      if (this.#cut !== undefined && this.#frames > this.#cut.frames) return
      const cutHere = this.#cut !== undefined && this.#frames === this.#cut.frames
      this.#frames++
      if (cutHere) {
        // What was sent before the reset is read before it.
        to.write(frame.subarray(0, this.#cut.bytes), () => this.reset())
        return
      }
      network.frames++
      seen(frame, nth++)
      to.write(frame)
    }
    from.on("data", (chunk) => {
      for (const frame of frames.push(chunk)) {
        if (network.delayMillis === 0) pass(frame)
        else setTimeout(() => pass(frame), network.delayMillis)
      }
    })
    from.on("end", () => to.end())
    from.on("error", () => this.reset())
    from.on("close", () => {
      network.connections.delete(this)
      to.destroySoon()
    })
  }
}

/** A proxy in front of a port of 127.0.0.1, for as long as the scope is open. */
export const make = (upstream: number, options: ProxyOptions = {}): Effect.Effect<Proxy, never, Scope.Scope> =>
  Effect.gen(function*() {
    const host = options.host ?? "127.0.0.1"
    const network = new Network()
    const listener = Net.createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
      client.on("error", () => {})
      const nth = network.opened++
      if (network.refusing) {
        client.resetAndDestroy()
        return
      }
      const connection = new Connection(network, client, upstream, options.cut?.(nth))
      network.connections.add(connection)
      if (network.partitioned) connection.hold()
    })
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => void listener.listen(options.port ?? 0, host, () => resume(Effect.void))),
      () =>
        Effect.callback<void>((resume) => {
          listener.close(() => resume(Effect.void))
          for (const connection of network.connections) connection.reset()
        })
    )
    const { port } = listener.address() as Net.AddressInfo
    return {
      host,
      port,
      address: `${host}:${port}`,
      requests: (...ops) => ops.reduce((sum, op) => sum + (network.requests.get(op) ?? 0), 0),
      forget: () => network.requests.clear(),
      connections: () => network.opened,
      frames: () => network.frames,
      session: () => network.session,
      partition: () => {
        network.partitioned = true
        for (const connection of network.connections) connection.hold()
      },
      heal: () => {
        network.partitioned = false
        for (const connection of network.connections) connection.release()
      },
      delay: (millis) => {
        network.delayMillis = millis
      },
      reset: () => {
        for (const connection of network.connections) connection.reset()
      },
      refuse: (yes) => {
        network.refusing = yes
      }
    }
  })
