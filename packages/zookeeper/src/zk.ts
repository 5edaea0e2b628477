/** What `@scales-rpc/core` takes from this package when a URI begins with `zk://` and nothing else is provided for that. */
import type { Announcer, Resolver } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import { announce } from "./Announcer.ts"
import { ZooKeeper } from "./ZooKeeper.ts"
import { serverSet } from "./ZooKeeperServerSet.ts"

/** Resolves `zk://` URIs, and announces at them, with `ZooKeeper.shared`. */
export const zk: Resolver & Announcer = {
  resolve: (uri, rest) => Effect.flatMap(ZooKeeper.shared, (zookeeper) => serverSet(zookeeper, uri, rest)),
  announce: (uri, rest, endpoint, options) =>
    Effect.flatMap(ZooKeeper.shared, (zookeeper) => announce(zookeeper, uri, rest, endpoint, options))
}
