/**
 * What the two sides of a mux handshake say: the probe, and the headers of Tinit and Rinit; and what they come to about
 * TLS.
 */
import { noWindow } from "./FrameWriter.ts"
import { type Pair, sameBytes } from "./Message.ts"

/** The text of the Rerr that asks a server whether it knows Tinit; one that does sends it back. */
export const probeText = "tinit check"

const utf8 = new TextEncoder()
const fromUtf8 = new TextDecoder()
const framerKey = utf8.encode("mux-framer")
const tlsKey = utf8.encode("tls")

/** How much a side wants TLS: not at all, if the other side offers it, or not to go on without. */
export type TlsLevel = "off" | "desired" | "required"

/**
 * TLS as a session knows it: `secured`: there before its first byte, so that nothing is negotiated; or wanted as
 * `level` says, and started by `begin` when both sides want it. Between `begin` and the session's `secured` nothing is
 * sent and nothing may come.
 */
export type SessionTls = "secured" | { readonly level: "desired" | "required"; readonly begin: () => void }

/** The headers of a Tinit or Rinit: the bytes of one fragment that its sender takes, and how much it wants TLS. */
export const initHeaders = (window: number, level: TlsLevel = "off"): ReadonlyArray<Pair> => {
  const value = new Uint8Array(4)
  new DataView(value.buffer).setInt32(0, window)
  return [[framerKey, value], [tlsKey, utf8.encode(level)]]
}

/**
 * The window that a peer's headers offer, `noWindow` when they do not; or what is wrong with it, in Finagle's words. Bytes behind
 * the fourth are ignored.
 */
export const windowOf = (headers: ReadonlyArray<Pair>): number | { readonly wrong: string } => {
  for (const [key, value] of headers) {
    if (!sameBytes(key, framerKey)) continue
    if (value.length < 4) return { wrong: `tried to read 4 byte(s) when remaining bytes was ${value.length}` }
    const window = new DataView(value.buffer, value.byteOffset, 4).getInt32(0)
    return window > 0 ? window : { wrong: "requirement failed" }
  }
  return noWindow
}

/** What a session says of itself. TLS that is there already is not spoken of: `off`, as Finagle does. */
export const levelOf = (tls: SessionTls | undefined): TlsLevel =>
  tls === undefined || tls === "secured" ? "off" : tls.level

/** How much a peer wants TLS, as its headers say; not at all if they say nothing, or nothing that is known. */
export const tlsLevelOf = (headers: ReadonlyArray<Pair>): TlsLevel => {
  for (const [key, value] of headers) {
    if (!sameBytes(key, tlsKey)) continue
    const level = fromUtf8.decode(value)
    return level === "desired" || level === "required" ? level : "off"
  }
  return "off"
}

/** What two levels come to, in either order; `incompatible`: one side has none, and the other does not go on without. */
export const negotiateTls = (one: TlsLevel, other: TlsLevel): "plain" | "tls" | "incompatible" =>
  one !== "off" && other !== "off" ? "tls" : one === "required" || other === "required" ? "incompatible" : "plain"
