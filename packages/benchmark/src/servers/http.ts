/**
 * The servers of all HTTP clients, in one process, cheap enough not to be what is measured: to a GET, which has no body, they write the same
 * bytes, to a POST its own body; to all requests of one chunk at once.
 */
import * as Net from "node:net"
import { json } from "../workload.ts"
import { listenMany, type Server } from "./Server.ts"

const headOf = (length: number): string =>
  `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n\r\n`
const response = Buffer.from(headOf(json.length) + json)
const endOfHead = "\r\n\r\n"

const lengthOf = (head: string): number => {
  if (head.startsWith("GET /message ")) return 0
  const found = /^content-length: (\d+)/im.exec(head)
  if (!head.startsWith("POST /message ") || found === null) throw new Error(`not the call: ${head}`)
  return Number(found[1])
}

class Connection {
  readonly #socket: Net.Socket
  /** What has come of a head, or of a body that is not here as a whole. */
  #parts: Array<Buffer> = []
  #have = 0
  /** From how many bytes on there is something to do. */
  #needed = 0

  constructor(socket: Net.Socket) {
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on("data", (chunk: Buffer) => this.#receive(chunk))
    // A client that is gone is no failure of the server.
    socket.on("error", () => {})
  }

  #receive(chunk: Buffer): void {
    this.#parts.push(chunk)
    this.#have += chunk.length
    if (this.#have < this.#needed) return
    const bytes = this.#parts.length === 1 ? chunk : Buffer.concat(this.#parts)
    const replies: Array<Buffer> = []
    let at = 0
    this.#needed = 0
    while (at < bytes.length) {
      const end = bytes.indexOf(endOfHead, at, "latin1")
      if (end === -1) break
      const body = end + endOfHead.length
      const length = lengthOf(bytes.toString("latin1", at, end))
      if (body + length > bytes.length) {
        this.#needed = body + length - at
        break
      }
      if (length === 0) replies.push(response)
      else replies.push(Buffer.from(headOf(length)), bytes.subarray(body, body + length))
      at = body + length
    }
    const rest = bytes.subarray(at)
    this.#parts = rest.length === 0 ? [] : [rest]
    this.#have = rest.length
    if (replies.length > 0) {
      this.#socket.write(replies.length === 1 ? replies[0]! : Buffer.concat(replies))
    }
  }
}

/** Starts as many of them as are asked for, each on a port of its own. */
export const start = (count: number): Promise<Server> =>
  listenMany(count, () => Net.createServer((socket) => void new Connection(socket)))
