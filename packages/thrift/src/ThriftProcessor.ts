/**
 * The server's half of a service: a request's bytes to its handler, what the handler ends with to the bytes of the reply. What each
 * failure becomes is what Finagle's server makes of it.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { encodeApplicationException } from "./ApplicationException.ts"
import { BinaryReader } from "./BinaryReader.ts"
import { BinaryWriter } from "./BinaryWriter.ts"
import { ApplicationExceptionType, ThriftApplicationException, ThriftEncodeError, ThriftProtocolError } from "./errors.ts"
import { type Limits, MessageType } from "./Protocol.ts"
import { type MethodDefinition, protocolErrorOf, type ServiceDefinition } from "./ServiceDefinition.ts"

/** Answers requests. */
export interface Processor<out E = never> {
  /**
   * The reply to one request, empty for a oneway method. Fails with `ThriftProtocolError` when the bytes are no Thrift call, and with
   * what the handler failed with when `passes` said that it is the wire's to answer.
   */
  readonly process: (body: Uint8Array) => Effect.Effect<Uint8Array, ThriftProtocolError | E>
}

/** Options of a processor. */
export interface ProcessorOptions<E> {
  /** Failures of handlers that are for the wire to answer, such as a nack. Default: none. */
  readonly passes?: ((error: unknown) => error is E) | undefined
  /** What is accepted in a request, and written in a reply. */
  readonly limits?: Limits | undefined
}

type Handler = (...args: Array<unknown>) => Effect.Effect<unknown, unknown>

const nothing = new Uint8Array(0)

/** A processor over handlers that need nothing any more; a method without one is answered as unknown. */
export const make = <E = never>(
  definition: ServiceDefinition,
  handlers: Readonly<Record<string, Handler>>,
  options: ProcessorOptions<E> = {}
): Processor<E> => {
  const reader = new BinaryReader(options.limits)
  const writer = new BinaryWriter(options.limits)

  const applicationException = (
    method: string,
    sequenceId: number,
    type: keyof typeof ApplicationExceptionType,
    message: string
  ): Uint8Array => {
    writer.reset()
    const exception = new ThriftApplicationException({ type: ApplicationExceptionType[type], message })
    encodeApplicationException(method, sequenceId, exception, writer)
    return writer.take()
  }

  const internalError = (method: MethodDefinition, sequenceId: number, error: unknown): Uint8Array =>
    method.oneway
      ? nothing
      : applicationException(
        method.name,
        sequenceId,
        "INTERNAL_ERROR",
        `Internal error processing ${method.name}: '${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}'`
      )

  /** Writes a reply; what cannot be written is an internal error of the handler. */
  const reply = (method: MethodDefinition, sequenceId: number, write: () => boolean): Uint8Array | undefined => {
    try {
      writer.reset()
      return write() ? writer.take() : undefined
    } catch (error) {
      if (error instanceof ThriftEncodeError) return internalError(method, sequenceId, error)
      throw error
    }
  }

  const answer = (
    method: MethodDefinition,
    sequenceId: number,
    exit: Exit.Exit<unknown, unknown>
  ): Effect.Effect<Uint8Array, E> => {
    if (Exit.isSuccess(exit)) {
      if (method.oneway) return Effect.succeed(nothing)
      return Effect.succeed(reply(method, sequenceId, () => {
        method.encodeResult(sequenceId, exit.value, writer)
        return true
      })!)
    }
    const reason = exit.cause.reasons.find((reason) => !Cause.isInterruptReason(reason))
    if (reason === undefined) return Effect.failCause(exit.cause as Cause.Cause<never>)
    const error: unknown = Cause.isFailReason(reason) ? reason.error : reason.defect
    if (options.passes?.(error) === true) return Effect.fail(error)
    const declared = Cause.isFailReason(reason) && !method.oneway
      ? reply(method, sequenceId, () => method.encodeException(sequenceId, error, writer))
      : undefined
    return Effect.succeed(declared ?? internalError(method, sequenceId, error))
  }

  return {
    process: (body) =>
      Effect.suspend((): Effect.Effect<Uint8Array, ThriftProtocolError | E> => {
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
        const method = definition.methods.get(name)
        const handler = method === undefined ? undefined : handlers[name]
        if (method === undefined || handler === undefined) {
          return Effect.succeed(
            applicationException(name, sequenceId, "UNKNOWN_METHOD", `Invalid method name: '${name}'`)
          )
        }
        let args: Array<unknown>
        try {
          args = method.decodeArguments(reader)
        } catch (error) {
          const { message } = protocolErrorOf(error, reader)
          return Effect.succeed(applicationException(name, sequenceId, "PROTOCOL_ERROR", message))
        }
        return Effect.flatMap(
          Effect.exit(Effect.suspend(() => handler(...args))),
          (exit) => answer(method, sequenceId, exit)
        )
      })
  }
}
