/** Header fields that every call has, for whoever looks at a client: any of them may be a secret. */
import * as Redacted from "effect/Redacted"
import type { HeaderFields } from "../HttpWire.ts"

/** Fields whose values are none. */
const harmless: ReadonlySet<string> = new Set([
  "accept",
  "accept-charset",
  "accept-encoding",
  "accept-language",
  "cache-control",
  "content-encoding",
  "content-language",
  "content-type",
  "host",
  "origin",
  "pragma",
  "priority",
  "te",
  "user-agent"
])

/** Names with values, to be described: only values of fields that are never credentials are shown. */
export const shownHeaders = (fields: HeaderFields): Readonly<Record<string, unknown>> => {
  const shown: Record<string, unknown> = {}
  for (const [name, value] of fields) {
    const before = shown[name]
    shown[name] = !harmless.has(name)
      ? Redacted.make(value)
      : before === undefined
      ? value
      : `${String(before)}, ${value}`
  }
  return shown
}
