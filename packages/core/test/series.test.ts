import { assert, describe, it } from "@effect/vitest"
import {
  type Balancer,
  CallStats,
  ConnectionClosed,
  Endpoint,
  FailureAccrual,
  LatencyHistogram,
  Metrics,
  Nacked,
  type RpcError,
  ServerFailed,
  ServerSetState,
  Stabilizer,
  Stack,
  type StackShape
} from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Context, Effect, Exit, Fiber, Layer, Metric, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { seen } from "./seen.ts"
import { endpoints, seeded, settle, stack, start, stop, type TestStackOptions, Text, TextClient } from "./support.ts"

const own = Effect.provideService(Metric.MetricRegistry, new Map<string, never>() as never)

/** A stack in a scope of its own, and all that a test moves it with. */
const built = (options?: TestStackOptions) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(stack(options), scope)
    const close = Scope.close(scope, Exit.void)
    yield* Effect.addFinalizer(() => close)
    return {
      client: Context.get(context, TextClient),
      close,
      script: Context.get(context, ScriptedConnector),
      set: Context.get(context, TestServerSet),
      stack: Context.get(context, Stack)
    }
  })

/** The sum of the series of one name. */
const sum = (all: Readonly<Record<string, number>>, name: string) =>
  Object.entries(all).reduce(
    (total, [key, value]) => key === name || key.startsWith(`${name} `) ? total + value : total,
    0
  )

/** What describe shows of an endpoint. */
const viewOf = (shared: StackShape, key: string) =>
  (shared.nodes().find(({ role }) => role === "balancer")!.snapshot() as Balancer.BalancerView)
    .endpoints.find(({ endpoint }) => endpoint === key)!

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

describe("the series of endpoints", () => {
  it.effect("are those of at most 100, and of all others together, whose sums are those of all calls", () =>
    Effect.gen(function*() {
      const { client, close, script, set, stack: shared } = yield* built()
      yield* set.bind(endpoints(...range(1, 10_000)))
      // 300 at a time, each at another endpoint.
      let failing = 0
      script.answer = () =>
        Effect.andThen(
          Effect.sleep("10 millis"),
          Effect.suspend(() =>
            ++failing % 3 === 0
              ? Effect.fail(
                new ServerFailed({ endpoint: Endpoint.tcp("h", 1), why: "no", retryable: false, rejected: false })
              )
              : Effect.succeed("hello")
          )
        )
      for (let round = 0; round < 2; round++) {
        const fibers = yield* Effect.forEach(Array(300).fill("hi"), (text) => start(Effect.exit(client.call(text))))
        yield* settle
        assert.strictEqual(sum(yield* seen("scales.endpoint.load"), "scales.endpoint.load"), 300)
        yield* TestClock.adjust("10 millis")
        yield* Effect.forEach(fibers, Fiber.join)
      }
      const all = yield* seen("scales.endpoint.")
      const called = new Set(script.connections.map(({ endpoint }) => endpoint.key))
      assert.isAtLeast(called.size, 300)
      const named = new Set(Object.keys(all).flatMap((key) => /endpoint=(\S+)/.exec(key)?.[1] ?? []))
      assert.strictEqual(named.size, shared.endpointSeries + 1)
      assert.isTrue(named.has("other"))
      assert.strictEqual(sum(all, "scales.endpoint.attempts"), 600)
      assert.strictEqual(sum(all, "scales.endpoint.success"), 400)
      assert.strictEqual(sum(all, "scales.endpoint.failures"), 200)
      assert.strictEqual(sum(all, "scales.endpoint.failed"), 200)
      assert.strictEqual(sum(all, "scales.endpoint.latency_ms"), 600)
      assert.strictEqual(sum(all, "scales.endpoint.load"), 0)
      for (const key of named) {
        if (key !== "other") assert.isTrue(called.has(key), key)
        const ended = all[`scales.endpoint.success endpoint=${key}`]! +
          (all[`scales.endpoint.failures endpoint=${key} error=ServerFailed`] ?? 0)
        assert.strictEqual(ended, all[`scales.endpoint.attempts endpoint=${key}`], key)
      }
      yield* close
      assert.deepStrictEqual(yield* seen(), {})
    }).pipe(own))

  it.effect("go with the endpoint that leaves, once its calls have ended; its place is the next one's", () =>
    Effect.gen(function*() {
      const { client, script, set } = yield* built({ stack: { endpointSeries: 1 } })
      const names = Effect.map(seen("scales.endpoint.attempts"), Object.keys)
      yield* set.bind(endpoints(1))
      yield* client.call("hi")
      script.answer = () => Effect.sleep("1 second").pipe(Effect.as("hello"))
      const last = yield* start(client.call("hi"))
      yield* set.bind(endpoints(2))
      yield* settle
      // It has not left yet: a call is on it.
      assert.deepStrictEqual(yield* names, ["scales.endpoint.attempts endpoint=h:1"])
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(last)
      assert.deepStrictEqual(yield* names, [])
      script.answer = () => Effect.succeed("hello")
      yield* client.call("hi")
      assert.deepStrictEqual(yield* names, ["scales.endpoint.attempts endpoint=h:2"])
      yield* set.bind(endpoints(2, 3))
      yield* settle
      for (let i = 0; i < 8; i++) yield* client.call("hi")
      assert.sameMembers(yield* names, [
        "scales.endpoint.attempts endpoint=h:2",
        "scales.endpoint.attempts endpoint=other"
      ])
      yield* set.bind(endpoints(3, 4))
      yield* settle
      for (let i = 0; i < 8; i++) yield* client.call("hi")
      assert.sameMembers(yield* names, [
        "scales.endpoint.attempts endpoint=other",
        "scales.endpoint.attempts endpoint=h:4"
      ])
    }).pipe(own))

  it.effect("stay when it leaves and is back before its calls have ended, and go on counting", () =>
    Effect.gen(function*() {
      const { client, script, set } = yield* built()
      yield* set.bind(endpoints(1))
      script.answer = () => Effect.as(Effect.sleep("1 second"), "hello")
      const call = yield* start(client.call("hi"))
      yield* set.bind([])
      yield* settle
      yield* set.bind(endpoints(1))
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(call)
      const again = yield* start(client.call("hi"))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(again)
      assert.strictEqual((yield* seen())["scales.endpoint.success endpoint=h:1"], 2)
    }).pipe(own))

  it.effect("go when the sink of the endpoint could not be made", () =>
    Effect.gen(function*() {
      const below = Layer.effect(Text.Endpoints, Effect.succeed({ make: () => Effect.die(new Error("broken filter")) }))
      const { client, set } = yield* built({ below })
      yield* set.bind(endpoints(1))
      yield* Effect.exit(client.call("hi"))
      assert.deepStrictEqual(yield* seen("scales.endpoint."), {})
    }).pipe(own))

  it.effect("are an endpoint's own from its next call on when a place falls free; those before stay with the others", () =>
    Effect.gen(function*() {
      const { client, script, set } = yield* built({ stack: { endpointSeries: 1 } })
      yield* set.bind(endpoints(1))
      yield* client.call("hi")
      yield* set.bind(endpoints(1, 2))
      yield* settle
      for (let i = 0; i < 8; i++) yield* client.call("hi")
      const before = yield* seen("scales.endpoint.attempts")
      const others = before["scales.endpoint.attempts endpoint=other"]!
      assert.isAbove(others, 0)
      assert.strictEqual(others + before["scales.endpoint.attempts endpoint=h:1"]!, 9)
      // Its place falls free while the other one has a call, which ends where it began.
      script.answer = () => Effect.as(Effect.sleep("1 second"), "hello")
      yield* set.bind(endpoints(2))
      yield* settle
      const first = yield* start(client.call("hi"))
      const more = yield* start(client.call("hi"))
      yield* TestClock.adjust("1 second")
      yield* Effect.forEach([first, more], Fiber.join)
      const moved = yield* seen("scales.endpoint.")
      assert.deepInclude(moved, {
        "scales.endpoint.attempts endpoint=other": others,
        "scales.endpoint.success endpoint=other": others,
        "scales.endpoint.load endpoint=other": 0,
        "scales.endpoint.attempts endpoint=h:2": 2,
        "scales.endpoint.success endpoint=h:2": 2,
        "scales.endpoint.load endpoint=h:2": 0,
        "scales.endpoint.state endpoint=h:2": 0
      })
    }).pipe(own))

  it.effect("stay the others' while a call that began there is under way", () =>
    Effect.gen(function*() {
      const { client, script, set } = yield* built({ stack: { endpointSeries: 1 } })
      yield* set.bind(endpoints(1))
      yield* client.call("hi")
      yield* set.bind(endpoints(1, 2))
      yield* settle
      script.answer = () => Effect.as(Effect.sleep("1 second"), "hello")
      const calls = [yield* start(client.call("hi")), yield* start(client.call("hi"))]
      assert.strictEqual((yield* seen())["scales.endpoint.load endpoint=other"], 1)
      yield* set.bind(endpoints(2))
      yield* TestClock.adjust("500 millis")
      calls.push(yield* start(client.call("hi")))
      assert.strictEqual((yield* seen())["scales.endpoint.load endpoint=other"], 2)
      yield* TestClock.adjust("1 second")
      yield* Effect.forEach(calls, Fiber.join)
      assert.deepStrictEqual(yield* seen("scales.endpoint.load"), { "scales.endpoint.load endpoint=other": 0 })
      calls.push(yield* start(client.call("hi")))
      assert.deepInclude(yield* seen("scales.endpoint.load"), {
        "scales.endpoint.load endpoint=other": 0,
        "scales.endpoint.load endpoint=h:2": 1
      })
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(calls.at(-1)!)
    }).pipe(own))

  it.effect("are an endpoint's that is not well from when it is not, if there is a place", () =>
    Effect.gen(function*() {
      const { client, script, set } = yield* built({ stack: { endpointSeries: 2 } })
      script.refuse("h:1")
      yield* set.bind(endpoints(1))
      const opening = yield* start(Effect.exit(client.open))
      yield* settle
      assert.deepInclude(yield* seen("scales.endpoint."), {
        "scales.endpoint.state endpoint=h:1": 2,
        "scales.endpoint.attempts endpoint=h:1": 0,
        "scales.endpoint.failed endpoint=h:1": 0
      })
      yield* stop(opening)
      // One whose connection breaks under a call has it when the call has ended.
      yield* set.bind(endpoints(1, 2))
      yield* settle
      yield* client.call("hi")
      yield* set.bind(endpoints(2, 3))
      yield* settle
      for (let i = 0; i < 4; i++) yield* client.call("hi")
      yield* set.bind(endpoints(2, 3, 4))
      yield* settle
      script.answer = () => Effect.never
      const calls = yield* Effect.forEach(range(1, 9), () => start(Effect.exit(client.call("hi"))))
      assert.isAbove((yield* seen())["scales.endpoint.load endpoint=other"]!, 0)
      yield* set.bind(endpoints(2, 4))
      script.breakAll("h:3")
      yield* settle
      script.refuse("h:4")
      script.breakAll("h:4")
      yield* settle
      const states = yield* seen("scales.endpoint.state")
      yield* Effect.forEach(calls, stop)
      assert.deepInclude(states, { "scales.endpoint.state endpoint=h:4": 2 })
    }).pipe(own))

  it.effect("count what says nothing of the endpoint as neither, without a latency", () =>
    Effect.gen(function*() {
      const { client, script, set, stack: shared } = yield* built({ timeout: "10 seconds" })
      yield* set.bind(endpoints(1))
      yield* client.call("hi")
      script.answer = () => Effect.as(Effect.sleep("1 second"), "hello")
      const left = yield* start(client.call("hi"))
      yield* stop(left)
      assert.deepStrictEqual(yield* seen("scales.endpoint."), {
        "scales.endpoint.attempts endpoint=h:1": 2,
        "scales.endpoint.success endpoint=h:1": 1,
        "scales.endpoint.failed endpoint=h:1": 0,
        "scales.endpoint.ignored endpoint=h:1": 1,
        "scales.endpoint.load endpoint=h:1": 0,
        "scales.endpoint.latency_ms endpoint=h:1": 1,
        "scales.endpoint.latency_quantiles_ms endpoint=h:1": 1,
        "scales.endpoint.state endpoint=h:1": 0
      })
      assert.deepInclude(viewOf(shared, "h:1").calls, { attempts: 2, successes: 1, failures: {}, ignored: 1 })
      // To the caller's client it is a call that failed.
      assert.deepInclude(yield* seen("scales.call."), {
        "scales.call.failed method=call service=text": 1,
        "scales.call.failures error=Interrupted method=call service=text": 1
      })
    }).pipe(own))

  it.effect("have all failures in one series from the first call on, before there is one", () =>
    Effect.gen(function*() {
      const { client, script, set } = yield* built()
      yield* set.bind(endpoints(1))
      yield* client.call("hi")
      const failed = Effect.map(
        seen(),
        (all) => [sum(all, "scales.call.failed"), all["scales.endpoint.failed endpoint=h:1"]]
      )
      assert.deepStrictEqual(yield* failed, [0, 0])
      script.answer = (_, { endpoint }) =>
        Effect.fail(new ServerFailed({ endpoint, why: "no", retryable: false, rejected: false }))
      yield* Effect.exit(client.call("hi"))
      assert.deepStrictEqual(yield* failed, [1, 1])
    }).pipe(own))

  it.effect("bound what is shown of each, not what describe says of its calls", () =>
    Effect.gen(function*() {
      const { client, script, set, stack: shared } = yield* built({ stack: { endpointSeries: 1 } })
      yield* set.bind(endpoints(1, 2, 3))
      assert.isUndefined(viewOf(shared, "h:1").calls)
      for (let i = 0; i < 12; i++) yield* client.call("hi")
      script.answer = (_, { endpoint }) =>
        Effect.fail(new ServerFailed({ endpoint, why: "no", retryable: false, rejected: false }))
      for (let i = 0; i < 12; i++) yield* Effect.exit(client.call("hi"))
      const views = [1, 2, 3].map((port) => viewOf(shared, `h:${port}`).calls!)
      for (const { attempts, failures, successes } of views) {
        assert.isAbove(successes, 0)
        assert.strictEqual(failures["ServerFailed"], attempts - successes)
      }
      assert.strictEqual(views.reduce((total, { attempts }) => total + attempts, 0), 24)
      assert.lengthOf(views.filter(({ quantiles }) => quantiles.length > 0), 1)
    }).pipe(own))

  it.effect("are none with 0, but those of all together", () =>
    Effect.gen(function*() {
      const { client, set } = yield* built({ stack: { endpointSeries: 0 } })
      yield* set.bind(endpoints(1, 2))
      for (let i = 0; i < 4; i++) yield* client.call("hi")
      assert.deepStrictEqual(yield* seen("scales.endpoint.attempts"), { "scales.endpoint.attempts endpoint=other": 4 })
    }).pipe(own))
})

describe("metrics: false", () => {
  it.effect("shows no series, of whatever happens, and the client works as it does otherwise", () =>
    Effect.gen(function*() {
      const { client, script, set, stack: shared } = yield* built({ stack: { metrics: false } })
      yield* set.bind(endpoints(1, 2))
      yield* client.call("hi")
      script.refuse("h:1")
      script.breakAll("h:1")
      yield* client.call("hi")
      yield* Effect.exit(client.call("hi"))
      assert.deepStrictEqual(yield* seen(), {})
      // Counts that cost nothing are still there for whoever describes it.
      const dispatcher = shared.nodes().find(({ role }) => role === "dispatcher")!.snapshot()
      assert.deepInclude(dispatcher as object, { calls: 3, successes: 3 })
    }).pipe(own))
})

describe("two stages of one kind in a stack", () => {
  it.effect("have series of their own: the second is told by a number", () =>
    Effect.gen(function*() {
      const accrual = () => FailureAccrual.layer(Text)
      const below = Layer.orDie(Layer.provide(accrual(), accrual()))
      const { client, script, set } = yield* built({ below })
      yield* set.bind(endpoints(1))
      script.answer = (_, { endpoint }) =>
        Effect.fail(new ServerFailed({ endpoint, why: "no", retryable: false, rejected: false }))
      for (let i = 0; i < 20; i++) yield* Effect.exit(client.call("hi"))
      assert.deepStrictEqual(yield* seen("scales.accrual.removals"), {
        "scales.accrual.removals": 1,
        "scales.accrual.removals nth=2": 1
      })
    }).pipe(own))

  it.effect("keep them apart also for failures that come later, in any order", () =>
    Effect.gen(function*() {
      const shared = yield* Stack
      const series = (what: string) => ({
        kind: "counter" as const,
        name: `test.${what}`,
        description: "",
        attributes: []
      })
      const stats = () =>
        new CallStats(
          shared.metrics,
          {
            requests: series("requests"),
            success: series("success"),
            failed: series("failed"),
            failures: series("failures"),
            pending: { ...series("pending"), kind: "gauge" },
            latency: { ...series("latency"), kind: "histogram" },
            quantiles: { ...series("quantiles"), kind: "summary" }
          },
          { method: "get" },
          shared.elapsed
        )
      const first = stats()
      const second = stats()
      second.refused("NoEndpoints")
      second.refused("NoEndpoints")
      first.refused("NoEndpoints")
      assert.deepInclude(yield* seen("test."), {
        "test.failures error=NoEndpoints method=get": 1,
        "test.failures error=NoEndpoints method=get nth=2": 2,
        "test.failed method=get": 1,
        "test.failed method=get nth=2": 2,
        "test.requests method=get": 1,
        "test.requests method=get nth=2": 2
      })
      first.remove()
      second.remove()
      first.refused("Timeout")
      assert.deepStrictEqual(yield* seen("test."), {})
    }).pipe(Effect.provide(Stack.layer("text")), own))
})

describe("a registry of series", () => {
  it.effect("shows nothing that is added after its client has closed", () =>
    Effect.gen(function*() {
      const { client, close, set, stack: shared } = yield* built()
      yield* set.bind(endpoints(1))
      yield* close
      assert.strictEqual((yield* Effect.flip(client.call("hi")))._tag, "StackClosed")
      shared.metrics.add(Metrics.value({ ...Metrics.counter("late"), name: "test.late" }, () => 1))
      assert.deepStrictEqual(yield* seen(""), {})
    }).pipe(own))

  it.effect("shows how long what lasts longer than a call has lasted, in buckets of its own", () =>
    Effect.gen(function*() {
      const shared = yield* Stack
      const histogram = new LatencyHistogram(0)
      for (const millis of [1, 1000, 60_000, 3_000_000]) histogram.record(millis, 0)
      const definition = { ...Metrics.durations("how long"), name: "test.down_ms" }
      yield* Metrics.show(shared, Metrics.latencies(definition, () => histogram, () => 0))
      const [{ state }] = (yield* Metric.snapshot).filter(({ id }) => id === "test.down_ms") as unknown as [
        { readonly state: { readonly buckets: ReadonlyArray<readonly [number, number]>; readonly sum: number } }
      ]
      assert.deepStrictEqual(state.buckets, [
        [1, 1],
        [4, 1],
        [16, 1],
        [64, 1],
        [256, 1],
        [1024, 2],
        [4096, 2],
        [16_384, 2],
        [65_536, 3],
        [262_144, 3],
        [1_048_576, 3],
        [4_194_304, 4]
      ])
      assert.strictEqual(state.sum, 3_061_001)
    }).pipe(Effect.scoped, Effect.provide(Stack.layer("text")), own))
})

describe("what stages show", () => {
  it.effect("of connections: how many there are, what they took, how they ended, and who waited", () =>
    Effect.gen(function*() {
      const { client, script, set } = yield* built()
      script.connecting = () => Effect.sleep("20 millis")
      yield* set.bind(endpoints(1))
      const calls = yield* Effect.forEach(["a", "b"], (text) => start(client.call(text)))
      yield* settle
      assert.deepInclude(yield* seen("scales.pool."), {
        "scales.pool.size": 1,
        "scales.pool.waiting": 2,
        "scales.pool.connects": 1,
        "scales.pool.connect_latency_ms": 0
      })
      yield* TestClock.adjust("20 millis")
      yield* Effect.forEach(calls, Fiber.join)
      assert.deepStrictEqual(yield* seen("scales.pool."), {
        "scales.pool.size": 1,
        "scales.pool.waiting": 0,
        "scales.pool.waited": 2,
        "scales.pool.wait_ms": 2,
        "scales.pool.wait_quantiles_ms": 2,
        "scales.pool.connects": 1,
        "scales.pool.connect_failures": 0,
        "scales.pool.dead": 0,
        "scales.pool.closes": 0,
        "scales.pool.connect_latency_ms": 1
      })
      yield* TestClock.adjust("1 second")
      script.refuse("h:1")
      script.breakAll("h:1")
      yield* TestClock.adjust("1 second")
      const all = yield* seen("scales.pool.")
      assert.deepInclude(all, { "scales.pool.size": 0, "scales.pool.closes": 1 })
      assert.strictEqual(all["scales.pool.connect_failures"], all["scales.pool.connects"]! - 1)
    }).pipe(own))

  it.effect("of waiting for a connection: how long, whatever became of it, and nothing of calls that found one", () =>
    Effect.gen(function*() {
      const { client, script, set } = yield* built({ timeout: "40 millis" })
      const waits = Effect.map(Metric.snapshot, (all) => {
        const { state } = all.find(({ id }) => id === "scales.pool.wait_ms")!
        const { count, sum } = state as unknown as { readonly count: number; readonly sum: number }
        return [count, sum]
      })
      script.connecting = () => Effect.sleep("30 millis")
      yield* set.bind(endpoints(1))
      const first = yield* start(client.call("hi"))
      yield* TestClock.adjust("10 millis")
      const left = yield* start(client.call("hi"))
      yield* TestClock.adjust("5 millis")
      yield* stop(left)
      assert.deepStrictEqual(yield* waits, [1, 5])
      yield* TestClock.adjust("15 millis")
      yield* Fiber.join(first)
      assert.deepStrictEqual(yield* waits, [2, 35])
      yield* client.call("hi")
      assert.deepStrictEqual(yield* waits, [2, 35])
      script.connecting = () => Effect.never
      yield* set.bind(endpoints(2))
      yield* settle
      const late = yield* start(Effect.exit(client.call("hi")))
      yield* TestClock.adjust("40 millis")
      yield* Fiber.join(late)
      assert.deepStrictEqual(yield* waits, [3, 75])
    }).pipe(own))

  it.effect("of endpoints that are down: how many, how often, for how long, and the calls that failed at once", () =>
    Effect.gen(function*() {
      const { client, script, set } = yield* built({ resurrector: { demandInterval: "10 seconds" } })
      yield* set.bind(endpoints(1))
      yield* client.call("hi")
      yield* TestClock.adjust("20 seconds")
      script.refuse("h:1")
      script.breakAll("h:1")
      yield* Effect.flip(client.call("hi"))
      yield* Effect.flip(client.call("hi"))
      const down = yield* seen("scales.resurrector.")
      assert.deepInclude(down, { "scales.resurrector.down": 1, "scales.resurrector.downs": 1 })
      assert.isAtLeast(down["scales.resurrector.fast_failures"]!, 2)
      script.accept("h:1")
      yield* TestClock.adjust("20 seconds")
      assert.deepInclude(yield* seen("scales.resurrector."), {
        "scales.resurrector.down": 0,
        "scales.resurrector.revivals": 1,
        "scales.resurrector.down_ms": 1
      })
    }).pipe(own))

  it.effect("of the server set: what it said, what changed, and how long ago", () =>
    Effect.gen(function*() {
      const { set } = yield* built()
      yield* settle
      yield* set.push(ServerSetState.Failed("no"))
      yield* settle
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* seen("scales.discovery."), {
        "scales.discovery.state": 3,
        "scales.discovery.endpoints": 0,
        "scales.discovery.updates": 2,
        "scales.discovery.changes": 0,
        "scales.discovery.failures": 1,
        "scales.discovery.since_update_ms": 2000
      })
      for (const ports of [[1, 2], [2, 1], [1, 2, 3]]) {
        yield* set.bind(endpoints(...ports))
        yield* settle
      }
      yield* set.bind([Endpoint.tcp("h", 1, { weight: 2 })])
      yield* settle
      yield* set.push(ServerSetState.Failed("no"))
      yield* settle
      assert.deepStrictEqual(yield* seen("scales.discovery."), {
        "scales.discovery.state": 3,
        "scales.discovery.endpoints": 1,
        "scales.discovery.updates": 7,
        "scales.discovery.changes": 3,
        "scales.discovery.failures": 2,
        "scales.discovery.since_update_ms": 0
      })
    }).pipe(own))

  it.effect("of a stabilizer: who is held, who came back, who was let go of", () =>
    Effect.gen(function*() {
      const shared = yield* Stack
      const set = yield* TestServerSet
      const stable = yield* Stabilizer.stabilize(set.states, { removals: "10 seconds" })
      const fiber = yield* start(Stream.runDrain(stable))
      yield* set.bind(endpoints(1, 2, 3))
      yield* settle
      yield* set.bind(endpoints(1))
      yield* settle
      assert.strictEqual((yield* seen())["scales.stabilizer.held"], 2)
      yield* set.bind(endpoints(1, 2))
      yield* settle
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(yield* seen("scales.stabilizer."), {
        "scales.stabilizer.held": 0,
        "scales.stabilizer.returned": 1,
        "scales.stabilizer.released": 1
      })
      const node = shared.nodes().find(({ role }) => role === "stabilizer")!
      assert.deepStrictEqual(node.options, {
        removals: { value: "10000 ms", from: "given" },
        empty: { value: "60000 ms", from: "default" }
      })
      yield* stop(fiber)
      assert.deepStrictEqual(yield* seen("scales.stabilizer."), {})
    }).pipe(Effect.provide(Layer.merge(Stack.layer("text"), TestServerSet.layer())), own))

  it.effect("of deadlines that passed: what each call waited for", () =>
    Effect.gen(function*() {
      const { client, script, set } = yield* built({ timeout: "1 second" })
      const early = yield* start(Effect.exit(client.call("hi")))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(early)
      script.connecting = () => Effect.never
      yield* set.bind(endpoints(1))
      const connecting = yield* start(Effect.exit(client.call("hi")))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(connecting)
      assert.deepStrictEqual(yield* seen("scales.call.timeouts"), {
        "scales.call.timeouts waiting=endpoint": 1,
        "scales.call.timeouts waiting=connection": 1
      })
    }).pipe(own))
})

describe("whatever a client meets", () => {
  const below = () => Layer.orDie(FailureAccrual.layer(Text))
  const seeds = range(1, 40)

  it.effect("its series agree with its calls while it lives, and nothing is left of it when it has closed", () =>
    Effect.gen(function*() {
      for (const seed of seeds) {
        const random = seeded(seed)
        const chance = (share: number) => random() < share
        const any = (count: number) => Math.floor(random() * count)
        const { client, close, script, set, stack: shared } = yield* built({
          seed,
          timeout: "2 seconds",
          stack: { endpointSeries: any(4), drainTimeout: "1 second" },
          ...(chance(0.5) && { below: below() })
        })
        script.answer = (_, { endpoint }) =>
          Effect.gen(function*() {
            yield* Effect.sleep(any(3000))
            const outcome = random()
            if (outcome < 0.1) return yield* new ConnectionClosed({ endpoint, reached: "maybe", cause: "cut" })
            if (outcome < 0.2) return yield* new Nacked({ endpoint, why: "busy", retryable: true })
            if (outcome < 0.25) return yield* Effect.die("a defect")
            return "hello"
          })
        const fibers: Array<Fiber.Fiber<unknown, RpcError>> = []
        for (let step = 0; step < 60; step++) {
          const key = `h:${1 + any(6)}`
          const what = any(8)
          if (what < 3) fibers.push(yield* start(client.call("hi")))
          else if (what === 3) yield* set.bind(endpoints(...range(1, 6).filter(() => chance(0.6))))
          else if (what === 4) script.breakAll(key, { drained: chance(0.5) })
          else if (what === 5) (chance(0.5) ? script.refuse : script.accept)(key)
          else if (what === 6 && fibers.length > 0) {
            yield* Effect.forkChild(Fiber.interrupt(fibers[any(fibers.length)]!))
          } else yield* TestClock.adjust(any(1500))
          yield* settle
          const all = yield* seen()
          const calls = sum(all, "scales.call.requests")
          const ended = sum(all, "scales.call.success") + sum(all, "scales.call.failed")
          assert.strictEqual(sum(all, "scales.call.failures"), sum(all, "scales.call.failed"))
          assert.strictEqual(calls, ended + sum(all, "scales.call.pending"), `seed ${seed}, step ${step}`)
          assert.strictEqual(calls, fibers.length)
          const attempts = sum(all, "scales.endpoint.attempts")
          const settled = sum(all, "scales.endpoint.success") + sum(all, "scales.endpoint.failed")
          assert.strictEqual(
            attempts,
            settled + sum(all, "scales.endpoint.ignored") + sum(all, "scales.endpoint.load"),
            `seed ${seed}, step ${step}`
          )
          assert.strictEqual(sum(all, "scales.endpoint.latency_ms"), settled)
          assert.strictEqual(sum(all, "scales.endpoint.failures"), sum(all, "scales.endpoint.failed"))
          const waits = all["scales.pool.waited"]! - all["scales.pool.wait_ms"]!
          assert.isTrue(waits >= 0 && waits <= all["scales.pool.waiting"]!, `seed ${seed}, step ${step}`)
          assert.strictEqual(sum(all, "scales.endpoint.load"), all["scales.balancer.load"])
          assert.isAtMost(
            Object.keys(all).filter((name) => name.startsWith("scales.endpoint.attempts")).length,
            shared.endpointSeries + 1
          )
          assert.isAtMost(shared.faults.list.length, 50)
        }
        const closing = yield* start(close)
        yield* TestClock.adjust("10 seconds")
        yield* Fiber.join(closing)
        yield* Effect.forEach(fibers, Fiber.await)
        assert.deepStrictEqual(yield* seen(""), {}, `seed ${seed}`)
        assert.lengthOf(shared.nodes(), 0)
        assert.strictEqual(shared.deadlines.size, 0, `seed ${seed}`)
        const after = yield* Effect.exit(client.call("late"))
        assert.isTrue(Exit.isFailure(after))
        assert.deepStrictEqual(yield* seen(""), {}, `seed ${seed}`)
      }
    }).pipe(own))
})
