/** The operations of one session: they wait for a connection, are sent once, and end with what ends the connection. */
import { CallStats, type Metrics } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ZooKeeperError } from "../errors.ts"
import { table } from "../metricTable.ts"
import { codeOf, failureOf } from "./codes.ts"

/** Ends a request: 0 and its result, or the code of what became of it. Only the first answer counts. */
export type Answer<A> = (...outcome: readonly [code: 0, value: A] | readonly [code: number]) => void

/** Sends a request. `left` says whether its caller has gone: then nobody sees the result, and nothing may be kept for it. */
export type Send<A> = (answer: Answer<A>, left: () => boolean) => void

interface Request {
  /** It outlives the connection it was sent over. */
  readonly steady: boolean
  readonly send: () => void
  readonly fail: (code: number) => void
}

/** Those of operations of one kind. */
const series = {
  requests: table["scales.zookeeper.requests"],
  success: table["scales.zookeeper.success"],
  failed: table["scales.zookeeper.failed"],
  failures: table["scales.zookeeper.failures"],
  pending: table["scales.zookeeper.pending"],
  latency: table["scales.zookeeper.latency_ms"],
  quantiles: table["scales.zookeeper.latency_quantiles_ms"]
}

/** Those that wait, and those that were sent and have no answer yet. */
export class Requests {
  readonly #observed: { readonly metrics: Metrics.Registry; readonly now: () => number }
  readonly #stats = new Map<string, CallStats>()
  readonly #waiting = new Set<Request>()
  readonly #sent = new Set<Request>()
  #open = false
  #closed = false
  #hidden = false

  /** `now` is in milliseconds that never go back. */
  constructor(observed: { readonly metrics: Metrics.Registry; readonly now: () => number }) {
    this.#observed = observed
  }

  /** What became of them so far, by operation. */
  get snapshot(): unknown {
    return Object.fromEntries(Array.from(this.#stats, ([operation, stats]) => [operation, stats.snapshot]))
  }

  /** Takes the series away, and counts no more. */
  hide(): void {
    this.#hidden = true
    for (const stats of this.#stats.values()) stats.remove()
  }

  #statsOf(operation: string): CallStats {
    let stats = this.#stats.get(operation)
    if (stats === undefined) {
      const { metrics, now } = this.#observed
      this.#stats.set(operation, stats = new CallStats(metrics, series, { operation }, now))
    }
    return stats
  }

  /** Begins to count one operation; the result ends that, once. */
  #count(operation: string): (error: string | undefined) => void {
    if (this.#hidden) return () => {}
    const stats = this.#statsOf(operation)
    const { now } = this.#observed
    const began = now()
    let over = false
    stats.began()
    return (error) => {
      if (over || this.#hidden) return
      over = true
      const at = now()
      stats.ended(error, at - began, at)
    }
  }

  /** One operation, sent when there is a connection. `steady`: a lost connection does not end it. */
  request<A>(operation: string, path: string, send: Send<A>, steady = false): Effect.Effect<A, ZooKeeperError> {
    return Effect.callback((resume) => {
      let left = false
      const ended = this.#count(operation)
      const fail = (code: number) => {
        const failure = failureOf(code, operation, path)
        ended(failure._tag)
        resume(Exit.fail(failure))
      }
      const request: Request = {
        steady,
        send: () => {
          this.#sent.add(request)
          send(
            (...[code, value]) => {
              if (!this.#sent.delete(request)) return
              if (code !== 0) return fail(code)
              ended(undefined)
              resume(Exit.succeed(value as A))
            },
            () => left
          )
        },
        fail: (code) => {
          this.#waiting.delete(request)
          this.#sent.delete(request)
          fail(code)
        }
      }
      if (this.#closed) request.fail(codeOf("SessionClosed"))
      else if (this.#open) request.send()
      else this.#waiting.add(request)
      return Effect.sync(() => {
        left = true
        ended("Interrupted")
        this.#waiting.delete(request)
      })
    })
  }

  /** There is a connection: what waits is sent, in the order it was asked for. */
  open(): void {
    this.#open = true
    for (const request of this.#waiting) {
      if (!this.#open) return
      this.#waiting.delete(request)
      request.send()
    }
  }

  /** The connection is gone: what was sent fails, unless it is steady; what comes waits. */
  lost(code: number): void {
    this.#open = false
    for (const request of [...this.#sent]) if (!request.steady) request.fail(code)
  }

  /** All that could answer is gone, and the next connection is that of another handle: what is steady is sent again over it. */
  again(code: number): void {
    for (const request of this.#sent) {
      if (!request.steady) continue
      this.#sent.delete(request)
      this.#waiting.add(request)
    }
    this.shut(code)
  }

  /** All that could answer is gone: what was sent fails, what comes waits. */
  shut(code: number): void {
    this.#open = false
    for (const request of [...this.#sent]) request.fail(code)
  }

  /** For ever. */
  close(): void {
    this.#closed = true
    this.shut(codeOf("SessionClosed"))
    for (const request of [...this.#waiting]) request.fail(codeOf("SessionClosed"))
  }
}
