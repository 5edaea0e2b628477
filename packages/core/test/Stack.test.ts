import { assert, describe, it } from "@effect/vitest"
import { describe as describeStack, Rpc, Stack, Stacks } from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Clock, Context, Effect, Exit, Fiber, Layer, Metric, Scope } from "effect"
import { TestClock } from "effect/testing"
import { endpoints, inForce, settle, stack, start, TextClient } from "./support.ts"

describe("a stack", () => {
  it.effect("connects nothing until it is called, then answers", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      assert.strictEqual(script.attempts.size, 0)
      assert.match(yield* client.call("hi"), /^h:[12] hi$/)
      assert.strictEqual(script.connections.length, 1)
    }).pipe(Effect.provide(stack())))

  it.effect("waits for a first state up to the deadline", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const fiber = yield* Effect.forkChild(Effect.flip(client.call("hi").pipe(Rpc.deadline("2 seconds"))), {
        startImmediately: true
      })
      yield* TestClock.adjust("1999 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error._tag, "Timeout")
      assert.strictEqual(error.reached, "no")
      const { deadlines } = yield* Stack
      assert.strictEqual(deadlines.size, 0)
    }).pipe(Effect.provide(stack())))

  it.effect("sends a call that could not connect to another endpoint", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      script.refuse("h:1")
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      for (let i = 0; i < 10; i++) assert.strictEqual(yield* client.call("hi"), "h:2 hi")
      assert.strictEqual(script.attempts.get("h:1"), 1)
    }).pipe(Effect.provide(stack())))

  it.effect("waits for the first endpoint to open, and tells what it met when it gives up", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      script.refuse("h:1")
      yield* (yield* TestServerSet).bind(endpoints(1))
      const fiber = yield* Effect.forkChild(Effect.flip(client.call("hi")), { startImmediately: true })
      yield* TestClock.adjust("9999 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error._tag, "Timeout")
      assert.include(error.message, "refused by the script")
      script.accept("h:1")
      const second = yield* Effect.forkChild(client.call("again"), { startImmediately: true })
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual(yield* Fiber.join(second), "h:1 again")
    }).pipe(Effect.provide(stack())))

  it.effect("fails fast with the cause when all are down, and recovers on demand", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1))
      yield* client.call("hi")
      yield* TestClock.adjust("1 second")
      script.refuse("h:1")
      script.breakAll("h:1")
      const error = yield* Effect.flip(client.call("hi"))
      assert.strictEqual(error._tag, "FastFailure")
      assert.include(error.message, "refused by the script")
      yield* TestClock.adjust("1 minute")
      script.accept("h:1")
      assert.strictEqual(yield* client.call("back"), "h:1 back")
    }).pipe(Effect.provide(stack())))

  it.effect("ends a call at its deadline and releases everything it held", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      script.answer = () => Effect.never
      yield* (yield* TestServerSet).bind(endpoints(1))
      const fiber = yield* Effect.forkChild(Effect.flip(client.call("hi")), { startImmediately: true })
      yield* TestClock.adjust("10 seconds")
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error._tag, "Timeout")
      assert.strictEqual(error.reached, "maybe")
      assert.strictEqual(script.connections[0]!.outstanding, 0)
      const balancer = describeStack(yield* Stack).stages.find((node) => node.role === "balancer")!
      assert.deepStrictEqual((balancer.state as { endpoints: Array<{ load: number }> }).endpoints.map((e) => e.load), [
        0
      ])
    }).pipe(Effect.provide(stack())))

  it.effect("drains on close: waits for what is outstanding, then aborts it", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(stack({ stack: { drainTimeout: "3 seconds" } }), scope)
      const run = Effect.provideContext(context)
      const { client, script } = yield* Effect.gen(function*() {
        yield* (yield* TestServerSet).bind(endpoints(1))
        return { client: yield* TextClient, script: yield* ScriptedConnector }
      }).pipe(run)
      script.answer = () => Effect.never
      const call = yield* Effect.forkChild(Effect.flip(client.call("hi")), { startImmediately: true })
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      assert.strictEqual((yield* Effect.flip(client.call("late")))._tag, "StackClosed")
      yield* TestClock.adjust("2999 millis")
      assert.isUndefined(call.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.strictEqual((yield* Fiber.join(call))._tag, "StackClosed")
      yield* Fiber.join(closing)
      assert.strictEqual(script.live().length, 0)
    }))

  it.effect("is found by its first call although its endpoint came up only now, however long it was down", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      script.refuse("h:1")
      yield* (yield* TestServerSet).bind(endpoints(1))
      const early = yield* start(Effect.flip(client.call("early")))
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual((yield* Fiber.join(early))._tag, "Timeout")
      script.accept("h:1")
      const fiber = yield* start(client.call("now"))
      yield* settle
      assert.strictEqual(yield* Fiber.join(fiber), "h:1 now")
    }).pipe(Effect.provide(stack())))

  it.effect("loses no call when one of its endpoints breaks between calls, and uses it again when it is back", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      for (let i = 0; i < 20; i++) yield* client.call("hi")
      script.refuse("h:1")
      script.breakAll("h:1")
      for (let i = 0; i < 20; i++) assert.strictEqual(yield* client.call("hi"), "h:2 hi")
      script.accept("h:1")
      yield* TestClock.adjust("300 millis")
      const seen = new Set<string>()
      for (let i = 0; i < 20; i++) seen.add(yield* client.call("hi"))
      assert.deepStrictEqual([...seen].toSorted(), ["h:1 hi", "h:2 hi"])
    }).pipe(Effect.provide(stack())))

  it.effect("sends a call elsewhere at once when the endpoint it was picked for is draining", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      for (let i = 0; i < 20; i++) yield* client.call("hi")
      script.breakAll("h:1", { drained: true })
      const before = script.attempts.get("h:1")!
      for (let i = 0; i < 20; i++) assert.match(yield* client.call("hi"), /^h:[12] hi$/)
      assert.strictEqual(script.attempts.get("h:1"), before + 1)
    }).pipe(Effect.provide(stack())))

  it.effect("opens before it is called when it is asked to", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      script.refuse("h:1")
      const opening = yield* start(client.open)
      yield* (yield* TestServerSet).bind(endpoints(1))
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(opening.pollUnsafe())
      script.accept("h:1")
      yield* TestClock.adjust("12 seconds")
      yield* Fiber.join(opening)
      assert.lengthOf(script.live(), 1)
    }).pipe(Effect.provide(stack())))

  it.effect("does the same again for the same seed, and something else for another", () => {
    const run = (seed: number) =>
      Effect.gen(function*() {
        const client = yield* TextClient
        const script = yield* ScriptedConnector
        yield* (yield* TestServerSet).bind(endpoints(1, 2, 3, 4, 5))
        const log: Array<string | number> = []
        script.connecting = () => Effect.asVoid(Effect.map(Clock.currentTimeMillis, (now) => log.push(now)))
        for (let i = 0; i < 30; i++) log.push(yield* client.call("hi"))
        script.refuse("h:2")
        script.breakAll("h:2")
        yield* TestClock.adjust("1 minute")
        return log
      }).pipe(Effect.provide(stack({ seed })), Effect.provide(TestClock.layer()))
    return Effect.gen(function*() {
      const first = yield* run(7)
      assert.isAbove(first.length, 40)
      assert.deepStrictEqual(yield* run(7), first)
      assert.notDeepEqual(yield* run(8), first)
    })
  })

  it.effect("leaves no fiber asleep when it is closed, whatever it was waiting for", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      let asleep = 0
      const counting = Layer.succeed(Clock.Clock, {
        ...clock,
        sleep: (duration) =>
          Effect.acquireUseRelease(
            Effect.sync(() => asleep++),
            () => clock.sleep(duration),
            () => Effect.sync(() => asleep--)
          )
      })
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(stack().pipe(Layer.provide(counting)), scope)
      yield* Effect.gen(function*() {
        const client = yield* TextClient
        const script = yield* ScriptedConnector
        for (const key of ["h:1", "h:2", "h:3"]) script.refuse(key)
        yield* (yield* TestServerSet).bind(endpoints(1, 2, 3))
        yield* start(Effect.flip(client.call("hi")))
        yield* settle
      }).pipe(Effect.provideContext(context))
      assert.isAtLeast(asleep, 4)
      yield* start(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(asleep, 0)
    }))
})

describe("two stacks over one layer constant", () => {
  it.effect("are one when it is shared, and two when it is fresh", () =>
    Effect.gen(function*() {
      const one = stack()
      const build = (layer: typeof one) =>
        Effect.gen(function*() {
          const memo = yield* Layer.makeMemoMap
          const scope = yield* Effect.scope
          const contexts = [
            yield* Layer.buildWithMemoMap(layer, memo, scope),
            yield* Layer.buildWithMemoMap(layer, memo, scope)
          ]
          return yield* Effect.forEach(contexts, (context) =>
            Effect.provideContext(
              Effect.gen(function*() {
                return { client: yield* TextClient, script: yield* ScriptedConnector, set: yield* TestServerSet }
              }),
              context
            ))
        })
      const fresh = yield* build(one)
      for (const { client, set } of fresh) {
        yield* set.bind(endpoints(1))
        yield* client.call("hi")
      }
      assert.deepStrictEqual(fresh.map(({ script }) => script.connections.length), [1, 1])
      assert.notStrictEqual(fresh[0]!.client, fresh[1]!.client)
      const shared = yield* build(Layer.merge(one, Layer.empty))
      assert.strictEqual(shared[0]!.client, shared[1]!.client)
    }))
})

describe("the register of a stack", () => {
  it.effect("describes every stage from the caller down, with options and live state", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      yield* (yield* TestServerSet).bind(endpoints(1))
      yield* client.call("hi")
      const { faults, id, kind, name, stages: nodes } = describeStack(yield* Stack)
      assert.deepStrictEqual([kind, name, id, faults], ["client", "text", "text", []])
      assert.deepStrictEqual(nodes.map(({ role }) => role), [
        "client",
        "dispatcher",
        "requeue",
        "balancer",
        "serverSet",
        "resurrector",
        "pool"
      ])
      const budget = { ttlMillis: 10_000, minRetriesPerSecond: 10, percentCanRetry: 0.2 }
      assert.deepStrictEqual(nodes.map(({ options }) => options), [
        inForce({ drainTimeout: "5000 ms", budget, metrics: true, endpointSeries: 100, traceSampling: 1 }),
        inForce({}, { service: "text", timeout: "10000 ms" }),
        inForce({ effort: 25, share: 0.2 }),
        inForce({ whenEmpty: "fail" }),
        inForce({ source: "a stream of states" }),
        inForce({ backoff: "250 ms x 1.5, at most 10 s, jittered", demandInterval: "50 ms" }),
        {}
      ])
      const quantiles = [0.5, 0.9, 0.95, 0.99, 0.999, 0.9999].map((share) => [share, 0])
      assert.deepStrictEqual(nodes.map(({ state }) => state), [
        { timers: 0, budget: { balance: 100, withdrawals: 0, exhausted: 0 } },
        {
          calls: 1,
          successes: 1,
          outstanding: 0,
          failures: {},
          methods: { call: { requests: 1, successes: 1, pending: 0, failures: {}, quantiles } }
        },
        {
          requeues: 0,
          notConnected: 0,
          refused: 0,
          budgetExhausted: 0,
          limitReached: 0,
          notOpen: 0,
          notRetryable: 0,
          outOfTime: 0,
          budget: 100
        },
        {
          size: 1,
          usable: 1,
          busy: 0,
          down: 0,
          draining: 0,
          load: 0,
          adds: 1,
          removes: 0,
          panics: 0,
          waiting: 0,
          endpoints: [{
            endpoint: "h:1",
            state: "Open",
            load: 0,
            weight: 1,
            latencyMillis: 0,
            calls: { attempts: 1, successes: 1, failures: {}, ignored: 0, quantiles },
            active: true
          }],
          drainingEndpoints: []
        },
        {
          state: "Bound",
          endpoints: 1,
          updates: 2,
          changes: 1,
          failures: 0,
          updatedMillisAgo: 0,
          changedMillisAgo: 0
        },
        { down: 0, downs: 0, attempts: 0, revivals: 0, fastFailures: 0 },
        {
          size: 1,
          waiting: 0,
          waited: 0,
          connects: 1,
          connectFailures: 0,
          dead: 0,
          closes: 0,
          connectMillis: { p50: 0, p99: 0 }
        }
      ])
      for (const { description } of nodes) assert.match(description, /^[a-z].*[a-z]$/)
    }).pipe(Effect.provide(stack())))

  it.effect("gives a state that later calls do not change", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      yield* (yield* TestServerSet).bind(endpoints(1))
      const before = describeStack(yield* Stack)
      const text = JSON.stringify(before)
      yield* client.call("hi")
      assert.strictEqual(JSON.stringify(before), text)
    }).pipe(Effect.provide(stack())))

  it.effect("is empty once the stages are closed", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(stack(), scope)
      const shared = yield* Effect.provideContext(Stack, context)
      assert.lengthOf(shared.nodes(), 7)
      yield* Scope.close(scope, Exit.void)
      assert.lengthOf(shared.nodes(), 0)
      assert.deepStrictEqual(describeStack(shared).stages, [])
    }))
})

describe("the metrics of stacks", () => {
  it.effect("tell clients of one name apart where some show none", () =>
    Effect.gen(function*() {
      const built = (metrics: boolean) =>
        Effect.gen(function*() {
          const scope = yield* Scope.make()
          const context = yield* Layer.buildWithScope(stack({ stack: { metrics } }), scope)
          return { close: Scope.close(scope, Exit.void), id: Context.get(context, Stack).id }
        })
      const first = yield* built(false)
      const second = yield* built(false)
      const third = yield* built(true)
      assert.deepStrictEqual([first.id, second.id, third.id], ["text", "text-2", "text-3"])
      yield* second.close
      const fourth = yield* built(true)
      assert.strictEqual(fourth.id, "text-2")
      // A second time it is not its own any more.
      yield* second.close
      const fifth = yield* built(false)
      assert.strictEqual(fifth.id, "text-4")
      yield* Effect.all([first.close, third.close, fourth.close, fifth.close])
      const last = yield* built(true)
      assert.strictEqual(last.id, "text")
      yield* last.close
    }).pipe((self) => Effect.suspend(() => Effect.provideService(self, Metric.MetricRegistry, new Map()))))

  it.effect("tell clients of one name apart, as long as both are there", () =>
    Effect.gen(function*() {
      const registry = yield* Effect.context<never>()
      const clients = () =>
        Metric.snapshotUnsafe(registry).filter(({ id }) => id === "scales.balancer.size").map((
          { attributes, state }
        ) => [
          attributes!["client"],
          (state as { readonly value: number }).value
        ])
      const built = (count: number) =>
        Effect.gen(function*() {
          const scope = yield* Scope.make()
          const context = yield* Layer.buildWithScope(stack(), scope)
          yield* Context.get(context, TestServerSet).bind(endpoints(...Array.from({ length: count }, (_, i) => i + 1)))
          yield* settle
          return Scope.close(scope, Exit.void)
        })
      const closeFirst = yield* built(1)
      const closeSecond = yield* built(2)
      const closeThird = yield* built(3)
      assert.deepStrictEqual(clients(), [["text", 1], ["text-2", 2], ["text-3", 3]])
      yield* closeSecond
      assert.deepStrictEqual(clients(), [["text", 1], ["text-3", 3]])
      yield* closeFirst
      const closeFourth = yield* built(4)
      assert.deepStrictEqual(clients(), [["text-3", 3], ["text", 4]])
      yield* closeThird
      yield* closeFourth
      assert.deepStrictEqual(Metric.snapshotUnsafe(registry).filter(({ id }) => id.startsWith("scales.")), [])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))
})

describe("the directory of stacks", () => {
  it.effect("lists the stacks that are built where it is provided, until they close", () =>
    Effect.gen(function*() {
      const directory = yield* Stacks
      const scopes = [yield* Scope.make(), yield* Scope.make()]
      for (const [index, scope] of scopes.entries()) {
        yield* Layer.buildWithScope(Stack.layer(`client ${index}`), scope)
      }
      const names = () => directory.list().map(({ name }) => name)
      assert.deepStrictEqual(names(), ["client 0", "client 1"])
      yield* Scope.close(scopes[0]!, Exit.void)
      assert.deepStrictEqual(names(), ["client 1"])
      yield* Scope.close(scopes[1]!, Exit.void)
      assert.deepStrictEqual(names(), [])
    }).pipe(Effect.provide(Stacks.layer)))

  it.effect("is not needed", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* Stack).name, "alone")
    }).pipe(Effect.provide(Stack.layer("alone"))))
})

describe("the options of a stack", () => {
  it.effect("are checked when it is built", () =>
    Effect.gen(function*() {
      const fail = (options: Parameters<typeof Stack.layer>[1]) =>
        Effect.flip(Effect.scoped(Layer.build(Stack.layer("text", options))))
      assert.strictEqual((yield* fail({ drainTimeout: -1 })).option, "drainTimeout")
      assert.strictEqual((yield* fail({ drainTimeout: Infinity })).option, "drainTimeout")
      assert.strictEqual((yield* fail({ budget: { ttlMillis: 1 } })).option, "budget.ttlMillis")
    }))
})
