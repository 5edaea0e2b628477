/** Announces a server in server sets for as long as it takes requests: from when it listens until its drain begins. */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Os from "node:os"
import { announce, type Announcement, type AnnounceOptions } from "./Announce.ts"
import type { Endpoint } from "./Endpoint.ts"
import { parseAddress } from "./internal/address.ts"
import { addressOf } from "./Listen.ts"
import { type BuildError, InvalidOption } from "./RpcError.ts"

/** Where a server announces itself, and what it says of itself there. */
export interface ServerAnnounceOptions extends AnnounceOptions {
  /** The server set: `zk://zk1:2181,zk2:2181/path`, or that of an announcer of one's own. */
  readonly uri: string
  /**
   * The name or address by which clients reach this machine. Default: the address that is listened on; if that stands for every interface,
   * such as 0.0.0.0, the machine's host name.
   */
  readonly host?: string | undefined
}

/** A server's announcement in one server set. */
export interface ServerAnnouncement extends Announcement {
  /** The server set. */
  readonly uri: string
  /** What it tells of: `host` and the port that is listened on. */
  readonly endpoint: Endpoint
}

/** Addresses that stand for every interface of a machine, as Node writes them. */
const wildcards: ReadonlySet<string> = new Set(["0.0.0.0", "::", "::ffff:0.0.0.0"])

const endpointOf = (
  uri: string,
  given: string | undefined,
  listening: { readonly host: string; readonly port: number }
): Endpoint | InvalidOption => {
  const host = given ?? (wildcards.has(listening.host) ? Os.hostname() : listening.host)
  const endpoint = parseAddress(uri, addressOf(host, listening.port))
  if (!wildcards.has(host) && "key" in endpoint) return endpoint
  const expected = "a name or an address by which clients reach this machine, an IPv6 address without brackets"
  return new InvalidOption({ option: "announce.host", got: host, expected })
}

/**
 * Announces a server that listens at `address`, in one server set or several. When the scope closes it leaves all of them at once, so
 * acquire this after the server's drain. Fails with `InvalidOption` for a Unix socket, which nobody else can reach, and for a host that
 * is none; else as `ServerSet.announce`.
 */
export const announceServer = (
  options: ServerAnnounceOptions | ReadonlyArray<ServerAnnounceOptions> | undefined,
  address: { readonly host: string; readonly port: number; readonly path: string | undefined }
): Effect.Effect<ReadonlyArray<ServerAnnouncement>, BuildError, Scope.Scope> =>
  Effect.gen(function*() {
    const wanted = options === undefined ? [] : "uri" in options ? [options] : options
    if (wanted.length === 0) return []
    if (address.path !== undefined) {
      const expected = "none for a server on a Unix socket: clients elsewhere cannot reach it"
      return yield* new InvalidOption({ option: "announce", got: wanted[0]!.uri, expected })
    }
    // A registry that is slow to answer holds up the others no longer than itself.
    const all = yield* Scope.fork(yield* Effect.scope, "parallel")
    return yield* Effect.forEach(wanted, ({ uri, host, ...said }) =>
      Effect.gen(function*() {
        const endpoint = endpointOf(uri, host, address)
        if (endpoint instanceof InvalidOption) return yield* endpoint
        const one = yield* Scope.provide(announce(uri, endpoint, said), yield* Scope.fork(all, "sequential"))
        return {
          uri,
          endpoint,
          announced: one.announced,
          state: () => one.state(),
          update: (options: AnnounceOptions) => one.update(options)
        }
      }))
  })
