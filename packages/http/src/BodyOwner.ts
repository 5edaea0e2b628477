/** Who closes a response's body that nobody has read to its end. */
import type { BodyStream } from "./HttpWire.ts"

/**
 * Owns the bodies of one call. Whoever makes a call with a streamed response makes one, gives it along with the request, and releases it when
 * the call fails, or when the response is no longer wanted: at the end of a scope, say.
 *
 * A transport tells it of a body before the response goes up, because between two steps of a fiber it may be interrupted, and a stage on the way may
 * drop a response for another one (a hedge, a retry).
 */
export class BodyOwner {
  readonly #bodies = new Set<BodyStream>()
  #released = false

  /** Takes a body; one that comes after the release is cancelled. */
  take(body: BodyStream): void {
    if (this.#released) body.cancel()
    else this.#bodies.add(body)
  }

  /** A body has ended. */
  ended(body: BodyStream): void {
    this.#bodies.delete(body)
  }

  /** This is the body of the call's response: any other is cancelled. */
  keep(kept: Uint8Array | BodyStream): void {
    for (const body of [...this.#bodies]) {
      if (body === kept) continue
      this.#bodies.delete(body)
      body.cancel()
    }
  }

  /** Cancels what has not ended, now and from now on. */
  release(): void {
    this.#released = true
    for (const body of [...this.#bodies]) {
      this.#bodies.delete(body)
      body.cancel()
    }
  }
}
