import { assert, describe, it } from "@effect/vitest"
import { type Attempt, type Outcome, StatusCell, Timeout } from "@scales-rpc/core"
import { Mux } from "@scales-rpc/mux"
import { Effect, Exit, Layer } from "effect"
import Int64 from "node-int64"
import { Message } from "../../examples/gen/echo_types.js"
import { Tally, Timetable } from "../src/chaos/load.ts"
import { http } from "../src/chaos/http/protocol.ts"
import { table } from "../src/chaos/report.ts"
import { run } from "../src/chaos/run.ts"
import { scenarios, type Settings } from "../src/chaos/scenarios.ts"
import { call, thriftmux } from "../src/chaos/thriftmux/protocol.ts"
import { type Bounds, broken, type Figures } from "../src/chaos/verdict.ts"
import { EndpointWatch, Watch } from "../src/chaos/watch.ts"
import { launch } from "../src/soak/servers.ts"

const figures: Figures = {
  calls: 6000,
  failures: 16,
  byTag: { ConnectionClosed: 16 },
  wrong: 0,
  leaked: 0,
  slowestMs: 100,
  quietAfterMs: 20,
  quietAfterBackMs: 0,
  backAfterMs: 300,
  faultMs: 3000,
  foundOutMs: 20,
  atRisk: 16,
  probes: 0,
  connects: 1,
  connectFailures: 5,
  othersKept: 1.25
}

const bounds: Bounds = {
  failures: "at risk",
  atRisk: 64,
  foundOutMs: 1000,
  probes: 1,
  quietAfterMs: 1000,
  quietAfterBackMs: 500,
  backAfterMs: 2000,
  slowestMs: 2000,
  othersKept: 0.9
}

const settings: Settings = { servers: 5, rate: 1000, seconds: 3 }

describe("the timetable of the load", () => {
  const due = (timetable: Timetable, now: number) => {
    const indexes: Array<number> = []
    for (let index = timetable.next(now); index !== undefined; index = timetable.next(now)) indexes.push(index)
    return indexes
  }

  it("begins each call once, at its time", () => {
    const timetable = new Timetable(200, 1000)
    assert.deepStrictEqual(due(timetable, 999), [])
    assert.deepStrictEqual(due(timetable, 1000), [0])
    assert.deepStrictEqual(due(timetable, 1004.9), [])
    assert.deepStrictEqual(due(timetable, 1012), [1, 2])
    assert.strictEqual(timetable.at(2), 1010)
  })

  it("makes up for the time in which nobody looked", () => {
    const timetable = new Timetable(1000, 0)
    due(timetable, 10)
    assert.strictEqual(due(timetable, 510).length, 500)
    assert.deepStrictEqual(due(timetable, 511), [511])
  })
})

describe("the tally of the load", () => {
  it("counts what came of each call, and how long the slowest took from when it was due", () => {
    const tally = new Tally()
    tally.end(Exit.succeed(true), 100, 164)
    tally.end(Exit.succeed(false), 100, 170)
    const timeout = { timeoutMillis: 1000, waiting: "reply", reached: "maybe", endpoint: undefined, cause: undefined }
    tally.end(Exit.fail(new Timeout(timeout as ConstructorParameters<typeof Timeout>[0])), 200, 1205)
    tally.end(Exit.die(new Error("oh")), 300, 310)
    assert.deepStrictEqual([tally.ok, tally.wrong, tally.ended, tally.slowestMillis], [1, 1, 4, 1005])
    assert.deepStrictEqual(tally.failed, [{ tag: "Timeout", at: 1205 }, { tag: "Defect", at: 310 }])
  })

  it("takes a reply for right only when all of it is its request's", () => {
    const { right, sent } = call(7)
    const { items, number, text } = sent
    assert.isTrue(right(new Message({ items, number, text })))
    assert.isFalse(right(new Message({ items, number, text: "call 8" })))
    assert.isFalse(right(new Message({ items, number: new Int64(8), text })))
    assert.isFalse(right(new Message({ items: [7, -8], number, text })))
    assert.isFalse(right(new Message({ items: [7, -7, 0], number, text })))
    assert.isFalse(right(call(8).sent))
  })
})

describe("what a client does at a server", () => {
  const attempt = () => {
    let end: (outcome: Outcome, millis: number) => void = () => {}
    const begun = { onEnd: (f: typeof end) => void (end = f) } as unknown as Attempt
    return { begun, ended: (outcome: Outcome) => end(outcome, 0) }
  }

  it("is at risk when it was in flight, or sent before the client took the server out of use", () => {
    const status = new StatusCell("Open")
    let now = 0
    const watched = new EndpointWatch(() => now)
    watched.watch(status)
    const [before, ended, after, probe] = [attempt(), attempt(), attempt(), attempt()]
    watched.began(before.begun)
    watched.began(ended.begun)
    ended.ended("success")
    now = 10
    const fault = watched.faulty()
    watched.began(after.begun)
    assert.deepStrictEqual([fault.at, fault.atRisk, fault.foundAt], [10, 2, undefined])
    now = 20
    status.set("Busy")
    assert.strictEqual(fault.foundAt, 20)
    now = 30
    status.set("Open")
    watched.began(probe.begun)
    status.set("Closed")
    assert.deepStrictEqual([fault.atRisk, fault.probes, fault.foundAt], [2, 1, 20])
  })

  it("is found out at once where the server was out of use already", () => {
    const watched = new EndpointWatch(() => 5)
    watched.watch(new StatusCell("Closed"))
    assert.strictEqual(watched.faulty().foundAt, 5)
  })

  it("hears of the sink that an endpoint has now, not of the one it had", () => {
    const [old, current] = [new StatusCell("Open"), new StatusCell("Open")]
    const watched = new EndpointWatch(() => 0)
    watched.watch(old)
    watched.watch(current)
    const fault = watched.faulty()
    old.set("Closed")
    assert.isUndefined(fault.foundAt)
    current.set("Closed")
    assert.strictEqual(fault.foundAt, 0)
  })

  it("counts as back with the first answer to what was sent after it was well", () => {
    let now = 0
    const watched = new EndpointWatch(() => now)
    const [before, failed, after, later] = [attempt(), attempt(), attempt(), attempt()]
    watched.faulty()
    watched.began(before.begun)
    now = 10
    watched.well()
    watched.began(failed.begun)
    watched.began(after.begun)
    now = 20
    before.ended("success")
    failed.ended("failure")
    assert.isUndefined(watched.answeredAgainAt)
    after.ended("success")
    now = 30
    watched.began(later.begun)
    later.ended("success")
    assert.deepStrictEqual([watched.wellAt, watched.answeredAgainAt], [10, 20])
    assert.deepStrictEqual([watched.answered, watched.outstanding], [3, 0])
    watched.faulty()
    assert.isUndefined(watched.answeredAgainAt)
  })

  it.effect("is seen by a stage that changes nothing", () =>
    Effect.gen(function*() {
      const status = new StatusCell("Open")
      const reply = {} as never
      const watch = new Watch()
      const inner = Layer.succeed(Mux.Endpoints, {
        make: () => Effect.succeed({ status, open: Effect.void, send: () => Effect.succeed(reply) })
      })
      const endpoint = { host: "a", port: 1, key: "a:1", weight: 1, metadata: {} }
      const endpoints = yield* Effect.provide(Mux.Endpoints, Layer.provide(watch.layer(Mux), inner))
      const sink = yield* endpoints.make(endpoint as never)
      const sent = attempt()
      assert.strictEqual(yield* sink.send(undefined as never, sent.begun), reply)
      assert.strictEqual(sink.status, status)
      assert.strictEqual(watch.at("a:1").outstanding, 1)
      sent.ended("success")
      assert.deepStrictEqual([watch.at("a:1").outstanding, watch.at("a:1").answered], [0, 1])
    }).pipe(Effect.scoped))
})

describe("the verdict on a scenario", () => {
  it("is good when every bound holds", () => {
    assert.deepStrictEqual(broken(figures, bounds), [])
  })

  const planted: ReadonlyArray<readonly [Partial<Figures>, Partial<Bounds>, string]> = [
    [{ calls: 0 }, {}, "calls: none was made"],
    [{ wrong: 1 }, {}, "wrong: 1, none allowed"],
    [{ leaked: 1 }, {}, "leaked: 1, none allowed"],
    [{ failures: 17 }, {}, "failures: 17, at most 16 allowed (at risk)"],
    [{ failures: 1 }, { failures: "none" }, "failures: 1, at most 0 allowed (none)"],
    [
      { failures: 18, probes: 1 },
      { failures: "at risk and probes" },
      "failures: 18, at most 17 allowed (at risk and probes)"
    ],
    [{ atRisk: 65 }, {}, "atRisk: 65, at most 64 allowed"],
    [{ foundOutMs: 1001 }, {}, "foundOutMs: 1001, at most 1000 allowed"],
    [{ foundOutMs: null }, {}, "foundOutMs: never, at most 1000 allowed"],
    [{ probes: 2 }, {}, "probes: 2, at most 1 allowed"],
    [{ quietAfterMs: 1001 }, {}, "quietAfterMs: 1001, at most 1000 allowed"],
    [{ quietAfterBackMs: 501 }, {}, "quietAfterBackMs: 501, at most 500 allowed"],
    [{ backAfterMs: 2001 }, {}, "backAfterMs: 2001, at most 2000 allowed"],
    [{ backAfterMs: null }, {}, "backAfterMs: never, at most 2000 allowed"],
    [{ slowestMs: 2001 }, {}, "slowestMs: 2001, at most 2000 allowed"],
    [{ othersKept: 0.89 }, {}, "othersKept: 0.89, at least 0.9 allowed"],
    [{ othersKept: null }, {}, "othersKept: null, at least 0.9 allowed"]
  ]
  for (const [changed, other, sentence] of planted) {
    it(`names what is broken: ${sentence}`, () => {
      assert.deepStrictEqual(broken({ ...figures, ...changed }, { ...bounds, ...other }), [sentence])
    })
  }

  it("lets a probe fail when it fails", () => {
    assert.deepStrictEqual(broken({ ...figures, probes: 1, quietAfterMs: 6000 }, bounds), [])
  })
})

describe("the scenarios", () => {
  it("are these", () => {
    assert.deepStrictEqual(scenarios.map(({ name }) => name), [
      "kill",
      "freeze",
      "reset",
      "silent",
      "slow",
      "errors",
      "nacks",
      "garbage",
      "rolling",
      "half",
      "all"
    ])
  })

  for (const { bounds, name } of scenarios) {
    const own = bounds(settings, figures.faultMs)
    const good: Figures = { ...figures, failures: own.failures === "none" ? 0 : 16 }

    it(`${name} may cost what it must, and no more`, () => {
      const one = (changed: Partial<Figures>) => broken({ ...good, ...changed }, own).length
      assert.deepStrictEqual(broken(good, own), [])
      assert.strictEqual(one({ wrong: 1 }), 1)
      assert.strictEqual(one({ leaked: 1 }), 1)
      assert.strictEqual(one({ backAfterMs: null }), 1)
      assert.strictEqual(one({ slowestMs: 5000 }), 1)
      if (name === "all") assert.strictEqual(one({ quietAfterBackMs: 501 }), 1)
      else assert.strictEqual(one({ failures: own.failures === "none" ? 1 : 17 }), 1)
      if (own.failures === "at risk") assert.strictEqual(one({ quietAfterMs: 1001 }), 1)
    })
  }

  it("show in a table, with what failed and what broke", () => {
    const lines = table([
      { name: "kill", figures, broken: [] },
      { name: "freeze", figures: { ...figures, byTag: {}, foundOutMs: null }, broken: ["wrong: 1, none allowed"] }
    ]).split("\n")
    assert.match(lines[0]!, /^scenario +calls +failed +at risk/)
    assert.match(lines[1]!, /^kill +6000 +16 +16 +0 +0 +0\.10 s.* ok$/)
    assert.strictEqual(lines[2], "  failed: 16 ConnectionClosed")
    assert.match(lines[3]!, /^freeze .* never .* BROKEN$/)
    assert.deepStrictEqual(lines.slice(4), ["  BROKEN wrong: 1, none allowed"])
  })

  for (const protocol of [thriftmux, http]) {
    it.live(
      `a server of ${protocol.name} that is killed costs what was in flight on it, and is used again`,
      () =>
        Effect.gen(function*() {
          const fleet = yield* Effect.all([launch(protocol.server), launch(protocol.server)], {
            concurrency: "unbounded"
          })
          const kill = scenarios.find(({ name }) => name === "kill")!
          const met = yield* run(protocol, kill, { servers: 2, rate: 200, seconds: 0.1 }, fleet)
          assert.isAbove(met.calls, 300)
          assert.isAbove(met.atRisk, 0)
          assert.isAtMost(met.failures, met.atRisk)
          assert.deepStrictEqual([met.wrong, met.leaked], [0, 0])
          assert.isAtLeast(met.connects, 1)
          assert.isNotNull(met.backAfterMs)
        }).pipe(Effect.scoped),
      30_000
    )
  }
})
