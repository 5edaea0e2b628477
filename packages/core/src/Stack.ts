/**
 * What all stages of one client share: its name, clock, random numbers, deadline queue and retry budget, and the register
 * of stages that `describe` and pages read.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as Deadlines from "./Deadlines.ts"
import { duration, given } from "./Describe.ts"
import { elapsedOf } from "./internal/elapsed.ts"
import * as Metrics from "./Metrics.ts"
import { table } from "./metricTable.ts"
import * as Observed from "./Observed.ts"
import { durationMillis, ratio, wholeNumber } from "./options.ts"
import * as Budget from "./RetryBudget.ts"
import type { InvalidOption } from "./RpcError.ts"

/** Options that belong to the client as a whole. */
export interface StackOptions {
  /** How long closing waits for outstanding calls before it aborts them. Default 5 seconds. */
  readonly drainTimeout?: Duration.Input | undefined
  /** How many calls may be sent again. */
  readonly budget?: Budget.RetryBudgetOptions | undefined
  /** `false`: no series, and nothing is counted that costs a call something. Default `true`. */
  readonly metrics?: boolean | undefined
  /**
   * How many endpoints at a time have series of their own; what happens at the others is counted under `endpoint="other"`, so that a set of thousands
   * does not drown whoever reads them. Default 100; 0: none has.
   */
  readonly endpointSeries?: number | undefined
  /**
   * Which share of the traces that begin with a call of this client is recorded, where a tracer listens: 0 to 1. The others are handed on as not
   * sampled; a call in a span goes by that. Default 1: the tracer may still decide by itself.
   */
  readonly traceSampling?: number | undefined
}

/** The shared parts of one client. */
export interface StackShape extends Observed.Observed {
  /** What a ready-made client was given, to tell that from defaults; `undefined` when stages were put together by hand. */
  readonly given: object | undefined
  /** How long closing waits for outstanding calls, in milliseconds. */
  readonly drainTimeoutMillis: number
  /** Milliseconds of the stack's clock: the `Clock` it was built with, except that they never go back. Whole ones. */
  readonly now: () => number
  /** Milliseconds since some time, with fractions, to measure how long something takes; under another `Clock` than the system's, of that. */
  readonly elapsed: () => number
  /** How many endpoints at a time have series of their own. */
  readonly endpointSeries: number
  /** Nanoseconds since the epoch, by the `Clock`: the times of spans. */
  readonly nanos: () => bigint
  /** Which share of the traces that begin with a call is recorded. */
  readonly traceSampling: number
  /** From 0 to 1, without 1; seeded in tests. */
  readonly random: () => number
  /** The queue of the deadlines of its calls, and of the timers of its stages. */
  readonly deadlines: Deadlines.Deadlines
  /** How many of its calls may be sent again. */
  readonly budget: Budget.RetryBudget
  /** Notes how long an attempt took that succeeded: a balancer does. */
  readonly succeeded: (millis: number) => void
  /**
   * Whether an attempt that begins in `delayMillis` can end before a deadline: after no less than the shortest time that one took lately. That
   * is the last that was shorter than those before, and a hundredth nearer to each that was longer.
   */
  readonly inTime: (deadline: number, delayMillis: number) => boolean
  /** Whether a filter of the user's is in the stack, which may wait in ways no stage of ours sees. */
  readonly filtered: () => boolean
  /**
   * For a stage that waits in ways which do not hear of `call.abort`, while it is built: from then on each call runs
   * in a fiber of its own.
   */
  readonly markFiltered: () => void
}

/** How long the retry budget must not have been empty before that is news again, in milliseconds. */
const restedMillis = 10_000

/** One a client; every layer of its stack needs it. */
export class Stack extends Context.Service<Stack, StackShape>()("@scales-rpc/core/Stack") {
  /**
   * A stack called `name`: what logs, metrics and errors call the client (metrics with a number, when there are several). `readyMade` are
   * options of a ready-made client that are not a stage's, as they are in force, to be described; then `options` are all that the client was given. Fails
   * with `InvalidOption` for an option out of its range.
   */
  static readonly layer = (
    name: string,
    options: StackOptions = {},
    readyMade?: Readonly<Record<string, unknown>>
  ): Layer.Layer<Stack, InvalidOption> =>
    Layer.effect(
      Stack,
      Effect.gen(function*() {
        const context = yield* Effect.context<never>()
        const random = Context.get(context, Random.Random)
        const clock = Context.get(context, Clock.Clock)
        const drainTimeoutMillis = yield* durationMillis("drainTimeout", options.drainTimeout, 5000)
        const deadlines = yield* Deadlines.make
        const { now } = deadlines
        let exhaustedAt = -Infinity
        const elapsed = elapsedOf(clock)
        // The times of attempts are by the same: those that succeed are put in without another look at a clock.
        const budget = yield* Budget.make(elapsed, options.budget, () => {
          const at = elapsed()
          // Once, and not again before it has held for a while: it lets some through each second.
          if (at - exhaustedAt >= restedMillis) observed.log.say("warning", "retry budget exhausted")
          exhaustedAt = at
        })
        const endpointSeries = yield* wholeNumber("endpointSeries", options.endpointSeries, 100, 0)
        const traceSampling = yield* ratio("traceSampling", options.traceSampling, 1)
        const observed = yield* Observed.make("client", name, deadlines, options.metrics ?? true)
        const node: Observed.StackNode = {
          role: "client",
          description: "what all stages share",
          options: given(options, {
            ...readyMade,
            drainTimeout: duration(drainTimeoutMillis),
            budget: budget.options,
            metrics: observed.metrics.on,
            endpointSeries,
            traceSampling
          }),
          snapshot: () => ({ timers: deadlines.size, budget: budget.snapshot })
        }
        // Nearest to the caller, though it was built first.
        const own: Array<Observed.StackNode> = []
        yield* Effect.acquireRelease(
          Effect.sync(() => void own.push(node)),
          () => Effect.sync(() => void own.pop())
        )
        let filtered = false
        let shortest = 0
        let known = false
        const stack = Stack.of({
          ...observed,
          given: readyMade === undefined ? undefined : options,
          nodes: () => [...observed.nodes(), ...own],
          drainTimeoutMillis,
          now,
          elapsed,
          endpointSeries,
          nanos: () => clock.currentTimeNanosUnsafe(),
          traceSampling,
          random: () => random.nextDoubleUnsafe(),
          deadlines,
          budget,
          succeeded: (millis) => {
            shortest = known && millis > shortest ? shortest + (millis - shortest) * 0.01 : millis
            known = true
          },
          inTime: (deadline, delayMillis) => now() + delayMillis + shortest < deadline,
          filtered: () => filtered,
          markFiltered: () => {
            filtered = true
          }
        })
        // The first series of a stack, which keeps its name from the next of that name.
        yield* Metrics.show(
          stack,
          Metrics.value(table["scales.stack.timers"], () => deadlines.size),
          Metrics.value(table["scales.budget.balance"], () => budget.balance),
          Metrics.value(table["scales.budget.withdrawals"], () => budget.withdrawals),
          Metrics.value(table["scales.budget.exhausted"], () => budget.refusals)
        )
        const directory = yield* Effect.serviceOption(Stacks)
        if (Option.isSome(directory)) yield* directory.value.add(stack)
        return stack
      })
    )
}

/**
 * The clients and servers of a program, for what looks at them from outside: a page, a command line, a test. What is built where a
 * directory is provided shows up in it until it closes.
 */
export class Stacks extends Context.Service<Stacks, {
  readonly add: (stack: StackShape) => Effect.Effect<void, never, Scope.Scope>
  readonly addServer: (server: Observed.Observed) => Effect.Effect<void, never, Scope.Scope>
  /** The clients, in the order they were built. */
  readonly list: () => ReadonlyArray<StackShape>
  /** The servers, in the order they were built. */
  readonly servers: () => ReadonlyArray<Observed.Observed>
}>()("@scales-rpc/core/Stacks") {
  /** An empty directory. */
  static readonly layer: Layer.Layer<Stacks> = Layer.sync(Stacks, () => {
    const stacks: Array<StackShape> = []
    const servers: Array<Observed.Observed> = []
    const addTo = <A>(all: Array<A>) => (one: A) =>
      Effect.asVoid(Effect.acquireRelease(
        Effect.sync(() => void all.push(one)),
        () => Effect.sync(() => void all.splice(all.indexOf(one), 1))
      ))
    return Stacks.of({
      add: addTo(stacks),
      addServer: addTo(servers),
      list: () => stacks.slice(),
      servers: () => servers.slice()
    })
  })
}
