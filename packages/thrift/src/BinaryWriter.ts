/**
 * Writes the Thrift binary protocol into a buffer that is cut into messages.
 *
 * Values are checked, never wrapped or rounded: a number that its type cannot hold is a `ThriftEncodeError`. Besides its own
 * JavaScript type each call takes what generated code hands it for a map key: the property name, a string.
 */
import { MessageWriter } from "./internal/MessageWriter.ts"
import { type Int64Like, type ProtocolWriter, Type, type WriterOptions } from "./Protocol.ts"

/** Options of a `BinaryWriter`; of the limits, `maxElements` is not used. */
export interface BinaryWriterOptions extends WriterOptions {
  /** Write the header with a version, default true; false writes the old one, for peers that know no other. */
  readonly strictWrite?: boolean
}

/** Up to here a loop over ASCII characters beats the encoder of Node (measured on Node 24). */
const shortString = 12

/** Up to here space is reserved for three bytes a character; above, the bytes are counted first. */
const longString = 1024

/** A writer that is used for one message after the other: write one, then `take` its bytes. */
export class BinaryWriter extends MessageWriter implements ProtocolWriter {
  private readonly strict: boolean

  constructor(options?: BinaryWriterOptions) {
    super(options)
    this.strict = options?.strictWrite ?? true
  }

  writeMessageBegin(name: string, type: number, sequenceId: number): void {
    const sent = this.begin(name, type)
    if (this.strict) {
      const at = this.advance(4)
      this.bytes[at] = 0x80
      this.bytes[at + 1] = 1
      this.bytes[at + 2] = 0
      this.bytes[at + 3] = type
      this.writeString(sent)
    } else {
      this.writeString(sent)
      this.u8(type)
    }
    this.word(sequenceId)
  }

  writeFieldBegin(name: string, type: number, id: number): void {
    this.fieldName = name
    const at = this.advance(3)
    const bytes = this.bytes
    bytes[at] = type
    bytes[at + 1] = id >> 8
    bytes[at + 2] = id
  }

  writeFieldStop(): void {
    this.u8(Type.STOP)
  }

  writeMapBegin(keyType: number, valueType: number, size: number): void {
    this.u8(keyType)
    this.u8(valueType)
    this.word(size)
  }

  writeListBegin(elementType: number, size: number): void {
    this.u8(elementType)
    this.word(size)
  }

  writeSetBegin(elementType: number, size: number): void {
    this.writeListBegin(elementType, size)
  }

  writeBool(value: boolean | string): void {
    this.u8(this.bool(value) ? 1 : 0)
  }

  writeByte(value: number | string): void {
    this.u8(this.i8(value))
  }

  writeI16(value: number | string): void {
    const n = this.i16(value)
    const at = this.advance(2)
    this.bytes[at] = n >> 8
    this.bytes[at + 1] = n
  }

  writeI32(value: number | string): void {
    this.word(this.i32(value))
  }

  /** A node-int64 `Int64` (at its offset), a bigint of 64 bits, a safe integer, or the decimal digits of any of them. */
  writeI64(value: number | bigint | Int64Like | string): void {
    this.split(value)
    const at = this.advance(8)
    this.put(at, this.high)
    this.put(at + 4, this.low)
  }

  writeDouble(value: number | string): void {
    const n = this.double(value)
    // Making room may change `bytes`
    const at = this.advance(8)
    this.bytes.writeDoubleBE(n, at)
  }

  /** Written as UTF-8; half a surrogate pair, which has none, as U+FFFD. Bytes are written as they are. */
  writeString(value: string | Uint8Array): void {
    if (typeof value !== "string") return this.binary(value, "a string")
    const length = value.length
    if (length <= shortString) {
      const at = this.advance(4 + length)
      const bytes = this.bytes
      let i = 0
      for (; i < length; i++) {
        const code = value.charCodeAt(i)
        if (code > 0x7f) break
        bytes[at + 4 + i] = code
      }
      if (i === length) {
        if (length > this.maxStringBytes) this.tooLong(length)
        this.put(at, length)
        return
      }
      this.offset = at
    }
    let most = length * 3
    if (length > longString || most > this.maxStringBytes || this.size + 4 + most > this.maxMessageBytes) {
      most = Buffer.byteLength(value)
      if (most > this.maxStringBytes) this.tooLong(most)
    }
    const at = this.advance(4 + most)
    const written = this.bytes.write(value, at + 4, most, "utf8")
    this.put(at, written)
    this.offset = at + 4 + written
  }

  /** Any `Uint8Array`, or a string that is ASCII only. */
  writeBinary(value: string | Uint8Array): void {
    if (typeof value === "string") this.writeString(this.ascii(value))
    else this.binary(value, "a binary")
  }

  /** 32 hexadecimal digits in groups of 8, 4, 4, 4, 12; of any version. */
  writeUuid(value: string): void {
    const digits = this.uuid(value).replaceAll("-", "")
    const at = this.advance(16)
    this.bytes.write(digits, at, "hex")
  }

  private binary(value: Uint8Array, what: string): void {
    const length = this.lengthOf(value, what)
    const at = this.advance(4 + length)
    this.put(at, length)
    this.bytes.set(value, at + 4)
  }

  private word(value: number): void {
    const at = this.advance(4)
    this.put(at, value)
  }

  /** The low 32 bits of an integer. */
  private put(at: number, value: number): void {
    const bytes = this.bytes
    bytes[at] = value >>> 24
    bytes[at + 1] = value >>> 16
    bytes[at + 2] = value >>> 8
    bytes[at + 3] = value
  }
}
