/** A connection of HTTP/2 that leads to nobody: on it undici begins what it would send again, and is told that it must not. */
import * as Http2 from "node:http2"
import { type Duplex, duplexPair } from "node:stream"

const ignore = (): void => {}

/** One such connection, which costs no socket. It ends when it is destroyed. */
export const nowhere = (): Duplex => {
  const [ours, theirs] = duplexPair()
  const session = Http2.performServerHandshake(theirs)
  // Destroyed with what undici holds against it, which nobody wants to know.
  session.on("error", ignore)
  theirs.on("error", ignore)
  ours.on("close", () => {
    session.destroy()
    theirs.destroy()
  })
  return Object.assign(ours, { alpnProtocol: "h2" })
}
