/** The server set of a directory of ZooKeeper: its members that are alive, each with its weight, as a stream of complete states. */
import {
  type BuildError,
  Describe,
  Endpoint,
  InvalidUri,
  Metrics,
  type OptionInForce,
  ServerSetState,
  Stabilizer,
  Stack,
  type States
} from "@scales-rpc/core"
import { wholeNumber } from "@scales-rpc/core/options"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { follow, type Snapshot } from "./internal/Directory.ts"
import { ServerSetView } from "./internal/ServerSetView.ts"
import { observerOf, optionsOf, snapshotOf } from "./internal/sessionObserved.ts"
import { decodeMember, type Member, memberPrefix } from "./Members.ts"
import type { Session } from "./Session.ts"
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
const makeDecode = (path: string, view: ServerSetView) => {
  const warned = new Map<string, Uint8Array>()
  return {
    decode: (name: string, data: Uint8Array, before: Content | undefined): Content => {
      const read: Content = name.startsWith(memberPrefix)
        ? { _tag: "Member", member: decodeMember(data) }
        : { _tag: "Vector", vector: decodeVector(data) }
      const { faults } = read._tag === "Member" ? read.member : read.vector
      if (faults.length === 0) {
        warned.delete(name)
        return read
      }
      const stands = before?._tag === "Vector" && before.vector.faults.length === 0
      const content = stands ? before : read
      const last = warned.get(name)
      if (last !== undefined && Buffer.compare(last, data) === 0) return content
      warned.set(name, data)
      view.log("warning", "server set has a malformed node", {
        node: `${path}/${name}`,
        faults: faults.join("; "),
        ...(stands ? { stands: "what it said before" } : {})
      })
      return content
    },
    /** Nothing is remembered of those that left. The result: how many there are. */
    malformed: (nodes: ReadonlyMap<string, unknown>): number => {
      for (const name of warned.keys()) if (!nodes.has(name)) warned.delete(name)
      return warned.size
    }
  }
}

/** Whether a read has ended with it: then that was told of what was read. */
const isZooKeeperError = (cause: unknown): boolean =>
  typeof cause === "object" && cause !== null && "operation" in cause && "code" in cause

/** What the directory says now, and after each change: the newest state takes the place of those that nobody has taken yet. */
const unstable = (
  session: Session,
  { endpointName, path }: ServerSetUri,
  reads: number,
  view: ServerSetView
): States =>
  Stream.callback<ServerSetState>(
    (queue) => {
      const { decode, malformed } = makeDecode(path, view)
      return Effect.andThen(
        follow<Content>({
          session,
          path,
          isWanted: (name) => name.startsWith(memberPrefix) || name.startsWith(vectorPrefix),
          isAwaited: (name) => name.startsWith(vectorPrefix),
          decode,
          reads,
          unreadable: (node, error) =>
            view.log("warning", "a ZooKeeper node cannot be read, and is tried again", { node, cause: error.message }),
          publish: (snapshot) => {
            const nodes: ReadonlyMap<string, Content> = snapshot._tag === "Found" ? snapshot.nodes : new Map()
            const state = stateOf(snapshot, endpointName)
            let vectors = 0
            for (const { _tag } of nodes.values()) if (_tag === "Vector") vectors++
            const told = snapshot._tag === "Unreadable" && isZooKeeperError(snapshot.cause)
            view.read({ state, vectors, malformed: malformed(nodes), told })
            Queue.offerUnsafe(queue, state)
          }
        }),
        Queue.end(queue)
      )
    },
    { bufferSize: 1, strategy: "sliding" }
  )

/** What looks at the server set while the scope is open: the client that it is for, or else its session. */
const observed = (
  session: Session,
  { connect, endpointName, path }: ServerSetUri,
  options: Readonly<Record<string, OptionInForce>>
): Effect.Effect<ServerSetView, never, Scope.Scope> =>
  Effect.gen(function*() {
    const ofSession = yield* observerOf(session)
    const stack = Option.getOrUndefined(yield* Effect.serviceOption(Stack))
    const named = endpointName === undefined ? path : `${path}#${endpointName}`
    const view = new ServerSetView(stack ?? ofSession, ofSession.now, { connect, path: named })
    yield* Metrics.show(stack ?? ofSession, ...view.series(named))
    if (stack !== undefined) {
      yield* stack.register({
        role: "zookeeper",
        description: "reads the server set from a directory of ZooKeeper",
        options: { ...options, ...optionsOf(session) },
        snapshot: () => ({ path: named, ...view.snapshot, session: snapshotOf(session) })
      })
    }
    return view
  })

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
    const given = options.reads ?? serverSets.reads
    const reads = yield* wholeNumber("reads", given, 100, 1)
    const session = yield* zookeeper.session(parsed.connect)
    const view = yield* observed(session, parsed, Describe.given({ reads: given }, { reads }))
    return yield* Stabilizer.stabilize(unstable(session, parsed, reads, view), {
      removals: options.removals ?? serverSets.removals,
      empty: options.empty ?? serverSets.empty
    })
  })
