/** What every session is held to, whatever implements it: the stand-in for tests is held to it too. */
import { ZooKeeper } from "@scales-rpc/zookeeper"
import { SessionConformance } from "@scales-rpc/zookeeper/testing"
import * as Effect from "effect/Effect"
import { type Case, holds, theme } from "../Suite.ts"
import { Peers, zooKeeper } from "./peers.ts"
import { withZooKeeper } from "./scene.ts"

/** Another session each time: each has a `ZooKeeper` of its own. */
const session = Effect.flatMap(
  zooKeeper,
  ({ address }) => Effect.flatMap(ZooKeeper, (zookeeper) => zookeeper.session(address)).pipe(withZooKeeper())
)

/** The cases know of no services, and close the sessions they make. */
export const conformance: ReadonlyArray<Case<Peers>> = theme(
  "conformance",
  SessionConformance.cases(Effect.never).map(({ name }, index) =>
    holds(
      name,
      Effect.flatMap(
        Peers,
        (peers) => SessionConformance.cases(Effect.provideService(session, Peers, peers))[index]!.run
      )
    )
  )
)
