/**
 * What the writers of all protocols share: a buffer that is cut into messages, the limits, and the checks of values.
 *
 * Values are checked, never wrapped or rounded: a number that its type cannot hold is a `ThriftEncodeError`. Besides its own
 * JavaScript type each value may be what generated code hands over for a map key: the property name, a string.
 */
import { isUint8Array } from "node:util/types"
import { type EncodeErrorReason, ThriftEncodeError } from "../errors.ts"
import { prefixed } from "../Multiplexed.ts"
import { type Int64Like, limitsOf, MessageType, type WriterOptions } from "../Protocol.ts"

/** One allocation holds the messages of many calls: some hundred of the usual size. */
const slabBytes = 65_536

/** Both halves of a 64-bit integer; written and read within one call. */
const wide = new DataView(new ArrayBuffer(8))

/** The ground of a writer that is used for one message after the other: write one, then `take` its bytes. */
export abstract class MessageWriter {
  protected bytes: Buffer = Buffer.allocUnsafeSlow(slabBytes)
  private start = 0
  protected offset = 0
  protected depth = 0
  private type = 0
  protected fieldName = ""
  /** The halves of the integer that `split` took apart. */
  protected high = 0
  protected low = 0
  private readonly service: string | undefined
  protected readonly maxMessageBytes: number
  protected readonly maxStringBytes: number
  private readonly maxDepth: number

  constructor(options?: WriterOptions) {
    const limits = limitsOf(options)
    this.service = options?.multiplexed
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

  writeMessageEnd(): void {}

  writeStructBegin(_name: string): void {
    if (++this.depth > this.maxDepth) {
      this.refuse("DepthLimit", `structs deeper than maxDepth, ${this.maxDepth}`)
    }
  }

  writeStructEnd(): void {
    this.depth--
  }

  writeFieldEnd(): void {}

  writeMapEnd(): void {}

  writeListEnd(): void {}

  writeSetEnd(): void {
    this.writeListEnd()
  }

  flush(): void {}

  /** Depth is counted where a struct begins, for the structs of both compilers. */
  incrementRecursionDepth(): void {}

  decrementRecursionDepth(): void {}

  /** Notes the kind of the message, and gives its name on the wire: that of a call is prefixed on a multiplexed connection. */
  protected begin(name: string, type: number): string {
    this.type = type
    this.fieldName = ""
    const service = this.service
    return service === undefined || !(type === MessageType.CALL || type === MessageType.ONEWAY)
      ? name
      : prefixed(service, name)
  }

  protected bool(value: boolean | string): boolean {
    if (value === true || value === "true") return true
    if (value === false || value === "false") return false
    return this.invalid(value, "a bool")
  }

  protected i8(value: number | string): number {
    const n = typeof value === "number" ? value : this.parsed(value, "an i8")
    return n << 24 >> 24 === n ? n : this.invalid(value, "an i8")
  }

  protected i16(value: number | string): number {
    const n = typeof value === "number" ? value : this.parsed(value, "an i16")
    return n << 16 >> 16 === n ? n : this.invalid(value, "an i16")
  }

  protected i32(value: number | string): number {
    const n = typeof value === "number" ? value : this.parsed(value, "an i32")
    return (n | 0) === n ? n : this.invalid(value, "an i32")
  }

  private parsed(value: unknown, what: string): number {
    if (typeof value !== "string" || !/^-?\d{1,10}$/.test(value)) this.invalid(value, what)
    return Number(value)
  }

  /** Takes an i64 apart into `high` and `low`, 32 bits each. */
  protected split(value: number | bigint | Int64Like | string): void {
    if (typeof value === "number") {
      if (!Number.isSafeInteger(value)) this.invalid(value, "an i64 (as a number: a safe integer)")
      this.high = Math.floor(value / 0x1_0000_0000) | 0
      this.low = value | 0
    } else if (typeof value === "bigint") {
      this.big(value)
    } else if (typeof value === "string") {
      if (!/^-?\d{1,19}$/.test(value)) this.invalid(value, "an i64")
      this.big(BigInt(value))
    } else {
      const bytes = value?.buffer
      const at = value?.offset ?? 0
      if (!isUint8Array(bytes) || !(bytes.length - at >= 8)) this.invalid(value, "an i64")
      this.high = bytes[at]! << 24 | bytes[at + 1]! << 16 | bytes[at + 2]! << 8 | bytes[at + 3]!
      this.low = bytes[at + 4]! << 24 | bytes[at + 5]! << 16 | bytes[at + 6]! << 8 | bytes[at + 7]!
    }
  }

  private big(value: bigint): void {
    wide.setBigInt64(0, value)
    if (wide.getBigInt64(0) !== value) this.invalid(value, "an i64")
    this.high = wide.getInt32(0)
    this.low = wide.getInt32(4)
  }

  protected double(value: number | string): number {
    if (typeof value === "number") return value
    const n = Number(value)
    return typeof value === "string" && String(n) === value ? n : this.invalid(value, "a double")
  }

  /** 32 hexadecimal digits in groups of 8, 4, 4, 4, 12; of any version. */
  protected uuid(value: string): string {
    return typeof value === "string" && /^[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}$/i.test(value)
      ? value
      : this.invalid(value, "a uuid")
  }

  /**
   * A binary that is given as a string is taken when it is ASCII only: for the rest, Apache's library writes Latin-1 where it
   * reads UTF-8, so there is no encoding that would be right.
   */
  protected ascii(value: string): string {
    for (let i = 0; i < value.length; i++) {
      if (value.charCodeAt(i) > 0x7f) this.invalid(value, "a binary (as a string: ASCII)")
    }
    return value
  }

  /** The length of bytes that are written as `what`, if the limits allow it. */
  protected lengthOf(value: Uint8Array, what: string): number {
    if (!isUint8Array(value)) this.invalid(value, what)
    if (value.length > this.maxStringBytes) this.tooLong(value.length)
    return value.length
  }

  protected u8(value: number): void {
    const at = this.advance(1)
    this.bytes[at] = value
  }

  /** The bytes of the message up to here. */
  protected get size(): number {
    return this.offset - this.start
  }

  /** Makes room for that many bytes, and says where. */
  protected advance(length: number): number {
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

  protected tooLong(bytes: number): never {
    return this.refuse("SizeLimit", `a string of ${bytes} bytes, maxStringBytes is ${this.maxStringBytes}`)
  }

  protected invalid(value: unknown, what: string): never {
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
