/** Reads the addresses that URIs and files name. */
import { Endpoint } from "../Endpoint.ts"
import { InvalidUri } from "../RpcError.ts"

const tcpExpected = "tcp://host:port[,host:port...], an IPv6 address in brackets, a port from 1 to 65535"

/** What was read, in a message: a file may have a line of any length. */
const quoted = (text: string): string => `"${text.length > 60 ? `${text.slice(0, 60)}...` : text}"`

/** Reads one `host:port`; a failure names `uri`, where the text was found. */
export const parseAddress = (uri: string, text: string): Endpoint | InvalidUri => {
  const invalid = (what: string) => new InvalidUri({ uri, what, expected: tcpExpected })
  const bracketed = text.startsWith("[")
  const end = bracketed ? text.indexOf("]") : text.lastIndexOf(":")
  if (text === "") return invalid("an address is empty")
  if (bracketed && end < 0) return invalid(`${quoted(text)} has no closing bracket`)
  const host = bracketed ? text.slice(1, end) : end < 0 ? text : text.slice(0, end)
  const after = bracketed ? text.slice(end + 1) : end < 0 ? "" : text.slice(end)
  if (!bracketed && host.includes(":")) return invalid(`the IPv6 address in ${quoted(text)} is not in brackets`)
  if (bracketed && !isIPv6(host)) return invalid(`${quoted(host)} is no IPv6 address`)
  if (host === "") return invalid(`${quoted(text)} has no host`)
  // The longest that DNS has, and the dot at its end.
  if (host.length > 254) return invalid(`${quoted(host)} is longer than a host name`)
  if (!bracketed && !/^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?$/.test(host)) {
    return invalid(`${quoted(host)} is no host name`)
  }
  if (!bracketed && /^[0-9.]+$/.test(host) && !isIPv4(host)) return invalid(`${quoted(host)} is no IPv4 address`)
  if (after === "") return invalid(`${quoted(text)} has no port`)
  const port = /^:[0-9]{1,5}$/.test(after) ? Number(after.slice(1)) : NaN
  if (!(port >= 1 && port <= 65_535)) return invalid(`${quoted(after.replace(/^:/, ""))} is no port`)
  return Endpoint.tcp(host, port)
}

/** Whether a text is an IPv4 address. */
export const isIPv4 = (text: string): boolean =>
  // A leading zero means octal to some readers of addresses, and decimal to others.
  /^\d{1,3}(\.\d{1,3}){3}$/.test(text) &&
  text.split(".").every((part) => Number(part) <= 255 && (part === "0" || !part.startsWith("0")))

/** Whether a text is an IPv6 address, with its zone or without. */
export const isIPv6 = (text: string): boolean => {
  const address = text.replace(/%[A-Za-z0-9_.-]+$/, "")
  const v4 = /(?:^|:)(\d{1,3}(?:\.\d{1,3}){3})$/.exec(address)
  if (v4 !== null && !isIPv4(v4[1]!)) return false
  const groups = v4 === null ? address : address.slice(0, -v4[1]!.length) + "0:0"
  const halves = groups.split("::")
  if (halves.length > 2) return false
  const parts = halves.flatMap((half) => half === "" ? [] : half.split(":"))
  return parts.every((part) => /^[0-9A-Fa-f]{1,4}$/.test(part)) &&
    (halves.length === 2 ? parts.length < 8 : parts.length === 8)
}
