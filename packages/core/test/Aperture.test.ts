import { assert, describe, it } from "@effect/vitest"
import {
  Aperture,
  ConnectionClosed,
  describe as describeStack,
  Endpoint,
  Filter,
  Nacked,
  type RpcError,
  ServerSetState,
  Stack
} from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Cause, Effect, Exit, Fiber, Layer, Metric, Scope } from "effect"
import { TestClock } from "effect/testing"
import type { BalancerView, Member } from "../src/Balancer.ts"
import { AperturePicker, type ApertureSettings, type Move } from "../src/internal/AperturePicker.ts"
import { Picking } from "./picking.ts"
import { endpoints, inForce, seeded, settle, stack, start, Text, TextClient } from "./support.ts"

const defaults: ApertureSettings = {
  minSize: 1,
  maxSize: Infinity,
  minLoad: 0.5,
  maxLoad: 2,
  windowMillis: 5000,
  idleMillis: 150_000,
  jitter: undefined
}

/** An aperture over so many endpoints, under a balancer made by hand. The test may change its settings as it goes. */
const apertureOf = (size: number, options: Partial<ApertureSettings> = {}, seed = 1) => {
  const moved: Array<Move> = []
  const settings = { ...defaults, ...options }
  const picking = new Picking(
    (control) => new AperturePicker(control, settings, (move) => moved.push(move)),
    seed
  )
  picking.picker.start()
  picking.join(size)
  const { picker } = picking
  const inside = () => picking.members.filter((member) => picker.view(member).active)
  const outside = () => picking.members.filter((member) => !picker.view(member).active)
  const times = <A>(count: number, f: () => A): Array<A> => Array.from({ length: count }, f)
  /** The load is too little, for one event. */
  const narrow = () => {
    settings.maxLoad = Infinity
    settings.minLoad = -1
    const member = picking.begin()
    settings.minLoad = Infinity
    picking.end(member)
    settings.minLoad = -1
  }
  return { inside, moved, narrow, outside, picker, picking, settings, times }
}

/** An aperture that calls have made so wide, and that stays so until the test says otherwise. */
const wide = (size: number, width: number, options: Partial<ApertureSettings> = {}, seed = 1) => {
  const made = apertureOf(size, { windowMillis: 0, minLoad: -1, maxLoad: 1.5, ...options }, seed)
  const { picker, picking, settings } = made
  const calls: Array<Member> = []
  do calls.push(picking.begin())
  while (picker.size < width)
  settings.maxLoad = Infinity
  for (const member of calls) picking.end(member)
  assert.strictEqual(picker.size, width)
  picking.opened.length = 0
  made.moved.length = 0
  return made
}

describe("the size of an aperture", () => {
  it("stays one while calls come one after another", () => {
    const { inside, picker, picking } = apertureOf(4)
    let most = 0
    picking.load(1, 20, 60_000, () => {
      most = Math.max(most, picker.size)
    })
    assert.strictEqual(most, 1)
    assert.deepStrictEqual(picking.opened.concat(inside()), inside(), "no other was opened")
  })

  it("is four of 16 for eight calls at a time", () => {
    const { picker, picking } = apertureOf(16)
    const sizes = new Set<number>()
    let turn = 0
    picking.load(8, 20, 60_000, () => {
      if (++turn > 30_000) sizes.add(picker.size)
    })
    assert.deepStrictEqual([...sizes], [4])
  })

  it("follows the load down again, an endpoint at a time", () => {
    const { moved, picker, picking } = apertureOf(16)
    picking.load(30, 20, 15_000)
    assert.isAtLeast(picker.size, 14)
    let before = picker.size
    picking.load(1, 20, 30_000, () => {
      // Two events, an end and a begin, fall into one millisecond.
      if (before - picker.size > 2) assert.fail(`${before} to ${picker.size}`)
      before = picker.size
    })
    assert.strictEqual(picker.size, 1)
    assert.strictEqual(moved.filter((move) => move === "widened").length, picker.moves.widened)
    assert.strictEqual(picker.moves.widened, picker.moves.narrowed)
  })

  it("is the load against the band when no window smooths it (Finagle's numbers)", () => {
    for (const [minLoad, maxLoad] of [[0.5, 2], [0.4, 1], [1, 4]] as const) {
      const { picker, picking, times } = apertureOf(100, { windowMillis: 0, minLoad, maxLoad })
      const calls = times(80, () => {
        const member = picking.begin()
        const outstanding = picking.members.reduce((sum, { load }) => sum + load, 0)
        assert.isAtMost(Math.abs(outstanding / maxLoad - picker.size), 1, `${outstanding} calls`)
        return member
      })
      for (const member of calls) picking.end(member)
      // Down again as well, but no faster than an endpoint an event.
      picking.load(1, 1, 200)
      assert.strictEqual(picker.size, 1)
    }
  })

  it("does not answer to a burst that is over in no time", () => {
    const { picker, picking, times } = apertureOf(16)
    picking.end(picking.begin())
    picking.pass(10)
    for (const member of times(500, () => picking.begin())) picking.end(member)
    assert.strictEqual(picker.size, 1)
  })

  it("averages the load by 1 - exp(-passed / window)", () => {
    const { picker, picking } = apertureOf(4)
    picking.pass(5000)
    const first = picking.begin()
    assert.approximately(picker.loadAverage, 1 - Math.exp(-1), 1e-12)
    picking.pass(2500)
    picking.end(first)
    assert.approximately(picker.loadAverage, (1 - Math.exp(-1)) * Math.exp(-0.5), 1e-12)
  })

  it("averages the calls on members in the set, also of one that comes back with calls on it", () => {
    const { picker, picking, times } = apertureOf(2, { windowMillis: 0, minLoad: -1, maxLoad: Infinity, minSize: 2 })
    times(6, () => picking.begin())
    const [gone] = picking.members
    picking.leave(gone!)
    picking.begin()
    assert.strictEqual(picker.loadAverage, 4)
    gone!.removed = false
    picking.members.push(gone!)
    picker.add(gone!)
    picking.begin()
    assert.strictEqual(picker.loadAverage, 4)
  })

  it("stands still while the clock does, and when it is set back", () => {
    const { picker, picking } = apertureOf(4)
    picking.pass(5000)
    picking.begin()
    const before = picker.loadAverage
    picking.begin()
    picking.time -= 3000
    picking.begin()
    assert.strictEqual(picker.loadAverage, before)
    picking.pass(5000)
    picking.begin()
    assert.approximately(picker.loadAverage * picker.size, before + (4 - before) * (1 - Math.exp(-1)), 1e-12)
  })

  it("is at least minSize and at most maxSize, or all there are", () => {
    assert.strictEqual(apertureOf(2, { minSize: 3 }).picker.size, 2)
    assert.strictEqual(apertureOf(10, { minSize: 3 }).picker.size, 3)
    const { picker, picking } = apertureOf(10, { minSize: 2, maxSize: 3 })
    picking.load(40, 20, 20_000)
    assert.strictEqual(picker.size, 3)
    picking.load(1, 20, 60_000)
    assert.strictEqual(picker.size, 2)
    const few = apertureOf(2)
    few.picking.load(40, 20, 20_000)
    assert.strictEqual(few.picker.size, 2)
  })

  it("grows to minSize as endpoints join, and shrinks with the set", () => {
    const { picker, picking } = apertureOf(0, { minSize: 3 })
    assert.isUndefined(picker.pick([], undefined))
    for (const expected of [1, 2, 3, 3]) {
      picking.join(1)
      assert.strictEqual(picker.size, expected)
    }
    for (const expected of [3, 2, 1, 0]) {
      picking.leave(picking.members[0]!)
      assert.strictEqual(picker.size, expected)
    }
    assert.strictEqual(picker.loadAverage, 0)
  })

  it("lets go of the least loaded", () => {
    const { inside, outside, picker, picking, settings } = wide(4, 4)
    const calls = [...inside(), ...inside().slice(0, 3)].map((member) => {
      member.load++
      picker.began(member, picking.time)
      return member
    })
    const least = inside().find(({ load }) => load === 1)!
    settings.minLoad = Infinity
    picking.end(calls[0]!)
    // It had one call, as many as the one that has just lost its second.
    assert.include([least, calls[0]], outside()[0])
    assert.strictEqual(outside()[0]!.load, 1)
    assert.deepStrictEqual([picker.size, picker.valid], [3, true])
  })

  it("lets go of one that is down before any other", () => {
    const { inside, moved, narrow, outside, picking } = wide(4, 4)
    const sick = inside()[2]!
    picking.set(sick, "Closed")
    assert.deepStrictEqual(moved, [], "nothing is there to replace it")
    const busy = inside()[0]!
    picking.set(busy, "Busy")
    narrow()
    assert.deepStrictEqual(outside()[0], sick)
    assert.deepStrictEqual(moved[0], "narrowed")
  })
})

describe("what comes into an aperture", () => {
  it("is opened at once; before the first call nothing is", () => {
    const { inside, picker, picking } = apertureOf(10, { minSize: 3 })
    picking.pass(1_000_000)
    assert.deepStrictEqual(picking.opened, [])
    const member = picking.begin()
    assert.sameMembers([member, ...picking.opened], inside())
    picking.join(1)
    picking.load(20, 20, 10_000)
    assert.isAbove(picker.size, 5)
    for (const each of inside()) assert.strictEqual(each.state, "Open")
  })

  it("is anything in a set of thousands, the same for the same seed", () => {
    const chosen = (seed: number) => {
      const { inside } = wide(1000, 8, {}, seed)
      return inside().map(({ endpoint }) => endpoint.key)
    }
    assert.deepStrictEqual(chosen(1), chosen(1))
    const all = new Set<string>()
    for (let seed = 1; seed <= 20; seed++) for (const key of chosen(seed)) all.add(key)
    // 8 of 1000, 20 times: 148 different ones on average.
    assert.isAbove(all.size, 135)
  })

  it("begins with any of them, as often with one as with another", () => {
    const begun = new Map<string, number>()
    for (let seed = 1; seed <= 3000; seed++) {
      const { picking } = apertureOf(5, {}, seed)
      const { key } = picking.begin().endpoint
      begun.set(key, (begun.get(key) ?? 0) + 1)
    }
    // A deviation of 22 is expected: 4 of them.
    for (const count of begun.values()) assert.approximately(count, 600, 88)
    assert.strictEqual(begun.size, 5)
  })

  it("gets no call before it is open, while another is", () => {
    const { picker, picking, settings, times } = wide(4, 1)
    picking.opening = "waits"
    settings.maxLoad = 5
    const calls = times(5, () => picking.begin())
    assert.deepStrictEqual([picker.size, picking.opened.length], [2, 1])
    const [coming] = picking.opened
    calls.push(...times(4, () => picking.begin()))
    assert.lengthOf(new Set(calls), 1)
    picking.set(coming!, "Open")
    calls.push(...times(9, () => picking.begin()))
    assert.deepStrictEqual([coming!.load, calls[0]!.load], [9, 9])
  })

  it("gets calls before it is open when there is none else", () => {
    const { picker, picking, times } = apertureOf(8, { minSize: 2 })
    picking.opening = "waits"
    const calls = times(10, () => picking.begin())
    assert.deepStrictEqual([...new Set(calls)].map(({ load }) => load), [5, 5])
    assert.strictEqual(picker.size, 2)
  })

  it("counts from the start: calls that wait for it do not widen once more each", () => {
    const { picker, picking, times } = apertureOf(100, { windowMillis: 0, minLoad: -1, maxLoad: 10 })
    picking.opening = "waits"
    times(39, () => picking.begin())
    assert.strictEqual(picker.size, 4)
  })

  it("keeps the others from leaving until it is open", () => {
    const { narrow, picker, picking, settings } = wide(4, 2)
    picking.opening = "waits"
    settings.maxLoad = 1
    const calls = [picking.begin(), picking.begin()]
    settings.maxLoad = Infinity
    for (const member of calls) picking.end(member)
    assert.strictEqual(picker.size, 3)
    narrow()
    assert.strictEqual(picker.size, 3)
    picking.set(picking.opened[0]!, "Open")
    narrow()
    assert.strictEqual(picker.size, 2)
  })

  it("is used as it is when it has not opened in five seconds, so that a sink which says nothing of that is no hindrance", () => {
    const { narrow, picker, picking, settings, times } = wide(4, 1)
    picking.opening = "waits"
    settings.maxLoad = 2
    times(2, () => picking.begin())
    settings.maxLoad = Infinity
    picking.pass(4999)
    assert.notStrictEqual(picking.begin(), picking.opened[0])
    picking.pass(1)
    assert.strictEqual(picking.begin(), picking.opened[0])
    assert.strictEqual(picker.size, 2)
    narrow()
    assert.strictEqual(picker.size, 1)
  })

  it("is one that was opened already, when no call was made before", () => {
    const { inside, picking } = apertureOf(5)
    const [opened] = picking.members.slice(3)
    picking.set(opened!, "Open")
    assert.deepStrictEqual(inside(), [opened])
    picking.join(50)
    assert.strictEqual(picking.begin(), opened)
  })
})

describe("an endpoint of an aperture that goes down", () => {
  for (const state of ["Closed", "Busy"] as const) {
    it(`is replaced at once (${state})`, () => {
      const { inside, moved, picker, picking } = wide(10, 3)
      const sick = inside()[1]!
      picking.set(sick, state)
      assert.strictEqual(picker.size, 3)
      assert.notInclude(inside(), sick)
      assert.deepStrictEqual(moved, ["replaced"])
      assert.lengthOf(picking.opened, 1)
      assert.include(inside(), picking.opened[0])
    })
  }

  it("costs no call but those that are on it: the next goes to one that is open", () => {
    const { inside, picking } = wide(10, 2)
    picking.opening = "waits"
    const [sick, well] = inside()
    picking.set(sick!, "Closed")
    for (let call = 0; call < 10; call++) assert.strictEqual(picking.begin(), well)
  })

  it("is idle outside when it has healed", () => {
    const { inside, outside, picking } = wide(10, 2)
    const sick = inside()[0]!
    picking.set(sick, "Closed")
    const after = inside()
    picking.set(sick, "Open")
    assert.deepStrictEqual(inside(), after)
    assert.include(outside(), sick)
  })

  it("comes back in at once when none inside is as good", () => {
    const { inside, picker, picking } = wide(4, 2)
    for (const member of picking.members) picking.set(member, "Closed")
    assert.strictEqual(picker.size, 2)
    assert.strictEqual(picker.pick([], undefined)!.rank, 2)
    for (const member of picking.members.slice(2)) {
      picking.set(member, "Busy")
      assert.include(inside(), member)
      assert.strictEqual(picker.pick([], undefined)!.rank, 1)
    }
    const healed = picking.members.find((member) => !inside().includes(member))!
    picking.set(healed, "Open")
    assert.include(inside(), healed)
    assert.strictEqual(picker.pick([], undefined), healed)
    assert.isTrue(picker.valid)
  })

  it("stays when nothing outside is better, and the whole grows with its load as ever", () => {
    const { picker, picking, settings, times } = wide(6, 2)
    for (const member of picking.members) picking.set(member, "Busy")
    settings.maxLoad = 3
    times(30, () => picking.begin())
    assert.deepStrictEqual(picking.members.map(({ load }) => load), [5, 5, 5, 5, 5, 5])
    assert.strictEqual(picker.size, 6)
  })

  it("does not grow by what is down while one is usable", () => {
    const { inside, picker, picking, settings, times } = wide(6, 2)
    for (const member of picking.members.filter((each) => !inside().includes(each))) picking.set(member, "Closed")
    settings.maxLoad = 1
    times(30, () => picking.begin())
    assert.strictEqual(picker.size, 2)
  })

  it("has thousands tried after it, one after another, when each refuses", () => {
    const { inside, picker, picking } = wide(10_000, 1)
    const last = picking.members[7777]!
    picking.opening = (member) => member === last ? "opens" : "refuses"
    picking.set(inside()[0]!, "Closed")
    assert.deepStrictEqual(inside(), [last])
    assert.strictEqual(picker.pick([], undefined), last)
    assert.isAtMost(picking.opened.length, 9999)
    assert.isTrue(picker.valid)
  })

  it("is replaced when it leaves the set", () => {
    const { inside, moved, picker, picking } = wide(10, 3)
    const gone = inside()[0]!
    const call = picking.begin()
    picking.leave(gone)
    assert.deepStrictEqual([picker.size, picking.opened.length, gone.index], [3, 1, -1])
    assert.deepStrictEqual(moved, ["replaced"])
    for (let i = 0; i < 20; i++) assert.notStrictEqual(picking.begin(), gone)
    picking.end(call)
    while (picking.members.length > 1) picking.leave(inside()[0]!)
    assert.strictEqual(picker.size, 1)
  })
})

describe("an endpoint that takes calls and does not answer", () => {
  it("gets as many as the square root of 20 times those of a second before another comes in, and then none", () => {
    // With r calls a second the smoothed load is r t^2 / 10 for a window of 5 s: it reaches 2 after sqrt(20 / r) seconds.
    for (const [everyMillis, most] of [[1, 150], [10, 48], [100, 15], [1000, 6]] as const) {
      const { picker, picking } = apertureOf(8)
      const frozen = picking.begin()
      let hurt = 1
      while (picker.size === 1) {
        picking.pass(everyMillis)
        picking.begin()
        hurt++
      }
      assert.isAtMost(hurt, most)
      picking.load(1, 20, 5000)
      assert.strictEqual(frozen.load, hurt)
    }
  })
})

describe("a call that was tried before", () => {
  it("goes to another in the aperture", () => {
    const { inside, picker, picking } = wide(8, 2)
    const [first, second] = inside()
    assert.strictEqual(picking.begin([first!.endpoint]), second)
    assert.strictEqual(picker.size, 2)
  })

  it("takes one more in when all there were tried, and those after it find that one", () => {
    const { inside, picker, picking } = wide(8, 1)
    const [first] = inside()
    const second = picking.begin([first!.endpoint])
    assert.notStrictEqual(second, first)
    assert.strictEqual(picking.begin([first!.endpoint]), second)
    assert.deepStrictEqual([picker.size, picker.moves.widened], [2, 1])
    const third = picking.begin([first!.endpoint, second.endpoint])
    assert.notInclude([first, second], third)
  })

  it("goes to one that was tried rather than to a worse one, or beyond maxSize, or when there is none", () => {
    const { inside, outside, picker, picking } = wide(3, 1)
    const [first] = inside()
    for (const member of outside()) picking.set(member, "Busy")
    assert.strictEqual(picking.begin([first!.endpoint]), first)
    const bounded = wide(3, 1, { maxSize: 1 })
    const [only] = bounded.inside()
    assert.strictEqual(bounded.picking.begin([only!.endpoint]), only)
    assert.strictEqual(picker.size, 1)
    const all = wide(2, 2)
    assert.include(all.inside(), all.picking.begin(all.inside().map(({ endpoint }) => endpoint)))
  })

  it("goes to one that opens rather than to one that was tried", () => {
    const { picking, settings } = wide(3, 1)
    picking.opening = "waits"
    settings.maxLoad = 1
    const first = picking.begin()
    assert.strictEqual(picking.begin([first.endpoint]), picking.opened[0])
  })

  it("moves nothing when it is only asked", () => {
    const { inside, picker } = wide(3, 1)
    const [first] = inside()
    assert.strictEqual(picker.pick([first!.endpoint], undefined), first)
    assert.strictEqual(picker.size, 1)
  })
})

describe("the exchange of an endpoint", () => {
  const jitter = { minMillis: 120_000, maxMillis: 240_000 }

  it("comes every 120 to 240 seconds, and spreads over all", () => {
    const { inside, picker, picking } = apertureOf(20, { jitter, maxLoad: 1000 })
    const seen = new Set<Member>()
    const at: Array<number> = []
    picking.begin()
    for (let second = 0; second < 100_000; second++) {
      const before = picker.moves.swapped
      picking.pass(1000)
      if (picker.moves.swapped === before) continue
      at.push(picking.time)
      seen.add(inside()[0]!)
      assert.strictEqual(picker.size, 1)
    }
    const gaps = at.slice(1).map((time, nth) => time - at[nth]!)
    assert.isAtLeast(Math.min(...gaps), 119_000)
    assert.isAtMost(Math.max(...gaps), 241_000)
    // About 555 of them; an even spread over 120 s has a mean of 180 s and a deviation of 35 s: 3 of the mean's are 4.5 s.
    assert.approximately(gaps.reduce((a, b) => a + b, 0) / gaps.length, 180_000, 4500)
    assert.isAbove(Math.max(...gaps) - Math.min(...gaps), 110_000)
    assert.strictEqual(seen.size, 20)
  })

  it("opens the newcomer first", () => {
    const { inside, moved, picker, picking } = wide(6, 2, { jitter })
    const before = inside()
    picking.opening = "waits"
    picking.pass(240_000)
    assert.deepStrictEqual(inside(), before)
    const [coming] = picking.opened
    assert.lengthOf(picking.opened, 1)
    picking.set(coming!, "Open")
    assert.include(inside(), coming)
    assert.strictEqual(inside().filter((member) => before.includes(member)).length, 1)
    assert.deepStrictEqual([picker.size, ...moved], [2, "swapped"])
  })

  it("is off when the newcomer cannot be opened, or leaves, or has come in by itself", () => {
    for (const what of ["refused", "left", "in"] as const) {
      const { inside, narrow, picker, picking, settings } = wide(3, 2, { jitter })
      const before = inside()
      picking.opening = "waits"
      picking.pass(240_000)
      const [coming] = picking.opened
      if (what === "refused") picking.set(coming!, "Closed")
      else if (what === "left") {
        picking.leave(coming!)
        coming!.removed = false
        picking.members.push(coming!)
        picker.add(coming!)
      } else {
        settings.maxLoad = 0
        picking.begin()
        picking.set(coming!, "Busy")
        narrow()
        assert.notInclude(inside(), coming)
      }
      picking.set(coming!, "Open")
      assert.strictEqual(picker.moves.swapped, 0, what)
      assert.includeMembers(inside(), before)
      assert.isTrue(picker.valid)
    }
  })

  it("lets go of the least loaded, also at maxSize", () => {
    const { inside, picker, picking, times } = wide(6, 2, { jitter, maxSize: 2 })
    times(3, () => picking.begin())
    const least = inside().find(({ load }) => load === 1)!
    picking.pass(240_000)
    assert.notInclude(inside(), least)
    assert.strictEqual(picker.size, 2)
  })

  it("does not happen before the first call, without anybody outside, or when it is off", () => {
    const unused = apertureOf(6, { jitter })
    const whole = wide(3, 3, { jitter })
    const off = wide(6, 2)
    for (const { picker, picking } of [unused, whole, off]) {
      picking.pass(10_000_000)
      assert.strictEqual(picker.moves.swapped, 0)
      assert.lengthOf(picking.opened, 0)
    }
  })
})

describe("an endpoint outside", () => {
  /** One that has left the aperture, open. */
  const left = (options: Partial<ApertureSettings> = {}) => {
    const made = wide(3, 2, options)
    made.narrow()
    while (made.picker.size > 1) made.narrow()
    const member = made.outside().find(({ state }) => state === "Open")!
    return { ...made, member, since: made.picking.time }
  }

  it("is closed when it has been idle for 150 seconds", () => {
    const { inside, member, picker, picking } = left()
    picking.pass(149_999)
    assert.deepStrictEqual(picking.shelved, [])
    picking.pass(1)
    assert.deepStrictEqual(picking.shelved, [member])
    assert.strictEqual(picker.moves.expired, 1)
    picking.pass(1_000_000)
    assert.lengthOf(picking.shelved, 1)
    assert.strictEqual(inside()[0]!.state, "Open")
    assert.strictEqual(picking.deadlines.size, 0)
  })

  it("is idle from when its last call has ended", () => {
    const { inside, narrow, outside, picker, picking } = wide(3, 2)
    const calls = inside().map(() => picking.begin())
    while (picker.size > 1) narrow()
    const member = outside().find(({ load }) => load === 1)!
    picking.pass(1_000_000)
    assert.deepStrictEqual([picking.shelved.length, picker.moves.expired], [0, 0])
    for (const call of calls) picking.end(call)
    picking.pass(150_000)
    assert.deepStrictEqual(picking.shelved, [member])
  })

  it("is not closed when it has come back in", () => {
    const { inside, picker, picking, settings, times } = left()
    settings.maxLoad = 1
    const calls = times(5, () => picking.begin())
    settings.maxLoad = Infinity
    for (const call of calls) picking.end(call)
    assert.strictEqual(picker.size, 3)
    picking.pass(1_000_000)
    assert.deepStrictEqual(picking.shelved, [])
    assert.lengthOf(inside(), 3)
  })

  it("is not closed while it is down, and is once it has been well for as long", () => {
    const { member, picking } = left()
    picking.set(member, "Closed")
    picking.pass(1_000_000)
    assert.deepStrictEqual(picking.shelved, [])
    picking.set(member, "Open")
    picking.pass(149_999)
    assert.deepStrictEqual(picking.shelved, [])
    picking.pass(1)
    assert.deepStrictEqual(picking.shelved, [member])
  })

  it("is closed too when somebody else has opened it", () => {
    const { outside, picking } = wide(4, 1)
    const [other] = outside()
    picking.set(other!, "Open")
    picking.pass(150_000)
    assert.deepStrictEqual(picking.shelved, [other])
  })

  it("leaves no timer when it leaves the set, nor does the whole when it stops", () => {
    const { member, picker, picking, settings } = left({ jitter: { minMillis: 1000, maxMillis: 2000 } })
    assert.strictEqual(picking.deadlines.size, 2)
    picking.leave(member)
    assert.strictEqual(picking.deadlines.size, 1)
    picking.opening = "waits"
    settings.maxLoad = 0
    picking.begin()
    assert.strictEqual(picking.deadlines.size, 2)
    picker.stop()
    assert.strictEqual(picking.deadlines.size, 0)
    picking.join(3)
    for (const each of picking.members) picking.set(each, "Closed")
    for (const each of picking.members) picking.set(each, "Open")
    assert.isAbove(picker.idle, 2)
    assert.strictEqual(picking.deadlines.size, 0)
  })
})

describe("weights in an aperture", () => {
  it("share its load in their proportion", () => {
    const { picking, times } = apertureOf(0, { minSize: 3, maxLoad: 1e9 })
    picking.join(3, (port) => port)
    times(60, () => picking.begin())
    assert.deepStrictEqual(picking.members.map(({ load }) => load), [10, 20, 30])
    picking.members[0]!.endpoint = { ...picking.members[0]!.endpoint, weight: 5 }
    picking.picker.changed(picking.members[0]!)
    times(40, () => picking.begin())
    assert.deepStrictEqual(picking.members.map(({ load }) => load), [50, 20, 30])
  })
})

describe("any schedule of joins, leaves, faults, calls and time", () => {
  it("keeps the aperture whole", () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = seeded(seed)
      const below = (count: number) => Math.floor(random() * count)
      const minSize = 1 + below(4)
      const maxSize = random() < 0.5 ? Infinity : minSize + below(6)
      const { picker, picking } = apertureOf(below(30), {
        minSize,
        maxSize,
        windowMillis: [0, 50, 5000][below(3)]!,
        idleMillis: 2000,
        jitter: random() < 0.7 ? { minMillis: 500, maxMillis: 3000 } : undefined
      }, seed + 1000)
      const openings = ["opens", "refuses", "waits"] as const
      const calls: Array<Member> = []
      const gone = new Set<Member>()
      for (let step = 0; step < 300; step++) {
        const holds = (what: string, truth: boolean) => {
          if (!truth) assert.fail(`seed ${seed}, step ${step}: ${what}`)
        }
        picking.opening = () => openings[random() < 0.7 ? 0 : 1 + below(2)]!
        const { members } = picking
        const any = members[below(members.length)]
        const dice = random()
        if (dice < 0.05) picking.join(1 + below(3))
        else if (dice < 0.09 && any !== undefined) {
          picking.leave(any)
          gone.add(any)
        } else if (dice < 0.25 && any !== undefined) {
          picking.set(any, (["Idle", "Open", "Busy", "Closed"] as const)[below(4)]!)
        } else if (dice < 0.55 && any !== undefined) {
          const tried = random() < 0.2 ? members.filter(() => random() < 0.3).map(({ endpoint }) => endpoint) : []
          const picked = picking.begin(tried)
          calls.push(picked)
          holds("a member that has left is not picked", !gone.has(picked))
        } else if (dice < 0.8 && calls.length > 0) picking.end(calls.splice(below(calls.length), 1)[0]!)
        else picking.pass(below(400))
        const count = members.length
        const rankOf = (active: boolean) =>
          members.filter((member) => picker.view(member).active === active).map(({ rank }) => rank)
        const inside = rankOf(true)
        const outside = rankOf(false)
        const asked = picker.pick([], undefined)
        holds("it is valid", picker.valid)
        holds("no member is lost", picker.size === inside.length && picker.size + picker.idle === count)
        holds("it is not too small", picker.size >= Math.min(minSize, count))
        holds("it is not too wide", picker.size <= Math.min(maxSize, count))
        holds("none inside is worse than one outside", Math.max(-1, ...inside) <= Math.min(3, ...outside))
        holds("the best is picked", asked?.rank === (count > 0 ? Math.min(...inside, ...outside) : undefined))
      }
      for (const member of calls) picking.end(member)
      for (const member of [...picking.members]) picking.leave(member)
      picker.stop()
      assert.deepStrictEqual([picker.size, picker.idle, picking.deadlines.size], [0, 0, 0], `seed ${seed}`)
    }
  })

  it("ends the same for the same seed", () => {
    const run = (seed: number) => {
      const { picking } = apertureOf(50, { jitter: { minMillis: 1000, maxMillis: 2000 } }, seed)
      const picks: Array<string> = []
      picking.load(20, 15, 3000, () => {
        picks.push(picking.picker.pick([], undefined)!.endpoint.key)
      })
      return picks
    }
    assert.deepStrictEqual(run(3), run(3))
    assert.notDeepEqual(run(3), run(4))
  })
})

describe("the cost of a call", () => {
  it("is the logarithm of the size at 10,000 endpoints", () => {
    const { picker, picking, settings } = apertureOf(10_000, { minSize: 10_000 })
    settings.maxLoad = Infinity
    picking.load(2, 10, 50)
    let looks = 0
    for (const member of picking.members) {
      const { endpoint } = member
      member.endpoint = Object.defineProperty({ ...endpoint }, "weight", {
        get: () => {
          looks++
          return 1
        }
      })
    }
    const calls: Array<Member> = []
    let most = 0
    const counted = (f: () => void) => {
      looks = 0
      f()
      most = Math.max(most, looks)
    }
    for (let call = 0; call < 3000; call++) counted(() => calls.push(picking.begin()))
    for (const member of calls) counted(() => picking.end(member))
    assert.isTrue(picker.valid)
    // A comparison looks at two weights; a heap of 10,000 is 14 deep, two comparisons a level, and an idle one moves twice.
    assert.isAtMost(most, 2 * 14 * 2 * 3)
  })
})

describe("endpoints of an aperture that cannot be made", () => {
  /** A stack with an aperture over endpoints of which those that `dies` cannot be made. */
  const brittle = (dies: (port: number) => boolean) =>
    stack({
      balancer: Aperture.layer,
      below: Filter.below(
        Text,
        (inner, endpoint) => dies(endpoint.port) ? Effect.die(new Error("no")) : Effect.succeed(inner)
      )
    })

  it.effect("are left out, however many follow each other in", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      yield* (yield* TestServerSet).push(
        ServerSetState.Bound(Array.from({ length: 5_000 }, (_, i) => Endpoint.tcp("h", i + 1)))
      )
      yield* settle
      const error = yield* Effect.flip(client.call("hi"))
      assert.include(["NoEndpoints", "ConnectFailed"], error._tag)
      const { endpoints, load } = describeStack(yield* Stack).stages.find(({ role }) => role === "balancer")!
        .state as BalancerView
      assert.deepStrictEqual([endpoints.length, load], [0, 0])
    }).pipe(Effect.provide(brittle(() => true))))

  it.effect("cost no call when one of them is taken in for a call that was tried at all others", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      script.answer = (_, { endpoint }) => Effect.fail(new Nacked({ endpoint, why: "busy", retryable: true }))
      yield* (yield* TestServerSet).bind(endpoints(1, 2, 3, 4, 5, 6))
      for (let i = 0; i < 20; i++) {
        const exit = yield* Effect.exit(client.call("hi"))
        const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) as RpcError : undefined
        assert.include(["Nacked", "ConnectFailed", "NoEndpoints"], error?._tag)
      }
      const view = describeStack(yield* Stack).stages.find(({ role }) => role === "balancer")!.state as BalancerView
      assert.strictEqual(view.load, 0)
      assert.isTrue(view.endpoints.every(({ endpoint, load }) => load === 0 && /[135]$/.test(endpoint)))
    }).pipe(Effect.provide(brittle((port) => port % 2 === 0))))
})

describe("the aperture of a stack", () => {
  interface View extends Record<Move, number> {
    readonly active: number
    readonly idle: number
    readonly loadAverage: number
    readonly panics: number
    readonly endpoints: ReadonlyArray<
      { readonly endpoint: string; readonly state: string; readonly active: boolean; readonly load: number }
    >
  }
  const node = Effect.map(
    Stack,
    (shared) => () => describeStack(shared).stages.find(({ role }) => role === "balancer")!
  )
  const view = Effect.map(node, (of) => () => of().state as View)
  const keys = (view: View, active: boolean) =>
    view.endpoints.filter((each) => each.active === active).map(({ endpoint }) => endpoint)
  const ports = Array.from({ length: 10 }, (_, nth) => nth + 1)
  const aperture = (options: Aperture.ApertureOptions) => ({
    balancer: (family: Parameters<typeof Aperture.layer<"Text", string, string, RpcError>>[0]) =>
      Aperture.layer(family, options)
  })

  it.effect("connects to one of ten for calls one after another, and shows it", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const state = yield* view
      yield* (yield* TestServerSet).bind(endpoints(...ports))
      assert.lengthOf(script.connections, 0)
      const answers = yield* Effect.forEach(Array(50).fill("hi"), (text) => client.call(text))
      assert.lengthOf(new Set(answers), 1)
      assert.lengthOf(script.connections, 1)
      assert.deepInclude(state(), { active: 1, idle: 9, widened: 0, narrowed: 0, replaced: 0, swapped: 0, expired: 0 })
      const [only] = keys(state(), true)
      assert.strictEqual(answers[0], `${only} hi`)
      assert.deepStrictEqual(
        (yield* node)().options,
        inForce({
          minSize: 1,
          maxSize: "as many as there are",
          minLoad: 0.5,
          maxLoad: 2,
          window: "5000 ms",
          jitter: { min: "120000 ms", max: "240000 ms" },
          idleTime: "150000 ms",
          whenEmpty: "fail"
        })
      )
    }).pipe(Effect.provide(stack({ balancer: Aperture.layer }))))

  it.effect("loses no call when the endpoint it uses cannot be connected to", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const state = yield* view
      yield* (yield* TestServerSet).bind(endpoints(...ports))
      for (let down = 1; down < 10; down++) {
        const [used] = keys(state(), true)
        script.refuse(used!)
        script.breakAll(used!)
        assert.notStrictEqual(yield* client.call("hi"), `${used} hi`)
        yield* settle
        assert.notInclude(keys(state(), true), used)
      }
      assert.strictEqual(state().panics, 0)
    }).pipe(Effect.provide(stack({ balancer: Aperture.layer }))))

  it.effect("has a call wait for no endpoint that says nothing, once another is open", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const state = yield* view
      yield* (yield* TestServerSet).bind(endpoints(...ports))
      yield* client.call("hi")
      const [used] = keys(state(), true)
      script.connecting = () => Effect.never
      script.answer = () => Effect.never
      const fibers = []
      for (let call = 0; call < 20; call++) {
        fibers.push(yield* start(Effect.exit(client.call("hi"))))
        yield* TestClock.adjust("100 millis")
      }
      assert.isAbove(state().active, 1)
      for (const each of state().endpoints) assert.strictEqual(each.load, each.endpoint === used ? 20 : 0)
      yield* Effect.forEach(fibers, (fiber) => Fiber.interrupt(fiber))
    }).pipe(Effect.provide(stack({ balancer: Aperture.layer }))))

  it.effect("exchanges its endpoint for another in four minutes, and closes the one before after 150 seconds", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const state = yield* view
      yield* (yield* TestServerSet).bind(endpoints(...ports))
      const [before] = keys(state(), true)
      yield* client.call("hi")
      yield* TestClock.adjust("240 seconds")
      const [after] = keys(state(), true)
      assert.notStrictEqual(after, before)
      assert.strictEqual(yield* client.call("hi"), `${after} hi`)
      yield* TestClock.adjust("150 seconds")
      yield* settle
      assert.notInclude(script.live().map(({ endpoint }) => endpoint.key), before)
      assert.strictEqual(state().endpoints.find(({ endpoint }) => endpoint === before)!.state, "Idle")
    }).pipe(Effect.provide(stack({ balancer: Aperture.layer }))))

  it.effect("finishes the calls of an endpoint that it has let go of", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const state = yield* view
      script.answer = (_, { endpoint }) => Effect.as(Effect.sleep("400 seconds"), endpoint.key)
      yield* (yield* TestServerSet).bind(endpoints(1, 2, 3))
      const [before] = keys(state(), true)
      const fiber = yield* start(client.call("hi"))
      yield* TestClock.adjust("399 seconds")
      assert.isAbove(state().swapped, 0)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(fiber), before)
    }).pipe(Effect.provide(stack({ balancer: Aperture.layer, timeout: "500 seconds" }))))

  it.effect("fails no call while one endpoint after another drains, is away for a while, and comes back", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1, 2, 3, 4))
      script.answer = (_, { endpoint }) => Effect.as(Effect.sleep("20 millis"), endpoint.key)
      const fibers = []
      for (let step = 0; step < 400; step++) {
        const key = `h:${1 + Math.floor(step / 100)}`
        // Busy with a fault: it refuses what is new, and finishes what it has.
        if (step % 100 === 20) {
          script.refuse(key)
          script.setState(
            key,
            "Busy",
            new ConnectionClosed({ endpoint: endpoints(1)[0]!, reached: "no", cause: "drains" })
          )
        } else if (step % 100 === 30) script.breakAll(key, { drained: true })
        else if (step % 100 === 60) script.accept(key)
        fibers.push(yield* start(client.call("hi")))
        yield* TestClock.adjust("10 millis")
      }
      yield* TestClock.adjust("1 second")
      const answers = yield* Effect.forEach(fibers, Fiber.join)
      assert.isAbove(new Set(answers).size, 1)
    }).pipe(Effect.provide(stack({ balancer: Aperture.layer }))))

  it.effect("answers calls again within half a second when all endpoints were down and are back", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const keys = ["h:1", "h:2", "h:3", "h:4"]
      yield* (yield* TestServerSet).bind(endpoints(1, 2, 3, 4))
      yield* client.call("hi")
      for (const key of keys) {
        script.refuse(key)
        script.breakAll(key)
      }
      for (let second = 0; second < 60; second++) {
        assert.isTrue(Exit.isFailure(yield* Effect.exit(client.call("hi"))))
        yield* TestClock.adjust("1 second")
      }
      script.accept("h:3")
      yield* TestClock.adjust("500 millis")
      yield* Effect.exit(client.call("hi"))
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* client.call("hi"), "h:3 hi")
    }).pipe(Effect.provide(stack({ balancer: Aperture.layer }))))

  it.effect("picks the same for the same seed", () => {
    const run = (seed: number) =>
      Effect.gen(function*() {
        const client = yield* TextClient
        yield* (yield* TestServerSet).bind(endpoints(...ports))
        return yield* Effect.forEach(
          Array(60).fill("hi"),
          (text) => Effect.tap(client.call(text), () => TestClock.adjust("20 seconds"))
        )
      }).pipe(Effect.provide(stack({ seed, balancer: Aperture.layer })))
    return Effect.gen(function*() {
      const first = yield* run(3)
      assert.deepStrictEqual(yield* run(3), first)
      assert.notDeepEqual(yield* run(4), first)
      assert.isAbove(new Set(first).size, 2)
    })
  })

  it.effect("shows its numbers as metrics while it lives, and leaves no timer", () =>
    Effect.gen(function*() {
      const shown = Effect.map(
        Metric.snapshot,
        (all) =>
          Object.fromEntries(
            all.filter(({ id }) => id.startsWith("scales.aperture.")).map(({ id, state }) => [
              id,
              "count" in state ? state.count : "value" in state ? state.value : undefined
            ])
          )
      )
      const scope = yield* Scope.make()
      const built = yield* Layer.buildWithScope(stack({ balancer: Aperture.layer }), scope)
      const { client, shared } = yield* Effect.provide(
        Effect.gen(function*() {
          yield* (yield* TestServerSet).push(ServerSetState.Bound(endpoints(...ports)))
          return { client: yield* TextClient, shared: yield* Stack }
        }),
        built
      )
      yield* client.call("hi")
      yield* TestClock.adjust("240 seconds")
      yield* settle
      assert.deepStrictEqual(yield* shown, {
        "scales.aperture.size": 1,
        "scales.aperture.opening": 0,
        "scales.aperture.outside": 9,
        "scales.aperture.load_average": 0,
        "scales.aperture.widened": 0,
        "scales.aperture.narrowed": 0,
        "scales.aperture.replaced": 0,
        "scales.aperture.swapped": 1,
        "scales.aperture.expired": 0
      })
      assert.isAbove(shared.deadlines.size, 0)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* shown, {})
      assert.strictEqual(shared.deadlines.size, 0)
    }))

  it.effect("refuses options out of their range", () =>
    Effect.gen(function*() {
      const refused = (options: Aperture.ApertureOptions, option: string) =>
        Effect.gen(function*() {
          const exit = yield* Effect.exit(Effect.scoped(Layer.build(stack(aperture(options)))))
          assert.isTrue(Exit.isFailure(exit), option)
          assert.include(String(exit), option)
        })
      yield* refused({ minSize: 0 }, "minSize")
      yield* refused({ minSize: 1.5 }, "minSize")
      yield* refused({ minSize: 3, maxSize: 2 }, "maxSize")
      yield* refused({ minLoad: -0.1 }, "minLoad")
      yield* refused({ minLoad: NaN }, "minLoad")
      yield* refused({ maxLoad: Infinity }, "maxLoad")
      yield* refused({ minLoad: 2, maxLoad: 2 }, "maxLoad")
      yield* refused({ maxLoad: 0.5 }, "maxLoad")
      yield* refused({ window: Infinity }, "window")
      yield* refused({ idleTime: "never" as never }, "idleTime")
      yield* refused({ jitter: { min: 0, max: 1 } }, "jitter.min")
      yield* refused({ jitter: { min: 2, max: 1 } }, "jitter.max")
      yield* refused({ jitter: "on" as never }, "jitter")
      yield* refused({ whenEmpty: "never" as never }, "whenEmpty")
      yield* Effect.scoped(
        Layer.build(stack(aperture({ minSize: 2, maxSize: 2, minLoad: 0, window: 0, jitter: "off" })))
      )
    }))
})
