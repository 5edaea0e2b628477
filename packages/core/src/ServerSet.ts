/** The endpoints of a service, as a stream of complete states, and the URIs that name them. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Endpoint } from "./Endpoint.ts"
import { type BuildError, InvalidUri, UnknownScheme } from "./RpcError.ts"

/**
 * What is known of a server set. `Pending`: nothing yet. `Bound`: these endpoints, all of them. `Neg`: there is no such set.
 * `Failed`: it could not be found out. Once a set is bound, balancers keep it through `Pending` and `Failed`.
 */
export type ServerSetState =
  | { readonly _tag: "Pending" }
  | { readonly _tag: "Bound"; readonly endpoints: ReadonlyArray<Endpoint> }
  | { readonly _tag: "Neg" }
  | { readonly _tag: "Failed"; readonly cause: unknown }

/** Makes states. */
export const ServerSetState = {
  /** Nothing is known yet. */
  Pending: { _tag: "Pending" } as ServerSetState,
  /** There is no such set. */
  Neg: { _tag: "Neg" } as ServerSetState,
  /** These endpoints, all of them. */
  Bound: (endpoints: ReadonlyArray<Endpoint>): ServerSetState => ({ _tag: "Bound", endpoints }),
  /** It could not be found out, for `cause`. */
  Failed: (cause: unknown): ServerSetState => ({ _tag: "Failed", cause })
}

/** Complete states, never increments. It never fails; when it ends, its last state stands. */
export type States = Stream.Stream<ServerSetState>

/** The server set of a stack: a stream of its states. */
export class ServerSet extends Context.Service<ServerSet, States>()("@scales-rpc/core/ServerSet") {
  /** Endpoints that never change. */
  static readonly fixed = (endpoints: ReadonlyArray<Endpoint>): Layer.Layer<ServerSet> =>
    Layer.succeed(ServerSet, Stream.succeed(ServerSetState.Bound(endpoints)))

  /** Any stream of states. */
  static readonly fromStream = (states: States): Layer.Layer<ServerSet> => Layer.succeed(ServerSet, states)

  /**
   * What a URI names. It is read when the layer is built, which fails with `InvalidUri` or `UnknownScheme` for a
   * wrong one.
   */
  static readonly fromUri = (uri: string): Layer.Layer<ServerSet, BuildError> => Layer.effect(ServerSet, resolve(uri))

  /** Makes `scheme://` known to every stack that this layer is provided to. */
  static readonly resolver = <const Scheme extends string>(
    scheme: Scheme,
    resolve: Resolver["resolve"]
  ): Layer.Layer<`Resolver/${Scheme}`> => Layer.succeed(ResolverFor(scheme), { resolve })
}

/** Turns URIs of one scheme into server sets. */
export interface Resolver {
  /** `rest` is the URI without `scheme://`. The scope is the stack's: what the stream shares may live there. */
  readonly resolve: (uri: string, rest: string) => Effect.Effect<States, BuildError, Scope.Scope>
}

const resolverPrefix = "@scales-rpc/core/Resolver/"

/** The key under which the resolver of a scheme is provided. */
export const ResolverFor = <const Scheme extends string>(
  scheme: Scheme
): Context.Service<`Resolver/${Scheme}`, Resolver> => Context.Service(`${resolverPrefix}${scheme.toLowerCase()}`)

/**
 * Reads a URI and gives the server set it names, with the resolvers that are provided and the built-in `tcp` and `unix`. Fails
 * with `InvalidUri` when it cannot be read, and with `UnknownScheme` when nothing resolves its scheme.
 */
export const resolve = (uri: string): Effect.Effect<States, BuildError, Scope.Scope> =>
  Effect.gen(function*() {
    const match = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/(.*)$/s.exec(uri)
    if (match === null) {
      return yield* new InvalidUri({ uri, what: "it has no scheme", expected: "scheme://..., such as tcp://host:port" })
    }
    const scheme = match[1]!.toLowerCase()
    const rest = match[2]!
    const provided = (yield* Effect.context<never>()).mapUnsafe
    const found: Resolver | undefined = provided.get(resolverPrefix + scheme) ?? builtIn.get(scheme)
    if (found === undefined) {
      const others = [...provided.keys()].filter((key) => key.startsWith(resolverPrefix)).map((key) =>
        key.slice(resolverPrefix.length)
      )
      const known = [...new Set([...builtIn.keys(), ...others])].toSorted()
      return yield* new UnknownScheme({ uri, scheme, known })
    }
    return yield* found.resolve(uri, rest)
  })

const tcpExpected = "tcp://host:port[,host:port...], an IPv6 address in brackets, a port from 1 to 65535"

/** Reads one `host:port`. */
const parseAddress = (uri: string, text: string): Endpoint | InvalidUri => {
  const invalid = (what: string) => new InvalidUri({ uri, what, expected: tcpExpected })
  const bracketed = text.startsWith("[")
  const end = bracketed ? text.indexOf("]") : text.lastIndexOf(":")
  if (text === "") return invalid("an address is empty")
  if (bracketed && end < 0) return invalid(`"${text}" has no closing bracket`)
  const host = bracketed ? text.slice(1, end) : end < 0 ? text : text.slice(0, end)
  const after = bracketed ? text.slice(end + 1) : end < 0 ? "" : text.slice(end)
  if (!bracketed && host.includes(":")) return invalid(`the IPv6 address in "${text}" is not in brackets`)
  if (bracketed && !isIPv6(host)) return invalid(`"${host}" is no IPv6 address`)
  if (host === "") return invalid(`"${text}" has no host`)
  if (!bracketed && !/^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?$/.test(host)) {
    return invalid(`"${host}" is no host name`)
  }
  if (!bracketed && /^[0-9.]+$/.test(host) && !isIPv4(host)) return invalid(`"${host}" is no IPv4 address`)
  if (after === "") return invalid(`"${text}" has no port`)
  const port = /^:[0-9]{1,5}$/.test(after) ? Number(after.slice(1)) : NaN
  if (!(port >= 1 && port <= 65_535)) return invalid(`"${after.replace(/^:/, "")}" is no port`)
  return Endpoint.tcp(host, port)
}

const isIPv4 = (text: string): boolean =>
  // A leading zero means octal to some readers of addresses, and decimal to others.
  /^\d{1,3}(\.\d{1,3}){3}$/.test(text) &&
  text.split(".").every((part) => Number(part) <= 255 && (part === "0" || !part.startsWith("0")))

const isIPv6 = (text: string): boolean => {
  const address = text.replace(/%[A-Za-z0-9_.-]+$/, "")
  const v4 = /(?:^|:)(\d{1,3}(?:\.\d{1,3}){3})$/.exec(address)
  if (v4 !== null && !isIPv4(v4[1]!)) return false
  const groups = v4 === null ? address : address.slice(0, -v4[1]!.length) + "0:0"
  const halves = groups.split("::")
  if (halves.length > 2) return false
  const parts = halves.flatMap((half) => half === "" ? [] : half.split(":"))
  return parts.every((part) => /^[0-9A-Fa-f]{1,4}$/.test(part)) &&
    (halves.length === 2 ? parts.length < 8 : parts.length === 8)
}

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
  }]
])
