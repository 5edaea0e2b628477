/** What most cases are made of: servers of ours that are announced, a client that calls them all the time, and how both are ended. */
import { type AnnounceOptions, Endpoint, ServerSet } from "@scales-rpc/core"
import { ZooKeeper, type ZooKeeperOptions } from "@scales-rpc/zookeeper"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { serve } from "../thriftmux/ours.ts"

/** How long the servers keep a session that they do not hear of, in milliseconds: short, so that it can be outlasted. */
export const sessionMillis = 1000

/** How long the server sets keep those that left, and sets that are empty. */
export const removals = "300 millis"
export const empty = "2 seconds"

/** A `ZooKeeper` of one's own, with sessions of its own. */
export const quick = (options: ZooKeeperOptions = {}) =>
  ZooKeeper.layer({ sessionTimeout: sessionMillis, removals, empty, ...options })

/** Within this a set shows what was changed, with nothing wrong anywhere: a watch, a read, and the time of `removals`. */
export const promptly = "2 seconds"

/** The data of a member's node, as Finagle and Scales write it. */
export const member = (port: number, fields: object = {}): string =>
  JSON.stringify({ serviceEndpoint: { host: "127.0.0.1", port }, additionalEndpoints: {}, status: "ALIVE", ...fields })

/** Gives an effect a `ZooKeeper` that lives as long as the scope of the case. */
export const withZooKeeper = (options?: ZooKeeperOptions) => <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Layer.build(quick(options)), (context) => Effect.provide(self, context))

/** Runs an effect in a scope of its own within that of the case; `end` closes it. */
export const ending = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const life = yield* Scope.fork(yield* Scope.Scope)
    return { ...yield* Scope.provide(self, life), end: Scope.close(life, Exit.void) }
  })

/** A ThriftMux server of ours that is announced at `uri`; `end` takes the announcement back, then drains the server. */
export const announced = (uri: string, options?: AnnounceOptions) =>
  ending(Effect.gen(function*() {
    const { address, pinged, port } = yield* serve()
    const announcement = yield* ServerSet.announce(uri, Endpoint.tcp("127.0.0.1", port), options)
    return { address, announcement, pinged }
  }))
