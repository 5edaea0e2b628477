/** A server set for whoever looks at it: what it was found to be, in series, in the log, and described. */
import { type Faults, Metrics, type ServerSetState, type StateLog } from "@scales-rpc/core"
import { table } from "../metricTable.ts"

/** Who counts and logs what happens to a server set: the client it is for, or its session. */
export interface ServerSetObserver {
  readonly metrics: Metrics.Registry
  readonly log: StateLog
  /** Only of a client. */
  readonly faults?: Faults | undefined
}

/** What was read at one time. */
export interface ServerSetReading {
  readonly state: ServerSetState
  /** Nodes that give weights. */
  readonly vectors: number
  /** Nodes whose data is not all as it should be. */
  readonly malformed: number
  /** Why it could not be read was logged of one of its nodes. */
  readonly told: boolean
}

const order: ReadonlyArray<ServerSetState["_tag"]> = ["Pending", "Bound", "Neg", "Failed"]

/** What was found out of one server set. */
export class ServerSetView {
  readonly #observer: ServerSetObserver
  readonly #now: () => number
  readonly #annotations: Readonly<Record<string, unknown>>
  #state: ServerSetState["_tag"] = "Pending"
  /** Since when it is that. */
  #since: number
  #members = 0
  #vectors = 0
  #malformed = 0
  #updates = 0
  #updatedAt: number

  /** `now` is in milliseconds that never go back; `annotations` are those of each line that is logged. */
  constructor(observer: ServerSetObserver, now: () => number, annotations: Readonly<Record<string, unknown>>) {
    this.#observer = observer
    this.#now = now
    this.#annotations = annotations
    this.#since = this.#updatedAt = now()
  }

  /** The series; `path` tells this set from others of the same owner. */
  series(path: string): ReadonlyArray<Metrics.Series> {
    const of = { path }
    return [
      Metrics.value(table["scales.zookeeper.set_state"], () => order.indexOf(this.#state), of),
      Metrics.value(table["scales.zookeeper.set_members"], () => this.#members, of),
      Metrics.value(table["scales.zookeeper.set_malformed"], () => this.#malformed, of),
      Metrics.value(table["scales.zookeeper.set_vectors"], () => this.#vectors, of),
      Metrics.value(table["scales.zookeeper.set_updates"], () => this.#updates, of),
      Metrics.value(table["scales.zookeeper.set_since_update_ms"], () => this.#now() - this.#updatedAt, of)
    ]
  }

  /** As plain data. */
  get snapshot() {
    return {
      state: this.#state,
      members: this.#members,
      malformed: this.#malformed,
      vectors: this.#vectors,
      updates: this.#updates,
      updatedMillisAgo: Math.round(this.#now() - this.#updatedAt)
    }
  }

  /** The set was read, or could not be. */
  read({ malformed, state, told, vectors }: ServerSetReading): void {
    this.#vectors = vectors
    this.#malformed = malformed
    if (state._tag !== "Failed") {
      this.#members = state._tag === "Bound" ? state.endpoints.length : 0
      this.#updates++
      this.#updatedAt = this.#now()
    }
    if (state._tag === this.#state) return
    const before = this.#state
    const goneMillis = Math.round(this.#now() - this.#since)
    this.#state = state._tag
    this.#since = this.#now()
    if (state._tag === "Neg") this.#wrong("server set is missing", undefined, false)
    else if (state._tag === "Failed") this.#wrong("server set cannot be read", state.cause, told)
    else if (before !== "Pending") this.log("info", "server set is back", { goneMillis, members: this.#members })
  }

  /** Logs what happened to it. */
  log(level: Parameters<StateLog["say"]>[0], message: string, annotations: Readonly<Record<string, unknown>>): void {
    this.#observer.log.say(level, message, { ...this.#annotations, ...annotations })
  }

  #wrong(what: string, cause: unknown, told: boolean): void {
    const { faults } = this.#observer
    const why = cause instanceof Error ? cause.message : cause
    if (!told) this.log("warning", what, why === undefined ? {} : { cause: why })
    faults?.note({ what, cause: why ?? this.#annotations["path"] })
  }
}
