/** Endpoints of the records of a service, with the shares that their weights give them. */
import type { SrvRecord } from "node:dns"
import { Endpoint } from "../Endpoint.ts"

/** The records that name a target and a port, the preferred ones first: those of one priority together. RFC 2782 writes "no such service here" as a target that is the root. */
export const byPriority = (records: ReadonlyArray<SrvRecord>): ReadonlyArray<ReadonlyArray<SrvRecord>> => {
  const groups = new Map<number, Array<SrvRecord>>()
  for (const record of records) {
    if (record.name === "" || record.name === "." || record.port === 0) continue
    const group = groups.get(record.priority)
    if (group === undefined) groups.set(record.priority, [record])
    else group.push(record)
  }
  return [...groups].toSorted(([a], [b]) => a - b).map(([, group]) => group)
}

/**
 * The endpoints of records of one priority: one for each address of a target, which share the record's weight. Records of weight 0 share the weight 1,
 * which gives them the chance that the algorithm of RFC 2782 does; equal ones when there is no other. Weights are scaled so that they are 1 on
 * average: balancers take one as what the usual endpoint bears.
 */
export const membersOf = (
  records: ReadonlyArray<SrvRecord>,
  addressesOf: (target: string) => ReadonlyArray<string>
): ReadonlyArray<Endpoint> => {
  const found = records
    .map((record) => ({ ...record, addresses: addressesOf(record.name) }))
    .filter(({ addresses }) => addresses.length > 0)
  const zeros = found.filter(({ weight }) => weight === 0).length
  const shares = new Map<string, { readonly endpoint: Endpoint; share: number }>()
  let total = 0
  for (const { addresses, name, port, weight } of found) {
    const whole = weight === 0 ? 1 / zeros : weight
    total += whole
    for (const address of addresses) {
      const endpoint = Endpoint.tcp(address, port, { metadata: { name } })
      const known = shares.get(endpoint.key)
      if (known === undefined) shares.set(endpoint.key, { endpoint, share: whole / addresses.length })
      else known.share += whole / addresses.length
    }
  }
  return Array.from(shares.values(), ({ endpoint, share }) => ({
    ...endpoint,
    // Rounded, so that equal ones are 1 and no sum of fractions makes a new state of the same answer.
    weight: Math.max(1e-6, Number((share * shares.size / total).toPrecision(6)))
  }))
}
