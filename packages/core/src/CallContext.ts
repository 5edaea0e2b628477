/**
 * What travels with a call beside its arguments: client id, trace, destination, dtab, headers and entries of the user's own.
 * Immutable; a protocol writes what it has a place for, and a server hands what it read to the calls made under it.
 */

/**
 * Names one entry. With `encode` and `decode` the entry goes over the wire under `id`; without, it stays in this process.
 * `hop`: for the next server only, not for the calls that server makes.
 */
export interface ContextKey<A> {
  /** The name on the wire; compared without regard to case, as Finagle does. */
  readonly id: string
  readonly encode?: ((value: A) => Uint8Array) | undefined
  /** `undefined` when the bytes are no value of this key: the entry then reads as absent. */
  readonly decode?: ((bytes: Uint8Array) => A | undefined) | undefined
  readonly hop?: boolean | undefined
}

const utf8 = new TextEncoder()
const fromUtf8 = new TextDecoder("utf-8", { ignoreBOM: true })

/** A key whose value is text, UTF-8 on the wire. */
export const textKey = (id: string, options?: { readonly hop?: boolean }): ContextKey<string> => ({
  id,
  encode: (value) => utf8.encode(value),
  decode: (bytes) => fromUtf8.decode(bytes),
  hop: options?.hop
})

/** A key whose value is bytes. */
export const bytesKey = (id: string, options?: { readonly hop?: boolean }): ContextKey<Uint8Array> => ({
  id,
  encode: (value) => value,
  decode: (bytes) => bytes,
  hop: options?.hop
})

/** A key whose value never leaves this process. */
export const localKey = <A>(id: string): ContextKey<A> => ({ id })

/** Who calls. Not handed on: a server's own calls carry its own id (Finagle clears it too). */
export const ClientId: ContextKey<string> = textKey("com.twitter.finagle.thrift.ClientIdContext", { hop: true })

/** Where a call stands in a distributed trace, as Finagle keeps it; all ids are exact 64 bits. */
export interface TraceId {
  readonly traceId: bigint
  /** The upper half of a 128-bit trace id; `undefined` for a 64-bit one. */
  readonly traceIdHigh: bigint | undefined
  readonly spanId: bigint
  readonly parentId: bigint
  /** Bit 0 debug, bit 1 sampling decided, bit 2 sampled. */
  readonly flags: bigint
}

const traceIdOf = (bytes: Uint8Array): TraceId | undefined => {
  if (bytes.length !== 32 && bytes.length !== 40) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  return {
    spanId: view.getBigUint64(0),
    parentId: view.getBigUint64(8),
    traceId: view.getBigUint64(16),
    flags: view.getBigUint64(24),
    traceIdHigh: bytes.length === 40 ? view.getBigUint64(32) : undefined
  }
}

const traceIdBytes = (trace: TraceId): Uint8Array => {
  const bytes = new Uint8Array(trace.traceIdHigh === undefined ? 32 : 40)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, trace.spanId)
  view.setBigUint64(8, trace.parentId)
  view.setBigUint64(16, trace.traceId)
  view.setBigUint64(24, trace.flags)
  if (trace.traceIdHigh !== undefined) view.setBigUint64(32, trace.traceIdHigh)
  return bytes
}

/**
 * The trace. A call that is given one is sent with a span of its own under it, whatever span it is made in. A server does not hand it on by this key:
 * its handlers run in the span that came, and calls are sent with what they are made in.
 */
export const Trace: ContextKey<TraceId> = {
  id: "com.twitter.finagle.tracing.TraceContext",
  encode: traceIdBytes,
  decode: traceIdOf,
  hop: true
}

/** The logical name the call is for, a Finagle path such as `/svc/echo`; empty by default. */
export const Destination: ContextKey<string> = { ...localKey<string>("destination"), hop: true }

/** One rewriting rule of a delegation table: `/prefix` to a name tree such as `/dst` or `/a | /b`. */
export interface Dentry {
  readonly prefix: string
  readonly tree: string
}

/** Delegations that override the receiver's, handed on down the call graph. */
export const Dtab: ContextKey<ReadonlyArray<Dentry>> = localKey("dtab")

/** Application headers of the request: pairs, in order. Stripped from the contexts at the server, never handed on. */
export const RequestHeaders: ContextKey<ReadonlyArray<readonly [string, string]>> = {
  ...localKey<ReadonlyArray<readonly [string, string]>>("request-headers"),
  hop: true
}

/** One key with its value. */
export interface ContextEntry {
  readonly key: ContextKey<any>
  readonly value: unknown
}

/** An immutable set of entries, one a key. */
export class CallContext {
  readonly #entries: ReadonlyMap<string, ContextEntry>

  private constructor(entries: ReadonlyMap<string, ContextEntry>) {
    this.#entries = entries
  }

  static readonly empty: CallContext = new CallContext(new Map())

  /** These entries; of two under one name the last counts. */
  static readonly of = (entries: Iterable<ContextEntry>): CallContext => {
    const map = new Map<string, ContextEntry>()
    for (const entry of entries) map.set(entry.key.id.toLowerCase(), entry)
    return map.size === 0 ? CallContext.empty : new CallContext(map)
  }

  /** Whether there is nothing in it. */
  get isEmpty(): boolean {
    return this.#entries.size === 0
  }

  /** The value under a key. */
  get<A>(key: ContextKey<A>): A | undefined {
    if (this.#entries.size === 0) return undefined
    const entry = this.#entries.get(key.id.toLowerCase())
    if (entry === undefined) return undefined
    if (entry.key === key || entry.key.decode === undefined) return entry.value as A
    // Came from the wire, or was set through another key of the same name: read it as this one.
    const bytes = entry.key.encode?.(entry.value)
    return bytes === undefined ? undefined : key.decode?.(bytes)
  }

  /** With one entry more, or another value for it. */
  with<A>(key: ContextKey<A>, value: A): CallContext {
    return new CallContext(new Map(this.#entries).set(key.id.toLowerCase(), { key, value }))
  }

  /** With everything of `other`, whose values win. */
  merge(other: CallContext): CallContext {
    if (other.isEmpty) return this
    if (this.isEmpty) return other
    return new CallContext(new Map([...this.#entries, ...other.#entries]))
  }

  /** What a server hands on to the calls it makes: everything but the entries for one hop. */
  get onward(): CallContext {
    const kept = [...this.#entries].filter(([, entry]) => entry.key.hop !== true)
    return kept.length === 0 ? CallContext.empty : new CallContext(new Map(kept))
  }

  /** The entries, in the order they were set. */
  [Symbol.iterator](): Iterator<ContextEntry> {
    return this.#entries.values()
  }
}
