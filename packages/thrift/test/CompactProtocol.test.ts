// The bytes of the compact protocol as its specification gives them, and what its reader and writer refuse.
import Int64 from "node-int64"
import { assert, describe, it } from "vitest"
import {
  CompactReader,
  CompactWriter,
  encodeApplicationException,
  type Limits,
  MessageType,
  ThriftApplicationException,
  Type
} from "../src/index.ts"
import { compilers, methodOf, plain } from "./generated.ts"
import { refusesToRead, refusesToWrite } from "./refusals.ts"

const written = (write: (writer: CompactWriter) => void, options?: Limits): string => {
  const writer = new CompactWriter(options)
  write(writer)
  return writer.take().toString("hex")
}

const hexOf = (text: string): string => text.replaceAll(" ", "")

const reader = (hex: string, options?: Limits): CompactReader =>
  new CompactReader(options).reset(Buffer.from(hexOf(hex), "hex"))

describe("values of the compact protocol", () => {
  it("are integers as zigzag varints, save for an i8", () => {
    const cases: ReadonlyArray<["writeByte" | "writeI16" | "writeI32", number, string]> = [
      ["writeByte", 127, "7f"],
      ["writeByte", -128, "80"],
      ["writeByte", -1, "ff"],
      ["writeI16", 0, "00"],
      ["writeI16", -1, "01"],
      ["writeI16", 1, "02"],
      ["writeI16", 63, "7e"],
      ["writeI16", -64, "7f"],
      ["writeI16", 64, "8001"],
      ["writeI16", -65, "8101"],
      ["writeI16", 32_767, "feff03"],
      ["writeI16", -32_768, "ffff03"],
      ["writeI32", -25_200, "df8903"],
      ["writeI32", 8191, "fe7f"],
      ["writeI32", 8192, "808001"],
      ["writeI32", 2_147_483_647, "feffffff0f"],
      ["writeI32", -2_147_483_648, "ffffffff0f"]
    ]
    for (const [write, value, hex] of cases) {
      assert.strictEqual(written((w) => w[write](value)), hex, `${write} ${value}`)
      assert.strictEqual(written((w) => w[write](String(value))), hex)
      const read = write.replace("write", "read") as "readByte" | "readI16" | "readI32"
      assert.strictEqual(reader(hex)[read](), value)
    }
  })

  it("are 64-bit integers with all their bits, from a number, a bigint, an Int64 at an offset, or digits", () => {
    const cases: ReadonlyArray<[bigint, string]> = [
      [0n, "00"],
      [-1n, "01"],
      [1n, "02"],
      [-64n, "7f"],
      [64n, "8001"],
      [2_147_483_647n, "feffffff0f"],
      [-2_147_483_648n, "ffffffff0f"],
      [2_147_483_648n, "8080808010"],
      [4_294_967_295n, "feffffff1f"],
      [4_294_967_296n, "8080808020"],
      [-4_294_967_297n, "8180808020"],
      [9_007_199_254_740_991n, "feffffffffffff1f"],
      [9_007_199_254_740_992n, "8080808080808020"],
      [-9_007_199_254_740_992n, "ffffffffffffff1f"],
      [-9_007_199_254_740_993n, "8180808080808020"],
      [9_223_372_036_854_775_807n, "feffffffffffffffff01"],
      [-9_223_372_036_854_775_808n, "ffffffffffffffffff01"]
    ]
    for (const [value, hex] of cases) {
      const shifted = Buffer.alloc(11)
      shifted.writeBigInt64BE(value, 3)
      assert.strictEqual(written((w) => w.writeI64(value)), hex, String(value))
      assert.strictEqual(written((w) => w.writeI64(new Int64(shifted, 3))), hex)
      assert.strictEqual(written((w) => w.writeI64(String(value))), hex)
      if (Number.isSafeInteger(Number(value))) assert.strictEqual(written((w) => w.writeI64(Number(value))), hex)
      const read = reader(hex).readI64()
      assert.instanceOf(read, Int64)
      assert.strictEqual(plain(read), value)
      assert.strictEqual(String(read), String(value), "as a property name it keeps every digit")
    }
  })

  it("are doubles to the bit, the least byte first", () => {
    const cases: ReadonlyArray<[number, string]> = [
      [0, "0000000000000000"],
      [-0, "0000000000000080"],
      [1, "000000000000f03f"],
      [-1.5, "000000000000f8bf"],
      [Infinity, "000000000000f07f"],
      [-Infinity, "000000000000f0ff"],
      [NaN, "000000000000f87f"],
      [5e-324, "0100000000000000"]
    ]
    for (const [value, hex] of cases) {
      assert.strictEqual(written((w) => w.writeDouble(value)), hex)
      assert.isTrue(Object.is(reader(hex).readDouble(), value))
    }
  })

  it("are strings as UTF-8 behind their length, on both sides of the writer's short path", () => {
    assert.strictEqual(written((w) => w.writeString("")), "00")
    assert.strictEqual(written((w) => w.writeString("hi")), "026869")
    assert.strictEqual(written((w) => w.writeString("é")), "02c3a9")
    assert.strictEqual(written((w) => w.writeString("👋")), "04f09f918b")
    assert.strictEqual(written((w) => w.writeString("\ud800")), "03efbfbd")
    for (const [length, prefix] of [[127, "7f"], [128, "8001"], [16_383, "ff7f"], [70_000, "f0a204"]] as const) {
      const hex = written((w) => w.writeString("a".repeat(length)))
      assert.strictEqual(hex, prefix + "61".repeat(length))
    }
    for (const unit of ["a", "é", "你", "👋", "aé"]) {
      for (const times of [1, 7, 8, 9, 12, 24, 25, 42, 43, 64, 1000, 70_000]) {
        const text = unit.repeat(times)
        assert.strictEqual(reader(written((w) => w.writeString(text))).readString(), text)
      }
    }
    assert.strictEqual(reader("01 ff").readString(), "\ufffd")
  })

  it("are binaries behind their length, with memory of their own when they are read", () => {
    for (const length of [0, 1, 64, 127, 128, 5000]) {
      const bytes = Buffer.alloc(length, 200)
      const hex = written((w) => w.writeBinary(bytes))
      assert.isTrue(hex.endsWith(bytes.toString("hex")))
      const message = Buffer.from(hex, "hex")
      const read = new CompactReader().reset(message).readBinary()
      message.fill(0)
      assert.deepStrictEqual(read, bytes)
      assert.strictEqual(read.buffer.byteLength, length)
    }
    assert.strictEqual(written((w) => w.writeBinary("ab")), "026162")
  })

  it("are bools as elements, and what older writers made of false", () => {
    assert.strictEqual(written((w) => (w.writeBool(true), w.writeBool(false), w.writeBool("false"))), "010202")
    assert.deepStrictEqual(["01", "02", "00"].map((hex) => reader(hex).readBool()), [true, false, false])
  })

  it("are uuids as their 16 bytes", () => {
    const uuid = "00112233-4455-6677-8899-aabbccddeeff"
    const hex = "00112233445566778899aabbccddeeff"
    assert.strictEqual(written((w) => w.writeUuid(uuid.toUpperCase())), hex)
    assert.strictEqual(reader(hex).readUuid(), uuid)
  })
})

describe("headers of the compact protocol", () => {
  it("have the kind and the version in one byte, and the sequence id without zigzag", () => {
    const cases: ReadonlyArray<[number, number, string]> = [
      [MessageType.CALL, 7, "82 21 07 04 70696e67"],
      [MessageType.REPLY, 300, "82 41 ac02 04 70696e67"],
      [MessageType.EXCEPTION, 2_147_483_647, "82 61 ffffffff07 04 70696e67"],
      [MessageType.ONEWAY, -1, "82 81 ffffffff0f 04 70696e67"]
    ]
    for (const [type, id, hex] of cases) {
      assert.strictEqual(written((w) => w.writeMessageBegin("ping", type, id)), hexOf(hex))
      assert.deepStrictEqual(reader(hex).readMessageBegin(), { fname: "ping", mtype: type, rseqid: id })
    }
    for (const hex of ["80 21 07 00", "82 22 07 00", "82 20 07 00", "80010001 00000000 00000000"]) {
      assert.strictEqual(refusesToRead("BadVersion", () => reader(hex).readMessageBegin()).offset, 0)
    }
  })

  it("have a field's id as its distance from the last, when that is 1 to 15", () => {
    const fields: ReadonlyArray<readonly [number, number]> = [
      [Type.I32, 1],
      [Type.I32, 16],
      [Type.STRING, 15],
      [Type.STRUCT, 31],
      [Type.LIST, 32_767],
      [Type.MAP, -1],
      [Type.SET, 0]
    ]
    const hex = hexOf("15 f5 08 1e 0c 3e 09 feff03 0b 01 1a 00")
    const all = written((w) => {
      for (const [type, id] of fields) w.writeFieldBegin("x", type, id)
      w.writeFieldStop()
    })
    assert.strictEqual(all, hex)
    const read = reader(hex)
    for (const [ftype, fid] of fields) assert.deepStrictEqual(read.readFieldBegin(), { fname: null, ftype, fid })
    assert.deepStrictEqual(read.readFieldBegin(), { fname: null, ftype: Type.STOP, fid: 0 })
  })

  it("count a struct's fields from 0, and go on behind it where the outer one was", () => {
    const hex = "3c 17 0000000000000000 00 13 05 00"
    const write = (w: CompactWriter) => {
      w.writeStructBegin("Outer")
      w.writeFieldBegin("inner", Type.STRUCT, 3)
      w.writeStructBegin("Inner")
      w.writeFieldBegin("real", Type.DOUBLE, 1)
      w.writeDouble(0)
      w.writeFieldStop()
      w.writeStructEnd()
      w.writeFieldBegin("tiny", Type.BYTE, 4)
      w.writeByte(5)
      w.writeFieldStop()
      w.writeStructEnd()
    }
    assert.strictEqual(written(write), hexOf(hex))
    const read = reader(hex)
    read.readStructBegin()
    assert.strictEqual(read.readFieldBegin().fid, 3)
    read.skip(Type.STRUCT)
    assert.deepStrictEqual(read.readFieldBegin(), { fname: null, ftype: Type.BYTE, fid: 4 })
  })

  it("hold a bool field's value", () => {
    const hex = "11 12 01 24 02 01 00"
    const cases: ReadonlyArray<readonly [number, boolean]> = [[1, true], [2, false], [18, true], [-1, false]]
    const all = written((w) => {
      for (const [id, value] of cases) {
        w.writeFieldBegin("flag", Type.BOOL, id)
        w.writeBool(value)
      }
      w.writeFieldStop()
    })
    assert.strictEqual(all, hexOf(hex))
    const read = reader(hex)
    for (const [fid, value] of cases) {
      assert.deepStrictEqual(read.readFieldBegin(), { fname: null, ftype: Type.BOOL, fid })
      assert.strictEqual(read.readBool(), value)
    }
    const skipped = reader(`${hex} 2a`)
    skipped.skip(Type.STRUCT)
    assert.strictEqual(skipped.readByte(), 42)
  })

  it("have a list's size and type in one byte below 15", () => {
    const cases: ReadonlyArray<readonly [number, number, string]> = [
      [Type.I32, 0, "05"],
      [Type.BOOL, 3, "31"],
      [Type.BYTE, 14, "e3"],
      [Type.I16, 15, "f40f"],
      [Type.UUID, 2, "2d"],
      [Type.I64, 300, "f6ac02"]
    ]
    for (const [etype, size, hex] of cases) {
      assert.strictEqual(written((w) => w.writeListBegin(etype, size)), hex)
      assert.strictEqual(written((w) => w.writeSetBegin(etype, size)), hex)
      const bytes = hex + "00".repeat(size * 16)
      assert.deepStrictEqual(reader(bytes).readListBegin(), { etype, size })
      assert.deepStrictEqual(reader(bytes).readSetBegin(), { etype, size })
    }
    assert.deepStrictEqual(reader("12 02").readListBegin(), { etype: Type.BOOL, size: 1 }, "the type of the old text")
  })

  it("have a map's types only when it has entries", () => {
    assert.strictEqual(written((w) => w.writeMapBegin(Type.STRING, Type.STRUCT, 0)), "00")
    assert.strictEqual(written((w) => w.writeMapBegin(Type.STRING, Type.STRUCT, 3)), "038c")
    assert.strictEqual(written((w) => w.writeMapBegin(Type.BOOL, Type.UUID, 200)), "c8011d")
    assert.deepStrictEqual(reader("00").readMapBegin(), { ktype: 0, vtype: 0, size: 0 })
    assert.deepStrictEqual(reader("01 8c 00 00").readMapBegin(), { ktype: Type.STRING, vtype: Type.STRUCT, size: 1 })
  })
})

describe.each(compilers)("messages of compiler $compiler in the compact protocol", ({ echo, i64, types }) => {
  const writer = new CompactWriter()

  it("are a call, its reply, a declared exception and an application exception", () => {
    const message = new types.Message({ text: "hi", number: i64(12n), items: [1, 2, 3, 4] })
    const struct = "1802686916181945020406080000"
    const pass = methodOf(echo, "passMessage")
    pass.encodeCall(7, [message], writer)
    assert.strictEqual(writer.take().toString("hex"), hexOf(`82 21 07 0b 706173734d657373616765 1c ${struct}`))
    pass.encodeResult(7, message, writer)
    assert.strictEqual(writer.take().toString("hex"), hexOf(`82 41 07 0b 706173734d657373616765 0c 00 ${struct}`))
    const note = methodOf(echo, "note")
    note.encodeCall(8, ["x"], writer)
    assert.strictEqual(writer.take().toString("hex"), hexOf("82 81 08 04 6e6f7465 18 01 78 00"))
    const fail = methodOf(echo, "fail")
    assert.isTrue(fail.encodeException(9, new types.Refused({ why: "no" }), writer))
    assert.strictEqual(writer.take().toString("hex"), hexOf("82 41 09 04 6661696c 1c 18 02 6e6f 00 00"))
    encodeApplicationException("nope", 1, new ThriftApplicationException({ type: 1, message: "?" }), writer)
    assert.strictEqual(writer.take().toString("hex"), hexOf("82 61 01 04 6e6f7065 18 01 3f 15 02 00"))
  })
})

describe("a compact reader refuses", () => {
  it("integers that are longer than their type, or larger", () => {
    refusesToRead("Malformed", () => reader("ffffffff1f").readI32())
    refusesToRead("Malformed", () => reader("8080808080 00").readI32())
    refusesToRead("Malformed", () => reader("80800400").readI16())
    refusesToRead("Malformed", () => reader("ffffffffffffffffff02").readI64())
    refusesToRead("Malformed", () => reader("80808080808080808080 00").readI64())
    refusesToRead("Malformed", () => reader("ffffffffffffffffff7f").skip(Type.I64))
    refusesToRead("Malformed", () => reader("05 808004").readFieldBegin())
    const past = reader("05 feff03 15")
    past.readFieldBegin()
    refusesToRead("Malformed", () => past.readFieldBegin())
    for (const hex of ["", "80", "808080", "80808080"]) refusesToRead("Truncated", () => reader(hex).readI32())
    refusesToRead("Truncated", () => reader("808080808080808080").readI64())
  })

  it("lengths and sizes beyond the bytes that are left, before it allocates", () => {
    refusesToRead("Truncated", () => reader("02 00").readString())
    refusesToRead("Truncated", () => reader("ffff3f 00").readBinary())
    refusesToRead("SizeLimit", () => reader("ffffffff07 00").readBinary())
    refusesToRead("Truncated", () => reader("27 0000000000000000 00000000000000").readListBegin())
    refusesToRead("Truncated", () => reader("fc ffffffff07 00").readListBegin())
    refusesToRead("Truncated", () => reader("02 88 000000").readMapBegin())
    refusesToRead("Truncated", () => reader("ffffffff07 88 000000").skip(Type.MAP))
    refusesToRead("NegativeSize", () => reader("ffffffff0f").readString())
    refusesToRead("NegativeSize", () => reader("f5 ffffffff0f").readListBegin())
    refusesToRead("NegativeSize", () => reader("8080808008 55").skip(Type.MAP))
  })

  it("types that do not exist", () => {
    for (const type of [0, 14, 15]) {
      refusesToRead("UnknownType", () => reader(`${(16 + type).toString(16)} 00`).readListBegin())
      if (type !== 0) refusesToRead("UnknownType", () => reader(`${(16 + type).toString(16)} 00`).readFieldBegin())
    }
    refusesToRead("UnknownType", () => reader("01 50 0000").readMapBegin())
    refusesToRead("UnknownType", () => reader("01 0500 0000").readMapBegin())
    for (const type of [1, 5, 17, 255]) refusesToRead("UnknownType", () => reader("0000").skip(type))
  })

  it("more than its limits allow", () => {
    refusesToRead("SizeLimit", () => reader("03 616263", { maxStringBytes: 2 }).readString())
    refusesToRead("SizeLimit", () => reader("03 616263", { maxStringBytes: 2 }).skip(Type.STRING))
    refusesToRead("SizeLimit", () => reader("000000", { maxMessageBytes: 2 }))
    refusesToRead("SizeLimit", () => reader("23 0101", { maxElements: 1 }).readListBegin())
    refusesToRead("SizeLimit", () => reader("02 33 01010101", { maxElements: 1 }).readMapBegin())
    const structs = (depth: number) => "1c".repeat(depth - 1) + "00".repeat(depth)
    reader(structs(64)).skip(Type.STRUCT)
    refusesToRead("DepthLimit", () => reader(structs(65)).skip(Type.STRUCT))
    const lists = (depth: number) => "19".repeat(depth - 1) + "09"
    reader(lists(64)).skip(Type.LIST)
    refusesToRead("DepthLimit", () => reader(lists(65)).skip(Type.LIST))
  })

  it("starts afresh with the next message after one that it refused", () => {
    const one = new CompactReader({ maxDepth: 1 })
    for (let i = 0; i < 3; i++) {
      refusesToRead("DepthLimit", () => one.reset(Buffer.from("5c1c00", "hex")).skip(Type.STRUCT))
      assert.strictEqual(one.reset(Buffer.from("15", "hex")).readFieldBegin().fid, 1)
      one.reset(Buffer.from("11", "hex")).readFieldBegin()
      assert.isFalse(one.reset(Buffer.from("02", "hex")).readBool())
    }
  })
})

describe("a compact reader skips", () => {
  it("exactly a value of each type", () => {
    const values: ReadonlyArray<[number, string]> = [
      [Type.BOOL, "01"],
      [Type.BYTE, "ff"],
      [Type.DOUBLE, "000000000000f03f"],
      [Type.I16, "ffff03"],
      [Type.I32, "ffffffff0f"],
      [Type.I64, "ffffffffffffffffff01"],
      [Type.STRING, "026869"],
      [Type.STRUCT, "18 01 61 19 2c 00 11 00 11 00"],
      [Type.MAP, "02 85 01 61 01 00 02"],
      [Type.MAP, "00"],
      [Type.SET, "21 01 02"],
      [Type.LIST, "1d 00112233445566778899aabbccddeeff"],
      [Type.UUID, "00112233445566778899aabbccddeeff"]
    ]
    for (const [type, hex] of values) {
      const read = reader(`${hex} 2a`)
      read.skip(type)
      assert.strictEqual(read.readByte(), 42, `type ${type}`)
      refusesToRead("Truncated", () => reader(hexOf(hex).slice(0, -2)).skip(type))
    }
  })
})

describe("a compact writer refuses", () => {
  it("values that their type cannot hold, and names the field", () => {
    for (const value of [128, 1.5, NaN, "a", undefined]) {
      refusesToWrite("InvalidValue", () => written((w) => w.writeByte(value as number)))
    }
    refusesToWrite("InvalidValue", () => written((w) => w.writeI16(32_768)))
    refusesToWrite("InvalidValue", () => written((w) => w.writeI32(2_147_483_648)))
    for (const value of [2 ** 53, 2n ** 63n, "9223372036854775808", undefined, { buffer: Buffer.alloc(7) }]) {
      refusesToWrite("InvalidValue", () => written((w) => w.writeI64(value as bigint)))
    }
    refusesToWrite("InvalidValue", () => written((w) => w.writeDouble("x")))
    refusesToWrite("InvalidValue", () => written((w) => w.writeBinary("é")))
    refusesToWrite("InvalidValue", () => written((w) => w.writeUuid("0")))
    refusesToWrite("InvalidValue", () => written((w) => w.writeListBegin(1, 1)))
    const error = refusesToWrite("InvalidValue", () =>
      written((w) => {
        w.writeFieldBegin("flag", Type.BOOL, 1)
        w.writeBool("yes")
      }))
    assert.strictEqual(error.message, `field flag: "yes" is not a bool`)
  })

  it("more than its limits allow, and takes what just fits", () => {
    for (const text of ["abc", "éa", "a".repeat(100)]) {
      const bytes = Buffer.byteLength(text)
      refusesToWrite("SizeLimit", () => written((w) => w.writeString(text), { maxStringBytes: bytes - 1 }))
      refusesToWrite("SizeLimit", () => written((w) => w.writeString(text), { maxMessageBytes: bytes }))
      assert.strictEqual(
        written((w) => w.writeString(text), { maxStringBytes: bytes, maxMessageBytes: bytes + 1 }).length,
        2 * bytes + 2
      )
    }
    refusesToWrite("SizeLimit", () => written((w) => w.writeBinary(Buffer.alloc(3)), { maxStringBytes: 2 }))
    refusesToWrite("DepthLimit", () =>
      written((w) => {
        for (let i = 0; i < 65; i++) w.writeStructBegin("Deep")
      }))
  })

  it("one message, and writes the next as if it had not begun", () => {
    const writer = new CompactWriter()
    for (let i = 0; i < 3; i++) {
      refusesToWrite("InvalidValue", () => {
        writer.writeMessageBegin("m", 1, 1)
        writer.writeStructBegin("S")
        writer.writeFieldBegin("a", Type.I32, 9)
        writer.writeFieldBegin("b", Type.BOOL, 10)
        writer.writeI32(0.5)
      })
      writer.reset()
      writer.writeBool(true)
      writer.writeFieldBegin("a", Type.BYTE, 1)
      assert.strictEqual(writer.take().toString("hex"), "0113")
      writer.reset()
    }
  })
})
