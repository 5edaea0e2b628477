/** Calls from Effect fibers: one fiber for each call in flight, each making one call after the other. */
import * as Effect from "effect/Effect"
import type * as ManagedRuntime from "effect/ManagedRuntime"
import type { Client, Load } from "../Load.ts"

/** What a call gives, to be looked at. */
type Reply = Parameters<Load["accept"]>[0]

/** One call after the other; the last one begins before the load is stopped. */
const loop = <E>(call: () => Effect.Effect<Reply, E>, load: Load) => {
  let more = true
  return Effect.whileLoop({
    while: () => more,
    body: call,
    step: (reply) => {
      load.accept(reply)
      more = load.running
    }
  })
}

/** A client whose calls `call` describes, over a runtime that closes with it. */
export const looping = <R, E, F>(
  runtime: ManagedRuntime.ManagedRuntime<R, E>,
  call: () => Effect.Effect<Reply, F>
): Client => ({
  drive: (inFlight, load) =>
    runtime.runPromise(
      Effect.all(Array.from({ length: inFlight }, () => loop(call, load)), {
        concurrency: "unbounded",
        discard: true
      })
    ),
  close: () => runtime.dispose()
})
