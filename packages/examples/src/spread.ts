/**
 * How each balancer spreads calls over five servers, drawn: every server equal, one slow, one down, few calls at a time, weights. The
 * balancers are the real ones, over the default recovery; the servers are a script, the clock is Effect's `TestClock`, and a seed
 * repeats every choice, so that each run prints the same. `docs/balancers.md` shows what it prints.
 */
import {
  Aperture,
  classifyExit,
  DeterministicAperture,
  Dispatcher,
  Endpoint,
  FailureAccrual,
  HeapBalancer,
  P2C,
  PeakEwma,
  Requeue,
  Resurrector,
  RoundRobin,
  ServerSet,
  SingletonPool,
  Stack,
  wire
} from "@scales-rpc/core"
import { Scripted, ScriptedConnector, Seed } from "@scales-rpc/core/testing"
import { Clock, Effect, Layer, Logger, Random } from "effect"
import { TestClock } from "effect/testing"

/** Requests and replies are of no interest here. */
const Text = wire<string, string>()("Spread")

/** What is drawn, from left to right. */
const balancers = {
  HeapBalancer: HeapBalancer.layer(Text),
  Aperture: Aperture.layer(Text),
  P2C: P2C.layer(Text),
  PeakEwma: PeakEwma.layer(Text),
  RoundRobin: RoundRobin.layer(Text),
  // The first of five clients, and at least two servers for each.
  Deterministic: DeterministicAperture.layer(Text, { instance: 0, instances: 5, minAperture: 2 })
}

const names = ["a", "b", "c", "d", "e"]

/** What the servers are like, and how the calls come. */
interface Scene {
  readonly title: string
  /** Milliseconds between one call and the next. */
  readonly every: number
  readonly weights?: ReadonlyArray<number>
  /** How many times as long the last server takes. */
  readonly slow?: number
  /** The last server cannot be connected to. */
  readonly down?: boolean
}

const scenes: ReadonlyArray<Scene> = [
  { title: "Equal servers, 10 calls at a time", every: 10 },
  { title: "e takes ten times as long", every: 10, slow: 10 },
  { title: "e cannot be connected to", every: 10, down: true },
  { title: "Few calls: one at a time", every: 100 },
  { title: "Weights 1, 1, 2, 2, 4", every: 10, weights: [1, 1, 2, 2, 4] }
]

/** How long the calls come before they are counted: three times as long as the aperture's load is averaged over. */
const settlingMillis = 15_000
/** How many are counted. */
const counted = 1000

/** What one balancer made of one scene. */
interface Spread {
  /** Calls that each server has answered. */
  readonly calls: ReadonlyArray<number>
  readonly meanMillis: number
  /** Ninety-nine of a hundred calls took no longer. */
  readonly slowestMillis: number
  readonly connections: number
}

const play = (balancer: (typeof balancers)[keyof typeof balancers], scene: Scene): Effect.Effect<Spread> =>
  Effect.gen(function*() {
    const sink = yield* Text.Balanced
    const script = yield* ScriptedConnector
    const { dispatch } = yield* Dispatcher.make({ service: "spread", timeout: "10 seconds" })
    if (scene.down === true) script.refuse("e:1")
    const method = { name: "call", idempotent: false, classify: classifyExit }
    const calls = new Map(names.map((name) => [name, 0]))
    const took: Array<number> = []
    const call = (counts: boolean) =>
      Effect.gen(function*() {
        const start = yield* Clock.currentTimeMillis
        const server = yield* dispatch(method, (made) => sink.send("", made))
        if (!counts) return
        calls.set(server, calls.get(server)! + 1)
        took.push((yield* Clock.currentTimeMillis) - start)
      })
    const before = settlingMillis / scene.every
    for (let i = 0; i < before + counted; i++) {
      yield* Effect.forkChild(call(i >= before), { startImmediately: true })
      yield* TestClock.adjust(scene.every)
    }
    yield* TestClock.adjust("2 seconds")
    took.sort((a, b) => a - b)
    return {
      calls: [...calls.values()],
      meanMillis: took.reduce((sum, millis) => sum + millis, 0) / took.length,
      slowestMillis: took[Math.floor(took.length * 0.99)]!,
      connections: script.live().length
    }
  }).pipe(
    Effect.provide(
      Requeue.layer(Text).pipe(
        Layer.provide(balancer),
        Layer.provide(FailureAccrual.layer(Text)),
        Layer.provide(Resurrector.layer(Text)),
        Layer.provide(SingletonPool.layer(Text)),
        Layer.provideMerge(Scripted.layer(Text, (_, { endpoint }) =>
          Effect.gen(function*() {
            // Servers take 80 to 120 ms.
            const millis = yield* Random.nextIntBetween(80, 120)
            yield* Effect.sleep(millis * (endpoint.host === "e" ? scene.slow ?? 1 : 1))
            return endpoint.host
          }))),
        Layer.provide(ServerSet.fixed(names.map((name, i) => Endpoint.tcp(name, 1, { weight: scene.weights?.[i] })))),
        Layer.provideMerge(Stack.layer("spread")),
        Layer.provideMerge(Seed.layer("spread")),
        Layer.provideMerge(TestClock.layer()),
        Layer.fresh
      )
    ),
    // What goes wrong is drawn.
    Effect.provide(Logger.layer([])),
    Effect.orDie,
    Effect.scoped
  )

const eighths = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]
const rows = 4
const width = 3 * names.length
const line = (label: string, cells: ReadonlyArray<string>) =>
  `${label.padEnd(12)}${cells.map((cell) => cell.padEnd(width)).join("  ")}`.trimEnd()

/** The share of the calls that each server has, as bars: the highest of the scene is as high as there is room. */
const draw = (title: string, spreads: ReadonlyArray<Spread>): string => {
  const shares = spreads.map(({ calls }) => calls.map((count) => 100 * count / counted))
  const highest = Math.max(...shares.flat())
  const bars = Array.from({ length: rows }, (_, row) =>
    line(
      "",
      shares.map((of) =>
        of.map((share) => {
          const height = Math.round(rows * 8 * share / highest) - 8 * (rows - 1 - row)
          return ` ${eighths[Math.max(0, Math.min(8, height))]!.repeat(2)}`
        }).join("")
      )
    ))
  return [
    title,
    "",
    line("", Object.keys(balancers).map((name) => ` ${name}`)),
    ...bars,
    line("server", spreads.map(() => names.map((name) => name.padStart(3)).join(""))),
    line("% of calls", shares.map((of) => of.map((share) => String(Math.round(share)).padStart(3)).join(""))),
    line("mean", spreads.map(({ meanMillis }) => ` ${Math.round(meanMillis)} ms`)),
    line("99 % within", spreads.map(({ slowestMillis }) => ` ${slowestMillis} ms`)),
    line("connections", spreads.map(({ connections }) => ` ${connections}`))
  ].join("\n")
}

const pictures: Array<string> = []
for (const scene of scenes) {
  const spreads = await Effect.runPromise(Effect.forEach(Object.values(balancers), (balancer) => play(balancer, scene)))
  pictures.push(draw(scene.title, spreads))
}
console.log(pictures.join("\n\n\n"))
