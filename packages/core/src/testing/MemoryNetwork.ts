/**
 * A network in memory: clients and servers of mux, Thrift and HTTP on sockets that are none. No byte leaves the process, and no time passes
 * but that of the `Clock`, so that two real ends and everything between them run under `TestClock`. Without TLS: Node tells a server only
 * of the system's own sockets which of them it has secured.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scheduler from "effect/Scheduler"
import { TestClock } from "effect/testing"
import { EventEmitter } from "node:events"
import type * as Net from "node:net"
import { CallAt, type Deadlines, make as makeDeadlines } from "../Deadlines.ts"
import { Network } from "../internal/Network.ts"
import { addressOf } from "../Listen.ts"
import { MemorySocket, type Place, systemError, type Traffic, Wire } from "./MemorySocket.ts"

/** One direction of a connection. */
export interface MemoryDirection {
  /** Bytes that have arrived. */
  readonly bytes: number
  /** Bytes that have been sent and have not arrived, those that wait for their reader included. */
  readonly inFlight: number
  /** Nothing arrives any more until `resume`: a peer that does not read, a route that is lost. */
  readonly stall: () => void
  /** What was stalled arrives, and what comes after it. */
  readonly resume: () => void
  /** How long what is sent from now on is under way, on the `Clock`. Order is kept. Default: no time. */
  readonly delay: (duration: Duration.Input) => void
  /** Calls `f` with every chunk that is sent, when it is; the result ends that. */
  readonly onChunk: (f: (chunk: Uint8Array) => void) => () => void
}

/** One connection. */
export interface MemoryConnection {
  /** In the order they were made, from 0. */
  readonly number: number
  /** The server's: `host:port`, or the path of a Unix socket. */
  readonly address: string
  /** From the client to the server. */
  readonly toServer: MemoryDirection
  /** From the server to the client. */
  readonly toClient: MemoryDirection
  /** Whether either end still has it. */
  readonly open: boolean
  /** Ends it as a crash does: what is under way is lost, and both ends see a reset. */
  readonly cut: () => void
}

/** What a test does to the network. An address is `host:port`, or the path of a Unix socket. */
export interface MemoryNetworkShape {
  /** Every connection that was made, in that order. */
  readonly connections: ReadonlyArray<MemoryConnection>
  /** Those that are open, all or those to one address. */
  readonly open: (address?: string) => ReadonlyArray<MemoryConnection>
  /** How often somebody tried to connect to an address, in vain too. */
  readonly attempts: (address: string) => number
  /** Connecting to the address is refused, though something listens there. Connections stay. */
  readonly refuse: (address: string) => void
  /** Connecting to the address gets no answer. Connections stay. */
  readonly silence: (address: string) => void
  /** Connecting to the address works again; whoever got no answer meanwhile gets none. */
  readonly accept: (address: string) => void
  /** How long connecting takes, and what is sent in either direction of connections that are made from now on. Default: no time. */
  readonly delay: (duration: Duration.Input) => void
  /** Calls `f` with every connection when it is made, before a byte is sent; the result ends that. */
  readonly onConnection: (f: (connection: MemoryConnection) => void) => () => void
  /**
   * `TestClock.adjust`, which lets the network come to rest each time that something wakes, before the clock goes on: for HTTP, whose clients and
   * servers take turns of the event loop between what comes and what they do about it. Mux and Thrift take none. It lasts for ever while
   * somebody sends again and again without waiting on the clock.
   */
  readonly adjust: (duration: Duration.Input) => Effect.Effect<void>
}

/**
 * What reads in one turn of the event loop and writes in a later one: Node's HTTP and undici in the next or the one after it, and between them
 * fibers, each step of which may be a turn. A network on which nothing moves for so many is at rest.
 */
const turnsAtRest = 10

/** Schedules for when the network is at rest. */
const atRest = (traffic: Traffic) => (f: () => void): () => void => {
  let { moves } = traffic
  let turns = 0
  const look = () => {
    turns = moves === traffic.moves ? turns + 1 : 0
    moves = traffic.moves
    if (turns === turnsAtRest) f()
    else next = setImmediate(look)
  }
  let next = setImmediate(look)
  return () => clearImmediate(next)
}

/** In memory, what has come is read in the microtasks and ticks that are waiting: a clock moves on only after them. */
const turn = (f: () => void): void => queueMicrotask(() => process.nextTick(queueMicrotask, () => process.nextTick(f)))

const millisOf = (duration: Duration.Input): number => Duration.toMillis(Duration.fromInputUnsafe(duration))

/** Where something listens: a Unix socket's path, or a host and a port. */
interface Address extends Place {
  readonly key: string
}

const addressFor = (host: string, port: number): Address => ({ address: host, port, key: addressOf(host, port) })

const addressIn = (options: Net.NetConnectOpts | Net.ListenOptions): Address => {
  const { host = "127.0.0.1", path, port = 0 } = options as Net.ListenOptions
  if (path !== undefined) return { address: undefined, port: undefined, key: path }
  return addressFor(host === "localhost" ? "127.0.0.1" : host, port)
}

const directionOf = (wire: Wire): MemoryDirection => ({
  get bytes() {
    return wire.bytes
  },
  get inFlight() {
    return wire.inFlight
  },
  stall: () => wire.stall(),
  resume: () => wire.resume(),
  delay: (duration) => {
    wire.delayMillis = millisOf(duration)
  },
  onChunk: wire.onChunk
})

type OnConnection = (socket: Net.Socket) => void

/** A server's listener, as Node's is from outside. */
class MemoryServer extends EventEmitter {
  readonly onConnection: OnConnection
  readonly allowHalfOpen: boolean
  readonly #hosts: Hosts
  #at: Address | undefined
  /** Each with what to do about it when this listens no more. */
  readonly #sockets = new Map<MemorySocket, () => void>()

  constructor(hosts: Hosts, options: Net.ServerOpts, onConnection: OnConnection) {
    super()
    this.#hosts = hosts
    this.allowHalfOpen = options.allowHalfOpen ?? false
    this.onConnection = onConnection
  }

  listen(options: Net.ListenOptions, listening: () => void): this {
    queueMicrotask(() => {
      const wanted = addressIn(options)
      const at = wanted.port === 0 ? addressFor(wanted.address!, this.#hosts.freePort()) : wanted
      if (this.#hosts.servers.has(at.key)) return this.emit("error", systemError("EADDRINUSE", "listen"))
      this.#at = at
      this.#hosts.servers.set(at.key, this)
      return listening()
    })
    return this
  }

  address(): Net.AddressInfo | string | null {
    if (this.#at === undefined) return null
    const { address, key, port } = this.#at
    return address === undefined || port === undefined ? key : { address, port, family: "IPv4" }
  }

  get listening(): boolean {
    return this.#at !== undefined && this.#hosts.servers.get(this.#at.key) === this
  }

  /** Listens no more; calls back when the last of its connections has ended. */
  close(closed?: () => void): this {
    if (this.listening) this.#hosts.servers.delete(this.#at!.key)
    if (closed !== undefined) this.once("close", closed)
    for (const closing of this.#sockets.values()) closing()
    this.#closeIfIdle()
    return this
  }

  /** A client has connected. `closing` is called when this listens no more. */
  take(socket: MemorySocket, closing: () => void): void {
    this.#sockets.set(socket, closing)
    socket.once("close", () => {
      this.#sockets.delete(socket)
      if (!this.listening) this.#closeIfIdle()
    })
    this.onConnection(socket as unknown as Net.Socket)
  }

  #closeIfIdle(): void {
    if (this.#sockets.size === 0) queueMicrotask(() => this.emit("close"))
  }
}

/** All that is on one network. */
class Hosts {
  readonly servers = new Map<string, MemoryServer>()
  readonly connections: Array<MemoryConnection> = []
  readonly attempts = new Map<string, number>()
  readonly traffic: Traffic = { moves: 0 }
  readonly refused = new Set<string>()
  readonly silent = new Set<string>()
  readonly listeners = new Set<(connection: MemoryConnection) => void>()
  delayMillis = 0
  readonly #deadlines: Deadlines
  readonly #sockets = new Set<MemorySocket>()
  /** The first of the range that systems take ports for clients from (RFC 6335). */
  #nextPort = 49_152

  constructor(deadlines: Deadlines) {
    this.#deadlines = deadlines
  }

  freePort(): number {
    return this.#nextPort++
  }

  connect(options: Net.NetConnectOpts): MemorySocket {
    const to = addressIn(options)
    const { key } = to
    const socket = new MemorySocket({ allowHalfOpen: options.allowHalfOpen ?? false })
    this.attempts.set(key, (this.attempts.get(key) ?? 0) + 1)
    this.traffic.moves++
    const arrive = () => {
      this.traffic.moves++
      if (socket.destroyed) return
      socket.emit("lookup", null)
      if (this.silent.has(key)) return
      // A server on all interfaces of its host is reached by every name.
      const server = this.servers.get(key) ?? this.servers.get(`0.0.0.0:${to.port}`)
      if (server === undefined || this.refused.has(key)) socket.destroy(systemError("ECONNREFUSED", "connect"))
      else this.#join(socket, server, to)
    }
    if (this.delayMillis === 0) queueMicrotask(arrive)
    else {
      const now = this.#deadlines.now()
      this.#deadlines.add(new CallAt(now + this.delayMillis, arrive), now)
    }
    return socket
  }

  /** Ends every connection: nobody is to hear of it as of a failure. */
  close(): void {
    for (const socket of [...this.#sockets]) socket.destroy()
  }

  #join(client: MemorySocket, server: MemoryServer, there: Address): void {
    const accepted = new MemorySocket({ allowHalfOpen: server.allowHalfOpen })
    const toServer = new Wire(this.#deadlines, this.traffic, this.delayMillis)
    const toClient = new Wire(this.#deadlines, this.traffic, this.delayMillis)
    const here: Place = there.port === undefined ? there : { address: "127.0.0.1", port: this.freePort() }
    for (const socket of [client, accepted]) {
      this.#sockets.add(socket)
      socket.once("close", () => void this.#sockets.delete(socket))
    }
    client.join(accepted, { out: toServer, in: toClient }, here, there)
    accepted.join(client, { out: toClient, in: toServer }, there, here)
    const connection: MemoryConnection = {
      number: this.connections.length,
      address: there.key,
      toServer: directionOf(toServer),
      toClient: directionOf(toClient),
      get open() {
        return !client.destroyed || !accepted.destroyed
      },
      cut: () => {
        toServer.drop()
        toClient.drop()
        client.reset()
        accepted.reset()
      }
    }
    this.connections.push(connection)
    for (const listener of this.listeners) listener(connection)
    // A server that closes waits for its clients to end: of those that have, it is to hear though the clock stands and the way is stalled. The
    // test is over by then, as a rule, and moves neither.
    const gone = () => {
      if (server.listening || !client.destroyed) return
      toServer.hurry()
      toClient.hurry()
    }
    client.once("close", gone)
    server.take(accepted, gone)
    client.emit("connect")
  }
}

/** The network that the clients and servers this layer is provided to are on. */
export class MemoryNetwork
  extends Context.Service<MemoryNetwork, MemoryNetworkShape>()("@scales-rpc/core/testing/MemoryNetwork")
{
  /**
   * A network with nothing on it. Clients and servers that it is provided to connect and listen there and nowhere else, at whatever host and
   * port their URIs and options say; no name is resolved. Closing it ends every connection.
   */
  static readonly layer: Layer.Layer<MemoryNetwork> = Layer.effectContext(
    Effect.gen(function*() {
      const hosts = new Hosts(yield* makeDeadlines)
      yield* Effect.addFinalizer(() => Effect.sync(() => hosts.close()))
      const resting = new Scheduler.MixedScheduler("async", atRest(hosts.traffic))
      const network: Network = {
        connect: (options) => hosts.connect(options) as unknown as Net.Socket,
        createServer: (options, onConnection) =>
          new MemoryServer(hosts, options, onConnection) as unknown as Net.Server,
        turn
      }
      return Context.make(Network, network).pipe(Context.add(
        MemoryNetwork,
        MemoryNetwork.of({
          connections: hosts.connections,
          open: (address) =>
            hosts.connections.filter((connection) =>
              connection.open && (address === undefined || connection.address === address)
            ),
          attempts: (address) => hosts.attempts.get(address) ?? 0,
          refuse: (address) => void hosts.refused.add(address),
          silence: (address) => void hosts.silent.add(address),
          accept: (address) => {
            hosts.refused.delete(address)
            hosts.silent.delete(address)
          },
          delay: (duration) => {
            hosts.delayMillis = millisOf(duration)
          },
          onConnection: (f) => {
            const listener = (connection: MemoryConnection) => f(connection)
            hosts.listeners.add(listener)
            return () => void hosts.listeners.delete(listener)
          },
          adjust: (duration) => Effect.provideService(TestClock.adjust(duration), Scheduler.Scheduler, resting)
        })
      ))
    })
  )
}
