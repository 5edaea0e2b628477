/** An in-memory ZooKeeper, for tests without a server: sessions of the same contract, over one tree, with faults at will. */
import type { InvalidOption, InvalidUri } from "@scales-rpc/core"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RcMap from "effect/RcMap"
import type { FailureTag } from "../internal/codes.ts"
import { connectKey } from "../internal/connect.ts"
import { checkServerSets } from "../internal/options.ts"
import { observe, show } from "../internal/sessionObserved.ts"
import type { WatchEvent } from "../Session.ts"
import { type ServerSetDefaults, ZooKeeper } from "../ZooKeeper.ts"
import { FakeSession, type Operation, type World } from "./FakeSession.ts"
import { Tree } from "./Tree.ts"

export type { FailureTag } from "../internal/codes.ts"
export type { Operation } from "./FakeSession.ts"

/** What is asked of a fault. */
export interface FaultOptions {
  /** Only an operation on this path. Default: any. */
  readonly path?: string | undefined
  /** The operation is done, and only its answer is lost. Default false: it is not done. */
  readonly applied?: boolean | undefined
}

/** Plain functions, which take effect on the spot. Where a `connect` can be named, it means the session of those servers alone, otherwise all. */
export interface FakeZooKeeperShape {
  /** Makes a node, and the parents it needs, or rewrites it, as some other client would. Default: no data. */
  readonly put: (path: string, data?: string | Uint8Array) => void
  /** Deletes a node and all below it, if it is there, as some other client would. */
  readonly remove: (path: string) => void
  /** The data of a node as text, or `undefined`. */
  readonly read: (path: string) => string | undefined
  /** The names of its children, in order; none when there is no such node. */
  readonly list: (path: string) => ReadonlyArray<string>
  /** The connection breaks, and none can be made: operations under way fail with `ConnectionLoss`, later ones wait. */
  readonly disconnect: (connect?: string) => void
  /** Connections can be made again, and are. */
  readonly reconnect: (connect?: string) => void
  /** The servers end the session: its ephemeral nodes go. A connected client hears of it and gets a new one; a disconnected one when it is connected again. */
  readonly expire: (connect?: string) => void
  /** How long each answer takes from now on, by the `Clock`. At first none. */
  readonly slow: (latency: Duration.Input) => void
  /** The next such operation, of any session, fails. Faults that are named several times happen one after the other. */
  readonly failNext: (operation: Operation, failure: FailureTag, options?: FaultOptions) => void
  /** How many such operations reached the servers, on this path or on any. */
  readonly count: (operation: Operation, path?: string) => number
  /** How many watches the servers hold that somebody waits for: one for each session, node and kind. */
  readonly watches: () => number
  /** The ids of the sessions that are open. */
  readonly sessions: () => ReadonlyArray<string>
}

interface Fault extends FaultOptions {
  readonly operation: Operation
  readonly failure: FailureTag
}

const bytes = (data: string | Uint8Array): Uint8Array =>
  typeof data === "string" ? new TextEncoder().encode(data) : data

/** The controls of an in-memory ZooKeeper. Its layer provides it as the `ZooKeeper` whose sessions server sets and announcements use. */
export class FakeZooKeeper extends Context.Service<FakeZooKeeper, FakeZooKeeperShape>()(
  "@scales-rpc/zookeeper/testing/FakeZooKeeper"
) {
  /** One empty tree. All servers of all connect strings show it. Fails with `InvalidOption`. */
  static readonly layer = (options: ServerSetDefaults = {}): Layer.Layer<FakeZooKeeper | ZooKeeper, InvalidOption> =>
    Layer.effectContext(Effect.gen(function*() {
      yield* checkServerSets(options)
      const clock = yield* Clock.Clock
      const down = new Set<string>()
      let allDown = false
      let latency = 0
      let ids = 0
      const faults: Array<Fault> = []
      const counts = new Map<string, number>()
      const sessions = new Set<FakeSession>()

      const changed = (event: WatchEvent, path: string) => {
        for (const session of [...sessions]) session.changed(event, path)
      }
      const tree = new Tree(() => clock.currentTimeMillisUnsafe(), changed)
      const counted = (operation: Operation, path: string | undefined) =>
        path === undefined ? operation : `${operation} ${path}`

      const world: World = {
        tree,
        clock,
        latency: () => latency,
        reachable: (key) => !allDown && !down.has(key),
        newId: () => (0x1_0000_0000_0000 + ++ids).toString(16),
        arrived: (operation, path) => {
          for (const key of [counted(operation, undefined), counted(operation, path)]) {
            counts.set(key, (counts.get(key) ?? 0) + 1)
          }
          const index = faults.findIndex((fault) =>
            fault.operation === operation && (fault.path === undefined || fault.path === path)
          )
          return index < 0 ? undefined : faults.splice(index, 1)[0]
        }
      }

      const open = yield* RcMap.make({
        lookup: (key: string) =>
          Effect.gen(function*() {
            const observed = yield* observe(key)
            const session = yield* Effect.acquireRelease(
              Effect.sync(() => {
                const made = new FakeSession(key, world, observed)
                sessions.add(made)
                return made
              }),
              (made) =>
                Effect.sync(() => {
                  sessions.delete(made)
                  made.close()
                })
            )
            yield* Effect.forkScoped(session.run)
            yield* show(session, observed, session.parts)
            return session
          })
      })

      const some = (connect: string | undefined): ReadonlyArray<FakeSession> => {
        if (connect === undefined) return [...sessions]
        const key = connectKey(connect)
        return [...sessions].filter((session) => session.connect === key)
      }
      const keyOf = (connect: string): string => {
        const key = connectKey(connect)
        if (typeof key !== "string") throw key
        return key
      }

      const shape: FakeZooKeeperShape = {
        put: (path, data = "") => {
          const parts = path.split("/").slice(1)
          parts.forEach((_, index) => {
            const part = `/${parts.slice(0, index + 1).join("/")}`
            if (tree.exists(part) === undefined) {
              tree.create(part, index === parts.length - 1 ? bytes(data) : new Uint8Array(), "persistent", undefined)
            } else if (index === parts.length - 1) tree.set(part, bytes(data))
          })
        },
        remove: (path) => {
          const below = (at: string): void => {
            for (const child of shape.list(at)) below(`${at}/${child}`)
            tree.delete(at)
          }
          if (tree.exists(path) !== undefined) below(path)
        },
        read: (path) => tree.exists(path) === undefined ? undefined : new TextDecoder().decode(tree.get(path).data),
        list: (path) => tree.exists(path) === undefined ? [] : tree.children(path).children.toSorted(),
        disconnect: (connect) => {
          if (connect === undefined) allDown = true
          else down.add(keyOf(connect))
          for (const session of some(connect)) session.disconnect()
        },
        reconnect: (connect) => {
          if (connect === undefined) {
            allDown = false
            down.clear()
          } else down.delete(keyOf(connect))
          for (const session of some(connect)) session.reconnect()
        },
        expire: (connect) => {
          for (const session of some(connect)) session.expire()
        },
        slow: (input) => {
          latency = Duration.toMillis(Duration.fromInputUnsafe(input))
        },
        failNext: (operation, failure, fault = {}) => {
          faults.push({ ...fault, operation, failure })
        },
        count: (operation, path) => counts.get(counted(operation, path)) ?? 0,
        watches: () => [...sessions].reduce((sum, session) => sum + session.serverWatches, 0),
        sessions: () => [...sessions].flatMap((session) => session.status().id ?? [])
      }

      return Context.make(FakeZooKeeper, FakeZooKeeper.of(shape)).pipe(
        Context.add(
          ZooKeeper,
          ZooKeeper.of({
            session: (connect) => {
              const key: string | InvalidUri = connectKey(connect)
              return typeof key === "string" ? RcMap.get(open, key) : Effect.fail(key)
            },
            serverSets: options
          })
        )
      )
    }))
}
