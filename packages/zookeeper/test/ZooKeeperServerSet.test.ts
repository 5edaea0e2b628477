import { assert, describe, it } from "@effect/vitest"
import { Endpoint, InvalidOption, InvalidUri } from "@scales-rpc/core"
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import type { Watcher } from "../src/Session.ts"
import { FakeZooKeeper } from "../src/testing/index.ts"
import { ZooKeeper } from "../src/ZooKeeper.ts"
import { serverSet } from "../src/ZooKeeperServerSet.ts"
import { member, Messages, pass, path, settle, watch, zk } from "./support.ts"

const reads = (fake: FakeZooKeeper["Service"]) => ({
  get: fake.count("get"),
  children: fake.count("children"),
  exists: fake.count("exists")
})

/** The line that a malformed node is told of with. */
const malformed = (name: string, faults: string) =>
  `WARN server set has a malformed node ${
    JSON.stringify({ connect: "zk1:2181", path, node: `${path}/${name}`, faults })
  }`

describe("a server set in ZooKeeper", () => {
  it.effect("shows its members, as they join and leave", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1))
      fake.put(`${path}/member_2`, member(2))
      const { text } = yield* watch()
      assert.deepStrictEqual(text(), ["Bound 1 2"])
      fake.put(`${path}/member_3`, member(3))
      yield* settle
      fake.remove(`${path}/member_1`)
      yield* settle
      assert.deepStrictEqual(text(), ["Bound 1 2", "Bound 1 2 3", "Bound 2 3"])
    }).pipe(Effect.provide(zk())))

  it.effect("says of an endpoint its shard, its metadata and whose it is", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_0000000007`, member(1, { shard: 3, metadata: { zone: "a" } }))
      const { seen } = yield* watch()
      assert.deepStrictEqual(seen, [{
        _tag: "Bound",
        endpoints: [Endpoint.tcp("h", 1, { shard: 3, metadata: { zone: "a", "zk.member": "member_0000000007" } })]
      }])
    }).pipe(Effect.provide(zk())))

  it.effect("reads nothing but what a change needs", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (let port = 1; port <= 50; port++) fake.put(`${path}/member_${port}`, member(port))
      yield* watch()
      assert.deepStrictEqual(reads(fake), { get: 50, children: 1, exists: 0 })
      fake.put(`${path}/member_51`, member(51))
      yield* settle
      assert.deepStrictEqual(reads(fake), { get: 51, children: 2, exists: 0 })
      fake.put(`${path}/member_7`, member(7, { shard: 3 }))
      yield* settle
      assert.deepStrictEqual(reads(fake), { get: 52, children: 2, exists: 0 })
      fake.remove(`${path}/member_8`)
      yield* settle
      assert.deepStrictEqual(reads(fake), { get: 52, children: 3, exists: 0 })
      // One for the children, and one for each member that is left.
      assert.strictEqual(fake.watches(), 51)
    }).pipe(Effect.provide(zk())))

  it.effect("reads the directory at most once more than needed, however many change it meanwhile", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_0`, member(1000))
      fake.slow("1 second")
      const { last } = yield* watch()
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(last(), "Bound 1000")
      const before = reads(fake)
      for (let port = 1; port <= 100; port++) {
        fake.put(`${path}/member_${port}`, member(port))
        yield* TestClock.adjust("10 millis")
      }
      yield* TestClock.adjust("1 minute")
      assert.include(last(), "1000 1 10 100 11")
      const after = reads(fake)
      assert.strictEqual(after.get - before.get, 100)
      // Each reading takes 1 s for the directory and another for the members: those of the second that it took to join.
      assert.isAtMost(after.children - before.children, 2)
    }).pipe(Effect.provide(zk())))

  it.effect("reads so many members at once as it may", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (let port = 1; port <= 95; port++) fake.put(`${path}/member_${port}`, member(port))
      fake.slow("1 second")
      const { seen } = yield* watch({ reads: 10 })
      yield* TestClock.adjust("1 second")
      for (let second = 1; second <= 9; second++) {
        assert.strictEqual(fake.count("get"), (second - 1) * 10)
        yield* TestClock.adjust("1 second")
      }
      assert.strictEqual(fake.count("get"), 90)
      assert.lengthOf(seen, 0)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(fake.count("get"), 95)
      assert.lengthOf(seen, 1)
    }).pipe(Effect.provide(zk())))

  it.effect("reads 100 at once by default, or what ZooKeeper's layer says", () =>
    Effect.gen(function*() {
      for (const [options, expected] of [[{}, 100], [{ reads: 30 }, 30]] as const) {
        yield* Effect.gen(function*() {
          const fake = yield* FakeZooKeeper
          for (let port = 1; port <= 150; port++) fake.put(`${path}/member_${port}`, member(port))
          fake.slow("1 second")
          yield* watch()
          yield* TestClock.adjust("2 seconds")
          assert.strictEqual(fake.count("get"), expected)
        }).pipe(Effect.provide(zk(options)), Effect.scoped)
      }
    }))

  it.effect("reads no children but members and vectors", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (const name of ["lock_1", "Member_1", "a-member_1", "member"]) fake.put(`${path}/${name}`, member(1))
      const { text } = yield* watch()
      assert.deepStrictEqual(text(), ["Bound"])
      assert.strictEqual(fake.count("get"), 0)
    }).pipe(Effect.provide(zk())))

  it.effect("reads a member's rewritten data once, and heeds its status", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1))
      fake.put(`${path}/member_2`, member(2))
      const { text } = yield* watch()
      for (const status of ["STOPPING", "ALIVE", "DEAD", "STARTING", "STOPPED", "WARNING", "UNKNOWN", "ALIVE"]) {
        fake.put(`${path}/member_1`, member(1, { status }))
        yield* settle
      }
      assert.deepStrictEqual(text(), ["Bound 1 2", "Bound 2", "Bound 1 2", "Bound 2", "Bound 1 2"])
      assert.deepStrictEqual(reads(fake), { get: 10, children: 1, exists: 0 })
    }).pipe(Effect.provide(zk())))

  it.effect("skips a member that leaves between the listing and the reading", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1))
      fake.put(`${path}/member_2`, member(2))
      fake.slow("1 second")
      const { text } = yield* watch()
      yield* TestClock.adjust("1 second")
      fake.remove(`${path}/member_1`)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(text(), ["Bound 2"])
      assert.deepStrictEqual(reads(fake), { get: 2, children: 2, exists: 0 })
    }).pipe(Effect.provide(zk())))

  it.effect("reads a member that left and came back under its name before it was read", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1))
      fake.slow("1 second")
      const { text } = yield* watch()
      yield* TestClock.adjust("1 second")
      fake.remove(`${path}/member_1`)
      yield* TestClock.adjust("1500 millis")
      fake.put(`${path}/member_1`, member(2))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(text().at(-1), "Bound 2")
      // And it is watched.
      fake.put(`${path}/member_1`, member(3))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(text().at(-1), "Bound 3")
    }).pipe(Effect.provide(zk())))

  it.effect("follows a member that was deleted and made again under its name", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1))
      const { text } = yield* watch()
      fake.remove(`${path}/member_1`)
      fake.put(`${path}/member_1`, member(2))
      yield* settle
      fake.put(`${path}/member_1`, member(3))
      yield* settle
      assert.deepStrictEqual(text(), ["Bound 1", "Bound 2", "Bound 3"])
    }).pipe(Effect.provide(zk())))
})

// One that leaves takes the other's endpoint along in Scales.
describe("two members on one endpoint", () => {
  it.effect("are one endpoint until both have left, of which the newer one tells", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_0000000001`, member(1, { shard: 1 }))
      fake.put(`${path}/member_0000000002`, member(1, { shard: 2 }))
      const { seen, text } = yield* watch()
      fake.remove(`${path}/member_0000000002`)
      yield* settle
      fake.remove(`${path}/member_0000000001`)
      yield* settle
      assert.deepStrictEqual(text(), ["Bound 1", "Bound 1", "Bound"])
      assert.deepStrictEqual(
        seen.map((state) => state._tag === "Bound" ? state.endpoints.map(({ shard }) => shard) : []),
        [[2], [1], []]
      )
    }).pipe(Effect.provide(zk())))

  it.effect("are there if the newer one is alive, whatever the older one says", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1, { status: "STARTING" }))
      const { text } = yield* watch()
      fake.put(`${path}/member_2`, member(1))
      yield* settle
      fake.put(`${path}/member_3`, member(1, { status: "STOPPING" }))
      yield* settle
      fake.put(`${path}/member_1`, member(1))
      fake.remove(`${path}/member_2`)
      yield* settle
      assert.deepStrictEqual(text(), ["Bound", "Bound 1", "Bound"])
      fake.remove(`${path}/member_3`)
      yield* settle
      assert.deepStrictEqual(text(), ["Bound", "Bound 1", "Bound", "Bound 1"])
    }).pipe(Effect.provide(zk())))

  it.effect("are there if the newer one says nothing that can be read", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1))
      fake.put(`${path}/member_2`, member(1, { status: "SLEEPING" }))
      fake.put(`${path}/member_3`, "garbage")
      const { text } = yield* watch()
      assert.deepStrictEqual(text(), ["Bound 1"])
    }).pipe(Effect.provide(zk())))

  it.effect("are held for as long as any that leaves when the newer one is not alive", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (let port = 1; port <= 2; port++) fake.put(`${path}/member_${port}`, member(port))
      const { text } = yield* watch()
      fake.put(`${path}/member_3`, member(1, { status: "STOPPING" }))
      yield* settle
      fake.remove(`${path}/member_1`)
      yield* settle
      yield* TestClock.adjust("9 seconds")
      assert.deepStrictEqual(text(), ["Bound 1 2"])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(text(), ["Bound 1 2", "Bound 2"])
    }).pipe(Effect.provide(zk({}))))
})

// In Scales a deleted path takes one member along, and one that is made again is never seen.
describe("a path", () => {
  it.effect("that does not exist reads as none, and is followed once it is made", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const { text } = yield* watch()
      assert.deepStrictEqual(text(), ["Neg"])
      assert.strictEqual(fake.watches(), 1)
      fake.put("/services")
      yield* settle
      assert.deepStrictEqual(text(), ["Neg"])
      fake.put(path)
      yield* settle
      fake.put(`${path}/member_1`, member(1))
      yield* settle
      assert.deepStrictEqual(text(), ["Neg", "Bound", "Bound 1"])
      assert.strictEqual(fake.watches(), 2)
    }).pipe(Effect.provide(zk())))

  it.effect("that is deleted takes all its members along, and is followed when it is made again", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (let port = 1; port <= 3; port++) fake.put(`${path}/member_${port}`, member(port))
      const { text } = yield* watch()
      for (let round = 0; round < 10; round++) {
        fake.remove(path)
        yield* settle
        for (let port = 1; port <= 3; port++) fake.put(`${path}/member_${port}`, member(port))
        yield* settle
      }
      assert.deepStrictEqual(text(), [
        "Bound 1 2 3",
        ...Array.from({ length: 20 }, (_, index) => index % 2 === 0 ? "Neg" : "Bound 1 2 3")
      ])
      assert.strictEqual(fake.watches(), 4)
      assert.deepStrictEqual(reads(fake), { get: 33, children: 21, exists: 10 })
    }).pipe(Effect.provide(zk())))

  it.effect("that is deleted and made again before anybody looks is one state", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1))
      const { text } = yield* watch()
      fake.remove(path)
      fake.put(`${path}/member_1`, member(2))
      yield* settle
      fake.put(`${path}/member_1`, member(3))
      yield* settle
      assert.deepStrictEqual(text(), ["Bound 1", "Bound 2", "Bound 3"])
    }).pipe(Effect.provide(zk())))

  it.effect("that is made between the question for its children and that for itself is read", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.slow("1 second")
      const { text } = yield* watch()
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(reads(fake), { get: 0, children: 1, exists: 0 })
      fake.put(`${path}/member_1`, member(1))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(text(), ["Bound 1"])
      fake.remove(path)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(text(), ["Bound 1", "Neg"])
    }).pipe(Effect.provide(zk())))
})

describe("a named endpoint", () => {
  it.effect("is that of the members that have one of the name", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1, { additionalEndpoints: { http: { host: "h", port: 11 } } }))
      fake.put(`${path}/member_2`, member(2, { additionalEndpoints: { admin: { host: "h", port: 12 } } }))
      fake.put(`${path}/member_3`, member(3, { additionalEndpoints: { http: { host: "h", port: 13 }, x: {} } }))
      fake.put(`${path}/member_4`, member(4))
      const http = yield* watch({}, `zk://zk1${path}#http`)
      const proto = yield* watch({}, `zk://zk1${path}#toString`)
      assert.deepStrictEqual(http.text(), ["Bound 11 13"])
      assert.deepStrictEqual(proto.text(), ["Bound"])
      fake.put(`${path}/member_2`, member(2, { additionalEndpoints: { http: { host: "h", port: 12 } } }))
      yield* settle
      assert.strictEqual(http.last(), "Bound 11 12 13")
    }).pipe(Effect.provide(zk())))
})

describe("vectors", () => {
  const vector = (...lines: ReadonlyArray<object>) => JSON.stringify({ vector: lines })

  it.effect("weigh members, and are followed like them", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (const port of [1, 2, 3]) fake.put(`${path}/member_${port}`, member(port, { shard: port }))
      fake.put(`${path}/vector_1`, vector({ select: "shard=1", weight: 2 }, { select: "inet=h:2", weight: 0.5 }))
      const { last, text } = yield* watch()
      assert.deepStrictEqual(text(), ["Bound 1*2 2*0.5 3"])
      fake.put(`${path}/vector_2`, vector({ select: "member=member_1", weight: 3 }))
      yield* settle
      assert.strictEqual(last(), "Bound 1*6 2*0.5 3")
      fake.put(`${path}/vector_1`, vector({ select: "shard=3", weight: -1 }))
      yield* settle
      assert.strictEqual(last(), "Bound 1*3 2")
      fake.remove(`${path}/vector_1`)
      yield* settle
      assert.strictEqual(last(), "Bound 1*3 2 3")
    }).pipe(Effect.provide(zk())))

  /** A set of two members, of which a vector takes the second one out. */
  const drained = (data = vector({ select: "inet=h:2", weight: -1 })) =>
    Effect.map(FakeZooKeeper, (fake) => {
      for (const port of [1, 2]) fake.put(`${path}/member_${port}`, member(port))
      fake.put(`${path}/vector_1`, data)
      return fake
    })

  const typos: ReadonlyArray<string> = [
    "{oops",
    "",
    "{}",
    vector({ select: "inet=h:2", weight: "-1" }),
    vector({ select: "shard=7", weight: 2 }, { select: "inet=h", weight: -1 })
  ]
  for (const typo of typos) {
    it.effect(`that become malformed say what they said before, until they are right again: ${typo}`, () =>
      Effect.gen(function*() {
        const fake = yield* drained()
        const { text } = yield* watch()
        fake.put(`${path}/vector_1`, typo)
        fake.put(`${path}/member_3`, member(3))
        yield* settle
        fake.put(`${path}/vector_1`, `${typo} `)
        yield* settle
        fake.expire()
        yield* settle
        assert.deepStrictEqual(text(), ["Bound 1", "Bound 1 3"])
        const messages = yield* Messages
        assert.lengthOf(messages, 2)
        for (const each of messages) {
          assert.match(each, /^WARN server set has a malformed node .*"node":"\/services\/echo\/vector_1"/)
          assert.include(each, "\"stands\":\"what it said before\"")
        }
        fake.put(`${path}/vector_1`, vector({ select: "inet=h:1", weight: -1 }))
        yield* settle
        assert.strictEqual(text().at(-1), "Bound 2 3")
        // A node that is gone says nothing.
        fake.remove(`${path}/vector_1`)
        yield* settle
        fake.put(`${path}/vector_1`, typo)
        yield* settle
        assert.strictEqual(text().at(-1), "Bound 1 2 3")
      }).pipe(Effect.provide(zk())))
  }

  it.effect("that cannot be read at first are waited for, for one more try", () =>
    Effect.gen(function*() {
      const fake = yield* drained()
      fake.failNext("get", "OperationTimeout", { path: `${path}/vector_1` })
      const { text } = yield* watch()
      assert.deepStrictEqual(text(), [])
      yield* pass(15, "10 millis")
      assert.deepStrictEqual(text(), ["Bound 1"])
      // One that is made again, with the members that are there by then, is no other case.
      fake.remove(`${path}/vector_1`)
      fake.failNext("get", "ZooKeeperFailed", { path: `${path}/vector_1` })
      yield* drained()
      fake.put(`${path}/member_3`, member(3))
      yield* settle
      yield* pass(15, "10 millis")
      assert.deepStrictEqual(text(), ["Bound 1", "Bound 1 3"])
    }).pipe(Effect.provide(zk())))

  it.effect("that cannot be read are not waited for any longer", () =>
    Effect.gen(function*() {
      const fake = yield* drained()
      for (let round = 0; round < 3; round++) fake.failNext("get", "OperationTimeout", { path: `${path}/vector_1` })
      const { text } = yield* watch()
      assert.deepStrictEqual(text(), [])
      yield* pass(15, "10 millis")
      assert.deepStrictEqual(text(), ["Bound 1 2"])
      yield* pass(15, "100 millis")
      assert.deepStrictEqual(text(), ["Bound 1 2", "Bound 1"])
    }).pipe(Effect.provide(zk())))

  it.effect("that may not be read are not waited for", () =>
    Effect.gen(function*() {
      const fake = yield* drained()
      fake.failNext("get", "NoAuth", { path: `${path}/vector_1` })
      const { text } = yield* watch()
      assert.deepStrictEqual(text(), ["Bound 1 2"])
    }).pipe(Effect.provide(zk())))

  it.effect("that cannot be read any more say what they said before", () =>
    Effect.gen(function*() {
      const fake = yield* drained()
      const { text } = yield* watch()
      for (let round = 0; round < 5; round++) fake.failNext("get", "NoAuth", { path: `${path}/vector_1` })
      fake.put(`${path}/vector_1`, vector())
      yield* settle
      fake.expire()
      yield* settle
      assert.deepStrictEqual(text(), ["Bound 1"])
    }).pipe(Effect.provide(zk())))

  it.effect("that are malformed weigh nothing, and are told of once", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1))
      fake.put(`${path}/vector_1`, "hello")
      const { text } = yield* watch()
      fake.expire()
      yield* settle
      assert.deepStrictEqual(text(), ["Bound 1"])
      assert.deepStrictEqual(yield* Messages, [malformed("vector_1", "its data is no JSON")])
    }).pipe(Effect.provide(zk())))
})

// One of them costs Scales all members that joined with it.
describe("malformed members", () => {
  const wrong: ReadonlyArray<string | Uint8Array> = [
    "",
    "hello, world!",
    member(1).slice(0, -1),
    Uint8Array.of(0xff, 0xfe),
    "null",
    "[]",
    member(1, { serviceEndpoint: undefined }),
    member(1, { serviceEndpoint: { host: "h", port: 99_999 } }),
    member(1, { serviceEndpoint: { host: "", port: 80 } }),
    member(1, { serviceEndpoint: { host: "h", port: "80" } }),
    member(1, { status: undefined }),
    member(1, { status: "SLEEPING" })
  ]

  it.effect("are left out with one warning each, and the others stand", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const messages = yield* Messages
      fake.put(`${path}/member_good`, member(1))
      wrong.forEach((data, index) => fake.put(`${path}/member_bad${index}`, data))
      const { text } = yield* watch()
      assert.deepStrictEqual(text(), ["Bound 1"])
      for (let round = 0; round < 3; round++) {
        fake.expire()
        yield* settle
      }
      fake.put(`${path}/member_more`, member(2))
      yield* settle
      assert.deepStrictEqual(text(), ["Bound 1", "Bound 1 2"])
      // The rest of so many at once is counted in one line, when no more come.
      assert.lengthOf(messages, 10)
      const of = (index: number) =>
        messages.filter((message) => message.includes(`"node":"${path}/member_bad${index}"`))
      const each = wrong.map((_, index) => of(index).length)
      assert.deepStrictEqual([each.filter((n) => n === 1).length, each.filter((n) => n === 0).length], [10, 2])
      yield* pass(20, "500 millis")
      assert.deepStrictEqual(messages.slice(10), [
        `WARN server set has a malformed node {"connect":"zk1:2181","leftOut":2}`
      ])
    }).pipe(Effect.provide(zk())))

  it.effect("are told of again when they say something else that is malformed, and join when they are right", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const messages = yield* Messages
      const { text } = yield* watch()
      for (const data of ["a", "b", "b", member(1), "a"]) {
        fake.put(`${path}/member_1`, data)
        yield* settle
      }
      assert.deepStrictEqual(text(), ["Neg", "Bound", "Bound 1", "Bound"])
      assert.lengthOf(messages.filter((message) => message.startsWith("WARN server set has a malformed node")), 3)
    }).pipe(Effect.provide(zk())))

  it.effect("whose endpoint is right lose what is wrong, and no more", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1, { shard: "seven", metadata: [] }))
      const { text } = yield* watch()
      assert.deepStrictEqual(text(), ["Bound 1"])
      assert.deepStrictEqual(yield* Messages, [malformed("member_1", "its shard is \"seven\"; its metadata is []")])
    }).pipe(Effect.provide(zk())))
})

describe("while the connection is lost", () => {
  it.effect("the last state stands and nothing is read; after that, what has changed", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (let port = 1; port <= 20; port++) fake.put(`${path}/member_${port}`, member(port))
      const { last, seen } = yield* watch()
      const before = reads(fake)
      fake.disconnect()
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(reads(fake), before)
      fake.reconnect()
      yield* settle
      assert.deepStrictEqual(reads(fake), before)
      assert.lengthOf(seen, 1)
      fake.disconnect()
      yield* settle
      fake.put(`${path}/member_21`, member(21))
      fake.put(`${path}/member_3`, member(3, { status: "DEAD" }))
      fake.remove(`${path}/member_4`)
      yield* TestClock.adjust("1 hour")
      assert.lengthOf(seen, 1)
      fake.reconnect()
      yield* settle
      assert.lengthOf(seen, 2)
      assert.strictEqual(last(), "Bound 1 10 11 12 13 14 15 16 17 18 19 2 20 21 5 6 7 8 9")
      assert.deepStrictEqual(reads(fake), { get: before.get + 2, children: before.children + 1, exists: 0 })
      assert.strictEqual(fake.watches(), 21)
    }).pipe(Effect.provide(zk())))

  it.effect("in the middle of the first reading, nothing is shown until all is read", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (let port = 1; port <= 30; port++) fake.put(`${path}/member_${port}`, member(port))
      fake.slow("1 second")
      const { seen, text } = yield* watch({ reads: 10 })
      yield* TestClock.adjust("2500 millis")
      fake.disconnect()
      yield* TestClock.adjust("5 seconds")
      assert.lengthOf(seen, 0)
      fake.reconnect()
      yield* TestClock.adjust("1 minute")
      assert.lengthOf(text(), 1)
      assert.lengthOf(text()[0]!.split(" "), 31)
      // That is nothing to be told of: the session tells.
      assert.deepStrictEqual(yield* Messages, [])
      // What was under way when the connection broke was read twice, what was read before was not.
      assert.isAtMost(fake.count("get"), 40)
    }).pipe(Effect.provide(zk())))

  it.effect("right from the start, whoever waits is told why after 10 seconds, and gets the members later", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1))
      fake.disconnect()
      const { text } = yield* watch()
      yield* TestClock.adjust("9999 millis")
      assert.deepStrictEqual(text(), [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(text(), ["Failed not connected to zk1:2181"])
      yield* TestClock.adjust("1 hour")
      fake.reconnect()
      yield* settle
      assert.deepStrictEqual(text(), ["Failed not connected to zk1:2181", "Bound 1"])
    }).pipe(Effect.provide(zk())))
})

describe("when the session expires", () => {
  it.effect("everything is read again, and the difference is one state", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (let port = 1; port <= 5; port++) fake.put(`${path}/member_${port}`, member(port))
      const { text } = yield* watch({ reads: 1 })
      fake.disconnect()
      fake.put(`${path}/member_1`, member(1, { status: "DEAD" }))
      fake.remove(`${path}/member_2`)
      fake.put(`${path}/member_6`, member(6))
      fake.expire()
      yield* TestClock.adjust("1 hour")
      fake.slow("1 second")
      fake.reconnect()
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(text(), ["Bound 1 2 3 4 5", "Bound 3 4 5 6"])
      assert.deepStrictEqual(reads(fake), { get: 10, children: 2, exists: 0 })
    }).pipe(Effect.provide(zk())))

  it.effect("again and again, nothing is shown and the watches stay as many", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (let port = 1; port <= 10; port++) fake.put(`${path}/member_${port}`, member(port))
      const { text } = yield* watch()
      for (let round = 1; round <= 100; round++) {
        fake.expire()
        yield* settle
        assert.strictEqual(fake.watches(), 11)
        assert.deepStrictEqual(reads(fake), { get: 10 * (round + 1), children: round + 1, exists: 0 })
      }
      assert.deepStrictEqual(text(), ["Bound 1 10 2 3 4 5 6 7 8 9"])
    }).pipe(Effect.provide(zk())))

  it.effect("again under the reading that follows, the last state stands until one is complete", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (let port = 1; port <= 5; port++) fake.put(`${path}/member_${port}`, member(port))
      const { text } = yield* watch({ reads: 1 })
      fake.slow("1 second")
      fake.put(`${path}/member_6`, member(6))
      for (let round = 0; round < 10; round++) {
        fake.expire()
        yield* TestClock.adjust("3500 millis")
      }
      assert.deepStrictEqual(text(), ["Bound 1 2 3 4 5"])
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(text(), ["Bound 1 2 3 4 5", "Bound 1 2 3 4 5 6"])
    }).pipe(Effect.provide(zk())))

  it.effect("a path that does not exist is still waited for", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const { text } = yield* watch()
      for (let round = 0; round < 5; round++) {
        fake.expire()
        yield* settle
      }
      assert.strictEqual(fake.watches(), 1)
      fake.put(`${path}/member_1`, member(1))
      yield* settle
      assert.deepStrictEqual(text(), ["Neg", "Bound 1"])
    }).pipe(Effect.provide(zk())))
})

describe("what cannot be read", () => {
  it.effect("leaves the rest, and is tried again after a moment", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (let port = 1; port <= 3; port++) fake.put(`${path}/member_${port}`, member(port))
      fake.failNext("get", "ZooKeeperFailed", { path: `${path}/member_2` })
      fake.failNext("get", "OperationTimeout", { path: `${path}/member_2` })
      const { text } = yield* watch()
      assert.deepStrictEqual(text(), ["Bound 1 3"])
      yield* pass(20, "50 millis")
      assert.deepStrictEqual(text(), ["Bound 1 3", "Bound 1 2 3"])
      assert.strictEqual(fake.count("get"), 5)
    }).pipe(Effect.provide(zk())))

  it.effect("keeps what it was, when it could be read before", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (let port = 1; port <= 2; port++) fake.put(`${path}/member_${port}`, member(port))
      const { text } = yield* watch()
      for (let round = 0; round < 3; round++) fake.failNext("get", "ConnectionLoss")
      fake.failNext("children", "ConnectionLoss")
      fake.expire()
      yield* pass(120, "500 millis")
      assert.deepStrictEqual(text(), ["Bound 1 2"])
      assert.strictEqual(fake.watches(), 3)
    }).pipe(Effect.provide(zk())))

  it.effect("is tried again ever more seldom, up to every 10 seconds", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1))
      for (let round = 0; round < 1000; round++) fake.failNext("get", "ZooKeeperFailed")
      yield* watch()
      yield* pass(20, "50 millis")
      assert.isAtLeast(fake.count("get"), 3)
      yield* pass(120, "500 millis")
      const before = fake.count("get")
      yield* pass(200, "500 millis")
      assert.isAtLeast(fake.count("get") - before, 10)
      assert.isAtMost(fake.count("get") - before, 14)
    }).pipe(Effect.provide(zk())))

  it.effect("for want of a right is a failure with its cause, tried again every few minutes", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1))
      for (let round = 0; round < 3; round++) fake.failNext("children", "NoAuth")
      const { text } = yield* watch()
      assert.deepStrictEqual(text(), ["Failed NoAuth"])
      yield* pass(8, "500 millis")
      assert.strictEqual(fake.count("children"), 1)
      yield* pass(450, "2 seconds")
      assert.strictEqual(text().at(-1), "Bound 1")
      assert.strictEqual(fake.count("children"), 4)
    }).pipe(Effect.provide(zk())))

  it.effect("in one session is tried again at once in the next", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1))
      fake.failNext("children", "NoAuth")
      const { text } = yield* watch()
      fake.expire()
      yield* settle
      assert.deepStrictEqual(text(), ["Failed NoAuth", "Bound 1"])
    }).pipe(Effect.provide(zk())))

  it.effect("under a path that was made again is not shown as what it was under the old one", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1))
      const { text } = yield* watch()
      fake.remove(path)
      yield* settle
      fake.failNext("get", "ZooKeeperFailed")
      fake.put(`${path}/member_1`, member(2))
      yield* settle
      yield* pass(20, "50 millis")
      assert.deepStrictEqual(text(), ["Bound 1", "Neg", "Bound", "Bound 2"])
    }).pipe(Effect.provide(zk())))

  it.effect("is everything: a failure with the first cause", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (let port = 1; port <= 2; port++) fake.put(`${path}/member_${port}`, member(port))
      for (let round = 0; round < 2; round++) fake.failNext("get", "NoAuth")
      const { text } = yield* watch()
      assert.deepStrictEqual(text(), ["Failed NoAuth"])
      yield* pass(450, "2 seconds")
      assert.strictEqual(text().at(-1), "Bound 1 2")
    }).pipe(Effect.provide(zk())))

  it.effect("is what is left after the others have gone: they go", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1))
      const { text } = yield* watch()
      for (let round = 0; round < 100; round++) fake.failNext("get", "NoAuth", { path: `${path}/member_2` })
      fake.put(`${path}/member_2`, member(2))
      fake.remove(`${path}/member_1`)
      yield* settle
      assert.deepStrictEqual(text(), ["Bound 1", "Bound"])
    }).pipe(Effect.provide(zk())))

  it.effect("is told of once", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1))
      for (let round = 0; round < 5; round++) fake.failNext("get", "ZooKeeperFailed")
      yield* watch()
      yield* pass(120, "500 millis")
      const messages = yield* Messages
      const node = `"node":"${path}/member_1","cause":"get ${path}/member_1: ZooKeeper has failed (-1)"`
      const of = `"connect":"zk1:2181","path":"${path}"`
      assert.lengthOf(messages, 2)
      assert.strictEqual(messages[0], `WARN a ZooKeeper node cannot be read, and is tried again {${of},${node}}`)
      assert.match(messages[1]!, /^INFO server set is back .*"goneMillis":\d+,"members":1/)
    }).pipe(Effect.provide(zk())))
})

describe("waiting", () => {
  const fails: ReadonlyArray<["children" | "get" | "exists", path: string]> = [
    ["children", path],
    ["get", `${path}/member_1`],
    ["exists", "/missing"]
  ]
  for (const [operation, at] of fails) {
    it.effect(`for the time when a failed ${operation} may be tried again costs nothing`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeZooKeeper
        const zookeeper = yield* ZooKeeper
        fake.put(`${path}/member_1`, member(1))
        let looks = 0
        const counting = ZooKeeper.of({
          ...zookeeper,
          session: (connect) =>
            Effect.map(zookeeper.session(connect), (session) => ({
              ...session,
              status: () => {
                looks++
                return session.status()
              }
            }))
        })
        yield* Effect.provideService(
          watch({}, operation === "exists" ? "zk://zk1/missing" : undefined),
          ZooKeeper,
          counting
        )
        for (let round = 0; round < 100; round++) fake.failNext(operation, "NoAuth", { path: at })
        fake.expire()
        yield* settle
        const before = looks
        yield* pass(20, "200 millis")
        assert.strictEqual(looks, before)
      }).pipe(Effect.provide(zk())))
  }
})

describe("members that leave", () => {
  it.effect("are kept for 10 seconds, and all of them together for a minute", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (let port = 1; port <= 2; port++) fake.put(`${path}/member_${port}`, member(port))
      const { text } = yield* watch()
      fake.remove(`${path}/member_1`)
      yield* settle
      yield* TestClock.adjust("9 seconds")
      assert.deepStrictEqual(text(), ["Bound 1 2"])
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(text(), ["Bound 1 2", "Bound 2"])
      fake.remove(path)
      yield* settle
      yield* TestClock.adjust("59 seconds")
      assert.deepStrictEqual(text(), ["Bound 1 2", "Bound 2"])
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(text(), ["Bound 1 2", "Bound 2", "Neg"])
    }).pipe(Effect.provide(zk({}))))

  it.effect("are kept for as long as the set says, before what ZooKeeper's layer says", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (let port = 1; port <= 2; port++) fake.put(`${path}/member_${port}`, member(port))
      const own = yield* watch({ removals: "1 second", empty: "2 seconds" })
      const layers = yield* watch()
      fake.remove(`${path}/member_1`)
      yield* settle
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual([own.last(), layers.last()], ["Bound 2", "Bound 1 2"])
      yield* TestClock.adjust("4 seconds")
      assert.deepStrictEqual([own.last(), layers.last()], ["Bound 2", "Bound 2"])
    }).pipe(Effect.provide(zk({ removals: "5 seconds" }))))
})

describe("a server set's session", () => {
  it.effect("is that of all sets of the same servers, and ends with the last of them", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const one = yield* Scope.make()
      const two = yield* Scope.make()
      yield* Scope.provide(watch({}, "zk://zk1,zk2/a"), one)
      yield* Scope.provide(watch({}, "zk://zk2:2181,zk1/b"), two)
      assert.lengthOf(fake.sessions(), 1)
      yield* Scope.close(one, Exit.void)
      assert.lengthOf(fake.sessions(), 1)
      yield* Scope.close(two, Exit.void)
      assert.lengthOf(fake.sessions(), 0)
    }).pipe(Effect.provide(zk())))

  it.effect("keeps no watcher of a set that was stopped, and those of the set beside it", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const zookeeper = yield* ZooKeeper
      const session = yield* zookeeper.session("zk1")
      for (let port = 1; port <= 20; port++) fake.put(`${path}/member_${port}`, member(port))
      const watching = new Set<string>()
      const numbers = new Map<Watcher, number>()
      const at = (each: string, watcher: Watcher): string => {
        if (!numbers.has(watcher)) numbers.set(watcher, numbers.size)
        return `${each} ${numbers.get(watcher)}`
      }
      const noted =
        <Args extends readonly [path: string, watcher?: Watcher], A>(f: (...args: Args) => A) => (...args: Args): A => {
          if (args[1] !== undefined) watching.add(at(args[0], args[1]))
          return f(...args)
        }
      const observed = ZooKeeper.of({
        ...zookeeper,
        session: () =>
          Effect.succeed({
            ...session,
            get: noted(session.get),
            children: noted(session.children),
            exists: noted(session.exists),
            unwatch: (each: string, watcher: Watcher) => {
              watching.delete(at(each, watcher))
              session.unwatch(each, watcher)
            }
          })
      })
      const poll = (uri: string) =>
        Effect.scoped(Effect.flatMap(serverSet(observed, `zk://${uri}`, uri), Stream.runHead))
      for (let round = 0; round < 50; round++) {
        yield* poll(`zk1${path}`)
        yield* poll("zk1/missing")
      }
      yield* settle
      assert.deepStrictEqual([session.watches(), fake.watches()], [0, 0])
      assert.deepStrictEqual([...watching], [])
      const { last } = yield* watch()
      for (let round = 0; round < 50; round++) yield* poll(`zk1${path}`)
      yield* settle
      assert.deepStrictEqual([session.watches(), fake.watches()], [21, 21])
      assert.deepStrictEqual([...watching], [])
      const before = fake.count("get")
      fake.put(`${path}/member_1`, member(1, { status: "DEAD" }))
      fake.remove(`${path}/member_2`)
      yield* settle
      assert.strictEqual(fake.count("get"), before + 1)
      assert.lengthOf(last().split(" "), 1 + 18)
    }).pipe(Effect.provide(zk())))

  it.effect("keeps no watcher of a set that is stopped at any moment", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const session = yield* (yield* ZooKeeper).session("zk1")
      for (let port = 1; port <= 5; port++) fake.put(`${path}/member_${port}`, member(port))
      fake.slow("10 millis")
      let most = 0
      for (let millis = 0; millis < 100; millis += 5) {
        const scope = yield* Scope.make()
        yield* Scope.provide(watch({ reads: 2 }), scope)
        yield* pass(millis / 5, "5 millis")
        if (millis % 15 === 0) fake.put(`${path}/member_1`, member(1))
        most = Math.max(most, session.watches())
        yield* Scope.close(scope, Exit.void)
        yield* pass(20, "5 millis")
        assert.deepStrictEqual([session.watches(), fake.watches()], [0, 0], `stopped after ${millis} ms`)
      }
      assert.strictEqual(most, 6)
    }).pipe(Effect.provide(zk())))

  it.effect("that is closed under it leaves the last state, and ends the stream", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1))
      const session = yield* Scope.make()
      const zookeeper = yield* ZooKeeper
      const states = yield* Scope.provide(serverSet(zookeeper, "zk://zk1/services/echo", `zk1${path}`), session)
      const fiber = yield* Effect.forkChild(Stream.runCollect(states), { startImmediately: true })
      yield* settle
      yield* Scope.close(session, Exit.void)
      const seen = yield* Fiber.join(fiber)
      assert.deepStrictEqual(seen.map(({ _tag }) => _tag), ["Bound"])
    }).pipe(Effect.provide(zk())))
})

describe("building a server set", () => {
  const build = (uri: string, options: Parameters<typeof serverSet>[3] = {}) =>
    Effect.flatMap(ZooKeeper, (zookeeper) => serverSet(zookeeper, uri, uri.slice("zk://".length), options)).pipe(
      Effect.flip,
      Effect.provide(zk({})),
      Effect.scoped
    )

  it.effect("fails for a URI that names none", () =>
    Effect.gen(function*() {
      assert.instanceOf(yield* build("zk://zk1"), InvalidUri)
    }))

  it.effect("fails for options that are none", () =>
    Effect.gen(function*() {
      for (const options of [{ reads: 0 }, { reads: 1.5 }, { removals: "soon" as never }, { empty: -1 }]) {
        assert.instanceOf(yield* build("zk://zk1/a", options), InvalidOption)
      }
    }))
})
