/** The messages of the mux protocol as plain data, their numbers on the wire, and the limits on what a peer may send. */
import type { Dentry } from "@scales-rpc/core"

/**
 * Type numbers: a signed byte, T messages above 0, their R replies below. `OldRerr` and `OldTdiscarded` are how Finagle has
 * written Rerr and Tdiscarded since 2014; so do we, and both spellings are read.
 */
export const Type = {
  Treq: 1,
  Rreq: -1,
  Tdispatch: 2,
  Rdispatch: -2,
  Tdrain: 64,
  Rdrain: -64,
  Tping: 65,
  Rping: -65,
  Tdiscarded: 66,
  Rdiscarded: -66,
  Tlease: 67,
  Tinit: 68,
  Rinit: -68,
  Rerr: -128,
  OldRerr: 127,
  OldTdiscarded: -62
} as const

/** Tags of messages that expect no reply (Tdiscarded, Tlease). */
export const markerTag = 0
/** The tag of the handshake, of pings and of drains. */
export const controlTag = 1
/** The first tag given to a dispatch. */
export const minTag = 2
/** The last one: tags have 23 bits. */
export const maxTag = 0x7fffff
/** Set in the tag of every fragment of a message but its last. */
export const fragmentBit = 0x800000

/** The version of the protocol that Tinit and Rinit carry. */
export const version = 1

/** One context entry, or one header of Tinit and Rinit: bytes on both sides. Keys are UTF-8. */
export type Pair = readonly [key: Uint8Array, value: Uint8Array]

/** Whether two keys are the same bytes. */
export const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** Contexts already in wire form, `(key~2 value~2)` for each of `count` entries: for a sender that sends the same ones again. */
export interface EncodedContexts {
  readonly count: number
  readonly bytes: Uint8Array
}

/** The trace that a Treq can carry: 64-bit ids, and one byte of flags. */
export interface TreqTrace {
  readonly spanId: bigint
  readonly parentId: bigint
  readonly traceId: bigint
  /** Bit 0: debug. The other bits do not travel. */
  readonly flags: number
}

/** A request without contexts, for servers that know no Tdispatch. */
export interface Treq {
  readonly _tag: "Treq"
  readonly tag: number
  readonly trace: TreqTrace | undefined
  readonly body: Uint8Array
}

/** The outcome of a request. */
export const Status = {
  /** The body is the reply. */
  Ok: 0,
  /** The body is the text of an error, UTF-8. */
  Error: 1,
  /** Not executed. The body may give a reason. */
  Nack: 2
} as const

/** One of `Status`. */
export type Status = 0 | 1 | 2

/** The reply to a Treq. */
export interface Rreq {
  readonly _tag: "Rreq"
  readonly tag: number
  readonly status: Status
  readonly body: Uint8Array
}

/** A request. */
export interface Tdispatch {
  readonly _tag: "Tdispatch"
  readonly tag: number
  readonly contexts: ReadonlyArray<Pair>
  /** A path such as `/svc/echo`; empty for none. */
  readonly destination: string
  readonly dtab: ReadonlyArray<Dentry>
  readonly body: Uint8Array
}

/** A request whose contexts are in wire form. Only ever sent. */
export interface EncodedTdispatch extends Omit<Tdispatch, "contexts"> {
  readonly contexts: EncodedContexts
}

/** The reply to a Tdispatch. */
export interface Rdispatch {
  readonly _tag: "Rdispatch"
  readonly tag: number
  readonly status: Status
  readonly contexts: ReadonlyArray<Pair>
  readonly body: Uint8Array
}

/** Asks the peer to send no more requests. */
export interface Tdrain {
  readonly _tag: "Tdrain"
  readonly tag: number
}

/** No more requests will come. */
export interface Rdrain {
  readonly _tag: "Rdrain"
  readonly tag: number
}

/** Is the peer there? */
export interface Tping {
  readonly _tag: "Tping"
  readonly tag: number
}

/** It is. */
export interface Rping {
  readonly _tag: "Rping"
  readonly tag: number
}

/** The reply to the request `which` is no longer wanted. `tag` is `markerTag`. */
export interface Tdiscarded {
  readonly _tag: "Tdiscarded"
  readonly tag: number
  readonly which: number
  readonly why: string
}

/** The request with this tag was discarded; the tag is free again. */
export interface Rdiscarded {
  readonly _tag: "Rdiscarded"
  readonly tag: number
}

/** How long the server answers for itself. `tag` is `markerTag`. */
export interface Tlease {
  readonly _tag: "Tlease"
  readonly tag: number
  /** 0: milliseconds from now, the only unit in use. */
  readonly unit: number
  /** 64 bits on the wire, so a bigint; Finagle sends 0 to 2^32 - 1. */
  readonly howMuch: bigint
}

/** Opens the handshake. */
export interface Tinit {
  readonly _tag: "Tinit"
  readonly tag: number
  readonly version: number
  readonly headers: ReadonlyArray<Pair>
}

/** Answers Tinit. */
export interface Rinit {
  readonly _tag: "Rinit"
  readonly tag: number
  readonly version: number
  readonly headers: ReadonlyArray<Pair>
}

/** The peer could not interpret or act on the message with this tag. */
export interface Rerr {
  readonly _tag: "Rerr"
  readonly tag: number
  readonly why: string
}

/** Every message there is. */
export type Message =
  | Treq
  | Rreq
  | Tdispatch
  | Rdispatch
  | Tdrain
  | Rdrain
  | Tping
  | Rping
  | Tdiscarded
  | Rdiscarded
  | Tlease
  | Tinit
  | Rinit
  | Rerr

/** What can be sent: every message, and a request with contexts in wire form. */
export type Sendable = Message | EncodedTdispatch

/** The type number that a message is written with. */
export const typeOf = (message: Sendable): number => {
  switch (message._tag) {
    case "Tdispatch":
      return Type.Tdispatch
    case "Rdispatch":
      return Type.Rdispatch
    case "Rerr":
      return Type.OldRerr
    case "Tdiscarded":
      return Type.OldTdiscarded
    default:
      return Type[message._tag]
  }
}

/** What a session accepts from its peer. A peer that goes beyond costs its connection, and no more memory than this. */
export interface Limits {
  /** The body of one message, in one frame or put together from fragments. */
  readonly messageBytes: number
  /** Context entries of one message. */
  readonly contexts: number
  /** Keys and values of all context entries of one message together. */
  readonly contextBytes: number
  /** Entries of one message's delegation table. */
  readonly dtabEntries: number
  /** Headers of a Tinit or Rinit. */
  readonly initHeaders: number
  /** Messages of which some fragments have come, and the last has not. */
  readonly reassemblies: number
  /** Bytes held for all of them together. */
  readonly reassemblyBytes: number
}

/**
 * Protecting defaults: 17 MiB a message (16 MiB is what Thrift calls large, and room for contexts), 256 contexts of 256 KiB in
 * all, 256 dtab entries, 64 headers, 1024 reassemblies of 64 MiB in all. Finagle has no limits but 2^31 - 1 on the frame.
 */
export const defaultLimits: Limits = {
  messageBytes: 17 * 1024 * 1024,
  contexts: 256,
  contextBytes: 256 * 1024,
  dtabEntries: 256,
  initHeaders: 64,
  reassemblies: 1024,
  reassemblyBytes: 64 * 1024 * 1024
}
