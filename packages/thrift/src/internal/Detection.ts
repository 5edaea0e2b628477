/** What a client speaks, told from the first bytes of its connection. */
import { ThriftProtocolError } from "../errors.ts"
import type { Protocol } from "../Protocol.ts"
import * as Protocols from "../Protocols.ts"
import type { Framing } from "./Framing.ts"

/** What one connection is spoken in. */
export interface Spoken {
  readonly framing: Framing
  readonly protocol: Protocol
}

/** The protocols that can be told apart. */
export const detectable: ReadonlyArray<Protocol> = [
  Protocols.binary,
  Protocols.binaryOld,
  Protocols.compact,
  Protocols.json
]

/** The protocol of a message by its first byte; that of the old binary header is of a name shorter than 16 MiB. */
const protocolOf = (first: number): Protocol | undefined => {
  switch (first) {
    case 0x80:
      return Protocols.binary
    case 0x82:
      return Protocols.compact
    case 0x5b:
      return Protocols.json
    case 0:
      return Protocols.binaryOld
    default:
      return undefined
  }
}

/**
 * What the first bytes of a connection are spoken in, as far as it is left open; `undefined` while too few have come. A frame
 * begins with its length, whose first byte is below 0x80 and, for frames below 1.5 GB, not that of JSON, so that only messages
 * with the old binary header cannot be told from frames: they are taken for framed. Throws `ThriftProtocolError` for bytes that begin none of the protocols.
 */
export const detect = (
  framing: Framing | "auto",
  protocol: Protocol | "auto",
  bytes: Uint8Array
): Spoken | undefined => {
  if (framing !== "auto" && protocol !== "auto") return { framing, protocol }
  const [first] = bytes
  if (first === undefined) return undefined
  const found = framing !== "auto" ? framing : first === 0x5b || first >= 0x80 ? "buffered" : "framed"
  if (protocol !== "auto") return { framing: found, protocol }
  const at = found === "framed" ? 4 : 0
  const begin = bytes[at]
  if (begin === undefined) return undefined
  const spoken = protocolOf(begin)
  if (spoken !== undefined) return { framing: found, protocol: spoken }
  throw new ThriftProtocolError({
    reason: "BadVersion",
    offset: at,
    message: `a message that begins with byte 0x${begin.toString(16)}`
  })
}
