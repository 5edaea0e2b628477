/** A record of what a peer told, which can be asked for what has happened and for what is to come alike. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"

/** A growing record. */
export interface Events<in out A> {
  readonly add: (event: A) => void
  /** All of them, from the first on, then those to come. */
  readonly all: Stream.Stream<A>
  /** The first that matches, now or when it comes. Waits for ever when none does: a case has its bound. */
  readonly first: (matches: (event: A) => boolean) => Effect.Effect<A>
}

/** An empty record. */
export const make = <A>(): Effect.Effect<Events<A>> =>
  Effect.map(PubSub.unbounded<A>({ replay: Number.MAX_SAFE_INTEGER }), (pubsub) => {
    const all = Stream.fromPubSub(pubsub)
    return {
      add: (event) => void PubSub.publishUnsafe(pubsub, event),
      all,
      first: (matches) =>
        Effect.flatMap(
          Stream.runHead(Stream.filter(all, matches)),
          Option.match({
            onNone: () => Effect.never,
            onSome: Effect.succeed
          })
        )
    }
  })
