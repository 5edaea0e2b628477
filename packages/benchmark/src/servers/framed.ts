/**
 * The one server of all clients of framed Thrift, cheap enough not to be what is measured: it answers a call of `T f(1: T)`, binary or
 * compact as it comes, by turning the bytes of the request into those of the reply, all replies to one chunk in one write.
 */
import { MessageType } from "@scales-rpc/thrift"
import * as Net from "node:net"
import { listen, type Server } from "./Server.ts"

/** The first byte of a message of the compact protocol. */
const compactId = 0x82
/** A field of type struct with its number behind it, and without: one more than that of the field before. */
const compactStruct = 0x0c
const compactNextStruct = 0x1c

class Connection {
  readonly #socket: Net.Socket
  /** The beginning of a frame that has not come as a whole. */
  #rest: Buffer = Buffer.alloc(0)

  constructor(socket: Net.Socket) {
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on("data", (chunk: Buffer) => this.#receive(chunk))
    // A client that is gone is no failure of the server.
    socket.on("error", () => {})
  }

  #receive(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    const replies: Array<Buffer> = []
    let at = 0
    while (bytes.length - at >= 4) {
      const end = at + 4 + bytes.readInt32BE(at)
      if (end > bytes.length) break
      const frame = bytes.subarray(at, end)
      if (frame[4] === compactId) compactReply(frame, replies)
      else binaryReply(frame, replies)
      at = end
    }
    this.#rest = bytes.subarray(at)
    if (replies.length > 0) this.#socket.write(replies.length === 1 ? replies[0]! : Buffer.concat(replies))
  }
}

/** The type of the message, and the number of the one field: 1 in the arguments, 0 in the result. */
const binaryReply = (frame: Buffer, replies: Array<Buffer>): void => {
  frame[7] = MessageType.REPLY
  frame[frame.readInt32BE(8) + 18] = 0
  replies.push(frame)
}

/** The same; field 0 takes a byte more, because compact numbers count from 0 up. */
const compactReply = (frame: Buffer, replies: Array<Buffer>): void => {
  frame[5] = frame[5]! & 0x1f | MessageType.REPLY << 5
  let at = 6
  // The sequence id.
  while (frame[at]! >= 0x80) at++
  at++
  const field = at + 1 + frame[at]!
  if (frame[field] !== compactNextStruct) throw new Error(`a call whose arguments begin with ${frame[field]}`)
  frame.writeInt32BE(frame.length - 3, 0)
  replies.push(frame.subarray(0, field), Buffer.of(compactStruct, 0), frame.subarray(field + 1))
}

/** Starts the server. */
export const start = (): Promise<Server> => listen(Net.createServer((socket) => void new Connection(socket)))
