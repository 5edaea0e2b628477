/** A request as a server's handler gets it, what it may answer, and how each way a handler can end reaches the client. */
import {
  CallContext,
  type CallStats,
  type Dentry,
  Failure,
  Rpc,
  type ServerTracing,
  tagOf,
  Trace,
  type TraceId,
  type Tracing,
  withServerSpan
} from "@scales-rpc/core"
import * as Cause from "effect/Cause"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { MuxEncodeError } from "./CodecError.ts"
import { contextOf, deadlineOf, encodeHeaders, type Headers, responseHeadersId, traceOf } from "./Contexts.ts"
import { type Pair, Status, type Treq } from "./Message.ts"
import { MuxFailure, muxFailureContext } from "./MuxFailure.ts"
import type { Interruption, ServerExchange } from "./ServerExchange.ts"

/** What a handler answers. */
export interface MuxServerReply {
  readonly body: Uint8Array
  /** Sent beside the headers that `setReplyHeaders` was given; not in the reply to a Treq. */
  readonly contexts?: ReadonlyArray<Pair> | undefined
}

/**
 * Serves one request. It is interrupted when the client discards the request, the connection ends or the server closes. A failure
 * reaches the client as an error (status 1) with its text, unless it is a `Nack` or an `ErrorReply`; so does a defect.
 */
export type Handler<E, R> = (request: MuxServerRequest) => Effect.Effect<MuxServerReply, E, R>

/**
 * Refuses a request: status 2. `flags` are those of `MuxFailure`, by default Retryable and Rejected, Finagle's `Failure.rejected`;
 * 0 sends none, which a client takes for the same. `why` is not sent by Finagle, but allowed.
 */
export class Nack extends Failure("Nack")<{ readonly flags?: number; readonly why?: string }> {
  override get message(): string {
    return this.why ?? "refused"
  }
}

/**
 * An error with flags: status 1, `why` as its text, and `MuxFailure` flags, by default none. With NonRetryable and Rejected it is Finagle's
 * `NonRetryableNackFailure`: not executed, and not to be tried elsewhere.
 */
export class ErrorReply extends Failure("ErrorReply")<{ readonly why: string; readonly flags?: number }> {
  override get message(): string {
    return this.why
  }
}

const utf8 = new TextEncoder()
const nothing = new Uint8Array(0)
const noContexts: ReadonlyArray<Pair> = []
const noDtab: ReadonlyArray<Dentry> = []
const responseHeadersKey = utf8.encode(responseHeadersId)
const rejected = [muxFailureContext(MuxFailure.Retryable | MuxFailure.Rejected)]
const finallyRejected = [muxFailureContext(MuxFailure.NonRetryable | MuxFailure.Rejected)]

const traceOfTreq = ({ trace }: Treq): TraceId | undefined =>
  trace === undefined ? undefined : { ...trace, flags: BigInt(trace.flags), traceIdHigh: undefined }

/** A request: bytes and what came with them. Bytes are views of what the socket gave: copy what you keep. */
export class MuxServerRequest implements Rpc.InboundCall {
  readonly body: Uint8Array
  /** As received. */
  readonly contexts: ReadonlyArray<Pair>
  /** A path; empty for none. */
  readonly destination: string
  readonly dtab: ReadonlyArray<Dentry>
  readonly peer: string
  readonly deadline: number
  /** The trace that it is a part of; `undefined`: none came. */
  readonly trace: TraceId | undefined
  /** What `setReplyHeaders` was given last. */
  replyHeaders: Headers = []
  readonly #exchange: ServerExchange
  #context: CallContext | undefined = undefined

  constructor(exchange: ServerExchange, peer: string) {
    const request = exchange.request
    const dispatch = request._tag === "Tdispatch"
    this.#exchange = exchange
    this.peer = peer
    this.body = request.body
    this.contexts = dispatch ? request.contexts : noContexts
    this.destination = dispatch ? request.destination : ""
    this.dtab = dispatch ? request.dtab : noDtab
    this.deadline = deadlineOf(this.contexts)?.deadline ?? Infinity
    this.trace = dispatch ? traceOf(this.contexts) : traceOfTreq(request)
  }

  /** The same, read: known entries under their keys, all others as bytes under the spelling received. */
  get context(): CallContext {
    return this.#context ??= this.#read()
  }

  /** Why the handler is being interrupted; `undefined` while the answer is wanted. */
  get interruption(): Interruption | undefined {
    return this.#exchange.interruption
  }

  readonly setReplyHeaders = (headers: Headers): void => {
    this.replyHeaders = headers
  }

  #read(): CallContext {
    const request = this.#exchange.request
    if (request._tag === "Tdispatch") return contextOf(request.contexts, request.destination, request.dtab)
    return this.trace === undefined ? CallContext.empty : CallContext.empty.with(Trace, this.trace)
  }
}

/** The text of a failure, as Java's `toString` gives it: the kind, and the message. */
const textOf = (error: unknown): string => {
  if (typeof error === "string" || error instanceof Error) return String(error)
  return typeof error === "object" && error !== null && "_tag" in error ? String(error._tag) : String(error)
}

type SpanOf = (request: MuxServerRequest) => Tracing.MethodSpan | undefined

/** Mux does not say what is asked for, but for whom: in words of the peer's, of which there is no end, and which no span is called after. */
const spanOf: SpanOf = ({ destination }) => {
  const attributes = { "rpc.system.name": "mux", "rpc.method": "_OTHER" }
  return {
    name: "mux",
    attributes: destination === "" ? attributes : { ...attributes, "mux.destination": destination }
  }
}

/** What `Requests` counts. */
interface RequestCounts {
  concurrencyNacks: number
  expired: number
  refusals: number
  handlerNacks: number
}

/** Requests that run, or are being interrupted. */
export type RequestFibers<E> = Set<Fiber.Fiber<MuxServerReply, E>>

/** What requests are run with. */
export interface RequestsOptions<E, R> {
  readonly handler: Handler<E, R>
  readonly run: (effect: Effect.Effect<MuxServerReply, E, R>) => Fiber.Fiber<MuxServerReply, E>
  readonly fibers: RequestFibers<E>
  readonly now: () => number
  readonly maxConcurrent: number
  readonly counts: RequestCounts
  readonly onDefect: (cause: Cause.Cause<unknown>) => void
  readonly tracing: ServerTracing
  /** Default: a span `mux`, with the destination. */
  readonly span: SpanOf | undefined
  /** Where requests are counted; `undefined`: their handler does it. */
  readonly counted: { readonly stats: CallStats; readonly elapsed: () => number } | undefined
}

/** Runs the requests of all sessions of a server, each in a fiber of its own. */
export class Requests<E, R> {
  readonly #options: RequestsOptions<E, R>
  readonly #span: SpanOf
  constructor(options: RequestsOptions<E, R>) {
    this.#options = options
    this.#span = options.span ?? spanOf
  }

  /** Nacks a request of a session that is not served. */
  refuse(exchange: ServerExchange): void {
    this.#options.counts.refusals++
    exchange.reply(Status.Nack, nothing, rejected)
  }

  /**
   * Serves a request, unless too many run (a nack: another server may be idle) or its deadline has passed (an error that says it was not
   * run and need not be tried elsewhere: its time is over there too).
   */
  serve(exchange: ServerExchange, peer: string): void {
    const { counted, counts, fibers, maxConcurrent, now, run, tracing } = this.#options
    if (fibers.size >= maxConcurrent) {
      counts.concurrencyNacks++
      return exchange.reply(Status.Nack, nothing, rejected)
    }
    const request = new MuxServerRequest(exchange, peer)
    if (request.deadline !== Infinity) {
      const late = now() - request.deadline
      if (late > 0) {
        counts.expired++
        return exchange.reply(
          Status.Error,
          utf8.encode(`deadline exceeded by ${late} ms, not executed`),
          finallyRejected
        )
      }
    }
    counted?.stats.began()
    const begunAt = counted === undefined ? 0 : counted.elapsed()
    const fiber = run(Rpc.serving(request, this.#handle(request), tracing.parentOf(request.trace)))
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) return this.#answer(exchange, request, exit, begunAt)
    fibers.add(fiber)
    exchange.onInterrupt = () => fiber.interruptUnsafe()
    fiber.addObserver((exit) => {
      fibers.delete(fiber)
      this.#answer(exchange, request, exit, begunAt)
    })
  }

  /** A handler may throw before it has made an effect. */
  #handle(request: MuxServerRequest): Effect.Effect<MuxServerReply, E, R> {
    const { handler, tracing } = this.#options
    try {
      const span = tracing.listens ? this.#span(request) : undefined
      return span === undefined ? handler(request) : withServerSpan(span, () => handler(request))
    } catch (error) {
      return Exit.die(error)
    }
  }

  #answer(
    exchange: ServerExchange,
    request: MuxServerRequest,
    exit: Exit.Exit<MuxServerReply, E>,
    begunAt: number
  ): void {
    const { counted, onDefect } = this.#options
    if (counted !== undefined) {
      const at = counted.elapsed()
      counted.stats.ended(Exit.isSuccess(exit) ? undefined : tagOf(exit.cause), at - begunAt, at)
    }
    if (Exit.isFailure(exit)) {
      if (Cause.hasDies(exit.cause)) onDefect(exit.cause)
      return this.#fail(exchange, exit.cause)
    }
    const { body, contexts = noContexts } = exit.value
    const headers = request.replyHeaders
    try {
      exchange.reply(
        Status.Ok,
        body,
        headers.length === 0 ? contexts : [...contexts, [responseHeadersKey, encodeHeaders(headers).bytes]]
      )
    } catch (error) {
      if (!(error instanceof MuxEncodeError)) throw error
      exchange.reply(Status.Error, utf8.encode(String(error)))
    }
  }

  #fail(exchange: ServerExchange, cause: Cause.Cause<unknown>): void {
    const reason = cause.reasons.find(Cause.isFailReason) ?? cause.reasons.find(Cause.isDieReason)
    if (reason === undefined) return exchange.reply(Status.Error, utf8.encode("interrupted"))
    const error = reason._tag === "Fail" ? reason.error : reason.defect
    if (error instanceof Nack) {
      const { flags = MuxFailure.Retryable | MuxFailure.Rejected, why } = error
      // One that nobody waits for any more is none.
      if (exchange.state === "running") this.#options.counts.handlerNacks++
      exchange.reply(Status.Nack, why === undefined ? nothing : utf8.encode(why), flagged(flags))
    } else if (error instanceof ErrorReply) {
      exchange.reply(Status.Error, utf8.encode(error.why), flagged(error.flags ?? 0))
    } else exchange.reply(Status.Error, utf8.encode(textOf(error)))
  }
}

const flagged = (flags: number): ReadonlyArray<Pair> => flags === 0 ? noContexts : [muxFailureContext(flags)]
