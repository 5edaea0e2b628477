/** What a scope ends together: leaving takes a moment each, and all of them no longer than one. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"

/** Those of each scope that have not left. A scope has no place of its own for them, and nothing is kept that outlives it. */
const departures = new WeakMap<Scope.Scope, Set<Effect.Effect<void>>>()

/**
 * Runs `leave` when the scope closes, together with all others of that scope: the first whose turn it is takes the others along. The scope
 * waits for all of them for at most `bound` milliseconds; what takes longer goes on by itself.
 */
export const leaveWithScope = (leave: Effect.Effect<void>, bound: number): Effect.Effect<void, never, Scope.Scope> =>
  Effect.flatMap(Effect.scope, (scope) => {
    const others = departures.get(scope) ?? new Set()
    departures.set(scope, others.add(leave))
    return Scope.addFinalizer(
      scope,
      Effect.gen(function*() {
        const all = [...others]
        others.clear()
        if (all.length === 0) return
        const leaving = yield* Effect.forkDetach(
          Effect.forEach(all, (each) => each, { concurrency: "unbounded", discard: true }),
          { startImmediately: true }
        )
        yield* Effect.timeoutOption(Effect.interruptible(Fiber.await(leaving)), bound)
      })
    )
  })
