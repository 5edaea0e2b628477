/** Rolling restarts under load: two servers, restarted in turn on their ports, while each call finds one of them. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import * as Finagle from "../Finagle.ts"
import { holds, theme } from "../Suite.ts"
import { checkedBody, connectBody } from "./body.ts"
import { checkedCall, connectAll, uriOf } from "./echo.ts"
import { loaded } from "./loaded.ts"
import { serve, serveBodies } from "./ours.ts"
import { type Peers, shared } from "./peers.ts"
import { noneLost } from "./results.ts"

const rounds = 2

/** A shared server that listens again when the case ends, whatever the case did. */
const restartable = (name: "body" | "echo" | "second") =>
  Effect.gen(function*() {
    const server = yield* shared(name)
    yield* Effect.addFinalizer(() => Effect.ignore(server.listen))
    return server
  })

const openStates = (state: (role: string) => any): number =>
  state("balancer").endpoints.filter((endpoint: { readonly state: string }) => endpoint.state === "Open").length

/** Restarts servers of Finagle's under a load of ours, each when all are up; `method` is what the servers call it. */
const rolled = <E>(
  servers: ReadonlyArray<Finagle.Server>,
  method: string,
  { send, state }: { readonly send: (i: number) => Effect.Effect<unknown, E>; readonly state: (role: string) => any }
) =>
  Effect.gen(function*() {
    const served = (server: Finagle.Server) => Effect.map(server.stats, ({ calls }) => calls[method] ?? 0)
    const load = yield* loaded(send)
    yield* load.more(500)
    for (let round = 0; round < rounds; round++) {
      for (const server of servers) {
        yield* server.drain(5000)
        yield* load.more(500)
        const before = yield* served(server)
        yield* server.listen
        while (openStates(state) < servers.length) yield* load.more(100)
        yield* load.more(500)
        assert.ok((yield* served(server)) > before, "it is used again")
      }
    }
    yield* load.stop
    assert.equal(state("transport").drains, rounds * servers.length)
  })

/** A server of ours that can be restarted: each time a new one, on the port of the first. `served(n)` waits for its n-th call. */
const ourRestartable = <E, R>(
  start: (port: number) => Effect.Effect<
    { readonly address: string; readonly port: number; readonly served: (n: number) => Effect.Effect<void> },
    E,
    R
  >
) =>
  Effect.gen(function*() {
    const outer = yield* Scope.Scope
    const begin = (port: number) =>
      Effect.gen(function*() {
        const scope = yield* Scope.fork(outer)
        return { ...yield* Scope.provide(start(port), scope), stop: Scope.close(scope, Exit.void) }
      })
    let current = yield* begin(0)
    const restart = Effect.gen(function*() {
      yield* current.stop
      current = yield* begin(current.port)
    })
    return { address: current.address, restart, served: (n: number) => Effect.suspend(() => current.served(n)) }
  })

/** Restarts servers of ours under a load of Finagle's, each when both were used since the last restart. */
const rolledOurs = <E, R>(
  library: Finagle.Library,
  words: ReadonlyArray<string>,
  server: Effect.Effect<
    {
      readonly address: string
      readonly restart: Effect.Effect<void, unknown, R>
      readonly served: (n: number) => Effect.Effect<void>
    },
    E,
    R
  >
) =>
  Effect.gen(function*() {
    const servers = [yield* server, yield* server]
    const client = yield* Finagle.client(library, servers.map(({ address }) => address))
    // More than it will ever come to: it is stopped.
    const load = yield* Effect.forkChild(client.load(words, { requests: 2_000_000, concurrency: 16 }), {
      startImmediately: true
    })
    yield* Effect.forEach(servers, ({ served }) => served(500), { concurrency: 2 })
    for (let round = 0; round < rounds; round++) {
      for (const { restart, served } of servers) {
        yield* restart
        yield* served(500)
      }
    }
    assert.equal(load.pollUnsafe(), undefined, "the load goes on to the end")
    yield* client.command(["stop"])
    noneLost(yield* Fiber.join(load))
  })

export const restarts = theme<Peers>("rolling restart", [
  holds(
    "our client, two ThriftMux servers of Finagle's: no call fails, and each is used again before the other goes",
    Effect.gen(function*() {
      const servers = [yield* restartable("echo"), yield* restartable("second")]
      const { echo, state } = yield* connectAll(...servers)
      yield* rolled(servers, "passMessage", { send: (i) => checkedCall(echo, i), state })
    }),
    "60 seconds"
  ),
  holds(
    "our client, two Mux servers of Finagle's: the same",
    Effect.gen(function*() {
      const servers = [yield* restartable("body"), yield* Finagle.server("mux24")]
      const { state, text } = yield* connectBody(uriOf(...servers))
      yield* rolled(servers, "echo", { send: (i) => checkedBody(text, i), state })
    }),
    "60 seconds"
  ),
  holds(
    "Finagle's ThriftMux client, two servers of ours: the same",
    rolledOurs(
      "tm22",
      ["ping"],
      ourRestartable((port) => Effect.map(serve({ port }), ({ pinged, ...ours }) => ({ ...ours, served: pinged })))
    ),
    "60 seconds"
  ),
  holds(
    "Finagle's Mux client, two servers of ours: the same",
    rolledOurs(
      "mux24",
      ["body {}"],
      ourRestartable((port) =>
        Effect.map(serveBodies({ port }), ({ echoed, ...ours }) => ({ ...ours, served: echoed }))
      )
    ),
    "60 seconds"
  )
])
