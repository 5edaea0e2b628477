/** What the sessions of one transport have seen, in plain fields; nothing of it remains with a session that has ended. */
import { LatencyHistogram } from "@scales-rpc/core"
import type { WriterCounts } from "./FrameWriter.ts"

/** Why a session ended. */
export type SessionEnd = "client" | "server" | "drained" | "error" | "ping_timeout" | "protocol_error"

/** All of them: `client`: closed from here; `server`: it ended the connection; `error`: the socket broke, or the handshake failed. */
export const sessionEnds: ReadonlyArray<SessionEnd> = [
  "client",
  "server",
  "drained",
  "error",
  "ping_timeout",
  "protocol_error"
]

/** The counts of a client. */
export class ClientCounts {
  /** Handshakes that ended well. */
  handshakes = 0
  dispatches = 0
  discards = 0
  nacks = 0
  /** Sessions that the server has asked to end. */
  drains = 0
  /** Of these, those that ended when every call was answered. */
  drained = 0
  leases = 0
  pings = 0
  pingTimeouts = 0
  /** Sessions whose server knows no Tdispatch. */
  downgrades = 0
  /** Answers to nothing that was asked. */
  unknownTags = 0
  /** Sessions that ended because the server did not keep to the protocol. */
  protocolErrors = 0
  messagesReceived = 0
  /** Frames that were not the last of their message. */
  fragmentsReceived = 0
  readonly sent: WriterCounts = { messages: 0, fragments: 0 }
  /** Milliseconds, with fractions. */
  readonly elapsed: () => number
  /** How long handshakes took that ended well, and answers to pings; `undefined`: not measured. */
  readonly handshakeLatency: LatencyHistogram | undefined
  readonly pingLatency: LatencyHistogram | undefined

  constructor({ elapsed, metrics }: { readonly elapsed: () => number; readonly metrics: { readonly on: boolean } }) {
    this.elapsed = elapsed
    if (!metrics.on) return
    this.handshakeLatency = new LatencyHistogram(elapsed())
    this.pingLatency = new LatencyHistogram(elapsed())
  }

  /** As plain data. */
  get snapshot() {
    const { elapsed: _, handshakeLatency: __, pingLatency: ___, sent, ...counts } = this
    return { ...counts, messagesSent: sent.messages, fragmentsSent: sent.fragments }
  }
}
