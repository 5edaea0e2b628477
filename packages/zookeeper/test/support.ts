/** What the tests of server sets and announcements share. */
import type { ServerSetState } from "@scales-rpc/core"
import { Seed } from "@scales-rpc/core/testing"
import { Context, type Duration, Effect, Layer, Logger, Metric, Stream } from "effect"
import { TestClock } from "effect/testing"
import { FakeZooKeeper } from "../src/testing/index.ts"
import { type ServerSetDefaults, type ServerSetOptions, ZooKeeper } from "../src/ZooKeeper.ts"
import { serverSet } from "../src/ZooKeeperServerSet.ts"

/** Where the members are. */
export const path = "/services/echo"

/** Lets every fiber that can go on do so, without time passing. */
export const settle: Effect.Effect<void> = Effect.gen(function*() {
  for (let turn = 0; turn < 400; turn++) yield* Effect.yieldNow
})

/** Lets time pass in steps, and whatever is due in each of them happen in it. */
export const pass = (steps: number, step: Duration.Input): Effect.Effect<void> =>
  Effect.gen(function*() {
    for (let done = 0; done < steps; done++) {
      yield* TestClock.adjust(step)
      for (let turn = 0; turn < 15; turn++) yield* Effect.yieldNow
    }
  })

/** The data of a member at `h:port`. */
export const member = (port: number, fields: object = {}): string =>
  JSON.stringify({ serviceEndpoint: { host: "h", port }, additionalEndpoints: {}, status: "ALIVE", ...fields })

/** What was logged, as `LEVEL text {annotations}`. */
export class Messages extends Context.Service<Messages, ReadonlyArray<string>>()("test/Messages") {}

/** Numbers from 0 to 1, without 1, that repeat for a seed (mulberry32). */
export const seeded = (seed: number): () => number => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** An in-memory ZooKeeper whose server sets let members go at once, unless a test is about that. */
export const zk = (options: ServerSetDefaults = { removals: 0, empty: 0 }, seed: string | number = "zookeeper") =>
  Layer.unwrap(Effect.sync(() => {
    const messages: Array<string> = []
    const logger = Logger.make((options) => {
      const { annotations, level, message } = Logger.formatStructured.log(options)
      messages.push(`${level} ${[message].flat().map(String).join(" ")} ${JSON.stringify(annotations)}`)
    })
    return FakeZooKeeper.layer(options).pipe(
      Layer.provideMerge(Layer.mergeAll(Seed.layer(seed), Logger.layer([logger]), Layer.succeed(Messages, messages)))
    )
  }))

/** A state in a few words: the ports of its endpoints, with weights other than 1; the tag of what failed. */
export const show = (state: ServerSetState | undefined): string => {
  switch (state?._tag) {
    case undefined:
      return "none"
    case "Bound":
      return ["Bound", ...state.endpoints.map(({ port, weight }) => weight === 1 ? `${port}` : `${port}*${weight}`)]
        .join(" ")
    case "Failed":
      return `Failed ${String((state.cause as { _tag?: string } | null)?._tag ?? state.cause)}`
    default:
      return state!._tag
  }
}

/** Runs a server set until the scope closes. */
export const watch = (options: ServerSetOptions = {}, uri = `zk://zk1${path}`) =>
  Effect.gen(function*() {
    const states = yield* serverSet(yield* ZooKeeper, uri, uri.slice("zk://".length), options)
    const seen: Array<ServerSetState> = []
    yield* Effect.forkScoped(Stream.runForEach(states, (state) => Effect.sync(() => void seen.push(state))), {
      startImmediately: true
    })
    yield* settle
    return {
      /** Every state that it showed. */
      seen,
      /** The same in words. */
      text: () => seen.map(show),
      /** The last of them. */
      last: () => show(seen.at(-1))
    }
  })

/** What the series show, by name and attributes; of latencies, how many there are. */
export const shown: Effect.Effect<Readonly<Record<string, number>>> = Effect.map(
  Metric.snapshot,
  (all) =>
    Object.fromEntries(all.map(({ attributes, id, state }) => {
      const { unit: _, ...told } = (attributes ?? {}) as Record<string, string>
      const named = Object.entries(told).toSorted(([a], [b]) => a < b ? -1 : 1).map(([name, text]) => `${name}=${text}`)
      const { count, value } = state as { readonly count?: number; readonly value?: number }
      return [`${id}{${named.join(",")}}`, (count ?? value)!]
    }))
)
