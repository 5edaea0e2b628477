import { assert, describe, it } from "@effect/vitest"
import { type AnnounceOptions, Endpoint, InvalidOption, InvalidUri } from "@scales-rpc/core"
import { Effect, Exit, Fiber, Scope } from "effect"
import { announce } from "../src/Announcer.ts"
import { FakeZooKeeper } from "../src/testing/index.ts"
import { ZooKeeper } from "../src/ZooKeeper.ts"
import { Messages, pass, path, settle, watch, zk } from "./support.ts"

const endpoint = Endpoint.tcp("10.0.0.3", 80)

/** Announces an endpoint until the scope closes. */
const start = (options: AnnounceOptions = {}, uri = `zk://zk1${path}`, at = endpoint) =>
  Effect.gen(function*() {
    const announcement = yield* announce(yield* ZooKeeper, uri, uri.slice("zk://".length), at, options)
    yield* settle
    return announcement
  })

const json = (status = "ALIVE") =>
  `{"serviceEndpoint":{"host":"10.0.0.3","port":80},"additionalEndpoints":{},"status":"${status}"}`

/** A session of somebody else's, with the in-memory ZooKeeper. */
const other = Effect.gen(function*() {
  const zookeeper = yield* ZooKeeper
  return yield* zookeeper.session("other")
})

describe("an announcement", () => {
  it.effect("is an ephemeral sequential node with the member's data, under parents made for it", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const { announced, state } = yield* start()
      yield* announced
      assert.deepStrictEqual(fake.list(path), ["member_0000000000"])
      assert.strictEqual(fake.read(`${path}/member_0000000000`), json())
      assert.deepStrictEqual(state(), { _tag: "Announced", name: "member_0000000000" })
      const session = yield* other
      const owners = yield* Effect.forEach(
        ["/services", path, `${path}/member_0000000000`],
        (each) => Effect.map(session.exists(each), (stat) => stat?.owner)
      )
      assert.deepStrictEqual(owners.slice(0, 2), [undefined, undefined])
      assert.include(fake.sessions(), owners[2])
    }).pipe(Effect.provide(zk())))

  it.effect("takes what parents there are, even where it could not make them", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put("/services")
      fake.failNext("create", "NoAuth", { path: "/services" })
      const { state } = yield* start()
      assert.strictEqual(state()._tag, "Announced")
      assert.deepStrictEqual(fake.list(path), ["member_0000000000"])
    }).pipe(Effect.provide(zk())))

  it.effect("says all that its options say", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      yield* start({
        status: "STARTING",
        shard: 3,
        additionalEndpoints: { http: Endpoint.tcp("::1", 8080) },
        metadata: { zone: "a" }
      })
      assert.strictEqual(
        fake.read(`${path}/member_0000000000`),
        "{\"serviceEndpoint\":{\"host\":\"10.0.0.3\",\"port\":80},\"additionalEndpoints\":{\"http\":{\"host\":\"::1\",\"port\":8080}},\"status\":\"STARTING\",\"shard\":3,\"metadata\":{\"zone\":\"a\"}}"
      )
    }).pipe(Effect.provide(zk())))

  it.effect("goes with its scope, and takes nothing else along", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const scope = yield* Scope.make()
      yield* start()
      yield* Scope.provide(start(), scope)
      assert.deepStrictEqual(fake.list(path), ["member_0000000000", "member_0000000001"])
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(fake.list(path), ["member_0000000000"])
    }).pipe(Effect.provide(zk())))

  it.effect("is seen by a server set, from its join to its leave", () =>
    Effect.gen(function*() {
      const { text } = yield* watch()
      const scope = yield* Scope.make()
      const { update } = yield* Scope.provide(start(), scope)
      yield* update({ status: "STOPPING" })
      yield* settle
      yield* update({ status: "ALIVE" })
      yield* settle
      yield* Scope.close(scope, Exit.void)
      yield* settle
      assert.deepStrictEqual(text(), ["Neg", "Bound", "Bound 80", "Bound", "Bound 80", "Bound"])
    }).pipe(Effect.provide(zk())))

  it.effect("is pending until there is a connection, and says why it is not there", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.disconnect()
      const { announced, state } = yield* start()
      const waiting = yield* Effect.forkChild(announced)
      yield* pass(10, "1 minute")
      assert.strictEqual(state()._tag, "Pending")
      assert.isUndefined(waiting.pollUnsafe())
      fake.reconnect()
      yield* settle
      yield* Fiber.join(waiting)
      assert.deepStrictEqual(state(), { _tag: "Announced", name: "member_0000000000" })
    }).pipe(Effect.provide(zk())))

  it.effect("stands while the connection is lost for a while, and nothing is done when it is back", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const { state } = yield* start()
      const before = fake.count("create")
      fake.disconnect()
      yield* pass(3, "1 second")
      assert.strictEqual(state()._tag, "Announced")
      fake.reconnect()
      yield* settle
      assert.deepStrictEqual(fake.list(path), ["member_0000000000"])
      assert.strictEqual(fake.count("create"), before)
    }).pipe(Effect.provide(zk())))
})

describe("an announcement without a connection", () => {
  it.effect("is pending with the cause after a minute, and stands when its session has lived on", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const { state } = yield* start()
      yield* pass(5, "1 minute")
      for (let round = 0; round < 2; round++) {
        fake.disconnect()
        yield* pass(59, "1 second")
        assert.deepStrictEqual(state(), { _tag: "Announced", name: "member_0000000000" })
        yield* pass(1, "1 second")
        assert.deepStrictEqual(state(), { _tag: "Pending", cause: new Error("the connection was lost") })
        yield* pass(5, "1 hour")
        assert.strictEqual(state()._tag, "Pending")
        fake.reconnect()
        yield* settle
        assert.deepStrictEqual(state(), { _tag: "Announced", name: "member_0000000000" })
      }
      assert.strictEqual(fake.count("create", `${path}/member_`), 1)
    }).pipe(Effect.provide(zk())))
})

describe("an announcement whose session expires", () => {
  it.effect("before its node is made: what was to be sent in the old one is not sent in the next, and there is one", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(path)
      const zookeeper = yield* ZooKeeper
      let breaks = 1
      // The connection is lost between the answer to what is asked before a create, and that.
      const breaking = ZooKeeper.of({
        ...zookeeper,
        session: (connect) =>
          Effect.map(zookeeper.session(connect), (session) => ({
            ...session,
            status: () => session.status(),
            exists: (...args: Parameters<typeof session.exists>) =>
              Effect.tap(session.exists(...args), () => Effect.sync(() => breaks-- > 0 && fake.disconnect()))
          }))
      })
      const { state } = yield* Effect.provideService(start(), ZooKeeper, breaking)
      fake.expire()
      fake.reconnect()
      yield* settle
      assert.isAtMost(breaks, 0)
      assert.deepStrictEqual(fake.list(path), ["member_0000000000"])
      assert.deepStrictEqual(state(), { _tag: "Announced", name: "member_0000000000" })
      assert.strictEqual(fake.count("create", `${path}/member_`), 1)
    }).pipe(Effect.provide(zk())))

  it.effect("is made again in the next one, each time", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const { state } = yield* start()
      for (let round = 1; round <= 20; round++) {
        fake.expire()
        yield* settle
        const name = `member_${String(round).padStart(10, "0")}`
        assert.deepStrictEqual(fake.list(path), [name])
        assert.deepStrictEqual(state(), { _tag: "Announced", name })
        assert.strictEqual(fake.watches(), 1)
      }
    }).pipe(Effect.provide(zk())))

  it.effect("is pending in between", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const { state } = yield* start()
      fake.disconnect()
      fake.expire()
      fake.reconnect()
      assert.strictEqual(state()._tag, "Pending")
      yield* settle
      assert.strictEqual(state()._tag, "Announced")
      assert.deepStrictEqual(fake.list(path), ["member_0000000001"])
    }).pipe(Effect.provide(zk())))

  it.effect("says in the next one what it was last told to say", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const { update } = yield* start()
      yield* update({ status: "STOPPING" })
      fake.expire()
      yield* settle
      assert.deepStrictEqual(fake.list(path), ["member_0000000002"])
      assert.strictEqual(fake.read(`${path}/member_0000000002`), json("STOPPING"))
    }).pipe(Effect.provide(zk())))

  it.effect("while it is made: one is made in the next session", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.slow("1 second")
      const { state } = yield* start()
      for (let round = 0; round < 8; round++) {
        yield* pass(5, "300 millis")
        fake.expire()
      }
      yield* pass(60, "1 second")
      assert.strictEqual(state()._tag, "Announced")
      assert.lengthOf(fake.list(path), 1)
    }).pipe(Effect.provide(zk())))
})

describe("an announcement that somebody deletes", () => {
  it.effect("is made again at once", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const { state } = yield* start()
      fake.remove(`${path}/member_0000000000`)
      assert.strictEqual(state()._tag, "Pending")
      yield* settle
      assert.deepStrictEqual(fake.list(path), ["member_0000000001"])
      assert.deepStrictEqual(state(), { _tag: "Announced", name: "member_0000000001" })
    }).pipe(Effect.provide(zk())))

  it.effect("together with its directory, is made again with it", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      yield* start()
      fake.remove("/services")
      yield* settle
      assert.deepStrictEqual(fake.list(path), ["member_0000000000"])
    }).pipe(Effect.provide(zk())))

  it.effect("again and again is made again ever more seldom, and at once when it was there for a minute", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      yield* start()
      const times = () => fake.count("create", `${path}/member_`)
      for (let second = 0; second < 600; second++) {
        for (const name of fake.list(path)) fake.remove(`${path}/${name}`)
        yield* pass(1, "1 second")
      }
      // At 0 s, then after 1 s that grow to 60 s at most.
      assert.isAtLeast(times(), 10)
      assert.isAtMost(times(), 30)
      yield* pass(120, "1 second")
      const before = times()
      fake.remove(`${path}/${fake.list(path)[0]}`)
      yield* settle
      assert.strictEqual(times(), before + 1)
    }).pipe(Effect.provide(zk())))

  it.effect("before it was looked at, and whose name another one gets, is told from that", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(path)
      fake.slow("1 second")
      const first = yield* start()
      // Made after 2 seconds, and looked at after 3.
      yield* pass(25, "100 millis")
      assert.deepStrictEqual(fake.list(path), ["member_0000000000"])
      fake.remove(path)
      fake.put(path)
      const session = yield* (yield* ZooKeeper).session("zk1")
      fake.slow(0)
      const theirs = yield* Effect.forkChild(
        session.create(`${path}/member_`, new TextEncoder().encode("x"), { mode: "ephemeralSequential" })
      )
      yield* pass(60, "1 second")
      assert.strictEqual(yield* Fiber.join(theirs), `${path}/member_0000000000`)
      assert.deepStrictEqual(first.state(), { _tag: "Announced", name: "member_0000000001" })
    }).pipe(Effect.provide(zk())))

  it.effect("cannot be read by those who make it, is followed all the same", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (let round = 0; round < 100; round++) fake.failNext("get", "NoAuth")
      yield* start()
      fake.remove(`${path}/member_0000000000`)
      yield* settle
      assert.deepStrictEqual(fake.list(path), ["member_0000000001"])
      assert.strictEqual(fake.count("create", `${path}/member_`), 2)
    }).pipe(Effect.provide(zk())))

  it.effect("while the connection is lost is made again after that", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      yield* start()
      fake.disconnect()
      fake.remove(`${path}/member_0000000000`)
      yield* settle
      fake.reconnect()
      yield* settle
      assert.deepStrictEqual(fake.list(path), ["member_0000000001"])
    }).pipe(Effect.provide(zk())))

  it.effect("is left alone when its data is only rewritten, and still watched", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      yield* start()
      fake.put(`${path}/member_0000000000`, json("DEAD"))
      yield* settle
      assert.strictEqual(fake.read(`${path}/member_0000000000`), json("DEAD"))
      fake.remove(`${path}/member_0000000000`)
      yield* settle
      assert.deepStrictEqual(fake.list(path), ["member_0000000001"])
    }).pipe(Effect.provide(zk())))
})

describe("an announcement whose making gets no answer", () => {
  const member = `${path}/member_`

  for (const [what, applied] of [["was made", true], ["was not made", false]] as const) {
    it.effect(`is there once when it ${what}`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeZooKeeper
        for (let round = 0; round < 3; round++) fake.failNext("create", "ConnectionLoss", { path: member, applied })
        const { state } = yield* start()
        yield* pass(60, "1 second")
        assert.lengthOf(fake.list(path), 1)
        assert.deepStrictEqual(state(), { _tag: "Announced", name: fake.list(path)[0]! })
        assert.strictEqual(fake.count("create", member), applied ? 1 : 4)
        // And it is followed like any other.
        fake.remove(`${path}/${fake.list(path)[0]}`)
        yield* pass(60, "1 second")
        assert.lengthOf(fake.list(path), 1)
      }).pipe(Effect.provide(zk())))
  }

  it.effect("is not taken for that of another that says the same", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const session = yield* other
      yield* start()
      fake.failNext("create", "ConnectionLoss", { path: member })
      fake.slow("1 second")
      const second = yield* start()
      yield* pass(2, "1 second")
      const theirs = yield* Effect.forkChild(
        session.create(member, new TextEncoder().encode(json()), { mode: "ephemeralSequential" })
      )
      yield* pass(60, "1 second")
      assert.strictEqual(yield* Fiber.join(theirs), `${member}0000000001`)
      assert.deepStrictEqual(second.state(), { _tag: "Announced", name: "member_0000000002" })
      assert.lengthOf(fake.list(path), 3)
    }).pipe(Effect.provide(zk())))

  it.effect("is not taken for that of another in the same session that says something else", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(path)
      fake.slow("1 second")
      fake.failNext("create", "ConnectionLoss", { path: member })
      const first = yield* start()
      const second = yield* start({ shard: 7 })
      yield* pass(20, "1 second")
      assert.deepStrictEqual(second.state(), { _tag: "Announced", name: "member_0000000000" })
      assert.deepStrictEqual(first.state(), { _tag: "Announced", name: "member_0000000001" })
    }).pipe(Effect.provide(zk())))

  it.effect("is found among many that say the same", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (let index = 0; index < 100; index++) fake.put(`${path}/member_000000${1000 + index}`, json())
      const before = fake.count("get")
      fake.failNext("create", "ConnectionLoss", { path: member, applied: true })
      const { state } = yield* start()
      yield* pass(5, "1 second")
      yield* settle
      assert.deepStrictEqual(state(), { _tag: "Announced", name: "member_0000000100" })
      assert.lengthOf(fake.list(path), 101)
      // It is looked for from the greatest number down; these were made with numbers that they were not given.
      // And then it is looked at once more, as its own.
      assert.strictEqual(fake.count("get") - before, 102)
    }).pipe(Effect.provide(zk())))

  for (const applied of [true, false]) {
    it.effect(`is looked for among the newest alone, whether it was made or not: ${applied}`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeZooKeeper
        fake.put(path)
        const session = yield* other
        for (let index = 0; index < 1000; index++) {
          yield* session.create(member, new TextEncoder().encode(json()), { mode: "ephemeralSequential" })
        }
        // What somebody has made up is no number that ZooKeeper gave.
        fake.put(`${path}/member_one`, json())
        fake.put(`${path}/member_9999999999`, json())
        fake.put(`${path}/vector_1`, "")
        fake.failNext("create", "ConnectionLoss", { path: member, applied })
        const { state } = yield* start()
        yield* pass(5, "1 second")
        assert.deepStrictEqual(state(), { _tag: "Announced", name: "member_0000001003" })
        assert.lengthOf(fake.list(path), 1004)
        // The one that was made up; the one itself, or the newest of the others; and then it is looked at once more, as its own.
        assert.strictEqual(fake.count("get"), 3)
      }).pipe(Effect.provide(zk())))
  }

  it.effect("is made again where the directory may not be read", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.failNext("create", "ConnectionLoss", { path: member })
      for (let round = 0; round < 100; round++) fake.failNext("children", "NoAuth")
      const { state } = yield* start()
      yield* pass(5, "1 second")
      assert.strictEqual(state()._tag, "Announced")
    }).pipe(Effect.provide(zk())))
})

describe("an announcement that cannot be made", () => {
  it.effect("is pending with the cause, told of once, and tried again after 1 to 60 seconds", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (let round = 0; round < 1000; round++) fake.failNext("create", "NoAuth", { path: "/services/echo" })
      const { state } = yield* start()
      const pending = state()
      assert.strictEqual(pending._tag === "Pending" && (pending.cause as { _tag: string })._tag, "NoAuth")
      const tries = () => fake.count("create", "/services/echo")
      yield* pass(10, "1 second")
      assert.isAtLeast(tries(), 2)
      yield* pass(300, "1 second")
      const before = tries()
      yield* pass(1200, "1 second")
      assert.isAtLeast(tries() - before, 19)
      assert.isAtMost(tries() - before, 40)
      assert.lengthOf((yield* Messages).filter((message) => message.startsWith("WARN")), 1)
    }).pipe(Effect.provide(zk())))

  it.effect("is tried again at once when there is a new connection", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.failNext("create", "NoAuth", { path: "/services/echo" })
      const { state } = yield* start()
      assert.strictEqual(state()._tag, "Pending")
      fake.disconnect()
      yield* settle
      fake.reconnect()
      yield* settle
      assert.strictEqual(state()._tag, "Announced")
    }).pipe(Effect.provide(zk())))

  it.effect("is made when it can be", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      for (const failure of ["NoAuth", "InvalidAcl", "ZooKeeperFailed", "SessionMoved"] as const) {
        fake.failNext("create", failure, { path: "/services/echo" })
      }
      const { announced, state } = yield* start()
      const waiting = yield* Effect.forkChild(announced)
      yield* pass(120, "1 second")
      yield* Fiber.join(waiting)
      assert.strictEqual(state()._tag, "Announced")
    }).pipe(Effect.provide(zk())))
})

describe("updating an announcement", () => {
  it.effect("makes another node, deletes the one there was, and returns when that is done", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const { state, update } = yield* start()
      yield* update({ status: "STOPPING" })
      assert.deepStrictEqual(fake.list(path), ["member_0000000001"])
      assert.strictEqual(fake.read(`${path}/member_0000000001`), json("STOPPING"))
      assert.deepStrictEqual(state(), { _tag: "Announced", name: "member_0000000001" })
      assert.strictEqual(fake.count("set"), 0)
    }).pipe(Effect.provide(zk())))

  it.effect("to what it says already changes nothing", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const { update } = yield* start()
      const before = fake.count("create")
      yield* update({})
      yield* update({ status: "ALIVE" })
      assert.deepStrictEqual(fake.list(path), ["member_0000000000"])
      assert.strictEqual(fake.count("create"), before)
    }).pipe(Effect.provide(zk())))

  /** Who is there, in order, sampled every 5 ms while `body` runs. */
  const sampled = <E, R>(body: Effect.Effect<unknown, E, R>, millis = 2000) =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const seen: Array<string> = []
      const fiber = yield* Effect.forkChild(body, { startImmediately: true })
      for (let at = 0; at < millis; at += 5) {
        const statuses = fake.list(path).map((name) => JSON.parse(fake.read(`${path}/${name}`)!).status)
        const text = statuses.join(" ") || "none"
        if (seen.at(-1) !== text) seen.push(text)
        yield* pass(1, "5 millis")
      }
      yield* Fiber.join(fiber)
      return seen
    })

  it.effect("has the new node there before the old one goes", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const { text } = yield* watch()
      const { update } = yield* start({ shard: 1 })
      fake.slow("10 millis")
      assert.deepStrictEqual(yield* sampled(update({ shard: 2 })), ["ALIVE", "ALIVE ALIVE", "ALIVE"])
      // With one shard, and with the other.
      assert.deepStrictEqual(text(), ["Neg", "Bound", "Bound 80", "Bound 80"])
      assert.deepStrictEqual(yield* sampled(update({ status: "STOPPING" })), ["ALIVE", "ALIVE STOPPING", "STOPPING"])
    }).pipe(Effect.provide(zk())))

  it.effect("of a member that was not to be called, to one that is, deletes the old node first", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const { update } = yield* start({ status: "STARTING" })
      fake.slow("10 millis")
      assert.deepStrictEqual(yield* sampled(update({ status: "ALIVE" })), ["STARTING", "none", "ALIVE"])
      const stopping = yield* sampled(update({ status: "STOPPING" }))
      assert.deepStrictEqual(stopping, ["ALIVE", "ALIVE STOPPING", "STOPPING"])
      const dead = yield* sampled(update({ status: "DEAD" }))
      assert.deepStrictEqual(dead, ["STOPPING", "STOPPING DEAD", "DEAD"])
    }).pipe(Effect.provide(zk())))

  const lost = [
    ["exists", path, false],
    ["create", `${path}/member_`, false],
    ["create", `${path}/member_`, true],
    ["get", `${path}/member_0000000001`, false],
    ["exists", `${path}/member_0000000000`, false],
    ["delete", `${path}/member_0000000000`, false],
    ["delete", `${path}/member_0000000000`, true]
  ] as const
  for (const [operation, at, applied] of lost) {
    const what = `${operation} of ${at.slice(path.length) || "the directory"}`
    it.effect(`leaves one, and never none, when the answer to the ${what} is lost, ${applied ? "" : "not "}done`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeZooKeeper
        const { update } = yield* start({ shard: 1 })
        for (let round = 0; round < 2; round++) fake.failNext(operation, "ConnectionLoss", { path: at, applied })
        const seen = yield* sampled(update({ shard: 2 }), 20_000)
        assert.deepStrictEqual(seen, ["ALIVE", "ALIVE ALIVE", "ALIVE"].slice(-seen.length))
        assert.lengthOf(fake.list(path), 1)
        assert.strictEqual(JSON.parse(fake.read(`${path}/${fake.list(path)[0]}`)!).shard, 2)
        // It went that way, and what was done is not done again.
        assert.isAtLeast(fake.count(operation, at), applied ? 1 : 2)
      }).pipe(Effect.provide(zk())))
  }

  const breaks: ReadonlyArray<[what: string, run: (fake: FakeZooKeeper["Service"]) => Effect.Effect<void>]> = [
    ["the connection is lost for a second", (fake) =>
      Effect.gen(function*() {
        fake.disconnect("zk1")
        yield* pass(1, "1 second")
        fake.reconnect("zk1")
      })],
    ["the session expires", (fake) => Effect.sync(() => fake.expire("zk1"))],
    ["the session expires while the connection is lost", (fake) =>
      Effect.gen(function*() {
        fake.disconnect("zk1")
        yield* pass(1, "1 second")
        fake.expire("zk1")
        fake.reconnect("zk1")
      })],
    [
      "somebody deletes the older node",
      (fake) => Effect.sync(() => fake.list(path).slice(0, 1).forEach((name) => fake.remove(`${path}/${name}`)))
    ],
    [
      "somebody deletes the newer node",
      (fake) => Effect.sync(() => fake.list(path).slice(-1).forEach((name) => fake.remove(`${path}/${name}`)))
    ],
    ["somebody deletes the directory", (fake) => Effect.sync(() => fake.remove(path))],
    ["another update comes", () => Effect.void]
  ]
  for (const [what, run] of breaks) {
    for (const [from, to] of [["ALIVE", "STOPPING"], ["STARTING", "ALIVE"]] as const) {
      it.effect(`from ${from} to ${to} leaves one node that says it when ${what} at any moment`, () =>
        Effect.gen(function*() {
          const fake = yield* FakeZooKeeper
          const session = yield* (yield* ZooKeeper).session("zk1")
          for (let millis = 0; millis < 100; millis += 5) {
            const scope = yield* Scope.make()
            fake.slow(0)
            const { state, update } = yield* Scope.provide(start({ status: from }), scope)
            fake.slow("10 millis")
            const updating = [yield* Effect.forkChild(update({ status: to }), { startImmediately: true })]
            yield* pass(millis / 5, "5 millis")
            yield* run(fake)
            if (what === "another update comes") {
              updating.push(yield* Effect.forkChild(update({ status: "DEAD" }), { startImmediately: true }))
            }
            yield* pass(40, "100 millis")
            yield* Fiber.joinAll(updating)
            const [name, ...others] = fake.list(path)
            assert.deepStrictEqual(others, [], `after ${millis} ms`)
            const expected = json(updating.length === 1 ? to : "DEAD")
            assert.strictEqual(fake.read(`${path}/${name}`), expected, `after ${millis} ms`)
            assert.deepStrictEqual(state(), { _tag: "Announced", name: name! })
            assert.strictEqual(session.watches(), 1, `after ${millis} ms`)
            const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
            yield* pass(20, "10 millis")
            yield* Fiber.join(closing)
            assert.deepStrictEqual(fake.list(path), [], `after ${millis} ms`)
            assert.strictEqual(session.watches(), 0, `after ${millis} ms`)
          }
        }).pipe(Effect.provide(zk())))
    }
  }

  for (const [what, broken] of [["closed", false], ["closed while the connection is lost", true]] as const) {
    for (const [from, to] of [["ALIVE", "STOPPING"], ["STARTING", "ALIVE"]] as const) {
      it.effect(`from ${from} to ${to} leaves none when its scope is ${what} at any moment`, () =>
        Effect.gen(function*() {
          const fake = yield* FakeZooKeeper
          const session = yield* (yield* ZooKeeper).session("zk1")
          let most = 0
          for (let millis = 0; millis < 100; millis += 5) {
            const scope = yield* Scope.make()
            fake.slow(0)
            const { update } = yield* Scope.provide(start({ status: from }), scope)
            fake.slow("10 millis")
            const updating = yield* Effect.forkChild(update({ status: to }), { startImmediately: true })
            yield* pass(millis / 5, "5 millis")
            if (broken) fake.disconnect("zk1")
            most = Math.max(most, fake.list(path).length)
            const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
            yield* pass(21, "100 millis")
            fake.reconnect("zk1")
            yield* pass(20, "10 millis")
            yield* Fiber.join(closing)
            yield* Fiber.await(updating)
            assert.deepStrictEqual(fake.list(path), [], `after ${millis} ms`)
            assert.strictEqual(session.watches(), 0, `after ${millis} ms`)
          }
          assert.strictEqual(most, from === "ALIVE" ? 2 : 1)
        }).pipe(Effect.provide(zk())))
    }
  }

  it.effect("waits for the connection, and is done with when another one has taken its place", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const { update } = yield* start()
      fake.disconnect()
      const first = yield* Effect.forkChild(update({ status: "STOPPING" }))
      const second = yield* Effect.forkChild(update({ status: "WARNING" }))
      yield* pass(3, "1 second")
      assert.isUndefined(first.pollUnsafe())
      fake.reconnect()
      yield* settle
      yield* Fiber.joinAll([first, second])
      assert.deepStrictEqual(fake.list(path), ["member_0000000001"])
      assert.strictEqual(fake.read(`${path}/member_0000000001`), json("WARNING"))
    }).pipe(Effect.provide(zk())))

  it.effect("is tried again when nodes may not be deleted, and tells why it is not done", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const { update } = yield* start()
      for (let round = 0; round < 3; round++) fake.failNext("delete", "NoAuth")
      const updating = yield* Effect.forkChild(update({ status: "STOPPING" }))
      yield* settle
      assert.isUndefined(updating.pollUnsafe())
      assert.deepStrictEqual(fake.list(path), ["member_0000000000", "member_0000000001"])
      const told = (yield* Messages).filter((message) => message.startsWith("WARN cannot be announced"))
      assert.lengthOf(told, 1)
      assert.include(told[0], "{\"connect\":\"zk1:2181\",\"path\":\"/services/echo\",\"endpoint\":\"10.0.0.3:80\"")
      yield* pass(60, "1 second")
      yield* Fiber.join(updating)
      assert.deepStrictEqual(fake.list(path), ["member_0000000001"])
    }).pipe(Effect.provide(zk())))

  it.effect("before it was ever made says only the new", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.disconnect()
      const { announced, update } = yield* start()
      const updated = yield* Effect.forkChild(Effect.andThen(update({ status: "STOPPING" }), announced))
      yield* settle
      fake.reconnect()
      yield* settle
      yield* Fiber.join(updated)
      assert.strictEqual(fake.read(`${path}/member_0000000000`), json("STOPPING"))
      assert.strictEqual(fake.count("create", `${path}/member_`), 1)
    }).pipe(Effect.provide(zk())))

  it.effect("checks what it is told, and leaves the node as it is", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const { update } = yield* start()
      assert.instanceOf(yield* Effect.flip(update({ shard: -1 })), InvalidOption)
      assert.strictEqual(fake.read(`${path}/member_0000000000`), json())
    }).pipe(Effect.provide(zk())))
})

describe("closing an announcement", () => {
  it.effect("waits 2 seconds for a ZooKeeper that does not answer, and no longer", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const scope = yield* Scope.make()
      yield* Scope.provide(start(), scope)
      fake.disconnect()
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* pass(19, "100 millis")
      assert.isUndefined(closing.pollUnsafe())
      yield* pass(1, "100 millis")
      assert.isDefined(closing.pollUnsafe())
    }).pipe(Effect.provide(zk())))

  it.effect("keeps no watcher of a node that may not be deleted", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const session = yield* (yield* ZooKeeper).session("zk1")
      const scope = yield* Scope.make()
      yield* Scope.provide(start(), scope)
      fake.failNext("delete", "NoAuth")
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(fake.list(path), ["member_0000000000"])
      assert.strictEqual(session.watches(), 0)
      const stays = "WARN stays announced while the session lives {\"connect\":\"zk1:2181\",\"path\":\"/services/echo\""
      assert.lengthOf((yield* Messages).filter((message) => message.startsWith(stays)), 1)
    }).pipe(Effect.provide(zk())))

  it.effect("takes those of one scope away together, and no other", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const scope = yield* Scope.make()
      yield* watch()
      for (const uri of [`zk://zk1${path}`, `zk://zk1${path}`, `zk://zk2${path}`]) {
        yield* Scope.provide(start({}, uri), scope)
      }
      yield* start()
      fake.slow("1 second")
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      // One to look whether it is there, one to delete it.
      yield* pass(21, "100 millis")
      assert.isDefined(closing.pollUnsafe())
      assert.deepStrictEqual(fake.list(path), ["member_0000000003"])
    }).pipe(Effect.provide(zk())))

  it.effect("waits 2 seconds in all for those of one scope when ZooKeeper does not answer", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      yield* watch()
      const scope = yield* Scope.make()
      for (let round = 0; round < 3; round++) yield* Scope.provide(start(), scope)
      fake.disconnect()
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* pass(19, "100 millis")
      assert.isUndefined(closing.pollUnsafe())
      yield* pass(1, "100 millis")
      assert.isDefined(closing.pollUnsafe())
      assert.lengthOf(fake.list(path), 3)
      fake.reconnect()
      yield* settle
      assert.deepStrictEqual(fake.list(path), [])
    }).pipe(Effect.provide(zk())))

  it.effect("in a scope that is closed already leaves nothing, and takes nobody else along", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      yield* watch()
      yield* start()
      const scope = yield* Scope.make()
      yield* Scope.provide(start(), scope)
      yield* Scope.close(scope, Exit.void)
      yield* Scope.provide(start({ shard: 1 }), scope)
      yield* settle
      assert.deepStrictEqual(fake.list(path), ["member_0000000000"])
    }).pipe(Effect.provide(zk())))

  it.effect("deletes the node when ZooKeeper is there again, if others keep the session", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const scope = yield* Scope.make()
      yield* watch()
      yield* Scope.provide(start(), scope)
      fake.disconnect()
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* pass(3, "1 second")
      yield* Fiber.join(closing)
      assert.lengthOf(fake.list(path), 1)
      fake.reconnect()
      yield* settle
      assert.deepStrictEqual(fake.list(path), [])
    }).pipe(Effect.provide(zk())))

  for (const [what, there] of [["where its directory is to be made", false], ["where that is there", true]] as const) {
    it.effect(`at any moment leaves no node, ${what}`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeZooKeeper
        yield* watch()
        fake.slow("10 millis")
        for (let millis = 0; millis < 100; millis += 5) {
          fake.remove("/services")
          if (there) fake.put(path)
          yield* pass(20, "5 millis")
          const scope = yield* Scope.make()
          yield* Scope.provide(start(), scope)
          yield* pass(millis / 5, "5 millis")
          const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
          yield* pass(40, "5 millis")
          assert.isDefined(closing.pollUnsafe())
          assert.deepStrictEqual(fake.list(path), [], `closed after ${millis} ms`)
        }
        assert.isAtLeast(fake.count("create", `${path}/member_`), 5)
      }).pipe(Effect.provide(zk())))
  }

  it.effect("leaves a node alone that has its name and is another's", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const session = yield* other
      const scope = yield* Scope.make()
      yield* Scope.provide(start(), scope)
      yield* settle
      fake.disconnect("zk1")
      fake.remove("/services")
      yield* session.create("/services", new Uint8Array())
      yield* session.create(path, new Uint8Array())
      yield* session.create(`${path}/member_`, new Uint8Array(), { mode: "ephemeralSequential" })
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      fake.reconnect("zk1")
      yield* pass(3, "1 second")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(fake.list(path), ["member_0000000000"])
    }).pipe(Effect.provide(zk())))

  it.effect("ends who waits for it", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.disconnect()
      const scope = yield* Scope.make()
      const { announced, update } = yield* Scope.provide(start(), scope)
      const waiting = [yield* Effect.forkChild(announced), yield* Effect.forkChild(update({ status: "DEAD" }))]
      yield* settle
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* pass(3, "1 second")
      yield* Fiber.join(closing)
      for (const fiber of waiting) assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
    }).pipe(Effect.provide(zk())))
})

describe("the access list of announcements", () => {
  const acl = [{ scheme: "digest", id: "me:x", permissions: "rwcda" }, {
    scheme: "world",
    id: "anyone",
    permissions: "rc"
  }]

  it.effect("is that of the nodes and of the directories made for them", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put("/services")
      yield* start()
      const session = yield* other
      const of = (each: string) => Effect.map(session.acl(each), (found) => found.acl.length)
      assert.strictEqual(yield* of("/services"), 1)
      assert.strictEqual(yield* of(path), 2)
      assert.strictEqual(yield* of(`${path}/member_0000000000`), 2)
    }).pipe(Effect.provide(zk({ acl }))))

  it.effect("is set on a node that was made without an answer", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.failNext("create", "ConnectionLoss", { path: `${path}/member_`, applied: true })
      yield* start()
      yield* pass(5, "1 second")
      assert.isAtMost(fake.count("create", `${path}/member_`), 1)
      assert.strictEqual(fake.count("setAcl", `${path}/member_0000000000`), 1)
    }).pipe(Effect.provide(zk({ acl: [{ scheme: "world", id: "anyone", permissions: "rwcda" }] }))))
})

describe("a directory without the access list of announcements", () => {
  const acl = [{ scheme: "world", id: "anyone", permissions: "rwca" }]
  const open = "rwcda"

  const permissions = (at: string) =>
    Effect.flatMap(other, (session) => Effect.map(session.acl(at), (found) => found.acl[0]!.permissions))

  for (const failure of ["ConnectionLoss", "OperationTimeout"] as const) {
    it.effect(`is closed if it may have been made for this one, without an answer: ${failure}`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeZooKeeper
        fake.failNext("create", failure, { path: "/services" })
        const { state } = yield* start()
        // What the native client makes is open until its list is set.
        fake.put("/services")
        yield* pass(5, "1 second")
        assert.strictEqual(state()._tag, "Announced")
        assert.deepStrictEqual([yield* permissions("/services"), yield* permissions(path)], ["rwca", "rwca"])
        // Once: what others make of it later is theirs.
        yield* Effect.flatMap(other, (session) => session.setAcl("/services", [{ ...acl[0]!, permissions: open }]))
        fake.remove(`${path}/${fake.list(path)[0]}`)
        yield* pass(5, "1 second")
        assert.strictEqual(state()._tag, "Announced")
        assert.strictEqual(yield* permissions("/services"), open)
        assert.strictEqual(fake.count("setAcl", "/services"), 2)
      }).pipe(Effect.provide(zk({ acl }))))
  }

  it.effect("is left as it is if it was there, empty or not", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(path)
      const { state } = yield* start()
      assert.strictEqual(state()._tag, "Announced")
      assert.deepStrictEqual([yield* permissions("/services"), yield* permissions(path)], [open, open])
    }).pipe(Effect.provide(zk({ acl }))))

  it.effect("is left as it is if somebody made it after this one was refused to", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.failNext("create", "NoAuth", { path: "/services" })
      const { state } = yield* start()
      fake.put("/services")
      yield* pass(5, "1 second")
      assert.strictEqual(state()._tag, "Announced")
      assert.deepStrictEqual([yield* permissions("/services"), yield* permissions(path)], [open, "rwca"])
    }).pipe(Effect.provide(zk({ acl }))))

  for (
    const [what, make] of [
      ["has data", (fake: FakeZooKeeper["Service"]) => Effect.sync(() => fake.put("/services", "x"))],
      ["was given a list", (fake: FakeZooKeeper["Service"]) =>
        Effect.gen(function*() {
          fake.put("/services")
          yield* Effect.flatMap(other, (session) => session.setAcl("/services", [{ ...acl[0]!, permissions: open }]))
        })]
    ] as const
  ) {
    it.effect(`is another's, though an answer was lost, if it ${what}`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeZooKeeper
        fake.failNext("create", "ConnectionLoss", { path: "/services" })
        const { state } = yield* start()
        yield* make(fake)
        yield* pass(5, "1 second")
        assert.strictEqual(state()._tag, "Announced")
        assert.strictEqual(yield* permissions("/services"), open)
      }).pipe(Effect.provide(zk({ acl }))))
  }
})

describe("what cannot be announced", () => {
  const fails = (...given: Parameters<typeof start>) =>
    Effect.flip(start(...given)).pipe(Effect.provide(zk()), Effect.scoped)

  it.effect("is an endpoint at a URI that names none, or a named one", () =>
    Effect.gen(function*() {
      assert.instanceOf(yield* fails({}, "zk://zk1"), InvalidUri)
      const named = yield* fails({}, `zk://zk1${path}#http`)
      assert.match((named as InvalidUri).message, /it names the endpoint "http"; expected .*additionalEndpoints/)
    }))

  it.effect("is a Unix socket", () =>
    Effect.gen(function*() {
      const socket = Endpoint.unix("/run/echo.sock")
      assert.strictEqual(((yield* fails({}, undefined, socket)) as InvalidOption).option, "endpoint")
      const extra = yield* fails({ additionalEndpoints: { http: socket } })
      assert.strictEqual((extra as InvalidOption).option, "additionalEndpoints.http")
    }))

  for (const host of ["", "a b", "http://x/", "[::1]", "10.0.0.256", "x".repeat(256)]) {
    it.effect(`is an endpoint at the host ${JSON.stringify(host).slice(0, 30)}, which readers would leave out`, () =>
      Effect.gen(function*() {
        const wrong = Endpoint.tcp(host, 80)
        const error = yield* fails({}, undefined, wrong)
        assert.deepStrictEqual(
          error,
          new InvalidOption({
            option: "endpoint",
            got: wrong.key,
            expected: "the name or address of a host, and a port"
          })
        )
        const extra = yield* fails({ additionalEndpoints: { http: wrong } })
        assert.strictEqual((extra as InvalidOption).option, "additionalEndpoints.http")
      }))
  }

  const options: ReadonlyArray<[option: string, options: AnnounceOptions]> = [
    ["shard", { shard: -1 }],
    ["shard", { shard: 1.5 }],
    ["shard", { shard: 2 ** 31 }],
    ["status", { status: "alive" as never }],
    ["status", { status: "UNKNOWN" as never }],
    ["metadata.n", { metadata: { n: 1 as never } }],
    ["metadata", { metadata: { n: "x".repeat(1_000_000) } }]
  ]
  for (const [option, given] of options) {
    it.effect(`is one with the ${option} ${JSON.stringify(given).slice(0, 50)}`, () =>
      Effect.gen(function*() {
        const error = yield* fails(given)
        assert.instanceOf(error, InvalidOption)
        assert.strictEqual(error.option, option)
      }))
  }
})
