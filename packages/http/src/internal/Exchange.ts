/** One request and its response on a connection, as undici tells of them. */
import {
  abortFailure,
  type AbortListener,
  type AbortReason,
  type Attempt,
  ConnectionClosed,
  Nacked,
  type Outcome,
  ProtocolError,
  type RpcError,
  Tracing,
  Unsendable
} from "@scales-rpc/core"
import type { Tls } from "@scales-rpc/core/socket"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { type Dispatcher, errors } from "undici"
import { RequestBodyFailed } from "../errors.ts"
import { type HeaderFields, headerOf, type HttpRequest, type HttpResponse } from "../HttpWire.ts"
import { fieldsOf } from "./fields.ts"
import { type BodySource, ReceivedBody } from "./ReceivedBody.ts"
import type { BodyEnd, TransportCounts } from "./TransportCounts.ts"
import type { Upload } from "./Upload.ts"

type Result = Effect.Effect<HttpResponse, RpcError>

/** The connection, as one exchange on it knows it. */
export interface ExchangeOwner {
  readonly counts: TransportCounts
  /** Lets the event loop read once. */
  readonly turn: (f: () => void) => void
  /** What an exchange that is not to be made here fails with, whatever undici says. */
  readonly gone: Error
  /** What the server had against the client's certificate: in TLS 1.3 it judges that after the handshake. */
  readonly refusal: Tls.TlsFailed | undefined
  /** Bytes that have come so far, for whichever exchange. */
  readonly bytesRead: number
  /** A call that had to wait for the server has timed out, and nothing has come meanwhile. */
  readonly unanswered: () => void
  /** Whether the server has said that nothing more will come. */
  readonly atEnd: boolean
  /** The network's error that has broken the connection: whatever undici makes of it, no response ends well by that. */
  readonly broken: Error | undefined
  /** Whether it carries many at once, and what ends on it frees nothing. */
  readonly shared: boolean
  /** Its server takes no more: what undici begins now, for the first time or again, is not to be made here. */
  readonly draining: boolean
  /** An exchange failed, and nobody has heard of it yet; `cause` is undici's. */
  readonly failed: (fault: RpcError, cause: Error | undefined) => void
  /** The exchange is over, and heard by nobody yet. */
  readonly ended: (exchange: Exchange) => void
  /** A body on it was given up that cannot be taken back: the connection ends, and what else is on it. */
  readonly cut: () => void
  /** It was given up before its end. */
  readonly abandoned: (exchange: Exchange) => void
}

/** Finagle's word that a request was not run, and may be sent again, or may not. */
const nack = "finagle-http-nack"
const finalNack = "finagle-http-nonretryable-nack"

/** As much of a refusal's body as is read to keep its connection. */
const refusalBytes = 4096

const nothing = new Uint8Array(0)

const switched = "101 Switching Protocols, which nobody asked for"

const gaveUp = new Error("the call was given up")

/** `Retry-After: 0` says the same as the header: so does Finagle. */
const nackOf = (endpoint: Attempt["endpoint"], status: number, headers: HeaderFields): Nacked | undefined => {
  if (status !== 503) return undefined
  const final = headerOf(headers, finalNack) !== undefined
  const retryable = headerOf(headers, nack) !== undefined || (!final && headerOf(headers, "retry-after") === "0")
  if (!retryable && !final) return undefined
  return new Nacked({ endpoint, why: `503 with ${retryable ? nack : finalNack}`, retryable })
}

/** Whether nothing but the end of the connection ends the body: it has no length, and is not in chunks. */
const endsWithConnection = (headers: HeaderFields): boolean => {
  const coding = headerOf(headers, "transfer-encoding")
  return coding === undefined ? headerOf(headers, "content-length") === undefined : !/\bchunked\s*$/i.test(coding)
}

/** Bytes as they are, without the methods of Node's buffers. */
const plain = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** The exchange. */
export class Exchange implements Dispatcher.DispatchHandler, AbortListener, BodySource {
  readonly #owner: ExchangeOwner
  readonly #request: HttpRequest
  readonly #attempt: Attempt
  readonly #upload: Upload | undefined
  readonly #resume: (result: Result) => void
  #controller: Dispatcher.DispatchController | undefined
  /** Its end has been decided, and what undici says no longer counts. */
  #over = false
  /** Its caller has been told. */
  #told = false
  #response: { -readonly [K in keyof HttpResponse]: HttpResponse[K] } | undefined
  #refusal: Nacked | undefined
  #body: ReceivedBody | undefined
  /** undici has it, though it may not have begun. */
  dispatched = false
  #readBefore = 0
  #limit = 0
  #size = 0
  #chunks: Array<Uint8Array> = []
  /** Tells who waits, once it is over and until it has. */
  #settle: (() => void) | undefined

  constructor(
    owner: ExchangeOwner,
    request: HttpRequest,
    attempt: Attempt,
    upload: Upload | undefined,
    resume: (result: Result) => void
  ) {
    this.#owner = owner
    this.#request = request
    this.#attempt = attempt
    this.#upload = upload
    this.#resume = resume
  }

  /** Nobody waits for it, or its end is decided. */
  get over(): boolean {
    return this.#over
  }

  /** Its request has been written, or a part of it: the server may have it. */
  get left(): boolean {
    return this.#controller !== undefined
  }

  /** The request is about to be written. */
  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    this.#readBefore = this.#owner.bytesRead
    const { draining, gone } = this.#owner
    if (draining) this.onResponseError(controller, gone)
    if (this.#over) return controller.abort(gaveUp)
    const { body } = this.#request
    if (body instanceof Uint8Array) this.#owner.counts.requestBodyBytes += body.length
  }

  /** The head of the response; of others before it, with 1xx, nobody is told. */
  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    _: unknown,
    reason: string | undefined
  ): void {
    if (this.#over) return
    const { counts } = this.#owner
    counts.responded(status)
    if (status === 101) return this.#switched(controller)
    if (status < 200) return
    const { collect, owner } = this.#request
    const headers = fieldsOf(controller.rawHeaders)
    const { span } = this.#attempt
    if (span !== undefined) Tracing.note(span, () => span.attribute("http.response.status_code", status))
    const refusal = nackOf(this.#attempt.endpoint, status, headers)
    const response = this.#response = {
      status,
      reason: reason ?? "",
      headers,
      body: nothing as HttpResponse["body"],
      truncated: false,
      trailers: [] as HeaderFields
    }
    if (refusal !== undefined) {
      this.#refusal = refusal.retryable && !this.#mayRepeat
        ? new Nacked({ endpoint: refusal.endpoint, why: refusal.why, retryable: false })
        : refusal
      if (this.#refusal.retryable) counts.nacks++
      else counts.finalNacks++
      this.#limit = refusalBytes
      // It says all. What is not there of its body in this turn is not waited for.
      this.#owner.turn(() => {
        if (!this.#over) this.#cut()
      })
      return
    }
    if (this.#attempt.reply !== undefined) this.#attempt.reply.headers = headers
    if (owner === undefined) {
      this.#limit = collect
      return
    }
    response.body = this.#body = new ReceivedBody(this, this.#attempt, owner)
    queueMicrotask(() => this.#tell(Effect.succeed(response)))
  }

  onResponseData(_: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#over) return
    this.#owner.counts.responseBodyBytes += chunk.length
    if (this.#body !== undefined) return this.#body.push(plain(chunk))
    const room = this.#limit - this.#size
    if (chunk.length <= room) {
      this.#size += chunk.length
      this.#chunks.push(chunk)
      return
    }
    if (room > 0) this.#chunks.push(chunk.subarray(0, room))
    this.#cut()
  }

  /** What has come of the response is enough. */
  #cut(): void {
    this.#response!.truncated = true
    if (this.#refusal === undefined) this.#owner.counts.truncated++
    this.#answer(this.#collected())
    this.#abort()
  }

  onResponseEnd(controller: Dispatcher.DispatchController): void {
    if (this.#over) return
    const response = this.#response!
    const { broken } = this.#owner
    // undici takes a reset for the end of what ends with its connection.
    if (broken !== undefined && endsWithConnection(response.headers)) return this.onResponseError(controller, broken)
    response.trailers = fieldsOf(controller.rawTrailers)
    if (this.#body !== undefined) {
      const body = this.#body
      // Judged now that it is whole: until then it is held, which only what is no failure may be.
      return this.#finish(this.#owner.shared, () => {
        let outcome: Outcome
        try {
          outcome = this.#attempt.classify(Exit.succeed({ ...response, body: nothing }))
        } catch (defect) {
          return body.die(defect)
        }
        body.complete(outcome)
      })
    }
    this.#answer(this.#collected())
  }

  onResponseError(_: Dispatcher.DispatchController | null, cause: Error): void {
    if (this.#over) return
    this.#fail(this.#errorOf(cause), cause)
  }

  #answer(response: HttpResponse): void {
    const refusal = this.#refusal
    if (refusal !== undefined) this.#owner.counts.failed(refusal._tag)
    const result = refusal === undefined ? Effect.succeed(response) : Effect.fail(refusal)
    this.#finish(this.#owner.shared, () => this.#tell(result))
  }

  /** The server goes over to a protocol that nobody asked for; undici would fail in that, with words of its own. */
  #switched(controller: Dispatcher.DispatchController): void {
    const { endpoint } = this.#attempt
    this.#fail(new ProtocolError({ endpoint, what: switched, cause: undefined }), undefined)
    controller.abort(gaveUp)
  }

  #fail(error: RpcError, cause: Error | undefined): void {
    // Once undici's parser has returned, and before anybody hears of it: what is sent again must not come back here.
    if (error._tag !== "Unsendable") queueMicrotask(() => this.#owner.failed(error, cause))
    this.#failWith(error)
  }

  #failWith(error: RpcError): void {
    const body = this.#body
    const { counts } = this.#owner
    counts.failed(error._tag)
    if (error._tag === "ConnectionClosed" && error.reached === "no") counts.stale++
    this.#finish(false, () => body === undefined ? this.#tell(Effect.fail(error)) : body.fail(error))
  }

  onAbort(reason: AbortReason): void {
    const { left } = this
    if (left && reason._tag === "Timeout" && this.#owner.bytesRead === this.#readBefore) this.#owner.unanswered()
    this.giveUp()
    const { endpoint } = this.#attempt
    const failure = abortFailure(
      reason,
      left ? { waiting: "reply", reached: "maybe", endpoint } : { waiting: "queue", reached: "no", endpoint }
    )
    this.#owner.counts.failed(failure._tag)
    this.#tell(Effect.fail(failure))
  }

  /** Nobody waits for it any more. */
  readonly giveUp = (): void => {
    if (this.#over) return this.#settle?.()
    this.#stop()
    this.#owner.abandoned(this)
    this.#abort()
  }

  /** Its connection is closed under it, for what undici has said of it or for a reason of this side's. */
  close(cause: unknown): void {
    if (this.#over) return
    const { endpoint } = this.#attempt
    this.#failWith(
      cause instanceof Error
        ? this.#errorOf(cause)
        : new ConnectionClosed({ endpoint, reached: this.left ? "maybe" : "no", cause })
    )
    // Before undici hears of it: what it may send again, which no stream is, it would try to.
    this.#abort()
  }

  /**
   * undici lets go of it. Over HTTP/2 a request with a body costs the connection: to end a stream with writes on their way makes nghttp2 ask
   * for ever for what is to be written (undici 8.12, Node 24), unless there is nothing to write to, and nobody tells what has left.
   */
  #abort(): void {
    const controller = this.#controller
    if (controller === undefined) return
    if (this.#owner.shared && this.#request.body !== undefined) this.#owner.cut()
    controller.abort(gaveUp)
  }

  readonly bodyEnded = (how: BodyEnd): void => void this.#owner.counts.bodies[how]++

  readonly pause = (): void => this.#controller?.pause()

  readonly resume = (): void => {
    if (!this.#over) this.#controller?.resume()
  }

  /** The request may be sent a second time: a stream that has begun may not, unless the call may run twice. */
  get #mayRepeat(): boolean {
    return this.#upload === undefined || !this.#upload.begun || this.#attempt.idempotent
  }

  #collected(): HttpResponse {
    const response = this.#response!
    const chunks = this.#chunks
    response.body = plain(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks))
    return response
  }

  #errorOf(error: Error): RpcError {
    const { endpoint } = this.#attempt
    const { atEnd, broken, gone, refusal } = this.#owner
    const cause = refusal ?? broken ?? error
    const failed = this.#upload?.failure
    if (failed !== undefined) return new Unsendable({ what: failed.message, cause: failed })
    if (error === gone && refusal === undefined) return new ConnectionClosed({ endpoint, reached: "no", cause })
    if (cause instanceof errors.RequestContentLengthMismatchError) {
      const mismatch = new RequestBodyFailed({ cause: "it has not as many bytes as it was said to have" })
      return new Unsendable({ what: mismatch.message, cause: mismatch })
    }
    if (!this.left) {
      return cause instanceof errors.InvalidArgumentError || cause instanceof errors.NotSupportedError
        ? new Unsendable({ what: cause.message, cause })
        : new ConnectionClosed({ endpoint, reached: "no", cause })
    }
    const what = protocolFault(cause, atEnd)
    return what === undefined
      ? new ConnectionClosed({ endpoint, reached: "maybe", cause })
      : new ProtocolError({ endpoint, what, cause })
  }

  #stop(): void {
    this.#over = true
    this.#attempt.abort.off(this)
    this.#upload?.stop()
  }

  /**
   * The exchange has ended by itself. Who waits is told once undici's parser has returned: it bears no other call meanwhile, and only then
   * is it known whether the connection lives on.
   *
   * Unless that may be `soon`, the event loop reads first what else has come, which it has done in its turn after the next: a server that
   * closes the connection with its response, or many connections at once, is heard before the next call, or this one again, is given
   * another of them.
   */
  #finish(soon: boolean, tell: () => void): void {
    this.#stop()
    const settle = () => {
      if (this.#settle === undefined) return
      this.#settle = undefined
      this.#owner.ended(this)
      tell()
    }
    this.#settle = settle
    if (soon) queueMicrotask(settle)
    else this.#owner.turn(() => this.#owner.turn(settle))
  }

  #tell(result: Result): void {
    if (this.#told) return
    this.#told = true
    this.#resume(result)
  }
}

/** What a server did that HTTP does not allow; `undefined`: the connection ended, which may have been the network. */
const protocolFault = (cause: Error, atEnd: boolean): string | undefined => {
  if (cause instanceof errors.HeadersOverflowError) return "the head of the response is too large"
  // What stands in the way of a response is said in the same words as what is missing at its end.
  if (cause instanceof errors.HTTPParserError || cause instanceof errors.ResponseContentLengthMismatchError) {
    return atEnd ? undefined : cause.message
  }
  if (!(cause instanceof errors.SocketError)) return undefined
  if (cause.message === "bad upgrade") return switched
  return cause.message === "bad response" ? "not a response" : undefined
}
