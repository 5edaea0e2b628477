/** What is shown of sessions, server sets and announcements, compared with what the test has done. */
import { assert, describe, it } from "@effect/vitest"
import { Describe, describe as describeStack, Endpoint, Metrics, Stack } from "@scales-rpc/core"
import { Effect, Exit, Fiber, Layer, Logger, Metric, Redacted, References, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { announce } from "../src/Announcer.ts"
import { observe } from "../src/internal/sessionObserved.ts"
import { metricTable } from "../src/index.ts"
import type { WatchEvent } from "../src/Session.ts"
import { FakeZooKeeper } from "../src/testing/index.ts"
import { ZooKeeper } from "../src/ZooKeeper.ts"
import { serverSet } from "../src/ZooKeeperServerSet.ts"
import { Lines, LinesLive, session as nativeSession, standIn, turns } from "./standInAddon.ts"
import { member, Messages, pass, path, settle, shown, watch, zk } from "./support.ts"

/** A registry that no other test has. */
const alone = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => Effect.provideService(self, Metric.MetricRegistry, new Map()))

/** Annotations of every line. */
const logging = () => {
  const lines: Array<Readonly<Record<string, unknown>>> = []
  const logger = Logger.make(({ fiber }) => void lines.push(fiber.getRef(References.CurrentLogAnnotations)))
  return { layer: Logger.layer([logger]), lines }
}

const of = (all: Readonly<Record<string, number>>, prefix: string) =>
  Object.fromEntries(
    Object.entries(all).filter(([name]) => name.startsWith(prefix)).map((
      [name, value]
    ) => [name.slice(prefix.length), value])
  )

describe("a session", () => {
  it.effect("shows what was asked for in it, how that ended, and how long it took", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const scope = yield* Scope.make()
      const session = yield* Scope.provide((yield* ZooKeeper).session("zk1,zk2:99"), scope)
      fake.put("/a/b", "data")
      yield* settle
      yield* session.get("/a/b")
      yield* session.get("/a/b")
      yield* Effect.flip(session.get("/none"))
      // None is an answer.
      yield* session.exists("/none")
      yield* session.children("/a")
      fake.failNext("create", "NoAuth")
      fake.failNext("create", "ConnectionLoss")
      yield* Effect.flip(session.create("/c", new Uint8Array()))
      yield* Effect.flip(session.create("/c", new Uint8Array()))
      yield* session.create("/c", new Uint8Array())
      fake.slow("40 millis")
      const slow = yield* Effect.forkChild(session.sync("/"), { startImmediately: true })
      const left = yield* Effect.forkChild(session.set("/c", new Uint8Array()), { startImmediately: true })
      const during = yield* shown
      const key = "connect=zk1:2181,zk2:99"
      assert.strictEqual(during[`scales.zookeeper.pending{${key},operation=sync}`], 1)
      assert.strictEqual(during[`scales.zookeeper.pending{${key},operation=set}`], 1)
      yield* Fiber.interrupt(left)
      yield* TestClock.adjust("40 millis")
      yield* Fiber.join(slow)
      const all = yield* shown
      assert.deepStrictEqual(of(all, "scales.zookeeper.requests"), {
        [`{${key},operation=get}`]: 3,
        [`{${key},operation=exists}`]: 1,
        [`{${key},operation=children}`]: 1,
        [`{${key},operation=create}`]: 3,
        [`{${key},operation=sync}`]: 1,
        [`{${key},operation=set}`]: 1
      })
      assert.deepStrictEqual(of(all, "scales.zookeeper.success"), {
        [`{${key},operation=get}`]: 2,
        [`{${key},operation=exists}`]: 1,
        [`{${key},operation=children}`]: 1,
        [`{${key},operation=create}`]: 1,
        [`{${key},operation=sync}`]: 1,
        [`{${key},operation=set}`]: 0
      })
      assert.deepStrictEqual(of(all, "scales.zookeeper.failures"), {
        [`{${key},error=NoNode,operation=get}`]: 1,
        [`{${key},error=NoAuth,operation=create}`]: 1,
        [`{${key},error=ConnectionLoss,operation=create}`]: 1,
        [`{${key},error=Interrupted,operation=set}`]: 1
      })
      assert.isTrue(Object.values(of(all, "scales.zookeeper.pending")).every((pending) => pending === 0))
      assert.strictEqual(all[`scales.zookeeper.latency_ms{${key},operation=get}`], 3)
      const latencies = (yield* Metric.snapshot).find(({ attributes, id }) =>
        id === "scales.zookeeper.latency_ms" && (attributes as Record<string, string>)["operation"] === "sync"
      )!.state as { readonly count: number; readonly sum: number }
      assert.deepStrictEqual([latencies.count, latencies.sum], [1, 40])
      yield* Scope.close(scope, Exit.void)
      yield* settle
      assert.deepStrictEqual(yield* shown, {})
    }).pipe(Effect.provide(zk()), alone))

  it.effect("shows its state, its connections, and how long there was none", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.disconnect()
      const session = yield* (yield* ZooKeeper).session("zk1")
      const at = "{connect=zk1:2181}"
      const state = Effect.map(shown, (all) =>
        Object.entries(of(all, "scales.zookeeper.session{connect=zk1:2181,state=")).filter(([, is]) =>
          is === 1
        )
          .map(([name]) => name.slice(0, -1)))
      const numbers = Effect.map(shown, (all) =>
        ["sessions", "reconnects", "expirations", "auth_failures", "connection_losses", "disconnected_ms"].map((name) =>
          all[`scales.zookeeper.${name}${at}`]
        ))
      yield* settle
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual([yield* state, yield* numbers], [["Connecting"], [0, 0, 0, 0, 0, 3000]])
      fake.reconnect()
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual([yield* state, yield* numbers], [["Connected"], [1, 0, 0, 0, 0, 3000]])
      for (let round = 0; round < 3; round++) {
        fake.disconnect()
        yield* TestClock.adjust("200 millis")
        fake.reconnect()
      }
      fake.disconnect()
      assert.deepStrictEqual([yield* state, yield* numbers], [["Disconnected"], [1, 3, 0, 0, 4, 3600]])
      // It hears of its end when it is connected again.
      fake.expire()
      yield* TestClock.adjust("1 second")
      fake.reconnect()
      assert.deepStrictEqual([yield* state, yield* numbers], [["Connected"], [2, 3, 1, 0, 4, 4600]])
      fake.expire()
      assert.deepStrictEqual([yield* state, yield* numbers], [["Connected"], [3, 3, 2, 0, 5, 4600]])
      yield* Effect.flip(session.auth("none", Redacted.make("secret")))
      yield* settle
      assert.deepStrictEqual([yield* state, yield* numbers], [["Connected"], [3, 4, 2, 1, 6, 4600]])
    }).pipe(Effect.provide(zk()), alone))

  it.effect("shows its watches, and what they ended with", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const session = yield* (yield* ZooKeeper).session("zk1")
      const heard: Array<WatchEvent> = []
      const listen = (event: WatchEvent) => void heard.push(event)
      const watches = Effect.map(shown, (all) => all["scales.zookeeper.watches{connect=zk1:2181}"])
      fake.put("/a/b")
      yield* session.get("/a/b", listen)
      yield* session.children("/a", listen)
      yield* session.exists("/none", listen)
      assert.strictEqual(yield* watches, 3)
      fake.put("/a/b", "other")
      fake.put("/none")
      fake.put("/a/c")
      assert.strictEqual(yield* watches, 0)
      yield* session.get("/a/b", listen)
      fake.remove("/a/b")
      yield* session.get("/a/c", listen)
      yield* session.children("/a", listen)
      fake.expire()
      yield* settle
      assert.strictEqual(yield* watches, 0)
      const ends: Record<string, number> = {}
      for (const event of ["Created", "Deleted", "DataChanged", "ChildrenChanged", "Lost"]) ends[event] = 0
      for (const event of heard) ends[event]!++
      assert.deepStrictEqual(ends, { Created: 1, Deleted: 1, DataChanged: 1, ChildrenChanged: 1, Lost: 2 })
      assert.deepStrictEqual(
        of(yield* shown, "scales.zookeeper.watch_events"),
        Object.fromEntries(Object.entries(ends).map(([event, n]) => [`{connect=zk1:2181,event=${event}}`, n]))
      )
    }).pipe(Effect.provide(zk()), alone))

  it.effect("is observed until its scope closes", () =>
    Effect.gen(function*() {
      const { layer, lines } = logging()
      const scope = yield* Scope.make()
      const observed = yield* observe("zk1:2181").pipe(Scope.provide(scope), Effect.provide(layer))
      const show = () => {
        observed.metrics.add(Metrics.value(metricTable["scales.zookeeper.sessions"], () => 7))
      }
      show()
      assert.deepStrictEqual(yield* shown, { "scales.zookeeper.sessions{connect=zk1:2181}": 7 })
      for (let count = 0; count < 12; count++) observed.log.say("info", "ZooKeeper session")
      assert.lengthOf(lines, 10)
      yield* Scope.close(scope, Exit.void)
      assert.lengthOf(lines, 11)
      assert.deepInclude(lines.at(-1)!, { leftOut: 2 })
      show()
      assert.deepStrictEqual(yield* shown, {})
      yield* TestClock.adjust("1 minute")
      assert.lengthOf(lines, 11)
    }).pipe(alone))

  it.effect("is told from another with the same servers", () =>
    Effect.gen(function*() {
      yield* (yield* ZooKeeper).session("zk1")
      yield* Effect.flatMap(ZooKeeper, (zookeeper) => zookeeper.session("zk1")).pipe(
        Effect.andThen(settle),
        Effect.andThen(shown),
        Effect.map((
          all
        ) => [
          all["scales.zookeeper.sessions{connect=zk1:2181}"],
          all["scales.zookeeper.sessions{connect=zk1:2181-2}"]
        ]),
        Effect.tap((sessions) => Effect.sync(() => assert.deepStrictEqual(sessions, [1, 1]))),
        Effect.provide(Layer.fresh(FakeZooKeeper.layer()))
      )
      const all = yield* shown
      assert.strictEqual(all["scales.zookeeper.sessions{connect=zk1:2181}"], 1)
      assert.isUndefined(all["scales.zookeeper.sessions{connect=zk1:2181-2}"])
    }).pipe(Effect.provide(zk()), alone))

  it.effect("has the name of one that is still being closed, of which nothing is shown any more", () =>
    Effect.gen(function*() {
      const { addon, last } = standIn()
      const scope = yield* Scope.make()
      const before = yield* Scope.provide(nativeSession({ addon }), scope)
      yield* turns
      last().connected()
      yield* turns
      const asking = yield* Effect.forkChild(Effect.flip(before.get("/a")), { startImmediately: true })
      assert.strictEqual((yield* shown)["scales.zookeeper.pending{connect=zk1:1,operation=get}"], 1)
      yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      assert.deepStrictEqual(yield* shown, {})
      yield* nativeSession({ addon })
      assert.strictEqual((yield* shown)["scales.zookeeper.sessions{connect=zk1:1}"], 0)
      assert.strictEqual((yield* Fiber.join(asking))._tag, "SessionClosed")
      yield* turns
      assert.isUndefined((yield* shown)["scales.zookeeper.requests{connect=zk1:1,operation=get}"])
    }).pipe(Effect.provide(LinesLive), alone))

  it.effect("logs when it is lost and back, and how long it was gone", () =>
    Effect.gen(function*() {
      const lines = yield* Lines
      const { addon, last } = standIn()
      yield* nativeSession({ addon })
      yield* turns
      last().connected()
      yield* turns
      last().lost()
      yield* turns
      yield* TestClock.adjust("1500 millis")
      last().connected()
      yield* turns
      last().emit("close", last(), -112)
      yield* turns
      yield* TestClock.adjust("1 second")
      yield* turns
      last().client_id = "2"
      last().connected()
      yield* turns
      assert.deepStrictEqual(lines.slice(0, 4), [
        "INFO ZooKeeper session {\"connect\":\"zk1:1\",\"session\":\"1\"}",
        "WARN ZooKeeper connection lost {\"connect\":\"zk1:1\",\"session\":\"1\"}",
        "INFO ZooKeeper connection is back {\"connect\":\"zk1:1\",\"session\":\"1\",\"goneMillis\":1500}",
        "WARN ZooKeeper session expired {\"connect\":\"zk1:1\",\"session\":\"1\"}"
      ])
      assert.strictEqual(
        lines[4],
        "INFO ZooKeeper session {\"connect\":\"zk1:1\",\"session\":\"2\",\"goneMillis\":1000}"
      )
    }).pipe(Effect.provide(LinesLive), alone))

  it.effect("says ten times that its connection is lost, and then how often it was", () =>
    Effect.gen(function*() {
      const lines = yield* Lines
      const { addon, last } = standIn()
      yield* nativeSession({ addon })
      yield* turns
      last().connected()
      yield* turns
      for (let round = 0; round < 25; round++) {
        last().lost()
        last().connected()
        yield* turns
        // Not one that breaks at once: that handle is given up.
        yield* TestClock.adjust(round % 3 === 2 ? "1001 millis" : "0 millis")
      }
      const lost = () => lines.filter((line) => line.startsWith("WARN ZooKeeper connection lost"))
      assert.lengthOf(lost(), 10)
      yield* TestClock.adjust("10 seconds")
      yield* turns
      const leftOut = lost().slice(10).map((line) => /"leftOut":(\d+)/.exec(line)?.[1])
      assert.deepStrictEqual(leftOut, ["15"])
    }).pipe(Effect.provide(LinesLive), alone))
})

const vector = (port: number, weight: number) => JSON.stringify({ vector: [{ select: `inet=h:${port}`, weight }] })

describe("a server set", () => {
  /** A server set in the stack of a client, run until the scope closes. */
  const inStack = Effect.gen(function*() {
    const states = yield* serverSet(yield* ZooKeeper, `zk://zk1${path}`, `zk1${path}`)
    const seen: Array<string> = []
    yield* Effect.forkScoped(
      Stream.runForEach(states, ({ _tag }) => Effect.sync(() => void seen.push(_tag))),
      { startImmediately: true }
    )
    yield* settle
    return seen
  })

  it.effect("shows what it is, who is in it, who has left, and what is wrong", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const stack = yield* Stack
      yield* inStack
      const set = Effect.map(shown, (all) =>
        ["state", "members", "malformed", "vectors", "updates", "since_update_ms"].map((name) =>
          all[`scales.zookeeper.set_${name}{client=users,path=${path}}`]
        ))
      const held = Effect.map(shown, (all) =>
        all["scales.stabilizer.held{client=users}"])
      assert.deepStrictEqual(yield* set, [2, 0, 0, 0, 1, 0])
      fake.put(`${path}/member_1`, member(1))
      yield* settle
      for (let port = 2; port <= 5; port++) {
        fake.put(`${path}/member_${port}`, member(port))
      }
      fake.put(`${path}/member_6`, "{")
      fake.put(`${path}/member_7`, member(7, { status: "STARTING" }))
      yield* settle
      fake.put(`${path}/vector_1`, vector(5, -1))
      yield* settle
      yield* TestClock.adjust("2 seconds")
      const full = yield* set
      const updates = full[4]!
      assert.deepStrictEqual([full, yield* held], [[1, 4, 1, 1, updates, 2000], 1])
      fake.remove(`${path}/member_1`)
      fake.put(`${path}/vector_1`, "no vector")
      yield* settle
      assert.deepStrictEqual([yield* set, yield* held], [[1, 3, 2, 1, updates + 1, 0], 2])
      fake.remove(`${path}/member_6`)
      yield* settle
      yield* TestClock.adjust("11 seconds")
      yield* settle
      assert.deepStrictEqual([yield* set, yield* held], [[1, 3, 1, 1, updates + 2, 11_000], 0])
      fake.remove(path)
      yield* settle
      const gone = yield* set
      assert.deepStrictEqual([gone.slice(0, 4), yield* held], [[2, 0, 0, 0], 3])
      const described = describeStack(stack).stages.find(({ role }) =>
        role === "zookeeper"
      )!
      assert.deepStrictEqual(described.options, { reads: { value: 7, from: "given" } })
      const { session, ...state } = described.state as { readonly session: Record<string, unknown> }
      assert.deepStrictEqual(state, {
        path,
        state: "Neg",
        members: 0,
        malformed: 0,
        vectors: 0,
        updates: gone[4],
        updatedMillisAgo: 0
      })
      assert.deepStrictEqual(
        [session["connect"], session["state"], session["id"], session["sessions"]],
        ["zk1:2181", "Connected", fake.sessions()[0], 1]
      )
    }).pipe(
      Effect.provide(Stack.layer("users")),
      Effect.provide(zk({ reads: 7 })),
      alone
    ))

  it.effect("logs, and notes for its client, when it is missing or cannot be read, and when it is back", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const messages = yield* Messages
      const stack = yield* Stack
      fake.put(`${path}/member_1`, member(1))
      yield* inStack
      fake.remove(path)
      yield* settle
      yield* TestClock.adjust("4 seconds")
      fake.put(`${path}/member_1`, member(1))
      yield* settle
      const annotations = `"client":"users","connect":"zk1:2181","path":"${path}"`
      assert.deepStrictEqual(messages, [
        `WARN server set is missing {${annotations}}`,
        `INFO server set is back {${annotations},"goneMillis":4000,"members":1}`
      ])
      assert.deepStrictEqual(stack.faults.list.map(({ cause, what }) => [what, cause]), [[
        "server set is missing",
        path
      ]])
    }).pipe(Effect.provide(Stack.layer("users")), Effect.provide(zk()), alone))

  it.effect("that waits for a connection is told of, with why", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.disconnect()
      const { last } = yield* watch()
      yield* TestClock.adjust("10 seconds")
      yield* settle
      assert.strictEqual(last(), "Failed not connected to zk1:2181")
      assert.deepStrictEqual(yield* Messages, [
        `WARN server set cannot be read {"connect":"zk1:2181","path":"${path}","cause":"not connected to zk1:2181"}`
      ])
      assert.strictEqual((yield* shown)[`scales.zookeeper.set_state{connect=zk1:2181,path=${path}}`], 3)
      assert.strictEqual((yield* shown)[`scales.zookeeper.set_updates{connect=zk1:2181,path=${path}}`], 0)
      assert.strictEqual((yield* shown)[`scales.zookeeper.set_since_update_ms{connect=zk1:2181,path=${path}}`], 10_000)
    }).pipe(Effect.provide(zk()), alone))

  it.effect("is shown for as long as it is used", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* Scope.provide(watch(), scope)
      yield* Scope.provide(watch({}, `zk://zk1${path}#http`), scope)
      const members = Object.keys(of(yield* shown, "scales.zookeeper.set_members"))
      assert.deepStrictEqual(members, [`{connect=zk1:2181,path=${path}}`, `{connect=zk1:2181,path=${path}#http}`])
      yield* Scope.close(scope, Exit.void)
      yield* settle
      assert.deepStrictEqual(yield* shown, {})
    }).pipe(Effect.provide(zk()), alone))

  it.live("says what was given for its session, and no secret", () =>
    Effect.gen(function*() {
      const stack = yield* Stack
      yield* serverSet(yield* ZooKeeper, `zk://127.0.0.1:1${path}`, `127.0.0.1:1${path}`)
      const { options, state } = describeStack(stack).stages.find(({ role }) => role === "zookeeper")!
      assert.deepStrictEqual(options, {
        reads: { value: 100, from: "default" },
        sessionTimeout: { value: "7000 ms", from: "given" },
        connectTimeout: { value: "5000 ms", from: "default" },
        lookup: { value: "the system's", from: "default" },
        auth: { value: [{ scheme: "digest", credentials: "<redacted>" }], from: "given" }
      })
      assert.include(["Connecting", "Disconnected"], (state as { session: { state: string } }).session.state)
      assert.notInclude(Describe.render(describeStack(stack)), "hunter2")
    }).pipe(
      Effect.provide(Stack.layer("users")),
      Effect.provide(
        ZooKeeper.layer({
          sessionTimeout: "7 seconds",
          auth: [{ scheme: "digest", credentials: Redacted.make("me:hunter2") }]
        })
      ),
      Effect.scoped,
      alone
    ))
})

describe("an announcement", () => {
  const endpoint = Endpoint.tcp("10.0.0.3", 80)
  const start = Effect.gen(function*() {
    const announcement = yield* announce(yield* ZooKeeper, `zk://zk1${path}`, `zk1${path}`, endpoint)
    yield* settle
    return announcement
  })
  const numbers = Effect.map(shown, (all) => {
    const at = `{connect=zk1:2181,endpoint=10.0.0.3:80,path=${path}}`
    return ["announced", "reannouncements", "losses"].map((name) => all[`scales.announcement.${name}${at}`])
  })

  it.effect("shows whether it is there, how often it was made again, and what failed", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const scope = yield* Scope.make()
      fake.failNext("create", "NoAuth")
      fake.failNext("create", "ConnectionLoss")
      const { announced } = yield* Scope.provide(start, scope)
      assert.deepStrictEqual(yield* numbers, [0, 0, 0])
      yield* pass(20, "1 second")
      yield* announced
      assert.deepStrictEqual(yield* numbers, [1, 0, 0])
      fake.expire()
      yield* settle
      assert.deepStrictEqual(yield* numbers, [1, 1, 0])
      yield* TestClock.adjust("2 minutes")
      fake.remove(`${path}/${fake.list(path)[0]}`)
      yield* settle
      assert.deepStrictEqual(yield* numbers, [1, 2, 1])
      assert.deepStrictEqual(of(yield* shown, "scales.announcement.failures"), {
        [`{connect=zk1:2181,endpoint=10.0.0.3:80,error=NoAuth,path=${path}}`]: 1,
        [`{connect=zk1:2181,endpoint=10.0.0.3:80,error=ConnectionLoss,path=${path}}`]: 1
      })
      fake.disconnect()
      yield* TestClock.adjust("61 seconds")
      assert.deepStrictEqual(yield* numbers, [0, 2, 1])
      fake.reconnect()
      yield* settle
      yield* Scope.close(scope, Exit.void)
      yield* settle
      assert.deepStrictEqual(yield* shown, {})
    }).pipe(Effect.provide(zk()), alone))

  it.effect("logs when it is made, taken away by others, and ended", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const scope = yield* Scope.make()
      yield* Scope.provide(start, scope)
      fake.remove(`${path}/member_0000000000`)
      yield* settle
      yield* Scope.close(scope, Exit.void)
      const told = (text: string, number: number) =>
        `${text} {"connect":"zk1:2181","endpoint":"10.0.0.3:80","node":"${path}/member_000000000${number}"}`
      assert.deepStrictEqual(yield* Messages, [
        told("INFO announced", 0),
        told("WARN an announcement was deleted by somebody else, and is made again", 0),
        told("INFO announced", 1),
        told("INFO not announced any more", 1)
      ])
    }).pipe(Effect.provide(zk()), alone))
})

it.effect("all that is shown is in the table, with the attributes that it says", () =>
  Effect.gen(function*() {
    const fake = yield* FakeZooKeeper
    fake.put(`${path}/member_1`, member(1))
    fake.failNext("create", "NoAuth")
    yield* watch()
    yield* announce(yield* ZooKeeper, `zk://zk1${path}`, `zk1${path}`, Endpoint.tcp("h", 1))
    yield* settle
    const rows = metricTable as Readonly<Record<string, { readonly attributes: ReadonlyArray<string> } | undefined>>
    const seen = new Set<string>()
    for (const { attributes, id } of yield* Metric.snapshot) {
      seen.add(id)
      const { connect, unit: _, ...own } = attributes as Record<string, string>
      assert.strictEqual(connect, "zk1:2181")
      assert.sameMembers(Object.keys(own), [...rows[id]?.attributes ?? ["no row"]], id)
    }
    assert.sameMembers([...seen], Object.keys(metricTable))
  }).pipe(Effect.provide(zk()), alone))
