/** The operations of one session: they wait for a connection, are sent once, and end with what ends the connection. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ZooKeeperError } from "../errors.ts"
import { codeOf, failureOf } from "./codes.ts"

/** Ends a request: 0 and its result, or the code of what became of it. Only the first answer counts. */
export type Answer<A> = (...outcome: readonly [code: 0, value: A] | readonly [code: number]) => void

/** Sends a request. `left` says whether its caller has gone: then nobody sees the result, and nothing may be kept for it. */
export type Send<A> = (answer: Answer<A>, left: () => boolean) => void

interface Request {
  /** It outlives the connection it was sent over. */
  readonly steady: boolean
  readonly send: () => void
  readonly fail: (code: number) => void
}

/** Those that wait, and those that were sent and have no answer yet. */
export class Requests {
  readonly #waiting = new Set<Request>()
  readonly #sent = new Set<Request>()
  #open = false
  #closed = false

  /** One operation, sent when there is a connection. `steady`: a lost connection does not end it. */
  request<A>(operation: string, path: string, send: Send<A>, steady = false): Effect.Effect<A, ZooKeeperError> {
    return Effect.callback((resume) => {
      let left = false
      const request: Request = {
        steady,
        send: () => {
          this.#sent.add(request)
          send(
            (...[code, value]) => {
              if (!this.#sent.delete(request)) return
              resume(code === 0 ? Exit.succeed(value as A) : Exit.fail(failureOf(code, operation, path)))
            },
            () => left
          )
        },
        fail: (code) => {
          this.#waiting.delete(request)
          this.#sent.delete(request)
          resume(Exit.fail(failureOf(code, operation, path)))
        }
      }
      if (this.#closed) request.fail(codeOf("SessionClosed"))
      else if (this.#open) request.send()
      else this.#waiting.add(request)
      return Effect.sync(() => {
        left = true
        this.#waiting.delete(request)
      })
    })
  }

  /** There is a connection: what waits is sent, in the order it was asked for. */
  open(): void {
    this.#open = true
    for (const request of this.#waiting) {
      if (!this.#open) return
      this.#waiting.delete(request)
      request.send()
    }
  }

  /** The connection is gone: what was sent fails, unless it is steady; what comes waits. */
  lost(code: number): void {
    this.#open = false
    for (const request of [...this.#sent]) if (!request.steady) request.fail(code)
  }

  /** All that could answer is gone, and the next connection is that of another handle: what is steady is sent again over it. */
  again(code: number): void {
    for (const request of this.#sent) {
      if (!request.steady) continue
      this.#sent.delete(request)
      this.#waiting.add(request)
    }
    this.shut(code)
  }

  /** All that could answer is gone: what was sent fails, what comes waits. */
  shut(code: number): void {
    this.#open = false
    for (const request of [...this.#sent]) request.fail(code)
  }

  /** For ever. */
  close(): void {
    this.#closed = true
    this.shut(codeOf("SessionClosed"))
    for (const request of [...this.#waiting]) request.fail(codeOf("SessionClosed"))
  }
}
