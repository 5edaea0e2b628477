/**
 * Announces an endpoint in a directory of ZooKeeper: an ephemeral sequential node `member_...` that is there while the scope is open,
 * made again when its session expires or somebody deletes it.
 */
import {
  type Announcement,
  type AnnounceOptions,
  type BuildError,
  type Endpoint,
  InvalidOption,
  InvalidUri
} from "@scales-rpc/core"
import { wholeNumber } from "@scales-rpc/core/options"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { keep } from "./internal/announcing.ts"
import { isHost, isPort } from "./internal/host.ts"
import type { Said } from "./internal/memberNodes.ts"
import { encodeMember, isStatus, maxShard } from "./Members.ts"
import { parseServerSetUri } from "./uri.ts"
import type { ZooKeeper } from "./ZooKeeper.ts"

/** Bytes of data that a server takes with its default settings (`jute.maxbuffer` 1,048,575), with room for the rest of the request. */
const maxData = 1_000_000

/** What the member's node is to say, or what is wrong with what it is made of. */
const saidOf = (endpoint: Endpoint, options: AnnounceOptions): Effect.Effect<Said, InvalidOption> =>
  Effect.gen(function*() {
    const { additionalEndpoints = {}, metadata = {}, shard, status } = options
    const invalid = (option: string, got: unknown, expected: string) => new InvalidOption({ option, got, expected })
    if (status !== undefined && (!isStatus(status) || (status as string) === "UNKNOWN")) {
      return yield* invalid("status", status, "DEAD, STARTING, ALIVE, STOPPING, STOPPED or WARNING")
    }
    yield* wholeNumber("shard", shard, 0, 0, maxShard)
    const named = Object.entries(additionalEndpoints)
      .map(([name, each]) => [`additionalEndpoints.${name}`, each] as const)
    for (const [option, { host, key, port }] of [["endpoint", endpoint] as const, ...named]) {
      // What readers would leave out again.
      if (!isHost(host) || !isPort(port)) {
        return yield* invalid(option, key, "the name or address of a host, and a port")
      }
    }
    for (const [key, value] of Object.entries(metadata)) {
      if (typeof value !== "string") return yield* invalid(`metadata.${key}`, value, "text")
    }
    const data = encodeMember(endpoint, options)
    if (data.length <= maxData) return { data, isAlive: (status ?? "ALIVE") === "ALIVE" }
    return yield* invalid("metadata", `${data.length} bytes with all else`, `at most ${maxData} bytes with all else`)
  })

/**
 * Announces an endpoint at a `zk://` URI until the scope closes: its node is there from soon after the session is connected until then, and
 * the state says so. What fails is tried again after 1 to 60 s, jittered, and at once when a connection is back. Closing deletes the node,
 * together with those of all other announcements of the scope, and waits for that for at most 2 seconds in all; what takes longer goes on
 * for as long as the session has other users, and with the last of them the session ends, and its nodes.
 *
 * `update` makes another node, under another number, and deletes the one there was once that has been seen: Finagle and Scales read a node's
 * data once. The other way round if the member was not `ALIVE` and is from now on, since Scales takes an endpoint away with the first of its
 * nodes that goes. An update of an `ALIVE` member therefore takes it away from Scales' clients, until it is announced again.
 *
 * A connection that is lost says nothing of the node, which is there until the session ends: the state stays `Announced`. After a minute without
 * one it is `Pending`, with the cause: servers with default limits have ended the session by then, if they run. It is `Announced` again when there
 * is a connection and the session has lived on, or when the node was made in the next one.
 *
 * `acl` is set on the member's node and on the directories made for it; by default anybody may do anything, as in Finagle. A directory that is
 * there is left as it is, whoever may write to it: it could be meant for others too. That goes for one that another process made and could not
 * close, which its session has logged as an error, and not for one that this announcement may have made when an answer was lost.
 *
 * Fails with `InvalidUri`, also for one that names an endpoint (`#name`: those are given as `additionalEndpoints`), `InvalidOption`, and what
 * getting a session fails with.
 */
export const announce = (
  zookeeper: ZooKeeper["Service"],
  uri: string,
  rest: string,
  endpoint: Endpoint,
  options: AnnounceOptions = {}
): Effect.Effect<Announcement, BuildError, Scope.Scope> =>
  Effect.gen(function*() {
    const parsed = parseServerSetUri(uri, rest)
    if (parsed instanceof InvalidUri) return yield* parsed
    if (parsed.endpointName !== undefined) {
      const expected = "zk://host[:port][,host[:port]...]/path, and named endpoints as `additionalEndpoints`"
      return yield* new InvalidUri({ uri, what: `it names the endpoint "${parsed.endpointName}"`, expected })
    }
    const first = yield* saidOf(endpoint, options)
    const session = yield* zookeeper.session(parsed.connect)
    const { acl } = zookeeper.serverSets
    const { announced, say, state } = yield* keep({ session, directory: parsed.path, key: endpoint.key, first, acl })
    return { announced, state, update: (changed) => Effect.flatMap(saidOf(endpoint, changed), say) }
  })
