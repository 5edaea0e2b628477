/** What travels with a call beside the request itself, as header fields: Finagle's, and those that the caller set. */
import { type Attempt, ClientId, RequestHeaders, Trace, type TraceId } from "@scales-rpc/core"
import { type HeaderFields, type HttpRequest, isStreamed } from "../HttpWire.ts"

const prefix = "finagle-ctx-"
const deadlineName = `${prefix}com.twitter.finagle.deadline`
const retriesName = `${prefix}com.twitter.finagle.retries`
const clientIdName = `${prefix}${ClientId.id.toLowerCase()}`

/** Bits of a trace's flags: debug, and whether the sampling is decided, and how. */
const debug = 1n
const decided = 2n
const sampled = 4n

const none: HeaderFields = []

const nanosOf = (millis: number): string => `${Math.floor(millis)}000000`

const hex = (id: bigint): string => id.toString(16).padStart(16, "0")

/** The attempt's own span, as B3's fields. */
const traceFields = (trace: TraceId, spanId: bigint): Array<readonly [string, string]> => {
  const { flags, spanId: parentId, traceId, traceIdHigh } = trace
  const fields: Array<readonly [string, string]> = [
    ["x-b3-traceid", (traceIdHigh === undefined ? "" : hex(traceIdHigh)) + hex(traceId)],
    ["x-b3-spanid", hex(spanId)],
    ["x-b3-parentspanid", hex(parentId)]
  ]
  if ((flags & decided) !== 0n) fields.push(["x-b3-sampled", (flags & sampled) === 0n ? "false" : "true"])
  fields.push(["x-b3-flags", String(flags & debug)])
  return fields
}

/** The fields that the caller set with `Rpc.context(RequestHeaders, ...)`. */
export const givenFields = ({ context }: Attempt): HeaderFields =>
  context.isEmpty ? none : context.get(RequestHeaders) ?? none

/**
 * Finagle's fields of one attempt. `now` and the attempt's deadline are in the stack's time, which is `ahead` of the wall's that servers go by.
 */
export const finagleFields = (
  request: HttpRequest,
  attempt: Attempt,
  now: number,
  ahead: number,
  random: () => number
): HeaderFields => {
  const { context, deadline, number } = attempt
  const fields: Array<readonly [string, string]> = [...givenFields(attempt)]
  if (deadline !== Infinity) fields.push([deadlineName, `${nanosOf(now - ahead)} ${nanosOf(deadline - ahead)}`])
  fields.push([retriesName, String(number)])
  // Without it, a server under too much load refuses no request that has a body: it cannot know that it may come again.
  if (request.body !== undefined && !isStreamed(request.body)) fields.push(["finagle-http-retryable-request", ""])
  if (context.isEmpty) return fields
  const clientId = context.get(ClientId)
  if (clientId !== undefined) fields.push([clientIdName, clientId])
  const trace = context.get(Trace)
  if (trace !== undefined) fields.push(...traceFields(trace, spanIdOf(random)))
  return fields
}

/** 64 random bits. */
const spanIdOf = (random: () => number): bigint => {
  const half = () => BigInt(Math.floor(random() * 0x1_0000_0000))
  return half() << 32n | half()
}
