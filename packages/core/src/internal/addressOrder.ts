/**
 * An order of endpoints that every client agrees on and that has nothing to do with where they run or who was started first: by
 * hash. For IP addresses it is the one that Finagle's clients use: MurmurHash3 (x86, 32 bits) of the address's bytes, then of the port,
 * with Scala's seed for arrays. Names come before them, by the hash of their UTF-8; Finagle resolves names first.
 */
import { isIP } from "node:net"
import { Endpoint } from "../Endpoint.ts"

const seed = 0x3c07_4a61

const mix = (block: number): number => {
  const scrambled = Math.imul(block, 0xcc9e_2d51)
  return Math.imul((scrambled << 15) | (scrambled >>> 17), 0x1b87_3593)
}

const avalanche = (hash: number): number => {
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35)
  return hash ^ (hash >>> 16)
}

/** MurmurHash3 for x86 with 32 bits, signed. */
export const murmur3 = (bytes: Uint8Array, start = seed): number => {
  let hash = start
  const whole = bytes.length & ~3
  for (let at = 0; at < whole; at += 4) {
    hash ^= mix(bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24))
    hash = Math.imul((hash << 13) | (hash >>> 19), 5) + 0xe654_6b64 | 0
  }
  let rest = 0
  for (let at = bytes.length - 1; at >= whole; at--) rest = (rest << 8) | bytes[at]!
  if (bytes.length > whole) hash ^= mix(rest)
  return avalanche(hash ^ bytes.length)
}

/** Of a port: four bytes, but mixed as a rest is, which is what Finagle does. */
const hashOfPort = (port: number): number => avalanche(seed ^ mix(port) ^ 4)

const bytesOfV4 = (host: string): Array<number> => host.split(".").map(Number)

/** Of an IPv6 address without its zone; one that stands for an IPv4 address has that one's four bytes. */
const bytesOfV6 = (host: string): Array<number> => {
  const [address = ""] = host.split("%")
  const groups = (text: string): Array<number> =>
    text === "" ? [] : text.split(":").flatMap((group) => {
      if (group.includes(".")) return bytesOfV4(group)
      const value = parseInt(group, 16)
      return [value >> 8, value & 0xff]
    })
  const [head = "", tail] = address.split("::")
  const before = groups(head)
  const after = tail === undefined ? [] : groups(tail)
  const bytes = [...before, ...Array<number>(16 - before.length - after.length).fill(0), ...after]
  const mapped = bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff
  return mapped ? bytes.slice(12) : bytes
}

const encoder = new TextEncoder()

/** Where an endpoint stands: compared by `compareOrder`. */
export interface AddressOrder {
  readonly address: boolean
  readonly host: number
  readonly port: number
  readonly key: string
}

/** Where an endpoint stands. */
export const orderOf = (endpoint: Endpoint): AddressOrder => {
  const { host, key } = endpoint
  const version = Endpoint.isUnix(endpoint) ? 0 : isIP(host)
  const bytes = version === 4 ? bytesOfV4(host) : version === 6 ? bytesOfV6(host) : undefined
  return {
    address: bytes !== undefined,
    host: murmur3(bytes === undefined ? encoder.encode(host) : Uint8Array.from(bytes)),
    port: hashOfPort(endpoint.port),
    key
  }
}

/** Names first; then by the hash of the host, as a signed number, then of the port; the key tells those with one hash apart. */
export const compareOrder = (a: AddressOrder, b: AddressOrder): number => {
  if (a.address !== b.address) return a.address ? 1 : -1
  return a.host - b.host || a.port - b.port || (a.key < b.key ? -1 : a.key > b.key ? 1 : 0)
}
