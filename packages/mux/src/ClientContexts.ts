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
  RequestHeaders,
  Trace,
  type TraceId
} from "@scales-rpc/core"
import { Deadline, encodeDeadline, encodeHeaders, encodeRetries, requestHeadersId, Retries } from "./Contexts.ts"
import { encodeContexts } from "./Encode.ts"
import type { EncodedContexts, Pair } from "./Message.ts"

const utf8 = new TextEncoder()

/** What a call context comes to on the wire, apart from the entries that each attempt has its own value of. */
interface Prepared {
  readonly before: EncodedContexts
  readonly trace: TraceId | undefined
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
    trace: context.get(Trace),
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
  readonly trace: TraceId | undefined
}

/** Marshals calls; keeps what call contexts came to, since most calls share one. */
export class ClientContexts {
  readonly #prepared = new WeakMap<CallContext, Prepared>()
  readonly #empty = prepare(CallContext.empty)
  readonly #random: () => number
  /** What the last first attempt came to: so do those of the same millisecond with the same timeout and context. */
  #last:
    | {
      readonly context: CallContext
      readonly now: number
      readonly deadline: number
      readonly marshalled: Marshalled
    }
    | undefined
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
    if (number > 0) return this.#marshal(attempt, now, deadline)
    const last = this.#last
    if (last !== undefined && last.context === context && last.now === now && last.deadline === deadline) {
      return last.marshalled
    }
    const marshalled = this.#marshal(attempt, now, deadline)
    // Each attempt in a trace is a span of its own.
    if (marshalled.trace === undefined) this.#last = { context, now, deadline, marshalled }
    return marshalled
  }

  #marshal(attempt: Attempt, now: number, due: number): Marshalled {
    const prepared = this.#of(attempt.context)
    const { after, before } = prepared
    const trace = prepared.trace === undefined ? undefined : this.#child(prepared.trace)
    const traceBytes = trace === undefined ? undefined : Trace.encode!(trace)
    const deadline = due === Infinity ? undefined : this.#deadlineBytes(now, due)
    const length = before.bytes.length + firstTry.length + after.bytes.length +
      (traceBytes === undefined ? 0 : traceHead.length + traceBytes.length) +
      (deadline === undefined ? 0 : deadlineHead.length + deadline.length)
    const bytes = Buffer.allocUnsafe(length)
    let at = 0
    const put = (part: Uint8Array) => {
      bytes.set(part, at)
      at += part.length
    }
    if (before.count > 0) put(before.bytes)
    if (traceBytes !== undefined) {
      put(traceBytes.length === 32 ? traceHead : wideTraceHead)
      put(traceBytes)
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

  /** Each attempt is a span of its own under the one it was made in. */
  #child(trace: TraceId): TraceId {
    return { ...trace, parentId: trace.spanId, spanId: this.#spanId() }
  }

  #spanId(): bigint {
    const high = BigInt(Math.floor(this.#random() * 2 ** 32))
    const low = BigInt(Math.floor(this.#random() * 2 ** 32))
    const id = (high << 32n) | low
    return id === 0n ? 1n : id
  }
}
