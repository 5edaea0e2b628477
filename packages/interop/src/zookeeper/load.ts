/** A client of ours that calls all the time, and what became of its calls. */
import { HeapBalancer } from "@scales-rpc/core"
import { Mux } from "@scales-rpc/mux"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import assert from "node:assert/strict"
import { ThriftMux } from "@scales-rpc/thriftmux"
import { build, checkedCall, Echo } from "../thriftmux/echo.ts"
import { eventually } from "./observe.ts"

/** So many callers, each with a pause between its calls: about 1500 calls a second. */
const callers = 8
const pause = "5 millis"

/**
 * No call takes longer, in milliseconds: what is done about ZooKeeper holds no call up. Most take one; the bound is for a machine with
 * other work.
 */
const slowest = 1000

/** Calls that go on until the case ends or says so. */
export interface Load {
  readonly calls: () => number
  /** Waits until so many more calls have ended. */
  readonly more: (calls: number) => Effect.Effect<void, unknown>
  /** Fails unless all calls so far were answered, with their own reply and in time. */
  readonly unharmed: Effect.Effect<void>
  /** The endpoints that the client's balancer has, by `host:port`. */
  readonly endpoints: () => ReadonlyArray<string>
  readonly stop: Effect.Effect<void>
}

/** Calls the servers of a set, all of them alike: with no aperture, so that none of them is left out. */
export const load = (uri: string) =>
  Effect.gen(function*() {
    const { client: echo, state } = yield* build(
      Echo,
      ThriftMux.layer(Echo, { uri, balancer: HeapBalancer.layer(Mux) })
    )
    const failures: Array<string> = []
    let sent = 0
    let ended = 0
    let longest = 0
    const call = Effect.suspend(() => {
      const began = performance.now()
      const i = sent++
      // Servers count their pings. Not each fourth call: servers that take turns would not all have some.
      const ping = Math.imul(i, 0x9e3779b1) >>> 30 === 0
      return (ping ? echo.ping() : checkedCall(echo, i)).pipe(
        Effect.catchCause((cause) => Effect.sync(() => failures.push(String(cause)))),
        Effect.andThen(Effect.sync(() => {
          ended++
          longest = Math.max(longest, performance.now() - began)
        })),
        Effect.andThen(Effect.sleep(pause))
      )
    })
    const fiber = yield* Effect.forkScoped(
      Effect.all(Array.from({ length: callers }, () => Effect.forever(call)), {
        concurrency: "unbounded",
        discard: true
      })
    )
    return {
      calls: () => ended,
      more: (calls) => {
        const target = ended + calls
        return eventually(Effect.sync(() => ended >= target), "10 seconds", () => `${target - ended} calls are missing`)
      },
      unharmed: Effect.sync(() => {
        assert.deepEqual(failures.slice(0, 5), [], `${failures.length} of ${ended} calls failed`)
        assert.ok(longest <= slowest, `a call took ${Math.round(longest)} ms`)
      }),
      endpoints: () => state("balancer").endpoints.map(({ endpoint }: any) => endpoint).toSorted(),
      stop: Effect.asVoid(Fiber.interrupt(fiber))
    } satisfies Load
  })
