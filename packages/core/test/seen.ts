/** What the tests of series share: all that a registry shows, by name and attributes. */
import { Effect, Metric } from "effect"

/** The value of each series: a number, or of a histogram or summary how many it counts. */
export type Seen = Readonly<Record<string, number>>

/** Every series whose name begins so, as `name attribute=value ...`, without the attributes of its owner and its unit. */
export const seen = (prefix = "scales."): Effect.Effect<Seen> =>
  Effect.map(
    Metric.snapshot,
    (all) =>
      Object.fromEntries(
        all.filter(({ id }) => id.startsWith(prefix)).map(({ attributes = {}, id, state }) => {
          const own = Object.entries(attributes)
            .filter(([name]) => name !== "client" && name !== "unit")
            .map(([name, value]) => `${name}=${value}`)
          return [
            [id, ...own.toSorted()].join(" "),
            "count" in state ? Number(state.count) : "value" in state ? Number(state.value) : NaN
          ]
        })
      )
  )
