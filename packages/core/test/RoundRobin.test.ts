import { assert, describe, it } from "@effect/vitest"
import { type Balancer, describe as describeStack, Endpoint, RoundRobin, ServerSetState, Stack } from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Effect } from "effect"
import type { Member } from "../src/Balancer.ts"
import { RoundRobinPicker } from "../src/internal/RoundRobinPicker.ts"
import { goesThroughAnything, ones, use } from "./pickers.ts"
import { endpoints, seeded, settle, stack, start, TextClient } from "./support.ts"

const roundRobin = (weights: ReadonlyArray<number>, seed = 1) => use(new RoundRobinPicker(seeded(seed)), weights)

/** `cycle` begun where `first` stands in it. */
const from = (cycle: ReadonlyArray<Member>, first: Member): ReadonlyArray<Member> => {
  const at = cycle.indexOf(first)
  return [...cycle.slice(at), ...cycle.slice(0, at)]
}

describe("round robin over endpoints of equal weight", () => {
  it("picks each of N once in N picks, in the same order again and again", () => {
    for (const weight of [1, 3, 0.1, 7.25]) {
      for (const size of [1, 2, 3, 10, 100]) {
        const { hold, members } = roundRobin(Array(size).fill(weight))
        const cycle = hold(size)
        assert.sameMembers([...cycle], members)
        for (let round = 0; round < 50; round++) assert.deepStrictEqual(hold(size), cycle)
      }
    }
  })

  it("gives each of 100 exactly a thousand of 100000 calls, held or one after another", () => {
    const { counts, hold, loads, oneByOne } = roundRobin(ones(100))
    hold(100_000)
    assert.deepStrictEqual(loads(), Array(100).fill(1_000))
    assert.deepStrictEqual(counts(oneByOne(100_000)), Array(100).fill(1_000))
  })

  it("goes on by picks that became calls, not by looking", () => {
    const { acquire, picker } = roundRobin(ones(5))
    const next = picker.pick([], undefined)
    for (let i = 0; i < 10; i++) assert.strictEqual(picker.pick([], undefined), next)
    assert.strictEqual(acquire(), next)
    assert.notStrictEqual(picker.pick([], undefined), next)
  })
})

describe("round robin over endpoints of different weights", () => {
  it("picks each exactly as often as its weight in any run of as many picks as the weights sum up to", () => {
    for (let seed = 1; seed <= 100; seed++) {
      const random = seeded(seed)
      const weights = Array.from({ length: 1 + Math.floor(random() * 20) }, () => Math.ceil(random() * 12))
      const sum = weights.reduce((all, weight) => all + weight, 0)
      const { counts, hold } = roundRobin(weights, seed)
      const picks = hold(5 * sum)
      for (let start = 0; start <= 4 * sum; start++) {
        assert.deepStrictEqual(counts(picks.slice(start, start + sum)), weights, `seed ${seed}, from ${start}`)
      }
    }
  })

  it("keeps the proportion of weights that are fractions, to one pick for each endpoint", () => {
    for (let seed = 1; seed <= 20; seed++) {
      const random = seeded(seed)
      const weights = Array.from({ length: 10 }, () => 0.01 + random() * 5)
      const sum = weights.reduce((all, weight) => all + weight, 0)
      const { counts, hold } = roundRobin(weights, seed)
      counts(hold(20_000)).forEach((count, i) =>
        assert.approximately(count, 20_000 * weights[i]! / sum, 1 + 10 * weights[i]! / sum, `seed ${seed}`)
      )
    }
  })

  it("spreads the picks of a heavy one between those of the others", () => {
    const { hold, members } = roundRobin([100, ...ones(100)])
    const picks = hold(2_000)
    let longest = 0
    let run = 0
    for (const picked of picks) {
      run = picked === members[0] ? run + 1 : 0
      longest = Math.max(longest, run)
    }
    // The golden ratio puts light ones at most three heavy turns apart.
    assert.isAtMost(longest, 3)
  })

  it("goes by a new weight from when it changes, and begins nothing anew", () => {
    const { counts, hold, members, reweigh } = roundRobin(ones(4))
    const [first, second, third, fourth] = hold(4)
    hold(2)
    reweigh(first!, 2)
    // Those whose turn it was have it; the one that became heavier comes sooner.
    const next = hold(3)
    assert.includeMembers(next, [third, fourth])
    hold(97)
    assert.deepStrictEqual(counts(hold(50)), members.map((each) => each === first ? 20 : 10))
    assert.notInclude(next, second)
  })

  it("does not let one wait for the turn it would have had, when it becomes heavier", () => {
    const { hold, reweigh } = roundRobin([1, 1, 1])
    const cycle = hold(3)
    reweigh(cycle[0]!, 0.001)
    hold(100)
    assert.strictEqual(cycle[0]!.load, 1)
    reweigh(cycle[0]!, 1)
    assert.include(hold(3), cycle[0])
  })

  it("keeps members apart where numbers are too coarse for it", () => {
    const heavy = 2 ** 60
    const { acquire, hold, join, members: [light, ...others], setRank } = roundRobin([1, heavy, heavy, heavy, heavy])
    for (const each of others) setRank(each, 2)
    hold(3)
    // Three turns of the light one are more turns of the others than a number can count.
    const [one, other, third, fourth] = others
    setRank(one!, 0)
    setRank(other!, 0)
    acquire()
    const joined = join(heavy)
    acquire()
    for (let round = 0; round < 10; round++) hold(3)
    assert.approximately(joined.load, 10, 1)
    assert.approximately(one!.load, 11, 1)
    assert.approximately(other!.load, 11, 1)
    assert.deepStrictEqual([light!.load, third!.load, fourth!.load], [3, 0, 0])
    // Nor are those that are down thrown off meanwhile.
    for (const each of [light!, one!, other!, joined]) setRank(each, 2)
    const before = [one!, other!, third!, fourth!, joined].map(({ load }) => load)
    hold(50)
    const after = [one!, other!, third!, fourth!, joined].map(({ load }) => load)
    after.forEach((load, i) => assert.approximately(load - before[i]!, 10, 1))
  })
})

describe("round robin when endpoints come and go", () => {
  it("passes over one that is down, and takes it up again in its place", () => {
    const { hold, setRank } = roundRobin(ones(10))
    const cycle = hold(10)
    const down = cycle[4]!
    const others = cycle.filter((each) => each !== down)
    hold(2)
    setRank(down, 2)
    assert.deepStrictEqual(hold(9), from(others, cycle[2]!))
    for (let round = 0; round < 20; round++) assert.deepStrictEqual(hold(9), from(others, cycle[2]!))
    setRank(down, 0)
    for (let round = 0; round < 20; round++) assert.deepStrictEqual(hold(10), from(cycle, cycle[2]!))
  })

  it("does not pick one twice that was down for a moment", () => {
    for (let seed = 1; seed <= 50; seed++) {
      const { acquire, hold, setRank } = roundRobin(Array(7).fill(seed / 3), seed)
      const cycle = hold(7)
      for (let i = 0; i < 70; i++) {
        const picked = acquire()
        assert.strictEqual(picked, cycle[i % 7], `seed ${seed}, pick ${i}`)
        setRank(picked, 2)
        setRank(picked, 0)
      }
    }
  })

  it("goes on with the others when one joins, which finds a place", () => {
    const { hold, join, members } = roundRobin(ones(10))
    const cycle = hold(10)
    hold(3)
    const joined = join()
    const next = hold(11)
    assert.deepStrictEqual(next.filter((each) => each !== joined), from(cycle, cycle[3]!))
    assert.sameMembers([...next], members)
    for (let round = 0; round < 20; round++) assert.deepStrictEqual(hold(11), next)
  })

  it("goes on with the others when one leaves", () => {
    const { hold, leave } = roundRobin(ones(10))
    const cycle = hold(10)
    hold(3)
    leave(cycle[6]!)
    const rest = from(cycle.filter((each) => each !== cycle[6]), cycle[3]!)
    for (let round = 0; round < 20; round++) assert.deepStrictEqual(hold(9), rest)
  })

  it("takes those in turn that are down when all are, with no run for one that was down for long", () => {
    const { hold, members, setRank } = roundRobin(ones(10))
    setRank(members[0]!, 2)
    setRank(members[1]!, 2)
    hold(1_000)
    for (const each of members) setRank(each, 2)
    const cycle = hold(10)
    assert.sameMembers([...cycle], members)
    for (let round = 0; round < 20; round++) assert.deepStrictEqual(hold(10), cycle)
    setRank(members[3]!, 0)
    assert.deepStrictEqual(hold(100), Array(100).fill(members[3]!))
    for (const each of members) setRank(each, 0)
    const again = hold(10)
    assert.sameMembers([...again], members)
  })

  it("prefers a busy one to one that is down, and any other to a busy one", () => {
    const { hold, loads, members, setRank } = roundRobin(ones(3))
    setRank(members[0]!, 1)
    setRank(members[1]!, 2)
    hold(6)
    assert.deepStrictEqual(loads(), [0, 0, 6])
    setRank(members[2]!, 2)
    hold(6)
    assert.deepStrictEqual(loads(), [6, 0, 6])
  })
})

describe("a pick of round robin for a call that was tried before", () => {
  it("goes to the next in turn that was not", () => {
    const { acquire, hold } = roundRobin(ones(20))
    const cycle = hold(20)
    const tried = [cycle[0]!, cycle[1]!, cycle[2]!, cycle[5]!].map(({ endpoint }) => endpoint)
    assert.strictEqual(acquire(...tried), cycle[3])
    assert.strictEqual(acquire(...tried), cycle[4])
    assert.strictEqual(acquire(...tried), cycle[6])
    // Those that were passed over still have their turn.
    assert.deepStrictEqual(hold(4), [cycle[0]!, cycle[1]!, cycle[2]!, cycle[5]!])
  })

  it("goes to one that was tried rather than to a worse one, and to the next when all were", () => {
    const { members, picker, setRank } = roundRobin(ones(3))
    setRank(members[2]!, 1)
    const next = picker.pick([], undefined)
    assert.strictEqual(picker.pick(members.slice(0, 2).map(({ endpoint }) => endpoint), undefined), next)
    assert.strictEqual(picker.pick(members.map(({ endpoint }) => endpoint), undefined), next)
  })
})

describe("round robin", () => {
  it("begins in the same place for the same seed, and elsewhere for another", () => {
    const picks = (seed: number) => {
      const { hold, members } = roundRobin(ones(100), seed)
      return hold(100).map((each) => members.indexOf(each))
    }
    assert.deepStrictEqual(picks(7), picks(7))
    assert.notDeepEqual(picks(7), picks(8))
  })

  it("goes through anything", () =>
    goesThroughAnything(
      (random) => new RoundRobinPicker(random),
      (picker, size) => picker.valid && picker.size === size
    ))
})

describe("the round robin balancer of a stack", () => {
  it.effect("sends calls in turn, whatever load there is", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1, 2, 3, 4, 5))
      const cycle = yield* Effect.forEach(Array(5).fill("hi"), (text) => client.call(text))
      assert.lengthOf([...new Set(cycle)], 5)
      const { answer } = script
      script.answer = (request, attempt) => attempt.endpoint.key === "h:3" ? Effect.never : answer(request, attempt)
      const fibers = yield* Effect.forEach(Array(20).fill("hi"), (text) => start(Effect.exit(client.call(text))))
      yield* settle
      assert.strictEqual(fibers.filter((fiber) => fiber.pollUnsafe() === undefined).length, 4)
      const { state } = describeStack(yield* Stack).stages.find(({ role }) => role === "balancer")!
      assert.deepStrictEqual((state as Balancer.BalancerView).endpoints.map(({ load }) => load), [0, 0, 4, 0, 0])
    }).pipe(Effect.provide(stack({ balancer: RoundRobin.layer, stack: { drainTimeout: 0 } }))))

  it.effect("sends by weight, and round one that is down", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const count = function*(calls: number) {
        const counts: Record<string, number> = {}
        for (let i = 0; i < calls; i++) {
          const key = (yield* client.call("hi")).slice(0, 3)
          counts[key] = (counts[key] ?? 0) + 1
        }
        return counts
      }
      yield* (yield* TestServerSet).push(ServerSetState.Bound([
        Endpoint.tcp("h", 1, { weight: 1 }),
        Endpoint.tcp("h", 2, { weight: 2 }),
        Endpoint.tcp("h", 3, { weight: 5 })
      ]))
      assert.deepStrictEqual(yield* count(40), { "h:1": 5, "h:2": 10, "h:3": 25 })
      script.refuse("h:3")
      script.breakAll("h:3")
      assert.deepStrictEqual(yield* count(30), { "h:1": 10, "h:2": 20 })
    }).pipe(Effect.provide(stack({ balancer: RoundRobin.layer }))))

  it.effect("picks the same endpoints for the same seed", () => {
    const picks = (seed: number) =>
      Effect.gen(function*() {
        const client = yield* TextClient
        yield* (yield* TestServerSet).bind(endpoints(1, 2, 3, 4, 5, 6, 7))
        return yield* Effect.forEach(Array(50).fill("hi"), (text) => client.call(text))
      }).pipe(Effect.provide(stack({ balancer: RoundRobin.layer, seed })))
    return Effect.gen(function*() {
      const first = yield* picks(3)
      assert.deepStrictEqual(yield* picks(3), first)
      assert.notDeepEqual(yield* picks(4), first)
    })
  })

  it.effect("is not built with a `whenEmpty` that is none", () =>
    Effect.gen(function*() {
      const balancer: typeof RoundRobin.layer = (family) => RoundRobin.layer(family, { whenEmpty: "later" as "wait" })
      const error = yield* Effect.flip(Effect.scoped(Effect.asVoid(Effect.provide(TextClient, stack({ balancer })))))
      assert.strictEqual(error._tag, "InvalidOption")
    }))
})
