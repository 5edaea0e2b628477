/** Sessions over the native client, one for each set of servers, shared and counted. */
import { type BuildError, Describe, type InvalidOption, InvalidUri, type ResolverFailed } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import * as RcMap from "effect/RcMap"
import type * as Scope from "effect/Scope"
import { isIP } from "node:net"
import type { Session } from "../Session.ts"
import { parseHosts } from "../uri.ts"
import type { ZooKeeperOptions } from "../ZooKeeper.ts"
import { loadAddon } from "./addon.ts"
import { systemLookup } from "./addresses.ts"
import { connectKey } from "./connect.ts"
import * as NativeSession from "./NativeSession.ts"
import { boundedMillis, checkAuth } from "./options.ts"

/** What gives the session of some servers: `ZooKeeper.layer` says how. */
export const sessions = (
  options: ZooKeeperOptions
): Effect.Effect<
  (connect: string) => Effect.Effect<Session, BuildError, Scope.Scope>,
  InvalidOption,
  Scope.Scope
> =>
  Effect.gen(function*() {
    const sessionTimeoutMillis = yield* boundedMillis("sessionTimeout", options.sessionTimeout, 10_000, 100)
    const connectTimeoutMillis = yield* boundedMillis("connectTimeout", options.connectTimeout, 5000, 1)
    const auth = options.auth ?? []
    yield* checkAuth(auth)
    const lookup = options.lookup ?? systemLookup()
    const described = Describe.given(options, {
      sessionTimeout: Describe.duration(Math.round(sessionTimeoutMillis)),
      connectTimeout: Describe.duration(connectTimeoutMillis),
      lookup: options.lookup ?? "the system's",
      ...(auth.length === 0 ? {} : { auth })
    })
    const made = yield* RcMap.make({
      lookup: (key: string): Effect.Effect<Session, InvalidUri | ResolverFailed, Scope.Scope> => {
        const hosts = parseHosts(key, key)
        if (hosts instanceof InvalidUri) return Effect.fail(hosts)
        return Effect.flatMap(loadAddon(`zk://${key}`), (addon) =>
          NativeSession.make({
            addon,
            connect: key,
            hosts,
            sessionTimeoutMillis: Math.round(sessionTimeoutMillis),
            connectTimeoutMillis,
            auth,
            lookup: (host) => isIP(host) === 0 ? lookup(host) : Effect.succeed([host])
          }, described))
      }
    })
    return (connect) => {
      const key = connectKey(connect)
      return typeof key === "string" ? RcMap.get(made, key) : Effect.fail(key)
    }
  })
