/**
 * Reads the Thrift JSON protocol, Apache's `TJSONProtocol`, from one `Uint8Array` that holds a whole message: token by token as
 * the struct asks for them, so that no tree of the whole is ever made.
 *
 * Read are also white space between tokens, zeros before an integer, base64 with and without padding, and NaN and the infinities
 * without the quotes that they should have: all of these some library of Apache's writes.
 */
import type Int64 from "node-int64"
import { Char, Place, typeOfName } from "./internal/jsonTypes.ts"
import { JsonTokenReader } from "./internal/JsonTokenReader.ts"
import { int64From, int64Of } from "./internal/MessageReader.ts"
import {
  type FieldHeader,
  type ListHeader,
  type MapHeader,
  type MessageHeader,
  type ProtocolReader,
  Type
} from "./Protocol.ts"

/** The fewest bytes that an element of each type has, with the comma or colon before it. */
const leastBytes = new Uint8Array(256)
for (const type of typeOfName.values()) leastBytes[type] = 2
leastBytes[Type.STRING] = 3
leastBytes[Type.UUID] = 3
leastBytes[Type.STRUCT] = 3
leastBytes[Type.LIST] = 9
leastBytes[Type.SET] = 9
leastBytes[Type.MAP] = 17

/** The letters of a type's name, as one number. */
const typeOfLetters: ReadonlyMap<number, number> = new Map(
  [...typeOfName].map(([name, type]) => [Buffer.from(name).reduce((letters, byte) => letters << 8 | byte, 0), type])
)

/** The digits that an i64 can have. */
const longDigits = 19

/** What stands for a double that is no number: what should, and what Apache's Python library writes. */
const notNumbers: ReadonlyMap<string, number> = new Map([
  ["NaN", NaN],
  ["Infinity", Infinity],
  ["-Infinity", -Infinity],
  ["nan", NaN],
  ["inf", Infinity],
  ["-inf", -Infinity]
])

const isBase64 = new Uint8Array(256)
for (const byte of Buffer.from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")) isBase64[byte] = 1

/** A reader that is used for one message after the other: `reset` gives it the next. What it hands out is as `BinaryReader`'s. */
export class JsonReader extends JsonTokenReader implements ProtocolReader {
  /** Where the next value stands, and where those around it do. */
  private place: number = Place.Alone
  private readonly places: Array<number> = []

  override reset(bytes: Uint8Array): this {
    this.place = Place.Alone
    this.places.length = 0
    return super.reset(bytes)
  }

  readMessageBegin(): MessageHeader {
    const message = this.message
    this.expect(Char.OpenList)
    const start = this.offset
    const version = this.integer(0, 0x7fffffff)
    if (version !== 1) {
      this.offset = start
      this.refuse("BadVersion", `version ${version}, expected 1`)
    }
    this.expect(Char.Comma)
    this.string()
    message.fname = this.decoded()
    this.expect(Char.Comma)
    message.mtype = this.integer(0, 0x7f)
    this.expect(Char.Comma)
    message.rseqid = this.integer(-0x80000000, 0x7fffffff)
    this.expect(Char.Comma)
    return message
  }

  override readMessageEnd(): void {
    this.expect(Char.CloseList)
  }

  override readStructBegin(): unknown {
    this.separate()
    this.expect(Char.OpenObject)
    this.open(Place.FirstField)
    return super.readStructBegin()
  }

  override readStructEnd(): void {
    super.readStructEnd()
    this.close()
    this.expect(Char.CloseObject)
  }

  readFieldBegin(): FieldHeader {
    const field = this.field
    if (this.peek() === Char.CloseObject) {
      field.ftype = Type.STOP
      field.fid = 0
      return field
    }
    if (this.place === Place.Field) this.expect(Char.Comma)
    this.place = Place.Field
    this.expect(Char.Quote)
    field.fid = this.integer(-0x8000, 0x7fff)
    this.expect(Char.Quote)
    this.expect(Char.Colon)
    this.expect(Char.OpenObject)
    field.ftype = this.type()
    this.expect(Char.Colon)
    return field
  }

  override readFieldEnd(): void {
    this.expect(Char.CloseObject)
  }

  override readMapEnd(): void {
    this.close()
    this.expect(Char.CloseObject)
    this.expect(Char.CloseList)
  }

  override readListEnd(): void {
    this.close()
    this.expect(Char.CloseList)
  }

  readBool(): boolean {
    return this.number(-0x80000000, 0x7fffffff) !== 0
  }

  readByte(): number {
    return this.number(-0x80, 0x7f)
  }

  readI16(): number {
    return this.number(-0x8000, 0x7fff)
  }

  readI32(): number {
    return this.number(-0x80000000, 0x7fffffff)
  }

  readI64(): Int64 {
    const quoted = this.separate()
    if (quoted) this.expect(Char.Quote)
    const n = this.digits()
    if (quoted) this.expect(Char.Quote)
    if (!Number.isNaN(n)) return int64From(Math.floor(n / 0x1_0000_0000), n)
    const large = this.to - this.from > longDigits
      ? undefined
      : BigInt(this.bytes.toString("latin1", this.from, this.to))
    const signed = large !== undefined && this.negative ? -large : large
    if (signed === undefined || BigInt.asIntN(64, signed) !== signed) {
      this.refuse("Malformed", "an integer of more than 64 bits")
    }
    const own = Buffer.allocUnsafeSlow(8)
    own.writeBigInt64BE(signed)
    return int64Of(own)
  }

  readDouble(): number {
    const key = this.separate()
    const quoted = this.peek() === Char.Quote
    if (quoted) this.string()
    else this.bare()
    const text = this.source.toString("latin1", this.from, this.to)
    const word = notNumbers.get(text)
    if (word !== undefined) return word
    if (key !== quoted || !/^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/.test(text)) {
      this.refuse("Malformed", `${this.printed()} where a number is expected`)
    }
    return Number(text)
  }

  readString(): string {
    this.separate()
    this.string()
    return this.decoded()
  }

  readBinary(): Buffer {
    this.separate()
    this.string()
    const { from, source } = this
    let to = this.to
    // The padding is part of the last group of four, and of no other
    if ((to - from) % 4 === 0) {
      for (let most = 2; most > 0 && to > from && source[to - 1] === 0x3d; most--) to--
    }
    if ((to - from) % 4 === 1) this.refuse("Malformed", "base64 that ends within a byte")
    for (let i = from; i < to; i++) {
      if (isBase64[source[i]!] === 0) this.refuse("Malformed", `${this.printed()} is no base64`)
    }
    const own = Buffer.allocUnsafeSlow(this.length((to - from) * 3 >>> 2))
    own.write(source.toString("latin1", from, to), "base64")
    return own
  }

  override readUuid(): string {
    this.separate()
    this.string()
    const text = this.source.toString("latin1", this.from, Math.min(this.to, this.from + 37)).toLowerCase()
    if (!/^[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}$/.test(text)) {
      this.refuse("Malformed", `${this.printed()} is no uuid`)
    }
    return text
  }

  protected listHeader(): ListHeader {
    const list = this.list
    this.separate()
    this.expect(Char.OpenList)
    list.etype = this.type()
    this.expect(Char.Comma)
    list.size = this.count(this.integer(-0x80000000, 0x7fffffff), leastBytes[list.etype]!)
    this.open(Place.Element)
    return list
  }

  protected mapHeader(): MapHeader {
    const map = this.map
    this.separate()
    this.expect(Char.OpenList)
    map.ktype = this.type()
    this.expect(Char.Comma)
    map.vtype = this.type()
    this.expect(Char.Comma)
    const count = this.integer(-0x80000000, 0x7fffffff)
    map.size = this.count(count, leastBytes[map.ktype]! + leastBytes[map.vtype]!)
    this.expect(Char.Comma)
    this.expect(Char.OpenObject)
    this.open(Place.FirstKey)
    return map
  }

  protected skipScalar(type: number): void {
    switch (type) {
      case Type.BOOL:
      case Type.BYTE:
      case Type.I16:
      case Type.I32:
      case Type.I64:
      case Type.DOUBLE:
        this.readDouble()
        return
      case Type.STRING:
      case Type.UUID:
        this.separate()
        this.string()
        this.length(this.to - this.from)
        return
      default:
        this.refuse("UnknownType", `type ${type} of a field to skip`)
    }
  }

  /** An integer that is a value: in quotes as the key of a map. */
  private number(least: number, most: number): number {
    const quoted = this.separate()
    if (quoted) this.expect(Char.Quote)
    const value = this.integer(least, most)
    if (quoted) this.expect(Char.Quote)
    return value
  }

  private type(): number {
    this.expect(Char.Quote)
    const start = this.offset
    let name = 0
    for (let at = start; at < this.end && at - start < 4; at++) {
      const byte = this.bytes[at]!
      if (byte === Char.Quote) {
        this.offset = at + 1
        return typeOfLetters.get(name) ?? this.refuse("UnknownType", "a type without a meaning")
      }
      name = name << 8 | byte
    }
    if (this.end - start < 4) this.unexpected(this.end, "the end of a type")
    return this.refuse("UnknownType", "a type of more than three letters")
  }

  /** What comes before a value. Says whether the value is the key of a map, where a number is in quotes. */
  private separate(): boolean {
    switch (this.place) {
      case Place.Element:
        this.expect(Char.Comma)
        return false
      case Place.FirstKey:
        this.place = Place.Value
        return true
      case Place.Key:
        this.expect(Char.Comma)
        this.place = Place.Value
        return true
      case Place.Value:
        this.expect(Char.Colon)
        this.place = Place.Key
        return false
      default:
        return false
    }
  }

  private open(place: number): void {
    this.places.push(this.place)
    this.place = place
  }

  private close(): void {
    this.place = this.places.pop() ?? Place.Alone
  }
}
