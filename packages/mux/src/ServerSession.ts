/**
 * The server's side of one mux connection, without the connection: driven by `receive`, `drained` and `closed`, it answers the
 * handshake, pings, discards and drains by itself and hands requests to its owner. After Finagle 24.2.0's
 * `MuxServerNegotiator`, `MuxServerSession` and `ServerTracker`.
 */
import { MuxDecodeError } from "./CodecError.ts"
import { decode } from "./Decode.ts"
import { Fragments } from "./Fragments.ts"
import { FrameReader } from "./FrameReader.ts"
import { type ChunkSink, FrameWriter, type WriterCounts } from "./FrameWriter.ts"
import { initHeaders, levelOf, negotiateTls, probeText, type SessionTls, tlsLevelOf, windowOf } from "./Handshake.ts"
import {
  controlTag,
  type Limits,
  markerTag,
  type Message,
  type Pair,
  Status,
  type Tdispatch,
  type Tinit,
  type Treq,
  typeOf,
  version
} from "./Message.ts"
import { type Interruption, Reply, ServerExchange } from "./ServerExchange.ts"

/** The connection under a session. `write` returning `false` asks for no more until the session's `drained` is called. */
export interface ServerConnection extends ChunkSink {
  /** Ends it once everything written has left. */
  end(): void
  /** Ends it at once. */
  destroy(): void
  /** Delivers no more chunks until `resume`: the peer does not read its replies. */
  pause(): void
  resume(): void
}

/** What sessions have seen. Shared by the sessions of one server. */
export class ServerCounts {
  /** Sessions begun. */
  sessions = 0
  /** Requests handed to the owner. */
  requests = 0
  /** Requests refused because the session is drained. */
  drainNacks = 0
  /** Discards of requests that were running, or whose reply had not left. */
  discards = 0
  /** Discards of requests that nobody knows. */
  orphanedDiscards = 0
  /** Sessions ended because a tag was used twice. */
  duplicateTags = 0
  /** Sessions ended because of bytes that are no mux. */
  undecodable = 0
  /** Sessions whose client was asked to send no more. */
  drains = 0
  /** Requests that were interrupted because their session was drained for too long. */
  aborted = 0
  /** Leases given. */
  leases = 0
  /** Pings sent. */
  pings = 0
  messagesReceived = 0
  /** Frames that were not the last of their message. */
  fragmentsReceived = 0
  readonly sent: WriterCounts = { messages: 0, fragments: 0 }
}

/** What a session is made with. */
export interface ServerSessionOptions {
  /** Where frames go; the one who owns it gives what comes to `receive`. */
  readonly connection: ServerConnection
  /** Of messages from the client; one beyond them ends the session. */
  readonly limits: Limits
  /** Bytes of one fragment that the client may send: the `mux-framer` that is offered. */
  readonly window: number
  /** Default: none is offered, and none taken. */
  readonly tls?: SessionTls | undefined
  /** Counted up by the session; sessions may share one. */
  readonly counts: ServerCounts
  /** A request has come: to be answered with `exchange.reply`, now or later. */
  readonly onRequest: (exchange: ServerExchange) => void
  /** The client did what ends its session: in words, and how it was found out. Default: nobody is told. */
  readonly onFault?: ((what: "protocol error" | "handshake refused", why: unknown) => void) | undefined
  /** The session has ended, every request has been interrupted. Called once; the connection may live on until all is written. */
  readonly onEnd: () => void
}

/** Replies that wait for a client which does not read: beyond this no more requests are read, until half of it has left. */
const backlogBytes = 4 * 1024 * 1024
/** The same for replies so short that their bytes are the least of them. */
const backlogReplies = 16 * 1024

const noContexts: ReadonlyArray<Pair> = []
const nothing = new Uint8Array(0)

/** Finagle's words for levels of TLS that do not meet. */
const incompatible = "Could not negotiate whether to use TLS or not.. Remote Info: Not Available"

const betweenError = (): MuxDecodeError =>
  new MuxDecodeError({ kind: "frame", what: "bytes came between Tinit and TLS" })

/** One session, from the first byte of its connection to the last. */
export class ServerSession {
  readonly #options: ServerSessionOptions
  readonly #reader: FrameReader
  readonly #fragments: Fragments
  readonly #writer: FrameWriter
  /** Requests by tag: those that run, and those whose reply has not left. */
  readonly #exchanges = new Map<number, ServerExchange>()
  #running = 0
  /**
   * `probed`: the client may send Tinit now. `securing`: both sides have agreed on TLS, and it is not there yet.
   * `ending`: nothing is read any more, what is queued still leaves.
   */
  #phase: "new" | "probed" | "securing" | "open" | "ending" | "ended" = "new"
  #drain: "none" | "asked" | "granted" = "none"
  #paused = false
  #pong: (() => void) | undefined = undefined

  constructor(options: ServerSessionOptions) {
    this.#options = options
    this.#reader = new FrameReader(options.limits)
    this.#fragments = new Fragments(options.limits)
    this.#writer = new FrameWriter(options.connection, options.counts.sent)
    options.counts.sessions++
  }

  /** Requests that have not been answered. */
  get outstanding(): number {
    return this.#running
  }

  /** Messages that have not left. */
  get queued(): number {
    return this.#writer.size
  }

  /** Their bytes. */
  get queuedBytes(): number {
    return this.#writer.bytes
  }

  /** Whether the client was asked to send no more. */
  get draining(): boolean {
    return this.#drain !== "none" || this.#phase === "ending"
  }

  /** Requests of which only fragments have come. */
  get reassembling(): number {
    return this.#fragments.size
  }

  /** The bytes of one fragment that the client takes. */
  get window(): number {
    return this.#writer.window
  }

  /** Takes bytes from the connection. Bytes that are no mux end it without a word, as in Finagle. */
  receive(chunk: Uint8Array): void {
    if (this.#deaf) return
    try {
      this.#reader.push(chunk, this.#onFrame)
      // Whoever sits in between could put bytes here that would be taken for the client's once the connection is secured.
      if (this.#phase === "securing" && this.#reader.pending > 0) throw betweenError()
    } catch (error) {
      if (!(error instanceof MuxDecodeError)) throw error
      this.#options.counts.undecodable++
      this.#options.onFault?.("protocol error", error)
      this.#end({ _tag: "ConnectionLost", cause: error })
      this.#options.connection.destroy()
      return
    }
    if (this.#phase === "securing") return this.#beginTls()
    if (!this.#paused && this.#backlogged(1)) {
      this.#paused = true
      this.#options.connection.pause()
    }
  }

  /** TLS has begun: from here on `receive` and the connection are secured. */
  secured(): void {
    if (this.#phase === "securing") this.#phase = "open"
  }

  /** The connection takes more bytes. */
  drained(): void {
    this.#writer.drained()
    if (this.#paused && !this.#backlogged(0.5)) {
      this.#paused = false
      this.#options.connection.resume()
    }
  }

  /** The connection has ended, by the peer or by an error. */
  closed(cause: unknown): void {
    this.#end({ _tag: "ConnectionLost", cause })
  }

  /**
   * Asks the client to send no more. Requests are served until it agrees, nacked after that, and the connection ends when the last one
   * is answered; a session still in its handshake ends at once.
   */
  drain(): void {
    if (this.#phase === "new" || this.#phase === "probed" || this.#phase === "securing") return this.#finish()
    if (this.#phase !== "open" || this.#drain !== "none") return
    this.#drain = "asked"
    this.#options.counts.drains++
    this.#writer.send({ _tag: "Tdrain", tag: controlTag })
  }

  /** Ends it: requests that still run are interrupted. What was queued leaves if the connection takes it now. */
  abort(): void {
    if (this.#phase === "ended") return
    this.#options.counts.aborted += this.#running
    this.#writer.flush()
    this.#end({ _tag: "DrainTimeout" })
    this.#options.connection.end()
  }

  /** Tells the client how long it may count on this server, in milliseconds. Nothing is refused when it is over. */
  lease(millis: number): void {
    if (this.#phase !== "open") return
    this.#options.counts.leases++
    this.#writer.send({ _tag: "Tlease", tag: markerTag, unit: 0, howMuch: BigInt(Math.max(0, Math.floor(millis))) })
  }

  /** Asks whether the client is there, and calls `pong` when it says so. `false`: a ping is out already, or no session is open. */
  ping(pong: () => void): boolean {
    if (this.#phase !== "open" || this.#pong !== undefined) return false
    this.#pong = pong
    this.#options.counts.pings++
    this.#writer.send({ _tag: "Tping", tag: controlTag })
    return true
  }

  /** @internal */
  answer(exchange: ServerExchange, status: Status, body: Uint8Array, contexts: ReadonlyArray<Pair>): void {
    const tag = exchange.request.tag
    const outgoing = new Reply(
      exchange.request._tag === "Treq"
        ? { _tag: "Rreq", tag, status, body }
        : { _tag: "Rdispatch", tag, status, contexts, body },
      this.#exchanges
    )
    this.#writer.queue(outgoing)
    exchange.outgoing = outgoing
    exchange.state = "replied"
    this.#running--
    this.#settle()
  }

  get #deaf(): boolean {
    return this.#phase === "ending" || this.#phase === "ended"
  }

  #backlogged(share: number): boolean {
    const writer = this.#writer
    return writer.full && (writer.bytes > share * backlogBytes || writer.size > share * backlogReplies)
  }

  readonly #onFrame = (type: number, tag: number, body: Uint8Array): void => {
    if (this.#deaf) return
    const partials = this.#fragments.size
    const whole = this.#fragments.push(type, tag, body)
    if (whole === undefined) {
      this.#options.counts.fragmentsReceived++
      return
    }
    this.#options.counts.messagesReceived++
    const message = decode(type, tag, whole, this.#options.limits)
    // A request of which only a part has come is discarded like any other: its client waits for the tag.
    if (message._tag === "Tdiscarded" && this.#fragments.size < partials) this.#discarded(message.which)
    else this.#onMessage(message)
  }

  #onMessage(message: Message): void {
    if (this.#phase === "open") return this.#onSessionMessage(message)
    if (this.#phase === "new" && message._tag === "Rerr" && message.tag === controlTag && message.why === probeText) {
      this.#phase = "probed"
      this.#writer.send(message)
      return
    }
    if (this.#phase === "probed" && message._tag === "Tinit") return this.#onInit(message)
    if (this.#phase === "securing") throw betweenError()
    // A client may skip the handshake, or stop after the probe: then it offers no TLS.
    if (levelOf(this.#options.tls) === "required") return this.#refuse(message.tag, incompatible)
    this.#phase = "open"
    this.#onSessionMessage(message)
  }

  #refuse(tag: number, why: string): void {
    this.#options.onFault?.("handshake refused", why)
    this.#writer.send({ _tag: "Rerr", tag, why })
    this.#finish()
  }

  #onInit(message: Tinit): void {
    const { tls, window: ours } = this.#options
    if (message.version !== version) return this.#refuse(message.tag, `Unsupported Mux version: ${message.version}`)
    this.#writer.send({ _tag: "Rinit", tag: message.tag, version, headers: initHeaders(ours, levelOf(tls)) })
    const agreed = tls === "secured" ? "plain" : negotiateTls(levelOf(tls), tlsLevelOf(message.headers))
    if (agreed === "incompatible") return this.#refuse(message.tag, incompatible)
    const window = windowOf(message.headers)
    if (typeof window !== "number") return this.#refuse(message.tag, window.wrong)
    this.#writer.window = window
    this.#phase = agreed === "tls" ? "securing" : "open"
  }

  /** The Rinit leaves in the clear, and nothing behind it. */
  #beginTls(): void {
    this.#writer.flush()
    this.#writer.whenEmpty(() => {
      if (this.#options.tls !== undefined && this.#options.tls !== "secured") this.#options.tls.begin()
    })
  }

  #onSessionMessage(message: Message): void {
    switch (message._tag) {
      case "Tdispatch":
      case "Treq":
        return this.#onRequest(message)
      case "Tdiscarded":
        return this.#onDiscard(message.which, message.why)
      case "Tping":
        this.#writer.send({ _tag: "Rping", tag: message.tag })
        return
      case "Rdrain":
        if (this.#drain !== "asked" || message.tag !== controlTag) return this.#unexpected(message)
        this.#drain = "granted"
        return this.#settle()
      case "Rping": {
        const pong = this.#pong
        if (pong === undefined) return this.#unexpected(message)
        this.#pong = undefined
        return pong()
      }
      default:
        return this.#unexpected(message)
    }
  }

  #unexpected(message: Message): void {
    this.#writer.send({ _tag: "Rerr", tag: message.tag, why: `Unexpected mux message type ${typeOf(message)}` })
  }

  #onRequest(request: Treq | Tdispatch): void {
    const tag = request.tag
    if (this.#exchanges.has(tag)) return this.#onDuplicate(tag)
    if (this.#drain === "granted") {
      this.#options.counts.drainNacks++
      this.#writer.send(
        request._tag === "Treq"
          ? { _tag: "Rreq", tag, status: Status.Nack, body: nothing }
          : { _tag: "Rdispatch", tag, status: Status.Nack, contexts: noContexts, body: nothing }
      )
      return
    }
    const exchange = new ServerExchange(this, request)
    this.#exchanges.set(tag, exchange)
    this.#running++
    this.#options.counts.requests++
    this.#options.onRequest(exchange)
  }

  #onDiscard(which: number, why: string): void {
    const exchange = this.#exchanges.get(which)
    if (exchange === undefined) {
      this.#options.counts.orphanedDiscards++
      return
    }
    if (exchange.outgoing !== undefined) this.#writer.remove(exchange.outgoing)
    // The tag is free from here on: a late answer finds its exchange ended, and cannot meet the tag's next request.
    this.#exchanges.delete(which)
    this.#discarded(which)
    this.#interrupt(exchange, { _tag: "Discarded", why })
    this.#settle()
  }

  #discarded(tag: number): void {
    this.#options.counts.discards++
    this.#writer.send({ _tag: "Rdiscarded", tag })
  }

  #onDuplicate(tag: number): void {
    this.#options.counts.duplicateTags++
    this.#options.onFault?.("protocol error", `tag ${tag} was used twice`)
    for (const exchange of this.#exchanges.values()) {
      if (exchange.state !== "running" && exchange.request.tag !== tag) continue
      this.#writer.send({
        _tag: "Rerr",
        tag: exchange.request.tag,
        why: `Received duplicate tag ${tag} from client.`
      })
    }
    this.#finish({ _tag: "DuplicateTag", tag })
  }

  #interrupt(exchange: ServerExchange, interruption: Interruption): void {
    const running = exchange.state === "running"
    exchange.state = "ended"
    if (!running) return
    this.#running--
    exchange.interruption = interruption
    exchange.onInterrupt?.()
  }

  /** Ends the connection when a drained session has answered everything. */
  #settle(): void {
    if (this.#phase === "open" && this.#drain === "granted" && this.#running === 0) this.#finish()
  }

  /** Reads no more; ends the connection once what is queued has left. */
  #finish(why: Interruption = { _tag: "DrainTimeout" }): void {
    this.#phase = "ending"
    this.#interruptAll(why)
    this.#writer.whenEmpty(() => {
      this.#end(why)
      this.#options.connection.end()
    })
  }

  #interruptAll(why: Interruption): void {
    const exchanges = [...this.#exchanges.values()]
    for (const exchange of exchanges) if (exchange.state === "running") this.#interrupt(exchange, why)
  }

  #end(why: Interruption): void {
    if (this.#phase === "ended") return
    this.#phase = "ended"
    this.#writer.close()
    this.#fragments.clear()
    this.#interruptAll(why)
    this.#exchanges.clear()
    this.#pong = undefined
    this.#options.onEnd()
  }
}
