/**
 * What every balancer is held to, ours and yours: as cases that any test runner can run. With vitest:
 *
 *     import { it } from "@effect/vitest"
 *     import { BalancerConformance } from "@scales-rpc/core/testing"
 *
 *     for (const { name, run } of BalancerConformance.cases(MyBalancer.layer)) it.effect(name, () => run)
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { CallContext } from "../CallContext.ts"
import { Failure } from "../RpcError.ts"
import { calls } from "./conformance/calls.ts"
import type { Case, Setting } from "./conformance/Case.ts"
import type { MakeBalancer } from "./conformance/family.ts"
import { membership } from "./conformance/membership.ts"
import { causeOf, Mismatch, type WorldFailure } from "./conformance/Mismatch.ts"
import { schedules } from "./conformance/schedules.ts"
import { spread } from "./conformance/spread.ts"
import { status } from "./conformance/status.ts"

export type { MakeBalancer } from "./conformance/family.ts"

/** A balancer is not what the case says. */
export class ConformanceFailure extends Failure("ConformanceFailure")<{
  /** The name of the case. */
  readonly case: string
  /** What was looked at. */
  readonly what: string
  /** What it should have been, as text. */
  readonly expected: string
  /** What it was, as text. */
  readonly seen: string
  /** What all chance of the case came from: `cases(make, { seed, schedules: 1 })` repeats it. */
  readonly seed: number
}> {
  override get message(): string {
    return `${this.case}: ${this.what}: expected ${this.expected}; saw ${this.seen} (seed ${this.seed})`
  }
}

/** What differs between balancers that are all good. */
export interface ConformanceOptions {
  /** What all chance comes from, the balancer's and the cases'. Default 1. */
  readonly seed?: number | undefined
  /** How many random schedules are tried, each with a seed of its own, from `seed` on. Default 200; 0: none. */
  readonly schedules?: number | undefined
  /** The same balancer with `whenEmpty: "wait"`, if it has that option: it is held to it. Default: it is not. */
  readonly waiting?: MakeBalancer | undefined
  /** Calls are spread evenly over the endpoints in use. `false` for one that is sticky. Default true. */
  readonly spreads?: boolean | undefined
  /** Whether it uses all endpoints, or, as an aperture, as many as it needs. Default `"all"`. */
  readonly uses?: "all" | "some" | undefined
  /** Endpoints get calls in proportion to their weights. Default true. */
  readonly weights?: boolean | undefined
  /** It takes chance from `stack.random()` alone, so that the same seed gives the same picks. Default true. */
  readonly repeats?: boolean | undefined
  /** What the calls of a case carry, by their number from 0: for a balancer that chooses by it. Default: nothing. */
  readonly context?: ((call: number) => CallContext) | undefined
}

/** One thing that a balancer is held to. */
export interface ConformanceCase {
  /** A sentence about the balancer. */
  readonly name: string
  /**
   * Builds the balancer under a clock of its own, which no time passes for but the case's, and fails when it does not do what the
   * name says, or leaves anything behind: load, listeners, timers, sinks that are not closed once, a stage that is registered still.
   */
  readonly run: Effect.Effect<void, ConformanceFailure>
}

/**
 * The cases for a balancer. It is built over scripted endpoints, which open at once unless the case is about that, and must register
 * a stage with the role `balancer` whose snapshot is a `BalancerView`, of which `size`, `load` and `endpoints` are read. A balancer
 * made with `Balancer.assemble` does, and most of the rest follows from that too.
 */
export const cases = (make: MakeBalancer, options: ConformanceOptions = {}): ReadonlyArray<ConformanceCase> => {
  const setting: Setting = {
    make,
    waiting: options.waiting,
    seed: options.seed ?? 1,
    schedules: options.schedules ?? 200,
    spreads: options.spreads ?? true,
    uses: options.uses ?? "all",
    weights: options.weights ?? true,
    repeats: options.repeats ?? true,
    context: options.context
  }
  const all: ReadonlyArray<Case> = [...calls, ...membership, ...status, ...spread, schedules]
  return all.filter(({ holds }) => holds(setting)).map((each) => ({
    name: each.name,
    run: Effect.mapError(Effect.asVoid(each.run(setting)), (failure) => failureOf(each.name, failure))
  }))
}

/** A failure as a user reads it, whatever it was. */
const failureOf = (name: string, { inner, seed }: WorldFailure): ConformanceFailure => {
  const found = Cause.squash(inner)
  const { expected, seen, what } = found instanceof Mismatch
    ? found
    : new Mismatch("how the case ends", "it runs through", causeOf(inner))
  return new ConformanceFailure({ case: name, what, expected, seen, seed })
}
