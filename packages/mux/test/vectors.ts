/** Golden frames: each written by a running Finagle 24.2.0, or sent to it and taken as described. */
import type { Message } from "@scales-rpc/mux"
import { encodeDeadline } from "@scales-rpc/mux"

export const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)
export const fromHex = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, "hex"))
export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

export const none = new Uint8Array(0)

const framer = fromHex("7fffffff")

export const initHeaders: ReadonlyArray<Message.Pair> = [
  [utf8("mux-framer"), framer],
  [utf8("tls"), utf8("off")]
]

const muxFailure = (flags: number): Message.Pair => [
  utf8("MuxFailure"),
  Uint8Array.of(0, 0, 0, 0, 0, 0, 0, flags)
]

export interface Vector {
  readonly name: string
  readonly hex: string
  readonly message: Message.Message
  /** A spelling that is read, and never written. */
  readonly readOnly?: boolean
}

const text = (name: string, hex: string, message: Message.Message): Vector => ({ name, hex, message })

export const vectors: ReadonlyArray<Vector> = [
  text("V1 probe", "0000000f7f00000174696e697420636865636b", { _tag: "Rerr", tag: 1, why: "tinit check" }),
  {
    ...text("V2 probe, type -128", "0000000f8000000174696e697420636865636b", {
      _tag: "Rerr",
      tag: 1,
      why: "tinit check"
    }),
    readOnly: true
  },
  text(
    "V3 Tinit",
    "0000002a4400000100010000000a6d75782d6672616d6572000000047fffffff00000003746c73000000036f6666",
    { _tag: "Tinit", tag: 1, version: 1, headers: initHeaders }
  ),
  text(
    "V4 Rinit",
    "0000002abc00000100010000000a6d75782d6672616d6572000000047fffffff00000003746c73000000036f6666",
    { _tag: "Rinit", tag: 1, version: 1, headers: initHeaders }
  ),
  text("V5 Tping", "0000000441000001", { _tag: "Tping", tag: 1 }),
  text("V6 Rping", "00000004bf000001", { _tag: "Rping", tag: 1 }),
  text("V7 Tdispatch", "0000000f0200000200000000000068656c6c6f", {
    _tag: "Tdispatch",
    tag: 2,
    contexts: [],
    destination: "",
    dtab: [],
    body: utf8("hello")
  }),
  text(
    "V8 Tdispatch with everything",
    "000000f50200000300040028636f6d2e747769747465722e66696e61676c652e74726163696e672e5472616365436f6e746578740020" +
      "0000000000000001000000000000000200000000000000030000000000000006001c636f6d2e747769747465722e66696e61676c652e" +
      "446561646c696e65001017979cfe362a000017979cfe71c4ca00002a636f6d2e747769747465722e66696e61676c652e746872696674" +
      "2e436c69656e744964436f6e74657874000a746573742e646576656c001b636f6d2e747769747465722e66696e61676c652e52657472" +
      "696573000400000000" +
      "00082f666f6f2f626172000100022f6100022f6201020304",
    {
      _tag: "Tdispatch",
      tag: 3,
      contexts: [
        [
          utf8("com.twitter.finagle.tracing.TraceContext"),
          fromHex("0000000000000001000000000000000200000000000000030000000000000006")
        ],
        [
          utf8("com.twitter.finagle.Deadline"),
          encodeDeadline({ timestamp: 1_700_000_000_000, deadline: 1_700_000_001_000 })
        ],
        [utf8("com.twitter.finagle.thrift.ClientIdContext"), utf8("test.devel")],
        [utf8("com.twitter.finagle.Retries"), fromHex("00000000")]
      ],
      destination: "/foo/bar",
      dtab: [{ prefix: "/a", tree: "/b" }],
      body: fromHex("01020304")
    }
  ),
  text("V9 Rdispatch ok", "0000000cfe000002000000776f726c64", {
    _tag: "Rdispatch",
    tag: 2,
    status: 0,
    contexts: [],
    body: utf8("world")
  }),
  text(
    "V10 Rdispatch error",
    "00000025fe0000020100006a6176612e6c616e672e457863657074696f6e3a207361642070616e6461",
    { _tag: "Rdispatch", tag: 2, status: 1, contexts: [], body: utf8("java.lang.Exception: sad panda") }
  ),
  text("V11 Rdispatch nack", "00000007fe000002020000", {
    _tag: "Rdispatch",
    tag: 2,
    status: 2,
    contexts: [],
    body: none
  }),
  text("V12 nack with flags", "0000001dfe000002020001000a4d75784661696c75726500080000000000000003", {
    _tag: "Rdispatch",
    tag: 2,
    status: 2,
    contexts: [muxFailure(3)],
    body: none
  }),
  text("V13 error with flags", "0000001ffe000002010001000a4d75784661696c757265000800000000000000046e6f", {
    _tag: "Rdispatch",
    tag: 2,
    status: 1,
    contexts: [muxFailure(4)],
    body: utf8("no")
  }),
  text("V14 Treq", "0000000a010000020068656c6c6f", { _tag: "Treq", tag: 2, trace: undefined, body: utf8("hello") }),
  text(
    "V15 Treq with a trace",
    "000000270100000202011800000000000000010000000000000002000000000000000302010168656c6c6f",
    { _tag: "Treq", tag: 2, trace: { spanId: 1n, parentId: 2n, traceId: 3n, flags: 1 }, body: utf8("hello") }
  ),
  text("V16 Rreq ok", "0000000aff00000200776f726c64", { _tag: "Rreq", tag: 2, status: 0, body: utf8("world") }),
  text("V17 Rreq error", "00000009ff00000201626f6f6d", { _tag: "Rreq", tag: 2, status: 1, body: utf8("boom") }),
  text("V18 Rreq nack", "00000005ff00000202", { _tag: "Rreq", tag: 2, status: 2, body: none }),
  text("V19 Tdrain", "0000000440000001", { _tag: "Tdrain", tag: 1 }),
  text("V20 Rdrain", "00000004c0000001", { _tag: "Rdrain", tag: 1 }),
  text("V21 Tdiscarded", "0000000ec200000000000274696d656f7574", {
    _tag: "Tdiscarded",
    tag: 0,
    which: 2,
    why: "timeout"
  }),
  {
    ...text("V22 Tdiscarded, type 66", "0000000e4200000000000274696d656f7574", {
      _tag: "Tdiscarded",
      tag: 0,
      which: 2,
      why: "timeout"
    }),
    readOnly: true
  },
  text("V23 Rdiscarded", "00000004be000002", { _tag: "Rdiscarded", tag: 2 }),
  text("V24 Tlease 0 ms", "0000000d43000000000000000000000000", { _tag: "Tlease", tag: 0, unit: 0, howMuch: 0n }),
  text("V25 the longest Tlease", "0000000d430000000000000000ffffffff", {
    _tag: "Tlease",
    tag: 0,
    unit: 0,
    howMuch: 0xffffffffn
  }),
  text("V27 Rerr", "000000227f000001556e6578706563746564206d7578206d6573736167652074797065203638", {
    _tag: "Rerr",
    tag: 1,
    why: "Unexpected mux message type 68"
  }),
  text(
    "a Treq as a Finagle client writes it",
    "000000230100000202011850eae5087cf9986250eae5087cf9986250eae5087cf9986202010061",
    {
      _tag: "Treq",
      tag: 2,
      trace: {
        spanId: 0x50eae5087cf99862n,
        parentId: 0x50eae5087cf99862n,
        traceId: 0x50eae5087cf99862n,
        flags: 0
      },
      body: utf8("a")
    }
  ),
  text("a Treq's exception", "0000001eff000002016a6176612e6c616e672e457863657074696f6e3a20626f6f6d", {
    _tag: "Rreq",
    tag: 2,
    status: 1,
    body: utf8("java.lang.Exception: boom")
  }),
  text(
    "an error of 24.2.0 with flags",
    "00000056fe000002010001000a4d75784661696c757265000800000000000000044661696c757265286e6f2c20666c6167733d3078313029" +
      "20776974682053657276696365202d3e202077697468204170704964202d3e20766d",
    {
      _tag: "Rdispatch",
      tag: 2,
      status: 1,
      contexts: [muxFailure(4)],
      body: utf8("Failure(no, flags=0x10) with Service ->  with AppId -> vm")
    }
  ),
  text("a lease of a second", "0000000d430000000000000000000003e8", {
    _tag: "Tlease",
    tag: 0,
    unit: 0,
    howMuch: 1000n
  }),
  text("version 2", "0000001e7f000001556e737570706f72746564204d75782076657273696f6e3a2032", {
    _tag: "Rerr",
    tag: 1,
    why: "Unsupported Mux version: 2"
  }),
  text(
    "a duplicate tag",
    "000000297f0000025265636569766564206475706c69636174652074616720322066726f6d20636c69656e742e",
    { _tag: "Rerr", tag: 2, why: "Received duplicate tag 2 from client." }
  ),
  text(
    "TLS levels that do not meet",
    "0000004e7f000001436f756c64206e6f74206e65676f7469617465207768657468657220746f2075736520544c53206f72206e6f742e2e20" +
      "52656d6f746520496e666f3a204e6f7420417661696c61626c65",
    {
      _tag: "Rerr",
      tag: 1,
      why: "Could not negotiate whether to use TLS or not.. Remote Info: Not Available"
    }
  ),
  text(
    "a first call of a Finagle client",
    "0000007b0200000200020028636f6d2e747769747465722e66696e61676c652e74726163696e672e5472616365436f6e746578740020cca1" +
      "826607448febcca1826607448febcca1826607448feb0000000000000000001b636f6d2e747769747465722e66696e61676c652e52657472" +
      "696573000400000000000000006869",
    {
      _tag: "Tdispatch",
      tag: 2,
      contexts: [
        [
          utf8("com.twitter.finagle.tracing.TraceContext"),
          fromHex("cca1826607448febcca1826607448febcca1826607448feb0000000000000000")
        ],
        [utf8("com.twitter.finagle.Retries"), fromHex("00000000")]
      ],
      destination: "",
      dtab: [],
      body: utf8("hi")
    }
  ),
  text(
    "an Rinit with a window of 5",
    "0000002abc00000100010000000a6d75782d6672616d6572000000040000000500000003746c73000000036f6666",
    {
      _tag: "Rinit",
      tag: 1,
      version: 1,
      headers: [[utf8("mux-framer"), fromHex("00000005")], [utf8("tls"), utf8("off")]]
    }
  )
]

/** One request in fragments, for a peer with a window of 5 (V26). */
export const fragments = [
  "00000009028000020000000000",
  "00000009028000020068656c6c",
  "00000005020000026f"
]

/** One reply in fragments, for a peer with a window of 8, as Finagle 24.2.0 wrote it. */
export const replyFragments = [
  "0000000cfe8000020000007878787878",
  "0000000cfe8000027878787878787878",
  "0000000bfe00000278787878787878"
]

/** A seeded generator of 32-bit numbers (xorshift): a failing case is found again by its seed. */
export const random = (seed: number) => {
  let state = seed | 0 || 1
  return (below: number): number => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}
