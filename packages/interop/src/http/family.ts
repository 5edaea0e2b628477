/**
 * The HTTP family: our client against servers that no one here wrote, of nginx, Node, Python and Finagle, and against one by hand that does
 * what none of them would.
 */
import * as Effect from "effect/Effect"
import * as Suite from "../Suite.ts"
import { awkward } from "./awkward.ts"
import { finagle } from "./finagle.ts"
import { hostile } from "./hostile.ts"
import { nginx } from "./nginx.ts"
import { node } from "./node.ts"
import { layer, type Peers, prepare, type Vendor } from "./peers.ts"
import { python } from "./python.ts"
import { requests } from "./requests.ts"

/** The cases, by whose servers they need. */
const groups: Readonly<Record<Vendor, ReadonlyArray<Suite.Case<Peers>>>> = {
  "by hand": [...awkward, ...hostile, ...requests],
  Node: node,
  Python: python,
  nginx,
  Finagle: finagle
}

/** Runs the cases that `select` picks. */
export const run = (select: (name: string) => boolean, deadline: number): Effect.Effect<Suite.Tally> =>
  Effect.provide(Suite.runGroups("http", groups, prepare, select, deadline), layer)
