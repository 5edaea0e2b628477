// The bytes of the binary protocol as its specification gives them, the limits of the reader, the checks of the writer.
import Int64 from "node-int64"
import { assert, describe, it } from "vitest"
import {
  BinaryReader,
  type BinaryReaderOptions,
  BinaryWriter,
  type BinaryWriterOptions,
  ThriftEncodeError,
  ThriftProtocolError,
  Type
} from "../src/index.ts"

const written = (write: (writer: BinaryWriter) => void, options?: BinaryWriterOptions): string => {
  const writer = new BinaryWriter(options)
  write(writer)
  return writer.take().toString("hex")
}

const reader = (hex: string, options?: BinaryReaderOptions): BinaryReader =>
  new BinaryReader(options).reset(Buffer.from(hex.replaceAll(" ", ""), "hex"))

const thrown = (f: () => unknown): unknown => {
  try {
    f()
  } catch (error) {
    return error
  }
  return assert.fail("nothing was thrown")
}

const refusesToRead = (reason: string, f: () => unknown): ThriftProtocolError => {
  const error = thrown(f)
  assert.instanceOf(error, ThriftProtocolError)
  assert.strictEqual(error.reason, reason)
  return error
}

const refusesToWrite = (reason: string, f: () => unknown): ThriftEncodeError => {
  const error = thrown(f)
  assert.instanceOf(error, ThriftEncodeError)
  assert.strictEqual(error.reason, reason)
  return error
}

const i64s: ReadonlyArray<[bigint, string]> = [
  [0n, "0000000000000000"],
  [1n, "0000000000000001"],
  [-1n, "ffffffffffffffff"],
  [4_294_967_295n, "00000000ffffffff"],
  [-4_294_967_296n, "ffffffff00000000"],
  [9_007_199_254_740_991n, "001fffffffffffff"],
  [9_007_199_254_740_992n, "0020000000000000"],
  [9_007_199_254_740_993n, "0020000000000001"],
  [-9_007_199_254_740_991n, "ffe0000000000001"],
  [-9_007_199_254_740_992n, "ffe0000000000000"],
  [-9_007_199_254_740_993n, "ffdfffffffffffff"],
  [9_223_372_036_854_775_807n, "7fffffffffffffff"],
  [-9_223_372_036_854_775_808n, "8000000000000000"]
]

describe("values", () => {
  it("writes and reads integers of every width at their limits", () => {
    const cases: ReadonlyArray<["writeByte" | "writeI16" | "writeI32", number, string]> = [
      ["writeByte", 0, "00"],
      ["writeByte", 127, "7f"],
      ["writeByte", -128, "80"],
      ["writeByte", -1, "ff"],
      ["writeI16", 258, "0102"],
      ["writeI16", 32_767, "7fff"],
      ["writeI16", -32_768, "8000"],
      ["writeI32", 16_909_060, "01020304"],
      ["writeI32", 2_147_483_647, "7fffffff"],
      ["writeI32", -2_147_483_648, "80000000"],
      ["writeI32", -1, "ffffffff"]
    ]
    for (const [write, value, hex] of cases) {
      assert.strictEqual(written((w) => w[write](value)), hex)
      assert.strictEqual(written((w) => w[write](String(value))), hex)
      const read = write.replace("write", "read") as "readByte" | "readI16" | "readI32"
      assert.strictEqual(reader(hex)[read](), value)
    }
  })

  it("writes and reads all 64 bits, from a number, a bigint, an Int64 at an offset, or digits", () => {
    for (const [value, hex] of i64s) {
      const shifted = Buffer.concat([Buffer.from([1, 2, 3]), Buffer.from(hex, "hex")])
      assert.strictEqual(written((w) => w.writeI64(value)), hex)
      assert.strictEqual(written((w) => w.writeI64(new Int64(shifted, 3))), hex)
      assert.strictEqual(written((w) => w.writeI64(String(value))), hex)
      if (Number.isSafeInteger(Number(value))) assert.strictEqual(written((w) => w.writeI64(Number(value))), hex)
      const read = reader(hex).readI64()
      assert.instanceOf(read, Int64)
      assert.strictEqual(read.toBuffer().toString("hex"), hex)
      assert.strictEqual(String(read), String(value), "as a property name it keeps every digit")
    }
  })

  it("writes and reads doubles to the bit", () => {
    const doubles: ReadonlyArray<[number, string]> = [
      [0, "0000000000000000"],
      [-0, "8000000000000000"],
      [1, "3ff0000000000000"],
      [-1.5, "bff8000000000000"],
      [Infinity, "7ff0000000000000"],
      [-Infinity, "fff0000000000000"],
      [NaN, "7ff8000000000000"],
      [5e-324, "0000000000000001"],
      [Number.MAX_VALUE, "7fefffffffffffff"]
    ]
    for (const [value, hex] of doubles) {
      assert.strictEqual(written((w) => w.writeDouble(value)), hex)
      assert.isTrue(Object.is(reader(hex).readDouble(), value))
    }
  })

  it("writes and reads strings as UTF-8 on both sides of its short paths", () => {
    assert.strictEqual(written((w) => w.writeString("")), "00000000")
    assert.strictEqual(written((w) => w.writeString("hi")), "000000026869")
    assert.strictEqual(written((w) => w.writeString("é")), "00000002c3a9")
    assert.strictEqual(written((w) => w.writeString("👋")), "00000004f09f918b")
    for (const unit of ["a", "é", "你", "👋", "aé"]) {
      for (const times of [1, 3, 7, 8, 9, 12, 13, 100, 1000, 1025, 70_000]) {
        const text = unit.repeat(times)
        const hex = written((w) => w.writeString(text))
        assert.strictEqual(hex.slice(8), Buffer.from(text).toString("hex"))
        assert.strictEqual(reader(hex).readString(), text)
      }
    }
    assert.strictEqual(written((w) => w.writeString("\ud800")), "00000003efbfbd")
    assert.strictEqual(reader("00000001 ff").readString(), "\ufffd")
  })

  it("writes and reads binaries; what is read has memory of its own", () => {
    for (const length of [0, 1, 64, 65, 5000]) {
      const bytes = Buffer.alloc(length, 200)
      const hex = written((w) => w.writeBinary(bytes))
      assert.strictEqual(hex, length.toString(16).padStart(8, "0") + bytes.toString("hex"))
      const message = Buffer.from(hex, "hex")
      const read = new BinaryReader().reset(message).readBinary()
      message.fill(0)
      assert.deepStrictEqual(read, bytes)
      assert.strictEqual(read.buffer.byteLength, length)
    }
    assert.strictEqual(written((w) => w.writeBinary("ab")), "000000026162")
  })

  it("writes and reads booleans, and what generated code makes of them as map keys", () => {
    assert.strictEqual(written((w) => w.writeBool(true)), "01")
    assert.strictEqual(written((w) => w.writeBool(false)), "00")
    assert.strictEqual(written((w) => w.writeBool("false")), "00")
    assert.isTrue(reader("01").readBool())
    assert.isTrue(reader("02").readBool())
    assert.isFalse(reader("00").readBool())
  })

  it("writes and reads uuids", () => {
    const uuid = "00112233-4455-6677-8899-aabbccddeeff"
    const hex = "00112233445566778899aabbccddeeff"
    assert.strictEqual(written((w) => w.writeUuid(uuid.toUpperCase())), hex)
    assert.strictEqual(reader(hex).readUuid(), uuid)
  })

  it("reads from a plain Uint8Array in the middle of its buffer", () => {
    const bytes = new Uint8Array([9, 9, 0, 0, 0, 2, 104, 105, 9]).subarray(2, 8)
    const read = new BinaryReader().reset(bytes)
    assert.strictEqual(read.readString(), "hi")
    refusesToRead("Truncated", () => read.readByte())
  })
})

describe("headers", () => {
  const strict = "80010001 00000004 70696e67 00000007"
  const old = "00000004 70696e67 01 00000007"

  it("writes and reads the header with a version and the old one", () => {
    assert.strictEqual(written((w) => w.writeMessageBegin("ping", 1, 7)), strict.replaceAll(" ", ""))
    assert.strictEqual(
      written((w) => w.writeMessageBegin("ping", 1, 7), { strictWrite: false }),
      old.replaceAll(" ", "")
    )
    for (const hex of [strict, old]) {
      assert.deepStrictEqual(reader(hex).readMessageBegin(), { fname: "ping", mtype: 1, rseqid: 7 })
    }
  })

  it("reads names that are alike one after the other", () => {
    const one = new BinaryReader()
    for (const name of ["ping", "pong", "pong", "pon", "", "ping", "püng", "ping"]) {
      const writer = new BinaryWriter()
      writer.writeMessageBegin(name, 2, -1)
      assert.deepStrictEqual(one.reset(writer.take()).readMessageBegin(), { fname: name, mtype: 2, rseqid: -1 })
    }
  })

  it("refuses another version, and the old header when it is strict", () => {
    assert.strictEqual(
      refusesToRead("BadVersion", () => reader("80020001 00000000 00000000").readMessageBegin()).offset,
      0
    )
    assert.strictEqual(refusesToRead("BadVersion", () => reader("ffffffff 00000000").readMessageBegin()).offset, 0)
    assert.strictEqual(
      refusesToRead("BadVersion", () => reader(old, { strictRead: true }).readMessageBegin()).offset,
      0
    )
    assert.strictEqual(reader(strict, { strictRead: true }).readMessageBegin().fname, "ping")
  })

  it("writes and reads fields and containers", () => {
    assert.strictEqual(written((w) => (w.writeFieldBegin("x", Type.I32, 258), w.writeFieldStop())), "08010200")
    assert.strictEqual(written((w) => w.writeFieldBegin("x", Type.BOOL, -1)), "02ffff")
    assert.strictEqual(written((w) => w.writeListBegin(Type.I32, 3)), "0800000003")
    assert.strictEqual(written((w) => w.writeSetBegin(Type.I32, 3)), "0800000003")
    assert.strictEqual(written((w) => w.writeMapBegin(Type.STRING, Type.STRUCT, 3)), "0b0c00000003")
    assert.deepStrictEqual(reader("02ffff").readFieldBegin(), { fname: null, ftype: Type.BOOL, fid: -1 })
    assert.deepStrictEqual(reader("00").readFieldBegin(), { fname: null, ftype: Type.STOP, fid: 0 })
    assert.deepStrictEqual(reader("02 00000002 0101").readListBegin(), { etype: Type.BOOL, size: 2 })
    assert.deepStrictEqual(reader("02 00000002 0101").readSetBegin(), { etype: Type.BOOL, size: 2 })
    assert.deepStrictEqual(reader("02 03 00000001 0101").readMapBegin(), { ktype: 2, vtype: 3, size: 1 })
    assert.deepStrictEqual(reader("00 00 00000000").readMapBegin(), { ktype: 0, vtype: 0, size: 0 })
  })
})

describe("what a reader refuses", () => {
  it("lengths and sizes beyond the bytes that are left, before it allocates", () => {
    refusesToRead("Truncated", () => reader("00000002 00").readString())
    refusesToRead("Truncated", () => reader("00ffffff 00").readBinary())
    refusesToRead("SizeLimit", () => reader("7fffffff 00").readBinary())
    refusesToRead("Truncated", () => reader("0a 00000002 0000000000000000 00000000000000").readListBegin())
    refusesToRead("Truncated", () => reader("0c 00000003 0000").readListBegin())
    refusesToRead("Truncated", () => reader("0b 0b 00000002 0000000000000000 00000000000000").readMapBegin())
    refusesToRead("Truncated", () => reader("0c 7fffffff 00").skip(Type.LIST))
    assert.strictEqual(reader("0c 00000002 0000").readListBegin().size, 2)
  })

  it("negative lengths and sizes", () => {
    refusesToRead("NegativeSize", () => reader("ffffffff").readString())
    refusesToRead("NegativeSize", () => reader("80000000").readBinary())
    refusesToRead("NegativeSize", () => reader("08 ffffffff").readListBegin())
    refusesToRead("NegativeSize", () => reader("0b 08 ffffffff").readMapBegin())
    refusesToRead("NegativeSize", () => reader("80010001 ffffffff").readMessageBegin())
    refusesToRead("NegativeSize", () => reader("ffffffff").skip(Type.STRING))
    refusesToRead("NegativeSize", () => reader("08 80000000").skip(Type.SET))
  })

  it("types that do not exist", () => {
    for (const type of [1, 5, 7, 9, 17, 255]) refusesToRead("UnknownType", () => reader("00000000").skip(type))
    refusesToRead("UnknownType", () => reader("05 00000001 00").readListBegin())
    refusesToRead("UnknownType", () => reader("08 00 00000001 0000000000").readMapBegin())
    refusesToRead("UnknownType", () => reader("00 08 00000001 0000000000").skip(Type.MAP))
  })

  it("more than its limits allow", () => {
    refusesToRead("SizeLimit", () => reader("00000003 616263", { maxStringBytes: 2 }).readString())
    assert.strictEqual(reader("00000002 6162", { maxStringBytes: 2 }).readString(), "ab")
    refusesToRead("SizeLimit", () => reader("000000", { maxMessageBytes: 2 }))
    assert.strictEqual(reader("0000", { maxMessageBytes: 2 }).readI16(), 0)
    const twoLists = "02 00000002 0101 02 00000001 01"
    const over = reader(twoLists, { maxElements: 2 })
    over.readListBegin()
    over.readI16()
    refusesToRead("SizeLimit", () => over.readListBegin())
    const within = reader(twoLists, { maxElements: 3 })
    within.readListBegin()
    within.readI16()
    assert.strictEqual(within.readListBegin().size, 1)
  })

  it("structs and skipped containers deeper than the limit", () => {
    const structs = (depth: number) => "0c0001".repeat(depth - 1) + "00".repeat(depth)
    reader(structs(64)).skip(Type.STRUCT)
    refusesToRead("DepthLimit", () => reader(structs(65)).skip(Type.STRUCT))
    const lists = (depth: number) => "0f00000001".repeat(depth - 1) + "0f00000000"
    reader(lists(64)).skip(Type.LIST)
    refusesToRead("DepthLimit", () => reader(lists(65)).skip(Type.LIST))
    const maps = (depth: number) => "020d00000001" + "01020d00000001".repeat(depth - 2) + "01020d00000000"
    reader(maps(64)).skip(Type.MAP)
    refusesToRead("DepthLimit", () => reader(maps(65)).skip(Type.MAP))
    refusesToRead("DepthLimit", () => reader(structs(3), { maxDepth: 2 }).skip(Type.STRUCT))
  })

  it("starts afresh with the next message after one that it refused", () => {
    const one = new BinaryReader({ maxDepth: 1, maxElements: 1 })
    for (let i = 0; i < 3; i++) {
      refusesToRead("DepthLimit", () => one.reset(Buffer.from("0c00010000", "hex")).skip(Type.STRUCT))
      refusesToRead("SizeLimit", () => one.reset(Buffer.from("02000000020101", "hex")).readListBegin())
      assert.strictEqual(one.reset(Buffer.from("020000000101", "hex")).readListBegin().size, 1)
    }
  })
})

describe("what is skipped", () => {
  it("ends exactly behind a value of each type", () => {
    const values: ReadonlyArray<[number, string]> = [
      [Type.BOOL, "01"],
      [Type.BYTE, "ff"],
      [Type.DOUBLE, "3ff0000000000000"],
      [Type.I16, "0102"],
      [Type.I32, "01020304"],
      [Type.I64, "0102030405060708"],
      [Type.STRING, "00000002 6869"],
      [Type.STRUCT, "0b0001 00000001 61 0f0002 0c 00000002 00 020001 01 00 00"],
      [Type.MAP, "0b 08 00000002 00000001 61 00000001 00000000 00000002"],
      [Type.MAP, "08 02 00000002 00000001 01 00000002 00"],
      [Type.SET, "0b 00000001 00000000"],
      [Type.LIST, "0a 00000001 0102030405060708"],
      [Type.UUID, "00112233445566778899aabbccddeeff"]
    ]
    for (const [type, hex] of values) {
      const read = reader(`${hex} 2a`)
      read.skip(type)
      assert.strictEqual(read.readByte(), 42, `type ${type}`)
      refusesToRead("Truncated", () => reader(hex.slice(0, -1).trim().slice(0, -1)).skip(type))
    }
  })
})

describe("what a writer refuses", () => {
  it("numbers that their type cannot hold", () => {
    for (const value of [128, -129, 1.5, NaN, Infinity, "1.5", "", "a", undefined, null, true, {}]) {
      refusesToWrite("InvalidValue", () => written((w) => w.writeByte(value as number)))
    }
    for (const value of [32_768, -32_769, 0.5, NaN, "32768", undefined]) {
      refusesToWrite("InvalidValue", () => written((w) => w.writeI16(value as number)))
    }
    for (const value of [2_147_483_648, -2_147_483_649, 0.1, NaN, 1e300, "2147483648", "99999999999", undefined, 1n]) {
      refusesToWrite("InvalidValue", () => written((w) => w.writeI32(value as number)))
    }
    const i64 = [
      9_007_199_254_740_992,
      1.5,
      NaN,
      2n ** 63n,
      -(2n ** 63n) - 1n,
      "9223372036854775808",
      "0x10",
      "",
      "1.5"
    ]
    for (const value of [...i64, undefined, null, {}, { buffer: Buffer.alloc(7) }, new Int64(Buffer.alloc(8), 1)]) {
      refusesToWrite("InvalidValue", () => written((w) => w.writeI64(value as bigint)))
    }
    for (const value of ["", "a", "0x10", undefined, null, 1n]) {
      refusesToWrite("InvalidValue", () => written((w) => w.writeDouble(value as never)))
    }
  })

  it("values of another type", () => {
    for (const value of [0, 1, "", "yes", undefined, null]) {
      refusesToWrite("InvalidValue", () => written((w) => w.writeBool(value as never)))
    }
    for (const value of [1, undefined, null, {}, ["a"], new Float64Array(2)]) {
      refusesToWrite("InvalidValue", () => written((w) => w.writeString(value as string)))
      refusesToWrite("InvalidValue", () => written((w) => w.writeBinary(value as Uint8Array)))
    }
    refusesToWrite("InvalidValue", () => written((w) => w.writeBinary("é")))
    for (const value of ["", "00112233-4455-6677-8899-aabbccddeef", "g0112233-4455-6677-8899-aabbccddeeff", 1]) {
      refusesToWrite("InvalidValue", () => written((w) => w.writeUuid(value as string)))
    }
  })

  it("names the field", () => {
    const error = refusesToWrite("InvalidValue", () =>
      written((w) => {
        w.writeFieldBegin("count", Type.I32, 1)
        w.writeI32(1.5)
      }))
    assert.strictEqual(error.message, "field count: 1.5 is not an i32")
  })

  it("more than its limits allow", () => {
    refusesToWrite("SizeLimit", () => written((w) => w.writeString("abc"), { maxStringBytes: 2 }))
    refusesToWrite("SizeLimit", () => written((w) => w.writeString("éa"), { maxStringBytes: 2 }))
    refusesToWrite("SizeLimit", () => written((w) => w.writeString("a".repeat(101)), { maxStringBytes: 100 }))
    refusesToWrite("SizeLimit", () => written((w) => w.writeBinary(Buffer.alloc(3)), { maxStringBytes: 2 }))
    assert.strictEqual(written((w) => w.writeString("é"), { maxStringBytes: 2 }), "00000002c3a9")
    refusesToWrite("SizeLimit", () => written((w) => w.writeString("a".repeat(20)), { maxMessageBytes: 23 }))
    assert.strictEqual(written((w) => w.writeString("a".repeat(20)), { maxMessageBytes: 24 }).length, 48)
    refusesToWrite(
      "SizeLimit",
      () => written((w) => w.writeBinary(Buffer.alloc(100_000)), { maxMessageBytes: 100_003 })
    )
    assert.strictEqual(
      written((w) => w.writeBinary(Buffer.alloc(100_000)), { maxMessageBytes: 100_004 }).length,
      200_008
    )
    refusesToWrite("DepthLimit", () =>
      written((w) => {
        for (let i = 0; i < 65; i++) w.writeStructBegin("Deep")
      }))
  })
})

describe("messages of one writer", () => {
  it("do not touch each other, whatever their size, when one is dropped or refused in between", () => {
    const writer = new BinaryWriter()
    const sizes = [1, 40_000, 30_000, 3, 200_000, 65_532, 65_533, 10, 100, 66_000, 7]
    const taken = sizes.map((size, i) => {
      writer.writeBinary(Buffer.alloc(10, 0xee))
      writer.reset()
      refusesToWrite("InvalidValue", () => {
        writer.writeBinary(Buffer.alloc(20_000, 0xdd))
        writer.writeI32(0.5)
      })
      writer.reset()
      writer.writeBinary(Buffer.alloc(size, i))
      return writer.take()
    })
    for (const [i, size] of sizes.entries()) {
      const expected = Buffer.concat([Buffer.alloc(4), Buffer.alloc(size, i)])
      expected.writeInt32BE(size)
      assert.isTrue(taken[i]!.equals(expected), `message ${i}`)
    }
  })
})
