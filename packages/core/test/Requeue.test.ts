import { assert, describe, it } from "@effect/vitest"
import {
  type Call,
  ConnectFailed,
  ConnectionClosed,
  describe as describeStack,
  Endpoint,
  FastFailure,
  Nacked,
  Requeue,
  type RpcError,
  ServerFailed,
  Stack,
  type StackOptions,
  StatusCell,
  Timeout
} from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Cause, Effect, Exit, Fiber, Layer, Metric, Scope } from "effect"
import { TestClock } from "effect/testing"
import { endpoints, inForce, makeCall, seeded, stack, start, stop, Text, TextClient } from "./support.ts"

const endpoint = Endpoint.tcp("h", 1)
const nacked = new Nacked({ endpoint, why: "overload", retryable: true })
const refused = new ConnectFailed({ endpoint, phase: "connect", cause: "refused" })

/** A requeue stage over a sink that answers as the test says, with a budget of its own. */
const requeue = (answer: (nth: number, call: Call) => Effect.Effect<string, RpcError>, options?: StackOptions) =>
  Effect.gen(function*() {
    const status = new StatusCell("Open")
    let sent = 0
    const inner = Layer.succeed(Text.Balanced, {
      status,
      open: Effect.void,
      send: (_request, call) => Effect.suspend(() => answer(sent++, call))
    })
    const context = yield* Layer.build(Layer.fresh(
      Requeue.layer(Text).pipe(Layer.provide(inner), Layer.provideMerge(Stack.layer("text", options)))
    ))
    return yield* Effect.provideContext(
      Effect.gen(function*() {
        const sink = yield* Text.Balanced
        const { budget, nodes } = yield* Stack
        const counts = () => nodes().find(({ role }) => role === "requeue")!.snapshot()
        const send = (call: Call = makeCall()) => sink.send("hi", call)
        return { budget, counts, send, sent: () => sent, sink, status }
      }),
      context
    )
  })

describe("a call that a server refused", () => {
  it.effect("is sent again, and its caller sees only the answer", () =>
    Effect.gen(function*() {
      const { budget, counts, send, sent } = yield* requeue((nth) =>
        nth < 3 ? Effect.fail(nacked) : Effect.succeed("hello")
      )
      assert.strictEqual(yield* send(), "hello")
      assert.strictEqual(sent(), 4)
      assert.strictEqual(budget.balance, 97)
      assert.deepInclude(counts() as object, {
        requeues: 3,
        budgetExhausted: 0,
        limitReached: 0,
        notOpen: 0,
        budget: 97
      })
    }))

  it.effect("is sent at most 20 times more at the start: a fifth of what is in the budget when it was first refused", () =>
    Effect.gen(function*() {
      const { budget, counts, send, sent } = yield* requeue(() => Effect.fail(nacked))
      yield* Effect.flip(send())
      assert.strictEqual(sent(), 21)
      assert.strictEqual(budget.balance, 80)
      assert.deepInclude(counts() as object, {
        requeues: 20,
        budgetExhausted: 0,
        limitReached: 1,
        notOpen: 0,
        budget: 80
      })
      yield* Effect.flip(send())
      assert.strictEqual(sent(), 21 + 17)
    }))

  it.effect("is sent again once while one retry is left, then not at all", () =>
    Effect.gen(function*() {
      const { budget, counts, send, sent } = yield* requeue(() => Effect.fail(nacked), {
        budget: { ttlMillis: 1_000, minRetriesPerSecond: 1 }
      })
      assert.strictEqual(budget.balance, 1)
      yield* Effect.flip(send())
      assert.strictEqual(sent(), 2)
      yield* Effect.flip(send())
      assert.strictEqual(sent(), 3)
      assert.strictEqual(budget.balance, 0)
      assert.deepInclude(counts() as object, {
        requeues: 1,
        budgetExhausted: 0,
        limitReached: 2,
        notOpen: 0,
        budget: 0
      })
    }))

  it.effect("finds the budget empty when others have used it meanwhile", () =>
    Effect.gen(function*() {
      const made = yield* requeue(() =>
        Effect.suspend(() => {
          while (made.budget.withdraw());
          return Effect.fail(nacked)
        }), { budget: { minRetriesPerSecond: 5 } })
      // The limit is set when it is first refused: the budget was empty by then.
      yield* Effect.flip(made.send())
      assert.strictEqual(made.sent(), 1)
      const later = yield* requeue((nth) =>
        Effect.suspend(() => {
          if (nth === 2) { while (later.budget.withdraw()); }
          return Effect.fail(nacked)
        }), { budget: { minRetriesPerSecond: 5 } })
      yield* Effect.flip(later.send())
      assert.strictEqual(later.sent(), 3)
      assert.deepInclude(later.counts() as object, { requeues: 2, budgetExhausted: 1 })
    }))

  it.effect("is not sent again when the server says not to try elsewhere", () =>
    Effect.gen(function*() {
      const never = new Nacked({ endpoint, why: "poison", retryable: false })
      const { budget, send, sent } = yield* requeue(() => Effect.fail(never))
      assert.strictEqual(yield* Effect.flip(send()), never)
      assert.strictEqual(sent(), 1)
      assert.strictEqual(budget.balance, 100)
    }))

  it.effect("has no more of its share left when it is sent once more by a stage above", () =>
    Effect.gen(function*() {
      const call = makeCall()
      const { budget, send, sent } = yield* requeue(() => Effect.fail(nacked))
      yield* Effect.flip(send(call))
      assert.strictEqual(sent(), 21)
      yield* Effect.flip(send({ ...call, context: call.context }))
      assert.strictEqual(sent(), 22)
      assert.strictEqual(budget.balance, 80)
    }))

  it.effect("is sent again once when nothing is open any more, and then left as it is", () =>
    Effect.gen(function*() {
      for (const state of ["Closed", "Busy"] as const) {
        const made = yield* requeue(() => {
          made.status.set(state)
          return Effect.fail(nacked)
        })
        assert.strictEqual(yield* Effect.flip(made.send()), nacked)
        assert.strictEqual(made.sent(), 2)
        assert.deepInclude(made.counts() as object, {
          requeues: 1,
          budgetExhausted: 0,
          limitReached: 0,
          notOpen: 1,
          budget: 99
        })
        const back = yield* requeue((nth) => nth < 1 ? Effect.fail(nacked) : Effect.succeed("hello"))
        back.status.set(state)
        assert.strictEqual(yield* back.send(), "hello")
      }
    }))

  it.effect("is sent on when it is Idle: a balancer whose endpoints will connect", () =>
    Effect.gen(function*() {
      const { send, sent, status } = yield* requeue(() => Effect.fail(nacked))
      status.set("Idle")
      yield* Effect.flip(send())
      assert.strictEqual(sent(), 21)
    }))

  it.effect("is no longer retryable for its caller when its limit or the budget ended it, and says the rest as before", () =>
    Effect.gen(function*() {
      const failed = new ServerFailed({ endpoint, why: "elsewhere", retryable: true, rejected: true })
      for (const error of [nacked, failed]) {
        const limited = yield* requeue(() => Effect.fail(error))
        const exhausted = yield* requeue((nth) =>
          Effect.suspend(() => {
            if (nth === 1) { while (exhausted.budget.withdraw()); }
            return Effect.fail(error)
          })
        )
        for (const made of [limited, exhausted]) {
          const ended = yield* Effect.flip(made.send())
          assert.notStrictEqual(ended, error)
          assert.deepStrictEqual({ ...ended }, { ...error, retryable: false })
          assert.strictEqual(ended.message, error.message)
        }
        assert.deepInclude(limited.counts() as object, { limitReached: 1, budgetExhausted: 0 })
        assert.deepInclude(exhausted.counts() as object, { limitReached: 0, budgetExhausted: 1 })
      }
    }))

  it.effect("is not sent again once its deadline has passed, also when nobody has told it yet", () =>
    Effect.gen(function*() {
      const { budget, send, sent } = yield* requeue(() => Effect.andThen(TestClock.adjust(10), Effect.fail(nacked)))
      assert.strictEqual(yield* Effect.flip(send(makeCall({ deadline: 10 }))), nacked)
      assert.strictEqual(sent(), 1)
      assert.strictEqual(budget.balance, 100)
      yield* Effect.flip(send(makeCall({ deadline: 31 })))
      assert.strictEqual(sent(), 1 + 3)
      const unconnected = yield* requeue(() => Effect.fail(refused))
      assert.strictEqual(yield* Effect.flip(unconnected.send(makeCall({ deadline: 0 }))), refused)
      assert.strictEqual(unconnected.sent(), 1)
    }))

  it.effect("is not sent again once it was aborted", () =>
    Effect.gen(function*() {
      const call = makeCall()
      const { send, sent } = yield* requeue((_, { abort }) => {
        abort.abort({ _tag: "Timeout", timeoutMillis: 5 })
        return Effect.fail(nacked)
      })
      assert.strictEqual(yield* Effect.flip(send(call)), nacked)
      assert.strictEqual(sent(), 1)
    }))
})

describe("a call that the server ran and failed", () => {
  it.effect("is sent again when the server itself says that it may be", () =>
    Effect.gen(function*() {
      const failed = new ServerFailed({ endpoint, why: "try elsewhere", retryable: true, rejected: false })
      const { budget, send, sent } = yield* requeue((nth) => nth < 1 ? Effect.fail(failed) : Effect.succeed("hello"))
      assert.strictEqual(yield* send(), "hello")
      assert.strictEqual(sent(), 2)
      assert.strictEqual(budget.balance, 99)
    }))

  it.effect("is not sent again otherwise, nor any whose fate is unknown, also when it is idempotent", () =>
    Effect.gen(function*() {
      const errors: ReadonlyArray<RpcError> = [
        new ServerFailed({ endpoint, why: "sad panda", retryable: false, rejected: true }),
        new ConnectionClosed({ endpoint, reached: "maybe", cause: "reset" }),
        new Timeout({ timeoutMillis: 5, waiting: "queue", reached: "no", endpoint, cause: undefined })
      ]
      for (const error of errors) {
        const { send, sent } = yield* requeue(() => Effect.fail(error))
        assert.strictEqual(yield* Effect.flip(send(makeCall({ idempotent: true }))), error)
        assert.strictEqual(sent(), 1)
      }
    }))
})

describe("a call that was never written", () => {
  it.effect("is sent again and paid for when its connection ended before its turn", () =>
    Effect.gen(function*() {
      const unsent = new ConnectionClosed({ endpoint, reached: "no", cause: "reset" })
      const { budget, send } = yield* requeue((nth) => nth < 1 ? Effect.fail(unsent) : Effect.succeed("hello"))
      assert.strictEqual(yield* send(), "hello")
      assert.strictEqual(budget.balance, 99)
    }))

  it.effect("is tried 25 times in all at no cost when no connection could be had", () =>
    Effect.gen(function*() {
      const down = new FastFailure({ endpoint, cause: undefined, nextAttempt: 0 })
      for (const error of [refused, down]) {
        const { budget, counts, send, sent } = yield* requeue(() => Effect.fail(error))
        assert.strictEqual(yield* Effect.flip(send()), error)
        assert.strictEqual(sent(), 25)
        assert.strictEqual(budget.balance, 100)
        assert.deepInclude(counts() as object, { requeues: 24, limitReached: 1, notOpen: 0 })
      }
    }))

  it.effect("is tried while an endpoint is Busy, and no more when all are down", () =>
    Effect.gen(function*() {
      const { counts, send, sent, status } = yield* requeue((nth) => {
        status.set(nth < 3 ? "Busy" : "Closed")
        return Effect.fail(refused)
      })
      assert.strictEqual(yield* Effect.flip(send()), refused)
      assert.strictEqual(sent(), 4)
      assert.deepInclude(counts() as object, { requeues: 3, notOpen: 1 })
    }))

  it.effect("is tried also when the budget is empty", () =>
    Effect.gen(function*() {
      const { send } = yield* requeue((nth) => nth < 24 ? Effect.fail(refused) : Effect.succeed("hello"), {
        budget: { minRetriesPerSecond: 0, percentCanRetry: 0 }
      })
      assert.strictEqual(yield* send(), "hello")
    }))

  it.effect("keeps its two counts apart", () =>
    Effect.gen(function*() {
      const { budget, send, sent } = yield* requeue((nth) => Effect.fail(nth % 2 === 0 ? refused : nacked))
      yield* Effect.flip(send())
      assert.strictEqual(sent(), 42)
      assert.strictEqual(budget.balance, 80)
    }))
})

describe("what is no failure of a call", () => {
  it.effect("is not sent again: a defect, and an interruption", () =>
    Effect.gen(function*() {
      const defect = yield* requeue(() => Effect.die(nacked))
      const exit = yield* Effect.exit(defect.send())
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      assert.strictEqual(defect.sent(), 1)
      const both = yield* requeue(() => Effect.failCause(Cause.combine(Cause.fail(nacked), Cause.die("x"))))
      yield* Effect.exit(both.send())
      assert.strictEqual(both.sent(), 1)
      const hanging = yield* requeue(() => Effect.never)
      const fiber = yield* start(hanging.send())
      yield* stop(fiber)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
      assert.strictEqual(hanging.sent(), 1)
    }))

  it.effect("counts in each run of the same effect for itself", () =>
    Effect.gen(function*() {
      const { send, sent } = yield* requeue(() => Effect.fail(refused))
      const once = send()
      yield* Effect.flip(once)
      yield* Effect.flip(once)
      assert.strictEqual(sent(), 50)
    }))
})

describe("in a whole stack, a refused call", () => {
  it.effect("goes to another endpoint each time while there is one", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1, 2, 3))
      const seen: Array<string> = []
      script.answer = (_, { endpoint, number }) => {
        seen.push(endpoint.key)
        return number < 2
          ? Effect.fail(new Nacked({ endpoint, why: "busy", retryable: true }))
          : Effect.succeed("hello")
      }
      assert.strictEqual(yield* client.call("hi"), "hello")
      assert.sameMembers(seen, ["h:1", "h:2", "h:3"])
    }).pipe(Effect.provide(stack())))

  it.effect("is paid for by the calls that succeed", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const { budget } = yield* Stack
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      script.answer = (_, { endpoint }) => Effect.fail(new Nacked({ endpoint, why: "busy", retryable: true }))
      yield* Effect.flip(client.call("hi"))
      assert.strictEqual(budget.balance, 0)
      script.answer = () => Effect.succeed("hello")
      for (let i = 0; i < 10; i++) yield* client.call("hi")
      assert.strictEqual(budget.balance, 2)
    }).pipe(Effect.provide(stack({ stack: { budget: { minRetriesPerSecond: 0 } } }))))

  it.effect("is sent 21 times when the only endpoint refuses everything", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1))
      let attempts = 0
      script.answer = (_, { endpoint }) => {
        attempts++
        return Effect.fail(new Nacked({ endpoint, why: "busy", retryable: true }))
      }
      assert.deepInclude(yield* Effect.flip(client.call("hi")), { _tag: "Nacked", retryable: false })
      assert.strictEqual(attempts, 21)
    }).pipe(Effect.provide(stack())))

  it.effect("has the one try more that the one success before it has paid", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1))
      let requests = 0
      let failures = 0
      script.answer = (text, { endpoint }) => {
        requests++
        if (text === "fine") return Effect.succeed("hello")
        failures++
        return Effect.fail(new Nacked({ endpoint, why: "busy", retryable: true }))
      }
      yield* client.call("fine")
      yield* Effect.flip(client.call("bad"))
      assert.deepStrictEqual([requests, failures], [3, 2])
    }).pipe(Effect.provide(stack({ stack: { budget: { minRetriesPerSecond: 0, percentCanRetry: 1 } } }))))

  it.effect("shows in the description of the stack", () =>
    Effect.gen(function*() {
      const node = describeStack(yield* Stack).stages.find(({ role }) => role === "requeue")
      assert.deepStrictEqual(node?.options, inForce({ effort: 25, share: 0.2 }))
      assert.deepInclude(node?.state as object, {
        requeues: 0,
        budgetExhausted: 0,
        limitReached: 0,
        notOpen: 0,
        budget: 100
      })
    }).pipe(Effect.provide(stack())))
})

describe("calls at a time", () => {
  /** `count` calls in a whole stack; an attempt is refused with a chance of `refusing`, after a while. */
  const storm = (seed: number, count: number, refusing: number) =>
    Effect.gen(function*() {
      const random = seeded(seed)
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const { budget } = yield* Stack
      yield* (yield* TestServerSet).bind(endpoints(1, 2, 3))
      const reserve = budget.balance
      const seen = { attempts: 0, paid: 0, successes: 0 }
      const sent = new Set<string>()
      script.answer = (text, { endpoint }) =>
        Effect.suspend(() => {
          seen.attempts++
          if (sent.has(text)) seen.paid++
          sent.add(text)
          // All of it happens within the budget's 10 s: nothing in it ages.
          assert.isAtMost(seen.paid, reserve + seen.successes * 0.2, `seed ${seed}`)
          return Effect.andThen(
            Effect.sleep(1 + Math.floor(random() * 20)),
            Effect.suspend(() => {
              if (random() < refusing) return Effect.fail(new Nacked({ endpoint, why: "busy", retryable: true }))
              seen.successes++
              return Effect.succeed("hello")
            })
          )
        })
      const calls = yield* Effect.forEach(
        Array.from({ length: count }, (_, id) => `${id}`),
        (id) => start(Effect.exit(client.call(id)))
      )
      for (let step = 0; step < 25; step++) yield* TestClock.adjust(20)
      const exits = yield* Effect.forEach(calls, Fiber.join)
      assert.strictEqual(seen.attempts - seen.paid, count)
      assert.strictEqual(exits.filter(Exit.isSuccess).length, seen.successes)
      const counts = (yield* Stack).nodes().find(({ role }) => role === "requeue")!.snapshot() as {
        readonly requeues: number
        readonly budgetExhausted: number
        readonly limitReached: number
      }
      assert.strictEqual(counts.requeues, seen.paid)
      assert.strictEqual(counts.budgetExhausted + counts.limitReached, count - seen.successes)
      return { ...seen, balance: budget.balance, left: reserve + seen.successes * 0.2 - seen.paid }
    }).pipe(Effect.provide(stack({ seed })))

  it.effect("have one budget between them: 500 that are refused for ever are sent 100 times more", () =>
    Effect.gen(function*() {
      const { attempts, balance, paid } = yield* storm(1, 500, 1)
      assert.strictEqual(paid, 100)
      assert.strictEqual(attempts, 600)
      assert.strictEqual(balance, 0)
    }))

  it.effect("never take more than the budget was given, and lose none of it, however many are refused", () =>
    Effect.gen(function*() {
      for (let seed = 1; seed <= 10; seed++) {
        const { balance, left } = yield* storm(seed, 300, seed / 10)
        assert.approximately(balance, left, 1, `seed ${seed}`)
      }
    }))
})

describe("the metrics of requeues", () => {
  it.effect("count what was sent again and what was not, and show the budget, until the stack closes", () =>
    Effect.gen(function*() {
      const read = Effect.map(
        Metric.snapshot,
        (all) =>
          Object.fromEntries(
            all.filter(({ attributes, id }) => attributes?.["client"] === "text" && !id.startsWith("scales.stack."))
              .map(({ attributes, id, state }) => [
                [id, attributes?.["cause"]].join(" ").trim(),
                "count" in state ? state.count : "value" in state ? state.value : undefined
              ])
          )
      )
      const scope = yield* Scope.make()
      let failure: RpcError = nacked
      const made = yield* Scope.provide(requeue(() => Effect.fail(failure)), scope)
      yield* Effect.flip(made.send())
      made.status.set("Busy")
      yield* Effect.flip(made.send())
      while (made.budget.withdraw());
      made.status.set("Open")
      yield* Effect.flip(made.send())
      failure = new ConnectFailed({ endpoint, phase: "connect", cause: "refused" })
      yield* Effect.flip(made.send())
      failure = new Nacked({ endpoint, why: "poison", retryable: false })
      yield* Effect.flip(made.send())
      yield* Effect.flip(made.send(makeCall({ deadline: 0 })))
      failure = nacked
      yield* Effect.flip(made.send(makeCall({ deadline: 0 })))
      assert.deepStrictEqual(yield* read, {
        "scales.requeue.requeues not_connected": 24,
        "scales.requeue.requeues refused": 21,
        "scales.requeue.budget_exhausted": 0,
        "scales.requeue.request_limit": 3,
        "scales.requeue.not_open": 1,
        "scales.requeue.not_retryable": 2,
        "scales.requeue.out_of_time": 1,
        "scales.budget.balance": 0,
        "scales.budget.withdrawals": 100,
        "scales.budget.exhausted": 1
      })
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* read, {})
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))
})
