/**
 * What a client writes beside a request: contexts in Finagle's order (client id, trace, retries, deadline, then the user's own),
 * destination and delegation table.
 */
import {
  type Attempt,
  CallContext,
  ClientId,
  type Dentry,
  Destination,
  Dtab,
  outboundTraceBytes,
  RequestHeaders,
  Trace
} from "@scales-rpc/core"
import { Deadline, encodeDeadline, encodeHeaders, encodeRetries, requestHeadersId, Retries } from "./Contexts.ts"
import { encodeContexts } from "./Encode.ts"
import type { EncodedContexts, Pair } from "./Message.ts"

const utf8 = new TextEncoder()

/** What a call context comes to on the wire, apart from the entries that each attempt has its own value of. */
interface Prepared {
  readonly before: EncodedContexts
  readonly after: EncodedContexts
  readonly destination: string
  readonly dtab: ReadonlyArray<Dentry>
}

const noDtab: ReadonlyArray<Dentry> = []

/** Keys that have a place of their own. */
const placed = new Set(
  [ClientId, Trace, Destination, Dtab, RequestHeaders, Deadline, Retries].map(({ id }) => id.toLowerCase())
)

const prepare = (context: CallContext): Prepared => {
  const before: Array<Pair> = []
  const after: Array<Pair> = []
  const clientId = context.get(ClientId)
  if (clientId !== undefined) before.push([utf8.encode(ClientId.id), utf8.encode(clientId)])
  for (const { key, value } of context) {
    if (key.encode === undefined || placed.has(key.id.toLowerCase())) continue
    after.push([utf8.encode(key.id), key.encode(value)])
  }
  const headers = context.get(RequestHeaders)
  if (headers !== undefined && headers.length > 0) {
    after.push([utf8.encode(requestHeadersId), encodeHeaders(headers).bytes])
  }
  return {
    before: encodeContexts(before),
    after: encodeContexts(after),
    // The empty path is written as nothing, never as "/".
    destination: context.get(Destination)?.replace(/^\/$/, "") ?? "",
    dtab: context.get(Dtab) ?? noDtab
  }
}

/** A key and the length of its value, ready to be followed by the value. */
const entryHead = (id: string, valueLength: number): Uint8Array => {
  const { bytes } = encodeContexts([[utf8.encode(id), new Uint8Array(valueLength)]])
  return bytes.subarray(0, bytes.length - valueLength)
}

const traceHead = entryHead(Trace.id, 32)
const wideTraceHead = entryHead(Trace.id, 40)
const firstTry = encodeContexts([[utf8.encode(Retries.id), encodeRetries(0)]]).bytes
const deadlineHead = entryHead(Deadline.id, 16)

/** What goes beside one request. */
export interface Marshalled {
  readonly contexts: EncodedContexts
  readonly destination: string
  readonly dtab: ReadonlyArray<Dentry>
  /** The value of the context `Trace`, which is among the contexts. */
  readonly trace: Uint8Array | undefined
}

/** A call, and what it came to. */
interface Last {
  readonly context: CallContext
  readonly now: number
  readonly deadline: number
  readonly marshalled: Marshalled
}

/** Marshals calls; keeps what call contexts came to, since most calls share one. */
export class ClientContexts {
  readonly #prepared = new WeakMap<CallContext, Prepared>()
  readonly #empty = prepare(CallContext.empty)
  readonly #random: () => number
  /** What the last first attempt came to: so do those of the same millisecond with the same timeout and context. */
  #last: Last | undefined
  /** The last deadline written: the calls of one millisecond with one timeout have the same. */
  #deadline: { readonly now: number; readonly at: number; readonly bytes: Uint8Array } | undefined

  /** `random` gives numbers from 0 to 1, for span ids. */
  constructor(random: () => number) {
    this.#random = random
  }

  /**
   * `stackNow` and the attempt's deadline are in the stack's time, which is `ahead` of the wall's that servers go by. Throws `MuxEncodeError`
   * when an entry is over 32767 bytes.
   */
  marshal(attempt: Attempt, stackNow: number, ahead: number): Marshalled {
    const { context, number } = attempt
    const now = stackNow - ahead
    const deadline = attempt.deadline - ahead
    const last = number > 0 ? undefined : this.#last
    const known = last !== undefined && last.context === context && last.now === now && last.deadline === deadline
    if (known && attempt.trace === undefined && last.marshalled.trace === undefined) return last.marshalled
    const trace = outboundTraceBytes(attempt, this.#random)
    if (known && trace !== undefined && trace.length === last.marshalled.trace?.length) {
      return this.#retraced(last, trace)
    }
    const marshalled = this.#marshal(attempt, now, deadline, trace)
    if (number === 0) this.#last = { context, now, deadline, marshalled }
    return marshalled
  }

  /** The same in another trace, whose bytes are as many: in a trace each call has a span of its own. */
  #retraced({ context, marshalled }: Last, trace: Uint8Array): Marshalled {
    const { contexts, destination, dtab } = marshalled
    const bytes = Buffer.from(contexts.bytes)
    bytes.set(trace, this.#of(context).before.bytes.length + traceHead.length)
    return { contexts: { bytes, count: contexts.count }, destination, dtab, trace }
  }

  #marshal(attempt: Attempt, now: number, due: number, trace: Uint8Array | undefined): Marshalled {
    const prepared = this.#of(attempt.context)
    const { after, before } = prepared
    const deadline = due === Infinity ? undefined : this.#deadlineBytes(now, due)
    const length = before.bytes.length + firstTry.length + after.bytes.length +
      (trace === undefined ? 0 : traceHead.length + trace.length) +
      (deadline === undefined ? 0 : deadlineHead.length + deadline.length)
    const bytes = Buffer.allocUnsafe(length)
    let at = 0
    const put = (part: Uint8Array) => {
      bytes.set(part, at)
      at += part.length
    }
    if (before.count > 0) put(before.bytes)
    if (trace !== undefined) {
      put(trace.length === 32 ? traceHead : wideTraceHead)
      put(trace)
    }
    put(firstTry)
    if (attempt.number > 0) bytes.writeInt32BE(attempt.number, at - 4)
    if (deadline !== undefined) {
      put(deadlineHead)
      put(deadline)
    }
    if (after.count > 0) put(after.bytes)
    return {
      contexts: {
        count: before.count + after.count + 1 + (trace === undefined ? 0 : 1) + (deadline === undefined ? 0 : 1),
        bytes
      },
      destination: prepared.destination,
      dtab: prepared.dtab,
      trace
    }
  }

  #of(context: CallContext): Prepared {
    if (context === CallContext.empty) return this.#empty
    let prepared = this.#prepared.get(context)
    if (prepared === undefined) {
      prepared = prepare(context)
      this.#prepared.set(context, prepared)
    }
    return prepared
  }

  #deadlineBytes(now: number, at: number): Uint8Array {
    const last = this.#deadline
    if (last !== undefined && last.now === now && last.at === at) return last.bytes
    const bytes = encodeDeadline({ timestamp: now, deadline: at })
    this.#deadline = { now, at, bytes }
    return bytes
  }
}
