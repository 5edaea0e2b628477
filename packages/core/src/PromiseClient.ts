/** A service for programs that are not Effect programs: the same methods, as promises. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { StackClosed } from "./RpcError.ts"

/** Every method of a service, giving a promise where it gives an effect. A promise rejects with the typed error itself. */
export type PromisesOf<Shape> = {
  readonly [K in keyof Shape as Shape[K] extends (...args: any) => Effect.Effect<any, any> ? K : never]:
    Shape[K] extends (...args: infer Args) => Effect.Effect<infer A, any> ? (...args: Args) => Promise<A> : never
}

/** A service as promises, and the end of it. */
export interface PromiseClient<Self, Shape, E> {
  /** The methods. The first call builds the layer; if that fails, every call rejects with why. */
  readonly client: PromisesOf<Shape>
  /** Runs any effect that uses the service: for `Rpc.deadline`, an `AbortSignal` and the like. */
  readonly run: <A, E2>(
    effect: Effect.Effect<A, E2, Self>,
    options?: { readonly signal?: AbortSignal | undefined }
  ) => Promise<A>
  /** Drains and closes. From here on calls reject with `StackClosed`. Idempotent: every promise is for the same end. */
  readonly close: () => Promise<void>
  /** What runs the effects, for a program that comes to use Effect in places. `close` disposes of it. */
  readonly runtime: ManagedRuntime.ManagedRuntime<Self, E>
}

/**
 * Makes a promise client of a service and the layer that gives it. Nothing is built before the first call. It lives until `close`: a
 * process with a client that nobody closes does not end by itself.
 */
export const make = <Self, Shape extends object, E>(
  service: Context.Key<Self, Shape>,
  layer: Layer.Layer<Self, E>
): PromiseClient<Self, Shape, E> => {
  const runtime = ManagedRuntime.make(layer)
  let closed = false
  let disposed: Promise<void> | undefined
  const refusal = () => new StackClosed({ stack: service.key, reached: "no", endpoint: undefined })

  const built = Effect.catchCause(
    Effect.suspend(() => runtime.contextEffect),
    // Closing ends a build that is under way.
    (cause): Effect.Effect<never, E | StackClosed> => closed ? Effect.fail(refusal()) : Effect.failCause(cause)
  )

  // Not `runtime.runPromise`: disposing a runtime interrupts what it runs, and calls are to be drained.
  const run: PromiseClient<Self, Shape, E>["run"] = (effect, options) => {
    if (closed) return Promise.reject(refusal())
    const context = runtime.cachedContext
    return context === undefined
      ? Effect.runPromise(Effect.flatMap(built, (context) => Effect.provideContext(effect, context)), options)
      : Effect.runPromiseWith(context)(effect, options)
  }

  const method = (name: string) => (...args: ReadonlyArray<unknown>): Promise<unknown> =>
    run(Effect.flatMap(service, (shape) => {
      const f = (shape as Record<string, unknown>)[name]
      return typeof f === "function"
        ? f.apply(shape, args) as Effect.Effect<unknown, unknown>
        : Effect.die(new TypeError(`${service.key} has no method "${name}"`))
    }))

  const client = new Proxy<Record<string | symbol, unknown>>({}, {
    get: (methods, name, receiver) => {
      // What the language itself asks an object for is no method of the service: `await client`, a template, JSON.
      if (typeof name === "symbol" || name === "then" || name === "toJSON" || Reflect.has(methods, name)) {
        return Reflect.get(methods, name, receiver)
      }
      return methods[name] = method(name)
    }
  })
  return {
    client: client as PromisesOf<Shape>,
    run,
    close: () => {
      closed = true
      return disposed ??= runtime.dispose()
    },
    runtime
  }
}
