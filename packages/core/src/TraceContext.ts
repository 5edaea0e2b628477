/** A trace between processes: spans of a call as ids that a protocol writes, and ids that came with one as the span that a handler runs in. */
import * as Context from "effect/Context"
import * as Option from "effect/Option"
import type * as Tracer from "effect/Tracer"
import type { Call } from "./Call.ts"
import { Trace, type TraceId } from "./CallContext.ts"

/** Flags of a trace, as Finagle has them. */
const debug = 1n
const decided = 2n
const sampled = 4n
const decidedSampled = decided | sampled

const traceIdForm = /^(?!0+$)[0-9a-f]{1,32}$/i
const spanIdForm = /^(?!0+$)[0-9a-f]{1,16}$/i

/** 64 random bits that are not all 0, of numbers from 0 to 1. */
export const randomId = (random: () => number): bigint => {
  const high = BigInt(Math.floor(random() * 2 ** 32))
  const low = BigInt(Math.floor(random() * 2 ** 32))
  const id = (high << 32n) | low
  return id === 0n ? 1n : id
}

/** An id of 64 bits as 16 digits. */
const hex = (id: bigint): string => BigInt.asUintN(64, id).toString(16).padStart(16, "0")

/** A word of 32 bits as 8 digits. */
const digits = (word: number): string => word.toString(16).padStart(8, "0")

/** A trace that begins here and is not recorded. It has ids once somebody asks for them. */
export class Unsampled implements Tracer.ExternalSpan {
  readonly _tag = "ExternalSpan"
  readonly sampled = false
  readonly annotations = Context.empty()
  /** Whether it is that of a call, which begins with it; else of a request, under which calls are spans of their own. */
  readonly ofCall: boolean
  readonly #random: () => number
  /** The trace id, and the span id behind it, each with a lowest bit that keeps it from being 0. */
  #words: ReadonlyArray<number> | undefined

  /** `random` gives numbers from 0 to 1. */
  constructor(random: () => number, ofCall: boolean) {
    this.#random = random
    this.ofCall = ofCall
  }

  /** The ids: four words of 32 bits of the trace's, two of the span's. */
  get words(): ReadonlyArray<number> {
    if (this.#words !== undefined) return this.#words
    const word = () => (this.#random() * 2 ** 32) >>> 0
    return this.#words = [word(), word(), word(), (word() | 1) >>> 0, word(), (word() | 1) >>> 0]
  }

  get traceId(): string {
    const [first, second, third, fourth] = this.words
    return digits(first!) + digits(second!) + digits(third!) + digits(fourth!)
  }

  get spanId(): string {
    return digits(this.words[4]!) + digits(this.words[5]!)
  }
}

/** The span that came with a request: what its handler runs in, or the parent of what that runs in. Its ids are 32 and 16 digits. */
export class InboundSpan implements Tracer.ExternalSpan {
  readonly _tag = "ExternalSpan"
  readonly annotations = Context.empty()
  /** As it came; `flags` with what was decided here, if it came undecided and somebody decided it. */
  readonly trace: TraceId
  #traceId: string | undefined
  #spanId: string | undefined

  constructor(trace: TraceId) {
    this.trace = trace
  }

  /** One that nobody has decided about may be recorded. */
  get sampled(): boolean {
    return !isRefused(this.trace)
  }

  get traceId(): string {
    return this.#traceId ??= hex(this.trace.traceIdHigh ?? 0n) + hex(this.trace.traceId)
  }

  get spanId(): string {
    return this.#spanId ??= hex(this.trace.spanId)
  }
}

/** Whether a trace has ids: one whose ids are 0 is none, and its flags are all that it says. */
export const isTrace = ({ spanId, traceId, traceIdHigh = 0n }: TraceId): boolean =>
  spanId !== 0n && (traceId !== 0n || traceIdHigh !== 0n)

/** Whether it came with the word that it is not to be recorded. */
export const isRefused = ({ flags }: TraceId): boolean => (flags & (debug | decidedSampled)) === decided

/** Whether the sampling of a trace is decided: whoever gets one that is not may decide. */
export const isDecided = ({ flags }: TraceId): boolean => (flags & (debug | decided)) !== 0n

/** The same, decided. */
export const decide = (trace: TraceId, recorded: boolean): TraceId => ({
  ...trace,
  flags: (trace.flags & ~sampled) | decided | (recorded ? sampled : 0n)
})

/** Where a span's trace began, as far as this process knows. */
const rootOf = (span: Tracer.AnySpan): Tracer.AnySpan => {
  let at = span
  while (at._tag === "Span" && Option.isSome(at.parent)) at = at.parent.value
  return at
}

/**
 * Flags of what is handed on. Sampling is decided by whoever records, or came decided. A span that nobody listens to is no decision: it is left to
 * the server, as Finagle does where it has no tracer.
 */
const flagsOf = (span: Tracer.AnySpan, recorded: boolean): bigint => {
  const root = rootOf(span)
  const decision = span.sampled ? decidedSampled : decided
  if (root instanceof InboundSpan) {
    const { flags } = root.trace
    return span.sampled && !recorded ? flags : (flags & ~decidedSampled) | decision
  }
  return root._tag === "Span" && span.sampled && !recorded ? 0n : decision
}

/**
 * The trace as the server of an attempt is to see it. Of an entry `Trace` that the caller set, and of a span of its caller's that is only handed
 * on, a span under it with an id of its own, as Finagle's clients make one for each attempt; of the call's own span, or a trace that begins with the call and
 * is not recorded, that. `undefined`: no trace is sent. `random` gives numbers from 0 to 1.
 */
export const outboundTrace = (attempt: Call, random: () => number): TraceId | undefined => {
  const { context, span, trace } = attempt
  const given = context.get(Trace)
  if (given !== undefined) return { ...given, parentId: given.spanId, spanId: randomId(random) }
  if (trace === undefined || !traceIdForm.test(trace.traceId) || !spanIdForm.test(trace.spanId)) {
    return undefined
  }
  const id = BigInt(`0x${trace.traceId}`)
  const own = trace === span || trace instanceof Unsampled && trace.ofCall
  const at = BigInt(`0x${trace.spanId}`)
  return {
    traceId: BigInt.asUintN(64, id),
    // Of 64 bits, as those of Finagle's own are unless it is told otherwise.
    traceIdHigh: id >> 64n === 0n ? undefined : id >> 64n,
    spanId: own ? at : randomId(random),
    parentId: own ? parentOf(trace) ?? at : at,
    flags: flagsOf(trace, span !== undefined)
  }
}

const parentOf = (span: Tracer.AnySpan): bigint | undefined => {
  const parent = span._tag === "Span" ? Option.getOrUndefined(span.parent)?.spanId : undefined
  return parent !== undefined && spanIdForm.test(parent) ? BigInt(`0x${parent}`) : undefined
}

/** What each character of a hexadecimal number stands for, by its code; -1: none is one. */
const digitOf = Int8Array.from({ length: 128 }, (_, code) => {
  const digit = Number.parseInt(String.fromCharCode(code), 16)
  return Number.isNaN(digit) ? -1 : digit
})

const digitAt = (id: string, index: number): number => {
  if (index < 0) return 0
  const code = id.charCodeAt(index)
  return code < 128 ? digitOf[code]! : -1
}

/** Writes an id into the `length` bytes at `at`; `false`: it is none. */
const writeId = (bytes: Uint8Array, at: number, length: number, id: string): boolean => {
  if (id.length > 2 * length) return false
  let all = 0
  for (let to = at + length - 1, index = id.length - 1; to >= at; to--, index -= 2) {
    const byte = digitAt(id, index - 1) << 4 | digitAt(id, index)
    if (byte < 0) return false
    all |= byte
    bytes[to] = byte
  }
  return all !== 0
}

const writeWord = (bytes: Uint8Array, at: number, word: number): void => {
  bytes[at] = word >>> 24
  bytes[at + 1] = word >>> 16
  bytes[at + 2] = word >>> 8
  bytes[at + 3] = word
}

/** Where the words of a trace that is not recorded stand: its span has no parent, and Finagle writes the span there. */
const unsampledPlaces = [32, 36, 16, 20, 0, 4]

/** A trace id while it is looked at. */
const traceIdBytes = new Uint8Array(16)

/** `outboundTrace` as the value of the context `Trace`: a fraction of the cost, where every call of a client is in a trace. */
export const outboundTraceBytes = (attempt: Call, random: () => number): Uint8Array | undefined => {
  const { context, span, trace } = attempt
  if (trace === undefined || !context.isEmpty && context.get(Trace) !== undefined) {
    const given = outboundTrace(attempt, random)
    return given === undefined ? undefined : Trace.encode!(given)
  }
  if (trace instanceof Unsampled && trace.ofCall) {
    const bytes = new Uint8Array(40)
    const { words } = trace
    for (let i = 0; i < 6; i++) writeWord(bytes, unsampledPlaces[i]!, words[i]!)
    writeWord(bytes, 8, words[4]!)
    writeWord(bytes, 12, words[5]!)
    bytes[31] = Number(decided)
    return bytes
  }
  const { spanId, traceId } = trace
  if (!writeId(traceIdBytes, 0, 16, traceId)) return undefined
  let wide = false
  for (let i = 0; i < 8; i++) wide ||= traceIdBytes[i] !== 0
  const bytes = new Uint8Array(wide ? 40 : 32)
  for (let i = 0; i < 8; i++) {
    bytes[16 + i] = traceIdBytes[8 + i]!
    if (wide) bytes[32 + i] = traceIdBytes[i]!
  }
  if (!writeId(bytes, 0, 8, spanId)) return undefined
  const parent = trace === span ? Option.getOrUndefined(span.parent)?.spanId : undefined
  if (parent === undefined || !writeId(bytes, 8, 8, parent)) bytes.copyWithin(8, 0, 8)
  if (trace !== span) {
    writeWord(bytes, 0, (random() * 2 ** 32) >>> 0)
    // As `randomId`: 64 bits that are not all 0.
    const low = (random() * 2 ** 32) >>> 0
    writeWord(bytes, 4, low === 0 && bytes.subarray(0, 4).every((byte) => byte === 0) ? 1 : low)
  }
  const flags = flagsOf(trace, span !== undefined)
  if (flags === decided || flags === decidedSampled) bytes[31] = Number(flags)
  else new DataView(bytes.buffer).setBigUint64(24, flags)
  return bytes
}
