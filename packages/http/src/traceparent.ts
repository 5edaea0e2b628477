/** The span that a call is made in, as the header by which servers join its trace (W3C Trace Context). */
import type * as Fiber from "effect/Fiber"

/** The value of `traceparent` for what a fiber calls; `undefined` outside of any span. */
export const traceparentOf = (fiber: Fiber.Fiber<unknown, unknown>): string | undefined => {
  const { span } = fiber.cache
  return span === undefined
    ? undefined
    : `00-${span.traceId.padStart(32, "0")}-${span.spanId.padStart(16, "0")}-${span.sampled ? "01" : "00"}`
}
