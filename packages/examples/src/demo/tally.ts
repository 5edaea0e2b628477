/** What the demo counts: calls as their callers see them, and attempts as each endpoint sees them. */
import type { Endpoint } from "@scales-rpc/core"
import { Filter } from "@scales-rpc/core"
import { Mux } from "@scales-rpc/mux"
import { Effect } from "effect"

/** Latencies of the last calls, in milliseconds. */
class Window {
  readonly #values = new Float64Array(2048)
  #count = 0

  add(millis: number): void {
    this.#values[this.#count++ % this.#values.length] = millis
  }

  /** The value that `share` of the window is not above; `undefined` when it is empty. */
  percentile(share: number): number | undefined {
    const values = this.#values.subarray(0, Math.min(this.#count, this.#values.length)).toSorted()
    return values[Math.min(values.length - 1, Math.floor(share * values.length))]
  }
}

/** One endpoint's attempts. */
export interface EndpointTally {
  calls: number
  readonly window: Window
  /** When the last reply came, in milliseconds since the epoch. */
  lastReply: number
}

/** All that is counted. */
export interface Tally {
  calls: number
  ok: number
  wrong: number
  readonly failed: Record<string, number>
  readonly endpoints: Map<string, EndpointTally>
}

/** Nothing counted yet. */
export const make = (): Tally => ({ calls: 0, ok: 0, wrong: 0, failed: {}, endpoints: new Map() })

const of = (tally: Tally, endpoint: Endpoint): EndpointTally => {
  let own = tally.endpoints.get(endpoint.key)
  if (own === undefined) {
    own = { calls: 0, window: new Window(), lastReply: 0 }
    tally.endpoints.set(endpoint.key, own)
  }
  return own
}

/** A filter below the balancer that counts every attempt: what a user would write to watch endpoints. */
export const filter = (tally: Tally) =>
  Filter.below(Mux, (inner, endpoint) =>
    Effect.sync(() => {
      const own = of(tally, endpoint)
      return {
        ...inner,
        send: (request, attempt) =>
          Effect.suspend(() => {
            const started = performance.now()
            attempt.onEnd((outcome) => {
              own.calls++
              own.window.add(performance.now() - started)
              if (outcome === "success") own.lastReply = Date.now()
            })
            return inner.send(request, attempt)
          })
      }
    }))
