/** Every method of the test service, called with the values that Apache's own test clients use and the ends of each type's range. */
import type { ThriftCallError, ThriftException } from "@scales-rpc/thrift"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { Int64 } from "thrift"
import { Numberz, type SecondService, type ThriftTest, type Types, types24 } from "./services.ts"

/** A client of the service, by any compiler. */
export type Client =
  & Omit<typeof ThriftTest.Service, "testUuid">
  & { readonly testUuid?: (typeof ThriftTest.Service)["testUuid"] }

/** What is checked with. */
export interface Checked {
  /** The classes that the client's compiler has written. */
  readonly types: Types
  /** A client of the second service on the same server, when it has one. */
  readonly second?: typeof SecondService.Service | undefined
  /** What `testDouble` is called with. */
  readonly doubles: ReadonlyArray<number>
  /** Whether the server takes oneway calls. Over HTTP the npm package's never ends its response to one. Default `true`. */
  readonly oneway?: boolean
}

/** Doubles that every library carries over every protocol. */
export const usualDoubles = [
  -5.2098523,
  7.012052175215044,
  -5.325098235,
  -5.235098235,
  0,
  -1,
  -0.000341012439638598279,
  Number.MIN_VALUE,
  Number.MAX_VALUE
]

/** Doubles that each protocol has its own way for. */
export const notFinite = [NaN, Infinity, -Infinity]

const scripts =
  "català, Ελληνικά, Русский, Հայերեն, עברית, العربية, नेपाली, বাংলা, ไทย, ქართული, አማርኛ, ᏣᎳᎩ, 中文, 日本語, 한국어, 𐌲𐌿𐍄𐌹𐍃𐌺, 😀"

const texts = [
  "Test",
  "Python".repeat(20),
  "",
  "quote \" backslash \\ slash / \b\f\n\r\t \0 \u007f all \"\\/\b\n\r\t ]] \"]] \\\" }}}{ [[[ ",
  scripts,
  "x".repeat(100_000)
]

const int64s = [
  1n,
  5n,
  -5n,
  -34_359_738_368n,
  734_359_738_368n,
  -734_359_738_368n,
  2n ** 53n + 1n,
  -(2n ** 53n) - 1n,
  2n ** 63n - 1n,
  -(2n ** 63n)
]

const stringMaps = [
  { a: "123", "a b": "with spaces ", same: "same", 0: "numeric key", long: scripts, [scripts]: "long key" },
  { a: "2", b: "blah", some: "thing" },
  {}
]

const mapMap = { 4: { 1: 1, 2: 2, 3: 3, 4: 4 }, "-4": { "-1": -1, "-2": -2, "-3": -3, "-4": -4 } }

/** An i64 as generated code takes it. */
export const int64 = (value: bigint): Int64 => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(value)
  return new Int64(bytes)
}

/** A value without classes: an i64 as a bigint, bytes as hexadecimal, of a struct only the fields that are set. */
const plain = (value: unknown): unknown => {
  if (value instanceof Int64) return BigInt.asIntN(64, BigInt(`0x${value.toOctetString()}`))
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex")
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, field]) =>
      field === null || field === undefined ? [] : [[name, plain(field)]]
    )
  )
}

const equal = (method: string, answered: unknown, expected: unknown): void =>
  assert.deepEqual(plain(answered), plain(expected), method)

/** Each thing is what the method answers to it. */
const same = <A, B>(
  method: string,
  call: (thing: A) => Effect.Effect<B, ThriftCallError>,
  things: ReadonlyArray<A>
) =>
  Effect.forEach(things, (thing) => Effect.map(call(thing), (answered) => equal(method, answered, thing)), {
    discard: true
  })

/** The exception that a call must fail with, which must be of this class. */
const thrown = <A, X, T>(
  method: string,
  self: Effect.Effect<A, ThriftException<X> | ThriftCallError>,
  kind: new(...args: ReadonlyArray<any>) => T
): Effect.Effect<T> =>
  Effect.matchEffect(self, {
    onSuccess: (answered) => Effect.die(new Error(`${method} answered ${String(answered)}, not ${kind.name}`)),
    onFailure: (error) =>
      error._tag === "ThriftException" && error.exception instanceof kind
        ? Effect.succeed(error.exception)
        : Effect.die(error)
  })

const values = (client: Client) =>
  Effect.gen(function*() {
    equal("testVoid", yield* client.testVoid(), undefined)
    yield* same("testString", client.testString, texts)
    yield* same("testBool", client.testBool, [true, false])
    yield* same("testByte", client.testByte, [1, 0, -1, 63, 127, -127, -128])
    yield* same("testI32", client.testI32, [-1, 0, 1, 2 ** 31 - 1, -(2 ** 31)])
    yield* same("testI64", client.testI64, int64s.map(int64))
    yield* same("testTypedef", client.testTypedef, [69n, 0xff_ffff_ffff_ffffn, 309_858_235_082_523n].map(int64))
    yield* same("testEnum", client.testEnum, [1, 2, 3, 5, 6, 8])
    yield* same("testBinary", client.testBinary, [
      Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
      Buffer.alloc(0)
    ])
    if (client.testUuid === undefined) return
    const uuids = ["00112233-4455-6677-8899-aabbccddeeff", "ffffffff-ffff-ffff-ffff-ffffffffffff", randomUUID()]
    yield* same("testUuid", client.testUuid, uuids)
  })

const containers = (client: Client) =>
  Effect.gen(function*() {
    yield* same("testMap", client.testMap, [
      { 0: -10, 1: -9, 2: -8, 3: -7, 4: -6 },
      { 0: 1, 1: 2, 2: 3, 3: 4, [-1]: -2 },
      {}
    ])
    yield* same("testStringMap", client.testStringMap as (map: {}) => Effect.Effect<{}, ThriftCallError>, stringMaps)
    for (const set of [[1, 2, 3], [1, 8, 42], [-2, -1, 0, 1, 2], []]) {
      equal("testSet", (yield* client.testSet(set)).toSorted((a, b) => a - b), set)
    }
    yield* same("testList", client.testList, [
      Array.from({ length: 20 }, (_, i) => i + 1),
      [1, 4, 9, -42],
      [-2, -1, 0, 1, 2],
      []
    ])
    equal("testMapMap", yield* client.testMapMap(42), mapMap)
  })

const structs = (client: Client, { Insanity, Xtruct, Xtruct2 }: Types) =>
  Effect.gen(function*() {
    const xtruct = (string_thing: string, byte_thing: number, i32_thing: number, i64_thing: bigint) =>
      new Xtruct({ string_thing, byte_thing, i32_thing, i64_thing: int64(i64_thing) })
    const zero = xtruct("Zero", 1, -3, -5n)
    yield* same("testStruct", client.testStruct, [zero, xtruct("Zero", 1, -3, 1_000_000n)])
    yield* same("testNest", client.testNest, [
      new Xtruct2({ byte_thing: 1, struct_thing: zero, i32_thing: 5 }),
      new Xtruct2({ byte_thing: 0, struct_thing: zero, i32_thing: 0 })
    ])
    equal(
      "testMulti",
      yield* client.testMulti(
        74,
        0xff00ff,
        int64(0xffffffffd0d0n),
        { 0: "abc", [-32_768]: "", 32_767: "x" },
        Numberz.FIVE,
        int64(0xf0f0f0n)
      ),
      xtruct("Hello2", 74, 0xff00ff, 0xffffffffd0d0n)
    )
    const insanity = new Insanity({
      userMap: { [Numberz.FIVE]: int64(5n), [Numberz.EIGHT]: int64(8n) },
      xtructs: [xtruct("Goodbye4", 4, 4, 4n), xtruct("Hello2", 2, 2, 2n)]
    })
    const { 1: both, 2: empty, ...others } = yield* client.testInsanity(insanity)
    equal("testInsanity", both, { [Numberz.TWO]: insanity, [Numberz.THREE]: insanity })
    // A container that is empty may be left out.
    const { userMap, xtructs, ...fields } = empty[Numberz.SIX]
    equal("testInsanity", [Object.keys(empty), userMap ?? {}, xtructs ?? [], fields, others], [["6"], {}, [], {}, {}])
  })

const exceptions = (client: Client, { Xception, Xception2 }: Types) =>
  Effect.gen(function*() {
    for (const safe of ["Safe", "success"]) equal("testException", yield* client.testException(safe), undefined)
    const declared = yield* thrown("testException", client.testException("Xception"), Xception)
    equal("testException", [declared.errorCode, declared.message], [1001, "Xception"])
    const undeclared = yield* Effect.flip(client.testException("TException"))
    equal("testException", undeclared._tag, "ThriftApplicationException")
    const first = yield* thrown("testMultiException", client.testMultiException("Xception", "ignored"), Xception)
    equal("testMultiException", [first.errorCode, first.message], [1001, "This is an Xception"])
    const second = yield* thrown("testMultiException", client.testMultiException("Xception2", "ignored"), Xception2)
    const { string_thing } = second.struct_thing
    equal("testMultiException", [second.errorCode, string_thing], [2002, "This is an Xception2"])
    const xtruct = yield* client.testMultiException("success", "foobar")
    equal("testMultiException", xtruct.string_thing, "foobar")
  })

/** Calls every method of a server and checks what it answers. */
export const check = (
  client: Client,
  { doubles, oneway = true, second, types }: Checked
): Effect.Effect<void, unknown> =>
  Effect.gen(function*() {
    yield* values(client)
    yield* containers(client)
    yield* structs(client, types)
    yield* exceptions(client, types)
    if (second !== undefined) {
      equal("secondtestString", yield* second.secondtestString("foobar"), "testString(\"foobar\")")
    }
    // A reply to it would be taken for the next call's.
    if (oneway) equal("testOneway", yield* client.testOneway(0), undefined)
    equal("testI32 after testOneway", yield* client.testI32(-1), -1)
    yield* same("testDouble", client.testDouble, doubles)
  })

/** Makes many calls, so many at once; each is unlike its neighbours, and fails with another's reply. The client is by compiler 0.24. */
export const checkMany = (
  client: Pick<Client, "testStruct">,
  calls: number,
  concurrency: number
): Effect.Effect<void, unknown> =>
  Effect.forEach(
    Array.from({ length: calls }, (_, i) => i),
    (i) => {
      const thing = new types24.Xtruct({
        string_thing: `${i}:`.padEnd((i * 37) % 300, "-"),
        byte_thing: i % 100,
        i32_thing: i,
        i64_thing: int64(BigInt(i) * 2n ** 32n)
      })
      return same("testStruct", client.testStruct, [thing])
    },
    { concurrency, discard: true }
  )
