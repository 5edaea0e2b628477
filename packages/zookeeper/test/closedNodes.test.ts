import { assert, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { TestClock } from "effect/testing"
import { codeOf } from "../src/internal/codes.ts"
import type { CreateMode } from "../src/Session.ts"
import { type Handle, Lines, LinesLive, session, standIn, turns } from "./standInAddon.ts"

const acl = [{ scheme: "auth", id: "", permissions: "rwcda" }]

/** A session that is connected, in which a node is being made for some only. */
const making = (mode: CreateMode = "persistent") =>
  Effect.gen(function*() {
    const { addon, handles, last } = standIn()
    const scope = yield* Scope.make()
    const made = yield* Scope.provide(session({ addon }), scope)
    yield* turns
    last().connected()
    yield* turns
    const fiber = yield* Effect.forkChild(made.create("/a", new Uint8Array(), { acl, mode }), {
      startImmediately: true
    })
    yield* turns
    return { fiber, handle: last(), handles, last, scope, session: made }
  })

/** What was sent, and answers it. */
const take = (handle: Handle) => handle.sent.splice(0).map(({ operation, path }) => `${operation} ${path}`)

it.effect("a node whose list cannot be set is deleted", () =>
  Effect.gen(function*() {
    const { fiber, handle } = yield* making()
    handle.sent.shift()!.answer(0, "/a")
    yield* turns
    const [setAcl] = handle.sent
    assert.deepStrictEqual(take(handle), ["setAcl /a"])
    setAcl!.answer(codeOf("InvalidAcl"))
    yield* turns
    assert.deepStrictEqual(take(handle), ["delete /a"])
    assert.strictEqual((yield* Effect.flip(Fiber.join(fiber)))._tag, "InvalidAcl")
  }).pipe(Effect.provide(LinesLive)))

it.effect("and so is one whose maker was interrupted before it was set, wherever that had got to", () =>
  Effect.gen(function*() {
    const lines = yield* Lines
    for (const until of ["create", "setAcl"]) {
      const { fiber, handle } = yield* making()
      const [create] = handle.sent.splice(0)
      if (until === "create") yield* Fiber.interrupt(fiber)
      create!.answer(0, "/a")
      yield* turns
      if (until === "setAcl") {
        assert.deepStrictEqual(take(handle), ["setAcl /a"])
        yield* Fiber.interrupt(fiber)
      }
      yield* turns
      assert.deepStrictEqual(handle.sent.map(({ operation, path }) => `${operation} ${path}`), ["delete /a"], until)
      handle.sent[0]!.answer(codeOf("NoNode"))
      yield* turns
    }
    assert.deepStrictEqual(lines.filter((line) => !line.startsWith("INFO")), [])
  }).pipe(Effect.provide(LinesLive)))

it.effect("it is deleted over another connection if that is there in the session's timeout", () =>
  Effect.gen(function*() {
    const { fiber, handle } = yield* making()
    handle.sent.shift()!.answer(0, "/a")
    yield* turns
    handle.lost()
    yield* turns
    assert.strictEqual((yield* Effect.flip(Fiber.join(fiber)))._tag, "ConnectionLoss")
    handle.sent.length = 0
    handle.connected()
    yield* turns
    assert.deepStrictEqual(take(handle), ["delete /a"])
    // Lost again, before it is answered.
    handle.lost()
    yield* turns
    handle.connected()
    yield* turns
    assert.deepStrictEqual(take(handle), ["delete /a"])
  }).pipe(Effect.provide(LinesLive)))

it.effect("if it is not, the log says that the node stays open", () =>
  Effect.gen(function*() {
    const lines = yield* Lines
    const { fiber, handle, last } = yield* making()
    handle.sent.shift()!.answer(0, "/a")
    yield* turns
    handle.lost()
    yield* Effect.flip(Fiber.join(fiber))
    for (let second = 0; second < 10; second++) {
      yield* TestClock.adjust("1 second")
      yield* turns
    }
    const stays = lines.filter((line) => line.startsWith("ERROR"))
    assert.lengthOf(stays, 1)
    assert.match(stays[0]!, /^ERROR a ZooKeeper node stays open to anybody .*"path":"\/a"/)
    // It is another's by now, perhaps.
    last().connected()
    yield* turns
    assert.deepStrictEqual(take(last()), [])
  }).pipe(Effect.provide(LinesLive)))

it.effect("and so it is when the session is closed, except of a node that goes with it", () =>
  Effect.gen(function*() {
    const lines = yield* Lines
    for (const mode of ["persistent", "ephemeralSequential"] as const) {
      const { fiber, handle, scope } = yield* making(mode)
      handle.sent.shift()!.answer(0, "/a")
      yield* turns
      handle.lost()
      yield* Effect.flip(Fiber.join(fiber))
      yield* Scope.close(scope, Exit.void)
      yield* turns
      assert.lengthOf(lines.splice(0).filter((line) => line.startsWith("ERROR")), mode === "persistent" ? 1 : 0)
    }
  }).pipe(Effect.provide(LinesLive)))
