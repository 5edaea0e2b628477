/**
 * The server's half of a service: a request's bytes to its handler, what the handler ends with to the bytes of the reply. What each
 * failure becomes is what Finagle's server makes of it.
 */
import { type CallStats, InvalidOption, type ObservedServer, tagOf, Tracing, withServerSpan } from "@scales-rpc/core"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { type ApplicationExceptionName, ThriftEncodeError, ThriftProtocolError } from "./errors.ts"
import { applicationReply, shownName } from "./internal/ApplicationReply.ts"
import { checkedLimits } from "./internal/limitOptions.ts"
import { checkedServiceName } from "./internal/serviceName.ts"
import * as Multiplexed from "./Multiplexed.ts"
import { type Limits, MessageType, type Protocol } from "./Protocol.ts"
import * as Protocols from "./Protocols.ts"
import { type MethodDefinition, protocolErrorOf, type ServiceDefinition } from "./ServiceDefinition.ts"

/** Answers requests. */
export interface Processor<out E = never, out R = never> {
  /**
   * The reply to one request. A oneway method that ends well is answered with nothing; when it does not, and the wire answers every
   * call, its caller hears of it. Fails with `ThriftProtocolError` when the bytes are no Thrift call or end too early, or `limits`
   * leave no room for the answer to a method that does not exist, and with what the handler failed with when `passes` said that it is
   * the wire's to answer.
   */
  readonly process: (body: Uint8Array) => Effect.Effect<Uint8Array, ThriftProtocolError | E, R>
}

/** Options of a processor. */
export interface ProcessorOptions<E> {
  /** Failures of handlers that are for the wire to answer, such as a nack. Default: none. */
  readonly passes?: ((error: unknown) => error is E) | undefined
  /** What is accepted in a request, and written in a reply. */
  readonly limits?: Limits | undefined
  /** What requests and replies are written in. Default `Protocols.binary`. */
  readonly protocol?: Protocol | undefined
  /** The server that shows what is served: calls are counted there by method, and failures logged. Default: only logged. */
  readonly observed?: Pick<ObservedServer.ObservedServer, "name" | "calls" | "handlerFailed"> | undefined
}

/** Implements one method: arguments in, an effect of the result out. */
export type Handler<R = never> = (...args: ReadonlyArray<any>) => Effect.Effect<unknown, unknown, R>

const nothing = new Uint8Array(0)

/** A failure as text, as Java's `toString` gives it: the kind, and the message. */
const textOf = (error: unknown): string =>
  error instanceof Error || typeof error !== "object" || error === null
    ? String(error)
    : "_tag" in error
    ? String(error._tag)
    : error.constructor?.name ?? "Object"

/** A service with what implements it: handlers by method; a method without one is answered as unknown. */
export interface Implementation<R = never> {
  readonly definition: ServiceDefinition
  readonly handlers: Readonly<Record<string, Handler<R>>>
}

/** A processor over handlers by method; a method without one is answered as unknown. */
export const make = <E = never, R = never>(
  definition: ServiceDefinition,
  handlers: Readonly<Record<string, Handler<R>>>,
  options: ProcessorOptions<E> = {}
): Effect.Effect<Processor<E, R>, InvalidOption> =>
  processorOf(
    servedBy({ definition, handlers }, definition.name, (method) => method),
    (name) => name,
    options
  )

/** Options of a processor of several services. */
export interface MultiplexedOptions<E> extends ProcessorOptions<E> {
  /** The name of the service that also answers calls that name none. Default: those are answered as unknown methods. */
  readonly unnamed?: string | undefined
}

/**
 * A processor of several services, by the name that their clients put before the method's. Fails with `InvalidOption` for a name that
 * is empty or has a colon in it.
 */
export const multiplexed = <E = never, R = never>(
  services: Readonly<Record<string, Implementation<R>>>,
  options: MultiplexedOptions<E> = {}
): Effect.Effect<Processor<E, R>, InvalidOption> =>
  Effect.gen(function*() {
    const served = new Map<string, Served<R>>()
    for (const [name, service] of Object.entries(services)) {
      yield* checkedServiceName("services", name)
      for (const [key, method] of servedBy(service, name, (method) => Multiplexed.prefixed(name, method))) {
        served.set(key, method)
      }
    }
    if (options.unnamed !== undefined) {
      const service = Object.hasOwn(services, options.unnamed) ? services[options.unnamed] : undefined
      if (service === undefined) {
        return yield* new InvalidOption({
          option: "unnamed",
          got: options.unnamed,
          expected: `one of ${Object.keys(services).join(", ")}`
        })
      }
      for (const [key, method] of servedBy(service, options.unnamed, (method) => method)) served.set(key, method)
    }
    return yield* processorOf(served, (name) => Multiplexed.split(name).method, options)
  })

/** A method that is implemented. */
interface Served<R> extends Implementation<R> {
  readonly method: MethodDefinition
  readonly handler: Handler<R>
  readonly span: Tracing.MethodSpan
  /** What its service is served as. */
  readonly service: string
  /** From its first call on, where calls are counted. */
  stats: CallStats | undefined
}

/** What a client asked for that there is none of: its own words are no method of the server's. */
const unknown = "unknown"

/** One call that is counted. */
class CountedCall {
  /** The tag of what it is answered with, where that is not what it ends with. */
  error: string | undefined = undefined
  readonly #stats: CallStats
  readonly #elapsed: () => number
  readonly #begunAt: number

  constructor(stats: CallStats, elapsed: () => number) {
    this.#stats = stats
    this.#elapsed = elapsed
    this.#begunAt = elapsed()
    stats.began()
  }

  readonly ended = (exit: Exit.Exit<unknown, unknown>): undefined => {
    const at = this.#elapsed()
    const error = Exit.isSuccess(exit) ? this.error : tagOf(exit.cause)
    this.#stats.ended(error, at - this.#begunAt, at)
    return undefined
  }
}

/** The methods of a service that are implemented, by their names in calls. */
const servedBy = <R>(
  implementation: Implementation<R>,
  service: string,
  nameOf: (method: string) => string
): ReadonlyMap<string, Served<R>> => {
  const { definition, handlers } = implementation
  const served = new Map<string, Served<R>>()
  for (const [name, method] of definition.methods) {
    const handler = handlers[name]
    if (handler !== undefined) {
      served.set(nameOf(name), {
        definition,
        handlers,
        method,
        handler,
        span: Tracing.rpcSpan("thrift", definition.name, name),
        service,
        stats: undefined
      })
    }
  }
  return served
}

/** A processor over methods by their names in calls; `replyName` is how the reply to an unknown one is called. */
const processorOf = <E, R>(
  served: ReadonlyMap<string, Served<R>>,
  replyName: (name: string) => string,
  options: ProcessorOptions<E>
): Effect.Effect<Processor<E, R>, InvalidOption> =>
  Effect.map(checkedLimits("thrift", options.limits), (limits) => {
    const protocol = options.protocol ?? Protocols.binary
    const reader = protocol.reader(limits)
    const writer = protocol.writer(limits)
    const { observed } = options
    const statsOf = (called: Served<R>): CallStats | undefined =>
      observed && (called.stats ??= observed.calls.of(called.service, called.method.name))

    const applicationException = (
      method: string,
      sequenceId: number,
      type: ApplicationExceptionName,
      message: string
    ): Uint8Array => applicationReply(writer, method, sequenceId, type, message)

    /** A call of a method that there is none of. */
    const unknownMethod = (name: string, sequenceId: number): Effect.Effect<Uint8Array, ThriftProtocolError> => {
      observed?.calls.of(observed.name, unknown).refused("UnknownMethod")
      const message = `Invalid method name: '${shownName(name)}'`
      try {
        return Effect.succeed(applicationException(replyName(name), sequenceId, "UNKNOWN_METHOD", message))
      } catch (error) {
        // Limits below what any answer takes: the wire's to answer.
        if (!(error instanceof ThriftEncodeError)) throw error
        return Effect.fail(
          new ThriftProtocolError({ reason: "SizeLimit", offset: reader.position, message, cause: error })
        )
      }
    }

    /** What the method's caller is not told of in detail is logged here. */
    const internalError = (
      { definition, method, service }: Served<R>,
      sequenceId: number,
      cause: Cause.Cause<unknown>,
      error: unknown,
      counted: CountedCall | undefined
    ): Effect.Effect<Uint8Array> => {
      const message = `Internal error processing ${method.name}: '${textOf(error)}'`
      const reply = applicationException(method.name, sequenceId, "INTERNAL_ERROR", message)
      if (counted !== undefined) counted.error = tagOf(cause)
      if (observed === undefined) {
        return Effect.as(Effect.logError(`${definition.name}.${method.name}: internal error`, cause), reply)
      }
      observed.handlerFailed(cause, { service, method: method.name })
      return Effect.succeed(reply)
    }

    const result = (method: MethodDefinition, sequenceId: number, value: unknown): Uint8Array => {
      if (method.oneway) return nothing
      writer.reset()
      method.encodeResult(sequenceId, value, writer)
      return writer.take()
    }

    /** The reply to a call that failed with what the method declares; `undefined` for any other failure. */
    const declared = (method: MethodDefinition, sequenceId: number, error: unknown): Uint8Array | undefined => {
      if (method.oneway) return undefined
      writer.reset()
      return method.encodeException(sequenceId, error, writer) ? writer.take() : undefined
    }

    const answer = (
      called: Served<R>,
      sequenceId: number,
      exit: Exit.Exit<unknown, unknown>,
      counted: CountedCall | undefined
    ): Effect.Effect<Uint8Array, E> => {
      const { method } = called
      try {
        if (Exit.isSuccess(exit)) return Effect.succeed(result(method, sequenceId, exit.value))
        const { cause } = exit
        const reason = cause.reasons.find((reason) => !Cause.isInterruptReason(reason))
        if (reason === undefined) return Effect.failCause(cause as Cause.Cause<never>)
        const error = Cause.isFailReason(reason) ? reason.error : reason.defect
        if (options.passes?.(error) === true) return Effect.fail(error)
        const reply = Cause.isFailReason(reason) ? declared(method, sequenceId, error) : undefined
        if (reply === undefined) return internalError(called, sequenceId, cause, error, counted)
        // As its caller counts it.
        if (counted !== undefined) counted.error = "ThriftException"
        return Effect.succeed(reply)
      } catch (error) {
        // What the handler gave cannot be written: its error.
        if (!(error instanceof ThriftEncodeError)) throw error
        return internalError(called, sequenceId, Cause.fail(error), error, counted)
      }
    }

    const process = (body: Uint8Array): Effect.Effect<Uint8Array, ThriftProtocolError | E, R> => {
      let name: string
      let sequenceId: number
      try {
        const header = reader.reset(body).readMessageBegin()
        if (header.mtype !== MessageType.CALL && header.mtype !== MessageType.ONEWAY) {
          return Effect.fail(
            new ThriftProtocolError({
              reason: "UnexpectedMessage",
              offset: reader.position,
              message: `a message of type ${header.mtype} where a call is expected`
            })
          )
        }
        name = header.fname
        sequenceId = header.rseqid
      } catch (error) {
        return Effect.fail(protocolErrorOf(error, reader))
      }
      const found = served.get(name)
      if (found === undefined) return unknownMethod(name, sequenceId)
      const { handler, handlers, method, span } = found
      let args: Array<unknown>
      try {
        args = method.decodeArguments(reader)
      } catch (cause) {
        const error = protocolErrorOf(cause, reader)
        statsOf(found)?.refused(error._tag)
        // Scrooge answers its TProtocolException so, and hands a TTransportException, the end of the bytes, to the wire.
        return error.reason === "Truncated"
          ? Effect.fail(error)
          : Effect.succeed(applicationException(name, sequenceId, "PROTOCOL_ERROR", error.message))
      }
      const stats = statsOf(found)
      const counted = stats && new CountedCall(stats, observed!.calls.elapsed)
      const answered = Effect.flatMap(
        Effect.exit(withServerSpan(span, () => handler.apply(handlers, args))),
        (exit) => answer(found, sequenceId, exit, counted)
      )
      return counted === undefined ? answered : Effect.onExitPrimitive(answered, counted.ended)
    }
    return { process: (body) => Effect.suspend(() => process(body)) }
  })
