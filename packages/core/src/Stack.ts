/**
 * What all stages of one client share: its name, clock, random numbers, deadline queue and retry budget, and the register
 * of stages that `describe` and pages read.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as Deadlines from "./Deadlines.ts"
import { gauges } from "./Metrics.ts"
import { durationMillis } from "./options.ts"
import * as Budget from "./RetryBudget.ts"
import type { InvalidOption } from "./RpcError.ts"

/** One stage as the register shows it. */
export interface StackNode {
  /** What the stage is for: `balancer`, `resurrector`, `pool`, `transport`, ... */
  readonly role: string
  /** One sentence. */
  readonly description: string
  /** The options in force. */
  readonly options: Readonly<Record<string, unknown>>
  /** Its live state as plain data, read without locks on the call path. */
  readonly snapshot: () => unknown
}

/** Options that belong to the client as a whole. */
export interface StackOptions {
  /** How long closing waits for outstanding calls before it aborts them. Default 5 seconds. */
  readonly drainTimeout?: Duration.Input | undefined
  /** How many calls may be sent again. */
  readonly budget?: Budget.RetryBudgetOptions | undefined
}

/** The shared parts of one client. */
export interface StackShape {
  /** What logs and errors call the client. */
  readonly name: string
  /** What metrics call it: its name, with a number when another client of that name is there already. */
  readonly client: string
  /** How long closing waits for outstanding calls, in milliseconds. */
  readonly drainTimeoutMillis: number
  /** Milliseconds of the stack's clock: the `Clock` it was built with, except that they never go back. */
  readonly now: () => number
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
  /** Adds a stage until the scope closes. */
  readonly register: (node: StackNode) => Effect.Effect<void, never, Scope.Scope>
  /** The stages, in the order they were built: from the wire up. */
  readonly nodes: () => ReadonlyArray<StackNode>
  /** Whether a filter of the user's is in the stack, which may wait in ways no stage of ours sees. */
  readonly filtered: () => boolean
  /**
   * For a stage that waits in ways which do not hear of `call.abort`, while it is built: from then on each call runs
   * in a fiber of its own.
   */
  readonly markFiltered: () => void
}

/** A name that no series of the registry has: two clients of one name would take each other's series for their own. */
const unused = (name: string, registry: Metric.MetricRegistry): string => {
  const used = new Set(Array.from(registry.values(), ({ attributes }) => attributes?.["client"]))
  let free = name
  for (let nth = 2; used.has(free); nth++) free = `${name}-${nth}`
  return free
}

/** One a client; every layer of its stack needs it. */
export class Stack extends Context.Service<Stack, StackShape>()("@scales-rpc/core/Stack") {
  /**
   * A stack called `name`: what logs, metrics and errors call the client (metrics with a number, when there are several). Fails with `InvalidOption` for an option out of its range.
   */
  static readonly layer = (name: string, options: StackOptions = {}): Layer.Layer<Stack, InvalidOption> =>
    Layer.effect(
      Stack,
      Effect.gen(function*() {
        const context = yield* Effect.context<never>()
        const random = Context.get(context, Random.Random)
        const drainTimeoutMillis = yield* durationMillis("drainTimeout", options.drainTimeout, 5000)
        const deadlines = yield* Deadlines.make
        const { now } = deadlines
        const budget = yield* Budget.make(now, options.budget)
        const nodes: Array<StackNode> = []
        let filtered = false
        let shortest = 0
        let known = false
        const stack = Stack.of({
          name,
          client: unused(name, Context.get(context, Metric.MetricRegistry)),
          drainTimeoutMillis,
          now,
          random: () => random.nextDoubleUnsafe(),
          deadlines,
          budget,
          succeeded: (millis) => {
            shortest = known && millis > shortest ? shortest + (millis - shortest) * 0.01 : millis
            known = true
          },
          inTime: (deadline, delayMillis) => now() + delayMillis + shortest < deadline,
          register: (node) =>
            Effect.acquireRelease(
              Effect.sync(() => void nodes.push(node)),
              () => Effect.sync(() => void nodes.splice(nodes.indexOf(node), 1))
            ),
          nodes: () => nodes.slice(),
          filtered: () => filtered,
          markFiltered: () => {
            filtered = true
          }
        })
        // The first series of a stack, which keeps its name from the next of that name.
        yield* gauges(stack, {
          name: "scales.stack.timers",
          description: "deadlines of calls, and timers of stages, that wait",
          read: () => deadlines.size
        })
        const directory = yield* Effect.serviceOption(Stacks)
        if (Option.isSome(directory)) yield* directory.value.add(stack)
        return stack
      })
    )
}

/**
 * The stacks of a program, for what looks at them from outside: a page, a command line, a test. A stack that is built where a
 * directory is provided shows up in it until it closes.
 */
export class Stacks extends Context.Service<Stacks, {
  readonly add: (stack: StackShape) => Effect.Effect<void, never, Scope.Scope>
  readonly list: () => ReadonlyArray<StackShape>
}>()("@scales-rpc/core/Stacks") {
  /** An empty directory. */
  static readonly layer: Layer.Layer<Stacks> = Layer.sync(Stacks, () => {
    const stacks: Array<StackShape> = []
    return Stacks.of({
      add: (stack) =>
        Effect.acquireRelease(
          Effect.sync(() => void stacks.push(stack)),
          () => Effect.sync(() => void stacks.splice(stacks.indexOf(stack), 1))
        ),
      list: () => stacks.slice()
    })
  })
}

/** One stage of a described stack: a `StackNode` with its state at one moment. */
export interface Described {
  readonly role: string
  readonly description: string
  readonly options: Readonly<Record<string, unknown>>
  readonly state: unknown
}

/** The stages of a stack with their options and live state, from the caller down. */
export const describe = (stack: StackShape): ReadonlyArray<Described> =>
  stack.nodes().toReversed().map(({ description, options, role, snapshot }) => ({
    role,
    description,
    options,
    state: snapshot()
  }))
