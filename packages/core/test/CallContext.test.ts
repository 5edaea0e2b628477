import { assert, describe, it } from "@effect/vitest"
import {
  bytesKey,
  CallContext,
  ClientId,
  type ContextKey,
  Destination,
  Dtab,
  localKey,
  RequestHeaders,
  textKey,
  Trace,
  type TraceId
} from "@scales-rpc/core"

const bytes = (hex: string): Uint8Array => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16))

/** As if it had gone over the wire under `key`. */
const received = (key: ContextKey<any>, wire: Uint8Array): CallContext => CallContext.empty.with(bytesKey(key.id), wire)

describe("a call context", () => {
  it("gives back what was put in, and leaves the one it came from as it was", () => {
    const tenant = textKey("com.example.tenant")
    const first = CallContext.empty.with(tenant, "a")
    const second = first.with(tenant, "b")
    assert.strictEqual(first.get(tenant), "a")
    assert.strictEqual(second.get(tenant), "b")
    assert.isUndefined(CallContext.empty.get(tenant))
    assert.isTrue(CallContext.empty.isEmpty)
    assert.isFalse(first.isEmpty)
    assert.lengthOf([...second], 1)
  })

  it("compares names without regard to case, and keeps the spelling it was given", () => {
    const context = CallContext.empty.with(textKey("com.Example.Tenant"), "a")
    assert.strictEqual(context.get(textKey("COM.EXAMPLE.TENANT")), "a")
    const again = context.with(textKey("com.example.TENANT"), "b")
    assert.deepStrictEqual([...again].map(({ key, value }) => [key.id, value]), [["com.example.TENANT", "b"]])
  })

  it("reads bytes from the wire as the key that asks for them", () => {
    assert.strictEqual(received(ClientId, bytes("e298ba")).get(ClientId), "☺")
    assert.deepStrictEqual(received(ClientId, bytes("0102")).get(bytesKey(ClientId.id)), bytes("0102"))
  })

  it("gives text back to the letter, a leading byte order mark included", () => {
    const key = textKey("k")
    for (const text of ["", "Hello, world!", "☺☹", "\u{FEFF}marked", "\0"]) {
      assert.strictEqual(received(key, key.encode!(text)).get(key), text)
    }
  })

  it("reads what another key of the name put there through the wire form of both", () => {
    const number: ContextKey<number> = {
      id: "n",
      encode: (value) => Uint8Array.of(value),
      decode: (wire) => wire.length === 1 ? wire[0] : undefined
    }
    assert.deepStrictEqual(CallContext.empty.with(number, 7).get(bytesKey("N")), Uint8Array.of(7))
    assert.strictEqual(CallContext.empty.with(bytesKey("N"), Uint8Array.of(9)).get(number), 9)
  })

  it("takes an entry whose bytes are no value of the key for absent", () => {
    assert.isUndefined(received(Trace, bytes("0102")).get(Trace))
  })

  it("keeps a local entry in this process, readable by any key of its name", () => {
    interface User {
      readonly name: string
    }
    const context = CallContext.empty.with(localKey<User>("user"), { name: "ada" })
    assert.deepStrictEqual(context.get(localKey<User>("USER")), { name: "ada" })
  })

  it("merges, and the other's values win", () => {
    const [a, b, c] = [textKey("a"), textKey("b"), textKey("c")]
    const left = CallContext.empty.with(a, "1").with(b, "1")
    const right = CallContext.empty.with(textKey("B"), "2").with(c, "2")
    const merged = left.merge(right)
    assert.deepStrictEqual([merged.get(a), merged.get(b), merged.get(c)], ["1", "2", "2"])
    assert.strictEqual(left.merge(CallContext.empty), left)
    assert.strictEqual(CallContext.empty.merge(right), right)
  })

  it("hands on everything but the entries for one hop", () => {
    const tenant = textKey("tenant")
    const hop = textKey("hop", { hop: true })
    const trace: TraceId = { traceId: 1n, traceIdHigh: undefined, spanId: 1n, parentId: 1n, flags: 0n }
    const context = CallContext.empty
      .with(ClientId, "caller")
      .with(Destination, "/svc/echo")
      .with(RequestHeaders, [["k", "v"]])
      .with(hop, "x")
      .with(tenant, "t")
      .with(Dtab, [{ prefix: "/a", tree: "/b" }])
      .with(Trace, trace)
    const onward = context.onward
    assert.deepStrictEqual([...onward].map(({ key }) => key.id), [tenant.id, Dtab.id])
    assert.strictEqual(CallContext.empty.with(hop, "x").onward, CallContext.empty)
  })
})

describe("a trace id", () => {
  const trace: TraceId = {
    spanId: 0x0102030405060708n,
    parentId: 0x1112131415161718n,
    traceId: 0xfffffffffffffffen,
    flags: 0x7n,
    traceIdHigh: undefined
  }
  // Span, parent, trace, flags.
  const wire = "01020304050607081112131415161718fffffffffffffffe0000000000000007"

  it("is span, parent, trace and flags in 32 bytes, every bit of them", () => {
    assert.deepStrictEqual(Trace.encode!(trace), bytes(wire))
    assert.deepStrictEqual(Trace.decode!(bytes(wire)), trace)
  })

  it("is 40 bytes with the upper half of a 128-bit id at the end", () => {
    const wide = { ...trace, traceIdHigh: 0x8000000000000001n }
    assert.deepStrictEqual(Trace.encode!(wide), bytes(wire + "8000000000000001"))
    assert.deepStrictEqual(Trace.decode!(bytes(wire + "8000000000000001")), wide)
  })

  it("is read from the middle of a larger buffer", () => {
    const buffer = bytes("ffff" + wire + "ffff")
    assert.deepStrictEqual(Trace.decode!(buffer.subarray(2, 34)), trace)
  })

  it("is nothing in any other length", () => {
    for (const length of [0, 8, 31, 33, 39, 41, 64]) assert.isUndefined(Trace.decode!(new Uint8Array(length)))
  })
})
