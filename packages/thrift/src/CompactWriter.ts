/** Writes the Thrift compact protocol into a buffer that is cut into messages, with `BinaryWriter`'s checks. */
import { compactOfType, CompactType } from "./internal/compactTypes.ts"
import { MessageWriter } from "./internal/MessageWriter.ts"
import { type Int64Like, type ProtocolWriter, Type } from "./Protocol.ts"

/** Up to here a string's length takes one byte whatever its characters are, and a loop over ASCII beats the encoder of Node. */
const shortString = 24

/** A writer that is used for one message after the other: write one, then `take` its bytes. */
export class CompactWriter extends MessageWriter implements ProtocolWriter {
  /** The field that was written last, from which the next is counted, and those of the structs around this one. */
  private fieldId = 0
  private readonly fieldIds: Array<number> = []
  /** A bool's field header waits for the value, which is part of it. */
  private boolField = false
  private boolId = 0

  override reset(): void {
    super.reset()
    this.fieldId = 0
    this.boolField = false
  }

  writeMessageBegin(name: string, type: number, sequenceId: number): void {
    const sent = this.begin(name, type)
    this.fieldId = 0
    this.boolField = false
    const at = this.advance(2)
    this.bytes[at] = 0x82
    this.bytes[at + 1] = type << 5 | 1
    this.varint(sequenceId)
    this.writeString(sent)
  }

  override writeStructBegin(name: string): void {
    this.fieldIds[this.depth] = this.fieldId
    this.fieldId = 0
    super.writeStructBegin(name)
  }

  override writeStructEnd(): void {
    this.depth--
    this.fieldId = this.fieldIds[this.depth]!
  }

  writeFieldBegin(name: string, type: number, id: number): void {
    this.fieldName = name
    if (type === Type.BOOL) {
      this.boolField = true
      this.boolId = id
    } else this.header(this.compact(type), id)
  }

  writeFieldStop(): void {
    this.u8(Type.STOP)
  }

  writeMapBegin(keyType: number, valueType: number, size: number): void {
    this.varint(size)
    if (size > 0) this.u8(this.compact(keyType) << 4 | this.compact(valueType))
  }

  writeListBegin(elementType: number, size: number): void {
    const compact = this.compact(elementType)
    if (size < 15) this.u8(size << 4 | compact)
    else {
      this.u8(0xf0 | compact)
      this.varint(size)
    }
  }

  writeSetBegin(elementType: number, size: number): void {
    this.writeListBegin(elementType, size)
  }

  writeBool(value: boolean | string): void {
    const compact = this.bool(value) ? CompactType.TRUE : CompactType.FALSE
    if (this.boolField) {
      this.boolField = false
      this.header(compact, this.boolId)
    } else this.u8(compact)
  }

  writeByte(value: number | string): void {
    this.u8(this.i8(value))
  }

  writeI16(value: number | string): void {
    const n = this.i16(value)
    this.varint(n << 1 ^ n >> 31)
  }

  writeI32(value: number | string): void {
    const n = this.i32(value)
    this.varint(n << 1 ^ n >> 31)
  }

  /** A node-int64 `Int64` (at its offset), a bigint of 64 bits, a safe integer, or the decimal digits of any of them. */
  writeI64(value: number | bigint | Int64Like | string): void {
    this.split(value)
    const sign = this.high >> 31
    let high = (this.high << 1 | this.low >>> 31) ^ sign
    let low = this.low << 1 ^ sign
    while (high !== 0) {
      this.u8(low & 0x7f | 0x80)
      low = low >>> 7 | high << 25
      high >>>= 7
    }
    this.varint(low)
  }

  writeDouble(value: number | string): void {
    const n = this.double(value)
    // Making room may change `bytes`
    const at = this.advance(8)
    this.bytes.writeDoubleLE(n, at)
  }

  /** Written as UTF-8; half a surrogate pair, which has none, as U+FFFD. Bytes are written as they are. */
  writeString(value: string | Uint8Array): void {
    if (typeof value !== "string") return this.binary(value, "a string")
    const length = value.length
    if (length <= shortString && length <= this.maxStringBytes) {
      const at = this.advance(1 + length)
      const bytes = this.bytes
      bytes[at] = length
      let i = 0
      for (; i < length; i++) {
        const code = value.charCodeAt(i)
        if (code > 0x7f) break
        bytes[at + 1 + i] = code
      }
      if (i === length) return
      this.offset = at
    }
    const encoded = Buffer.byteLength(value)
    if (encoded > this.maxStringBytes) this.tooLong(encoded)
    this.varint(encoded)
    const at = this.advance(encoded)
    this.bytes.write(value, at, encoded, "utf8")
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
    this.varint(length)
    const at = this.advance(length)
    this.bytes.set(value, at)
  }

  private header(compact: number, id: number): void {
    const delta = id - this.fieldId
    this.fieldId = id
    if (delta > 0 && delta <= 15) this.u8(delta << 4 | compact)
    else {
      this.u8(compact)
      this.varint(id << 1 ^ id >> 31)
    }
  }

  private compact(type: number): number {
    const compact = compactOfType[type]!
    return compact === 0 ? this.invalid(type, "the number of a type") : compact
  }

  /** The low 32 bits of an integer, 7 to a byte. */
  private varint(value: number): void {
    let rest = value
    while ((rest & ~0x7f) !== 0) {
      this.u8(rest & 0x7f | 0x80)
      rest >>>= 7
    }
    this.u8(rest)
  }
}
