/** Sessions with ZooKeeper: one for each set of servers, shared by all that ask for it, and closed with the last of them. */
import {
  type Announcer,
  AnnouncerFor,
  type BuildError,
  type InvalidOption,
  type Resolver,
  ResolverFor,
  type ServerSetState
} from "@scales-rpc/core"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { announce } from "./Announcer.ts"
import { checkServerSets } from "./internal/options.ts"
import { sessions } from "./internal/sessions.ts"
import type { Acl, Session } from "./Session.ts"
import { serverSet } from "./ZooKeeperServerSet.ts"

/** How server sets are read, where a server set does not say it itself. */
export interface ServerSetOptions {
  /** How long a member that left is kept, in case it comes back. Default 10 seconds. */
  readonly removals?: Duration.Input | undefined
  /** How long the members of a set that became empty are kept. Default 1 minute. */
  readonly empty?: Duration.Input | undefined
  /** How many members are read at once. Default 100. */
  readonly reads?: number | undefined
}

/** What holds for all server sets and announcements of a `ZooKeeper`, where they do not say it themselves. */
export interface ServerSetDefaults extends ServerSetOptions {
  /** Who may do what with the nodes that announcements make. Default: anybody anything. */
  readonly acl?: ReadonlyArray<Acl> | undefined
}

/** What may be said of sessions, and of the server sets and announcements in them; each has a default. */
export interface ZooKeeperOptions extends ServerSetDefaults {
  /**
   * How long the servers keep a session that they hear nothing of, and with it the announcements made in it; what they allow bounds it. A server
   * that is silent for two thirds of it is left for another. At least 100 ms, at most 24 days. Default 10 seconds.
   */
  readonly sessionTimeout?: Duration.Input | undefined
  /**
   * How long no connection can be made before everything begins anew: names are resolved again, and all servers are tried again. The
   * session goes on if it still lives, and watches are set anew. A connection that can be made again within a third of `sessionTimeout` keeps
   * the watches, if this is longer. Default 5 seconds.
   */
  readonly connectTimeout?: Duration.Input | undefined
  /** What is shown to the servers in each session, such as the scheme `digest` with `user:password`. Default: nothing. */
  readonly auth?:
    | ReadonlyArray<{ readonly scheme: string; readonly credentials: Redacted.Redacted }>
    | undefined
  /** The addresses of a server's name. Default: what the system knows, which is asked again for each new handle. */
  readonly lookup?: ((host: string) => Effect.Effect<ReadonlyArray<string>, unknown>) | undefined
}

/** Where sessions come from. */
export class ZooKeeper extends Context.Service<ZooKeeper, {
  /**
   * A session with the servers that `connect` names, `host[:2181],host...`: the one that others of the same servers have, in whatever
   * order they named them. It is closed with the last scope it was asked for in. It does not wait for a connection.
   * Fails with `InvalidUri`, and with `ResolverFailed` when the package `zookeeper` cannot be loaded.
   */
  readonly session: (connect: string) => Effect.Effect<Session, BuildError, Scope.Scope>
  /** What was said of server sets and announcements when the layer was made. */
  readonly serverSets: ServerSetDefaults
}>()("@scales-rpc/zookeeper/ZooKeeper") {
  /**
   * Sessions over the package `zookeeper`, which is loaded with the first of them. Whatever this layer is provided to shares them. Fails with
   * `InvalidOption`.
   *
   * Closing a session tells the servers, so that its ephemeral nodes go at once, and waits up to a second for that; after it they go when the
   * session has timed out.
   */
  static readonly layer = (options: ZooKeeperOptions = {}): Layer.Layer<ZooKeeper, InvalidOption> =>
    Layer.effect(
      ZooKeeper,
      Effect.map(Effect.andThen(checkServerSets(options), sessions(options)), (session) =>
        ZooKeeper.of({
          session,
          serverSets: { removals: options.removals, empty: options.empty, reads: options.reads, acl: options.acl }
        }))
    )

  /**
   * The `ZooKeeper` that `zk://` URIs mean: the one that is provided; otherwise one with the defaults, which all have that are built
   * together, as layers or in them, and which ends with the last of them.
   */
  static readonly shared: Effect.Effect<ZooKeeper["Service"], BuildError, Scope.Scope> = Effect.contextWith(
    (context: Context.Context<Scope.Scope>) => {
      const provided = Context.getOption(context, ZooKeeper)
      if (Option.isSome(provided)) return Effect.succeed(provided.value)
      // `Layer.fresh`, in which ready-made stacks end, hides from a layer what others have built, but not from what runs in it.
      const memoMap = Context.getOption(context, Layer.CurrentMemoMap)
      const scope = Context.get(context, Scope.Scope)
      return Effect.map(
        Option.isSome(memoMap)
          ? Layer.buildWithMemoMap(byDefault, memoMap.value, scope)
          : Layer.buildWithScope(byDefault, scope),
        Context.get(ZooKeeper)
      )
    }
  )

  /**
   * The server set that a `zk://` URI names, for a program that runs it on its own: complete states, the first as soon as it is known. It is
   * read with `shared`, and with what was given to that where `options` say nothing.
   *
   * Members leave with a delay (`Stabilizer`), join and change at once; nothing that happens to the session makes one leave. A path that does
   * not exist is `Neg`, and is followed once it is made. `Failed` comes only while nothing was found out yet: when there is no connection
   * for 10 seconds, or a right is missing; it is tried again all the same. An endpoint has the weight that vectors give it, its member's shard
   * and metadata, and under `zk.member` the name of the member's node.
   *
   * Fails with `InvalidUri`, `InvalidOption`, and `ResolverFailed` when the package `zookeeper` cannot be loaded.
   */
  static readonly serverSet = (
    uri: string,
    options: ServerSetOptions = {}
  ): Stream.Stream<ServerSetState, BuildError> =>
    Stream.unwrap(Effect.flatMap(ZooKeeper.shared, (zookeeper) => serverSet(zookeeper, uri, restOf(uri), options)))

  /**
   * Makes `zk://` known to what it is provided to, for server sets and announcements, with a `ZooKeeper` of its own, which it provides too: it is
   * what `serverSet` reads with. Without it, `zk://` is known wherever this package is installed, and means `shared`; with it, nothing is loaded
   * at run time but the package `zookeeper`.
   */
  static readonly resolver = (
    options: ZooKeeperOptions = {}
  ): Layer.Layer<ZooKeeper | "Resolver/zk" | "Announcer/zk", InvalidOption> =>
    Layer.effectContext(Effect.map(ZooKeeper, (zookeeper) => {
      const resolver: Resolver = { resolve: (uri, rest) => serverSet(zookeeper, uri, rest) }
      const announcer: Announcer = {
        announce: (uri, rest, endpoint, said) => announce(zookeeper, uri, rest, endpoint, said)
      }
      return Context.make(ResolverFor("zk"), resolver).pipe(Context.add(AnnouncerFor("zk"), announcer))
    })).pipe(Layer.provideMerge(ZooKeeper.layer(options)))
}

/** A URI without `zk://`; one of another scheme names no server. */
const restOf = (uri: string): string => /^zk:\/\//i.test(uri) ? uri.slice("zk://".length) : ""

/** One for all, by which it is known to have been built. */
const byDefault = ZooKeeper.layer()
