/**
 * The histogram that call latencies are counted in, beside the one of `hdr-histogram-js` and the one of Node's `perf_hooks`: what a record costs,
 * how much memory each takes, and how far its percentiles are from the exact ones.
 */
import { build, initWebAssembly } from "hdr-histogram-js"
import { createHistogram } from "node:perf_hooks"
import { LatencyHistogram } from "../../../core/src/LatencyHistogram.ts"
import { summarize, type Summary } from "../statistics.ts"
import { answering, type Extent, heapAfterGc, isolated } from "./isolated.ts"

/** A histogram of latencies in milliseconds. */
interface Histogram {
  readonly record: (millis: number) => void
  readonly percentile: (share: number) => number
}

/** Those that count whole numbers count microseconds, from 1 to an hour, to two digits: as exact as ours. */
const longestMicros = 3_600_000_000

const hdr = (useWebAssembly: boolean): Histogram => {
  const histogram = build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: longestMicros,
    numberOfSignificantValueDigits: 2,
    bitBucketSize: 32,
    useWebAssembly
  })
  return {
    record: (millis) => histogram.recordValue(Math.max(1, Math.round(millis * 1000))),
    percentile: (share) => histogram.getValueAtPercentile(100 * share) / 1000
  }
}

const makers = {
  ours: (): Histogram => {
    const histogram = new LatencyHistogram(0)
    return {
      record: (millis) => histogram.record(millis, 0),
      percentile: (share) => histogram.quantiles([share], 0)[0]![1] ?? Number.NaN
    }
  },
  "hdr-histogram-js": () => hdr(false),
  "hdr-histogram-js, WebAssembly": () => hdr(true),
  perf_hooks: (): Histogram => {
    const histogram = createHistogram({ lowest: 1, highest: longestMicros, figures: 2 })
    return {
      record: (millis) => histogram.record(Math.max(1, Math.round(millis * 1000))),
      percentile: (share) => histogram.percentile(100 * share) / 1000
    }
  }
} satisfies Record<string, () => Histogram>

/** The name of an implementation. */
export type HistogramName = keyof typeof makers

/** The shares whose latencies are compared with the exact ones. */
export const shares = [0.5, 0.9, 0.99, 0.999, 0.9999] as const

/** One implementation. */
export interface HistogramCost {
  readonly name: HistogramName
  readonly recordNanos: Summary
  /** With a thousand latencies in it; of `perf_hooks` by the memory of the process, for it is not on the heap. */
  readonly bytes: number
  /** How far each percentile is from the exact one, as a share of it; by `shares`. */
  readonly errors: ReadonlyArray<number>
}

interface Task {
  readonly name: HistogramName
  readonly rounds: number
}

/** Latencies as they are: most about 2 ms, one in a hundred about 40; with a seed. */
const latencies = (count: number): Float64Array => {
  let state = 42
  const random = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return (state + 0.5) / 2 ** 32
  }
  return Float64Array.from({ length: count }, () => {
    const normal = Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random())
    return (random() < 0.01 ? 40 : 2) * Math.exp(0.5 * normal)
  })
}

const count = 100_000

const measureOne = async ({ name, rounds }: Task): Promise<HistogramCost> => {
  if (name === "hdr-histogram-js, WebAssembly") await initWebAssembly()
  const make: () => Histogram = makers[name]
  const values = latencies(count)
  const sorted = values.toSorted()
  const histogram = make()
  for (const value of values) histogram.record(value)
  const errors = shares.map((share) => {
    const exact = sorted[Math.ceil(share * count) - 1]!
    return Math.abs(histogram.percentile(share) - exact) / exact
  })
  const nanos: Array<number> = []
  for (let round = -3; round < rounds; round++) {
    const cpu = process.cpuUsage()
    for (const value of values) histogram.record(value)
    const { system, user } = process.cpuUsage(cpu)
    if (round >= 0) nanos.push((user + system) * 1000 / count)
  }
  const instances = 400
  const used = async () => {
    const heap = await heapAfterGc()
    const { external, rss } = process.memoryUsage()
    return name === "perf_hooks" ? rss : heap + external
  }
  const kept: Array<Histogram> = []
  const fill = () => {
    for (let i = 0; i < instances; i++) {
      const one = make()
      for (let j = 0; j < 1000; j++) one.record(values[(i * 1000 + j) % count]!)
      kept.push(one)
    }
  }
  // The first are the compiler's, and what an allocator takes in advance.
  fill()
  const before = await used()
  fill()
  const bytes = Math.round((await used() - before) / instances)
  if (kept.length !== 2 * instances) throw new Error("not all are there")
  return { name, recordNanos: summarize(nanos), bytes, errors }
}

/** Measures each in a process of its own; `quick` measures nothing. */
export const measureLatencyHistogram = async (
  extent: Extent,
  progress: (line: string) => void
): Promise<ReadonlyArray<HistogramCost>> => {
  if (extent === "quick") return []
  const costs: Array<HistogramCost> = []
  for (const name of Object.keys(makers) as ReadonlyArray<HistogramName>) {
    progress(`a histogram alone: ${name}`)
    const task: Task = { name, rounds: extent === "full" ? 60 : 15 }
    costs.push(await isolated<HistogramCost>(import.meta.url, task, ["--expose-gc"]))
  }
  return costs
}

answering(import.meta, measureOne)
