/**
 * Holds calls back when the servers refuse most of them: a server that says no has to read the request first, and one that
 * is overloaded is not helped by more of them. Some calls always go through, so that the client learns when it is over.
 *
 * Finagle's `NackAdmissionFilter` with its numbers: a moving average of the share of attempts that were not refused, over 2 minutes;
 * below 0.5 an attempt is dropped with a probability that grows to 0.75. Its place is right above the balancer and below
 * requeues: it sees every attempt, and what it drops is not sent again.
 */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type { Call } from "./Call.ts"
import * as Direct from "./Direct.ts"
import { Ema } from "./internal/Ema.ts"
import { duration, given } from "./Describe.ts"
import { table } from "./metricTable.ts"
import * as Metrics from "./Metrics.ts"
import { durationMillis, fraction } from "./options.ts"
import { type InvalidOption, Nacked, NotAdmitted, type RpcError, ServerFailed } from "./RpcError.ts"
import type { Family, MessageSink } from "./Sink.ts"
import { Stack, type StackShape } from "./Stack.ts"

/** Options of nack admission control. */
export interface NackAdmissionOptions {
  /** How long an attempt counts in the average, 1 ms at least. Default 2 minutes. */
  readonly window?: Duration.Input | undefined
  /** The share of refused attempts over which some are dropped, above 0 and below 1. Default 0.5. */
  readonly nackRateThreshold?: number | undefined
}

/** Of the attempts at most this share is dropped, or nothing would tell that the servers take calls again. Finagle has it fixed, too. */
const maxDropProbability = 0.75

/** With fewer attempts than this in the last second no refusal counts: what is little is no load. */
const leastRate = 5

/** A server said that it did not run the call. What never got to a server says nothing of how much the servers can take. */
const isRefusal = (exit: Exit.Exit<unknown, unknown>): boolean => {
  if (Exit.isSuccess(exit)) return false
  const reason = exit.cause.reasons[0]
  if (reason === undefined || !Cause.isFailReason(reason)) return false
  const { error } = reason
  return error instanceof Nacked || (error instanceof ServerFailed && error.rejected)
}

/** What the servers have taken lately, and who goes through. */
class Admission {
  readonly #stack: StackShape
  readonly #accepts: Ema
  readonly #acceptThreshold: number
  /** When the last attempts began, as a ring: the oldest is at `#next`. */
  readonly #latest = new Float64Array(leastRate).fill(-Infinity)
  #next = 0
  dropped = 0

  constructor(stack: StackShape, windowMillis: number, nackRateThreshold: number) {
    this.#stack = stack
    this.#accepts = new Ema(windowMillis, stack.now(), 1)
    this.#acceptThreshold = 1 - nackRateThreshold
  }

  /** The share of the recent attempts that the servers took, 0 to 1. */
  get accepted(): number {
    return this.#accepts.value
  }

  /** Nothing is dropped for now. */
  get isOpen(): boolean {
    return this.accepted >= this.#acceptThreshold
  }

  /** An attempt wants to go; `false`: it is dropped. */
  admit(): boolean {
    this.#latest[this.#next] = this.#stack.now()
    this.#next = (this.#next + 1) % leastRate
    if (this.isOpen) return true
    const { accepted } = this
    if (this.#stack.random() >= Math.min(maxDropProbability, 1 - accepted / this.#acceptThreshold)) return true
    this.dropped++
    return false
  }

  /** The last one that was admitted has not gone. */
  takeBack(): void {
    this.#next = (this.#next + leastRate - 1) % leastRate
  }

  /** An attempt has ended. */
  readonly ended = (exit: Exit.Exit<unknown, unknown>): undefined => {
    const now = this.#stack.now()
    const busy = now - this.#latest[this.#next]! < 1000
    this.#accepts.update(now, busy && isRefusal(exit) ? 0 : 1)
    return undefined
  }
}

const admitted = <Req, Res, E>(
  stack: StackShape,
  inner: MessageSink<Req, Res, E>,
  admission: Admission
): MessageSink<Req, Res, E | RpcError> => {
  const refused = () => new NotAdmitted({ stack: stack.name, accepted: admission.accepted })
  const direct = Direct.through(inner)
  return {
    ...inner,
    send: Direct.offer(
      (request: Req, call: Call) =>
        Effect.suspend((): Effect.Effect<Res, E | RpcError> =>
          admission.admit()
            ? Effect.onExitPrimitive(inner.send(request, call), admission.ended)
            : Effect.fail(refused())
        ),
      direct && ((request: Req, call: Call, done: Direct.Done<Res, E | RpcError>) => {
        // One that was spared here and is declined below would come again by `send`, to be spared twice.
        if (!admission.isOpen) return false
        admission.admit()
        const begun = direct(request, call, (exit) => {
          admission.ended(exit)
          done(exit)
        })
        if (!begun) admission.takeBack()
        return begun
      })
    )
  }
}

/**
 * The admission control for a family. What it drops fails with `NotAdmitted`, which says that it never ran and is not to be sent again at
 * once. Refusals are `Nacked`, and `ServerFailed` whose server says that it rejected the call.
 *
 * Shown as `scales.nack_admission.dropped` and `.accepted_ema`. Fails with `InvalidOption` for an option out of its range.
 */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  options: NackAdmissionOptions = {}
): Layer.Layer<`${Id}/Balanced`, InvalidOption, `${Id}/Balanced` | Stack> =>
  Layer.effect(
    family.Balanced,
    Effect.gen(function*() {
      const stack = yield* Stack
      const inner = yield* family.Balanced
      const windowMillis = yield* durationMillis("window", options.window, 120_000, 1)
      const nackRateThreshold = yield* fraction("nackRateThreshold", options.nackRateThreshold, 0.5)
      const admission = new Admission(stack, windowMillis, nackRateThreshold)
      yield* Metrics.show(
        stack,
        Metrics.value(table["scales.nack_admission.dropped"], () => admission.dropped),
        Metrics.value(table["scales.nack_admission.accepted_ema"], () => admission.accepted)
      )
      yield* stack.register({
        role: "nackAdmission",
        description: "holds calls back while the servers refuse most of them",
        options: given(options, { window: duration(windowMillis), nackRateThreshold, maxDropProbability }),
        snapshot: () => ({ dropped: admission.dropped, accepted: admission.accepted })
      })
      return admitted(stack, inner, admission)
    })
  )
