/** The nodes of members in a directory: made with its parents, found when the answer was lost, told from others of the same name, deleted. */
import * as Effect from "effect/Effect"
import type { ZooKeeperError } from "../errors.ts"
import { memberPrefix } from "../Members.ts"
import type { Acl, Session, Watcher } from "../Session.ts"

/** What a node says. Told apart from what another says by identity. */
export interface Said {
  readonly data: Uint8Array
  /** Whether it says that the member is to be called. */
  readonly isAlive: boolean
}

/** A node that was made. */
export interface MemberNode {
  readonly path: string
  /** The session that it ends with. */
  readonly owner: string | undefined
  readonly said: Said
  /**
   * The change that made it, by which it is told from another of its name: numbers begin anew in a directory that is made again. `undefined`: it
   * has not been looked at yet.
   */
  createdZxid: number | undefined
}

/** A `create` whose outcome is not known. */
export interface Attempted {
  readonly owner: string | undefined
  readonly said: Said
  /** The last change of the directory's children before it. */
  readonly after: number
}

/**
 * Makes a node and the parents it needs. From below: whoever may not write to the root can still announce in what is there. `unanswered` gets
 * those with an access list of which it is not known whether they were made: they may be there, and open to anybody.
 */
export const ensure = (
  session: Session,
  path: string,
  acl: ReadonlyArray<Acl> | undefined,
  unanswered: Set<string>
): Effect.Effect<void, ZooKeeperError> =>
  session.create(path, new Uint8Array(), { acl }).pipe(
    Effect.asVoid,
    Effect.tapError(({ _tag }) =>
      Effect.sync(() => {
        if (acl !== undefined && isUnanswered(_tag)) unanswered.add(path)
      })
    ),
    Effect.catchTag("NodeExists", () => Effect.void),
    Effect.catchTag("NoNode", (error) => {
      const parent = path.slice(0, path.lastIndexOf("/"))
      return parent === ""
        ? Effect.fail(error)
        : Effect.andThen(ensure(session, parent, acl, unanswered), ensure(session, path, acl, unanswered))
    })
  )

const isUnanswered = (tag: ZooKeeperError["_tag"]): boolean =>
  tag === "ConnectionLoss" || tag === "OperationTimeout" || tag === "SessionExpired"

/**
 * Closes the directories that an `ensure` of ours made without hearing of it. None that was there before, or holds data, or has a list of its own:
 * that is another's. Each is taken off `unanswered` when that is done.
 */
export const close = (
  session: Session,
  unanswered: Set<string>,
  acl: ReadonlyArray<Acl>
): Effect.Effect<void, ZooKeeperError> =>
  Effect.forEach(unanswered, (path) =>
    Effect.gen(function*() {
      const stat = yield* session.exists(path)
      if (stat?.dataLength === 0) yield* session.setAcl(path, acl, 0)
    }).pipe(
      Effect.catchTag(["NoNode", "BadVersion", "NoAuth"], () => Effect.void),
      Effect.andThen(Effect.sync(() => unanswered.delete(path)))
    ), { discard: true })

/** The number that ZooKeeper gave a member's node; -1: it has none. */
const numberOf = (name: string): number => {
  const digits = name.slice(memberPrefix.length)
  return name.startsWith(memberPrefix) && /^[0-9]+$/.test(digits) ? Number(digits) : -1
}

/** Looks for the node that an attempt made whose answer was lost: among those made since, which are the newest. */
export const find = (
  session: Session,
  directory: string,
  { after, owner, said }: Attempted
): Effect.Effect<string | undefined, ZooKeeperError> =>
  Effect.gen(function*() {
    const { children, stat } = yield* session.children(directory)
    const newest = children.map((name) => ({ name, number: numberOf(name) })).filter(({ number }) => number >= 0)
      .toSorted((a, b) => b.number - a.number)
    // As many as were ever made there, which is the next number: a greater one was made up by somebody, and tells nothing of the others' age.
    const next = (stat.childrenVersion + stat.childCount) / 2
    for (const { name, number } of newest) {
      const path = `${directory}/${name}`
      const found = yield* Effect.catchTag(session.get(path), "NoNode", () => Effect.succeed(undefined))
      if (found === undefined) continue
      // It was there before, and so were those with lower numbers.
      if (found.stat.createdZxid <= after) {
        if (number < next) return undefined
        continue
      }
      if (found.stat.owner === owner && Buffer.compare(found.data, said.data) === 0) return path
    }
    return undefined
    // Two nodes that say the same do less harm than none, should the directory be one that we may write to and not read.
  }).pipe(Effect.catchTag(["NoNode", "NoAuth"], () => Effect.succeed(undefined)))

/** Whether a node is there, and no other under its name. */
export const isThere = (
  session: Session,
  node: MemberNode,
  watcher?: Watcher
): Effect.Effect<boolean, ZooKeeperError> => {
  const stat = session.exists(node.path, watcher)
  if (node.createdZxid !== undefined) return Effect.map(stat, (found) => found?.createdZxid === node.createdZxid)
  return session.get(node.path, watcher).pipe(
    Effect.map((found) => {
      if (found.stat.owner !== node.owner || Buffer.compare(found.data, node.said.data) !== 0) return false
      node.createdZxid = found.stat.createdZxid
      return true
    }),
    Effect.catchTag("NoNode", () => Effect.succeed(false)),
    // An access list that lets nobody read what we write.
    Effect.catchTag("NoAuth", () => Effect.map(stat, (found) => found?.owner === node.owner))
  )
}

/** Deletes a node, if it is there. */
export const remove = (session: Session, node: MemberNode): Effect.Effect<void, ZooKeeperError> =>
  // Its name may be another's by now.
  Effect.flatMap(isThere(session, node), (there) => there ? removeAt(session, node.path) : Effect.void)

/** Deletes what an attempt made whose answer was lost. */
export const undo = (session: Session, directory: string, attempted: Attempted): Effect.Effect<void, ZooKeeperError> =>
  Effect.flatMap(
    find(session, directory, attempted),
    (path) => path === undefined ? Effect.void : removeAt(session, path)
  )

const removeAt = (session: Session, path: string): Effect.Effect<void, ZooKeeperError> =>
  Effect.catchTag(session.delete(path), "NoNode", () => Effect.void)
