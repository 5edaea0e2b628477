/** What is logged in a case. */
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"

/** Runs an effect with a record of what it, and what it starts, logs. */
export const recorded = <A, E, R>(
  f: (lines: ReadonlyArray<string>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const lines: Array<string> = []
    const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
      lines.push(`${logLevel} ${[message].flat().map(String).join(" ")}`)
    })
    return Effect.provide(f(lines), Logger.layer([logger]))
  })
