// Calls at a fixed rate: how many begin when, and that each is timed from when it should have begun.
import { assert, describe, it } from "vitest"
import { Latencies } from "../src/Latencies.ts"
import type { Client, Ended } from "../src/Load.ts"
import { dueAt, dueBy, openLoop } from "../src/openLoop.ts"
import { workOf } from "../src/workload.ts"

const work = workOf(86)

/** A clock that a test moves, turns that run when it does, and a client that answers when the test says. */
const staged = (answersAt: (begun: number) => number) => {
  let millis = 0
  let turns: Array<() => void> = []
  const begun: Array<number> = []
  let waiting: Array<{ readonly at: number; readonly ended: Ended }> = []
  const client: Client = {
    drive: () => Promise.reject(new Error("no closed loop here")),
    begin: (_, ended) => {
      begun.push(millis)
      waiting.push({ at: answersAt(millis), ended })
    },
    close: async () => {}
  }
  /** One step of the clock: what is answered by then, and a turn of the loop. */
  const step = (to: number, reply: Parameters<Ended> = [undefined, work.plain]) => {
    millis = to
    const due = waiting.filter(({ at }) => at <= to)
    waiting = waiting.filter(({ at }) => at > to)
    for (const { ended } of due) ended(...reply)
    const now = turns
    turns = []
    for (const turn of now) turn()
  }
  return {
    client,
    begun,
    step,
    waiting: () => turns.length,
    turns: { now: () => millis, next: (turn: () => void) => void turns.push(turn) }
  }
}

describe("the schedule", () => {
  it("begins one call at once, and then one each interval", () => {
    assert.deepStrictEqual([0, 0.9, 1, 1.5, 2, 10].map((millis) => dueBy(millis, 1000)), [1, 1, 2, 2, 3, 11])
    assert.deepStrictEqual([0, 1, 10].map((call) => dueAt(call, 1000)), [0, 1, 10])
  })

  it("has each call due by its own time, at rates that no millisecond is a multiple of", () => {
    for (const rate of [3, 7, 999, 48_123]) {
      for (let call = 0; call < 1000; call++) {
        assert.isAtLeast(dueBy(dueAt(call, rate) + 1e-9, rate), call + 1)
        assert.isAtMost(dueBy(dueAt(call, rate) - 1e-6, rate), call)
      }
    }
  })
})

describe("an open loop", () => {
  it("begins calls when they are due, whether those before them have ended or not", async () => {
    const stage = staged(() => 50)
    const result = openLoop(stage.client, work, { rate: 1000, settleMillis: 0, millis: 10 }, stage.turns)
    for (let millis = 1; millis <= 50; millis++) stage.step(millis)
    const { calls, p50, p999 } = await result
    assert.deepStrictEqual(stage.begun, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    assert.strictEqual(calls, 11)
    assert.strictEqual(p50, 45_000)
    assert.strictEqual(p999, 50_000)
    assert.strictEqual(stage.waiting(), 0)
  })

  it("counts against the calls behind a stall how long they would have waited", async () => {
    const stage = staged((begun) => begun + 1)
    const result = openLoop(stage.client, work, { rate: 1000, settleMillis: 0, millis: 100 }, stage.turns)
    for (let millis = 1; millis <= 10; millis++) stage.step(millis)
    // The process stands still: neither calls begin nor replies are read.
    for (let millis = 70; millis <= 101; millis++) stage.step(millis)
    const { calls, p50, p99, p999 } = await result
    assert.strictEqual(calls, 101)
    // 60 calls were under way or due in the stall. The first two of them took 60 ms: one waited for its reply, one for its turn.
    assert.deepStrictEqual([p50, p99, p999], [11_000, 60_000, 60_000])
  })

  it("leaves out the calls of the first milliseconds", async () => {
    const stage = staged((begun) => begun < 5 ? 20 : begun + 2)
    const result = openLoop(stage.client, work, { rate: 1000, settleMillis: 5, millis: 10 }, stage.turns)
    for (let millis = 1; millis <= 20; millis++) stage.step(millis)
    const { calls, p999 } = await result
    assert.strictEqual(calls, 11)
    assert.strictEqual(p999, 2000)
  })

  it("fails with a call, and begins no more", async () => {
    const stage = staged((begun) => begun + 1)
    const result = openLoop(stage.client, work, { rate: 1000, settleMillis: 0, millis: 10 }, stage.turns)
    const outcome = result.then(() => undefined, (error: unknown) => error)
    stage.step(1, [new Error("refused"), undefined])
    stage.step(2)
    assert.match(String(await outcome), /refused/)
    assert.isAtMost(stage.begun.length, 2)
    assert.strictEqual(stage.waiting(), 0)
  })

  it("fails with a wrong reply", async () => {
    const stage = staged((begun) => begun + 1)
    const result = openLoop(stage.client, work, { rate: 1000, settleMillis: 0, millis: 10 }, stage.turns)
    const outcome = result.then(() => undefined, (error: unknown) => error)
    stage.step(1, [undefined, { ...work.plain, number: 13 }])
    assert.match(String(await outcome), /wrong reply: number is 13/)
  })
})

describe("latencies", () => {
  const of = (millis: ReadonlyArray<number>) => {
    const latencies = new Latencies()
    for (const each of millis) latencies.add(each)
    return latencies
  }

  it("are told in microseconds, each quantile one that was seen", () => {
    const thousand = Array.from({ length: 1000 }, (_, i) => (i * 7919 % 1000 + 1) / 1000)
    const { calls, p50, p99, p999 } = of(thousand).quantiles()
    assert.deepStrictEqual([calls, p50, p99, p999], [1000, 500, 990, 999])
  })

  it("of one call are that call's", () => {
    assert.deepStrictEqual(of([2]).quantiles(), { p50: 2000, p99: 2000, p999: 2000, calls: 1 })
  })

  it("are kept all, however many they are", () => {
    const latencies = new Latencies()
    for (let i = 1; i <= 200_000; i++) latencies.add(i / 1000)
    const { calls, p50, p999 } = latencies.quantiles()
    assert.deepStrictEqual([calls, p50, p999], [200_000, 100_000, 199_800])
  })

  it("are none after they were cleared, and none are refused", () => {
    const latencies = of([1, 2])
    latencies.clear()
    assert.throws(() => latencies.quantiles(), RangeError)
  })
})
