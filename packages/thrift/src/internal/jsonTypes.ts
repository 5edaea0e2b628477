/** The names that the JSON protocol has for the types, and where in a JSON text a value can stand. */
import { Type } from "../Protocol.ts"

const names: ReadonlyArray<readonly [name: string, type: number]> = [
  ["tf", Type.BOOL],
  ["i8", Type.BYTE],
  ["i16", Type.I16],
  ["i32", Type.I32],
  ["i64", Type.I64],
  ["dbl", Type.DOUBLE],
  ["str", Type.STRING],
  ["rec", Type.STRUCT],
  ["map", Type.MAP],
  ["lst", Type.LIST],
  ["set", Type.SET],
  ["uid", Type.UUID]
]

/** By name. */
export const typeOfName: ReadonlyMap<string, number> = new Map(names)
/** By the number of `Type`. */
export const nameOfType: ReadonlyMap<number, string> = new Map(names.map(([name, type]) => [type, name]))

/**
 * What a value has before it, by where it stands: nothing where it is the field's or the message's, a comma in a list, and in a
 * map what its turn says, which the value then passes on. A struct's fields stand in `FirstField` and `Field`.
 */
export const Place = { Alone: 0, FirstField: 1, Field: 2, Element: 3, FirstKey: 4, Key: 5, Value: 6 } as const

/** The bytes of JSON's own characters. */
export const Char = {
  Quote: 0x22,
  Comma: 0x2c,
  Colon: 0x3a,
  OpenList: 0x5b,
  Backslash: 0x5c,
  CloseList: 0x5d,
  OpenObject: 0x7b,
  CloseObject: 0x7d
} as const
