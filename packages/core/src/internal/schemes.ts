/** Finds what implements a URI's scheme: what is provided, what is built in, or what a package of ours brings when it is installed. */
import * as Effect from "effect/Effect"
import { type BuildError, InvalidUri, ResolverFailed, UnknownScheme } from "../RpcError.ts"

/** Before the scheme in the key of a resolver. */
export const resolverPrefix = "@scales-rpc/core/Resolver/"

/** Before the scheme in the key of an announcer. */
export const announcerPrefix = "@scales-rpc/core/Announcer/"

/**
 * Packages that implement a scheme and are loaded when a URI asks for it, so that whoever does not use them neither installs nor loads
 * them. Each exports what implements the scheme under the scheme's name.
 */
const packages: ReadonlyMap<string, string> = new Map([["zk", "@scales-rpc/zookeeper"]])

/** Node's code of a module that is not there; whether it is the package itself or one that it needs, its message says. */
const notFound = (cause: unknown, name: string): boolean =>
  cause instanceof Error && "code" in cause && cause.code === "ERR_MODULE_NOT_FOUND" &&
  cause.message.includes(`'${name}'`)

const load = <A>(uri: string, scheme: string, name: string): Effect.Effect<A, ResolverFailed> => {
  const failed = (problem: string, cause: unknown) =>
    new ResolverFailed({ uri, what: `${scheme}:// needs the package ${name}, which ${problem}`, cause })
  return Effect.flatMap(
    Effect.tryPromise({
      try: (): Promise<Record<string, unknown>> => import(/* @vite-ignore */ name),
      catch: (cause) =>
        notFound(cause, name)
          ? failed(`is not installed: npm install ${name}`, cause)
          : failed("could not be loaded", cause)
    }),
    (module) =>
      module[scheme] === undefined
        ? Effect.fail(failed(`does not implement it: it must be of the same version as @scales-rpc/core`, undefined))
        : Effect.succeed(module[scheme] as A)
  )
}

/** What implements the scheme of a URI, and the URI without `scheme://`. */
export const implementation = <A>(
  uri: string,
  prefix: string,
  builtIn: ReadonlyMap<string, A>
): Effect.Effect<{ readonly found: A; readonly rest: string }, BuildError> =>
  Effect.gen(function*() {
    const match = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/(.*)$/s.exec(uri)
    if (match === null) {
      return yield* new InvalidUri({ uri, what: "it has no scheme", expected: "scheme://..., such as tcp://host:port" })
    }
    const scheme = match[1]!.toLowerCase()
    const rest = match[2]!
    const provided = (yield* Effect.context<never>()).mapUnsafe
    const found: A | undefined = provided.get(prefix + scheme) ?? builtIn.get(scheme)
    if (found !== undefined) return { found, rest }
    const name = packages.get(scheme)
    if (name !== undefined) return { found: yield* load<A>(uri, scheme, name), rest }
    const others = [...provided.keys()].filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length))
    const known = [...new Set([...builtIn.keys(), ...packages.keys(), ...others])].toSorted()
    return yield* new UnknownScheme({ uri, scheme, known })
  })
