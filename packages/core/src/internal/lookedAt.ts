/** The states of a server set whose source is looked at again and again. What was known stands while it cannot be read. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { ResolverFailed } from "../RpcError.ts"
import { ServerSetState, type States } from "../ServerSetState.ts"
import { membersOf, sameEndpoint } from "./membership.ts"
import { say } from "./say.ts"

/** Whether two states say the same, in whatever order they list the endpoints. */
const same = (one: ServerSetState, other: ServerSetState): boolean => {
  if (one._tag !== "Bound" || other._tag !== "Bound") return one._tag === other._tag
  const members = membersOf(one)
  const others = membersOf(other)
  return members.size === others.size && [...members].every(([key, member]) => {
    const known = others.get(key)
    return known !== undefined && sameEndpoint(known, member)
  })
}

/** As many failures in a row are told from each other: of a source that is written to all the time, each can be another. */
const remembered = 100

/**
 * `begin` is run for each run of the stream and gives a look at the source, which itself waits until it is worth another one. A state
 * that says what the last one said is not told again. A look that fails is logged as a warning, once for each `what` in a row of failures, and
 * the first that succeeds again as well; it is
 * told as `Failed` only while no look has succeeded.
 */
export const lookedAt = (
  begin: Effect.Effect<Effect.Effect<ServerSetState, ResolverFailed>, never, Scope.Scope>
): States =>
  Stream.unwrap(Effect.map(begin, (look) => {
    let told: ServerSetState | undefined
    const problems = new Set<string>()
    return Stream.fromEffectRepeat(Effect.gen(function*() {
      while (true) {
        const result = yield* Effect.result(look)
        if (Result.isSuccess(result)) {
          if (problems.size > 0) yield* say("info", "server set is back", {})
          problems.clear()
          if (told !== undefined && same(told, result.success)) continue
          told = result.success
          return told
        }
        const { failure } = result
        if (problems.has(failure.what)) continue
        problems.add(failure.what)
        if (problems.size > remembered) problems.delete(problems.values().next().value!)
        yield* say("warning", "server set cannot be read", {
          cause: failure.message,
          known: told === undefined ? "nothing yet" : "what was known stands"
        })
        if (told === undefined) return ServerSetState.Failed(failure)
      }
    }))
  }))
