/** The server set of a client for whoever looks at it: what it said last, how often it changed, and what was wrong with it. */
import type { Endpoint } from "../Endpoint.ts"
import { table } from "../metricTable.ts"
import * as Metrics from "../Metrics.ts"
import type { ServerSetState } from "../ServerSetState.ts"
import type { StackShape } from "../Stack.ts"
import { membersOf, sameEndpoint } from "./membership.ts"
import { textOf } from "./textOf.ts"

const order: ReadonlyArray<ServerSetState["_tag"]> = ["Pending", "Bound", "Neg", "Failed"]

/** Told of every state. Times are those of the stack's `now`. */
export class SetView {
  readonly #stack: StackShape
  readonly #logs: boolean
  #state: ServerSetState["_tag"] = "Pending"
  /** Of the last state that said which there are. */
  #members: ReadonlyMap<string, Endpoint> = new Map()
  #updates = 0
  #changes = 0
  #failures = 0
  readonly #begunAt: number
  #updatedAt: number | undefined
  #changedAt: number | undefined
  /** Since when it cannot be found out. */
  #failedAt: number | undefined

  /** `logs`: somebody else says in the log that the set cannot be found out. */
  constructor(stack: StackShape, logs: boolean) {
    this.#stack = stack
    this.#logs = logs
    this.#begunAt = stack.now()
  }

  /** The set has told a state. */
  told(state: ServerSetState): void {
    const now = this.#stack.now()
    this.#updates++
    this.#updatedAt = now
    this.#state = state._tag
    if (state._tag === "Failed") return this.#failed(state.cause, now)
    if (state._tag === "Pending") return
    this.#found(now)
    const before = this.#members
    const members = membersOf(state)
    this.#members = members
    const same = members.size === before.size && [...members].every(([key, each]) => {
      const earlier = before.get(key)
      return earlier !== undefined && sameEndpoint(earlier, each)
    })
    if (same && this.#changedAt !== undefined) return
    this.#changes++
    this.#changedAt = now
  }

  #failed(cause: unknown, now: number): void {
    this.#failures++
    const known = this.#failedAt !== undefined
    this.#failedAt ??= now
    if (known || this.#logs) return
    const { faults, log } = this.#stack
    log.say("warning", "server set cannot be read", { cause: textOf(cause) })
    faults.note({ what: "server set cannot be read", cause })
  }

  #found(now: number): void {
    if (this.#failedAt === undefined) return
    const failedMillis = now - this.#failedAt
    this.#failedAt = undefined
    if (!this.#logs) this.#stack.log.say("info", "server set is back", { failedMillis })
  }

  /** As plain data; how long ago something was, in milliseconds. */
  get snapshot() {
    const now = this.#stack.now()
    const since = (at: number | undefined) => at === undefined ? undefined : now - at
    return {
      state: this.#state,
      endpoints: this.#members.size,
      updates: this.#updates,
      changes: this.#changes,
      failures: this.#failures,
      updatedMillisAgo: since(this.#updatedAt),
      changedMillisAgo: since(this.#changedAt)
    }
  }

  /** What it shows. */
  get series(): ReadonlyArray<Metrics.Series> {
    return [
      Metrics.value(table["scales.discovery.state"], () => order.indexOf(this.#state)),
      Metrics.value(table["scales.discovery.endpoints"], () => this.#members.size),
      Metrics.value(table["scales.discovery.updates"], () => this.#updates),
      Metrics.value(table["scales.discovery.changes"], () => this.#changes),
      Metrics.value(table["scales.discovery.failures"], () => this.#failures),
      Metrics.value(
        table["scales.discovery.since_update_ms"],
        () => this.#stack.now() - (this.#updatedAt ?? this.#begunAt)
      )
    ]
  }
}
