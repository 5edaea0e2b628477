import { assert, describe, it } from "@effect/vitest"
import { Endpoint } from "@scales-rpc/core"
import { compareOrder, murmur3, orderOf } from "../src/internal/addressOrder.ts"
import { normalize, overlaps, windowOf } from "../src/internal/Ring.ts"
import { seeded } from "./support.ts"

const sum = (numbers: ReadonlyArray<number>) => numbers.reduce((a, b) => a + b, 0)

/** Which endpoints the client has, and how much of the ring they take up in its window. */
const window = (instance: number, instances: number, weights: ReadonlyArray<number>, least = 12) => {
  const shares = overlaps(normalize(weights), windowOf(instance, instances, weights.length, least))
  const indices = shares.flatMap((share, index) => share > 0 ? [index] : [])
  return { shares, indices, sum: sum(shares) }
}

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)
const equal = (size: number): ReadonlyArray<number> => Array<number>(size).fill(1)

/** 15 endpoints and 10 of very different weights, drawn once by Finagle's test. */
const fifteen = [
  0.0682,
  0.0268,
  0.0243,
  0.0602,
  0.0217,
  0.0458,
  0.0089,
  0.0122,
  0.0338,
  0.0932,
  0.0678,
  0.0002,
  0.05,
  0.0981,
  0.0802
]
const ten = [0.0875, 0.0716, 0.0072, 0.0796, 0.0579, 0.0908, 0.0149, 0.0975, 0.0066, 0.007]

describe("weights on the ring", () => {
  it("are shares of their sum", () => {
    assert.deepStrictEqual(normalize([0.5, 1, 1.5, 2]), [0.1, 0.2, 0.3, 0.4])
  })

  it("are refused when there is none", () => {
    for (const weight of [-1, 0, NaN, Infinity]) assert.throws(() => normalize([0.5, weight, 1.5]), RangeError)
  })
})

describe("the window of a client (Finagle's numbers)", () => {
  it("of the first of 12 clients is the first half of 24 endpoints", () => {
    const { indices, shares } = window(0, 12, equal(24))
    assert.deepStrictEqual(indices, range(0, 11))
    for (const index of indices) assert.approximately(shares[index]!, 1 / 24, 1e-12)
  })

  it("of the second of 4 clients has 13 of 18 endpoints and a half", () => {
    const { indices, shares } = window(1, 4, equal(18))
    assert.deepStrictEqual(indices, range(4, 17))
    assert.approximately(shares[4]!, 0.5 / 18, 1e-12)
    for (const index of range(5, 17)) assert.approximately(shares[index]!, 1 / 18, 1e-12)
  })

  it("of the second of 5 clients has 12 of 15 endpoints", () => {
    for (const weights of [equal(15), fifteen]) {
      const { indices, sum } = window(1, 5, weights)
      assert.deepStrictEqual(indices, range(3, 14))
      assert.approximately(sum, 0.8, 1e-9)
    }
  })

  it("of the first of 5 clients has more endpoints where these are light", () => {
    const { indices, sum } = window(0, 5, fifteen)
    assert.deepStrictEqual(indices, range(0, 13))
    assert.approximately(sum, 0.8, 1e-9)
    assert.deepStrictEqual(window(0, 5, equal(15)).indices, range(0, 11))
  })

  it("has all of 10 endpoints, where 12 are wanted", () => {
    for (const weights of [equal(10), ten]) {
      const { indices, sum } = window(1, 4, weights)
      assert.deepStrictEqual(indices, range(0, 9))
      assert.approximately(sum, 1, 1e-9)
    }
  })
})

describe("a window", () => {
  it("goes on at the beginning of the ring", () => {
    const { indices } = window(3, 4, equal(40))
    // Half of the ring from three quarters on.
    assert.deepStrictEqual(indices, [...range(0, 9), ...range(30, 39)])
  })

  it("is made of whole clients, without one more by rounding", () => {
    for (let instances = 1; instances <= 60; instances++) {
      for (let size = 1; size <= 60; size++) {
        const { width } = windowOf(0, instances, size, 12)
        const units = Math.round(width * instances)
        assert.approximately(width, units / instances, 1e-12)
        assert.isAtLeast(units * size, Math.min(12, size) * instances, `${instances} clients, ${size} endpoints`)
        assert.isBelow((units - 1) * size, Math.min(12, size) * instances, `${instances} clients, ${size} endpoints`)
      }
    }
  })

  it("loads every endpoint by its weight, with those of all clients together", () => {
    const random = seeded(5)
    for (let round = 0; round < 200; round++) {
      const instances = 1 + Math.floor(random() * 40)
      const weights = Array.from({ length: 1 + Math.floor(random() * 60) }, () => round % 2 === 0 ? 1 : 0.05 + random())
      const all = range(0, instances - 1).map((instance) => window(instance, instances, weights))
      const { width } = windowOf(0, instances, weights.length, 12)
      for (const [index, share] of normalize(weights).entries()) {
        const carried = sum(all.map(({ shares }) => shares[index]!))
        assert.approximately(carried, share * width * instances, 1e-7, `round ${round}, endpoint ${index}`)
      }
    }
  })
})

describe("the hash of an endpoint", () => {
  const bytes = (text: string) => new TextEncoder().encode(text)

  it("is MurmurHash3 for x86 with 32 bits (vectors of its author's test and of others)", () => {
    const hash = (input: Uint8Array, seed: number) => murmur3(input, seed) >>> 0
    assert.strictEqual(hash(bytes(""), 0), 0)
    assert.strictEqual(hash(bytes(""), 1), 0x514e_28b7)
    assert.strictEqual(hash(bytes(""), 0xffff_ffff), 0x81f1_6f39)
    assert.strictEqual(hash(Uint8Array.of(0x21, 0x43, 0x65, 0x87), 0), 0xf55b_516b)
    assert.strictEqual(hash(Uint8Array.of(0x21, 0x43, 0x65, 0x87), 0x5082_edee), 0x2362_f9de)
    assert.strictEqual(hash(Uint8Array.of(0x21, 0x43, 0x65), 0), 0x7e4a_8634)
    assert.strictEqual(hash(Uint8Array.of(0x21, 0x43), 0), 0xa0f7_b07a)
    assert.strictEqual(hash(Uint8Array.of(0x21), 0), 0x7266_1cf4)
    assert.strictEqual(hash(bytes("Hello, world!"), 0x9747_b28c), 0x2488_4cba)
  })

  it("puts one order on endpoints, whatever order they come in", () => {
    const endpoints = [
      Endpoint.tcp("10.0.0.1", 80),
      Endpoint.tcp("10.0.0.1", 81),
      Endpoint.tcp("10.0.0.2", 80),
      Endpoint.tcp("a.example", 80),
      Endpoint.tcp("b.example", 80),
      Endpoint.tcp("2001:db8::1", 80),
      Endpoint.tcp("2001:db8::2", 80),
      Endpoint.unix("/run/a"),
      ...range(1, 40).map((port) => Endpoint.tcp("10.1.0.7", port))
    ]
    const sorted = (list: ReadonlyArray<Endpoint>) =>
      list.map((endpoint) => ({ endpoint, order: orderOf(endpoint) }))
        .toSorted((a, b) => compareOrder(a.order, b.order)).map(({ endpoint }) => endpoint.key)
    const once = sorted(endpoints)
    assert.deepStrictEqual(sorted(endpoints.toReversed()), once)
    assert.sameMembers(once.slice(0, 3), ["a.example:80", "b.example:80", "unix:/run/a"])
    // Endpoints of one host stand together, and not by port.
    const ports = once.filter((key) => key.startsWith("10.1.0.7:"))
    assert.lengthOf(ports, 40)
    assert.notDeepEqual(ports, range(1, 40).map((port) => `10.1.0.7:${port}`))
    const first = once.indexOf(ports[0]!)
    assert.deepStrictEqual(once.slice(first, first + 40), ports)
  })

  it("is the same for all ways to write an address", () => {
    const hash = (host: string) => orderOf(Endpoint.tcp(host, 80)).host
    assert.strictEqual(hash("2001:db8::1"), hash("2001:0db8:0:0:0:0:0:1"))
    assert.strictEqual(hash("::"), hash("0:0:0:0:0:0:0:0"))
    assert.strictEqual(hash("64:ff9b::1.2.3.4"), hash("64:ff9b::102:304"))
    assert.strictEqual(hash("::ffff:10.0.0.1"), hash("10.0.0.1"))
    assert.notStrictEqual(hash("::1"), hash("1::"))
  })

  it("orders IP addresses as Finagle 24.2 was seen to", () => {
    const hosts = [
      "10.0.0.3",
      "2001:db8::2",
      "::1",
      "10.0.0.1",
      "fe80::1:2",
      "10.0.0.2",
      "192.168.7.250",
      "2001:db8::1",
      "127.0.0.1"
    ]
    const ordered = hosts.flatMap((host) => [81, 80, 65_535, 8080].map((port) => Endpoint.tcp(host, port)))
    const ours = ordered.toReversed().toSorted((a, b) => compareOrder(orderOf(a), orderOf(b)))
    assert.deepStrictEqual(ours.map(({ key }) => key), ordered.map(({ key }) => key))
  })
})
