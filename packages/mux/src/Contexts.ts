/** The contexts that Finagle's clients and servers put into dispatches, from and to their bytes. */
import {
  bytesKey,
  CallContext,
  ClientId,
  type ContextEntry,
  type ContextKey,
  type Dentry,
  Destination,
  Dtab,
  RequestHeaders,
  Trace,
  type TraceId
} from "@scales-rpc/core"
import { type Pair, sameBytes } from "./Message.ts"

const utf8 = new TextEncoder()
const fromUtf8 = new TextDecoder("utf-8", { ignoreBOM: true })

/** When a request was sent and until when its reply is of use: milliseconds since the epoch; `Infinity`: no end. */
export interface DeadlineTimes {
  readonly timestamp: number
  readonly deadline: number
}

const two24 = 2 ** 24
const two32 = 2 ** 32

/**
 * Writes milliseconds as a signed 64-bit count of nanoseconds. Their product is beyond 2^53, so it is made of two exact halves, both
 * far below; a fraction is rounded to the nanosecond. Times beyond 64 bits, `Infinity` among them, are the largest or
 * smallest there is, Finagle's Time.Top and Time.Bottom.
 */
const writeNanos = (view: DataView, at: number, millis: number): void => {
  const whole = Math.floor(millis)
  if (whole > 9223372036853) {
    view.setInt32(at, 0x7fffffff)
    view.setUint32(at + 4, 0xffffffff)
    return
  }
  if (whole < -9223372036853) {
    view.setInt32(at, -0x80000000)
    view.setUint32(at + 4, 0)
    return
  }
  const upper = Math.floor(whole / two24)
  const high = upper * 1e6
  const low = (whole - upper * two24) * 1e6 + Math.round((millis - whole) * 1e6)
  const highRest = ((high % 256) + 256) % 256
  const sum = highRest * two24 + low
  const carry = Math.floor(sum / two32)
  view.setInt32(at, (high - highRest) / 256 + carry)
  view.setUint32(at + 4, sum - carry * two32)
}

/** Whole milliseconds, rounded down, of a signed 64-bit count of nanoseconds; the largest there is counts as `Infinity`. */
const readMillis = (view: DataView, at: number): number => {
  const high = view.getInt32(at)
  const low = view.getUint32(at + 4)
  if (high === 0x7fffffff && low === 0xffffffff) return Infinity
  // 2^32 = 4294 * 10^6 + 967296
  const rest = high * 967296 + low
  return high * 4294 + Math.floor(rest / 1e6)
}

/** The value of a Deadline context: 16 bytes, two times in nanoseconds. Exact for whole milliseconds. */
export const encodeDeadline = (times: DeadlineTimes): Uint8Array => {
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  writeNanos(view, 0, times.timestamp)
  writeNanos(view, 8, times.deadline)
  return bytes
}

/** The times of a Deadline context; `undefined` when it has not 16 bytes. */
export const decodeDeadline = (bytes: Uint8Array): DeadlineTimes | undefined => {
  if (bytes.length !== 16) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16)
  return { timestamp: readMillis(view, 0), deadline: readMillis(view, 8) }
}

/** The deadline. Not handed on as it is: a call made under a request has a deadline of its own, at most as late. */
export const Deadline: ContextKey<DeadlineTimes> = {
  id: "com.twitter.finagle.Deadline",
  encode: encodeDeadline,
  decode: decodeDeadline,
  hop: true
}

/** The value of a Retries context: 4 bytes. */
export const encodeRetries = (attempt: number): Uint8Array => {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setInt32(0, attempt)
  return bytes
}

/** Which attempt of its call a request is: 0 for the first. For one hop. */
export const Retries: ContextKey<number> = {
  id: "com.twitter.finagle.Retries",
  encode: encodeRetries,
  decode: (bytes) => bytes.length === 4 ? new DataView(bytes.buffer, bytes.byteOffset, 4).getInt32(0) : undefined,
  hop: true
}

/** The key of application headers in a request's Tdispatch, as Finagle names it. */
export const requestHeadersId = "com.twitter.finagle.thrift.Request.headers"
/** The key of application headers in a reply's Rdispatch, as Finagle names it. */
export const responseHeadersId = "com.twitter.finagle.thrift.Response.headers"

/** Application headers: pairs, in order, one name as often as you like. */
export type Headers = ReadonlyArray<readonly [name: string, value: string]>

/** A context's value has no more bytes than this. */
const maxValue = 0x7fff

/**
 * The value of a headers context: `(name~2 value~2)` for each pair, 32767 bytes at most. What does not fit is left out, from
 * the first pair that is too much on, as Finagle does; `dropped` says how many pairs that were.
 */
export const encodeHeaders = (headers: Headers): { readonly bytes: Uint8Array; readonly dropped: number } => {
  const parts: Array<Uint8Array> = []
  let length = 0
  for (const [name, value] of headers) {
    const nameBytes = utf8.encode(name)
    const valueBytes = utf8.encode(value)
    const longer = length + 4 + nameBytes.length + valueBytes.length
    if (longer > maxValue) break
    length = longer
    parts.push(nameBytes, valueBytes)
  }
  const bytes = new Uint8Array(length)
  let at = 0
  for (const part of parts) {
    bytes[at] = part.length >>> 8
    bytes[at + 1] = part.length
    bytes.set(part, at + 2)
    at += 2 + part.length
  }
  return { bytes, dropped: headers.length - parts.length / 2 }
}

/** The pairs of a headers context; `undefined` when a length points past its end. */
export const decodeHeaders = (bytes: Uint8Array): Headers | undefined => {
  const texts: Array<string> = []
  for (let at = 0; at < bytes.length;) {
    if (at + 2 > bytes.length) return undefined
    const start = at + 2
    at = start + ((bytes[at]! << 8) | bytes[at + 1]!)
    if (at > bytes.length) return undefined
    texts.push(fromUtf8.decode(bytes.subarray(start, at)))
  }
  if (texts.length % 2 !== 0) return undefined
  const headers: Array<readonly [string, string]> = []
  for (let i = 0; i < texts.length; i += 2) headers.push([texts[i]!, texts[i + 1]!])
  return headers
}

/** An entry that is read when a request comes in; the headers have no key that is written to a context. */
interface Known {
  readonly name: Uint8Array
  readonly lower: string
  readonly key: ContextKey<any>
  readonly decode: (bytes: Uint8Array) => unknown
}

const entryOf = (id: string, key: ContextKey<any>, decode: Known["decode"]): Known => ({
  name: utf8.encode(id),
  lower: id.toLowerCase(),
  key,
  decode
})

const known: ReadonlyArray<Known> = [
  ...[Trace, Deadline, ClientId, Retries].map((key: ContextKey<any>) => entryOf(key.id, key, key.decode!)),
  entryOf(requestHeadersId, RequestHeaders, decodeHeaders)
]

/** The entry that a name is of; `undefined` for one that stays bytes. A name spelled as usual is told by its bytes alone. */
const knownBy = (name: Uint8Array): Known | undefined => {
  for (const entry of known) if (sameBytes(entry.name, name)) return entry
  if (!known.some((entry) => entry.name.length === name.length)) return undefined
  const lower = fromUtf8.decode(name).toLowerCase()
  return known.find((entry) => entry.lower === lower)
}

/** The deadline among the contexts, the last of several; `undefined` when there is none that reads as one. */
export const deadlineOf = (pairs: ReadonlyArray<Pair>): DeadlineTimes | undefined => {
  let times: DeadlineTimes | undefined
  for (const [name, value] of pairs) {
    if (name.length === Deadline.id.length && knownBy(name)?.key === Deadline) times = decodeDeadline(value)
  }
  return times
}

/** The trace among the contexts, the last of several; `undefined` when there is none that reads as one. */
export const traceOf = (pairs: ReadonlyArray<Pair>): TraceId | undefined => {
  let trace: TraceId | undefined
  for (const [name, value] of pairs) {
    if (name.length === Trace.id.length && knownBy(name)?.key === Trace) trace = Trace.decode!(value) ?? trace
  }
  return trace
}

/**
 * What came with a request: client id, trace, deadline and retries under their keys, the headers, destination and dtab under
 * core's, and everything else as bytes under the name it came with, to be handed on. Names are compared without
 * regard to case, the last of two equal ones counts, and a value that does not read as its key's stays bytes.
 */
export const contextOf = (
  pairs: ReadonlyArray<Pair>,
  destination: string,
  dtab: ReadonlyArray<Dentry>
): CallContext => {
  const entries: Array<ContextEntry> = []
  for (const [name, value] of pairs) {
    const entry = knownBy(name)
    const read = entry?.decode(value)
    if (entry !== undefined && read !== undefined) entries.push({ key: entry.key, value: read })
    else if (entry?.key !== RequestHeaders) entries.push({ key: bytesKey(fromUtf8.decode(name)), value })
  }
  if (destination !== "") entries.push({ key: Destination, value: destination })
  if (dtab.length > 0) entries.push({ key: Dtab, value: dtab })
  return CallContext.of(entries)
}
