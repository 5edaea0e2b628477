/**
 * Announces an endpoint in a directory of ZooKeeper: an ephemeral sequential node `member_...` that is there while the scope is open,
 * made again when its session expires or somebody deletes it.
 */
import {
  type Announcement,
  type AnnouncementState,
  type AnnounceOptions,
  type BuildError,
  Endpoint,
  InvalidOption,
  InvalidUri
} from "@scales-rpc/core"
import { wholeNumber } from "@scales-rpc/core/options"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { ZooKeeperError } from "./errors.ts"
import { type Backoff, nextDelay } from "./internal/backoff.ts"
import { encodeMember, isStatus, maxShard } from "./Members.ts"
import type { Acl, Session, Watcher } from "./Session.ts"
import { parseServerSetUri } from "./uri.ts"
import type { ZooKeeper } from "./ZooKeeper.ts"
import { memberPrefix } from "./ZooKeeperServerSet.ts"

/** Between attempts, in milliseconds: Finagle's 1 s to 60 s, with jitter. */
const backoff: Backoff = { first: 1000, max: 60_000 }
/** A node that was there for so long, in milliseconds, and is deleted is made again at once. */
const settled = 60_000
/** How long closing waits for the node to be deleted, in milliseconds. */
const leaveTimeout = 2000
/** Bytes of data that a server takes with its default settings (`jute.maxbuffer` 1,048,575), with room for the rest of the request. */
const maxData = 1_000_000

/** The data of the member's node, or what is wrong with what it is made of. */
const dataOf = (endpoint: Endpoint, options: AnnounceOptions): Effect.Effect<Uint8Array, InvalidOption> =>
  Effect.gen(function*() {
    const { additionalEndpoints = {}, metadata = {}, shard, status } = options
    const invalid = (option: string, got: unknown, expected: string) => new InvalidOption({ option, got, expected })
    if (status !== undefined && (!isStatus(status) || (status as string) === "UNKNOWN")) {
      return yield* invalid("status", status, "DEAD, STARTING, ALIVE, STOPPING, STOPPED or WARNING")
    }
    yield* wholeNumber("shard", shard, 0, 0, maxShard)
    if (Endpoint.isUnix(endpoint)) return yield* invalid("endpoint", endpoint.key, "a host and a port")
    for (const [name, each] of Object.entries(additionalEndpoints)) {
      if (Endpoint.isUnix(each)) return yield* invalid(`additionalEndpoints.${name}`, each.key, "a host and a port")
    }
    for (const [key, value] of Object.entries(metadata)) {
      if (typeof value !== "string") return yield* invalid(`metadata.${key}`, value, "text")
    }
    const data = encodeMember(endpoint, options)
    if (data.length <= maxData) return data
    return yield* invalid("metadata", `${data.length} bytes with all else`, `at most ${maxData} bytes with all else`)
  })

/** Makes a node and the parents it needs. From below: whoever may not write to the root can still announce in what is there. */
const ensure = (
  session: Session,
  path: string,
  acl: ReadonlyArray<Acl> | undefined
): Effect.Effect<void, ZooKeeperError> =>
  session.create(path, new Uint8Array(), { acl }).pipe(
    Effect.asVoid,
    Effect.catchTag("NodeExists", () => Effect.void),
    Effect.catchTag("NoNode", (error) => {
      const parent = path.slice(0, path.lastIndexOf("/"))
      return parent === ""
        ? Effect.fail(error)
        : Effect.andThen(ensure(session, parent, acl), ensure(session, path, acl))
    })
  )

/** The node that stands for the endpoint. */
interface Node {
  readonly path: string
  /** The session that it ends with. */
  readonly owner: string | undefined
  /**
   * The change that made it, by which it is told from another of its name: numbers begin anew in a directory that is made again. `undefined`: it
   * has not been looked at yet.
   */
  createdZxid: number | undefined
  /** The generation in which it was seen to be there, and is watched; -1: it is to be looked at. */
  seenIn: number
  /** The data that was last written to it. */
  data: Uint8Array
  readonly madeAt: number
}

/** A `create` whose outcome is not known. */
interface Attempted {
  readonly owner: string | undefined
  readonly data: Uint8Array
  /** The last change of the directory's children before it. */
  readonly after: number
}

const nameOf = (path: string): string => path.slice(path.lastIndexOf("/") + 1)

/** One endpoint in one directory, over a session that lives longer than the scope. */
const announceIn = (
  session: Session,
  directory: string,
  endpoint: Endpoint,
  first: Uint8Array,
  acl: ReadonlyArray<Acl> | undefined
): Effect.Effect<Announcement, never, Scope.Scope> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const random = yield* Random.Random
    const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    const wake = Latch.makeUnsafe(false)
    const announced = Deferred.makeUnsafe<void>()
    /** What the node is to say. Told apart from what it said before by identity. */
    let wanted = first
    /** Who waits for what is not shown yet; an update that is overtaken by another is done with it. */
    let waiting: ReadonlyArray<Deferred.Deferred<void>> = [announced]
    let node: Node | undefined
    let attempted: Attempted | undefined
    let cause: ZooKeeperError | undefined
    let retryAt = -Infinity
    /** The last delays: after a failure, and after somebody deleted the node. */
    let failureDelay = 0
    let lossDelay = 0
    /** How often there was a connection. */
    let connections = 0

    /** Its node, if the session that it belongs to is not known to be over. */
    const current = (): Node | undefined => node?.owner === session.status().id ? node : undefined

    const state = (): AnnouncementState => {
      const shown = current()
      return shown === undefined
        ? { _tag: "Pending", cause: cause ?? session.status().cause }
        : { _tag: "Announced", name: nameOf(shown.path) }
    }

    /** Looks for the node that an attempt made whose answer was lost. It is among the newest, unless the numbers began anew. */
    const find = ({ after, data, owner }: Attempted): Effect.Effect<string | undefined, ZooKeeperError> =>
      Effect.gen(function*() {
        const { children } = yield* session.children(directory)
        const newest = children.filter((name) => name.startsWith(memberPrefix)).toSorted().toReversed()
        for (const name of newest) {
          const path = `${directory}/${name}`
          const found = yield* Effect.catchTag(session.get(path), "NoNode", () => Effect.succeed(undefined))
          // One that was there before is that of another announcement in the same session.
          if (found === undefined || found.stat.owner !== owner || found.stat.createdZxid <= after) continue
          if (Buffer.compare(found.data, data) === 0) return path
        }
        return undefined
        // Two nodes that say the same do less harm than none, should the directory be one that we may write to and not read.
      }).pipe(Effect.catchTag(["NoNode", "NoAuth"], () => Effect.succeed(undefined)))

    /** Makes the node, unless an attempt whose answer was lost made it. */
    const make = Effect.gen(function*() {
      const { id: owner } = session.status()
      let path: string | undefined
      let data = wanted
      if (attempted !== undefined && attempted.owner === owner) {
        data = attempted.data
        path = yield* find(attempted)
        // The access list is set after the node is made: that may not have come to pass.
        if (path !== undefined && acl !== undefined) yield* session.setAcl(path, acl)
      }
      attempted = undefined
      if (path === undefined) {
        let stat = yield* session.exists(directory)
        if (stat === undefined) {
          yield* ensure(session, directory, acl)
          stat = yield* session.exists(directory)
        }
        data = wanted
        attempted = { owner, data, after: stat?.childrenZxid ?? 0 }
        path = yield* session.create(`${directory}/${memberPrefix}`, data, { mode: "ephemeralSequential", acl })
        attempted = undefined
      }
      node = { path, owner, createdZxid: undefined, seenIn: -1, data, madeAt: now() }
      cause = undefined
      failureDelay = 0
      yield* Effect.logInfo(`${endpoint.key} is announced as ${path}`)
    })

    /** Whether the node is there, and no other under its name. */
    const isThere = (it: Node, watcher?: Watcher): Effect.Effect<boolean, ZooKeeperError> => {
      const stat = session.exists(it.path, watcher)
      if (it.createdZxid !== undefined) return Effect.map(stat, (found) => found?.createdZxid === it.createdZxid)
      return session.get(it.path, watcher).pipe(
        Effect.map((found) => {
          if (found.stat.owner !== it.owner || Buffer.compare(found.data, it.data) !== 0) return false
          it.createdZxid = found.stat.createdZxid
          return true
        }),
        Effect.catchTag("NoNode", () => Effect.succeed(false)),
        // An access list that lets nobody read what we write.
        Effect.catchTag("NoAuth", () => Effect.map(stat, (found) => found?.owner === it.owner))
      )
    }

    /** Looks whether the node is there, and watches it. */
    const look = (it: Node): Effect.Effect<void, ZooKeeperError> =>
      Effect.suspend(() => {
        const { generation } = session.status()
        const watcher: Watcher = (event) => {
          if (event === "Lost") return
          if (event === "Deleted") lost(it)
          it.seenIn = -1
          wake.openUnsafe()
        }
        return Effect.map(isThere(it, watcher), (there) => {
          if (there) it.seenIn = generation
          else lost(it)
        })
      })

    /** Somebody has deleted it. Once that is undone at once; whoever does it again is not fought with all our might. */
    const lost = (it: Node) => {
      if (node !== it) return
      node = undefined
      if (now() - it.madeAt >= settled) lossDelay = 0
      retryAt = now() + lossDelay
      lossDelay = nextDelay(lossDelay, backoff, random.nextDoubleUnsafe())
    }

    const write = (it: Node, data: Uint8Array): Effect.Effect<void, ZooKeeperError> =>
      session.set(it.path, data).pipe(
        Effect.map(() => {
          it.data = data
        }),
        Effect.catchTag("NoNode", () => Effect.sync(() => lost(it)))
      )

    /** One step nearer to what is wanted; `undefined`: there is nothing to do. */
    const step = (at: number): Effect.Effect<void, ZooKeeperError> | undefined => {
      const { generation, state } = session.status()
      if (state !== "Connected" || retryAt > at) return undefined
      const it = current()
      if (it === undefined) return make
      // First of all it is made sure that what is written to is ours.
      if (it.seenIn !== generation) return look(it)
      return it.data === wanted ? undefined : write(it, wanted)
    }

    /** Whoever waits for what is shown now is told. */
    const tell = Effect.suspend(() => {
      const it = current()
      if (it?.data !== wanted || it.seenIn === -1) return Effect.void
      const told = waiting
      waiting = []
      return Effect.forEach(told, (each) => Deferred.succeed(each, undefined), { discard: true })
    })

    /** `during`: the connection that it was tried over. If that is not the one there is now, it is tried again without delay. */
    const failed = (error: ZooKeeperError, during: number): Effect.Effect<void> =>
      Effect.suspend(() => {
        const isNew = cause?._tag !== error._tag
        cause = error
        if (during !== connections || !connected) return Effect.void
        failureDelay = nextDelay(failureDelay, backoff, random.nextDoubleUnsafe())
        retryAt = now() + failureDelay
        return isNew
          ? Effect.logWarning(`${endpoint.key} cannot be announced in ${directory}, which is tried again`, error)
          : Effect.void
      })

    let connected = session.status().state === "Connected"
    yield* Effect.acquireRelease(
      Effect.sync(() =>
        session.subscribe((status) => {
          const isConnected = status.state === "Connected"
          if (isConnected && !connected) {
            connections++
            retryAt = -Infinity
          }
          connected = isConnected
          wake.openUnsafe()
        })
      ),
      (off) => Effect.sync(off)
    )

    const run = Effect.gen(function*() {
      while (true) {
        wake.closeUnsafe()
        if (session.status().state === "Closed") return
        const at = now()
        const next = step(at)
        if (next !== undefined) {
          const during = connections
          yield* Effect.matchEffect(next, {
            // With a connection its requests end, and only then is it said that it has.
            onFailure: (error) => Effect.andThen(Effect.yieldNow, failed(error, during)),
            onSuccess: () => tell
          })
          continue
        }
        const wait = Math.ceil(retryAt - at)
        yield* wait > 0 && connected ? Effect.timeoutOption(wake.await, wait) : wake.await
      }
    })

    /** Deletes the node, wherever an attempt under way has got to. */
    const leave = Effect.gen(function*() {
      const it = current()
      if (it !== undefined) {
        // Its name may be another's by now.
        if (yield* isThere(it)) yield* session.delete(it.path)
      } else if (attempted !== undefined && attempted.owner === session.status().id) {
        const path = yield* find(attempted)
        if (path !== undefined) yield* session.delete(path)
      }
    }).pipe(
      Effect.retry({ times: 5, while: ({ _tag }) => _tag === "ConnectionLoss" || _tag === "OperationTimeout" }),
      Effect.catchTag(["NoNode", "SessionClosed", "SessionExpired"], () => Effect.void),
      Effect.catch((error) => Effect.logWarning(`${endpoint.key} stays in ${directory} while its session lives`, error))
    )

    const fiber = yield* Effect.forkDetach(run, { startImmediately: true })
    yield* Effect.addFinalizer(() =>
      Effect.gen(function*() {
        yield* Fiber.interrupt(fiber)
        yield* Effect.forEach(waiting, Deferred.interrupt, { discard: true })
        // It goes on by itself when that takes longer: the session may have other users, and would keep the node.
        const leaving = yield* Effect.forkDetach(leave, { startImmediately: true })
        yield* Effect.timeoutOption(Effect.interruptible(Fiber.await(leaving)), leaveTimeout)
      })
    )

    return {
      announced: Deferred.await(announced),
      state,
      update: (options) =>
        Effect.flatMap(dataOf(endpoint, options), (data) => {
          const done = Deferred.makeUnsafe<void>()
          wanted = data
          waiting = [...waiting, done]
          wake.openUnsafe()
          return Deferred.await(done)
        })
    }
  })

/**
 * Announces an endpoint at a `zk://` URI until the scope closes: its node is there from soon after the session is connected until then, and
 * the state says so. What fails is tried again after 1 to 60 s, jittered, and at once when a connection is back. Closing deletes the node
 * and waits for that for at most 2 seconds; what takes longer goes on for as long as the session has other users, and with the last of
 * them the session ends, and its nodes. `acl` is set on the member's node and on the directories made for it; by default anybody
 * may do anything, as in Finagle.
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
    const data = yield* dataOf(endpoint, options)
    const session = yield* zookeeper.session(parsed.connect)
    return yield* announceIn(session, parsed.path, endpoint, data, zookeeper.serverSets.acl)
  })
