/** One logical call, and one attempt of it at one endpoint. */
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import type * as Tracer from "effect/Tracer"
import type { Abort, AbortListener, AbortReason } from "./Abort.ts"
import type { CallContext } from "./CallContext.ts"
import type { Endpoint } from "./Endpoint.ts"
import { textOf } from "./internal/textOf.ts"
import { Unsendable } from "./RpcError.ts"

/**
 * How an attempt ended. `rejected`: provably not executed, another endpoint may try. `ignored`: says nothing of the
 * endpoint (superseded, or the caller went away).
 */
export type Outcome = "success" | "failure" | "rejected" | "ignored"

/** Judges the exit of an attempt, on messages of the wire. Given by the serializer. */
export type Classifier = (exit: Exit.Exit<unknown, unknown>) => Outcome

/**
 * Judges by what is known of any protocol: a reply is a success, a failure that provably never ran is rejected; an
 * interruption, and a call that cannot be sent anywhere, are the caller's.
 */
export const classifyExit: Classifier = (exit) => {
  if (Exit.isSuccess(exit)) return "success"
  if (Cause.hasInterruptsOnly(exit.cause)) return "ignored"
  const reason = exit.cause.reasons[0]
  const error: unknown = reason !== undefined && Cause.isFailReason(reason) ? reason.error : undefined
  // The call's own fault, at any endpoint.
  if (error instanceof Unsendable) return "ignored"
  return typeof error === "object" && error !== null && "reached" in error && error.reached === "no"
    ? "rejected"
    : "failure"
}

/** Application headers of the reply, filled in when the caller asked for them. */
export interface ReplyHeaders {
  headers: ReadonlyArray<readonly [string, string]>
}

/** How long a tag may be: it is a label of series. */
const longestTag = 100

/** What a failure is counted under: the first 100 characters of its tag; `Interrupted`, `Defect`, or `Unknown` for one without. */
export const tagOf = (cause: Cause.Cause<unknown>): string => {
  const reason = cause.reasons[0]
  if (reason === undefined || Cause.isInterruptReason(reason)) return "Interrupted"
  if (Cause.isDieReason(reason)) return "Defect"
  const error: unknown = reason.error
  if (typeof error !== "object" || error === null || !("_tag" in error)) return "Unknown"
  const tag = textOf(error._tag)
  return tag.length > longestTag ? tag.slice(0, longestTag) : tag
}

/**
 * One logical call: plain data that any stage may copy with a field changed (`{ ...call, context }`). `abort` and `tried` are
 * shared by all copies.
 */
export interface Call {
  /** The key of the Effect service. */
  readonly service: string
  /** Its name as in the IDL. */
  readonly method: string
  /** May be executed twice. */
  readonly idempotent: boolean
  /** Milliseconds of the stack's clock; `Infinity`: none. */
  readonly deadline: number
  /** What travels with it. */
  readonly context: CallContext
  /** Why the call was ended from outside, and who hears of it. */
  readonly abort: Abort
  /** The endpoints of the attempts so far, in order: requeues and hedges go elsewhere. Balancers add to it through `beginAttempt`. */
  readonly tried: ReadonlyArray<Endpoint>
  /** Judges each of its attempts. */
  readonly classify: Classifier
  /** Where to put the reply's headers; `undefined`: nobody asked. */
  readonly reply: ReplyHeaders | undefined
  /** The call's own span, which attempts add events to; `undefined`: nobody listens, or it is not sampled. */
  readonly span: Tracer.Span | undefined
  /** What the server is to continue: the call's span, or the span its caller is in when it has none of its own; `undefined`: neither. */
  readonly trace: Tracer.AnySpan | undefined
}

/** `error`: the tag of what it failed with; `undefined` for a success. `at`: when, by the stack's `elapsed`. */
type Hook = (outcome: Outcome, millis: number, error: string | undefined, at: number) => void

/** How far an attempt has come; shared by all copies of it. */
class AttemptState {
  readonly startedAt: number
  readonly elapsed: () => number
  first: Hook | undefined = undefined
  second: Hook | undefined = undefined
  more: Array<Hook> | undefined = undefined
  held = 0
  /** What each hold hears of the abort with. */
  holds: Set<AbortListener> | undefined = undefined
  /** Given to the outcome once the last hold is released. */
  pending: Outcome | undefined = undefined
  ended = false
  /** What it failed with, where its call has a span. */
  cause: Cause.Cause<unknown> | undefined = undefined

  constructor(elapsed: () => number) {
    this.startedAt = elapsed()
    this.elapsed = elapsed
  }

  end(outcome: Outcome, error: string | undefined): void {
    if (this.ended) return
    if (this.held > 0 && outcome === "success") {
      this.pending = outcome
      return
    }
    this.ended = true
    const at = this.elapsed()
    const millis = at - this.startedAt
    const more = this.more
    if (more !== undefined) { for (let i = more.length; i-- > 0;) more[i]!(outcome, millis, error, at) }
    this.second?.(outcome, millis, error, at)
    this.first?.(outcome, millis, error, at)
  }
}

/** One send to one endpoint: made and ended by a balancer, nobody else. */
export interface Attempt extends Call {
  readonly endpoint: Endpoint
  /** 0 for the first attempt of the call. */
  readonly number: number
  /**
   * Runs `f` once when the attempt ends, whatever ends it: the last one registered first. `millis` since it began, with fractions; `error` is
   * the tag of what it failed with, `undefined` for a success; `at` is now, by the stack's `elapsed`. A hook must not throw.
   */
  readonly onEnd: (this: Attempt, f: Hook) => void
  /**
   * The response outlives `send`, as a streamed body does: the attempt ends when the result is called, or `send` fails. Until
   * then the endpoint counts it as load, the call is outstanding, and its deadline still aborts it, which ends the hold.
   */
  readonly hold: (this: Attempt) => (outcome: Outcome) => void
  /** @internal */
  readonly state: AttemptState
}

function onEnd(this: Attempt, f: Hook): void {
  const state = this.state
  if (state.first === undefined) state.first = f
  else if (state.second === undefined) state.second = f
  else if (state.more === undefined) state.more = [f]
  else state.more.push(f)
}

/** What an attempt failed with whose reply had begun and did not come to its end. */
const replyBroken = "ReplyBroken"

/** What an attempt failed with that was answered, by an answer which says that it failed. */
const failureReply = "FailureReply"

/** Outcome of an attempt whose call was aborted: a timeout is a failure of the endpoint. */
const outcomeOf = (reason: AbortReason): Outcome => reason._tag === "Timeout" ? "failure" : "ignored"

/** Ends whatever holds an attempt: what failed has no body that could outlive it. */
const letGo = ({ abort, state }: Attempt): void => {
  const { held, holds } = state
  if (held === 0) return
  for (const listener of holds!) abort.off(listener)
  holds!.clear()
  state.held = 0
  abort.hold(-held)
}

function hold(this: Attempt): (outcome: Outcome) => void {
  const { abort, state } = this
  if (state.ended) return () => {}
  let released = false
  const release = (outcome: Outcome) => {
    if (released || state.ended) return
    released = true
    // The first that fails ends the attempt for all that hold it.
    if (outcome !== "success") {
      if (abort.reason === undefined) abort.breaks(outcome === "ignored" ? "Interrupted" : replyBroken)
      state.end(outcome, abort.reason === undefined ? abort.brokenBy : abort.reason._tag)
      return letGo(this)
    }
    state.holds!.delete(listener)
    abort.off(listener)
    state.held--
    if (state.held === 0 && state.pending !== undefined) state.end(state.pending, undefined)
    abort.hold(-1)
  }
  // Whoever holds the response hears of the abort too; one that does not must not keep the call for ever.
  const listener: AbortListener = { onAbort: (reason) => release(outcomeOf(reason)) }
  state.held++
  ;(state.holds ??= new Set()).add(listener)
  abort.hold(1)
  if (abort.reason === undefined) abort.on(listener)
  else release(outcomeOf(abort.reason))
  return release
}

/** What `beginAttempt` makes: a class for what the dispatcher says of `BegunCall`; its functions are its own, for copies to have them. */
class BegunAttempt implements Attempt {
  readonly service: string
  readonly method: string
  readonly idempotent: boolean
  readonly deadline: number
  readonly context: CallContext
  readonly abort: Abort
  readonly tried: ReadonlyArray<Endpoint>
  readonly classify: Classifier
  readonly reply: ReplyHeaders | undefined
  readonly span: Tracer.Span | undefined
  readonly trace: Tracer.AnySpan | undefined
  readonly endpoint: Endpoint
  readonly number: number
  readonly onEnd: Attempt["onEnd"]
  readonly hold: Attempt["hold"]
  readonly state: AttemptState

  constructor(call: Call, endpoint: Endpoint, number: number, state: AttemptState) {
    this.service = call.service
    this.method = call.method
    this.idempotent = call.idempotent
    this.deadline = call.deadline
    this.context = call.context
    this.abort = call.abort
    this.tried = call.tried
    this.classify = call.classify
    this.reply = call.reply
    this.span = call.span
    this.trace = call.trace
    this.endpoint = endpoint
    this.number = number
    this.onEnd = onEnd
    this.hold = hold
    this.state = state
  }
}

/** Begins an attempt at `endpoint` and notes it in `call.tried`. `elapsed` is the stack's. */
export const beginAttempt = (call: Call, endpoint: Endpoint, elapsed: () => number): Attempt => {
  const number = (call.tried as Array<Endpoint>).push(endpoint) - 1
  return new BegunAttempt(call, endpoint, number, new AttemptState(elapsed))
}

/** Ends an attempt with the exit of its `send`. A call that was aborted tells by its reason: a timeout is a failure of the endpoint. */
export const settleAttempt = (attempt: Attempt, exit: Exit.Exit<unknown, unknown>): void => {
  const { abort, state } = attempt
  // A reply that came before the abort was heard is a reply.
  if (abort.reason !== undefined && Exit.isFailure(exit)) {
    letGo(attempt)
    if (attempt.span !== undefined) state.cause = exit.cause
    return state.end(outcomeOf(abort.reason), abort.reason._tag)
  }
  // Should the classifier throw, that is the call's defect; the endpoint is released all the same.
  let outcome: Outcome = "failure"
  if (Exit.isFailure(exit)) {
    // Whatever it held: there is no reply.
    if (abort.brokenBy !== undefined) abort.breaks(undefined)
    if (attempt.span !== undefined) state.cause = exit.cause
  }
  try {
    outcome = attempt.classify(exit)
  } finally {
    if (outcome !== "success" || Exit.isFailure(exit)) letGo(attempt)
    state.end(outcome, outcome === "success" ? undefined : Exit.isFailure(exit) ? tagOf(exit.cause) : failureReply)
  }
}
