/**
 * The client's side of one mux connection, without the socket: bytes come in by `receive`, go out through a `ChunkSink`. Handshake,
 * tags, dispatch, discard, drain, lease, pings, and every way it can end. The rules are those of Finagle's sessions.
 */
import {
  abortFailure,
  type Attempt,
  CallAt,
  ConnectFailed,
  ConnectionClosed,
  type Deadlines,
  Direct,
  type Endpoint,
  Nacked,
  ProtocolError,
  type RpcError,
  ServerFailed,
  StatusCell,
  type Timer,
  Trace,
  Unsendable
} from "@scales-rpc/core"
import { Tls } from "@scales-rpc/core/socket"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ClientContexts, Marshalled } from "./ClientContexts.ts"
import type { ClientCounts, SessionEnd } from "./ClientCounts.ts"
import { ClientExchange, interruptedText } from "./ClientExchange.ts"
import { MuxDecodeError, MuxEncodeError } from "./CodecError.ts"
import { decodeHeaders, responseHeadersId } from "./Contexts.ts"
import { decode } from "./Decode.ts"
import { Fragments } from "./Fragments.ts"
import { FrameReader } from "./FrameReader.ts"
import { type ChunkSink, FrameWriter, type Outgoing, type Written } from "./FrameWriter.ts"
import { initHeaders, levelOf, negotiateTls, probeText, type SessionTls, tlsLevelOf, windowOf } from "./Handshake.ts"
import {
  controlTag,
  type EncodedContexts,
  type EncodedTdispatch,
  fragmentBit,
  type Limits,
  markerTag,
  type Message,
  type Pair,
  sameBytes,
  type Sendable,
  Status,
  Type,
  version
} from "./Message.ts"
import type { MuxRequest, MuxResponse } from "./Mux.ts"
import { MuxFailure, muxFailureOf } from "./MuxFailure.ts"
import { Tags } from "./Tags.ts"

/** What a session is told by its transport. */
export interface ClientSessionOptions {
  readonly endpoint: Endpoint
  /** Where its bytes go. */
  readonly sink: ChunkSink
  readonly limits: Limits
  /** Bytes of one fragment that the server may send: the `mux-framer` that is offered. */
  readonly window: number
  /** The highest tag to give out. Default 2^23 - 1. */
  readonly maxTag?: number | undefined
  readonly pingIntervalMillis: number
  readonly pingTimeoutMillis: number
  readonly handshakeTimeoutMillis: number
  /** Default: none is offered, and none taken. */
  readonly tls?: SessionTls | undefined
  /** The stack's clock in milliseconds, and its timers. */
  readonly now: () => number
  readonly deadlines: Deadlines
  readonly contexts: ClientContexts
  readonly counts: ClientCounts
  /** The handshake is over: the session takes calls, or why it does not. */
  readonly onReady: (fault: RpcError | undefined) => void
  /** The server has asked to send no more. Default: nobody is told. */
  readonly onDrain?: (() => void) | undefined
  /** The session has ended: the transport closes the connection. Called once, after every call has been failed. */
  readonly onEnd: (why: SessionEnd, cause: unknown) => void
}

const utf8 = new TextEncoder()
const fromUtf8 = new TextDecoder()
const responseHeadersKey = utf8.encode(responseHeadersId)
const noContexts: ReadonlyArray<Pair> = []

/** Answers to pings and drains that may wait for a server which does not read them: one that asks for more is flooding. */
const unreadAnswers = 1000

/** A request as it leaves. A class, not a literal, as it lives as long as its call: see `BegunCall` in core's `Dispatcher.ts`. */
class Dispatch implements EncodedTdispatch {
  readonly _tag = "Tdispatch"
  readonly tag: number
  readonly contexts: EncodedContexts
  readonly destination: string
  readonly dtab: Marshalled["dtab"]
  readonly body: Uint8Array

  constructor(tag: number, { contexts, destination, dtab }: Marshalled, body: Uint8Array) {
    this.tag = tag
    this.contexts = contexts
    this.destination = destination
    this.dtab = dtab
    this.body = body
  }
}

/** Holds the tag of a discarded request until the server answers it. */
const discarded = Symbol("discarded")

/**
 * `securing`: both sides have agreed on TLS, and it has not begun or not ended its handshake. `confirming`: it has, and
 * the server has said nothing yet: in TLS 1.3 it may still refuse the client's certificate.
 */
type Phase = "probing" | "initializing" | "securing" | "confirming" | "open" | "draining" | "ended"

const handshaking = (phase: Phase): boolean => phase !== "open" && phase !== "draining" && phase !== "ended"

/** An exchange that ends before it has begun. */
const refuse = (done: Direct.Done<MuxResponse, RpcError>, error: RpcError): undefined => {
  done(Exit.fail(error))
}

/** One session. */
export class ClientSession {
  readonly status = new StatusCell("Idle")
  readonly #options: ClientSessionOptions
  readonly #writer: FrameWriter
  readonly #reader: FrameReader
  readonly #fragments: Fragments
  readonly #tags: Tags
  /** By tag. */
  readonly #exchanges: Array<ClientExchange | typeof discarded | undefined> = []
  /** Exchanges that somebody waits for: tags in use without the discarded. */
  #outstanding = 0
  #phase: Phase = "probing"
  /** Whether the server knows Tdispatch: unknown until it answers one. */
  #canDispatch: boolean | undefined
  #timer: Timer | undefined
  #lease: Timer | undefined
  #pingOutstanding = false
  #pingedAt = 0
  /** The same by the clock that measures. */
  #pingBegan = 0
  #pingMillis: number | undefined
  #handshakeBegan = 0
  /** Pings sent. */
  #pings = 0
  /**
   * Discarded tags whose request was cut short, with the pings sent before the discard. A server that has no request for a discard need
   * not answer it, and Finagle's does not (seen, 22.7): the answer to a later ping says that none will come.
   */
  readonly #cut = new Map<number, number>()
  /** Answers to pings and drains since the sink was last not full. */
  #unread = 0

  constructor(options: ClientSessionOptions) {
    this.#options = options
    this.#writer = new FrameWriter(options.sink, options.counts.sent)
    this.#reader = new FrameReader(options.limits)
    this.#fragments = new Fragments(options.limits)
    this.#tags = new Tags(options.maxTag)
  }

  /** Calls that wait for their reply. */
  get outstanding(): number {
    return this.#outstanding
  }

  /** Tags that are held: outstanding calls, and discarded ones that the server has not answered. */
  get tagsInUse(): number {
    return this.#tags.size
  }

  /** Tags that are held only because the server has not answered their discard. */
  get tagsHeld(): number {
    return this.#tags.size - this.#outstanding
  }

  /** Whether the handshake has not ended. */
  get negotiating(): boolean {
    return handshaking(this.#phase)
  }

  /** Whether the server has asked to send no more. */
  get draining(): boolean {
    return this.#phase === "draining"
  }

  /** Until when the server may be counted on, by the stack's clock; `undefined`: it has not said, or that is over. */
  get leasedUntil(): number | undefined {
    return this.#lease?.at
  }

  /** Messages that have not been handed to the socket, and their bytes. */
  get queued(): number {
    return this.#writer.size
  }

  get queuedBytes(): number {
    return this.#writer.bytes
  }

  /** How long the last answer to a ping took, in milliseconds. */
  get pingMillis(): number | undefined {
    return this.#pingMillis
  }

  /** Begins the handshake. Nothing else is sent before it has ended. */
  start(): void {
    this.#handshakeBegan = this.#options.counts.elapsed()
    this.#setTimer(this.#options.handshakeTimeoutMillis, () => {
      this.#handshakeFailed(`no answer within ${this.#options.handshakeTimeoutMillis} ms`)
    })
    this.#writer.send({ _tag: "Rerr", tag: controlTag, why: probeText })
  }

  /** Bytes from the server. */
  receive(chunk: Uint8Array): void {
    if (this.#phase === "ended") return
    const securing = this.#phase === "securing"
    try {
      this.#reader.push(chunk, this.#onFrame)
    } catch (error) {
      if (!(error instanceof MuxDecodeError)) throw error
      this.#protocolError(error.message, error)
    }
    if (this.#phase !== "securing") return
    // Whoever sits in between could put bytes here that would be taken for the server's once the connection is secured.
    if (securing || this.#reader.pending > 0) return this.#handshakeFailed("bytes came between Rinit and TLS")
    if (this.#options.tls !== undefined && this.#options.tls !== "secured") this.#options.tls.begin()
  }

  /** TLS has begun: from here on `receive` and the sink are those of the secured connection. */
  secured(): void {
    if (this.#phase !== "securing") return
    this.#phase = "confirming"
    this.#ping()
  }

  /** The connection could not be secured. */
  refused(fault: ConnectFailed): void {
    this.#end(fault, fault, "error")
  }

  /** The socket takes more. */
  writable(): void {
    this.#unread = 0
    this.#writer.drained()
  }

  /** The connection is gone. `cause`: what the socket said. */
  connectionLost(cause: unknown): void {
    if (handshaking(this.#phase)) return this.#handshakeFailed(cause)
    // A server that has announced its end may end: that is no fault of the endpoint.
    const draining = this.#phase === "draining"
    const why = draining && this.#outstanding === 0 ? "drained" : cause instanceof Error ? "error" : "server"
    this.#end(draining ? undefined : this.#closed("maybe", cause), cause, why)
  }

  /** Ends the session from this side; calls that wait fail. */
  close(cause: unknown): void {
    this.#end(undefined, cause, "client")
  }

  /** Begins an exchange, whose end `done` hears; `undefined`: it has ended. */
  #begin(
    request: MuxRequest,
    attempt: Attempt,
    done: Direct.Done<MuxResponse, RpcError>
  ): ClientExchange | undefined {
    const { abort } = attempt
    if (abort.reason !== undefined) {
      return refuse(done, abortFailure(abort.reason, { waiting: "queue", reached: "no", endpoint: attempt.endpoint }))
    }
    if (this.#phase !== "open") return refuse(done, this.#unavailable())
    const tag = this.#tags.take()
    if (tag < 0) return refuse(done, this.#nacked("every tag of the session is in use", true))
    let outgoing: Outgoing
    try {
      outgoing = this.#writer.send(this.#message(tag, request, attempt))
    } catch (cause) {
      this.#tags.free(tag)
      if (cause instanceof MuxEncodeError) {
        return refuse(done, new Unsendable({ what: cause.message, cause }))
      }
      throw cause
    }
    const exchange = new ClientExchange(this, tag, attempt, request, done, outgoing)
    this.#exchanges[tag] = exchange
    this.#outstanding++
    this.#options.counts.dispatches++
    abort.on(exchange)
    return exchange
  }

  /** One exchange. */
  readonly send = Direct.offer(
    (request: MuxRequest, attempt: Attempt): Effect.Effect<MuxResponse, RpcError> =>
      Effect.callback<MuxResponse, RpcError>((resume) => {
        const exchange = this.#begin(request, attempt, resume)
        return exchange && Effect.sync(() => {
          attempt.abort.off(exchange)
          this.discard(exchange, interruptedText)
        })
      }),
    {
      ready: () => this.#phase === "open",
      send: (request: MuxRequest, attempt: Attempt, done: Direct.Done<MuxResponse, RpcError>) =>
        void this.#begin(request, attempt, done)
    }
  )

  /**
   * Gives up on an exchange. While its request is still queued it is taken back and the tag is free; otherwise the server is told, and
   * the tag is held until it answers. Says how much of it had left.
   */
  discard(exchange: ClientExchange, why: string): Written {
    const { outgoing, tag } = exchange
    const written = this.#writer.remove(outgoing)
    if (this.#exchanges[tag] !== exchange) return written
    this.#outstanding--
    if (written === "unwritten") {
      this.#exchanges[tag] = undefined
      this.#tags.free(tag)
    } else this.#hold(tag, why, written === "partial")
    this.#checkDrained()
    return written
  }

  /** Tells the server that a request is not wanted any more, and keeps its tag until the server answers for it. */
  #hold(tag: number, why: string, cut: boolean): void {
    this.#exchanges[tag] = discarded
    if (cut) this.#cut.set(tag, this.#pings)
    this.#options.counts.discards++
    this.#writer.send({ _tag: "Tdiscarded", tag: markerTag, which: tag, why })
  }

  #message(tag: number, request: MuxRequest, attempt: Attempt): Sendable {
    const { contexts, deadlines, now } = this.#options
    const marshalled = contexts.marshal(attempt, now(), deadlines.ahead)
    if (this.#canDispatch !== false) {
      return new Dispatch(tag, marshalled, request.body)
    }
    const trace = marshalled.trace === undefined ? undefined : Trace.decode!(marshalled.trace)
    return {
      _tag: "Treq",
      tag,
      trace: trace && {
        spanId: trace.spanId,
        parentId: trace.parentId,
        traceId: trace.traceId,
        flags: Number(trace.flags & 1n)
      },
      body: request.body
    }
  }

  readonly #onFrame = (type: number, tagBits: number, frame: Uint8Array): void => {
    if (this.#phase === "ended") return
    const body = this.#fragments.push(type, tagBits, frame)
    if (body === undefined) {
      this.#options.counts.fragmentsReceived++
      return
    }
    this.#options.counts.messagesReceived++
    const tag = tagBits & ~fragmentBit
    // The common case by hand: a good reply without contexts needs no message object.
    if (
      type === Type.Rdispatch && body.length >= 3 && body[0] === Status.Ok && body[1] === 0 && body[2] === 0 &&
      (this.#phase === "open" || this.#phase === "draining")
    ) {
      this.#canDispatch = true
      this.#succeed(tag, { body: body.subarray(3), contexts: noContexts })
    } else this.#onMessage(decode(type, tag, body, this.#options.limits))
  }

  #onMessage(message: Message): void {
    switch (this.#phase) {
      case "probing":
        return this.#onProbeAnswer(message)
      case "initializing":
        return this.#onInitAnswer(message)
      case "securing":
        return this.#handshakeFailed(`the server sent a ${message._tag} between Rinit and TLS`)
      case "confirming":
        this.#open()
        return this.#onSessionMessage(message)
      default:
        return this.#onSessionMessage(message)
    }
  }

  #onProbeAnswer(message: Message): void {
    if (message._tag === "Rerr" && message.tag === controlTag && message.why === probeText) {
      this.#phase = "initializing"
      this.#writer.send({
        _tag: "Tinit",
        tag: controlTag,
        version,
        headers: initHeaders(this.#options.window, levelOf(this.#options.tls))
      })
      return
    }
    if (levelOf(this.#options.tls) === "required") {
      return this.#handshakeFailed(notNegotiated("this client requires TLS, and the server does not negotiate"))
    }
    // A server that knows no handshake: the session goes on without, and this is its first message. An Rerr to the probe concerns no call.
    this.#ready()
    if (message._tag !== "Rerr" || message.tag !== controlTag) this.#onSessionMessage(message)
  }

  #onInitAnswer(message: Message): void {
    if (message._tag === "Rerr") return this.#handshakeFailed(message.why)
    if (message._tag !== "Rinit") return this.#handshakeFailed(`the server answered Tinit with ${message._tag}`)
    if (message.version !== version) return this.#handshakeFailed(`the server speaks version ${message.version}`)
    const { tls } = this.#options
    const agreed = tls === "secured" ? "plain" : negotiateTls(levelOf(tls), tlsLevelOf(message.headers))
    if (agreed === "incompatible") {
      return this.#handshakeFailed(notNegotiated(
        tls === undefined
          ? "the server requires TLS, and this client has none"
          : "this client requires TLS, and the server does not offer it"
      ))
    }
    const window = windowOf(message.headers)
    if (typeof window !== "number") return this.#handshakeFailed(`the server's mux-framer: ${window.wrong}`)
    this.#writer.window = window
    if (agreed === "plain") return this.#ready()
    this.#phase = "securing"
    // What remains is bounded by the TLS handshake's own timeout.
    this.#clearTimer()
  }

  #ready(): void {
    // Before anybody can send: a Finagle client's first frame after the handshake is its ping.
    this.#ping()
    this.#open()
  }

  #open(): void {
    const { counts } = this.#options
    const at = counts.elapsed()
    counts.handshakes++
    counts.handshakeLatency?.record(at - this.#handshakeBegan, at)
    this.#phase = "open"
    this.status.set("Open")
    this.#options.onReady(undefined)
  }

  #onSessionMessage(message: Message): void {
    switch (message._tag) {
      case "Rdispatch":
        this.#canDispatch = true
        return this.#onReply(message.tag, message.status, message.contexts, message.body)
      case "Rreq":
        return this.#onReply(message.tag, message.status, noContexts, message.body)
      case "Rerr":
        return this.#onRerr(message.tag, message.why)
      case "Rdiscarded":
        return this.#onUnexpected(message.tag, "discarded by the server")
      case "Tping":
        return this.#answer({ _tag: "Rping", tag: message.tag })
      case "Rping":
        return this.#onPong()
      case "Tdrain":
        return this.#onDrain(message.tag)
      case "Tlease":
        if (message.unit !== 0) return this.#protocolError(`Tlease with unit ${message.unit}`)
        return this.#onLease(Number(message.howMuch))
      // A server discards nothing of a client's.
      case "Tdiscarded":
        return
      // Answers to nothing we ask in a session. On the tag of a call they are its answer all the same, as any R message is.
      case "Rdrain":
      case "Rinit":
        return this.#onUnexpected(message.tag, `the server answered with ${message._tag}`)
      case "Tdispatch":
      case "Treq":
      case "Tinit":
        return this.#protocolError(`the server sent a ${message._tag}`)
    }
  }

  #onReply(tag: number, status: number, contexts: ReadonlyArray<Pair>, body: Uint8Array): void {
    if (status === Status.Ok) return this.#succeed(tag, { body, contexts })
    const flags = muxFailureOf(contexts) ?? (status === Status.Nack ? MuxFailure.Retryable | MuxFailure.Rejected : 0)
    const retryable = (flags & MuxFailure.Retryable) !== 0
    if (status === Status.Nack) this.#options.counts.nacks++
    this.#fail(tag, (endpoint) =>
      status === Status.Nack
        ? new Nacked({ endpoint, why: body.length === 0 ? "nack" : fromUtf8.decode(body), retryable })
        : new ServerFailed({
          endpoint,
          why: fromUtf8.decode(body),
          retryable,
          rejected: (flags & MuxFailure.Rejected) !== 0
        }))
  }

  /** An Rerr means that the server could not act on the message: before it has ever answered a Tdispatch, that it knows none. */
  #onRerr(tag: number, why: string): void {
    const exchange = this.#exchanges[tag]
    if (
      exchange !== undefined && exchange !== discarded && this.#canDispatch !== true &&
      exchange.outgoing.message._tag === "Tdispatch" && exchange.outgoing.written === "written"
    ) {
      if (this.#canDispatch === undefined) this.#options.counts.downgrades++
      this.#canDispatch = false
      exchange.outgoing = this.#writer.send(this.#message(tag, exchange.request, exchange.attempt))
      return
    }
    this.#onUnexpected(tag, why)
  }

  #onUnexpected(tag: number, why: string): void {
    this.#fail(tag, (endpoint) => new ServerFailed({ endpoint, why, retryable: false, rejected: false }))
  }

  /** Takes the exchange of a tag off the session: whatever the answer, the tag is free. */
  #take(tag: number): ClientExchange | undefined {
    const exchange = this.#exchanges[tag]
    // Nothing of the request has left: this answers an earlier one with its tag, a second time.
    if (exchange === undefined || (exchange !== discarded && exchange.outgoing.written === "unwritten")) {
      this.#options.counts.unknownTags++
      return undefined
    }
    this.#exchanges[tag] = undefined
    if (exchange === discarded) {
      this.#cut.delete(tag)
      this.#tags.free(tag)
      return undefined
    }
    this.#outstanding--
    exchange.attempt.abort.off(exchange)
    // Answered before all of it had left. The server must forget its fragments, or it would put them in front of the next request
    // with this tag.
    if (exchange.outgoing.written === "partial") {
      this.#writer.remove(exchange.outgoing)
      this.#hold(tag, "answered before it was sent", true)
    } else this.#tags.free(tag)
    return exchange
  }

  #succeed(tag: number, response: MuxResponse): void {
    const exchange = this.#take(tag)
    if (exchange !== undefined) {
      const { reply } = exchange.attempt
      if (reply !== undefined) reply.headers = responseHeaders(response.contexts)
      exchange.done(Exit.succeed(response))
    }
    this.#checkDrained()
  }

  #fail(tag: number, error: (endpoint: Endpoint) => RpcError): void {
    const exchange = this.#take(tag)
    if (exchange !== undefined) exchange.done(Exit.fail(error(this.#options.endpoint)))
    this.#checkDrained()
  }

  #onDrain(tag: number): void {
    this.#answer({ _tag: "Rdrain", tag })
    if (this.#phase !== "open") return
    this.#phase = "draining"
    this.#options.counts.drains++
    this.#clearLease()
    this.status.set("Busy", this.#nacked("the server is draining", true))
    this.#options.onDrain?.()
    this.#checkDrained()
  }

  /** Answers what the server asks. One that asks on and on and reads no answer would fill the memory. */
  #answer(message: Message): void {
    if (this.#writer.full && ++this.#unread > unreadAnswers) {
      return this.#protocolError(`more than ${unreadAnswers} pings whose answers it does not read`)
    }
    this.#writer.send(message)
  }

  /** A draining session has ended once nobody waits for anything. */
  #checkDrained(): void {
    if (this.#phase !== "draining" || this.#outstanding > 0) return
    // The Rdrain goes out first: the server waits for it.
    this.#writer.flush()
    this.#writer.whenEmpty(() => this.#end(undefined, "drained", "drained"))
  }

  #onLease(millis: number): void {
    if (this.#phase !== "open") return
    this.#options.counts.leases++
    this.#clearLease()
    if (millis <= 0) return this.status.set("Busy")
    this.status.set("Open")
    const now = this.#options.now()
    this.#lease = new CallAt(now + millis, () => {
      this.#lease = undefined
      this.status.set("Busy")
    })
    this.#options.deadlines.add(this.#lease, now)
  }

  #ping(): void {
    this.#options.counts.pings++
    this.#pings++
    this.#pingOutstanding = true
    this.#pingedAt = this.#options.now()
    this.#pingBegan = this.#options.counts.elapsed()
    this.#writer.send({ _tag: "Tping", tag: controlTag })
    this.#setTimer(this.#options.pingTimeoutMillis, () => {
      this.#options.counts.pingTimeouts++
      const cause = `no answer to a ping within ${this.#options.pingTimeoutMillis} ms`
      if (handshaking(this.#phase)) return this.#handshakeFailed(cause)
      this.#end(this.#closed("maybe", cause), cause, "ping_timeout")
    })
  }

  #onPong(): void {
    if (!this.#pingOutstanding) return
    this.#pingOutstanding = false
    const { counts } = this.#options
    const at = counts.elapsed()
    this.#pingMillis = at - this.#pingBegan
    counts.pingLatency?.record(this.#pingMillis, at)
    // Messages keep their order: an answer to a discard sent before the ping would be here.
    for (const [tag, pings] of this.#cut) {
      if (pings === this.#pings) continue
      this.#cut.delete(tag)
      this.#exchanges[tag] = undefined
      this.#tags.free(tag)
    }
    // From ping to ping, whatever the answer took.
    this.#setTimer(
      Math.max(0, this.#pingedAt + this.#options.pingIntervalMillis - this.#options.now()),
      () => this.#ping()
    )
  }

  #handshakeFailed(cause: unknown): void {
    const phase = cause instanceof Tls.TlsFailed ? "tls" : "handshake"
    const fault = new ConnectFailed({ endpoint: this.#options.endpoint, phase, cause })
    this.#end(fault, cause, "error")
    this.#options.onReady(fault)
  }

  #protocolError(what: string, cause?: unknown): void {
    const fault = new ProtocolError({ endpoint: this.#options.endpoint, what, cause })
    if (this.#phase === "ended") return
    this.#options.counts.protocolErrors++
    if (handshaking(this.#phase)) return this.#handshakeFailed(fault)
    this.#end(fault, fault, "protocol_error")
  }

  /** Ends the session: the status first, so that whoever is sent elsewhere does not come back here; then every call. */
  #end(fault: RpcError | undefined, cause: unknown, why: SessionEnd): void {
    if (this.#phase === "ended") return
    if (this.#phase === "draining" && this.#outstanding === 0) this.#options.counts.drained++
    this.#phase = "ended"
    this.#clearTimer()
    this.#clearLease()
    this.#writer.close()
    this.#fragments.clear()
    const waiting = this.#exchanges.filter((exchange) => exchange !== undefined && exchange !== discarded)
    this.#exchanges.length = 0
    this.#cut.clear()
    this.#outstanding = 0
    this.status.set("Closed", fault)
    for (const exchange of waiting) {
      exchange.attempt.abort.off(exchange)
      const unsent = exchange.outgoing.written !== "written"
      exchange.done(Exit.fail(
        !unsent && fault?._tag === "ProtocolError" ? fault : this.#closed(unsent ? "no" : "maybe", cause)
      ))
    }
    this.#options.onEnd(why, cause)
  }

  #closed(reached: "no" | "maybe", cause: unknown): ConnectionClosed {
    return new ConnectionClosed({ endpoint: this.#options.endpoint, reached, cause })
  }

  #nacked(why: string, retryable: boolean): Nacked {
    return new Nacked({ endpoint: this.#options.endpoint, why, retryable })
  }

  #unavailable(): RpcError {
    return this.#phase === "draining"
      ? this.#nacked("the server is draining", true)
      : this.#closed("no", this.status.fault ?? "the session is not open")
  }

  #setTimer(millis: number, f: () => void): void {
    this.#clearTimer()
    const now = this.#options.now()
    this.#timer = new CallAt(now + millis, f)
    this.#options.deadlines.add(this.#timer, now)
  }

  #clearTimer(): void {
    if (this.#timer !== undefined) this.#options.deadlines.remove(this.#timer)
    this.#timer = undefined
  }

  #clearLease(): void {
    if (this.#lease !== undefined) this.#options.deadlines.remove(this.#lease)
    this.#lease = undefined
  }
}

const notNegotiated = (what: string): Tls.TlsFailed =>
  new Tls.TlsFailed({ reason: "not-negotiated", what, cause: undefined })

const responseHeaders = (contexts: ReadonlyArray<Pair>): ReadonlyArray<readonly [string, string]> => {
  for (const [key, value] of contexts) {
    if (sameBytes(key, responseHeadersKey)) return decodeHeaders(value) ?? []
  }
  return []
}
