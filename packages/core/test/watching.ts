/** Server sets that are watched by a test, with real files and sockets under a clock that the test moves. */
import { resolve, type ServerSetState } from "@scales-rpc/core"
import { Effect, Fiber, Logger, References, Stream } from "effect"
import { TestClock } from "effect/testing"

/** Lets the event loop turn, so that what the system has ready is delivered; the clock stands. */
export const turns = (count = 10): Effect.Effect<void> =>
  Effect.promise(async () => {
    for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve))
  })

/** Moves the clock, a step at a time, until `done`. `what` is shown when that does not come. */
export const until = (
  done: () => boolean,
  what: () => unknown = () => "nothing",
  stepMillis = 500
): Effect.Effect<void> =>
  Effect.gen(function*() {
    const end = performance.now() + 15_000
    yield* turns()
    while (!done()) {
      if (performance.now() > end) {
        return yield* Effect.die(new Error(`in vain: ${String(done)}, with ${JSON.stringify(what())}`))
      }
      yield* TestClock.adjust(stepMillis)
      yield* turns()
    }
  })

/** Lets time pass, so slowly that whatever is asked in it is answered. */
export const pass = (millis: number, stepMillis = 500): Effect.Effect<void> =>
  Effect.gen(function*() {
    yield* turns()
    for (let passed = 0; passed < millis; passed += stepMillis) {
      yield* TestClock.adjust(Math.min(stepMillis, millis - passed))
      yield* turns()
    }
  })

/** The keys of a state, in order, or its tag. */
export const shown = (state: ServerSetState | undefined): string =>
  state === undefined ? "none" : state._tag === "Bound"
    ? state.endpoints.map(({ key }) => key).toSorted().join(" ")
    : state._tag

/** Collects the states of a URI from now on, and what is logged. */
export const watching = (uri: string) =>
  Effect.gen(function*() {
    const states: Array<ServerSetState> = []
    const warnings: Array<string> = []
    const logger = Logger.make(({ fiber, logLevel, message }) => {
      if (logLevel !== "Warn" && logLevel !== "Error" && logLevel !== "Fatal") return
      const { cause, known } = fiber.getRef(References.CurrentLogAnnotations)
      warnings.push([message, cause, known].join("; "))
    })
    const fiber = yield* Effect.scoped(
      Effect.flatMap(resolve(uri), Stream.runForEach((state) => Effect.sync(() => void states.push(state))))
    ).pipe(Effect.provide(Logger.layer([logger])), Effect.forkChild({ startImmediately: true }))
    const all = () => states.map(shown)
    return {
      states,
      warnings,
      all,
      last: () => states.at(-1),
      /** Moves the clock until the last state is so, and as often as it takes. */
      becomes: (expected: string, stepMillis?: number) =>
        until(() => shown(states.at(-1)) === expected, all, stepMillis),
      /** Moves the clock until there are so many warnings. */
      warned: (count: number) => until(() => warnings.length >= count, () => warnings),
      close: Fiber.interrupt(fiber)
    }
  })
