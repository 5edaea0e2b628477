/**
 * The server's half of a service: a request's bytes to its handler, what the handler ends with to the bytes of the reply. What each
 * failure becomes is what Finagle's server makes of it.
 */
import { InvalidOption } from "@scales-rpc/core"
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
  processorOf(servedBy({ definition, handlers }, (method) => method), (name) => name, options)

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
      for (const [key, method] of servedBy(service, (method) => Multiplexed.prefixed(name, method))) {
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
      for (const [key, method] of servedBy(service, (method) => method)) served.set(key, method)
    }
    return yield* processorOf(served, (name) => Multiplexed.split(name).method, options)
  })

/** A method that is implemented. */
interface Served<R> extends Implementation<R> {
  readonly method: MethodDefinition
  readonly handler: Handler<R>
}

/** The methods of a service that are implemented, by their names in calls. */
const servedBy = <R>(
  implementation: Implementation<R>,
  nameOf: (method: string) => string
): ReadonlyMap<string, Served<R>> => {
  const { definition, handlers } = implementation
  const served = new Map<string, Served<R>>()
  for (const [name, method] of definition.methods) {
    const handler = handlers[name]
    if (handler !== undefined) served.set(nameOf(name), { definition, handlers, method, handler })
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

    const applicationException = (
      method: string,
      sequenceId: number,
      type: ApplicationExceptionName,
      message: string
    ): Uint8Array => applicationReply(writer, method, sequenceId, type, message)

    /** A call of a method that there is none of. */
    const unknownMethod = (name: string, sequenceId: number): Effect.Effect<Uint8Array, ThriftProtocolError> => {
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
      { definition, method }: Served<R>,
      sequenceId: number,
      cause: Cause.Cause<unknown>,
      error: unknown
    ): Effect.Effect<Uint8Array> => {
      const message = `Internal error processing ${method.name}: '${textOf(error)}'`
      const reply = applicationException(method.name, sequenceId, "INTERNAL_ERROR", message)
      return Effect.as(Effect.logError(`${definition.name}.${method.name}: internal error`, cause), reply)
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
      exit: Exit.Exit<unknown, unknown>
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
        return reply === undefined ? internalError(called, sequenceId, cause, error) : Effect.succeed(reply)
      } catch (error) {
        // What the handler gave cannot be written: its error.
        if (!(error instanceof ThriftEncodeError)) throw error
        return internalError(called, sequenceId, Cause.fail(error), error)
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
      const { handler, handlers, method } = found
      let args: Array<unknown>
      try {
        args = method.decodeArguments(reader)
      } catch (cause) {
        const error = protocolErrorOf(cause, reader)
        // Scrooge answers its TProtocolException so, and hands a TTransportException, the end of the bytes, to the wire.
        return error.reason === "Truncated"
          ? Effect.fail(error)
          : Effect.succeed(applicationException(name, sequenceId, "PROTOCOL_ERROR", error.message))
      }
      return Effect.flatMap(
        Effect.exit(Effect.suspend(() => handler.apply(handlers, args))),
        (exit) => answer(found, sequenceId, exit)
      )
    }
    return { process: (body) => Effect.suspend(() => process(body)) }
  })
