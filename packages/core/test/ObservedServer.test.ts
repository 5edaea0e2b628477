import { assert, describe, it } from "@effect/vitest"
import { ObservedServer } from "@scales-rpc/core"
import { Effect, Metric } from "effect"
import { seen } from "./seen.ts"

describe("the calls that a server serves", () => {
  it.effect("have no series any more when it has closed, and a method that is first called then has none", () =>
    Effect.gen(function*() {
      const server = yield* ObservedServer.make("front", {})
      server.calls.of("Echo", "echo").began()
      assert.isNotEmpty(yield* seen("scales.server."))
      server.calls.remove()
      assert.deepStrictEqual(yield* seen("scales.server."), {})
      for (const method of ["echo", "late"]) {
        const stats = server.calls.of("Echo", method)
        stats.began()
        stats.ended("Timeout", 1, server.elapsed())
      }
      assert.deepStrictEqual(yield* seen("scales.server."), {})
      assert.deepInclude(server.calls.snapshot["Echo"]!["late"], { requests: 1, failures: { Timeout: 1 } })
    }).pipe(
      Effect.scoped,
      (self) => Effect.suspend(() => Effect.provideService(self, Metric.MetricRegistry, new Map()))
    ))
})
