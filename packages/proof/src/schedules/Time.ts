/** The stack's real deadline queue over a clock that a schedule moves. */
import { Deadlines } from "@scales-rpc/core"

/** Milliseconds since the epoch at which every schedule begins. */
const epoch = 1_700_000_000_000

/** Time that passes when told. */
export class Time {
  now = epoch
  #sleeps: Array<{ readonly at: number; readonly wake: () => void }> = []
  readonly deadlines = new Deadlines(
    // All that the queue asks of a clock.
    { currentTimeMillisUnsafe: () => this.now } as never,
    (millis, wake) => {
      const sleep = { at: this.now + millis, wake }
      this.#sleeps.push(sleep)
      return () => {
        this.#sleeps = this.#sleeps.filter((other) => other !== sleep)
      }
    }
  )

  /** Lets time pass; what is due on the way happens when it is due. */
  advance(millis: number): void {
    const until = this.now + millis
    for (;;) {
      let next: { readonly at: number; readonly wake: () => void } | undefined
      for (const sleep of this.#sleeps) {
        if (sleep.at <= until && (next === undefined || sleep.at < next.at)) next = sleep
      }
      if (next === undefined) break
      const { at, wake } = next
      this.#sleeps = this.#sleeps.filter((other) => other.wake !== wake || other.at !== at)
      this.now = Math.max(this.now, at)
      wake()
    }
    this.now = until
  }
}
