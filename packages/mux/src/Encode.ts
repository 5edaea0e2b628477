/**
 * Messages to bytes. A message is a head (all fields but the last) and a payload (its last field, which may be large), so that
 * a writer can put the head into a buffer of its own and decide what to do with the payload.
 */
import { MuxEncodeError } from "./CodecError.ts"
import { type EncodedContexts, maxTag, type Pair, type Sendable, typeOf } from "./Message.ts"
import { isNameTree, isPath, isPrefix } from "./Path.ts"

/** Finagle reads 2-byte lengths and counts as signed shorts. */
const maxShort = 0x7fff

const utf8 = new TextEncoder()
const nothing = new Uint8Array(0)

const refuse = (what: string): never => {
  throw new MuxEncodeError({ what })
}

const checkedTag = (tag: number): void => {
  if ((tag & maxTag) !== tag) refuse(`invalid tag number ${tag}`)
}

const checkedShort = (what: string, length: number): number =>
  length <= maxShort ? length : refuse(`${what}: ${length}, at most ${maxShort}`)

const checkedRange = (what: string, value: number, max: number): void => {
  if (!Number.isInteger(value) || value < 0 || value > max) refuse(`${what}: ${value}, 0 to ${max}`)
}

const pairsLength = (pairs: ReadonlyArray<Pair>): number => {
  let length = 0
  for (let i = 0; i < pairs.length; i++) {
    const pair = pairs[i]!
    length += 4 + checkedShort("bytes of a context key", pair[0].length) +
      checkedShort("bytes of a context value", pair[1].length)
  }
  return length
}

const contextsLength = (contexts: ReadonlyArray<Pair> | EncodedContexts): number => {
  if ("bytes" in contexts) {
    checkedShort("contexts", contexts.count)
    return contexts.bytes.length
  }
  checkedShort("contexts", contexts.length)
  return pairsLength(contexts)
}

const headersLength = (headers: ReadonlyArray<Pair>): number => {
  let length = 0
  for (const [key, value] of headers) length += 8 + key.length + value.length
  return length
}

/** Bytes of the head, everything behind the tag and before the payload. Fails with `MuxEncodeError` if the message has no form. */
export const headLength = (message: Sendable): number => {
  checkedTag(message.tag)
  switch (message._tag) {
    case "Tdispatch": {
      let length = 6 + contextsLength(message.contexts)
      if (message.destination.length > 0) {
        if (!isPath(message.destination)) refuse(`destination is no path: ${JSON.stringify(message.destination)}`)
        length += checkedShort("bytes of the destination", message.destination.length)
      }
      checkedShort("dtab entries", message.dtab.length)
      for (const { prefix, tree } of message.dtab) {
        if (!isPrefix(prefix)) refuse(`dtab prefix is no path: ${JSON.stringify(prefix)}`)
        if (!isNameTree(tree)) refuse(`dtab destination is no name tree: ${JSON.stringify(tree)}`)
        length += 4 + checkedShort("bytes of a dtab prefix", prefix.length) +
          checkedShort("bytes of a dtab destination", tree.length)
      }
      return length
    }
    case "Rdispatch":
      checkedRange("status", message.status, 2)
      return 3 + contextsLength(message.contexts)
    case "Treq":
      if (message.trace === undefined) return 1
      checkedRange("trace flags", message.trace.flags, 0xff)
      return 30
    case "Rreq":
      checkedRange("status", message.status, 2)
      return 1
    case "Tdiscarded":
      checkedTag(message.which)
      return 3
    case "Tlease":
      checkedRange("lease unit", message.unit, 0xff)
      if (BigInt.asIntN(64, message.howMuch) !== message.howMuch) refuse(`lease: ${message.howMuch}, 64 bits at most`)
      return 9
    case "Tinit":
    case "Rinit":
      checkedRange("version", message.version, 0xffff)
      return 2 + headersLength(message.headers)
    default:
      return 0
  }
}

/** The payload: the body of a request or reply, the text of a Tdiscarded or Rerr; empty for the others. Not a copy. */
export const payloadOf = (message: Sendable): Uint8Array => {
  switch (message._tag) {
    case "Tdispatch":
    case "Rdispatch":
    case "Treq":
    case "Rreq":
      return message.body
    case "Tdiscarded":
    case "Rerr":
      return utf8.encode(message.why)
    default:
      return nothing
  }
}

const writeShort = (target: Uint8Array, at: number, value: number): number => {
  target[at] = value >>> 8
  target[at + 1] = value
  return at + 2
}

const writeInt = (target: Uint8Array, at: number, value: number): number => {
  target[at] = value >>> 24
  target[at + 1] = value >>> 16
  target[at + 2] = value >>> 8
  target[at + 3] = value
  return at + 4
}

const writeLong = (target: Uint8Array, at: number, value: bigint): number =>
  writeInt(
    target,
    writeInt(target, at, Number(BigInt.asIntN(32, value >> 32n))),
    Number(BigInt.asIntN(32, value))
  )

const writeBytes = (target: Uint8Array, at: number, bytes: Uint8Array): number => {
  target.set(bytes, at)
  return at + bytes.length
}

/** For text known to be ASCII: the path grammar allows nothing else. */
const writeAscii = (target: Uint8Array, at: number, text: string): number => {
  at = writeShort(target, at, text.length)
  for (let i = 0; i < text.length; i++) target[at + i] = text.charCodeAt(i)
  return at + text.length
}

const writePairs = (target: Uint8Array, at: number, pairs: ReadonlyArray<Pair>): number => {
  for (let i = 0; i < pairs.length; i++) {
    const pair = pairs[i]!
    at = writeBytes(target, writeShort(target, at, pair[0].length), pair[0])
    at = writeBytes(target, writeShort(target, at, pair[1].length), pair[1])
  }
  return at
}

const writeContexts = (
  target: Uint8Array,
  at: number,
  contexts: ReadonlyArray<Pair> | EncodedContexts
): number =>
  "bytes" in contexts
    ? writeBytes(target, writeShort(target, at, contexts.count), contexts.bytes)
    : writePairs(target, writeShort(target, at, contexts.length), contexts)

/** Writes size, type and tag of a frame with `length` bytes of body; gives the offset behind them. */
export const writeFrameHeader = (
  target: Uint8Array,
  at: number,
  type: number,
  tag: number,
  length: number
): number => writeInt(target, writeInt(target, at, length + 4), (type << 24) | tag)

/** Writes the head of a message that `headLength` has measured; gives the offset behind it. */
export const writeHead = (target: Uint8Array, at: number, message: Sendable): number => {
  switch (message._tag) {
    case "Tdispatch":
      at = writeAscii(target, writeContexts(target, at, message.contexts), message.destination)
      at = writeShort(target, at, message.dtab.length)
      for (const { prefix, tree } of message.dtab) at = writeAscii(target, writeAscii(target, at, prefix), tree)
      return at
    case "Rdispatch":
      target[at] = message.status
      return writeContexts(target, at + 1, message.contexts)
    case "Treq": {
      const trace = message.trace
      if (trace === undefined) {
        target[at] = 0
        return at + 1
      }
      target[at] = 2
      target[at + 1] = 1
      target[at + 2] = 24
      at = writeLong(target, at + 3, trace.spanId)
      at = writeLong(target, at, trace.parentId)
      at = writeLong(target, at, trace.traceId)
      target[at] = 2
      target[at + 1] = 1
      target[at + 2] = trace.flags
      return at + 3
    }
    case "Rreq":
      target[at] = message.status
      return at + 1
    case "Tdiscarded":
      target[at] = message.which >>> 16
      return writeShort(target, at + 1, message.which)
    case "Tlease":
      target[at] = message.unit
      return writeLong(target, at + 1, message.howMuch)
    case "Tinit":
    case "Rinit":
      at = writeShort(target, at, message.version)
      for (const [key, value] of message.headers) {
        at = writeBytes(target, writeInt(target, at, key.length), key)
        at = writeBytes(target, writeInt(target, at, value.length), value)
      }
      return at
    default:
      return at
  }
}

/** A message as one complete frame, size field included. Fails with `MuxEncodeError` if the message has no form. */
export const encode = (message: Sendable): Uint8Array => {
  const head = headLength(message)
  const payload = payloadOf(message)
  const frame = new Uint8Array(8 + head + payload.length)
  writeBytes(
    frame,
    writeHead(frame, writeFrameHeader(frame, 0, typeOf(message), message.tag, head + payload.length), message),
    payload
  )
  return frame
}

/** Contexts in wire form, to be sent again and again. Fails with `MuxEncodeError` if a key or value is over 32767 bytes. */
export const encodeContexts = (pairs: ReadonlyArray<Pair>): EncodedContexts => {
  const bytes = new Uint8Array(contextsLength(pairs))
  writePairs(bytes, 0, pairs)
  return { count: pairs.length, bytes }
}
