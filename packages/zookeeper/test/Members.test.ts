import { assert, describe, it } from "@effect/vitest"
import { Endpoint } from "@scales-rpc/core"
import { decodeMember, encodeMember, type Member } from "../src/Members.ts"

const bytes = (text: string) => new TextEncoder().encode(text)
const decode = (json: unknown) => decodeMember(bytes(typeof json === "string" ? json : JSON.stringify(json)))

const endpoint = { host: "10.0.0.3", port: 80 }
/** What nobody can find fault with. */
const good = { serviceEndpoint: endpoint, additionalEndpoints: {}, status: "ALIVE" }
const goodMember: Member = {
  status: "ALIVE",
  serviceEndpoint: endpoint,
  additionalEndpoints: new Map(),
  shard: undefined,
  metadata: {},
  faults: []
}

describe("the data of a member", () => {
  it("is read as Finagle writes it, in Gson's order and without nulls", () => {
    assert.deepStrictEqual(
      decode(
        "{\"serviceEndpoint\":{\"host\":\"10.0.0.3\",\"port\":80},\"additionalEndpoints\":{\"http\":{\"host\":\"10.0.0.2\",\"port\":8080}},\"status\":\"ALIVE\",\"shard\":7,\"metadata\":{\"zone\":\"a\"}}"
      ),
      {
        status: "ALIVE",
        serviceEndpoint: endpoint,
        additionalEndpoints: new Map([["http", { host: "10.0.0.2", port: 8080 }]]),
        shard: 7,
        metadata: { zone: "a" },
        faults: []
      }
    )
  })

  it("is read as Python's json writes it for Scales, with nulls, spaces and another order", () => {
    assert.deepStrictEqual(
      decode(
        "{\"status\": \"ALIVE\", \"additionalEndpoints\": {\"aurora\": {\"host\": \"10.0.0.1\", \"port\": 81}}, \"serviceEndpoint\": {\"host\": \"10.0.0.3\", \"port\": 80}, \"shard\": null, \"metadata\": null}"
      ),
      { ...goodMember, additionalEndpoints: new Map([["aurora", { host: "10.0.0.1", port: 81 }]]) }
    )
  })

  it("needs no additionalEndpoints, which Finagle's reader does not either", () => {
    assert.deepStrictEqual(decode({ serviceEndpoint: endpoint, status: "ALIVE" }), goodMember)
  })

  it("may hold more than is known", () => {
    assert.deepStrictEqual(decode({ ...good, constructor: 1, other: [{}] }), goodMember)
  })

  for (const status of ["DEAD", "STARTING", "ALIVE", "STOPPING", "STOPPED", "WARNING", "UNKNOWN"] as const) {
    it(`has the status ${status}`, () => assert.deepStrictEqual(decode({ ...good, status }), { ...goodMember, status }))
  }

  const hosts: ReadonlyArray<[given: string, read: string]> = [
    ["::1", "::1"],
    ["[::1]", "::1"],
    ["2001:db8::1", "2001:db8::1"],
    ["fe80::1%eth0", "fe80::1%eth0"],
    ["host.example.com", "host.example.com"],
    ["my_host", "my_host"]
  ]
  for (const [host, read] of hosts) {
    it(`has the host ${host}`, () => {
      const serviceEndpoint = { host: read, port: 80 }
      assert.deepStrictEqual(decode({ ...good, serviceEndpoint: { host, port: 80 } }), {
        ...goodMember,
        serviceEndpoint
      })
    })
  }

  it("has a shard, as a number or as digits", () => {
    for (const shard of [0, 1, 2_147_483_647, "0", "12"]) {
      assert.deepStrictEqual(decode({ ...good, shard }), { ...goodMember, shard: Number(shard) })
    }
  })

  it("keeps metadata whose keys are names of JavaScript's", () => {
    const { additionalEndpoints, faults, metadata } = decode(
      "{\"serviceEndpoint\":{\"host\":\"h\",\"port\":1},\"status\":\"ALIVE\",\"additionalEndpoints\":{\"__proto__\":{\"host\":\"h\",\"port\":2}},\"metadata\":{\"__proto__\":\"x\",\"toString\":\"y\"}}"
    )
    assert.deepStrictEqual([...additionalEndpoints], [["__proto__", { host: "h", port: 2 }]])
    assert.deepStrictEqual(Object.entries(metadata), [["__proto__", "x"], ["toString", "y"]])
    assert.deepStrictEqual(faults, [])
  })
})

describe("the data of a malformed member", () => {
  const nothing: Member = { ...goodMember, status: undefined, serviceEndpoint: undefined }
  const none: ReadonlyArray<[what: string, data: Uint8Array, fault: RegExp]> = [
    ["no bytes", new Uint8Array(), /^its data is no JSON$/],
    ["text", bytes("hello, world!"), /^its data is no JSON$/],
    ["JSON cut short", bytes(JSON.stringify(good).slice(0, -1)), /^its data is no JSON$/],
    ["JSON with more behind it", bytes(`${JSON.stringify(good)}}`), /^its data is no JSON$/],
    ["bytes that are no UTF-8", Uint8Array.of(0x22, 0xff, 0x22), /^its data is no UTF-8$/],
    ["a number", bytes("7"), /^its data is no object: 7$/],
    ["null", bytes("null"), /^its data is no object: null$/],
    ["an array", bytes("[]"), /^its data is no object: \[\]$/],
    ["brackets in brackets without end", bytes("[".repeat(1_000_000)), /^its data is no JSON$/],
    ["a megabyte of string", bytes(`"${"x".repeat(1_000_000)}"`), /^its data is no object: "x{99}\.\.\.$/]
  ]
  for (const [what, data, fault] of none) {
    it(`is ${what}: says nothing but what is wrong`, () => {
      const { faults, ...rest } = decodeMember(data)
      assert.deepStrictEqual<Member>({ ...rest, faults: [] }, nothing)
      assert.lengthOf(faults, 1)
      assert.match(faults[0]!, fault)
    })
  }

  const without = { serviceEndpoint: undefined }
  const parts: ReadonlyArray<[json: Record<string, unknown>, left: Partial<Member>, fault: RegExp]> = [
    [{ serviceEndpoint: undefined }, without, /^it has no serviceEndpoint$/],
    [{ serviceEndpoint: null }, without, /^it has no serviceEndpoint$/],
    [{ serviceEndpoint: "h:80" }, without, /^its serviceEndpoint is "h:80"$/],
    [{ serviceEndpoint: [] }, without, /^its serviceEndpoint is \[\]$/],
    [{ serviceEndpoint: { port: 80 } }, without, /^its serviceEndpoint is/],
    [{ serviceEndpoint: { host: "h" } }, without, /^its serviceEndpoint is/],
    [{ serviceEndpoint: { host: "h", port: "80" } }, without, /^its serviceEndpoint is/],
    [{ serviceEndpoint: { host: "h", port: 0 } }, without, /^its serviceEndpoint is/],
    [{ serviceEndpoint: { host: "h", port: 99_999 } }, without, /^its serviceEndpoint is/],
    [{ serviceEndpoint: { host: "h", port: -1 } }, without, /^its serviceEndpoint is/],
    [{ serviceEndpoint: { host: "h", port: 80.5 } }, without, /^its serviceEndpoint is/],
    [{ serviceEndpoint: { host: "", port: 80 } }, without, /^its serviceEndpoint is/],
    [{ serviceEndpoint: { host: 7, port: 80 } }, without, /^its serviceEndpoint is/],
    [{ serviceEndpoint: { host: "a b", port: 80 } }, without, /^its serviceEndpoint is/],
    [{ serviceEndpoint: { host: "h\0", port: 80 } }, without, /^its serviceEndpoint is/],
    [{ serviceEndpoint: { host: "256.1.1.1", port: 80 } }, without, /^its serviceEndpoint is/],
    [{ serviceEndpoint: { host: "1:2", port: 80 } }, without, /^its serviceEndpoint is/],
    [{ status: undefined }, { status: undefined }, /^it has no status$/],
    [{ status: null }, { status: undefined }, /^it has no status$/],
    [{ status: "alive" }, { status: undefined }, /^its status is "alive"$/],
    [{ status: "SLEEPING" }, { status: undefined }, /^its status is "SLEEPING"$/],
    [{ status: 2 }, { status: undefined }, /^its status is 2$/],
    [{ additionalEndpoints: [] }, {}, /^its additionalEndpoints is \[\]$/],
    [{ additionalEndpoints: "x" }, {}, /^its additionalEndpoints is "x"$/],
    [{ additionalEndpoints: { http: 80 } }, {}, /^its additionalEndpoints\."http" is 80$/],
    [{ additionalEndpoints: { http: null } }, {}, /^it has no additionalEndpoints\."http"$/],
    [{ shard: -1 }, {}, /^its shard is -1$/],
    [{ shard: 1.5 }, {}, /^its shard is 1.5$/],
    [{ shard: "seven" }, {}, /^its shard is "seven"$/],
    [{ shard: "" }, {}, /^its shard is ""$/],
    [{ shard: 2 ** 31 }, {}, /^its shard is 2147483648$/],
    [{ shard: [0] }, {}, /^its shard is \[0\]$/],
    [{ metadata: [] }, {}, /^its metadata is \[\]$/],
    [{ metadata: { a: "b", n: 1 } }, { metadata: { a: "b" } }, /^its metadata\."n" is 1$/]
  ]
  for (const [json, left, fault] of parts) {
    it(`loses that part and no other: ${JSON.stringify(json)}`, () => {
      const { faults, ...rest } = decode({ ...good, ...json })
      assert.deepStrictEqual({ ...rest, faults: [] }, { ...goodMember, ...left })
      assert.lengthOf(faults, 1)
      assert.match(faults[0]!, fault)
    })
  }

  it("keeps the named endpoints that are right beside one that is not", () => {
    const { additionalEndpoints, faults } = decode({
      ...good,
      additionalEndpoints: { bad: { host: "h" }, http: endpoint }
    })
    assert.deepStrictEqual([...additionalEndpoints], [["http", endpoint]])
    assert.lengthOf(faults, 1)
  })
})

describe("the data written for an endpoint", () => {
  const write = (...given: Parameters<typeof encodeMember>) => new TextDecoder().decode(encodeMember(...given))

  it("is what Finagle writes, and has all that Scales needs", () => {
    assert.strictEqual(
      write(Endpoint.tcp("10.0.0.3", 80), {}),
      "{\"serviceEndpoint\":{\"host\":\"10.0.0.3\",\"port\":80},\"additionalEndpoints\":{},\"status\":\"ALIVE\"}"
    )
  })

  it("has what else is said of it, in Finagle's order", () => {
    assert.strictEqual(
      write(Endpoint.tcp("10.0.0.3", 80), {
        metadata: { zone: "a" },
        additionalEndpoints: { http: Endpoint.tcp("10.0.0.2", 8080) },
        shard: 0,
        status: "STARTING"
      }),
      "{\"serviceEndpoint\":{\"host\":\"10.0.0.3\",\"port\":80},\"additionalEndpoints\":{\"http\":{\"host\":\"10.0.0.2\",\"port\":8080}},\"status\":\"STARTING\",\"shard\":0,\"metadata\":{\"zone\":\"a\"}}"
    )
  })

  it("leaves empty metadata out, and writes an IPv6 address without brackets", () => {
    assert.strictEqual(
      write(Endpoint.tcp("::1", 80), { metadata: {} }),
      "{\"serviceEndpoint\":{\"host\":\"::1\",\"port\":80},\"additionalEndpoints\":{},\"status\":\"ALIVE\"}"
    )
  })

  it("is read back as it was", () => {
    const data = encodeMember(Endpoint.tcp("h", 1), {
      status: "STOPPING",
      shard: 3,
      metadata: { "\u{1f600}": "ü", __proto__: "x" },
      additionalEndpoints: { "a b": Endpoint.tcp("::1", 2) }
    })
    assert.deepStrictEqual(decodeMember(data), {
      status: "STOPPING",
      serviceEndpoint: { host: "h", port: 1 },
      additionalEndpoints: new Map([["a b", { host: "::1", port: 2 }]]),
      shard: 3,
      metadata: { "\u{1f600}": "ü" },
      faults: []
    })
  })
})
