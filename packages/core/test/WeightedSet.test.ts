import { assert, describe, it } from "@effect/vitest"
import type { Member } from "../src/Balancer.ts"
import { WeightedSet } from "../src/internal/WeightedSet.ts"
import { member } from "./pickers.ts"
import { seeded } from "./support.ts"

describe("a weighted set", () => {
  it("draws each as often as its weight, through members that join, leave and are reweighed", () => {
    const random = seeded(1)
    const set = new WeightedSet(seeded(2))
    const inside: Array<Member> = []
    const weight = () => Math.ceil(random() * 16) / 4
    for (let step = 0; step < 2_000; step++) {
      const dice = random()
      if (inside.length < 3 || dice < 0.35) {
        const joining = member(weight())
        inside.push(joining)
        set.add(joining)
      } else if (dice < 0.7) set.remove(inside.splice(Math.floor(random() * inside.length), 1)[0]!)
      else {
        const changing = inside[Math.floor(random() * inside.length)]!
        changing.endpoint = { ...changing.endpoint, weight: weight() }
        set.reweigh(changing)
      }
      if (step % 400 !== 399) continue
      const sum = inside.reduce((all, { endpoint }) => all + endpoint.weight, 0)
      assert.approximately(set.mean, sum / inside.length, 1e-9)
      const counts = new Map<Member, number>()
      const draws = 500 * inside.length
      for (let i = 0; i < draws; i++) {
        const drawn = set.members[set.draw()]!
        counts.set(drawn, (counts.get(drawn) ?? 0) + 1)
      }
      for (const each of inside) {
        const expected = draws * each.endpoint.weight / sum
        assert.approximately(counts.get(each) ?? 0, expected, 5 * Math.sqrt(expected), `step ${step}`)
      }
    }
  })

  it("draws another by the weights of those that are left", () => {
    const set = new WeightedSet(seeded(3))
    for (const weight of [1, 10, 3, 6]) set.add(member(weight))
    const counts = [0, 0, 0, 0]
    for (let i = 0; i < 10_000; i++) counts[set.drawOther(1)]!++
    assert.deepStrictEqual(counts.map((count) => Math.round(count / 500)), [2, 0, 6, 12])
  })

  it("draws members, and another as another, at both ends of what is random, with sums that round", () => {
    const random = seeded(4)
    for (let round = 0; round < 2_000; round++) {
      let drawn = 0
      const set = new WeightedSet(() => drawn)
      const size = 2 + Math.floor(random() * 7)
      for (let i = 0; i < size; i++) set.add(member(random() * 10 ** Math.floor(random() * 18)))
      for (drawn of [0, 1 - 2 ** -53]) {
        const first = set.draw()
        assert.isBelow(first, size)
        for (let i = 0; i < size; i++) {
          const other = set.drawOther(i)
          assert.isBelow(other, size)
          assert.notStrictEqual(other, i, `round ${round}`)
        }
      }
    }
  })
})
