/** Sessions over time: drain, restart, lease, ping. */
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import type * as Finagle from "../Finagle.ts"
import { holds, theme } from "../Suite.ts"
import { checkedCall, connect, connectAll, failure, seen, uriOf } from "./echo.ts"
import { loaded } from "./loaded.ts"
import { type Peers, shared } from "./peers.ts"

/** The server that may be drained; when the case ends it listens, whatever the case did. */
const drainable = Effect.gen(function*() {
  const server = yield* shared("second")
  yield* Effect.addFinalizer(() => Effect.ignore(server.listen))
  return server
})

/** How many sessions a server has had. */
const sessionsOf = (server: Finagle.Server) => Effect.map(server.stats, ({ sessionsEver }) => sessionsEver)

const sessionAfter = (server: Finagle.Server, last: number) =>
  server.event("session-open", ({ session }) => session > last)

const statesOf = (state: (role: string) => any): Array<string> =>
  state("balancer").endpoints.map((endpoint: { readonly state: string }) => endpoint.state)

export const lifecycle = theme<Peers>("lifecycle", [
  holds(
    "a server that drains and comes back under load costs no call while another is up",
    Effect.gen(function*() {
      const draining = yield* drainable
      const { echo, state } = yield* connectAll(yield* shared("echo"), draining)
      const load = yield* loaded((i) => checkedCall(echo, i))
      yield* load.more(1000)
      const before = yield* sessionsOf(draining)
      yield* draining.drain(5000)
      assert.equal(state("transport").drains, 1)
      yield* load.more(1000)
      yield* draining.listen
      yield* sessionAfter(draining, before)
      const { calls } = yield* draining.stats
      yield* load.more(1000)
      yield* load.stop
      assert.ok((yield* draining.stats).calls["passMessage"]! > calls["passMessage"]!, "it is used again")
    })
  ),
  holds(
    "sessions that are drained while the server listens are replaced under load without a failed call",
    Effect.gen(function*() {
      const server = yield* shared("second")
      const { echo, state } = yield* connect(uriOf(server))
      const load = yield* loaded((i) => checkedCall(echo, i))
      yield* load.more(500)
      for (let round = 1; round <= 3; round++) {
        yield* server.drainSessions(5000)
        yield* load.more(500)
        assert.equal(state("transport").drains, round)
      }
      yield* load.stop
    })
  ),
  holds(
    "a client of one server comes back by itself when the server listens again on its port",
    Effect.gen(function*() {
      const server = yield* drainable
      const { echo } = yield* connect(uriOf(server))
      const { session } = yield* seen(echo)
      yield* server.drain(1000)
      assert.equal((yield* failure(echo.ping(), "ConnectFailed")).reached, "no")
      yield* server.listen
      yield* sessionAfter(server, session)
      assert.equal(yield* echo.ping(), "pong")
    })
  ),
  holds(
    "a lease that is over makes the endpoint Busy, and another one makes it Open",
    Effect.gen(function*() {
      const server = yield* shared("second")
      const { echo, state } = yield* connect(uriOf(server))
      yield* echo.ping()
      assert.deepEqual(statesOf(state), ["Open"])
      const leased = (millis: number) => Effect.andThen(server.lease(millis), server.ping)
      yield* leased(0)
      assert.deepEqual(statesOf(state), ["Busy"])
      assert.equal(yield* echo.ping(), "pong")
      yield* leased(60_000)
      assert.deepEqual(statesOf(state), ["Open"])
      yield* leased(100)
      // Its time passes by the client's clock: each ping is a turn of waiting.
      while (statesOf(state)[0] === "Open") yield* server.ping
      assert.deepEqual(statesOf(state), ["Busy"])
    })
  ),
  holds(
    "while the lease of one server is over, calls go to the other",
    Effect.gen(function*() {
      const leased = yield* shared("second")
      const { echo, state } = yield* connectAll(yield* shared("echo"), leased)
      yield* Effect.all([echo.ping(), echo.ping()], { concurrency: 2 })
      yield* Effect.andThen(leased.lease(0), leased.ping)
      assert.deepEqual(statesOf(state).toSorted(), ["Busy", "Open"])
      const { calls } = yield* leased.stats
      yield* Effect.forEach(Array.from({ length: 100 }, (_, i) => i), (i) => checkedCall(echo, i), { concurrency: 10 })
      assert.deepEqual((yield* leased.stats).calls, calls)
    })
  ),
  holds(
    "pings of the server are answered, and what it makes of the answer harms nothing",
    Effect.gen(function*() {
      const server = yield* shared("second")
      const { echo } = yield* connect(uriOf(server))
      const { session } = yield* seen(echo)
      for (let round = 0; round < 3; round++) yield* server.ping
      yield* server.event("frame", (event) => event.session === session && event["type"] === "Rping")
      assert.equal((yield* seen(echo)).session, session)
    })
  )
])
