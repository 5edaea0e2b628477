/**
 * What the readers of all protocols share: the bytes of one message, where the reader stands in them, the limits, and the values
 * whose form is the same everywhere.
 */
import Int64 from "node-int64"
import { type ProtocolErrorReason, ThriftProtocolError } from "../errors.ts"
import {
  type FieldHeader,
  type Limits,
  limitsOf,
  type ListHeader,
  type MapHeader,
  type MessageHeader,
  type ProtocolReader,
  Type
} from "../Protocol.ts"

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

/** An `Int64` over these 8 bytes, which become its own. */
export const int64Of = (own: Buffer): Int64 => {
  // -2^53 < n < 2^53 when the upper 11 bits are all equal, save for -2^53 itself
  const upper = own[0]! << 3 | own[1]! >> 5
  return upper === 0 || (upper === 0x7ff && !isLeast(own)) ? new Int64(own) : new LargeInt64(own)
}

/** An `Int64` of these halves, of each the low 32 bits. */
export const int64From = (high: number, low: number): Int64 => {
  const own = Buffer.allocUnsafeSlow(8)
  own[0] = high >>> 24
  own[1] = high >>> 16
  own[2] = high >>> 8
  own[3] = high
  own[4] = low >>> 24
  own[5] = low >>> 16
  own[6] = low >>> 8
  own[7] = low
  return int64Of(own)
}

/** Whether these are the bytes of -2^53, the one value whose upper bits say that it is safe, and which is not. */
const isLeast = (bytes: Uint8Array): boolean => {
  if (bytes[1] !== 0xe0) return false
  for (let i = 2; i < 8; i++) if (bytes[i] !== 0) return false
  return true
}

/** The ground of a reader that is used for one message after the other. */
export abstract class MessageReader implements ProtocolReader {
  protected bytes: Buffer = none
  protected offset = 0
  protected end = 0
  protected depth = 0
  private elements = 0
  private readonly maxMessageBytes: number
  private readonly maxStringBytes: number
  private readonly maxElements: number
  private readonly maxDepth: number
  readonly message: MessageHeader = { fname: "", mtype: 0, rseqid: 0 }
  protected readonly field: FieldHeader = { fname: null, ftype: 0, fid: 0 }
  protected readonly list: ListHeader = { etype: 0, size: 0 }
  protected readonly map: MapHeader = { ktype: 0, vtype: 0, size: 0 }

  constructor(options?: Limits) {
    const limits = limitsOf(options)
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

  abstract readMessageBegin(): MessageHeader
  abstract readFieldBegin(): FieldHeader
  abstract readBool(): boolean
  abstract readByte(): number
  abstract readI16(): number
  abstract readI32(): number
  abstract readI64(): Int64
  abstract readDouble(): number
  /** Bytes that are no UTF-8 become U+FFFD, as in Apache's libraries. */
  abstract readString(): string
  /**
   * A copy with memory of its own: a binary that is kept keeps neither the chunk of the socket alive nor Node's pool for small
   * buffers, which is 64 KiB too.
   */
  abstract readBinary(): Buffer

  readMessageEnd(): void {}

  readStructBegin(): unknown {
    this.enter("structs")
    return struct
  }

  readStructEnd(): void {
    this.depth--
  }

  readFieldEnd(): void {}

  readMapBegin(): MapHeader {
    const map = this.mapHeader()
    this.charge(map.size)
    return map
  }

  readMapEnd(): void {}

  readListBegin(): ListHeader {
    const list = this.listHeader()
    this.charge(list.size)
    return list
  }

  readListEnd(): void {}

  readSetBegin(): ListHeader {
    return this.readListBegin()
  }

  readSetEnd(): void {
    this.readListEnd()
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
    switch (type) {
      case Type.STRUCT: {
        this.readStructBegin()
        for (let field = this.readFieldBegin(); field.ftype !== Type.STOP; field = this.readFieldBegin()) {
          this.skip(field.ftype)
          this.readFieldEnd()
        }
        return this.readStructEnd()
      }
      case Type.MAP: {
        const { ktype, size, vtype } = this.mapHeader()
        this.skipElements(size, ktype, vtype)
        return this.readMapEnd()
      }
      case Type.SET:
      case Type.LIST: {
        const { etype, size } = this.listHeader()
        this.skipElements(size, etype, Type.STOP)
        return this.readListEnd()
      }
      default:
        this.skipScalar(type)
    }
  }

  /** Depth is counted where a struct begins, for the structs of both compilers. */
  incrementRecursionDepth(): void {}

  decrementRecursionDepth(): void {}

  /** The header of a list or a set, its size held against the bytes that are left. */
  protected abstract listHeader(): ListHeader

  /** The header of a map, likewise. */
  protected abstract mapHeader(): MapHeader

  /** Moves over a value that is no struct and no container, and refuses a type that does not exist. */
  protected abstract skipScalar(type: number): void

  /** Elements of one type, or with a second that is not `STOP`, pairs. */
  protected skipElements(count: number, first: number, second: number): void {
    this.enter("containers")
    for (let i = 0; i < count; i++) {
      this.skip(first)
      if (second !== Type.STOP) this.skip(second)
    }
    this.depth--
  }

  protected enter(what: string): void {
    if (++this.depth > this.maxDepth) this.refuse("DepthLimit", `${what} deeper than maxDepth, ${this.maxDepth}`)
  }

  /** A count of elements of at least that many bytes each, if so many can still come. */
  protected count(count: number, bytes: number): number {
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

  /** The length of a string or a binary, if the limits allow it. */
  protected length(length: number): number {
    if (length < 0) this.refuse("NegativeSize", `a string of ${length} bytes`)
    if (length > this.maxStringBytes) {
      this.refuse("SizeLimit", `a string of ${length} bytes, maxStringBytes is ${this.maxStringBytes}`)
    }
    return length
  }

  /** The last message's string again when the bytes say the same: nothing is allocated, and its hash is known. */
  protected name(announced: number): string {
    const last = this.message.fname
    const at = this.offset
    if (announced !== last.length || announced > this.end - at) return this.text(announced)
    for (let i = 0; i < announced; i++) {
      if (this.bytes[at + i] !== last.charCodeAt(i)) return this.text(announced)
    }
    this.offset = at + announced
    return last
  }

  protected text(announced: number): string {
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

  protected binary(announced: number): Buffer {
    const length = this.length(announced)
    const at = this.advance(length)
    const own = Buffer.allocUnsafeSlow(length)
    if (length > onHeap) this.bytes.copy(own, 0, at, at + length)
    else for (let i = 0; i < length; i++) own[i] = this.bytes[at + i]!
    return own
  }

  protected u8(): number {
    return this.bytes[this.advance(1)]!
  }

  /** Moves over that many bytes and says where they begin. */
  protected advance(length: number): number {
    const at = this.offset
    if (length > this.end - at) {
      this.refuse("Truncated", `${length} bytes needed, ${this.end - at} left`)
    }
    this.offset = at + length
    return at
  }

  protected refuse(reason: ProtocolErrorReason, message: string): never {
    throw new ThriftProtocolError({ reason, offset: this.offset, message: `${message}, at byte ${this.offset}` })
  }
}
