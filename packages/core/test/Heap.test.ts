import { assert, describe, it } from "@effect/vitest"
import { Endpoint } from "@scales-rpc/core"
import { Heap } from "../src/internal/Heap.ts"
import { Member } from "../src/Balancer.ts"
import { seeded } from "./support.ts"

const member = (nth: number, weight = 1): Member => new Member(Endpoint.tcp("h", nth + 1, { weight }), () => {})

/** A heap of so many members, as a balancer would use it. */
const heapOf = (size: number, options?: { readonly seed?: number; readonly weights?: ReadonlyArray<number> }) => {
  const heap = new Heap(seeded(options?.seed ?? 1))
  const members = Array.from({ length: size }, (_, port) => member(port, options?.weights?.[port]))
  for (const each of members) heap.add(each)
  const acquire = (tried: ReadonlyArray<Endpoint> = []): Member => {
    const picked = heap.pick(tried)!
    picked.load++
    heap.began(picked)
    return picked
  }
  const release = (each: Member) => {
    each.load--
    heap.ended(each)
  }
  const down = (each: Member, rank: 0 | 1 | 2 = 2) => {
    each.rank = rank
    heap.changed(each)
  }
  const times = (count: number, f: () => unknown) => {
    for (let i = 0; i < count; i++) f()
  }
  const loads = () => members.map(({ load }) => load)
  return { acquire, down, heap, loads, members, release, times }
}

describe("a heap of 10 endpoints", () => {
  it("gives every endpoint one call of 10, and two of 20", () => {
    const { acquire, loads, times } = heapOf(10)
    times(10, acquire)
    assert.deepStrictEqual(loads(), Array(10).fill(1))
    times(10, acquire)
    assert.deepStrictEqual(loads(), Array(10).fill(2))
  })

  it("gives the next call to the one that a call has left", () => {
    const { acquire, members, release, times } = heapOf(10)
    times(20, acquire)
    release(members[6]!)
    assert.strictEqual(acquire(), members[6]!)
  })

  it("gives nothing to those that are down while others are not", () => {
    const { acquire, down, loads, members, times } = heapOf(10)
    times(10, acquire)
    down(members[0]!)
    down(members[1]!)
    times(16, acquire)
    assert.deepStrictEqual(loads(), [1, 1, 3, 3, 3, 3, 3, 3, 3, 3])
  })

  it("gives calls to all alike when all are down", () => {
    const { acquire, down, loads, members, times } = heapOf(10)
    times(10, acquire)
    for (const each of members) down(each)
    times(1_000, acquire)
    assert.deepStrictEqual(loads(), Array(10).fill(101))
  })

  it("gives every call to the only one that came back", () => {
    const { acquire, down, loads, members, times } = heapOf(10)
    times(10, acquire)
    for (const each of members) down(each)
    times(1_000, acquire)
    down(members[0]!, 0)
    times(100, acquire)
    assert.deepStrictEqual(loads(), [201, ...Array(9).fill(101)])
  })

  it("prefers a busy one to one that is down, and any other to a busy one", () => {
    const { acquire, down, loads, members, times } = heapOf(3)
    down(members[0]!, 1)
    down(members[1]!, 2)
    times(6, acquire)
    assert.deepStrictEqual(loads(), [0, 0, 6])
    down(members[2]!, 2)
    times(6, acquire)
    assert.deepStrictEqual(loads(), [6, 0, 6])
  })
})

describe("a heap of 2 endpoints", () => {
  it("goes on by load while both are down, while one comes back, and when that one leaves", () => {
    const { acquire, down, heap, loads, members, times } = heapOf(2)
    times(4, acquire)
    for (const each of members) down(each)
    times(1_000, acquire)
    assert.deepStrictEqual(loads(), [502, 502])
    down(members[1]!, 0)
    times(1_000, acquire)
    assert.deepStrictEqual(loads(), [502, 1_502])
    heap.remove(members[1]!)
    times(1_000, acquire)
    assert.deepStrictEqual(loads(), [1_502, 1_502])
  })
})

describe("calls one after another", () => {
  it("spread over idle endpoints", () => {
    for (const size of [2, 3, 10, 50]) {
      const { acquire, release } = heapOf(size, { seed: size })
      const picks = new Map<Member, number>()
      for (let i = 0; i < size * 1_000; i++) {
        const picked = acquire()
        picks.set(picked, (picks.get(picked) ?? 0) + 1)
        release(picked)
      }
      assert.strictEqual(picks.size, size)
      for (const count of picks.values()) assert.approximately(count, 1_000, 160, `${size} endpoints`)
    }
  })

  it("fall on the same endpoints for the same seed, and on others for another", () => {
    const run = (seed: number) => {
      const { acquire, members, release } = heapOf(10, { seed })
      return Array.from({ length: 100 }, () => {
        const picked = acquire()
        release(picked)
        return members.indexOf(picked)
      })
    }
    assert.deepStrictEqual(run(7), run(7))
    assert.notDeepEqual(run(7), run(8))
  })
})

describe("weights", () => {
  it("share the load in their proportion", () => {
    const { acquire, loads, times } = heapOf(4, { weights: [1, 2, 3, 4] })
    times(100, acquire)
    assert.deepStrictEqual(loads(), [10, 20, 30, 40])
    times(1_000, acquire)
    assert.deepStrictEqual(loads(), [110, 220, 330, 440])
  })

  it("may be fractions", () => {
    const { acquire, loads, times } = heapOf(3, { weights: [0.25, 0.5, 0.25] })
    times(400, acquire)
    assert.deepStrictEqual(loads(), [100, 200, 100])
  })

  it("do not bring back one that is down", () => {
    const { acquire, down, loads, members, times } = heapOf(2, { weights: [1_000, 1] })
    down(members[0]!)
    times(50, acquire)
    assert.deepStrictEqual(loads(), [0, 50])
  })

  it("count from when they change", () => {
    const { acquire, heap, loads, members, times } = heapOf(2)
    times(20, acquire)
    members[0]!.endpoint = Endpoint.tcp("h", 1, { weight: 3 })
    heap.changed(members[0]!)
    times(20, acquire)
    assert.deepStrictEqual(loads(), [30, 10])
  })
})

describe("a pick for a call that was tried before", () => {
  it("goes to the best of those not tried", () => {
    const { acquire, heap, members } = heapOf(3)
    const first = acquire()
    const second = heap.pick([first.endpoint])!
    assert.notStrictEqual(second, first)
    const third = heap.pick([first.endpoint, second.endpoint])!
    assert.sameMembers([first, second, third], members)
  })

  it("knows an endpoint by its key, whatever else of it has changed", () => {
    const { heap, members } = heapOf(2)
    const renewed = Endpoint.tcp("h", 1, { weight: 5 })
    assert.strictEqual(heap.pick([renewed]), members[1])
  })

  it("goes to one that was tried rather than to a worse one", () => {
    const { down, heap, members } = heapOf(2)
    down(members[1]!)
    assert.strictEqual(heap.pick([members[0]!.endpoint]), members[0])
    down(members[0]!)
    down(members[1]!, 1)
    assert.strictEqual(heap.pick([members[1]!.endpoint]), members[1])
  })

  it("goes to the best of all when all were tried", () => {
    const { acquire, heap, members, times } = heapOf(3)
    times(5, acquire)
    const best = heap.pick(members.map(({ endpoint }) => endpoint))!
    assert.strictEqual(best.load, 1)
  })
})

describe("a heap", () => {
  it("gives nothing when it is empty", () => {
    const { heap, members } = heapOf(1)
    heap.remove(members[0]!)
    assert.isUndefined(heap.pick([]))
    assert.isUndefined(heap.pick([members[0]!.endpoint]))
    assert.strictEqual(heap.size, 0)
    assert.strictEqual(members[0]!.index, -1)
  })

  it("always picks as a plain search would, through any operations", () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = seeded(seed)
      const heap = new Heap(seeded(seed + 1_000))
      const inside: Array<Member> = []
      const anyOf = () => inside[Math.floor(random() * inside.length)]!
      let ports = 0
      // Every other one is large from the start: there the first sinks by another way.
      const atStart = seed % 2 === 0 ? 200 : 0
      while (ports < atStart) {
        const joining = member(ports++)
        inside.push(joining)
        heap.add(joining)
      }
      for (let step = 0; step < 500; step++) {
        const dice = random()
        if (inside.length === 0 || dice < 0.1) {
          const joining = member(ports++, random() < 0.3 ? Math.ceil(random() * 4) / 2 : 1)
          if (random() < 0.2) joining.load = Math.floor(random() * 5)
          if (random() < 0.2) joining.rank = random() < 0.5 ? 1 : 2
          inside.push(joining)
          heap.add(joining)
        } else if (dice < 0.16) {
          const [leaving] = inside.splice(Math.floor(random() * inside.length), 1)
          heap.remove(leaving!)
        } else if (dice < 0.28) {
          const changing = anyOf()
          changing.rank = Math.floor(random() * 3) as 0 | 1 | 2
          heap.changed(changing)
        } else if (dice < 0.34) {
          const changing = anyOf()
          changing.endpoint = { ...changing.endpoint, weight: Math.ceil(random() * 8) / 2 }
          heap.changed(changing)
        } else if (dice < 0.6) {
          const loaded = inside.filter(({ load }) => load > 0)
          const releasing = loaded[Math.floor(random() * loaded.length)]
          if (releasing === undefined) continue
          releasing.load--
          heap.ended(releasing)
        } else {
          // As many as a pick looks at.
          const tried = random() < 0.3
            ? inside.filter(() => random() < 0.4).slice(0, 32).map(({ endpoint }) => endpoint)
            : []
          const picked = heap.pick(tried)!
          const best = Math.min(...inside.map(({ rank }) => rank))
          const equal = inside.filter(({ rank }) => rank === best)
          const untried = equal.filter(({ endpoint }) => !tried.includes(endpoint))
          const candidates = untried.length > 0 ? untried : equal
          const cost = ({ endpoint, load }: Member) => (load + 1) / endpoint.weight
          const least = Math.min(...candidates.map(cost))
          if (!candidates.includes(picked) || Math.abs(cost(picked) - least) > 1e-9) {
            assert.fail(`seed ${seed}, step ${step}: ${picked.endpoint.key} costs ${cost(picked)}, the best ${least}`)
          }
          picked.load++
          heap.began(picked)
        }
        if (!heap.valid || heap.size !== inside.length) assert.fail(`seed ${seed}, step ${step}: not a heap`)
      }
    }
  })

  it("keeps each member's place right", () => {
    const { heap, members } = heapOf(20, { seed: 3 })
    for (const each of [members[0]!, members[19]!, members[7]!]) {
      heap.remove(each)
      assert.strictEqual(each.index, -1)
      assert.isTrue(heap.valid)
    }
    const places = members.map(({ index }) => index).filter((index) => index >= 0)
    assert.deepStrictEqual(places.toSorted((a, b) => a - b), Array.from({ length: 17 }, (_, i) => i))
  })
})
