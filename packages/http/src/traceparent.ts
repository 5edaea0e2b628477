/** The span that a call is made in, as the header by which servers join its trace (W3C Trace Context). */
import type * as Tracer from "effect/Tracer"

const traceIdForm = /^(?!0+$)[0-9a-f]{32}$/
const spanIdForm = /^(?!0+$)[0-9a-f]{16}$/

/**
 * The value of `traceparent` for what is called in a span. `undefined` outside of any, and for one whose ids are not W3C's: servers begin a
 * trace of their own then, which they would do with a malformed one too.
 */
export const traceparentOf = (span: Tracer.AnySpan | undefined): string | undefined => {
  if (span === undefined) return undefined
  const traceId = span.traceId.toLowerCase().padStart(32, "0")
  const spanId = span.spanId.toLowerCase().padStart(16, "0")
  return traceIdForm.test(traceId) && spanIdForm.test(spanId)
    ? `00-${traceId}-${spanId}-${span.sampled ? "01" : "00"}`
    : undefined
}
