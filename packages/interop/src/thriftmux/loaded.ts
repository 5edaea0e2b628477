/** A load of calls of ours, for as long as a case needs one. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

/** 64 callers that call again and again; `more(n)` waits until n more calls were answered, and fails with the first that was not. */
export const loaded = <E>(send: (i: number) => Effect.Effect<unknown, E>) =>
  Effect.gen(function*() {
    let sent = 0
    let answered = 0
    let target = Infinity
    let reached = Deferred.makeUnsafe<void>()
    const call = Effect.tap(Effect.suspend(() => send(sent++)), () =>
      Effect.sync(() => {
        if (++answered >= target) Deferred.doneUnsafe(reached, Effect.void)
      }))
    const callers = yield* Effect.forkScoped(Effect.all(Array.from({ length: 64 }, () => Effect.forever(call)), {
      concurrency: "unbounded",
      discard: true
    }))
    const more = (calls: number) =>
      Effect.suspend(() => {
        target = answered + calls
        reached = Deferred.makeUnsafe()
        return Effect.raceFirst(Deferred.await(reached), Fiber.join(callers))
      })
    return { more, stop: Fiber.interrupt(callers) }
  })
