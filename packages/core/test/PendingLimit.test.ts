import { assert, describe, it } from "@effect/vitest"
import {
  AccrualPolicy,
  beginAttempt,
  type Call,
  ConnectFailed,
  describe as describeStack,
  FailureAccrual,
  type InvalidOption,
  type Outcome,
  PendingLimit,
  type RpcError,
  settleAttempt,
  Stack
} from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Metric, Schedule, Scope } from "effect"
import { TestClock } from "effect/testing"
import { endpoints, handEndpoints, makeCall, settle, stack, start, stop, Text, TextClient } from "./support.ts"

interface Counts {
  readonly pending: number
  readonly full: number
  readonly rejected: number
}

/** The limit over endpoints made by hand, and a balancer's part: it begins and ends each attempt. */
const limited = (maxPending: number, ports: ReadonlyArray<number> = [1]) =>
  Effect.gen(function*() {
    const hand = handEndpoints()
    const scope = yield* Scope.make()
    const layer = PendingLimit.layer(Text, { maxPending }).pipe(
      Layer.provide(Layer.succeed(Text.Endpoints, hand.factory)),
      Layer.provideMerge(Stack.layer("text"))
    )
    const context = yield* Layer.buildWithScope(Layer.fresh(layer), scope)
    return yield* Effect.provideContext(
      Effect.gen(function*() {
        const shared = yield* Stack
        const { make } = yield* Text.Endpoints
        const sinks = yield* Effect.forEach(endpoints(...ports), (endpoint) => Scope.provide(make(endpoint), scope))
        const sink = sinks[0]!
        const outcomes: Array<Outcome> = []
        const states: Array<string> = []
        sink.status.subscribe(() => void states.push(sink.status.state))
        const send = (text: string, call: Call = makeCall(), index = 0) =>
          Effect.suspend(() => {
            const attempt = beginAttempt(call, endpoints(...ports)[index]!, shared.now)
            attempt.onEnd((outcome) => void outcomes.push(outcome))
            return Effect.onExitPrimitive(sinks[index]!.send(text, attempt), (exit) => {
              settleAttempt(attempt, exit)
              return undefined
            })
          })
        return {
          answer: (port: number = ports[0]!) => hand.at(port).pending[0]!.answer("ok"),
          close: Scope.close(scope, Exit.void),
          counts: () => shared.nodes()[0]!.snapshot() as Counts,
          hand,
          outcomes,
          send,
          sink,
          start: (text: string, call?: Call, index?: number) => start(send(text, call, index)),
          /** Every state that the first endpoint has shown since it was last asked. */
          states: () => states.splice(0)
        }
      }),
      context
    )
  })

const test = (name: string, body: () => Generator<Effect.Effect<any, any, any>, void>) =>
  it.effect(name, () => Effect.gen(body) as Effect.Effect<void>)

describe("a pending limit", () => {
  test("lets so many attempts be outstanding at an endpoint, and fails more at once as never run", function*() {
    const { answer, counts, hand, outcomes, send, start: run } = yield* limited(2)
    const first = yield* run("a")
    yield* run("b")
    const error = yield* Effect.flip(send("c"))
    assert.deepInclude(error, {
      _tag: "LimitExceeded",
      limit: "pending",
      max: 2,
      reached: "no",
      retryable: true
    } as never)
    assert.strictEqual(error.message, "more than 2 calls at a time at h:1 (pending limit)")
    assert.deepStrictEqual(outcomes, ["rejected"])
    assert.lengthOf(hand.at(1).pending, 2)
    assert.deepStrictEqual(counts(), { pending: 2, full: 1, rejected: 1 })
    answer()
    assert.strictEqual(yield* Fiber.join(first), "ok")
    yield* run("d")
    assert.lengthOf(hand.at(1).pending, 2)
  })

  test("counts each endpoint by itself", function*() {
    const { counts, hand, send, start: run } = yield* limited(1, [1, 2])
    yield* run("a")
    yield* run("b", makeCall(), 1)
    assert.lengthOf(hand.at(1).pending, 1)
    assert.lengthOf(hand.at(2).pending, 1)
    assert.deepInclude(yield* Effect.flip(send("c", makeCall(), 1)), { endpoint: endpoints(1, 2)[1] } as never)
    assert.deepStrictEqual(counts(), { pending: 2, full: 2, rejected: 1 })
  })

  test("counts an attempt until it ends, however it does", function*() {
    const { answer, counts, hand, start: run } = yield* limited(1)
    const refused = new ConnectFailed({ endpoint: endpoints(1)[0]!, phase: "connect", cause: "refused" })
    const aborted = makeCall()
    const ends: ReadonlyArray<(fiber: Fiber.Fiber<unknown, unknown>) => Effect.Effect<void>> = [
      () => Effect.sync(() => answer()),
      () => Effect.sync(() => hand.at(1).pending[0]!.fail(refused)),
      (fiber) => stop(fiber),
      () => Effect.sync(() => aborted.abort.abort({ _tag: "Timeout", timeoutMillis: 5 }))
    ]
    for (const [index, end] of ends.entries()) {
      const fiber = yield* run("a", index === 3 ? aborted : makeCall())
      assert.deepInclude(counts(), { pending: 1, full: 1 })
      yield* end(fiber)
      yield* Fiber.await(fiber)
      assert.deepInclude(counts(), { pending: 0, full: 0 })
    }
  })

  test("does not count what it has rejected", function*() {
    const { answer, counts, send, start: run } = yield* limited(1)
    yield* run("a")
    for (let i = 0; i < 5; i++) yield* Effect.flip(send("b"))
    answer()
    assert.deepStrictEqual(counts(), { pending: 0, full: 0, rejected: 5 })
    yield* run("c")
    assert.deepStrictEqual(counts(), { pending: 1, full: 1, rejected: 5 })
  })

  test("is busy at the limit, until a quarter of it is free again", function*() {
    const { answer, counts, sink, start: run, states } = yield* limited(8)
    for (let i = 0; i < 7; i++) yield* run("a")
    assert.deepStrictEqual(states(), [])
    yield* run("a")
    assert.deepStrictEqual([states(), sink.status.fault?._tag], [["Busy"], "LimitExceeded"])
    // At the limit and just below it in turn, as an endpoint with much to do is.
    for (let i = 0; i < 10; i++) {
      answer()
      yield* run("a")
    }
    answer()
    assert.deepStrictEqual(states(), [])
    answer()
    assert.deepStrictEqual([states(), sink.status.fault], [["Idle"], undefined])
    assert.deepStrictEqual(counts(), { pending: 6, full: 0, rejected: 0 })
  })

  test("of one is busy while its attempt lasts", function*() {
    const { answer, start: run, states } = yield* limited(1)
    for (let i = 0; i < 3; i++) {
      yield* run("a")
      answer()
      assert.deepStrictEqual(states(), ["Busy", "Idle"])
    }
  })

  test("hides nothing of what is below: a worse state shows, with its fault", function*() {
    const { answer, hand, sink, start: run, states } = yield* limited(1)
    const { status } = hand.at(1)
    const fault = new ConnectFailed({ endpoint: endpoints(1)[0]!, phase: "connect", cause: "refused" })
    status.set("Open")
    assert.deepStrictEqual(states(), ["Open"])
    yield* run("a")
    status.set("Busy")
    assert.deepStrictEqual([sink.status.state, sink.status.fault], ["Busy", undefined])
    status.set("Closed", fault)
    assert.deepStrictEqual([sink.status.state, sink.status.fault], ["Closed", fault])
    answer()
    assert.strictEqual(sink.status.state, "Closed")
    status.set("Open")
    assert.deepStrictEqual([sink.status.state, sink.status.fault], ["Open", undefined])
  })

  test("that is closed has let go of what is below it, and forgets no attempt that still ends", function*() {
    const { answer, close, hand, sink, start: run } = yield* limited(1)
    const fiber = yield* run("a")
    yield* close
    assert.strictEqual(sink.status.state, "Closed")
    assert.strictEqual(hand.at(1).status.listeners, 0)
    answer()
    assert.strictEqual(yield* Fiber.join(fiber), "ok")
    assert.strictEqual(sink.status.state, "Closed")
  })

  test("shows what it does, until it is closed", function*() {
    const { close, send, start: run } = yield* limited(2, [1, 2])
    yield* run("a")
    yield* run("b")
    yield* run("c", makeCall(), 1)
    yield* Effect.flip(send("d"))
    const shown = Effect.map(Metric.snapshot, (all) =>
      Object.fromEntries(
        all.filter(({ id }) => id.startsWith("scales.pending_limit.")).map(({ attributes, id, state }) => [
          `${id} ${attributes?.["client"]}`,
          "count" in state ? state.count : "value" in state ? state.value : undefined
        ])
      ))
    assert.deepStrictEqual(yield* shown, {
      "scales.pending_limit.in_use text": 3,
      "scales.pending_limit.full text": 1,
      "scales.pending_limit.rejected text": 1
    })
    yield* close
    assert.deepStrictEqual(yield* shown, {})
  })

  test("refuses numbers that are no limits", function*() {
    for (const wrong of [0, -1, 1.5, NaN, Infinity]) {
      const error: InvalidOption = yield* Effect.flip(limited(wrong))
      assert.deepInclude(error, { _tag: "InvalidOption", option: "maxPending" } as never)
    }
  })
})

const under = (maxPending: number) => stack({ below: Layer.orDie(PendingLimit.layer(Text, { maxPending })) })

const counted = Effect.map(Stack, (shared) => ({
  limit: () => describeStack(shared).stages.find(({ role }) => role === "pendingLimit")!.state as Counts,
  requeues: () =>
    (describeStack(shared).stages.find(({ role }) => role === "requeue")!.state as { requeues: number }).requeues
}))

describe("a stack with a pending limit", () => {
  it.effect("has every endpoint at its limit before a call is rejected, and then says so", () =>
    Effect.gen(function*() {
      const { call } = yield* TextClient
      const script = yield* ScriptedConnector
      const { limit, requeues } = yield* counted
      yield* (yield* TestServerSet).bind(endpoints(1, 2, 3))
      const at = new Map<string, number>()
      script.answer = (_, { endpoint }) => {
        at.set(endpoint.key, (at.get(endpoint.key) ?? 0) + 1)
        return Effect.never
      }
      const fibers = yield* Effect.forEach(Array.from("abcdef"), (text) => start(call(text)))
      yield* settle
      assert.deepStrictEqual([...at.values()], [2, 2, 2])
      assert.deepStrictEqual(limit(), { pending: 6, full: 3, rejected: 0 })
      assert.strictEqual(requeues(), 0)
      const error: RpcError = yield* Effect.flip(call("g"))
      assert.deepInclude(error, { _tag: "LimitExceeded", limit: "pending" } as never)
      assert.strictEqual(limit().pending, 6)
      for (const fiber of fibers) yield* stop(fiber)
      assert.deepInclude(limit(), { pending: 0, full: 0 })
    }).pipe(Effect.provide(under(2))))

  it.effect("counts attempts that wait for a connection, and holds them off an endpoint that does not come up", () =>
    Effect.gen(function*() {
      const { call } = yield* TextClient
      const script = yield* ScriptedConnector
      const { limit } = yield* counted
      yield* (yield* TestServerSet).bind(endpoints(1))
      const gate = Deferred.makeUnsafe<void>()
      script.connecting = () => Deferred.await(gate)
      const fibers = [yield* start(call("a")), yield* start(call("b"))]
      yield* settle
      assert.deepStrictEqual(limit(), { pending: 2, full: 1, rejected: 0 })
      assert.strictEqual((yield* Effect.flip(call("c")))._tag, "LimitExceeded")
      yield* Deferred.succeed(gate, undefined)
      for (const [index, fiber] of fibers.entries()) {
        assert.strictEqual(yield* Fiber.join(fiber), `h:1 ${"ab"[index]}`)
      }
      assert.strictEqual(limit().pending, 0)
      assert.strictEqual(yield* call("d"), "h:1 d")
    }).pipe(Effect.provide(under(2))))

  it.effect("counts a response that is held as outstanding, until it is released or its call's deadline", () =>
    Effect.gen(function*() {
      const { call } = yield* TextClient
      const script = yield* ScriptedConnector
      const { limit } = yield* counted
      yield* (yield* TestServerSet).bind(endpoints(1))
      const releases: Array<(outcome: Outcome) => void> = []
      script.answer = (request, attempt) =>
        Effect.sync(() => {
          releases.push(attempt.hold())
          return request
        })
      yield* call("a")
      yield* call("b")
      assert.strictEqual(limit().pending, 2)
      assert.strictEqual((yield* Effect.flip(call("c")))._tag, "LimitExceeded")
      releases[0]!("success")
      assert.strictEqual(limit().pending, 1)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(limit().pending, 0)
    }).pipe(Effect.provide(under(2))))

  it.effect("above failure accrual takes no endpoint out of use; below it, as Finagle has it, it would", () =>
    Effect.gen(function*() {
      const policy = AccrualPolicy.consecutiveFailures(3, Schedule.spaced("1 hour"))
      const limit = Layer.orDie(PendingLimit.layer(Text, { maxPending: 1 }))
      const accrual = Layer.orDie(FailureAccrual.layer(Text, { policy }))
      const orders = [[Layer.provide(limit, accrual), 0], [Layer.provide(accrual, limit), 1]] as const
      for (const [below, dead] of orders) {
        yield* Effect.gen(function*() {
          const { call } = yield* TextClient
          const script = yield* ScriptedConnector
          const shared = yield* Stack
          yield* (yield* TestServerSet).bind(endpoints(1))
          script.answer = () => Effect.never
          const outstanding = yield* start(call("a"))
          yield* settle
          assert.strictEqual((yield* Effect.flip(call("b")))._tag, "LimitExceeded")
          const { state } = describeStack(shared).stages.find(({ role }) => role === "failureAccrual")!
          assert.deepInclude(state as object, { dead })
          yield* stop(outstanding)
        }).pipe(Effect.provide(stack({ below })))
      }
    }))

  it.effect("leaves nothing behind when its calls are interrupted or time out", () =>
    Effect.gen(function*() {
      const { call, calls } = yield* TextClient
      const script = yield* ScriptedConnector
      const shared = yield* Stack
      const { limit } = yield* counted
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      script.answer = () => Effect.never
      const fibers = yield* Effect.forEach(Array.from("abcd"), (text) => start(call(text)))
      yield* settle
      assert.strictEqual(limit().pending, 4)
      yield* stop(fibers[0]!)
      yield* stop(fibers[3]!)
      assert.strictEqual(limit().pending, 2)
      yield* TestClock.adjust("10 seconds")
      const exit = yield* Fiber.await(fibers[1]!)
      assert.strictEqual(Exit.isFailure(exit) && (Cause.squash(exit.cause) as RpcError)._tag, "Timeout")
      assert.deepInclude(limit(), { pending: 0, full: 0 })
      assert.strictEqual(shared.deadlines.size, 0)
      assert.isTrue(calls.every(({ abort }) => abort.listeners === 0))
    }).pipe(Effect.provide(under(2))))
})
