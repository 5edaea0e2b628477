/**
 * What every session is held to, whatever implements it: as cases that any test runner can run, on one tree that nobody else changes.
 *
 *     for (const { name, run } of SessionConformance.cases(make)) it.live(name, () => run)
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Session } from "../Session.ts"
import { access } from "./conformance/access.ts"
import { type Case, ConformanceFailure } from "./conformance/Case.ts"
import { life } from "./conformance/life.ts"
import { nodes } from "./conformance/nodes.ts"
import { watches } from "./conformance/watches.ts"

export { ConformanceFailure } from "./conformance/Case.ts"

/** One thing that a session is held to. */
export interface ConformanceCase {
  /** A sentence about the session. */
  readonly name: string
  /** Makes sessions, and fails when they do not do what the name says. What it made in the tree is gone afterwards. */
  readonly run: Effect.Effect<void, ConformanceFailure>
}

/** The cases. `make` gives another session each time it is run, all on the same tree, until its scope closes. */
export const cases = (make: Effect.Effect<Session, unknown, Scope.Scope>): ReadonlyArray<ConformanceCase> =>
  [...nodes, ...watches, ...access, ...life].map(({ name, run }: Case, index) => ({
    name,
    run: Effect.scoped(run({ make, root: `/conformance-${index}` })).pipe(
      Effect.catchCause((cause) => {
        const failure = Cause.squash(cause)
        return Effect.fail(
          failure instanceof ConformanceFailure
            ? new ConformanceFailure({ ...failure, case: name })
            : new ConformanceFailure({
              case: name,
              what: "what it ended with",
              expected: "",
              seen: Cause.pretty(cause)
            })
        )
      })
    )
  }))
