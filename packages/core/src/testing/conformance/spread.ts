/** What the suite holds a balancer to over many calls: how they spread, by weight, and that chance repeats. */
import * as Effect from "effect/Effect"
import { type Case, inWorld, type Setting, worldOf } from "./Case.ts"
import { host, hosts } from "./family.ts"
import { replyTo } from "./ScriptedEndpoints.ts"
import type { Placed, World } from "./World.ts"

/**
 * Sends so many calls and keeps so many outstanding, each of which takes two seconds: where they went. Those of the first ten seconds
 * are not counted: what follows the load, as an aperture does, has followed it then.
 */
const flow = (world: World, count: number, outstanding: number) =>
  Effect.gen(function*() {
    const counts: Record<string, number> = {}
    const running: Array<Placed> = []
    const begin = Effect.map(world.send(), (placed) => {
      running.push(placed)
      return world.keyOf(placed)
    })
    while (running.length < outstanding) yield* begin
    const first = 5 * outstanding
    for (let i = -first; i < count; i++) {
      if (i % Math.ceil(outstanding / 4) === 0) yield* world.pass(500)
      const [oldest] = running.splice(0, 1)
      world.exchange(oldest!).end(Effect.succeed(replyTo(oldest!.request)))
      yield* Effect.yieldNow
      const key = yield* begin
      if (i >= 0) counts[key] = (counts[key] ?? 0) + 1
    }
    for (const placed of running) yield* world.answer(placed)
    return counts
  })

/** Shares of the endpoints that are to be had, with a tolerance that is relative to each. */
const sharesAreNear = (
  world: World,
  counts: Readonly<Record<string, number>>,
  weights: Readonly<Record<string, number>>,
  tolerance: number
) => {
  const sum = (of: Readonly<Record<string, number>>) => Object.values(of).reduce((total, each) => total + each, 0)
  for (const [key, weight] of Object.entries(weights)) {
    const due = sum(counts) * weight / sum(weights)
    const seen = counts[key] ?? 0
    world.must(
      `calls to ${key}, which has ${weight} of the weight ${sum(weights)}`,
      `${Math.round(due)} of ${sum(counts)}, ${100 * tolerance}% more or less`,
      Math.abs(seen - due) <= tolerance * due,
      counts
    )
  }
}

/** Calls as one would make them, some of which end: where each goes. */
const picks = (world: World) =>
  Effect.gen(function*() {
    yield* world.bind(hosts(8))
    const running: Array<Placed> = []
    const keys: Array<string> = []
    for (let i = 0; i < 120; i++) {
      if (running.length > 0 && world.random() < 0.45) {
        const [one] = running.splice(Math.floor(world.random() * running.length), 1)
        yield* world.answer(one!)
      }
      if (i % 10 === 0) yield* world.pass(100)
      if (i === 60) yield* world.bind(hosts(10).slice(2))
      const placed = yield* world.send()
      keys.push(world.keyOf(placed))
      running.push(placed)
    }
    return keys
  })

const spreads = ({ spreads }: Setting) => spreads

/** The cases. */
export const spread: ReadonlyArray<Case> = [
  inWorld("calls one after another reach every endpoint", function*(world) {
    yield* world.bind(hosts(5))
    yield* flow(world, 100, 1)
    const reached = new Set(world.endpoints.received.map(({ key }) => key))
    world.expect("the endpoints that a hundred calls reached", hosts(5).map(({ key }) => key), [...reached].toSorted())
  }, ({ spreads, uses }) => spreads && uses === "all"),

  inWorld("concurrent calls spread: of 400 at ten endpoints none has ten more than another", function*(world) {
    yield* world.bind(hosts(10))
    for (let i = 0; i < 400; i++) {
      yield* world.send()
      if (i % 10 === 0) yield* world.pass(1000)
    }
    const loads = world.loads()
    const all = Object.values(loads)
    const range = Math.max(...all) - Math.min(...all)
    world.must("the most loaded against the least", "at most 10 more, with 40 each on average", range <= 10, loads)
  }, spreads),

  inWorld(
    "no endpoint starves: of 1,000 calls at five each has half of its share at least, and twice it at most",
    function*(world) {
      yield* world.bind(hosts(5))
      const counts = yield* flow(world, 1000, 25)
      for (const { key } of hosts(5)) {
        const seen = counts[key] ?? 0
        world.must(`calls to ${key}`, "from 100 to 400", seen >= 100 && seen <= 400, counts)
      }
    },
    spreads
  ),

  inWorld(
    "weights are respected: of 1,400 calls at weights 1, 2 and 4 each has its share, two fifths more or less",
    function*(world) {
      yield* world.bind([host(1, 1), host(2, 2), host(3, 4)])
      const counts = yield* flow(world, 1400, 28)
      sharesAreNear(world, counts, { "h1:1": 1, "h2:1": 2, "h3:1": 4 }, 0.4)
      yield* world.bind([host(1, 4), host(2, 2), host(3, 1)])
      const after = yield* flow(world, 1400, 28)
      sharesAreNear(world, after, { "h1:1": 4, "h2:1": 2, "h3:1": 1 }, 0.4)
    },
    ({ weights }) => weights
  ),

  {
    name: "the same seed gives the same picks",
    holds: ({ repeats }) => repeats,
    run: (setting) =>
      Effect.gen(function*() {
        const first = yield* worldOf(setting, picks)
        const second = yield* worldOf(setting, (world) =>
          Effect.tap(picks(world), (keys) =>
            Effect.sync(() =>
              world.expect("where the calls go when all is repeated", first.join(" "), keys.join(" "))
            )))
        return second
      })
  }
]
