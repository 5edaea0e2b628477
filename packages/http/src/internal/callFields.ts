/** Header fields as callers give them: a name is one whatever its case, and of some there may be only one. */
import { InvalidRequest } from "../errors.ts"
import type { HeaderFields } from "../HttpWire.ts"

/** Fields of which one server would take the first, and another the last. */
export const singular: ReadonlySet<string> = new Set(["authorization", "content-type", "host"])

/** The fields, names in lower case; of two names that differ in case only, the last. What is no string is left for the check to find. */
export const fieldsOf = (
  headers: Readonly<Record<string, string | ReadonlyArray<string>>> | undefined
): Array<readonly [string, string]> => {
  const fields: Array<readonly [string, string]> = []
  if (headers === undefined) return fields
  const values = new Map<string, string | ReadonlyArray<string>>()
  for (const [name, value] of Object.entries(headers)) values.set(name.toLowerCase(), value)
  for (const [name, value] of values) {
    if (!Array.isArray(value)) fields.push([name, value as string])
    else for (const each of value as ReadonlyArray<string>) fields.push([name, each])
  }
  return fields
}

/** Why these may not be sent, names in lower case and those of one name together: one that has to be alone is not. */
export const repeatedField = (fields: HeaderFields): InvalidRequest | undefined => {
  for (let i = 1; i < fields.length; i++) {
    const [name] = fields[i]!
    if (name === fields[i - 1]![0] && singular.has(name)) {
      return new InvalidRequest({ part: "header", name, what: "is there more than once" })
    }
  }
  return undefined
}
