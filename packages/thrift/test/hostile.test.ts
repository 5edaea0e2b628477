// Bytes that are no message: cut off, mutated or random, they end in a value or a typed error, never in anything else.
import { Cause, Exit } from "effect"
import { assert, describe, it } from "vitest"
import { BinaryReader, BinaryWriter, decodeReply, ThriftProtocolError } from "../src/index.ts"
import { type Compiled, compilers, methodOf, samples } from "./generated.ts"

/** xorshift32: the same sequence everywhere. */
const randomOf = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

const reader = new BinaryReader()
const writer = new BinaryWriter()

/** Reads bytes as a call and as a reply, and says whether both were refused. Any other error than ours fails the test. */
const bothRefuse = (compiled: Compiled, name: string, bytes: Uint8Array): boolean => {
  const method = methodOf(compiled.wide, name)
  let refused = 0
  try {
    reader.reset(bytes).readMessageBegin()
    method.decodeArguments(reader)
  } catch (error) {
    if (!(error instanceof ThriftProtocolError) || error.reason === "InvalidStruct") throw error
    refused++
  }
  const reply = decodeReply(method, reader.reset(bytes))
  if (Exit.isFailure(reply)) {
    const error = Cause.squash(reply.cause) as { readonly _tag: string; readonly reason?: string }
    const tags = ["ThriftProtocolError", "ThriftApplicationException", "ThriftException"]
    if (!tags.includes(error._tag) || error.reason === "InvalidStruct") throw error
    refused++
  }
  return refused === 2
}

const messages = (compiled: Compiled): ReadonlyArray<[string, Buffer]> =>
  Object.entries(samples(compiled)).flatMap(([name, value]): Array<[string, Buffer]> => {
    const method = methodOf(compiled.wide, name)
    method.encodeCall(1, [value], writer)
    const call = writer.take()
    method.encodeResult(1, value, writer)
    return [[name, call], [name, writer.take()]]
  })

describe.each(compilers)("a reader of compiler $compiler", (compiled) => {
  it("refuses every message that is cut off, wherever that is", () => {
    for (const [name, message] of messages(compiled)) {
      for (let length = 0; length < message.length; length++) {
        assert.isTrue(bothRefuse(compiled, name, message.subarray(0, length)), `${name} cut off after ${length} bytes`)
      }
    }
  })

  it("survives 40000 messages with changed bytes", () => {
    const random = randomOf(0x5ca1e5)
    const all = messages(compiled)
    let refused = 0
    for (let i = 0; i < 40_000; i++) {
      const [name, message] = all[random(all.length)]!
      const changed = Buffer.from(message)
      for (let changes = 1 + random(4); changes > 0; changes--) {
        const at = random(4) === 0 ? random(changed.length) : Math.min(random(60), changed.length - 1)
        changed[at] = random(3) === 0 ? random(256) : [0, 1, 12, 13, 15, 127, 128, 255][random(8)]!
      }
      if (bothRefuse(compiled, name, changed)) refused++
    }
    assert.isAbove(refused, 10_000)
    assert.isBelow(refused, 40_000)
  })

  it("survives 40000 random bodies", () => {
    const random = randomOf(0xbadb0d)
    const names = Object.keys(samples(compiled))
    const types = [2, 3, 4, 6, 8, 10, 11, 12, 13, 14, 15, 16]
    let refused = 0
    for (let i = 0; i < 40_000; i++) {
      const body = Buffer.alloc(12 + random(120))
      for (let at = 12; at < body.length; at++) {
        body[at] = [random(256), 0, types[random(types.length)]!, random(21)][random(4)]!
      }
      body.writeUInt32BE((0x80010000 | 1 + random(3)) >>> 0, 0)
      if (bothRefuse(compiled, names[random(names.length)]!, body)) refused++
    }
    assert.isAbove(refused, 10_000)
  })
})

describe("what a small message can make a reader allocate", () => {
  it("is bounded: a claim of two billion elements or bytes is refused by its own size", () => {
    for (const compiled of compilers) {
      const method = methodOf(compiled.wide, "listed")
      const header = "800100020000000000000000"
      for (const body of ["0f00000c7fffffff", "0f00000c7fffffff00", "0f00630c7fffffff", "0b00007fffffff"]) {
        const reply = decodeReply(method, reader.reset(Buffer.from(header + body, "hex")))
        assert.strictEqual(Exit.isFailure(reply) && (Cause.squash(reply.cause) as any)._tag, "ThriftProtocolError")
      }
    }
  })

  it("ends at the depth limit for a struct that contains itself", () => {
    for (const compiled of compilers) {
      const method = methodOf(compiled.wide, "tree")
      const nested = (depth: number) =>
        Buffer.from("8001000200000000000000000c0000" + "0c0002".repeat(depth) + "00".repeat(depth + 2), "hex")
      const reasons = [62, 63, 100_000].map((depth) => {
        const reply = decodeReply(method, reader.reset(nested(depth)))
        return Exit.isFailure(reply) ? (Cause.squash(reply.cause) as ThriftProtocolError).reason : "read"
      })
      assert.deepStrictEqual(reasons, ["read", "DepthLimit", "DepthLimit"])
    }
  })
})
