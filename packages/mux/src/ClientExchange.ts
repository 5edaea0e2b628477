/** One request of a client session: what waits for its reply, and hears when its call is aborted. */
import { abortFailure, type AbortListener, type AbortReason, type Attempt, type RpcError } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import type { ClientSession } from "./ClientSession.ts"
import type { Outgoing } from "./FrameWriter.ts"
import type { MuxRequest, MuxResponse } from "./Mux.ts"

/** What the text of the discard of a superseded request must contain for Finagle to ignore it in its statistics. */
const supersededText = "Request was superseded by another in BackupRequestFilter"

/** A request whose reply is awaited. Its tag is held; it hears when its call is aborted. */
export class ClientExchange implements AbortListener {
  readonly session: ClientSession
  readonly tag: number
  readonly attempt: Attempt
  readonly request: MuxRequest
  readonly resume: (effect: Effect.Effect<MuxResponse, RpcError>) => void
  outgoing: Outgoing

  constructor(
    session: ClientSession,
    tag: number,
    attempt: Attempt,
    request: MuxRequest,
    resume: (effect: Effect.Effect<MuxResponse, RpcError>) => void,
    outgoing: Outgoing
  ) {
    this.session = session
    this.tag = tag
    this.attempt = attempt
    this.request = request
    this.resume = resume
    this.outgoing = outgoing
  }

  onAbort(reason: AbortReason): void {
    const { endpoint } = this.attempt
    const written = this.session.discard(
      this,
      reason._tag === "Superseded" ? supersededText : reason._tag === "Timeout"
        ? `no reply within ${reason.timeoutMillis} ms`
        : "the client is closed"
    )
    // A request of which only fragments have left is none: it cannot have been executed.
    const sent = written === "written"
    this.resume(Effect.fail(abortFailure(reason, {
      waiting: sent ? "reply" : "queue",
      reached: sent ? "maybe" : "no",
      endpoint
    })))
  }
}
