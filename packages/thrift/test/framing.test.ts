// Both framings: whatever pieces a stream comes in, the same messages come out of it; what is announced costs nothing.
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { checkedFraming, chunksOf, type Framing, type Splitter, splitter } from "../src/internal/Framing.ts"
import { MessageType, type Protocol, Protocols, type ProtocolWriter, ThriftProtocolError, Type } from "../src/index.ts"
import { compilers, methodOf, samples } from "./generated.ts"
import { randomOf, valuesOf, writeUnknown } from "./values.ts"

const protocols = [Protocols.binary, Protocols.binaryOld, Protocols.compact, Protocols.json]
const framings: ReadonlyArray<Framing> = ["framed", "buffered"]
const cases = framings.flatMap((framing) =>
  protocols.map((protocol) => ({ framing, protocol, name: `${framing} ${protocol.name}` }))
)
const mib = 1024 * 1024
const compiled = compilers[1]!

/** A message of a struct with the fields that `write` writes. */
const message = (protocol: Protocol, write: (writer: ProtocolWriter) => void): Uint8Array => {
  const writer = protocol.writer()
  writer.writeMessageBegin("m", MessageType.CALL, 7)
  writer.writeStructBegin("m")
  write(writer)
  writer.writeFieldStop()
  writer.writeStructEnd()
  writer.writeMessageEnd()
  return writer.take()
}

const text = (length: number) => (writer: ProtocolWriter) => {
  writer.writeFieldBegin("t", Type.STRING, 1)
  writer.writeString("x".repeat(length))
  writer.writeFieldEnd()
}

/** Calls and replies with every sample, random values, and fields that nobody knows. */
const messages = (protocol: Protocol): ReadonlyArray<Uint8Array> => {
  const writer = protocol.writer()
  const random = randomOf(5)
  const values = [samples(compiled), valuesOf(compiled, random)].flatMap((all) => Object.entries(all))
  const known = values.flatMap(([name, value]) => {
    const method = methodOf(compiled.wide, name)
    method.encodeCall(1, [value], writer)
    const call = writer.take()
    method.encodeResult(1, value, writer)
    return [call, writer.take()]
  })
  const unknown = Array.from({ length: 20 }, () => message(protocol, (writer) => writeUnknown(writer, 9, random, 3)))
  return [message(protocol, () => {}), ...known, ...unknown]
}

const streamOf = (framing: Framing, bodies: ReadonlyArray<Uint8Array>): Buffer =>
  Buffer.concat(bodies.flatMap((body) => chunksOf(framing, body)))

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex")

/** What comes out of these chunks. */
const pushed = (split: Splitter, chunks: ReadonlyArray<Uint8Array>): Array<string> => {
  const out: Array<Uint8Array> = []
  for (const chunk of chunks) split.push(chunk, (body) => out.push(body))
  return out.map(hex)
}

const refusal = (f: () => unknown): ThriftProtocolError => {
  try {
    f()
  } catch (error) {
    if (error instanceof ThriftProtocolError) return error
    throw error
  }
  throw new Error("it was taken")
}

describe.each(cases)("$name", ({ framing, protocol }) => {
  const fresh = (maxBytes = 4 * mib) => splitter(framing, protocol, maxBytes)
  const bodies = messages(protocol)

  it("gives a message that is cut in two anywhere", () => {
    for (const body of bodies) {
      if (body.length > 2000) continue
      const stream = streamOf(framing, [body])
      const expected = hex(body)
      const split = fresh()
      for (let at = 1; at < stream.length; at++) {
        const out: Array<Uint8Array> = []
        split.push(stream.subarray(0, at), (each) => out.push(each))
        assert.deepStrictEqual([out.length, split.pending], [0, at])
        split.push(stream.subarray(at), (each) => out.push(each))
        assert.deepStrictEqual([out.map(hex), split.pending], [[expected], 0])
      }
    }
  })

  it("gives pipelined messages in order, in one piece, byte by byte, and in random pieces", () => {
    const stream = streamOf(framing, bodies)
    const expected = bodies.map(hex)
    assert.deepStrictEqual(pushed(fresh(), [stream]), expected)
    assert.deepStrictEqual(pushed(fresh(), Array.from(stream, (byte) => Uint8Array.of(byte))), expected)
    const random = randomOf(11)
    for (let round = 0; round < 20; round++) {
      const chunks: Array<Uint8Array> = []
      for (let at = 0; at < stream.length;) {
        const next = Math.min(stream.length, at + 1 + random(round % 2 === 0 ? 20 : 3000))
        chunks.push(stream.subarray(at, next))
        at = next
      }
      assert.deepStrictEqual(pushed(fresh(), chunks), expected)
    }
  })

  it("does not change what it gave out", () => {
    const split = fresh()
    const stream = streamOf(framing, bodies)
    const out: Array<Uint8Array> = []
    // Chunks whose memory is used again: what was cut across them is a copy
    const kept: Array<string> = []
    const chunk = Buffer.alloc(64)
    for (let at = 0; at < stream.length; at += chunk.length) {
      const part = stream.subarray(at, at + chunk.length)
      part.copy(chunk)
      split.push(chunk.subarray(0, part.length), (body) => {
        kept.push(hex(body))
        if (body.buffer !== chunk.buffer) out.push(body)
        else out.push(Buffer.from(body))
      })
    }
    assert.deepStrictEqual(out.map(hex), kept)
    assert.deepStrictEqual(kept, bodies.map(hex))
  })

  it("takes a message of the limit and refuses one of a byte more", () => {
    const least = message(protocol, text(1)).length - 1
    const most = message(protocol, text(200))
    assert.strictEqual(most.length - least, 200 + (protocol.name === "compact" ? 1 : 0))
    assert.deepStrictEqual(pushed(fresh(most.length), chunksOf(framing, most)), [hex(most)])
    for (const size of [1, 7, 1000]) {
      const split = fresh(most.length - 1)
      const stream = streamOf(framing, [most])
      const error = refusal(() => {
        for (let at = 0; at < stream.length; at += size) split.push(stream.subarray(at, at + size), () => {})
      })
      assert.strictEqual(error.reason, "SizeLimit")
    }
  })

  it("takes time in proportion to a message's length, however small its pieces", () => {
    const body = message(protocol, (writer) => {
      writer.writeFieldBegin("l", Type.LIST, 1)
      writer.writeListBegin(Type.STRING, 120_000)
      for (let i = 0; i < 120_000; i++) writer.writeString("abcd")
      writer.writeListEnd()
      writer.writeFieldEnd()
    })
    const stream = streamOf(framing, [body])
    const split = fresh()
    let given = 0
    const began = performance.now()
    for (let at = 0; at < stream.length; at += 16) split.push(stream.subarray(at, at + 16), () => given++)
    assert.strictEqual(given, 1)
    // Looked through again for each piece, a megabyte in 60000 pieces would take 30 GB of looking: half a minute
    assert.isBelow(performance.now() - began, 5000)
  })
})

describe("framed", () => {
  it("has a length of 4 bytes before each message, the most significant first", () => {
    assert.deepStrictEqual(chunksOf("framed", Uint8Array.of(1, 2, 3)).map(hex), ["00000003010203"])
    assert.deepStrictEqual(chunksOf("framed", Uint8Array.of(1), Uint8Array.of(2, 3)).map(hex), ["00000003010203"])
    assert.deepStrictEqual(
      pushed(splitter("framed", Protocols.binary, 9), [Buffer.from("0000000000000001ff", "hex")]),
      [
        "",
        "ff"
      ]
    )
  })

  it.each(["80000000", "ffffffff", "7fffffff", "0000000a"])(
    "refuses the length %s before it allocates for it",
    (length) => {
      for (const size of [4, 1]) {
        const split = splitter("framed", Protocols.binary, 9)
        const bytes = Buffer.from(length, "hex")
        const error = refusal(() => {
          for (let at = 0; at < 4; at += size) split.push(bytes.subarray(at, at + size), () => {})
        })
        assert.strictEqual(error.reason, /^[8f]/.test(length) ? "NegativeSize" : "SizeLimit")
      }
    }
  )

  it("holds little for a large message of which little has come", () => {
    const split = splitter("framed", Protocols.binary, 0x7fffffff)
    const before = process.memoryUsage().arrayBuffers
    for (let i = 0; i < 1000; i++) {
      splitter("framed", Protocols.binary, 0x7fffffff).push(Buffer.from("7fffffff00", "hex"), () => {})
    }
    split.push(Buffer.from("7fffffff00", "hex"), () => {})
    assert.strictEqual(split.pending, 5)
    assert.isBelow(process.memoryUsage().arrayBuffers - before, 16 * mib)
  })

  it("does not copy a large message", () => {
    const large = new Uint8Array(100_000)
    const chunks = chunksOf("framed", Uint8Array.of(7), large)
    assert.deepStrictEqual(chunks.map(({ length }) => length), [5, 100_000])
    assert.strictEqual(hex(chunks[0]!), "000186a107")
    assert.strictEqual(chunks[1], large)
    assert.deepStrictEqual(chunksOf("framed", large, Uint8Array.of(7)).map(({ length }) => length), [4, 100_000, 1])
  })
})

describe("buffered", () => {
  const refused: ReadonlyArray<readonly [string, Protocol, string, string]> = [
    ["another protocol", Protocols.binary, "82210001", "BadVersion"],
    ["a name of a negative length", Protocols.binary, "80010001ffffffff", "NegativeSize"],
    ["HTTP", Protocols.binary, Buffer.from("HTTP/1.1 400 Bad").toString("hex"), "SizeLimit"],
    ["a type that does not exist", Protocols.binary, "800100010000000000000007050001", "UnknownType"],
    ["a string of a negative length", Protocols.binary, "8001000100000000000000070b0001ffffffff", "NegativeSize"],
    ["a string over the limit", Protocols.binary, "8001000100000000000000070b00017fffffff", "SizeLimit"],
    ["a list of a negative count", Protocols.binary, "8001000100000000000000070f00010cffffffff", "NegativeSize"],
    ["a list over the limit", Protocols.binary, "8001000100000000000000070f00010c7fffffff", "SizeLimit"],
    ["numbers over the limit", Protocols.binary, "8001000100000000000000070f00010a7fffffff", "SizeLimit"],
    ["a map without a type of values", Protocols.binary, "8001000100000000000000070d0001080000000001", "UnknownType"],
    ["another protocol", Protocols.compact, "80010001", "BadVersion"],
    ["an integer that does not end", Protocols.compact, "8221ffffffffffff", "Malformed"],
    ["a type that does not exist", Protocols.compact, "822100001e", "UnknownType"],
    ["a string over the limit", Protocols.compact, "8221000018ffffffff0f", "SizeLimit"],
    ["a list over the limit", Protocols.compact, "8221000019fcffffffff0f", "SizeLimit"],
    ["elements of no type", Protocols.compact, "822100001910", "UnknownType"],
    ["a map of no types", Protocols.compact, "822100001b0100", "UnknownType"],
    ["an object", Protocols.json, "7b", "Malformed"],
    ["text", Protocols.json, "2020785b", "Malformed"]
  ]

  it.each(refused)("refuses %s in %o", (_, protocol, bytes, reason) => {
    const stream = Buffer.from(bytes.length % 2 === 0 ? bytes : `${bytes}0`, "hex")
    assert.strictEqual(refusal(() => splitter("buffered", protocol, mib).push(stream, () => {})).reason, reason)
    assert.strictEqual(
      refusal(() => {
        const split = splitter("buffered", protocol, mib)
        for (const byte of stream) split.push(Uint8Array.of(byte), () => {})
      }).reason,
      reason
    )
  })

  it("has a bound on what is inside each other, and no recursion", () => {
    const deep = (protocol: Protocol, header: string, each: string) =>
      refusal(() =>
        splitter("buffered", protocol, 100 * mib).push(
          Buffer.from(header + each.repeat(2_000_000 / (each.length / 2)), "hex"),
          () => {}
        )
      ).reason
    assert.strictEqual(deep(Protocols.binary, "800100010000000000000007", "0c0001"), "DepthLimit")
    assert.strictEqual(deep(Protocols.binary, "8001000100000000000000070f0001", "0f00000001"), "DepthLimit")
    assert.strictEqual(deep(Protocols.compact, "8221000019", "19"), "DepthLimit")
    // Brackets are counted, and cost nothing each
    const split = splitter("buffered", Protocols.json, 100 * mib)
    split.push(Buffer.alloc(2_000_000, "["), () => {})
    assert.strictEqual(split.pending, 2_000_000)
    assert.strictEqual(
      refusal(() => splitter("buffered", Protocols.json, 9).push(Buffer.alloc(10, "["), () => {})).reason,
      "SizeLimit"
    )
  })

  it("takes white space before a message, and brackets inside of strings, in JSON", () => {
    const bodies = [`[1,"m",1,7,{"1":{"str":"]}[{\\"\\\\"}}]`, ` \n\t\r[1,"n",1,8,{}]`]
    const out = pushed(splitter("buffered", Protocols.json, 100), [Buffer.from(bodies.join(""))])
    assert.deepStrictEqual(out.map((each) => Buffer.from(each, "hex").toString()), bodies)
  })
})

describe("the option", () => {
  it.effect("is one of two, framed by default", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* checkedFraming(undefined, Protocols.compact), "framed")
      assert.strictEqual(yield* checkedFraming("buffered", Protocols.json), "buffered")
      const wrong = yield* Effect.flip(checkedFraming("none" as never, Protocols.binary))
      assert.strictEqual(wrong.message, "invalid option framing: got none, expected \"framed\" or \"buffered\"")
    }))

  it.effect("is framed for a protocol whose messages nobody here can tell apart", () =>
    Effect.gen(function*() {
      const own = { ...Protocols.binary, name: "own" }
      assert.strictEqual(yield* checkedFraming("framed", own), "framed")
      assert.strictEqual((yield* Effect.flip(checkedFraming("buffered", own))).option, "framing")
      assert.throws(() => splitter("buffered", own, 1), TypeError)
    }))
})
