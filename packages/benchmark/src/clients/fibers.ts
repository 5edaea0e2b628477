/** Calls from Effect fibers: one fiber for each call in flight, each making one call after the other. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
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

/**
 * A client whose calls `call` describes, over a runtime that closes with it. A call that is begun by itself has a fiber of its own, as a request
 * has in a server: forked with what the runtime provides, because of what a `ManagedRuntime` makes for each fiber that it runs itself V8 keeps
 * some, and what that refers to, in its old space (pauses of 2 to 3 ms a collection in place of 0.5, seen with Effect 4.1).
 */
export const looping = async <R, E, F>(
  runtime: ManagedRuntime.ManagedRuntime<R, E>,
  call: (work: Work) => Effect.Effect<Reply, F>
): Promise<Client> => {
  const fork = Effect.runForkWith(await runtime.context())
  return {
    drive: (inFlight, load) =>
      runtime.runPromise(
        Effect.all(Array.from({ length: inFlight }, () => loop(call, load)), {
          concurrency: "unbounded",
          discard: true
        })
      ),
    begin: (work, ended) => {
      fork(Effect.matchCause(call(work), {
        onSuccess: (reply) => ended(undefined, reply),
        onFailure: (cause) => ended(Cause.squash(cause), undefined)
      }))
    },
    close: () => runtime.dispose()
  }
}
