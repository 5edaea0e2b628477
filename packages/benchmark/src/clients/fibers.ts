/** Calls from Effect fibers: one fiber for each call in flight, each making one call after the other. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as ManagedRuntime from "effect/ManagedRuntime"
import type { Client, Load } from "../Load.ts"
import type { Reply, Work } from "../workload.ts"

/** One call after the other; the last one begins before the load is stopped. */
const loop = <E>(call: (work: Work) => Effect.Effect<Reply, E>, load: Load) => {
  let more = true
  let began = 0
  return Effect.whileLoop({
    while: () => more,
    body: () => {
      began = load.begin()
      return call(load.work)
    },
    step: (reply) => {
      load.end(began, reply)
      more = load.running
    }
  })
}

/** A client whose calls `call` describes, over a runtime that closes with it. A call that is begun by itself has a fiber of its own. */
export const looping = <R, E, F>(
  runtime: ManagedRuntime.ManagedRuntime<R, E>,
  call: (work: Work) => Effect.Effect<Reply, F>
): Client => ({
  drive: (inFlight, load) =>
    runtime.runPromise(
      Effect.all(Array.from({ length: inFlight }, () => loop(call, load)), {
        concurrency: "unbounded",
        discard: true
      })
    ),
  begin: (work, ended) => {
    runtime.runCallback(call(work), {
      onExit: (exit) => Exit.isSuccess(exit) ? ended(undefined, exit.value) : ended(Cause.squash(exit.cause), undefined)
    })
  },
  close: () => runtime.dispose()
})
