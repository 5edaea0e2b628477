/** The peers that the cases of a family share: each is started when it is first asked for, and lives as long as the run. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RcMap from "effect/RcMap"
import type * as Scope from "effect/Scope"

/** What starts each of them, by name. */
type Programs = Readonly<Record<string, Effect.Effect<unknown, unknown, Scope.Scope>>>

type Failure<All extends Programs> = Effect.Error<All[keyof All]>

/**
 * The peers of one family: `layer` is for the whole run, `shared` gives one of them. `Self` tells them from those of other families; give it as a
 * name of its own.
 */
export const make = <const Self extends string, All extends Programs>(self: Self, programs: All) => {
  // Which type each is of, `shared` knows.
  const Peers = Context.Service<Self, RcMap.RcMap<keyof All, unknown, Failure<All>>>(self)
  const lookup = (name: keyof All) => programs[name] as Effect.Effect<unknown, Failure<All>, Scope.Scope>
  return {
    layer: Layer.effect(Peers, RcMap.make({ lookup, idleTimeToLive: "1 hour" })),
    shared: <const Name extends keyof All>(
      name: Name
    ): Effect.Effect<Effect.Success<All[Name]>, Failure<All>, Self | Scope.Scope> =>
      Effect.flatMap(
        Peers,
        (peers) => RcMap.get(peers, name) as Effect.Effect<Effect.Success<All[Name]>, Failure<All>, Scope.Scope>
      )
  }
}
