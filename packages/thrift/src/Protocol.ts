/**
 * What every Thrift protocol has in common: the numbers of the types and messages, the limits, and the calls that generated
 * structs make to read and write themselves. The names of those calls are Apache's `TProtocol`.
 */

/** The numbers of the wire types, shared by the binary protocol and by generated code. */
export const Type = {
  STOP: 0,
  VOID: 1,
  BOOL: 2,
  BYTE: 3,
  DOUBLE: 4,
  I16: 6,
  I32: 8,
  I64: 10,
  STRING: 11,
  STRUCT: 12,
  MAP: 13,
  SET: 14,
  LIST: 15,
  UUID: 16
} as const

/** The numbers of the kinds of message. */
export const MessageType = { CALL: 1, REPLY: 2, EXCEPTION: 3, ONEWAY: 4 } as const

/**
 * What one message may cost. A reader that meets more answers `SizeLimit` or `DepthLimit` before it allocates anything, a
 * writer refuses to write it.
 */
export interface Limits {
  /** Bytes of one message, default 104857600 (100 MiB), as in Apache's `TConfiguration`. */
  readonly maxMessageBytes?: number
  /** Bytes of one string or binary, default: those of a message. */
  readonly maxStringBytes?: number
  /**
   * Elements of all containers of one message that are read together, default 4194304; a map entry counts as one. An element
   * can be one byte on the wire and a hundred in memory, so this bounds what a peer can make us allocate.
   */
  readonly maxElements?: number
  /** Structs and, when an unknown field is skipped, containers inside each other; default 64, as in Apache's libraries. */
  readonly maxDepth?: number
}

/** Options of every writer; of the limits, `maxElements` is not used. */
export interface WriterOptions extends Limits {
  /** The service that calls are for, on a connection that several share: written before the method's name. Default: none. */
  readonly multiplexed?: string
}

/** The header of a message; Apache's names. A reader may reuse the object for its next message. */
export interface MessageHeader {
  /** The method. */
  fname: string
  /** One of `MessageType`, not checked. */
  mtype: number
  /** The sequence id. */
  rseqid: number
}

/** The header of a field; `ftype` is `Type.STOP` after the last. A reader may reuse the object for its next field. */
export interface FieldHeader {
  fname: string | null
  ftype: number
  fid: number
}

/** The header of a list or a set. A reader may reuse the object. */
export interface ListHeader {
  etype: number
  size: number
}

/** The header of a map. A reader may reuse the object. */
export interface MapHeader {
  ktype: number
  vtype: number
  size: number
}

/** A 64-bit integer as bytes: the part of node-int64's `Int64` that a writer needs. */
export interface Int64Like {
  readonly buffer: Uint8Array
  readonly offset?: number
}

/** Reads one message after the other. Every call throws `ThriftProtocolError` when the bytes are malformed, and nothing else. */
export interface ProtocolReader {
  /** Starts with another message: all of it, and nothing else, is in `bytes`. */
  reset(bytes: Uint8Array): this
  /** Where the reader stands, in bytes from the start of the message. */
  readonly position: number
  /** The header that was read last; the object is the same for every message. */
  readonly message: MessageHeader
  /** Reads into `message`. */
  readMessageBegin(): MessageHeader
  readMessageEnd(): void
  readStructBegin(): unknown
  readStructEnd(): void
  readFieldBegin(): FieldHeader
  readFieldEnd(): void
  readMapBegin(): MapHeader
  readMapEnd(): void
  readListBegin(): ListHeader
  readListEnd(): void
  readSetBegin(): ListHeader
  readSetEnd(): void
  readBool(): boolean
  readByte(): number
  readI16(): number
  readI32(): number
  /** A node-int64 `Int64`, which is what generated code expects, with 0.24's `bigint` option too. */
  readI64(): Int64Like
  readDouble(): number
  readString(): string
  readBinary(): Uint8Array
  readUuid(): string
  skip(type: number): void
  incrementRecursionDepth(): void
  decrementRecursionDepth(): void
}

/** Writes one message after the other. Every call throws `ThriftEncodeError` when the value is none of the type, and nothing else. */
export interface ProtocolWriter {
  /** Drops the message that is being written, and `messageType` with it. */
  reset(): void
  /** The bytes of the message that was written. They are the caller's: the writer does not touch them again. */
  take(): Uint8Array
  /** The kind of the message that is being written, one of `MessageType`; 0 before it is begun. */
  readonly messageType: number
  writeMessageBegin(name: string, type: number, sequenceId: number): void
  writeMessageEnd(): void
  writeStructBegin(name: string): void
  writeStructEnd(): void
  writeFieldBegin(name: string, type: number, id: number): void
  writeFieldEnd(): void
  writeFieldStop(): void
  writeMapBegin(keyType: number, valueType: number, size: number): void
  writeMapEnd(): void
  writeListBegin(elementType: number, size: number): void
  writeListEnd(): void
  writeSetBegin(elementType: number, size: number): void
  writeSetEnd(): void
  writeBool(value: boolean | string): void
  writeByte(value: number | string): void
  writeI16(value: number | string): void
  writeI32(value: number | string): void
  writeI64(value: number | bigint | Int64Like | string): void
  writeDouble(value: number | string): void
  writeString(value: string | Uint8Array): void
  writeBinary(value: string | Uint8Array): void
  writeUuid(value: string): void
  flush(): void
  incrementRecursionDepth(): void
  decrementRecursionDepth(): void
}

/** A protocol: what its messages are read and written with. Both can be used for any number of messages, one after the other. */
export interface Protocol {
  readonly name: string
  readonly reader: (limits?: Limits) => ProtocolReader
  readonly writer: (options?: WriterOptions) => ProtocolWriter
}

/** Fills in the defaults of `Limits`. */
export const limitsOf = (limits: Limits | undefined): Required<Limits> => {
  const maxMessageBytes = limits?.maxMessageBytes ?? 104_857_600
  return {
    maxMessageBytes,
    maxStringBytes: limits?.maxStringBytes ?? maxMessageBytes,
    maxElements: limits?.maxElements ?? 4_194_304,
    maxDepth: limits?.maxDepth ?? 64
  }
}
