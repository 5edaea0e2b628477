/**
 * Writes the Thrift binary protocol into a buffer that is cut into messages.
 *
 * Values are checked, never wrapped or rounded: a number that its type cannot hold is a `ThriftEncodeError`. Besides its own
 * JavaScript type each call takes what generated code hands it for a map key: the property name, a string.
 */
import { isUint8Array } from "node:util/types"
import { type EncodeErrorReason, ThriftEncodeError } from "./errors.ts"
import { type Int64Like, type Limits, limitsOf, type ProtocolWriter, Type } from "./Protocol.ts"

/** Options of a `BinaryWriter`; of the limits, `maxElements` is not used. */
export interface BinaryWriterOptions extends Limits {
  /** Write the header with a version, default true; false writes the old one, for peers that know no other. */
  readonly strictWrite?: boolean
}

/** One allocation holds the messages of many calls: some hundred of the usual size. */
const slabBytes = 65_536

/** Up to here a loop over ASCII characters beats the encoder of Node (measured on Node 24). */
const shortString = 12

/** Up to here space is reserved for three bytes a character; above, the bytes are counted first. */
const longString = 1024

/** A writer that is used for one message after the other: write one, then `take` its bytes. */
export class BinaryWriter implements ProtocolWriter {
  private bytes: Buffer = Buffer.allocUnsafeSlow(slabBytes)
  private start = 0
  private offset = 0
  private depth = 0
  private fieldName = ""
  private type = 0
  private readonly strict: boolean
  private readonly maxMessageBytes: number
  private readonly maxStringBytes: number
  private readonly maxDepth: number

  constructor(options?: BinaryWriterOptions) {
    const limits = limitsOf(options)
    this.strict = options?.strictWrite ?? true
    this.maxMessageBytes = limits.maxMessageBytes
    this.maxStringBytes = limits.maxStringBytes
    this.maxDepth = limits.maxDepth
  }

  get messageType(): number {
    return this.type
  }

  reset(): void {
    this.offset = this.start
    this.depth = 0
    this.type = 0
  }

  /**
   * The bytes lie in a slab of 64 KiB that later messages share, each with its own part; they are meant to be written to a
   * socket and forgotten. A message larger than a slab has its own.
   */
  take(): Buffer {
    const message = this.bytes.subarray(this.start, this.offset)
    this.depth = 0
    this.type = 0
    if (this.bytes.length > slabBytes) {
      this.bytes = Buffer.allocUnsafeSlow(slabBytes)
      this.offset = 0
    }
    this.start = this.offset
    return message
  }

  writeMessageBegin(name: string, type: number, sequenceId: number): void {
    this.type = type
    this.fieldName = ""
    if (this.strict) {
      const at = this.advance(4)
      this.bytes[at] = 0x80
      this.bytes[at + 1] = 1
      this.bytes[at + 2] = 0
      this.bytes[at + 3] = type
      this.writeString(name)
    } else {
      this.writeString(name)
      this.u8(type)
    }
    this.i32(sequenceId)
  }

  writeMessageEnd(): void {}

  writeStructBegin(_name: string): void {
    if (++this.depth > this.maxDepth) {
      this.refuse("DepthLimit", `structs deeper than maxDepth, ${this.maxDepth}`)
    }
  }

  writeStructEnd(): void {
    this.depth--
  }

  writeFieldBegin(name: string, type: number, id: number): void {
    this.fieldName = name
    const at = this.advance(3)
    const bytes = this.bytes
    bytes[at] = type
    bytes[at + 1] = id >> 8
    bytes[at + 2] = id
  }

  writeFieldEnd(): void {}

  writeFieldStop(): void {
    this.u8(Type.STOP)
  }

  writeMapBegin(keyType: number, valueType: number, size: number): void {
    this.u8(keyType)
    this.u8(valueType)
    this.i32(size)
  }

  writeMapEnd(): void {}

  writeListBegin(elementType: number, size: number): void {
    this.u8(elementType)
    this.i32(size)
  }

  writeListEnd(): void {}

  writeSetBegin(elementType: number, size: number): void {
    this.u8(elementType)
    this.i32(size)
  }

  writeSetEnd(): void {}

  writeBool(value: boolean | string): void {
    if (value === true || value === "true") this.u8(1)
    else if (value === false || value === "false") this.u8(0)
    else this.invalid(value, "a bool")
  }

  writeByte(value: number | string): void {
    const n = typeof value === "number" ? value : this.parsed(value, "an i8")
    if (n << 24 >> 24 !== n) this.invalid(value, "an i8")
    this.u8(n)
  }

  writeI16(value: number | string): void {
    const n = typeof value === "number" ? value : this.parsed(value, "an i16")
    if (n << 16 >> 16 !== n) this.invalid(value, "an i16")
    const at = this.advance(2)
    this.bytes[at] = n >> 8
    this.bytes[at + 1] = n
  }

  writeI32(value: number | string): void {
    const n = typeof value === "number" ? value : this.parsed(value, "an i32")
    if ((n | 0) !== n) this.invalid(value, "an i32")
    this.i32(n)
  }

  /** A node-int64 `Int64` (at its offset), a bigint of 64 bits, a safe integer, or the decimal digits of any of them. */
  writeI64(value: number | bigint | Int64Like | string): void {
    if (typeof value === "number") {
      if (!Number.isSafeInteger(value)) this.invalid(value, "an i64 (as a number: a safe integer)")
      const at = this.advance(8)
      this.put(at, Math.floor(value / 0x1_0000_0000))
      this.put(at + 4, value)
    } else if (typeof value === "bigint") {
      this.big(value)
    } else if (typeof value === "string") {
      if (!/^-?\d{1,19}$/.test(value)) this.invalid(value, "an i64")
      this.big(BigInt(value))
    } else {
      const source = value?.buffer
      const from = value?.offset ?? 0
      if (!isUint8Array(source) || !(source.length - from >= 8)) return this.invalid(value, "an i64")
      const at = this.advance(8)
      const bytes = this.bytes
      for (let i = 0; i < 8; i++) bytes[at + i] = source[from + i]!
    }
  }

  writeDouble(value: number | string): void {
    let n = value
    if (typeof n !== "number") {
      n = Number(value)
      if (typeof value !== "string" || String(n) !== value) this.invalid(value, "a double")
    }
    this.bytes.writeDoubleBE(n, this.advance(8))
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

  /**
   * Any `Uint8Array`. A string is taken when it is ASCII only: for the rest, Apache's library writes Latin-1 where it reads
   * UTF-8, so there is no encoding that would be right.
   */
  writeBinary(value: string | Uint8Array): void {
    if (typeof value !== "string") return this.binary(value, "a binary")
    for (let i = 0; i < value.length; i++) {
      if (value.charCodeAt(i) > 0x7f) this.invalid(value, "a binary (as a string: ASCII)")
    }
    this.writeString(value)
  }

  /** 32 hexadecimal digits in groups of 8, 4, 4, 4, 12; of any version. */
  writeUuid(value: string): void {
    if (typeof value !== "string" || !/^[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}$/i.test(value)) {
      this.invalid(value, "a uuid")
    }
    this.bytes.write(value.replaceAll("-", ""), this.advance(16), "hex")
  }

  flush(): void {}

  /** Depth is counted where a struct begins, for the structs of both compilers. */
  incrementRecursionDepth(): void {}

  decrementRecursionDepth(): void {}

  private get size(): number {
    return this.offset - this.start
  }

  private u8(value: number): void {
    const at = this.advance(1)
    this.bytes[at] = value
  }

  private i32(value: number): void {
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

  private big(value: bigint): void {
    if (BigInt.asIntN(64, value) !== value) this.invalid(value, "an i64")
    const at = this.advance(8)
    this.bytes.writeBigInt64BE(value, at)
  }

  private binary(value: Uint8Array, what: string): void {
    if (!isUint8Array(value)) this.invalid(value, what)
    const length = value.length
    if (length > this.maxStringBytes) this.tooLong(length)
    const at = this.advance(4 + length)
    this.put(at, length)
    this.bytes.set(value, at + 4)
  }

  private parsed(value: unknown, what: string): number {
    if (typeof value !== "string" || !/^-?\d{1,10}$/.test(value)) this.invalid(value, what)
    return Number(value)
  }

  /** Makes room for that many bytes, and says where. */
  private advance(length: number): number {
    const at = this.offset
    const next = at + length
    if (next > this.bytes.length) return this.grow(length)
    if (next - this.start > this.maxMessageBytes) this.tooLarge(next - this.start)
    this.offset = next
    return at
  }

  /** Moves the message that is being written to a buffer of its own, at least twice its size. */
  private grow(length: number): number {
    const written = this.size
    const needed = written + length
    if (needed > this.maxMessageBytes) this.tooLarge(needed)
    const bytes = Buffer.allocUnsafeSlow(Math.max(slabBytes, Math.min(needed * 2, this.maxMessageBytes)))
    this.bytes.copy(bytes, 0, this.start, this.offset)
    this.bytes = bytes
    this.start = 0
    this.offset = needed
    return written
  }

  private tooLarge(bytes: number): never {
    return this.refuse("SizeLimit", `a message of ${bytes} bytes or more, maxMessageBytes is ${this.maxMessageBytes}`)
  }

  private tooLong(bytes: number): never {
    return this.refuse("SizeLimit", `a string of ${bytes} bytes, maxStringBytes is ${this.maxStringBytes}`)
  }

  private invalid(value: unknown, what: string): never {
    return this.refuse("InvalidValue", `${printed(value)} is not ${what}`)
  }

  private refuse(reason: EncodeErrorReason, message: string): never {
    throw new ThriftEncodeError({
      reason,
      message: this.fieldName === "" ? message : `field ${this.fieldName}: ${message}`
    })
  }
}

const printed = (value: unknown): string => {
  if (typeof value === "string") return JSON.stringify(value.length > 64 ? `${value.slice(0, 64)}...` : value)
  return typeof value === "object" && value !== null ? `an object of class ${value.constructor?.name}` : String(value)
}
