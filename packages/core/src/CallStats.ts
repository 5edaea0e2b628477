/** What is counted of calls of one kind: of a method of a client, at an endpoint, of a method of a server. */
import { LatencyHistogram } from "./LatencyHistogram.ts"
import * as Metrics from "./Metrics.ts"

/** How the series of one kind of calls are called. */
export interface CallSeries {
  readonly requests: Metrics.Definition<"counter">
  readonly success: Metrics.Definition<"counter">
  /** All that failed: there from the first call on, so that a rate sees the first failure. */
  readonly failed: Metrics.Definition<"counter">
  /** The same with the attribute `error`: each from its first one on. */
  readonly failures: Metrics.Definition<"counter">
  /** Those that are neither: where some are `ignored`. */
  readonly ignored?: Metrics.Definition<"counter"> | undefined
  readonly pending: Metrics.Definition<"gauge">
  readonly latency: Metrics.Definition<"histogram">
  readonly quantiles: Metrics.Definition<"summary">
}

/** How many tags of errors are told apart. */
const tags = 50

/** The tag that the others share, when there are too many. */
const other = "other"

const noFailures: ReadonlyMap<string, number> = new Map()

/** Counts alone. */
export class CallCounts {
  requests = 0
  successes = 0
  failed = 0
  /** Ended, and were neither: they say nothing of who was called, as when nobody waited for them any more. */
  ignored = 0
  /** Begun and not ended. */
  pending = 0
  #failures: Map<string, number> | undefined

  /** By tag of the error; their sum is `failed`. */
  get failures(): ReadonlyMap<string, number> {
    return this.#failures ?? noFailures
  }

  /** One has begun. */
  began(): void {
    this.requests++
    this.pending++
  }

  /** One has ended: with an error of this tag unless `undefined`. */
  over(error: string | undefined): void {
    this.pending--
    if (error === undefined) this.successes++
    else this.#fail(error)
  }

  /** One has ended, and is `ignored`. */
  ignore(): void {
    this.pending--
    this.ignored++
  }

  /** The last one that began did not begin after all. */
  takeBack(): void {
    this.requests--
    this.pending--
  }

  /** One ended before it began. */
  refused(error: string): void {
    this.requests++
    this.#fail(error)
  }

  /** A tag has been counted for the first time. */
  protected found(_tag: string): void {}

  #fail(error: string): void {
    this.failed++
    const failures = this.#failures ??= new Map()
    const tag = failures.has(error) || failures.size < tags ? error : other
    const before = failures.get(tag)
    failures.set(tag, (before ?? 0) + 1)
    if (before === undefined) this.found(tag)
  }
}

/** Counts, and the series that show them; made when the first of its calls begins. */
export class CallStats extends CallCounts {
  readonly #registry: Metrics.Registry
  readonly #series: CallSeries
  readonly #attributes: Readonly<Record<string, string>>
  readonly #latency: LatencyHistogram | undefined
  readonly #removes: Array<() => void> = []
  #removed = false

  /** `elapsed` reads the clock that the times given to `ended` are of, in milliseconds. */
  constructor(
    registry: Metrics.Registry,
    series: CallSeries,
    attributes: Readonly<Record<string, string>>,
    elapsed: () => number
  ) {
    super()
    this.#registry = registry
    this.#series = series
    this.#attributes = registry.unused(series.requests, attributes)
    if (!registry.on) return
    const latency = this.#latency = new LatencyHistogram(elapsed())
    const own = this.#attributes
    this.#removes.push(registry.add(
      Metrics.value(series.requests, () => this.requests, own),
      Metrics.value(series.success, () => this.successes, own),
      Metrics.value(series.failed, () => this.failed, own),
      ...(series.ignored === undefined ? [] : [Metrics.value(series.ignored, () => this.ignored, own)]),
      Metrics.value(series.pending, () => this.pending, own),
      Metrics.latencies(series.latency, () => latency, elapsed, own),
      Metrics.latencies(series.quantiles, () => latency, elapsed, own)
    ))
  }

  /** One has ended: with an error of this tag unless `undefined`, `millis` after it began, at `at`. */
  ended(error: string | undefined, millis: number, at: number): void {
    this.over(error)
    this.#latency?.record(millis, at)
  }

  /** Latencies of the last minute; `undefined` when nothing is counted that costs something. */
  get latency(): LatencyHistogram | undefined {
    return this.#latency
  }

  /** As plain data. */
  get snapshot() {
    return {
      requests: this.requests,
      successes: this.successes,
      pending: this.pending,
      failures: Object.fromEntries(this.failures)
    }
  }

  /** Takes one more series away together with these. */
  alsoShow(remove: () => void): void {
    this.#removes.push(remove)
  }

  /** Takes the series away; what still ends is counted, and shown nowhere. */
  remove(): void {
    this.#removed = true
    for (const remove of this.#removes.splice(0)) remove()
  }

  protected override found(tag: string): void {
    if (this.#removed) return
    const read = () => this.failures.get(tag)!
    this.#removes.push(
      this.#registry.add(Metrics.value(this.#series.failures, read, { ...this.#attributes, error: tag }))
    )
  }
}
