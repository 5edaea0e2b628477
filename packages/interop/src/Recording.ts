/** A tracer of Effect's that keeps the spans it makes. */
import * as Effect from "effect/Effect"
import * as Tracer from "effect/Tracer"

/** Runs an effect, the clients and servers that it builds included, under such a tracer. */
export const recorded = <A, E, R>(
  self: (spans: ReadonlyArray<Tracer.NativeSpan>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const spans: Array<Tracer.NativeSpan> = []
    const tracer = Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      }
    })
    return Effect.provideService(self(spans), Tracer.Tracer, tracer)
  })
