import { assert, describe, it } from "@effect/vitest"
import { type Balancer, describe as describeStack, type Outcome, PeakEwma, Stack } from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import type { Member } from "../src/Balancer.ts"
import { PeakEwmaPicker } from "../src/internal/PeakEwmaPicker.ts"
import { goesThroughAnything, ones, use } from "./pickers.ts"
import { endpoints, seeded, stack, start, TextClient } from "./support.ts"

/** Finagle's numbers of endpoints and of requests, and its decay time. */
const N = 100
const R = 100_000
const decayMillis = 10_000

/** A picker at a time that the test sets, and how often it looked at it. */
const ewma = (weights: ReadonlyArray<number>, seed = 1) => {
  const clock = { now: 0, reads: 0 }
  const read = () => {
    clock.reads++
    return clock.now
  }
  const used = use(new PeakEwmaPicker(seeded(seed), read, decayMillis), weights)
  const { members, picker } = used
  /** A call to that member that ended so. */
  const call = (each: Member, millis: number, outcome: Outcome = "success") =>
    picker.ended(each, outcome, millis, clock.now)
  const latency = (each: Member) => picker.view!(each).latencyMillis
  /** All of them have answered in so many milliseconds, just now. */
  const known = (millis: number) => {
    for (const each of members) call(each, millis)
  }
  return { ...used, call, clock, known, latency }
}

describe("the latency of an endpoint", () => {
  it("is not known before a reply", () => {
    const { call, latency, members } = ewma(ones(1))
    assert.isUndefined(latency(members[0]!))
    call(members[0]!, 5, "failure")
    assert.isUndefined(latency(members[0]!))
    call(members[0]!, 7)
    assert.strictEqual(latency(members[0]!), 7)
  })

  it("jumps to a slow reply, and comes down to faster ones over the decay time", () => {
    const { call, clock, latency, members: [only] } = ewma(ones(1))
    call(only!, 10)
    call(only!, 1_000)
    assert.strictEqual(latency(only!), 1_000)
    clock.now = decayMillis
    call(only!, 10)
    assert.approximately(latency(only!)!, 10 + 990 / Math.E, 1e-9)
    clock.now = 3 * decayMillis
    call(only!, 10)
    assert.approximately(latency(only!)!, 10 + 990 / Math.E ** 3, 1e-9)
  })

  it("comes down while nothing is sent, however often it is looked at, but not below what a clock can tell", () => {
    const { call, clock, latency, members: [only], picker } = ewma(ones(1))
    call(only!, 1_000)
    for (clock.now = 0; clock.now < decayMillis; clock.now += 10) picker.pick([], undefined)
    assert.approximately(latency(only!)!, 1_000 / Math.E, 1e-9)
    clock.now = 1_000 * decayMillis
    assert.strictEqual(latency(only!), 1)
  })

  it("does not come down when the clock is set back", () => {
    const { call, clock, latency, members: [only] } = ewma(ones(1))
    clock.now = 50_000
    call(only!, 1_000)
    clock.now = 10_000
    assert.strictEqual(latency(only!), 1_000)
  })

  it("is not lowered by attempts that did not succeed, and is raised by those that took longer", () => {
    for (const outcome of ["failure", "rejected", "ignored"] as const) {
      const { call, latency, members: [only] } = ewma(ones(1))
      call(only!, 100)
      for (let i = 0; i < 50; i++) call(only!, 0, outcome)
      assert.strictEqual(latency(only!), 100, outcome)
      call(only!, 10_000, outcome)
      assert.strictEqual(latency(only!), 10_000, outcome)
    }
  })

  it("stays what it was while an endpoint fails, and comes down over calls that were given up", () => {
    const { call, clock, latency, members: [failing, left] } = ewma(ones(2))
    call(failing!, 100)
    call(left!, 100)
    clock.now = decayMillis
    call(failing!, 1, "failure")
    call(left!, 1, "ignored")
    assert.strictEqual(latency(failing!), 100)
    assert.approximately(latency(left!)!, 100 / Math.E, 1e-9)
  })
})

describe("peak EWMA over endpoints that are equally fast", () => {
  it("balances calls that do not end evenly, to 3 of 1000, whether latencies are known or not (Finagle's bound is 50)", () => {
    for (const prepare of [() => {}, (used: ReturnType<typeof ewma>) => used.known(20)]) {
      const used = ewma(ones(N))
      prepare(used)
      used.hold(R)
      for (const load of used.loads()) assert.approximately(load, R / N, 3)
    }
  })

  it("balances by weight, calls at the same time and one after another", () => {
    const weights = Array.from({ length: N }, (_, i) => [1, 2, 4, 8][i % 4]!)
    const sum = weights.reduce((all, weight) => all + weight, 0)
    const { counts, hold, known, loads, members, oneByOne } = ewma(weights)
    known(20)
    counts(oneByOne(R, "success", 20)).forEach((count, i) => {
      const expected = R * weights[i]! / sum
      assert.approximately(count, expected, 5 * Math.sqrt(expected))
    })
    hold(R)
    loads().forEach((load, i) => assert.approximately(load / weights[i]!, R / sum, R / sum / 50))
    assert.isTrue(members.every(({ index }) => index >= 0))
  })

  it("goes by load alone below a millisecond", () => {
    const { acquire, call, members } = ewma(ones(2))
    call(members[0]!, 0)
    call(members[1]!, 1)
    members[0]!.load = 1
    assert.strictEqual(acquire(), members[1])
  })

  it("balances evenly over all when all are down", () => {
    const { hold, known, loads, members, setRank } = ewma(ones(N))
    known(20)
    for (const each of members) setRank(each, 2)
    hold(R)
    for (const load of loads()) assert.approximately(load, R / N, 3)
  })

  it("sends none to those that are down while one is usable, however fast they were", () => {
    const { call, hold, loads, members, setRank } = ewma(ones(3))
    call(members[0]!, 1)
    call(members[1]!, 1)
    call(members[2]!, 5_000)
    setRank(members[0]!, 2)
    setRank(members[1]!, 1)
    hold(50)
    assert.deepStrictEqual(loads(), [0, 0, 50])
  })
})

describe("peak EWMA over endpoints that are not equally fast", () => {
  it("gives each as many calls at the same time as balance its latency", () => {
    const { call, hold, loads, members } = ewma(ones(3))
    call(members[0]!, 10)
    call(members[1]!, 20)
    call(members[2]!, 40)
    hold(7_000)
    const [a, b, c] = loads()
    assert.approximately(a!, 4_000, 20)
    assert.approximately(b!, 2_000, 20)
    assert.approximately(c!, 1_000, 20)
  })

  it("does so whatever unit weights are in", () => {
    for (const weight of [0.001, 1_000]) {
      const { call, hold, loads, members } = ewma([weight, weight])
      call(members[0]!, 10)
      call(members[1]!, 20)
      hold(300)
      assert.approximately(loads()[0]!, 200, 1)
    }
  })

  it("keeps calls away from one that was slow once, until its peak has come down to the others", () => {
    const { acquire, call, clock, members: [slow, fast], release } = ewma(ones(2))
    call(slow!, 1_000)
    // 1000 ms are 10 ms after ln 100 = 4.605 decay times.
    for (clock.now = 0; clock.now <= 46_000; clock.now += 500) {
      call(fast!, 10)
      const picked = acquire()
      assert.strictEqual(picked, fast, `after ${clock.now} ms`)
      release(picked, "success", 10)
    }
    clock.now = 46_100
    call(fast!, 10)
    assert.strictEqual(acquire(), slow)
  })

  it("sends one call at most to one that has never replied, while others are known", () => {
    const { acquire, hold, join, known, release } = ewma(ones(N))
    known(20)
    hold(10 * N)
    const joined = join()
    hold(R)
    assert.strictEqual(joined.load, 1)
    release(joined, "success", 20)
    assert.strictEqual(joined.load, 0)
    // Known now: it catches up, two calls in as many as there are.
    let caughtUp = 0
    for (let i = 0; i < N; i++) if (acquire() === joined) caughtUp++
    assert.isAtLeast(joined.load, 1)
    assert.strictEqual(caughtUp, joined.load)
  })

  it("sends no more than its share to one that fails at once, whether it ever replied or not", () => {
    for (const replied of [true, false]) {
      const { acquire, call, clock, members, release } = ewma(ones(10))
      for (const each of members.slice(1)) call(each, 20)
      if (replied) call(members[0]!, 20)
      let failed = 0
      for (let i = 0; i < 10_000; i++) {
        clock.now += 20
        const picked = acquire()
        if (picked === members[0]) {
          failed++
          release(picked, "failure", 0)
        } else release(picked, "success", 20)
      }
      // A tenth, when all cost the same; those with replies cost a little less while they idle.
      assert.isAtMost(failed, 1_000 + 5 * Math.sqrt(1_000), `replied: ${replied}`)
    }
  })

  it("keeps calls away from one that lets them run into their deadline, though it never replied", () => {
    const { call, counts, members, oneByOne } = ewma(ones(10))
    for (const each of members.slice(1)) call(each, 20)
    call(members[0]!, 10_000, "failure")
    assert.strictEqual(counts(oneByOne(1_000, "success", 20))[0], 0)
  })
})

describe("peak EWMA", () => {
  it("reads the clock once a pick", () => {
    const { clock, known, picker } = ewma(ones(N))
    known(5)
    clock.reads = 0
    picker.pick([], undefined)
    assert.strictEqual(clock.reads, 1)
  })

  it("knows the latency still of one that left and comes back with calls on it", () => {
    const { call, latency, leave, members: [returning], picker } = ewma(ones(2))
    call(returning!, 500)
    leave(returning!)
    picker.add(returning!)
    assert.strictEqual(latency(returning!), 500)
  })

  it("picks the same for the same seed, and otherwise for another", () => {
    const picks = (seed: number) => {
      const { clock, members, acquire, release } = ewma(ones(10), seed)
      return Array.from({ length: 100 }, (_, i) => {
        clock.now += 100
        const picked = acquire()
        release(picked, "success", i % 7)
        return members.indexOf(picked)
      })
    }
    assert.deepStrictEqual(picks(7), picks(7))
    assert.notDeepEqual(picks(7), picks(8))
  })

  it("goes through anything", () => goesThroughAnything((random, now) => new PeakEwmaPicker(random, now, decayMillis)))
})

describe("the peak EWMA balancer of a stack", () => {
  it.effect("keeps calls away from a slow endpoint, and shows the latency of each", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      script.answer = (_, { endpoint }) =>
        Effect.as(Effect.sleep(endpoint.key === "h:1" ? "800 millis" : "10 millis"), endpoint.key)
      yield* (yield* TestServerSet).bind(endpoints(1, 2, 3))
      const answered: Array<string> = []
      for (let i = 0; i < 100; i++) {
        const fiber = yield* start(client.call("hi"))
        yield* TestClock.adjust("1 second")
        answered.push(yield* Fiber.join(fiber))
        if (i === 9) assert.include(answered, "h:1")
      }
      // 800 ms are 10 ms after ln 80 = 4.4 decay times: it is tried again once or twice in 100 s.
      assert.isAtMost(answered.filter((key) => key === "h:1").length, 3)
      const { options, state } = describeStack(yield* Stack).stages.find(({ role }) => role === "balancer")!
      assert.deepStrictEqual(options["decayTime"], { value: "10000 ms", from: "default" })
      const latencies = (state as Balancer.BalancerView).endpoints.map(({ latencyMillis }) => latencyMillis!)
      assert.isAbove(latencies[0]!, latencies[1]!)
      assert.isAbove(latencies[0]!, latencies[2]!)
    }).pipe(Effect.provide(stack({ balancer: PeakEwma.layer }))))

  it.effect("shows no latency of an endpoint that has not replied", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      yield* client.call("hi")
      const { state } = describeStack(yield* Stack).stages.find(({ role }) => role === "balancer")!
      const latencies = (state as Balancer.BalancerView).endpoints.map(({ latencyMillis }) => latencyMillis)
      assert.sameMembers(latencies, [undefined, 1])
    }).pipe(Effect.provide(stack({ balancer: PeakEwma.layer }))))

  it.effect("picks the same endpoints for the same seed", () => {
    const picks = (seed: number) =>
      Effect.gen(function*() {
        const client = yield* TextClient
        yield* (yield* TestServerSet).bind(endpoints(1, 2, 3, 4, 5, 6, 7))
        return yield* Effect.forEach(Array(50).fill("hi"), (text) => client.call(text))
      }).pipe(Effect.provide(stack({ balancer: PeakEwma.layer, seed })))
    return Effect.gen(function*() {
      const first = yield* picks(3)
      assert.deepStrictEqual(yield* picks(3), first)
      assert.notDeepEqual(yield* picks(4), first)
      assert.lengthOf([...new Set(first)], 7)
    })
  })

  it.effect("is not built with a decay time that is none", () =>
    Effect.gen(function*() {
      for (const decayTime of [0, -1, Infinity]) {
        const error = yield* Effect.flip(Effect.scoped(Effect.asVoid(
          Effect.provide(TextClient, stack({ balancer: (family) => PeakEwma.layer(family, { decayTime }) }))
        )))
        assert.strictEqual(error._tag, "InvalidOption")
        assert.include(error.message, "decayTime")
      }
    }))
})
