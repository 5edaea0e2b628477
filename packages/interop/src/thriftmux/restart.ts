/** Rolling restarts under load: two servers, restarted in turn on their ports, while each call finds one of them. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import * as Finagle from "../Finagle.ts"
import { holds, theme } from "../Suite.ts"
import { connect, uriOf } from "./echo.ts"
import { loaded } from "./loaded.ts"
import { serve } from "./ours.ts"
import { type Peers, shared } from "./peers.ts"
import { noneLost } from "./results.ts"

const rounds = 2

/** A shared server that listens again when the case ends, whatever the case did. */
const restartable = (name: "echo" | "second") =>
  Effect.gen(function*() {
    const server = yield* shared(name)
    yield* Effect.addFinalizer(() => Effect.ignore(server.listen))
    return server
  })

const openStates = (state: (role: string) => any): number =>
  state("balancer").endpoints.filter((endpoint: { readonly state: string }) => endpoint.state === "Open").length

const passed = (server: Finagle.Server) => Effect.map(server.stats, ({ calls }) => calls["passMessage"] ?? 0)

/** A server of ours that can be restarted: each time a new one, on the port of the first. */
const ourRestartable = Effect.gen(function*() {
  const outer = yield* Scope.Scope
  const start = (port: number) =>
    Effect.gen(function*() {
      const scope = yield* Scope.fork(outer)
      return { ...yield* Scope.provide(serve({ port }), scope), stop: Scope.close(scope, Exit.void) }
    })
  let current = yield* start(0)
  const { address, port } = current
  const restart = Effect.gen(function*() {
    yield* current.stop
    current = yield* start(port)
    return current
  })
  return { address, first: current, restart }
})

export const restarts = theme<Peers>("rolling restart", [
  holds(
    "our client, two servers of Finagle's: no call fails, and each is used again before the other goes",
    Effect.gen(function*() {
      const servers = [yield* restartable("echo"), yield* restartable("second")]
      const { echo, state } = yield* connect(uriOf(...servers))
      const load = yield* loaded(echo)
      yield* load.more(500)
      for (let round = 0; round < rounds; round++) {
        for (const server of servers) {
          yield* server.drain(5000)
          yield* load.more(500)
          const before = yield* passed(server)
          yield* server.listen
          while (openStates(state) < servers.length) yield* load.more(100)
          yield* load.more(500)
          assert.ok((yield* passed(server)) > before, "it is used again")
        }
      }
      yield* load.stop
      assert.equal(state("transport").drains, rounds * servers.length)
    }),
    "60 seconds"
  ),
  holds(
    "Finagle's client, two servers of ours: no call fails, and each is used again before the other goes",
    Effect.gen(function*() {
      const servers = [yield* ourRestartable, yield* ourRestartable]
      const client = yield* Finagle.client("tm22", servers.map(({ address }) => address))
      const load = yield* Effect.forkChild(client.load(["ping"], { requests: 2_000_000, concurrency: 16 }), {
        startImmediately: true
      })
      yield* Effect.forEach(servers, ({ first }) => first.pinged(500), { concurrency: 2 })
      for (let round = 0; round < rounds; round++) {
        for (const { restart } of servers) yield* (yield* restart).pinged(500)
      }
      yield* client.command(["stop"])
      noneLost(yield* Fiber.join(load))
    }),
    "60 seconds"
  )
])
