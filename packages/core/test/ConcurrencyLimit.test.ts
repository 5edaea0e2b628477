import { assert, describe, it } from "@effect/vitest"
import {
  Abort,
  abortFailure,
  type AbortListener,
  type AbortReason,
  type Call,
  ConcurrencyLimit,
  describe as describeStack,
  type InvalidOption,
  Nacked,
  NoEndpoints,
  type RpcError,
  Stack,
  StatusCell
} from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Metric, Scheduler, Scope } from "effect"
import { TestClock } from "effect/testing"
import { endpoints, makeCall, seeded, settle, stack, start, stop, Text, TextClient } from "./support.ts"

/** A call that has come through the limit. */
interface Running {
  readonly request: string
  readonly call: Call
  readonly end: (result: Effect.Effect<string, RpcError>) => void
}

const refusal = (max: number) => ({ _tag: "LimitExceeded", limit: "concurrency", max, reached: "no", retryable: true })

/** The limit over a sink whose calls run until the test ends them, or they are aborted. */
const limited = (options: ConcurrencyLimit.ConcurrencyLimitOptions) =>
  Effect.gen(function*() {
    const running: Array<Running> = []
    const status = new StatusCell("Open")
    const inner = Layer.succeed(Text.Balanced, {
      status,
      open: Effect.void,
      send: (request, call) =>
        Effect.callback((resume) => {
          const leave = () => {
            call.abort.off(listener)
            const index = running.indexOf(one)
            if (index >= 0) running.splice(index, 1)
          }
          const end: Running["end"] = (result) => {
            leave()
            resume(result)
          }
          const one = { request, call, end }
          const listener: AbortListener = {
            onAbort: (reason) => end(Effect.fail(abortFailure(reason, { waiting: "reply", reached: "maybe" })))
          }
          running.push(one)
          if (call.abort.reason === undefined) call.abort.on(listener)
          else listener.onAbort(call.abort.reason)
          return Effect.sync(leave)
        })
    })
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(
      Layer.fresh(
        ConcurrencyLimit.layer(Text, options).pipe(Layer.provide(inner), Layer.provideMerge(Stack.layer("text")))
      ),
      scope
    )
    return yield* Effect.provideContext(
      Effect.gen(function*() {
        const sink = yield* Text.Balanced
        const { nodes } = yield* Stack
        const counts = () =>
          nodes()[0]!.snapshot() as { readonly inUse: number; readonly waiting: number; readonly rejected: number }
        const send = (text: string, call: Call = makeCall()) => sink.send(text, call)
        return {
          answer: (request: string) => running.find((one) => one.request === request)!.end(Effect.succeed(request)),
          close: Scope.close(scope, Exit.void),
          counts,
          running,
          /** What runs now, by request. */
          runs: () => running.map(({ request }) => request),
          send,
          sink,
          start: (text: string, call?: Call) => start(send(text, call)),
          status
        }
      }),
      context
    )
  })

/** Lets a fiber go no step further while it is paused. */
class PausingScheduler extends Scheduler.MixedScheduler {
  paused = false
  override shouldYield(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    return this.paused || super.shouldYield(fiber)
  }
}

const timeout: AbortReason = { _tag: "Timeout", timeoutMillis: 7 }

describe("a concurrency limit", () => {
  it.effect("runs as many calls as it may, and fails more at once", () =>
    Effect.gen(function*() {
      const { answer, counts, runs, send, start: run } = yield* limited({ maxConcurrent: 2 })
      const a = yield* run("a")
      yield* run("b")
      const error = yield* Effect.flip(send("c"))
      assert.deepInclude(error, refusal(2) as never)
      assert.strictEqual(error.message, "more than 2 calls at a time (concurrency limit)")
      assert.deepStrictEqual(runs(), ["a", "b"])
      assert.deepInclude(counts() as object, { inUse: 2, waiting: 0, rejected: 1 })
      answer("a")
      assert.strictEqual(yield* Fiber.join(a), "a")
      yield* run("d")
      assert.deepStrictEqual(runs(), ["b", "d"])
    }))

  it.effect("lets as many more wait as it may, and runs them in the order they came", () =>
    Effect.gen(function*() {
      const { answer, counts, runs, send, start: run } = yield* limited({ maxConcurrent: 1, maxWaiting: 3 })
      const calls = ["a", "b", "c", "d"]
      const fibers = yield* Effect.forEach(calls, (text) => run(text))
      assert.deepInclude(yield* Effect.flip(send("e")), refusal(1) as never)
      assert.deepInclude(counts() as object, { inUse: 1, waiting: 3, rejected: 1 })
      for (const text of calls) {
        assert.deepStrictEqual(runs(), [text])
        answer(text)
      }
      assert.deepStrictEqual(yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber)), calls)
      assert.deepInclude(counts() as object, { inUse: 0, waiting: 0, rejected: 1 })
    }))

  it.effect("passes a slot on in the turn in which it is given back: who comes right then stands behind", () =>
    Effect.gen(function*() {
      const { answer, runs, send, start: run } = yield* limited({ maxConcurrent: 1, maxWaiting: 9 })
      const first = yield* run("first")
      yield* run("second")
      first.addObserver(() => void Effect.runFork(send("third")))
      answer("first")
      assert.deepStrictEqual(runs(), ["second"])
      answer("second")
      assert.deepStrictEqual(runs(), ["third"])
    }))

  it.effect("gives a slot back however its call ends", () =>
    Effect.gen(function*() {
      const { counts, running, start: run } = yield* limited({ maxConcurrent: 1 })
      const call = makeCall()
      const ends: ReadonlyArray<(fiber: Fiber.Fiber<unknown, unknown>) => Effect.Effect<void>> = [
        () => Effect.sync(() => running[0]!.end(Effect.succeed("good"))),
        () =>
          Effect.sync(() =>
            running[0]!.end(Effect.fail(abortFailure(timeout, { waiting: "reply", reached: "maybe" })))
          ),
        () => Effect.sync(() => running[0]!.end(Effect.die(new Error("a defect")))),
        (fiber) => stop(fiber),
        () => Effect.sync(() => call.abort.abort(timeout))
      ]
      for (const [index, end] of ends.entries()) {
        const own = index === 4 ? call : makeCall()
        const fiber = yield* run(String(index), own)
        assert.deepInclude(counts(), { inUse: 1 })
        yield* end(fiber)
        yield* Fiber.await(fiber)
        assert.deepInclude(counts(), { inUse: 0 })
        assert.strictEqual(own.abort.listeners, 0)
      }
    }))

  it.effect("gives a slot back when what is below throws", () =>
    Effect.gen(function*() {
      const inner = Layer.succeed(Text.Balanced, {
        status: new StatusCell("Open"),
        open: Effect.void,
        send: () => {
          throw new Error("a defect")
        }
      })
      const layer = ConcurrencyLimit.layer(Text, { maxConcurrent: 1 }).pipe(
        Layer.provide(inner),
        Layer.provideMerge(Stack.layer("text"))
      )
      yield* Effect.gen(function*() {
        const { send } = yield* Text.Balanced
        const call = makeCall()
        for (let i = 0; i < 2; i++) {
          const exit = yield* Effect.exit(send("a", call))
          assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
        }
        assert.strictEqual(call.abort.listeners, 0)
      }).pipe(Effect.provide(layer))
    }))

  it.effect("has the status and the opening of what is below", () =>
    Effect.gen(function*() {
      const { sink, start: run, status } = yield* limited({ maxConcurrent: 1 })
      yield* run("a")
      assert.strictEqual(sink.status, status)
      yield* sink.open
    }))

  it.effect("shows what it does, until it is closed", () =>
    Effect.gen(function*() {
      const { close, send, start: run } = yield* limited({ maxConcurrent: 1, maxWaiting: 1 })
      yield* run("a")
      yield* run("b")
      yield* Effect.flip(send("c"))
      const shown = Effect.map(Metric.snapshot, (all) =>
        Object.fromEntries(
          all.filter(({ id }) => id.startsWith("scales.concurrency_limit.")).map(({ attributes, id, state }) => [
            `${id} ${attributes?.["client"]}`,
            "count" in state ? state.count : "value" in state ? state.value : undefined
          ])
        ))
      assert.deepStrictEqual(yield* shown, {
        "scales.concurrency_limit.in_use text": 1,
        "scales.concurrency_limit.waiting text": 1,
        "scales.concurrency_limit.waited text": 1,
        "scales.concurrency_limit.rejected text": 1
      })
      yield* close
      assert.deepStrictEqual(yield* shown, {})
    }))

  it.effect("refuses numbers that are no limits", () =>
    Effect.gen(function*() {
      const wrong: ReadonlyArray<readonly [string, ConcurrencyLimit.ConcurrencyLimitOptions]> = [
        ["maxConcurrent", { maxConcurrent: 0 }],
        ["maxConcurrent", { maxConcurrent: 1.5 }],
        ["maxConcurrent", { maxConcurrent: Infinity }],
        ["maxWaiting", { maxConcurrent: 1, maxWaiting: -1 }],
        ["maxWaiting", { maxConcurrent: 1, maxWaiting: NaN }]
      ]
      for (const [option, options] of wrong) {
        const error: InvalidOption = yield* Effect.flip(limited(options))
        assert.deepInclude(error, { _tag: "InvalidOption", option } as never)
      }
    }))
})

describe("a call that waits for its turn", () => {
  it.effect("leaves nothing behind when it is interrupted or aborted, wherever it stands in the queue", () =>
    Effect.gen(function*() {
      for (const [middle, rest] of [[0, "bc"], [1, "ac"], [2, "ab"]] as const) {
        for (const how of ["interrupt", "abort"] as const) {
          const { answer, counts, runs, start: run } = yield* limited({ maxConcurrent: 1, maxWaiting: 3 })
          yield* run("first")
          const calls = [makeCall(), makeCall(), makeCall()]
          const fibers = yield* Effect.forEach(["a", "b", "c"], (text, i) => run(text, calls[i]))
          if (how === "interrupt") yield* stop(fibers[middle]!)
          else calls[middle]!.abort.abort(timeout)
          const exit = yield* Fiber.await(fibers[middle]!)
          if (how === "abort") {
            assert.deepInclude(Exit.isFailure(exit) && Cause.squash(exit.cause), {
              _tag: "Timeout",
              timeoutMillis: 7,
              waiting: "queue",
              reached: "no"
            } as never)
          }
          assert.strictEqual(calls[middle]!.abort.listeners, 0)
          assert.deepInclude(counts() as object, { inUse: 1, waiting: 2, rejected: 0 })
          answer("first")
          for (const text of rest) {
            assert.deepStrictEqual(runs(), [text])
            answer(text)
          }
          assert.deepInclude(counts() as object, { inUse: 0, waiting: 0, rejected: 0 })
          assert.deepStrictEqual(calls.map(({ abort }) => abort.listeners), [0, 0, 0])
        }
      }
    }))

  it.effect("makes room for another when it leaves", () =>
    Effect.gen(function*() {
      const { send, start: run } = yield* limited({ maxConcurrent: 1, maxWaiting: 1 })
      yield* run("a")
      const waiting = yield* run("b")
      yield* Effect.flip(send("c"))
      yield* stop(waiting)
      const next = yield* run("d")
      assert.isUndefined(next.pollUnsafe())
    }))

  it.effect("that was aborted before it came does not wait", () =>
    Effect.gen(function*() {
      const { counts, send, start: run } = yield* limited({ maxConcurrent: 1, maxWaiting: 1 })
      yield* run("a")
      const call = makeCall()
      call.abort.abort(timeout)
      assert.deepInclude(yield* Effect.flip(send("b", call)), { _tag: "Timeout", waiting: "queue" } as never)
      assert.deepInclude(counts() as object, { inUse: 1, waiting: 0, rejected: 0 })
    }))

  it.effect("hands its slot on when it is interrupted between getting it and running", () =>
    Effect.gen(function*() {
      const { answer, counts, runs, send, start: run } = yield* limited({ maxConcurrent: 1, maxWaiting: 3 })
      const scheduler = new PausingScheduler()
      yield* run("a")
      const woken = yield* start(Effect.provideService(send("b"), Scheduler.Scheduler, scheduler))
      yield* run("c")
      scheduler.paused = true
      answer("a")
      assert.deepStrictEqual(runs(), [])
      assert.deepInclude(counts() as object, { inUse: 1, waiting: 1, rejected: 0 })
      scheduler.paused = false
      woken.interruptUnsafe()
      yield* Fiber.await(woken)
      assert.deepStrictEqual(runs(), ["c"])
      answer("c")
      assert.deepInclude(counts() as object, { inUse: 0, waiting: 0, rejected: 0 })
    }))

  it.effect("is one of thousands that fail as soon as they run: each in its turn, not one inside of the other", () =>
    Effect.gen(function*() {
      const gate = Deferred.makeUnsafe<string>()
      const down = new NoEndpoints({ stack: "text", cause: undefined })
      const inner = Layer.succeed(Text.Balanced, {
        status: new StatusCell("Open"),
        open: Effect.void,
        send: (request) => request === "first" ? Deferred.await(gate) : Effect.fail(down)
      })
      const layer = ConcurrencyLimit.layer(Text, { maxConcurrent: 1, maxWaiting: 10_000 }).pipe(
        Layer.provide(inner),
        Layer.provideMerge(Stack.layer("text"))
      )
      yield* Effect.gen(function*() {
        const { send } = yield* Text.Balanced
        const first = yield* start(send("first", makeCall()))
        const fibers = yield* Effect.forEach(
          Array.from({ length: 10_000 }, () => makeCall()),
          (call) => start(Effect.flip(send("next", call)))
        )
        yield* Deferred.succeed(gate, "done")
        assert.strictEqual(yield* Fiber.join(first), "done")
        for (const fiber of fibers) assert.deepStrictEqual(fiber.pollUnsafe(), Exit.succeed(down))
      }).pipe(Effect.provide(layer))
    }))

  it.effect("is not given a slot at the millisecond of its own deadline", () =>
    Effect.gen(function*() {
      const { counts, runs, send, start: run } = yield* limited({ maxConcurrent: 1, maxWaiting: 2 })
      const late = () => makeCall({ deadline: 1000, abort: new Abort(1000, 1000) })
      const first = yield* run("a")
      const fibers = [yield* start(Effect.flip(send("b", late()))), yield* start(Effect.flip(send("c", late())))]
      yield* TestClock.adjust(1000)
      yield* stop(first)
      for (const fiber of fibers) {
        assert.deepInclude(
          yield* Fiber.join(fiber),
          { _tag: "Timeout", timeoutMillis: 1000, waiting: "queue" } as never
        )
      }
      assert.deepStrictEqual(runs(), [])
      assert.deepInclude(counts() as object, { inUse: 0, waiting: 0, rejected: 0 })
    }))
})

/** The whole stack under a limit. */
const under = (options: ConcurrencyLimit.ConcurrencyLimitOptions, timeout: "1 second" | "10 seconds" = "10 seconds") =>
  stack({ timeout, above: Layer.orDie(ConcurrencyLimit.layer(Text, options)) })

const counted = Effect.map(
  Stack,
  (shared) => () =>
    describeStack(shared).stages.find(({ role }) => role === "concurrencyLimit")!.state as {
      readonly inUse: number
      readonly waiting: number
    }
)

describe("a stack under a concurrency limit", () => {
  it.effect("has one slot for all attempts of a call", () =>
    Effect.gen(function*() {
      const { call } = yield* TextClient
      const script = yield* ScriptedConnector
      const counts = yield* counted
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      const seen: Array<number> = []
      script.answer = (request, { endpoint, number }) => {
        seen.push(counts().inUse)
        return number < 2
          ? Effect.fail(new Nacked({ endpoint, why: "once", retryable: true }))
          : Effect.succeed(request)
      }
      assert.strictEqual(yield* call("a"), "a")
      assert.deepStrictEqual(seen, [1, 1, 1])
      assert.strictEqual(counts().inUse, 0)
    }).pipe(Effect.provide(under({ maxConcurrent: 1 }))))

  it.effect("ends calls at their deadlines in the queue, and sends none of them", () =>
    Effect.gen(function*() {
      const { call, calls } = yield* TextClient
      const script = yield* ScriptedConnector
      const shared = yield* Stack
      const counts = yield* counted
      yield* (yield* TestServerSet).bind(endpoints(1))
      let sent = 0
      script.answer = () => {
        sent++
        return Effect.never
      }
      const fibers = yield* Effect.forEach(Array.from("abcdefgh"), (text) => start(Effect.flip(call(text))))
      yield* settle
      yield* TestClock.adjust(999)
      assert.isTrue(fibers.every((fiber) => fiber.pollUnsafe() === undefined))
      yield* TestClock.adjust(1)
      const errors = yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber))
      assert.deepStrictEqual(
        errors.map((error) => `${error._tag} ${"waiting" in error ? error.waiting : ""}`),
        [...Array(2).fill("Timeout reply"), ...Array(6).fill("Timeout queue")]
      )
      assert.strictEqual(sent, 2)
      assert.deepInclude(counts(), { inUse: 0, waiting: 0 })
      assert.strictEqual(shared.deadlines.size, 0)
      assert.deepStrictEqual(calls.map(({ abort }) => abort.listeners), Array(8).fill(0))
    }).pipe(Effect.provide(under({ maxConcurrent: 2, maxWaiting: 6 }, "1 second"))))

  it.effect("keeps a slot for a response that is held, until it is released", () =>
    Effect.gen(function*() {
      const { call, calls } = yield* TextClient
      const script = yield* ScriptedConnector
      const shared = yield* Stack
      const counts = yield* counted
      yield* (yield* TestServerSet).bind(endpoints(1))
      const releases: Array<() => void> = []
      script.answer = (request, attempt) =>
        Effect.sync(() => {
          const release = attempt.hold()
          releases.push(() => release("success"))
          return request
        })
      assert.strictEqual(yield* call("a"), "a")
      assert.deepInclude(counts(), { inUse: 1, waiting: 0 })
      const next = yield* start(call("b"))
      assert.isUndefined(next.pollUnsafe())
      releases[0]!()
      assert.strictEqual(yield* Fiber.join(next), "b")
      assert.deepInclude(counts(), { inUse: 1, waiting: 0 })
      releases[1]!()
      assert.deepInclude(counts(), { inUse: 0, waiting: 0 })
      const dispatcher = describeStack(shared).stages.find(({ role }) => role === "dispatcher")!.state
      assert.deepInclude(dispatcher as object, { calls: 2, successes: 2, outstanding: 0 })
      assert.strictEqual(shared.deadlines.size, 0)
      assert.deepStrictEqual(calls.map(({ abort }) => abort.listeners), [0, 0])
    }).pipe(Effect.provide(under({ maxConcurrent: 1, maxWaiting: 1 }))))

  it.effect("has the slot of a held response back at the deadline of its call", () =>
    Effect.gen(function*() {
      const { call, calls } = yield* TextClient
      const script = yield* ScriptedConnector
      const shared = yield* Stack
      const counts = yield* counted
      yield* (yield* TestServerSet).bind(endpoints(1))
      script.answer = (request, attempt) =>
        Effect.sync(() => {
          attempt.hold()
          return request
        })
      yield* call("a")
      yield* TestClock.adjust(999)
      assert.deepInclude(counts(), { inUse: 1 })
      yield* TestClock.adjust(1)
      assert.deepInclude(counts(), { inUse: 0 })
      assert.strictEqual(shared.deadlines.size, 0)
      assert.strictEqual(calls[0]!.abort.listeners, 0)
    }).pipe(Effect.provide(under({ maxConcurrent: 1 }, "1 second"))))
})

describe("interruption", () => {
  it.effect("at any step of a call loses no slot", () =>
    Effect.gen(function*() {
      for (const how of ["interrupt", "abort"] as const) {
        let done = false
        for (let steps = 4; steps < 40; steps++) {
          const { counts, running, send, start: run } = yield* limited({ maxConcurrent: 1, maxWaiting: 2 })
          // An even step finds a slot that is free, an odd one waits for it.
          const before = steps % 2 === 0 ? undefined : yield* run("before")
          const call = makeCall()
          const fiber = yield* start(Effect.provideService(send("hi", call), Scheduler.MaxOpsBeforeYield, steps))
          done = running.some(({ request }) => request === "hi") || counts().waiting > 0
          for (const one of [...running]) one.end(Effect.succeed("done"))
          if (how === "interrupt") fiber.interruptUnsafe()
          else call.abort.abort(timeout)
          for (let turn = 0; turn < 500 && fiber.pollUnsafe() === undefined; turn++) yield* Effect.yieldNow
          assert.isDefined(fiber.pollUnsafe(), `${how} at step ${steps}: the call hangs`)
          if (before !== undefined) yield* Fiber.await(before)
          assert.deepInclude(counts() as object, { inUse: 0, waiting: 0, rejected: 0 }, `${how} at step ${steps}`)
          assert.strictEqual(call.abort.listeners, 0, `${how} at step ${steps}`)
        }
        assert.isTrue(done)
      }
    }))

  it.effect("and everything else that may happen, in any order, loses no slot and keeps the limits", () =>
    Effect.gen(function*() {
      for (let seed = 1; seed <= 60; seed++) {
        const random = seeded(seed)
        const below = (n: number) => Math.floor(random() * n)
        const maxConcurrent = 1 + below(3)
        const maxWaiting = below(4)
        const { counts, running, send } = yield* limited({ maxConcurrent, maxWaiting })
        const scheduler = new PausingScheduler()
        const calls: Array<Call> = []
        const live: Array<{ readonly fiber: Fiber.Fiber<string, RpcError>; readonly call: Call }> = []
        /** Responses that are held: of calls that have succeeded. */
        const holds = () =>
          live.filter(({ call, fiber }) => {
            const exit = fiber.pollUnsafe()
            return exit !== undefined && Exit.isSuccess(exit) && call.abort.held
          }).length
        const releases: Array<() => void> = []
        for (let step = 0; step < 80; step++) {
          const what = below(8)
          const victim = live[below(live.length)]
          const one = running[below(running.length)]
          if (what <= 2) {
            const call = makeCall()
            calls.push(call)
            const paced = Effect.provideService(send(String(calls.length - 1), call), Scheduler.Scheduler, scheduler)
            live.push({ call, fiber: yield* start(paced) })
          } else if (what === 3) one?.end(Effect.succeed(one.request))
          else if (what === 4 && one !== undefined) {
            // As an attempt holds its response: it gives up when the call is aborted.
            const { abort } = one.call
            let held = true
            const release = () => {
              if (!held) return
              held = false
              abort.off(listener)
              abort.hold(-1)
            }
            const listener: AbortListener = { onAbort: release }
            abort.hold(1)
            abort.on(listener)
            releases.push(release)
            one.end(Effect.succeed(one.request))
          } else if (what === 5) releases.splice(below(releases.length), 1)[0]?.()
          else if (what === 6) victim?.fiber.interruptUnsafe()
          else if (what === 7) victim?.call.abort.abort(timeout)
          if (random() < 0.5) yield* Effect.yieldNow
          // Whoever is woken while it is paused has its slot and has not begun.
          scheduler.paused = random() < 0.3
          assert.isAtMost(running.length + holds(), maxConcurrent, `seed ${seed}, step ${step}`)
          assert.isAtMost(counts().inUse, maxConcurrent)
          assert.isAtMost(counts().waiting, maxWaiting)
          if (counts().waiting > 0) assert.strictEqual(counts().inUse, maxConcurrent, `seed ${seed}, step ${step}`)
        }
        scheduler.paused = false
        for (let turn = 0; turn < 500 && live.some(({ fiber }) => fiber.pollUnsafe() === undefined); turn++) {
          for (const one of [...running]) one.end(Effect.succeed(one.request))
          for (const release of releases.splice(0)) release()
          yield* Effect.yieldNow
        }
        for (const release of releases) release()
        assert.isTrue(live.every(({ fiber }) => fiber.pollUnsafe() !== undefined), `seed ${seed}: a call hangs`)
        assert.deepInclude(counts(), { inUse: 0, waiting: 0 }, `seed ${seed}`)
        assert.isTrue(calls.every(({ abort }) => abort.listeners === 0 && !abort.held), `seed ${seed}`)
      }
    }))
})
