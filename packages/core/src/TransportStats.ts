/** What is counted of the connections of one client, whatever goes over them, and the series that show it. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type * as Net from "node:net"
import type { Endpoint } from "./Endpoint.ts"
import { LatencyHistogram } from "./LatencyHistogram.ts"
import * as Metrics from "./Metrics.ts"
import { table } from "./metricTable.ts"
import { ConnectFailed } from "./RpcError.ts"
import * as Socket from "./Socket.ts"
import type { StackShape } from "./Stack.ts"
import type { TlsClient } from "./Tls.ts"

/** How far a connection came that could not be made; `cancelled`: nobody wanted it any more. */
const phases = ["resolve", "connect", "tls", "handshake", "cancelled", "other"] as const

/** One of these. */
type Phase = (typeof phases)[number]

const phaseOf = (cause: Cause.Cause<unknown>): Phase => {
  const reason = cause.reasons[0]
  if (reason === undefined || Cause.isInterruptReason(reason)) return "cancelled"
  return Cause.isFailReason(reason) && reason.error instanceof ConnectFailed ? reason.error.phase : "other"
}

/** Bytes both ways. */
interface Bytes {
  readonly receivedBytes: number
  readonly sentBytes: number
}

const noBytes = (): Bytes => ({ receivedBytes: 0, sentBytes: 0 })

/** Counts of a transport. One of its connections is a `CountedConnection`. */
export class TransportStats<Why extends string = string> {
  /** Connections that are being made. */
  connecting = 0
  /** Connections that were made: `open` of them have not ended. */
  connects = 0
  open = 0
  /** Of what sessions read, and wrote: within TLS, where there is any; without those of `more`. */
  receivedBytes = 0
  sentBytes = 0
  tlsHandshakes = 0
  readonly failures: Record<Phase, number> = { resolve: 0, connect: 0, tls: 0, handshake: 0, cancelled: 0, other: 0 }
  readonly closes: Record<Why, number>
  /** @internal */
  readonly elapsed: () => number
  readonly #more: () => Bytes
  readonly #connectLatency: LatencyHistogram | undefined
  readonly #tlsLatency: LatencyHistogram | undefined
  readonly #duration: LatencyHistogram | undefined

  /**
   * `whys`: all that may be said when a connection ends. `more` is asked, when somebody looks, for bytes that are counted elsewhere: by sockets
   * that somebody else reads.
   */
  constructor(
    { elapsed, metrics }: Pick<StackShape, "elapsed" | "metrics">,
    whys: ReadonlyArray<Why>,
    more: () => Bytes = noBytes
  ) {
    this.elapsed = elapsed
    this.#more = more
    this.closes = Object.fromEntries(whys.map((why) => [why, 0])) as Record<Why, number>
    if (!metrics.on) return
    this.#connectLatency = new LatencyHistogram(elapsed())
    this.#tlsLatency = new LatencyHistogram(elapsed())
    this.#duration = new LatencyHistogram(elapsed())
  }

  /** Makes a connection by `connect`, which is to say when it can carry calls (`made`), and when it ends. */
  counted<A, E, R>(connect: (connection: CountedConnection<Why>) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.suspend(() => {
      const connection = new CountedConnection(this)
      return Effect.onExit(
        connect(connection),
        (exit) => Exit.isSuccess(exit) ? Effect.void : Effect.sync(() => connection.failed(exit.cause))
      )
    })
  }

  /** @internal */
  connected(millis: number, at: number): void {
    this.#connectLatency?.record(millis, at)
  }

  /** @internal */
  secured(millis: number, at: number): void {
    this.tlsHandshakes++
    this.#tlsLatency?.record(millis, at)
  }

  /** @internal */
  closed(why: Why, millis: number, at: number): void {
    this.open--
    this.closes[why]++
    this.#duration?.record(millis, at)
  }

  /** As plain data. */
  get snapshot() {
    const { closes, connecting, connects, failures, open, tlsHandshakes } = this
    return { open, connecting, connects, tlsHandshakes, ...this.#bytes, failures, closes }
  }

  get #bytes(): Bytes {
    const more = this.#more()
    return { receivedBytes: this.receivedBytes + more.receivedBytes, sentBytes: this.sentBytes + more.sentBytes }
  }

  /** Shows them until the scope closes. */
  show(stack: Metrics.Owner): Effect.Effect<void, never, Scope.Scope> {
    const { elapsed } = this
    return Metrics.show(
      stack,
      Metrics.value(table["scales.transport.connections"], () => this.open),
      Metrics.value(table["scales.transport.connecting"], () => this.connecting),
      Metrics.value(table["scales.transport.connects"], () => this.connects),
      ...phases.map((phase) =>
        Metrics.value(table["scales.transport.connect_failures"], () => this.failures[phase], { phase })
      ),
      ...(Object.keys(this.closes) as Array<Why>).map((why) =>
        Metrics.value(table["scales.transport.closes"], () => this.closes[why], { why })
      ),
      ...Metrics.measured(table["scales.transport.connect_latency_ms"], this.#connectLatency, elapsed),
      ...Metrics.measured(table["scales.transport.connection_duration_ms"], this.#duration, elapsed),
      Metrics.value(table["scales.transport.received_bytes"], () => this.#bytes.receivedBytes),
      Metrics.value(table["scales.transport.sent_bytes"], () => this.#bytes.sentBytes),
      Metrics.value(table["scales.transport.tls_handshakes"], () => this.tlsHandshakes),
      ...Metrics.measured(table["scales.transport.tls_handshake_latency_ms"], this.#tlsLatency, elapsed)
    )
  }
}

/** A connection that is being made, or was, or has ended; each is counted once. */
export class CountedConnection<Why extends string = string> {
  readonly #stats: TransportStats<Why>
  readonly #begunAt: number
  #connected = false
  #state: "connecting" | "open" | "over" = "connecting"
  #madeAt = 0

  constructor(stats: TransportStats<Why>) {
    this.#stats = stats
    this.#begunAt = stats.elapsed()
    stats.connecting++
  }

  /** Since it was made, in milliseconds. */
  get age(): number {
    return this.#state === "open" ? this.#stats.elapsed() - this.#madeAt : 0
  }

  /** `Socket.open`, measured. */
  socket(
    endpoint: Endpoint,
    { connectTimeoutMillis, onRead, tls }: Socket.SocketOptions
  ): Effect.Effect<Net.Socket, ConnectFailed, Scope.Scope> {
    const options = { connectTimeoutMillis, onRead, tls: tls && this.tls(tls) }
    return Effect.tap(Socket.open(endpoint, options), () => Effect.sync(() => this.#isConnected()))
  }

  /** Measures the handshakes of `client`. */
  tls(client: TlsClient): TlsClient {
    return {
      description: client.description,
      secure: (socket, endpoint) =>
        Effect.suspend(() => {
          this.#isConnected()
          const begunAt = this.#stats.elapsed()
          return Effect.tap(client.secure(socket, endpoint), () =>
            Effect.sync(() => {
              const at = this.#stats.elapsed()
              this.#stats.secured(at - begunAt, at)
            }))
        })
    }
  }

  /** It can carry calls. */
  made(): void {
    if (this.#state !== "connecting") return
    this.#state = "open"
    this.#madeAt = this.#stats.elapsed()
    this.#stats.connecting--
    this.#stats.connects++
    this.#stats.open++
  }

  /** It could not be made; one that was made has ended all the same. */
  failed(cause: Cause.Cause<unknown>): void {
    if (this.#state !== "connecting") return
    this.#state = "over"
    this.#stats.connecting--
    this.#stats.failures[phaseOf(cause)]++
  }

  /** It has ended; one that was never made is no connection. */
  closed(why: Why): void {
    if (this.#state !== "open") return
    this.#state = "over"
    const at = this.#stats.elapsed()
    this.#stats.closed(why, at - this.#madeAt, at)
  }

  #isConnected(): void {
    if (this.#connected) return
    this.#connected = true
    const at = this.#stats.elapsed()
    this.#stats.connected(at - this.#begunAt, at)
  }
}
