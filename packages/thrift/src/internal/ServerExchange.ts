/** One request at a Thrift server, from its arrival until its reply is written. */
import type { CallContext } from "@scales-rpc/core"

/** The connection of an exchange. */
interface Answers {
  readonly peer: string
  answer(exchange: ServerExchange, reply: Uint8Array): void
  refuse(exchange: ServerExchange): void
}

/** What was read of a request before its arguments. */
export interface RequestHead {
  /** The call, behind what the upgrade puts before it. */
  readonly body: Uint8Array
  /** The method, with the service before it if the client named one. */
  readonly name: string
  readonly sequenceId: number
  /** Nobody waits for a reply: the message, or the method, says so. */
  readonly oneway: boolean
  /** What came with it; empty on a connection that is not upgraded. */
  readonly context: CallContext
  /** Milliseconds since the epoch; `Infinity`: none. */
  readonly deadline: number
  /** What goes before the reply; `undefined` on a connection that is not upgraded. */
  readonly replyHeader: Uint8Array | undefined
}

/** A request that its owner answers, or refuses, once; what comes later is ignored. */
export class ServerExchange {
  readonly head: RequestHead
  readonly connection: Answers
  /** Set by the owner, who stops working on the request. */
  onInterrupt: (() => void) | undefined = undefined
  /** `refused`: its bytes are no call, and the connection ends with what was before it; `ended`: the answer is not wanted any more. */
  state: "running" | "answered" | "refused" | "ended" = "running"
  /** Once it is answered. */
  reply: Uint8Array | undefined = undefined

  constructor(connection: Answers, head: RequestHead) {
    this.connection = connection
    this.head = head
  }
}
