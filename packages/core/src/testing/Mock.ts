/** A service without a stack: the methods a test gives, a record of the calls they got, and a clear defect for every other method. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type { CallContext } from "../CallContext.ts"
import { CallSettings } from "../Rpc.ts"
import { Timeout } from "../RpcError.ts"

/** Arguments, result and failure of a member that is an effect or makes one; `never` for any other. */
type Signature<Member> = Member extends (...args: infer Args) => Effect.Effect<infer A, infer E, infer _>
  ? { readonly args: Args; readonly success: A; readonly failure: E }
  : Member extends Effect.Effect<infer A, infer E, infer _>
    ? { readonly args: readonly []; readonly success: A; readonly failure: E }
  : never

/** The members of a service whose calls are recorded: methods that give an effect, and effects. */
export type MethodName<Shape> = {
  [Name in keyof Shape]: [Signature<Shape[Name]>] extends [never] ? never : Name
}[keyof Shape]

/** What a test may give of a service: any of its members. Nothing of a service that is a function itself: `Layer.succeed` is its mock. */
export type Members<Shape> = Shape extends (...args: never) => unknown ? never : Partial<Shape>

/** One call that a mock got. */
export interface MockCall<Method, Args, A, E> {
  readonly method: Method
  readonly args: Args
  /** When it began, in milliseconds of the `Clock`. */
  readonly at: number
  /** The deadline in force, in milliseconds of the `Clock`; `Infinity`: the code under test set none. */
  readonly deadline: number
  /** How long that was from when it began. */
  readonly remainingMillis: number
  /** Whether the code under test said that it may be executed twice. */
  readonly idempotent: boolean
  /** What would have travelled with it. */
  readonly context: CallContext
  /** How it ended; `undefined`: it has not. */
  readonly exit: Exit.Exit<A, E> | undefined
}

/** A call of one method, typed by it. */
export type CallOf<Shape, Method extends MethodName<Shape>> = Signature<Shape[Method]> extends {
  readonly args: infer Args
  readonly success: infer A
  readonly failure: infer E
} ? MockCall<Method, Args, A, E>
  : never

/** A call of any method: `method` tells which, and with it the types of the rest. */
export type AnyCall<Shape> = { [Method in MethodName<Shape>]: CallOf<Shape, Method> }[MethodName<Shape>]

/** What a mock was called with. */
export interface Recorded<Shape> {
  /** Every call that has begun, in that order. Live. */
  readonly calls: ReadonlyArray<AnyCall<Shape>>
  /** Those of one method. */
  readonly of: <Method extends MethodName<Shape>>(method: Method) => ReadonlyArray<CallOf<Shape, Method>>
  /** Waits until a method has been called so many times, once by default, and gives its calls. */
  readonly called: <Method extends MethodName<Shape>>(
    method: Method,
    times?: number
  ) => Effect.Effect<ReadonlyArray<CallOf<Shape, Method>>>
}

/** That a service is a mock: what `recorded` needs. */
export interface Mocked<in out Self> {
  readonly "~mocked": (_: Self) => Self
}

const recordOf = <Self, Shape>(service: Context.Key<Self, Shape>): Context.Service<Mocked<Self>, Recorded<Shape>> =>
  Context.Service(`${service.key}/Mocked`)

interface Entry extends Omit<MockCall<PropertyKey, ReadonlyArray<unknown>, unknown, unknown>, "exit"> {
  exit: Exit.Exit<unknown, unknown> | undefined
}

class Recording {
  readonly calls: Array<Entry> = []
  #waiting: Array<() => void> = []

  /** The effect, with every run of it in the record. */
  record(
    method: PropertyKey,
    args: ReadonlyArray<unknown>,
    self: () => Effect.Effect<unknown, unknown, unknown>
  ): Effect.Effect<unknown, unknown, unknown> {
    return Effect.withFiber((fiber) => {
      const { context, deadline, idempotent } = fiber.getRef(CallSettings)
      const at = fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()
      const remainingMillis = Math.max(0, deadline - at)
      const entry: Entry = { method, args, at, deadline, remainingMillis, idempotent, context, exit: undefined }
      return Effect.onExitPrimitive(
        Effect.suspend(() => {
          this.calls.push(entry)
          for (const look of this.#waiting.slice()) look()
          return self()
        }),
        (exit) => {
          entry.exit = exit
          return undefined
        }
      )
    })
  }

  readonly of = (method: PropertyKey): Array<Entry> => this.calls.filter((call) => call.method === method)

  readonly called = (method: PropertyKey, times = 1): Effect.Effect<Array<Entry>> =>
    Effect.callback((resume) => {
      const leave = () => {
        this.#waiting = this.#waiting.filter((other) => other !== look)
      }
      const look = () => {
        const calls = this.of(method)
        if (calls.length < times) return
        leave()
        resume(Effect.succeed(calls))
      }
      this.#waiting.push(look)
      look()
      return Effect.sync(leave)
    })
}

/** A promise asks whatever it is resolved with whether it is one too, and `JSON.stringify` how it is to be printed. */
const askedOfAll: ReadonlySet<string> = new Set(["then", "toJSON"])

/**
 * Provides a service with these methods, typed as the service declares them: arguments, result, and no failure that it does not declare.
 * Each run of a method's effect is a call, which asks the method anew, as a client would send it anew; the first run has what the method
 * gave when it was asked for the effect. What it throws then is thrown, and no call: a call that dies is `Effect.die`. Calling a method that
 * was not given dies with a message that names it. `recorded` tells of the calls.
 */
export const layer = <Self, Shape extends object>(
  service: Context.Key<Self, Shape>,
  methods: Members<Shape>
): Layer.Layer<Self | Mocked<Self>> =>
  Layer.effectContext(Effect.sync(() => {
    const recording = new Recording()
    const mock = new Proxy<Partial<Shape>>(methods, {
      get: (given, name, receiver) => {
        if (!Reflect.has(given, name) && typeof name !== "symbol" && !askedOfAll.has(name)) {
          return () => {
            throw new Error(`Mock of "${service.key}": method "${name}" was called but not given`)
          }
        }
        const member: unknown = Reflect.get(given, name, receiver)
        if (Effect.isEffect(member)) return recording.record(name, [], () => member)
        if (typeof member !== "function") return member
        return (...args: ReadonlyArray<unknown>) => {
          const ask = (): unknown => Reflect.apply(member, receiver, args)
          const first = ask()
          if (!Effect.isEffect(first)) return first
          let answer: typeof first | undefined = first
          return recording.record(name, args, () => {
            const next = answer ?? (ask() as typeof first)
            answer = undefined
            return next
          })
        }
      }
    })
    return Context.make(service, mock as Shape).pipe(
      Context.add(recordOf(service), recording as unknown as Recorded<Shape>)
    )
  }))

/**
 * What the mock of a service was called with: `const { calls } = yield* Mock.recorded(Echo)`. Each layer that is built has a record of
 * its own.
 */
export const recorded = <Self, Shape extends object>(
  service: Context.Key<Self, Shape>
): Effect.Effect<Recorded<Shape>, never, Mocked<Self>> => recordOf(service)

/**
 * An answer that takes its time, for a method of a mock. Where the deadline of the call (`Rpc.deadline`) is nearer, the call fails with
 * `Timeout` when that has passed, as a client's would.
 */
export const slow = (duration: Duration.Input) => {
  const millis = Duration.toMillis(Duration.fromInputUnsafe(duration))
  return <A, E, R>(answer: Effect.Effect<A, E, R>): Effect.Effect<A, E | Timeout, R> =>
    Effect.withFiber((fiber): Effect.Effect<A, E | Timeout, R> => {
      const left = Math.max(
        0,
        fiber.getRef(CallSettings).deadline - fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()
      )
      if (millis < left) return Effect.andThen(Effect.sleep(millis), answer)
      if (left === Infinity) return Effect.never
      return Effect.andThen(
        Effect.sleep(left),
        Effect.fail(
          new Timeout({
            timeoutMillis: left,
            waiting: "reply",
            reached: "maybe",
            endpoint: undefined,
            cause: undefined
          })
        )
      )
    })
}

/**
 * No answer, for a method of a mock: `Timeout` when the deadline of the call has passed, and nothing for ever when the code under test
 * set none (a client has a timeout of its own; a mock has none).
 */
export const silent: Effect.Effect<never, Timeout> = slow(Infinity)(Effect.never)

/** An answer with application headers, for a method of a mock: what `Rpc.withReplyHeaders` gives the code under test. */
export const withReplyHeaders =
  (headers: ReadonlyArray<readonly [string, string]>) =>
  <A, E, R>(answer: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.withFiber((fiber) => {
      const { reply } = fiber.getRef(CallSettings)
      return Effect.map(answer, (result) => {
        if (reply !== undefined) reply.headers = headers
        return result
      })
    })
