/** A balanced sink that a function answers: everything below the serializer replaced by the test. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Call } from "../Call.ts"
import type { Family } from "../Sink.ts"
import { StatusCell } from "../Status.ts"

/** Gives a family's `Balanced`; `answer` sees each request with its call. */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E>,
  answer: (request: Req, call: Call) => Effect.Effect<Res, E>
): Layer.Layer<`${Id}/Balanced`> =>
  Layer.sync(family.Balanced, () => ({
    status: new StatusCell("Open"),
    open: Effect.void,
    send: (request, call) => Effect.suspend(() => answer(request, call))
  }))
