// A client of bytes for the tests of the server: what is sent is the test's, what comes back is cut into messages and recorded.
import { Effect } from "effect"
import * as Net from "node:net"
import { type Protocol, Protocols } from "../src/index.ts"
import { type Framing, splitter } from "../src/internal/Framing.ts"

/** How one end of a connection speaks. */
export interface Speech {
  readonly framing: Framing
  readonly protocol: Protocol
}

export const spoken: Speech = { framing: "framed", protocol: Protocols.binary }

/** A message as the framing has it. */
export const framed = (framing: Framing, message: Uint8Array): Uint8Array => {
  if (framing === "buffered") return message
  const length = Buffer.alloc(4)
  length.writeInt32BE(message.length)
  return Buffer.concat([length, message])
}

/** One connection. */
export class RawClient {
  readonly socket: Net.Socket
  readonly speech: Speech
  /** Every message that has come, in order. */
  readonly received: Array<Uint8Array> = []
  /** Every byte that has come. */
  bytes: Uint8Array = Buffer.alloc(0)
  /** What was wrong with what came, or with the connection. */
  fault: unknown = undefined
  #taken = 0
  #closed = false
  #watching: Array<() => void> = []

  constructor(socket: Net.Socket, speech: Speech) {
    this.socket = socket
    this.speech = speech
    const messages = splitter(speech.framing, speech.protocol, 0x7fffffff)
    socket.on("data", (chunk: Buffer) => {
      if (this.bytes.length < 1024 * 1024) this.bytes = Buffer.concat([this.bytes, chunk])
      try {
        messages.push(chunk, (message) => this.received.push(message))
      } catch (error) {
        this.fault = error
      }
      this.#changed()
    })
    socket.on("error", (error) => {
      this.fault ??= error
      this.#changed()
    })
    // Before "close", which on a socket that may be half open waits for its own end too.
    socket.on("end", () => this.#end())
    socket.on("close", () => this.#end())
  }

  /** Writes messages, each in the framing of the connection. */
  send(...messages: ReadonlyArray<Uint8Array>): void {
    this.socket.write(Buffer.concat(messages.map((message) => framed(this.speech.framing, message))))
  }

  /** Writes bytes, given as they are or in hexadecimal. */
  write(bytes: Uint8Array | string): void {
    this.socket.write(typeof bytes === "string" ? Buffer.from(bytes.replaceAll(" ", ""), "hex") : bytes)
  }

  /** The next message that no `next` has taken. Dies when the connection ends first. */
  readonly next: Effect.Effect<Uint8Array> = Effect.suspend(() =>
    Effect.flatMap(
      this.#until(() => this.received.length > this.#taken || this.#closed),
      () =>
        this.received.length > this.#taken
          ? Effect.succeed(this.received[this.#taken++]!)
          : Effect.die(new Error(`the connection ended after ${this.received.length} messages: ${String(this.fault)}`))
    )
  )

  /** Waits until so many messages have come in all. Dies when the connection ends first. */
  readonly count = (count: number): Effect.Effect<void> =>
    Effect.flatMap(this.#until(() => this.received.length >= count || this.#closed), () =>
      this.received.length >= count
        ? Effect.void
        : Effect.die(new Error(`the connection ended after ${this.received.length} of ${count} messages`)))

  /** Waits until so many bytes have come in all, or the connection ends. */
  readonly raw = (count: number): Effect.Effect<Uint8Array> =>
    Effect.map(this.#until(() => this.bytes.length >= count || this.#closed), () => this.bytes)

  /** Completes when the server has closed its half, or the connection is gone. */
  readonly ended: Effect.Effect<void> = Effect.suspend(() => this.#until(() => this.#closed))

  #until(condition: () => boolean): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const check = () => {
        if (!condition()) return
        this.#watching = this.#watching.filter((other) => other !== check)
        resume(Effect.void)
      }
      this.#watching.push(check)
      check()
      return Effect.sync(() => {
        this.#watching = this.#watching.filter((other) => other !== check)
      })
    })
  }

  #changed(): void {
    for (const check of this.#watching) check()
  }

  #end(): void {
    this.#closed = true
    this.#changed()
  }
}

/** Connects; the socket is destroyed with the scope. */
export const connect = (
  address: { readonly host: string; readonly port: number; readonly path?: string | undefined },
  speech: Speech = spoken,
  open: (onOpen: () => void) => Net.Socket = (onOpen) =>
    Net.connect(
      address.path === undefined
        ? { host: address.host, port: address.port, allowHalfOpen: true, noDelay: true }
        : { path: address.path, allowHalfOpen: true },
      onOpen
    )
) =>
  Effect.acquireRelease(
    Effect.callback<RawClient, Error>((resume) => {
      const socket = open(() => {
        socket.off("error", failed)
        resume(Effect.succeed(new RawClient(socket, speech)))
      })
      const failed = (error: Error) => resume(Effect.fail(error))
      socket.once("error", failed)
    }),
    (client) => Effect.sync(() => client.socket.destroy())
  )

/** Waits, turn by turn of the event loop, until something is so. */
export const until = (condition: () => boolean): Effect.Effect<void> =>
  Effect.callback((resume) => {
    let waits = true
    const look = () => {
      if (!waits) return
      if (condition()) resume(Effect.void)
      else setImmediate(look)
    }
    look()
    return Effect.sync(() => {
      waits = false
    })
  })

/** Lets the event loop turn until nothing has changed for a while: for what is not to happen. */
export const settled = (value: () => number) =>
  Effect.suspend(() => {
    let last = value()
    let same = 0
    return until(() => {
      const now = value()
      same = now === last ? same + 1 : 0
      last = now
      return same > 300
    })
  })
