/** A server for whoever looks at it: what every server has to show, its calls by method and its connections. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { CallStats } from "./CallStats.ts"
import * as Deadlines from "./Deadlines.ts"
import { elapsedOf } from "./internal/elapsed.ts"
import { LatencyHistogram, quantiles } from "./LatencyHistogram.ts"
import type { ListenOptions } from "./Listen.ts"
import * as Metrics from "./Metrics.ts"
import { table } from "./metricTable.ts"
import * as Observed from "./Observed.ts"
import type { ServerAnnounceOptions } from "./ServerAnnounce.ts"
import { Stacks } from "./Stack.ts"
import type { TlsFailed } from "./Tls.ts"

/** Options of every server that can be looked at. */
export interface ObservedServerOptions {
  /** What the server is called in logs and metrics. Default: its service's name. */
  readonly label?: string | undefined
  /** `false`: no series, and nothing is counted that costs a request something. Default `true`. */
  readonly metrics?: boolean | undefined
}

const series = {
  requests: table["scales.server.requests"],
  success: table["scales.server.success"],
  failed: table["scales.server.failed"],
  failures: table["scales.server.failures"],
  pending: table["scales.server.pending"],
  latency: table["scales.server.latency_ms"],
  quantiles: table["scales.server.latency_quantiles_ms"]
}

/** Of the last minute; none of them when there was no call. */
const quantilesOf = ({ latency }: CallStats, now: number) =>
  latency?.quantiles(quantiles, now).filter(([, millis]) => millis !== undefined) ?? []

/** What is counted of the calls that a server serves. Services and methods are its own: what a client makes up is none of them. */
export class ServedCalls {
  readonly elapsed: () => number
  readonly #registry: Metrics.Registry
  readonly #services = new Map<string, Map<string, CallStats>>()
  #removed = false

  /** `elapsed` in milliseconds. */
  constructor(registry: Metrics.Registry, elapsed: () => number) {
    this.#registry = registry
    this.elapsed = elapsed
  }

  /** The counts of a method; it has series from when it is first asked for. */
  of(service: string, method: string): CallStats {
    let methods = this.#services.get(service)
    if (methods === undefined) this.#services.set(service, methods = new Map())
    let stats = methods.get(method)
    if (stats === undefined) {
      stats = new CallStats(this.#registry, series, { service, method }, this.elapsed)
      methods.set(method, stats)
      if (this.#removed) stats.remove()
    }
    return stats
  }

  /** As plain data, by service and method. */
  get snapshot() {
    const now = this.elapsed()
    return Object.fromEntries(
      Array.from(this.#services, ([service, methods]) => [
        service,
        Object.fromEntries(
          Array.from(methods, ([method, stats]) => [
            method,
            { ...stats.snapshot, quantiles: quantilesOf(stats, now) }
          ])
        )
      ])
    )
  }

  /** Takes the series away; what is still counted is shown nowhere. */
  remove(): void {
    this.#removed = true
    for (const methods of this.#services.values()) for (const stats of methods.values()) stats.remove()
  }
}

/** Where the numbers are read that every server has: the rows `scales.server.*` of the metric table. */
export interface ServerNumbers {
  readonly connections: () => number
  readonly connects: () => number
  readonly refusedConnections: () => number
  readonly receivedBytes: () => number
  readonly sentBytes: () => number
  readonly tlsHandshakes: () => number
  readonly tlsFailures: () => number
  readonly protocolErrors: () => number
  readonly expired: () => number
  readonly drains: () => number
  readonly aborted: () => number
}

/** Where a server listens, as options in force. */
export const listenerOptions = (
  { announce, host, path, port }: ListenOptions & {
    readonly announce?: ServerAnnounceOptions | ReadonlyArray<ServerAnnounceOptions> | undefined
  }
): Readonly<Record<string, unknown>> => ({
  ...(path === undefined ? { host: host ?? "127.0.0.1", port: port ?? 0 } : { path }),
  announce: announce === undefined ? [] : "uri" in announce ? [announce.uri] : announce.map(({ uri }) => uri)
})

/** A bound as an option in force. */
export const bound = (most: number): number | string => most === Number.MAX_SAFE_INTEGER ? "none" : most

/** A server that can be looked at. */
export interface ObservedServer extends Observed.Observed {
  /** Milliseconds since some time, with fractions, to measure how long something takes. */
  readonly elapsed: () => number
  readonly calls: ServedCalls
  /** A handler has died, or failed with what its client is not told of in detail: one line, few in a storm. */
  readonly handlerFailed: (cause: Cause.Cause<unknown>, called: Readonly<Record<string, string>>) => void
  /** Handlers that died. */
  readonly deaths: () => number
  /** A connection has ended, which lasted so long. */
  readonly connectionEnded: (millis: number) => void
  /** A TLS handshake has succeeded, in so long. */
  readonly secured: (millis: number) => void
  /** A TLS handshake has failed. */
  readonly notSecured: (peer: string, failed: TlsFailed) => void
  /** Says that it drains, and when it has: how many requests were interrupted, as `aborted` counts them, and how long it took. */
  readonly draining: <A>(
    what: Readonly<Record<string, unknown>>,
    aborted: () => number,
    drain: Effect.Effect<A>
  ) => Effect.Effect<void>
  /** Shows the numbers of its connections until the scope closes. */
  readonly show: (numbers: ServerNumbers) => Effect.Effect<void, never, Scope.Scope>
}

/**
 * A server called `options.label`, or `label`, in the directory of the context if there is one (`Stacks`). To be given its numbers by `show` at
 * once: its name is its own from when it has series.
 */
export const make = (
  label: string,
  options: ObservedServerOptions
): Effect.Effect<ObservedServer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<never>()
    const elapsed = elapsedOf(Context.get(context, Clock.Clock))
    const deadlines = yield* Deadlines.make
    const observed = yield* Observed.make("server", options.label ?? label, deadlines, options.metrics ?? true)
    const calls = new ServedCalls(observed.metrics, elapsed)
    yield* Effect.addFinalizer(() => Effect.sync(() => calls.remove()))
    const histogram = () => observed.metrics.on ? new LatencyHistogram(elapsed()) : undefined
    const durations = histogram()
    const handshakes = histogram()
    let deaths = 0
    const server: ObservedServer = {
      ...observed,
      elapsed,
      calls,
      handlerFailed: (cause, called) => {
        const died = Cause.hasDies(cause)
        if (died) deaths++
        const message = died ? "a handler died" : "a handler failed with what its method does not declare"
        observed.log.say("error", message, { ...called, cause: Cause.pretty(cause).trim() })
      },
      deaths: () => deaths,
      connectionEnded: (millis) => durations?.record(millis, elapsed()),
      secured: (millis) => handshakes?.record(millis, elapsed()),
      notSecured: (peer, { reason, what }) =>
        observed.log.say("warning", "a client's connection could not be secured", { peer, reason, cause: what }),
      draining: (what, aborted, drain) =>
        Effect.suspend(() => {
          const begunAt = elapsed()
          const before = aborted()
          observed.log.say("info", "draining", what)
          return Effect.andThen(
            drain,
            Effect.sync(() =>
              observed.log.say("info", "drained", {
                aborted: aborted() - before,
                millis: Math.round(elapsed() - begunAt)
              })
            )
          )
        }),
      show: (numbers) =>
        Metrics.show(
          observed,
          Metrics.value(table["scales.server.connections"], numbers.connections),
          Metrics.value(table["scales.server.connects"], numbers.connects),
          Metrics.value(table["scales.server.refused_connections"], numbers.refusedConnections),
          Metrics.value(table["scales.server.received_bytes"], numbers.receivedBytes),
          Metrics.value(table["scales.server.sent_bytes"], numbers.sentBytes),
          Metrics.value(table["scales.server.tls_handshakes"], numbers.tlsHandshakes),
          Metrics.value(table["scales.server.tls_failures"], numbers.tlsFailures),
          Metrics.value(table["scales.server.protocol_errors"], numbers.protocolErrors),
          Metrics.value(table["scales.server.expired"], numbers.expired),
          Metrics.value(table["scales.server.deaths"], () => deaths),
          Metrics.value(table["scales.server.drains"], numbers.drains),
          Metrics.value(table["scales.server.aborted"], numbers.aborted),
          ...Metrics.measured(table["scales.server.connection_duration_ms"], durations, elapsed),
          ...Metrics.measured(table["scales.server.tls_handshake_latency_ms"], handshakes, elapsed)
        )
    }
    const directory = yield* Effect.serviceOption(Stacks)
    if (Option.isSome(directory)) yield* directory.value.addServer(server)
    return server
  })
