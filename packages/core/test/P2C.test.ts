import { assert, describe, it } from "@effect/vitest"
import { type Balancer, describe as describeStack, Endpoint, P2C, ServerSetState, Stack } from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Effect } from "effect"
import { lessLoaded, P2CPicker } from "../src/internal/P2CPicker.ts"
import { goesThroughAnything, ones, use } from "./pickers.ts"
import { endpoints, seeded, settle, stack, start, TextClient } from "./support.ts"

/** Finagle's numbers of endpoints and of requests. */
const N = 100
const R = 100_000

const p2c = (weights: ReadonlyArray<number>, seed = 1) => use(new P2CPicker(seeded(seed), lessLoaded), weights)

/** Every count is as near to its share as `tolerance`. */
const assertShares = (
  counts: ReadonlyArray<number>,
  weights: ReadonlyArray<number>,
  tolerance: number
) => {
  const total = counts.reduce((sum, count) => sum + count, 0)
  const sum = weights.reduce((all, weight) => all + weight, 0)
  counts.forEach((count, i) =>
    assert.approximately(count, total * weights[i]! / sum, tolerance, `weight ${weights[i]}`)
  )
}

describe("P2C over endpoints of equal weight", () => {
  it("balances calls that do not end evenly, to 3 of 1000 (Finagle's bound is 10)", () => {
    for (const seed of [1, 2, 3]) {
      const { hold, loads } = p2c(ones(N), seed)
      hold(R)
      assertShares(loads(), ones(N), 3)
    }
  })

  it("spreads calls one after another", () => {
    const { counts, oneByOne } = p2c(ones(N))
    // Five standard deviations of a fair draw.
    assertShares(counts(oneByOne(R)), ones(N), 5 * Math.sqrt(R / N))
  })

  it("takes the less loaded of two, always", () => {
    const { acquire, members } = p2c(ones(2))
    members[0]!.load = 1
    for (let i = 0; i < 100; i++) {
      assert.strictEqual(acquire(), members[1])
      members[1]!.load = 0
    }
  })

  it("gives one that joins idle two calls in as many as there are, not all", () => {
    const { counts, hold, join } = p2c(ones(N - 1))
    hold(100 * N)
    join()
    assert.approximately(counts(hold(3_000)).at(-1)!, 3_000 * 2 / N, 5 * Math.sqrt(60))
  })

  it("draws two numbers a pick, however many endpoints there are", () => {
    for (const size of [2, N, 10_000]) {
      let drawn = 0
      const random = seeded(1)
      const { picker } = use(
        new P2CPicker(() => {
          drawn++
          return random()
        }, lessLoaded),
        ones(size)
      )
      picker.pick([], undefined)
      assert.strictEqual(drawn, 2)
    }
  })
})

describe("P2C with some endpoints down", () => {
  it("sends none to those while one is usable, however many they are", () => {
    for (const down of [10, 50, 90, 98, 99]) {
      const { hold, loads, members, setRank } = p2c(ones(N))
      for (let i = 0; i < down; i++) setRank(members[(i * 37) % N]!, 2)
      hold(R / 100)
      for (const { load, rank } of members) if (rank === 2) assert.strictEqual(load, 0, `${down} down`)
      assert.strictEqual(loads().filter((load) => load > 0).length, N - down)
    }
  })

  it("balances evenly over all when all are down", () => {
    const { hold, loads, members, setRank } = p2c(ones(N))
    for (const each of members) setRank(each, 2)
    hold(R)
    assertShares(loads(), ones(N), 3)
  })

  it("prefers a busy one to one that is down, and any other to a busy one", () => {
    const { hold, loads, members, setRank } = p2c(ones(3))
    setRank(members[0]!, 1)
    setRank(members[1]!, 2)
    hold(6)
    assert.deepStrictEqual(loads(), [0, 0, 6])
    setRank(members[2]!, 2)
    hold(6)
    assert.deepStrictEqual(loads(), [6, 0, 6])
  })

  it("lets one that is back catch up", () => {
    const { hold, loads, members, setRank } = p2c(ones(2))
    setRank(members[0]!, 2)
    hold(10)
    setRank(members[0]!, 0)
    hold(10)
    assert.deepStrictEqual(loads(), [10, 10])
  })
})

describe("P2C over endpoints of different weights", () => {
  const weights = Array.from({ length: N }, (_, i) => [0.5, 1, 2, 4][i % 4]!)

  it("balances calls that do not end by weight, to one percent", () => {
    const { hold, loads } = p2c(weights)
    hold(R)
    const share = R / weights.reduce((sum, weight) => sum + weight, 0)
    loads().forEach((load, i) => assert.approximately(load / weights[i]!, share, share / 100))
  })

  it("sends calls one after another by weight too", () => {
    const { counts, oneByOne } = p2c(weights)
    const shares = counts(oneByOne(R))
    const sum = weights.reduce((all, weight) => all + weight, 0)
    shares.forEach((count, i) => {
      const expected = R * weights[i]! / sum
      assert.approximately(count, expected, 5 * Math.sqrt(expected))
    })
  })

  it("does so between two", () => {
    const { counts, oneByOne } = p2c([1, 9])
    assertShares(counts(oneByOne(10_000)), [1, 9], 150)
  })

  it("counts weights from when they change, and those that join and leave", () => {
    const { counts, join, leave, members, oneByOne, reweigh, setRank } = p2c([5, 1, 1, 8])
    leave(members[0]!)
    reweigh(members[0]!, 3)
    join(2)
    setRank(members[2]!, 2)
    // The others are 3, 1 and 2; the fourth, of 8, is down.
    assertShares(counts(oneByOne(12_000)), [3, 1, 0, 2], 300)
    setRank(members[2]!, 0)
    reweigh(members[2]!, 6)
    assertShares(counts(oneByOne(12_000)), [3, 1, 6, 2], 300)
    reweigh(members[0]!, 1)
    reweigh(members[2]!, 1)
    reweigh(members[3]!, 1)
    assertShares(counts(oneByOne(12_000)), [1, 1, 1, 1], 300)
  })

  it("is not thrown off by weights that differ beyond what sums can hold", () => {
    const { counts, leave, members, oneByOne } = p2c([1, 1e20, 3])
    assert.isAtLeast(counts(oneByOne(100))[1]!, 100)
    leave(members[1]!)
    assertShares(counts(oneByOne(10_000)), [1, 3], 250)
  })
})

describe("a pick of P2C for a call that was tried before", () => {
  it("goes to one that was not tried, wherever the draw falls", () => {
    const { members, picker } = p2c(ones(10))
    for (let i = 0; i < 200; i++) {
      const fresh = members[i % 10]!
      const tried = members.filter((each) => each !== fresh).map(({ endpoint }) => endpoint)
      assert.strictEqual(picker.pick(tried, undefined), fresh)
    }
  })

  it("goes to the less loaded of two that were not", () => {
    const { members, picker } = p2c(ones(3))
    members[1]!.load = 1
    for (let i = 0; i < 100; i++) {
      assert.strictEqual(picker.pick([members[0]!.endpoint], undefined), members[2])
    }
  })

  it("knows an endpoint by its key, whatever else of it has changed", () => {
    const { members, picker } = p2c(ones(2))
    const renewed = { ...members[0]!.endpoint, weight: 5 }
    for (let i = 0; i < 20; i++) assert.strictEqual(picker.pick([renewed], undefined), members[1])
  })

  it("goes to one that was tried rather than to a worse one, and to any when all were", () => {
    const { members, picker, setRank } = p2c(ones(3))
    setRank(members[2]!, 1)
    const tried = members.slice(0, 2).map(({ endpoint }) => endpoint)
    for (let i = 0; i < 50; i++) assert.notStrictEqual(picker.pick(tried, undefined), members[2])
    assert.include(members, picker.pick(members.map(({ endpoint }) => endpoint), undefined))
  })
})

describe("P2C", () => {
  it("picks the only one there is, and nothing when there is none", () => {
    const { leave, members, picker } = p2c(ones(1))
    assert.strictEqual(picker.pick([], undefined), members[0])
    assert.strictEqual(picker.pick([members[0]!.endpoint], undefined), members[0])
    leave(members[0]!)
    assert.isUndefined(picker.pick([], undefined))
  })

  it("picks the same for the same seed, and otherwise for another", () => {
    const picks = (seed: number) => {
      const { members, oneByOne } = p2c(ones(10), seed)
      return oneByOne(100).map((each) => members.indexOf(each))
    }
    assert.deepStrictEqual(picks(7), picks(7))
    assert.notDeepEqual(picks(7), picks(8))
  })

  it("goes through anything", () => goesThroughAnything((random) => new P2CPicker(random, lessLoaded)))
})

const balancer = Effect.map(
  Stack,
  (shared) => () => {
    const { description, state } = describeStack(shared).stages.find(({ role }) => role === "balancer")!
    return { ...state as Balancer.BalancerView, description }
  }
)

describe("the P2C balancer of a stack", () => {
  it.effect("spreads calls at the same time, by weight", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const state = yield* balancer
      script.answer = () => Effect.never
      yield* (yield* TestServerSet).push(ServerSetState.Bound([
        Endpoint.tcp("h", 1, { weight: 1 }),
        Endpoint.tcp("h", 2, { weight: 4 })
      ]))
      yield* Effect.forEach(Array(100).fill("hi"), (text) => start(Effect.exit(client.call(text))))
      yield* settle
      assert.deepStrictEqual(state().endpoints.map(({ load }) => load), [20, 80])
      assert.include(state().description, "two endpoints drawn at random")
    }).pipe(Effect.provide(stack({ balancer: P2C.layer, stack: { drainTimeout: 0 } }))))

  it.effect("goes round one that is down, and panics when all are", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const state = yield* balancer
      yield* (yield* TestServerSet).bind(endpoints(1, 2, 3))
      for (let i = 0; i < 20; i++) yield* client.call("hi")
      script.refuse("h:1")
      script.breakAll("h:1")
      for (let i = 0; i < 20; i++) assert.notInclude(yield* client.call("hi"), "h:1")
      assert.deepStrictEqual([state().usable, state().down, state().panics], [2, 1, 0])
      for (const key of ["h:2", "h:3"]) {
        script.refuse(key)
        script.breakAll(key)
      }
      assert.strictEqual((yield* Effect.flip(client.call("hi")))._tag, "FastFailure")
      assert.isAbove(state().panics, 0)
    }).pipe(Effect.provide(stack({ balancer: P2C.layer }))))

  it.effect("picks the same endpoints for the same seed", () => {
    const picks = (seed: number) =>
      Effect.gen(function*() {
        const client = yield* TextClient
        yield* (yield* TestServerSet).bind(endpoints(1, 2, 3, 4, 5, 6, 7))
        return yield* Effect.forEach(Array(50).fill("hi"), (text) => client.call(text))
      }).pipe(Effect.provide(stack({ balancer: P2C.layer, seed })))
    return Effect.gen(function*() {
      const first = yield* picks(3)
      assert.deepStrictEqual(yield* picks(3), first)
      assert.notDeepEqual(yield* picks(4), first)
      assert.lengthOf([...new Set(first)], 7)
    })
  })

  it.effect("is not built with a `whenEmpty` that is none", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.scoped(Effect.asVoid(
        Effect.provide(TextClient, stack({ balancer: (family) => P2C.layer(family, { whenEmpty: "later" as "wait" }) }))
      )))
      assert.strictEqual(error._tag, "InvalidOption")
    }))
})
