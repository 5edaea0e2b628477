/** One request of a client session: what waits for its reply, and hears when its call is aborted. */
import {
  abortFailure,
  type AbortListener,
  type AbortReason,
  type Attempt,
  type Direct,
  type RpcError
} from "@scales-rpc/core"
import * as Exit from "effect/Exit"
import type { ClientSession } from "./ClientSession.ts"
import type { Outgoing } from "./FrameWriter.ts"
import type { MuxRequest, MuxResponse } from "./Mux.ts"

/** What the text of the discard of a superseded request must contain for Finagle to ignore it in its statistics. */
const supersededText = "Request was superseded by another in BackupRequestFilter"

/** The text of the discard of a request whose caller was interrupted. */
export const interruptedText = "interrupted by the caller"

/** What the server is told of a request that its client does not wait for any more. */
const discardText = (reason: AbortReason): string => {
  switch (reason._tag) {
    case "Superseded":
      return supersededText
    case "Timeout":
      return `no reply within ${reason.timeoutMillis} ms`
    case "StackClosed":
      return "the client is closed"
    case "Interrupted":
      return interruptedText
  }
}

/** A request whose reply is awaited. Its tag is held; it hears when its call is aborted. */
export class ClientExchange implements AbortListener {
  readonly session: ClientSession
  readonly tag: number
  readonly attempt: Attempt
  readonly request: MuxRequest
  readonly done: Direct.Done<MuxResponse, RpcError>
  outgoing: Outgoing

  constructor(
    session: ClientSession,
    tag: number,
    attempt: Attempt,
    request: MuxRequest,
    done: Direct.Done<MuxResponse, RpcError>,
    outgoing: Outgoing
  ) {
    this.session = session
    this.tag = tag
    this.attempt = attempt
    this.request = request
    this.done = done
    this.outgoing = outgoing
  }

  onAbort(reason: AbortReason): void {
    const { endpoint } = this.attempt
    const written = this.session.discard(
      this,
      discardText(reason)
    )
    // A request of which only fragments have left is none: it cannot have been executed.
    const sent = written === "written"
    this.done(Exit.fail(abortFailure(reason, {
      waiting: sent ? "reply" : "queue",
      reached: sent ? "maybe" : "no",
      endpoint
    })))
  }
}
