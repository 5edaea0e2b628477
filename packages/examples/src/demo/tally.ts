/** What the demo counts: calls as their callers see them, and attempts as each endpoint sees them. */
import { Filter } from "@scales-rpc/core"
import { Mux } from "@scales-rpc/mux"
import { Effect } from "effect"
import { Latencies } from "./latencies.ts"

/** One endpoint's attempts. */
export interface EndpointTally {
  calls: number
  /** Of every reply. */
  readonly whole: Latencies
  /** Of the replies since `turn` was called last, and of the period before that. */
  now: Latencies
  before: Latencies | undefined
  /** When the last reply came, in milliseconds since the epoch; 0: never. */
  lastReply: number
}

/** All that is counted. */
export interface Tally {
  calls: number
  ok: number
  wrong: number
  /** Failed calls by the tag of their error, with the text of the first of each. */
  readonly failed: Map<string, { count: number; readonly example: string }>
  readonly endpoints: Map<string, EndpointTally>
}

/** Nothing counted yet. */
export const make = (): Tally => ({ calls: 0, ok: 0, wrong: 0, failed: new Map(), endpoints: new Map() })

/** Counts a call that failed. */
export const failure = (tally: Tally, tag: string, message: string): void => {
  const known = tally.failed.get(tag)
  if (known === undefined) tally.failed.set(tag, { count: 1, example: message })
  else known.count++
}

/** How many calls failed for each tag. */
export const failures = (tally: Tally): Readonly<Record<string, number>> =>
  Object.fromEntries(Array.from(tally.failed, ([tag, { count }]) => [tag, count]))

/** Begins a new period of `now`. */
export const turn = (tally: Tally): void => {
  for (const endpoint of tally.endpoints.values()) {
    endpoint.before = endpoint.now
    endpoint.now = new Latencies()
  }
}

/** A filter below the balancer that counts every attempt: what a user would write to watch endpoints. */
export const filter = (tally: Tally) =>
  Filter.below(Mux, (inner, endpoint) =>
    Effect.sync(() => {
      const own: EndpointTally = {
        calls: 0,
        whole: new Latencies(),
        now: new Latencies(),
        before: undefined,
        lastReply: 0
      }
      tally.endpoints.set(endpoint.key, own)
      return {
        ...inner,
        send: (request, attempt) =>
          Effect.suspend(() => {
            // The stack's clock counts whole milliseconds, and a call takes a part of one.
            const started = performance.now()
            attempt.onEnd((outcome) => {
              own.calls++
              if (outcome !== "success") return
              const millis = performance.now() - started
              own.whole.add(millis)
              own.now.add(millis)
              own.lastReply = Date.now()
            })
            return inner.send(request, attempt)
          })
      }
    }))
