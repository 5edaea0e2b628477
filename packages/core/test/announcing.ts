/** A registry in memory for tests of announcing: its resolver gives what its announcer was told, and it lets go when the test allows. */
import { type Announcement, type AnnounceOptions, Endpoint, ServerSet, ServerSetState } from "@scales-rpc/core"
import { Effect, Layer, Stream, SubscriptionRef } from "effect"

/** One announcement. */
export interface Announced {
  readonly uri: string
  readonly endpoint: Endpoint
  /** What is said of it now. */
  options: AnnounceOptions
}

/** Makes `scheme://` known, with one set whatever the rest of the URI. */
export const registry = <const Scheme extends string>(scheme: Scheme) => {
  const set = Effect.runSync(SubscriptionRef.make<ReadonlyArray<Announced>>([]))
  const waits = {
    /** What one that leaves waits for, by its URI. */
    leaving: (_uri: string): Effect.Effect<void> => Effect.void
  }
  return Object.assign(waits, {
    /** What is announced now. */
    announced: () => SubscriptionRef.getUnsafe(set),
    layer: Layer.merge(
      ServerSet.announcer(scheme, (uri, _rest, endpoint, options) => {
        const one: Announced = { uri, endpoint, options }
        const announcement: Announcement = {
          announced: Effect.void,
          state: () => ({ _tag: "Announced", name: `${uri} ${endpoint.key}` }),
          update: (options) =>
            SubscriptionRef.update(set, (all) => {
              one.options = options
              return [...all]
            })
        }
        return Effect.acquireRelease(
          Effect.as(SubscriptionRef.update(set, (all) => [...all, one]), announcement),
          () =>
            Effect.andThen(
              Effect.suspend(() => waits.leaving(uri)),
              SubscriptionRef.update(set, (all) => all.filter((other) => other !== one))
            )
        )
      }),
      ServerSet.resolver(scheme, () =>
        Effect.succeed(
          Stream.map(SubscriptionRef.changes(set), (all) =>
            ServerSetState.Bound(
              all.map(({ endpoint: { host, port }, options }) => Endpoint.tcp(host, port, { shard: options.shard }))
            ))
        ))
    )
  })
}
