/** Our clients call Apache's servers: every method, in every way. */
import { Protocols } from "@scales-rpc/thrift"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { type Case, Full, holds, theme } from "../Suite.ts"
import { check, checkMany, notFinite, usualDoubles } from "./checks.ts"
import { connect17, connect24, connectSecond } from "./clients.ts"
import { type Library, type Peers, shared } from "./peers.ts"
import { types17, types24 } from "./services.ts"
import { plainWays, ways } from "./ways.ts"

/** The cases of the server on one library. */
export const theirServer = (library: Library): ReadonlyArray<Case<Peers>> =>
  theme<Peers>(`our client, ${library} server`, [
    ...ways.map((way) =>
      holds(
        way.name,
        Effect.gen(function*() {
          const port = (yield* shared(`${library} server`)).port(way)
          // The npm package has no -0: `quirks.ts`.
          const doubles = [...usualDoubles, ...notFinite, ...(library === "npm" ? [] : [-0])]
          const by24 = yield* connect24(way, port)
          const by17 = yield* connect17(way, port)
          const second = way.sharing === "plain" ? undefined : (yield* connectSecond(way, port)).client
          yield* check(by24.client, { types: types24, second, doubles })
          yield* check(by17.client, { types: types17, doubles })
        })
      )
    ),
    ...plainWays.filter(({ protocol }) => protocol === "binary").map((way) =>
      holds(
        `${way.name}: with the header that has no version`,
        Effect.gen(function*() {
          const port = (yield* shared(`${library} server`)).port(way)
          const { client } = yield* connect24(way, port, { protocol: Protocols.binaryOld })
          yield* check(client, { types: types24, doubles: usualDoubles })
        })
      )
    ),
    ...plainWays.map((way) =>
      holds(
        `${way.name}: a oneway call is over when it has left, however long its handler takes`,
        Effect.gen(function*() {
          const server = yield* shared(`${library} server`)
          const { client } = yield* connect24(way, server.port(way))
          const seconds = 30
          yield* client.testOneway(seconds)
          yield* server.event("oneway", (event) => event["way"] === way.name && event["seconds"] === seconds)
        })
      )
    ),
    ...plainWays.map((way) =>
      holds(
        `${way.name}: a method that the server does not have`,
        Effect.gen(function*() {
          const server = yield* shared(`${library} server`)
          const { client } = yield* connectSecond(way, server.port(way))
          const error = yield* Effect.flip(client.secondtestString("foobar"))
          assert.ok(error._tag === "ThriftApplicationException", error._tag)
          assert.match(error.message, /secondtestString/)
          // The npm package does not write the type of an exception.
          assert.equal(error.typeName, library === "npm" ? "UNKNOWN" : "UNKNOWN_METHOD")
        })
      )
    ),
    ...plainWays.map((way) =>
      holds(
        `${way.name}: many calls, 64 in flight over 8 connections, each with its own reply`,
        Effect.gen(function*() {
          const port = (yield* shared(`${library} server`)).port(way)
          const { client } = yield* connect24(way, port, { connections: { high: 8 } })
          yield* checkMany(client, (yield* Full) ? 50_000 : 1000, 64)
        }),
        "60 seconds"
      )
    )
  ])
