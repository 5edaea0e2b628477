/** What is known of a server set at one moment, and the stream of it. */
import type * as Stream from "effect/Stream"
import type { Endpoint } from "./Endpoint.ts"

/**
 * What is known of a server set. `Pending`: nothing yet. `Bound`: these endpoints, all of them. `Neg`: there is no such set.
 * `Failed`: it could not be found out. Once a set is bound, balancers keep it through `Pending` and `Failed`.
 */
export type ServerSetState =
  | { readonly _tag: "Pending" }
  | { readonly _tag: "Bound"; readonly endpoints: ReadonlyArray<Endpoint> }
  | { readonly _tag: "Neg" }
  | { readonly _tag: "Failed"; readonly cause: unknown }

/** Makes states. */
export const ServerSetState = {
  /** Nothing is known yet. */
  Pending: { _tag: "Pending" } as ServerSetState,
  /** There is no such set. */
  Neg: { _tag: "Neg" } as ServerSetState,
  /** These endpoints, all of them. */
  Bound: (endpoints: ReadonlyArray<Endpoint>): ServerSetState => ({ _tag: "Bound", endpoints }),
  /** It could not be found out, for `cause`. */
  Failed: (cause: unknown): ServerSetState => ({ _tag: "Failed", cause })
}

/** Complete states, never increments. It never fails; when it ends, its last state stands. */
export type States = Stream.Stream<ServerSetState>
