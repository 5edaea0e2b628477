/** What the connections of one transport have seen of HTTP: plain numbers, and the series that show them. */
import { Metrics } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { table } from "../metricTable.ts"

/** How a streamed body ended. */
export type BodyEnd = "complete" | "cancelled" | "aborted" | "broken"

const bodyEnds: ReadonlyArray<BodyEnd> = ["complete", "cancelled", "aborted", "broken"]

/** Why a connection ended. */
export type ConnectionEnd =
  | "client"
  | "server"
  | "idle"
  | "finished"
  | "abandoned"
  | "drained"
  | "protocol_error"

/**
 * All of them. `client`: closed from here. `server`: it was lost with requests on it; `idle`: with none. `finished`: with
 * what was on it, for which HTTP or undici closes it. `abandoned`: what was on it was given up. `drained`: it had been asked to end, and what was on it did.
 */
export const connectionEnds: ReadonlyArray<ConnectionEnd> = [
  "client",
  "server",
  "idle",
  "finished",
  "abandoned",
  "drained",
  "protocol_error"
]

/** By the hundreds of the status; what is beyond them is at 0. */
const classes = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"] as const

/** The numbers. */
export class TransportCounts {
  /** Requests given to a connection. */
  calls = 0
  /** Exchanges that nobody waited for any more: over HTTP/1 each has cost its connection. */
  abandoned = 0
  /** Connections that ended while they were idle. */
  idleClosed = 0
  /** Times that a server did not keep to the protocol. */
  protocolErrors = 0
  /** Connections given up because the server did not choose HTTP/2. */
  alpnRefusals = 0
  /** Requests that met a connection which had ended, and were not sent. */
  stale = 0
  /** Refusals that may be sent again, and those that may not. */
  nacks = 0
  finalNacks = 0
  /** Responses that were cut. */
  truncated = 0
  requestBodyBytes = 0
  responseBodyBytes = 0
  readonly bodies: Record<BodyEnd, number> = { complete: 0, cancelled: 0, aborted: 0, broken: 0 }
  readonly #responses = [0, 0, 0, 0, 0, 0]
  readonly #failures: Metrics.Tally

  constructor(failures: Metrics.Tally) {
    this.#failures = failures
  }

  /** A request has failed. */
  failed(error: string): void {
    this.#failures.count(error)
  }

  /** The head of a response has come. */
  responded(status: number): void {
    this.#responses[status < 600 ? Math.floor(status / 100) : 0]!++
  }

  /** As plain data. */
  get snapshot() {
    const { bodies, ...counts } = this
    return {
      ...counts,
      bodies: { ...bodies },
      responses: Object.fromEntries(classes.map((name, index) => [name, this.#responses[index]!])),
      requestFailures: this.#failures.counts
    }
  }

  /** The series; `pending` reads how many requests have not ended. */
  series(protocol: string, pending: () => number): ReadonlyArray<Metrics.Series> {
    const of = { protocol }
    return [
      Metrics.value(table["scales.http.requests"], () => this.calls, of),
      Metrics.value(table["scales.http.pending"], pending, of),
      ...classes.map((name, index) =>
        Metrics.value(table["scales.http.responses"], () => this.#responses[index]!, { protocol, class: name })
      ),
      Metrics.value(table["scales.http.abandoned"], () => this.abandoned, of),
      Metrics.value(table["scales.http.stale"], () => this.stale, of),
      Metrics.value(table["scales.http.nacks"], () => this.nacks, { protocol, retryable: "true" }),
      Metrics.value(table["scales.http.nacks"], () => this.finalNacks, { protocol, retryable: "false" }),
      Metrics.value(table["scales.http.truncated"], () => this.truncated, of),
      ...bodyEnds.map((end) => Metrics.value(table["scales.http.bodies"], () => this.bodies[end], { protocol, end })),
      Metrics.value(table["scales.http.request_body_bytes"], () => this.requestBodyBytes, of),
      Metrics.value(table["scales.http.response_body_bytes"], () => this.responseBodyBytes, of),
      Metrics.value(table["scales.http.protocol_errors"], () => this.protocolErrors, of),
      Metrics.value(table["scales.http.alpn_refusals"], () => this.alpnRefusals, of)
    ]
  }
}

/** The numbers of a transport, shown until the scope closes. */
export const make = (
  owner: Metrics.Owner,
  protocol: string,
  pending: () => number
): Effect.Effect<TransportCounts, never, Scope.Scope> =>
  Effect.gen(function*() {
    const counts = new TransportCounts(
      yield* Metrics.tally(owner, table["scales.http.failures"], "error", { protocol })
    )
    yield* Metrics.show(owner, ...counts.series(protocol, pending))
    return counts
  })
