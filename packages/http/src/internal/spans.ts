/** What the spans of HTTP calls say: OpenTelemetry's semantic conventions for HTTP clients. */
import { type Call, Tracing } from "@scales-rpc/core"
import type * as Fiber from "effect/Fiber"
import { TracerPropagationEnabled } from "effect/http/HttpClient"
import * as Option from "effect/Option"
import type * as Tracer from "effect/Tracer"
import { headerOf, type HttpRequest, type HttpResponse, type StreamedRequest } from "../HttpWire.ts"
import { traceparentOf } from "../traceparent.ts"

/** Methods that are told apart: whatever else a caller makes up is one. */
const known = new Set(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "QUERY"])

const errorOf = (response: unknown): string | undefined => {
  const { status } = response as HttpResponse
  return status >= 400 ? String(status) : undefined
}

/** The spans of the calls of one method. A status of 400 or above is an error on them, whatever the caller takes it for. */
export const methodSpan = (method: string): Tracing.MethodSpan =>
  known.has(method)
    ? { name: method, attributes: { "http.request.method": method }, errorOf }
    : {
      name: "HTTP",
      attributes: { "http.request.method": "_OTHER", "http.request.method_original": method },
      errorOf
    }

/** Values in a query that are credentials by their names; the first four are those that the conventions name. */
const secrets =
  /([?&](?:AWSAccessKeyId|Signature|sig|X-Goog-Signature|[^=&]*(?:pass(?:word|phrase)|secret|token|credential|api[-_]?key)[^=&]*)=)[^&]*/gi

/** Notes on a call's span what it asks for: of one that no server is found for, this is all there is. */
export const noteTarget = (span: Tracer.Span, target: string): void =>
  Tracing.note(span, () => span.attribute("url.path", /^[^?]*/.exec(target)![0]))

/** Notes on a call's span what an attempt sends, the `number`th after the first. `host` is its own when the request names none. */
export const noteRequest = (
  span: Tracer.Span,
  { headers, target }: HttpRequest,
  secure: boolean,
  http2: boolean,
  host: string,
  number: number
): void =>
  Tracing.note(span, () => {
    const path = target.replace(secrets, "$1REDACTED")
    span.attribute("url.full", `${secure ? "https" : "http"}://${headerOf(headers, "host") ?? host}${path}`)
    span.attribute("network.protocol.name", "http")
    span.attribute("network.protocol.version", http2 ? "2" : "1.1")
    if (number > 0) span.attribute("http.request.resend_count", number)
  })

/**
 * The request of a client whose shape others have defined, with the call's span in its fields: in the place of the one that the call was made in,
 * which Effect's `HttpClient` has written there, and not in that of another, which the caller chose.
 */
export const joined = (
  request: StreamedRequest,
  { span, trace }: Call,
  fiber: Fiber.Fiber<unknown, unknown>
): StreamedRequest => {
  const own = traceparentOf(trace)
  if (own === undefined || !fiber.getRef(TracerPropagationEnabled)) return request
  const parent = span === undefined ? undefined : Option.getOrUndefined(span.parent)
  const given = headerOf(request.headers, "traceparent")
  if (given !== undefined && given !== traceparentOf(parent)) return request
  const headers: Array<readonly [string, string]> = []
  for (const field of request.headers) {
    if (field[0] === "traceparent") continue
    // Effect writes B3's single field beside it.
    if (field[0] === "b3" && span !== undefined && field[1].startsWith(`${parent?.traceId}-${parent?.spanId}-`)) {
      headers.push(["b3", `${span.traceId}-${span.spanId}-1-${parent?.spanId}`])
    } else headers.push(field)
  }
  headers.push(["traceparent", own])
  return { ...request, headers }
}
