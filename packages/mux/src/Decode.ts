/** Bytes to messages: strict lengths, bounded counts, and views of the input in place of copies. */
import type { Dentry } from "@scales-rpc/core"
import { type DecodeErrorKind, MuxDecodeError } from "./CodecError.ts"
import {
  defaultLimits,
  fragmentBit,
  type Limits,
  type Message,
  type Pair,
  type Status,
  type TreqTrace,
  Type
} from "./Message.ts"
import { isNameTree, isPath, isPrefix } from "./Path.ts"

const fromUtf8 = new TextDecoder("utf-8", { ignoreBOM: true })
const none: ReadonlyArray<never> = []

const fail = (kind: DecodeErrorKind, what: string): never => {
  throw new MuxDecodeError({ kind, what })
}

const hex = (bytes: Uint8Array): string => {
  let text = ""
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0")
  return text
}

const view = (bytes: Uint8Array, start: number, end: number): Uint8Array =>
  new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset + start, end - start)

/** Reads one body from front to back. */
class Cursor {
  readonly bytes: Uint8Array
  readonly name: string
  at = 0

  constructor(bytes: Uint8Array, name: string) {
    this.bytes = bytes
    this.name = name
  }

  /** The offset in front of the next `length` bytes, which are taken. */
  take(length: number, what: string): number {
    const at = this.at
    if (length > this.bytes.length - at) {
      fail("short", `${this.name}: ${what} of ${length} bytes at ${at}, the body has ${this.bytes.length}`)
    }
    this.at = at + length
    return at
  }

  byte(what: string): number {
    return this.bytes[this.take(1, what)]!
  }

  /** A 2-byte length or count, which Finagle reads as a signed short. */
  short(what: string): number {
    const at = this.take(2, what)
    const value = (this.bytes[at]! << 8) | this.bytes[at + 1]!
    if (value > 0x7fff) fail("value", `${this.name}: ${what} ${value} at ${at}, at most 32767`)
    return value
  }

  int(what: string): number {
    const at = this.take(4, what)
    const bytes = this.bytes
    return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0
  }

  long(what: string): bigint {
    const at = this.take(8, what)
    return new DataView(this.bytes.buffer, this.bytes.byteOffset + at, 8).getBigInt64(0)
  }

  slice(length: number, what: string): Uint8Array {
    const at = this.take(length, what)
    return view(this.bytes, at, at + length)
  }

  /** ASCII, which is all that the grammar of paths allows; other bytes become characters that no path has. */
  ascii(what: string): string {
    const length = this.short(what)
    const at = this.take(length, what)
    let text = ""
    for (let i = at; i < at + length; i++) text += String.fromCharCode(this.bytes[i]!)
    return text
  }

  rest(): Uint8Array {
    const at = this.at
    this.at = this.bytes.length
    return view(this.bytes, at, this.bytes.length)
  }

  end(): void {
    if (this.at < this.bytes.length) {
      fail("trailing", `${this.name}: ${this.bytes.length - this.at} bytes behind the last field, at ${this.at}`)
    }
  }
}

const contexts = (cursor: Cursor, limits: Limits): ReadonlyArray<Pair> => {
  const count = cursor.short("context count")
  if (count === 0) return none
  if (count > limits.contexts) fail("limit", `${cursor.name}: ${count} contexts, at most ${limits.contexts}`)
  const pairs: Array<Pair> = []
  let bytes = 0
  for (let i = 0; i < count; i++) {
    const key = cursor.slice(cursor.short("context key length"), "context key")
    const value = cursor.slice(cursor.short("context value length"), "context value")
    bytes += key.length + value.length
    if (bytes > limits.contextBytes) {
      fail("limit", `${cursor.name}: more than ${limits.contextBytes} bytes of contexts`)
    }
    pairs.push([key, value])
  }
  return pairs
}

const destination = (cursor: Cursor): string => {
  const text = cursor.ascii("destination")
  if (text !== "" && !isPath(text)) fail("value", `${cursor.name}: destination is no path: ${JSON.stringify(text)}`)
  return text
}

const dtab = (cursor: Cursor, limits: Limits): ReadonlyArray<Dentry> => {
  const count = cursor.short("dtab count")
  if (count === 0) return none
  if (count > limits.dtabEntries) fail("limit", `${cursor.name}: ${count} dtab entries, at most ${limits.dtabEntries}`)
  const entries: Array<Dentry> = []
  for (let i = 0; i < count; i++) {
    const prefix = cursor.ascii("dtab prefix")
    const tree = cursor.ascii("dtab destination")
    if (!isPrefix(prefix)) fail("value", `${cursor.name}: dtab prefix is no path: ${JSON.stringify(prefix)}`)
    if (!isNameTree(tree)) fail("value", `${cursor.name}: dtab destination is no name tree: ${JSON.stringify(tree)}`)
    entries.push({ prefix, tree })
  }
  return entries
}

const headers = (cursor: Cursor, limits: Limits): ReadonlyArray<Pair> => {
  const pairs: Array<Pair> = []
  while (cursor.at < cursor.bytes.length) {
    if (pairs.length === limits.initHeaders) fail("limit", `${cursor.name}: more than ${limits.initHeaders} headers`)
    const key = cursor.slice(cursor.int("header key length"), "header key")
    const value = cursor.slice(cursor.int("header value length"), "header value")
    pairs.push([key, value])
  }
  return pairs
}

const status = (cursor: Cursor): Status => {
  const value = cursor.byte("status")
  return value <= 2 ? value as Status : fail("value", `invalid ${cursor.name} status ${value}`)
}

/** Keys of a Treq: 1 the trace ids, 2 the trace flags, others skipped. Flags without ids mean nothing. */
const treqTrace = (cursor: Cursor): TreqTrace | undefined => {
  const count = cursor.byte("key count")
  if (count > 0x7f) fail("value", "Treq: too many keys")
  let ids: { spanId: bigint; parentId: bigint; traceId: bigint } | undefined
  let flags = 0
  for (let i = 0; i < count; i++) {
    const key = cursor.byte("key")
    const length = cursor.byte("value length")
    if (key === 1) {
      if (length !== 24) fail("value", `bad traceid size ${length}`)
      ids = { spanId: cursor.long("span id"), parentId: cursor.long("parent id"), traceId: cursor.long("trace id") }
      continue
    }
    const value = cursor.slice(length, "value")
    if (key === 2 && length > 0) flags = value[length - 1]!
  }
  return ids && {
    spanId: BigInt.asUintN(64, ids.spanId),
    parentId: BigInt.asUintN(64, ids.parentId),
    traceId: BigInt.asUintN(64, ids.traceId),
    flags
  }
}

const unknown = (type: number, tag: number, body: Uint8Array): never => {
  const first = Math.min(16, body.length)
  return fail(
    "type",
    `unknown message type: ${type} [tag=${tag}]. Payload bytes: ${body.length}. First ${first} bytes of the payload: '${
      hex(view(body, 0, first))
    }'`
  )
}

/**
 * Reads the body of one whole message. Contexts, headers and bodies of requests and replies are views of `body`, not copies. Both
 * spellings of Rerr and Tdiscarded give the same message. Throws `MuxDecodeError`, and nothing else, whatever the bytes are.
 */
export const decode = (type: number, tag: number, body: Uint8Array, limits: Limits = defaultLimits): Message => {
  if (tag >= fragmentBit) {
    fail("tag", `type ${type}: tag ${tag} with the fragment bit, which only a part of a dispatch has`)
  }
  switch (type) {
    case Type.Rdispatch: {
      const cursor = new Cursor(body, "Rdispatch")
      return {
        _tag: "Rdispatch",
        tag,
        status: status(cursor),
        contexts: contexts(cursor, limits),
        body: cursor.rest()
      }
    }
    case Type.Tdispatch: {
      const cursor = new Cursor(body, "Tdispatch")
      return {
        _tag: "Tdispatch",
        tag,
        contexts: contexts(cursor, limits),
        destination: destination(cursor),
        dtab: dtab(cursor, limits),
        body: cursor.rest()
      }
    }
    case Type.Treq: {
      const cursor = new Cursor(body, "Treq")
      return { _tag: "Treq", tag, trace: treqTrace(cursor), body: cursor.rest() }
    }
    case Type.Rreq: {
      const cursor = new Cursor(body, "Rreq")
      return { _tag: "Rreq", tag, status: status(cursor), body: cursor.rest() }
    }
    case Type.Tping:
    case Type.Rping:
    case Type.Tdrain:
    case Type.Rdrain:
    case Type.Rdiscarded: {
      const name = empty[type]
      if (body.length > 0) fail("trailing", `${name}: ${body.length} bytes of body, expected none`)
      return { _tag: name, tag }
    }
    case Type.Tdiscarded:
    case Type.OldTdiscarded: {
      if (body.length < 3) fail("short", `short Tdiscarded message: ${body.length} bytes of body, at least 3`)
      const which = (body[0]! << 16) | (body[1]! << 8) | body[2]!
      if (which >= fragmentBit) fail("value", `Tdiscarded: tag ${which} at 0, at most 8388607`)
      return { _tag: "Tdiscarded", tag, which, why: fromUtf8.decode(view(body, 3, body.length)) }
    }
    case Type.Tlease: {
      if (body.length < 9) fail("short", `short Tlease message: ${body.length} bytes of body, expected 9`)
      const cursor = new Cursor(body, "Tlease")
      const lease: Message = { _tag: "Tlease", tag, unit: cursor.byte("unit"), howMuch: cursor.long("lease") }
      cursor.end()
      return lease
    }
    case Type.Tinit:
    case Type.Rinit: {
      const name = type === Type.Tinit ? "Tinit" : "Rinit"
      const cursor = new Cursor(body, name)
      const at = cursor.take(2, "version")
      return { _tag: name, tag, version: (body[at]! << 8) | body[at + 1]!, headers: headers(cursor, limits) }
    }
    case Type.Rerr:
    case Type.OldRerr:
      return { _tag: "Rerr", tag, why: fromUtf8.decode(body) }
    default:
      return unknown(type, tag, body)
  }
}

const empty = {
  [Type.Tping]: "Tping",
  [Type.Rping]: "Rping",
  [Type.Tdrain]: "Tdrain",
  [Type.Rdrain]: "Rdrain",
  [Type.Rdiscarded]: "Rdiscarded"
} as const
