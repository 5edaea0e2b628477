/**
 * The tokens of a JSON text, read one at a time from the bytes of a message: strings, integers, and what stands for a number. White
 * space between them is passed over.
 */
import { Char } from "./jsonTypes.ts"
import { MessageReader } from "./MessageReader.ts"

/** Up to so many digits a number holds an integer exactly. */
const safeDigits = 15

/** What JSON has behind a backslash, besides `u`. */
const escapes: ReadonlyMap<number, number> = new Map(
  [["\"", "\""], ["\\", "\\"], ["/", "/"], ["b", "\b"], ["f", "\f"], ["n", "\n"], ["r", "\r"], ["t", "\t"]].map(
    ([escape, character]) => [escape!.charCodeAt(0), character!.charCodeAt(0)]
  )
)

const isSpace = (byte: number): boolean => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09

/** A reader of tokens; which of them come when is the protocol's. */
export abstract class JsonTokenReader extends MessageReader {
  /** The string that was read last: where its characters are, without escapes. */
  protected source: Buffer = this.bytes
  protected from = 0
  protected to = 0
  /** Whether the integer that was read last had a sign. */
  protected negative = false

  override reset(bytes: Uint8Array): this {
    this.source = this.bytes
    return super.reset(bytes)
  }

  /** An integer in these bounds. */
  protected integer(least: number, most: number): number {
    const value = this.digits()
    if (!(value >= least && value <= most)) {
      this.refuse("Malformed", `an integer that is not from ${least} to ${most}`)
    }
    return value
  }

  /**
   * A sign and digits, whose value it is; NaN when it takes more digits than a number holds, which are then `bytes` between `from` and
   * `to`. What else a number may have makes the next token a wrong one.
   */
  protected digits(): number {
    const bytes = this.bytes
    this.negative = this.peek() === 0x2d
    let at = this.negative ? this.offset + 1 : this.offset
    const start = at
    while (at < this.end && bytes[at] === 0x30) at++
    const from = at
    let value = 0
    for (; at < this.end; at++) {
      const digit = bytes[at]! - 0x30
      if (digit < 0 || digit > 9) break
      value = value * 10 + digit
    }
    if (at === start) return this.unexpected(at, "a digit")
    this.offset = at
    this.from = from
    this.to = at
    if (at - from > safeDigits) return Number.NaN
    return this.negative && value !== 0 ? -value : value
  }

  /** A number without quotes, or a word in its place, into `source`. */
  protected bare(): void {
    let at = this.offset
    while (at < this.end) {
      const byte = this.bytes[at]!
      if (byte === Char.Comma || byte === Char.Colon || byte === Char.CloseList || byte === Char.CloseObject) break
      if (isSpace(byte)) break
      at++
    }
    if (at === this.end) this.unexpected(at, "the end of a number")
    this.source = this.bytes
    this.from = this.offset
    this.to = at
    this.offset = at
  }

  /** A string, into `source`; escapes are resolved in a buffer that is no longer than the string. */
  protected string(): void {
    this.expect(Char.Quote)
    const bytes = this.bytes
    const from = this.offset
    let at = from
    let escaped = false
    while (at < this.end && bytes[at] !== Char.Quote) {
      if (bytes[at] === Char.Backslash) {
        escaped = true
        at++
      }
      at++
    }
    if (at >= this.end) this.unexpected(this.end, "the end of a string")
    this.offset = at + 1
    this.source = bytes
    this.from = from
    this.to = at
    if (escaped) this.resolve(from, at)
  }

  /** The UTF-8 that the escapes between two bytes stand for, into `source`. */
  private resolve(from: number, to: number): void {
    const bytes = this.bytes
    const resolved = Buffer.allocUnsafe(to - from)
    let length = 0
    for (let at = from; at < to; at++) {
      if (bytes[at] !== Char.Backslash) {
        resolved[length++] = bytes[at]!
        continue
      }
      const escape = bytes[++at]!
      const character = escapes.get(escape)
      if (character !== undefined) {
        resolved[length++] = character
        continue
      }
      if (escape !== 0x75) this.refuse("Malformed", "an unknown escape in a string")
      let code = this.unit(at + 1, to)
      at += 4
      // A pair of surrogates is one character; half of one becomes U+FFFD
      if (code >= 0xd800 && code <= 0xdbff && bytes[at + 1] === Char.Backslash && bytes[at + 2] === 0x75) {
        const second = this.unit(at + 3, to)
        if (second >= 0xdc00 && second <= 0xdfff) {
          code = 0x10000 + ((code & 0x3ff) << 10 | second & 0x3ff)
          at += 6
        }
      }
      length += resolved.write(String.fromCodePoint(code), length, "utf8")
    }
    this.source = resolved
    this.from = 0
    this.to = length
  }

  /** Four hexadecimal digits. */
  private unit(at: number, to: number): number {
    const text = at + 4 > to ? "" : this.bytes.toString("latin1", at, at + 4)
    if (!/^[\da-fA-F]{4}$/.test(text)) this.refuse("Malformed", "an escape in a string without its four digits")
    return Number.parseInt(text, 16)
  }

  /** The string that was read last. */
  protected decoded(): string {
    const { from, source, to } = this
    if (source !== this.bytes) return source.toString("utf8", from, from + this.length(to - from))
    const after = this.offset
    this.offset = from
    const text = this.text(to - from)
    this.offset = after
    return text
  }

  /** The beginning of it, for an error. */
  protected printed(): string {
    const text = this.source.toString("utf8", this.from, Math.min(this.to, this.from + 64))
    return JSON.stringify(this.to - this.from > 64 ? `${text}...` : text)
  }

  /** The next byte that is no white space; the reader stands before it. */
  protected peek(): number {
    while (this.offset < this.end && isSpace(this.bytes[this.offset]!)) this.offset++
    return this.offset < this.end ? this.bytes[this.offset]! : -1
  }

  /** Reads one of JSON's own characters. */
  protected expect(character: number): void {
    if ((this.offset >= this.end || this.bytes[this.offset] !== character) && this.peek() !== character) {
      this.unexpected(this.offset, `'${String.fromCharCode(character)}'`)
    }
    this.offset++
  }

  /** Refuses what is there in place of something else: the end of the bytes, or a byte. */
  protected unexpected(at: number, what: string): never {
    this.offset = at
    if (at >= this.end) return this.refuse("Truncated", `the end where ${what} is expected`)
    return this.refuse("Malformed", `byte 0x${this.bytes[at]!.toString(16)} where ${what} is expected`)
  }
}
