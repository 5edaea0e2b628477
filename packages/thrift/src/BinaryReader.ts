/**
 * Reads the Thrift binary protocol from one `Uint8Array` that holds a whole message.
 *
 * Every length is checked against the bytes that remain before anything is allocated for it: n elements need at least n times
 * the smallest element of their type, so what a message can make us allocate is bounded by its own size and by `Limits`.
 */
import type Int64 from "node-int64"
import { int64Of, MessageReader } from "./internal/MessageReader.ts"
import {
  type FieldHeader,
  type Limits,
  type ListHeader,
  type MapHeader,
  type MessageHeader,
  type ProtocolReader,
  Type
} from "./Protocol.ts"

/** Options of a `BinaryReader`. */
export interface BinaryReaderOptions extends Limits {
  /** Refuse the old header, which begins with the method's name and carries no version; default false, as Apache's servers. */
  readonly strictRead?: boolean
}

/** The fewest bytes that a value of each type has on the wire; 0: no such type. An empty struct is its stop byte. */
const leastBytes = new Uint8Array(256)
leastBytes[Type.BOOL] = 1
leastBytes[Type.BYTE] = 1
leastBytes[Type.DOUBLE] = 8
leastBytes[Type.I16] = 2
leastBytes[Type.I32] = 4
leastBytes[Type.I64] = 8
leastBytes[Type.STRING] = 4
leastBytes[Type.STRUCT] = 1
leastBytes[Type.MAP] = 6
leastBytes[Type.SET] = 5
leastBytes[Type.LIST] = 5
leastBytes[Type.UUID] = 16

/** Types whose every value has `leastBytes` bytes: they are skipped without a look. */
const fixed = new Uint8Array(256)
for (const type of [Type.BOOL, Type.BYTE, Type.DOUBLE, Type.I16, Type.I32, Type.I64, Type.UUID]) fixed[type] = 1

/**
 * A reader that is used for one message after the other: `reset` gives it the next. Headers are reused objects, results are
 * not: strings, `Int64`s and binaries own their bytes and never keep the message alive.
 */
export class BinaryReader extends MessageReader implements ProtocolReader {
  private readonly strict: boolean

  constructor(options?: BinaryReaderOptions) {
    super(options)
    this.strict = options?.strictRead ?? false
  }

  readMessageBegin(): MessageHeader {
    const start = this.offset
    const first = this.readI32()
    const message = this.message
    if (first < 0) {
      if ((first & 0xffff0000) !== (0x80010000 | 0)) {
        this.offset = start
        this.refuse("BadVersion", `version 0x${(first >>> 16).toString(16)}, expected 0x8001`)
      }
      message.mtype = first & 0xff
      message.fname = this.name(this.readI32())
    } else {
      if (this.strict) {
        this.offset = start
        this.refuse("BadVersion", "a header without version, strictRead is set")
      }
      message.fname = this.name(first)
      message.mtype = this.readByte()
    }
    message.rseqid = this.readI32()
    return message
  }

  readFieldBegin(): FieldHeader {
    const field = this.field
    const type = this.u8()
    field.ftype = type
    field.fid = type === Type.STOP ? 0 : this.readI16()
    return field
  }

  readBool(): boolean {
    return this.u8() !== 0
  }

  readByte(): number {
    return this.u8() << 24 >> 24
  }

  readI16(): number {
    const at = this.advance(2)
    const bytes = this.bytes
    return (bytes[at]! << 24 | bytes[at + 1]! << 16) >> 16
  }

  readI32(): number {
    const at = this.advance(4)
    const bytes = this.bytes
    return bytes[at]! << 24 | bytes[at + 1]! << 16 | bytes[at + 2]! << 8 | bytes[at + 3]!
  }

  readI64(): Int64 {
    const at = this.advance(8)
    const bytes = this.bytes
    const own = Buffer.allocUnsafeSlow(8)
    for (let i = 0; i < 8; i++) own[i] = bytes[at + i]!
    return int64Of(own)
  }

  readDouble(): number {
    return this.bytes.readDoubleBE(this.advance(8))
  }

  readString(): string {
    return this.text(this.readI32())
  }

  readBinary(): Buffer {
    return this.binary(this.readI32())
  }

  protected listHeader(): ListHeader {
    const list = this.list
    list.etype = this.u8()
    const count = this.readI32()
    list.size = count === 0 ? 0 : this.count(count, this.least(list.etype))
    return list
  }

  /** The types of an empty map may be anything: some writers leave them out. */
  protected mapHeader(): MapHeader {
    const map = this.map
    map.ktype = this.u8()
    map.vtype = this.u8()
    const count = this.readI32()
    map.size = count === 0 ? 0 : this.count(count, this.least(map.ktype) + this.least(map.vtype))
    return map
  }

  protected skipScalar(type: number): void {
    if (fixed[type] === 1) this.advance(leastBytes[type]!)
    else if (type === Type.STRING) this.advance(this.length(this.readI32()))
    else this.refuse("UnknownType", `type ${type} of a field to skip`)
  }

  protected override skipElements(count: number, first: number, second: number): void {
    if (fixed[first] === 1 && (second === Type.STOP || fixed[second] === 1)) {
      this.advance(count * (leastBytes[first]! + leastBytes[second]!))
    } else super.skipElements(count, first, second)
  }

  private least(type: number): number {
    const bytes = leastBytes[type]!
    if (bytes === 0) this.refuse("UnknownType", `element type ${type}`)
    return bytes
  }
}
