/** What travels with a call beside the request itself, as header fields: Finagle's, and those that the caller set. */
import { type Attempt, ClientId, Hedge, outboundTrace, RequestHeaders, type TraceId } from "@scales-rpc/core"
import { type HeaderFields, type HttpRequest, isStreamed } from "../HttpWire.ts"
import { singular } from "./callFields.ts"

const prefix = "finagle-ctx-"
const deadlineName = `${prefix}com.twitter.finagle.deadline`
const retriesName = `${prefix}com.twitter.finagle.retries`
const clientIdName = `${prefix}${ClientId.id.toLowerCase()}`
const backupName = `${prefix}${Hedge.BackupRequest.id.toLowerCase()}`

/** Bits of a trace's flags: debug, and whether the sampling is decided, and how. */
const debug = 1n
const decided = 2n
const sampled = 4n

const none: HeaderFields = []

const nanosOf = (millis: number): string => `${Math.floor(millis)}000000`

const hex = (id: bigint): string => id.toString(16).padStart(16, "0")

/** A trace as B3's fields. */
const traceFields = (trace: TraceId): Array<readonly [string, string]> => {
  const { flags, parentId, spanId, traceId, traceIdHigh } = trace
  const fields: Array<readonly [string, string]> = [
    ["x-b3-traceid", (traceIdHigh === undefined ? "" : hex(traceIdHigh)) + hex(traceId)],
    ["x-b3-spanid", hex(spanId)]
  ]
  // A root has no parent.
  if (parentId !== spanId) fields.push(["x-b3-parentspanid", hex(parentId)])
  if ((flags & decided) !== 0n) fields.push(["x-b3-sampled", (flags & sampled) === 0n ? "false" : "true"])
  fields.push(["x-b3-flags", String(flags & debug)])
  return fields
}

/**
 * The fields that the caller set with `Rpc.context(RequestHeaders, ...)`, without those that the request has of its own; of what may be there
 * only once, the last.
 */
export const givenFields = ({ headers }: HttpRequest, { context }: Attempt): HeaderFields => {
  const given = context.isEmpty ? undefined : context.get(RequestHeaders)
  if (given === undefined) return none
  const names = new Set(headers.map(([name]) => name.toLowerCase()))
  const fields: Array<readonly [string, string]> = []
  for (let i = given.length - 1; i >= 0; i--) {
    const name = given[i]![0].toLowerCase()
    if (names.has(name)) continue
    if (singular.has(name)) names.add(name)
    fields.unshift(given[i]!)
  }
  return fields
}

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
  const fields: Array<readonly [string, string]> = [...givenFields(request, attempt)]
  if (deadline !== Infinity) fields.push([deadlineName, `${nanosOf(now - ahead)} ${nanosOf(deadline - ahead)}`])
  fields.push([retriesName, String(number)])
  // Without it, a server under too much load refuses no request that has a body: it cannot know that it may come again.
  if (request.body !== undefined && !isStreamed(request.body)) fields.push(["finagle-http-retryable-request", ""])
  const trace = outboundTrace(attempt, random)
  if (trace !== undefined) fields.push(...traceFields(trace))
  if (context.isEmpty) return fields
  const clientId = context.get(ClientId)
  if (clientId !== undefined) fields.push([clientIdName, clientId])
  if (context.get(Hedge.BackupRequest) !== undefined) fields.push([backupName, "1"])
  return fields
}
