/**
 * The JSON of a server set's members, as Finagle and Scales read and write it:
 * `{"serviceEndpoint":{"host":"10.0.0.3","port":80},"additionalEndpoints":{"http":{"host":"10.0.0.3","port":8080}},"status":"ALIVE","shard":0,"metadata":{"k":"v"}}`.
 *
 * Scales wants the first three, Finagle's `shard` and `metadata` are there when they are set; ours are read by both. What is wrong in one
 * part of a member takes no other part away: the readers of the references drop the member, or the whole set.
 */
import { type AnnounceOptions, type Endpoint, type MemberStatus, type Metadata } from "@scales-rpc/core"
import { isHost, isPort } from "./internal/host.ts"
import type { ZooKeeperHost } from "./uri.ts"

/** What the data of a member's node says. */
export interface Member {
  /** `undefined` when it says none that is known. Only `"ALIVE"` is to be called. */
  readonly status: MemberStatus | "UNKNOWN" | undefined
  readonly serviceEndpoint: ZooKeeperHost | undefined
  readonly additionalEndpoints: ReadonlyMap<string, ZooKeeperHost>
  readonly shard: number | undefined
  readonly metadata: Metadata
  /** What is wrong with it, part by part: what these parts say is left out. */
  readonly faults: ReadonlyArray<string>
}

const statuses: ReadonlySet<unknown> = new Set<Exclude<Member["status"], undefined>>([
  "DEAD",
  "STARTING",
  "ALIVE",
  "STOPPING",
  "STOPPED",
  "WARNING",
  "UNKNOWN"
])

/** Whether a value is one of the words for the status of a member. */
export const isStatus = (value: unknown): value is MemberStatus | "UNKNOWN" => statuses.has(value)

/** What the name of a member's node begins with. */
export const memberPrefix = "member_"

/** The largest shard: a signed 32-bit number is what Finagle reads. */
export const maxShard = 0x7fff_ffff

/** A value in a message: what a node says can be as long as a megabyte. */
const shown = (value: unknown): string => {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 100 ? `${text.slice(0, 100)}...` : text
}

/** Reads JSON that is to be an object, and says what is wrong with it otherwise. */
export const parseObject = (data: Uint8Array): Readonly<Record<string, unknown>> | string => {
  let parsed: unknown
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data))
  } catch (cause) {
    return cause instanceof SyntaxError ? "its data is no JSON" : "its data is no UTF-8"
  }
  return isObject(parsed) ? parsed : `its data is no object: ${shown(parsed)}`
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Java's Gson leaves out what is null, Python's json writes it. */
const isGiven = (value: unknown): boolean => value !== undefined && value !== null

const addressOf = (value: unknown): ZooKeeperHost | undefined => {
  if (!isObject(value)) return undefined
  const { host, port } = value
  if (typeof host !== "string" || !isPort(port)) return undefined
  const bare = /^\[(.*)\]$/.exec(host)?.[1] ?? host
  return isHost(bare) ? { host: bare, port } : undefined
}

const none: Member = {
  status: undefined,
  serviceEndpoint: undefined,
  additionalEndpoints: new Map(),
  shard: undefined,
  metadata: {},
  faults: []
}

/** Reads the data of a member's node. It takes any bytes: what is wrong with them is in `faults`. */
export const decodeMember = (data: Uint8Array): Member => {
  const json = parseObject(data)
  if (typeof json === "string") return { ...none, faults: [json] }
  const faults: Array<string> = []
  const wrong = (name: string, value: unknown): undefined => {
    faults.push(isGiven(value) ? `its ${name} is ${shown(value)}` : `it has no ${name}`)
  }

  const status = isStatus(json["status"]) ? json["status"] : wrong("status", json["status"])
  const serviceEndpoint = addressOf(json["serviceEndpoint"]) ?? wrong("serviceEndpoint", json["serviceEndpoint"])

  const additionalEndpoints = new Map<string, ZooKeeperHost>()
  const additional = json["additionalEndpoints"]
  if (isObject(additional)) {
    for (const [name, value] of Object.entries(additional)) {
      const address = addressOf(value)
      if (address === undefined) wrong(`additionalEndpoints.${shown(name)}`, value)
      else additionalEndpoints.set(name, address)
    }
  } else if (isGiven(additional)) wrong("additionalEndpoints", additional)

  const shardGiven = json["shard"]
  // Scales reads "3" as 3.
  const number = typeof shardGiven === "string" && /^[0-9]+$/.test(shardGiven) ? Number(shardGiven) : shardGiven
  const isShard = Number.isInteger(number) && Number(number) >= 0 && Number(number) <= maxShard
  const shard = isShard ? Number(number) : isGiven(shardGiven) ? wrong("shard", shardGiven) : undefined

  const metadata: Array<[string, string]> = []
  const metadataGiven = json["metadata"]
  if (isObject(metadataGiven)) {
    for (const [key, value] of Object.entries(metadataGiven)) {
      if (typeof value === "string") metadata.push([key, value])
      else wrong(`metadata.${shown(key)}`, value)
    }
  } else if (isGiven(metadataGiven)) wrong("metadata", metadataGiven)

  return { status, serviceEndpoint, additionalEndpoints, shard, metadata: Object.fromEntries(metadata), faults }
}

const plain = ({ host, port }: Endpoint): ZooKeeperHost => ({ host, port })

/** The data of the node of a member. None of the endpoints may be a Unix socket. */
export const encodeMember = (endpoint: Endpoint, options: AnnounceOptions): Uint8Array => {
  const { additionalEndpoints = {}, metadata = {}, shard, status = "ALIVE" } = options
  const json = {
    serviceEndpoint: plain(endpoint),
    additionalEndpoints: Object.fromEntries(
      Object.entries(additionalEndpoints).map(([name, each]) => [name, plain(each)])
    ),
    status,
    shard,
    metadata: Object.keys(metadata).length === 0 ? undefined : metadata
  }
  return new TextEncoder().encode(JSON.stringify(json))
}
