/**
 * Writes the Thrift JSON protocol, Apache's `TJSONProtocol`, with `BinaryWriter`'s checks: field ids and map keys are strings, an
 * i64 has all its digits, a binary is base64 with its padding, NaN and the infinities are strings, and -0 keeps its sign.
 */
import { Char, nameOfType, Place } from "./internal/jsonTypes.ts"
import { MessageWriter } from "./internal/MessageWriter.ts"
import type { Int64Like, ProtocolWriter } from "./Protocol.ts"

/** Up to here a loop over ASCII characters beats the encoder of Node. */
const shortText = 24

/** A writer that is used for one message after the other: write one, then `take` its bytes. */
export class JsonWriter extends MessageWriter implements ProtocolWriter {
  /** Where the next value stands, and where those around it do. */
  private place: number = Place.Alone
  private readonly places: Array<number> = []

  override reset(): void {
    super.reset()
    this.place = Place.Alone
    this.places.length = 0
  }

  writeMessageBegin(name: string, type: number, sequenceId: number): void {
    const sent = this.begin(name, type)
    this.raw("[1,")
    this.text(sent)
    this.raw(`,${type},${sequenceId},`)
  }

  override writeMessageEnd(): void {
    this.u8(Char.CloseList)
  }

  override writeStructBegin(name: string): void {
    super.writeStructBegin(name)
    this.separate()
    this.u8(Char.OpenObject)
    this.open(Place.FirstField)
  }

  override writeStructEnd(): void {
    super.writeStructEnd()
    this.close()
    this.u8(Char.CloseObject)
  }

  writeFieldBegin(name: string, type: number, id: number): void {
    this.fieldName = name
    this.raw(`${this.place === Place.Field ? "," : ""}"${id}":{"${this.nameOf(type)}":`)
    this.place = Place.Field
  }

  override writeFieldEnd(): void {
    this.u8(Char.CloseObject)
  }

  writeFieldStop(): void {}

  writeMapBegin(keyType: number, valueType: number, size: number): void {
    this.separate()
    this.raw(`["${this.nameOf(keyType)}","${this.nameOf(valueType)}",${size},{`)
    this.open(Place.FirstKey)
  }

  override writeMapEnd(): void {
    this.close()
    this.raw("}]")
  }

  writeListBegin(elementType: number, size: number): void {
    this.separate()
    this.raw(`["${this.nameOf(elementType)}",${size}`)
    this.open(Place.Element)
  }

  override writeListEnd(): void {
    this.close()
    this.u8(Char.CloseList)
  }

  writeSetBegin(elementType: number, size: number): void {
    this.writeListBegin(elementType, size)
  }

  writeBool(value: boolean | string): void {
    this.number(this.bool(value) ? "1" : "0")
  }

  writeByte(value: number | string): void {
    this.number(String(this.i8(value)))
  }

  writeI16(value: number | string): void {
    this.number(String(this.i16(value)))
  }

  writeI32(value: number | string): void {
    this.number(String(this.i32(value)))
  }

  /** A node-int64 `Int64` (at its offset), a bigint of 64 bits, a safe integer, or the decimal digits of any of them. */
  writeI64(value: number | bigint | Int64Like | string): void {
    this.split(value)
    const { high, low } = this
    // Everything below 2^53 is a number that prints all its digits
    const safe = high >= -0x20_0000 && high < 0x20_0000
    this.number(
      safe ? String(high * 0x1_0000_0000 + (low >>> 0)) : String((BigInt(high) << 32n) + BigInt(low >>> 0))
    )
  }

  writeDouble(value: number | string): void {
    const n = this.double(value)
    if (Number.isFinite(n)) this.number(Object.is(n, -0) ? "-0.0" : String(n))
    else {
      this.separate()
      this.raw(`"${n}"`)
    }
  }

  /** Half a surrogate pair, which has no UTF-8, becomes U+FFFD. Bytes are taken for UTF-8, which JSON is. */
  writeString(value: string | Uint8Array): void {
    if (typeof value === "string") {
      this.separate()
      return this.text(value)
    }
    const length = this.lengthOf(value, "a string")
    this.separate()
    this.text(Buffer.from(value.buffer, value.byteOffset, length).toString("utf8"))
  }

  /** Any `Uint8Array`, or a string that is ASCII only. */
  writeBinary(value: string | Uint8Array): void {
    const bytes = typeof value === "string" ? Buffer.from(this.ascii(value), "latin1") : value
    const length = this.lengthOf(bytes, "a binary")
    this.separate()
    const encoded = Math.ceil(length / 3) * 4
    const at = this.advance(encoded + 2)
    this.bytes[at] = Char.Quote
    this.bytes.write(Buffer.from(bytes.buffer, bytes.byteOffset, length).toString("base64"), at + 1, encoded, "latin1")
    this.bytes[at + 1 + encoded] = Char.Quote
  }

  /** 32 hexadecimal digits in groups of 8, 4, 4, 4, 12; of any version. Written in lower case. */
  writeUuid(value: string): void {
    const uuid = this.uuid(value).toLowerCase()
    this.separate()
    this.raw(`"${uuid}"`)
  }

  private number(digits: string): void {
    this.raw(this.separate() ? `"${digits}"` : digits)
  }

  private text(value: string): void {
    const length = value.length
    if (length <= shortText && length <= this.maxStringBytes) {
      const at = this.advance(length + 2)
      const bytes = this.bytes
      bytes[at] = Char.Quote
      let i = 0
      for (; i < length; i++) {
        const code = value.charCodeAt(i)
        if (code < 0x20 || code > 0x7e || code === Char.Quote || code === Char.Backslash) break
        bytes[at + 1 + i] = code
      }
      if (i === length) {
        bytes[at + 1 + length] = Char.Quote
        return
      }
      this.offset = at
    }
    const encoded = Buffer.byteLength(value)
    if (encoded > this.maxStringBytes) this.tooLong(encoded)
    const quoted = JSON.stringify(value.toWellFormed())
    const most = Buffer.byteLength(quoted)
    const at = this.advance(most)
    this.bytes.write(quoted, at, most, "utf8")
  }

  /** ASCII as it is. */
  private raw(text: string): void {
    const length = text.length
    const at = this.advance(length)
    if (length > shortText) this.bytes.write(text, at, length, "latin1")
    else for (let i = 0; i < length; i++) this.bytes[at + i] = text.charCodeAt(i)
  }

  /** What comes before a value. Says whether the value is the key of a map, where a number is in quotes. */
  private separate(): boolean {
    switch (this.place) {
      case Place.Element:
        this.u8(Char.Comma)
        return false
      case Place.FirstKey:
        this.place = Place.Value
        return true
      case Place.Key:
        this.u8(Char.Comma)
        this.place = Place.Value
        return true
      case Place.Value:
        this.u8(Char.Colon)
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

  private nameOf(type: number): string {
    return nameOfType.get(type) ?? this.invalid(type, "the number of a type")
  }
}
