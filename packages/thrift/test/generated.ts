// The same IDL as each compiler writes it, in one shape for tests that run over all of them.
import Int64 from "node-int64"
import { createRequire } from "node:module"
import { fromGenerated, type MethodDefinition, type ServiceDefinition } from "../src/index.ts"

// Generated code requires its neighbours. Imported, vitest would load them a second time, with classes of its own.
const require = createRequire(import.meta.url)

export interface Compiled {
  readonly compiler: string
  readonly echo: ServiceDefinition
  readonly wide: ServiceDefinition
  /** The generated modules; their classes differ in nothing but how i64 is declared and what read and write are called. */
  readonly types: any
  readonly EchoModule: any
  readonly WideModule: any
  /** What this compiler's structs hold for an i64. */
  readonly i64: (value: bigint) => any
}

const int64 = (value: bigint): Int64 => {
  const buffer = Buffer.alloc(8)
  buffer.writeBigInt64BE(value)
  return new Int64(buffer)
}

const load = (compiler: string, folder: string, i64: Compiled["i64"]): Compiled => {
  const EchoModule = require(`./${folder}/Echo.js`)
  const WideModule = require(`./${folder}/Wide.js`)
  const files = ["base_types", "echo_types", "wide_types"]
  return {
    compiler,
    echo: fromGenerated(EchoModule),
    wide: fromGenerated(WideModule),
    types: Object.assign({}, ...files.map((file) => require(`./${folder}/${file}.js`))),
    EchoModule,
    WideModule,
    i64
  }
}

export const compilers: ReadonlyArray<Compiled> = [
  load("0.17", "gen17", int64),
  load("0.24", "gen24", int64),
  load("0.24 bigint", "gen24bigint", (value) => value)
]

export const methodOf = (service: ServiceDefinition, name: string): MethodDefinition => {
  const method = service.methods.get(name)
  if (method === undefined) throw new Error(`no method ${name}`)
  return method
}

/** Calls a struct's own `read` or `write`, whatever its compiler calls them. */
export const readStruct = (struct: any, protocol: unknown): any => {
  struct[Symbol.for("read") in struct ? Symbol.for("read") : "read"](protocol)
  return struct
}
export const writeStruct = (struct: any, protocol: unknown): void =>
  struct[Symbol.for("write") in struct ? Symbol.for("write") : "write"](protocol)

/** A value without its classes, so that what two compilers or two libraries made can be compared; all bits of every integer. */
export const plain = (value: any): unknown => {
  if (value instanceof Int64) return value.buffer.readBigInt64BE(value.offset)
  if (value instanceof Uint8Array) return `0x${Buffer.from(value).toString("hex")}`
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value === "object" && value !== null) {
    // 0.17 makes the whole argument of an exception's constructor its message
    const keys = Object.keys(value).filter((key) => !(value instanceof Error && key === "message"))
    return Object.fromEntries(keys.map((key) => [key, plain(value[key])]))
  }
  return value
}

/** Values of every struct in wide.thrift, all fields set and at their limits. */
export const samples = ({ i64, types: t }: Compiled): Record<string, any> => {
  const scalars = () =>
    new t.Scalars({
      flag: true,
      tiny: -128,
      small: -32_768,
      medium: -2_147_483_648,
      large: i64(-9_223_372_036_854_775_808n),
      real: -1.5e300,
      text: "grüß 你好 👋",
      bytes: Buffer.from([0, 255, 128]),
      level: 10,
      colour: 6
    })
  const point = (x: number) => new t.Point({ x, y: -x })
  return {
    scalars: scalars(),
    presence: new t.Presence({ must: "m", may: "", plain: 0, mayPreset: 9, names: [] }),
    containers: new t.Containers({
      numbers: [1, -1, 2_147_483_647],
      names: ["a", ""],
      counts: { one: 1, two: 2 },
      grid: [[i64(9_223_372_036_854_775_807n)], []],
      byName: { s: scalars() },
      byNumber: { "-5": "minus five", 7: "seven" },
      byId: { 9: "nine" },
      points: [point(1), point(2)],
      deep: { k: [[1, 2], []] },
      ids: [i64(0n), i64(-1n)],
      flags: [true, false],
      reals: [0.1, Infinity],
      blobs: [Buffer.from("b"), Buffer.alloc(0)],
      byFlag: { true: "yes" },
      byLevel: { 10: point(3) },
      more: [i64(1n)],
      named: { p: point(4) },
      nested: { a: { b: point(5) }, c: {} },
      byReal: { "1.5": "one and a half" },
      small: { "-128": 32_767 }
    }),
    tree: new t.Tree({
      value: 1,
      left: new t.Tree({ value: 2, rest: [] }),
      rest: [new t.Tree({ value: 3, rest: [new t.Tree({ value: 4, rest: [] })] })]
    }),
    choice: new t.Choice({ many: [new t.Choice({ number: i64(5n) }), new t.Choice({ point: point(6) })] }),
    empties: new t.Empties({ items: [new t.Empty(), new t.Empty()], named: { e: new t.Empty() } }),
    flag: false,
    tiny: 127,
    small: 32_767,
    medium: 2_147_483_647,
    large: i64(9_223_372_036_854_775_807n),
    real: 5e-324,
    text: "",
    bytes: Buffer.alloc(300, 7),
    level: 10,
    listed: [scalars()],
    unique: ["a", "b"],
    mapped: { "": scalars() },
    ids: [i64(4_294_967_296n)]
  }
}
