/** A service without a stack: the methods a test gives, and a clear defect for every other. */
import type * as Context from "effect/Context"
import * as Layer from "effect/Layer"

/**
 * Provides a service with these methods, typed as the service declares them. Calling one that was not given dies with a message
 * that names it.
 */
export const layer = <Self, Shape extends object>(
  service: Context.Key<Self, Shape>,
  methods: Partial<Shape>
): Layer.Layer<Self> =>
  Layer.succeed(
    service,
    new Proxy(methods, {
      get: (given, name, receiver) => {
        // A promise asks whatever it is resolved with whether it is one too.
        if (Reflect.has(given, name) || typeof name === "symbol" || name === "then") {
          return Reflect.get(given, name, receiver)
        }
        return () => {
          throw new Error(`Mock of "${service.key}": method "${name}" was called but not given`)
        }
      }
    }) as Shape
  )
