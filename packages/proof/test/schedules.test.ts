/** A few thousand schedules against each side, where `npm run schedules` runs tens of thousands; a failing one is found and made short. */
import { assert, describe, it } from "@effect/vitest"
import { attempt, explore, must, report, type Subject, turn } from "../src/schedules/explore.ts"
import { drawer, generate } from "../src/schedules/grammar.ts"
import { subjects } from "../src/schedules/subjects.ts"

const seed = 1

describe("schedules", () => {
  for (const subject of subjects) {
    it(`hold for the ${subject.name}'s session`, { timeout: 60_000 }, async () => {
      const failing = await explore(subject, seed, 0, 4000)
      if (failing !== undefined) assert.fail(report(subject, seed, failing))
    })
  }

  it("are the same for the same seed, and others for another", () => {
    const { grammar } = subjects[0]!
    assert.deepStrictEqual(generate(grammar, drawer(5, 7)), generate(grammar, drawer(5, 7)))
    assert.notDeepEqual(generate(grammar, drawer(5, 7)), generate(grammar, drawer(5, 8)))
    assert.notDeepEqual(generate(grammar, drawer(5, 7)), generate(grammar, drawer(6, 7)))
  })
})

/** Fails when something large was put before something is taken. */
const broken: Subject = {
  name: "broken",
  grammar: {
    options: { colour: 9 },
    steps: {
      put: { weight: 5, numbers: [100, 50] },
      take: { weight: 3, numbers: [] },
      wait: { weight: 5, numbers: [10] }
    }
  },
  run: async ({ steps }) => {
    let put = false
    for (const [name, much] of steps) {
      if (name === "put" && much! > 20) put = true
      must(name !== "take" || !put, () => "taken")
      await turn()
    }
  }
}

describe("a failing schedule", () => {
  it("is shrunk to what it fails by, and told with what replays it", async () => {
    const failing = await explore(broken, seed, 0, 100)
    assert.isDefined(failing)
    const { index, schedule, shortest, what } = failing
    assert.strictEqual(what, "taken")
    assert.isAbove(schedule.steps.length, 2)
    assert.deepStrictEqual(shortest.options, { colour: 0 })
    assert.deepStrictEqual(shortest.steps.map(([name]) => name), ["put", "take"])
    assert.isAbove(shortest.steps[0]![1]!, 20)
    assert.strictEqual(shortest.steps[0]![2], 0)
    const told = report(broken, seed, failing)
    assert.include(told, `--side broken --seed 1 --index ${index}`)
    assert.include(told, `--replay '${JSON.stringify(shortest)}'`)
    const again = await attempt(broken, JSON.parse(JSON.stringify(shortest)) as typeof shortest)
    assert.strictEqual(again?.message, "taken")
  })
})
