/** One request at a server, from its arrival to the last byte of its reply. */
import { Outgoing } from "./FrameWriter.ts"
import type { Message, Pair, Status, Tdispatch, Treq } from "./Message.ts"

/** Why a request is no longer wanted. */
export type Interruption =
  /** The client said so. */
  | { readonly _tag: "Discarded"; readonly why: string }
  /** The connection ended, `cause` says how. */
  | { readonly _tag: "ConnectionLost"; readonly cause: unknown }
  /** The session was drained, and the time for that is over. */
  | { readonly _tag: "DrainTimeout" }
  /** The client used a tag twice, which ends the session. */
  | { readonly _tag: "DuplicateTag"; readonly tag: number }

/** The session of an exchange. */
interface Answers {
  answer(exchange: ServerExchange, status: Status, body: Uint8Array, contexts: ReadonlyArray<Pair>): void
}

/** A request that its owner answers. */
export class ServerExchange {
  readonly request: Treq | Tdispatch
  /** Why the answer is no longer wanted; set before `onInterrupt` is called. */
  interruption: Interruption | undefined = undefined
  /** Set by the owner, who stops working on the request; a `reply` from there on is ignored. */
  onInterrupt: (() => void) | undefined = undefined
  /** @internal */
  state: "running" | "replied" | "ended" = "running"
  /** @internal */
  outgoing: Outgoing | undefined = undefined
  readonly #session: Answers

  constructor(session: Answers, request: Treq | Tdispatch) {
    this.#session = session
    this.request = request
  }

  /**
   * Answers, once: what comes later, or after the request was discarded, is ignored. A Treq's reply has no place for contexts. Throws
   * `MuxEncodeError` when the contexts have no form; the request is then still to be answered.
   */
  reply(status: Status, body: Uint8Array, contexts: ReadonlyArray<Pair> = []): void {
    if (this.state === "running") this.#session.answer(this, status, body, contexts)
  }
}

/** @internal A reply on its way out: until it has left its exchange is known by its tag, and a discard takes it back. */
export class Reply extends Outgoing {
  readonly #exchanges: Map<number, ServerExchange>

  constructor(message: Message, exchanges: Map<number, ServerExchange>) {
    super(message)
    this.#exchanges = exchanges
  }

  override onWritten(): void {
    this.#exchanges.delete(this.message.tag)
  }
}
