// What holds in every protocol, for the code of every compiler: what is written is read again, what is unknown is skipped, and bytes
// that are no message end in a typed error.
import { isDeepStrictEqual } from "node:util"
import { Cause, Exit } from "effect"
import { assert, describe, it } from "vitest"
import {
  decodeReply,
  type Protocol,
  type ProtocolReader,
  Protocols,
  type ProtocolWriter,
  ThriftProtocolError,
  Type
} from "../src/index.ts"
import { type Compiled, compilers, methodOf, plain, readStruct, samples, writeStruct } from "./generated.ts"
import { refusesToRead } from "./refusals.ts"
import { randomOf, valuesOf, writeUnknown } from "./values.ts"

const protocols: ReadonlyArray<Protocol> = [
  Protocols.binary,
  Protocols.binaryOld,
  Protocols.compact,
  Protocols.json
]

const cases = protocols.flatMap((protocol) =>
  compilers.map((compiled) => ({ protocol, compiled, name: `${protocol.name}, compiler ${compiled.compiler}` }))
)

/** Reads bytes as a call and as a reply, and says whether both were refused. Any other error than ours fails the test. */
const bothRefuse = (reader: ProtocolReader, compiled: Compiled, name: string, bytes: Uint8Array): boolean => {
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

const messages = (protocol: Protocol, compiled: Compiled): ReadonlyArray<[string, Uint8Array]> => {
  const writer = protocol.writer()
  return Object.entries(samples(compiled)).flatMap(([name, value]): Array<[string, Uint8Array]> => {
    const method = methodOf(compiled.wide, name)
    method.encodeCall(1, [value], writer)
    const call = writer.take()
    method.encodeResult(1, value, writer)
    return [[name, call], [name, writer.take()]]
  })
}

/** Chai's comparison of large values is slow, and needed only for what it says. */
const same = (actual: unknown, expected: unknown, what: string): void => {
  if (!isDeepStrictEqual(actual, expected)) assert.deepStrictEqual(actual, expected, what)
}

describe.each(cases)("messages in $name", ({ compiled, protocol }) => {
  const { types, wide } = compiled
  const reader = protocol.reader()
  const writer = protocol.writer()

  it("are read as they were written, whatever their values", () => {
    const random = randomOf(0x5eed)
    for (let round = 0; round < 10; round++) {
      for (const [name, value] of Object.entries(valuesOf(compiled, random))) {
        const method = methodOf(wide, name)
        method.encodeCall(round, [value], writer)
        const header = reader.reset(writer.take()).readMessageBegin()
        assert.deepStrictEqual(header, { fname: name, mtype: 1, rseqid: round })
        same(plain(method.decodeArguments(reader)[0]), plain(value), `${name}, round ${round}`)
        method.encodeResult(-round, value, writer)
        const reply = decodeReply(method, reader.reset(writer.take()))
        assert.strictEqual(reader.message.rseqid, round === 0 ? 0 : -round)
        same(Exit.isSuccess(reply) ? plain(reply.value) : reply, plain(value), `${name}, round ${round}`)
      }
    }
  })

  it("are read with fields that nobody knows, of any type and depth, before and after each that is known", () => {
    const random = randomOf(0xf1e1d)
    for (let round = 0; round < 150; round++) {
      writer.reset()
      writer.writeMessageBegin("text", 2, 1)
      writer.writeStructBegin("result")
      for (let i = random(3); i > 0; i--) writeUnknown(writer, 100 + random(50), random, random(8))
      writer.writeFieldBegin("success", Type.STRING, 0)
      writer.writeString("known")
      writer.writeFieldEnd()
      for (let i = random(3); i > 0; i--) writeUnknown(writer, -1 - random(50), random, random(8))
      writer.writeFieldStop()
      writer.writeStructEnd()
      writer.writeMessageEnd()
      const bytes = writer.take()
      assert.deepStrictEqual(decodeReply(methodOf(wide, "text"), reader.reset(bytes)), Exit.succeed("known"))
      assert.strictEqual(reader.position, bytes.length)
    }
  })

  it("are read when a known field comes with another type: it is skipped", () => {
    writer.reset()
    writer.writeStructBegin("Scalars")
    for (const [id, type] of [[2, Type.BOOL], [3, Type.STRUCT], [1, Type.LIST]] as const) {
      writer.writeFieldBegin("other", type, id)
      if (type === Type.BOOL) writer.writeBool(true)
      else if (type === Type.STRUCT) writeStruct(new types.Tree({ value: 1, rest: [] }), writer)
      else {
        writer.writeListBegin(Type.BOOL, 1)
        writer.writeBool(true)
        writer.writeListEnd()
      }
      writer.writeFieldEnd()
    }
    writer.writeFieldBegin("text", Type.STRING, 7)
    writer.writeString("here")
    writer.writeFieldEnd()
    writer.writeFieldStop()
    writer.writeStructEnd()
    const read = readStruct(new types.Scalars(), reader.reset(writer.take()))
    assert.deepInclude(read, { flag: null, tiny: null, small: null, text: "here" })
  })

  it("are read up to the depth limit, and written up to it", () => {
    const nested = (depth: number): any => {
      let tree = new types.Tree({ value: depth, rest: [] })
      for (let i = 1; i < depth; i++) tree = new types.Tree({ value: i, left: tree, rest: [] })
      return tree
    }
    const deep = protocol.writer({ maxDepth: 1000 })
    const method = methodOf(wide, "tree")
    const outcome = (depth: number) => {
      method.encodeResult(1, nested(depth), deep)
      const reply = decodeReply(method, reader.reset(deep.take()))
      return Exit.isFailure(reply) ? (Cause.squash(reply.cause) as ThriftProtocolError).reason : "read"
    }
    assert.deepStrictEqual([63, 64, 900].map(outcome), ["read", "DepthLimit", "DepthLimit"])
    method.encodeResult(1, nested(63), writer)
    writer.reset()
    assert.throws(() => method.encodeResult(1, nested(64), writer), /structs deeper than maxDepth, 64/)
  })

  it("are read when they are huge", () => {
    const value = new types.Scalars({ text: "é\"".repeat(500_000), bytes: Buffer.alloc(1_000_000, 0xa5) })
    writeStruct(value, writer)
    const read = readStruct(new types.Scalars(), reader.reset(writer.take()))
    assert.isTrue(read.text === value.text && value.bytes.equals(read.bytes))
  })

  it("are refused when they are cut off, wherever that is", () => {
    for (const [name, message] of messages(protocol, compiled)) {
      for (let length = 0; length < message.length; length++) {
        assert.isTrue(
          bothRefuse(reader, compiled, name, message.subarray(0, length)),
          `${name} cut off after ${length} bytes`
        )
      }
    }
  })

  it("are read or refused when bytes of them have changed", () => {
    const random = randomOf(0x5ca1e5)
    const all = messages(protocol, compiled)
    let refused = 0
    for (let i = 0; i < 12_000; i++) {
      const [name, message] = all[random(all.length)]!
      const changed = Buffer.from(message)
      for (let changes = 1 + random(4); changes > 0; changes--) {
        const at = random(4) === 0 ? random(changed.length) : Math.min(random(60), changed.length - 1)
        changed[at] = [random(256), 0, 1, 12, 0x1c, 0x22, 0x2c, 0x39, 0x5b, 0x5d, 0x7d, 127, 128, 255][random(14)]!
      }
      if (bothRefuse(reader, compiled, name, changed)) refused++
    }
    assert.isAbove(refused, 3000)
    assert.isBelow(refused, 12_000)
  })
})

describe.each(protocols)("values in $name", (protocol) => {
  it("are whole where they fall on the end of the writer's buffer", () => {
    const uuid = "00112233-4455-6677-8899-aabbccddeeff"
    const values: ReadonlyArray<
      readonly [number, (writer: ProtocolWriter) => void, (reader: ProtocolReader) => unknown, unknown]
    > = [
      [Type.DOUBLE, (w) => w.writeDouble(0.1), (r) => r.readDouble(), 0.1],
      [Type.UUID, (w) => w.writeUuid(uuid), (r) => r.readUuid(), uuid],
      [Type.I64, (w) => w.writeI64(2n ** 63n - 1n), (r) => plain(r.readI64()), 2n ** 63n - 1n],
      [Type.I32, (w) => w.writeI32(-0x7fffffff), (r) => r.readI32(), -0x7fffffff],
      [Type.I16, (w) => w.writeI16(-0x7fff), (r) => r.readI16(), -0x7fff],
      [Type.BYTE, (w) => w.writeByte(-5), (r) => r.readByte(), -5],
      [Type.BOOL, (w) => w.writeBool(true), (r) => r.readBool(), true],
      [Type.STRING, (w) => w.writeString("short"), (r) => r.readString(), "short"],
      [Type.STRING, (w) => w.writeString("long é".repeat(20)), (r) => r.readString(), "long é".repeat(20)],
      [Type.STRING, (w) => w.writeBinary(Buffer.from("bytes")), (r) => plain(r.readBinary()), "0x6279746573"]
    ]
    for (const [type, write, read, value] of values) {
      for (let length = 65_480; length < 65_540; length++) {
        const writer = protocol.writer()
        writer.writeMapBegin(Type.STRING, type, 1)
        writer.writeString("a".repeat(length))
        write(writer)
        writer.writeMapEnd()
        const reader = protocol.reader().reset(writer.take())
        reader.readMapBegin()
        assert.strictEqual(reader.readString().length, length)
        assert.deepStrictEqual(read(reader), value)
        reader.readMapEnd()
      }
    }
  })
})

describe("bytes that are no UTF-8", () => {
  it("become U+FFFD in every protocol", () => {
    for (const protocol of protocols) {
      const writer = protocol.writer()
      writer.writeString(Buffer.from([0x61, 0xff, 0xc3, 0x62]))
      assert.strictEqual(protocol.reader().reset(writer.take()).readString(), "a\ufffd\ufffdb")
    }
  })
})

describe("a message of the wrong protocol", () => {
  it("is refused by its first bytes", () => {
    for (const written of protocols) {
      for (const read of protocols) {
        if (written === read || (written.name.startsWith("binary") && read.name.startsWith("binary"))) continue
        const writer = written.writer()
        methodOf(compilers[0]!.echo, "ping").encodeCall(1, [], writer)
        const bytes = writer.take()
        const reader = read.reader()
        const error = refusesToRead(
          read.name === "json"
            ? "Malformed"
            : read.name === "compact"
            ? "BadVersion"
            : written.name === "json"
            ? "SizeLimit"
            : "BadVersion",
          () => reader.reset(bytes).readMessageBegin()
        )
        assert.isAtMost(error.offset, 4)
      }
    }
  })
})
