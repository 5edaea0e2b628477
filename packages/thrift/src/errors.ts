/**
 * What can go wrong between a typed call and its bytes: one tagged class each.
 *
 * None of them captures a stack trace: they come in storms (a peer that speaks garbage, a method that answers most calls
 * with its declared exception), a trace costs 4 to 5 microseconds, and it would show this library only. All of them are
 * Effect errors: `yield*` one to fail with it.
 */
import type { Reached, RpcError } from "@scales-rpc/core"
import * as Data from "effect/Data"

interface Fields {
  readonly message: string
  readonly cause?: unknown
}

/** What these have in common; made without a stack trace. */
abstract class Stackless extends Data.Error<Fields> {
  /** Whether the request can have been executed. */
  abstract readonly reached: Reached
  /** Whether the same request may be sent again by anybody: what a server has answered, or what was never sent as it is, may not. */
  readonly retryable = false
  constructor(name: string, fields: Fields) {
    const limit = Error.stackTraceLimit
    Error.stackTraceLimit = 0
    super(fields)
    Error.stackTraceLimit = limit
    this.name = name
  }
}

/**
 * Why bytes are no Thrift message: they end too early (`Truncated`), carry a negative length (`NegativeSize`), pass one of
 * the reader's limits (`SizeLimit`, `DepthLimit`), begin with an unknown version (`BadVersion`), name a type the protocol
 * does not have (`UnknownType`), break its grammar, such as an integer that its type cannot hold or JSON that is none
 * (`Malformed`), are a message of another kind than the one expected (`UnexpectedMessage`), or were refused by the
 * generated struct that read them, whose error is the `cause` (`InvalidStruct`).
 */
export type ProtocolErrorReason =
  | "Truncated"
  | "NegativeSize"
  | "SizeLimit"
  | "DepthLimit"
  | "BadVersion"
  | "UnknownType"
  | "Malformed"
  | "UnexpectedMessage"
  | "InvalidStruct"

/** Bytes that cannot be read. `offset` is where in the message, in bytes, the reader stood. */
export class ThriftProtocolError extends Stackless {
  readonly _tag = "ThriftProtocolError"
  readonly reached = "maybe"
  readonly reason: ProtocolErrorReason
  readonly offset: number
  constructor(fields: Fields & { readonly reason: ProtocolErrorReason; readonly offset: number }) {
    super("ThriftProtocolError", fields)
    this.reason = fields.reason
    this.offset = fields.offset
  }
}

/**
 * Why a value cannot be written: it is none of its field's type, such as 1.5 or 2^31 as an i32 (`InvalidValue`), the
 * message passes a limit of the writer (`SizeLimit`, `DepthLimit`), a method with a result was given none
 * (`MissingResult`), or the generated struct refused it, a required field being unset for instance, with its error as the
 * `cause` (`InvalidStruct`).
 */
export type EncodeErrorReason = "InvalidValue" | "SizeLimit" | "DepthLimit" | "MissingResult" | "InvalidStruct"

/** A value that cannot be written. Nothing of its message has left. */
export class ThriftEncodeError extends Stackless {
  readonly _tag = "ThriftEncodeError"
  readonly reached = "no"
  readonly reason: EncodeErrorReason
  constructor(fields: Fields & { readonly reason: EncodeErrorReason }) {
    super("ThriftEncodeError", fields)
    this.reason = fields.reason
  }
}

const applicationExceptionNames = [
  "UNKNOWN",
  "UNKNOWN_METHOD",
  "INVALID_MESSAGE_TYPE",
  "WRONG_METHOD_NAME",
  "BAD_SEQUENCE_ID",
  "MISSING_RESULT",
  "INTERNAL_ERROR",
  "PROTOCOL_ERROR",
  "INVALID_TRANSFORM",
  "INVALID_PROTOCOL",
  "UNSUPPORTED_CLIENT_TYPE"
] as const

/** The Thrift names of the types of application exceptions. */
export type ApplicationExceptionName = typeof applicationExceptionNames[number]

/** The numbers that the Thrift specification gives to the types of application exceptions. */
export const ApplicationExceptionType: { readonly [Name in ApplicationExceptionName]: number } = Object.fromEntries(
  applicationExceptionNames.map((name, type) => [name, type])
) as { readonly [Name in ApplicationExceptionName]: number }

/**
 * The server's answer to a call that its handler did not end with a result or a declared exception: unknown method, internal
 * error and the like. Also made on our side for a reply in which nothing is set (`MISSING_RESULT`). `message` is the peer's text.
 */
export class ThriftApplicationException extends Stackless {
  readonly _tag = "ThriftApplicationException"
  /** One of `ApplicationExceptionType`, or any other number that the peer chose. */
  readonly type: number
  constructor(fields: Fields & { readonly type: number }) {
    super("ThriftApplicationException", fields)
    this.type = fields.type
  }
  /** A method that the server does not know it has not executed; any other may have begun. */
  get reached(): Reached {
    return this.type === ApplicationExceptionType.UNKNOWN_METHOD ? "no" : "maybe"
  }
  /** The Thrift name of `type`; `"UNKNOWN"` for a number without one. */
  get typeName(): ApplicationExceptionName {
    return applicationExceptionNames[this.type] ?? "UNKNOWN"
  }
}

/**
 * An exception that the IDL declares for the method, thrown by the server. `exception` is the generated class's instance.
 *
 * It is wrapped because generated classes carry no tag, and two of the same shape are one type to the compiler: what
 * distinguishes them is `instanceof` on `exception`.
 */
export class ThriftException<out X> extends Stackless {
  readonly _tag = "ThriftException"
  readonly reached = "maybe"
  readonly exception: X
  constructor(fields: { readonly exception: X }) {
    super("ThriftException", { message: nameOf(fields.exception) })
    this.exception = fields.exception
  }
}

const nameOf = (exception: unknown): string => exception instanceof Error ? exception.name : String(exception)

/** What a call can fail with besides the exceptions that its method declares. */
export type ThriftCallError = ThriftProtocolError | ThriftEncodeError | ThriftApplicationException | RpcError
