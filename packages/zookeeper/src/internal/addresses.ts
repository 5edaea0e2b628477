/** Where the servers of a session are now. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Dns from "node:dns"
import type { ZooKeeperHost } from "../uri.ts"

/** Where servers are, in the order they are tried. */
export type Addresses = ReadonlyArray<{ readonly address: string; readonly port: number }>

/** What finds the addresses of a name. */
export type Lookup = (host: string) => Effect.Effect<ReadonlyArray<string>, unknown>

/**
 * Asks the system. A name is asked for once at a time, and whoever asks meanwhile waits for that answer: it holds one of the few threads of the
 * process, all the while that a name server is silent, also when nobody waits for it any more.
 */
export const systemLookup = (): Lookup => {
  const underWay = new Map<string, Promise<ReadonlyArray<string>>>()
  const ask = (host: string): Promise<ReadonlyArray<string>> => {
    const asked = new Promise<ReadonlyArray<string>>((resolve, reject) => {
      Dns.lookup(host, { all: true }, (error, found) => {
        underWay.delete(host)
        if (error === null) resolve(found.map(({ address }) => address))
        else reject(error)
      })
    })
    underWay.set(host, asked)
    return asked
  }
  return (host) => Effect.tryPromise({ try: () => underWay.get(host) ?? ask(host), catch: (error) => error })
}

/** A failure's own words for what it is, which do not change from one time to the next. */
const wordOf = (failure: unknown): string => {
  const { _tag, code, name } = (failure ?? {}) as {
    readonly _tag?: unknown
    readonly code?: unknown
    readonly name?: unknown
  }
  return String(code ?? _tag ?? name ?? typeof failure)
}

/** The addresses of all servers that can be resolved now, by chance; each other is told of, with the word for why. */
export const resolveHosts = (
  hosts: ReadonlyArray<ZooKeeperHost>,
  lookup: Lookup,
  timeoutMillis: number,
  unresolved: (error: Error) => void
): Effect.Effect<Addresses> => {
  const resolved = Effect.forEach(hosts, ({ host, port }) =>
    Effect.suspend(() => lookup(host)).pipe(
      Effect.timeout(timeoutMillis),
      Effect.map((addresses) => addresses.map((address) => ({ address, port }))),
      Effect.catchCause((cause) =>
        Effect.sync(() => {
          const failure = Cause.squash(cause)
          unresolved(new Error(`${host} cannot be resolved (${wordOf(failure)})`, { cause: failure }))
          return []
        })
      )
    ), { concurrency: "unbounded" })
  return Effect.flatMap(resolved, (all) => Random.shuffle(all.flat()))
}
