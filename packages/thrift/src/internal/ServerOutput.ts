/** The outgoing side of a server's connection: replies that are ready in one turn leave in one write. */
import { WriteChunks } from "@scales-rpc/core/socket"
import type * as Net from "node:net"
import { chunksOf, type Framing } from "./Framing.ts"

/** Replies of one turn that together have more are written one by one: copying them into one chunk would cost more than it saves. */
const batchBytes = 128 * 1024

const none = new Uint8Array(0)

/** The part of a socket that replies are written to. */
export type OutputSocket = Pick<Net.Socket, "write" | "cork" | "uncork" | "writableLength">

/** Writes replies in the order they are given. */
export class ServerOutput {
  readonly #socket: OutputSocket
  readonly #counts: { sentBytes: number }
  readonly #chunks: WriteChunks
  /** For each reply its header, empty for none, and its message. */
  #parts: Array<Uint8Array> = []
  #bytes = 0
  #framing: Framing = "framed"
  #scheduled = false
  #closed = false

  /** `counts` may be shared. */
  constructor(socket: OutputSocket, counts: { sentBytes: number }) {
    this.#socket = socket
    this.#counts = counts
    this.#chunks = new WriteChunks(() => socket.writableLength === 0)
  }

  /** Bytes that the operating system has not taken. */
  get pending(): number {
    return this.#bytes + this.#socket.writableLength
  }

  /** Queues a reply, which leaves at the end of this turn. A connection has one framing. */
  send(framing: Framing, header: Uint8Array | undefined, reply: Uint8Array): void {
    if (this.#closed) return
    this.#framing = framing
    this.#parts.push(header ?? none, reply)
    this.#bytes += (framing === "framed" ? 4 : 0) + (header?.length ?? 0) + reply.length
    if (this.#scheduled) return
    this.#scheduled = true
    queueMicrotask(() => {
      this.#scheduled = false
      this.flush()
    })
  }

  /** Writes what is queued now. */
  flush(): void {
    if (this.#closed || this.#parts.length === 0) return
    const parts = this.#parts
    const bytes = this.#bytes
    this.#parts = []
    this.#bytes = 0
    this.#counts.sentBytes += bytes
    if (bytes <= batchBytes) {
      this.#socket.write(this.#batch(parts, bytes))
      this.#chunks.written()
    } else this.#writeEach(parts)
  }

  /** Drops what is queued; nothing is written from now on. */
  close(): void {
    this.#closed = true
    this.#parts = []
    this.#bytes = 0
  }

  #batch(parts: ReadonlyArray<Uint8Array>, bytes: number): Uint8Array {
    const batch = this.#chunks.take(bytes)
    let at = 0
    for (let i = 0; i < parts.length; i += 2) {
      const header = parts[i]!
      const reply = parts[i + 1]!
      if (this.#framing === "framed") at = batch.writeInt32BE(header.length + reply.length, at)
      batch.set(header, at)
      at += header.length
      batch.set(reply, at)
      at += reply.length
    }
    return batch
  }

  #writeEach(parts: ReadonlyArray<Uint8Array>): void {
    this.#socket.cork()
    for (let i = 0; i < parts.length; i += 2) {
      const header = parts[i]!
      const reply = parts[i + 1]!
      const chunks = header.length === 0 ? chunksOf(this.#framing, reply) : chunksOf(this.#framing, header, reply)
      for (const chunk of chunks) this.#socket.write(chunk)
    }
    this.#socket.uncork()
  }
}
