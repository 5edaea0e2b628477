/** Reads the endpoints that a file lists, as JSON or one a line. */
import { Endpoint } from "../Endpoint.ts"
import { InvalidUri } from "../RpcError.ts"
import { parseAddress } from "./address.ts"

/** What a file says: its endpoints, and whether more may follow, or what is wrong with it. */
export type FileMembers =
  | { readonly endpoints: ReadonlyArray<Endpoint>; readonly complete: boolean; readonly wrong?: undefined }
  | { readonly wrong: string }

const known = new Set(["host", "port", "weight", "shard", "metadata"])

/** Stands in an error for whatever was written. */
const shown = (value: unknown): string => {
  const text = JSON.stringify(value)
  return text.length > 60 ? `${text.slice(0, 60)}...` : text
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const addressOf = (text: string): Endpoint | string => {
  const endpoint = parseAddress("", text)
  return endpoint instanceof InvalidUri ? endpoint.what : endpoint
}

/** A member of the array, or what is wrong with it. */
const memberOf = (member: unknown): Endpoint | string => {
  if (typeof member === "string") return addressOf(member)
  if (!isRecord(member)) return `${shown(member)} is neither "host:port" nor an object`
  const stranger = Object.keys(member).find((key) => !known.has(key))
  if (stranger !== undefined) return `${shown(stranger)} is none of ${[...known].join(", ")}`
  const { host, metadata, port, shard, weight } = member
  if (typeof host !== "string") return `host is ${shown(host ?? null)}, not a text`
  if (typeof port !== "number") return `port is ${shown(port ?? null)}, not a number`
  const address = addressOf(host.includes(":") && !host.startsWith("[") ? `[${host}]:${port}` : `${host}:${port}`)
  if (typeof address === "string") return address
  if (weight !== undefined && !(typeof weight === "number" && weight >= 1e-6 && weight <= 1e6)) {
    return `weight is ${shown(weight)}, not a number from 0.000001 to 1000000`
  }
  if (shard !== undefined && !(typeof shard === "number" && Number.isSafeInteger(shard) && shard >= 0)) {
    return `shard is ${shown(shard)}, not a whole number from 0`
  }
  if (metadata !== undefined) {
    if (!isRecord(metadata)) return `metadata is ${shown(metadata)}, not an object`
    const odd = Object.keys(metadata).find((key) => typeof metadata[key] !== "string")
    if (odd !== undefined) return `${shown(odd)} of metadata is ${shown(metadata[odd])}, not a text`
  }
  return Endpoint.tcp(address.host, address.port, { weight, shard, metadata: metadata as Record<string, string> })
}

const fromJson = (text: string): FileMembers => {
  let members: ReadonlyArray<unknown>
  try {
    members = JSON.parse(text)
  } catch (cause) {
    return { wrong: `no JSON: ${cause instanceof Error ? cause.message : String(cause)}` }
  }
  const endpoints = new Map<string, Endpoint>()
  for (const [at, each] of members.entries()) {
    const member = memberOf(each)
    if (typeof member === "string") return { wrong: `member ${at + 1}: ${member}` }
    endpoints.set(member.key, member)
  }
  return { endpoints: [...endpoints.values()], complete: true }
}

const fromLines = (text: string): FileMembers => {
  const endpoints = new Map<string, Endpoint>()
  for (const [at, line] of text.split("\n").entries()) {
    const address = line.replace(/#.*/, "").trim()
    if (address === "") continue
    const endpoint = addressOf(address)
    if (typeof endpoint === "string") return { wrong: `line ${at + 1}: ${endpoint}` }
    endpoints.set(endpoint.key, endpoint)
  }
  return endpoints.size === 0
    // It is what a file looks like that is about to be written.
    ? { wrong: "it lists nothing; an empty set is written []" }
    : { endpoints: [...endpoints.values()], complete: text.endsWith("\n") }
}

/**
 * A JSON array of `"host:port"` or `{ host, port, weight?, shard?, metadata? }`, or one `host:port` a line with comments from `#`.
 * One that is wrong makes all of it wrong. Of an endpoint listed twice the last one counts. Lines list at least one endpoint, and are
 * complete when the last one is ended; the beginning of an array is no array, so JSON is always complete.
 */
export const parseMembers = (content: string): FileMembers => {
  const text = content.replace(/^\uFEFF/, "")
  if (/^\s*\{/.test(text)) return { wrong: "no array of members" }
  // A line may begin with the bracket of an IPv6 address.
  return /^\s*\[\s*(["{\]]|$)/.test(text) ? fromJson(text) : fromLines(text)
}
