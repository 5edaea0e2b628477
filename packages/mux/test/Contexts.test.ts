import { assert, describe, it } from "@effect/vitest"
import { bytesKey, CallContext, ClientId, Destination, Dtab, RequestHeaders, textKey, Trace } from "@scales-rpc/core"
import {
  contextOf,
  Deadline,
  decodeDeadline,
  decodeHeaders,
  encodeDeadline,
  encodeHeaders,
  encodeRetries,
  MuxFailure,
  muxFailureContext,
  muxFailureOf,
  Retries
} from "@scales-rpc/mux"
import { fromHex, random, toHex, utf8 } from "./vectors.ts"

describe("deadlines", () => {
  it("are 16 bytes of nanoseconds", () => {
    assert.strictEqual(
      toHex(encodeDeadline({ timestamp: 1_700_000_000_000, deadline: 1_700_000_001_000 })),
      "17979cfe362a000017979cfe71c4ca00"
    )
    assert.deepStrictEqual(decodeDeadline(fromHex("17979cfe362a000017979cfe71c4ca00")), {
      timestamp: 1_700_000_000_000,
      deadline: 1_700_000_001_000
    })
  })

  it("read what a Finagle client wrote, 300 ms apart", () => {
    const { deadline, timestamp } = decodeDeadline(fromHex("18ea72122083084018ea72123264ab40"))!
    assert.strictEqual(deadline - timestamp, 300)
  })

  it("are exact to the nanosecond for whole milliseconds, and for fractions that a double holds", () => {
    const next = random(5)
    for (let i = 0; i < 20_000; i++) {
      const size = Math.floor(next(2 ** 32) * (next(4) === 0 ? 2140 : 1) * (next(1000) / 1000))
      const millis = i % 2 === 0 ? size : 0 - size
      const expected = BigInt(millis) * 1_000_000n
      const bytes = encodeDeadline({ timestamp: millis, deadline: millis + 0.5 })
      const view = new DataView(bytes.buffer)
      assert.strictEqual(view.getBigInt64(0), expected)
      assert.strictEqual(view.getBigInt64(8), expected + 500_000n)
      assert.deepStrictEqual(decodeDeadline(bytes), { timestamp: millis, deadline: millis })
    }
  })

  it("are read rounded down, over all 64 bits", () => {
    const next = random(6)
    const view = new DataView(new ArrayBuffer(16))
    for (let i = 0; i < 20_000; i++) {
      view.setUint32(0, next(2 ** 32))
      view.setUint32(4, next(2 ** 32))
      const nanos = view.getBigInt64(0)
      const floor = nanos / 1_000_000n - (nanos < 0n && nanos % 1_000_000n !== 0n ? 1n : 0n)
      assert.strictEqual(decodeDeadline(new Uint8Array(view.buffer))!.timestamp, Number(floor))
    }
  })

  it("know no end as the largest number", () => {
    const bytes = encodeDeadline({ timestamp: -Infinity, deadline: Infinity })
    assert.strictEqual(toHex(bytes), "80000000000000007fffffffffffffff")
    assert.strictEqual(decodeDeadline(bytes)!.deadline, Infinity)
  })

  it("are absent when they have not 16 bytes", () => {
    assert.isUndefined(decodeDeadline(fromHex("010203")))
    assert.isUndefined(Deadline.decode!(new Uint8Array(17)))
  })
})

describe("retries", () => {
  it("are 4 bytes", () => {
    assert.strictEqual(toHex(encodeRetries(258)), "00000102")
    assert.strictEqual(Retries.decode!(fromHex("00000102")), 258)
    assert.isUndefined(Retries.decode!(fromHex("000102")))
  })
})

describe("headers", () => {
  it("are pairs with 2-byte lengths", () => {
    const { bytes, dropped } = encodeHeaders([["foo", "bar"], ["biz", "bazz"]])
    assert.strictEqual(toHex(bytes), "0003666f6f0003626172000362697a000462617a7a")
    assert.strictEqual(dropped, 0)
    assert.deepStrictEqual(decodeHeaders(bytes), [["foo", "bar"], ["biz", "bazz"]])
    assert.deepStrictEqual(decodeHeaders(new Uint8Array(0)), [])
  })

  it("are cut behind the last pair that fits into 32767 bytes", () => {
    const header = (size: number) => ["", "v".repeat(size)] as const
    assert.strictEqual(encodeHeaders([header(32763)]).bytes.length, 32767)
    const over = encodeHeaders([header(1), header(32763), header(1)])
    assert.strictEqual(over.dropped, 2)
    assert.deepStrictEqual(decodeHeaders(over.bytes), [["", "v"]])
  })

  it("are absent when a length points past the end or a name has no value", () => {
    assert.isUndefined(decodeHeaders(fromHex("00")))
    assert.isUndefined(decodeHeaders(fromHex("0003666f")))
    assert.isUndefined(decodeHeaders(fromHex("0003666f6f")))
  })
})

describe("the context of a request", () => {
  const trace = fromHex("0000000000000001000000000000000200000000000000030000000000000006")

  it("has what Finagle sends under the keys of core", () => {
    const context = contextOf(
      [
        [utf8("com.twitter.finagle.thrift.ClientIdContext"), utf8("test.devel")],
        [utf8("com.twitter.finagle.tracing.TraceContext"), trace],
        [utf8("com.twitter.finagle.Retries"), fromHex("00000002")],
        [utf8("com.twitter.finagle.Deadline"), encodeDeadline({ timestamp: 1, deadline: 2 })],
        [utf8("com.twitter.finagle.thrift.Request.headers"), encodeHeaders([["a", "b"]]).bytes]
      ],
      "/svc/echo",
      [{ prefix: "/a", tree: "/b" }]
    )
    assert.strictEqual(context.get(ClientId), "test.devel")
    assert.deepStrictEqual(context.get(Trace), {
      spanId: 1n,
      parentId: 2n,
      traceId: 3n,
      flags: 6n,
      traceIdHigh: undefined
    })
    assert.strictEqual(context.get(Retries), 2)
    assert.deepStrictEqual(context.get(Deadline), { timestamp: 1, deadline: 2 })
    assert.deepStrictEqual(context.get(RequestHeaders), [["a", "b"]])
    assert.strictEqual(context.get(Destination), "/svc/echo")
    assert.deepStrictEqual(context.get(Dtab), [{ prefix: "/a", tree: "/b" }])
    assert.deepStrictEqual([...context.onward].map(({ key }) => key.id), [Dtab.id])
  })

  it("keeps what it does not know as bytes, under the spelling received", () => {
    const context = contextOf(
      [[utf8("My.Key"), utf8("v")], [utf8("com.twitter.finagle.BackupRequest"), utf8("")]],
      "",
      []
    )
    assert.strictEqual(context.get(textKey("my.key")), "v")
    assert.deepStrictEqual([...context.onward].map(({ key }) => key.id), [
      "My.Key",
      "com.twitter.finagle.BackupRequest"
    ])
  })

  it("compares names without regard to case, and takes the last of two", () => {
    const context = contextOf(
      [[utf8("COM.twitter.finagle.thrift.CLIENTIDcontext"), utf8("a")], [utf8(ClientId.id), utf8("b")]],
      "",
      []
    )
    assert.strictEqual(context.get(ClientId), "b")
    assert.strictEqual([...context].length, 1)
  })

  it("hands on a value that does not read as its key's, and reads it as absent", () => {
    const context = contextOf([[utf8("com.twitter.finagle.Deadline"), fromHex("010203")]], "", [])
    assert.isUndefined(context.get(Deadline))
    assert.deepStrictEqual(context.onward.get(bytesKey(Deadline.id)), fromHex("010203"))
  })

  it("is the empty one when nothing came", () => {
    assert.strictEqual(contextOf([], "", []), CallContext.empty)
  })
})

describe("failure flags", () => {
  it("are 8 bytes under MuxFailure", () => {
    const [key, value] = muxFailureContext(MuxFailure.Retryable | MuxFailure.Rejected)
    assert.strictEqual(toHex(key), toHex(utf8("MuxFailure")))
    assert.strictEqual(toHex(value), "0000000000000003")
    assert.strictEqual(muxFailureOf([[utf8("other"), value], [key, value]]), 3)
  })

  it("are absent without the context or with a short value, and ignore unknown bits and bytes", () => {
    const key = utf8("MuxFailure")
    assert.isUndefined(muxFailureOf([]))
    assert.isUndefined(muxFailureOf([[key, fromHex("00000000000003")]]))
    assert.isUndefined(muxFailureOf([[utf8("muxfailure"), fromHex("0000000000000003")]]))
    assert.strictEqual(muxFailureOf([[key, fromHex("ffffffffffffff0a01")]]), 2)
  })

  it("say NonRetryable when a peer says both", () => {
    assert.strictEqual(muxFailureOf([[utf8("MuxFailure"), fromHex("0000000000000005")]]), 4)
  })
})
