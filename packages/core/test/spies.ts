/**
 * What a test counts inside of a stack, without being one of its stages to `describe`: attempts at each endpoint as a filter below the balancer sees them,
 * what the breaker does seen from both of its sides, and connections as they are asked for and end. Calls keep the direct way.
 */
import { type Attempt, Direct, type Endpoint, type EndpointSink, type Family, type RpcError } from "@scales-rpc/core"
import { Cause, Effect, Exit, Layer } from "effect"

/** One attempt of a call. */
export interface SeenAttempt {
  readonly endpoint: string
  readonly method: string
  readonly idempotent: boolean
  /** Shared by all attempts of one call. */
  readonly call: object
  readonly aborted: () => boolean
  exit: Exit.Exit<{ readonly body?: unknown }, any> | undefined
  /** As every hook on it hears. */
  millis: number
  outcome: string
}

export const tagOf = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) return "success"
  const reason = exit.cause.reasons[0]
  if (reason === undefined || Cause.isInterruptReason(reason)) return "Interrupted"
  return Cause.isDieReason(reason) ? "Defect" : String((reason.error as { readonly _tag?: unknown })?._tag)
}

/** The error of an exit that failed with one. */
export const errorOf = (exit: Exit.Exit<unknown, any> | undefined): any => {
  const reason = exit === undefined || Exit.isSuccess(exit) ? undefined : exit.cause.reasons[0]
  return reason !== undefined && Cause.isFailReason(reason) ? reason.error : undefined
}

/** A sink that tells what is sent through it and how that ends, by either way. */
const through = <Req, Res, E>(
  inner: EndpointSink<Req, Res, E>,
  begun: (attempt: Attempt, request: Req) => (exit: Exit.Exit<Res, E>) => void
): EndpointSink<Req, Res, E> => {
  const direct = Direct.throughEndpoint(inner)
  return {
    ...inner,
    send: Direct.offer(
      (request: Req, attempt: Attempt) =>
        Effect.suspend(() => {
          const ended = begun(attempt, request)
          return Effect.onExit(inner.send(request, attempt), (exit) => Effect.sync(() => ended(exit)))
        }),
      direct && {
        ready: direct.ready,
        send: (request: Req, attempt: Attempt, done: Direct.Done<Res, E>) => {
          const ended = begun(attempt, request)
          direct.send(request, attempt, (exit) => {
            ended(exit)
            done(exit)
          })
        }
      }
    )
  }
}

/** A connection as its connector gave it. */
export interface SeenConnection {
  readonly endpoint: string
  /** How long connecting took, handshakes included, in milliseconds. */
  readonly millis: number
  open: boolean
}

/** The books of one client. */
export class Spies {
  /** In the order they began. */
  readonly attempts: Array<SeenAttempt> = []
  /** Sent to an endpoint that could not take calls as it was. */
  panics = 0
  /** Times that one call was let through as a probe. */
  probes = 0
  /** The state of each endpoint as the balancer sees it. */
  readonly states = new Map<string, () => string>()
  /** Times that an endpoint went down, and came back, as seen above the resurrector. */
  downs = 0
  revivals = 0
  /** How long those were down that came back, in milliseconds. */
  readonly downMillis: Array<number> = []
  /** Attempts that the resurrector let fail at once. */
  fastFailures = 0
  /** Times that the pool was asked to connect without a call; of these, those that somebody above the resurrector wanted while it was up. */
  opens = 0
  wantedOpens = 0
  /** Attempts that found no connection to use. */
  waited = 0
  /** Connections asked for. */
  connects = 0
  readonly connections: Array<SeenConnection> = []
  /** Those that could not be made, by how far they came. */
  readonly failedConnects: Record<string, number> = {}

  /** Below the balancer, above the breaker. */
  below<Id extends string, Req, Res>(family: Family<Id, Req, Res, RpcError>) {
    return this.#endpoints(family, (inner, { key }) => {
      this.states.set(key, () => inner.status.state)
      let fault: unknown
      inner.status.subscribe(() => {
        if (inner.status.fault === fault) return
        fault = inner.status.fault
        if (/; one call probes it/.test(String((fault as { readonly cause?: unknown })?.cause))) this.probes++
      })
      return through(inner, (attempt) => {
        if (inner.status.state === "Busy" || inner.status.state === "Closed") this.panics++
        const seen: SeenAttempt = {
          endpoint: key,
          method: attempt.method,
          idempotent: attempt.idempotent,
          call: attempt.tried,
          aborted: () => attempt.abort.reason !== undefined,
          exit: undefined,
          millis: NaN,
          outcome: ""
        }
        this.attempts.push(seen)
        attempt.onEnd((outcome, millis) => {
          seen.outcome = outcome
          seen.millis = millis
        })
        return (exit) => {
          seen.exit = exit as SeenAttempt["exit"]
        }
      })
    })
  }

  /** Between failure accrual and the resurrector. */
  aboveResurrector<Id extends string, Req, Res>(family: Family<Id, Req, Res, RpcError>) {
    return this.#endpoints(family, (inner) => {
      let downAt: number | undefined
      inner.status.subscribe(() => {
        const { fault, state } = inner.status
        const now = performance.now()
        if (state === "Closed" && fault?._tag === "FastFailure") {
          if (downAt === undefined) this.downs++
          downAt ??= now
        } else if (state !== "Closed" && downAt !== undefined) {
          this.revivals++
          this.downMillis.push(now - downAt)
          downAt = undefined
        }
      })
      const open = Effect.suspend(() => {
        if (downAt === undefined) this.wantedOpens++
        return inner.open
      })
      const spied = through(inner, () => (exit) => {
        if (errorOf(exit)?._tag === "FastFailure") this.fastFailures++
      })
      return { ...spied, open }
    })
  }

  /** Between the resurrector and the pool. */
  abovePool<Id extends string, Req, Res>(family: Family<Id, Req, Res, RpcError>) {
    return this.#endpoints(family, (inner) => ({
      ...through(inner, () => {
        if (inner.status.state !== "Open") this.waited++
        return () => {}
      }),
      open: Effect.suspend(() => {
        this.opens++
        return inner.open
      })
    }))
  }

  #endpoints<Id extends string, Req, Res>(
    family: Family<Id, Req, Res, RpcError>,
    wrap: (inner: EndpointSink<Req, Res, RpcError>, endpoint: Endpoint) => EndpointSink<Req, Res, RpcError>
  ) {
    return Layer.effect(
      family.Endpoints,
      Effect.map(family.Endpoints, (inner) =>
        family.Endpoints.of({
          make: (endpoint) => Effect.map(inner.make(endpoint), (sink) => wrap(sink, endpoint))
        }))
    )
  }

  /** Between the pool and the transport. */
  aboveTransport<Id extends string, Req, Res>(family: Family<Id, Req, Res, RpcError>) {
    return Layer.effect(
      family.Connector,
      Effect.map(family.Connector, (inner) =>
        family.Connector.of({
          connect: (endpoint) =>
            Effect.suspend(() => {
              this.connects++
              const begunAt = performance.now()
              return Effect.onExit(inner.connect(endpoint), (exit) =>
                Effect.sync(() => {
                  if (Exit.isFailure(exit)) {
                    const phase = errorOf(exit)?.phase ?? "cancelled"
                    this.failedConnects[phase] = (this.failedConnects[phase] ?? 0) + 1
                    return
                  }
                  const { status } = exit.value
                  const connection = { endpoint: endpoint.key, millis: performance.now() - begunAt, open: true }
                  this.connections.push(connection)
                  const look = () => {
                    if (status.state === "Closed") connection.open = false
                  }
                  status.subscribe(look)
                  look()
                }))
            })
        }))
    )
  }

  /** The attempts of each call, in their order. */
  get calls(): ReadonlyArray<ReadonlyArray<SeenAttempt>> {
    return [...Map.groupBy(this.attempts, ({ call }) => call).values()]
  }

  /** What requeues and retries must have done, to judge by how each attempt ended and whether another followed. */
  get sentAgain() {
    const found = {
      not_connected: 0,
      refused: 0,
      retries: 0,
      notRetryable: 0,
      gaveUp: 0,
      retryNotRetryable: 0,
      exhausted: 0
    }
    for (const attempts of this.calls) {
      let retries = 0
      attempts.forEach(({ aborted, exit, idempotent }, i) => {
        const follows = i + 1 < attempts.length
        if (exit === undefined || Exit.isSuccess(exit)) return
        // Nobody waits for it any more: nothing was decided.
        if (!follows && (aborted() || tagOf(exit) === "Interrupted")) return
        const error = errorOf(exit)
        const retryable = error?.retryable === true
        if (retryable && follows) {
          found[["ConnectFailed", "FastFailure"].includes(error._tag) ? "not_connected" : "refused"]++
          return
        }
        if (retryable) found.gaveUp++
        else found.notRetryable++
        if (follows) {
          found.retries++
          retries++
        } else if (idempotent) {
          const mayDiffer = error?.reached === "maybe" &&
            ["ConnectionClosed", "ServerFailed", "ProtocolError"].includes(error._tag)
          if (!mayDiffer) found.retryNotRetryable++
          else if (retries === 2) found.exhausted++
        }
      })
    }
    return found
  }
}
