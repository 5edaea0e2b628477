/**
 * What a client and a server have in common for whoever looks at them: a name, the register of their stages, series, a log of what changes, and
 * the last faults.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Deadlines } from "./Deadlines.ts"
import type { DescribeBounds, OptionInForce } from "./Describe.ts"
import { Faults } from "./Faults.ts"
import * as Metrics from "./Metrics.ts"
import { StateLog } from "./StateLog.ts"

/** One stage as the register shows it. */
export interface StackNode {
  /** What the stage is for: `balancer`, `resurrector`, `pool`, `transport`, ... */
  readonly role: string
  /** One sentence. */
  readonly description: string
  /** The options in force, and where each came from: made by `Describe.given`. */
  readonly options: Readonly<Record<string, OptionInForce>>
  /** Its live state as plain data, read without locks on the call path, of no more than somebody wants to see. */
  readonly snapshot: (bounds?: DescribeBounds) => unknown
}

/** A client or a server that can be looked at. */
export interface Observed {
  readonly kind: "client" | "server"
  /** What logs and errors call it. */
  readonly name: string
  /** What metrics call it, as `client` or `server`: its name, with a number when another of that name is there already. */
  readonly id: string
  /** Its series. */
  readonly metrics: Metrics.Registry
  /** Its changes of state. */
  readonly log: StateLog
  /** What went wrong lately. */
  readonly faults: Faults
  /** Adds a stage until the scope closes. */
  readonly register: (node: StackNode) => Effect.Effect<void, never, Scope.Scope>
  /** The stages, in the order they were built: from the wire up. */
  readonly nodes: () => ReadonlyArray<StackNode>
}

/** Makes one; its series are shown only with `metrics`. */
export const make = (
  kind: Observed["kind"],
  name: string,
  deadlines: Deadlines,
  metrics: boolean
): Effect.Effect<Observed, never, Scope.Scope> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<Scope.Scope>()
    const clock = Context.get(context, Clock.Clock)
    const { free, name: id } = Metrics.ownName(kind, name, metrics, context)
    const nodes: Array<StackNode> = []
    const registry = new Metrics.Registry(metrics, { [kind]: id }, context)
    const log = new StateLog({ [kind]: id }, deadlines, Effect.runForkWith(context))
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        log.close()
        registry.close()
        free()
      })
    )
    return {
      kind,
      name,
      id,
      metrics: registry,
      log,
      faults: new Faults(() => clock.currentTimeMillisUnsafe()),
      register: (node) =>
        Effect.acquireRelease(
          Effect.sync(() => void nodes.push(node)),
          () => Effect.sync(() => void nodes.splice(nodes.indexOf(node), 1))
        ),
      nodes: () => nodes.slice()
    }
  })
