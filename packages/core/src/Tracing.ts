/**
 * Spans of calls: one for each call of a client, made only where a tracer listens and the call is sampled, and what is handed on to its server. Their
 * attributes are those of OpenTelemetry's semantic conventions for RPC (release candidate of 2025) and HTTP.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import { type Attempt, tagOf } from "./Call.ts"
import { Endpoint } from "./Endpoint.ts"
import { shown } from "./Faults.ts"
import { textOf } from "./internal/textOf.ts"
import type { StackShape } from "./Stack.ts"
import type { StateLog } from "./StateLog.ts"
import { Unsampled } from "./TraceContext.ts"

type AnyFiber = Fiber.Fiber<unknown, unknown>

/** What the spans of one method say before anything has happened. */
export interface MethodSpan {
  readonly name: string
  readonly attributes: Readonly<Record<string, unknown>>
  /** The `error.type`, and the failure that is counted, of a call that came back well and means one all the same, such as HTTP's status 500. Default: there are none. */
  readonly errorOf?: ((value: unknown) => string | undefined) | undefined
}

/**
 * The spans of a method of an RPC system: `service/method`, with `rpc.system.name` (`undefined`: not known) and the whole name as
 * `rpc.method`.
 */
export const rpcSpan = (system: string | undefined, service: string, method: string): MethodSpan => {
  const name = `${service}/${method}`
  return {
    name,
    attributes: system === undefined ? { "rpc.method": name } : { "rpc.system.name": system, "rpc.method": name }
  }
}

/** The nearest span that is handed on: `Tracer.DisablePropagation` passes over those that are marked with it. */
const propagating = (span: Tracer.AnySpan | undefined): Tracer.AnySpan | undefined => {
  let at = span
  while (at !== undefined && Context.get(at.annotations, Tracer.DisablePropagation)) {
    at = at._tag === "Span" ? Option.getOrUndefined(at.parent) : undefined
  }
  return at
}

/** The span that a fiber's calls are made in, as far as it is to be handed on. */
export const callerSpan = (fiber: AnyFiber): Tracer.AnySpan | undefined => {
  const { span } = fiber.cache
  return span === undefined || fiber.getRef(Tracer.DisablePropagation) ? undefined : propagating(span)
}

/** Whether a fiber has a tracer that somebody reads: one that was given, where tracing is not turned off. */
export const listening = (fiber: AnyFiber): boolean => {
  const { tracer, tracerEnabled } = fiber.cache
  return tracer !== undefined && tracer !== Tracer.nativeTracer && tracerEnabled &&
    !fiber.getRef(Tracer.DisablePropagation)
}

/** Says that a tracer does what none may: calls go on without it. */
const thrown = (log: StateLog | undefined, defect: unknown): void =>
  log?.say("warning", "the tracer has thrown", { cause: textOf(defect) })

/**
 * Notes something on a span, unless that has ended. What a tracer of the user's throws is its own, and breaks no call: it is said in `log`, if there
 * is one.
 */
export const note = (span: Tracer.Span, f: (span: Tracer.Span) => void, log?: StateLog): void => {
  try {
    if (span.status._tag === "Started") f(span)
  } catch (defect) {
    thrown(log, defect)
  }
}

/** Notes an event that happens now on the span of a call. */
export const event = (
  stack: StackShape,
  span: Tracer.Span,
  name: string,
  attributes?: Readonly<Record<string, unknown>>
): void => note(span, () => span.event(name, stack.nanos(), attributes), stack.log)

/**
 * Begins a span in a fiber that listens. `undefined`: its tracer has thrown, or its parent is not sampled, and so is what is handed on. A tracer that samples by itself, and a
 * level below the one that is traced, give a span that is not sampled: it is handed on, and nothing is to be noted on it.
 */
export const begin = (
  fiber: AnyFiber,
  parent: Tracer.AnySpan | undefined,
  kind: "client" | "server",
  { attributes, name }: MethodSpan,
  nanos: bigint,
  log?: StateLog
): Tracer.Span | undefined => {
  if (parent !== undefined && !parent.sampled) return undefined
  const level = fiber.getRef(Tracer.CurrentTraceLevel)
  const links = fiber.getRef(References.TracerSpanLinks)
  let span: Tracer.Span
  try {
    span = fiber.cache.tracer!.span({
      name,
      parent: Option.fromUndefinedOr(parent),
      annotations: Context.empty(),
      links: links.length === 0 ? [] : links.slice(),
      startTime: nanos,
      kind,
      root: false,
      sampled: !LogLevel.isGreaterThan(fiber.getRef(Tracer.MinimumTraceLevel), level)
    })
  } catch (defect) {
    thrown(log, defect)
    return undefined
  }
  if (!span.sampled) return span
  const annotations = fiber.getRef(References.TracerSpanAnnotations)
  note(span, () => {
    for (const key in annotations) span.attribute(key, annotations[key])
    for (const key in attributes) span.attribute(key, attributes[key])
  }, log)
  return span
}

/**
 * What a call is recorded as whose fiber listens: its span; for a trace that would begin with it and is not among those that `stack.traceSampling`
 * records, one that says so to the server; `undefined` under a span that is not sampled.
 */
export const beginCall = (
  fiber: AnyFiber,
  parent: Tracer.AnySpan | undefined,
  method: MethodSpan,
  stack: StackShape
): Tracer.Span | Unsampled | undefined => {
  const { traceSampling } = stack
  return parent === undefined && traceSampling < 1 && stack.random() >= traceSampling
    ? new Unsampled(stack.random, true)
    : begin(fiber, parent, "client", method, stack.nanos(), stack.log)
}

/** The `error.type` of a failure: its tag, or without one its name, as errors and exceptions that Thrift declares have it. */
const errorTypeOf = (cause: Cause.Cause<unknown>): string => {
  const tag = tagOf(cause)
  const [reason] = cause.reasons
  if (tag !== "Unknown" || reason === undefined || !Cause.isFailReason(reason)) return tag
  return reason.error instanceof Error ? reason.error.name : tag
}

/** Ends a span that `begin` made. A tracer that sees a failure marks the span with it. */
export const end = (
  span: Tracer.Span,
  { errorOf }: MethodSpan,
  exit: Exit.Exit<unknown, unknown>,
  nanos: bigint,
  log?: StateLog
): void => {
  const error = !span.sampled
    ? undefined
    : Exit.isFailure(exit)
    ? errorTypeOf(exit.cause)
    : errorOf?.(exit.value)
  if (error !== undefined) note(span, () => span.attribute("error.type", error), log)
  try {
    span.end(nanos, error === undefined || Exit.isFailure(exit) ? exit : Exit.fail(error))
  } catch (defect) {
    thrown(log, defect)
  }
}

/** Where an endpoint is: what the call is for, and what it is sent to, are the same. */
const addressed = (span: Tracer.Span, endpoint: Endpoint): void => {
  for (const what of ["server", "network.peer"]) {
    span.attribute(`${what}.address`, endpoint.host)
    if (!Endpoint.isUnix(endpoint)) span.attribute(`${what}.port`, endpoint.port)
  }
}

/**
 * Notes an attempt on its call's span: an event `attempt` when it begins, `attempt.failed` when it fails, and as the server's address that
 * of the attempt which began or ended last and was not called off.
 */
export const noteAttempt = (stack: StackShape, span: Tracer.Span, attempt: Attempt): void => {
  const { endpoint, number } = attempt
  const what = { endpoint: endpoint.key, number }
  event(stack, span, "attempt", what)
  note(span, () => addressed(span, endpoint), stack.log)
  attempt.onEnd((outcome, _millis, error) => {
    note(span, () => {
      if (error !== "Superseded") addressed(span, endpoint)
      if (outcome === "success") return
      const { cause } = attempt.state
      span.event("attempt.failed", stack.nanos(), {
        ...what,
        outcome,
        "error.type": error ?? "Interrupted",
        // A wait that hears that the caller has gone fails with what it knows of that, which is nobody's failure.
        ...(cause === undefined || attempt.abort.reason?._tag === "Interrupted" || Cause.hasInterruptsOnly(cause)
          ? undefined
          : { "error.message": shown(Cause.squash(cause)) })
      })
    }, stack.log)
  })
}
