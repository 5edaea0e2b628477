/** Where a session stands, and who hears of it when that changes. */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type { SessionStatus } from "../Session.ts"

/** What has become of a session's connections so far. */
export interface StateCounts {
  /** Sessions that the servers gave. */
  sessions: number
  /** Connections made again within one. */
  reconnects: number
  /** Sessions that the servers have ended. */
  expirations: number
  /** How often credentials were refused. */
  authFailures: number
  connectionLosses: number
}

/** The status of one session. It ends with `Closed`, which nothing follows. */
export class States {
  #status: SessionStatus = { state: "Connecting", id: undefined, generation: 0, cause: undefined }
  readonly #listeners = new Set<(status: SessionStatus) => void>()
  readonly #untold: Array<SessionStatus> = []
  #telling = false
  readonly #defect: (defect: unknown) => void
  readonly #now: () => number
  /** Live. */
  readonly counts: Readonly<StateCounts>
  readonly #counts: StateCounts
  /** The session that was connected last. */
  #last: string | undefined
  /** How long there was no connection, without the time since `#goneSince`. */
  #gone = 0
  /** When the last connection was lost; `undefined`: there is one. */
  #goneSince: number | undefined

  /** `defect` hears of what listeners throw; `now` is in milliseconds that never go back. */
  constructor(defect: (defect: unknown) => void, now: () => number) {
    this.#defect = defect
    this.#now = now
    this.#goneSince = now()
    this.counts = this.#counts = { sessions: 0, reconnects: 0, expirations: 0, authFailures: 0, connectionLosses: 0 }
  }

  readonly status = (): SessionStatus => this.#status

  /** How long there is no connection now; 0: there is one. */
  get goneMillis(): number {
    return this.#goneSince === undefined ? 0 : this.#now() - this.#goneSince
  }

  /** How long there was none in all. */
  get disconnectedMillis(): number {
    return this.#gone + this.goneMillis
  }

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
    this.#count(change)
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

  #count({ id, state }: Partial<SessionStatus>): void {
    const counts = this.#counts
    if (state === "Connected") {
      this.#gone += this.goneMillis
      this.#goneSince = undefined
      if (id === this.#last) counts.reconnects++
      else counts.sessions++
      this.#last = id
      return
    }
    if (this.#status.state === "Connected" && state !== undefined) {
      this.#goneSince = this.#now()
      if (state !== "Closed") counts.connectionLosses++
    }
    if (state === "Expired") counts.expirations++
    if (state === "AuthFailed") counts.authFailures++
  }
}
