/**
 * The reply that is an application exception, whatever its client calls the method: the name is the client's, may be as long as a
 * message, and may hold anything.
 */
import { encodeApplicationException } from "../ApplicationException.ts"
import {
  type ApplicationExceptionName,
  ApplicationExceptionType,
  ThriftApplicationException,
  ThriftEncodeError
} from "../errors.ts"
import type { ProtocolWriter } from "../Protocol.ts"

/** Characters of a name that a message or the log shows. */
const maxShown = 100

/** A name as messages and logs show it: its first 100 characters, those that would break a line or a terminal replaced. */
export const shownName = (name: string): string =>
  name.slice(0, maxShown).replace(/[\p{Cc}\p{Cs}\u2028\u2029]/gu, "\ufffd")

/**
 * The bytes of the reply. It is to the name as the client has it, and to the shown one if only that is within the writer's limits: the
 * client knows the reply by its sequence id too. Throws `ThriftEncodeError` when neither is.
 */
export const applicationReply = (
  writer: ProtocolWriter,
  name: string,
  sequenceId: number,
  type: ApplicationExceptionName,
  message: string
): Uint8Array => {
  const exception = new ThriftApplicationException({ type: ApplicationExceptionType[type], message })
  const encode = (name: string): Uint8Array => {
    writer.reset()
    encodeApplicationException(name, sequenceId, exception, writer)
    return writer.take()
  }
  try {
    return encode(name)
  } catch (error) {
    if (!(error instanceof ThriftEncodeError)) throw error
    return encode(shownName(name))
  }
}
