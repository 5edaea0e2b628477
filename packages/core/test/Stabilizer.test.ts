/**
 * The stabilizer, rule by rule, and under random histories against a model that counts seconds. A failure of those names its seed:
 * `SEED=17 vitest run packages/core/test/Stabilizer` runs that history alone.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  Endpoint,
  type EndpointOptions,
  HeapBalancer,
  Resurrector,
  ServerSet,
  ServerSetState,
  SingletonPool,
  Stabilizer,
  Stack
} from "@scales-rpc/core"
import { Scripted, Seed, TestServerSet } from "@scales-rpc/core/testing"
import { type Cause, Clock, Effect, Exit, Fiber, Layer, Queue, Stream } from "effect"
import { TestClock } from "effect/testing"
import { seeded, settle, start, Text, TextClient } from "./support.ts"

const { Bound, Failed, Neg, Pending } = ServerSetState

/** Where a member of that name is, and what is said of it. */
const member = (name: string, options?: EndpointOptions) => Endpoint.tcp(name, 1, options)

/** Members of those names. */
const bound = (names: string) => Bound([...names].map((name) => member(name)))

/** A state in short: the names of its members in order, with a shard or a weight if they have one; or its tag. */
const short = (state: ServerSetState): string =>
  state._tag !== "Bound"
    ? state._tag
    : state.endpoints
      .map(({ host, shard, weight }) =>
        `${host}${shard === undefined ? "" : `#${shard}`}${weight === 1 ? "" : `*${weight}`}`
      )
      .toSorted()
      .join("")

/** A clock that counts who sleeps. */
const countSleeps = (clock: Clock.Clock) => {
  const counts = { sleeping: 0, most: 0 }
  const counted: Clock.Clock = {
    ...clock,
    sleep: (duration) =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          counts.most = Math.max(counts.most, ++counts.sleeping)
        }),
        () => clock.sleep(duration),
        () => Effect.sync(() => void counts.sleeping--)
      )
  }
  return { counts, counted }
}

/** Runs a stabilizer over states that are pushed, and keeps what it shows. */
const watched = (options?: Stabilizer.StabilizerOptions) =>
  Effect.gen(function*() {
    const { counts, counted } = countSleeps(yield* Clock.Clock)
    const queue = yield* Queue.unbounded<ServerSetState, Cause.Done>()
    const shown: Array<ServerSetState> = []
    const stabilized = yield* Stabilizer.stabilize(Stream.fromQueue(queue), options)
    const fiber = yield* start(
      Stream.runForEach(stabilized, (state) => Effect.sync(() => void shown.push(state))).pipe(
        Effect.provideService(Clock.Clock, counted)
      )
    )
    return {
      /** Everything shown since the last look, in short. */
      seen: () => shown.splice(0).map(short),
      shown,
      counts,
      fiber,
      /** States that come at once, one after the other. */
      push: (...states: ReadonlyArray<ServerSetState>) =>
        Effect.andThen(Effect.sync(() => states.forEach((state) => Queue.offerUnsafe(queue, state))), settle),
      end: Effect.andThen(Queue.end(queue), settle)
    }
  })

describe("a stabilized server set", () => {
  it.effect("shows the first members at once, and what joins or changes", () =>
    Effect.gen(function*() {
      const set = yield* watched()
      yield* set.push(bound("ab"))
      assert.deepStrictEqual(set.seen(), ["ab"])
      yield* set.push(bound("abc"))
      assert.deepStrictEqual(set.seen(), ["abc"])
      yield* set.push(Bound([member("a", { weight: 2 }), member("b", { shard: 7 }), member("c")]))
      assert.deepStrictEqual(set.seen(), ["a*2b#7c"])
      yield* set.push(Bound([member("a"), member("b"), member("c", { metadata: { zone: "x" } })]))
      const [state] = set.shown
      assert.deepStrictEqual(state?._tag === "Bound" && state.endpoints[2]?.metadata, { zone: "x" })
      assert.deepStrictEqual(set.seen(), ["abc"])
    }))

  it.effect("shows a state in which nothing is new not again", () =>
    Effect.gen(function*() {
      const set = yield* watched()
      const said = () => member("a", { weight: 2, shard: 1, metadata: { zone: "x", rack: "y" } })
      yield* set.push(Bound([said(), member("b")]))
      assert.deepStrictEqual(set.seen(), ["a#1*2b"])
      yield* set.push(Bound([said(), member("b")]))
      yield* set.push(Bound([member("b"), said()]))
      yield* set.push(Bound([member("b"), member("a"), said()]))
      assert.deepStrictEqual(set.seen(), [])
      yield* set.push(Bound([member("a", { weight: 2, shard: 1, metadata: { zone: "x", rack: "z" } }), member("b")]))
      yield* set.push(Bound([member("a", { weight: 2, shard: 1, metadata: { zone: "x" } }), member("b")]))
      yield* set.push(Bound([member("a", { weight: 2, shard: 1, metadata: { rack: "x" } }), member("b")]))
      assert.lengthOf(set.seen(), 3)
    }))

  it.effect("keeps a member until it has been gone for 10 seconds", () =>
    Effect.gen(function*() {
      const set = yield* watched()
      yield* set.push(bound("abc"))
      yield* set.push(bound("ac"))
      yield* TestClock.adjust("3 seconds")
      yield* set.push(bound("c"))
      yield* TestClock.adjust("6999 millis")
      assert.deepStrictEqual(set.seen(), ["abc"])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(set.seen(), ["ac"])
      yield* TestClock.adjust("2999 millis")
      assert.deepStrictEqual(set.seen(), [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(set.seen(), ["c"])
      assert.deepStrictEqual(set.counts, { sleeping: 0, most: 1 })
    }))

  it.effect("loses no member that comes back in time, however often it flaps", () =>
    Effect.gen(function*() {
      const set = yield* watched()
      yield* set.push(bound("ab"))
      for (let round = 0; round < 20; round++) {
        yield* set.push(bound("a"))
        yield* TestClock.adjust("9999 millis")
        yield* set.push(bound("ab"))
        yield* TestClock.adjust(round % 2 === 0 ? "1 millis" : "1 minute")
      }
      assert.deepStrictEqual(set.seen(), ["ab"])
      assert.strictEqual(set.counts.sleeping, 0)
    }))

  it.effect("shows at once what is new of a member that comes back", () =>
    Effect.gen(function*() {
      const set = yield* watched()
      yield* set.push(bound("ab"), bound("a"))
      yield* TestClock.adjust("5 seconds")
      yield* set.push(Bound([member("a"), member("b", { weight: 3 })]))
      assert.deepStrictEqual(set.seen(), ["ab", "ab*3"])
    }))

  it.effect("shows what joins while others are held, and lets those go in their time", () =>
    Effect.gen(function*() {
      const set = yield* watched()
      yield* set.push(bound("ab"), bound("b"))
      yield* TestClock.adjust("4 seconds")
      yield* set.push(bound("bc"))
      assert.deepStrictEqual(set.seen(), ["ab", "abc"])
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual(set.seen(), ["bc"])
    }))

  it.effect("does not believe for a minute that all have left", () =>
    Effect.gen(function*() {
      for (const [nothing, expected] of [[Bound([]), ""], [Neg, "Neg"]] as const) {
        const set = yield* watched()
        yield* set.push(bound("abc"))
        yield* set.push(bound("ab"))
        yield* TestClock.adjust("5 seconds")
        yield* set.push(nothing)
        yield* TestClock.adjust("59999 millis")
        assert.deepStrictEqual(set.seen(), ["abc"])
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(set.seen(), [expected])
        yield* set.push(bound("d"))
        assert.deepStrictEqual(set.seen(), ["d"])
      }
    }))

  it.effect("that is empty goes on being empty when it is said in another way, and shows the last way", () =>
    Effect.gen(function*() {
      const set = yield* watched()
      yield* set.push(bound("a"), Neg)
      yield* TestClock.adjust("30 seconds")
      yield* set.push(Bound([]))
      yield* TestClock.adjust("29999 millis")
      assert.deepStrictEqual(set.seen(), ["a"])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(set.seen(), [""])
      yield* set.push(Neg)
      yield* set.push(Neg)
      yield* set.push(Bound([]))
      assert.deepStrictEqual(set.seen(), ["Neg", ""])
    }))

  it.effect("that comes back from nothing one by one keeps the others, and the time it was empty does not count", () =>
    Effect.gen(function*() {
      const set = yield* watched()
      yield* set.push(bound("abc"))
      yield* set.push(bound("ab"))
      yield* TestClock.adjust("5 seconds")
      yield* set.push(Neg)
      yield* TestClock.adjust("50 seconds")
      yield* set.push(bound("a"))
      assert.deepStrictEqual(set.seen(), ["abc"])
      // c had been gone for 5 seconds of 10 before, b for none.
      yield* TestClock.adjust("4999 millis")
      assert.deepStrictEqual(set.seen(), [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(set.seen(), ["ab"])
      yield* TestClock.adjust("4999 millis")
      assert.deepStrictEqual(set.seen(), [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(set.seen(), ["a"])
    }))

  it.effect("keeps its last state through what says nothing of its members", () =>
    Effect.gen(function*() {
      const set = yield* watched()
      yield* set.push(bound("ab"))
      yield* set.push(Failed("the registry is down"))
      yield* set.push(Pending)
      yield* TestClock.adjust("1 day")
      yield* set.push(bound("ab"), Failed("again"))
      assert.deepStrictEqual(set.seen(), ["ab"])
      // What it said of those that left before it failed still counts.
      yield* set.push(bound("a"), Failed("and again"))
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(set.seen(), ["a"])
    }))

  it.effect("tells what it cannot say before it is bound for the first time", () =>
    Effect.gen(function*() {
      const set = yield* watched()
      yield* set.push(Pending)
      yield* set.push(Pending)
      yield* set.push(Failed("slow"))
      yield* set.push(Failed("down"))
      assert.deepStrictEqual(set.shown.at(-1), Failed("down"))
      yield* set.push(Neg)
      yield* set.push(Neg)
      yield* set.push(Failed("down"))
      yield* set.push(Neg)
      yield* set.push(Bound([]))
      yield* set.push(Failed("down"))
      assert.deepStrictEqual(set.seen(), ["Pending", "Failed", "Failed", "Neg", "Failed", "Neg", ""])
      assert.strictEqual(set.counts.most, 0)
    }))

  it.effect("gives the place of one that left to who joins with its shard, at once", () =>
    Effect.gen(function*() {
      const set = yield* watched()
      yield* set.push(Bound([member("a", { shard: 1 }), member("b", { shard: 2 })]))
      yield* set.push(Bound([member("c", { shard: 1 }), member("b", { shard: 2 })]))
      yield* set.push(Bound([member("c", { shard: 1 })]))
      yield* TestClock.adjust("5 seconds")
      yield* set.push(Bound([member("c", { shard: 1 }), member("d", { shard: 2 })]))
      assert.deepStrictEqual(set.seen(), ["a#1b#2", "b#2c#1", "c#1d#2"])
      // The first of a set that was empty takes its place too, and nobody else's.
      yield* set.push(Neg)
      yield* set.push(Bound([member("e", { shard: 1 })]))
      assert.deepStrictEqual(set.seen(), ["d#2e#1"])
      // So does a member that takes over the shard.
      yield* set.push(Bound([member("e", { shard: 2 })]))
      assert.deepStrictEqual(set.seen(), ["e#2"])
    }))

  it.effect("gives the place of one that left to no replica that was there all along", () =>
    Effect.gen(function*() {
      const set = yield* watched()
      const replicas = [member("a", { shard: 1 }), member("b", { shard: 1 }), member("c", { shard: 1 })] as const
      yield* set.push(Bound(replicas))
      yield* set.push(Bound(replicas.slice(1)))
      yield* set.push(Bound(replicas.slice(2)))
      // b comes back while a is gone.
      yield* set.push(Bound(replicas.slice(1)))
      assert.deepStrictEqual(set.seen(), ["a#1b#1c#1"])
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(set.seen(), ["b#1c#1"])
    }))

  it.effect("acts at once on what its options allow no time for", () =>
    Effect.gen(function*() {
      const quick = yield* watched({ removals: 0, empty: 0 })
      yield* quick.push(bound("ab"))
      yield* quick.push(bound("a"))
      yield* quick.push(Bound([]))
      yield* quick.push(Neg)
      assert.deepStrictEqual(quick.seen(), ["ab", "a", "", "Neg"])
      assert.strictEqual(quick.counts.most, 0)

      const removals = yield* watched({ removals: 0, empty: "5 seconds" })
      yield* removals.push(bound("ab"))
      yield* removals.push(bound("a"))
      yield* removals.push(Neg)
      yield* TestClock.adjust("4999 millis")
      assert.deepStrictEqual(removals.seen(), ["ab", "a"])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(removals.seen(), ["Neg"])

      const empty = yield* watched({ removals: "5 seconds", empty: 0 })
      yield* empty.push(bound("ab"))
      yield* empty.push(bound("a"))
      yield* TestClock.adjust("2 seconds")
      yield* empty.push(Neg)
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(empty.seen(), ["ab", "a"])
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(empty.seen(), ["Neg"])
    }))

  it.effect("shows who reads slowly the newest state only", () =>
    Effect.gen(function*() {
      const queue = yield* Queue.unbounded<ServerSetState>()
      const stabilized = yield* Stabilizer.stabilize(Stream.fromQueue(queue), { removals: 0 })
      const seen: Array<string> = []
      const gate = yield* Queue.unbounded<void>()
      yield* start(
        Stream.runForEach(stabilized, (state) =>
          Effect.andThen(Effect.sync(() => void seen.push(short(state))), Queue.take(gate)))
      )
      for (const names of ["a", "ab", "abc", "bc", "c", "cd"]) {
        Queue.offerUnsafe(queue, bound(names))
        yield* settle
      }
      for (let turn = 0; turn < 6; turn++) {
        Queue.offerUnsafe(gate, undefined)
        yield* settle
      }
      assert.deepStrictEqual(seen, ["a", "cd"])
    }))

  it.effect("ends when the states have ended and nobody is held any more", () =>
    Effect.gen(function*() {
      const set = yield* watched()
      yield* set.push(bound("abc"), bound("ab"))
      yield* TestClock.adjust("5 seconds")
      yield* set.push(bound("a"))
      yield* set.end
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual([set.seen(), set.fiber.pollUnsafe()], [["abc", "ab"], undefined])
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(set.seen(), ["a"])
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(set.fiber)))

      const calm = yield* watched()
      yield* calm.push(bound("ab"), bound("a"), bound("ab"))
      yield* calm.end
      assert.isDefined(calm.fiber.pollUnsafe())
      assert.deepStrictEqual(calm.seen(), ["ab"])
    }))

  it.effect("leaves no timer behind when nobody reads it any more, and is another each time it is run", () =>
    Effect.gen(function*() {
      const set = yield* watched()
      yield* set.push(bound("ab"), bound("a"))
      assert.strictEqual(set.counts.sleeping, 1)
      yield* Fiber.interrupt(set.fiber)
      assert.strictEqual(set.counts.sleeping, 0)

      const stabilized = yield* Stabilizer.stabilize(Stream.make(bound("ab"), bound("a")))
      for (let run = 0; run < 2; run++) {
        const fiber = yield* start(Stream.runCollect(stabilized))
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual((yield* Fiber.join(fiber)).map(short), ["ab", "a"])
      }
    }))

  it.effect("dies of what its states die of", () =>
    Effect.gen(function*() {
      const stabilized = yield* Stabilizer.stabilize(Stream.concat(Stream.make(bound("a")), Stream.die("broken")))
      const seen: Array<string> = []
      const exit = yield* Effect.exit(
        Stream.runForEach(stabilized, (state) => Effect.sync(() => void seen.push(short(state))))
      )
      assert.deepStrictEqual([seen, exit], [["a"], Exit.die("broken")])
    }))

  it.effect("refuses options that are no times", () =>
    Effect.gen(function*() {
      const states = Stream.make(bound("a"))
      for (const [option, wrong] of [["removals", "-1 seconds"], ["removals", Infinity], ["empty", -1]] as const) {
        const error = yield* Effect.flip(Stabilizer.stabilize(states, { [option]: wrong }))
        assert.deepStrictEqual([error._tag, error.option], ["InvalidOption", option])
      }
    }))
})

const seeds = process.env["SEED"] === undefined
  ? Array.from({ length: 200 }, (_, index) => index + 1)
  : [Number(process.env["SEED"])]

/** What a stabilized set shows, by counting seconds for each member. */
class Model {
  readonly removals: number
  readonly empty: number
  said = new Map<string, Endpoint>()
  absent = new Map<string, { endpoint: Endpoint; seconds: number; ofThemEmpty: number }>()
  emptyFor = 0
  wasBound = false
  last: ServerSetState | undefined

  constructor(removals: number, empty: number) {
    this.removals = removals
    this.empty = empty
  }

  letGo() {
    for (const [key, { seconds }] of this.absent) {
      if (seconds >= this.removals && (this.said.size > 0 || this.emptyFor >= this.empty)) this.absent.delete(key)
    }
  }

  second() {
    if (this.said.size === 0) this.emptyFor++
    for (const one of this.absent.values()) {
      one.seconds++
      if (this.said.size === 0) one.ofThemEmpty++
    }
    this.letGo()
  }

  take(state: ServerSetState) {
    if (!this.wasBound) this.last = state
    if (state._tag === "Bound") this.wasBound = true
    if (!this.wasBound || state._tag === "Pending" || state._tag === "Failed") return
    this.last = state
    const said = new Map(state._tag === "Bound" ? state.endpoints.map((one) => [one.key, one]) : [])
    if (said.size > 0) {
      if (this.emptyFor < this.empty) { for (const one of this.absent.values()) one.seconds -= one.ofThemEmpty }
      for (const one of this.absent.values()) one.ofThemEmpty = 0
      this.emptyFor = 0
    }
    const shownBefore = this.members()
    for (const [key, endpoint] of this.said) {
      if (!said.has(key)) this.absent.set(key, { endpoint, seconds: 0, ofThemEmpty: 0 })
    }
    for (const [key, endpoint] of said) {
      this.absent.delete(key)
      if (endpoint.shard === undefined || shownBefore.get(key)?.shard === endpoint.shard) continue
      for (const [other, { endpoint: { shard } }] of this.absent) {
        if (shard === endpoint.shard && !said.has(other)) this.absent.delete(other)
      }
    }
    this.said = said
    this.letGo()
  }

  members(): Map<string, Endpoint> {
    return new Map([...this.said, ...[...this.absent].map(([key, { endpoint }]) => [key, endpoint] as const)])
  }

  shown(): string | undefined {
    if (!this.wasBound) return this.last === undefined ? undefined : short(this.last)
    const members = this.members()
    return short(members.size === 0 ? this.last! : Bound([...members.values()]))
  }
}

const history = (seed: number) =>
  Effect.gen(function*() {
    const random = seeded(seed)
    const below = (n: number) => Math.floor(random() * n)
    const [removals, empty] = [below(3) * below(8), below(3) * below(15)]
    const set = yield* watched({ removals: removals * 1000, empty: empty * 1000 })
    const model = new Model(removals, empty)
    let shown: string | undefined
    const check = (at: string) => {
      const seen = set.seen()
      const expected = model.shown()
      if (seen.length > 0) {
        assert.isFalse(seen[0] === shown && shown !== "Failed", `seed ${seed}, ${at}: shown again`)
        shown = seen.at(-1)
      }
      assert.strictEqual(shown, expected, `seed ${seed}, ${at}`)
      assert.isAtMost(set.counts.sleeping, 1, `seed ${seed}, ${at}: timers`)
    }
    const randomState = (): ServerSetState => {
      const which = below(20)
      if (which === 0) return Pending
      if (which === 1) return Failed("down")
      if (which === 2) return Neg
      const share = which < 5 ? 0 : which < 8 ? 0.2 : 0.8
      return Bound(
        [..."abcdef"].filter(() => random() < share).map((name) =>
          member(name, { shard: below(4) === 0 ? below(4) : undefined, weight: below(10) === 0 ? 2 : 1 })
        )
      )
    }
    for (let second = 0; second < 120; second++) {
      for (let count = below(3) === 0 ? 1 + below(2) : 0; count > 0; count--) {
        const state = randomState()
        model.take(state)
        yield* set.push(state)
        check(`second ${second}`)
      }
      yield* TestClock.adjust("1 second")
      yield* settle
      model.second()
      check(`after second ${second}`)
    }
    yield* set.end
    for (let second = 0; model.absent.size > 0; second++) {
      assert.isUndefined(set.fiber.pollUnsafe(), `seed ${seed}: ended too early`)
      yield* TestClock.adjust("1 second")
      yield* settle
      model.second()
      check(`${second} seconds after the end`)
    }
    assert.isDefined(set.fiber.pollUnsafe(), `seed ${seed}: does not end`)
    assert.strictEqual(set.counts.sleeping, 0, `seed ${seed}: a timer is left`)
  }).pipe(Effect.scoped)

describe("a stabilized server set under random histories", () => {
  it.effect(
    "shows what counting the seconds for each member shows, once, with one timer that does not outlive it",
    () => Effect.forEach(seeds, history, { discard: true }),
    120_000
  )
})

describe("a stack over a stabilized server set", () => {
  const layer = TextClient.layer().pipe(
    Layer.provide(HeapBalancer.layer(Text)),
    Layer.provide(Resurrector.layer(Text)),
    Layer.provide(SingletonPool.layer(Text)),
    Layer.provide(Scripted.layer(Text, (_, { endpoint }) => Effect.succeed(endpoint.host))),
    Layer.provide(Layer.effect(ServerSet, Effect.flatMap(ServerSet, (states) => Stabilizer.stabilize(states)))),
    Layer.provideMerge(TestServerSet.layer()),
    Layer.provide(Stack.layer("text")),
    Layer.provide(Seed.layer(1)),
    Layer.fresh
  )

  it.effect("calls those that a registry forgot, until it has said so for long enough", () =>
    Effect.gen(function*() {
      const set = yield* TestServerSet
      const client = yield* TextClient
      /** Who answers, of ten calls. */
      const answer = Effect.map(Effect.all(Array.from({ length: 10 }, () => client.call(""))), (hosts) =>
        [...new Set(hosts)].toSorted().join(""))
      const push = (state: ServerSetState) =>
        Effect.andThen(set.push(state), settle)
      yield* push(bound("ab"))
      assert.strictEqual(yield* answer, "ab")
      yield* push(bound("b"))
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual(yield* answer, "ab")
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* answer, "b")
      yield* push(bound("bc"))
      assert.strictEqual(yield* answer, "bc")
      yield* push(Neg)
      yield* push(Failed("down"))
      yield* TestClock.adjust("59 seconds")
      assert.strictEqual(yield* answer, "bc")
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Effect.flip(answer))._tag, "NoEndpoints")
    }).pipe(Effect.provide(layer)))
})
