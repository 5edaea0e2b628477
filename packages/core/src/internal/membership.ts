/** What a state of a server set says of its members, and whether two states say the same of one. */
import type { Endpoint } from "../Endpoint.ts"
import type { ServerSetState } from "../ServerSetState.ts"

/** The members of a set by their keys; of two entries with one key the last counts, as it does for balancers. `Neg` has none. */
export const membersOf = (state: Extract<ServerSetState, { _tag: "Bound" | "Neg" }>): Map<string, Endpoint> =>
  new Map(state._tag === "Bound" ? state.endpoints.map((endpoint) => [endpoint.key, endpoint]) : [])

const sameMetadata = (one: Endpoint["metadata"], other: Endpoint["metadata"]): boolean => {
  if (one === other) return true
  const names = Object.keys(one)
  return names.length === Object.keys(other).length &&
    names.every((name) => Object.hasOwn(other, name) && one[name] === other[name])
}

/** Whether nothing that is said of an endpoint changes from one to the other. */
export const sameEndpoint = (one: Endpoint, other: Endpoint): boolean =>
  one === other ||
  (one.key === other.key && one.weight === other.weight && one.shard === other.shard &&
    sameMetadata(one.metadata, other.metadata))
