/** Our clients call Apache's servers of the test service over HTTP: every method, in every protocol. */
import { HttpStatusError } from "@scales-rpc/http"
import { Protocols } from "@scales-rpc/thrift"
import { ThriftHttp } from "@scales-rpc/thrifthttp"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { type Case, Full, holds, theme } from "../Suite.ts"
import { build, failure } from "../thriftmux/echo.ts"
import { check, checkMany, notFinite, usualDoubles } from "./checks.ts"
import { type Peers, shared } from "./peers.ts"
import { SecondService, ThriftTest, types24 } from "./services.ts"
import { plainWays } from "./ways.ts"

const protocols = [...new Set(plainWays.map(({ protocol }) => protocol))]

const connect = (library: "Python" | "npm", protocol: (typeof protocols)[number], path = "/thrift") =>
  Effect.gen(function*() {
    const uri = `tcp://127.0.0.1:${(yield* shared(`${library} server`)).httpPort(protocol)}`
    return yield* build(ThriftTest, ThriftHttp.layer(ThriftTest, { uri, path, protocol: Protocols[protocol] }))
  })

/** The cases of the servers on one library. */
export const overHttp = (library: "Python" | "npm"): ReadonlyArray<Case<Peers>> =>
  theme<Peers>(`our client, ${library} server over HTTP`, [
    ...protocols.flatMap((protocol) => [
      holds(
        protocol,
        Effect.gen(function*() {
          const { client } = yield* connect(library, protocol)
          // The npm package has no -0: `quirks.ts`.
          const doubles = [...usualDoubles, ...notFinite, ...(library === "npm" ? [] : [-0])]
          yield* check(client, { types: types24, doubles, oneway: library !== "npm" })
        })
      ),
      holds(
        `${protocol}: many calls, 64 in flight, each with its own reply`,
        Effect.gen(function*() {
          const { client } = yield* connect(library, protocol)
          yield* checkMany(client, (yield* Full) ? 20_000 : 500, 64)
        }),
        "60 seconds"
      )
    ]),
    holds(
      "a method that the server does not have",
      Effect.gen(function*() {
        const port = (yield* shared(`${library} server`)).httpPort("binary")
        const { client } = yield* build(
          SecondService,
          ThriftHttp.layer(SecondService, { uri: `tcp://127.0.0.1:${port}`, path: "/thrift" })
        )
        const error = yield* failure(client.secondtestString("foobar"), "ThriftApplicationException")
        assert.match(error.message, /secondtestString/)
      })
    ),
    // Python's takes any path.
    ...(library === "Python" ? [] : [
      holds(
        "a path that the server does not have: its status",
        Effect.gen(function*() {
          const { client } = yield* connect(library, "binary", "/nonesuch")
          const { cause } = yield* failure(client.testString("text"), "ServerFailed")
          assert.ok(cause instanceof HttpStatusError, String(cause))
          assert.equal(cause.path, "/nonesuch")
          assert.ok(cause.status >= 400)
        })
      )
    ])
  ])
