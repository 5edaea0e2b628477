/** Puts the fragments of dispatches together again, by tag. */
import { type DecodeErrorKind, MuxDecodeError } from "./CodecError.ts"
import { defaultLimits, fragmentBit, type Limits, Type } from "./Message.ts"

const fail = (kind: DecodeErrorKind, what: string): never => {
  throw new MuxDecodeError({ kind, what })
}

/** What has come of one message. Copied: a view of a few bytes would keep the chunk it came in, which nobody counts. */
class Partial {
  readonly type: number
  bytes: Uint8Array<ArrayBuffer>
  length = 0

  constructor(type: number) {
    this.type = type
    this.bytes = new Uint8Array(0)
  }

  add(slice: Uint8Array, last: boolean): void {
    const length = this.length + slice.length
    if (length > this.bytes.length || last) {
      const grown = new Uint8Array(last ? length : Math.max(length, 2 * this.bytes.length))
      if (this.length > 0) grown.set(new Uint8Array(this.bytes.buffer, 0, this.length))
      this.bytes = grown
    }
    this.bytes.set(slice, this.length)
    this.length = length
  }
}

/** The reassembly of one session: only Tdispatch and Rdispatch come in fragments. */
export class Fragments {
  readonly #limits: Limits
  readonly #partials = new Map<number, Partial>()
  #bytes = 0

  constructor(limits: Limits = defaultLimits) {
    this.#limits = limits
  }

  /** Messages of which some fragments have come, and the last has not. */
  get size(): number {
    return this.#partials.size
  }

  /** Bytes held for them. */
  get bytes(): number {
    return this.#bytes
  }

  /**
   * Takes one frame. Gives the body of the message that is whole with it, whose tag is `tag` without the fragment bit, or
   * `undefined` while more must come. A frame that is no fragment passes as it is. An Rerr ends the fragments of its tag, a
   * Tdiscarded those of the tag it names, an Rdiscarded those of its own: they are dropped, and the frame is given.
   *
   * Throws `MuxDecodeError` for fragments of other types, of two types on one tag, and for more of them than the limits allow.
   */
  push(type: number, tag: number, body: Uint8Array): Uint8Array | undefined {
    if (tag >= fragmentBit) {
      this.#add(type, tag & ~fragmentBit, body)
      return undefined
    }
    if (this.#partials.size === 0) return body
    switch (type) {
      case Type.Tdispatch:
      case Type.Rdispatch:
        return this.#finish(type, tag, body)
      case Type.Rdiscarded:
      case Type.Rerr:
      case Type.OldRerr:
        this.drop(tag)
        return body
      case Type.Tdiscarded:
      case Type.OldTdiscarded:
        if (body.length >= 3) this.drop((body[0]! << 16) | (body[1]! << 8) | body[2]!)
        return body
      case Type.Treq:
      case Type.Rreq:
        if (this.#partials.has(tag)) fail("fragment", `fragments of tag ${tag} ended by a message of type ${type}`)
        return body
      default:
        return body
    }
  }

  /** Forgets the fragments of a tag. */
  drop(tag: number): void {
    const partial = this.#partials.get(tag)
    if (partial === undefined) return
    this.#partials.delete(tag)
    this.#bytes -= partial.length
  }

  /** Forgets everything. */
  clear(): void {
    this.#partials.clear()
    this.#bytes = 0
  }

  #add(type: number, tag: number, body: Uint8Array): void {
    if (type !== Type.Tdispatch && type !== Type.Rdispatch) {
      fail("fragment", `fragment of a message of type ${type}, which only goes whole [tag=${tag}]`)
    }
    let partial = this.#partials.get(tag)
    if (partial === undefined) {
      if (this.#partials.size >= this.#limits.reassemblies) {
        fail("limit", `fragments of more than ${this.#limits.reassemblies} messages at once`)
      }
      partial = new Partial(type)
      this.#partials.set(tag, partial)
    }
    this.#check(partial, type, tag, body)
    partial.add(body, false)
    this.#bytes += body.length
  }

  #finish(type: number, tag: number, body: Uint8Array): Uint8Array {
    const partial = this.#partials.get(tag)
    if (partial === undefined) return body
    this.#check(partial, type, tag, body)
    this.drop(tag)
    partial.add(body, true)
    return partial.bytes
  }

  #check(partial: Partial, type: number, tag: number, body: Uint8Array): void {
    if (partial.type !== type) fail("fragment", `fragments of types ${partial.type} and ${type} under one tag ${tag}`)
    if (partial.length + body.length > this.#limits.messageBytes) {
      fail("limit", `message in fragments over ${this.#limits.messageBytes} bytes [tag=${tag}]`)
    }
    if (this.#bytes + body.length > this.#limits.reassemblyBytes) {
      fail("limit", `more than ${this.#limits.reassemblyBytes} bytes of fragments`)
    }
  }
}
