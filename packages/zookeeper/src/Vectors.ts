/**
 * Weights of a server set's members, which Finagle's operators write beside them as `vector_...` nodes:
 * `{"vector":[{"select":"member=member_0000000001","weight":1.2,"priority":1},{"select":"inet=10.0.0.3:80","weight":0.5}]}`.
 *
 * The weight of an endpoint is the product of all weights that select it, and a weight of -1 or 0 takes it out of the set. Finagle reads
 * a weight that has no decimal point as 1; here it is what it says. `priority` has no meaning there, and none here.
 */
import { isPort } from "./internal/host.ts"
import { parseObject } from "./Members.ts"

/** What a weight can be given to. */
export interface Weighed {
  /** The name of the member's node. */
  readonly member: string
  readonly host: string
  readonly port: number
  readonly shard: number | undefined
}

/** One line of a vector. */
interface Descriptor {
  readonly selects: (endpoint: Weighed) => boolean
  readonly weight: number
}

/** The weights of one `vector_...` node, and what is wrong with it: lines that are not understood are left out. */
export interface Vector {
  readonly descriptors: ReadonlyArray<Descriptor>
  readonly faults: ReadonlyArray<string>
}

const selectorOf = (text: string): Descriptor["selects"] | undefined => {
  const mark = text.indexOf("=")
  const argument = text.slice(mark + 1)
  switch (text.slice(0, Math.max(0, mark))) {
    case "member":
      return ({ member }) => member === argument
    case "shard": {
      const number = /^[0-9]+$/.test(argument) ? Number(argument) : NaN
      return Number.isInteger(number) ? ({ shard }) => shard === number : undefined
    }
    case "inet": {
      const [, host, digits] = /^(.+):([0-9]{1,5})$/.exec(argument) ?? []
      const bare = host?.replace(/^\[(.*)\]$/, "$1")
      const number = Number(digits)
      return isPort(number) ? (endpoint) => endpoint.port === number && endpoint.host === bare : undefined
    }
    default:
      return undefined
  }
}

/** Reads the data of a `vector_...` node. It takes any bytes: what is wrong with them is in `faults`. */
export const decodeVector = (data: Uint8Array): Vector => {
  const json = parseObject(data)
  if (typeof json === "string") return { descriptors: [], faults: [json] }
  const lines = json["vector"]
  if (!Array.isArray(lines)) return { descriptors: [], faults: ["it has no vector"] }
  const descriptors: Array<Descriptor> = []
  const faults: Array<string> = []
  for (const [index, line] of lines.entries()) {
    const { select, weight = 1 } = (typeof line === "object" && line !== null ? line : {}) as Record<string, unknown>
    const selects = typeof select === "string" ? selectorOf(select) : undefined
    if (selects === undefined) faults.push(`line ${index} selects nothing that is known`)
    else if (typeof weight !== "number" || !(weight === -1 || (weight >= 0 && weight < Infinity))) {
      faults.push(`line ${index} has no weight: expected a number from 0, or -1`)
    } else descriptors.push({ selects, weight })
  }
  return { descriptors, faults }
}

/** The weight of an endpoint under some vectors; `undefined`: it is taken out of the set. */
export const weightOf = (vectors: Iterable<Vector>, endpoint: Weighed): number | undefined => {
  let product = 1
  for (const { descriptors } of vectors) {
    for (const { selects, weight } of descriptors) {
      if (!selects(endpoint)) continue
      if (weight === -1 || weight === 0) return undefined
      product *= weight
    }
  }
  // What an `Endpoint` takes as a weight.
  return Math.min(1e6, Math.max(1e-6, product))
}
