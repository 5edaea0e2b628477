/**
 * One connection at a Thrift server, driven by what its socket says: cuts what comes into requests, hands them to their owner, several
 * at a time, and writes the replies in the order of the requests, as clients of Apache's rely on.
 */
import { CallContext } from "@scales-rpc/core"
import type * as Net from "node:net"
import { ThriftProtocolError } from "../errors.ts"
import { MessageType, type Protocol, type ProtocolReader } from "../Protocol.ts"
import { detect, type Spoken } from "./Detection.ts"
import { Fifo } from "./Fifo.ts"
import { type Framing, type Splitter, splitter } from "./Framing.ts"
import { type RequestHead, ServerExchange } from "./ServerExchange.ts"
import { type OutputSocket, ServerOutput } from "./ServerOutput.ts"
import type { ServerUpgrade } from "./ServerUpgrade.ts"
import { upgradeMethod } from "./UpgradeCodec.ts"

/** The part of a socket that a connection uses. */
export type ServerSocket = OutputSocket & Pick<Net.Socket, "pause" | "resume" | "destroy" | "destroySoon">

/** What connections have seen. Shared by the connections of one server. */
export interface ConnectionCounts {
  /** Requests that were run, or refused because of their deadline. */
  requests: number
  /** Connections whose client asked for Twitter's upgrade. */
  upgrades: number
  /** Connections ended because of a message over the limit. */
  oversized: number
  /** Connections ended because of bytes that are no Thrift, or no call. */
  undecodable: number
  /** Connections that were drained. */
  drains: number
  /** Requests that were interrupted because their connection was ended from here. */
  aborted: number
  /** Bytes given to sockets; within TLS, where there is any. */
  sentBytes: number
}

/** Who serves the requests of one protocol. */
export interface ConnectionRequests {
  readonly reader: ProtocolReader
  readonly upgrade: ServerUpgrade
  isOneway(name: string): boolean
  serve(exchange: ServerExchange): void
}

/** What a connection is made with. */
export interface ServerConnectionOptions {
  readonly socket: ServerSocket
  readonly peer: string
  /** `auto`: told from the first bytes. */
  readonly framing: Framing | "auto"
  readonly protocol: Protocol | "auto"
  readonly requests: (protocol: Protocol) => ConnectionRequests
  readonly maxMessageBytes: number
  readonly maxDepth: number
  /** Requests of this connection that have been begun and whose reply has not been written. */
  readonly maxPipelined: number
  /** Whether Twitter's upgrade is known, on framed connections. */
  readonly upgrade: boolean
  readonly counts: ConnectionCounts
  readonly now: () => number
  /** The client sent what ends its connection. Default: nobody is told. */
  readonly onFault?: ((why: string) => void) | undefined
}

/** Replies that wait for a client which does not read: beyond this no more requests are begun, or read, until they have left. */
const backlogBytes = 4 * 1024 * 1024

const nothing: Uint8Array = new Uint8Array(0)

/** One connection, from its first byte to its last. */
export class ServerConnection {
  readonly peer: string
  readonly #options: ServerConnectionOptions
  readonly #output: ServerOutput
  /** What came before it could be told what the client speaks. */
  #prelude = nothing
  #spoken: Spoken | undefined = undefined
  #splitter: Splitter | undefined = undefined
  #requests: ConnectionRequests | undefined = undefined
  #upgraded = false
  /** Messages that have come and not been begun: no more than one chunk of the socket holds. */
  readonly #waiting = new Fifo<Uint8Array>()
  /** Requests that have been begun and will be answered, in their order. */
  readonly #order = new Fifo<ServerExchange>()
  #running = 0
  #oneways = 0
  /** `ending`: nothing more is read, what has come is answered; `ended`: nothing more is written. */
  #phase: "open" | "ending" | "ended" = "open"
  #paused = false
  #advancing = false
  /** When something last came, was answered or left, in milliseconds. */
  #activeAt: number
  /** Bytes that had not left when this was last looked at. */
  #pending = 0

  constructor(options: ServerConnectionOptions) {
    this.#options = options
    this.peer = options.peer
    this.#output = new ServerOutput(options.socket, options.counts)
    this.#activeAt = options.now()
  }

  /** Requests that have not been answered. */
  get outstanding(): number {
    return this.#running + this.#waiting.length
  }

  /**
   * When nothing will have happened for so many milliseconds, if nothing does; `Infinity` while a request runs. One whose replies are not read
   * is given the time once more whenever some of them have left.
   */
  idleAt(idleMillis: number): number {
    if (this.#running > 0) return Infinity
    const due = this.#activeAt + idleMillis
    const { pending } = this.#output
    const now = this.#options.now()
    if (due > now || pending === this.#pending) return due
    this.#pending = pending
    this.#activeAt = now
    return now + idleMillis
  }

  /** Takes bytes from the client. What comes after the connection began to end is dropped: left unread, it would make the end a reset. */
  receive(chunk: Uint8Array): void {
    if (this.#phase !== "open") return
    this.#activeAt = this.#options.now()
    try {
      this.#split(chunk)
    } catch (error) {
      this.#malformed(error)
    }
    this.#advance()
  }

  /** The client takes more bytes. */
  drained(): void {
    this.#activeAt = this.#options.now()
    this.#advance()
  }

  /** The client has closed its half of the connection: it sends no more, and reads what it has asked for. */
  clientEnded(): void {
    this.#finish()
  }

  /** The connection is gone, and the client with it. */
  closed(): void {
    this.#end()
  }

  /** Reads no more, and ends the connection when what has come is answered: at once, if nothing has. */
  drain(): void {
    if (this.#phase === "open") this.#options.counts.drains++
    this.#finish()
  }

  /** Ends the connection now. What is answered leaves, if the client takes it at once; what runs is interrupted. */
  abort(): void {
    // Oneway calls run on.
    if (this.#phase !== "ended") this.#options.counts.aborted += this.#running - this.#oneways
    this.#output.flush()
    this.#end()
    const { socket } = this.#options
    if (socket.writableLength > 0) socket.destroy()
    else socket.destroySoon()
  }

  /** @internal */
  answer(exchange: ServerExchange, reply: Uint8Array): void {
    if (exchange.state !== "running") return
    exchange.state = "answered"
    this.#running--
    this.#activeAt = this.#options.now()
    if (exchange.head.oneway) this.#oneways--
    else {
      exchange.reply = reply
      this.#write()
    }
    this.#advance()
  }

  /**
   * @internal The bytes of a request are no call, or there is no answer that the limits allow. That may show when others have been begun
   * behind it: they are interrupted, for nothing is answered behind it.
   */
  refuse(exchange: ServerExchange): void {
    if (exchange.state !== "running") return
    exchange.state = "refused"
    this.#running--
    this.#waiting.clear()
    if (exchange.head.oneway) this.#oneways--
    else {
      const exchanges = [...this.#order]
      for (const behind of exchanges.slice(exchanges.indexOf(exchange) + 1)) this.#interrupt(behind)
      this.#write()
    }
    this.#reject("undecodable", "a request that is no call")
    this.#advance()
  }

  #split(chunk: Uint8Array): void {
    const { framing, maxDepth, maxMessageBytes, protocol, requests } = this.#options
    let bytes = chunk
    if (this.#splitter === undefined) {
      if (this.#prelude.length > 0) bytes = Buffer.concat([this.#prelude, chunk])
      const spoken = detect(framing, protocol, bytes)
      if (spoken === undefined) {
        this.#prelude = bytes
        return
      }
      this.#prelude = nothing
      this.#spoken = spoken
      this.#splitter = splitter(spoken.framing, spoken.protocol, maxMessageBytes, maxDepth)
      this.#requests = requests(spoken.protocol)
    }
    this.#splitter.push(bytes, this.#onMessage)
  }

  readonly #onMessage = (message: Uint8Array): void => {
    this.#waiting.push(message)
  }

  #malformed(error: unknown): void {
    if (!(error instanceof ThriftProtocolError)) throw error
    this.#reject(error.reason === "SizeLimit" ? "oversized" : "undecodable", error.message)
  }

  /** Something is no request: what came before it is answered, what stands behind it is not looked at. */
  #reject(counter: "oversized" | "undecodable", why: string): void {
    if (this.#phase === "open") {
      this.#options.counts[counter]++
      this.#options.onFault?.(why)
    }
    this.#finish()
  }

  /** Begins what may be begun, reads on if more may come, and ends what is to end. */
  #advance(): void {
    if (this.#advancing) return
    this.#advancing = true
    while (this.#phase !== "ended" && this.#waiting.length > 0 && !this.#full) this.#begin(this.#waiting.shift()!)
    this.#advancing = false
    if (this.#phase === "open" && (this.#waiting.length > 0 || this.#output.pending > backlogBytes)) {
      if (this.#paused) return
      this.#paused = true
      this.#options.socket.pause()
    } else {
      this.#readOn()
      this.#settle()
    }
  }

  get #full(): boolean {
    return this.#order.length + this.#oneways >= this.#options.maxPipelined || this.#output.pending > backlogBytes
  }

  #readOn(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#options.socket.resume()
  }

  #begin(message: Uint8Array): void {
    const requests = this.#requests!
    let head: RequestHead
    try {
      head = this.#head(message, requests)
    } catch (error) {
      this.#waiting.clear()
      return this.#malformed(error)
    }
    const exchange = new ServerExchange(this, head)
    this.#running++
    if (head.oneway) this.#oneways++
    else this.#order.push(exchange)
    if (!this.#upgraded && head.name === upgradeMethod && this.#upgradable && !head.oneway) {
      this.#upgraded = true
      this.#options.counts.upgrades++
      return this.answer(exchange, requests.upgrade.reply(head.sequenceId))
    }
    this.#options.counts.requests++
    requests.serve(exchange)
  }

  get #upgradable(): boolean {
    return this.#options.upgrade && this.#spoken!.framing === "framed"
  }

  /** Throws `ThriftProtocolError` for what is no call. */
  #head(message: Uint8Array, requests: ConnectionRequests): RequestHead {
    const { reader, upgrade } = requests
    let body = message
    let context = CallContext.empty
    let deadline = Infinity
    if (this.#upgraded) {
      const header = upgrade.requestHeader(message)
      body = message.subarray(header.end)
      context = header.context
      deadline = header.deadline
    }
    const { fname, mtype, rseqid } = reader.reset(body).readMessageBegin()
    if (mtype !== MessageType.CALL && mtype !== MessageType.ONEWAY) {
      throw new ThriftProtocolError({
        reason: "UnexpectedMessage",
        offset: reader.position,
        message: `a message of type ${mtype} where a call is expected`
      })
    }
    return {
      body,
      name: fname,
      sequenceId: rseqid,
      oneway: mtype === MessageType.ONEWAY || requests.isOneway(fname),
      context,
      deadline,
      replyHeader: this.#upgraded ? upgrade.responseHeader : undefined
    }
  }

  /** Writes the replies whose turn it is. */
  #write(): void {
    const { framing } = this.#spoken!
    for (let next = this.#order.head; next !== undefined; next = this.#order.head) {
      if (next.state === "refused") return this.#order.clear()
      if (next.state !== "answered") return
      this.#order.shift()
      this.#output.send(framing, next.head.replyHeader, next.reply!)
    }
  }

  /** Reads no more. */
  #finish(): void {
    if (this.#phase !== "open") return
    this.#phase = "ending"
    this.#prelude = nothing
    this.#splitter = undefined
    this.#readOn()
    this.#settle()
  }

  /** Ends a connection of which nothing more is read when everything is answered. */
  #settle(): void {
    if (this.#phase !== "ending" || this.#order.length > 0 || this.#waiting.length > 0) return
    this.#output.flush()
    this.#end()
    this.#options.socket.destroySoon()
  }

  #interrupt(exchange: ServerExchange): void {
    const running = exchange.state === "running"
    exchange.state = "ended"
    if (!running) return
    this.#running--
    exchange.onInterrupt?.()
  }

  /** Nobody waits for the reply of a oneway call: it runs on. */
  #end(): void {
    if (this.#phase === "ended") return
    this.#phase = "ended"
    this.#output.close()
    this.#waiting.clear()
    this.#splitter = undefined
    const exchanges = [...this.#order]
    this.#order.clear()
    for (const exchange of exchanges) this.#interrupt(exchange)
  }
}
