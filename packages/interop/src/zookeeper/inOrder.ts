/** Waiting for what a peer tells, one thing after the other. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"

/** Waits until these have come, each after the one before; what comes between them does not matter. Waits for ever when one does not. */
export const inOrder = <A, E>(
  events: Stream.Stream<A, E>,
  ...expected: ReadonlyArray<(event: A) => boolean>
): Effect.Effect<void, E> =>
  Effect.suspend(() => {
    let next = 0
    return Stream.runDrain(Stream.takeUntil(events, (event) => {
      if (expected[next]!(event)) next++
      return next === expected.length
    }))
  })
