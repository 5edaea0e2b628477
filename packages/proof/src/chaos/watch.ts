/**
 * What a client does at each endpoint, seen from between its balancer and its breakers: attempts that are sent, and what the stages below
 * say of the endpoint. It takes no part in anything.
 */
import type { Attempt, Endpoint, Family, Outcome, RpcError, Status } from "@scales-rpc/core"
import { Effect, Layer } from "effect"

/** One endpoint, from its first call on. Times are those of `now`, in milliseconds. */
export class EndpointWatch {
  readonly #now: () => number
  /** Attempts that have not ended. */
  outstanding = 0
  /** Attempts that were answered. */
  answered = 0
  /** The fault it was told of, until it is told that the endpoint is well again. */
  fault: FaultWatch | undefined = undefined
  /** When the first attempt was answered that began after it was well again. */
  answeredAgainAt: number | undefined = undefined
  #wellAt: number | undefined = undefined
  #status: Status | undefined = undefined

  constructor(now: () => number) {
    this.#now = now
  }

  /** The sink below is made, perhaps not for the first time. */
  watch(status: Status): void {
    this.#status = status
    status.subscribe(() => {
      if (this.#status === status) this.#look()
    })
  }

  /** From now on it is at fault. */
  faulty(): FaultWatch {
    this.#wellAt = undefined
    this.answeredAgainAt = undefined
    const fault = this.fault = new FaultWatch(this.#now(), this.outstanding)
    this.#look()
    return fault
  }

  /** From now on it is well. */
  well(): void {
    this.fault = undefined
    this.#wellAt = this.#now()
  }

  /** When `well` was said last. */
  get wellAt(): number | undefined {
    return this.#wellAt
  }

  began(attempt: Attempt): void {
    const began = this.#now()
    this.outstanding++
    this.fault?.sent()
    attempt.onEnd((outcome) => this.#ended(outcome, began))
  }

  #ended(outcome: Outcome, began: number): void {
    this.outstanding--
    if (outcome !== "success") return
    this.answered++
    if (this.#wellAt !== undefined && began >= this.#wellAt) this.answeredAgainAt ??= this.#now()
  }

  /** Whether the client's own stages would rather not use it. */
  #look(): void {
    const state = this.#status?.state
    if (state !== undefined && state !== "Open") this.fault?.found(this.#now())
  }
}

/** One fault of one endpoint as its client meets it. */
export class FaultWatch {
  readonly at: number
  /** Calls in flight on the endpoint at the fault, and those sent to it until it was found out. */
  atRisk: number
  /** When the client took it out of use. */
  foundAt: number | undefined = undefined
  /** Calls sent to it after that. */
  probes = 0

  constructor(at: number, inFlight: number) {
    this.at = at
    this.atRisk = inFlight
  }

  sent(): void {
    if (this.foundAt === undefined) this.atRisk++
    else this.probes++
  }

  found(now: number): void {
    this.foundAt ??= now
  }
}

/** The endpoints of one client by their key. */
export class Watch {
  readonly #endpoints = new Map<string, EndpointWatch>()

  at(key: string): EndpointWatch {
    let watched = this.#endpoints.get(key)
    if (watched === undefined) this.#endpoints.set(key, watched = new EndpointWatch(() => performance.now()))
    return watched
  }

  /** The stage: a `below` of the client. */
  readonly layer = <const Id extends string, Req, Res>(
    family: Family<Id, Req, Res, RpcError>
  ): Layer.Layer<`${Id}/Endpoints`, never, `${Id}/Endpoints`> =>
    Layer.effect(
      family.Endpoints,
      Effect.map(family.Endpoints, (inner) => ({
        make: (endpoint: Endpoint) =>
          Effect.map(inner.make(endpoint), (sink) => {
            const watched = this.at(endpoint.key)
            watched.watch(sink.status)
            return {
              ...sink,
              send: (request, attempt) =>
                Effect.suspend(() => {
                  watched.began(attempt)
                  return sink.send(request, attempt)
                })
            }
          })
      }))
    )
}
