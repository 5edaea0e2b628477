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

/** The process as it is now. */
export const measure = Effect.gen(function*() {
  yield* collect
  const resources = process.getActiveResourcesInfo()
  return {
    heap: process.memoryUsage().heapUsed,
    handles: resources.length,
    sockets: resources.filter((resource) => resource === "TCPSocketWrap").length,
    fibers: yield* fibers
  }
})
