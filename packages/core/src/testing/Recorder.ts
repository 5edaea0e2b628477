/** Writes down what passes a place in a stack: above the balancer each call, below it each attempt. And the spans of a program. */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import * as Tracer from "effect/Tracer"
import type { Call, Outcome } from "../Call.ts"
import * as Filter from "../Filter.ts"
import type { Family } from "../Sink.ts"
import type { Stack } from "../Stack.ts"

/** One call that passed, or is passing while `exit` is undefined. */
export interface RecordedCall {
  readonly call: Call
  readonly request: unknown
  exit: Exit.Exit<unknown, unknown> | undefined
}

/** One attempt that passed, or is passing while `outcome` is undefined. */
export interface RecordedAttempt {
  readonly endpoint: string
  readonly number: number
  readonly request: unknown
  outcome: Outcome | undefined
}

/** Records calls into `into`, above the balancer. */
export const above = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E>,
  into: Array<RecordedCall>
): Layer.Layer<`${Id}/Balanced`, never, `${Id}/Balanced` | Stack> =>
  Filter.above(family, (inner) =>
    Effect.succeed({
      ...inner,
      send: (request, call) =>
        Effect.suspend(() => {
          const record: RecordedCall = { call, request, exit: undefined }
          into.push(record)
          return Effect.onExitPrimitive(inner.send(request, call), (exit) => {
            record.exit = exit
            return undefined
          })
        })
    }))

/** Records attempts into `into`, below the balancer. */
export const below = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E>,
  into: Array<RecordedAttempt>
): Layer.Layer<`${Id}/Endpoints`, never, `${Id}/Endpoints` | Stack> =>
  Filter.below(family, (inner, endpoint) =>
    Effect.succeed({
      ...inner,
      send: (request, attempt) =>
        Effect.suspend(() => {
          const record: RecordedAttempt = {
            endpoint: endpoint.key,
            number: attempt.number,
            request,
            outcome: undefined
          }
          into.push(record)
          attempt.onEnd((outcome) => {
            record.outcome = outcome
          })
          return inner.send(request, attempt)
        })
    }))

/** Runs an effect, the clients and servers that it builds included, under a tracer that keeps its spans in the order they began. */
export const spans = <A, E, R>(
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
