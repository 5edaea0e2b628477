/** The servers of ZooKeeper that the cases share: each is started when it is first asked for, and lives as long as the run. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RcMap from "effect/RcMap"
import type * as Scope from "effect/Scope"
import type { PeerError } from "../Peer.ts"
import { type Ensemble, single, three } from "./Ensemble.ts"
import type { Server } from "./Server.ts"

/** The shared ones of one run. */
export class Peers extends Context.Service<Peers, {
  readonly single: Effect.Effect<Server, PeerError, Scope.Scope>
  readonly three: Effect.Effect<Ensemble, PeerError, Scope.Scope>
}>()("@scales-rpc/interop/zookeeper/Peers") {
  static readonly layer = Layer.effect(
    Peers,
    Effect.gen(function*() {
      const shared = <A>(make: Effect.Effect<A, PeerError, Scope.Scope>) =>
        Effect.map(RcMap.make({ lookup: () => make, idleTimeToLive: "1 hour" }), (one) => RcMap.get(one, ""))
      return { single: yield* shared(single), three: yield* shared(three) }
    })
  )
}

/** A server that serves by itself. A case leaves it as it was, whatever happens in it. */
export const zooKeeper = Effect.gen(function*() {
  const server = yield* Effect.flatMap(Peers, ({ single }) => single)
  yield* Effect.addFinalizer(() => Effect.ignore(Effect.andThen(server.thaw, server.start)))
  return server
})

/** Three servers. A case leaves them as they were. */
export const ensemble = Effect.gen(function*() {
  const { leader, servers } = yield* Effect.flatMap(Peers, ({ three }) => three)
  yield* Effect.addFinalizer(() =>
    Effect.ignore(Effect.forEach(servers, (server) => Effect.andThen(server.thaw, server.start), { concurrency: 3 }))
  )
  return { leader, servers }
})
