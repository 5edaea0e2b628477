/** The span that a call is made in, as the header by which servers join its trace (W3C Trace Context). */
import type * as Fiber from "effect/Fiber"
import { TracerPropagationEnabled } from "effect/http/HttpClient"
import * as Tracer from "effect/Tracer"

const traceIdForm = /^(?!0+$)[0-9a-f]{32}$/
const spanIdForm = /^(?!0+$)[0-9a-f]{16}$/

/**
 * The value of `traceparent` for what a fiber calls. `undefined` outside of any span, where Effect's propagation is turned off
 * (`HttpClient.TracerPropagationEnabled`, `Tracer.DisablePropagation`), and for a span whose ids are not W3C's: servers begin a trace of their
 * own then, which they would do with a malformed one too.
 */
export const traceparentOf = (fiber: Fiber.Fiber<unknown, unknown>): string | undefined => {
  const { span } = fiber.cache
  if (span === undefined) return undefined
  const traceId = span.traceId.toLowerCase().padStart(32, "0")
  const spanId = span.spanId.toLowerCase().padStart(16, "0")
  return traceIdForm.test(traceId) && spanIdForm.test(spanId) &&
      fiber.getRef(TracerPropagationEnabled) && !fiber.getRef(Tracer.DisablePropagation)
    ? `00-${traceId}-${spanId}-${span.sampled ? "01" : "00"}`
    : undefined
}
