/** A service for programs that are not Effect programs: the same methods, as promises. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"

/** Every method of a service, giving a promise where it gives an effect. A promise rejects with the typed error itself. */
export type PromisesOf<Shape> = {
  readonly [K in keyof Shape as Shape[K] extends (...args: any) => Effect.Effect<any, any> ? K : never]: Shape[K] extends
    (...args: infer Args) => Effect.Effect<infer A, any> ? (...args: Args) => Promise<A> : never
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
  /** Drains and closes. Idempotent. */
  readonly close: () => Promise<void>
  readonly runtime: ManagedRuntime.ManagedRuntime<Self, E>
}

/** Makes a promise client of a service and the layer that gives it. It lives until `close`. */
export const make = <Self, Shape extends object, E>(
  service: Context.Key<Self, Shape>,
  layer: Layer.Layer<Self, E>
): PromiseClient<Self, Shape, E> => {
  const runtime = ManagedRuntime.make(layer)
  const methods = new Map<string | symbol, (...args: ReadonlyArray<unknown>) => Promise<unknown>>()
  const client = new Proxy({}, {
    get: (_, name) => {
      // Not a thenable: `await client` must not call a method of the service.
      if (name === "then") return undefined
      let method = methods.get(name)
      if (method === undefined) {
        method = (...args) =>
          runtime.runPromise(Effect.flatMap(Effect.service(service), (shape) => {
            const f = (shape as Record<string | symbol, unknown>)[name]
            return typeof f === "function"
              ? f(...args) as Effect.Effect<unknown, unknown>
              : Effect.die(new TypeError(`${service.key} has no method "${String(name)}"`))
          }))
        methods.set(name, method)
      }
      return method
    }
  }) as PromisesOf<Shape>
  return {
    client,
    run: (effect, options) =>
      runtime.runPromise(effect, options?.signal === undefined ? undefined : { signal: options.signal }),
    close: () => runtime.dispose(),
    runtime
  }
}
