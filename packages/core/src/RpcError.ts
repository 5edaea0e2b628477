/**
 * Every failure that a stack of sinks can end a call with: one tagged class each, with the endpoint, the cause, and
 * whether the request can have reached a server.
 *
 * None of them captures a stack trace: they come in storms, a trace costs 4 to 5 microseconds, and what it would show is
 * this library. The cause that the operating system or the peer gave is kept.
 */
import type * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import type { Endpoint } from "./Endpoint.ts"
import { textOf } from "./internal/textOf.ts"

/**
 * Whether the request can have been executed: `"no"`: provably not (never written, or the server said that it did not
 * run it); `"maybe"`: it left, and what became of it is unknown.
 */
export type Reached = "no" | "maybe"

/**
 * The base of a tagged failure: like Effect's `Data.TaggedError`, but without a stack trace. A subclass says what its message is in
 * a `message` getter.
 */
export const Failure = <const Tag extends string>(tag: Tag): new<Fields extends Record<string, any>>(
  fields: Fields
) => Cause.YieldableError & { readonly _tag: Tag } & Readonly<Fields> => {
  class Base extends (Data.Error as new(fields: Record<string, unknown>) => Cause.YieldableError) {
    readonly _tag = tag
    constructor(fields: Record<string, unknown>) {
      const limit = Error.stackTraceLimit
      Error.stackTraceLimit = 0
      super(fields)
      Error.stackTraceLimit = limit
    }
  }
  Base.prototype.name = tag
  return Base as never
}

const at = (endpoint: Endpoint | undefined): string => endpoint === undefined ? "" : ` at ${endpoint.key}`

const because = (cause: unknown): string => cause === undefined ? "" : `: ${textOf(cause)}`

/**
 * What a call was waiting for when it was ended: a first endpoint, a connection, its turn (`queue`), its reply, the
 * time to be sent again (`backoff`), or something in a stage of the user's (`filter`).
 */
export type Waiting = "endpoint" | "connection" | "queue" | "reply" | "backoff" | "filter"

/**
 * The call's deadline passed. `waiting` says in which wait, `timeoutMillis` how long the call was given, `cause` what
 * that wait last met (a refused connection, say).
 */
export class Timeout extends Failure("Timeout")<{
  readonly timeoutMillis: number
  readonly waiting: Waiting
  readonly reached: Reached
  readonly endpoint: Endpoint | undefined
  readonly cause: unknown
}> {
  override get message(): string {
    return `no reply within ${this.timeoutMillis} ms, waiting for ${this.waiting}${at(this.endpoint)}${
      because(this.cause)
    }`
  }
  /** A timed-out call may be repeated only when it provably never ran, and then its time is over: never requeued. */
  get retryable(): boolean {
    return false
  }
}

/** Another attempt of the same call answered first (hedging). No caller meets it; load and accrual ignore it. */
export class Superseded
  extends Failure("Superseded")<{ readonly reached: Reached; readonly endpoint: Endpoint | undefined }>
{
  override get message(): string {
    return `superseded by another attempt${at(this.endpoint)}`
  }
  get retryable(): boolean {
    return false
  }
}

/** The client was closed: before the call (`reached: "no"`), or under it, after `drainTimeout` had passed. */
export class StackClosed extends Failure("StackClosed")<{
  readonly stack: string
  readonly reached: Reached
  readonly endpoint: Endpoint | undefined
}> {
  override get message(): string {
    return `client "${this.stack}" is closed${at(this.endpoint)}`
  }
  get retryable(): boolean {
    return false
  }
}

/** The server set has no endpoint: empty, unknown to its resolver (`Neg`), or its resolution failed (`cause`). */
export class NoEndpoints extends Failure("NoEndpoints")<{ readonly stack: string; readonly cause: unknown }> {
  readonly reached: Reached = "no"
  override get message(): string {
    return `no endpoint for "${this.stack}"${because(this.cause)}`
  }
  get retryable(): boolean {
    return false
  }
}

/** A connection could not be made: refused, unresolvable, no answer in time, or its handshake failed. */
export class ConnectFailed extends Failure("ConnectFailed")<{
  readonly endpoint: Endpoint
  readonly phase: "resolve" | "connect" | "tls" | "handshake"
  readonly cause: unknown
}> {
  readonly reached: Reached = "no"
  override get message(): string {
    return `${this.phase} failed${at(this.endpoint)}${because(this.cause)}`
  }
  get retryable(): boolean {
    return true
  }
}

/** The endpoint is known to be down, or its calls to fail, and nothing else was usable; `cause` says why, `nextAttempt` when it is tried again. */
export class FastFailure extends Failure("FastFailure")<{
  readonly endpoint: Endpoint
  readonly cause: unknown
  /** When the next attempt to connect, or the next probe, may start, in milliseconds since the epoch of the stack's `Clock`; `Infinity`: on demand only. */
  readonly nextAttempt: number
}> {
  readonly reached: Reached = "no"
  override get message(): string {
    return `down${at(this.endpoint)}${because(this.cause)}`
  }
  get retryable(): boolean {
    return true
  }
}

/** The connection ended under the call. `reached: "no"` when the request was still queued and never written. */
export class ConnectionClosed extends Failure("ConnectionClosed")<{
  readonly endpoint: Endpoint
  readonly reached: Reached
  readonly cause: unknown
}> {
  override get message(): string {
    return `connection closed${at(this.endpoint)}${because(this.cause)}`
  }
  get retryable(): boolean {
    return this.reached === "no"
  }
}

/** The server, or the session on its behalf, refused to run the call. `retryable` is the server's word on trying elsewhere. */
export class Nacked extends Failure("Nacked")<{
  readonly endpoint: Endpoint
  readonly why: string
  readonly retryable: boolean
}> {
  readonly reached: Reached = "no"
  override get message(): string {
    return `refused${at(this.endpoint)}: ${this.why}`
  }
}

/**
 * The server answered the call with an error instead of a reply: mux status 1, a session-level `Rerr`, a status of HTTP in place of a
 * Thrift reply (`cause` has it). `retryable` and `rejected` are its failure flags; without flags it is neither.
 */
export class ServerFailed extends Failure("ServerFailed")<{
  readonly endpoint: Endpoint
  readonly why: string
  readonly retryable: boolean
  readonly rejected: boolean
  readonly cause?: unknown
}> {
  get reached(): Reached {
    return this.rejected ? "no" : "maybe"
  }
  override get message(): string {
    return `server failed${at(this.endpoint)}: ${this.why}`
  }
}

/** The peer sent what the protocol does not allow. The connection is dropped: its state is unknown. */
export class ProtocolError extends Failure("ProtocolError")<{
  readonly endpoint: Endpoint | undefined
  readonly what: string
  readonly cause: unknown
}> {
  readonly reached: Reached = "maybe"
  override get message(): string {
    return `protocol error${at(this.endpoint)}: ${this.what}${because(this.cause)}`
  }
  get retryable(): boolean {
    return false
  }
}

/** The call cannot be sent as it is, on any connection: a oneway method over mux, a request over a limit. */
export class Unsendable extends Failure("Unsendable")<{ readonly what: string; readonly cause: unknown }> {
  readonly reached: Reached = "no"
  override get message(): string {
    return `cannot be sent: ${this.what}`
  }
  get retryable(): boolean {
    return false
  }
}

/**
 * More calls at once than a limit of the client's own allows: `concurrency` over the whole client, or `pending` at one
 * endpoint. `max` is the limit.
 */
export class LimitExceeded extends Failure("LimitExceeded")<{
  readonly limit: "concurrency" | "pending"
  readonly max: number
  readonly endpoint: Endpoint | undefined
}> {
  readonly reached: Reached = "no"
  override get message(): string {
    return `more than ${this.max} calls at a time${at(this.endpoint)} (${this.limit} limit)`
  }
  get retryable(): boolean {
    return true
  }
}

/**
 * Not sent, because the servers have refused most of the recent calls: `accepted` is the share that they took, 0 to 1. Trying again at once is
 * what they are to be spared.
 */
export class NotAdmitted extends Failure("NotAdmitted")<{ readonly stack: string; readonly accepted: number }> {
  readonly reached: Reached = "no"
  override get message(): string {
    return `"${this.stack}" holds back: its servers took ${Math.round(this.accepted * 100)} % of the recent calls`
  }
  get retryable(): boolean {
    return false
  }
}

/** All connections to the endpoint carry a call, and as many calls as may wait for one do: `max`. */
export class MaxWaiters extends Failure("MaxWaiters")<{ readonly endpoint: Endpoint; readonly max: number }> {
  readonly reached: Reached = "no"
  override get message(): string {
    return `more than ${this.max} calls wait for a connection${at(this.endpoint)}`
  }
  get retryable(): boolean {
    return true
  }
}

/** Every failure that a stack ends a call with. `retryable`: the same request may be sent again, elsewhere, by anybody. */
export type RpcError =
  | Timeout
  | Superseded
  | StackClosed
  | NoEndpoints
  | ConnectFailed
  | FastFailure
  | ConnectionClosed
  | Nacked
  | ServerFailed
  | ProtocolError
  | Unsendable
  | LimitExceeded
  | NotAdmitted
  | MaxWaiters

/** A server-set URI that cannot be read: `what` says where and why, `expected` what would be right. */
export class InvalidUri extends Data.TaggedError("InvalidUri")<{
  readonly uri: string
  readonly what: string
  readonly expected: string
}> {
  override get message(): string {
    return `invalid URI "${this.uri}": ${this.what}; expected ${this.expected}`
  }
}

/** A server-set URI whose scheme no resolver was provided for; `known` are the schemes there are. */
export class UnknownScheme extends Data.TaggedError("UnknownScheme")<{
  readonly uri: string
  readonly scheme: string
  readonly known: ReadonlyArray<string>
}> {
  override get message(): string {
    return `unknown scheme "${this.scheme}" in "${this.uri}"; known: ${this.known.join(", ")}`
  }
}

/** An option out of its range: `option` names it, `got` is what was given, `expected` what it may be. */
export class InvalidOption extends Data.TaggedError("InvalidOption")<{
  readonly option: string
  readonly got: unknown
  readonly expected: string
}> {
  override get message(): string {
    return `invalid option ${this.option}: got ${String(this.got)}, expected ${this.expected}`
  }
}

/** A resolver could not be set up: what it needs is missing (`what` names it), or said no (`cause`). */
export class ResolverFailed extends Data.TaggedError("ResolverFailed")<{
  readonly uri: string
  readonly what: string
  readonly cause: unknown
}> {
  /** The URI, and what is missing. */
  override get message(): string {
    return `cannot resolve "${this.uri}": ${this.what}`
  }
}

/** What building a layer of a stack can fail with. Nothing of it waits for the first call. */
export type BuildError = InvalidUri | UnknownScheme | ResolverFailed | InvalidOption
