/** Finagle's numbers for its nack admission filter, at 100 attempts a second unless said otherwise. */
import { assert, describe, it } from "@effect/vitest"
import {
  abortFailure,
  ConnectFailed,
  describe as describeStack,
  Endpoint,
  FastFailure,
  HeapBalancer,
  LimitExceeded,
  NackAdmission,
  Nacked,
  NoEndpoints,
  type RpcError,
  ServerFailed,
  Stack,
  StatusCell
} from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Cause, Context, Effect, Exit, Layer, Metric, Random, Scope } from "effect"
import { TestClock } from "effect/testing"
import { endpoints, makeCall, seeded, stack, start, stop, Text, TextClient } from "./support.ts"

const endpoint = Endpoint.tcp("h", 1)
const nacked = new Nacked({ endpoint, why: "overload", retryable: true })

/** Admission control over a server that answers as the test says, with the random numbers of the test. */
const admission = (options?: NackAdmission.NackAdmissionOptions, random: () => number = () => 0) =>
  Effect.gen(function*() {
    const server = { answer: Effect.fail(nacked) as Effect.Effect<string, RpcError>, sent: 0 }
    const dice = { next: random }
    const status = new StatusCell("Open")
    const inner = Layer.succeed(Text.Balanced, {
      status,
      open: Effect.void,
      send: () =>
        Effect.suspend(() => {
          server.sent++
          return server.answer
        })
    })
    const scope = yield* Scope.make()
    const given = Layer.succeed(Random.Random, {
      nextIntUnsafe: () => 0,
      nextDoubleUnsafe: () => dice.next()
    })
    const context = yield* Layer.buildWithScope(
      Layer.fresh(
        NackAdmission.layer(Text, options).pipe(
          Layer.provide(inner),
          Layer.provideMerge(Stack.layer("text")),
          Layer.provide(given)
        )
      ),
      scope
    )
    const sink = Context.get(context, Text.Balanced)
    const shared = Context.get(context, Stack)
    const state = () =>
      describeStack(shared).stages.find(({ role }) => role === "nackAdmission")!.state as {
        readonly dropped: number
        readonly accepted: number
      }
    /** One attempt. */
    const send = Effect.suspend(() => Effect.exit(sink.send("hi", makeCall())))
    const tagOf = (exit: Exit.Exit<string, RpcError>) =>
      Exit.isSuccess(exit) ? "success" : (Cause.squash(exit.cause) as RpcError)._tag
    const tag = Effect.map(send, tagOf)
    /** Attempts, `millis` apart, until `done` says so. */
    const until = (done: (accepted: number) => boolean, millis = 10) =>
      Effect.gen(function*() {
        for (let i = 0; !done(state().accepted); i++) {
          if (i > 100_000) assert.fail("never")
          yield* TestClock.adjust(millis)
          yield* send
        }
      })
    return { dice, send, server, sink, state, status, tag, until, close: Scope.close(scope, Exit.void) }
  })

/** Over 3 seconds, as in Finagle's tests. */
const window = "3 seconds"

describe("the share that servers take", () => {
  it.effect("goes down with what they refuse, and up with what they take", () =>
    Effect.gen(function*() {
      const { send, server, state } = yield* admission({ window })
      assert.strictEqual(state().accepted, 1)
      for (let i = 0; i < 10; i++) {
        yield* TestClock.adjust(10)
        yield* send
      }
      const before = state().accepted
      // Five attempts make the rate; the fifth and the five after it count.
      assert.approximately(before, Math.exp(-60 / 3_000), 1e-9)
      server.answer = Effect.succeed("hello")
      yield* TestClock.adjust(10)
      yield* send
      assert.isAbove(state().accepted, before)
    }))

  it.effect("does not go down with fewer than 5 attempts a second", () =>
    Effect.gen(function*() {
      const { send, state } = yield* admission({ window })
      for (let i = 0; i < 100; i++) {
        yield* TestClock.adjust(250)
        yield* send
      }
      assert.strictEqual(state().accepted, 1)
      for (let i = 0; i < 100; i++) {
        yield* TestClock.adjust(249)
        yield* send
      }
      assert.isBelow(state().accepted, 0.5)
    }))

  it.effect("goes up with anything that is no refusal of a server's", () =>
    Effect.gen(function*() {
      const { send, server, sink, state, until } = yield* admission({ window })
      yield* until((accepted) => accepted < 0.9)
      const failures: ReadonlyArray<RpcError> = [
        new ConnectFailed({ endpoint, phase: "connect", cause: "refused" }),
        new FastFailure({ endpoint, cause: "down", nextAttempt: Infinity }),
        new LimitExceeded({ limit: "pending", max: 1, endpoint }),
        new NoEndpoints({ stack: "text", cause: undefined }),
        new ServerFailed({ endpoint, why: "sad", retryable: true, rejected: false }),
        abortFailure({ _tag: "Timeout", timeoutMillis: 5 }, { waiting: "reply", reached: "maybe", endpoint })
      ]
      for (const failure of failures) {
        const before = state().accepted
        server.answer = Effect.fail(failure)
        yield* TestClock.adjust(10)
        yield* send
        assert.isAbove(state().accepted, before, failure._tag)
      }
      for (const answer of [Effect.die("a bug"), Effect.interrupt]) {
        const before = state().accepted
        server.answer = answer
        yield* TestClock.adjust(10)
        yield* send
        assert.isAbove(state().accepted, before)
      }
      const before = state().accepted
      server.answer = Effect.never
      const left = yield* start(sink.send("hi", makeCall()))
      yield* TestClock.adjust(10)
      yield* stop(left)
      assert.isAbove(state().accepted, before)
    }))

  it.effect("goes down with a server failure that says that the call was rejected", () =>
    Effect.gen(function*() {
      const { server, state, until } = yield* admission({ window })
      server.answer = Effect.fail(new ServerFailed({ endpoint, why: "busy", retryable: false, rejected: true }))
      yield* until((accepted) => accepted < 0.6)
      assert.isAbove(state().accepted, 0.59)
    }))

  it.effect("is over 2 minutes unless told otherwise", () =>
    Effect.gen(function*() {
      const { state, until } = yield* admission({}, () => 1)
      yield* until((accepted) => accepted <= Math.exp(-1))
      // The first four do not count, and the last one may be 10 ms late.
      const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      assert.approximately(now, 120_045, 5)
      assert.strictEqual(state().dropped, 0)
    }))
})

describe("an attempt", () => {
  it.effect("is not dropped while the servers take more than half", () =>
    Effect.gen(function*() {
      const { server, state, tag, until } = yield* admission({ window })
      yield* until((accepted) => accepted <= 0.51)
      assert.isAbove(state().accepted, 0.5)
      assert.strictEqual(state().dropped, 0)
      server.answer = Effect.succeed("hello")
      assert.strictEqual(yield* tag, "success")
    }))

  it.effect("is dropped below that, and says so", () =>
    Effect.gen(function*() {
      const { send, server, state, until } = yield* admission({ window })
      yield* until((accepted) => accepted < 0.5)
      const sent = server.sent
      const exit = yield* send
      assert.strictEqual(server.sent, sent)
      const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) as RpcError : assert.fail("it went through")
      assert.deepInclude(error, { _tag: "NotAdmitted", stack: "text", reached: "no", retryable: false })
      assert.strictEqual((error as { readonly accepted?: number }).accepted, state().accepted)
      assert.strictEqual(state().dropped, 1)
    }))

  it.effect("is dropped from another share on when told so", () =>
    Effect.gen(function*() {
      const { tag, until } = yield* admission({ window, nackRateThreshold: 0.2 })
      yield* until((accepted) => accepted <= 0.81)
      assert.strictEqual(yield* tag, "Nacked")
      yield* until((accepted) => accepted < 0.8)
      assert.strictEqual(yield* tag, "NotAdmitted")
    }))

  it.effect("goes through again once the servers take more than half", () =>
    Effect.gen(function*() {
      const { dice, server, tag, until } = yield* admission({ window })
      yield* until((accepted) => accepted < 0.5)
      assert.strictEqual(yield* tag, "NotAdmitted")
      dice.next = () => 0.999
      server.answer = Effect.succeed("hello")
      yield* until((accepted) => accepted >= 0.51)
      dice.next = () => 0
      server.answer = Effect.fail(nacked)
      assert.strictEqual(yield* tag, "Nacked")
      server.answer = Effect.succeed("hello")
      assert.strictEqual(yield* tag, "success")
    }))

  it.effect("is dropped with a probability that grows to three quarters, and no further", () =>
    Effect.gen(function*() {
      const { dice, tag, until } = yield* admission({ window }, () => 1)
      for (const [accepted, probability] of [[0.4, 0.2], [0.25, 0.5], [0.13, 0.74], [0.12, 0.75], [1e-9, 0.75]]) {
        dice.next = () => 1
        // Ten milliseconds of three seconds: the average is within 0.34 % below.
        yield* until((share) => share <= accepted!)
        dice.next = () => probability! - 0.001
        assert.strictEqual(yield* tag, "NotAdmitted")
        dice.next = () => probability! + 0.004
        assert.strictEqual(yield* tag, "Nacked")
      }
    }))

  it.effect("is dropped in three of four, to a tenth, when all are refused, and the client recovers", () =>
    Effect.gen(function*() {
      const { send, server, state, tag, until } = yield* admission({ window }, seeded(5))
      yield* until((accepted) => accepted < 1e-9)
      const before = state().dropped
      for (let i = 0; i < 1_000; i++) {
        yield* TestClock.adjust(10)
        yield* send
      }
      assert.approximately(state().dropped - before, 750, 100)
      server.answer = Effect.succeed("hello")
      for (let i = 0; i < 1_000; i++) {
        yield* TestClock.adjust(10)
        yield* send
      }
      assert.isAbove(state().accepted, 0.9)
      assert.strictEqual(yield* tag, "success")
    }))

  it.effect("of ten after a lull goes through once, when it is refused: nine are dropped", () =>
    Effect.gen(function*() {
      const { send, state, tag } = yield* admission({ window: "100 millis" })
      for (let i = 0; i < 5; i++) {
        yield* TestClock.adjust(10)
        assert.strictEqual(yield* tag, "Nacked")
      }
      yield* TestClock.adjust(200)
      for (let i = 0; i < 10; i++) {
        yield* TestClock.adjust(1)
        yield* send
      }
      assert.strictEqual(state().dropped, 9)
    }))
})

describe("the stage", () => {
  it.effect("has the status and the opening of what is below", () =>
    Effect.gen(function*() {
      const { sink, status } = yield* admission()
      assert.strictEqual(sink.status, status)
      yield* sink.open
    }))

  it.effect("shows what it does, until it is closed", () =>
    Effect.gen(function*() {
      const { close, send, until } = yield* admission({ window })
      yield* until((accepted) => accepted < 0.5)
      yield* send
      const shown = Effect.map(Metric.snapshot, (all) =>
        all.filter(({ id }) =>
          id.startsWith("scales.nack_admission.")
        ).map(({ attributes, id, state }) => [
          id,
          attributes?.["client"],
          "count" in state ? state.count : "value" in state ? Math.round(Number(state.value) * 100) : undefined
        ]))
      assert.deepStrictEqual(yield* shown, [
        ["scales.nack_admission.dropped", "text", 1],
        ["scales.nack_admission.accepted_ema", "text", 50]
      ])
      yield* close
      assert.deepStrictEqual(yield* shown, [])
    }))

  it.effect("refuses a window that is none, and a threshold that is no share", () =>
    Effect.gen(function*() {
      const wrong: ReadonlyArray<readonly [string, NackAdmission.NackAdmissionOptions]> = [
        ["window", { window: 0 }],
        ["window", { window: Infinity }],
        ...[-5, 0, 1, 1.5, NaN].map((nackRateThreshold) => ["nackRateThreshold", { nackRateThreshold }] as const)
      ]
      for (const [option, options] of wrong) {
        const error = yield* Effect.flip(Effect.scoped(admission(options)))
        assert.deepInclude(error, { _tag: "InvalidOption", option })
      }
    }))
})

describe("a whole stack whose servers refuse everything", () => {
  it.effect("asks each of them less, requeues included, and is well again soon after they are", () =>
    Effect.gen(function*() {
      const { call } = yield* TextClient
      const script = yield* ScriptedConnector
      const { bind } = yield* TestServerSet
      yield* bind(endpoints(1, 2, 3))
      assert.match(yield* call("hi"), /hi$/)
      let asked = 0
      script.answer = (_, attempt) =>
        Effect.suspend(() => {
          asked++
          return Effect.fail(new Nacked({ endpoint: attempt.endpoint, why: "busy", retryable: true }))
        })
      const failures: Record<string, number> = {}
      const attemptFor = (calls: number) =>
        Effect.gen(function*() {
          for (let i = 0; i < calls; i++) {
            yield* TestClock.adjust(10)
            const exit = yield* Effect.exit(call("hi"))
            const tag = Exit.isSuccess(exit) ? "success" : (Cause.squash(exit.cause) as RpcError)._tag
            failures[tag] = (failures[tag] ?? 0) + 1
          }
        })
      yield* attemptFor(2_000)
      assert.isAbove(failures["NotAdmitted"] ?? 0, 0)
      asked = 0
      yield* attemptFor(1_000)
      // A quarter goes through, and what is dropped is not sent again. Requeues of the quarter go the same way.
      assert.isBelow(asked, 400)
      script.answer = (request, attempt) => Effect.succeed(`${attempt.endpoint.key} ${request}`)
      yield* attemptFor(1_000)
      failures["success"] = 0
      yield* attemptFor(100)
      assert.strictEqual(failures["success"], 100)
    }).pipe(Effect.provide(stack({
      balancer: () => Layer.orDie(NackAdmission.layer(Text, { window })).pipe(Layer.provide(HeapBalancer.layer(Text)))
    }))))
})
