/**
 * The ZooKeeper family: our session, server sets and announcements with real servers, one and three, through a network that breaks; and
 * with Finagle, kazoo and Scales for Python as other clients of them.
 */
import * as Effect from "effect/Effect"
import { prepare } from "../Maven.ts"
import * as Suite from "../Suite.ts"
import { type BuildFailed, Missing } from "../Toolchain.ts"
import { announcing } from "./announcing.ts"
import { conformance } from "./conformance.ts"
import { faults } from "./faults.ts"
import { finagleCases, prepareFinagle } from "./finagle.ts"
import { kazooCases, prepareKazoo } from "./kazoo.ts"
import { Peers } from "./peers.ts"
import { folder } from "./Server.ts"
import { sessions } from "./sessions.ts"
import { sets } from "./sets.ts"

/** The addon is built by `scripts/setup.mjs`, which says what it misses when it cannot. */
const addon = Effect.tryPromise({
  try: () => import("zookeeper"),
  catch: () => new Missing({ what: "the native part of the package zookeeper is not built: node scripts/setup.mjs" })
})

const servers = Effect.andThen(addon, prepare([folder]))

interface Group {
  readonly family: string
  readonly prepare: Effect.Effect<unknown, Missing | BuildFailed>
  readonly cases: ReadonlyArray<Suite.Case<Peers>>
}

/** The cases, by what they need. */
const groups: ReadonlyArray<Group> = [
  {
    family: "zookeeper",
    prepare: servers,
    cases: [...conformance, ...sets, ...sessions, ...faults, ...announcing]
  },
  { family: "zookeeper, Finagle", prepare: Effect.andThen(servers, prepareFinagle), cases: finagleCases },
  { family: "zookeeper, Python", prepare: Effect.andThen(servers, prepareKazoo), cases: kazooCases }
]

/** Runs the cases that `select` picks. What misses its tools is a failure in CI; elsewhere its cases are skipped. */
export const run = (select: (name: string) => boolean, deadline: number): Effect.Effect<Suite.Tally> =>
  Effect.gen(function*() {
    const total = { passed: 0, failed: 0, skipped: 0 }
    for (const { cases, family, prepare } of groups) {
      const selected = cases.filter(({ name }) => select(name))
      if (selected.length === 0) continue
      const tally = yield* prepare.pipe(
        Effect.andThen(Suite.run(selected, deadline)),
        Effect.catchTag("Missing", ({ what }) => Suite.skip(family, selected.length, what)),
        Effect.catchTag("BuildFailed", ({ message }) => Suite.fail(family, selected.length, message))
      )
      total.passed += tally.passed
      total.failed += tally.failed
      total.skipped += tally.skipped
    }
    return total
  }).pipe(Effect.provide(Peers.layer))
