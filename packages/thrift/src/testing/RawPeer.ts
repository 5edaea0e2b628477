/**
 * A peer that does what a test tells it, and nothing by itself: a scripted end of plain Thrift connections on 127.0.0.1, as a
 * server that accepts or as a client that connects.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import { chunksOf, type Framing, splitter } from "../internal/Framing.ts"
import { limitsOf, MessageType, type Protocol, type ProtocolWriter, Type } from "../Protocol.ts"
import * as Protocols from "../Protocols.ts"

/** What a peer speaks. */
export interface RawPeerOptions {
  /** Default `"framed"`. */
  readonly framing?: Framing | undefined
  /** Default `Protocols.binary`. */
  readonly protocol?: Protocol | undefined
}

/** A message that has come. */
export interface RawMessage {
  readonly name: string
  readonly type: number
  readonly sequenceId: number
  /** All of it, without a frame. */
  readonly body: Uint8Array
}

/** What a reply says of itself. */
export interface RawReply {
  /** Default: the name of what is answered. */
  readonly name?: string | undefined
  /** Default: the sequence id of what is answered. */
  readonly sequenceId?: number | undefined
  /** Default `MessageType.REPLY`. */
  readonly type?: number | undefined
  /** The result, a string. Default: there is none, as for a void method. */
  readonly result?: string | undefined
}

/** One connection. Whatever comes is recorded; nothing is answered unless the test says so. */
export class RawConnection {
  /** Every message that has come, in order. */
  readonly received: Array<RawMessage> = []
  /** What was wrong with what came, if anything was. */
  fault: unknown = undefined
  /** How many chunks have come. */
  chunks = 0
  readonly socket: Net.Socket
  readonly #framing: Framing
  readonly #writer: ProtocolWriter
  readonly #inbox: Array<RawMessage> = []
  readonly #waiters: Array<{ readonly give: (message: RawMessage) => void; readonly ended: () => void }> = []
  readonly #onEnd: Array<() => void> = []
  #ended = false

  constructor(socket: Net.Socket, options: RawPeerOptions) {
    const protocol = options.protocol ?? Protocols.binary
    this.socket = socket
    this.#framing = options.framing ?? "framed"
    this.#writer = protocol.writer()
    const reader = protocol.reader()
    const split = splitter(this.#framing, protocol, limitsOf(undefined).maxMessageBytes)
    socket.on("data", (chunk) => {
      this.chunks++
      if (this.fault !== undefined) return
      try {
        split.push(chunk, (body) => {
          const { fname, mtype, rseqid } = reader.reset(body).readMessageBegin()
          this.#take({ name: fname, type: mtype, sequenceId: rseqid, body })
        })
      } catch (error) {
        this.fault = error
      }
    })
    socket.on("error", (error) => {
      this.fault ??= error
    })
    socket.on("end", () => this.#end())
    socket.on("close", () => this.#end())
  }

  /** The next message that no `next` has given yet. Dies when the connection ends first. */
  readonly next: Effect.Effect<RawMessage> = Effect.callback((resume) => {
    const first = this.#inbox.shift()
    if (first !== undefined) return resume(Effect.succeed(first))
    const ended = () => resume(Effect.die(new Error("the connection ended before a message came")))
    if (this.#ended) return ended()
    const waiter = { give: (message: RawMessage) => resume(Effect.succeed(message)), ended }
    this.#waiters.push(waiter)
    return Effect.sync(() => {
      const at = this.#waiters.indexOf(waiter)
      if (at >= 0) this.#waiters.splice(at, 1)
    })
  })

  /** A reply as bytes, frame included. */
  bytesOf(to: RawMessage, reply: RawReply = {}): Uint8Array {
    const writer = this.#writer
    writer.writeMessageBegin(
      reply.name ?? to.name,
      reply.type ?? MessageType.REPLY,
      reply.sequenceId ?? to.sequenceId
    )
    writer.writeStructBegin("result")
    if (reply.result !== undefined) {
      writer.writeFieldBegin("success", Type.STRING, 0)
      writer.writeString(reply.result)
      writer.writeFieldEnd()
    }
    writer.writeFieldStop()
    writer.writeStructEnd()
    writer.writeMessageEnd()
    return Buffer.concat(chunksOf(this.#framing, writer.take()))
  }

  /** Answers a message. */
  reply(to: RawMessage, reply: RawReply = {}): void {
    this.write(this.bytesOf(to, reply))
  }

  /** Writes bytes, given as they are or in hexadecimal. */
  write(bytes: Uint8Array | string): void {
    this.socket.write(typeof bytes === "string" ? Buffer.from(bytes, "hex") : bytes)
  }

  /** Reads no more, so that the peer's writes pile up; `resume` goes on. */
  pause(): void {
    this.socket.pause()
  }

  /** Reads again. */
  resume(): void {
    this.socket.resume()
  }

  /** Closes the writing half. */
  end(): void {
    this.socket.end()
  }

  /** Ends the connection with a reset. */
  reset(): void {
    this.socket.resetAndDestroy()
  }

  /** Completes when the peer has closed its half, or the connection is gone. */
  readonly ended: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.#ended) return resume(Effect.void)
    this.#onEnd.push(() => resume(Effect.void))
  })

  #take(message: RawMessage): void {
    this.received.push(message)
    const waiter = this.#waiters.shift()
    if (waiter !== undefined) waiter.give(message)
    else this.#inbox.push(message)
  }

  #end(): void {
    if (this.#ended) return
    this.#ended = true
    for (const resume of this.#onEnd.splice(0)) resume()
    for (const { ended } of this.#waiters.splice(0)) ended()
  }
}

/** A server that accepts connections and leaves them to the test. Left alone, it is a black hole. */
export interface RawPeer {
  readonly port: number
  /** As a server-set URI. */
  readonly uri: string
  /** Every connection accepted so far. */
  readonly connections: ReadonlyArray<RawConnection>
  /** The next connection that no `accept` has given yet. */
  readonly accept: Effect.Effect<RawConnection>
  /** Accepts no more, so that connecting is refused; connections stay. */
  readonly stop: Effect.Effect<void>
}

/** Listens on `port` (0: a free one) until the scope closes, which cuts every connection. */
export const listen = (
  options: RawPeerOptions & { readonly port?: number } = {}
): Effect.Effect<RawPeer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const connections: Array<RawConnection> = []
    const waiting: Array<() => void> = []
    let accepted = 0
    const server = yield* Effect.acquireRelease(
      Effect.callback<Net.Server>((resume) => {
        const server = Net.createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
          connections.push(new RawConnection(socket, options))
          waiting.shift()?.()
        })
        server.once("error", (error) => resume(Effect.die(error)))
        server.listen(options.port ?? 0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
          for (const { socket } of connections) socket.destroy()
        })
    )
    const bound = (server.address() as Net.AddressInfo).port
    const accept = Effect.callback<RawConnection>((resume) => {
      const take = () => resume(Effect.succeed(connections[accepted++]!))
      if (accepted < connections.length) return take()
      waiting.push(take)
      return Effect.sync(() => {
        const at = waiting.indexOf(take)
        if (at >= 0) waiting.splice(at, 1)
      })
    })
    return {
      port: bound,
      uri: `tcp://127.0.0.1:${bound}`,
      connections,
      accept,
      stop: Effect.sync(() => void server.close())
    }
  })

/** Connects to a server as a client that does what the test says, until the scope closes. */
export const connect = (
  to: RawPeerOptions & ({ readonly port: number } | { readonly path: string })
): Effect.Effect<RawConnection, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<Net.Socket>((resume) => {
        const options = { allowHalfOpen: true, noDelay: true }
        const socket = Net.connect(
          "path" in to ? { path: to.path, ...options } : { host: "127.0.0.1", port: to.port, ...options }
        )
        const failed = (error: Error) => resume(Effect.die(error))
        socket.once("error", failed)
        socket.once("connect", () => {
          socket.off("error", failed)
          resume(Effect.succeed(socket))
        })
      }),
      (socket) =>
        Effect.callback<void>((resume) => {
          if (socket.closed) return resume(Effect.void)
          socket.once("close", () => resume(Effect.void))
          socket.destroy()
        })
    ),
    (socket) => new RawConnection(socket, to)
  )
