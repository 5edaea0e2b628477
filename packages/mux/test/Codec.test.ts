import { assert, describe, it } from "@effect/vitest"
import {
  decode,
  encode,
  encodeContexts,
  Fragments,
  FrameReader,
  type Message,
  MuxDecodeError,
  MuxEncodeError
} from "@scales-rpc/mux"
import { defaultLimits } from "../src/Message.ts"
import { fragments, fromHex, none, random, replyFragments, toHex, utf8, vectors } from "./vectors.ts"

/** The message in one complete frame. */
const read = (frame: Uint8Array, limits = defaultLimits): Message.Message =>
  decode((frame[4]! << 24) >> 24, (frame[5]! << 16) | (frame[6]! << 8) | frame[7]!, frame.subarray(8), limits)

const refused = (f: () => unknown): MuxDecodeError => {
  try {
    f()
  } catch (error) {
    assert.instanceOf(error, MuxDecodeError)
    return error
  }
  assert.fail("was taken")
}

const unwritable = (message: Message.Sendable): string => {
  try {
    encode(message)
  } catch (error) {
    assert.instanceOf(error, MuxEncodeError)
    return error.message
  }
  assert.fail("was written")
}

const tdispatch = (fields: Partial<Message.Tdispatch>): Message.Tdispatch => ({
  _tag: "Tdispatch",
  tag: 2,
  contexts: [],
  destination: "",
  dtab: [],
  body: none,
  ...fields
})

/** A Tdispatch body with a destination and a dtab that the encoder would refuse. */
const dispatchBody = (destination: string, dtab: ReadonlyArray<string>): Uint8Array => {
  const short = (n: number) => Uint8Array.of(n >> 8, n & 255)
  const field = (text: string) => Buffer.concat([short(text.length), utf8(text)])
  return Buffer.concat([short(0), field(destination), short(dtab.length / 2), ...dtab.map(field)])
}

describe("golden frames", () => {
  for (const { hex, message, name, readOnly } of vectors) {
    it(`reads ${name}`, () => assert.deepStrictEqual(read(fromHex(hex)), message))
    if (readOnly !== true) it(`writes ${name}`, () => assert.strictEqual(toHex(encode(message)), hex))
  }

  it("writes contexts given in wire form as it writes pairs", () => {
    const message = vectors.find(({ name }) => name.startsWith("V8"))!
    const dispatch = message.message as Message.Tdispatch
    assert.strictEqual(
      toHex(encode({ ...dispatch, contexts: encodeContexts(dispatch.contexts) })),
      message.hex
    )
  })
})

describe("reading", () => {
  it("gives contexts, headers and bodies as views of the input", () => {
    const frame = fromHex(vectors.find(({ name }) => name.startsWith("V8"))!.hex)
    const message = read(frame) as Message.Tdispatch
    for (const [key, value] of message.contexts) {
      assert.strictEqual(key.buffer, frame.buffer)
      assert.strictEqual(value.buffer, frame.buffer)
    }
    assert.strictEqual(message.body.buffer, frame.buffer)
  })

  it("names an unknown type with the first bytes of its body", () => {
    const what = (hex: string) => refused(() => read(fromHex(`00000000${hex}`)))
    assert.strictEqual(
      what("00000001").message,
      "unknown message type: 0 [tag=1]. Payload bytes: 0. First 0 bytes of the payload: ''"
    )
    assert.strictEqual(
      what("0000000101020e0f").message,
      "unknown message type: 0 [tag=1]. Payload bytes: 4. First 4 bytes of the payload: '01020e0f'"
    )
    assert.strictEqual(
      what(`00000001${"01".repeat(32)}`).message,
      `unknown message type: 0 [tag=1]. Payload bytes: 32. First 16 bytes of the payload: '${"01".repeat(16)}'`
    )
    assert.strictEqual(what("03000001").kind, "type")
  })

  it("takes the strict binary header of a Thrift client for an Rerr, as Finagle does", () => {
    assert.strictEqual(read(fromHex("0000000480010001")).tag, 65537)
    assert.strictEqual(read(fromHex("0000000480010004"))._tag, "Rerr")
  })

  it("refuses every message cut short inside a field", () => {
    // The length of what must be there, behind the header, for each message that has fields of fixed places.
    for (const { hex, message, name } of vectors) {
      const frame = fromHex(hex)
      const payload = "body" in message ? message.body.length : "why" in message ? utf8(message.why).length : 0
      for (let length = 8; length < frame.length - payload; length++) {
        // Tinit and Rinit may end between two headers.
        const headers = message._tag === "Tinit" || message._tag === "Rinit" ? [10, 32] : []
        if (headers.includes(length)) continue
        assert.strictEqual(refused(() => read(frame.subarray(0, length))).kind, "short", `${name} at ${length}`)
      }
    }
  })

  it("refuses bytes behind the last field", () => {
    for (const { hex, message, name } of vectors) {
      if ("body" in message || "why" in message || "headers" in message) continue
      assert.strictEqual(refused(() => read(fromHex(`${hex}00`))).kind, "trailing", name)
    }
  })

  it("refuses lengths that point past the end, and those that are negative as signed shorts", () => {
    assert.strictEqual(refused(() => decode(2, 2, fromHex("0001000561"))).kind, "short")
    assert.strictEqual(refused(() => decode(2, 2, fromHex("00018000"))).kind, "value")
    assert.strictEqual(refused(() => decode(2, 2, fromHex("8000"))).kind, "value")
    assert.strictEqual(refused(() => decode(-2, 2, fromHex("00ffff"))).kind, "value")
    assert.strictEqual(refused(() => decode(68, 1, fromHex("0001ffffffff"))).kind, "short")
  })

  it("refuses values that a field may not have", () => {
    assert.strictEqual(refused(() => decode(-2, 2, fromHex("030000"))).message, "invalid Rdispatch status 3")
    assert.strictEqual(refused(() => decode(-1, 2, fromHex("03"))).message, "invalid Rreq status 3")
    assert.strictEqual(refused(() => decode(1, 2, fromHex("80"))).message, "Treq: too many keys")
    assert.strictEqual(refused(() => decode(1, 2, fromHex("01010100"))).message, "bad traceid size 1")
    assert.match(refused(() => decode(66, 0, fromHex("0000"))).message, /^short Tdiscarded message/)
    assert.match(refused(() => decode(67, 0, fromHex("0000000000000000"))).message, /^short Tlease message/)
    assert.strictEqual(refused(() => decode(66, 0, fromHex("800002"))).kind, "value")
  })

  it("refuses the fragment bit on a whole message", () => {
    assert.strictEqual(refused(() => decode(2, 0x800002, fromHex("000000000000"))).kind, "tag")
  })

  it("skips keys of a Treq that it does not know, and takes the last byte of the flags", () => {
    const ids = "000000000000000100000000000000020000000000000003"
    assert.deepStrictEqual(decode(1, 2, fromHex(`030902aabb0118${ids}0203010204`)), {
      _tag: "Treq",
      tag: 2,
      trace: { spanId: 1n, parentId: 2n, traceId: 3n, flags: 4 },
      body: none
    })
    assert.deepStrictEqual(decode(1, 2, fromHex("01020105")), { _tag: "Treq", tag: 2, trace: undefined, body: none })
  })

  it("refuses destinations and dtabs that are no paths, as a Finagle server does", () => {
    const read = (destination: string, ...dtab: Array<string>) => decode(2, 2, dispatchBody(destination, dtab))
    assert.strictEqual(refused(() => read("nope")).message, "Tdispatch: destination is no path: \"nope\"")
    assert.strictEqual(refused(() => read("", "x", "/y")).message, "Tdispatch: dtab prefix is no path: \"x\"")
    assert.strictEqual(refused(() => read("", "/x", "y")).message, "Tdispatch: dtab destination is no name tree: \"y\"")
    assert.strictEqual((read("/", "/a/*", "/b | 0.3 * /c & 0.7 * (/d | !) | ~") as Message.Tdispatch).dtab.length, 1)
  })

  it("bounds contexts, dtabs and headers", () => {
    const limits = { ...defaultLimits, contexts: 2, contextBytes: 10, dtabEntries: 1, initHeaders: 1 }
    const kind = (message: Message.Message) => refused(() => read(encode(message), limits)).kind
    const pair = (size: number): Message.Pair => [utf8("k"), new Uint8Array(size)]
    assert.strictEqual(kind(tdispatch({ contexts: [pair(0), pair(0), pair(0)] })), "limit")
    assert.strictEqual(kind(tdispatch({ contexts: [pair(4), pair(5)] })), "limit")
    assert.strictEqual(read(encode(tdispatch({ contexts: [pair(4), pair(4)] })), limits)._tag, "Tdispatch")
    assert.strictEqual(
      kind(tdispatch({ dtab: [{ prefix: "/a", tree: "/b" }, { prefix: "/a", tree: "/b" }] })),
      "limit"
    )
    assert.strictEqual(kind({ _tag: "Tinit", tag: 1, version: 1, headers: [pair(1), pair(1)] }), "limit")
  })

  it("fails with nothing but MuxDecodeError on mutated frames, whole and in fragments", () => {
    const next = random(20240229)
    const frames = [
      ...vectors.map(({ hex }) => fromHex(hex)),
      fromHex(fragments.join("")),
      fromHex(replyFragments.join(""))
    ]
    let taken = 0
    let refused = 0
    for (let i = 0; i < 100_000; i++) {
      const frame = frames[next(frames.length)]!.slice()
      for (let n = next(4); n >= 0; n--) frame[next(4) === 0 ? next(4) : 4 + next(frame.length - 4)] = next(256)
      const parts = new Fragments()
      try {
        new FrameReader().push(
          frame.subarray(0, next(4) === 0 ? next(frame.length) : frame.length),
          (type, tag, body) => {
            const whole = parts.push(type, tag, body)
            if (whole === undefined) return
            decode(type, tag, whole)
            taken++
          }
        )
      } catch (error) {
        if (!(error instanceof MuxDecodeError)) assert.fail(`mutation ${i} of ${toHex(frame)}: ${String(error)}`)
        refused++
      }
    }
    assert.isAbove(taken, 10_000)
    assert.isAbove(refused, 10_000)
  })
})

describe("writing", () => {
  it("refuses tags out of range", () => {
    assert.strictEqual(unwritable({ _tag: "Treq", tag: -1, trace: undefined, body: none }), "invalid tag number -1")
    assert.strictEqual(
      unwritable({ _tag: "Treq", tag: 1 << 24, trace: undefined, body: none }),
      "invalid tag number 16777216"
    )
    assert.strictEqual(unwritable({ _tag: "Tping", tag: 1 << 23 }), "invalid tag number 8388608")
    assert.strictEqual(unwritable({ _tag: "Tping", tag: 1.5 }), "invalid tag number 1.5")
    assert.strictEqual(
      unwritable({ _tag: "Tdiscarded", tag: 0, which: 1 << 23, why: "" }),
      "invalid tag number 8388608"
    )
    assert.strictEqual(encode({ _tag: "Tping", tag: (1 << 23) - 1 }).length, 8)
  })

  it("refuses 2-byte lengths over 32767", () => {
    const long = new Uint8Array(32768)
    const longest = new Uint8Array(32767)
    assert.match(unwritable(tdispatch({ contexts: [[long, none]] })), /^bytes of a context key: 32768, at most 32767/)
    assert.match(unwritable(tdispatch({ contexts: [[none, long]] })), /^bytes of a context value/)
    assert.match(unwritable(tdispatch({ destination: `/${"a".repeat(32767)}` })), /^bytes of the destination/)
    assert.match(
      unwritable(tdispatch({ dtab: [{ prefix: `/${"a".repeat(32767)}`, tree: "/b" }] })),
      /^bytes of a dtab prefix/
    )
    assert.match(
      unwritable(tdispatch({ contexts: Array.from({ length: 32768 }, () => [none, none] as const) })),
      /^contexts: 32768/
    )
    assert.strictEqual(encode(tdispatch({ contexts: [[longest, longest]] })).length, 8 + 6 + 4 + 2 * 32767)
  })

  it("refuses a destination or dtab that a Finagle server closes the connection for", () => {
    assert.match(unwritable(tdispatch({ destination: "nope" })), /^destination is no path: "nope"/)
    assert.match(unwritable(tdispatch({ dtab: [{ prefix: "x", tree: "/y" }] })), /^dtab prefix is no path/)
    assert.match(unwritable(tdispatch({ dtab: [{ prefix: "/x", tree: "" }] })), /^dtab destination is no name tree/)
  })

  it("refuses numbers that their fields do not hold", () => {
    assert.match(unwritable({ _tag: "Tlease", tag: 0, unit: 256, howMuch: 0n }), /^lease unit: 256/)
    assert.match(unwritable({ _tag: "Tlease", tag: 0, unit: 0, howMuch: 1n << 63n }), /^lease: /)
    assert.match(unwritable({ _tag: "Tinit", tag: 1, version: 65536, headers: [] }), /^version: 65536/)
    const trace = { spanId: 0n, parentId: 0n, traceId: 0n, flags: 256 }
    assert.match(unwritable({ _tag: "Treq", tag: 2, trace, body: none }), /^trace flags: 256/)
  })

  it("keeps all 64 bits of ids and leases", () => {
    const trace = { spanId: 0xffffffffffffffffn, parentId: 0x8000000000000001n, traceId: 0x0123456789abcdefn, flags: 6 }
    const treq: Message.Treq = { _tag: "Treq", tag: 9, trace, body: utf8("x") }
    assert.deepStrictEqual(read(encode(treq)), treq)
    const lease: Message.Tlease = { _tag: "Tlease", tag: 0, unit: 1, howMuch: -(1n << 63n) }
    assert.deepStrictEqual(read(encode(lease)), lease)
  })
})
