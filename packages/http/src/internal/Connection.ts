/** One connection to an HTTP server: an undici client that is given one socket, and never another. */
import {
  abortFailure,
  type Attempt,
  ConnectionClosed,
  type Endpoint,
  Nacked,
  ProtocolError,
  type Reached,
  type RpcError,
  StatusCell,
  Unsendable
} from "@scales-rpc/core"
import { Tls } from "@scales-rpc/core/socket"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Net from "node:net"
import { Client, type Dispatcher } from "undici"
import { InvalidRequest } from "../errors.ts"
import { type HttpRequest, type HttpResponse, isStreamed } from "../HttpWire.ts"
import { Exchange, type ExchangeOwner } from "./Exchange.ts"
import { nowhere } from "./nowhere.ts"
import { invalidPart } from "./requestCheck.ts"
import { noteRequest } from "./spans.ts"
import type { ConnectionEnd, TransportCounts } from "./TransportCounts.ts"
import { Upload } from "./Upload.ts"

/** What a connection is told by its transport. */
export interface ConnectionOptions {
  readonly endpoint: Endpoint
  /** Connected, and read by nobody. */
  readonly socket: Net.Socket
  readonly http2: boolean
  readonly secure: boolean
  readonly maxHeaderBytes: number
  readonly counts: TransportCounts
  /** Is told when it ends, once. */
  readonly ended: (why: ConnectionEnd) => void
  /** Is told what its server has to answer for; `fault` says why. */
  readonly wrong: (what: string, fault: RpcError) => void
  /** The stack's clock in milliseconds. */
  readonly now: () => number
  /** Lets the event loop read once (`Socket.turn`). */
  readonly turn: (f: () => void) => void
  /** Fields that every request has beside its own. */
  readonly fieldsFor: (request: HttpRequest, attempt: Attempt) => ReadonlyArray<readonly [string, string]>
}

/** The longest delay that Node's timers have: what is idle is the pool's to close. */
const never = 2 ** 31 - 1

/** Only the server limits how many calls a connection of HTTP/2 carries at once. */
const unlimited = 2 ** 32 - 1

/**
 * A connection that was idle for this long, in milliseconds, is looked at before it is used: what its server has sent or closed meanwhile may lie
 * unread in the socket. Below that, the event loop has only just seen it.
 */
const looksAfter = 5

/** More than any server of HTTP/2 has to say before it is asked. */
const maxEarlyBytes = 65_536

/** What undici does not say of a connection that it was not given any more. */
const unusable = new Error("the connection has ended")

/** The address as a `host` header. */
const authority = ({ host, key, port }: Endpoint, secure: boolean): string => {
  if (key.startsWith("unix:")) return "localhost"
  // A zone is of this machine only.
  const name = host.includes(":") ? `[${host.replace(/%.*$/, "")}]` : host
  return port === (secure ? 443 : 80) ? name : `${name}:${port}`
}

/** The connection. */
export class Connection implements ExchangeOwner {
  readonly status = new StatusCell("Open")
  readonly counts: TransportCounts
  readonly gone = new Error("the connection is closed")
  refusal: Tls.TlsFailed | undefined
  draining = false
  readonly turn: (f: () => void) => void
  readonly #options: ConnectionOptions
  readonly #authority: string
  readonly #client: Client
  readonly #exchanges = new Set<Exchange>()
  #attached = false
  /** What a server of HTTP/2 has said before the first request: its settings, as a rule. */
  readonly #early: Array<Buffer> = []
  #earlyBytes = 0
  #idleSince: number

  constructor(options: ConnectionOptions) {
    this.#options = options
    this.counts = options.counts
    this.turn = options.turn
    this.#idleSince = options.now()
    this.#authority = authority(options.endpoint, options.secure)
    const { http2, maxHeaderBytes, secure, socket } = options
    if (http2 && !secure) Object.assign(socket, { alpnProtocol: "h2" })
    this.#client = new Client(http2 && secure ? "https://localhost" : "http://localhost", {
      allowH2: http2,
      // Else, while others finish on a connection that drains, undici would not begin what it is to be told not to send again.
      ...(http2 ? { pipelining: Infinity, h2Options: { maxConcurrentStreams: unlimited } } : {}),
      headersTimeout: 0,
      bodyTimeout: 0,
      keepAliveTimeout: never,
      maxHeaderSize: maxHeaderBytes,
      // Not within its call: undici would not go on to write then.
      connect: (_, callback) =>
        queueMicrotask(() => {
          if (socket.destroyed) return callback(socket.errored ?? this.gone, null)
          if (this.#attached) {
            this.#lost(unusable)
            return callback(null, nowhere() as Net.Socket)
          }
          this.#attached = true
          this.#unwatch()
          if (this.#early.length > 0) socket.pause().unshift(Buffer.concat(this.#early))
          callback(null, socket)
        })
    })
    this.#client.on("disconnect", (_, __, error) => this.#lost(error))
    this.#client.on("connectionError", () => this.#lost(socket.errored ?? unusable))
    // The first says why; undici keeps the last.
    socket.on("error", (error) => {
      this.refusal ??= Tls.lateFailure(error)
    })
    // Until the first request, nobody else reads it.
    socket.on("data", this.#unasked)
    socket.on("end", this.#endedIdle)
    socket.on("close", this.#endedIdle)
  }

  /** Exchanges that are on it. */
  get busy(): number {
    return this.#exchanges.size
  }

  /** One exchange. */
  readonly send = (request: HttpRequest, attempt: Attempt): Effect.Effect<HttpResponse, RpcError> => {
    const { body } = request
    // One that is given up in the midst of it cannot be ended without blocking the process (`Exchange`'s `#abort`).
    if (this.shared && isStreamed(body)) {
      const cause = new InvalidRequest({
        part: "body",
        name: "body",
        what: "is a stream, which is not sent over HTTP/2"
      })
      return Effect.fail(new Unsendable({ what: cause.message, cause }))
    }
    return isStreamed(body)
      ? Effect.contextWith((context: Context.Context<never>) =>
        this.#send(request, attempt, new Upload(body, context, this.counts))
      )
      : this.#send(request, attempt, undefined)
  }

  #send(
    request: HttpRequest,
    attempt: Attempt,
    upload: Upload | undefined
  ): Effect.Effect<HttpResponse, RpcError> {
    return Effect.callback<HttpResponse, RpcError>((resume) => {
      const { abort } = attempt
      const { endpoint } = this.#options
      if (abort.reason !== undefined) {
        return resume(Effect.fail(abortFailure(abort.reason, { waiting: "queue", reached: "no", endpoint })))
      }
      if (this.status.state !== "Open") {
        this.counts.stale++
        return resume(Effect.fail(new ConnectionClosed({ endpoint, reached: "no", cause: this.status.fault })))
      }
      if (this.#exchanges.size > 0 && !this.#options.http2) {
        const why = "the connection has a call, and takes one at a time"
        return resume(Effect.fail(new Nacked({ endpoint, why, retryable: true })))
      }
      const more = this.#options.fieldsFor(request, attempt)
      const sent = more.length === 0 ? request : { ...request, headers: [...request.headers, ...more] }
      const invalid = invalidPart(sent)
      if (invalid !== undefined) return resume(Effect.fail(new Unsendable({ what: invalid.message, cause: invalid })))
      const exchange = new Exchange(this, request, attempt, upload, resume)
      this.#exchanges.add(exchange)
      this.counts.calls++
      if (attempt.span !== undefined) {
        noteRequest(attempt.span, sent, this.#options.secure, this.#options.http2, this.#authority, attempt.number)
      }
      abort.on(exchange)
      const dispatch = () => {
        exchange.dispatched = true
        this.#client.dispatch(this.#dispatched(sent, upload), exchange)
      }
      if (this.#options.now() - this.#idleSince < looksAfter) dispatch()
      else this.#look(exchange, dispatch)
      return Effect.sync(exchange.giveUp)
    })
  }

  /** Lets the event loop read what has come. One turn may be over already but for its last part: undici waits for another. */
  #look(exchange: Exchange, then: () => void): void {
    this.turn(() => {
      if (!exchange.over) then()
    })
  }

  get shared(): boolean {
    return this.#options.http2
  }

  get broken(): Error | undefined {
    const { http2, socket: { errored } } = this.#options
    // Not what undici has destroyed it for. Over HTTP/2 a response says by itself where it ends.
    return !http2 && errored !== null && "syscall" in errored ? errored : undefined
  }

  get atEnd(): boolean {
    return this.#options.socket.readableEnded
  }

  get bytesRead(): number {
    return this.#options.socket.bytesRead
  }

  /** Bytes that were sent so far, for whichever exchange. */
  get bytesWritten(): number {
    return this.#options.socket.bytesWritten
  }

  /**
   * A call over HTTP/2 has timed out in which not one byte came: undici waits for no ping, and a connection that is dead would be used for
   * ever. It finishes what it has if it can, and the next calls have another.
   */
  unanswered(): void {
    if (!this.#options.http2 || this.status.state !== "Open") return
    const { endpoint, wrong } = this.#options
    const fault = new ConnectionClosed({ endpoint, reached: "maybe", cause: "nothing came from the server" })
    this.status.set("Busy", fault)
    wrong("a server of HTTP/2 does not answer", fault)
  }

  /** Ends the connection from this side. */
  close(cause: unknown): void {
    this.#close("client", undefined, cause)
  }

  failed(fault: RpcError, cause: Error | undefined): void {
    if (fault._tag === "ProtocolError") this.#broke(fault)
    if (!this.shared) {
      this.#close(fault._tag === "ProtocolError" ? "protocol_error" : "server", this.#faultOf(fault), cause)
    } // Over HTTP/2 it says something of the connection only if that is no more.
    else if (cause === this.gone || this.#options.socket.destroyed) this.#lost(cause === this.gone ? unusable : cause!)
  }

  ended(exchange: Exchange): void {
    this.#exchanges.delete(exchange)
    this.#idleSince = this.#options.now()
    if (!this.shared) {
      // A request that was answered before it was written whole may never be read to its end.
      const { destroyed, writableLength } = this.#options.socket
      if (destroyed || writableLength > 0) this.#close("finished", undefined, undefined)
    } else this.#closeDrained()
  }

  cut(): void {
    // First, so that nothing of what is to be written is looked at again.
    this.#options.socket.destroy()
    this.#close("abandoned", undefined, "the body of another call was given up on it")
  }

  abandoned(exchange: Exchange): void {
    this.#exchanges.delete(exchange)
    // What comes late must meet nobody; nothing comes of what undici was not given.
    if (exchange.dispatched) this.counts.abandoned++
    if (!this.#options.http2) {
      if (exchange.dispatched) this.#close("abandoned", undefined, undefined)
    } else this.#closeDrained()
  }

  /** One that takes no more calls ends with the last of those that it has. */
  #closeDrained(): void {
    if (this.status.state === "Busy" && this.#exchanges.size === 0) this.#close("drained", undefined, undefined)
  }

  #dispatched({ body, headers, method, target }: HttpRequest, upload: Upload | undefined): Dispatcher.DispatchOptions {
    const fields: Array<string> = []
    let host = false
    for (let i = 0; i < headers.length; i++) {
      const [name, value] = headers[i]!
      fields.push(name, value)
      host ||= name.length === 4 && name.toLowerCase() === "host"
    }
    if (!host) fields.push("host", this.#authority)
    if (upload !== undefined && isStreamed(body) && body.length !== undefined) {
      if (!headers.some(([name]) => name.toLowerCase() === "content-length")) {
        fields.push("content-length", String(body.length))
      }
    }
    return {
      path: target,
      method,
      headers: fields,
      // What undici takes and its types leave out: a name that is not that of the host header.
      body: (upload?.readable ?? body ?? null) as Dispatcher.DispatchOptions["body"],
      ...(this.#options.http2 && this.#options.secure ? { servername: "localhost" } : {})
    } as Dispatcher.DispatchOptions
  }

  /**
   * Why the endpoint may be down: it does not keep to HTTP, or does not want this client. That a connection has ended is no reason, whatever
   * was on it: HTTP servers close connections as they like, and the next one will tell.
   */
  #faultOf(error: RpcError): RpcError | undefined {
    return error._tag === "ProtocolError" || this.refusal !== undefined ? error : undefined
  }

  /** The server has not kept to HTTP. */
  #broke(fault: ProtocolError): void {
    this.counts.protocolErrors++
    this.#options.wrong("a server does not keep to HTTP", fault)
  }

  #lost(cause: Error): void {
    if (this.status.state === "Closed" || (this.draining && !this.#options.socket.destroyed)) return
    let left = false
    for (const exchange of this.#exchanges) left ||= exchange.left
    if (!left) return this.#closedIdle(cause)
    const { endpoint, http2, socket } = this.#options
    // What the server has taken it still answers. undici would have the rest connect anew, and is not destroyed for that: it bears no stream
    // that is refused later.
    if (http2 && !socket.destroyed) {
      this.draining = true
      this.status.set("Busy", new ConnectionClosed({ endpoint, reached: "maybe", cause }))
      for (const exchange of [...this.#exchanges]) if (!exchange.left) exchange.close(this.gone)
      return
    }
    // The exchange hears of it too, and knows more: in this turn.
    const why = this.#awaiting ? "server" : "finished"
    queueMicrotask(() => this.#close(why, this.#refused("maybe"), cause))
  }

  /** Whether something is on it whose end is not decided. */
  get #awaiting(): boolean {
    for (const exchange of this.#exchanges) if (!exchange.over) return true
    return false
  }

  /** Idle, or as good as idle: a server may close what nobody uses. */
  #closedIdle(cause: Error): void {
    this.counts.idleClosed++
    this.#close("idle", this.#refused("no"), cause)
  }

  #refused(reached: Reached): ConnectionClosed | undefined {
    const { endpoint } = this.#options
    return this.refusal && new ConnectionClosed({ endpoint, reached, cause: this.refusal })
  }

  /**
   * The status first, so that what is on it is not sent here again. Its pool closes it then from this side, but what is on it hears what has
   * ended it.
   */
  #close(why: ConnectionEnd, fault: RpcError | undefined, cause: unknown): void {
    if (this.status.state === "Closed") return
    this.#options.ended(why)
    this.status.set("Closed", fault)
    this.#unwatch()
    for (const exchange of [...this.#exchanges]) exchange.close(cause)
    void this.#client.destroy(this.gone)
    this.#options.socket.destroy()
  }

  readonly #unasked = (bytes: Buffer): void => {
    if (this.shared && (this.#earlyBytes += bytes.length) <= maxEarlyBytes) return void this.#early.push(bytes)
    const what = "bytes before any request"
    const fault = new ProtocolError({ endpoint: this.#options.endpoint, what, cause: undefined })
    this.#broke(fault)
    this.#close("protocol_error", fault, fault)
  }

  readonly #endedIdle = (): void => {
    if (this.status.state !== "Closed") this.#closedIdle(this.#options.socket.errored ?? unusable)
  }

  #unwatch(): void {
    const { socket } = this.#options
    socket.off("data", this.#unasked)
    socket.off("end", this.#endedIdle)
    socket.off("close", this.#endedIdle)
  }
}
