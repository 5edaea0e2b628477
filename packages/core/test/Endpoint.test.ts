import { assert, describe, it } from "@effect/vitest"
import { Endpoint } from "@scales-rpc/core"

describe("an endpoint", () => {
  it("is known by its host and port, an IPv6 address in brackets", () => {
    assert.strictEqual(Endpoint.tcp("example.com", 80).key, "example.com:80")
    assert.strictEqual(Endpoint.tcp("::1", 80).key, "[::1]:80")
    assert.strictEqual(Endpoint.tcp("::1", 80).host, "::1")
    assert.strictEqual(Endpoint.unix("/run/echo.sock").key, "unix:/run/echo.sock")
  })

  it("weighs 1 and knows no shard unless it is told", () => {
    const plain = Endpoint.tcp("h", 1)
    assert.deepStrictEqual([plain.weight, plain.shard, plain.metadata], [1, undefined, {}])
    const told = Endpoint.tcp("h", 1, { weight: 0.5, shard: 3, metadata: { zone: "a" } })
    assert.deepStrictEqual([told.weight, told.shard, told.metadata], [0.5, 3, { zone: "a" }])
    assert.strictEqual(told.key, plain.key)
  })

  it("is a Unix socket or not", () => {
    assert.isTrue(Endpoint.isUnix(Endpoint.unix("/run/echo.sock", { weight: 2 })))
    assert.isFalse(Endpoint.isUnix(Endpoint.tcp("h", 1)))
  })
})
