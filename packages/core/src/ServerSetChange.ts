/** What is different from one state of a server set to the next, member by member. */
import * as Stream from "effect/Stream"
import type { Endpoint } from "./Endpoint.ts"
import { membersOf, sameEndpoint } from "./internal/membership.ts"
import type { ServerSetState } from "./ServerSet.ts"

/**
 * A member joined; or left, with what was last said of it; or its weight, shard or metadata is another than `before`. An endpoint with another
 * address is another member.
 */
export type ServerSetChange =
  | { readonly _tag: "Joined"; readonly endpoint: Endpoint }
  | { readonly _tag: "Left"; readonly endpoint: Endpoint }
  | { readonly _tag: "Changed"; readonly endpoint: Endpoint; readonly before: Endpoint }

const changesBetween = (
  before: ReadonlyMap<string, Endpoint>,
  after: ReadonlyMap<string, Endpoint>
): Array<ServerSetChange> => {
  const changes: Array<ServerSetChange> = []
  for (const [key, endpoint] of after) {
    const earlier = before.get(key)
    if (earlier === undefined) changes.push({ _tag: "Joined", endpoint })
    else if (!sameEndpoint(earlier, endpoint)) changes.push({ _tag: "Changed", endpoint, before: earlier })
  }
  for (const [key, endpoint] of before) if (!after.has(key)) changes.push({ _tag: "Left", endpoint })
  return changes
}

/** `ServerSet.watch`. */
export const watch = <E, R>(
  states: Stream.Stream<ServerSetState, E, R>
): Stream.Stream<ServerSetChange, E, R> =>
  Stream.mapAccum(states, (): ReadonlyMap<string, Endpoint> => new Map(), (before, state) => {
    if (state._tag === "Pending" || state._tag === "Failed") return [before, []] as const
    const after = membersOf(state)
    return [after, changesBetween(before, after)] as const
  })
