/** What is counted of the connections of a pool, whatever its kind: their beginnings and ends, and the calls that waited for them. */
import { LatencyHistogram } from "../LatencyHistogram.ts"
import { table } from "../metricTable.ts"
import * as Metrics from "../Metrics.ts"
import type { StackShape } from "../Stack.ts"

/** Counted over all endpoints of a pool's layer. Times are those of the stack's `elapsed`. */
export class ConnectionStats {
  /** Begun. */
  connects = 0
  /** Could not be made. */
  connectFailures = 0
  /** Made, but not usable from the first moment on. */
  dead = 0
  /** Were usable, and have ended. */
  closes = 0
  /** Calls that had to wait for a connection. */
  waited = 0
  readonly #elapsed: () => number
  readonly #latency: LatencyHistogram
  readonly #waits: LatencyHistogram | undefined

  constructor(stack: StackShape) {
    this.#elapsed = stack.elapsed
    this.#latency = new LatencyHistogram(stack.elapsed())
    if (stack.metrics.on) this.#waits = new LatencyHistogram(stack.elapsed())
  }

  /** A connection is begun; gives when. */
  began(): number {
    this.connects++
    return this.#elapsed()
  }

  /** It was made. */
  made(begunAt: number): void {
    const at = this.#elapsed()
    this.#latency.record(at - begunAt, at)
  }

  /** A call begins to wait; gives when. */
  waits(): number {
    this.waited++
    return this.#waits === undefined ? 0 : this.#elapsed()
  }

  /** It waits no more, whatever became of it. */
  waitEnded(begunAt: number): void {
    if (this.#waits === undefined) return
    const at = this.#elapsed()
    this.#waits.record(at - begunAt, at)
  }

  /** As plain data. */
  get snapshot() {
    const { closes, connectFailures, connects, dead, waited } = this
    const [median, slowest] = this.#latency.quantiles([0.5, 0.99], this.#elapsed())
    return { waited, connects, connectFailures, dead, closes, connectMillis: { p50: median?.[1], p99: slowest?.[1] } }
  }

  /** What every pool shows. */
  get series(): ReadonlyArray<Metrics.Series> {
    return [
      Metrics.value(table["scales.pool.waited"], () => this.waited),
      ...Metrics.measured(table["scales.pool.wait_ms"], this.#waits, this.#elapsed),
      ...Metrics.measured(table["scales.pool.wait_quantiles_ms"], this.#waits, this.#elapsed),
      Metrics.value(table["scales.pool.connects"], () => this.connects),
      Metrics.value(table["scales.pool.connect_failures"], () => this.connectFailures),
      Metrics.value(table["scales.pool.dead"], () => this.dead),
      Metrics.value(table["scales.pool.closes"], () => this.closes),
      Metrics.latencies(table["scales.pool.connect_latency_ms"], () => this.#latency, this.#elapsed)
    ]
  }
}
