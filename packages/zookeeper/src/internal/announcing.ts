/**
 * Keeps one endpoint in one directory: a node that says what is wanted, made again when its session expires or somebody deletes it, and
 * replaced when something else is to be said.
 */
import { type Announcement, type AnnouncementState, Metrics } from "@scales-rpc/core"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { ZooKeeperError } from "../errors.ts"
import { memberPrefix } from "../Members.ts"
import { table } from "../metricTable.ts"
import type { Acl, Session, Watcher } from "../Session.ts"
import { type Backoff, nextDelay } from "./backoff.ts"
import { leaveWithScope } from "./departures.ts"
import {
  type Attempted,
  close,
  ensure,
  find,
  isThere,
  type MemberNode,
  remove,
  type Said,
  undo
} from "./memberNodes.ts"
import { observerOf } from "./sessionObserved.ts"

/** Between attempts, in milliseconds: Finagle's 1 s to 60 s, with jitter. */
const backoff: Backoff = { first: 1000, max: 60_000 }
/** A node that was there for so long, in milliseconds, and is deleted is made again at once. */
const settled = 60_000
/**
 * How long a node is said to be there without a connection, in milliseconds. Nothing is heard of the session then, and the servers grant it no
 * longer timeout than 20 ticks, by default 60 seconds.
 */
const unheard = 60_000
/** How long a scope waits for its nodes to be deleted, in milliseconds. */
const leaveTimeout = 2000

/** What is to be kept where. */
export interface Announcing {
  /** It lives longer than the scope. */
  readonly session: Session
  readonly directory: string
  /** The endpoint's name in what is logged. */
  readonly key: string
  readonly first: Said
  readonly acl: ReadonlyArray<Acl> | undefined
}

/** An endpoint that is kept in a directory. */
export interface Kept extends Pick<Announcement, "announced" | "state"> {
  /** Says something else from now on, and waits until nothing else is said. */
  readonly say: (said: Said) => Effect.Effect<void>
}

/** The node that stands for the endpoint. */
interface Node extends MemberNode {
  readonly madeAt: number
  /** The generation in which it was seen to be there, and is watched; -1: it is to be looked at. */
  seenIn: number
  readonly watcher: Watcher
}

const nameOf = (path: string): string => path.slice(path.lastIndexOf("/") + 1)

/** Keeps it until the scope closes. */
export const keep = (
  { acl, directory, first, key, session }: Announcing
): Effect.Effect<Kept, never, Scope.Scope> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const random = yield* Random.Random
    const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    const wake = Latch.makeUnsafe(false)
    const announced = Deferred.makeUnsafe<void>()
    /** What the node is to say. */
    let wanted = first
    /** Who waits for what is not shown yet; one whose wish is overtaken by another is done with it. */
    let waiting: ReadonlyArray<Deferred.Deferred<void>> = [announced]
    let node: Node | undefined
    /** The one whose place `node` took: it is to be deleted as soon as that was seen to be there. */
    let replaced: Node | undefined
    let attempted: Attempted | undefined
    let cause: ZooKeeperError | undefined
    let retryAt = -Infinity
    /** The last delays: after a failure, and after somebody deleted the node. */
    let failureDelay = 0
    let lossDelay = 0
    /** Directories that may have been made, and not closed. */
    const perhapsOpen = new Set<string>()
    /** How often there was a connection. */
    let connections = 0
    let connected = session.status().state === "Connected"
    /** When the last one was lost. */
    let lostAt = -Infinity
    const of = { path: directory, endpoint: key }
    const observer = yield* observerOf(session)
    const failures = yield* Metrics.tally(observer, table["scales.announcement.failures"], "error", of)
    /** Nodes made, and nodes that somebody else has deleted. */
    let nodes = 0
    let losses = 0

    /** What belongs to the session, if that is not known to be over: with it, all else is. */
    const ours = <A extends { readonly owner: string | undefined }>(it: A | undefined): A | undefined =>
      it?.owner === session.status().id ? it : undefined

    const state = (): AnnouncementState => {
      const shown = ours(node)
      const isUnheard = !connected && now() - lostAt >= unheard
      return shown === undefined || isUnheard
        ? { _tag: "Pending", cause: connected ? cause : session.status().cause ?? cause }
        : { _tag: "Announced", name: nameOf(shown.path) }
    }

    const unwatch = (it: Node) => {
      session.unwatch(it.path, it.watcher)
      it.seenIn = -1
    }

    /** Another node takes the place of the one there was. */
    const made = (path: string, { owner, said }: Attempted): void => {
      const it: Node = {
        path,
        owner,
        said,
        createdZxid: undefined,
        madeAt: now(),
        seenIn: -1,
        watcher: (event) => {
          if (event === "Lost") return
          if (event === "Deleted") lost(it)
          it.seenIn = -1
          wake.openUnsafe()
        }
      }
      const before = ours(node)
      if (before !== undefined) {
        unwatch(before)
        replaced = before
      }
      node = it
      attempted = undefined
      cause = undefined
      failureDelay = 0
      nodes++
      observer.log.say("info", "announced", { endpoint: key, node: path })
    }

    const create = (after: number): Effect.Effect<void, ZooKeeperError> =>
      Effect.suspend(() => {
        const { id: owner, state } = session.status()
        // One that waits for a connection could be made in another session than this one.
        if (state !== "Connected") return Effect.void
        const attempt = { owner, said: wanted, after }
        attempted = attempt
        return Effect.map(
          session.create(`${directory}/${memberPrefix}`, attempt.said.data, { mode: "ephemeralSequential", acl }),
          (path) => made(path, attempt)
        )
      })

    /** Makes the node, unless an attempt whose answer was lost made it. */
    const make = Effect.gen(function*() {
      const unanswered = ours(attempted)
      if (unanswered !== undefined) {
        const path = yield* find(session, directory, unanswered)
        if (path !== undefined) {
          // The access list is set after the node is made: that may not have come to pass.
          if (acl !== undefined) yield* session.setAcl(path, acl)
          return made(path, unanswered)
        }
      }
      attempted = undefined
      if (acl !== undefined) yield* close(session, perhapsOpen, acl)
      let stat = yield* session.exists(directory)
      if (stat === undefined) {
        yield* ensure(session, directory, acl, perhapsOpen)
        stat = yield* session.exists(directory)
      }
      yield* create(stat?.childrenZxid ?? 0)
    })

    /** Looks whether the node is there, and watches it. */
    const look = (it: Node): Effect.Effect<void, ZooKeeperError> =>
      Effect.suspend(() => {
        const { generation } = session.status()
        return Effect.map(isThere(session, it, it.watcher), (there) => {
          if (there) it.seenIn = generation
          else lost(it)
        })
      })

    /** Somebody has deleted it. Once that is undone at once; whoever does it again is not fought with all our might. */
    const lost = (it: Node) => {
      unwatch(it)
      if (node !== it) return
      node = undefined
      losses++
      observer.log.say("warning", "an announcement was deleted by somebody else, and is made again", {
        endpoint: key,
        node: it.path
      })
      if (now() - it.madeAt >= settled) lossDelay = 0
      retryAt = now() + lossDelay
      lossDelay = nextDelay(lossDelay, backoff, random.nextDoubleUnsafe())
    }

    const withdraw = (it: Node): Effect.Effect<void, ZooKeeperError> =>
      Effect.suspend(() => {
        unwatch(it)
        return Effect.map(remove(session, it), () => {
          if (node === it) node = undefined
          if (replaced === it) replaced = undefined
        })
      })

    /** One step nearer to what is wanted; `undefined`: there is nothing to do. */
    const step = (at: number): Effect.Effect<void, ZooKeeperError> | undefined => {
      const { generation, state } = session.status()
      if (state !== "Connected" || retryAt > at) return undefined
      const it = ours(node)
      if (it === undefined) return make
      if (it.seenIn !== generation) return look(it)
      const before = ours(replaced)
      if (before !== undefined) return withdraw(before)
      if (it.said === wanted) return undefined
      // Clients that read a node once see only another one, and a member that is called is there all the time. One that was not called loses
      // nothing, and Scales for Python would take the endpoint away with the older of its two nodes.
      return wanted.isAlive && !it.said.isAlive ? withdraw(it) : make
    }

    /** Whoever waits for what is shown now is told. */
    const tell = Effect.suspend(() => {
      const it = ours(node)
      if (it?.said !== wanted || it.seenIn === -1 || ours(replaced) !== undefined) return Effect.void
      const told = waiting
      waiting = []
      return Effect.forEach(told, (each) => Deferred.succeed(each, undefined), { discard: true })
    })

    /** `during`: the connection that it was tried over. If that is not the one there is now, it is tried again without delay. */
    const failed = (error: ZooKeeperError, during: number): Effect.Effect<void> =>
      Effect.sync(() => {
        const isNew = cause?._tag !== error._tag
        cause = error
        failures.count(error._tag)
        if (during !== connections || !connected) return
        failureDelay = nextDelay(failureDelay, backoff, random.nextDoubleUnsafe())
        retryAt = now() + failureDelay
        if (isNew) {
          observer.log.say("warning", "cannot be announced, and is tried again", { ...of, cause: error.message })
        }
      })

    yield* Effect.acquireRelease(
      Effect.sync(() =>
        session.subscribe((status) => {
          const isConnected = status.state === "Connected"
          if (connected && !isConnected) lostAt = now()
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
        yield* tell
        const at = now()
        const next = step(at)
        if (next !== undefined) {
          const during = connections
          yield* Effect.matchEffect(next, {
            // With a connection its requests end, and only then is it said that it has.
            onFailure: (error) => Effect.andThen(Effect.yieldNow, failed(error, during)),
            onSuccess: () => Effect.void
          })
          continue
        }
        const wait = Math.ceil(retryAt - at)
        yield* wait > 0 && connected ? Effect.timeoutOption(wake.await, wait) : wake.await
      }
    })

    const leaving = (operation: Effect.Effect<void, ZooKeeperError>): Effect.Effect<void> =>
      operation.pipe(
        Effect.retry({ times: 5, while: ({ _tag }) => _tag === "ConnectionLoss" || _tag === "OperationTimeout" }),
        Effect.catchTag(["SessionClosed", "SessionExpired"], () => Effect.void),
        Effect.catch((error) =>
          Effect.sync(() =>
            observer.log.say("warning", "stays announced while the session lives", { ...of, cause: error.message })
          )
        )
      )

    yield* Metrics.show(
      observer,
      Metrics.value(table["scales.announcement.announced"], () => state()._tag === "Announced" ? 1 : 0, of),
      Metrics.value(table["scales.announcement.reannouncements"], () => Math.max(0, nodes - 1), of),
      Metrics.value(table["scales.announcement.losses"], () => losses, of)
    )
    const fiber = yield* Effect.forkDetach(run, { startImmediately: true })
    /** Deletes every node, wherever an attempt under way has got to. */
    const leave = Effect.gen(function*() {
      yield* Fiber.interrupt(fiber)
      yield* Effect.forEach(waiting, Deferred.interrupt, { discard: true })
      const operations: Array<Effect.Effect<void, ZooKeeperError>> = []
      for (const it of [node, replaced]) {
        if (it !== undefined) unwatch(it)
        if (ours(it) === undefined) continue
        const withdrawn = Effect.sync(() =>
          observer.log.say("info", "not announced any more", { endpoint: key, node: it!.path })
        )
        operations.push(Effect.tap(remove(session, it!), () => withdrawn))
      }
      const unanswered = ours(attempted)
      if (unanswered !== undefined) operations.push(undo(session, directory, unanswered))
      yield* Effect.forEach(operations, leaving, { concurrency: "unbounded", discard: true })
    })
    yield* leaveWithScope(leave, leaveTimeout)

    return {
      announced: Deferred.await(announced),
      state,
      say: (said) =>
        Effect.suspend(() => {
          const done = Deferred.makeUnsafe<void>()
          // What is said already needs no other node.
          if (Buffer.compare(said.data, wanted.data) !== 0) wanted = said
          waiting = [...waiting, done]
          wake.openUnsafe()
          return Deferred.await(done)
        })
    }
  })
