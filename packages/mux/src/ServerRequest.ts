/** A request as a server's handler gets it, what it may answer, and how each way a handler can end reaches the client. */
import { CallContext, type Dentry, Failure, Rpc, Trace } from "@scales-rpc/core"
import * as Cause from "effect/Cause"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { MuxEncodeError } from "./CodecError.ts"
import { contextOf, deadlineOf, encodeHeaders, type Headers, responseHeadersId } from "./Contexts.ts"
import { type Pair, Status } from "./Message.ts"
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
    const trace = request.trace
    if (trace === undefined) return CallContext.empty
    return CallContext.empty.with(Trace, { ...trace, flags: BigInt(trace.flags), traceIdHigh: undefined })
  }
}

/** The text of a failure, as Java's `toString` gives it: the kind, and the message. */
const textOf = (error: unknown): string => {
  if (typeof error === "string" || error instanceof Error) return String(error)
  return typeof error === "object" && error !== null && "_tag" in error ? String(error._tag) : String(error)
}

/** What `Requests` counts. */
interface RequestCounts {
  concurrencyNacks: number
  expired: number
  refusals: number
}

/** Runs the requests of all sessions of a server, each in a fiber of its own. */
export class Requests<E, R> {
  readonly #handler: Handler<E, R>
  readonly #run: (effect: Effect.Effect<MuxServerReply, E, R>) => Fiber.Fiber<MuxServerReply, E>
  readonly #now: () => number
  readonly #maxConcurrent: number
  readonly #counts: RequestCounts
  readonly #onDefect: (cause: Cause.Cause<unknown>) => void
  /** Those that run, or are being interrupted. */
  readonly fibers = new Set<Fiber.Fiber<MuxServerReply, E>>()

  constructor(
    handler: Handler<E, R>,
    run: (effect: Effect.Effect<MuxServerReply, E, R>) => Fiber.Fiber<MuxServerReply, E>,
    now: () => number,
    maxConcurrent: number,
    counts: RequestCounts,
    onDefect: (cause: Cause.Cause<unknown>) => void
  ) {
    this.#handler = handler
    this.#run = run
    this.#now = now
    this.#maxConcurrent = maxConcurrent
    this.#counts = counts
    this.#onDefect = onDefect
  }

  /** Nacks a request of a session that is not served. */
  refuse(exchange: ServerExchange): void {
    this.#counts.refusals++
    exchange.reply(Status.Nack, nothing, rejected)
  }

  /**
   * Serves a request, unless too many run (a nack: another server may be idle) or its deadline has passed (an error that says it was not
   * run and need not be tried elsewhere: its time is over there too).
   */
  serve(exchange: ServerExchange, peer: string): void {
    if (this.fibers.size >= this.#maxConcurrent) {
      this.#counts.concurrencyNacks++
      return exchange.reply(Status.Nack, nothing, rejected)
    }
    const request = new MuxServerRequest(exchange, peer)
    if (request.deadline !== Infinity) {
      const late = this.#now() - request.deadline
      if (late > 0) {
        this.#counts.expired++
        return exchange.reply(
          Status.Error,
          utf8.encode(`deadline exceeded by ${late} ms, not executed`),
          finallyRejected
        )
      }
    }
    const fiber = this.#run(Rpc.serving(request, this.#handle(request)))
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) return this.#answer(exchange, request, exit)
    this.fibers.add(fiber)
    exchange.onInterrupt = () => fiber.interruptUnsafe()
    fiber.addObserver((exit) => {
      this.fibers.delete(fiber)
      this.#answer(exchange, request, exit)
    })
  }

  /** A handler may throw before it has made an effect. */
  #handle(request: MuxServerRequest): Effect.Effect<MuxServerReply, E, R> {
    try {
      return this.#handler(request)
    } catch (error) {
      return Exit.die(error)
    }
  }

  #answer(exchange: ServerExchange, request: MuxServerRequest, exit: Exit.Exit<MuxServerReply, E>): void {
    if (Exit.isFailure(exit)) {
      if (Cause.hasDies(exit.cause)) this.#onDefect(exit.cause)
      return fail(exchange, exit.cause)
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
}

const fail = (exchange: ServerExchange, cause: Cause.Cause<unknown>): void => {
  const reason = cause.reasons.find(Cause.isFailReason) ?? cause.reasons.find(Cause.isDieReason)
  if (reason === undefined) return exchange.reply(Status.Error, utf8.encode("interrupted"))
  const error = reason._tag === "Fail" ? reason.error : reason.defect
  if (error instanceof Nack) {
    const { flags = MuxFailure.Retryable | MuxFailure.Rejected, why } = error
    exchange.reply(Status.Nack, why === undefined ? nothing : utf8.encode(why), flagged(flags))
  } else if (error instanceof ErrorReply) {
    exchange.reply(Status.Error, utf8.encode(error.why), flagged(error.flags ?? 0))
  } else exchange.reply(Status.Error, utf8.encode(textOf(error)))
}

const flagged = (flags: number): ReadonlyArray<Pair> => flags === 0 ? noContexts : [muxFailureContext(flags)]
