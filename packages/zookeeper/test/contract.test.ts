/**
 * What every server set keeps to, whatever it reads: the contract of core's `serverSetContract.test.ts`, for `zk://`. Its sources fail and are
 * silent in other ways than core's, which are real files and sockets: hence the same cases, and not the same code.
 */
import { assert, describe, it } from "@effect/vitest"
import { HeapBalancer, Requeue, Resurrector, ServerSet, SingletonPool, Stack } from "@scales-rpc/core"
import { Scripted, Seed } from "@scales-rpc/core/testing"
import { Effect, Fiber, Layer, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Text, TextClient } from "../../core/test/support.ts"
import { FakeZooKeeper } from "../src/testing/index.ts"
import { ZooKeeper } from "../src/ZooKeeper.ts"
import { member, Messages, pass, path, settle, show, zk } from "./support.ts"

const uri = `zk://zk1${path}`

/** Where the server set is read, in the hands of the test. Nothing is there at first. */
const source = Effect.map(FakeZooKeeper, (fake) => ({
  fake,
  /** It lists `h:port` for each port. */
  bind: (...ports: ReadonlyArray<number>) => {
    const names = ports.map((port) => `member_${port}`)
    for (const name of fake.list(path)) if (!names.includes(name)) fake.remove(`${path}/${name}`)
    fake.put(path)
    for (const port of ports) {
      if (!fake.list(path).includes(`member_${port}`)) fake.put(`${path}/member_${port}`, member(port))
    }
    return settle
  },
  /** It is gone. */
  remove: Effect.suspend(() => {
    fake.remove(path)
    return settle
  }),
  /** Reading it fails for a while. */
  fail: Effect.suspend(() => {
    for (let round = 0; round < 10; round++) fake.failNext("children", "ZooKeeperFailed", { path })
    fake.expire()
    return settle
  })
}))

/** Collects the states of the URI from now on. */
const watching = Effect.gen(function*() {
  const seen: Array<string> = []
  const fiber = yield* Effect.forkChild(
    Stream.runForEach(ZooKeeper.serverSet(uri), (state) => Effect.sync(() => void seen.push(show(state)))),
    { startImmediately: true }
  )
  yield* settle
  return { seen, close: Fiber.interrupt(fiber) }
})

const warnings = Effect.map(Messages, (messages) => messages.filter((message) => /^(WARN|ERROR|FATAL)/.test(message)))

describe("a server set from zk://", () => {
  it.effect("has its endpoints at once, without time passing", () =>
    Effect.gen(function*() {
      const { bind } = yield* source
      yield* bind(1, 2)
      assert.deepStrictEqual((yield* watching).seen, ["Bound 1 2"])
    }).pipe(Effect.provide(zk())))

  it.effect("that is missing at first is none, and is waited for", () =>
    Effect.gen(function*() {
      const { bind } = yield* source
      const { seen } = yield* watching
      yield* pass(60, "1 second")
      yield* bind(1)
      assert.deepStrictEqual(seen, ["Neg", "Bound 1"])
    }).pipe(Effect.provide(zk())))

  it.effect("gives each change as one whole state, and none that changes nothing", () =>
    Effect.gen(function*() {
      const { bind } = yield* source
      yield* bind(1, 2)
      const { seen } = yield* watching
      for (const ports of [[1, 2, 3], [3, 4], [4, 3]]) yield* bind(...ports)
      assert.deepStrictEqual(seen, ["Bound 1 2", "Bound 1 2 3", "Bound 3 4"])
      assert.deepStrictEqual(yield* warnings, [])
    }).pipe(Effect.provide(zk())))

  it.effect("is none when it is removed, and is followed when it is made again", () =>
    Effect.gen(function*() {
      const { bind, remove } = yield* source
      yield* bind(1)
      const { seen } = yield* watching
      for (const port of [1, 2]) {
        yield* remove
        yield* bind(port)
      }
      assert.deepStrictEqual(seen, ["Bound 1", "Neg", "Bound 1", "Neg", "Bound 2"])
      const missing = `WARN server set is missing {"connect":"zk1:2181","path":"${path}"}`
      assert.deepStrictEqual(yield* warnings, [missing, missing])
    }).pipe(Effect.provide(zk())))

  it.effect("that cannot be read at first says why, once, and goes on trying", () =>
    Effect.gen(function*() {
      const { bind, fail } = yield* source
      yield* bind(1)
      yield* fail
      const { seen } = yield* watching
      yield* pass(300, "1 second")
      assert.deepStrictEqual(seen, ["Failed ZooKeeperFailed", "Bound 1"])
      const told = yield* warnings
      assert.lengthOf(told, 1)
      assert.include(told[0], path)
    }).pipe(Effect.provide(zk())))

  it.effect("keeps what it knew while it cannot be read, with one warning", () =>
    Effect.gen(function*() {
      const { bind, fail } = yield* source
      yield* bind(1, 2)
      const { seen } = yield* watching
      yield* fail
      yield* bind(2)
      yield* pass(20, "100 millis")
      assert.deepStrictEqual(seen, ["Bound 1 2"])
      yield* pass(300, "1 second")
      assert.deepStrictEqual(seen, ["Bound 1 2", "Bound 2"])
      assert.lengthOf(yield* warnings, 1)
    }).pipe(Effect.provide(zk())))

  it.effect("that is none stays so while it cannot be read", () =>
    Effect.gen(function*() {
      const { fail } = yield* source
      const { seen } = yield* watching
      yield* fail
      yield* pass(300, "1 second")
      assert.deepStrictEqual(seen, ["Neg"])
    }).pipe(Effect.provide(zk())))

  it.effect("is a stream that runs more than once, each run by itself", () =>
    Effect.gen(function*() {
      const { bind } = yield* source
      yield* bind(1)
      const one = yield* watching
      const other = yield* watching
      yield* one.close
      yield* bind(2)
      assert.deepStrictEqual([one.seen, other.seen], [["Bound 1"], ["Bound 1", "Bound 2"]])
    }).pipe(Effect.provide(zk())))

  it.effect("leaves nothing when its scope closes, while it waits or while it reads", () =>
    Effect.gen(function*() {
      const { bind, fake } = yield* source
      yield* bind(1)
      for (const [latency, states] of [[0, ["Bound 1"]], ["1 second", []]] as const) {
        fake.slow(latency)
        const { close, seen } = yield* watching
        assert.lengthOf(fake.sessions(), 1)
        yield* close
        assert.deepStrictEqual([fake.sessions(), fake.watches()], [[], 0])
        yield* bind(1, 2)
        yield* TestClock.adjust("1 hour")
        yield* bind(1)
        assert.deepStrictEqual(seen, [...states])
      }
    }).pipe(Effect.provide(zk())))

  it.effect("has states that a consumer may be slow to take, and takes them whole", () =>
    Effect.gen(function*() {
      const { bind } = yield* source
      yield* bind(1)
      const seen: Array<string> = []
      yield* Effect.forkChild(Stream.runForEach(ZooKeeper.serverSet(uri), (state) =>
        Effect.andThen(
          Effect.sync(() => seen.push(show(state))),
          Effect.sleep("1 second")
        )))
      yield* settle
      // Changes faster than it takes them: the last one counts.
      for (let last = 2; last < 10; last++) {
        yield* bind(...Array.from({ length: last }, (_, index) => index + 1))
      }
      yield* pass(60, "1 second")
      assert.strictEqual(seen.at(-1), "Bound 1 2 3 4 5 6 7 8 9")
      assert.isBelow(seen.length, 9)
    }).pipe(Effect.provide(zk())))

  it.effect("is what a client's calls go by, whatever becomes of where it is read", () =>
    Effect.gen(function*() {
      const { bind, fail, fake, remove } = yield* source
      yield* bind(1)
      const client = TextClient.layer().pipe(
        Layer.provide(Requeue.layer(Text)),
        Layer.provide(HeapBalancer.layer(Text)),
        Layer.provide(Resurrector.layer(Text)),
        Layer.provide(SingletonPool.layer(Text)),
        Layer.provide(Scripted.layer(Text, (_request, attempt) => Effect.succeed(attempt.endpoint.key))),
        Layer.provide(ServerSet.fromUri(uri)),
        Layer.provide(Stack.layer("contract")),
        Layer.provide(Seed.layer(1)),
        Layer.fresh
      )
      yield* Effect.gen(function*() {
        const { call } = yield* TextClient
        const answer = Effect.catch(call(""), (error) => Effect.succeed(error._tag))
        yield* settle
        assert.strictEqual(yield* answer, "h:1")
        yield* fail
        fake.disconnect()
        for (let second = 0; second < 60; second++) {
          assert.strictEqual(yield* answer, "h:1")
          yield* pass(1, "1 second")
        }
        fake.reconnect()
        yield* pass(300, "1 second")
        yield* bind(2)
        assert.strictEqual(yield* answer, "h:2")
        yield* remove
        assert.strictEqual(yield* answer, "NoEndpoints")
        yield* bind(3)
        assert.strictEqual(yield* answer, "h:3")
      }).pipe(Effect.provide(client))
    }).pipe(Effect.provide(zk())))
})
