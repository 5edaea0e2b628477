/**
 * The Thrift family: the service that Apache's libraries test each other with, on the libraries for Python, Java and npm, called by us
 * and calling us; and Finagle's plain Thrift.
 */
import * as Effect from "effect/Effect"
import * as Suite from "../Suite.ts"
import { finagle } from "./finagle.ts"
import { type Library, Peers, prepare } from "./peers.ts"
import { quirksOf } from "./quirks.ts"
import { theirClient } from "./theirClients.ts"
import { theirServer } from "./theirServers.ts"
import { tls } from "./tls.ts"

const casesOf = (library: Library) => [...theirServer(library), ...theirClient(library), ...quirksOf(library)]

/** The cases, by what they need. */
const groups = {
  Python: casesOf("Python"),
  Java: casesOf("Java"),
  npm: casesOf("npm"),
  Finagle: [...finagle, ...tls]
}

/** Runs the cases that `select` picks. A library without its tools is a failure in CI; elsewhere its cases are skipped. */
export const run = (select: (name: string) => boolean, deadline: number): Effect.Effect<Suite.Tally> =>
  Effect.gen(function*() {
    const total = { passed: 0, failed: 0, skipped: 0 }
    for (const library of ["Python", "Java", "npm", "Finagle"] as const) {
      const selected = groups[library].filter(({ name }) => select(name))
      if (selected.length === 0) continue
      const family = `thrift, ${library}`
      const tally = yield* prepare(library).pipe(
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
