/** How a session begins and ends. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { SessionStatus } from "../../Session.ts"
import { type Case, ear, nothing, refused, same, until } from "./Case.ts"

/** The cases. */
export const life: ReadonlyArray<Case> = [
  {
    name: "operations wait for the first connection, and the states say when it is there",
    run: ({ make }) =>
      Effect.gen(function*() {
        const session = yield* make
        yield* same("at first", { ...session.status() }, {
          state: "Connecting",
          id: undefined,
          generation: 0,
          cause: undefined
        })
        const states = yield* Effect.forkChild(Stream.runCollect(Stream.take(session.states, 2)), {
          startImmediately: true
        })
        yield* session.get("/")
        const { id } = session.status()
        yield* same("an id", /^[0-9a-f]+$/.test(String(id)), true)
        yield* same(
          "states",
          (yield* Fiber.join(states)).map(({ generation, state }) => [state, generation]),
          [["Connecting", 0], ["Connected", 1]]
        )
      })
  },
  {
    name: "a closed session ends its states, its watches and its nodes, and refuses what is asked of it",
    run: ({ make, root }) =>
      Effect.gen(function*() {
        const other = yield* make
        const scope = yield* Scope.make()
        const session = yield* Scope.provide(make, scope)
        const heard: Array<string> = []
        const gone: Array<string> = []
        const told: Array<SessionStatus["state"]> = []
        yield* session.create(root, nothing, { mode: "ephemeral" })
        yield* session.get(root, ear(heard)("get"))
        yield* other.sync(root)
        yield* other.exists(root, ear(gone)("exists"))
        session.subscribe(({ state }) => told.push(state))
        const states = yield* Effect.forkChild(Stream.runCollect(session.states), { startImmediately: true })
        yield* Scope.close(scope, Exit.void)
        yield* same("heard", heard, ["get Lost"])
        yield* same("told", told, ["Closed"])
        yield* same("states", (yield* Fiber.join(states)).map(({ state }) => state), ["Connected", "Closed"])
        yield* same("states of a closed one", (yield* Stream.runCollect(session.states)).length, 1)
        yield* same("watches", session.watches(), 0)
        const world = [{ scheme: "world", id: "anyone", permissions: "r" }]
        yield* refused("get", session.get("/"), "SessionClosed")
        yield* refused("children", session.children("/"), "SessionClosed")
        yield* refused("exists", session.exists("/"), "SessionClosed")
        yield* refused("create", session.create(root, nothing), "SessionClosed")
        yield* refused("set", session.set(root, nothing), "SessionClosed")
        yield* refused("delete", session.delete(root), "SessionClosed")
        yield* refused("acl", session.acl(root), "SessionClosed")
        yield* refused("setAcl", session.setAcl(root, world), "SessionClosed")
        yield* refused("auth", session.auth("digest", Redacted.make("a:b")), "SessionClosed")
        yield* refused("sync", session.sync("/"), "SessionClosed")
        yield* other.sync("/")
        yield* same("its node", yield* other.exists(root), undefined)
        yield* same("others hear", gone, ["exists Deleted"])
      })
  },
  {
    name: "one that is closed at once never connects",
    run: ({ make }) =>
      Effect.gen(function*() {
        const session = yield* Effect.scoped(make)
        yield* same("state", session.status().state, "Closed")
        yield* refused("get", session.get("/"), "SessionClosed")
        yield* until(session, () => session.status().state === "Closed")
      })
  },
  {
    name: "what waits for a connection when it is closed is refused",
    run: ({ make }) =>
      Effect.gen(function*() {
        const reading = yield* Effect.scoped(
          Effect.flatMap(make, (session) => Effect.forkDetach(session.get("/"), { startImmediately: true }))
        )
        yield* refused("get", Fiber.join(reading), "SessionClosed")
      })
  }
]
