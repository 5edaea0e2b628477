/** Where a session stands, and who hears of it when that changes. */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type { SessionStatus } from "../Session.ts"

/** The status of one session. It ends with `Closed`, which nothing follows. */
export class States {
  #status: SessionStatus = { state: "Connecting", id: undefined, generation: 0, cause: undefined }
  readonly #listeners = new Set<(status: SessionStatus) => void>()
  readonly #untold: Array<SessionStatus> = []
  #telling = false
  readonly #defect: (defect: unknown) => void

  /** `defect` hears of what listeners throw. */
  constructor(defect: (defect: unknown) => void) {
    this.#defect = defect
  }

  readonly status = (): SessionStatus => this.#status

  readonly subscribe = (f: (status: SessionStatus) => void): () => void => {
    // A function of its own: whoever subscribes the same one twice is called twice, and ends each by itself.
    const listener = (status: SessionStatus) => f(status)
    if (this.#status.state !== "Closed") this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
    }
  }

  readonly states: Stream.Stream<SessionStatus> = Stream.callback((queue) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const offer = (status: SessionStatus) => {
          Queue.offerUnsafe(queue, status)
          if (status.state === "Closed") Queue.endUnsafe(queue)
        }
        offer(this.#status)
        return this.subscribe(offer)
      }),
      (off) => Effect.sync(off)
    )
  )

  /** Changes what is named, and tells everybody. */
  set(change: Partial<SessionStatus>): void {
    if (this.#status.state === "Closed") return
    this.#status = { ...this.#status, ...change }
    this.#untold.push(this.#status)
    // A listener that changes the status again: everybody hears of this change first, then of that one.
    if (this.#telling) return
    this.#telling = true
    for (let status = this.#untold.shift(); status !== undefined; status = this.#untold.shift()) {
      for (const listener of [...this.#listeners]) {
        if (!this.#listeners.has(listener)) continue
        try {
          listener(status)
        } catch (thrown) {
          this.#defect(thrown)
        }
      }
    }
    this.#telling = false
    if (this.status().state === "Closed") this.#listeners.clear()
  }
}
