/** Apache's clients call our servers: every method, in every way. */
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { type Case, holds, theme } from "../Suite.ts"
import { type Library, type Peers, shared } from "./peers.ts"
import { plainWays, ways } from "./ways.ts"

const pipelined = plainWays.map((way) =>
  holds(
    `${way.name}: a thousand calls at once on one connection, each with its own reply`,
    Effect.gen(function*() {
      const ours = yield* shared("ours")
      const client = yield* shared("npm client")
      yield* client.pipeline(way, ours.ports(way).by24)
    })
  )
)

/** The cases of the client on one library. */
export const theirClient = (library: Library): ReadonlyArray<Case<Peers>> =>
  theme<Peers>(`${library} client, our server`, [
    ...ways.map((way) =>
      holds(
        way.name,
        Effect.gen(function*() {
          const ours = yield* shared("ours")
          const client = yield* shared(`${library} client`)
          const { by17, by24 } = ours.ports(way)
          const before = ours.oneways(way)
          yield* client.run(way, by24, true)
          yield* client.run(way, by17, false)
          assert.equal(ours.oneways(way) - before, 2, "each oneway call has run its handler")
        })
      )
    ),
    holds(
      "a server that is not told how it is called finds out, in every way",
      Effect.gen(function*() {
        const ours = yield* shared("ours")
        const client = yield* shared(`${library} client`)
        for (const way of ways) yield* client.run(way, ours.detecting, true)
      }),
      "60 seconds"
    ),
    ...(library === "npm" ? pipelined : [])
  ])
