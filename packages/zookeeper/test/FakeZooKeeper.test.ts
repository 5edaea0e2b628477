import { assert, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import type { SessionStatus } from "../src/Session.ts"
import { FakeZooKeeper } from "../src/testing/FakeZooKeeper.ts"
import { ZooKeeper } from "../src/ZooKeeper.ts"

const setting = Effect.gen(function*() {
  const fake = yield* FakeZooKeeper
  const zooKeeper = yield* ZooKeeper
  return { fake, session: yield* zooKeeper.session("zk1"), other: yield* zooKeeper.session("zk2") }
})

const words = (status: SessionStatus) => `${status.state} ${status.generation}`

it.effect("a disconnected session waits, keeps its watches, and is told what happened meanwhile", () =>
  Effect.gen(function*() {
    const { fake, other, session } = yield* setting
    const events: Array<string> = []
    const statuses: Array<string> = []
    session.subscribe((status) => statuses.push(words(status)))
    fake.put("/a/b", "1")
    yield* session.get("/a/b", (event) => events.push(`data ${event}`))
    yield* session.children("/a", (event) => events.push(`children ${event}`))
    assert.isUndefined(yield* session.exists("/a/c", (event) => events.push(`exists ${event}`)))
    assert.strictEqual(fake.watches(), 3)
    fake.disconnect("zk1")
    assert.strictEqual(fake.watches(), 0)
    const waiting = yield* Effect.forkChild(session.get("/a/b"), { startImmediately: true })
    yield* other.set("/a/b", new TextEncoder().encode("2"))
    yield* other.create("/a/c", new Uint8Array())
    assert.deepStrictEqual(events, [])
    fake.reconnect("zk1")
    assert.deepStrictEqual(events, ["data DataChanged", "children ChildrenChanged", "exists Created"])
    assert.strictEqual(new TextDecoder().decode((yield* Fiber.join(waiting)).data), "2")
    assert.deepStrictEqual(statuses, ["Connected 1", "Disconnected 1", "Connected 1"])
    assert.strictEqual(session.watches(), 0)
  }).pipe(Effect.provide(FakeZooKeeper.layer())))

it.effect("an expired session loses its nodes and watches, and another takes its place", () =>
  Effect.gen(function*() {
    const { fake, other, session } = yield* setting
    const events: Array<string> = []
    yield* session.create("/mine", new Uint8Array(), { mode: "ephemeral" })
    yield* session.exists("/mine", (event) => events.push(`own ${event}`))
    yield* other.exists("/mine", (event) => events.push(`other ${event}`))
    const statuses: Array<string> = []
    session.subscribe((status) => statuses.push(words(status)))
    const before = session.status().id
    fake.expire("zk1")
    assert.deepStrictEqual(events, ["other Deleted", "own Lost"])
    assert.deepStrictEqual(statuses, ["Expired 1", "Connected 2"])
    assert.notStrictEqual(session.status().id, before)
    fake.disconnect("zk1")
    fake.expire("zk1")
    assert.deepStrictEqual(statuses, ["Expired 1", "Connected 2", "Disconnected 2"])
    fake.reconnect("zk1")
    assert.deepStrictEqual(statuses.slice(3), ["Expired 2", "Connected 3"])
  }).pipe(Effect.provide(FakeZooKeeper.layer())))

it.effect("a slow answer breaks with the connection; faults come when asked for, and may have been done", () =>
  Effect.gen(function*() {
    const { fake, session } = yield* setting
    fake.slow("1 second")
    const first = yield* Effect.forkChild(session.create("/a", new Uint8Array()), { startImmediately: true })
    yield* TestClock.adjust("999 millis")
    assert.isUndefined(first.pollUnsafe())
    fake.disconnect()
    assert.strictEqual((yield* Effect.flip(Fiber.join(first)))._tag, "ConnectionLoss")
    fake.reconnect()
    yield* TestClock.adjust("1 second")
    assert.deepStrictEqual(fake.list("/"), [])
    fake.slow(0)
    fake.failNext("create", "ConnectionLoss", { applied: true })
    fake.failNext("get", "NoAuth", { path: "/a" })
    assert.strictEqual((yield* Effect.flip(session.create("/a", new Uint8Array())))._tag, "ConnectionLoss")
    assert.deepStrictEqual(fake.list("/"), ["a"])
    assert.isTrue(Exit.isSuccess(yield* Effect.exit(session.get("/"))))
    assert.strictEqual((yield* Effect.flip(session.get("/a")))._tag, "NoAuth")
    assert.strictEqual(fake.count("get"), 2)
    assert.strictEqual(fake.count("get", "/a"), 1)
  }).pipe(Effect.provide(FakeZooKeeper.layer())))

it.effect("sessions of the same servers are one, closed with the last scope it was asked for in", () =>
  Effect.gen(function*() {
    const fake = yield* FakeZooKeeper
    const { session } = yield* ZooKeeper
    const states = yield* Effect.scoped(Effect.gen(function*() {
      const one = yield* session("zk2,zk1:2181")
      assert.strictEqual(yield* Effect.scoped(session("zk1,zk2,zk1:2181")), one)
      yield* one.create("/mine", new Uint8Array(), { mode: "ephemeral" })
      assert.strictEqual(fake.sessions().length, 1)
      assert.deepStrictEqual(fake.list("/"), ["mine"])
      return yield* Effect.forkDetach(Stream.runCollect(Stream.map(one.states, words)), { startImmediately: true })
    }))
    assert.deepStrictEqual(yield* Fiber.join(states), ["Connected 1", "Closed 1"])
    assert.deepStrictEqual(fake.list("/"), [])
    assert.deepStrictEqual(fake.sessions(), [])
    const wrong = yield* Effect.flip(session("zk1,:1"))
    assert.strictEqual(wrong._tag, "InvalidUri")
  }).pipe(Effect.provide(FakeZooKeeper.layer())))
