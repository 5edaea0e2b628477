/** Runs the requests of all connections that speak one protocol, each in a fiber of its own. */
import { type CallContext, Rpc, type ServerTracing, Trace } from "@scales-rpc/core"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { ThriftEncodeError, type ThriftProtocolError } from "../errors.ts"
import type { Limits, Protocol, ProtocolReader, ProtocolWriter } from "../Protocol.ts"
import type { Processor } from "../ThriftProcessor.ts"
import { applicationReply, shownName } from "./ApplicationReply.ts"
import type { ServerExchange } from "./ServerExchange.ts"
import { ServerUpgrade } from "./ServerUpgrade.ts"

type Serving = Fiber.Fiber<Uint8Array, ThriftProtocolError>

/** What requests of every protocol share. */
export interface RequestsOptions<R> {
  readonly run: (effect: Effect.Effect<Uint8Array, ThriftProtocolError, Exclude<R, Scope.Scope>>) => Serving
  /** Those that run, or are being interrupted. */
  readonly fibers: Set<Serving>
  /** Methods without a reply, by their names in calls. */
  readonly oneways: ReadonlySet<string>
  readonly limits: Limits
  readonly now: () => number
  readonly tracing: ServerTracing
  /** Requests that were not run because their deadline had passed when they came. */
  readonly counts: { expired: number }
  /** For what no caller is told. */
  readonly onDefect: (cause: Cause.Cause<unknown>, called: Readonly<Record<string, string>>) => void
}

/** A request as its handler sees it. */
class ServedCall implements Rpc.InboundCall {
  readonly peer: string
  readonly deadline: number
  readonly context: CallContext

  constructor(peer: string, deadline: number, context: CallContext) {
    this.peer = peer
    this.deadline = deadline
    this.context = context
  }

  /** Replies of Thrift have no place for headers. */
  setReplyHeaders(): void {}
}

/** The requests. */
export class ServerRequests<R = never> {
  /** Reads the headers of requests. */
  readonly reader: ProtocolReader
  readonly upgrade: ServerUpgrade
  readonly #writer: ProtocolWriter
  readonly #processor: Processor<never, R>
  readonly #options: RequestsOptions<R>

  constructor(protocol: Protocol, processor: Processor<never, R>, options: RequestsOptions<R>) {
    this.reader = protocol.reader(options.limits)
    this.#writer = protocol.writer(options.limits)
    this.upgrade = new ServerUpgrade(this.reader, this.#writer)
    this.#processor = processor
    this.#options = options
  }

  /** Whether a method is one without a reply. */
  isOneway(name: string): boolean {
    return this.#options.oneways.has(name)
  }

  /** Serves a request, unless its deadline has passed. */
  serve(exchange: ServerExchange): void {
    const { counts, fibers, now, run, tracing } = this.#options
    const { body, context, deadline } = exchange.head
    if (deadline !== Infinity) {
      const late = now() - deadline
      if (late > 0) {
        counts.expired++
        return this.#fail(exchange, `deadline exceeded by ${late} ms, not executed`)
      }
    }
    const inbound = new ServedCall(exchange.connection.peer, deadline, context)
    const served = Effect.scoped(this.#processor.process(body))
    const fiber = run(Rpc.serving(inbound, served, tracing.parentOf(context.get(Trace))))
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) return this.#answer(exchange, exit)
    fibers.add(fiber)
    exchange.onInterrupt = () => fiber.interruptUnsafe()
    fiber.addObserver((exit) => {
      fibers.delete(fiber)
      this.#answer(exchange, exit)
    })
  }

  #answer(exchange: ServerExchange, exit: Exit.Exit<Uint8Array, ThriftProtocolError>): void {
    if (Exit.isSuccess(exit)) return exchange.connection.answer(exchange, exit.value)
    const { cause } = exit
    if (cause.reasons.some(Cause.isFailReason)) return exchange.connection.refuse(exchange)
    if (Cause.hasDies(cause)) {
      this.#options.onDefect(cause, { method: shownName(exchange.head.name) })
    }
    this.#fail(exchange, Cause.hasDies(cause) ? "defect" : "interrupted")
  }

  /** Answers with an internal error. */
  #fail(exchange: ServerExchange, why: string): void {
    const { name, sequenceId } = exchange.head
    const message = `Internal error processing ${shownName(name)}: '${why}'`
    let reply: Uint8Array
    try {
      reply = applicationReply(this.#writer, name, sequenceId, "INTERNAL_ERROR", message)
    } catch (error) {
      // Limits below what any answer takes.
      if (!(error instanceof ThriftEncodeError)) throw error
      return exchange.connection.refuse(exchange)
    }
    exchange.connection.answer(exchange, reply)
  }
}
