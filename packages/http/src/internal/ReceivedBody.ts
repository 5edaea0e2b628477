/** A response's body between the connection that it comes from and whoever reads it: never more of it in memory than a little. */
import {
  abortFailure,
  type AbortListener,
  type AbortReason,
  type Attempt,
  ConnectionClosed,
  type Outcome,
  type RpcError
} from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import type { BodyOwner } from "../BodyOwner.ts"
import type { BodyStream } from "../HttpWire.ts"
import type { BodyEnd } from "./TransportCounts.ts"

/** Bytes that may wait for their reader before the connection is read no further. */
const highWater = 65_536

/** What the body tells the exchange it belongs to. */
export interface BodySource {
  /** There is enough for now; there is not any more. */
  readonly pause: () => void
  readonly resume: () => void
  /** Nobody reads on: the exchange is to end. */
  readonly giveUp: () => void
  /** The body has ended, or is not read to its end. */
  readonly bodyEnded: (how: BodyEnd) => void
}

type Result = Effect.Effect<Uint8Array | undefined, RpcError>

const end: Result = Effect.succeed(undefined)

/** The body of one attempt, which it holds until its end. */
export class ReceivedBody implements BodyStream, AbortListener {
  readonly #source: BodySource
  readonly #attempt: Attempt
  readonly #owner: BodyOwner
  readonly #release: ReturnType<Attempt["hold"]>
  readonly #chunks: Array<Uint8Array> = []
  #waiting = 0
  #paused = false
  /** How it has ended; what had come before is read first. */
  #last: Result | undefined
  /** Who waits for the next bytes: one, as a rule; of several, the first that came is served first. */
  readonly #readers: Array<(result: Result) => void> = []

  constructor(source: BodySource, attempt: Attempt, owner: BodyOwner) {
    this.#source = source
    this.#attempt = attempt
    this.#owner = owner
    this.#release = attempt.hold()
    owner.take(this)
    const { abort } = attempt
    if (abort.reason !== undefined) this.onAbort(abort.reason)
    else if (this.#last === undefined) abort.on(this)
  }

  // Whoever waits already comes before whoever asks now.
  readonly next: Result = Effect.suspend(() => (this.#readers.length === 0 ? this.#take() : undefined) ?? this.#wait)

  readonly cancel = (): void => {
    if (this.#last !== undefined) {
      // Its end has come, and nobody reads what came before.
      this.#chunks.length = 0
      return
    }
    const { endpoint } = this.#attempt
    const error = new ConnectionClosed({ endpoint, reached: "maybe", cause: "the body was cancelled" })
    this.#drop(Effect.fail(error), "cancelled")
    this.#release("ignored")
  }

  /** The call's time is over, or its client closed. */
  onAbort(reason: AbortReason): void {
    const { endpoint } = this.#attempt
    this.#drop(Effect.fail(abortFailure(reason, { waiting: "reply", reached: "maybe", endpoint })), "aborted")
  }

  /** Bytes from the connection. */
  push(chunk: Uint8Array): void {
    // undici tells of none when it is read again after a pause.
    if (this.#last !== undefined || chunk.length === 0) return
    this.#chunks.push(chunk)
    this.#waiting += chunk.length
    if (this.#waiting >= highWater && !this.#paused) {
      this.#paused = true
      this.#source.pause()
    }
    this.#wake()
  }

  /** The exchange is over: the body is complete. `outcome` is what the response says of the endpoint. */
  complete(outcome: Outcome): void {
    if (this.#last !== undefined) return
    this.#finish(end, "complete")
    this.#release(outcome)
  }

  /** The exchange is over: the rest will not come. */
  fail(error: RpcError): void {
    this.#break(Effect.fail(error))
  }

  /** The exchange is over, and nobody can say how: its classifier has thrown. */
  die(defect: unknown): void {
    this.#break(Effect.die(defect))
  }

  readonly #wait: Result = Effect.callback((resume) => {
    this.#readers.push(resume)
    this.#wake()
    return Effect.sync(() => {
      const at = this.#readers.indexOf(resume)
      if (at >= 0) this.#readers.splice(at, 1)
    })
  })

  #break(last: Result): void {
    if (this.#last !== undefined) return
    this.#finish(last, "broken")
    this.#release("failure")
  }

  #take(): Result | undefined {
    const chunk = this.#chunks.shift()
    if (chunk === undefined) return this.#last
    this.#waiting -= chunk.length
    if (this.#paused && this.#waiting === 0) {
      this.#paused = false
      this.#source.resume()
    }
    return Effect.succeed(chunk)
  }

  /** Nothing more is read, not even what has come. */
  #drop(last: Result, how: BodyEnd): void {
    if (this.#last !== undefined) return
    this.#chunks.length = 0
    this.#finish(last, how)
    this.#source.giveUp()
  }

  #finish(last: Result, how: BodyEnd): void {
    this.#last = last
    this.#source.bodyEnded(how)
    this.#attempt.abort.off(this)
    this.#owner.ended(this)
    this.#wake()
  }

  /** Tells who reads once the connection's parser has returned: it may be in the midst of a chunk, and bears no other call. */
  #wake(): void {
    if (this.#readers.length === 0 || (this.#chunks.length === 0 && this.#last === undefined)) return
    queueMicrotask(() => {
      while (this.#readers.length > 0) {
        const ready = this.#take()
        if (ready === undefined) return
        this.#readers.shift()!(ready)
      }
    })
  }
}
