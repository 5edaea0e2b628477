/** The server set of a directory of ZooKeeper: its members that are alive, each with its weight, as a stream of complete states. */
import { type BuildError, Endpoint, InvalidUri, ServerSetState, Stabilizer, type States } from "@scales-rpc/core"
import { wholeNumber } from "@scales-rpc/core/options"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { follow, type Snapshot } from "./internal/Directory.ts"
import { decodeMember, type Member, memberPrefix } from "./Members.ts"
import { parseServerSetUri, type ServerSetUri } from "./uri.ts"
import { decodeVector, type Vector, weightOf } from "./Vectors.ts"
import type { ServerSetOptions, ZooKeeper } from "./ZooKeeper.ts"

/** What the name of a node with weights begins with. */
const vectorPrefix = "vector_"

/** What the data of a child was read as. */
type Content =
  | { readonly _tag: "Member"; readonly member: Member }
  | { readonly _tag: "Vector"; readonly vector: Vector }

/**
 * The endpoints that the children of a directory name. Of two members at one address the newer one tells whether the endpoint is there, and its
 * weight, shard and metadata: a server that announced itself again before its old session ended, or says something new in a new node, is one
 * server. When one of them goes, the other one tells.
 */
const endpointsOf = (
  nodes: ReadonlyMap<string, Content>,
  endpointName: string | undefined
): ReadonlyArray<Endpoint> => {
  const endpoints = new Map<string, Endpoint>()
  const vectors: Array<Vector> = []
  for (const content of nodes.values()) if (content._tag === "Vector") vectors.push(content.vector)
  for (const [name, content] of [...nodes].toSorted(([a], [b]) => a < b ? -1 : 1)) {
    if (content._tag === "Vector") continue
    const { additionalEndpoints, metadata, serviceEndpoint, shard, status } = content.member
    const address = endpointName === undefined ? serviceEndpoint : additionalEndpoints.get(endpointName)
    if (address === undefined || status === undefined) continue
    const { host, port } = address
    const weight = weightOf(vectors, { member: name, host, port, shard })
    const endpoint = Endpoint.tcp(host, port, { weight, shard, metadata: { ...metadata, "zk.member": name } })
    endpoints.delete(endpoint.key)
    if (status === "ALIVE" && weight !== undefined) endpoints.set(endpoint.key, endpoint)
  }
  return [...endpoints.values()]
}

const stateOf = (snapshot: Snapshot<Content>, endpointName: string | undefined): ServerSetState => {
  switch (snapshot._tag) {
    case "Missing":
      return ServerSetState.Neg
    case "Unreadable":
      return ServerSetState.Failed(snapshot.cause)
    case "Found":
      return ServerSetState.Bound(endpointsOf(snapshot.nodes, endpointName))
  }
}

/**
 * Reads children, and tells once of each content of a node what is wrong with it. A vector with anything wrong in it changes nothing once it was
 * right: weights take servers out, and a typing error is not to bring them back. One that never was right says what its right lines say.
 */
const makeDecode = (path: string) => {
  const warned = new Map<string, Uint8Array>()
  return {
    decode: (name: string, data: Uint8Array, before: Content | undefined): Effect.Effect<Content> => {
      const read: Content = name.startsWith(memberPrefix)
        ? { _tag: "Member", member: decodeMember(data) }
        : { _tag: "Vector", vector: decodeVector(data) }
      const { faults } = read._tag === "Member" ? read.member : read.vector
      if (faults.length === 0) {
        warned.delete(name)
        return Effect.succeed(read)
      }
      const stands = before?._tag === "Vector" && before.vector.faults.length === 0
      const content = stands ? before : read
      const last = warned.get(name)
      if (last !== undefined && Buffer.compare(last, data) === 0) return Effect.succeed(content)
      warned.set(name, data)
      const told = `${path}/${name} is malformed: ${faults.join("; ")}${stands ? ": what it said before stands" : ""}`
      return Effect.as(Effect.logWarning(told), content)
    },
    /** Nothing is remembered of those that left. */
    forget: (nodes: ReadonlyMap<string, unknown>) => {
      for (const name of warned.keys()) if (!nodes.has(name)) warned.delete(name)
    }
  }
}

/** What the directory says now, and after each change: the newest state takes the place of those that nobody has taken yet. */
const unstable = (
  session: Parameters<typeof follow>[0]["session"],
  { endpointName, path }: ServerSetUri,
  reads: number
): States =>
  Stream.callback<ServerSetState>(
    (queue) => {
      const { decode, forget } = makeDecode(path)
      return Effect.andThen(
        follow<Content>({
          session,
          path,
          isWanted: (name) => name.startsWith(memberPrefix) || name.startsWith(vectorPrefix),
          isAwaited: (name) => name.startsWith(vectorPrefix),
          decode,
          reads,
          publish: (snapshot) => {
            if (snapshot._tag === "Found") forget(snapshot.nodes)
            Queue.offerUnsafe(queue, stateOf(snapshot, endpointName))
          }
        }),
        Queue.end(queue)
      )
    },
    { bufferSize: 1, strategy: "sliding" }
  )

/**
 * The server set that a `zk://` URI names, over a session of `zookeeper` that is closed with the scope. What is not given in `options` is what
 * `zookeeper` was made with. Fails with `InvalidUri`, `InvalidOption` and what getting a session fails with.
 */
export const serverSet = (
  zookeeper: ZooKeeper["Service"],
  uri: string,
  rest: string,
  options: ServerSetOptions = {}
): Effect.Effect<States, BuildError, Scope.Scope> =>
  Effect.gen(function*() {
    const parsed = parseServerSetUri(uri, rest)
    if (parsed instanceof InvalidUri) return yield* parsed
    const { serverSets } = zookeeper
    const reads = yield* wholeNumber("reads", options.reads ?? serverSets.reads, 100, 1)
    const session = yield* zookeeper.session(parsed.connect)
    return yield* Stabilizer.stabilize(unstable(session, parsed, reads), {
      removals: options.removals ?? serverSets.removals,
      empty: options.empty ?? serverSets.empty
    })
  })
