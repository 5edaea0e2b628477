/** The books of a server's handlers against what the server shows: what is the same whatever it speaks. */
import { Effect, type Exit } from "effect"
import type { Audit } from "./audit.ts"
import { count, type Counts, slack } from "./clientBooks.ts"

/** Numbers of a server's connections, as the test knows them. */
export interface ServerBooks {
  readonly server: string
  readonly service: string
  readonly testMillis: number
  readonly connections: number
  readonly connects: number
  readonly received_bytes: number
  readonly sent_bytes: number
  readonly protocol_errors: number
  readonly expired: number
  readonly drains: number
  readonly aborted: number
}

const mapKeys = (counts: Counts, f: (key: string) => string): Counts =>
  Object.fromEntries(Object.entries(counts).map(([key, value]) => [f(key), value]))

/** What the handlers of one server have counted by themselves. */
export class Handled {
  readonly begun: Counts = {}
  /** By tag and method. */
  readonly ended: Counts = {}
  /** How long handlers took, by method, in milliseconds. */
  readonly millis: Counts = {}
  readonly #tagOf: (exit: Exit.Exit<unknown, unknown>) => string

  /** `tagOf`: what a server calls the end of a handler. */
  constructor(tagOf: (exit: Exit.Exit<unknown, unknown>) => string) {
    this.#tagOf = tagOf
  }

  /** Counts a handler. */
  count<A, E>(method: string, self: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.suspend(() => {
      const begunAt = performance.now()
      count(this.begun, method)
      return Effect.onExit(self, (exit) =>
        Effect.sync(() => {
          count(this.ended, `${this.#tagOf(exit)} ${method}`)
          count(this.millis, method, performance.now() - begunAt)
        }))
    })
  }

  /** How many run of a method. */
  running(method: string): number {
    const ended = Object.entries(this.ended).filter(([key]) => key.endsWith(` ${method}`))
    return (this.begun[method] ?? 0) - ended.reduce((sum, [, count]) => sum + count, 0)
  }

  /** Compares what every server shows, when no handler runs. */
  compare(audit: Audit, { server, service, testMillis, ...numbers }: ServerBooks): void {
    const theirs = { server }
    const name = (method: string) => `${method} ${service}`
    const ended = Object.entries(this.ended)
    const success = Object.fromEntries(
      ended.filter(([key]) => key.startsWith("success ")).map(([key, value]) => [name(key.slice(8)), value])
    )
    audit.equal("scales.server.requests", mapKeys(this.begun, name), theirs)
    audit.equal("scales.server.success", success, theirs)
    const failed: Counts = {}
    for (const [key, value] of ended) {
      const [tag, method] = key.split(" ") as [string, string]
      if (tag !== "success") count(failed, name(method), value)
    }
    audit.equal("scales.server.failed", failed, theirs)
    audit.equal(
      "scales.server.failures",
      mapKeys(Object.fromEntries(ended.filter(([key]) => !key.startsWith("success "))), name),
      theirs
    )
    audit.equal("scales.server.pending", 0, theirs)
    const took = (more: number) =>
      Object.fromEntries(
        Object.entries(this.begun).map(([method, count]) => [
          name(method),
          { count, sum: this.millis[method]! + slack(count * more) }
        ])
      )
    audit.between("scales.server.latency_ms", took(0), took(1), theirs)
    audit.summary(
      "scales.server.latency_quantiles_ms",
      Object.fromEntries(
        Object.entries(this.begun).map(([method, count]) => [
          name(method),
          Array.from({ length: count }, () => testMillis)
        ])
      ),
      theirs
    )
    const deaths = ended.filter(([key]) => key.startsWith("Defect ")).reduce((sum, [, count]) => sum + count, 0)
    audit.all("scales.server.", {
      ...numbers,
      refused_connections: 0,
      tls_handshakes: 0,
      tls_failures: 0,
      deaths
    }, theirs)
    const closed = numbers.connects - numbers.connections
    audit.relations.set("scales.server.connection_duration_ms", "the count is compared; it is measured by nobody else")
    audit.between("scales.server.connection_duration_ms", {}, {
      "": { count: closed, sum: closed * testMillis }
    }, theirs)
    audit.histogram("scales.server.tls_handshake_latency_ms", {}, theirs)
  }
}
