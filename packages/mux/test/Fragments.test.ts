import { assert, describe, it } from "@effect/vitest"
import { decode, encode, Fragments, FrameReader, type Message, MuxDecodeError } from "@scales-rpc/mux"
import { defaultLimits, Type } from "../src/Message.ts"
import { fragments, fromHex, none, replyFragments, utf8, vectors } from "./vectors.ts"

const more = 0x800000

const readAll = (frames: ReadonlyArray<Uint8Array>, fragments = new Fragments()): Array<Message.Message> => {
  const messages: Array<Message.Message> = []
  const reader = new FrameReader()
  for (const frame of frames) {
    reader.push(frame, (type, tag, body) => {
      const whole = fragments.push(type, tag, body)
      if (whole !== undefined) messages.push(decode(type, tag, whole))
    })
  }
  assert.strictEqual(fragments.size, 0)
  assert.strictEqual(fragments.bytes, 0)
  return messages
}

const refused = (f: () => unknown): string => {
  try {
    f()
  } catch (error) {
    assert.instanceOf(error, MuxDecodeError)
    return error.kind
  }
  assert.fail("was taken")
}

const body = (message: Message.Message): Uint8Array => encode(message).subarray(8)
const ok = (tag: number, text: string): Message.Rdispatch => ({
  _tag: "Rdispatch",
  tag,
  status: 0,
  contexts: [],
  body: utf8(text)
})

describe("Fragments", () => {
  it("puts a request and a reply together", () => {
    const request = vectors.find(({ name }) => name === "V7 Tdispatch")!.message
    assert.deepStrictEqual(readAll(fragments.map(fromHex)), [request])
    assert.deepStrictEqual(readAll(replyFragments.map(fromHex)), [ok(2, "x".repeat(20))])
  })

  it("passes whole messages, also between fragments", () => {
    const [first, second, last] = fragments.map(fromHex)
    const ping = fromHex("0000000441000001")
    const other = encode({ ...vectors.find(({ name }) => name === "V7 Tdispatch")!.message, tag: 3 } as Message.Message)
    assert.deepStrictEqual(
      readAll([first!, ping, second!, other, last!]).map(({ _tag, tag }) => [_tag, tag]),
      [["Tping", 1], ["Tdispatch", 3], ["Tdispatch", 2]]
    )
  })

  it("keeps tags apart", () => {
    const parts = new Fragments()
    const a = body(ok(2, "aaaa"))
    const b = body(ok(3, "bbbb"))
    assert.isUndefined(parts.push(-2, 2 | more, a.subarray(0, 4)))
    assert.isUndefined(parts.push(-2, 3 | more, b.subarray(0, 5)))
    assert.strictEqual(parts.size, 2)
    assert.deepStrictEqual(decode(-2, 3, parts.push(-2, 3, b.subarray(5))!), ok(3, "bbbb"))
    assert.deepStrictEqual(decode(-2, 2, parts.push(-2, 2, a.subarray(4))!), ok(2, "aaaa"))
  })

  it("does not keep the chunks that fragments came in", () => {
    const parts = new Fragments()
    const chunk = body(ok(2, "abcd"))
    parts.push(-2, 2 | more, chunk.subarray(0, 5))
    chunk.fill(0, 0, 5)
    assert.deepStrictEqual(decode(-2, 2, parts.push(-2, 2, chunk.subarray(5))!), ok(2, "abcd"))
  })

  for (const type of [Type.Tdiscarded, Type.OldTdiscarded]) {
    it(`drops a request that a Tdiscarded of type ${type} names, and takes the tag's next one clean`, () => {
      const parts = new Fragments()
      parts.push(2, 2 | more, utf8("garbage"))
      const discard = fromHex("00000274696d656f7574")
      assert.strictEqual(parts.push(type, 0, discard), discard)
      assert.strictEqual(parts.size, 0)
      assert.strictEqual(parts.bytes, 0)
      const next = body(vectors.find(({ name }) => name === "V7 Tdispatch")!.message)
      assert.strictEqual(parts.push(2, 2, next), next)
    })
  }

  for (const [name, type] of Object.entries({ Rdiscarded: Type.Rdiscarded, Rerr: Type.Rerr, OldRerr: Type.OldRerr })) {
    it(`drops a reply that ends with an ${name}`, () => {
      const parts = new Fragments()
      parts.push(-2, 2 | more, utf8("garbage"))
      parts.push(-2, 3 | more, utf8("kept"))
      assert.strictEqual(parts.push(type, 2, none), none)
      assert.strictEqual(parts.size, 1)
      assert.strictEqual(parts.bytes, 4)
    })
  }

  it("refuses fragments of messages that only go whole", () => {
    for (const type of [1, -1, 64, -64, 65, -65, 66, -66, 67, 68, -68, 127, -128, 3]) {
      assert.strictEqual(refused(() => new Fragments().push(type, 2 | more, utf8("x"))), "fragment", `type ${type}`)
    }
  })

  it("refuses two types under one tag", () => {
    for (const [first, then] of [[2, -2], [-2, 2], [2, 1], [-2, -1]] as const) {
      const parts = new Fragments()
      parts.push(first, 2 | more, utf8("x"))
      assert.strictEqual(refused(() => parts.push(then, 2, utf8("y"))), "fragment", `${first} then ${then}`)
    }
    const parts = new Fragments()
    parts.push(2, 2 | more, utf8("x"))
    assert.strictEqual(refused(() => parts.push(-2, 2 | more, utf8("y"))), "fragment")
  })

  it("bounds one message, all of them, and how many there are", () => {
    const limits = { ...defaultLimits, messageBytes: 10, reassemblyBytes: 15, reassemblies: 2 }
    const one = new Fragments(limits)
    one.push(2, 2 | more, new Uint8Array(10))
    assert.strictEqual(refused(() => one.push(2, 2 | more, new Uint8Array(1))), "limit")
    assert.strictEqual(refused(() => one.push(2, 2, new Uint8Array(1))), "limit")
    const all = new Fragments(limits)
    all.push(2, 2 | more, new Uint8Array(8))
    assert.strictEqual(refused(() => all.push(2, 3 | more, new Uint8Array(8))), "limit")
    const many = new Fragments(limits)
    many.push(2, 2 | more, none)
    many.push(2, 3 | more, none)
    assert.strictEqual(refused(() => many.push(2, 4 | more, none)), "limit")
    many.clear()
    assert.strictEqual(many.size, 0)
  })
})
