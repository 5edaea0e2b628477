/**
 * The message that answers a call which ended with neither a result nor a declared exception: an EXCEPTION message with a
 * struct that is the same for every service.
 */
import { ThriftApplicationException } from "./errors.ts"
import { MessageType, type ProtocolReader, type ProtocolWriter, Type } from "./Protocol.ts"

/** Reads the struct after the header of an EXCEPTION message. Throws `ThriftProtocolError`. */
export const decodeApplicationException = (reader: ProtocolReader): ThriftApplicationException => {
  let message = ""
  let type = 0
  reader.readStructBegin()
  for (let field = reader.readFieldBegin(); field.ftype !== Type.STOP; field = reader.readFieldBegin()) {
    if (field.fid === 1 && field.ftype === Type.STRING) message = reader.readString()
    else if (field.fid === 2 && field.ftype === Type.I32) type = reader.readI32()
    else reader.skip(field.ftype)
    reader.readFieldEnd()
  }
  reader.readStructEnd()
  reader.readMessageEnd()
  return new ThriftApplicationException({ type, message })
}

/** Writes the whole EXCEPTION message. Throws `ThriftEncodeError` when it passes a limit of the writer. */
export const encodeApplicationException = (
  method: string,
  sequenceId: number,
  exception: ThriftApplicationException,
  writer: ProtocolWriter
): void => {
  writer.writeMessageBegin(method, MessageType.EXCEPTION, sequenceId)
  writer.writeStructBegin("TApplicationException")
  writer.writeFieldBegin("message", Type.STRING, 1)
  writer.writeString(exception.message)
  writer.writeFieldEnd()
  writer.writeFieldBegin("type", Type.I32, 2)
  writer.writeI32(exception.type)
  writer.writeFieldEnd()
  writer.writeFieldStop()
  writer.writeStructEnd()
  writer.writeMessageEnd()
}
