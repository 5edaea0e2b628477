/** The figures that a process has of itself. Needs `--expose-gc`. */
import { Effect, Metric } from "effect"

/** Several rounds, with turns between them: what one round finalizes, the next collects. */
const collect = Effect.gen(function*() {
  for (let round = 0; round < 4; round++) {
    globalThis.gc!()
    yield* Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))
  }
})

/** Fibers that live, counted by Effect's own metrics, which the program must have enabled. */
const fibers = Effect.map(Metric.snapshot, (metrics) => {
  let sum = 0
  for (const { id, state } of metrics) {
    if (id === "child_fibers_active") sum += Number((state as { readonly value: number | bigint }).value)
  }
  return sum
})

/** Looks at the event loop, this far apart: what is gone at the next look, a timer about to fire say, is nothing that is left. */
const looks = 10
const lookMillis = 50

const pause = Effect.promise(() => new Promise<void>((resolve) => setTimeout(resolve, lookMillis)))

const look = (): Record<string, number> => {
  const kinds: Record<string, number> = {}
  for (const kind of process.getActiveResourcesInfo()) kinds[kind] = (kinds[kind] ?? 0) + 1
  return kinds
}

/** The process as it is now, or soon. */
export const measure = Effect.gen(function*() {
  // Opened by their first use, whenever that is.
  for (const stream of [process.stdout, process.stderr]) stream.write("")
  yield* collect
  const { heapUsed } = process.memoryUsage()
  const handles = look()
  let least = yield* fibers
  for (let n = 1; n < looks; n++) {
    yield* pause
    const now = look()
    for (const kind of Object.keys(handles)) handles[kind] = Math.min(handles[kind]!, now[kind] ?? 0)
    least = Math.min(least, yield* fibers)
  }
  return { heap: heapUsed, handles, sockets: handles["TCPSocketWrap"] ?? 0, fibers: least }
})
