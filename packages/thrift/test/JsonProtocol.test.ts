// The text of the JSON protocol as Apache's libraries write it, what else is read, and what its reader and writer refuse.
import Int64 from "node-int64"
import { assert, describe, it } from "vitest"
import {
  encodeApplicationException,
  JsonReader,
  JsonWriter,
  type Limits,
  MessageType,
  ThriftApplicationException,
  Type
} from "../src/index.ts"
import { compilers, methodOf, plain } from "./generated.ts"
import { refusesToRead, refusesToWrite } from "./refusals.ts"

const written = (write: (writer: JsonWriter) => void, options?: Limits): string => {
  const writer = new JsonWriter(options)
  write(writer)
  return writer.take().toString()
}

const reader = (text: string | Uint8Array, options?: Limits): JsonReader =>
  new JsonReader(options).reset(Buffer.from(text as string))

/** Reads the one element of a list of this type. */
const element = <A>(type: string, text: string, read: (reader: JsonReader) => A, options?: Limits): A => {
  const one = reader(`["${type}",1,${text}]`, options)
  one.readListBegin()
  const value = read(one)
  one.readListEnd()
  return value
}

/** Reads the one key of a map of this type. */
const key = <A>(type: string, text: string, read: (reader: JsonReader) => A): A => {
  const one = reader(`["${type}","i8",1,{${text}:1}]`)
  one.readMapBegin()
  const value = read(one)
  assert.strictEqual(one.readByte(), 1)
  one.readMapEnd()
  return value
}

const i64s: ReadonlyArray<bigint> = [
  0n,
  -1n,
  999_999_999_999_999n,
  -999_999_999_999_999n,
  1_000_000_000_000_000n,
  4_294_967_296n,
  -4_294_967_297n,
  9_007_199_254_740_991n,
  9_007_199_254_740_992n,
  9_007_199_254_740_993n,
  -9_007_199_254_740_991n,
  -9_007_199_254_740_992n,
  -9_007_199_254_740_993n,
  9_223_372_036_854_775_807n,
  -9_223_372_036_854_775_808n
]

describe("values of the JSON protocol", () => {
  it("are integers of every width at their limits, in quotes as the key of a map", () => {
    const cases: ReadonlyArray<["Byte" | "I16" | "I32", string, ReadonlyArray<number>]> = [
      ["Byte", "i8", [0, 127, -128]],
      ["I16", "i16", [32_767, -32_768]],
      ["I32", "i32", [2_147_483_647, -2_147_483_648]]
    ]
    for (const [width, type, values] of cases) {
      for (const value of values) {
        assert.strictEqual(written((w) => w[`write${width}`](value)), String(value))
        assert.strictEqual(written((w) => w[`write${width}`](String(value))), String(value))
        assert.strictEqual(element(type, String(value), (r) => r[`read${width}`]()), value)
        assert.strictEqual(key(type, `"${value}"`, (r) => r[`read${width}`]()), value)
      }
      assert.isTrue(Object.is(element(type, "-0", (r) => r[`read${width}`]()), 0))
    }
  })

  it("are 64-bit integers with all their digits", () => {
    for (const value of i64s) {
      const shifted = Buffer.alloc(11)
      shifted.writeBigInt64BE(value, 3)
      const text = String(value)
      assert.strictEqual(written((w) => w.writeI64(value)), text)
      assert.strictEqual(written((w) => w.writeI64(new Int64(shifted, 3))), text)
      assert.strictEqual(written((w) => w.writeI64(text)), text)
      if (Number.isSafeInteger(Number(value))) assert.strictEqual(written((w) => w.writeI64(Number(value))), text)
      const read = element("i64", text, (r) => r.readI64())
      assert.instanceOf(read, Int64)
      assert.strictEqual(plain(read), value)
      assert.strictEqual(String(key("i64", `"${text}"`, (r) => r.readI64())), text)
    }
    assert.strictEqual(plain(element("i64", "-0", (r) => r.readI64())), 0n)
    assert.strictEqual(plain(element("i64", "0000000000000000000000012", (r) => r.readI64())), 12n)
  })

  it("are doubles to the bit; -0 has a sign, and what is no number is in quotes", () => {
    const cases: ReadonlyArray<readonly [number, string]> = [
      [0, "0"],
      [-0, "-0.0"],
      [1.5, "1.5"],
      [-1.5e300, "-1.5e+300"],
      [5e-324, "5e-324"],
      [0.1 + 0.2, "0.30000000000000004"],
      [NaN, "\"NaN\""],
      [Infinity, "\"Infinity\""],
      [-Infinity, "\"-Infinity\""]
    ]
    for (const [value, text] of cases) {
      assert.strictEqual(written((w) => w.writeDouble(value)), text)
      assert.isTrue(Object.is(element("dbl", text, (r) => r.readDouble()), value))
      const quoted = text.startsWith("\"") ? text : `"${text}"`
      assert.isTrue(Object.is(key("dbl", quoted, (r) => r.readDouble()), value))
    }
    const others: ReadonlyArray<readonly [string, number]> = [
      ["-0", -0],
      ["1E5", 100_000],
      ["1.0", 1],
      ["0.1000000000000000055511151231257827021181583404541015625", 0.1],
      ["NaN", NaN],
      ["Infinity", Infinity],
      ["-Infinity", -Infinity],
      ["nan", NaN],
      ["inf", Infinity],
      ["-inf", -Infinity]
    ]
    for (const [text, value] of others) {
      assert.isTrue(Object.is(element("dbl", text, (r) => r.readDouble()), value), text)
    }
  })

  it("are strings with JSON's escapes, on both sides of the writer's short path", () => {
    const cases: ReadonlyArray<readonly [string, string]> = [
      ["", "\"\""],
      ["hi/there", "\"hi/there\""],
      ["\"\\\b\f\n\r\t", String.raw`"\"\\\b\f\n\r\t"`],
      ["\0\u001f", String.raw`"\u0000\u001f"`],
      ["é你👋\u2028\u007f", "\"é你👋\u2028\u007f\""]
    ]
    for (const [value, text] of cases) {
      assert.strictEqual(written((w) => w.writeString(value)), text)
      assert.strictEqual(element("str", text, (r) => r.readString()), value)
      assert.strictEqual(key("str", text, (r) => r.readString()), value)
    }
    for (const unit of ["a", "\"", "é", "你", "👋", "a\n\\é"]) {
      for (const times of [1, 8, 9, 24, 25, 100, 70_000]) {
        const text = unit.repeat(times)
        const json = written((w) => w.writeString(text))
        assert.strictEqual(JSON.parse(json), text)
        assert.strictEqual(element("str", json, (r) => r.readString()), text)
      }
    }
    assert.strictEqual(written((w) => w.writeString(Buffer.from("é\""))), "\"é\\\"\"")
    assert.strictEqual(written((w) => w.writeString("\ud800")), "\"\ufffd\"")
  })

  it("are strings with escapes that we do not write", () => {
    const cases: ReadonlyArray<readonly [string, string]> = [
      [String.raw`"\/"`, "/"],
      [String.raw`"\u00e9\u4F60x"`, "é你x"],
      [String.raw`"\ud83d\udc4b!"`, "👋!"],
      [String.raw`"\ud83d"`, "\ufffd"],
      [String.raw`"\ud83d\n"`, "\ufffd\n"],
      [String.raw`"\ud83d\u0041"`, "\ufffdA"],
      [String.raw`"\ud83d\ue000"`, "\ufffd\ue000"],
      [String.raw`"\udc4b\ud83d\udc4b"`, "\ufffd👋"],
      ["\"\n\u0001\"", "\n\u0001"]
    ]
    for (const [text, value] of cases) assert.strictEqual(element("str", text, (r) => r.readString()), value, text)
    const invalid = reader(Buffer.from("5b22737472222c312c22ff225d", "hex"))
    invalid.readListBegin()
    assert.strictEqual(invalid.readString(), "\ufffd")
  })

  it("are binaries in base64, read with padding and without, with memory of their own", () => {
    for (const length of [0, 1, 2, 3, 4, 64, 65, 5000]) {
      const bytes = Buffer.from(Uint8Array.from({ length }, (_, i) => i * 7))
      const base64 = bytes.toString("base64")
      assert.strictEqual(written((w) => w.writeBinary(bytes)), `"${base64}"`)
      for (const text of [base64, base64.replaceAll("=", ""), base64.replaceAll("/", "\\/")]) {
        const read = element("str", `"${text}"`, (r) => r.readBinary())
        assert.deepStrictEqual(read, bytes)
        assert.strictEqual(read.buffer.byteLength, length)
      }
    }
    assert.strictEqual(written((w) => w.writeBinary("ab")), "\"YWI=\"")
    const middle = new Uint8Array([9, 97, 98, 9]).subarray(1, 3)
    assert.strictEqual(written((w) => w.writeBinary(middle)), "\"YWI=\"")
  })

  it("are bools as numbers", () => {
    assert.deepStrictEqual([true, "true", false, "false"].map((v) => written((w) => w.writeBool(v))), [
      "1",
      "1",
      "0",
      "0"
    ])
    assert.deepStrictEqual(["1", "0"].map((text) => element("tf", text, (r) => r.readBool())), [true, false])
    assert.deepStrictEqual(["\"1\"", "\"0\""].map((text) => key("tf", text, (r) => r.readBool())), [true, false])
  })

  it("are uuids in their usual form", () => {
    const uuid = "00112233-4455-6677-8899-aabbccddeeff"
    assert.strictEqual(written((w) => w.writeUuid(uuid.toUpperCase())), `"${uuid}"`)
    assert.strictEqual(element("uid", `"${uuid.toUpperCase()}"`, (r) => r.readUuid()), uuid)
  })
})

describe("containers of the JSON protocol", () => {
  it("have their types and sizes before their elements", () => {
    const list = (w: JsonWriter) => {
      w.writeListBegin(Type.I32, 2)
      w.writeI32(1)
      w.writeI32(2)
      w.writeListEnd()
    }
    assert.strictEqual(written(list), `["i32",2,1,2]`)
    assert.strictEqual(
      written((w) => {
        w.writeSetBegin(Type.LIST, 2)
        list(w)
        list(w)
        w.writeSetEnd()
      }),
      `["lst",2,["i32",2,1,2],["i32",2,1,2]]`
    )
    assert.strictEqual(
      written((w) => {
        w.writeMapBegin(Type.I64, Type.MAP, 2)
        w.writeI64(1n)
        w.writeMapBegin(Type.BOOL, Type.DOUBLE, 1)
        w.writeBool("true")
        w.writeDouble(0.5)
        w.writeMapEnd()
        w.writeI64(2n)
        w.writeMapBegin(Type.DOUBLE, Type.STRING, 0)
        w.writeMapEnd()
        w.writeMapEnd()
      }),
      `["i64","map",2,{"1":["tf","dbl",1,{"1":0.5}],"2":["dbl","str",0,{}]}]`
    )
  })

  it("are read so, with white space anywhere between tokens", () => {
    const text = " [ \"map\" ,\n\t1 , [ \"str\" , \"set\" , 1 , { \"a\" : [ \"tf\" , 0 ] } ] ] "
    const read = reader(text)
    assert.deepStrictEqual(read.readListBegin(), { etype: Type.MAP, size: 1 })
    assert.deepStrictEqual(read.readMapBegin(), { ktype: Type.STRING, vtype: Type.SET, size: 1 })
    assert.strictEqual(read.readString(), "a")
    assert.deepStrictEqual(read.readSetBegin(), { etype: Type.BOOL, size: 0 })
    read.readSetEnd()
    read.readMapEnd()
    read.readListEnd()
    assert.strictEqual(read.position, text.trimEnd().length)
  })
})

describe("messages of the JSON protocol", () => {
  it("begin with version, name, kind and sequence id", () => {
    for (const type of Object.values(MessageType)) {
      const begin = written((w) => w.writeMessageBegin("pi\"ng", type, -7))
      assert.strictEqual(begin, `[1,"pi\\"ng",${type},-7,`)
      assert.deepStrictEqual(reader(begin).readMessageBegin(), { fname: "pi\"ng", mtype: type, rseqid: -7 })
    }
    for (const version of ["0", "2", "11"]) {
      refusesToRead("BadVersion", () => reader(`[${version},"ping",1,0,{}]`).readMessageBegin())
    }
  })

  describe.each(compilers)("of compiler $compiler", ({ echo, i64, types }) => {
    it("are a call, its reply, a declared exception and an application exception", () => {
      const writer = new JsonWriter()
      const message = new types.Message({ text: "hi", number: i64(12n), items: [1, 2, 3, 4] })
      const struct = `{"rec":{"1":{"str":"hi"},"2":{"i64":12},"3":{"lst":["i32",4,1,2,3,4]}}}`
      const pass = methodOf(echo, "passMessage")
      pass.encodeCall(7, [message], writer)
      assert.strictEqual(writer.take().toString(), `[1,"passMessage",1,7,{"1":${struct}}]`)
      pass.encodeResult(7, message, writer)
      assert.strictEqual(writer.take().toString(), `[1,"passMessage",2,7,{"0":${struct}}]`)
      methodOf(echo, "note").encodeCall(8, ["x"], writer)
      assert.strictEqual(writer.take().toString(), `[1,"note",4,8,{"1":{"str":"x"}}]`)
      methodOf(echo, "ping").encodeCall(9, [], writer)
      assert.strictEqual(writer.take().toString(), `[1,"ping",1,9,{}]`)
      assert.isTrue(methodOf(echo, "fail").encodeException(9, new types.Refused({ why: "no" }), writer))
      assert.strictEqual(writer.take().toString(), `[1,"fail",2,9,{"1":{"rec":{"1":{"str":"no"}}}}]`)
      encodeApplicationException("nope", 1, new ThriftApplicationException({ type: 1, message: "?" }), writer)
      assert.strictEqual(writer.take().toString(), `[1,"nope",3,1,{"1":{"str":"?"},"2":{"i32":1}}]`)
    })
  })
})

describe("a JSON reader refuses", () => {
  it("numbers that their type cannot hold, or that are none", () => {
    for (const text of ["128", "-129", "1.0", "1e1", "true", "\"1\"", "+1", "", "-", "null"]) {
      refusesToRead("Malformed", () => element("i8", text, (r) => r.readByte()))
    }
    refusesToRead("Malformed", () => element("i16", "32768", (r) => r.readI16()))
    refusesToRead("Malformed", () => element("i32", "2147483648", (r) => r.readI32()))
    for (const text of ["9223372036854775808", "-9223372036854775809", "1".repeat(1000), "1.5"]) {
      refusesToRead("Malformed", () => element("i64", text, (r) => r.readI64()))
    }
    for (const text of ["\"1\"", "nans", "+inf", "1.", ".5", "1e", "0x10", "--1", "\"\"", "true", "[]"]) {
      refusesToRead("Malformed", () => element("dbl", text, (r) => r.readDouble()))
    }
    refusesToRead("Malformed", () => key("i32", "1", (r) => r.readI32()))
    refusesToRead("Malformed", () => key("dbl", "1", (r) => r.readDouble()))
    for (const text of ["[1,\"m\",128,0,", "[1,\"m\",1,2147483648,", "[1,2,1,1,"]) {
      refusesToRead("Malformed", () => reader(text).readMessageBegin())
    }
    for (const id of ["32768", "-32769", "a", "1.5"]) {
      const one = reader(`{"${id}":{"tf":1}}`)
      one.readStructBegin()
      refusesToRead("Malformed", () => one.readFieldBegin())
    }
  })

  it("strings, base64 and uuids that are none", () => {
    for (const text of [String.raw`"\x"`, String.raw`"\u12"`, String.raw`"\u12g4"`, String.raw`"\ud83d\u12"`, "1"]) {
      refusesToRead("Malformed", () => element("str", text, (r) => r.readString()))
    }
    for (const text of ["A", "AAAAA", "A===", "====", "AA=A", "AA-_", "AA A", "AA=", "é"]) {
      refusesToRead("Malformed", () => element("str", `"${text}"`, (r) => r.readBinary()))
    }
    const uuid = "00112233-4455-6677-8899-aabbccddeeff"
    for (const text of [uuid.slice(1), `${uuid}0`, uuid.replaceAll("-", ""), uuid.replace("a", "g")]) {
      refusesToRead("Malformed", () => element("uid", `"${text}"`, (r) => r.readUuid()))
    }
  })

  it("sizes beyond the bytes that are left, negative ones, and those that are not the elements'", () => {
    refusesToRead("Truncated", () => reader("[\"i8\",2147483647,1]").readListBegin())
    refusesToRead("Truncated", () => reader("[\"rec\",3,{},{}]").readListBegin())
    refusesToRead("Truncated", () => reader("[\"str\",\"str\",2,{\"\":\"\"}]").readMapBegin())
    refusesToRead("Truncated", () => reader("[\"lst\",1000,[\"i8\",0]]").skip(Type.LIST))
    refusesToRead("NegativeSize", () => reader("[\"i8\",-1]").readListBegin())
    refusesToRead("NegativeSize", () => reader("[\"i8\",\"i8\",-1,{}]").skip(Type.MAP))
    refusesToRead("Malformed", () => reader("[\"i8\",9999999999]").readListBegin())
    for (const text of ["[\"i8\",1,1,2]", "[\"i8\",2,1,]  ", "[\"i8\",2,1]    ", "[\"i8\",\"i8\",1,{}]     "]) {
      refusesToRead("Malformed", () => reader(text).skip(text.includes("{") ? Type.MAP : Type.LIST))
    }
    assert.strictEqual(reader("[\"rec\",2,{},{}]").readListBegin().size, 2)
  })

  it("types that do not exist", () => {
    for (const type of ["", "i9", "string", "bool", "i"]) {
      refusesToRead("UnknownType", () => reader(`["${type}",1,1]`).readListBegin())
      const field = reader(`{"1":{"${type}":1}}`)
      field.readStructBegin()
      refusesToRead("UnknownType", () => field.readFieldBegin())
    }
    for (const type of [0, 1, 5, 17, 255]) refusesToRead("UnknownType", () => reader("0").skip(type))
  })

  it("more than its limits allow", () => {
    const three = (text: string, read: (r: JsonReader) => unknown) =>
      refusesToRead("SizeLimit", () => element("str", text, read, { maxStringBytes: 2 }))
    three("\"abc\"", (r) => r.readString())
    three(String.raw`"\n\n\n"`, (r) => r.readString())
    three("\"YWJj\"", (r) => r.readBinary())
    three("\"abc\"", (r) => r.skip(Type.STRING))
    assert.strictEqual(element("str", String.raw`"\u00e9"`, (r) => r.readString(), { maxStringBytes: 2 }), "é")
    assert.strictEqual(element("str", "\"YWI=\"", (r) => r.readBinary(), { maxStringBytes: 2 }).length, 2)
    refusesToRead("SizeLimit", () => reader("[]", { maxMessageBytes: 1 }))
    refusesToRead("SizeLimit", () => reader("[\"i8\",2,1,1]", { maxElements: 1 }).readListBegin())
    const structs = (depth: number) => "{\"1\":{\"rec\":".repeat(depth - 1) + "{}" + "}}".repeat(depth - 1)
    reader(structs(64)).skip(Type.STRUCT)
    refusesToRead("DepthLimit", () => reader(structs(65)).skip(Type.STRUCT))
    const lists = (depth: number) => "[\"lst\",1,".repeat(depth - 1) + "[\"lst\",0]" + "]".repeat(depth - 1)
    reader(lists(64)).skip(Type.LIST)
    refusesToRead("DepthLimit", () => reader(lists(65)).skip(Type.LIST))
    refusesToRead("DepthLimit", () => reader(lists(100_000)).skip(Type.LIST))
  })

  it("starts afresh with the next message after one that it refused", () => {
    const one = new JsonReader({ maxDepth: 1 })
    for (let i = 0; i < 3; i++) {
      refusesToRead("DepthLimit", () => one.reset(Buffer.from("[\"lst\",1,[\"lst\",0]]")).skip(Type.LIST))
      assert.strictEqual(one.reset(Buffer.from("5")).readI32(), 5)
    }
  })
})

describe("a JSON reader skips", () => {
  it("exactly a value of each type", () => {
    const values: ReadonlyArray<[number, string]> = [
      [Type.BOOL, "1"],
      [Type.BYTE, "-1"],
      [Type.DOUBLE, "1.5e-3"],
      [Type.DOUBLE, "\"NaN\""],
      [Type.I16, "300"],
      [Type.I32, "70000"],
      [Type.I64, "9223372036854775807"],
      [Type.STRING, String.raw`"a\"]}b"`],
      [Type.STRUCT, `{"1":{"str":"a"},"99":{"lst":["rec",2,{},{"1":{"tf":0}}]}}`],
      [Type.MAP, `["str","i32",2,{"a":1,"b":2}]`],
      [Type.MAP, `["i32","map",1,{"5":["dbl","tf",1,{"0.5":1}]}]`],
      [Type.SET, `["str",1,""]`],
      [Type.LIST, `["uid",1,"00112233-4455-6677-8899-aabbccddeeff"]`],
      [Type.UUID, "\"00112233-4455-6677-8899-aabbccddeeff\""]
    ]
    for (const [type, text] of values) {
      const read = reader(`["str",2,${text},42]`)
      read.readListBegin()
      read.skip(type)
      assert.strictEqual(read.readByte(), 42, text)
      for (let length = 9; length < 9 + text.length; length++) {
        const cut = reader(`["str",0,${text}`.slice(0, length))
        cut.readListBegin()
        refusesToRead("Truncated", () => cut.skip(type))
      }
    }
  })
})

describe("a JSON writer refuses", () => {
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
    refusesToWrite("InvalidValue", () => written((w) => w.writeString(1 as never)))
    refusesToWrite("InvalidValue", () => written((w) => w.writeBinary("é")))
    refusesToWrite("InvalidValue", () => written((w) => w.writeBinary(null as never)))
    refusesToWrite("InvalidValue", () => written((w) => w.writeUuid("0")))
    refusesToWrite("InvalidValue", () => written((w) => w.writeListBegin(1, 1)))
    const error = refusesToWrite("InvalidValue", () =>
      written((w) => {
        w.writeFieldBegin("count", Type.I32, 1)
        w.writeI32(1.5)
      }))
    assert.strictEqual(error.message, "field count: 1.5 is not an i32")
  })

  it("more than its limits allow, and takes what just fits", () => {
    for (const text of ["abc", "éa", "\n".repeat(30), "a".repeat(100)]) {
      const bytes = Buffer.byteLength(text)
      const length = Buffer.byteLength(JSON.stringify(text))
      refusesToWrite("SizeLimit", () => written((w) => w.writeString(text), { maxStringBytes: bytes - 1 }))
      refusesToWrite("SizeLimit", () => written((w) => w.writeString(text), { maxMessageBytes: length - 1 }))
      const limits = { maxStringBytes: bytes, maxMessageBytes: length }
      assert.strictEqual(written((w) => w.writeString(text), limits), JSON.stringify(text))
    }
    refusesToWrite("SizeLimit", () => written((w) => w.writeBinary(Buffer.alloc(3)), { maxStringBytes: 2 }))
    refusesToWrite("DepthLimit", () =>
      written((w) => {
        for (let i = 0; i < 65; i++) w.writeStructBegin("Deep")
      }))
  })

  it("one message, and writes the next as if it had not begun", () => {
    const writer = new JsonWriter()
    for (let i = 0; i < 3; i++) {
      refusesToWrite("InvalidValue", () => {
        writer.writeStructBegin("S")
        writer.writeFieldBegin("a", Type.MAP, 9)
        writer.writeMapBegin(Type.I32, Type.I32, 1)
        writer.writeI32(0.5)
      })
      writer.reset()
      writer.writeI32(i)
      assert.strictEqual(writer.take().toString(), String(i))
    }
  })
})
