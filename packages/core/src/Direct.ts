/**
 * The direct way down a stack: plain calls down and one callback up, where `send` costs an Effect or two in every stage. The dispatcher takes it
 * when every stage offers it and the call need not wait for something that only `send` waits for; whoever comes to such a place
 * declines, before anything was done, and the call goes by `send`.
 *
 * A stage offers it on the function `send` itself. A filter puts a `send` of its own in place of the one below it (`{ ...inner, send }`),
 * which hides what was offered: no call passes a filter by.
 *
 * An interrupted call is aborted, for the reason `Interrupted`: that ends the wait that it is in as any abort does.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { abortFailure, type AbortListener, type AbortReason } from "./Abort.ts"
import type { Attempt, Call } from "./Call.ts"
import type { MessageSink } from "./Sink.ts"

/** Hears once how an exchange ended, perhaps before the call that began it returns. It must not throw. */
export type Done<Res, E> = (exit: Exit.Exit<Res, E>) => void

/**
 * The direct way through a balanced sink. `true`: the exchange has begun, and `done` hears its end. `false`: nothing was done, and the
 * exchange is to go by `send`.
 */
export type Direct<Req, Res, E> = (request: Req, call: Call, done: Done<Res, E>) => boolean

/** The direct way through the sink of an endpoint, or of a connection. */
export interface DirectEndpoint<Req, Res, E> {
  /** Whether an exchange may begin now, in this turn, and needs no `send`. */
  readonly ready: () => boolean
  /** Begins an exchange, which was found to be ready. */
  readonly send: (request: Req, attempt: Attempt, done: Done<Res, E>) => void
}

const direct = Symbol("@scales-rpc/core/Direct")

interface Offering<D> {
  readonly [direct]?: D
}

/** A `send` that offers the direct way beside itself; one that does not, when there is none below. */
export const offer = <Send extends object, D>(send: Send, way: D | undefined): Send =>
  way === undefined ? send : Object.assign(send, { [direct]: way } satisfies Offering<D>)

/** The direct way through a balanced sink; `undefined` when a stage of it has none. */
export const through = <Req, Res, E>(sink: MessageSink<Req, Res, E>): Direct<Req, Res, E> | undefined =>
  (sink.send as Offering<Direct<Req, Res, E>>)[direct]

/** The direct way through the sink of an endpoint, or of a connection; `undefined` when a stage of it has none. */
export const throughEndpoint = <Req, Res, E>(
  sink: MessageSink<Req, Res, E, Attempt>
): DirectEndpoint<Req, Res, E> | undefined => (sink.send as Offering<DirectEndpoint<Req, Res, E>>)[direct]

/**
 * Goes on by an Effect, in a fiber of its own unless it has ended, with a call that came the direct way this far. What `self` throws is
 * the call's defect: whoever calls this may be deep in the exchange of another call.
 *
 * An abort ends it wherever it waits, with a failure of its own where nothing in it has heard of the abort.
 */
export const goOn = <Res, E>(self: () => Effect.Effect<Res, E>, call: Call, done: Done<Res, E>): void => {
  const { abort } = call
  let exit: Exit.Exit<Res, E> | undefined
  let fiber: Fiber.Fiber<Res, E> | undefined
  try {
    const effect = self()
    if (Exit.isExit(effect)) exit = effect as Exit.Exit<Res, E>
    else {
      fiber = Effect.runForkWith(abort.context)(effect)
      exit = fiber.pollUnsafe()
    }
  } catch (defect) {
    exit = Exit.die(defect)
  }
  if (exit !== undefined) return done(exit)
  bound(fiber!, call, done)
}

/** Ends a fiber with its call, and says how either ended. */
const bound = <Res, E>(fiber: Fiber.Fiber<Res, E>, call: Call, done: Done<Res, E>): void => {
  const { abort } = call
  let over = false
  const listener: AbortListener = {
    onAbort: (reason: AbortReason) => {
      // Nobody hears what it ends with.
      if (reason._tag === "Interrupted" || reason._tag === "Superseded") return fiber.interruptUnsafe()
      // The wait of ours that it is in hears of the abort as well, and knows more: it answers first, in this turn.
      queueMicrotask(() => {
        if (over) return
        over = true
        fiber.interruptUnsafe()
        // The errors of every family have ours among them.
        done(Exit.fail(
          abortFailure(reason, { waiting: "filter", reached: call.tried.length === 0 ? "no" : "maybe" }) as E
        ))
      })
    }
  }
  // Its first steps may have been the end of the call.
  if (abort.reason === undefined) abort.on(listener)
  else listener.onAbort(abort.reason)
  fiber.addObserver((exit) => {
    abort.off(listener)
    if (over) return
    over = true
    done(exit)
  })
}
