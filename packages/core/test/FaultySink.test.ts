/** Faults by a plan: which calls they meet, what they look like to the stack, and that they leave nothing behind. */
import { assert, describe, it } from "@effect/vitest"
import {
  type AbortReason,
  beginAttempt,
  describe as describeStack,
  Endpoint,
  FailureAccrual,
  HeapBalancer,
  InvalidOption,
  NackAdmission,
  NoEndpoints,
  Requeue,
  Resurrector,
  Rpc,
  type RpcError,
  ServerFailed,
  SingletonPool,
  Stack,
  type StatusCell
} from "@scales-rpc/core"
import { FaultySink, Scripted, ScriptedConnector, ScriptedSink, Seed, TestServerSet } from "@scales-rpc/core/testing"
import { Clock, Context, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { TestClock } from "effect/testing"
import { endpoints, makeCall, seeded, settle, stack, start, stop, Text, TextClient } from "./support.ts"

const { breakAfter, breakConnection, delay, fail, hang, nack, plan, refuse } = FaultySink

/** The stack of `support.ts` with faults at its connector. */
const overFaultyConnector = (faults: FaultySink.FaultPlan<FaultySink.ConnectorRule>, options?: {
  readonly above?: FaultySink.FaultPlan<FaultySink.AboveRule>
  readonly below?: FaultySink.FaultPlan<FaultySink.BelowRule>
  readonly accrual?: boolean
  readonly seed?: number
}) => {
  const none = plan([])
  return TextClient.layer().pipe(
    Layer.provide(FaultySink.above(Text, options?.above ?? none)),
    Layer.provide(Requeue.layer(Text)),
    Layer.provide(options?.accrual === true ? NackAdmission.layer(Text) : Layer.effect(Text.Balanced, Text.Balanced)),
    Layer.provide(HeapBalancer.layer(Text)),
    Layer.provide(FaultySink.below(Text, options?.below ?? none)),
    Layer.provide(
      options?.accrual === true ? FailureAccrual.layer(Text) : Layer.effect(Text.Endpoints, Text.Endpoints)
    ),
    Layer.provide(Resurrector.layer(Text)),
    Layer.provide(SingletonPool.layer(Text)),
    Layer.provide(FaultySink.connector(Text, faults)),
    Layer.provideMerge(
      Scripted.layer(Text, (request, attempt) => Effect.succeed(`${attempt.endpoint.key} ${request}`))
    ),
    Layer.provideMerge(TestServerSet.layer()),
    Layer.provideMerge(Stack.layer("text")),
    Layer.provideMerge(Seed.layer(options?.seed ?? 1)),
    Layer.fresh
  )
}

/** A client whose calls are of two methods. */
const methods = (faults: FaultySink.FaultPlan<FaultySink.AboveRule>) => {
  const answered: Array<string> = []
  const layer = FaultySink.above(Text, faults).pipe(
    Layer.provide(ScriptedSink.layer(Text, (request) =>
      Effect.sync(() => {
        answered.push(request)
        return request
      }))),
    Layer.provideMerge(Stack.layer("text"))
  )
  return { answered, layer }
}

const none = new NoEndpoints({ stack: "text", cause: "injected" })

/** What became of some calls, by their tags; `ok` for those that succeeded. */
const tagsOf = (calls: ReadonlyArray<Effect.Effect<string, RpcError>>) =>
  Effect.forEach(calls, (call) => Effect.match(call, { onFailure: ({ _tag }) => _tag, onSuccess: () => "ok" }))

const loads = Effect.map(Stack, (shared) => {
  const states = Object.fromEntries(describeStack(shared).stages.map(({ role, state }) => [role, state as any]))
  return {
    load: states["balancer"].load as number,
    timers: shared.deadlines.size
  }
})

describe("a rule", () => {
  it.effect("applies to the nth of what it matches, and so many times at most", () => {
    const faults = plan([{ nth: [2, 4], fault: fail(none) }, { nth: 6, fault: fail(none) }, {
      times: 1,
      probability: 1,
      where: ({ idempotent }) => idempotent,
      fault: fail(none)
    }])
    return Effect.gen(function*() {
      const { call } = yield* TextClient
      yield* (yield* TestServerSet).bind(endpoints(1))
      const calls = Array.from({ length: 7 }, (_, nth) => call(`${nth}`))
      const tags = ["ok", "NoEndpoints", "ok", "NoEndpoints", "ok", "NoEndpoints", "ok"]
      assert.deepStrictEqual(yield* tagsOf(calls), tags)
      // The second rule counts what the first has ended, too.
      assert.deepStrictEqual(faults.matched, [7, 7, 0])
      const idempotent = ["a", "b", "c"].map((text) => Rpc.idempotent(call(text)))
      assert.deepStrictEqual(yield* tagsOf(idempotent), ["NoEndpoints", "ok", "ok"])
      assert.deepStrictEqual(faults.injected.map(({ rule }) => rule), [0, 0, 1, 2])
    }).pipe(Effect.provide(stack({ above: FaultySink.above(Text, faults) })))
  })

  it.effect("applies to its methods, its endpoints and what its predicate says", () => {
    const faults = plan([
      { endpoint: "h:1", fault: fail(() => none) },
      { endpoint: ["h:2", "h:3"], method: "other", fault: fail(none) },
      { where: (call, endpoint) => call.method === "call" && endpoint?.port === 3, fault: fail(none) }
    ])
    return Effect.gen(function*() {
      const { call } = yield* TextClient
      const servers = yield* TestServerSet
      const met: Array<ReadonlyArray<string>> = []
      for (const port of [1, 2, 3]) {
        yield* servers.bind(endpoints(port))
        yield* servers.seen
        met.push(yield* tagsOf([call("a")]))
      }
      assert.deepStrictEqual(met, [["NoEndpoints"], ["ok"], ["NoEndpoints"]])
      assert.deepStrictEqual(faults.matched, [1, 0, 1])
    }).pipe(Effect.provide(stack({ below: FaultySink.below(Text, faults) })))
  })

  it.effect("applies with its probability, the same for the same seed", () => {
    const outcomes = (seed: string | number, more: ReadonlyArray<FaultySink.AboveRule> = []) =>
      Effect.gen(function*() {
        const { call } = yield* TextClient
        yield* (yield* TestServerSet).bind(endpoints(1))
        return (yield* tagsOf(Array.from({ length: 1000 }, () => call("a")))).map((tag) => tag === "ok" ? "." : "x")
          .join("")
      }).pipe(Effect.provide(stack({
        above: FaultySink.above(Text, plan([{ probability: 0.3, fault: fail(none) }, ...more], { seed }))
      })))
    return Effect.gen(function*() {
      const first = yield* outcomes(7)
      assert.strictEqual(yield* outcomes(7), first)
      // Another rule beside it changes nothing of what it does.
      assert.strictEqual(yield* outcomes(7, [{ probability: 0.5, method: "other", fault: hang }]), first)
      assert.notStrictEqual(yield* outcomes(8), first)
      assert.notStrictEqual(yield* outcomes("7b"), first)
      // Three standard deviations: sqrt(1000 * 0.3 * 0.7) = 14.5.
      assert.closeTo(first.split("x").length - 1, 300, 44)
    })
  })

  it.effect("meets the same calls whatever rules are before it", () => {
    const rule: FaultySink.AboveRule = { probability: 0.3, times: 20, fault: fail(none) }
    const slow: FaultySink.AboveRule = { probability: 0.3, fault: delay("1 millis", "9 millis") }
    /** Which of 200 calls each of the rules has met, and how long it took them. */
    const met = (rules: ReadonlyArray<FaultySink.AboveRule>) =>
      Effect.gen(function*() {
        const { call } = yield* TextClient
        yield* (yield* TestServerSet).bind(endpoints(1))
        const took: Array<number> = []
        for (let i = 0; i < 200; i++) {
          const began = yield* Clock.currentTimeMillis
          const calling = yield* start(Effect.exit(call("a")).pipe(Effect.andThen(Clock.currentTimeMillis)))
          yield* TestClock.adjust("10 millis")
          took.push((yield* Fiber.join(calling)) - began)
        }
        return took
      }).pipe(Effect.provide(stack({ above: FaultySink.above(Text, plan(rules, { seed: 7 })) })))
    /** A rule in the place of another, which keeps its index and so its chance. */
    const nothing: FaultySink.AboveRule = { method: "other", fault: hang }
    return Effect.gen(function*() {
      const alone = yield* met([nothing, slow])
      assert.isAbove(alone.filter((millis) => millis > 0).length, 30)
      const behind = yield* met([rule, slow])
      // Those that the first rule has ended were not slowed down; the others were as if it were not there.
      const ended = behind.filter((millis, index) => millis !== alone[index])
      assert.isAbove(ended.length, 0)
      assert.isTrue(ended.every((millis) => millis === 0))
      assert.isAtMost(ended.length, 20)
    })
  })

  it.effect("whose times are used up, or whose turn was another rule's, draws all the same", () =>
    Effect.gen(function*() {
      const faults = (first: FaultySink.AboveRule) =>
        plan([first, { probability: 0.5, times: 3, fault: fail(none) }, { probability: 0.5, fault: fail(none) }], {
          seed: 7
        })
      const run = (planned: FaultySink.FaultPlan<FaultySink.AboveRule>) =>
        Effect.gen(function*() {
          const { call } = yield* TextClient
          yield* (yield* TestServerSet).bind(endpoints(1))
          return yield* tagsOf(Array.from({ length: 100 }, () => call("a")))
        }).pipe(Effect.provide(stack({ above: FaultySink.above(Text, planned) })))
      const late = faults({ nth: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], fault: fail(none) })
      const early = faults({ nth: 1000, fault: hang })
      const [first, second] = [yield* run(late), yield* run(early)]
      // `times` counts what a rule has done, so that the second rule does its three later; the third is not moved by that.
      const third = (planned: FaultySink.FaultPlan<FaultySink.AboveRule>) =>
        planned.injected.filter(({ rule }) => rule === 2).length
      assert.isAbove(third(late), 20)
      assert.deepStrictEqual(first.slice(50), second.slice(50))
      assert.deepStrictEqual(late.matched, [100, 100, 100])
    }))

  it.effect("is heeded in its order: delays add up, and the first that ends the call ends it", () => {
    const faults = plan([
      { fault: delay("1 second") },
      { fault: delay("2 seconds") },
      { fault: fail(none) },
      { fault: delay("4 seconds") }
    ])
    return Effect.gen(function*() {
      yield* (yield* TestServerSet).bind(endpoints(1))
      const call = yield* start(Effect.flip((yield* TextClient).call("a")))
      yield* TestClock.adjust("2999 millis")
      assert.isUndefined(call.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* Fiber.join(call), none)
      assert.deepStrictEqual(
        faults.injected.map(({ at, endpoint, fault, method, on, rule }) => [rule, fault, on, method, endpoint, at]),
        [
          [0, "Delay", "request", "call", undefined, 0],
          [1, "Delay", "request", "call", undefined, 0],
          [2, "Fail", "request", "call", undefined, 0]
        ]
      )
    }).pipe(Effect.provide(stack({ above: FaultySink.above(Text, faults) })))
  })

  it("is refused when it is none", () => {
    const wrong = (rule: FaultySink.ConnectorRule, option: string) => {
      try {
        plan([{ fault: hang }, rule])
      } catch (error) {
        assert.isTrue(error instanceof InvalidOption)
        assert.strictEqual((error as InvalidOption).option, option)
        return
      }
      assert.fail("it was taken")
    }
    wrong({ nth: 0, fault: hang }, "rules[1].nth")
    wrong({ nth: [1, 1.5], fault: hang }, "rules[1].nth")
    wrong({ probability: 1.1, fault: hang }, "rules[1].probability")
    wrong({ probability: NaN, fault: hang }, "rules[1].probability")
    wrong({ times: -1, fault: hang }, "rules[1].times")
    wrong({ on: "reply", fault: nack() }, "rules[1].on")
    assert.throws(() => delay("2 seconds", "1 second"), InvalidOption)
    assert.throws(() => breakAfter("1 second", Infinity), InvalidOption)
    assert.throws(() => delay("soon" as never), InvalidOption)
  })

  it("may not be where it cannot work", () => {
    // @ts-expect-error above the balancer there is no endpoint that could refuse
    FaultySink.above(Text, plan([{ fault: nack() }]))
    // @ts-expect-error nor any to choose by
    FaultySink.above(Text, plan([{ endpoint: "a:1", fault: hang }]))
    // @ts-expect-error a connection is broken where there is one: at the connector
    FaultySink.below(Text, plan([{ fault: breakConnection }]))
    // @ts-expect-error and connecting fails there
    FaultySink.below(Text, plan([{ on: "connect", fault: refuse() }]))
    // @ts-expect-error a call is not refused by connecting
    plan([{ fault: refuse() }])
    // @ts-expect-error connecting that hangs is a delay: it has no call that could end it
    plan([{ on: "connect", fault: hang }])
    // @ts-expect-error a fault is a failure of the stack
    fail("broken")
    FaultySink.connector(Text, plan([{ fault: hang }, { on: "connect", fault: refuse() }, { fault: breakConnection }]))
  })
})

describe("a plan", () => {
  it.effect("stops and starts again, and says what it did", () => {
    const faults = plan([{ nth: 2, fault: fail(none) }, { probability: 0.0001, fault: hang }], { seed: "s" })
    return Effect.gen(function*() {
      const { call } = yield* TextClient
      yield* (yield* TestServerSet).bind(endpoints(1))
      assert.strictEqual(String(faults), `faults of seed "s": none`)
      yield* call("a")
      faults.stop()
      yield* call("b")
      assert.deepStrictEqual(faults.matched, [1, 1])
      faults.start()
      assert.deepStrictEqual(yield* tagsOf([call("c")]), ["NoEndpoints"])
      assert.strictEqual(String(faults), `faults of seed "s": Fail 1`)
      const node = describeStack(yield* Stack).stages.find(({ role }) => role === "faults")
      assert.deepInclude(node?.state, { Fail: 1, Hang: 0 })
    }).pipe(Effect.provide(stack({ above: FaultySink.above(Text, faults) })))
  })

  it.effect("keeps the last thousand of what it injected", () => {
    const faults = plan([{ fault: delay(0) }])
    return Effect.gen(function*() {
      const { call } = yield* TextClient
      yield* (yield* TestServerSet).bind(endpoints(1))
      yield* Effect.forEach(Array.from({ length: 1100 }), () => call("a"))
      assert.deepStrictEqual([faults.injected.length, faults.counts.Delay], [1000, 1100])
    }).pipe(Effect.provide(stack({ above: FaultySink.above(Text, faults) })))
  })
})

describe("a fault above the balancer", () => {
  it.effect("of a request keeps it from going down, of a reply does not", () => {
    const early = plan([{ nth: 1, fault: fail(none) }, { on: "reply", nth: 2, fault: fail(none) }])
    const { answered, layer } = methods(early)
    return Effect.gen(function*() {
      const { call } = yield* TextClient
      assert.deepStrictEqual(yield* tagsOf([call("a"), call("b"), call("c"), call("d")]), [
        "NoEndpoints",
        "ok",
        "NoEndpoints",
        "ok"
      ])
      assert.deepStrictEqual(answered, ["b", "c", "d"])
    }).pipe(Effect.provide(TextClient.layer().pipe(Layer.provide(layer), Layer.provide(Stack.layer("text")))))
  })
})

describe("a fault below the balancer", () => {
  it.effect("that is a nack sends the call to another endpoint", () => {
    const faults = plan([{ endpoint: "h:1", fault: nack({ why: "busy" }) }])
    return Effect.gen(function*() {
      const { call } = yield* TextClient
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      for (let i = 0; i < 10; i++) assert.strictEqual(yield* call(`${i}`), `h:2 ${i}`)
      assert.isAbove(faults.counts.Nack, 0)
    }).pipe(Effect.provide(stack({ below: FaultySink.below(Text, faults) })))
  })

  it.effect("that is a nack for good reaches the caller", () => {
    const faults = plan([{ fault: nack({ why: "busy", retryable: false }) }])
    return Effect.gen(function*() {
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      const error = yield* Effect.flip((yield* TextClient).call("a"))
      assert.deepInclude(error, { _tag: "Nacked", why: "busy", retryable: false, reached: "no" })
      assert.strictEqual(faults.counts.Nack, 1)
    }).pipe(Effect.provide(stack({ below: FaultySink.below(Text, faults) })))
  })

  it.effect("that is latency is the endpoint's, by the stack's clock", () => {
    const faults = plan([{ on: "reply", fault: delay("1 second", "2 seconds") }])
    return Effect.gen(function*() {
      const { call } = yield* TextClient
      yield* (yield* TestServerSet).bind(endpoints(1))
      const took: Array<number> = []
      for (let i = 0; i < 20; i++) {
        const fiber = yield* start(call("a"))
        let millis = 0
        while (fiber.pollUnsafe() === undefined) {
          millis += 10
          yield* TestClock.adjust("10 millis")
        }
        took.push(millis)
      }
      assert.isAtLeast(Math.min(...took), 1000)
      assert.isAtMost(Math.max(...took), 2010)
      assert.isAbove(new Set(took).size, 10)
      assert.deepStrictEqual(yield* loads, { load: 0, timers: 0 })
    }).pipe(Effect.provide(stack({ below: FaultySink.below(Text, faults) })))
  })

  it.effect("that hangs ends with the deadline, with the caller, and with the stack", () => {
    const faults = plan([{ fault: hang }])
    return Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(stack({ below: FaultySink.below(Text, faults) }), scope)
      yield* Effect.gen(function*() {
        const { call, calls } = yield* TextClient
        yield* (yield* TestServerSet).bind(endpoints(1))
        const late = yield* start(Effect.flip(call("a").pipe(Rpc.deadline("1 second"))))
        const left = yield* start(call("b"))
        const closed = yield* start(Effect.flip(call("c").pipe(Rpc.deadline("1 minute"))))
        yield* settle
        assert.strictEqual((yield* loads).load, 3)
        yield* stop(left)
        yield* TestClock.adjust("1 second")
        assert.deepInclude(yield* Fiber.join(late), { _tag: "Timeout", waiting: "reply", reached: "maybe" })
        assert.deepStrictEqual(yield* loads, { load: 1, timers: 1 })
        const closing = yield* start(Scope.close(scope, Exit.void))
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.join(closing)
        assert.strictEqual((yield* Fiber.join(closed))._tag, "StackClosed")
        assert.isTrue(calls.every(({ abort }) => abort.listeners === 0))
      }).pipe(Effect.provide(context))
    })
  })

  it.effect("that is a failure for the endpoint has it in it", () => {
    const faults = plan([{
      fault: fail((endpoint) => new ServerFailed({ endpoint: endpoint!, why: "no", retryable: false, rejected: false }))
    }])
    return Effect.gen(function*() {
      yield* (yield* TestServerSet).bind(endpoints(1))
      assert.strictEqual((yield* Effect.flip((yield* TextClient).call("a"))).message, "server failed at h:1: no")
    }).pipe(Effect.provide(stack({ below: FaultySink.below(Text, faults) })))
  })
})

describe("a fault at the connector", () => {
  it.effect("refuses connections", () => {
    const faults = plan([{ on: "connect", endpoint: "h:1", times: 1, fault: refuse("full") }])
    return Effect.gen(function*() {
      const { call } = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      for (let i = 0; i < 4; i++) yield* call("a")
      assert.isUndefined(script.attempts.get("h:1"))
      assert.strictEqual(faults.counts.Refuse, 1)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(script.attempts.get("h:1"), 1)
    }).pipe(Effect.provide(overFaultyConnector(faults)))
  })

  it.effect("lets connecting take its time, and leaves no timer when it is given up", () => {
    const faults = plan([{ on: "connect", fault: delay("3 seconds") }])
    return Effect.gen(function*() {
      const { call } = yield* TextClient
      yield* (yield* TestServerSet).bind(endpoints(1))
      const slow = yield* start(call("a"))
      const late = yield* start(Effect.flip(call("b").pipe(Rpc.deadline("1 second"))))
      yield* TestClock.adjust("1 second")
      assert.deepInclude(yield* Fiber.join(late), { _tag: "Timeout", waiting: "connection", reached: "no" })
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* Fiber.join(slow), "h:1 a")
      yield* (yield* TestServerSet).bind(endpoints(2))
      const given = yield* start(call("c"))
      yield* settle
      assert.strictEqual((yield* loads).timers, 2)
      yield* stop(given)
      yield* (yield* TestServerSet).bind(endpoints(1))
      yield* (yield* TestServerSet).seen
      yield* settle
      assert.deepStrictEqual(yield* loads, { load: 0, timers: 0 })
    }).pipe(Effect.provide(overFaultyConnector(faults)))
  })

  it.effect("breaks a connection with all calls on it, and the next call has another", () => {
    const faults = plan([{ where: ({ idempotent }) => idempotent, fault: breakConnection }, {
      nth: [1, 2],
      fault: hang
    }])
    return Effect.gen(function*() {
      const { call } = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1))
      const hung = yield* start(Effect.flip(call("a")))
      const also = yield* start(Effect.flip(call("b")))
      script.answer = () => Effect.never
      const below = yield* start(Effect.flip(call("c")))
      yield* settle
      const broken = yield* Effect.flip(Rpc.idempotent(call("d")))
      for (const error of [broken, yield* Fiber.join(hung), yield* Fiber.join(also), yield* Fiber.join(below)]) {
        assert.deepInclude(error, { _tag: "ConnectionClosed", reached: "maybe" })
      }
      assert.strictEqual(broken.message, "connection closed at h:1: injected, seed 1")
      assert.lengthOf(script.live(), 0)
      script.answer = () => Effect.succeed("again")
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* call("e"), "again")
      assert.lengthOf(script.connections, 2)
      assert.deepStrictEqual(yield* loads, { load: 0, timers: 0 })
    }).pipe(Effect.provide(overFaultyConnector(faults)))
  })

  it.effect("breaks connections some time after they were made", () => {
    const faults = plan([{ on: "connect", fault: breakAfter("10 seconds") }, {
      on: "connect",
      times: 1,
      fault: breakAfter("5 seconds")
    }])
    return Effect.gen(function*() {
      const { call } = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1))
      yield* call("a")
      yield* TestClock.adjust("4999 millis")
      assert.lengthOf(script.live(), 1)
      yield* TestClock.adjust("1 millis")
      assert.lengthOf(script.live(), 0)
      // The resurrector connects again, a backoff later.
      yield* TestClock.adjust("1 second")
      assert.lengthOf(script.connections, 2)
      // One that is drained before leaves no timer.
      script.breakAll("h:1", { drained: true })
      yield* settle
      assert.deepStrictEqual(yield* loads, { load: 0, timers: 0 })
    }).pipe(Effect.provide(overFaultyConnector(faults)))
  })

  it.effect("holds nothing of a call that has left: no timer, no listener of its abort or of its connection", () =>
    Effect.gen(function*() {
      const { connector } = Scripted.make<string, string, never>(() => Effect.succeed("well"))
      const faults = plan([{ fault: delay("1 second") }])
      const context = yield* Layer.build(
        FaultySink.connector(Text, faults).pipe(
          Layer.provide(Layer.succeed(Text.Connector, connector)),
          Layer.provideMerge(Stack.layer("text"))
        )
      )
      const { deadlines, now } = Context.get(context, Stack)
      const sink = yield* Context.get(context, Text.Connector).connect(Endpoint.tcp("h", 1))
      const status = sink.status as StatusCell
      const begin = (reason?: AbortReason) =>
        Effect.gen(function*() {
          const call = makeCall()
          const fiber = yield* start(Effect.exit(sink.send("a", beginAttempt(call, Endpoint.tcp("h", 1), now))))
          if (reason !== undefined) call.abort.abort(reason)
          return { call, fiber }
        })
      const held = () => ({ timers: deadlines.size, listeners: status.listeners })
      const left = yield* begin()
      const answered = yield* begin()
      assert.deepStrictEqual(held(), { timers: 2, listeners: 2 })
      yield* stop(left.fiber)
      const aborted = yield* begin({ _tag: "Superseded" })
      assert.isTrue(Exit.isFailure(yield* Fiber.join(aborted.fiber)))
      assert.deepStrictEqual(held(), { timers: 1, listeners: 1 })
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Fiber.join(answered.fiber), Exit.succeed("well"))
      assert.deepStrictEqual(held(), { timers: 0, listeners: 0 })
      assert.deepStrictEqual([left, aborted, answered].map(({ call }) => call.abort.listeners), [0, 0, 0])
    }))

  it.effect("passes on what becomes of the connection below", () => {
    return Effect.gen(function*() {
      const { call } = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1))
      yield* call("a")
      script.breakAll("h:1")
      assert.strictEqual(
        (yield* Effect.flip(Effect.andThen(Effect.sync(() => script.refuse("h:1")), call("b"))))._tag,
        "FastFailure"
      )
    }).pipe(Effect.provide(overFaultyConnector(plan([]))))
  })
})

/** A plan that nobody thought of. */
const anyPlan = (random: () => number) => {
  const below = (n: number) => Math.floor(random() * n)
  const one = <A>(of: ReadonlyArray<A>): A => of[below(of.length)]!
  const anyDelay = () => {
    const least = below(500)
    return delay(least, least + below(2000))
  }
  const chance = () => ({
    probability: one([1, 0.5, 0.1]),
    times: one([1, 5, 1000]),
    ...(random() < 0.3 && { nth: [1 + below(5), 1 + below(20)] })
  })
  const some = <A>(make: () => A): ReadonlyArray<A> => Array.from({ length: below(4) }, make)
  const broken = (endpoint: Endpoint | undefined) =>
    new ServerFailed({
      endpoint: endpoint ?? Endpoint.tcp("none", 1),
      why: "injected",
      retryable: random() < 0.5,
      rejected: random() < 0.5
    })
  const on = () => one(["request", "reply"] as const)
  const endpoint = () => one([undefined, "h:1", ["h:2", "h:3"]])
  const seed = below(1_000_000)
  const aboveRule = (): FaultySink.AboveRule => ({
    ...chance(),
    on: on(),
    fault: one([anyDelay(), fail(broken), hang])
  })
  const belowRule = (): FaultySink.BelowRule =>
    random() < 0.3
      ? { ...chance(), endpoint: endpoint(), fault: nack({ retryable: random() < 0.7 }) }
      : { ...chance(), endpoint: endpoint(), on: on(), fault: one([anyDelay(), fail(broken), hang]) }
  const connectorRule = (): FaultySink.ConnectorRule => {
    const dice = random()
    if (dice < 0.4) {
      const fault = one([anyDelay(), refuse(), breakAfter(below(1000), 1000 + below(5000))])
      return { ...chance(), endpoint: endpoint(), on: "connect", fault }
    }
    return dice < 0.7 ? { ...chance(), endpoint: endpoint(), on: on(), fault: breakConnection } : belowRule()
  }
  return {
    above: plan(some(aboveRule), { seed }),
    below: plan(some(belowRule), { seed }),
    connector: plan(some(connectorRule), { seed })
  }
}

const seeds = process.env["SEED"] === undefined
  ? Array.from({ length: 200 }, (_, index) => index + 1)
  : [Number(process.env["SEED"])]

describe("any plan", () => {
  const happened = new Set<string>()

  it.effect(
    "leaves nothing behind, lets every call end in its time, and the stack be well once it stops",
    () =>
      Effect.andThen(
        Effect.forEach(seeds, (seed) => {
          const random = seeded(seed)
          const plans = anyPlan(random)
          const said = (what: string) =>
            `${what} (seed ${seed}: ${String(plans.above)}, ${String(plans.below)}, ${String(plans.connector)})`
          return Effect.gen(function*() {
            const { call, calls } = yield* TextClient
            const script = yield* ScriptedConnector
            const servers = yield* TestServerSet
            script.answer = (request, { endpoint }) =>
              Effect.as(Effect.sleep(Math.floor(random() * 300)), `${endpoint.key} ${request}`)
            yield* servers.bind(endpoints(1, 2, 3))
            yield* servers.seen
            const begun: Array<{ readonly fiber: Fiber.Fiber<string, RpcError>; readonly due: number }> = []
            let now = 0
            for (let step = 0; step < 40; step++) {
              const dice = random()
              if (dice < 0.6) {
                const millis = 1 + Math.floor(random() * 5000)
                const fiber = yield* start(call(`${step}`).pipe(Rpc.deadline(millis)))
                begun.push({ fiber, due: now + millis })
              } else if (dice < 0.65 && begun.length > 0) {
                yield* stop(begun[Math.floor(random() * begun.length)]!.fiber)
              } else if (dice < 0.7) {
                yield* servers.bind(endpoints(...[1, 2, 3].filter(() => random() < 0.7), 4))
              } else {
                const millis = Math.floor(random() * 800)
                now += millis
                yield* TestClock.adjust(millis)
              }
              for (const { due, fiber } of begun) {
                if (due <= now) {
                  assert.isDefined(fiber.pollUnsafe(), said(`a call outlives its deadline by ${now - due} ms`))
                }
              }
            }
            yield* TestClock.adjust("10 seconds")
            assert.isTrue(
              begun.every(({ fiber }) => fiber.pollUnsafe() !== undefined),
              said("a call has not ended")
            )
            for (const { fiber } of begun) {
              const exit = fiber.pollUnsafe()!
              assert.isFalse(Exit.isFailure(exit) && Exit.hasDies(exit), said("a call died"))
            }
            assert.isTrue(
              calls.every(({ abort }) => abort.listeners === 0),
              said("somebody listens to a call that has ended")
            )
            assert.isTrue(script.connections.every(({ outstanding }) => outstanding === 0), said("an exchange goes on"))
            for (const each of Object.values(plans)) {
              each.stop()
              for (const [kind, count] of Object.entries(each.counts)) {
                if (count > 0) happened.add(kind)
              }
            }
            // Connects that take their time, connections that break yet, the longest backoff.
            yield* TestClock.adjust("30 seconds")
            assert.deepStrictEqual(yield* loads, { load: 0, timers: 0 }, said("something is held"))
            script.answer = () => Effect.succeed("well")
            assert.isTrue(Exit.isSuccess(yield* Effect.exit(call("a"))), said("it is not well"))
          }).pipe(
            Effect.provide(overFaultyConnector(plans.connector, {
              above: plans.above,
              below: plans.below,
              accrual: random() < 0.5,
              seed
            })),
            Effect.provide(TestClock.layer())
          )
        }, { discard: true }),
        Effect.sync(() => {
          const kinds = ["Break", "BreakAfter", "Delay", "Fail", "Hang", "Nack", "Refuse"]
          if (seeds.length > 1) assert.deepStrictEqual([...happened].toSorted(), kinds)
        })
      ),
    60_000
  )
})
