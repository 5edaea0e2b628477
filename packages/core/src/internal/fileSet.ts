/**
 * `file:///path`: the endpoints that a file lists, followed as it changes.
 *
 * The path is absolute, with `%20` and the like for what a URI cannot hold. No such file, or no directory for it, is `Neg`. What `parseMembers`
 * does not accept, or cannot be read, is a failure: one warning, and what was known stands. The directory is watched, so that a change
 * is seen at once; the file is looked at every second too, which finds what no watch tells: links that point elsewhere now, file
 * systems of other machines, directories made later. A change counts when the file has rested for 100 ms, and for a second when it is gone or its
 * last line has no end: it may still be being written, or about to be replaced. The first look at a file that is right does not wait for that.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { InvalidUri, ResolverFailed } from "../RpcError.ts"
import { ServerSetState, type States } from "../ServerSetState.ts"
import { DirectoryWatch } from "./DirectoryWatch.ts"
import { parseMembers } from "./fileMembers.ts"
import { codeOf, stampOf } from "./fileStamp.ts"
import { lookedAt } from "./lookedAt.ts"

const intervalMillis = 1000
const restMillis = 100
/** A file that is gone, or whose last line has no end. */
const longRestMillis = 1000

const expected = "file:///path/to/file, with %23 for # and %3F for ?"

const pathOf = (uri: string, rest: string): string | InvalidUri => {
  const invalid = (what: string) => new InvalidUri({ uri, what, expected })
  if (!rest.startsWith("/")) return invalid("the path is not absolute")
  if (/[?#]/.test(rest)) return invalid("it has a query or a fragment")
  try {
    const path = fileURLToPath(`file://${rest}`)
    if (path.includes("\0")) return invalid("the path has a NUL in it")
    return path.endsWith(Path.sep) ? invalid("it names a directory") : path
  } catch (cause) {
    return invalid(cause instanceof Error ? cause.message : String(cause))
  }
}

const isMissing = (stamp: string): boolean => stamp === "ENOENT" || stamp === "ENOTDIR"

interface Content {
  readonly state: ServerSetState
  readonly complete: boolean
}

const read = (uri: string, path: string): Effect.Effect<Content, ResolverFailed> =>
  Effect.tryPromise({
    try: async (): Promise<Content> => {
      // Reading a pipe would wait for whoever writes to it.
      if (!(await Fs.stat(path)).isFile()) throw new Error("it is no regular file")
      const members = parseMembers(await Fs.readFile(path, "utf8"))
      if (members.wrong !== undefined) throw new Error(members.wrong)
      return { state: ServerSetState.Bound(members.endpoints), complete: members.complete }
    },
    catch: (cause) => new ResolverFailed({ uri, what: cause instanceof Error ? cause.message : codeOf(cause), cause })
  })

/** Looks at the file: the first time at once, after that when it has changed and rested. */
const looking = (uri: string, path: string): Effect.Effect<
  Effect.Effect<ServerSetState, ResolverFailed>,
  never,
  Scope.Scope
> =>
  Effect.gen(function*() {
    const watch = yield* Effect.acquireRelease(
      Effect.sync(() => new DirectoryWatch(path)),
      (watch) => Effect.sync(() => watch.close())
    )
    const follow = Effect.promise(() => watch.follow())
    const look = Effect.promise(() => stampOf(path))
    const gone: Content = { state: ServerSetState.Neg, complete: true }
    const contentAt = (stamp: string) => Effect.result(isMissing(stamp) ? Effect.succeed(gone) : read(uri, path))
    let first = true
    let seen: string | undefined
    return Effect.gen(function*() {
      if (first) {
        first = false
        const content = yield* contentAt(yield* look)
        // Not yet seen: it may be changing right now, unnoticed by its stamp.
        if (Result.isSuccess(content)) return content.success.state
      }
      while (true) {
        yield* follow
        const stamp = yield* look
        if (stamp === seen) {
          yield* Effect.raceFirst(watch.next, Effect.sleep(intervalMillis))
          continue
        }
        yield* Effect.sleep(isMissing(stamp) ? longRestMillis : restMillis)
        if ((yield* look) !== stamp) continue
        const content = yield* contentAt(stamp)
        if (Result.isSuccess(content) && !content.success.complete) yield* Effect.sleep(longRestMillis)
        if ((yield* look) !== stamp) continue
        seen = stamp
        return (yield* Effect.fromResult(content)).state
      }
    })
  })

/** Resolves `file:///path`. Fails with `InvalidUri`; whether there is such a file is a state. */
export const fileSet = (uri: string, rest: string): Effect.Effect<States, InvalidUri> => {
  const path = pathOf(uri, rest)
  return path instanceof InvalidUri ? Effect.fail(path) : Effect.succeed(lookedAt(looking(uri, path)))
}
