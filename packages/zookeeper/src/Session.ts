/** The contract of a session with ZooKeeper: operations, watches and states. What implements it renews itself when it expires. */
import type * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type * as Stream from "effect/Stream"
import type { ZooKeeperError } from "./errors.ts"

/**
 * Where a session stands. `Connecting`: its first connection is being made. `Connected`. `Disconnected`: the connection was
 * lost, and the session lives on at the servers until its timeout. `Expired`: the servers have ended it, and a new one is being made.
 * `AuthFailed`: credentials were refused; without those that were just shown it goes on soon, with those it was made with it is tried again
 * after pauses of about 30 seconds. `Closed`: its scope is.
 */
export type SessionState = "Connecting" | "Connected" | "Disconnected" | "Expired" | "AuthFailed" | "Closed"

/** What is known of a session. */
export interface SessionStatus {
  readonly state: SessionState
  /** The id that the servers gave it, in hex: ephemeral nodes of another id are not its own. `undefined` while there is none. */
  readonly id: string | undefined
  /**
   * Grows with each `Connected` at which no watch that was set before can still fire: whoever watches reads everything again. 0 before
   * the first connection. A reconnect within one session keeps its watches, and this number.
   */
  readonly generation: number
  /** Why it is not connected, when that is known. */
  readonly cause: unknown
}

/** Facts of a node. Times are milliseconds since the epoch; `owner` is the id of the session whose ephemeral node it is. */
export interface Stat {
  readonly version: number
  readonly childrenVersion: number
  readonly aclVersion: number
  readonly created: number
  readonly modified: number
  readonly createdZxid: number
  readonly modifiedZxid: number
  readonly childrenZxid: number
  readonly dataLength: number
  readonly childCount: number
  readonly owner: string | undefined
}

/** What happened to a node. `Lost`: the watch can never fire, its session is over. */
export type WatchEvent = "Created" | "Deleted" | "DataChanged" | "ChildrenChanged" | "Lost"

/**
 * Called once, with what happened first, also when it was set several times on a node. It may be called before whoever set the watch has seen the result of the read, never before the read was
 * done. What it throws is logged.
 */
export type Watcher = (event: WatchEvent) => void

/** Who may do what: of `permissions`, letters of `rwcda` (read, write, create, delete, administer). */
export interface Acl {
  readonly scheme: string
  readonly id: string
  readonly permissions: string
}

/** What kind of node is made. */
export type CreateMode = "persistent" | "ephemeral" | "persistentSequential" | "ephemeralSequential"

/**
 * A session. An operation waits until it is connected, and is then sent once: what breaks it is its caller's to repeat. Interrupting it leaves
 * it, and does not undo it.
 */
export interface Session {
  /** The servers, as they were given. */
  readonly connect: string
  readonly status: () => SessionStatus
  /** What it is, then each change. It ends when the session is closed. */
  readonly states: Stream.Stream<SessionStatus>
  /** Calls `f` after each change; the result ends that. What it throws is logged. */
  readonly subscribe: (f: (status: SessionStatus) => void) => () => void
  /** How many watches somebody waits for: one for each node whose data are watched, and one for each whose children are. */
  readonly watches: () => number
  /**
   * Takes a watcher off a node, however it was set: it hears of it no more. The servers keep the watch until it fires, when nobody else hears
   * of it, and one that is set again meanwhile is the same one to them.
   */
  readonly unwatch: (path: string, watcher: Watcher) => void
  /** The watcher hears of `DataChanged` and `Deleted`. A `get` that fails sets no watch. */
  readonly get: (
    path: string,
    watcher?: Watcher
  ) => Effect.Effect<{ readonly data: Uint8Array; readonly stat: Stat }, ZooKeeperError>
  /** Names, without the path, in no order. The watcher hears of `ChildrenChanged` and `Deleted`. A read that fails sets no watch. */
  readonly children: (
    path: string,
    watcher?: Watcher
  ) => Effect.Effect<{ readonly children: ReadonlyArray<string>; readonly stat: Stat }, ZooKeeperError>
  /** `undefined`: there is none, and the watcher hears of `Created`; otherwise of `DataChanged` and `Deleted`. */
  readonly exists: (path: string, watcher?: Watcher) => Effect.Effect<Stat | undefined, ZooKeeperError>
  /**
   * The path that was made: of a sequential node, with its number. Default: persistent, and anybody may do anything. With an access list of
   * its own the node is open to anybody for a moment, until the list is set: the native client makes no other. If that fails, or is interrupted,
   * the node is deleted, as soon as there is a connection. If there is none within the session's timeout, or before the session is closed, the node
   * stays as it is, which is logged as an error. Of a `create` without an answer (`ConnectionLoss`, `OperationTimeout`, `SessionClosed`)
   * nobody knows whether it has made a node, which is open then: whoever repeats it looks for that.
   */
  readonly create: (
    path: string,
    data: Uint8Array,
    options?: { readonly mode?: CreateMode | undefined; readonly acl?: ReadonlyArray<Acl> | undefined }
  ) => Effect.Effect<string, ZooKeeperError>
  /** `version`: only if the node is at it. */
  readonly set: (path: string, data: Uint8Array, version?: number) => Effect.Effect<Stat, ZooKeeperError>
  /** `version`: only if the node is at it. */
  readonly delete: (path: string, version?: number) => Effect.Effect<void, ZooKeeperError>
  /** Reads who may do what. The native session asks over a connection, and in a session, of its own. */
  readonly acl: (
    path: string
  ) => Effect.Effect<{ readonly acl: ReadonlyArray<Acl>; readonly stat: Stat }, ZooKeeperError>
  readonly setAcl: (path: string, acl: ReadonlyArray<Acl>, version?: number) => Effect.Effect<void, ZooKeeperError>
  /**
   * Shows credentials, now and again in every session that takes this one's place. Refused ones fail with `AuthFailed`, and cost the session its
   * connection and its watches (`Lost`), not its nodes.
   */
  readonly auth: (scheme: string, credentials: Redacted.Redacted) => Effect.Effect<void, ZooKeeperError>
  /** Waits until the server that is connected has seen what the others have. */
  readonly sync: (path: string) => Effect.Effect<void, ZooKeeperError>
}
