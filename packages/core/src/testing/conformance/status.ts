/** What the suite holds a balancer to as a whole: its status, its opening and closing, and what it shows. */
import { ServerSetState } from "../../ServerSet.ts"
import type { SinkState } from "../../Status.ts"
import { type Case, inWorld } from "./Case.ts"
import { host, hosts } from "./family.ts"
import type { Placed } from "./World.ts"

/** The cases. */
export const status: ReadonlyArray<Case> = [
  inWorld("the status of the whole is that of its best endpoint, and listeners hear it in order", function*(world) {
    const heard: Array<SinkState> = []
    const off = world.sink.status.subscribe(() => heard.push(world.sink.status.state))
    const whole = (what: string, ...states: ReadonlyArray<SinkState>) => {
      const { state } = world.sink.status
      world.must(`the status ${what}`, states.join(" or "), states.includes(state), state)
    }
    whole("before the first state", "Idle")
    yield* world.bind(hosts(2))
    whole("before anything is opened", "Idle")
    const call = world.newCall()
    const first: Placed = yield* world.send(call)
    whole("with one open", "Open")
    const second: Placed = yield* world.send(call)
    const [one, other] = [world.keyOf(first), world.keyOf(second)]
    heard.length = 0
    const steps: ReadonlyArray<readonly [string, () => void, SinkState]> = [
      ["with one down", () => world.endpoints.down(one), "Open"],
      ["with one down and one busy", () => world.endpoints.busy(other), "Busy"],
      ["with both down", () => world.endpoints.down(other), "Closed"],
      ["with one back", () => world.endpoints.up(one), "Open"],
      ["with it down again", () => world.endpoints.down(one), "Closed"]
    ]
    for (const [what, change, state] of steps) {
      change()
      whole(`${what}, in the same turn`, state)
      yield* world.settle
      whole(what, state)
    }
    world.expect("the fault with both down", "ConnectFailed", world.sink.status.fault?._tag)
    const changes = heard.filter((state, i) => state !== heard[i - 1])
    world.expect(
      "the states that a listener heard",
      ["Busy", "Closed", "Open", "Closed"],
      changes.filter((state, i) => i > 0 || state !== "Open")
    )
    off()
    world.endpoints.up(one)
    yield* world.settle
    world.expect("what it hears when it has left", "nothing more", heard.at(-1) === "Closed" ? "nothing more" : heard)
    yield* world.bind([])
    whole("with an empty set", "Closed")
    yield* world.bind([host(3)])
    whole("with a new endpoint", "Idle", "Open")
  }),

  inWorld("opening waits for the first state, opens one at least, and does nothing when one is open", function*(world) {
    const early = yield* world.open
    world.expect("whether opening waits before the first state", undefined, early.fiber.pollUnsafe())
    yield* world.bind(hosts(3))
    world.expect("how it ends with the first state", "Success", (yield* world.exit(early))._tag)
    const opened = world.endpoints.made.filter(({ status }) => status.state === "Open").length
    world.must("how many are open", "one at least", opened > 0, opened)
    world.expect("the status of the whole", "Open", world.sink.status.state)
    const before = world.endpoints.opens
    world.expect("how opening what is open ends", "Success", (yield* world.exit(yield* world.open))._tag)
    world.expect("how many were told to open by opening what is open", before, world.endpoints.opens)
  }),

  inWorld("opening joins one under way, and leaves it to the others when it is interrupted", function*(world) {
    for (const { key } of hosts(2)) world.endpoints.setMood(key, "silent")
    yield* world.bind(hosts(2))
    const first = yield* world.open
    const second = yield* world.open
    world.must("how many connect", "one at least", world.endpoints.made.some(({ opening }) => opening > 0), "none")
    yield* world.interrupt(first.fiber)
    world.expect("how the other is", undefined, second.fiber.pollUnsafe())
    for (const { key } of hosts(2)) world.endpoints.up(key)
    const exit = yield* world.exit(second)
    world.expect("how the other ends", "Success", exit._tag)
  }),

  inWorld("opening that is refused goes on to another endpoint", function*(world) {
    for (const { key } of hosts(3)) world.endpoints.setMood(key, key === "h2:1" ? "well" : "refusing")
    yield* world.bind(hosts(3))
    const exit = yield* world.exit(yield* world.open)
    world.expect("how it ends", "Success", exit._tag)
    world.expect("the status of the whole", "Open", world.sink.status.state)
  }),

  inWorld("opening does not go on to an endpoint that has left", function*(world) {
    const many = hosts(20)
    for (const { key } of many) world.endpoints.setMood(key, "silent")
    yield* world.bind(many)
    const waits = yield* world.open
    const tried = world.endpoints.made.filter(({ opening }) => opening > 0).map(({ endpoint }) => endpoint)
    yield* world.bind(tried)
    for (const { key } of tried) world.endpoints.down(key)
    yield* world.settle
    const sinks = world.endpoints.made.filter(({ closes }) => closes === 0).map(({ endpoint }) => endpoint.key)
    const left = sinks.filter((key) => tried.every((endpoint) => endpoint.key !== key))
    world.expect("endpoints that have left and have a sink", [], left)
    for (const { key } of tried) world.endpoints.up(key)
    yield* world.exit(waits)
  }),

  inWorld("opening fails, or waits, while all refuse, and ends when the set is empty", function*(world) {
    for (const { key } of hosts(2)) world.endpoints.setMood(key, "refusing")
    yield* world.bind(hosts(2))
    const waits = yield* world.open
    if (waits.fiber.pollUnsafe() === undefined) {
      world.endpoints.up("h2:1")
      const exit = yield* world.exit(waits)
      world.expect("how it ends when one is well", "Success", exit._tag)
      world.endpoints.down("h2:1")
      yield* world.settle
    } else yield* world.failure(waits)
    yield* world.push(ServerSetState.Bound([]))
    const error = yield* world.failure(yield* world.open)
    world.expect("what it fails with in an empty set", "NoEndpoints", error._tag)
  }),

  inWorld("closing ends every wait and every later call, and closes every sink once", function*(world) {
    const call = yield* world.send()
    const opening = yield* world.open
    yield* world.close
    for (const waits of [call, opening]) {
      const error = yield* world.failure(waits)
      world.expect("what a wait ends with", "StackClosed", error._tag)
    }
    const later = [yield* world.send(), yield* world.open]
    for (const each of later) {
      const error = yield* world.failure(each)
      world.expect("what a later call fails with", "StackClosed", error._tag)
    }
    world.expect("the status of the whole", "Closed", world.sink.status.state)
    yield* world.bind(hosts(1))
    world.expect("sinks made after it", 0, world.endpoints.made.length)
  }),

  inWorld("closing closes every sink once, those that drain and those that connect included", function*(world) {
    const many = hosts(20)
    yield* world.bind([host(30)])
    yield* world.send()
    for (const { key } of many) world.endpoints.setMood(key, "silent")
    yield* world.bind(many)
    const opening = yield* world.open
    yield* world.close
    yield* world.failure(opening)
    world.expect("the status of the whole", "Closed", world.sink.status.state)
  }),

  inWorld("it registers as the stack's balancer and shows its endpoints", function*(world) {
    yield* world.bind([host(1), host(2, 2)])
    const node = world.stack.nodes().find(({ role }) => role === "balancer")
    world.must("its description", "a sentence", (node?.description.length ?? 0) > 0, node?.description)
    const placed = yield* world.send()
    const key = world.keyOf(placed)
    const { endpoints, load, size } = world.seen()
    world.expect("the size", 2, size)
    world.expect("the load", 1, load)
    for (const { active, endpoint, fault, load, state, weight } of endpoints) {
      world.expect(`the load of ${endpoint}`, endpoint === key ? 1 : 0, load)
      world.expect(`the weight of ${endpoint}`, endpoint === "h2:1" ? 2 : 1, weight)
      world.expect(`the fault of ${endpoint}`, undefined, fault)
      if (endpoint !== key) continue
      world.expect("the state of the one that was called", "Open", state)
      world.expect("whether calls go there", true, active)
    }
    world.endpoints.down(key)
    yield* world.settle
    const down = world.seen().endpoints.find(({ endpoint }) => endpoint === key)
    world.expect("the state of one that is down", "Closed", down?.state)
    world.expect("its fault", "connect failed at " + key + ": refused by the script", down?.fault)
  })
]
