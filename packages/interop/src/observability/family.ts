/** The observability family: what a program of ours shows of itself, read by the tools that operators have. */
import type * as Effect from "effect/Effect"
import * as Suite from "../Suite.ts"
import * as Collector from "./collector.ts"
import * as Prometheus from "./prometheus.ts"

const groups = { Prometheus: Prometheus.prometheus, collector: Collector.collector }

/** Runs the cases that `select` picks. */
export const run = (select: (name: string) => boolean, deadline: number): Effect.Effect<Suite.Tally> =>
  Suite.runGroups(
    "observability",
    groups,
    (group) => group === "Prometheus" ? Prometheus.prepare : Collector.prepare,
    select,
    deadline
  )
