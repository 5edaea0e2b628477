/** How long it takes to build the default ThriftMux stack, which connects nothing, and to close it. */
import { Endpoint, ServerSet } from "@scales-rpc/core"
import { ThriftMux } from "@scales-rpc/thriftmux"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { summarize, type Summary } from "../statistics.ts"
import { Echo } from "../workload.ts"
import { answering, type Extent, isolated } from "./isolated.ts"

/** A stack over a server set of a size; milliseconds. */
export interface BuildCost {
  readonly endpoints: number
  /** In a process that has built none before. */
  readonly firstMillis: number
  readonly buildMillis: Summary
  readonly closeMillis: Summary
}

interface Task {
  readonly endpoints: number
  readonly rounds: number
}

const measureOne = async ({ endpoints, rounds }: Task): Promise<BuildCost> => {
  const set = Array.from({ length: endpoints }, (_, i) => Endpoint.tcp(`10.0.${i >> 8}.${i & 255}`, 8080))
  const once = async () => {
    const scope = Effect.runSync(Scope.make())
    const started = performance.now()
    await Effect.runPromise(
      Layer.buildWithScope(ThriftMux.layer(Echo, { serverSet: ServerSet.fixed(set) }), scope)
    )
    const built = performance.now()
    await Effect.runPromise(Scope.close(scope, Exit.void))
    return { build: built - started, close: performance.now() - built }
  }
  const first = await once()
  for (let round = 0; round < 20; round++) await once()
  const costs: Array<{ readonly build: number; readonly close: number }> = []
  for (let round = 0; round < rounds; round++) costs.push(await once())
  return {
    endpoints,
    firstMillis: first.build,
    buildMillis: summarize(costs.map(({ build }) => build)),
    closeMillis: summarize(costs.map(({ close }) => close))
  }
}

/** Measures stacks of 1, 10 and 1,000 endpoints, each in a process of its own; `quick` of 1. */
export const measureBuild = async (
  extent: Extent,
  progress: (line: string) => void
): Promise<ReadonlyArray<BuildCost>> => {
  const costs: Array<BuildCost> = []
  for (const endpoints of extent === "quick" ? [1] : [1, 10, 1000]) {
    progress(`building a stack: ${endpoints} endpoints`)
    const task: Task = { endpoints, rounds: extent === "full" ? 300 : 60 }
    costs.push(await isolated<BuildCost>(import.meta.url, task))
  }
  return costs
}

answering(import.meta, measureOne)
