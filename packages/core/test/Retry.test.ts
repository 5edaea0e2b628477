import { assert, describe, it } from "@effect/vitest"
import {
  type Call,
  ConnectFailed,
  ConnectionClosed,
  describe as describeStack,
  Endpoint,
  FastFailure,
  LimitExceeded,
  Nacked,
  NoEndpoints,
  NotAdmitted,
  ProtocolError,
  Retry,
  Rpc,
  type RpcError,
  ServerFailed,
  Stack,
  StackClosed,
  type StackOptions,
  StatusCell,
  Superseded,
  Timeout,
  Unsendable
} from "@scales-rpc/core"
import { ScriptedConnector, Seed, TestServerSet } from "@scales-rpc/core/testing"
import { Cause, Clock, Effect, Exit, Fiber, Layer, Metric, Schedule, Scope } from "effect"
import { TestClock } from "effect/testing"
import { endpoints, inForce, makeCall, seeded, settle, stack, start, stop, Text, TextClient } from "./support.ts"

const endpoint = Endpoint.tcp("h", 1)
const cut = new ConnectionClosed({ endpoint, reached: "maybe", cause: "reset" })
const idempotent = (fields?: Partial<Call>) => makeCall({ idempotent: true, ...fields })

interface Given {
  readonly stack?: StackOptions
  readonly retry?: Retry.RetryOptions
  readonly seed?: number
}

/** A retry stage over a sink that answers as the test says; notes when each attempt began. */
const retrying = (answer: (nth: number, call: Call) => Effect.Effect<string, RpcError>, given: Given = {}) =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const times: Array<number> = []
    const inner = Layer.succeed(Text.Balanced, {
      status: new StatusCell("Open"),
      open: Effect.void,
      send: (_request, call) => Effect.suspend(() => answer(times.push(clock.currentTimeMillisUnsafe()) - 1, call))
    })
    const context = yield* Layer.build(Layer.fresh(
      Retry.layer(Text, given.retry).pipe(
        Layer.provide(inner),
        Layer.provideMerge(Stack.layer("text", given.stack)),
        Layer.provide(Seed.layer(given.seed ?? 1))
      )
    ))
    return yield* Effect.provideContext(
      Effect.gen(function*() {
        const sink = yield* Text.Balanced
        const { budget, deadlines, nodes } = yield* Stack
        const counts = () => nodes().find(({ role }) => role === "retry")!.snapshot()
        const send = (call: Call = idempotent()) => sink.send("hi", call)
        return { budget, counts, deadlines, send, times }
      }),
      context
    )
  })

/** Runs a call to its end while time passes. */
const ended = <A, E>(call: Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const fiber = yield* start(call)
    yield* TestClock.adjust(1_000)
    return yield* Fiber.await(fiber)
  })

describe("an idempotent call that may have been executed", () => {
  it.effect("is sent again after a while, and its caller sees only the answer", () =>
    Effect.gen(function*() {
      const { budget, counts, send, times } = yield* retrying((nth) =>
        nth < 2 ? Effect.fail(cut) : Effect.succeed("hello")
      )
      assert.deepStrictEqual(yield* ended(send()), Exit.succeed("hello"))
      assert.lengthOf(times, 3)
      assert.strictEqual(times[1], 5)
      assert.isAtLeast(times[2]!, 10)
      assert.isAtMost(times[2]!, 5 + 15)
      assert.strictEqual(budget.balance, 98)
      assert.deepInclude(counts() as object, { retries: 2, budgetExhausted: 0, exhausted: 0, outOfTime: 0 })
    }))

  it.effect("is sent three times at most, and fails with what it met last", () =>
    Effect.gen(function*() {
      const last = new ServerFailed({ endpoint, why: "sad panda", retryable: false, rejected: false })
      const { budget, counts, send, times } = yield* retrying((nth) => Effect.fail(nth < 2 ? cut : last))
      const exit = yield* ended(Effect.flip(send()))
      assert.isTrue(Exit.isSuccess(exit) && exit.value === last)
      assert.lengthOf(times, 3)
      assert.strictEqual(budget.balance, 98)
      assert.deepInclude(counts() as object, { retries: 2, budgetExhausted: 0, exhausted: 1, outOfTime: 0 })
    }))

  it.effect("is retried as often as the option says, 0 being never", () =>
    Effect.gen(function*() {
      for (const retries of [0, 1, 5]) {
        const { send, times } = yield* retrying(() => Effect.fail(cut), { retry: { retries } })
        yield* ended(send())
        assert.lengthOf(times, 1 + retries)
      }
    }))

  it.effect("waits as long as the backoff given says, and has no retries left when that ends", () =>
    Effect.gen(function*() {
      const backoff = Schedule.max([Schedule.spaced(20), Schedule.recurs(3)])
      const { counts, send, times } = yield* retrying(() => Effect.fail(cut), { retry: { retries: 10, backoff } })
      yield* ended(send())
      assert.deepStrictEqual(times, [0, 20, 40, 60])
      assert.deepInclude(counts() as object, { retries: 3, exhausted: 1 })
    }))

  it.effect("is sent again at once by a backoff without delays", () =>
    Effect.gen(function*() {
      const { deadlines, send, times } = yield* retrying(
        (nth) => nth < 2 ? Effect.fail(cut) : Effect.succeed("hello"),
        {
          retry: { backoff: Schedule.spaced(0) }
        }
      )
      assert.strictEqual(yield* send(), "hello")
      assert.deepStrictEqual(times, [0, 0, 0])
      assert.strictEqual(deadlines.size, 0)
    }))

  it.effect("has the same delays for the same seed, and others for another", () =>
    Effect.gen(function*() {
      const delays = (seed: number) =>
        Effect.gen(function*() {
          const { send, times } = yield* retrying(() => Effect.fail(cut), { seed, retry: { retries: 8 } })
          yield* ended(send())
          return times.map((time) => time - times[0]!)
        })
      const first = yield* delays(1)
      assert.lengthOf(first, 9)
      assert.deepStrictEqual(yield* delays(1), first)
      assert.notDeepEqual(yield* delays(2), first)
    }))

  it.effect("counts its retries in each run of the same effect for itself", () =>
    Effect.gen(function*() {
      const { send, times } = yield* retrying(() => Effect.fail(cut))
      const once = send()
      yield* ended(once)
      yield* ended(once)
      assert.lengthOf(times, 6)
    }))
})

describe("by default", () => {
  const maybe = "maybe" as const
  const retried: ReadonlyArray<RpcError> = [
    cut,
    new ServerFailed({ endpoint, why: "sad panda", retryable: false, rejected: false }),
    new ServerFailed({ endpoint, why: "sad panda", retryable: true, rejected: false }),
    new ProtocolError({ endpoint, what: "garbage", cause: undefined })
  ]
  const final: ReadonlyArray<RpcError> = [
    new ConnectionClosed({ endpoint, reached: "no", cause: "reset" }),
    new ServerFailed({ endpoint, why: "refused", retryable: false, rejected: true }),
    new ServerFailed({ endpoint, why: "refused", retryable: true, rejected: true }),
    new Nacked({ endpoint, why: "overload", retryable: true }),
    new Nacked({ endpoint, why: "overload", retryable: false }),
    new ConnectFailed({ endpoint, phase: "connect", cause: "refused" }),
    new FastFailure({ endpoint, cause: undefined, nextAttempt: 0 }),
    new NoEndpoints({ stack: "text", cause: undefined }),
    new Unsendable({ what: "too long", cause: undefined }),
    new LimitExceeded({ limit: "pending", max: 1, endpoint }),
    new NotAdmitted({ stack: "text", accepted: 0.1 }),
    new Timeout({ timeoutMillis: 5, waiting: "reply", reached: maybe, endpoint, cause: undefined }),
    new Superseded({ reached: maybe, endpoint }),
    new StackClosed({ stack: "text", reached: maybe, endpoint })
  ]

  it.effect("what may have run and may go better elsewhere is sent again, nothing else", () =>
    Effect.gen(function*() {
      for (const [errors, attempts] of [[retried, 3], [final, 1]] as const) {
        for (const error of errors) {
          const { budget, send, times } = yield* retrying(() => Effect.fail(error))
          const exit = yield* ended(Effect.flip(send()))
          assert.isTrue(Exit.isSuccess(exit) && exit.value === error, error.message)
          assert.lengthOf(times, attempts, error.message)
          assert.strictEqual(budget.balance, 101 - attempts)
        }
      }
    }))

  it("a failure that is no error of ours says nothing", () => {
    for (const error of [undefined, null, "maybe", new Error("x"), { reached: "maybe" }, { _tag: "ServerFailed" }]) {
      assert.isFalse(Retry.mayDiffer(error))
    }
  })
})

describe("a classification of one's own", () => {
  it.effect("decides alone, and is asked of idempotent calls only", () =>
    Effect.gen(function*() {
      const asked: Array<RpcError> = []
      const nacked = new Nacked({ endpoint, why: "overload", retryable: false })
      const when = (error: RpcError) => {
        asked.push(error)
        return error._tag === "Nacked"
      }
      const nacks = yield* retrying(() => Effect.fail(nacked), { retry: { when } })
      yield* ended(nacks.send(makeCall()))
      assert.lengthOf(asked, 0)
      yield* ended(nacks.send())
      assert.lengthOf(nacks.times, 1 + 3)
      assert.lengthOf(asked, 3)
      const cuts = yield* retrying(() => Effect.fail(cut), { retry: { when } })
      yield* ended(cuts.send())
      assert.lengthOf(cuts.times, 1)
    }))
})

describe("a call is not sent again", () => {
  it.effect("when it is not idempotent", () =>
    Effect.gen(function*() {
      const { budget, send, times } = yield* retrying(() => Effect.fail(cut))
      yield* ended(send(makeCall()))
      assert.lengthOf(times, 1)
      assert.strictEqual(budget.balance, 100)
    }))

  it.effect("when it died, was interrupted, or failed in more than one way", () =>
    Effect.gen(function*() {
      const causes: ReadonlyArray<Cause.Cause<RpcError>> = [
        Cause.die(cut),
        Cause.interrupt(),
        Cause.combine(Cause.fail(cut), Cause.die("x"))
      ]
      for (const cause of causes) {
        const { send, times } = yield* retrying(() => Effect.failCause(cause))
        const exit = yield* ended(send())
        assert.isTrue(Exit.isFailure(exit))
        assert.lengthOf(times, 1)
      }
    }))

  it.effect("when it was aborted", () =>
    Effect.gen(function*() {
      const { budget, counts, send, times } = yield* retrying((_, { abort }) => {
        abort.abort({ _tag: "Superseded" })
        return Effect.fail(cut)
      })
      assert.deepStrictEqual(yield* ended(Effect.flip(send())), Exit.succeed(cut))
      assert.strictEqual(budget.balance, 100)
      assert.lengthOf(times, 1)
      assert.deepInclude(counts() as object, { retries: 0, budgetExhausted: 0, exhausted: 0, outOfTime: 0 })
    }))

  it.effect("when the wait would last until its deadline: it fails at once, and nothing is paid", () =>
    Effect.gen(function*() {
      const { budget, counts, send, times } = yield* retrying(() => Effect.fail(cut))
      const early = yield* start(Effect.flip(send(idempotent({ deadline: 5 }))))
      assert.deepStrictEqual(early.pollUnsafe(), Exit.succeed(cut))
      assert.strictEqual(budget.balance, 100)
      assert.deepInclude(counts() as object, { retries: 0, budgetExhausted: 0, exhausted: 0, outOfTime: 1 })
      yield* ended(send(idempotent({ deadline: 6 })))
      assert.deepStrictEqual(times, [0, 0, 5])
      assert.deepInclude(counts() as object, { retries: 1, budgetExhausted: 0, exhausted: 0, outOfTime: 2 })
    }))

  it.effect("when the budget is empty: it fails at once", () =>
    Effect.gen(function*() {
      const { budget, counts, send, times } = yield* retrying(() => Effect.fail(cut), {
        stack: { budget: { minRetriesPerSecond: 0 } }
      })
      assert.strictEqual(yield* Effect.flip(send()), cut)
      assert.lengthOf(times, 1)
      for (let i = 0; i < 5; i++) budget.deposit()
      yield* ended(send())
      assert.lengthOf(times, 3)
      assert.deepInclude(counts() as object, { retries: 1, budgetExhausted: 2, exhausted: 0, outOfTime: 0 })
    }))
})

describe("the wait before a retry", () => {
  it.effect("ends when the call is aborted, with the reason and what was met", () =>
    Effect.gen(function*() {
      const { deadlines, send, times } = yield* retrying(() => Effect.fail(cut))
      const call = idempotent({ tried: [endpoint] })
      const fiber = yield* start(Effect.flip(send(call)))
      assert.deepStrictEqual([deadlines.size, call.abort.listeners], [1, 1])
      call.abort.abort({ _tag: "Timeout", timeoutMillis: 3 })
      assert.deepStrictEqual([deadlines.size, call.abort.listeners], [0, 0])
      assert.deepInclude(yield* Fiber.join(fiber), {
        _tag: "Timeout",
        reached: "maybe",
        endpoint,
        cause: cut
      })
      yield* TestClock.adjust(1_000)
      assert.lengthOf(times, 1)
    }))

  it.effect("leaves nothing behind when its caller goes away", () =>
    Effect.gen(function*() {
      const { deadlines, send, times } = yield* retrying(() => Effect.fail(cut))
      const call = idempotent()
      const fiber = yield* start(send(call))
      assert.deepStrictEqual([deadlines.size, call.abort.listeners], [1, 1])
      yield* stop(fiber)
      assert.deepStrictEqual([deadlines.size, call.abort.listeners], [0, 0])
      yield* TestClock.adjust(1_000)
      assert.lengthOf(times, 1)
    }))

  it.effect("leaves nothing behind when it is over", () =>
    Effect.gen(function*() {
      const { deadlines, send } = yield* retrying((nth) => nth < 2 ? Effect.fail(cut) : Effect.never)
      const call = idempotent()
      const fiber = yield* start(send(call))
      yield* TestClock.adjust(100)
      assert.deepStrictEqual([deadlines.size, call.abort.listeners], [0, 0])
      yield* stop(fiber)
    }))
})

describe("the options of retries", () => {
  it.effect("are checked, and shown in the description of the stack", () =>
    Effect.gen(function*() {
      for (const retries of [-1, 1.5, 101, NaN]) {
        const error = yield* Effect.flip(retrying(() => Effect.never, { retry: { retries } }))
        assert.deepInclude(error, { _tag: "InvalidOption", option: "retries" })
      }
    }))

  it.effect("show in the description of the stack", () =>
    Effect.gen(function*() {
      const node = describeStack(yield* Stack).stages.find(({ role }) => role === "retry")
      assert.deepStrictEqual(
        node?.options,
        inForce({ retries: 2, backoff: "5 ms to 200 ms, decorrelated jitter", when: "mayDiffer" })
      )
      assert.deepInclude(node?.state as object, { retries: 0, budgetExhausted: 0, exhausted: 0, outOfTime: 0 })
    }).pipe(Effect.provide(stack({ above: Layer.orDie(Retry.layer(Text)) }))))
})

describe("the metrics of retries", () => {
  it.effect("count what was sent again and why others were not, until the stack closes", () =>
    Effect.gen(function*() {
      const read = Effect.map(
        Metric.snapshot,
        (all) =>
          Object.fromEntries(
            all.filter(({ id }) => id.startsWith("scales.retry.")).map((
              { id, state }
            ) => [id, "count" in state ? state.count : undefined])
          )
      )
      const scope = yield* Scope.make()
      let failure: RpcError = cut
      const { budget, send } = yield* Scope.provide(retrying(() => Effect.fail(failure)), scope)
      yield* ended(send())
      yield* ended(send(idempotent({ deadline: 0 })))
      failure = new Unsendable({ what: "too large", cause: undefined })
      yield* ended(send())
      failure = cut
      while (budget.withdraw());
      yield* ended(send())
      assert.deepStrictEqual(yield* read, {
        "scales.retry.retries": 2,
        "scales.retry.budget_exhausted": 1,
        "scales.retry.exhausted": 1,
        "scales.retry.out_of_time": 1,
        "scales.retry.not_retryable": 1
      })
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* read, {})
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))
})

describe("in a whole stack", () => {
  const over = (options?: Parameters<typeof stack>[0]) => stack({ ...options, above: Layer.orDie(Retry.layer(Text)) })

  it.effect("a call goes to another endpoint each time while there is one", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1, 2, 3))
      const seen: Array<string> = []
      script.answer = (_, { endpoint, number }) => {
        seen.push(endpoint.key)
        return number < 2
          ? Effect.fail(new ConnectionClosed({ endpoint, reached: "maybe", cause: "reset" }))
          : Effect.succeed("hello")
      }
      const exit = yield* ended(Rpc.idempotent(client.call("hi")))
      assert.deepStrictEqual(exit, Exit.succeed("hello"))
      assert.sameMembers(seen, ["h:1", "h:2", "h:3"])
    }).pipe(Effect.provide(over())))

  it.effect("a call that waits when the client closes is drained: it has its retry", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(over(), scope)
      yield* Effect.provideContext(
        Effect.gen(function*() {
          const client = yield* TextClient
          const script = yield* ScriptedConnector
          yield* (yield* TestServerSet).bind(endpoints(1))
          script.answer = (_, { endpoint, number }) =>
            number < 1
              ? Effect.fail(new ConnectionClosed({ endpoint, reached: "maybe", cause: "reset" }))
              : Effect.succeed("hello")
          const fiber = yield* start(Rpc.idempotent(client.call("hi")))
          yield* settle
          const closing = yield* start(Scope.close(scope, Exit.void))
          yield* TestClock.adjust(5)
          assert.strictEqual(yield* Fiber.join(fiber), "hello")
          yield* Fiber.join(closing)
        }),
        context
      )
    }))

  it.effect("no call is sent more often than its retries and its share allow, nor all more than the budget gave", () =>
    Effect.gen(function*() {
      for (let seed = 1; seed <= 30; seed++) {
        yield* Effect.gen(function*() {
          const random = seeded(seed)
          const below = (n: number) => Math.floor(random() * n)
          const client = yield* TextClient
          const script = yield* ScriptedConnector
          const { budget, deadlines, nodes } = yield* Stack
          yield* (yield* TestServerSet).bind(endpoints(1, 2, 3, 4))
          const reserve = budget.balance
          const failing = random()
          let successes = 0
          let paid = 0
          /** Attempts of each call, and the most that its share can have been: a fifth of all there ever was. */
          const attempts = new Map<string, number>()
          script.answer = (text, { endpoint }) =>
            Effect.suspend(() => {
              const before = attempts.get(text) ?? 0
              attempts.set(text, before + 1)
              if (before > 0) paid++
              return Effect.andThen(
                Effect.sleep(below(30)),
                Effect.suspend((): Effect.Effect<string, RpcError> => {
                  if (random() >= failing) {
                    successes++
                    return Effect.succeed("hello")
                  }
                  switch (below(5)) {
                    case 0:
                      return Effect.fail(new ConnectionClosed({ endpoint, reached: "maybe", cause: "reset" }))
                    case 1:
                      return Effect.fail(
                        new ServerFailed({ endpoint, why: "sad", retryable: random() < 0.5, rejected: random() < 0.5 })
                      )
                    default:
                      return Effect.fail(new Nacked({ endpoint, why: "busy", retryable: true }))
                  }
                })
              )
            })
          const calls = yield* Effect.forEach(Array.from({ length: 100 }, (_, id) => id), (id) => {
            const call = client.call(`${id}`)
            return start(Effect.exit(id % 3 === 0 ? call : Rpc.idempotent(call)))
          })
          for (let step = 0; step < 90; step++) {
            yield* TestClock.adjust(20)
            assert.isAtMost(paid, reserve + successes * 0.2, `seed ${seed}, step ${step}`)
          }
          const share = Math.ceil(0.2 * (reserve + successes * 0.2))
          for (const [id, count] of attempts) {
            const cap = 1 + share + (Number(id) % 3 === 0 ? 0 : 2)
            assert.isAtMost(count, cap, `seed ${seed}, call ${id}`)
          }
          for (const call of calls) assert.isDefined(call.pollUnsafe(), `seed ${seed}`)
          const state = (role: string) =>
            nodes().find((node) => node.role === role)!.snapshot() as { readonly [count: string]: number }
          assert.strictEqual(state("requeue")["requeues"]! + state("retry")["retries"]!, paid, `seed ${seed}`)
          assert.approximately(budget.balance, reserve + successes * 0.2 - paid, 1, `seed ${seed}`)
          assert.strictEqual(deadlines.size, 0)
          for (const { abort } of client.calls) assert.strictEqual(abort.listeners, 0)
        }).pipe(Effect.provide(over({
          seed,
          stack: { budget: { minRetriesPerSecond: 1 + (seed % 8) } }
        })))
      }
    }))
})
