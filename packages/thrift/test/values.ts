// Random values for every struct of wide.thrift, and random fields that no struct has; the same for the same seed.
import { type ProtocolWriter, Type } from "../src/index.ts"
import type { Compiled } from "./generated.ts"

/** xorshift32: a whole number below its argument, the same sequence everywhere. */
export type Random = (below: number) => number

export const randomOf = (seed: number): Random => {
  let state = seed
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

const edges64 = [
  0n,
  1n,
  -1n,
  63n,
  -64n,
  2n ** 31n,
  -(2n ** 31n),
  2n ** 32n - 1n,
  999_999_999_999_999n,
  2n ** 53n - 1n,
  2n ** 53n,
  -(2n ** 53n),
  2n ** 53n + 1n,
  2n ** 63n - 1n,
  -(2n ** 63n)
]
const reals = [0, -0, 0.1, -1.5e300, 5e-324, Number.MAX_VALUE, NaN, Infinity, -Infinity, 1e21, 123_456]
const pieces = [
  "",
  "a",
  "hello world",
  "\"",
  "\\",
  "\n\t\b\f\r",
  "\0\u001f\u007f",
  "é",
  "你好",
  "👋",
  "/",
  "\u2028",
  "}]"
]

/** Integers of so many bits, often at their limits. */
const whole = (random: Random, bits: number): number => {
  const limit = 2 ** (bits - 1)
  const one = [0, 1, -1, limit - 1, -limit, random(2 ** Math.min(bits - 1, 31)), -random(64)][random(7)]!
  return one === 0 ? 0 : one
}

const list = <A>(random: Random, most: number, make: () => A): Array<A> =>
  Array.from({ length: random(8) === 0 ? most : random(4) }, make)

export const text = (random: Random): string => {
  if (random(400) === 0) return pieces[1 + random(pieces.length - 1)]!.repeat(random(3000))
  return list(random, 6, () => pieces[random(pieces.length)]!).join("")
}

const real = (random: Random): number =>
  random(2) === 0 ? reals[random(reals.length)]! : (random(2 ** 31) - 2 ** 30) / 7

const long = (random: Random): bigint =>
  random(2) === 0
    ? edges64[random(edges64.length)]!
    : BigInt.asIntN(64, BigInt(random(2 ** 32)) << 32n | BigInt(random(2 ** 32))) >> BigInt(random(64))

/** Without duplicates, which 0.24's code refuses to write. */
const setOf = <A>(random: Random, most: number, make: () => A): Array<A> => [...new Set(list(random, most, make))]

/** An object as generated code has it for a map. */
const mapOf = <A>(random: Random, key: () => string | number | bigint | boolean, value: () => A): Record<string, A> =>
  Object.fromEntries(list(random, 20, () => [String(key()), value()]))

/** A random value of each struct, by the name of the method of `Wide` that takes it. */
export const valuesOf = ({ i64, types: t }: Compiled, random: Random): Record<string, any> => {
  const maybe = <A>(make: () => A): A | null => random(4) === 0 ? null : make()
  const i64s = () => i64(long(random))
  const point = () => new t.Point({ x: whole(random, 32), y: whole(random, 32) })
  const string = () => text(random)
  const binary = () => Buffer.from(Uint8Array.from(list(random, 300, () => random(256))))
  const scalars = () =>
    new t.Scalars({
      flag: maybe(() => random(2) === 0),
      tiny: maybe(() => whole(random, 8)),
      small: maybe(() => whole(random, 16)),
      medium: maybe(() => whole(random, 32)),
      large: maybe(i64s),
      real: maybe(() => real(random)),
      text: maybe(string),
      bytes: maybe(binary),
      level: maybe(() => [0, 10][random(2)]),
      colour: maybe(() => [1, 5, 6][random(3)])
    })
  const tree = (depth: number): any =>
    new t.Tree({
      value: whole(random, 32),
      left: depth > 0 && random(2) === 0 ? tree(depth - 1) : null,
      right: depth > 0 && random(2) === 0 ? tree(depth - 1) : null,
      rest: depth > 0 ? list(random, 3, () => tree(depth - 2)) : []
    })
  const choice = (depth: number): any =>
    new t.Choice(
      [{ text: string() }, { number: i64s() }, { point: point() }, {
        many: depth > 0 ? list(random, 3, () => choice(depth - 1)) : []
      }][random(4)]
    )
  return {
    scalars: scalars(),
    presence: new t.Presence({
      must: string(),
      may: maybe(string),
      plain: whole(random, 32),
      names: list(random, 9, string)
    }),
    containers: new t.Containers({
      numbers: maybe(() => list(random, 200, () => whole(random, 32))),
      names: maybe(() => setOf(random, 16, string)),
      counts: maybe(() => mapOf(random, string, () => whole(random, 32))),
      grid: maybe(() => list(random, 16, () => list(random, 16, i64s))),
      byName: maybe(() => mapOf(random, string, scalars)),
      byNumber: maybe(() => mapOf(random, () => whole(random, 32), string)),
      byId: maybe(() => mapOf(random, () => long(random), string)),
      points: maybe(() => list(random, 15, point)),
      deep: maybe(() =>
        mapOf(random, string, () => list(random, 15, () => setOf(random, 15, () => whole(random, 32))))
      ),
      ids: maybe(() => setOf(random, 14, () => long(random)).map(i64)),
      flags: maybe(() => list(random, 40, () => random(2) === 0)),
      reals: maybe(() => list(random, 20, () => real(random))),
      blobs: maybe(() => list(random, 15, binary)),
      byFlag: maybe(() => mapOf(random, () => random(2) === 0, string)),
      byLevel: maybe(() => mapOf(random, () => random(2) * 10, point)),
      more: maybe(() => list(random, 15, i64s)),
      named: maybe(() => mapOf(random, string, point)),
      nested: maybe(() => mapOf(random, string, () => mapOf(random, string, point))),
      byReal: maybe(() => mapOf(random, () => real(random), string)),
      small: maybe(() => mapOf(random, () => whole(random, 8), () => whole(random, 16)))
    }),
    tree: tree(12),
    choice: choice(6),
    empties: new t.Empties({
      items: list(random, 20, () => new t.Empty()),
      named: mapOf(random, string, () => new t.Empty())
    }),
    flag: random(2) === 0,
    tiny: whole(random, 8),
    small: whole(random, 16),
    medium: whole(random, 32),
    large: i64s(),
    real: real(random),
    text: string(),
    bytes: binary(),
    listed: list(random, 20, scalars),
    unique: setOf(random, 20, string),
    mapped: mapOf(random, string, scalars),
    ids: list(random, 40, i64s)
  }
}

const all = [
  Type.BOOL,
  Type.BYTE,
  Type.DOUBLE,
  Type.I16,
  Type.I32,
  Type.I64,
  Type.STRING,
  Type.UUID,
  Type.STRUCT,
  Type.MAP,
  Type.SET,
  Type.LIST
] as const

/** The type and the value of a field that nobody knows, of any depth up to the last argument. */
export const writeUnknown = (writer: ProtocolWriter, id: number, random: Random, depth: number): void => {
  const type = typeOf(random, depth)
  writer.writeFieldBegin("unknown", type, id)
  writeValue(writer, type, random, depth)
  writer.writeFieldEnd()
}

/** No containers at the bottom. */
const typeOf = (random: Random, depth: number): number => all[random(depth > 0 ? all.length : 8)]!

const writeValue = (writer: ProtocolWriter, type: number, random: Random, depth: number): void => {
  const size = random(6) === 0 ? 17 : random(4)
  switch (type) {
    case Type.BOOL:
      return writer.writeBool(random(2) === 0)
    case Type.BYTE:
      return writer.writeByte(whole(random, 8))
    case Type.DOUBLE:
      return writer.writeDouble(real(random))
    case Type.I16:
      return writer.writeI16(whole(random, 16))
    case Type.I32:
      return writer.writeI32(whole(random, 32))
    case Type.I64:
      return writer.writeI64(long(random))
    case Type.STRING:
      return writer.writeString(text(random))
    case Type.UUID:
      return writer.writeUuid("00112233-4455-6677-8899-aabbccddeeff")
    case Type.STRUCT:
      writer.writeStructBegin("Unknown")
      for (let i = size % 5; i > 0; i--) writeUnknown(writer, whole(random, 16), random, depth - 1)
      writer.writeFieldStop()
      return writer.writeStructEnd()
    case Type.MAP: {
      const key = typeOf(random, 0)
      const value = typeOf(random, depth - 1)
      writer.writeMapBegin(key, value, size)
      for (let i = 0; i < size; i++) {
        writeValue(writer, key, random, 0)
        writeValue(writer, value, random, depth - 1)
      }
      return writer.writeMapEnd()
    }
    default: {
      const element = typeOf(random, depth - 1)
      writer.writeListBegin(element, size)
      for (let i = 0; i < size; i++) writeValue(writer, element, random, depth - 1)
      return writer.writeListEnd()
    }
  }
}
