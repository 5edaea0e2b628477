/**
 * What a serializer and a server need to know about a service: for each method, how its four kinds of message are written
 * and read. It says nothing about where that knowledge comes from.
 *
 * Whole messages are written, because the header belongs to the message; reading starts behind the header, because the header
 * says which method to ask.
 */
import * as Exit from "effect/Exit"
import { decodeApplicationException } from "./ApplicationException.ts"
import { type ThriftApplicationException, type ThriftException, ThriftProtocolError } from "./errors.ts"
import { MessageType, type ProtocolReader, type ProtocolWriter } from "./Protocol.ts"

/**
 * How a call ended, as the reply says: the result (`undefined` for a void method), the declared exception, an application
 * exception, or a reply that cannot be read.
 */
export type Reply = Exit.Exit<unknown, ThriftException<unknown> | ThriftApplicationException | ThriftProtocolError>

/** One method of a service: the client's half and the server's. */
export interface MethodDefinition {
  readonly name: string
  /** There is no reply, not even an empty one. */
  readonly oneway: boolean
  /** Writes the call, a CALL or ONEWAY message. Throws `ThriftEncodeError`, and then has written nothing. */
  encodeCall(sequenceId: number, args: ReadonlyArray<unknown>, writer: ProtocolWriter): void
  /** Reads what follows the header of a REPLY message. Never throws. */
  decodeResult(reader: ProtocolReader): Reply
  /** Reads what follows the header of a call: the arguments in their order, `null` for one that was not sent. Throws `ThriftProtocolError`. */
  decodeArguments(reader: ProtocolReader): Array<unknown>
  /** Writes a REPLY message with the result. Throws `ThriftEncodeError`, and then has written nothing. */
  encodeResult(sequenceId: number, value: unknown, writer: ProtocolWriter): void
  /**
   * Writes a REPLY message with an exception, bare or as `ThriftException`, if the method declares its class. False, and nothing
   * written, if it does not. Throws `ThriftEncodeError`, and then has written nothing.
   */
  encodeException(sequenceId: number, exception: unknown, writer: ProtocolWriter): boolean
}

/** A service: its name in the IDL, and its methods with those that it inherits, by name. */
export interface ServiceDefinition {
  readonly name: string
  readonly methods: ReadonlyMap<string, MethodDefinition>
}

/**
 * Reads a whole reply, header and all. Never throws. The header stays in `reader.message`, where a caller that needs to check the
 * sequence id or the method's name finds it.
 */
export const decodeReply = (method: MethodDefinition, reader: ProtocolReader): Reply => {
  try {
    const { mtype } = reader.readMessageBegin()
    if (mtype === MessageType.REPLY) return method.decodeResult(reader)
    if (mtype === MessageType.EXCEPTION) return Exit.fail(decodeApplicationException(reader))
    return Exit.fail(
      new ThriftProtocolError({
        reason: "UnexpectedMessage",
        offset: reader.position,
        message: `a message of type ${mtype} in answer to ${method.name}`
      })
    )
  } catch (error) {
    return Exit.fail(protocolErrorOf(error, reader))
  }
}

/** What a read ended with, as the one error that reads end with: a generated struct may throw one of its own. */
export const protocolErrorOf = (error: unknown, reader: ProtocolReader): ThriftProtocolError =>
  error instanceof ThriftProtocolError ? error : new ThriftProtocolError({
    reason: "InvalidStruct",
    offset: reader.position,
    message: error instanceof Error ? error.message : String(error),
    cause: error
  })
