import { assert, describe, it } from "@effect/vitest"
import { describe as describeStack, DeterministicAperture, type Endpoint, type RpcError, Stack } from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Deferred, Effect, Exit, Fiber, Layer, Metric } from "effect"
import { TestClock } from "effect/testing"
import type { Member } from "../src/Balancer.ts"
import { compareOrder, orderOf } from "../src/internal/addressOrder.ts"
import { WindowPicker, type WindowSettings } from "../src/internal/WindowPicker.ts"
import { Picking } from "./picking.ts"
import { endpoints, inForce, makeCall, seeded, settle, stack, start, TextClient } from "./support.ts"

/** The picker of one client of several, over so many endpoints. */
const windowOf = (
  instance: number,
  instances: number,
  size: number,
  options: { readonly seed?: number; readonly weight?: (port: number) => number } & Partial<WindowSettings> = {}
) => {
  const { seed = 1, weight, ...settings } = options
  const picking = new Picking(
    (control) => new WindowPicker(control, { instance, instances, minAperture: 12, idleMillis: 150_000, ...settings }),
    seed
  )
  picking.join(size, weight)
  const { picker } = picking
  /** In their order around the ring. */
  const ring = () => picking.members.toSorted((a, b) => compareOrder(orderOf(a.endpoint), orderOf(b.endpoint)))
  const inside = () => ring().filter((member) => picker.view(member).active)
  const outside = () => ring().filter((member) => !picker.view(member).active)
  const times = <A>(count: number, f: () => A): Array<A> => Array.from({ length: count }, f)
  /** How often each is picked while all calls go on. */
  const loads = () => ring().map(({ load }) => load)
  return { inside, loads, outside, picker, picking, ring, times }
}

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

describe("a client's part of the endpoints", () => {
  it("is the first half of 24 for the first of 12 clients, all alike", () => {
    const { loads, picking, times } = windowOf(0, 12, 24)
    times(1200, () => picking.begin())
    const picked = loads().flatMap((load, index) => load > 0 ? [index] : [])
    assert.deepStrictEqual(picked, range(0, 11))
    for (const index of picked) assert.approximately(loads()[index]!, 100, 3)
  })

  it("is 13 of 18 and a half for the second of 4, and the half has half the load", () => {
    const { loads, picking, times } = windowOf(1, 4, 18)
    times(1350, () => picking.begin())
    const picked = loads().flatMap((load, index) => load > 0 ? [index] : [])
    assert.deepStrictEqual(picked, range(4, 17))
    assert.approximately(loads()[4]!, 50, 3)
    for (const index of range(5, 17)) assert.approximately(loads()[index]!, 100, 3)
  })

  it("is loaded alike by calls one after another: 3 endpoints, 3000 calls, 5 percent", () => {
    const { picking, times } = windowOf(0, 3, 3)
    const counts = new Map<Member, number>()
    times(3000, () => {
      const member = picking.begin()
      counts.set(member, (counts.get(member) ?? 0) + 1)
      picking.end(member)
    })
    // A deviation of 26 is expected: 2 of them.
    for (const count of counts.values()) assert.approximately(count, 1000, 52)
  })

  it("is drawn from until there are two to compare, five times at most", () => {
    const { picker, picking, times } = windowOf(0, 1, 2)
    const loaded = picking.begin()
    const picks = times(2000, () => picker.pick([], makeCall()))
    // Half of the first draws, and one in 32 of their seconds: 31 of them, with a deviation of 5.6.
    assert.approximately(picks.filter((member) => member === loaded).length, 31, 22)
  })

  it("is loaded by weight", () => {
    const { picking, times } = windowOf(0, 1, 4, { weight: (port) => port })
    times(1000, () => picking.begin())
    for (const [nth, { load }] of picking.members.entries()) assert.approximately(load, 100 * (nth + 1), 4)
    const sequential = windowOf(0, 1, 4, { weight: (port) => port, seed: 2 })
    const counts = [0, 0, 0, 0]
    sequential.times(20_000, () => {
      const member = sequential.picking.begin()
      counts[sequential.picking.members.indexOf(member)]!++
      sequential.picking.end(member)
    })
    // A deviation of at most 70 is expected: 4 of them.
    for (const [nth, count] of counts.entries()) assert.approximately(count, 2000 * (nth + 1), 280)
  })

  it("covers the set evenly with the parts of the other clients", () => {
    const total = new Map<string, number>()
    for (const instance of range(0, 19)) {
      const { picking, times } = windowOf(instance, 20, 50, { seed: instance })
      times(1000, () => picking.begin())
      for (const { endpoint, load } of picking.members) total.set(endpoint.key, (total.get(endpoint.key) ?? 0) + load)
    }
    assert.strictEqual(total.size, 50)
    // Of 20,000 calls; each client's picks of two keep its own part even.
    for (const load of total.values()) assert.approximately(load, 400, 25)
  })

  it("is the same whatever order the endpoints come in, and picks are the same for the same seed", () => {
    const part = (backwards: boolean) => {
      const { picker, picking, inside } = windowOf(3, 7, 40)
      // All leave and come again.
      const members = [...picking.members]
      for (const member of members) picker.remove(member)
      for (const member of backwards ? members.toReversed() : members) picker.add(member)
      return inside().map(({ endpoint }) => endpoint.key)
    }
    assert.deepStrictEqual(part(true), part(false))
    // Two clients of seven on 40 endpoints: 12 are wanted, three clients' worth are 17 and a bit.
    assert.isAtLeast(part(true).length, 17)
    assert.isAtMost(part(true).length, 19)
    const run = (seed: number) => {
      const { picking, times } = windowOf(3, 7, 40, { seed })
      return times(200, () => picking.begin().endpoint.key)
    }
    assert.deepStrictEqual(run(5), run(5))
    assert.notDeepEqual(run(5), run(6))
  })

  it("is laid out once for any number of changes, and only when members or weights change", () => {
    const { inside, picker, picking, times } = windowOf(0, 10, 1000)
    assert.strictEqual(picker.rebuilds, 0)
    times(100, () => picking.begin())
    assert.strictEqual(picker.rebuilds, 1)
    for (const member of inside()) picking.set(member, "Closed")
    times(100, () => picking.begin())
    for (const member of picking.members) picking.set(member, "Open")
    times(100, () => picking.begin())
    assert.strictEqual(picker.rebuilds, 1)
    const [first] = inside()
    first!.endpoint = { ...first!.endpoint, weight: 2 }
    picker.changed(first!)
    for (const member of picking.members.slice(10, 30)) picking.leave(member)
    picking.join(10)
    times(100, () => picking.begin())
    assert.strictEqual(picker.rebuilds, 2)
    assert.approximately(picker.shareOf(first!), 2 / 991, 1e-9)
  })

  it("is all of a few, one of one, none of none", () => {
    const { inside, picker, picking } = windowOf(2, 9, 0)
    assert.isUndefined(picker.pick([], undefined))
    const [only] = picking.join(1)
    assert.strictEqual(picking.begin(), only)
    picking.join(4)
    assert.lengthOf(inside(), 5)
    for (const member of [...picking.members]) picking.leave(member)
    assert.isUndefined(picker.pick([], undefined))
    assert.deepInclude(picker.snapshot(), { active: 0, idle: 0 })
  })
})

describe("endpoints that are not usable", () => {
  for (const state of ["Closed", "Busy"] as const) {
    it(`are avoided while one of the part is usable (${state})`, () => {
      const { inside, outside, picking, times } = windowOf(0, 12, 24)
      const [last, ...sick] = inside()
      for (const member of sick.slice(3)) picking.set(member, state)
      times(400, () => picking.begin())
      for (const member of [last!, ...sick.slice(0, 3)]) assert.approximately(member.load, 100, 3)
      for (const member of sick) picking.set(member, state)
      times(400, () => picking.begin())
      assert.approximately(last!.load, 500, 3)
      for (const member of outside()) assert.strictEqual(member.load, 0)
    })
  }

  it("leave the calls to those outside of the part when all of it is down, and get them back when one has healed", () => {
    const { inside, outside, picking, times } = windowOf(0, 12, 24)
    for (const member of inside()) picking.set(member, "Closed")
    times(1200, () => picking.begin())
    for (const member of outside()) assert.approximately(member.load, 100, 12)
    for (const member of inside()) assert.strictEqual(member.load, 0)
    const [healed] = inside()
    picking.set(healed!, "Open")
    times(100, () => picking.begin())
    assert.strictEqual(healed!.load, 100)
  })

  it("share the calls when nothing is usable anywhere, the best of them first", () => {
    const { inside, loads, picking, times } = windowOf(0, 12, 24)
    for (const member of picking.members) picking.set(member, "Closed")
    times(1200, () => picking.begin())
    assert.deepStrictEqual(loads().map((load) => load > 0), range(0, 23).map((index) => index < 12))
    const [busy] = inside()
    picking.set(busy!, "Busy")
    const before = busy!.load
    times(100, () => picking.begin())
    assert.strictEqual(busy!.load, before + 100)
  })
})

describe("a call that was tried before", () => {
  it("goes to another of the part, then to one outside of it, and to one that was tried before a worse one", () => {
    const { inside, outside, picking } = windowOf(0, 12, 24)
    const tried: Array<Endpoint> = []
    for (const count of range(1, 24)) {
      const member = picking.begin(tried)
      assert.notInclude(tried, member.endpoint)
      assert.strictEqual(inside().includes(member), count <= 12)
      tried.push(member.endpoint)
    }
    assert.include(inside(), picking.begin(tried))
    for (const member of outside()) picking.set(member, "Closed")
    assert.include(inside(), picking.begin(inside().map(({ endpoint }) => endpoint)))
  })
})

describe("an endpoint outside of the part", () => {
  it("is closed when it has been idle for 150 seconds, and leaves no timer", () => {
    const { inside, outside, picker, picking } = windowOf(0, 12, 24)
    const guest = picking.begin(inside().map(({ endpoint }) => endpoint))
    picking.begin()
    assert.include(outside(), guest)
    picking.pass(1_000_000)
    assert.deepStrictEqual(picking.shelved, [])
    picking.end(guest)
    picking.pass(149_999)
    assert.deepStrictEqual(picking.shelved, [])
    picking.pass(1)
    assert.deepStrictEqual(picking.shelved, [guest])
    assert.strictEqual(picker.expired, 1)
    assert.strictEqual(picking.deadlines.size, 0)
    picking.end(picking.begin(inside().map(({ endpoint }) => endpoint)))
    assert.strictEqual(picking.deadlines.size, 1)
    picker.stop()
    assert.strictEqual(picking.deadlines.size, 0)
    picking.end(picking.begin(inside().map(({ endpoint }) => endpoint)))
    assert.strictEqual(picking.deadlines.size, 0)
  })

  it("is one that a new set has put there, too", () => {
    const { inside, picking, times } = windowOf(0, 40, 12)
    for (const member of times(200, () => picking.begin())) picking.end(member)
    assert.lengthOf(inside(), 12)
    picking.join(100)
    picking.begin()
    const left = picking.members.filter((member) => member.state === "Open" && !inside().includes(member))
    assert.isAbove(left.length, 5)
    picking.pass(150_000)
    assert.sameMembers(picking.shelved, left)
  })
})

describe("any schedule of joins, leaves, faults, weights and calls", () => {
  it("picks the best there is, in the part first, and never one that has left", () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = seeded(seed)
      const below = (count: number) => Math.floor(random() * count)
      const instances = 1 + below(30)
      const { picker, picking } = windowOf(below(instances), instances, below(40), {
        seed: seed + 1000,
        idleMillis: 500,
        weight: () => seed % 2 === 0 ? 1 : 0.1 + random()
      })
      const calls: Array<Member> = []
      for (let step = 0; step < 300; step++) {
        const holds = (what: string, truth: boolean) => {
          if (!truth) assert.fail(`seed ${seed}, step ${step}: ${what}`)
        }
        const { members } = picking
        const any = members[below(members.length)]
        const dice = random()
        if (dice < 0.06) picking.join(1 + below(3))
        else if (dice < 0.1 && any !== undefined) picking.leave(any)
        else if (dice < 0.14 && any !== undefined) {
          any.endpoint = { ...any.endpoint, weight: 0.1 + random() }
          picker.changed(any)
        } else if (dice < 0.35 && any !== undefined) {
          picking.set(any, (["Idle", "Open", "Busy", "Closed"] as const)[below(4)]!)
        } else if (dice < 0.6 && any !== undefined) {
          const tried = random() < 0.3 ? members.filter(() => random() < 0.5).map(({ endpoint }) => endpoint) : []
          const best = Math.min(...members.map(({ rank }) => rank))
          const good = members.filter(({ rank }) => rank === best)
          const untried = good.filter(({ endpoint }) => !tried.includes(endpoint))
          const candidates = untried.length > 0 ? untried : good
          const near = candidates.filter((member) => picker.view(member).active)
          const picked = picking.begin(tried)
          holds("it is one of the best", (near.length > 0 ? near : candidates).includes(picked))
          calls.push(picked)
        } else if (dice < 0.85 && calls.length > 0) picking.end(calls.splice(below(calls.length), 1)[0]!)
        else picking.pass(below(200))
        const active = members.filter((member) => picker.view(member).active)
        holds(
          "no member is lost",
          picker.size === active.length && picker.snapshot()["idle"] === members.length - active.length
        )
        const weights = members.reduce((sum, { endpoint }) => sum + endpoint.weight, 0)
        for (const member of members) {
          const share = picker.shareOf(member)
          holds("a share is a part of the endpoint's own", share <= (member.endpoint.weight / weights) * (1 + 1e-9))
        }
      }
      for (const member of calls) picking.end(member)
      for (const member of [...picking.members]) picking.leave(member)
      assert.deepStrictEqual([picker.size, picking.deadlines.size], [0, 0], `seed ${seed}`)
    }
  })
})

describe("the cost of a call", () => {
  it("is the logarithm of the part at 10,000 endpoints, also when most are down", () => {
    const picking = new Picking((control) => {
      let draws = 0
      const { random } = control.stack
      const counted = { ...control, stack: { ...control.stack, random: () => (draws++, random()) } }
      const picker = new WindowPicker(counted, { instance: 0, instances: 1, minAperture: 12, idleMillis: 1 })
      return Object.assign(picker, { draws: () => draws })
    })
    picking.join(10_000)
    picking.begin()
    for (const member of picking.members.slice(10)) picking.set(member, "Closed")
    for (let call = 0; call < 1000; call++) {
      const before = picking.picker.draws()
      picking.begin()
      // Two, each drawn five times in vain and then among the ten; the second as often as it is the first.
      assert.isAtMost(picking.picker.draws() - before, 6 + 5 * 6)
    }
    assert.strictEqual(picking.picker.rebuilds, 1)
  })
})

describe("the deterministic aperture of a stack", () => {
  const aperture = (options: DeterministicAperture.DeterministicApertureOptions) => ({
    balancer: (family: Parameters<typeof DeterministicAperture.layer<"Text", string, string, RpcError>>[0]) =>
      DeterministicAperture.layer(family, options)
  })
  const node = Effect.map(
    Stack,
    (shared) => () => describeStack(shared).stages.find(({ role }) => role === "balancer")!
  )
  const active = Effect.map(node, (of) => () => {
    const { endpoints } = of().state as { endpoints: ReadonlyArray<{ endpoint: string; active: boolean }> }
    return endpoints.filter((each) => each.active).map(({ endpoint }) => endpoint)
  })

  it.effect("calls its part, and shows it", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(...range(1, 24)))
      const part = (yield* active)()
      assert.lengthOf(part, 12)
      assert.lengthOf(script.connections, 0)
      const reply = Deferred.makeUnsafe<string>()
      script.answer = () => Deferred.await(reply)
      const fibers = yield* Effect.forEach(Array(200).fill("hi"), (text) => start(client.call(text)))
      yield* settle
      assert.sameMembers(script.connections.map(({ endpoint }) => endpoint.key), part)
      yield* Deferred.succeed(reply, "hello")
      yield* Effect.forEach(fibers, Fiber.join)
      assert.deepInclude((yield* node)().state as object, { active: 12, idle: 12, rebuilds: 1, expired: 0, size: 24 })
      assert.deepStrictEqual(
        (yield* node)().options,
        inForce({ minAperture: 12, idleTime: "150000 ms", whenEmpty: "fail" }, { instance: 5, instances: 12 })
      )
    }).pipe(Effect.provide(stack(aperture({ instance: 5, instances: 12 })))))

  it.effect("loses no call when all of its part is down, and closes what it used meanwhile", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(...range(1, 8)))
      const part = (yield* active)()
      assert.isBelow(part.length, 8)
      for (const key of part) script.refuse(key)
      for (let call = 0; call < 20; call++) {
        const answer = yield* client.call("hi")
        assert.notInclude(part, answer.split(" ")[0])
      }
      for (const key of part) script.accept(key)
      yield* TestClock.adjust("20 seconds")
      assert.include(part, (yield* client.call("hi")).split(" ")[0])
      yield* TestClock.adjust("150 seconds")
      yield* settle
      for (const { endpoint } of script.live()) assert.include(part, endpoint.key)
    }).pipe(Effect.provide(stack(aperture({ instance: 1, instances: 8, minAperture: 3 })))))

  it.effect("shows its numbers as metrics", () =>
    Effect.gen(function*() {
      yield* (yield* TestServerSet).bind(endpoints(...range(1, 24)))
      yield* (yield* TextClient).call("hi")
      const shown = (yield* Metric.snapshot).filter(({ id }) => id.startsWith("scales.aperture."))
      assert.deepStrictEqual(
        Object.fromEntries(
          shown.map((
            { id, state }
          ) => [id, "count" in state ? state.count : "value" in state ? state.value : undefined])
        ),
        {
          "scales.aperture.size": 12,
          "scales.aperture.outside": 12,
          "scales.aperture.coordinate": 0.25,
          "scales.aperture.rebuilds": 1,
          "scales.aperture.expired": 0
        }
      )
    }).pipe(Effect.provide(stack(aperture({ instance: 3, instances: 12 })))))

  it.effect("refuses options out of their range", () =>
    Effect.gen(function*() {
      const refused = (options: DeterministicAperture.DeterministicApertureOptions, option: string) =>
        Effect.gen(function*() {
          const exit = yield* Effect.exit(Effect.scoped(Layer.build(stack(aperture(options)))))
          assert.isTrue(Exit.isFailure(exit), option)
          assert.include(String(exit), option)
        })
      yield* refused({ instance: 0, instances: 0 }, "instances")
      yield* refused({ instance: 3, instances: 3 }, "instance")
      yield* refused({ instance: -1, instances: 3 }, "instance")
      yield* refused({ instance: 0.5, instances: 3 }, "instance")
      yield* refused({ instance: 0, instances: 3, minAperture: 0 }, "minAperture")
      yield* refused({ instance: 0, instances: 3, idleTime: Infinity }, "idleTime")
      yield* refused({ instance: 0, instances: 3, whenEmpty: "never" as never }, "whenEmpty")
    }))
})
