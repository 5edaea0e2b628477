import { assert, describe, it } from "@effect/vitest"
import {
  AccrualPolicy,
  Backoff,
  beginAttempt,
  type Call,
  ConnectFailed,
  describe as describeStack,
  Endpoint,
  type EndpointSink,
  FailureAccrual,
  FastFailure,
  Nacked,
  type RpcError,
  ServerFailed,
  settleAttempt,
  type SinkState,
  Stack
} from "@scales-rpc/core"
import { ScriptedConnector, Seed, TestServerSet } from "@scales-rpc/core/testing"
import { Clock, Effect, Exit, Fiber, Layer, Metric, Schedule, Scope } from "effect"
import { TestClock } from "effect/testing"
import {
  endpoints,
  type Exchange,
  handEndpoints,
  inForce,
  makeCall,
  settle,
  stack,
  start,
  stop,
  Text,
  TextClient
} from "./support.ts"

const at = (port: number) => Endpoint.tcp("h", port)
const failed = new ServerFailed({ endpoint: at(1), why: "boom", retryable: false, rejected: false })
const nacked = new Nacked({ endpoint: at(1), why: "busy", retryable: true })
const refused = new ConnectFailed({ endpoint: at(1), phase: "connect", cause: "refused" })

/** Dead after three failures in a row: 5 s first, 5 s longer each time. */
const three = AccrualPolicy.consecutiveFailures(3, Backoff.linear("5 seconds", "5 seconds", "1 hour"))

/** Accrued endpoints over ones made by hand. */
const accrued = (policy: AccrualPolicy.AccrualPolicy = three, ports: ReadonlyArray<number> = [1]) =>
  Effect.gen(function*() {
    const hand = handEndpoints()
    const scope = yield* Scope.make()
    const layer = FailureAccrual.layer(Text, { policy }).pipe(
      Layer.provide(Layer.succeed(Text.Endpoints, hand.factory)),
      Layer.provideMerge(Stack.layer("text")),
      Layer.provideMerge(Seed.layer(1))
    )
    const context = yield* Layer.buildWithScope(Layer.fresh(layer), scope)
    const { factory, shared } = yield* Effect.provideContext(
      Effect.gen(function*() {
        return { factory: yield* Text.Endpoints, shared: yield* Stack }
      }),
      context
    )
    const sinks = new Map<number, EndpointSink<string, string, RpcError>>()
    for (const port of ports) {
      sinks.set(port, yield* Scope.provide(factory.make(at(port)), scope))
      hand.at(port).status.set("Open")
    }
    const sink = (port = 1) => sinks.get(port)!
    /** Sends as a balancer does, and gives what is on the wire. */
    const begin = (port = 1, call: Call = makeCall()) =>
      Effect.gen(function*() {
        const attempt = beginAttempt(call, at(port), shared.now)
        const sent = Effect.onExit(
          Effect.suspend(() => sink(port).send("hi", attempt)),
          (exit) => Effect.sync(() => settleAttempt(attempt, exit))
        )
        const fiber = yield* start(sent)
        const exchange = hand.at(port).pending.at(-1) as Exchange
        return {
          attempt,
          succeed: Effect.suspend(() => (exchange.answer("hello"), Fiber.await(fiber))),
          fail: (error: RpcError = failed) => Effect.suspend(() => (exchange.fail(error), Fiber.await(fiber))),
          leave: stop(fiber),
          abort: (reason: NonNullable<Call["abort"]["reason"]>) =>
            Effect.suspend(() => (call.abort.abort(reason), Fiber.await(fiber)))
        }
      })
    const succeed = (port = 1) => Effect.flatMap(begin(port), (call) => call.succeed)
    const fail = (times = 1, error: RpcError = failed, port = 1) =>
      Effect.forEach(
        Array.from({ length: times }),
        () => Effect.flatMap(begin(port), (call) => call.fail(error)),
        { discard: true }
      )
    const counts = () => describeStack(shared).stages.find(({ role }) => role === "failureAccrual")!.state
    const state = (port = 1) => sink(port).status.state
    return { begin, close: Scope.close(scope, Exit.void), context, counts, fail, hand, sink, shared, state, succeed }
  })

const test = (name: string, body: () => Generator<Effect.Effect<any, any, any>, void>) =>
  it.effect(name, () => Effect.gen(body) as Effect.Effect<void>)

describe("an endpoint that answers", () => {
  test("passes calls and status through", function*() {
    const { begin, counts, hand, sink, state, succeed } = yield* accrued()
    yield* succeed()
    for (const each of ["Busy", "Idle", "Closed", "Open"] as const) {
      hand.at(1).status.set(each, each === "Closed" ? refused : undefined)
      assert.strictEqual(state(), each)
      assert.strictEqual(sink().status.fault, each === "Closed" ? refused : undefined)
    }
    yield* sink().open
    assert.strictEqual(hand.at(1).opens, 1)
    yield* (yield* begin()).fail()
    yield* (yield* begin()).fail()
    assert.strictEqual(state(), "Open")
    assert.deepStrictEqual(counts(), { dead: 0, removals: 0, revivals: 0, probes: 0 })
  })
})

describe("an endpoint that fails", () => {
  test("is Busy, and says why and until when", function*() {
    const { counts, fail, sink, state } = yield* accrued()
    yield* TestClock.adjust("1 second")
    yield* fail(2)
    assert.strictEqual(state(), "Open")
    yield* fail()
    assert.strictEqual(state(), "Busy")
    const fault = sink().status.fault as FastFailure
    assert.instanceOf(fault, FastFailure)
    assert.strictEqual(fault.nextAttempt, 6000)
    assert.strictEqual(fault.message, "down at h:1: too many of its calls failed")
    assert.deepStrictEqual(counts(), { dead: 1, removals: 1, revivals: 0, probes: 0 })
  })

  test("is so also by refusing calls, by having no connection, and by letting deadlines pass", function*() {
    const { begin, fail, state } = yield* accrued()
    yield* fail(1, nacked)
    yield* fail(1, refused)
    assert.strictEqual(state(), "Open")
    yield* (yield* begin()).abort({ _tag: "Timeout", timeoutMillis: 5 })
    assert.strictEqual(state(), "Busy")
  })

  test("is not by calls that say nothing of it, which are no success either", function*() {
    const { begin, fail, state } = yield* accrued()
    yield* fail(2)
    yield* (yield* begin()).leave
    yield* (yield* begin()).abort({ _tag: "Superseded" })
    yield* (yield* begin()).abort({ _tag: "StackClosed", stack: "text" })
    assert.strictEqual(state(), "Open")
    yield* fail()
    assert.strictEqual(state(), "Busy")
  })

  test("is not while it also answers", function*() {
    const { fail, state, succeed } = yield* accrued()
    for (let i = 0; i < 5; i++) {
      yield* fail(2)
      yield* succeed()
    }
    assert.strictEqual(state(), "Open")
  })

  test("is avoided alone: others are not", function*() {
    const { counts, fail, state } = yield* accrued(three, [1, 2])
    yield* fail(2, failed, 1)
    yield* fail(2, failed, 2)
    yield* fail(1, failed, 1)
    assert.strictEqual(state(1), "Busy")
    assert.strictEqual(state(2), "Open")
    assert.deepInclude(counts() as object, { dead: 1, removals: 1 })
  })

  test("is sent the calls that come all the same, and is used again when one of them succeeds", function*() {
    const { begin, counts, fail, shared, state } = yield* accrued()
    yield* fail(3)
    yield* TestClock.adjust("1 second")
    const calls = [yield* begin(), yield* begin()]
    yield* calls[0]!.fail()
    assert.strictEqual(state(), "Busy")
    assert.deepStrictEqual(yield* calls[1]!.succeed, Exit.succeed("hello"))
    assert.strictEqual(state(), "Open")
    assert.strictEqual(shared.deadlines.size, 0)
    assert.deepStrictEqual(counts(), { dead: 0, removals: 1, revivals: 1, probes: 0 })
    yield* fail(2)
    assert.strictEqual(state(), "Open")
  })

  test("is used again also when such a call succeeds after its time has passed", function*() {
    const { begin, counts, fail, state } = yield* accrued()
    yield* fail(3)
    yield* TestClock.adjust("1 second")
    const call = yield* begin()
    yield* TestClock.adjust("4 seconds")
    yield* call.succeed
    assert.deepStrictEqual(counts(), { dead: 0, removals: 1, revivals: 1, probes: 0 })
    yield* begin()
    assert.strictEqual(state(), "Open")
  })

  test("is down, which is worse, while it is down", function*() {
    const { fail, hand, sink, state } = yield* accrued()
    const heard: Array<SinkState> = []
    sink().status.subscribe(() => heard.push(state()))
    yield* fail(3)
    hand.at(1).status.set("Closed", refused)
    assert.strictEqual(sink().status.fault, refused)
    yield* TestClock.adjust("5 seconds")
    assert.strictEqual(sink().status.fault, refused)
    hand.at(1).status.set("Idle")
    hand.at(1).status.set("Open")
    assert.deepStrictEqual(heard, ["Busy", "Closed", "Idle", "Open"])
  })

  test("is probed as soon as it is connected again, once", function*() {
    const { counts, fail, hand, shared, sink, state, succeed } = yield* accrued()
    const reconnect = () => {
      hand.at(1).status.set("Closed", refused)
      hand.at(1).status.set("Open")
    }
    reconnect()
    yield* fail(2)
    assert.strictEqual(state(), "Open")
    yield* fail()
    hand.at(1).status.set("Busy")
    hand.at(1).status.set("Open")
    assert.instanceOf(sink().status.fault, FastFailure, "it was not down")
    reconnect()
    assert.strictEqual(state(), "Open")
    assert.strictEqual(shared.deadlines.size, 0)
    yield* fail()
    reconnect()
    assert.strictEqual(state(), "Busy")
    assert.deepStrictEqual(counts(), { dead: 1, removals: 1, revivals: 0, probes: 1 })
    yield* TestClock.adjust("10 seconds")
    yield* succeed()
    yield* fail(3)
    reconnect()
    assert.strictEqual(state(), "Open")
    assert.deepStrictEqual(counts(), { dead: 1, removals: 2, revivals: 1, probes: 2 })
  })
})

describe("a dead endpoint without a connection", () => {
  test("is connected once, so that who is below notices that it is down and then up", function*() {
    const { fail, hand, state } = yield* accrued()
    hand.at(1).status.set("Idle")
    yield* fail(3)
    assert.strictEqual(hand.at(1).opens, 1)
    hand.at(1).status.set("Closed", refused)
    hand.at(1).status.set("Open")
    assert.strictEqual(state(), "Open")
  })

  test("is connected when its last connection goes, and not again and again", function*() {
    const { counts, fail, hand, succeed } = yield* accrued()
    yield* fail(3)
    assert.strictEqual(hand.at(1).opens, 0)
    for (let i = 0; i < 3; i++) {
      hand.at(1).status.set("Idle")
      yield* settle
      hand.at(1).status.set("Open")
    }
    assert.strictEqual(hand.at(1).opens, 1)
    yield* TestClock.adjust("5 seconds")
    yield* succeed()
    hand.at(1).status.set("Idle")
    yield* settle
    assert.strictEqual(hand.at(1).opens, 1, "it is used again, and connects when it is needed")
    yield* fail(3)
    assert.strictEqual(hand.at(1).opens, 2)
    assert.deepStrictEqual(counts(), { dead: 1, removals: 2, revivals: 1, probes: 1 })
  })

  test("is not connected any more when it is closed", function*() {
    const { close, fail, hand } = yield* accrued()
    let interrupted = 0
    hand.at(1).opening = Effect.onInterrupt(Effect.never, () => Effect.sync(() => void interrupted++))
    hand.at(1).status.set("Idle")
    yield* fail(3)
    yield* close
    assert.strictEqual(interrupted, 1)
  })
})

describe("once its time has passed, an endpoint", () => {
  test("is probed with one call, and used again when that succeeds", function*() {
    const { begin, counts, fail, sink, state, succeed } = yield* accrued()
    yield* fail(3)
    yield* TestClock.adjust("4999 millis")
    assert.strictEqual(state(), "Busy")
    yield* TestClock.adjust("1 millis")
    assert.strictEqual(state(), "Open")
    assert.deepStrictEqual(counts(), { dead: 1, removals: 1, revivals: 0, probes: 0 })
    const probe = yield* begin()
    assert.strictEqual(state(), "Busy")
    assert.strictEqual(sink().status.fault?.message, "down at h:1: too many of its calls failed; one call probes it")
    assert.deepStrictEqual(counts(), { dead: 1, removals: 1, revivals: 0, probes: 1 })
    yield* probe.succeed
    assert.strictEqual(state(), "Open")
    assert.isUndefined(sink().status.fault)
    assert.deepStrictEqual(counts(), { dead: 0, removals: 1, revivals: 1, probes: 1 })
    const many = [yield* begin(), yield* begin(), yield* begin()]
    assert.strictEqual(state(), "Open")
    for (const call of many) yield* call.succeed
    yield* succeed()
    assert.deepStrictEqual(counts(), { dead: 0, removals: 1, revivals: 1, probes: 1 })
  })

  test("is avoided for longer after each probe that fails, and is removed but once", function*() {
    const { counts, fail, state } = yield* accrued()
    yield* fail(3)
    for (let n = 1; n <= 6; n++) {
      yield* TestClock.adjust(n * 5000 - 1)
      assert.strictEqual(state(), "Busy")
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(state(), "Open")
      yield* fail()
      assert.strictEqual(state(), "Busy")
      assert.deepStrictEqual(counts(), { dead: 1, removals: 1, revivals: 0, probes: n })
    }
  })

  test("is avoided for 300 s each time once the backoff has ended", function*() {
    const { fail, state } = yield* accrued(
      AccrualPolicy.consecutiveFailures(3, Schedule.spaced("5 seconds").pipe(Schedule.upTo({ times: 1 })))
    )
    yield* fail(3)
    yield* TestClock.adjust("5 seconds")
    for (let n = 0; n < 2; n++) {
      yield* fail()
      yield* TestClock.adjust("299999 millis")
      assert.strictEqual(state(), "Busy")
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(state(), "Open")
    }
  })

  test("begins anew when it is revived: its failures, and its backoff", function*() {
    const { counts, fail, state, succeed } = yield* accrued()
    yield* fail(3)
    yield* TestClock.adjust("5 seconds")
    yield* fail()
    yield* TestClock.adjust("10 seconds")
    yield* succeed()
    yield* fail(2)
    assert.strictEqual(state(), "Open")
    yield* fail()
    assert.strictEqual(state(), "Busy")
    assert.deepStrictEqual(counts(), { dead: 1, removals: 2, revivals: 1, probes: 2 })
    yield* TestClock.adjust("5 seconds")
    assert.strictEqual(state(), "Open")
  })

  test("is probed again when a probe says nothing", function*() {
    const { begin, counts, fail, state } = yield* accrued()
    yield* fail(3)
    yield* TestClock.adjust("5 seconds")
    for (let n = 1; n <= 3; n++) {
      const probe = yield* begin()
      assert.strictEqual(state(), "Busy")
      yield* probe.leave
      assert.strictEqual(state(), "Open")
      assert.deepStrictEqual(counts(), { dead: 1, removals: 1, revivals: 0, probes: n })
    }
  })

  test("is probed again when the policy does not mind that a probe failed", function*() {
    let marks = 1
    const heard: Array<string> = []
    const { begin, counts, fail, state, succeed } = yield* accrued(Effect.succeed(() => ({
      recordSuccess: () => void heard.push("success"),
      markDeadOnFailure: () => {
        heard.push("failure")
        return marks-- > 0 ? 1000 : undefined
      },
      revived: () => void heard.push("revived")
    })))
    yield* fail()
    yield* TestClock.adjust("1 second")
    const probe = yield* begin()
    assert.strictEqual(state(), "Busy")
    yield* probe.fail()
    assert.strictEqual(state(), "Open")
    assert.deepStrictEqual(counts(), { dead: 1, removals: 1, revivals: 0, probes: 1 })
    yield* succeed()
    assert.deepStrictEqual(counts(), { dead: 0, removals: 1, revivals: 1, probes: 2 })
    assert.deepStrictEqual(heard, ["failure", "failure", "revived", "success"])
  })

  test("is probed for as long as somebody holds the response", function*() {
    const { begin, fail, state } = yield* accrued()
    yield* fail(3)
    yield* TestClock.adjust("5 seconds")
    const probe = yield* begin()
    const release = probe.attempt.hold()
    yield* probe.succeed
    assert.strictEqual(state(), "Busy")
    release("success")
    assert.strictEqual(state(), "Open")
  })
})

describe("a call that began before its endpoint was marked dead", () => {
  test("changes nothing when it ends meanwhile, well or not", function*() {
    const { begin, counts, fail, shared, sink, state } = yield* accrued()
    const early = [yield* begin(), yield* begin(), yield* begin()]
    yield* fail(3)
    yield* TestClock.adjust("1 second")
    yield* early[0]!.fail()
    assert.strictEqual((sink().status.fault as FastFailure).nextAttempt, 5000)
    assert.strictEqual(shared.deadlines.size, 1)
    yield* TestClock.adjust("4 seconds")
    yield* early[1]!.fail()
    assert.strictEqual(state(), "Open")
    yield* early[2]!.succeed
    assert.strictEqual(state(), "Open")
    assert.deepStrictEqual(counts(), { dead: 1, removals: 1, revivals: 0, probes: 0 })
  })

  test("counts as a success when it is one: a probe that fails is the first failure after it", function*() {
    const { begin, fail, state } = yield* accrued()
    const early = yield* begin()
    yield* fail(3)
    yield* TestClock.adjust("1 second")
    yield* early.succeed
    assert.strictEqual(state(), "Busy")
    yield* TestClock.adjust("4 seconds")
    yield* fail(2)
    assert.strictEqual(state(), "Open")
    yield* fail()
    assert.strictEqual(state(), "Busy")
  })

  test("decides when it ends before the probe, as any first one does", function*() {
    const { begin, counts, fail, state } = yield* accrued()
    const early = yield* begin()
    yield* fail(3)
    yield* TestClock.adjust("5 seconds")
    const probe = yield* begin()
    yield* early.fail()
    assert.strictEqual(state(), "Busy")
    yield* probe.succeed
    assert.strictEqual(state(), "Busy")
    yield* TestClock.adjust("10 seconds")
    assert.strictEqual(state(), "Open")
    assert.deepStrictEqual(counts(), { dead: 1, removals: 1, revivals: 0, probes: 1 })
  })
})

describe("closing failure accrual", () => {
  test("ends its time, lets go of what is below, and hears of no call any more", function*() {
    const { begin, close, counts, fail, hand, shared, sink, state } = yield* accrued(three, [1, 2])
    const late = yield* begin(2)
    yield* fail(3)
    yield* fail(2, failed, 2)
    assert.strictEqual(shared.deadlines.size, 1)
    const snapshot = shared.nodes().find(({ role }) => role === "failureAccrual")!.snapshot
    assert.deepInclude(counts() as object, { dead: 1 })
    yield* close
    assert.strictEqual(shared.deadlines.size, 0)
    assert.strictEqual(hand.at(1).status.listeners, 0)
    assert.strictEqual(state(), "Closed")
    assert.isUndefined(sink().status.fault)
    yield* late.fail()
    assert.strictEqual(shared.deadlines.size, 0)
    assert.deepStrictEqual(snapshot(), { dead: 0, removals: 1, revivals: 0, probes: 0 })
  })
})

describe("the numbers of failure accrual", () => {
  test("are shown as metrics of the client while it lives", function*() {
    const { begin, close, context, fail, succeed } = yield* accrued(three, [1, 2])
    const numbers = Effect.map(
      Effect.provideContext(Metric.snapshot, context),
      (all) =>
        Object.fromEntries(
          all.filter(({ attributes, id }) => id.startsWith("scales.accrual.") && attributes?.["client"] === "text")
            .map((each) => [
              each.id.slice("scales.accrual.".length),
              "count" in each.state ? each.state.count : "value" in each.state ? each.state.value : undefined
            ])
        )
    )
    assert.deepStrictEqual(yield* numbers, { dead: 0, removals: 0, revivals: 0, probes: 0, removed_for_ms: 0 })
    yield* fail(3)
    yield* fail(3, failed, 2)
    yield* TestClock.adjust("5 seconds")
    yield* succeed()
    yield* begin(2)
    assert.deepStrictEqual(yield* numbers, { dead: 1, removals: 2, revivals: 1, probes: 2, removed_for_ms: 1 })
    yield* close
    assert.deepStrictEqual(yield* numbers, {})
  })

  it.effect("stand in the description of the stack with the policy in force", () =>
    Effect.gen(function*() {
      const node = describeStack(yield* Stack).stages.find(({ role }) => role === "failureAccrual")
      assert.deepStrictEqual(
        node?.options,
        inForce({ policy: "under 80 % in 30 s, or 5 in a row; 5 s to 300 s, jittered" })
      )
      assert.deepStrictEqual(node?.state, { dead: 0, removals: 0, revivals: 0, probes: 0 })
    }).pipe(Effect.provide(stack({ below: Layer.orDie(FailureAccrual.layer(Text)) }))))
})

describe("the options of failure accrual", () => {
  it.effect("are checked when the layer is built", () =>
    Effect.gen(function*() {
      const policy = AccrualPolicy.consecutiveFailures(0, Schedule.spaced("5 seconds"))
      const layer = FailureAccrual.layer(Text, { policy }).pipe(
        Layer.provide(Layer.succeed(Text.Endpoints, handEndpoints().factory)),
        Layer.provide(Stack.layer("text"))
      )
      assert.strictEqual((yield* Effect.flip(Effect.scoped(Layer.build(layer)))).option, "accrual.failures")
    }))

  test("may mark dead for any time, rounded up to a millisecond", function*() {
    const { fail, sink, state } = yield* accrued(
      Effect.succeed(() => ({ recordSuccess: () => {}, markDeadOnFailure: () => 999.1, revived: () => {} }))
    )
    yield* fail()
    assert.strictEqual((sink().status.fault as FastFailure).nextAttempt, 1000)
    yield* TestClock.adjust("1 second")
    assert.strictEqual(state(), "Open")
  })

  test("make one policy an endpoint", function*() {
    let made = 0
    yield* accrued(
      Effect.succeed(() => {
        made++
        return { recordSuccess: () => {}, markDeadOnFailure: () => undefined, revived: () => {} }
      }),
      [1, 2, 3]
    )
    assert.strictEqual(made, 3)
  })
})

const accruing = { below: Layer.orDie(FailureAccrual.layer(Text)) }

describe("in a whole stack", () => {
  it.effect("the only endpoint is called also while it is avoided, and serves again at once when it recovers", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1))
      const answer = script.answer
      script.answer = () => Effect.fail(failed)
      for (let i = 0; i < 20; i++) assert.strictEqual(yield* Effect.flip(client.call("hi")), failed)
      const counts = () => describeStack(shared).stages.find(({ role }) => role === "failureAccrual")!.state
      const shared = yield* Stack
      assert.deepStrictEqual(counts(), { dead: 1, removals: 1, revivals: 0, probes: 0 })
      script.answer = answer
      yield* TestClock.adjust("1 second")
      for (let i = 0; i < 20; i++) assert.strictEqual(yield* client.call("hi"), "h:1 hi")
      assert.deepStrictEqual(counts(), { dead: 0, removals: 1, revivals: 1, probes: 0 })
    }).pipe(Effect.provide(stack(accruing))))

  it.effect("the only endpoint is called also when it refuses connections, and serves as soon as it accepts", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1))
      assert.strictEqual(yield* client.call("hi"), "h:1 hi")
      script.refuse("h:1")
      script.breakAll("h:1")
      for (let i = 0; i < 20; i++) {
        assert.include(["FastFailure", "ConnectFailed"], (yield* Effect.flip(client.call("hi")))._tag)
      }
      script.accept("h:1")
      yield* TestClock.adjust("50 millis")
      assert.strictEqual(yield* client.call("hi"), "h:1 hi")
    }).pipe(Effect.provide(stack(accruing))))

  it.effect("one frozen endpoint of four is found out by the first deadlines, and then costs one call a probe", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const clock = yield* Clock.Clock
      const shared = yield* Stack
      yield* (yield* TestServerSet).bind(endpoints(1, 2, 3, 4))
      const frozen: Array<number> = []
      let onFrozen = 0
      let most = 0
      script.answer = (_, { endpoint }) => {
        if (endpoint.port !== 1) return Effect.as(Effect.sleep("50 millis"), "hello")
        frozen.push(clock.currentTimeMillisUnsafe())
        onFrozen++
        if (frozen.at(-1)! >= 2000) most = Math.max(most, onFrozen)
        return Effect.onExit(Effect.never, () => Effect.sync(() => void onFrozen--))
      }
      let answered = 0
      let timedOut = 0
      const caller = Effect.forever(Effect.match(client.call("hi"), {
        onSuccess: () => void answered++,
        onFailure: ({ _tag }) => {
          assert.strictEqual(_tag, "Timeout")
          timedOut++
        }
      }))
      const callers = yield* start(Effect.all(Array.from({ length: 32 }, () => caller), { concurrency: 32 }))
      for (let turn = 0; turn < 1200; turn++) yield* TestClock.adjust("50 millis")
      const early = frozen.filter((time) => time < 2000).length
      const { probes } = describeStack(shared).stages.find(({ role }) => role === "failureAccrual")!.state as {
        probes: number
      }
      // Its share of the 32 callers: with those on it, it is the most loaded until they all run into their deadline.
      assert.isAtMost(early, 9)
      assert.strictEqual(frozen.length - early, probes)
      // 5 s, then 5 to 10, 10 to 20, 20 to 40, each with the second that a probe takes.
      assert.isAtLeast(probes, 3)
      assert.isAtMost(probes, 5)
      assert.strictEqual(most, 1)
      assert.isAtMost(timedOut, early + probes)
      // All callers but the few held for a second go on at full speed.
      assert.isAtLeast(answered, 0.98 * 32 * 1200)
      yield* stop(callers)
      yield* settle
    }).pipe(Effect.provide(stack({ ...accruing, timeout: "1 second" }))))

  it.effect("all share the calls again within a second after all have failed for a minute", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1, 2, 3, 4))
      const calls = [0, 0, 0, 0]
      let failing = true
      script.answer = (_, { endpoint }) => {
        calls[endpoint.port - 1]!++
        return Effect.andThen(
          Effect.sleep("50 millis"),
          Effect.suspend(() => failing ? Effect.fail(failed) : Effect.succeed("hello"))
        )
      }
      const caller = Effect.forever(Effect.ignore(client.call("hi")))
      const callers = yield* start(Effect.all(Array.from({ length: 16 }, () => caller), { concurrency: 16 }))
      for (let turn = 0; turn < 1200; turn++) yield* TestClock.adjust("50 millis")
      failing = false
      for (let turn = 0; turn < 20; turn++) yield* TestClock.adjust("50 millis")
      calls.fill(0)
      for (let turn = 0; turn < 100; turn++) yield* TestClock.adjust("50 millis")
      for (const count of calls) assert.approximately(count, 400, 20)
      yield* stop(callers)
    }).pipe(Effect.provide(stack(accruing))))

  it.effect("one that was killed and is back is used again as soon as it is connected", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const shared = yield* Stack
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      const calls = [0, 0]
      script.answer = (_, { endpoint }) => {
        calls[endpoint.port - 1]!++
        return Effect.as(Effect.sleep("50 millis"), "hello")
      }
      const caller = Effect.forever(Effect.ignore(client.call("hi")))
      const callers = yield* start(Effect.all(Array.from({ length: 16 }, () => caller), { concurrency: 16 }))
      yield* TestClock.adjust("50 millis")
      script.breakAll("h:1")
      yield* settle
      const accrual = describeStack(shared).stages.find(({ role }) => role === "failureAccrual")!
      assert.deepInclude(accrual.state as object, { dead: 1, removals: 1 })
      for (let turn = 0; turn < 10; turn++) yield* TestClock.adjust("50 millis")
      calls.fill(0)
      for (let turn = 0; turn < 20; turn++) yield* TestClock.adjust("50 millis")
      for (const count of calls) assert.approximately(count, 160, 16)
      yield* stop(callers)
    }).pipe(Effect.provide(stack(accruing))))
})
