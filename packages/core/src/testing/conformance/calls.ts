/** What the suite holds a balancer to with calls: their waits, their replies, their load, their attempts. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { Nacked, type RpcError } from "../../RpcError.ts"
import { ServerSetState } from "../../ServerSet.ts"
import { type Case, inWorld, worldOf } from "./Case.ts"
import { host, hosts } from "./family.ts"
import { causeOf } from "./Mismatch.ts"
import { replyTo } from "./ScriptedEndpoints.ts"
import type { Placed, World } from "./World.ts"

const { Bound, Failed, Neg, Pending } = ServerSetState

/** A call to a set that has nothing fails at once, so. */
const failsAtOnce = function*(world: World, what: string): Generator<Effect.Effect<any>, void, any> {
  const error: RpcError = yield* world.failure(yield* world.send())
  world.expect(`what a call fails with, ${what}`, "NoEndpoints", error._tag)
  world.expect(`whether its request can have reached a server, ${what}`, "no", error.reached)
  const opening: RpcError = yield* world.failure(yield* world.open)
  world.expect(`what opening fails with, ${what}`, "NoEndpoints", opening._tag)
}

/** Brings a call to all but its end, and lets something happen between any two of its steps. */
const atEveryStep = (
  name: string,
  first: ServerSetState,
  happen: (world: World, placed: Placed) => Effect.Effect<void>,
  ended: (world: World, placed: Placed) => void
): Case => ({
  name,
  holds: () => true,
  // A fiber that may take fewer steps in a turn gets nowhere.
  run: (setting) =>
    Effect.forEach(
      Array.from({ length: 44 }, (_, i) => 4 + i),
      (steps) =>
        worldOf(setting, (world) =>
          Effect.gen(function*() {
            world.endpoints.answering = true
            const placed = yield* world.begin(world.newCall(), steps)
            yield* happen(world, placed)
            yield* world.until(
              `a call that takes ${steps} steps a turn ends`,
              () => placed.fiber.pollUnsafe() !== undefined
            )
            yield* world.settle
            ended(world, placed)
          }), { first }),
      { discard: true }
    )
})

/** An interrupted call was answered before, or ends as interrupted. */
const interruptedOrAnswered = (world: World, placed: Placed) => {
  const exit = placed.fiber.pollUnsafe()!
  const how = Exit.isSuccess(exit) ? "it was answered" : causeOf(exit.cause)
  world.must(
    "how an interrupted call ends",
    "as interrupted, or answered",
    Exit.isSuccess(exit) || how === "an interruption",
    how
  )
}

/** The cases. */
export const calls: ReadonlyArray<Case> = [
  inWorld("a call waits for the first state of the set, and is sent when it comes", function*(world) {
    const first = yield* world.send()
    const second = yield* world.send()
    world.expect("how a call is before the first state", "it waits", world.stateOf(first))
    yield* world.bind(hosts(3))
    yield* world.answer(first)
    yield* world.answer(second)
    world.expect("how many requests were sent", 2, world.endpoints.received.length)
  }),

  inWorld("a call waits for the first state no longer than until its abort", function*(world) {
    const timed = yield* world.send(world.newCall(1000))
    const superseded = yield* world.send()
    const interrupted = yield* world.send()
    superseded.call.abort.abort({ _tag: "Superseded" })
    const ended = yield* world.failure(superseded)
    world.expect("what the superseded call fails with", "Superseded", ended._tag)
    yield* world.interrupt(interrupted.fiber)
    yield* world.pass(999)
    world.expect("how the call is before its deadline", "it waits", world.stateOf(timed))
    yield* world.pass(1)
    const error = yield* world.failure(timed)
    world.expect("what a call fails with at its deadline", "Timeout", error._tag)
    world.expect("whether its request can have reached a server", "no", error.reached)
    yield* world.bind(hosts(2))
    world.expect("how many requests were sent after all", 0, world.endpoints.received.length)
  }),

  inWorld("an empty set, and one that does not exist, fail a call at once", function*(world) {
    for (const state of [Bound([]), Neg]) {
      yield* world.push(state)
      yield* failsAtOnce(world, state._tag)
    }
    yield* world.bind(hosts(2))
    yield* world.answer(yield* world.send())
    yield* world.push(Neg)
    yield* failsAtOnce(world, "Neg after endpoints")
  }),

  inWorld("a set that could not be found out fails a call at once, with the cause", function*(world) {
    const waiting = yield* world.send()
    const why = new Error("no such resolver")
    yield* world.push(Failed(why))
    const error = yield* world.failure(waiting)
    world.expect("what a call fails with", "NoEndpoints", error._tag)
    world.must(
      "its cause",
      "that of the state",
      "cause" in error && error.cause === why,
      "cause" in error && error.cause
    )
    yield* failsAtOnce(world, "Failed")
    yield* world.bind(hosts(1))
    yield* world.answer(yield* world.send())
  }),

  {
    name: "a call waits for an endpoint in an empty set, when it is told to",
    holds: ({ waiting }) => waiting !== undefined,
    run: (setting) =>
      worldOf(setting, (world) =>
        Effect.gen(function*() {
          for (const state of [Bound([]), Neg]) {
            yield* world.push(state)
            const sent = yield* world.send()
            const late = yield* world.send(world.newCall(1000))
            yield* world.pass(1000)
            const error = yield* world.failure(late)
            world.expect(`what a call fails with at its deadline, ${state._tag}`, "Timeout", error._tag)
            world.expect(`how one without a deadline is, ${state._tag}`, "it waits", world.stateOf(sent))
            yield* world.bind(hosts(1))
            yield* world.answer(sent)
          }
        }), setting.waiting === undefined ? {} : { make: setting.waiting })
  },

  inWorld("what is stale changes nothing: a bound set stays through Pending and Failed", function*(world) {
    yield* world.bind(hosts(2))
    for (const state of [Pending, Failed("gone")]) {
      yield* world.push(state)
      world.expect(`the size after ${state._tag}`, 2, world.seen().size)
      yield* world.answer(yield* world.send())
    }
  }),

  inWorld("sending describes: nothing is sent before it is run, and twice when it is run twice", function*(world) {
    yield* world.bind(hosts(2))
    const call = world.newCall()
    const exchange = world.sink.send("request", call)
    yield* world.settle
    world.expect("requests received before it is run", 0, world.endpoints.received.length)
    world.endpoints.answering = true
    for (const times of [1, 2]) {
      world.expect("the reply", replyTo("request"), yield* exchange)
      world.expect(`requests received when it was run ${times} times`, times, world.endpoints.received.length)
    }
    world.expect("attempts noted in the call", 2, call.tried.length)
  }),

  inWorld("a call that was aborted before it is sent is sent nowhere", function*(world) {
    yield* world.bind(hosts(2))
    const call = world.newCall()
    call.abort.abort({ _tag: "Superseded" })
    const error = yield* world.failure(yield* world.send(call))
    world.expect("what it fails with", "Superseded", error._tag)
    world.expect("requests received", 0, world.endpoints.received.length)
  }),

  inWorld("load counts attempts, whatever ends them", function*(world) {
    yield* world.bind(hosts(3))
    const placed: Array<Placed> = []
    for (let i = 0; i < 8; i++) placed.push(yield* world.send(i === 6 ? world.newCall(1000) : undefined))
    let load = 8
    const sum = () => Object.values(world.loads()).reduce((total, each) => total + each, 0)
    const counts = (after: string) => {
      world.expect(`the load ${after}`, load, world.seen().load)
      world.expect(`the loads of all endpoints together ${after}`, load, sum())
    }
    counts("of eight calls")
    const one = (index: number) => world.exchange(placed[index]!)
    const { endpoint } = one(1).sink
    const ends: ReadonlyArray<readonly [string, string, () => unknown]> = [
      ["a reply", "success", () => one(0).end(Effect.succeed("reply"))],
      ["a failure", "rejected", () => one(1).end(Effect.fail(one(1).sink.refused()))],
      ["a nack", "rejected", () => one(2).end(Effect.fail(new Nacked({ endpoint, why: "", retryable: true })))],
      ["a defect", "failure", () => one(3).end(Effect.die(new Error("a bug below")))],
      ["an interruption", "ignored", () => placed[4]!.fiber.interruptUnsafe()],
      ["a supersession", "ignored", () => placed[5]!.call.abort.abort({ _tag: "Superseded" })]
    ]
    for (const [name, outcome, end] of ends) {
      end()
      yield* world.settle
      load--
      counts(`after ${name}`)
      world.expect(`the outcome of ${name}`, outcome, world.endpoints.outcomes.at(-1))
    }
    yield* world.pass(1000)
    load--
    counts("after a deadline")
    world.expect("the outcome of a deadline", "failure", world.endpoints.outcomes.at(-1))
    world.endpoints.down(world.keyOf(placed[7]!))
    yield* world.settle
    load--
    counts("after a connection was lost")
    for (const call of placed) yield* world.exit(call)
  }),

  inWorld("every call gets the reply to its own request", function*(world) {
    yield* world.bind(hosts(4))
    const placed: Array<Placed> = []
    for (let i = 0; i < 60; i++) placed.push(yield* world.send())
    while (placed.length > 0) {
      const [one] = placed.splice(Math.floor(world.random() * placed.length), 1)
      yield* world.answer(one!)
    }
  }),

  inWorld("a call goes to another endpoint than those it was tried at", function*(world) {
    yield* world.bind(hosts(4))
    const keys = Object.keys(world.loads()).toSorted()
    for (let i = 0; i < 10; i++) {
      const call = world.newCall()
      const places: Array<string> = []
      for (let attempt = 0; attempt < 4; attempt++) {
        // Other calls move whose turn it is, and who has the least load.
        for (let others = Math.floor(world.random() * 4); others > 0; others--) yield* world.answer(yield* world.send())
        const placed = yield* world.send(call)
        places.push(world.keyOf(placed))
        yield* world.answer(placed)
      }
      world.expect("where four attempts of one call go", keys, places.toSorted())
      // With all tried it goes on, to whichever.
      yield* world.answer(yield* world.send(call))
    }
    // One that was tried is better than one that is down.
    const tried = yield* world.send()
    const key = world.keyOf(tried)
    for (const other of keys) if (other !== key) world.endpoints.down(other)
    yield* world.settle
    world.expect("where a tried call goes when all others are down", key, world.keyOf(yield* world.send(tried.call)))
  }),

  inWorld("a response that outlives its exchange is load until it ends, and keeps its endpoint", function*(world) {
    yield* world.bind(hosts(1))
    const ends: ReadonlyArray<(release: (outcome: "success" | "failure") => void, placed: Placed) => void> = [
      (release) => release("success"),
      (release) => release("failure"),
      (_, { call }) => call.abort.abort({ _tag: "Superseded" })
    ]
    for (const end of ends) {
      const placed = yield* world.send()
      const { attempt, sink } = world.exchange(placed)
      const release = attempt.hold()
      yield* world.answer(placed)
      world.expect("the load while a body streams", 1, world.seen().load)
      yield* world.bind([host(2)])
      world.expect("how often the endpoint was closed while a body of it streams", 0, sink.closes)
      yield* world.bind(hosts(1))
      end(release, placed)
      yield* world.settle
      world.expect("the load when the body has ended", 0, world.seen().load)
    }
  }),

  atEveryStep(
    "an interruption leaves nothing behind, whichever step the call is at",
    Bound(hosts(2)),
    (_, { fiber }) => Effect.sync(() => fiber.interruptUnsafe()),
    interruptedOrAnswered
  ),

  atEveryStep(
    "an interruption leaves nothing behind, whichever step the call begins to wait at",
    Pending,
    (world, { fiber }) => Effect.andThen(Effect.sync(() => fiber.interruptUnsafe()), world.bind(hosts(2))),
    interruptedOrAnswered
  ),

  atEveryStep(
    "no state is missed that comes while a call begins to wait, whichever step it is at",
    Pending,
    (world) => world.bind(hosts(2)),
    (world, placed) => world.expect("how the call ends", "it was answered", world.stateOf(placed))
  ),

  atEveryStep(
    "an abort is not missed that comes while a call begins to wait, whichever step it is at",
    Pending,
    (_, { call }) => Effect.sync(() => call.abort.abort({ _tag: "Timeout", timeoutMillis: 1 })),
    (world, placed) => {
      const exit = placed.fiber.pollUnsafe()!
      const how = Exit.isSuccess(exit) ? "it was answered" : causeOf(exit.cause)
      world.must("how the call ends", "with a Timeout", how.startsWith("Timeout"), how)
    }
  )
]
