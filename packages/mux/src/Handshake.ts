/** What the two sides of a mux handshake say: the probe, and the headers of Tinit and Rinit. */
import { noWindow } from "./FrameWriter.ts"
import { type Pair, sameBytes } from "./Message.ts"

/** The text of the Rerr that asks a server whether it knows Tinit; one that does sends it back. */
export const probeText = "tinit check"

const utf8 = new TextEncoder()
const framerKey = utf8.encode("mux-framer")
const tlsKey = utf8.encode("tls")
const off = utf8.encode("off")

/** The headers of a Tinit or Rinit: the bytes of one fragment that its sender takes, and no TLS. */
export const initHeaders = (window: number): ReadonlyArray<Pair> => {
  const value = new Uint8Array(4)
  new DataView(value.buffer).setInt32(0, window)
  return [[framerKey, value], [tlsKey, off]]
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

/** Whether a peer's headers demand TLS, which nobody here offers. */
export const requiresTls = (headers: ReadonlyArray<Pair>): boolean =>
  headers.some(([key, value]) => sameBytes(key, tlsKey) && sameBytes(value, utf8.encode("required")))
