/** The endpoints of a service, as a stream of complete states, and the URIs that name them. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { announce, type Announcement, type AnnounceOptions, type Announcer, AnnouncerFor } from "./Announce.ts"
import { given } from "./Describe.ts"
import { DnsSettings } from "./Dns.ts"
import { Endpoint } from "./Endpoint.ts"
import { parseAddress } from "./internal/address.ts"
import { dnsSet } from "./internal/dnsSet.ts"
import { fileSet } from "./internal/fileSet.ts"
import { implementation, resolverPrefix } from "./internal/schemes.ts"
import { shownDuration } from "./internal/shownDuration.ts"
import { ServerSetSource, type Source } from "./internal/serverSetSource.ts"
import { srvSet } from "./internal/srvSet.ts"
import { type BuildError, InvalidUri } from "./RpcError.ts"
import { ServerSetState, type States } from "./ServerSetState.ts"
import { type ServerSetChange, watch } from "./ServerSetChange.ts"

export { ServerSetState, type States } from "./ServerSetState.ts"

/** The server set of a stack: a stream of its states. */
export class ServerSet extends Context.Service<ServerSet, States>()("@scales-rpc/core/ServerSet") {
  /** Endpoints that never change. */
  static readonly fixed = (endpoints: ReadonlyArray<Endpoint>): Layer.Layer<ServerSet> =>
    Layer.succeedContext(known({
      states: Stream.succeed(ServerSetState.Bound(endpoints)),
      options: given(undefined, { source: "fixed endpoints" }),
      logs: true
    }))

  /** Any stream of states. */
  static readonly fromStream = (states: States): Layer.Layer<ServerSet> => Layer.succeed(ServerSet, states)

  /**
   * What a URI names. It is read when the layer is built, which fails with `InvalidUri` or `UnknownScheme` for a
   * wrong one.
   */
  static readonly fromUri = (uri: string): Layer.Layer<ServerSet, BuildError> =>
    Layer.effectContext(Effect.map(Effect.all([resolve(uri), optionsOf(uri)]), ([states, options]) =>
      // What is logged of those of a scheme of the user's own is up to them.
      known({ states, options, logs: logged.has(schemeOf(uri)) })))

  /** The server set that a URI names, as a stream that a program can run on its own. Fails as `resolve` does. */
  static readonly states = (uri: string): Stream.Stream<ServerSetState, BuildError> => Stream.unwrap(resolve(uri))

  /**
   * Who joins, leaves and changes, from one state to the next; everybody joins in the first. Of one state come first those who join or
   * change, in its order, then those who leave: a count of members that follows is never below that of both states. `Pending` and `Failed`
   * change nothing; with `Neg` everybody leaves, as with an empty `Bound`.
   */
  static readonly watch = <E, R>(
    states: Stream.Stream<ServerSetState, E, R>
  ): Stream.Stream<ServerSetChange, E, R> => watch(states)

  /** Makes `scheme://` known to every stack that this layer is provided to. */
  static readonly resolver = <const Scheme extends string>(
    scheme: Scheme,
    resolve: Resolver["resolve"]
  ): Layer.Layer<`Resolver/${Scheme}`> => Layer.succeed(ResolverFor(scheme), { resolve })

  /** Makes announcing at `scheme://` known to whatever this layer is provided to. */
  static readonly announcer = <const Scheme extends string>(
    scheme: Scheme,
    announce: Announcer["announce"]
  ): Layer.Layer<`Announcer/${Scheme}`> => Layer.succeed(AnnouncerFor(scheme), { announce })

  /**
   * Tells the server set that `uri` names of `endpoint`, until the scope closes. It does not wait for that (`Announcement.announced` does):
   * a registry that is down keeps no server from starting. Fails with `InvalidUri`, `UnknownScheme` when nothing announces at such
   * URIs, `InvalidOption`, and `ResolverFailed` when what does is not installed.
   */
  static readonly announce = (
    uri: string,
    endpoint: Endpoint,
    options: AnnounceOptions = {}
  ): Effect.Effect<Announcement, BuildError, Scope.Scope> => announce(uri, endpoint, options)
}

/** Turns URIs of one scheme into server sets. */
export interface Resolver {
  /** `rest` is the URI without `scheme://`. The scope is the stack's: what the stream shares may live there. */
  readonly resolve: (uri: string, rest: string) => Effect.Effect<States, BuildError, Scope.Scope>
}

/** The key under which the resolver of a scheme is provided. */
export const ResolverFor = <const Scheme extends string>(
  scheme: Scheme
): Context.Service<`Resolver/${Scheme}`, Resolver> => Context.Service(`${resolverPrefix}${scheme.toLowerCase()}`)

/**
 * Reads a URI and gives the server set it names, with the resolvers that are provided, the built-in `tcp`, `unix`, `file`, `dns` and
 * `srv`, and that of `@scales-rpc/zookeeper` for `zk` if the package is there. Fails with `InvalidUri` when the URI cannot be read,
 * with `UnknownScheme` when nothing resolves its scheme, and with `ResolverFailed` when what resolves it is not installed.
 */
export const resolve = (uri: string): Effect.Effect<States, BuildError, Scope.Scope> =>
  Effect.flatMap(
    implementation<Resolver>(uri, resolverPrefix, builtIn),
    ({ found, rest }) => found.resolve(uri, rest)
  )

const schemeOf = (uri: string): string => uri.slice(0, uri.indexOf(":")).toLowerCase()

/** The server set, and what is known of it. */
const known = (source: Source): Context.Context<ServerSet> =>
  Context.make(ServerSet, source.states).pipe(Context.add(ServerSetSource, source))

/** What is in force where a URI is resolved. */
const optionsOf = (uri: string): Effect.Effect<Source["options"]> =>
  Effect.map(DnsSettings, (dns) => ({
    ...given({ uri }, { uri }),
    ...(["dns", "srv"].includes(schemeOf(uri)) && given(dns, {
      servers: dns.servers ?? "those of the system",
      families: dns.families ?? "those that this machine has an address of",
      interval: shownDuration(dns.interval ?? "10 seconds")
    }))
  }))

const builtIn: ReadonlyMap<string, Resolver> = new Map<string, Resolver>([
  // A name is one endpoint, resolved again at each connect: the balancer sees what the URI says, no more.
  ["tcp", {
    resolve: (uri, rest) => {
      const endpoints = new Map<string, Endpoint>()
      for (const text of rest.split(",")) {
        const endpoint = parseAddress(uri, text)
        if (endpoint instanceof InvalidUri) return Effect.fail(endpoint)
        endpoints.set(endpoint.key, endpoint)
      }
      return Effect.succeed(Stream.succeed(ServerSetState.Bound([...endpoints.values()])))
    }
  }],
  ["unix", {
    resolve: (uri, rest) =>
      rest.startsWith("/") && rest.length > 1 && !rest.includes("\0")
        ? Effect.succeed(Stream.succeed(ServerSetState.Bound([Endpoint.unix(rest)])))
        : Effect.fail(new InvalidUri({ uri, what: "the path is not absolute", expected: "unix:///path/to/socket" }))
  }],
  ["file", { resolve: (uri, rest) => fileSet(uri, rest) }],
  ["dns", { resolve: (uri, rest) => dnsSet(uri, rest) }],
  ["srv", { resolve: (uri, rest) => srvSet(uri, rest) }]
])

/** Schemes whose server sets log by themselves when they cannot be read, and when they can again. */
const logged: ReadonlySet<string> = new Set([...builtIn.keys(), "zk"])
