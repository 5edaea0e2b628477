/** A request's body on its way from a stream to the connection. */
import type * as Context from "effect/Context"
import * as Stream from "effect/Stream"
import { Readable } from "node:stream"
import { RequestBodyFailed } from "../errors.ts"
import type { StreamedBody } from "../HttpWire.ts"
import type { TransportCounts } from "./TransportCounts.ts"

const stopped = new Error("nobody waits for the response any more")

const ignore = (): void => {}

/** Runs the stream of one attempt: from when its first bytes are asked for, until it ends or is stopped. */
export class Upload {
  /**
   * What undici reads. A stream of Node's, because one that breaks resets what it was to be sent on, where undici takes an iterator that is
   * ended for the end of the body, or for nothing at all.
   */
  readonly readable: Readable
  /** Whether anything of it was asked for. */
  begun = false
  /** Why the stream came to no good end. */
  failure: RequestBodyFailed | undefined
  readonly #chunks: AsyncIterator<Uint8Array>
  readonly #counts: TransportCounts

  constructor(body: StreamedBody, context: Context.Context<never>, counts: TransportCounts) {
    this.#counts = counts
    this.#chunks = Stream.toAsyncIterableWith(body.stream, context)[Symbol.asyncIterator]()
    this.readable = new Readable({
      read: () => void this.#pull(),
      // At once, whatever the stream does at its interruption: what it was to be sent on is reset by this, and not by its last finalizer.
      destroy: (error, done) => {
        this.#interrupt(error ?? stopped)
        done(error)
      }
    })
    // Why it was destroyed is heard elsewhere; nobody may be listening any more.
    this.readable.on("error", ignore)
  }

  /** Interrupts the stream, if it runs. */
  stop(): void {
    const { readable } = this
    if (readable.readableEnded || readable.destroyed) return
    readable.destroy(stopped)
  }

  #interrupt(cause: Error): void {
    if (this.begun) void this.#chunks.throw!(cause).catch(ignore)
  }

  async #pull(): Promise<void> {
    const { readable } = this
    this.begun = true
    try {
      let next = await this.#chunks.next()
      while (!next.done && next.value.length === 0) next = await this.#chunks.next()
      if (readable.destroyed) return
      if (!next.done) this.#counts.requestBodyBytes += next.value.length
      readable.push(next.done ? null : next.value)
    } catch (cause) {
      if (!readable.destroyed) readable.destroy(this.failure = new RequestBodyFailed({ cause }))
    }
  }
}
