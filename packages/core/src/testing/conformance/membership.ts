/** What the suite holds a balancer to as its endpoints fail and heal, come and go. */
import * as Effect from "effect/Effect"
import { Endpoint } from "../../Endpoint.ts"
import type { RpcError } from "../../RpcError.ts"
import { ServerSetState } from "../../ServerSet.ts"
import { type Case, inWorld } from "./Case.ts"
import { host, hosts } from "./family.ts"
import { Mismatch } from "./Mismatch.ts"
import type { Placed, World } from "./World.ts"

/** A call that is answered: the endpoint it went to. */
const called = (world: World) =>
  Effect.gen(function*() {
    const placed = yield* world.send()
    const key = world.keyOf(placed)
    yield* world.answer(placed)
    return key
  })

/** Makes one endpoint after another so, where a call goes; none may go to one that is so already. */
const oneAfterAnother = function*(
  world: World,
  count: number,
  what: string,
  change: (key: string) => void
): Generator<Effect.Effect<any>, ReadonlyArray<string>, any> {
  const changed: Array<string> = []
  for (let i = 0; i < count; i++) {
    const placed: Placed = yield* world.send()
    const key = world.keyOf(placed)
    world.must(
      `where a call goes while ${count - i} of ${count} are well`,
      `to none that is ${what}`,
      !changed.includes(key),
      key
    )
    changed.push(key)
    yield* world.answer(placed)
    change(key)
    yield* world.settle
  }
  return changed
}

/** Calls that go on while the one endpoint of a set is down arrive there. */
const arrives = function*(world: World, what: string): Generator<Effect.Effect<any>, void, any> {
  const before = world.endpoints.received.length
  const placed: Placed = yield* world.send()
  const error: RpcError = yield* world.failure(placed)
  world.must(
    what,
    "it is sent to an endpoint all the same",
    world.endpoints.received.length > before,
    `it fails: ${error.message}`
  )
}

/** The cases. */
export const membership: ReadonlyArray<Case> = [
  inWorld(
    "an endpoint that is down gets no call while another is usable, and is used when it is back",
    function*(world) {
      yield* world.bind(hosts(4))
      const downed = yield* oneAfterAnother(world, 4, "down", (key) => world.endpoints.down(key))
      for (const key of downed) {
        world.endpoints.up(key)
        yield* world.settle
        for (let i = 0; i < 8; i++) world.expect("where calls go when one is back", key, yield* called(world))
        world.endpoints.down(key)
        yield* world.settle
      }
    }
  ),

  inWorld(
    "an endpoint that is busy gets no call while another is usable, but before one that is down",
    function*(world) {
      yield* world.bind(hosts(3))
      const busy = yield* oneAfterAnother(world, 3, "busy", (key) => world.endpoints.busy(key))
      world.endpoints.down(busy[0]!)
      yield* world.settle
      for (let i = 0; i < 8; i++) {
        const key = yield* called(world)
        world.must(
          "where calls go when one is down and all others busy",
          "not to the one that is down",
          key !== busy[0],
          key
        )
      }
      world.endpoints.up(busy[0]!)
      yield* world.settle
      for (let i = 0; i < 8; i++) world.expect("where calls go when one is well again", busy[0], yield* called(world))
    }
  ),

  inWorld("with all endpoints down calls are sent all the same", function*(world) {
    yield* world.bind(hosts(3))
    yield* oneAfterAnother(world, 3, "down", (key) => world.endpoints.down(key))
    for (let i = 0; i < 10; i++) yield* arrives(world, "a call with all endpoints down")
  }),

  inWorld("a single endpoint is never locked out", function*(world) {
    yield* world.bind(hosts(1))
    for (let i = 0; i < 5; i++) {
      yield* called(world)
      world.endpoints.down("h1:1")
      yield* world.settle
      yield* arrives(world, "a call with the only endpoint down")
      yield* arrives(world, "another call with the only endpoint down")
      world.endpoints.up("h1:1")
      yield* world.settle
    }
    yield* called(world)
  }),

  inWorld(
    "with all endpoints down from the start a call fails or waits, and is served when one is well",
    function*(world) {
      const keys = hosts(3).map(({ key }) => key)
      for (const key of keys) world.endpoints.setMood(key, "refusing")
      yield* world.bind(hosts(3))
      const placed: Placed = yield* world.send(world.newCall(10_000))
      yield* world.pass(5000)
      for (const key of keys) world.endpoints.up(key)
      yield* world.settle
      if (world.stateOf(placed) === "it waits") yield* world.answer(placed)
      else yield* world.failure(placed)
      yield* called(world)
    }
  ),

  inWorld("the same endpoint twice in a state is one", function*(world) {
    yield* world.bind([host(1), host(2), host(1), host(2), host(1)])
    world.expect("the size", 2, world.seen().size)
    world.expect("the endpoints that are shown", ["h1:1", "h2:1"], Object.keys(world.loads()).toSorted())
    const call = world.newCall()
    const placed: Array<Placed> = [yield* world.send(call), yield* world.send(call)]
    world.expect("how many sinks are made", 2, world.endpoints.made.length)
    yield* world.bind([host(2), host(2)])
    world.expect("the size when one has left", 1, world.seen().size)
    for (const each of placed) yield* world.answer(each)
  }),

  inWorld("an endpoint that has left gets no new call, finishes those it has, and is closed then", function*(world) {
    yield* world.bind(hosts(3))
    const call = world.newCall()
    const placed: Array<Placed> = []
    for (let i = 0; i < 3; i++) placed.push(yield* world.send(call))
    const leaving = placed.find((each) => world.keyOf(each) === "h1:1")
    if (leaving === undefined) {
      throw new Mismatch("where a call goes that was tried elsewhere", "h1:1 in its turn", "not")
    }
    const { sink } = world.exchange(leaving)
    yield* world.bind([host(2), host(3)])
    for (let i = 0; i < 20; i++) {
      const key = yield* called(world)
      world.must("where calls go", "not to the one that has left", key !== "h1:1", key)
    }
    world.expect("how often it was closed with a call on it", 0, sink.closes)
    yield* world.answer(leaving)
    yield* world.settle
    world.expect("how often it was closed when its last call has ended", 1, sink.closes)
    const [idle] = world.endpoints.of("h2:1")
    yield* world.answer(placed.find((each) => world.keyOf(each) === "h2:1")!)
    yield* world.bind([host(3)])
    world.expect("how often one was closed that leaves without a call", 1, idle!.closes)
  }),

  inWorld("an endpoint that comes back while it drains is in the set again, with its calls", function*(world) {
    yield* world.bind(hosts(1))
    const first = yield* world.send()
    yield* world.bind([host(2)])
    yield* world.bind(hosts(1))
    world.expect("the size", 1, world.seen().size)
    world.expect("the load", 1, world.seen().load)
    const second = yield* world.send()
    yield* world.answer(first)
    yield* world.settle
    world.expect("how often the one in use was closed", 0, world.exchange(second).sink.closes)
    const third = yield* world.send()
    yield* world.answer(second)
    yield* world.answer(third)
    yield* world.bind([])
    world.expect(
      "sinks that are not closed when the set is empty",
      0,
      world.endpoints.made.filter(({ closes }) => closes === 0).length
    )
  }),

  inWorld("a set that flaps under calls loses none of them", function*(world) {
    const placed: Array<Placed> = []
    for (let i = 0; i < 60; i++) {
      yield* i % 2 === 0 ? world.bind([host(1), host(2), host(3)]) : world.bind([host(2), host(4)])
      placed.push(yield* world.send())
    }
    world.expect("the load", 60, world.seen().load)
    for (const each of placed) yield* world.answer(each)
    yield* world.bind([host(2)])
    const open = world.endpoints.made.filter(({ closes }) => closes === 0).map(({ endpoint }) => endpoint.key)
    world.must(
      "sinks that are open when one endpoint is left",
      "its own at most",
      open.every((key) => key === "h2:1") && open.length < 2,
      open
    )
  }),

  inWorld("10,000 endpoints are replaced in one state", function*(world) {
    const many = (from: number) => Array.from({ length: 10_000 }, (_, i) => Endpoint.tcp(`h${from + i}`, 1))
    yield* world.bind(many(1))
    const old = yield* world.send()
    const { sink } = world.exchange(old)
    yield* world.bind(many(10_001))
    world.expect("the size", 10_000, world.seen().size)
    for (let i = 0; i < 20; i++) yield* called(world)
    world.expect("how often one that left was closed with a call on it", 0, sink.closes)
    yield* world.answer(old)
    yield* world.settle
    world.expect("how often it was closed then", 1, sink.closes)
    yield* world.push(ServerSetState.Neg)
    world.expect("the size of no set", 0, world.seen().size)
  }),

  inWorld("a new weight changes an endpoint in place", function*(world) {
    yield* world.bind(hosts(2))
    const placed = yield* world.send()
    const key = world.keyOf(placed)
    yield* world.bind(hosts(2).map(({ host, port }) => Endpoint.tcp(host, port, { weight: 3 })))
    world.expect("how often it was closed", 0, world.exchange(placed).sink.closes)
    const shown = world.seen().endpoints.find(({ endpoint }) => endpoint === key)
    world.expect("the weight that is shown", 3, shown?.weight)
    yield* world.answer(placed)
    world.expect("the weight that an attempt sees", 3, world.exchange(yield* world.send()).attempt.endpoint.weight)
  })
]
