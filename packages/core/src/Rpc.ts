/**
 * What a caller may say of a call, piped onto it, and what a server's handler may ask of the call it serves.
 *
 * The options are read when the call starts, so they bind every call made inside the effect they are piped onto, down to the
 * calls of calls; a tighter deadline and a nearer entry win.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Tracer from "effect/Tracer"
import type { ReplyHeaders } from "./Call.ts"
import { CallContext, type ContextKey, textKey } from "./CallContext.ts"

/** The options in force for the calls of an effect. */
export interface CallSettings {
  /** Milliseconds of the `Clock`; `Infinity`: none but the stack's own timeout. */
  readonly deadline: number
  readonly idempotent: boolean
  readonly context: CallContext
  readonly reply: ReplyHeaders | undefined
}

/** The settings when nothing was said. */
export const defaultSettings: CallSettings = {
  deadline: Infinity,
  idempotent: false,
  context: CallContext.empty,
  reply: undefined
}

/** Carries the settings through an effect. Stages do not read it: the dispatcher does, once a call. */
export const CallSettings: Context.Reference<CallSettings> = Context.Reference<CallSettings>(
  "@scales-rpc/core/CallSettings",
  { defaultValue: () => defaultSettings }
)

/**
 * Bounds every call of the effect, and all of them together, by a time from when the effect starts. An outer or inbound deadline
 * that is nearer stays. A call whose time is over fails with `Timeout`. Throws when the duration cannot be read.
 */
export const deadline = (duration: Duration.Input) => {
  const millis = Duration.toMillis(Duration.fromInputUnsafe(duration))
  return <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.withFiber((fiber) => {
      const settings = fiber.getRef(CallSettings)
      const at = fiber.getRef(Clock.Clock).currentTimeMillisUnsafe() + millis
      return at >= settings.deadline
        ? self
        : Effect.provideService(self, CallSettings, { ...copyOf(settings), deadline: at })
    })
}

/** A handler's settings are no plain object. */
const copyOf = ({ context, deadline, idempotent, reply }: CallSettings): CallSettings => ({
  context,
  deadline,
  idempotent,
  reply
})

const update = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  f: (settings: CallSettings) => CallSettings
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => Effect.provideService(self, CallSettings, f(fiber.getRef(CallSettings))))

/** Sends an entry with every call of the effect. A plain string as key names a text entry. */
export const context: {
  <A>(key: ContextKey<A>, value: A): <B, E, R>(self: Effect.Effect<B, E, R>) => Effect.Effect<B, E, R>
  (key: string, value: string): <B, E, R>(self: Effect.Effect<B, E, R>) => Effect.Effect<B, E, R>
} = (key: ContextKey<any> | string, value: unknown) => {
  const entry: ContextKey<any> = typeof key === "string" ? textKey(key) : key
  return <B, E, R>(self: Effect.Effect<B, E, R>): Effect.Effect<B, E, R> =>
    update(self, (settings) => ({ ...copyOf(settings), context: settings.context.with(entry, value) }))
}

/** Says that the calls of the effect may be executed twice. */
export const idempotent = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  update(self, (settings) => ({ ...copyOf(settings), idempotent: true }))

/** The result together with the application headers of the reply: of the last call, when the effect makes several. */
export const withReplyHeaders = <A, E, R>(
  self: Effect.Effect<A, E, R>
): Effect.Effect<readonly [result: A, headers: ReadonlyArray<readonly [string, string]>], E, R> =>
  Effect.suspend(() => {
    const reply: ReplyHeaders = { headers: [] }
    return Effect.map(
      update(self, (settings) => ({ ...copyOf(settings), reply })),
      (result) => [result, reply.headers] as const
    )
  })

/** The call that a server's handler serves. */
export interface InboundCall {
  /** The caller's address, `host:port`. */
  readonly peer: string
  /** Milliseconds of the `Clock`; `Infinity`: the caller set none. */
  readonly deadline: number
  /** All that came with it, entries for one hop included. */
  readonly context: CallContext
  /** Sets the application headers of the reply. */
  readonly setReplyHeaders: (headers: ReadonlyArray<readonly [string, string]>) => void
}

/** The call being served; `undefined` outside a handler. */
export const Inbound: Context.Reference<InboundCall | undefined> = Context.Reference<InboundCall | undefined>(
  "@scales-rpc/core/Inbound",
  { defaultValue: () => undefined }
)

/** Settings of the calls that a handler makes. Most make none: what they inherit is read when it is asked for. */
class ServedSettings implements CallSettings {
  readonly deadline: number
  readonly idempotent = false
  readonly reply = undefined
  readonly #inbound: InboundCall
  #context: CallContext | undefined

  constructor(inbound: InboundCall) {
    this.#inbound = inbound
    this.deadline = inbound.deadline
  }

  get context(): CallContext {
    return this.#context ??= this.#inbound.context.onward
  }
}

/**
 * Runs a handler as the service of an inbound call: it can ask `Inbound`, the calls it makes inherit the deadline and every
 * entry that is not for one hop, and they and its spans are in the span `parent`, if there is one.
 */
export const serving = <A, E, R>(
  inbound: InboundCall,
  handler: Effect.Effect<A, E, R>,
  parent?: Tracer.AnySpan
): Effect.Effect<A, E, R> =>
  Effect.updateContext(handler, (context: Context.Context<R>) => {
    const called = Context.add(
      Context.add(context, Inbound, inbound),
      CallSettings,
      new ServedSettings(inbound)
    ) as Context.Context<R>
    return parent === undefined ? called : Context.add(called, Tracer.ParentSpan, parent) as Context.Context<R>
  })
