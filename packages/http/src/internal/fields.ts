/** Header fields as undici gives them, as fields of ours. */
import type { Dispatcher } from "undici"
import type { HeaderFields } from "../HttpWire.ts"

/** What undici gives: names and values in turn over HTTP/1, an object over HTTP/2. */
export type RawFields = Dispatcher.DispatchController["rawHeaders"]

const none: HeaderFields = []

/** Fields in order, names in lower case; what HTTP/2 has as `:status` is none. */
export const fieldsOf = (raw: RawFields): HeaderFields => {
  if (raw === undefined || raw === null) return none
  const fields: Array<readonly [string, string]> = []
  if (Array.isArray(raw)) {
    for (let i = 0; i + 1 < raw.length; i += 2) fields.push([text(raw[i]!).toLowerCase(), text(raw[i + 1]!)])
    return fields
  }
  for (const [name, value] of Object.entries(raw)) {
    if (name.startsWith(":") || value === undefined) continue
    if (typeof value === "string") fields.push([name, value])
    else for (const each of value) fields.push([name, each])
  }
  return fields
}

const text = (raw: Buffer | string): string => typeof raw === "string" ? raw : raw.toString("latin1")
