import { assert, describe, it } from "@effect/vitest"
import { Tags } from "../../src/Tags.ts"
import { random } from "../vectors.ts"

describe("tags", () => {
  it("are contiguous from 2", () => {
    const tags = new Tags()
    for (let tag = 2; tag < 5000; tag++) assert.strictEqual(tags.take(), tag)
    assert.strictEqual(tags.size, 4998)
  })

  it("are given again, the smallest first", () => {
    const tags = new Tags()
    for (let i = 0; i < 300; i++) tags.take()
    for (const tag of [200, 7, 64, 63, 130]) tags.free(tag)
    assert.deepStrictEqual(Array.from({ length: 6 }, () => tags.take()), [7, 63, 64, 130, 200, 302])
  })

  it("are exhausted after the highest, and go on when one is given back", () => {
    for (const max of [2, 30, 31, 32, 127, 128, 1000]) {
      const tags = new Tags(max)
      for (let tag = 2; tag <= max; tag++) assert.strictEqual(tags.take(), tag)
      assert.strictEqual(tags.take(), -1)
      assert.strictEqual(tags.take(), -1)
      assert.strictEqual(tags.size, max - 1)
      tags.free(max)
      assert.strictEqual(tags.take(), max)
      assert.strictEqual(tags.take(), -1)
    }
  })

  it("are 2^23 - 2 in all", () => {
    const tags = new Tags()
    let last = 0
    for (let tag = tags.take(); tag >= 0; tag = tags.take()) last = tag
    assert.strictEqual(last, 2 ** 23 - 1)
    assert.strictEqual(tags.size, 2 ** 23 - 2)
    tags.free(4_000_000)
    tags.free(3)
    assert.deepStrictEqual([tags.take(), tags.take(), tags.take()], [3, 4_000_000, -1])
  })

  it("are always the smallest free one, whatever the order of taking and giving back", () => {
    for (let seed = 1; seed <= 20; seed++) {
      const next = random(seed)
      const tags = new Tags(400)
      const used = new Set<number>()
      for (let step = 0; step < 3000; step++) {
        if (next(100) < 55) {
          let expected = 2
          while (used.has(expected)) expected++
          assert.strictEqual(tags.take(), expected > 400 ? -1 : expected, `seed ${seed}, step ${step}`)
          if (expected <= 400) used.add(expected)
        } else if (used.size > 0) {
          const tag = [...used][next(used.size)]!
          used.delete(tag)
          tags.free(tag)
        }
        assert.strictEqual(tags.size, used.size, `seed ${seed}, step ${step}`)
      }
    }
  })
})
