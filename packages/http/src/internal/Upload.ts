/** A request's body on its way from a stream to the connection. */
import type * as Context from "effect/Context"
import * as Stream from "effect/Stream"
import { Readable } from "node:stream"
import { RequestBodyFailed } from "../errors.ts"
import type { StreamedBody } from "../HttpWire.ts"

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

  constructor(body: StreamedBody, context: Context.Context<never>) {
    const chunks = Stream.toAsyncIterableWith(body.stream, context)[Symbol.asyncIterator]()
    const next = async () => {
      this.begun = true
      try {
        return await chunks.next()
      } catch (cause) {
        throw this.failure = new RequestBodyFailed({ cause })
      }
    }
    const source = { [Symbol.asyncIterator]: () => ({ ...chunks, next }) }
    this.readable = Readable.from(source, { objectMode: false })
    // Why it was destroyed is heard elsewhere; nobody may be listening any more.
    this.readable.on("error", ignore)
  }

  /** Interrupts the stream, if it runs. */
  stop(): void {
    if (!this.readable.readableEnded) this.readable.destroy(stopped)
  }
}
