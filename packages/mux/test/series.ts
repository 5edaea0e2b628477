/** What is shown and logged, as whoever scrapes a process and reads its log sees it: for the tests of mux, Thrift and ThriftMux. */
import { assert } from "@effect/vitest"
import { Effect, Logger, Metric, References } from "effect"

/** Everything that is shown at one moment. */
export class Shown {
  readonly #all: ReadonlyArray<Metric.Metric.Snapshot>

  constructor(all: ReadonlyArray<Metric.Metric.Snapshot>) {
    this.#all = all
  }

  #of(name: string, attributes: Readonly<Record<string, string>>): ReadonlyArray<Metric.Metric.Snapshot> {
    return this.#all.filter((one) =>
      one.id === name && Object.entries(attributes).every(([key, value]) => (one.attributes as any)?.[key] === value)
    )
  }

  /** The sum of the numbers with these attributes; of latencies how many there are. Fails the test when there is no such series. */
  sum(name: string, attributes: Readonly<Record<string, string>> = {}): number {
    const found = this.#of(name, attributes)
    assert.isAbove(found.length, 0, `${name} is shown, with ${JSON.stringify(attributes)}`)
    return found.reduce((sum, { state }) => sum + Number("value" in state ? state.value : (state as any).count), 0)
  }

  /** The sum of all latencies, in milliseconds. */
  millis(name: string, attributes: Readonly<Record<string, string>> = {}): number {
    const found = this.#of(name, attributes)
    assert.strictEqual(found.length, 1, name)
    return (found[0]!.state as any).sum
  }

  /** The numbers that are not 0, by the value of an attribute. */
  by(name: string, attribute: string, attributes: Readonly<Record<string, string>> = {}): Record<string, number> {
    const by: Record<string, number> = {}
    for (const { attributes: own, state } of this.#of(name, attributes)) {
      const key = (own as any)[attribute]
      const number = Number("value" in state ? state.value : (state as any).count)
      if (number !== 0) by[key] = (by[key] ?? 0) + number
    }
    return by
  }

  /** The names of all series of ours. */
  get names(): ReadonlyArray<string> {
    return this.#all.filter(({ id }) => id.startsWith("scales.")).map(({ id }) => id)
  }
}

/** What is shown now. */
export const shown: Effect.Effect<Shown> = Effect.map(Metric.snapshot, (all) => new Shown(all))

/** One line of a log. */
export interface Line {
  readonly level: string
  readonly message: string
  readonly annotations: Readonly<Record<string, unknown>>
}

/** Notes what is logged in place of writing it. */
export const logTo = (lines: Array<Line>) =>
  Logger.layer([
    Logger.make(({ fiber, logLevel, message }) => {
      lines.push({
        level: logLevel,
        message: String(message),
        annotations: fiber.getRef(References.CurrentLogAnnotations)
      })
    })
  ])

/** Waits, in real time whatever the clock, until something holds; not longer than five seconds. */
export const until = (what: string, holds: () => boolean): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const started = performance.now()
    let timer: NodeJS.Timeout | undefined
    const look = () => {
      if (holds()) return resume(Effect.void)
      if (performance.now() - started > 5000) return resume(Effect.die(new Error(`in vain: ${what}`)))
      timer = setTimeout(look, 1)
    }
    look()
    return Effect.sync(() => clearTimeout(timer))
  })
