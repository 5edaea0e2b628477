import { assert, describe, it } from "@effect/vitest"
import { decodeVector, type Weighed, weightOf } from "../src/Vectors.ts"

const decode = (json: unknown) =>
  decodeVector(new TextEncoder().encode(typeof json === "string" ? json : JSON.stringify(json)))
const vector = (...lines: ReadonlyArray<unknown>) => decode({ vector: lines })

const endpoint: Weighed = { member: "member_0000000001", host: "10.0.0.3", port: 80, shard: 7 }

describe("a vector", () => {
  it("is read as Finagle's operators write it", () => {
    const { descriptors, faults } = decode(
      "{\"vector\":[{\"select\":\"member=1\",\"weight\":1.2,\"priority\":1},{\"select\":\"inet=10.0.0.3:80\",\"weight\":1.3,\"priority\":2}]}"
    )
    assert.deepStrictEqual(descriptors.map(({ weight }) => weight), [1.2, 1.3])
    assert.deepStrictEqual(faults, [])
  })

  const selectors: ReadonlyArray<[select: string, selects: Weighed, not: Weighed]> = [
    ["member=member_0000000001", endpoint, { ...endpoint, member: "member_0000000002" }],
    ["member=a=b", { ...endpoint, member: "a=b" }, { ...endpoint, member: "a" }],
    ["shard=7", endpoint, { ...endpoint, shard: 8 }],
    ["shard=0", { ...endpoint, shard: 0 }, { ...endpoint, shard: undefined }],
    ["inet=10.0.0.3:80", endpoint, { ...endpoint, port: 81 }],
    ["inet=10.0.0.3:80", endpoint, { ...endpoint, host: "10.0.0.30" }],
    ["inet=[::1]:80", { ...endpoint, host: "::1" }, endpoint],
    ["inet=::1:80", { ...endpoint, host: "::1" }, endpoint]
  ]
  for (const [select, yes, no] of selectors) {
    it(`weighs what ${select} selects, and nothing else`, () => {
      const vectors = [vector({ select, weight: 2.5 })]
      assert.strictEqual(weightOf(vectors, yes), 2.5)
      assert.strictEqual(weightOf(vectors, no), 1)
    })
  }

  const bad: ReadonlyArray<[what: string, line: unknown]> = [
    ["selects nothing", { weight: 2 }],
    ["has a selector that is no text", { select: 7, weight: 2 }],
    ["has a selector that is not known", { select: "zone=a", weight: 2 }],
    ["has a selector without argument", { select: "member", weight: 2 }],
    ["has a shard that is no number", { select: "shard=x", weight: 2 }],
    ["has an address without port", { select: "inet=10.0.0.3", weight: 2 }],
    ["has an address with a port that is none", { select: "inet=10.0.0.3:0", weight: 2 }],
    ["is no object", "member=member_0000000001"],
    ["is null", null],
    ["has a weight that is text", { select: "shard=7", weight: "2" }],
    ["has a weight that is null", { select: "shard=7", weight: null }],
    ["has a negative weight other than -1", { select: "shard=7", weight: -0.5 }]
  ]
  for (const [what, line] of bad) {
    it(`leaves out a line that ${what}, and heeds the others`, () => {
      const read = vector(line, { select: "shard=7", weight: 3 })
      assert.strictEqual(weightOf([read], endpoint), 3)
      assert.lengthOf(read.faults, 1)
      assert.match(read.faults[0]!, /^line 0 /)
    })
  }

  for (const data of ["", "x", "[]", "{}", "{\"vector\":{}}", "null", "{\"vector\":null}"]) {
    it(`weighs nothing, and says so, when it is ${JSON.stringify(data)}`, () => {
      const read = decode(data)
      assert.lengthOf(read.faults, 1)
      assert.strictEqual(weightOf([read], endpoint), 1)
    })
  }
})

describe("the weight of an endpoint", () => {
  it("is 1 without vectors", () => assert.strictEqual(weightOf([], endpoint), 1))

  it("is the product of all that select it, over all vectors", () => {
    const vectors = [
      vector(
        { select: "inet=10.0.0.3:80", weight: 1.2 },
        { select: "member=member_0000000009", weight: 100 },
        { select: "shard=7", weight: 2.1 }
      ),
      vector({ select: "member=member_0000000001", weight: 3 })
    ]
    assert.strictEqual(weightOf(vectors, endpoint), 1.2 * 2.1 * 3)
  })

  it("is what an integer says, too", () =>
    assert.strictEqual(weightOf([vector({ select: "shard=7", weight: 2 })], endpoint), 2))

  it("is 1 when the line says none", () => assert.strictEqual(weightOf([vector({ select: "shard=7" })], endpoint), 1))

  for (const weight of [-1, 0]) {
    it(`is none when a line that selects it says ${weight}, whatever the others say`, () => {
      assert.isUndefined(weightOf([vector({ select: "shard=7", weight: 5 }, { select: "shard=7", weight })], endpoint))
      assert.strictEqual(weightOf([vector({ select: "shard=8", weight })], endpoint), 1)
    })
  }

  it("stays within what an endpoint takes", () => {
    const times = (weight: number) => vector(...Array.from({ length: 3 }, () => ({ select: "shard=7", weight })))
    assert.strictEqual(weightOf([times(1e300)], endpoint), 1e6)
    assert.strictEqual(weightOf([times(1e-300)], endpoint), 1e-6)
  })
})
