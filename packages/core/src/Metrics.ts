/**
 * Series whose values are read when metrics are read: what a stage counts for itself in plain fields shows up in Effect's metric
 * registry, and a call pays nothing for it. Every series carries `client`, which no two stacks have
 * at a time, and ends with its scope.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import type { StackShape } from "./Stack.ts"

/** What a series is called, and where its value is read. */
export interface Series {
  /** `scales.stage.what`. */
  readonly name: string
  /** One sentence, with the unit where there is one. */
  readonly description: string
  /** The value now. */
  readonly read: () => number
  /** What tells it from others of its name, besides `client`. */
  readonly attributes?: Readonly<Record<string, string>> | undefined
}

const optionsOf = (stack: StackShape, series: Series) => ({
  description: series.description,
  attributes: { ...series.attributes, client: stack.client }
})

const ignore = () => {}

/** Shows numbers that only grow. */
export const counters = (stack: StackShape, ...all: ReadonlyArray<Series>): Effect.Effect<void, never, Scope.Scope> =>
  Effect.forEach(
    all,
    (series) =>
      Effect.contextWith((context: Parameters<typeof Metric.registerUnsafe>[1]) =>
        Effect.acquireRelease(
          Effect.sync(() =>
            Metric.registerUnsafe(
              Metric.counter(series.name, { ...optionsOf(stack, series), incremental: true }),
              context,
              {
                get: () => ({ count: series.read(), incremental: true }),
                update: ignore,
                modify: ignore
              }
            )
          ),
          (registration) => Effect.sync(registration.remove)
        )
      ),
    { discard: true }
  )

/** Shows numbers that go up and down. */
export const gauges = (stack: StackShape, ...all: ReadonlyArray<Series>): Effect.Effect<void, never, Scope.Scope> =>
  Effect.forEach(
    all,
    (series) =>
      Effect.contextWith((context: Parameters<typeof Metric.registerUnsafe>[1]) =>
        Effect.acquireRelease(
          Effect.sync(() =>
            Metric.registerUnsafe(Metric.gauge(series.name, optionsOf(stack, series)), context, {
              get: () => ({ value: series.read() }),
              update: ignore,
              modify: ignore
            })
          ),
          (registration) => Effect.sync(registration.remove)
        )
      ),
    { discard: true }
  )
