/**
 * Reads the Thrift compact protocol from one `Uint8Array` that holds a whole message.
 *
 * Lengths are checked as `BinaryReader` checks them. An integer may take as many bytes as its type can need, and no value
 * that its type cannot hold.
 */
import type Int64 from "node-int64"
import { CompactType, typeOfCompact } from "./internal/compactTypes.ts"
import { int64From, MessageReader } from "./internal/MessageReader.ts"
import {
  type FieldHeader,
  type ListHeader,
  type MapHeader,
  type MessageHeader,
  type ProtocolReader,
  Type
} from "./Protocol.ts"

/** The fewest bytes that an element of each type has on the wire; 0: no such type. */
const leastBytes = new Uint8Array(256)
for (const type of typeOfCompact) leastBytes[type] = 1
leastBytes[Type.STOP] = 0
leastBytes[Type.DOUBLE] = 8
leastBytes[Type.UUID] = 16

/** A reader that is used for one message after the other: `reset` gives it the next. What it hands out is as `BinaryReader`'s. */
export class CompactReader extends MessageReader implements ProtocolReader {
  /** The field that was read last, from which the next is counted, and those of the structs around this one. */
  private fieldId = 0
  private readonly fieldIds: Array<number> = []
  /** The value of the bool whose field header was just read, as its type; 0 if there is none. */
  private bool = 0
  /** The halves of the integer that `varint64` read. */
  private high = 0
  private low = 0

  override reset(bytes: Uint8Array): this {
    this.fieldId = 0
    this.bool = 0
    return super.reset(bytes)
  }

  readMessageBegin(): MessageHeader {
    const start = this.offset
    const protocol = this.u8()
    const second = this.u8()
    if (protocol !== 0x82 || (second & 0x1f) !== 1) {
      this.offset = start
      this.refuse("BadVersion", `protocol 0x${protocol.toString(16)} version ${second & 0x1f}, expected 0x82 version 1`)
    }
    const message = this.message
    message.mtype = second >> 5
    message.rseqid = this.varint()
    message.fname = this.name(this.varint())
    return message
  }

  override readStructBegin(): unknown {
    this.fieldIds[this.depth] = this.fieldId
    this.fieldId = 0
    return super.readStructBegin()
  }

  override readStructEnd(): void {
    this.depth--
    this.fieldId = this.fieldIds[this.depth]!
  }

  readFieldBegin(): FieldHeader {
    const field = this.field
    const header = this.u8()
    const compact = header & 15
    if (compact === 0) {
      field.ftype = Type.STOP
      field.fid = 0
      return field
    }
    const type = typeOfCompact[compact]!
    if (type === 0) this.refuse("UnknownType", `type ${compact} of a field`)
    const id = header > 15 ? this.fieldId + (header >> 4) : this.readI16()
    if (id > 0x7fff) this.refuse("Malformed", `field ${id}`)
    this.fieldId = id
    field.ftype = type
    field.fid = id
    if (type === Type.BOOL) this.bool = compact
    return field
  }

  readBool(): boolean {
    const known = this.bool
    if (known === 0) return this.u8() === CompactType.TRUE
    this.bool = 0
    return known === CompactType.TRUE
  }

  readByte(): number {
    return this.u8() << 24 >> 24
  }

  readI16(): number {
    const value = this.readI32()
    if (value << 16 >> 16 !== value) this.refuse("Malformed", `${value} is no i16`)
    return value
  }

  readI32(): number {
    const zigzag = this.varint()
    return zigzag >>> 1 ^ -(zigzag & 1)
  }

  readI64(): Int64 {
    this.varint64()
    const sign = -(this.low & 1)
    return int64From(this.high >>> 1 ^ sign, (this.low >>> 1 | this.high << 31) ^ sign)
  }

  readDouble(): number {
    return this.bytes.readDoubleLE(this.advance(8))
  }

  readString(): string {
    return this.text(this.varint())
  }

  readBinary(): Buffer {
    return this.binary(this.varint())
  }

  protected listHeader(): ListHeader {
    const list = this.list
    const header = this.u8()
    const short = header >> 4
    const count = short === 15 ? this.varint() : short
    list.etype = typeOfCompact[header & 15]!
    list.size = count === 0 ? 0 : this.count(count, this.least(list.etype, header & 15))
    return list
  }

  /** An empty map has no types. */
  protected mapHeader(): MapHeader {
    const map = this.map
    const count = this.varint()
    const types = count === 0 ? 0 : this.u8()
    map.ktype = typeOfCompact[types >> 4]!
    map.vtype = typeOfCompact[types & 15]!
    map.size = count === 0
      ? 0
      : this.count(count, this.least(map.ktype, types >> 4) + this.least(map.vtype, types & 15))
    return map
  }

  protected skipScalar(type: number): void {
    switch (type) {
      case Type.BOOL:
        this.readBool()
        return
      case Type.BYTE:
        this.advance(1)
        return
      case Type.I16:
      case Type.I32:
      case Type.I64:
        return this.varint64()
      case Type.DOUBLE:
        this.advance(8)
        return
      case Type.UUID:
        this.advance(16)
        return
      case Type.STRING:
        this.advance(this.length(this.varint()))
        return
      default:
        this.refuse("UnknownType", `type ${type} of a field to skip`)
    }
  }

  private least(type: number, compact: number): number {
    const bytes = leastBytes[type]!
    if (bytes === 0) this.refuse("UnknownType", `element type ${compact}`)
    return bytes
  }

  /** 32 bits in up to 5 bytes. */
  private varint(): number {
    const first = this.u8()
    if (first < 0x80) return first
    let value = first & 0x7f
    for (let shift = 7; shift < 28; shift += 7) {
      const byte = this.u8()
      value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
    const last = this.u8()
    if (last > 0x0f) this.refuse("Malformed", "an integer of more than 32 bits")
    return value | last << 28
  }

  /** 64 bits in up to 10 bytes, into `high` and `low`. */
  private varint64(): void {
    let low = 0
    let high = 0
    for (let shift = 0; shift < 63; shift += 7) {
      const byte = this.u8()
      const bits = byte & 0x7f
      if (shift < 28) low |= bits << shift
      else if (shift > 28) high |= bits << shift - 32
      else {
        low |= bits << 28
        high = bits >> 4
      }
      if (byte < 0x80) {
        this.low = low
        this.high = high
        return
      }
    }
    const last = this.u8()
    if (last > 1) this.refuse("Malformed", "an integer of more than 64 bits")
    this.low = low
    this.high = high | last << 31
  }
}
