/**
 * Endpoint sinks made by hand for a balancer under test: what they receive, how they are, and when they answer is the case's. They
 * note what no balancer may do to them.
 */
import * as Effect from "effect/Effect"
import { abortFailure, type AbortReason } from "../../Abort.ts"
import type { Attempt, Outcome } from "../../Call.ts"
import type { Endpoint } from "../../Endpoint.ts"
import { ConnectFailed, ConnectionClosed, type RpcError } from "../../RpcError.ts"
import type { EndpointSink, SinkFactory } from "../../Sink.ts"
import { StatusCell } from "../../Status.ts"

/** A request that an endpoint has received and not answered. */
export interface Exchange {
  readonly request: string
  readonly attempt: Attempt
  readonly sink: ScriptedEndpoint
  /** Ends it so. */
  readonly end: (result: Effect.Effect<string, RpcError>) => void
}

/** What an endpoint does when it is connected to: accepts, refuses, or says nothing until that changes. */
export type Mood = "well" | "refusing" | "silent"

/** The sink of one endpoint, as a pool would make it. */
export class ScriptedEndpoint implements EndpointSink<string, string, RpcError> {
  readonly endpoint: Endpoint
  readonly status = new StatusCell("Idle")
  /** What it was sent and has not answered, oldest first. */
  readonly pending = new Set<Exchange>()
  /** Which of its memberships it was made in, from 1. */
  readonly membership: number
  /** Attempts it has received that have not ended. */
  running = 0
  /** How often its scope was closed. */
  closes = 0
  readonly #all: ScriptedEndpoints
  readonly #opening = new Set<(result: Effect.Effect<void, RpcError>) => void>()

  constructor(all: ScriptedEndpoints, endpoint: Endpoint, membership: number) {
    this.#all = all
    this.endpoint = endpoint
    this.membership = membership
  }

  readonly open: Effect.Effect<void, RpcError> = Effect.suspend(() => {
    this.#all.opens++
    if (this.closes > 0) {
      this.#all.violation("opens the sink of", this.endpoint, "after it has closed it")
      return Effect.fail(this.refused())
    }
    if (this.status.state === "Open" || this.status.state === "Busy") return Effect.void
    const mood = this.#all.moodOf(this.endpoint)
    if (mood === "well") return Effect.sync(() => this.status.set("Open"))
    if (mood === "refusing") {
      return Effect.suspend(() => {
        this.status.set("Closed", this.refused())
        return Effect.fail(this.refused())
      })
    }
    return Effect.callback<void, RpcError>((resume) => {
      this.#opening.add(resume)
      return Effect.sync(() => void this.#opening.delete(resume))
    })
  })

  /** How many wait for it to open. */
  get opening(): number {
    return this.#opening.size
  }

  readonly send = (request: string, attempt: Attempt): Effect.Effect<string, RpcError> =>
    Effect.suspend(() => {
      this.#all.begin(this, request, attempt)
      if (this.closes > 0) return Effect.fail(this.refused())
      if (this.status.state === "Closed") return Effect.fail(this.status.fault ?? this.refused())
      if (this.status.state === "Idle") {
        const mood = this.#all.moodOf(this.endpoint)
        if (mood === "refusing") {
          this.status.set("Closed", this.refused())
          return Effect.fail(this.refused())
        }
        if (mood === "well") this.status.set("Open")
      }
      return this.#all.answering ? Effect.succeed(replyTo(request)) : this.#exchange(request, attempt)
    })

  #exchange(request: string, attempt: Attempt): Effect.Effect<string, RpcError> {
    return Effect.callback<string, RpcError>((resume) => {
      const leave = () => {
        this.pending.delete(exchange)
        attempt.abort.off(listener)
      }
      const end = (result: Effect.Effect<string, RpcError>) => {
        leave()
        resume(result)
      }
      const aborted = (reason: AbortReason) =>
        end(Effect.fail(abortFailure(reason, { waiting: "reply", reached: "maybe", endpoint: this.endpoint })))
      const listener = { onAbort: aborted }
      const exchange: Exchange = { request, attempt, sink: this, end }
      if (attempt.abort.reason !== undefined) return aborted(attempt.abort.reason)
      this.pending.add(exchange)
      this.#all.exchanges.set(request, exchange)
      attempt.abort.on(listener)
      return Effect.sync(leave)
    })
  }

  /** Why it cannot be connected to. */
  refused(): RpcError {
    return new ConnectFailed({ endpoint: this.endpoint, phase: "connect", cause: "refused by the script" })
  }

  /** It is connected again, and those who waited for that go on. */
  up(): void {
    if (this.closes > 0) return
    this.status.set("Open")
    for (const resume of [...this.#opening]) {
      this.#opening.delete(resume)
      resume(Effect.void)
    }
  }

  /** It is lost, with all that was on it. */
  down(): void {
    if (this.closes > 0) return
    this.status.set("Closed", this.refused())
    this.#lose()
  }

  /** Its scope is closed. */
  close(): void {
    this.closes++
    if (this.closes > 1) return
    this.status.set("Closed")
    this.#lose()
  }

  #lose(): void {
    const { endpoint } = this
    for (const { end } of [...this.pending]) {
      end(Effect.fail(new ConnectionClosed({ endpoint, reached: "maybe", cause: "lost by the script" })))
    }
    for (const resume of [...this.#opening]) {
      this.#opening.delete(resume)
      resume(Effect.fail(this.refused()))
    }
  }
}

/** What an endpoint answers a request with. */
export const replyTo = (request: string): string => `reply to ${request}`

/** All endpoints of a case. */
export class ScriptedEndpoints {
  /** Every sink that was made, in order. */
  readonly made: Array<ScriptedEndpoint> = []
  /** The newest exchange of each request. */
  readonly exchanges = new Map<string, Exchange>()
  /** Where each request went, in order. */
  readonly received: Array<{ readonly key: string; readonly request: string }> = []
  /** How every attempt ended, in order. */
  readonly outcomes: Array<Outcome> = []
  /** Answers at once what it receives. */
  answering = false
  /** The balancer is closed. */
  closing = false
  /** How often any was told to open. */
  opens = 0
  /** Attempts received. */
  begun = 0
  /** What was done to them that no balancer may do. */
  readonly violations: Array<string> = []
  readonly #byKey = new Map<string, Array<ScriptedEndpoint>>()
  readonly #moods = new Map<string, Mood>()
  readonly #memberships = new Map<string, number>()
  /** Endpoints that may be sent to: those of the last state, and while it is handed out those of the one before. */
  #members: ReadonlySet<string> = new Set()

  readonly factory: SinkFactory<string, string, RpcError> = {
    make: (endpoint) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const membership = this.#memberships.get(endpoint.key) ?? 0
          if (this.of(endpoint.key).some((sink) => sink.membership === membership)) {
            this.violation("makes a second sink for", endpoint, "while it has the first")
          }
          const sink = new ScriptedEndpoint(this, endpoint, membership)
          this.made.push(sink)
          const same = this.#byKey.get(endpoint.key)
          if (same === undefined) this.#byKey.set(endpoint.key, [sink])
          else same.push(sink)
          return sink
        }),
        (sink) =>
          Effect.sync(() => {
            if (sink.closes > 0) this.violation("closes the sink of", endpoint, "twice")
            if (sink.running > 0 && !this.closing) this.violation("closes the sink of", endpoint, "with calls on it")
            sink.close()
          })
      )
  }

  /** Notes what no balancer may do. */
  violation(what: string, endpoint: Endpoint, when: string): void {
    this.violations.push(`the balancer ${what} ${endpoint.key} ${when}`)
  }

  /** A sink has received an attempt. */
  begin(sink: ScriptedEndpoint, request: string, attempt: Attempt): void {
    const { closes, endpoint } = sink
    this.begun++
    sink.running++
    this.received.push({ key: endpoint.key, request })
    if (closes > 0) {
      // One that is closed as a whole may meet a call between its choice and its sink.
      if (!this.closing) this.violation("sends to", endpoint, "after it has closed its sink")
    } else if (!this.#members.has(endpoint.key)) this.violation("sends to", endpoint, "after it has left the set")
    if (attempt.endpoint.key !== endpoint.key) {
      this.violation("sends an attempt at", attempt.endpoint, `to ${endpoint.key}`)
    }
    if (attempt.tried[attempt.number]?.key !== endpoint.key) {
      this.violation("does not note its attempt at", endpoint, `as number ${attempt.number} of the call`)
    }
    let ended = false
    attempt.onEnd((outcome) => {
      if (ended) this.violation("ends an attempt at", endpoint, "twice")
      ended = true
      sink.running--
      this.outcomes.push(outcome)
    })
  }

  /** Attempts that have not ended. */
  get running(): number {
    return this.begun - this.outcomes.length
  }

  /** A state with these endpoints is about to be handed out; `settled` says that it was. */
  expect(keys: ReadonlySet<string>): { readonly settled: () => void } {
    for (const key of keys) {
      if (!this.#members.has(key)) this.#memberships.set(key, (this.#memberships.get(key) ?? 0) + 1)
    }
    this.#members = new Set([...this.#members, ...keys])
    return {
      settled: () => {
        this.#members = keys
      }
    }
  }

  /** How an endpoint is when it is connected to. */
  moodOf(endpoint: Endpoint): Mood {
    return this.#moods.get(endpoint.key) ?? "well"
  }

  /** Sets it. */
  setMood(key: string, mood: Mood): void {
    this.#moods.set(key, mood)
  }

  /** The sinks of an endpoint that are not closed: one, or more while it drains. */
  of(key: string): ReadonlyArray<ScriptedEndpoint> {
    return (this.#byKey.get(key) ?? []).filter(({ closes }) => closes === 0)
  }

  /** It can be connected to again, and is. */
  up(key: string): void {
    this.setMood(key, "well")
    for (const sink of this.of(key)) sink.up()
  }

  /** It is lost and cannot be connected to. */
  down(key: string): void {
    this.setMood(key, "refusing")
    for (const sink of this.of(key)) sink.down()
  }

  /** It works, but others are to be preferred. */
  busy(key: string): void {
    for (const sink of this.of(key)) sink.status.set("Busy")
  }

  /** What all of them have received and not answered, oldest first of each. */
  pending(): ReadonlyArray<Exchange> {
    return this.made.flatMap(({ pending }) => [...pending])
  }
}
