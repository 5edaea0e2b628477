/** The four bits that the compact protocol has for a type, and the numbers that the other protocols have. */
import { Type } from "../Protocol.ts"

/** A bool as a field has one of two types, which are its value. As an element it has the first, as all of Apache's writers do. */
export const CompactType = { TRUE: 1, FALSE: 2 } as const

const pairs: ReadonlyArray<readonly [compact: number, type: number]> = [
  [CompactType.TRUE, Type.BOOL],
  [3, Type.BYTE],
  [4, Type.I16],
  [5, Type.I32],
  [6, Type.I64],
  [7, Type.DOUBLE],
  [8, Type.STRING],
  [9, Type.LIST],
  [10, Type.SET],
  [11, Type.MAP],
  [12, Type.STRUCT],
  [13, Type.UUID]
]

/** By the compact number; 0: no such type. */
export const typeOfCompact = new Uint8Array(16)
/** By the number of `Type`; 0: no such type. */
export const compactOfType = new Uint8Array(256)
for (const [compact, type] of pairs) {
  typeOfCompact[compact] = type
  compactOfType[type] = compact
}
typeOfCompact[CompactType.FALSE] = Type.BOOL
