/** The state of a sink, read on every pick: a property, and a list of listeners that hear each change in order. */
import type { RpcError } from "./RpcError.ts"

/**
 * `Idle`: not connected, will connect when needed. `Open`: ready. `Busy`: works, but prefer another (draining, lease
 * over). `Closed`: not usable now. Idle and Open are equally good; then Busy; then Closed.
 */
export type SinkState = "Idle" | "Open" | "Busy" | "Closed"

/** What a sink tells of itself. */
export interface Status {
  /** How good it is to send on, now. */
  readonly state: SinkState
  /**
   * Why it is Busy or Closed, or Idle still. Closed without a fault was drained or closed on purpose: replaced at once, no backoff.
   */
  readonly fault: RpcError | undefined
  /** Calls `f` after every change, in order; the result ends it. Nothing is called on subscribing. */
  readonly subscribe: (f: () => void) => () => void
}

/** A status that its owner sets. */
export class StatusCell implements Status {
  state: SinkState
  fault: RpcError | undefined
  /** Made anew when it changes: there is one of these for each stage of each endpoint, most with one listener, and an array that grows takes room for 16 more. */
  #listeners: ReadonlyArray<() => void> = []
  #notifying = false
  #again = false

  constructor(state: SinkState, fault?: RpcError) {
    this.state = state
    this.fault = fault
  }

  /** Changes the state; tells nobody when nothing changed. */
  set(state: SinkState, fault?: RpcError): void {
    if (this.state === state && this.fault === fault) return
    this.state = state
    this.fault = fault
    // A listener that sets the status again must not make a later one hear the changes in the wrong order.
    if (this.#notifying) {
      this.#again = true
      return
    }
    this.#notifying = true
    try {
      do {
        this.#again = false
        for (const listener of this.#listeners) {
          if (this.#listeners.includes(listener)) listener()
        }
      } while (this.#again)
    } finally {
      this.#notifying = false
    }
  }

  readonly subscribe = (f: () => void): () => void => {
    const listener = () => f()
    this.#listeners = [...this.#listeners, listener]
    return () => {
      this.#listeners = this.#listeners.filter((one) => one !== listener)
    }
  }

  /** How many listen: 0 once everything above has let go. */
  get listeners(): number {
    return this.#listeners.length
  }
}

/** How good a state is to send on: lower is better. */
export const rank = (state: SinkState): 0 | 1 | 2 => state === "Closed" ? 2 : state === "Busy" ? 1 : 0
