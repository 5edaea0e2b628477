// What a series of measurements comes to.
import { assert, describe, it } from "vitest"
import { isSteady, neighbourRatios, summarize } from "../src/statistics.ts"

describe("summarize", () => {
  it("gives the middle value of an odd count, whatever their order", () => {
    assert.strictEqual(summarize([30, 10, 20]).median, 20)
  })

  it("gives the mean of the two middle values of an even count", () => {
    assert.strictEqual(summarize([4, 1, 3, 2]).median, 2.5)
  })

  it("has half of the values between the quartiles", () => {
    assert.deepStrictEqual(summarize([1, 2, 3, 4, 5]).quartiles, [2, 4])
    assert.deepStrictEqual(summarize([1, 2, 3, 4]).quartiles, [1.75, 3.25])
  })

  it("gives one value as its own quartiles", () => {
    assert.deepStrictEqual(summarize([7]), { median: 7, quartiles: [7, 7] })
  })

  it("is not moved by one value far off", () => {
    assert.strictEqual(summarize([1, 2, 3, 4, 1000]).median, 3)
  })

  it("sorts numbers as numbers", () => {
    assert.strictEqual(summarize([9, 10, 100]).median, 10)
  })

  it("refuses an empty series", () => {
    assert.throws(() => summarize([]), RangeError)
  })
})

describe("neighbourRatios", () => {
  it("divides what was measured in the same round", () => {
    assert.deepStrictEqual(neighbourRatios([6, 8, 20], [2, 4, 5]), [3, 2, 4])
  })

  it("sees the same ratio on a machine that becomes slower, where medians of each series see another", () => {
    const below = [1, 1, 1, 10, 10]
    const above = [3, 3, 3, 30, 30]
    assert.deepStrictEqual(summarize(neighbourRatios(above, below)), { median: 3, quartiles: [3, 3] })
  })

  it("refuses series of different lengths", () => {
    assert.throws(() => neighbourRatios([1, 2], [1]), RangeError)
  })
})

describe("isSteady", () => {
  it("needs as many values as it looks at", () => {
    assert.isFalse(isSteady([5, 5], 3, 0.1))
    assert.isTrue(isSteady([5, 5, 5], 3, 0.1))
  })

  it("looks at the last values only", () => {
    assert.isTrue(isSteady([50, 5, 5.2, 5.4], 3, 0.1))
  })

  it("is false while they differ by more than the share", () => {
    assert.isFalse(isSteady([5, 5.2, 5.6], 3, 0.1))
  })
})
