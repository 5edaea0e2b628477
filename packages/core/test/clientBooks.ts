/** The books of a client against what it shows: what is the same whatever it speaks. */
import { assert } from "@effect/vitest"
import type { AccrualPolicy } from "@scales-rpc/core"
import { Effect, Exit } from "effect"
import type { Audit, Measured } from "./audit.ts"
import { type Spies, tagOf } from "./spies.ts"

export type Counts = Record<string, number>

export const count = (counts: Counts, key: string, by = 1): void => {
  counts[key] = (counts[key] ?? 0) + by
}
export const total = (counts: Counts): number => Object.values(counts).reduce((sum, each) => sum + each, 0)
export const sumOf = (numbers: ReadonlyArray<number>): number => numbers.reduce((sum, each) => sum + each, 0)

/** The reason why a time is not compared. */
export const time = "it is a time, of a clock"

/** One call as its caller saw it. */
export interface Called {
  readonly method: string
  readonly tag: string
  readonly waiting: string | undefined
  readonly millis: number
}

/** Marks an endpoint dead for 100 ms after three failures in a row, and keeps books of that. */
export class Accrual {
  removals = 0
  revivals = 0
  /** How long those were dead that were revived, in milliseconds. */
  removedMillis = 0

  readonly policy: AccrualPolicy.AccrualPolicy = Effect.succeed(() => {
    let failures = 0
    let deadSince: number | undefined
    return {
      recordSuccess: () => {
        failures = 0
      },
      markDeadOnFailure: () => {
        if (++failures < 3) return undefined
        if (deadSince === undefined) this.removals++
        deadSince ??= performance.now()
        return 100
      },
      revived: () => {
        this.revivals++
        this.removedMillis += performance.now() - deadSince!
        deadSince = undefined
        failures = 0
      }
    }
  })
}

/** How much longer something may have been than what was measured at its side, in milliseconds for each. */
export const slack = (each: number): number => 50 * each

/** What a test counted itself of a client, and how that was made. */
export interface ClientBooks {
  readonly client: string
  readonly service: string
  readonly calls: ReadonlyArray<Called>
  readonly spies: Spies
  readonly accrual: Accrual
  /** Endpoints in its set, which are all in the aperture. */
  readonly endpoints: number
  /** Endpoints with series of their own. */
  readonly endpointSeries: number
  /** Calls at once, at most. */
  readonly concurrency: number
  /** How long ago the test began. */
  readonly testMillis: number
  /** Whether a reply says that the endpoint failed. Default: none does. */
  readonly failureReply?: (reply: any) => boolean
}

/** Retries that are free in the window of a budget with `minRetriesPerSecond: 1000`. */
const freeRetries = 10_000

/** Compares what every client shows whatever it speaks, from its calls down to its resurrector, when all calls have ended. */
export const compareClient = (
  audit: Audit,
  {
    accrual,
    calls,
    client,
    concurrency,
    endpointSeries,
    endpoints,
    failureReply = () => false,
    service,
    spies,
    testMillis
  }: ClientBooks
): void => {
  const ours = { client }
  // Calls.
  const byMethod = Map.groupBy(calls, ({ method }) => method)
  const each = <A>(of: (calls: ReadonlyArray<Called>) => A): Record<string, A> =>
    Object.fromEntries(Array.from(byMethod, ([method, calls]) => [`${method} ${service}`, of(calls)]))
  const failures: Counts = {}
  const timeouts: Counts = {}
  for (const { method, tag, waiting } of calls) {
    if (tag === "Timeout") count(timeouts, waiting!)
    if (tag !== "success") count(failures, `${tag} ${method} ${service}`)
  }
  const attemptMillis: Record<string, Measured> = Object.fromEntries(
    Array.from(Map.groupBy(spies.attempts, ({ method }) => method), ([method, own]) => [
      `${method} ${service}`,
      { count: own.length, sum: sumOf(own.map(({ millis }) => millis)) }
    ])
  )
  audit.equal("scales.call.requests", each((own) => own.length), ours)
  audit.equal("scales.call.success", each((own) => own.filter(({ tag }) => tag === "success").length), ours)
  audit.equal("scales.call.failed", each((own) => own.filter(({ tag }) => tag !== "success").length), ours)
  audit.equal("scales.call.failures", failures, ours)
  audit.equal("scales.call.timeouts", timeouts, ours)
  audit.equal("scales.call.pending", 0, ours)
  audit.between(
    "scales.call.latency_ms",
    attemptMillis,
    each((own) => ({ count: own.length, sum: sumOf(own.map(({ millis }) => millis)) })),
    ours
  )
  audit.summary("scales.call.latency_quantiles_ms", each((own) => own.map(({ millis }) => millis)), ours)

  // Attempts, by endpoint.
  const shown = [...new Set(spies.attempts.map(({ endpoint }) => endpoint))].slice(0, endpointSeries)
  const labelOf = (endpoint: string) => shown.includes(endpoint) ? endpoint : "other"
  const attempts: Counts = {}
  const answered: Counts = {}
  const failed: Counts = {}
  const failedAll: Counts = {}
  const ignored: Counts = {}
  const millis: Record<string, Array<number>> = {}
  for (const { aborted, endpoint, exit, millis: took } of spies.attempts) {
    const label = labelOf(endpoint)
    count(attempts, label)
    const tag = tagOf(exit!)
    // Whoever waited went away, or nobody could have been sent it: neither says anything of the endpoint.
    if (Exit.isFailure(exit!) && (aborted() ? tag !== "Timeout" : ["Interrupted", "Unsendable"].includes(tag))) {
      count(ignored, label)
      continue
    }
    ;(millis[label] ??= []).push(took)
    if (Exit.isSuccess(exit!) && !failureReply(exit.value)) count(answered, label)
    else {
      count(failedAll, label)
      count(failed, `${label} ${Exit.isSuccess(exit!) ? "FailureReply" : tag}`)
    }
  }
  audit.equal("scales.endpoint.attempts", attempts, ours)
  audit.equal("scales.endpoint.success", answered, ours)
  audit.equal("scales.endpoint.failed", failedAll, ours)
  audit.equal("scales.endpoint.failures", failed, ours)
  audit.equal("scales.endpoint.ignored", ignored, ours)
  audit.equal("scales.endpoint.load", 0, ours)
  audit.histogram("scales.endpoint.latency_ms", millis, ours)
  audit.quantiles("scales.endpoint.latency_quantiles_ms", millis, ours)
  const rankOf = (state: string) => state === "Closed" ? 2 : state === "Busy" ? 1 : 0
  const ranks = Object.fromEntries(Array.from(spies.states, ([endpoint, state]) => [endpoint, rankOf(state())]))
  audit.equal(
    "scales.endpoint.state",
    Object.fromEntries(Object.entries(ranks).filter(([endpoint]) => shown.includes(endpoint))),
    ours
  )

  // The balancer, and the set.
  const ranked = (rank: number) => Object.values(ranks).filter((each) => each === rank).length
  audit.all("scales.balancer.", {
    size: endpoints,
    usable: ranked(0),
    busy: ranked(1),
    down: ranked(2),
    draining: 0,
    load: 0,
    adds: endpoints,
    removes: 0,
    panics: spies.panics,
    waiting: 0
  }, ours)
  // All are in it, so that nothing can move.
  audit.all("scales.aperture.", {
    size: endpoints,
    outside: 0,
    widened: 0,
    narrowed: 0,
    replaced: 0,
    swapped: 0,
    expired: 0
  }, ours)
  audit.relation("scales.aperture.opening", "what is down never opens", (value) => value <= ranked(2), ours)
  audit.relation(
    "scales.aperture.load_average",
    "an average over time, of the load for each endpoint",
    (value) => value >= 0 && value <= concurrency,
    ours
  )
  audit.all("scales.discovery.", { state: 1, endpoints, updates: 1, changes: 1, failures: 0 }, ours)
  audit.relation("scales.discovery.since_update_ms", time, (value) => value >= 0 && value <= testMillis + 1, ours)

  // What was sent again. An attempt more than calls, each, for one of two reasons.
  const again = spies.sentAgain
  audit.equal(
    "scales.requeue.requeues",
    { not_connected: again.not_connected, refused: again.refused },
    ours
  )
  audit.equal("scales.requeue.not_retryable", again.notRetryable, ours)
  const gaveUp = ["budget_exhausted", "request_limit", "not_open", "out_of_time"]
    .map((name) => {
      audit.relation(
        `scales.requeue.${name}`,
        "a spy sees that a call was given up, not why: their sum is compared",
        (value) => value >= 0,
        ours
      )
      return audit.sum(`scales.requeue.${name}`, ours)
    })
  assert.strictEqual(sumOf(gaveUp), again.gaveUp)
  audit.all("scales.retry.", {
    retries: again.retries,
    budget_exhausted: 0,
    exhausted: again.exhausted,
    out_of_time: 0,
    not_retryable: again.retryNotRetryable
  }, ours)
  assert.strictEqual(
    spies.attempts.length,
    spies.calls.length + again.not_connected + again.refused + again.retries
  )
  audit.all("scales.budget.", { withdrawals: again.refused + again.retries, exhausted: 0 }, ours)
  audit.relation(
    "scales.budget.balance",
    "what a withdrawal costs falls out of a window of 10 s: between what is free, and that and a fifth of the successes",
    (value) => value <= freeRetries + 0.2 * total(answered) && value >= freeRetries - again.refused - again.retries,
    ours
  )
  audit.all("scales.nack_admission.", { dropped: calls.filter(({ tag }) => tag === "NotAdmitted").length }, ours)
  audit.relation(
    "scales.nack_admission.accepted_ema",
    "an average over time",
    (value) => value > 0.5 && value <= 1,
    ours
  )

  const down = Object.values(ranks).filter((rank) => rank === 2).length
  audit.all("scales.resurrector.", {
    down: spies.downs - spies.revivals,
    downs: spies.downs,
    attempts: spies.opens - spies.wantedOpens,
    revivals: spies.revivals,
    fast_failures: spies.fastFailures
  }, ours)
  assert.strictEqual(spies.downs - spies.revivals, down)
  const downMillis = sumOf(spies.downMillis)
  audit.between(
    "scales.resurrector.down_ms",
    {
      "": { count: spies.revivals, sum: downMillis - slack(spies.revivals) }
    },
    { "": { count: spies.revivals, sum: downMillis + slack(spies.revivals) } },
    ours
  )
  audit.all("scales.accrual.", {
    dead: accrual.removals - accrual.revivals,
    removals: accrual.removals,
    revivals: accrual.revivals,
    probes: spies.probes
  }, ours)
  audit.between(
    "scales.accrual.removed_for_ms",
    {
      "": { count: accrual.revivals, sum: accrual.removedMillis - slack(accrual.revivals) }
    },
    { "": { count: accrual.revivals, sum: accrual.removedMillis } },
    ours
  )
}

/** What the connections of a client came to, as the test knows it. */
export interface ConnectionBooks {
  /** Why those ended that have. */
  readonly closes: Readonly<Record<string, number>>
  /** As the lines have seen them. */
  readonly accepted: number
  readonly sentBytes: number
  readonly receivedBytes: number
}

const lifetimes = "the count is compared; how long each lasted is measured by nobody else: not longer than the test"

/** Compares what every pool and every transport shows; connections are asked for, and end, as spies see them. */
export const compareConnections = (
  audit: Audit,
  { client, spies, testMillis }: ClientBooks,
  { accepted, closes, receivedBytes, sentBytes }: ConnectionBooks
): void => {
  const ours = { client }
  const made = spies.connections
  const open = made.filter(({ open }) => open).length
  const connecting = spies.connects - made.length - total(spies.failedConnects)
  assert.strictEqual(accepted, made.length)
  assert.strictEqual(total(closes), made.length - open)
  audit.all("scales.pool.", {
    size: open + connecting,
    waiting: 0,
    connects: spies.connects,
    connect_failures: total(spies.failedConnects),
    dead: 0,
    closes: made.length - open
  }, ours)
  // None waits any more.
  const waited = audit.sum("scales.pool.waited", ours)
  const waits = "as many as waited; how long each did is measured by nobody else: not longer than the test"
  audit.relations.set("scales.pool.wait_ms", waits)
  audit.between("scales.pool.wait_ms", {}, { "": { count: waited, sum: waited * testMillis } }, ours)
  audit.summary("scales.pool.wait_quantiles_ms", { "": Array.from({ length: waited }, () => testMillis) }, ours)
  const sum = sumOf(made.map(({ millis }) => millis))
  const millis = { "": { count: made.length, sum } }
  audit.between("scales.pool.connect_latency_ms", millis, {
    "": { count: made.length, sum: sum + slack(made.length) }
  }, ours)
  audit.all("scales.transport.", {
    connections: open,
    connecting,
    connects: made.length,
    tls_handshakes: 0,
    sent_bytes: sentBytes,
    received_bytes: receivedBytes
  }, ours)
  audit.equal("scales.transport.connect_failures", spies.failedConnects, ours)
  audit.equal("scales.transport.closes", closes, ours)
  audit.relations.set("scales.transport.connection_duration_ms", lifetimes)
  audit.between("scales.transport.connection_duration_ms", {}, {
    "": { count: total(closes), sum: total(closes) * testMillis }
  }, ours)
  // Resolving and connecting, without handshakes.
  audit.between("scales.transport.connect_latency_ms", {}, millis, ours)
  audit.histogram("scales.transport.tls_handshake_latency_ms", {}, ours)
}

/** Series of which `compareClient`, `compareConnections` and `Handled.compare` check only a relation; the reasons are there. */
export const onlyRelations: ReadonlyArray<string> = [
  "scales.aperture.load_average",
  "scales.aperture.opening",
  "scales.budget.balance",
  "scales.discovery.since_update_ms",
  "scales.pool.wait_ms",
  "scales.nack_admission.accepted_ema",
  "scales.requeue.budget_exhausted",
  "scales.requeue.not_open",
  "scales.requeue.out_of_time",
  "scales.requeue.request_limit",
  "scales.server.connection_duration_ms",
  "scales.transport.connection_duration_ms"
]
