/**
 * Reads the Thrift binary protocol from one `Uint8Array` that holds a whole message.
 *
 * Every length is checked against the bytes that remain before anything is allocated for it: n elements need at least n times
 * the smallest element of their type, so what a message can make us allocate is bounded by its own size and by `Limits`.
 */
import Int64 from "node-int64"
import { type ProtocolErrorReason, ThriftProtocolError } from "./errors.ts"
import {
  type FieldHeader,
  type Limits,
  limitsOf,
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
 * Up to here a loop over ASCII bytes beats the decoder of Node, which costs some 80 ns before its first byte (measured on
 * Node 24).
 */
const shortString = 8

/** Up to here V8 keeps a typed array's bytes on its heap, until something native, such as `copy`, asks for them. */
const onHeap = 64

const none = Buffer.alloc(0)
const struct = {}
const digits = "0123456789abcdef"

/**
 * An integer of 2^53 or more. node-int64 prints those as Infinity, and generated code uses i64 map keys as property names, so
 * all large keys of a map would become one; this one prints its digits.
 */
class LargeInt64 extends Int64 {
  override toString(radix?: number): string {
    return this.buffer.readBigInt64BE(this.offset).toString(radix)
  }
}

/**
 * A reader that is used for one message after the other: `reset` gives it the next. Headers are reused objects, results are
 * not: strings, `Int64`s and binaries own their bytes and never keep the message alive.
 */
export class BinaryReader implements ProtocolReader {
  private bytes: Buffer = none
  private offset = 0
  private end = 0
  private depth = 0
  private elements = 0
  private readonly strict: boolean
  private readonly maxMessageBytes: number
  private readonly maxStringBytes: number
  private readonly maxElements: number
  private readonly maxDepth: number
  readonly message: MessageHeader = { fname: "", mtype: 0, rseqid: 0 }
  private readonly field: FieldHeader = { fname: null, ftype: 0, fid: 0 }
  private readonly list: ListHeader = { etype: 0, size: 0 }
  private readonly map: MapHeader = { ktype: 0, vtype: 0, size: 0 }

  constructor(options?: BinaryReaderOptions) {
    const limits = limitsOf(options)
    this.strict = options?.strictRead ?? false
    this.maxMessageBytes = limits.maxMessageBytes
    this.maxStringBytes = limits.maxStringBytes
    this.maxElements = limits.maxElements
    this.maxDepth = limits.maxDepth
  }

  reset(bytes: Uint8Array): this {
    this.bytes = bytes instanceof Buffer ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.offset = 0
    this.end = bytes.length
    this.depth = 0
    this.elements = 0
    if (this.end > this.maxMessageBytes) {
      this.end = 0
      this.refuse("SizeLimit", `a message of ${bytes.length} bytes, maxMessageBytes is ${this.maxMessageBytes}`)
    }
    return this
  }

  get position(): number {
    return this.offset
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

  readMessageEnd(): void {}

  readStructBegin(): unknown {
    if (++this.depth > this.maxDepth) {
      this.refuse("DepthLimit", `structs deeper than maxDepth, ${this.maxDepth}`)
    }
    return struct
  }

  readStructEnd(): void {
    this.depth--
  }

  readFieldBegin(): FieldHeader {
    const field = this.field
    const type = this.u8()
    field.ftype = type
    field.fid = type === Type.STOP ? 0 : this.readI16()
    return field
  }

  readFieldEnd(): void {}

  readMapBegin(): MapHeader {
    const map = this.map
    map.ktype = this.u8()
    map.vtype = this.u8()
    map.size = this.mapSize(map.ktype, map.vtype)
    this.charge(map.size)
    return map
  }

  readMapEnd(): void {}

  readListBegin(): ListHeader {
    const list = this.list
    list.etype = this.u8()
    list.size = this.listSize(list.etype)
    this.charge(list.size)
    return list
  }

  readListEnd(): void {}

  readSetBegin(): ListHeader {
    return this.readListBegin()
  }

  readSetEnd(): void {}

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
    // -2^53 < n < 2^53 when the upper 11 bits are all equal, save for -2^53 itself
    const upper = own[0]! << 3 | own[1]! >> 5
    return upper === 0 || (upper === 0x7ff && !isLeast(own)) ? new Int64(own) : new LargeInt64(own)
  }

  readDouble(): number {
    return this.bytes.readDoubleBE(this.advance(8))
  }

  /** Bytes that are no UTF-8 become U+FFFD, as in Apache's libraries. */
  readString(): string {
    return this.text(this.readI32())
  }

  /**
   * A copy with memory of its own: a binary that is kept keeps neither the chunk of the socket alive nor Node's pool for small
   * buffers, which is 64 KiB too.
   */
  readBinary(): Buffer {
    const length = this.length(this.readI32())
    const at = this.advance(length)
    const own = Buffer.allocUnsafeSlow(length)
    if (length > onHeap) this.bytes.copy(own, 0, at, at + length)
    else for (let i = 0; i < length; i++) own[i] = this.bytes[at + i]!
    return own
  }

  /** 36 characters, lower case. */
  readUuid(): string {
    const at = this.advance(16)
    let text = ""
    for (let i = 0; i < 16; i++) {
      const byte = this.bytes[at + i]!
      if (i === 4 || i === 6 || i === 8 || i === 10) text += "-"
      text += digits[byte >> 4]! + digits[byte & 15]!
    }
    return text
  }

  skip(type: number): void {
    if (fixed[type] === 1) {
      this.advance(leastBytes[type]!)
      return
    }
    switch (type) {
      case Type.STRING:
        this.advance(this.length(this.readI32()))
        return
      case Type.STRUCT:
        return this.skipStruct()
      case Type.MAP: {
        const key = this.u8()
        const value = this.u8()
        return this.skipElements(this.mapSize(key, value), key, value)
      }
      case Type.SET:
      case Type.LIST: {
        const element = this.u8()
        return this.skipElements(this.listSize(element), element, Type.STOP)
      }
      default:
        this.refuse("UnknownType", `type ${type} of a field to skip`)
    }
  }

  /** Depth is counted where a struct begins, for the structs of both compilers. */
  incrementRecursionDepth(): void {}

  decrementRecursionDepth(): void {}

  private skipStruct(): void {
    this.readStructBegin()
    for (let type = this.u8(); type !== Type.STOP; type = this.u8()) {
      this.advance(2)
      this.skip(type)
    }
    this.depth--
  }

  private skipElements(count: number, first: number, second: number): void {
    if (fixed[first] === 1 && (second === Type.STOP || fixed[second] === 1)) {
      this.advance(count * (leastBytes[first]! + leastBytes[second]!))
      return
    }
    if (++this.depth > this.maxDepth) {
      this.refuse("DepthLimit", `containers deeper than maxDepth, ${this.maxDepth}`)
    }
    for (let i = 0; i < count; i++) {
      this.skip(first)
      if (second !== Type.STOP) this.skip(second)
    }
    this.depth--
  }

  private listSize(element: number): number {
    const count = this.readI32()
    return count === 0 ? 0 : this.count(count, this.least(element))
  }

  /** The types of an empty map may be anything: some writers leave them out. */
  private mapSize(key: number, value: number): number {
    const count = this.readI32()
    return count === 0 ? 0 : this.count(count, this.least(key) + this.least(value))
  }

  private least(type: number): number {
    const bytes = leastBytes[type]!
    if (bytes === 0) this.refuse("UnknownType", `element type ${type}`)
    return bytes
  }

  private count(count: number, bytes: number): number {
    if (count < 0) this.refuse("NegativeSize", `a container of ${count} elements`)
    if (count * bytes > this.end - this.offset) {
      this.refuse("Truncated", `a container of ${count} elements in ${this.end - this.offset} bytes`)
    }
    return count
  }

  private charge(elements: number): void {
    this.elements += elements
    if (this.elements > this.maxElements) {
      this.refuse("SizeLimit", `${this.elements} elements in containers, maxElements is ${this.maxElements}`)
    }
  }

  private length(length: number): number {
    if (length < 0) this.refuse("NegativeSize", `a string of ${length} bytes`)
    if (length > this.maxStringBytes) {
      this.refuse("SizeLimit", `a string of ${length} bytes, maxStringBytes is ${this.maxStringBytes}`)
    }
    return length
  }

  /** The last message's string again when the bytes say the same: nothing is allocated, and its hash is known. */
  private name(announced: number): string {
    const last = this.message.fname
    const at = this.offset
    if (announced !== last.length || announced > this.end - at) return this.text(announced)
    for (let i = 0; i < announced; i++) {
      if (this.bytes[at + i] !== last.charCodeAt(i)) return this.text(announced)
    }
    this.offset = at + announced
    return last
  }

  private text(announced: number): string {
    const length = this.length(announced)
    const at = this.advance(length)
    const bytes = this.bytes
    if (length <= shortString) {
      let text = ""
      for (let i = at; i < at + length; i++) {
        const byte = bytes[i]!
        if (byte > 0x7f) return bytes.toString("utf8", at, at + length)
        text += String.fromCharCode(byte)
      }
      return text
    }
    return bytes.toString("utf8", at, at + length)
  }

  private u8(): number {
    return this.bytes[this.advance(1)]!
  }

  /** Moves over that many bytes and says where they begin. */
  private advance(length: number): number {
    const at = this.offset
    if (length > this.end - at) {
      this.refuse("Truncated", `${length} bytes needed, ${this.end - at} left`)
    }
    this.offset = at + length
    return at
  }

  private refuse(reason: ProtocolErrorReason, message: string): never {
    throw new ThriftProtocolError({ reason, offset: this.offset, message: `${message}, at byte ${this.offset}` })
  }
}

/** Whether these are the bytes of -2^53, the one value whose upper bits say that it is safe, and which is not. */
const isLeast = (bytes: Uint8Array): boolean => {
  if (bytes[1] !== 0xe0) return false
  for (let i = 2; i < 8; i++) if (bytes[i] !== 0) return false
  return true
}
