/** What a host can be called: in URIs of ensembles, and by members of server sets. */
import { isIP, isIPv4 } from "node:net"

/**
 * Whether a text names a host: an IP address without brackets, or a name. What looks like an IPv4 address and is none is no name either:
 * readers of addresses differ in what they make of it.
 */
export const isHost = (text: string): boolean => {
  if (text.length > 255) return false
  if (text.includes(":")) return isIP(text) === 6
  if (/^[0-9.]+$/.test(text)) return isIPv4(text)
  return /^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?$/.test(text)
}

/** Whether a number can be the port of a server. */
export const isPort = (value: unknown): value is number =>
  typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= 65_535
