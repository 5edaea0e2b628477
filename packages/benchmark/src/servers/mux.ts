/**
 * The server of the mux clients, cheap enough not to be what is measured: it answers a Thrift call of `T f(1: T)` by turning the bytes
 * of the request into those of the reply, all replies to one chunk in one write.
 */
import { FrameReader, Message as Mux } from "@scales-rpc/mux"
import { MessageType } from "@scales-rpc/thrift"
import * as Net from "node:net"
import { listenMany, type Server } from "./Server.ts"

class Connection {
  readonly #socket: Net.Socket
  readonly #reader = new FrameReader()
  #out: Buffer = Buffer.alloc(0)
  #length = 0

  constructor(socket: Net.Socket) {
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on("data", (chunk: Buffer) => this.#receive(chunk))
    // A client that is gone is no failure of the server.
    socket.on("error", () => {})
  }

  #receive(chunk: Buffer): void {
    // No answer is longer than what it answers.
    this.#out = Buffer.allocUnsafe(this.#reader.pending + chunk.length)
    this.#length = 0
    this.#reader.push(chunk, this.#onFrame)
    if (this.#length > 0) this.#socket.write(this.#out.subarray(0, this.#length))
  }

  readonly #onFrame = (type: number, tag: number, body: Uint8Array): void => {
    switch (type) {
      case Mux.Type.Tdispatch:
        return this.#reply(tag, body)
      case Mux.Type.OldRerr:
        return this.#answer(type, tag, body)
      // The client's own version and headers suit it.
      case Mux.Type.Tinit:
        return this.#answer(Mux.Type.Rinit, tag, body)
      case Mux.Type.Tping:
        return this.#answer(Mux.Type.Rping, tag, body)
      // Too late: the reply has been written, and frees the tag.
      case Mux.Type.OldTdiscarded:
        return
      default:
        throw new Error(`a frame of type ${type}, which no client here sends`)
    }
  }

  #header(type: number, tag: number, length: number): void {
    const out = this.#out
    const at = this.#length
    const size = length + 4
    out[at] = size >>> 24
    out[at + 1] = size >>> 16
    out[at + 2] = size >>> 8
    out[at + 3] = size
    out[at + 4] = type
    out[at + 5] = tag >>> 16
    out[at + 6] = tag >>> 8
    out[at + 7] = tag
    this.#length = at + 8
  }

  #answer(type: number, tag: number, body: Uint8Array): void {
    this.#header(type, tag, body.length)
    this.#out.set(body, this.#length)
    this.#length += body.length
  }

  #reply(tag: number, body: Uint8Array): void {
    const call = body.subarray(payloadAt(body))
    this.#header(Mux.Type.Rdispatch, tag, 3 + call.length)
    const out = this.#out
    const at = this.#length
    out[at] = Mux.Status.Ok
    out[at + 1] = 0
    out[at + 2] = 0
    out.set(call, at + 3)
    // The type of the message, and the number of the one field: 1 in the arguments, 0 in the result.
    out[at + 6] = MessageType.REPLY
    const nameLength = (call[6]! << 8) | call[7]!
    out[at + 3 + nameLength + 14] = 0
    this.#length = at + 3 + call.length
  }
}

/** Where the payload of a Tdispatch begins: behind contexts, destination and delegation table, none of which matter here. */
const payloadAt = (body: Uint8Array): number => {
  const short = (at: number) => (body[at]! << 8) | body[at + 1]!
  let at = 2
  for (let contexts = short(0); contexts > 0; contexts--) {
    at += 2 + short(at)
    at += 2 + short(at)
  }
  at += 2 + short(at)
  if (short(at) !== 0) throw new Error("a delegation table, which no client here sends")
  return at + 2
}

/** Starts as many of them as are asked for, each on a port of its own. */
export const start = (count: number): Promise<Server> =>
  listenMany(count, () => Net.createServer((socket) => void new Connection(socket)))
