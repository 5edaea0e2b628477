/**
 * Finds the end of a message whose length nobody has sent, in bytes that are still coming. What was looked at is not looked at
 * again: a scanner stops where the bytes end and goes on from there, so a message that comes in many pieces costs as much as one
 * that comes whole.
 */
import { type ProtocolErrorReason, ThriftProtocolError } from "../errors.ts"
import { Type } from "../Protocol.ts"
import { CompactType, typeOfCompact } from "./compactTypes.ts"
import { Char } from "./jsonTypes.ts"

/** Looks through one message after the other. */
export interface MessageScanner {
  /** Begins with another message. */
  reset(): void
  /**
   * How many bytes the message has that begins at `from`, or -1 when its end is not before `to`: then it is called again with the
   * same message and more of it. Throws `ThriftProtocolError` for bytes that begin no message, and for one that is announced to have
   * more than the limit.
   */
  scan(bytes: Uint8Array, from: number, to: number): number
}

/**
 * So many open containers for each struct that the reader's limit allows in each other: what is deeper is no type that an IDL
 * declares. It bounds what a message of opening brackets can cost.
 */
const containersPerStruct = 16

/** The ground of the protocols that write types and counts: a stack of what is open, in place of recursion. */
abstract class StructScanner implements MessageScanner {
  protected readonly maxBytes: number
  private readonly maxOpen: number
  /** Bytes of the message that are behind the scanner. */
  private at = 0
  private begun = false
  /** The type of the value that comes next; `STOP`: not known yet. */
  protected type: number = Type.STOP
  /** How many values each open container still has, two for a pair of a map; -1 for a struct. */
  private readonly left: Array<number> = []
  /** The types of those values: with an even number left, and with an odd one. */
  private readonly even: Array<number> = []
  private readonly odd: Array<number> = []
  private open = 0

  constructor(maxBytes: number, maxDepth: number) {
    this.maxBytes = maxBytes
    this.maxOpen = maxDepth * containersPerStruct
  }

  reset(): void {
    this.at = 0
    this.begun = false
    this.type = Type.STOP
    this.open = 0
  }

  scan(bytes: Uint8Array, from: number, to: number): number {
    const available = to - from
    if (!this.begun) {
      const header = this.header(bytes, from, to)
      if (header < 0) return -1
      this.begun = true
      this.at = header
      this.type = Type.STRUCT
    }
    for (;;) {
      if (this.at > this.maxBytes) {
        this.refuse("SizeLimit", `a message of ${this.at} bytes or more, maxMessageBytes is ${this.maxBytes}`)
      }
      if (this.at > available) return -1
      if (this.type === Type.STOP) {
        if (this.open === 0) return this.at
        const top = this.open - 1
        const left = this.left[top]!
        if (left === 0) {
          this.open--
          continue
        }
        if (left > 0) {
          this.left[top] = left - 1
          this.type = left % 2 === 0 ? this.even[top]! : this.odd[top]!
        } else {
          const header = this.field(bytes, from + this.at, to)
          if (header < 0) return -1
          this.at += header
          if (this.type === Type.STOP) this.open--
          continue
        }
      }
      const taken = this.value(bytes, from + this.at, to)
      if (taken < 0) return -1
      this.at += taken
      this.type = Type.STOP
    }
  }

  /** The bytes of a message's header, or -1 while they are not all there. A length in it may point past `to`. */
  protected abstract header(bytes: Uint8Array, at: number, to: number): number

  /** Reads a field's header into `type`, `STOP` after the last, and says how many bytes it has; -1 while they are not all there. */
  protected abstract field(bytes: Uint8Array, at: number, to: number): number

  /**
   * Begins with a value of `type`: the bytes of one that is no container, of a container those before its elements; -1 while it
   * cannot be said.
   */
  protected abstract value(bytes: Uint8Array, at: number, to: number): number

  /** Opens a struct: its fields come next. */
  protected struct(): number {
    this.push(-1, Type.STOP, Type.STOP)
    return 0
  }

  /** Opens a container of that many elements, or pairs: `perElement` is what each has in bytes at least. */
  protected elements(count: number, first: number, second: number, perElement: number): void {
    if (count < 0) this.refuse("NegativeSize", `a container of ${count} elements`)
    if (count === 0) return
    if (perElement === 0) this.refuse("UnknownType", `elements of type ${first} and ${second}`)
    if (count * perElement > this.maxBytes - this.at) {
      this.refuse("SizeLimit", `a container of ${count} elements, maxMessageBytes is ${this.maxBytes}`)
    }
    if (second === Type.STOP) this.push(count, first, first)
    else this.push(count * 2, first, second)
  }

  /** The length of a string or a binary. */
  protected length(length: number): number {
    if (length < 0) this.refuse("NegativeSize", `a string of ${length} bytes`)
    return length
  }

  private push(left: number, even: number, odd: number): void {
    const top = this.open++
    if (top >= this.maxOpen) this.refuse("DepthLimit", `${top + 1} structs and containers inside each other`)
    this.left[top] = left
    this.even[top] = even
    this.odd[top] = odd
  }

  protected refuse(reason: ProtocolErrorReason, message: string): never {
    throw new ThriftProtocolError({ reason, offset: this.at, message: `${message}, at byte ${this.at}` })
  }
}

const i32 = (bytes: Uint8Array, at: number): number =>
  bytes[at]! << 24 | bytes[at + 1]! << 16 | bytes[at + 2]! << 8 | bytes[at + 3]!

/** What each type has in bytes at least; 0: no such type. */
const leastBinary = new Uint8Array(256)
const leastCompact = new Uint8Array(256)
/** What each value of a type has in bytes; 0: that depends on the value. */
const fixedBinary = new Uint8Array(256)
const fixedCompact = new Uint8Array(256)
for (
  const [type, binary, compact] of [
    [Type.BOOL, 1, 1],
    [Type.BYTE, 1, 1],
    [Type.DOUBLE, 8, 8],
    [Type.I16, 2, 0],
    [Type.I32, 4, 0],
    [Type.I64, 8, 0],
    [Type.UUID, 16, 16]
  ] as const
) {
  fixedBinary[type] = leastBinary[type] = binary
  fixedCompact[type] = compact
  leastCompact[type] = compact === 0 ? 1 : compact
}
for (
  const [type, binary] of [
    [Type.STRING, 4],
    [Type.STRUCT, 1],
    [Type.MAP, 6],
    [Type.SET, 5],
    [Type.LIST, 5]
  ] as const
) {
  leastBinary[type] = binary
  leastCompact[type] = 1
}

class BinaryScanner extends StructScanner {
  protected header(bytes: Uint8Array, at: number, to: number): number {
    if (to - at < 4) return -1
    const first = i32(bytes, at)
    // Version and kind, name, sequence id; the old header has name, kind, sequence id
    if (first >= 0) return 4 + first + 5
    if ((first & 0xffff0000) !== (0x80010000 | 0)) {
      this.refuse("BadVersion", `version 0x${(first >>> 16).toString(16)}, expected 0x8001`)
    }
    return to - at < 8 ? -1 : 8 + this.length(i32(bytes, at + 4)) + 4
  }

  protected field(bytes: Uint8Array, at: number, to: number): number {
    if (at === to) return -1
    const type = bytes[at]!
    this.type = type
    return type === Type.STOP ? 1 : 3
  }

  protected value(bytes: Uint8Array, at: number, to: number): number {
    const { type } = this
    const fixed = fixedBinary[type]!
    if (fixed > 0) return fixed
    switch (type) {
      case Type.STRING:
        return to - at < 4 ? -1 : 4 + this.length(i32(bytes, at))
      case Type.STRUCT:
        return this.struct()
      case Type.LIST:
      case Type.SET:
        return to - at < 5 ? -1 : 5 + this.list(i32(bytes, at + 1), bytes[at]!)
      case Type.MAP:
        return to - at < 6 ? -1 : 6 + this.map(i32(bytes, at + 2), bytes[at]!, bytes[at + 1]!)
      default:
        this.refuse("UnknownType", `type ${type} of a field`)
    }
  }

  /** The bytes of elements that have a fixed number each; others are opened. */
  private list(count: number, element: number): number {
    const fixed = fixedBinary[element]!
    if (count > 0 && fixed > 0) return count * fixed
    this.elements(count, element, Type.STOP, leastBinary[element]!)
    return 0
  }

  private map(count: number, key: number, value: number): number {
    const fixed = fixedBinary[key]! > 0 && fixedBinary[value]! > 0
    const least = leastBinary[key]! > 0 && leastBinary[value]! > 0 ? leastBinary[key]! + leastBinary[value]! : 0
    if (count > 0 && fixed) return count * least
    this.elements(count, key, value, least)
    return 0
  }
}

/** The most bytes of an integer of 32 bits, and of one of 64. */
const varint32 = 5
const varint64 = 10

class CompactScanner extends StructScanner {
  /** The integer that `varint` has read, of at most 32 bits. */
  private read = 0

  protected header(bytes: Uint8Array, at: number, to: number): number {
    if (to - at < 2) return -1
    if (bytes[at] !== 0x82 || (bytes[at + 1]! & 0x1f) !== 1) {
      this.refuse("BadVersion", `protocol 0x${bytes[at]!.toString(16)} version ${bytes[at + 1]! & 0x1f}`)
    }
    const sequenceId = this.varint(bytes, at + 2, to, varint32)
    if (sequenceId < 0) return -1
    const name = this.varint(bytes, at + 2 + sequenceId, to, varint32)
    return name < 0 ? -1 : 2 + sequenceId + name + this.read
  }

  protected field(bytes: Uint8Array, at: number, to: number): number {
    if (at === to) return -1
    const header = bytes[at]!
    const compact = header & 15
    if (compact === 0) {
      this.type = Type.STOP
      return 1
    }
    const id = header > 15 ? 0 : this.varint(bytes, at + 1, to, varint32)
    if (id < 0) return -1
    const type = typeOfCompact[compact]!
    if (type === 0) this.refuse("UnknownType", `type ${compact} of a field`)
    // A bool is in its header: what follows is the next field's
    this.type = compact === CompactType.TRUE || compact === CompactType.FALSE ? inHeader : type
    return 1 + id
  }

  protected value(bytes: Uint8Array, at: number, to: number): number {
    const { type } = this
    const fixed = fixedCompact[type]!
    if (fixed > 0) return fixed
    switch (type) {
      case inHeader:
        return 0
      case Type.STRING: {
        const length = this.varint(bytes, at, to, varint32)
        return length < 0 ? -1 : length + this.read
      }
      case Type.STRUCT:
        return this.struct()
      case Type.LIST:
      case Type.SET: {
        if (at === to) return -1
        const header = bytes[at]!
        const long = header >> 4 === 15
        const count = long ? this.varint(bytes, at + 1, to, varint32) : 0
        if (count < 0) return -1
        const element = typeOfCompact[header & 15]!
        this.elements(long ? this.read : header >> 4, element, Type.STOP, leastCompact[element]!)
        return 1 + count
      }
      case Type.MAP: {
        const count = this.varint(bytes, at, to, varint32)
        if (count < 0) return -1
        if (this.read === 0) return count
        if (to - at === count) return -1
        const key = typeOfCompact[bytes[at + count]! >> 4]!
        const value = typeOfCompact[bytes[at + count]! & 15]!
        const known = key !== Type.STOP && value !== Type.STOP
        this.elements(this.read, key, value, known ? leastCompact[key]! + leastCompact[value]! : 0)
        return count + 1
      }
      default:
        return this.varint(bytes, at, to, varint64)
    }
  }

  /** The bytes of an integer, which goes into `read`; -1 while its end has not come. */
  private varint(bytes: Uint8Array, at: number, to: number, most: number): number {
    let value = 0
    for (let i = 0; i < most; i++) {
      if (at + i === to) return -1
      const byte = bytes[at + i]!
      if (i < varint32) value += (byte & 0x7f) * 2 ** (7 * i)
      if (byte < 0x80) {
        this.read = value
        return i + 1
      }
    }
    return this.refuse("Malformed", `an integer of more than ${most} bytes`)
  }
}

/** The type of a bool whose value was in its field's header. */
const inHeader = 255

/** Brackets outside of strings. What is between them is the reader's to judge. */
class JsonScanner implements MessageScanner {
  private at = 0
  private open = 0
  private quoted = false
  private escaped = false

  reset(): void {
    this.at = 0
    this.open = 0
    this.quoted = false
    this.escaped = false
  }

  scan(bytes: Uint8Array, from: number, to: number): number {
    while (from + this.at < to) {
      const byte = bytes[from + this.at++]!
      if (this.escaped) this.escaped = false
      else if (this.quoted) {
        if (byte === Char.Backslash) this.escaped = true
        else if (byte === Char.Quote) this.quoted = false
      } else if (byte === Char.OpenList || (byte === Char.OpenObject && this.open > 0)) this.open++
      else if (this.open === 0) {
        if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) {
          throw new ThriftProtocolError({
            reason: "Malformed",
            offset: this.at - 1,
            message: `byte 0x${byte.toString(16)} where a message begins, at byte ${this.at - 1}`
          })
        }
      } else if (byte === Char.Quote) this.quoted = true
      else if ((byte === Char.CloseList || byte === Char.CloseObject) && --this.open === 0) return this.at
    }
    return -1
  }
}

const scanners: Readonly<Record<string, (maxBytes: number, maxDepth: number) => MessageScanner>> = {
  binary: (maxBytes, maxDepth) => new BinaryScanner(maxBytes, maxDepth),
  "binary, old": (maxBytes, maxDepth) => new BinaryScanner(maxBytes, maxDepth),
  compact: (maxBytes, maxDepth) => new CompactScanner(maxBytes, maxDepth),
  json: () => new JsonScanner()
}

/** The scanner of a protocol, by its name; `undefined` for a protocol that is not one of `Protocols`. */
export const scannerOf = (protocol: string, maxBytes: number, maxDepth: number): MessageScanner | undefined =>
  Object.hasOwn(scanners, protocol) ? scanners[protocol]!(maxBytes, maxDepth) : undefined
