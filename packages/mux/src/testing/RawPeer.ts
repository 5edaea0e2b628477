/**
 * A peer that does what a test tells it, and nothing by itself: a scripted end of mux connections on 127.0.0.1, as a server that
 * accepts or as a client that connects.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import { decode } from "../Decode.ts"
import { encode } from "../Encode.ts"
import { Fragments } from "../Fragments.ts"
import { FrameReader } from "../FrameReader.ts"
import { initHeaders, probeText } from "../Handshake.ts"
import { controlTag, type Message, type Sendable, version } from "../Message.ts"

type Kind = Message["_tag"]
type Of<K extends Kind> = Extract<Message, { readonly _tag: K }>

/** Somebody who waits for a message. */
interface Waiter {
  readonly kind: Kind | undefined
  readonly give: (message: Message) => void
  readonly ended: () => void
}

/** One connection. Whatever comes is recorded; nothing is answered unless the test says so. */
export class RawConnection {
  /** Every message that has come, in order. */
  readonly received: Array<Message> = []
  /** Every frame that has come, in hexadecimal, size field included. */
  readonly frames: Array<string> = []
  /** What was wrong with what came, if anything was. */
  fault: unknown = undefined
  readonly socket: Net.Socket
  readonly #inbox: Array<Message> = []
  readonly #waiters: Array<Waiter> = []
  readonly #onEnd: Array<() => void> = []
  #ended = false

  constructor(socket: Net.Socket) {
    this.socket = socket
    const reader = new FrameReader()
    const fragments = new Fragments()
    socket.on("data", (chunk) => {
      if (this.fault !== undefined) return
      try {
        reader.push(chunk, (type, tag, body) => {
          this.frames.push(frameHex(type, tag, body))
          const whole = fragments.push(type, tag, body)
          if (whole !== undefined) this.#take(decode(type, tag, whole))
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

  /**
   * The next message that no `next` has taken yet: of one kind, passing over others, or whatever it is. Dies when the connection
   * ends first.
   */
  next(): Effect.Effect<Message>
  next<K extends Kind>(kind: K): Effect.Effect<Of<K>>
  next(kind?: Kind): Effect.Effect<Message> {
    return Effect.callback<Message>((resume) => {
      const index = this.#inbox.findIndex((message) => kind === undefined || message._tag === kind)
      if (index >= 0) return resume(Effect.succeed(this.#inbox.splice(index, 1)[0]!))
      const ended = () => {
        const seen = this.received.map(({ _tag }) => _tag).join(" ")
        resume(Effect.die(new Error(`connection ended while waiting for ${kind ?? "a message"}; came: ${seen}`)))
      }
      if (this.#ended) return ended()
      const waiter: Waiter = { kind, give: (message) => resume(Effect.succeed(message)), ended }
      this.#waiters.push(waiter)
      return Effect.sync(() => {
        const at = this.#waiters.indexOf(waiter)
        if (at >= 0) this.#waiters.splice(at, 1)
      })
    })
  }

  /** Writes messages, whole. */
  send(...messages: ReadonlyArray<Sendable>): void {
    for (const message of messages) this.socket.write(encode(message))
  }

  /** Writes bytes, given as they are or in hexadecimal. */
  write(bytes: Uint8Array | string): void {
    this.socket.write(typeof bytes === "string" ? Buffer.from(bytes, "hex") : bytes)
  }

  /** Answers a client's handshake; the client may then send fragments of at most `window` bytes. Gives its Tinit. */
  acceptHandshake(window = 0x7fffffff): Effect.Effect<Of<"Tinit">> {
    return Effect.gen({ self: this }, function*() {
      this.send(yield* this.next("Rerr"))
      const init = yield* this.next("Tinit")
      this.send({ _tag: "Rinit", tag: init.tag, version, headers: initHeaders(window) })
      return init
    })
  }

  /** Does a client's handshake; the server may then send fragments of at most `window` bytes. Gives its Rinit. */
  offerHandshake(window = 0x7fffffff): Effect.Effect<Of<"Rinit">> {
    return Effect.gen({ self: this }, function*() {
      this.send({ _tag: "Rerr", tag: controlTag, why: probeText })
      yield* this.next("Rerr")
      this.send({ _tag: "Tinit", tag: controlTag, version, headers: initHeaders(window) })
      return yield* this.next("Rinit")
    })
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

  #take(message: Message): void {
    this.received.push(message)
    const index = this.#waiters.findIndex(({ kind }) => kind === undefined || kind === message._tag)
    if (index >= 0) this.#waiters.splice(index, 1)[0]!.give(message)
    else this.#inbox.push(message)
  }

  #end(): void {
    if (this.#ended) return
    this.#ended = true
    for (const resume of this.#onEnd.splice(0)) resume()
    for (const { ended } of this.#waiters.splice(0)) ended()
  }
}

const frameHex = (type: number, tag: number, body: Uint8Array): string => {
  const header = Buffer.alloc(8)
  header.writeInt32BE(body.length + 4, 0)
  header.writeInt32BE((type << 24) | tag, 4)
  return header.toString("hex") + Buffer.from(body).toString("hex")
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
export const listen = (port = 0): Effect.Effect<RawPeer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const connections: Array<RawConnection> = []
    const waiting: Array<() => void> = []
    let accepted = 0
    const server = yield* Effect.acquireRelease(
      Effect.callback<Net.Server>((resume) => {
        const server = Net.createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
          connections.push(new RawConnection(socket))
          waiting.shift()?.()
        })
        server.once("error", (error) => resume(Effect.die(error)))
        server.listen(port, "127.0.0.1", () => resume(Effect.succeed(server)))
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
  to: { readonly port: number } | { readonly path: string }
): Effect.Effect<RawConnection, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<Net.Socket>((resume) => {
        const options = { allowHalfOpen: true, noDelay: true }
        const socket = Net.connect("path" in to ? { ...to, ...options } : { host: "127.0.0.1", ...to, ...options })
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
    (socket) => new RawConnection(socket)
  )
