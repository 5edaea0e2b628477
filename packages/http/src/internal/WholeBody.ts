/** A response's body read to its end once, for however many ask for it. */
import type { RpcError } from "@scales-rpc/core"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { BodyStream } from "../HttpWire.ts"

type Result = Effect.Effect<Uint8Array, RpcError>

/** The body. One at a time reads it, in its own fiber; whoever is interrupted leaves to the next what has come. */
export class WholeBody {
  readonly #body: Uint8Array | BodyStream
  readonly #chunks: Array<Uint8Array> = []
  #done: Exit.Exit<Uint8Array, RpcError> | undefined
  #reading = false
  readonly #others = new Set<() => void>()

  constructor(body: Uint8Array | BodyStream) {
    this.#body = body
    if (body instanceof Uint8Array) this.#done = Exit.succeed(body)
  }

  /** All of it. */
  readonly read: Result = Effect.suspend(() => {
    if (this.#done !== undefined) return this.#done
    if (this.#reading) return Effect.flatMap(this.#turn, () => this.read)
    // It begins inside of what ends it: between any two steps of a fiber it may be interrupted.
    let begun = false
    return Effect.onExitPrimitive(
      Effect.suspend(() => {
        if (this.#reading) return this.read
        begun = this.#reading = true
        return this.#rest(this.#body as BodyStream)
      }),
      (exit) => {
        if (!begun) return undefined
        this.#reading = false
        if (Exit.isSuccess(exit) || !Cause.hasInterrupts(exit.cause)) this.#done = exit
        for (const wake of [...this.#others]) wake()
        return undefined
      }
    )
  })

  #rest(body: BodyStream): Result {
    const chunks = this.#chunks
    const next: Result = Effect.flatMap(body.next, (chunk) => {
      if (chunk === undefined) return Effect.succeed(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks))
      chunks.push(chunk)
      return next
    })
    return next
  }

  readonly #turn: Effect.Effect<void> = Effect.callback<void>((resume) => {
    if (!this.#reading) return resume(Effect.void)
    const wake = () => {
      this.#others.delete(wake)
      resume(Effect.void)
    }
    this.#others.add(wake)
    return Effect.sync(() => this.#others.delete(wake))
  })
}
