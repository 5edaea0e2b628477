/** What a server set says while something happens to its registry, and the bound within which it is right again. */
import { type Endpoint, resolve, type ServerSetState } from "@scales-rpc/core"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import assert from "node:assert/strict"

/** What a case waited for did not come to be. */
export class Late extends Data.TaggedError("Late")<{ readonly what: string }> {
  override get message(): string {
    return this.what
  }
}

/** Waits until something holds, which nothing tells. */
export const eventually = <E, R>(
  holds: Effect.Effect<boolean, E, R>,
  within: Duration.Input,
  what: () => string
): Effect.Effect<void, E | Late, R> => {
  const again: Effect.Effect<void, E, R> = Effect.flatMap(
    holds,
    (yes) => yes ? Effect.void : Effect.andThen(Effect.sleep("5 millis"), again)
  )
  return Effect.timeoutOrElse(again, {
    duration: within,
    orElse: () =>
      Effect.suspend(() =>
        Effect.fail(new Late({ what: `not within ${Duration.format(Duration.fromInputUnsafe(within))}: ${what()}` }))
      )
  })
}

/** The members of a state, by `host:port`, in order; those of a set that is none are none. */
export const keysOf = (state: ServerSetState | undefined): ReadonlyArray<string> =>
  state?._tag === "Bound" ? state.endpoints.map(({ key }) => key).toSorted() : []

/** A server set that is followed for as long as the scope is open. */
export interface Observed {
  /** All its states so far. */
  readonly states: ReadonlyArray<ServerSetState>
  /** The members that it shows now. */
  readonly members: () => ReadonlyArray<string>
  readonly endpoint: (key: string) => Endpoint | undefined
  /** Waits until it shows these, and no others. */
  readonly shows: (keys: ReadonlyArray<string>, within: Duration.Input) => Effect.Effect<void, Late>
  /** Fails when a state since the n-th was without one of these. */
  readonly kept: (keys: ReadonlyArray<string>, since?: number) => Effect.Effect<void>
}

const textOf = (state: ServerSetState | undefined): string =>
  state === undefined ? "nothing" : state._tag === "Bound" ? `[${keysOf(state).join()}]` : state._tag

/** Follows the set that a URI names. */
export const observe = (uri: string) =>
  Effect.gen(function*() {
    const states: Array<ServerSetState> = []
    const stream = yield* resolve(uri)
    yield* Effect.forkScoped(Stream.runForEach(stream, (state) => Effect.sync(() => states.push(state))))
    const members = () => keysOf(states.at(-1))
    const observed: Observed = {
      states,
      members,
      endpoint: (key) => {
        const last = states.at(-1)
        return last?._tag === "Bound" ? last.endpoints.find((one) => one.key === key) : undefined
      },
      shows: (keys, within) => {
        const expected = keys.toSorted().join()
        return eventually(
          Effect.sync(() => states.at(-1)?._tag !== undefined && members().join() === expected),
          within,
          () => `it shows ${textOf(states.at(-1))}, not [${expected}]`
        )
      },
      kept: (keys, since = 0) =>
        Effect.sync(() => {
          for (const state of states.slice(since)) {
            const shown = new Set(keysOf(state))
            assert.deepEqual(keys.filter((key) => !shown.has(key)), [], `${textOf(state)} lacks members that live`)
          }
        })
    }
    return observed
  })
