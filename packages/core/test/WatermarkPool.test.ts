import { assert, describe, it } from "@effect/vitest"
import {
  beginAttempt,
  type Call,
  ConnectFailed,
  ConnectionClosed,
  describe as describeStack,
  Endpoint,
  type InvalidOption,
  Nacked,
  type Outcome,
  ProtocolError,
  type RpcError,
  settleAttempt,
  Stack,
  WatermarkPool
} from "@scales-rpc/core"
import { Scripted, ScriptedConnector } from "@scales-rpc/core/testing"
import { Deferred, Effect, Exit, Fiber, Layer, Metric, Scheduler, Scope } from "effect"
import { TestClock } from "effect/testing"
import { inForce, makeCall, settle, start, stop, Text } from "./support.ts"

const endpoint = Endpoint.tcp("h", 1)
const draining = new Nacked({ endpoint, why: "draining", retryable: true })
const refused = new ConnectFailed({ endpoint, phase: "connect", cause: "refused" })
const reset = new ConnectionClosed({ endpoint, reached: "maybe", cause: "reset" })

interface Counts {
  readonly size: number
  readonly idle: number
  readonly waiting: number
  readonly connects: number
  readonly connectFailures: number
  readonly dead: number
  readonly refused: number
}

/** Connects that cannot be ended before they are done. */
const stubborn = Layer.effect(
  Text.Connector,
  Effect.map(Text.Connector, ({ connect }) => ({ connect: (to: Endpoint) => Effect.uninterruptible(connect(to)) }))
)

/** The pool of one endpoint over a script, and the balancer's part: each attempt is begun and ended. */
const pooled = (
  options?: WatermarkPool.WatermarkPoolOptions,
  connector = Layer.effect(Text.Connector, Text.Connector)
) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const layer = WatermarkPool.layer(Text, options).pipe(
      Layer.provide(connector),
      Layer.provideMerge(Scripted.layer(Text, (request) => Effect.succeed(`re ${request}`))),
      Layer.provideMerge(Stack.layer("text"))
    )
    const context = yield* Layer.buildWithScope(Layer.fresh(layer), yield* Scope.make())
    return yield* Effect.provideContext(
      Effect.gen(function*() {
        const stack = yield* Stack
        const script = yield* ScriptedConnector
        const sink = yield* Scope.provide((yield* Text.Endpoints).make(endpoint), scope)
        const outcomes: Array<Outcome> = []
        const send = (text: string, call: Call = makeCall()) =>
          Effect.suspend(() => {
            const attempt = beginAttempt(call, endpoint, stack.now)
            attempt.onEnd((outcome) => void outcomes.push(outcome))
            return Effect.onExitPrimitive(sink.send(text, attempt), (exit) => {
              settleAttempt(attempt, exit)
              return undefined
            })
          })
        /** Requests in the order in which they were sent, and those that wait for a reply. */
        const sent: Array<string> = []
        const pending = new Map<string, Deferred.Deferred<string, RpcError>>()
        /** Makes requests wait for `reply`. */
        const holdReplies = () => {
          script.answer = (request: string) =>
            Effect.suspend(() => {
              const reply = Deferred.makeUnsafe<string, RpcError>()
              sent.push(request)
              pending.set(request, reply)
              return Deferred.await(reply)
            })
        }
        const reply = (request: string) =>
          Effect.andThen(Deferred.succeed(pending.get(request)!, `re ${request}`), settle)
        /** Makes connects wait, each for what the test decides; the result has one for each that was begun. */
        const holdConnects = () => {
          const gates: Array<Deferred.Deferred<void, RpcError>> = []
          script.connecting = () =>
            Effect.suspend(() => {
              const gate = Deferred.makeUnsafe<void, RpcError>()
              gates.push(gate)
              return Deferred.await(gate)
            })
          const decide = (index: number, fault?: RpcError) =>
            Effect.andThen(
              fault === undefined ? Deferred.succeed(gates[index]!, undefined) : Deferred.fail(gates[index]!, fault),
              settle
            )
          return { begun: () => gates.length, decide }
        }
        return {
          close: Scope.close(scope, Exit.void),
          counts: () => describeStack(stack).stages.find(({ role }) => role === "pool")!.state as Counts,
          holdConnects,
          holdReplies,
          outcomes,
          reply,
          script,
          send,
          sent,
          sink,
          stack,
          start: (text: string, call?: Call) => start(send(text, call)),
          used: () => script.live().filter(({ outstanding }) => outstanding > 0)
        }
      }),
      context
    )
  })

const test = (name: string, body: () => Generator<Effect.Effect<any, any, any>, void>) =>
  it.effect(name, () => Effect.gen(body) as Effect.Effect<void>)

const texts = (count: number) => Array.from({ length: count }, (_, index) => String(index))

/** Lets others run before a fiber's next step, once, when it is told to. */
class YieldsOnce extends Scheduler.MixedScheduler {
  next = false
  between = () => {}
  override shouldYield(): boolean {
    if (!this.next) return false
    this.next = false
    this.between()
    return true
  }
}

const timeout = { _tag: "Timeout", timeoutMillis: 5 } as const

describe("a watermark pool", () => {
  test("connects to nothing until the first call, and then once for calls one after another", function*() {
    const { counts, send, script, sink } = yield* pooled()
    assert.deepStrictEqual([sink.status.state, script.connections.length], ["Idle", 0])
    for (const text of texts(100)) assert.strictEqual(yield* send(text), `re ${text}`)
    assert.strictEqual(sink.status.state, "Open")
    assert.deepInclude(counts(), { size: 1, idle: 1, waiting: 0, connects: 1 })
  })

  test("with a high mark of 100 makes 100 connections for 100 calls at once, and lets the next ones wait", function*() {
    const { counts, holdReplies, reply, script, sent, start: run } = yield* pooled({ high: 100 })
    holdReplies()
    const fibers = yield* Effect.forEach(texts(150), (text) => run(text))
    assert.deepInclude(counts(), { size: 100, idle: 0, waiting: 50, connects: 100 })
    assert.deepStrictEqual(script.live().map(({ outstanding }) => outstanding), texts(100).map(() => 1))
    for (const text of texts(150)) yield* reply(text)
    const replies = yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber))
    assert.deepStrictEqual(replies, texts(150).map((text) => `re ${text}`))
    assert.deepStrictEqual(sent, texts(150))
    assert.deepInclude(counts(), { size: 100, idle: 100, waiting: 0, connects: 100 })
  })

  test("opens 64 connections for ten rounds of 64 calls at once, not one a call as Scales does", function*() {
    const { counts, holdReplies, reply, start: run } = yield* pooled()
    holdReplies()
    for (let round = 0; round < 10; round++) {
      const fibers = yield* Effect.forEach(texts(64), (text) => run(text))
      for (const text of texts(64)) yield* reply(text)
      for (const fiber of fibers) yield* Fiber.join(fiber)
      yield* TestClock.adjust("1 second")
    }
    assert.deepInclude(counts(), { size: 64, connects: 64 })
  })

  test("gives a freed connection to the call that has waited longest", function*() {
    const { counts, holdReplies, reply, sent, start: run } = yield* pooled({ high: 1 })
    holdReplies()
    for (const text of texts(100)) yield* run(text)
    for (let index = 0; index < 100; index++) {
      assert.deepStrictEqual(sent, texts(index + 1))
      yield* reply(String(index))
    }
    assert.deepInclude(counts(), { size: 1, idle: 1, connects: 1 })
  })

  test("lets no call overtake those that wait, not even the one that has just had the connection", function*() {
    const { counts, holdReplies, reply, script, send, start: run } = yield* pooled({ high: 1 })
    holdReplies()
    yield* run("first")
    const sent: Array<string> = []
    script.answer = (request: string) => Effect.sync(() => String(sent.push(request)))
    const twice = yield* start(Effect.andThen(send("a"), send("a again")))
    const once = yield* run("b")
    yield* reply("first")
    assert.deepStrictEqual([yield* Fiber.join(twice), yield* Fiber.join(once)], ["3", "2"])
    assert.deepStrictEqual(sent, ["a", "b", "a again"])
    assert.deepInclude(counts(), { size: 1, idle: 1, connects: 1 })
  })

  test("uses the connection that was used last, so that the others may be closed", function*() {
    const { holdReplies, reply, script, send, start: run, used } = yield* pooled()
    holdReplies()
    for (const text of ["a", "b", "c"]) yield* run(text)
    for (const text of ["b", "a", "c"]) yield* reply(text)
    yield* run("d")
    assert.deepStrictEqual(used(), [script.connections[2]])
    yield* run("e")
    assert.deepStrictEqual(used(), [script.connections[0], script.connections[2]])
    yield* reply("d")
    yield* reply("e")
    yield* start(send("f"))
    assert.deepStrictEqual(used(), [script.connections[0]])
  })

  test("serves 10,000 waiting calls that are answered at once in a loop, not one inside of the other", function*() {
    const { counts, holdReplies, outcomes, reply, script, send, start: run } = yield* pooled({ high: 1 })
    holdReplies()
    yield* run("first")
    script.answer = (request: string) => Effect.succeed(request)
    const all = yield* start(Effect.forEach(texts(10_000), (text) => send(text), { concurrency: "unbounded" }))
    assert.strictEqual(counts().waiting, 10_000)
    yield* reply("first")
    assert.deepStrictEqual(yield* Fiber.join(all), texts(10_000))
    assert.strictEqual(outcomes.length, 10_001)
    assert.deepInclude(counts(), { size: 1, idle: 1, waiting: 0, connects: 1 })
  })

  test("does not let a slow call keep others waiting as long as it may connect", function*() {
    const { counts, holdReplies, script, send, start: run } = yield* pooled({ high: 2 })
    holdReplies()
    yield* run("slow")
    script.answer = (request: string) => Effect.succeed(request)
    for (const text of texts(10)) assert.strictEqual(yield* send(text), text)
    assert.deepInclude(counts(), { size: 2, idle: 1, connects: 2 })
  })
})

describe("a call that waits in a watermark pool's queue", () => {
  test("leaves no trace when it is interrupted or aborted, and the others keep their order", function*() {
    const { counts, holdReplies, outcomes, reply, sent, start: run } = yield* pooled({ high: 1 })
    holdReplies()
    yield* run("first")
    const calls = texts(6).map(() => makeCall())
    const fibers = yield* Effect.forEach(calls, (call, index) => run(String(index), call))
    for (const index of [0, 3]) yield* stop(fibers[index]!)
    for (const index of [1, 5]) calls[index]!.abort.abort(timeout)
    for (const index of [1, 5]) {
      const error = yield* Effect.flip(Fiber.join(fibers[index]!))
      assert.deepInclude(error, { _tag: "Timeout", waiting: "queue", reached: "no", endpoint })
    }
    assert.strictEqual(counts().waiting, 2)
    for (const text of ["first", "2", "4"]) yield* reply(text)
    assert.deepStrictEqual(sent, ["first", "2", "4"])
    assert.deepStrictEqual(calls.map(({ abort }) => abort.listeners), [0, 0, 0, 0, 0, 0])
    assert.deepStrictEqual(outcomes.toSorted(), [
      "failure",
      "failure",
      "ignored",
      "ignored",
      ...texts(3).map(() => "success")
    ])
    assert.deepInclude(counts(), { size: 1, idle: 1, waiting: 0 })
  })

  test("and times out there does not take the pool's connection with it", function*() {
    const { counts, holdReplies, reply, script, send, start: run } = yield* pooled({ high: 1 })
    holdReplies()
    const slow = yield* run("slow")
    for (const text of texts(10)) {
      const call = makeCall()
      const late = yield* run(text, call)
      call.abort.abort(timeout)
      assert.strictEqual((yield* Effect.flip(Fiber.join(late)))._tag, "Timeout")
    }
    yield* reply("slow")
    assert.strictEqual(yield* Fiber.join(slow), "re slow")
    script.answer = (request: string) => Effect.succeed(request)
    assert.strictEqual(yield* send("next"), "next")
    assert.deepInclude(counts(), { size: 1, idle: 1, connects: 1 })
  })

  test("is refused at once when it finds the queue full, and is not when a place is free again", function*() {
    const { counts, holdReplies, outcomes, reply, send, start: run } = yield* pooled({ high: 2, maxWaiters: 3 })
    holdReplies()
    for (const text of ["a", "b"]) yield* run(text)
    const waiting = yield* Effect.forEach(["c", "d", "e"], (text) => run(text))
    const full = { _tag: "MaxWaiters", endpoint, max: 3, reached: "no", retryable: true } as const
    assert.deepInclude(yield* Effect.flip(send("f")), full)
    assert.deepStrictEqual(outcomes, ["rejected"])
    yield* stop(waiting[1]!)
    const late = yield* run("g")
    assert.deepInclude(yield* Effect.flip(send("h")), full)
    for (const text of ["a", "b", "c", "e", "g"]) yield* reply(text)
    assert.strictEqual(yield* Fiber.join(late), "re g")
    assert.deepInclude(counts(), { size: 2, waiting: 0, refused: 2 })
  })

  test("is there only with leave to: with no place at all, calls beyond the high mark are refused", function*() {
    const { counts, holdReplies, holdConnects, send, start: run } = yield* pooled({ high: 1, maxWaiters: 0 })
    holdReplies()
    const connects = holdConnects()
    const first = yield* run("a")
    assert.strictEqual((yield* Effect.flip(send("b")))._tag, "MaxWaiters")
    yield* stop(first)
    // The connect that nobody waits for any more is there for the next.
    yield* run("c")
    assert.strictEqual((yield* Effect.flip(send("d")))._tag, "MaxWaiters")
    assert.strictEqual(connects.begun(), 1)
    yield* connects.decide(0)
    assert.deepInclude(counts(), { size: 1, idle: 0, waiting: 0, refused: 2 })
  })

  test("was aborted before it came fails without a place or a connection", function*() {
    const { counts, outcomes, send } = yield* pooled()
    const call = makeCall()
    call.abort.abort({ _tag: "Superseded" })
    assert.strictEqual((yield* Effect.flip(send("a", call)))._tag, "Superseded")
    assert.deepInclude(counts(), { size: 0, connects: 0 })
    assert.deepStrictEqual(outcomes, ["ignored"])
  })
})

describe("a connection of a watermark pool", () => {
  test("that breaks fails its own call only, and whoever waits gets a new one", function*() {
    const { counts, holdReplies, reply, script, sink, start: run } = yield* pooled({ high: 2 })
    holdReplies()
    const a = yield* run("a")
    const b = yield* run("b")
    const c = yield* run("c")
    const [first] = script.live()
    first!.status.set("Closed", reset)
    assert.deepInclude(yield* Effect.flip(Fiber.join(a)), { _tag: "ConnectionClosed", reached: "maybe" })
    yield* settle
    assert.deepInclude(counts(), { size: 2, waiting: 0, connects: 3 })
    assert.deepStrictEqual([first!.released, first!.status.listeners, sink.status.state], [true, 0, "Open"])
    for (const text of ["b", "c"]) yield* reply(text)
    assert.deepStrictEqual([yield* Fiber.join(b), yield* Fiber.join(c)], ["re b", "re c"])
    assert.deepInclude(counts(), { size: 2, idle: 2, connects: 3 })
  })

  test("that died while it was idle is noticed before it is handed out: no call fails for it", function*() {
    const { counts, holdReplies, reply, script, send, start: run } = yield* pooled()
    holdReplies()
    for (const text of texts(5)) yield* run(text)
    for (const text of texts(5)) yield* reply(text)
    script.answer = (request: string) => Effect.succeed(request)
    for (const index of [4, 3, 1]) script.connections[index]!.status.set("Closed", index === 3 ? reset : undefined)
    assert.deepInclude(counts(), { size: 2, idle: 2 })
    for (const text of texts(10)) assert.strictEqual(yield* send(text), text)
    for (const index of [0, 2]) script.connections[index]!.status.set("Closed")
    assert.strictEqual(yield* send("new"), "new")
    assert.deepInclude(counts(), { size: 1, idle: 1, connects: 6 })
    assert.strictEqual(script.live().length, 1)
  })

  test("that died is noticed even when the pool has not been told yet", function*() {
    const { counts, script, send } = yield* pooled()
    yield* send("a")
    const [connection] = script.live()
    // A change in the middle of another is told when that one has been told to all.
    const during: Array<unknown> = []
    const off = connection!.status.subscribe(() => {
      off()
      connection!.status.set("Closed", reset)
      Effect.runFork(send("b")).addObserver((exit) => void during.push(exit))
    })
    connection!.status.set("Open", draining)
    yield* settle
    assert.deepStrictEqual(during, [Exit.succeed("re b")])
    assert.deepInclude(counts(), { size: 1, idle: 1, connects: 2 })
  })

  test("that drains finishes its call and takes no other, also when the next one is waiting", function*() {
    const { counts, holdReplies, reply, script, start: run, used } = yield* pooled({ high: 1 })
    holdReplies()
    const a = yield* run("a")
    const b = yield* run("b")
    const [old] = script.live()
    old!.status.set("Busy", draining)
    yield* reply("a")
    assert.strictEqual(yield* Fiber.join(a), "re a")
    assert.isTrue(old!.released)
    assert.deepStrictEqual(used(), [script.connections[1]])
    yield* reply("b")
    assert.strictEqual(yield* Fiber.join(b), "re b")
    assert.deepInclude(counts(), { size: 1, idle: 1, connects: 2 })
  })

  test("that drains and finishes its call is closed when nobody waits, too", function*() {
    const { counts, holdReplies, reply, script, sink, start: run } = yield* pooled()
    holdReplies()
    const fiber = yield* run("a")
    script.setState("h:1", "Busy", draining)
    assert.strictEqual(sink.status.state, "Open")
    yield* reply("a")
    assert.strictEqual(yield* Fiber.join(fiber), "re a")
    assert.deepInclude(counts(), { size: 0, idle: 0 })
    assert.deepStrictEqual([sink.status.state, script.live().length], ["Idle", 0])
  })

  test("that drains while it is idle is closed", function*() {
    const { counts, script, send, sink } = yield* pooled()
    yield* send("a")
    script.setState("h:1", "Busy", draining)
    assert.deepInclude(counts(), { size: 0, idle: 0 })
    assert.deepStrictEqual([script.live().length, sink.status.state, sink.status.fault], [0, "Idle", undefined])
    assert.strictEqual(yield* send("b"), "re b")
  })

  test("goes on to the next call when its transport finds it usable after an interrupted one", function*() {
    const { counts, holdReplies, reply, start: run } = yield* pooled({ high: 1 })
    holdReplies()
    const a = yield* run("a")
    const b = yield* run("b")
    yield* stop(a)
    yield* settle
    yield* reply("b")
    assert.strictEqual(yield* Fiber.join(b), "re b")
    assert.deepInclude(counts(), { size: 1, idle: 1, connects: 1 })
  })

  test("closed by its transport because its call was interrupted or timed out is replaced at once", function*() {
    const { counts, script, sink, start: run, used } = yield* pooled({ high: 1 })
    // As a transport of one call at a time does: the reply would reach the next caller.
    script.answer = () => Effect.onExit(Effect.never, () => Effect.sync(() => script.live()[0]!.status.set("Closed")))
    const call = makeCall()
    const interrupted = yield* run("a")
    const aborted = yield* run("b", call)
    yield* stop(interrupted)
    yield* settle
    assert.deepStrictEqual(used(), [script.connections[1]])
    script.answer = (request: string) => Effect.succeed(request)
    const last = yield* run("c")
    call.abort.abort(timeout)
    assert.deepInclude(yield* Effect.flip(Fiber.join(aborted)), { _tag: "Timeout", waiting: "reply", reached: "maybe" })
    assert.strictEqual(yield* Fiber.join(last), "c")
    assert.deepInclude(counts(), { size: 1, idle: 1, connects: 3 })
    assert.strictEqual(sink.status.state, "Open")
  })

  test("is kept until a response that outlives its call is released, and is handed on in that turn", function*() {
    const { counts, holdReplies, outcomes, reply, script, send, sent, start: run } = yield* pooled({ high: 1 })
    let release: (outcome: Outcome) => void = () => {}
    script.answer = (request: string, attempt) => {
      release = attempt.hold()
      return Effect.succeed(`head of ${request}`)
    }
    const call = makeCall()
    assert.strictEqual(yield* send("a", call), "head of a")
    holdReplies()
    const next = yield* run("b")
    yield* settle
    assert.deepInclude(counts(), { size: 1, idle: 0, waiting: 1 })
    assert.deepStrictEqual([sent, outcomes], [[], []])
    release("success")
    assert.deepStrictEqual([sent, outcomes], [["b"], ["success"]])
    yield* reply("b")
    assert.strictEqual(yield* Fiber.join(next), "re b")
    release("success")
    assert.deepInclude(counts(), { size: 1, idle: 1 })
    assert.strictEqual(call.abort.listeners, 0)
  })

  for (const before of [true, false]) {
    test(
      `whose held response is aborted is not handed on with half of it unread, heard ${
        before ? "before" : "after"
      } the hold`,
      function*() {
        const { counts, script, send, start: run, used } = yield* pooled({ high: 1 })
        script.answer = (_request: string, attempt) => {
          const [connection] = script.live()
          const body = { onAbort: () => connection!.status.set("Closed") }
          // Listeners are told in no promised order.
          if (before) attempt.abort.on(body)
          attempt.hold()
          if (!before) attempt.abort.on(body)
          return Effect.succeed("head")
        }
        const call = makeCall()
        assert.strictEqual(yield* send("a", call), "head")
        script.answer = () => Effect.never
        yield* run("b")
        call.abort.abort(timeout)
        yield* settle
        assert.deepStrictEqual([script.connections[0]!.released, script.connections[0]!.outstanding], [true, 0])
        assert.deepStrictEqual(used(), [script.connections[1]])
        assert.deepInclude(counts(), { size: 1, waiting: 0, connects: 2 })
      }
    )
  }

  test("that breaks between being handed out and being used fails the call as never sent", function*() {
    const { counts, holdReplies, reply, script, sent, start: run, send } = yield* pooled({ high: 1 })
    holdReplies()
    yield* run("a")
    const scheduler = new YieldsOnce()
    const b = yield* start(Effect.provideService(send("b"), Scheduler.Scheduler, scheduler))
    scheduler.next = true
    const [connection] = script.live()
    scheduler.between = () => connection!.status.set("Closed", reset)
    yield* reply("a")
    const error = yield* Effect.flip(Fiber.join(b))
    assert.deepInclude(error, { _tag: "ConnectionClosed", reached: "no", retryable: true })
    assert.deepStrictEqual(sent, ["a"])
    assert.deepInclude(counts(), { size: 0, idle: 0, waiting: 0 })
  })
})

describe("connecting, a watermark pool,", () => {
  test("gives the connection of a caller that left to whoever waits, or keeps it", function*() {
    const { counts, holdConnects, script, send, start: run } = yield* pooled({ high: 1 })
    const connects = holdConnects()
    const calls = [makeCall(), makeCall(), makeCall()]
    const first = yield* run("a", calls[0])
    const second = yield* run("b", calls[1])
    const third = yield* run("c", calls[2])
    yield* stop(first)
    // What was promised to the first is promised to the next.
    calls[1]!.abort.abort(timeout)
    assert.deepInclude(yield* Effect.flip(Fiber.join(second)), {
      _tag: "Timeout",
      waiting: "connection",
      reached: "no"
    })
    yield* connects.decide(0)
    assert.strictEqual(yield* Fiber.join(third), "re c")
    assert.deepInclude(counts(), { size: 1, idle: 1, connects: 1 })
    script.connections[0]!.status.set("Closed")
    yield* stop(yield* run("d"))
    yield* connects.decide(1)
    assert.deepInclude(counts(), { size: 1, idle: 1, waiting: 0, connects: 2 })
    assert.strictEqual(yield* send("e"), "re e")
    assert.strictEqual(connects.begun(), 2)
    assert.deepStrictEqual(calls.map(({ abort }) => abort.listeners), [0, 0, 0])
  })

  test("tells a call that times out whether it waited for a connection or for its turn", function*() {
    const { holdConnects, start: run } = yield* pooled({ high: 2 })
    holdConnects()
    const calls = texts(3).map(() => makeCall())
    const fibers = yield* Effect.forEach(calls, (call, index) => run(String(index), call))
    for (const { abort } of calls.toReversed()) abort.abort(timeout)
    const errors = yield* Effect.forEach(fibers, (fiber) => Effect.flip(Fiber.join(fiber)))
    const waits = errors.map((error) => error._tag === "Timeout" ? error.waiting : error._tag)
    assert.deepStrictEqual(waits, ["connection", "connection", "queue"])
  })

  test("counts how long each call waited that had to, whatever became of it, and nothing of the others", function*() {
    const { close, holdReplies, reply, start: run } = yield* pooled({ high: 1 })
    const waits = Effect.map(Metric.snapshot, (all) => {
      const { state } = all.find(({ id }) => id === "scales.pool.wait_ms")!
      const { count, sum } = state as unknown as { readonly count: number; readonly sum: number }
      return [count, sum]
    })
    holdReplies()
    yield* run("made for it")
    assert.deepStrictEqual(yield* waits, [1, 0])
    const aborted = makeCall()
    yield* run("aborted", aborted)
    const left = yield* run("left")
    yield* run("served")
    yield* run("closed")
    yield* TestClock.adjust("10 millis")
    aborted.abort.abort(timeout)
    yield* settle
    assert.deepStrictEqual(yield* waits, [2, 10])
    yield* TestClock.adjust("10 millis")
    yield* stop(left)
    assert.deepStrictEqual(yield* waits, [3, 30])
    yield* TestClock.adjust("10 millis")
    yield* reply("made for it")
    assert.deepStrictEqual(yield* waits, [4, 60])
    yield* TestClock.adjust("10 millis")
    yield* close
    assert.deepStrictEqual(yield* waits, [5, 100])
  })

  test("serves the call that has waited longest with what comes first: a freed connection, or another's", function*() {
    const { counts, holdConnects, holdReplies, reply, sent, start: run } = yield* pooled({ high: 3 })
    holdReplies()
    yield* run("a")
    const connects = holdConnects()
    for (const text of ["b", "c", "d"]) yield* run(text)
    assert.deepInclude(counts(), { size: 3, waiting: 3, connects: 3 })
    yield* connects.decide(1)
    assert.deepStrictEqual(sent, ["a", "b"])
    yield* reply("a")
    assert.deepStrictEqual(sent, ["a", "b", "c"])
    // What was begun for it goes to the next.
    yield* connects.decide(0)
    assert.deepStrictEqual(sent, ["a", "b", "c", "d"])
    assert.deepInclude(counts(), { size: 3, idle: 0, waiting: 0, connects: 3 })
  })

  test("keeps a connection that nobody needs any more when it is there", function*() {
    const { counts, holdConnects, holdReplies, reply, sent, start: run } = yield* pooled()
    holdReplies()
    yield* run("a")
    const connects = holdConnects()
    yield* run("b")
    yield* reply("a")
    assert.deepStrictEqual(sent, ["a", "b"])
    assert.deepInclude(counts(), { size: 2, idle: 0, waiting: 0 })
    yield* connects.decide(0)
    assert.deepInclude(counts(), { size: 2, idle: 1, connects: 2 })
    // It is used before another is begun.
    yield* run("c")
    assert.strictEqual(connects.begun(), 1)
  })

  test("begins no other connect while there is one that nobody waits for", function*() {
    const { counts, holdConnects, start: run } = yield* pooled()
    const connects = holdConnects()
    for (let round = 0; round < 5; round++) yield* stop(yield* run("a"))
    assert.strictEqual(connects.begun(), 1)
    const last = yield* run("b")
    yield* connects.decide(0)
    assert.strictEqual(yield* Fiber.join(last), "re b")
    assert.deepInclude(counts(), { size: 1, idle: 1, connects: 1 })
  })

  test("fails one call for a refused connect while others have theirs, and does not count it as open", function*() {
    const { counts, holdConnects, holdReplies, reply, sent, sink, start: run } = yield* pooled({ high: 4 })
    holdReplies()
    const live = yield* run("live")
    const connects = holdConnects()
    const fibers = yield* Effect.forEach(["b", "c", "d"], (text) => run(text))
    yield* connects.decide(1, refused)
    assert.strictEqual(yield* Effect.flip(Fiber.join(fibers[0]!)), refused)
    assert.deepInclude(counts(), { size: 3, waiting: 2, connectFailures: 1 })
    assert.strictEqual(sink.status.state, "Open")
    yield* connects.decide(0)
    yield* connects.decide(2)
    assert.deepStrictEqual(sent, ["live", "c", "d"])
    for (const text of ["live", "c", "d"]) yield* reply(text)
    assert.strictEqual(yield* Fiber.join(live), "re live")
    assert.deepInclude(counts(), { size: 3, idle: 3, connects: 4, connectFailures: 1 })
  })

  test("while every connect is refused takes no call from a connection that works, as Scales does", function*() {
    const { counts, holdReplies, reply, script, send, start: run } = yield* pooled({ high: 2 })
    holdReplies()
    const live = yield* run("live")
    script.refuse("h:1")
    for (const text of texts(50)) assert.strictEqual((yield* Effect.flip(send(text)))._tag, "ConnectFailed")
    yield* reply("live")
    assert.strictEqual(yield* Fiber.join(live), "re live")
    script.answer = (request: string) => Effect.succeed(request)
    for (const text of texts(10)) assert.strictEqual(yield* send(text), text)
    assert.deepInclude(counts(), { size: 1, idle: 1, connects: 51, connectFailures: 50 })
  })

  test("begins another connect for the next in the queue when one was refused and there are connections", function*() {
    const { counts, holdConnects, holdReplies, sent, start: run } = yield* pooled({ high: 2 })
    holdReplies()
    yield* run("live")
    const connects = holdConnects()
    const fibers = yield* Effect.forEach(["b", "c", "d"], (text) => run(text))
    yield* connects.decide(0, refused)
    yield* connects.decide(1, refused)
    yield* connects.decide(2)
    assert.deepStrictEqual(
      [yield* Effect.flip(Fiber.join(fibers[0]!)), yield* Effect.flip(Fiber.join(fibers[1]!))],
      [refused, refused]
    )
    assert.deepStrictEqual(sent, ["live", "d"])
    assert.deepInclude(counts(), { size: 2, waiting: 0, connects: 4, connectFailures: 2 })
  })

  test("lets those who wait for a turn wait for other connects, and fails them with the last", function*() {
    const { counts, holdConnects, sink, start: run } = yield* pooled({ high: 2 })
    const connects = holdConnects()
    const fibers = yield* Effect.forEach(texts(6), (text) => run(text))
    const opening = yield* start(sink.open)
    yield* connects.decide(1, refused)
    assert.strictEqual(yield* Effect.flip(Fiber.join(fibers[0]!)), refused)
    assert.deepInclude(counts(), { size: 1, waiting: 5, connects: 2 })
    assert.deepStrictEqual([sink.status.state, sink.status.fault], ["Closed", refused])
    const last = new ConnectFailed({ endpoint, phase: "connect", cause: "timed out" })
    yield* connects.decide(0, last)
    for (const fiber of [...fibers.slice(1), opening]) {
      assert.strictEqual(yield* Effect.flip(Fiber.join<unknown, RpcError>(fiber)), last)
    }
    assert.deepStrictEqual([sink.status.state, sink.status.fault], ["Closed", last])
    assert.deepInclude(counts(), { size: 0, waiting: 0, connects: 2, connectFailures: 2 })
  })

  test("goes on as before when one connect was refused and another succeeds", function*() {
    const { counts, holdConnects, holdReplies, sent, sink, start: run } = yield* pooled({ high: 2 })
    holdReplies()
    const connects = holdConnects()
    for (const text of texts(5)) yield* run(text)
    yield* connects.decide(1, refused)
    yield* connects.decide(0)
    assert.deepStrictEqual([sink.status.state, sink.status.fault], ["Open", undefined])
    assert.deepStrictEqual(sent, ["1"])
    // The place that the refused one had is used again.
    assert.deepInclude(counts(), { size: 2, waiting: 3, connects: 3 })
    yield* connects.decide(2)
    assert.deepStrictEqual(sent, ["1", "2"])
  })

  test("begins one connect for each call that comes after a refusal, for whoever has waited longest", function*() {
    const { counts, holdConnects, holdReplies, sent, start: run } = yield* pooled({ high: 3 })
    holdReplies()
    const connects = holdConnects()
    for (const text of texts(5)) yield* run(text)
    yield* connects.decide(0, refused)
    assert.deepInclude(counts(), { size: 2, waiting: 4, connects: 3 })
    yield* run("5")
    assert.deepInclude(counts(), { size: 3, waiting: 5, connects: 4 })
    for (const index of [3, 2, 1]) yield* connects.decide(index)
    assert.deepStrictEqual(sent, ["1", "2", "3"])
  })

  test("fails nobody for a refused connect that nobody waits for any more", function*() {
    const { counts, holdConnects, holdReplies, reply, sink, start: run } = yield* pooled()
    holdReplies()
    const a = yield* run("a")
    const connects = holdConnects()
    const b = yield* run("b")
    yield* reply("a")
    yield* connects.decide(0, refused)
    yield* reply("b")
    assert.deepStrictEqual([yield* Fiber.join(a), yield* Fiber.join(b)], ["re a", "re b"])
    assert.strictEqual(sink.status.state, "Open")
    assert.deepInclude(counts(), { size: 1, idle: 1, connectFailures: 1 })
  })

  test("says that a call which could not connect never ran, whatever connecting met", function*() {
    const { script, send, sink } = yield* pooled()
    const garbage = new ProtocolError({ endpoint, what: "garbage in the handshake", cause: undefined })
    for (const met of [Effect.fail(garbage), Effect.die(new Error("a defect"))]) {
      script.connecting = () => met
      const error = yield* Effect.flip(send("a"))
      assert.deepInclude(error, { _tag: "ConnectFailed", reached: "no", retryable: true })
      assert.match(error.message, /garbage in the handshake|a defect/)
      assert.strictEqual(sink.status.fault, error)
    }
  })

  test("takes a connection that is born unhealthy for one that could not be made", function*() {
    const { counts, script, send, sink } = yield* pooled()
    for (const fault of [reset, undefined, draining]) {
      script.born = { state: fault === draining ? "Busy" : "Closed", fault }
      const error = yield* Effect.flip(send("a"))
      assert.deepInclude(error, { _tag: "ConnectFailed", reached: "no" })
      assert.include(error.message, fault?.message ?? "closed at once")
      assert.deepStrictEqual([sink.status.state, sink.status.fault], ["Closed", error])
      assert.lengthOf(script.live(), 0)
    }
    assert.deepInclude(counts(), { size: 0, connects: 3, connectFailures: 0, dead: 3 })
    script.born = undefined
    assert.strictEqual(yield* send("b"), "re b")
  })

  test("does not connect in a loop for one call when each connection breaks as soon as it is told of", function*() {
    const { counts, script, sink, start: run } = yield* pooled()
    script.answer = () => Effect.never
    sink.status.subscribe(() => {
      if (sink.status.state === "Open") script.breakAll("h:1")
    })
    assert.strictEqual((yield* Effect.flip(Fiber.join(yield* run("a"))))._tag, "ConnectionClosed")
    assert.deepInclude(counts(), { size: 0, waiting: 0, connects: 1 })
  })
})

describe("the status of a watermark pool", () => {
  test("is Closed with the fault when its last connection breaks, and Open with the next", function*() {
    const { holdReplies, script, send, sink, start: run } = yield* pooled()
    const states: Array<string> = []
    sink.status.subscribe(() => void states.push(`${sink.status.state} ${sink.status.fault?._tag ?? "-"}`))
    holdReplies()
    for (const text of texts(3)) yield* run(text)
    for (const connection of script.live()) connection.status.set("Closed", reset)
    assert.deepStrictEqual(states, ["Open -", "Closed ConnectionClosed"])
    script.answer = (request: string) => Effect.succeed(request)
    yield* send("a")
    assert.deepStrictEqual(states.slice(2), ["Open -"])
  })

  test("is Idle when its last connection was drained, or closed after a call that left it", function*() {
    const { script, send, sink } = yield* pooled()
    yield* send("a")
    script.breakAll("h:1", { drained: true })
    assert.deepStrictEqual([sink.status.state, sink.status.fault], ["Idle", undefined])
  })

  test("is Closed when its last connection ends in good order after another was refused, and not once one was had", function*() {
    const { holdReplies, script, sink, start: run } = yield* pooled()
    holdReplies()
    yield* run("a")
    script.refuse("h:1")
    yield* run("b")
    assert.strictEqual(sink.status.state, "Open", "what it has is good still")
    script.breakAll("h:1", { drained: true })
    assert.deepStrictEqual([sink.status.state, sink.status.fault?._tag], ["Closed", "ConnectFailed"])
    script.accept("h:1")
    yield* run("c")
    script.breakAll("h:1", { drained: true })
    assert.deepStrictEqual([sink.status.state, sink.status.fault], ["Idle", undefined])
  })

  test("does not show its connections' faults while it has a good one", function*() {
    const { holdReplies, script, sink, start: run } = yield* pooled()
    holdReplies()
    for (const text of texts(3)) yield* run(text)
    script.connections[0]!.status.set("Closed", reset)
    script.connections[1]!.status.set("Busy", draining)
    assert.deepStrictEqual([sink.status.state, sink.status.fault], ["Open", undefined])
  })
})

describe("opening a watermark pool", () => {
  test("makes one connection ready, which the next call uses", function*() {
    const { counts, send, sink } = yield* pooled()
    for (let round = 0; round < 3; round++) yield* sink.open
    assert.deepInclude(counts(), { size: 1, idle: 1, connects: 1 })
    assert.strictEqual(sink.status.state, "Open")
    yield* send("a")
    assert.deepInclude(counts(), { connects: 1 })
  })

  test("joins a connect under way, also one begun for a call, and ends when its status says so", function*() {
    const { counts, holdConnects, holdReplies, sink, start: run } = yield* pooled({ high: 1 })
    holdReplies()
    const connects = holdConnects()
    const first = yield* start(sink.open)
    yield* run("a")
    const states: Array<string> = []
    const second = yield* start(Effect.tap(sink.open, Effect.sync(() => void states.push(sink.status.state))))
    const left = yield* start(sink.open)
    yield* stop(left)
    assert.strictEqual(connects.begun(), 1)
    yield* connects.decide(0)
    yield* Fiber.join(first)
    yield* Fiber.join(second)
    assert.deepStrictEqual(states, ["Open"])
    assert.deepInclude(counts(), { size: 1, idle: 0, waiting: 0, connects: 1 })
  })

  test("fails with why it could not, and tries again when it is asked again", function*() {
    const { counts, script, sink } = yield* pooled()
    script.refuse("h:1")
    for (let round = 0; round < 3; round++) {
      assert.strictEqual((yield* Effect.flip(sink.open))._tag, "ConnectFailed")
    }
    assert.deepInclude(counts(), { size: 0, connects: 3 })
    script.accept("h:1")
    yield* sink.open
    assert.strictEqual(sink.status.state, "Open")
  })
})

describe("a watermark pool, as time passes,", () => {
  const burst =
    (pool: { start: (text: string) => Effect.Effect<unknown>; reply: (text: string) => Effect.Effect<void> }) =>
    (count: number) =>
      Effect.gen(function*() {
        for (const text of texts(count)) yield* pool.start(text)
        for (const text of texts(count)) yield* pool.reply(text)
      })

  test("closes what has been idle for its time, down to the low mark", function*() {
    const pool = yield* pooled({ low: 2, idleTime: "10 seconds" })
    pool.holdReplies()
    yield* burst(pool)(5)
    yield* TestClock.adjust("9999 millis")
    assert.deepInclude(pool.counts(), { size: 5, idle: 5 })
    yield* TestClock.adjust("1 millis")
    assert.deepInclude(pool.counts(), { size: 2, idle: 2 })
    // Those idle for longest are gone.
    assert.deepStrictEqual(pool.script.connections.map(({ released }) => released), [true, true, true, false, false])
    yield* TestClock.adjust("1 hour")
    assert.deepInclude(pool.counts(), { size: 2, idle: 2 })
    assert.strictEqual(pool.stack.deadlines.size, 0)
  })

  test("closes all of them without a low mark, and is Idle then", function*() {
    const { counts, script, send, sink } = yield* pooled()
    yield* send("a")
    yield* TestClock.adjust("59 seconds")
    yield* send("b")
    yield* TestClock.adjust("59 seconds")
    assert.deepInclude(counts(), { size: 1, connects: 1 })
    yield* TestClock.adjust("1 second")
    assert.deepInclude(counts(), { size: 0, idle: 0 })
    assert.deepStrictEqual([sink.status.state, sink.status.fault, script.live().length], ["Idle", undefined, 0])
    assert.strictEqual(yield* send("c"), "re c")
  })

  test("never closes one that is used", function*() {
    const { counts, holdReplies, reply, script, start: run } = yield* pooled({ idleTime: "1 second" })
    holdReplies()
    const slow = yield* run("slow")
    yield* run("fast")
    yield* reply("fast")
    yield* TestClock.adjust("1 minute")
    assert.deepInclude(counts(), { size: 1, idle: 0 })
    assert.deepStrictEqual(script.connections.map(({ released }) => released), [false, true])
    yield* reply("slow")
    assert.strictEqual(yield* Fiber.join(slow), "re slow")
    yield* TestClock.adjust("999 millis")
    assert.deepInclude(counts(), { size: 1, idle: 1 })
  })

  test("keeps a connection by its low mark only as long as there are no more", function*() {
    const { counts, holdReplies, script, send, start: run } = yield* pooled({ low: 1, idleTime: "10 seconds" })
    yield* send("a")
    yield* TestClock.adjust("1 hour")
    assert.deepInclude(counts(), { size: 1, idle: 1 })
    holdReplies()
    for (const text of texts(2)) yield* run(text)
    yield* stop(yield* run("c"))
    yield* settle
    // Two are used, one is idle: above the mark.
    yield* TestClock.adjust("10 seconds")
    assert.deepInclude(counts(), { size: 2, idle: 0 })
    assert.isTrue(script.connections[2]!.released)
  })

  test("closes one kept by the low mark as soon as its time is over and another is there", function*() {
    const pool = yield* pooled({ low: 1, idleTime: "10 seconds" })
    const { counts, holdConnects, holdReplies, reply, script, start: run } = pool
    holdReplies()
    yield* run("a")
    const connects = holdConnects()
    yield* run("b")
    yield* reply("a")
    yield* reply("b")
    yield* TestClock.adjust("1 minute")
    assert.deepInclude(counts(), { size: 2, idle: 1 })
    yield* connects.decide(0)
    assert.deepInclude(counts(), { size: 1, idle: 1 })
    assert.deepStrictEqual(script.connections.map(({ released }) => released), [true, false])
  })

  test("closes an idle connection that has reached its age, also by the low mark", function*() {
    const { counts, script, send } = yield* pooled({ low: 1, lifeTime: "1 minute" })
    yield* send("a")
    yield* TestClock.adjust("59 seconds")
    yield* send("b")
    assert.deepInclude(counts(), { size: 1, connects: 1 })
    yield* TestClock.adjust("1 second")
    assert.deepInclude(counts(), { size: 0, idle: 0 })
    assert.isTrue(script.connections[0]!.released)
    yield* send("c")
    assert.deepInclude(counts(), { size: 1, connects: 2 })
  })

  test("hands out none that has reached its age in this very moment", function*() {
    const { counts, script, send } = yield* pooled({ lifeTime: "1 minute" })
    // Wakes up before the pool does.
    const late = yield* start(Effect.delay(send("b"), "1 minute"))
    yield* send("a")
    yield* TestClock.adjust("1 minute")
    assert.strictEqual(yield* Fiber.join(late), "re b")
    assert.deepInclude(counts(), { size: 1, connects: 2 })
    assert.isTrue(script.connections[0]!.released)
  })

  test("lets a call on a connection that gets too old finish, and makes another for whoever waits", function*() {
    const { counts, holdReplies, reply, script, start: run, used } = yield* pooled({ high: 1, lifeTime: "1 minute" })
    holdReplies()
    const a = yield* run("a")
    const b = yield* run("b")
    yield* TestClock.adjust("2 minutes")
    assert.deepInclude(counts(), { size: 1, waiting: 1, connects: 1 })
    yield* reply("a")
    assert.strictEqual(yield* Fiber.join(a), "re a")
    assert.deepStrictEqual(used(), [script.connections[1]])
    yield* reply("b")
    assert.strictEqual(yield* Fiber.join(b), "re b")
    assert.deepInclude(counts(), { size: 1, idle: 1, connects: 2 })
  })
})

describe("closing a watermark pool", () => {
  test("closes its connections, fails those who wait, and refuses more", function*() {
    const { close, counts, holdReplies, reply, script, send, sink, stack, start: run } = yield* pooled({ high: 3 })
    holdReplies()
    const using = yield* Effect.forEach(["a", "b", "c"], (text) => run(text))
    yield* reply("c")
    yield* run("d")
    const calls = [makeCall(), makeCall()]
    const waiting = yield* Effect.forEach(calls, (call) => run("e", call))
    yield* close
    yield* close
    for (const fiber of waiting) {
      assert.deepInclude(yield* Effect.flip(Fiber.join(fiber)), { _tag: "StackClosed", reached: "no", endpoint })
    }
    for (const fiber of using.slice(0, 2)) {
      assert.strictEqual((yield* Effect.flip(Fiber.join(fiber)))._tag, "ConnectionClosed")
    }
    assert.isTrue(
      script.connections.every(({ outstanding, released, status }) =>
        released && outstanding === 0 && status.listeners === 0
      )
    )
    assert.deepStrictEqual([sink.status.state, sink.status.fault], ["Closed", undefined])
    for (const late of [send("f"), sink.open]) {
      const error = yield* Effect.flip(late as Effect.Effect<unknown, RpcError>)
      assert.deepInclude(error, { _tag: "StackClosed", reached: "no" })
    }
    assert.deepStrictEqual(calls.map(({ abort }) => abort.listeners), [0, 0])
    assert.deepInclude(counts(), { size: 0, idle: 0, waiting: 0, connects: 3 })
    assert.strictEqual(stack.deadlines.size, 0)
  })

  test("closes idle connections and their timers, and begins nothing new", function*() {
    const pool = yield* pooled({ lifeTime: "1 hour" })
    const { close, counts, holdReplies, reply, script, send, sink, stack, start: run } = pool
    holdReplies()
    for (const text of texts(3)) yield* run(text)
    for (const text of texts(3)) yield* reply(text)
    assert.strictEqual(stack.deadlines.size, 1)
    yield* close
    assert.deepStrictEqual([script.live().length, stack.deadlines.size, sink.status.state], [0, 0, "Closed"])
    assert.strictEqual((yield* Effect.flip(send("late")))._tag, "StackClosed")
    assert.deepInclude(counts(), { connects: 3 })
  })

  test("ends the connects under way, and fails who waits for them", function*() {
    const { close, script, sink, start: run } = yield* pooled()
    let ended = 0
    script.connecting = () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => void ended++))
    const calls = [makeCall(), makeCall()]
    const fibers = [
      yield* run("a", calls[0]),
      yield* run("b", calls[1]),
      yield* start(sink.open)
    ]
    yield* close
    assert.strictEqual(ended, 2)
    for (const fiber of fibers) {
      assert.strictEqual((yield* Effect.flip(Fiber.join<unknown, RpcError>(fiber)))._tag, "StackClosed")
    }
    assert.deepStrictEqual(calls.map(({ abort }) => abort.listeners), [0, 0])
    assert.lengthOf(script.live(), 0)
  })

  test("from a call that has just got a new connection stays closed", function*() {
    const { close, counts, holdConnects, script, send, sink, stack } = yield* pooled({ lifeTime: "1 hour" })
    const connects = holdConnects()
    const fiber = yield* start(Effect.tap(send("a"), close))
    yield* connects.decide(0)
    assert.strictEqual(yield* Fiber.join(fiber), "re a")
    assert.deepStrictEqual([sink.status.state, script.live().length, stack.deadlines.size], ["Closed", 0, 0])
    assert.deepInclude(counts(), { size: 0, idle: 0 })
  })

  test("closes a connection that still arrives", function*() {
    const { close, counts, script, sink, start: run } = yield* pooled({}, stubborn)
    const gate = Deferred.makeUnsafe<void>()
    script.connecting = () => Deferred.await(gate)
    const fiber = yield* run("a")
    yield* start(close)
    yield* Deferred.succeed(gate, undefined)
    yield* settle
    assert.strictEqual((yield* Effect.flip(Fiber.join(fiber)))._tag, "StackClosed")
    assert.deepStrictEqual([script.connections.length, script.live().length], [1, 0])
    assert.strictEqual(sink.status.state, "Closed")
    assert.deepInclude(counts(), { size: 0, idle: 0 })
  })
})

describe("a watermark pool's layer", () => {
  const build = (options?: WatermarkPool.WatermarkPoolOptions) =>
    Effect.scoped(Layer.build(
      WatermarkPool.layer(Text, options).pipe(
        Layer.provide(Scripted.layer(Text, Effect.succeed)),
        Layer.provideMerge(Stack.layer("text"))
      )
    ))

  test("refuses options out of their range by name", function*() {
    const wrong: ReadonlyArray<[WatermarkPool.WatermarkPoolOptions, string]> = [
      [{ low: -1 }, "low"],
      [{ low: 0.5 }, "low"],
      [{ low: 5, high: 4 }, "low"],
      [{ low: 513 }, "low"],
      [{ low: Infinity, high: 4 }, "low"],
      [{ high: 0 }, "high"],
      [{ high: 1.5 }, "high"],
      [{ high: NaN }, "high"],
      [{ maxWaiters: -1 }, "maxWaiters"],
      [{ idleTime: "-1 millis" }, "idleTime"],
      [{ idleTime: Infinity }, "idleTime"],
      [{ lifeTime: 0 }, "lifeTime"]
    ]
    for (const [options, option] of wrong) {
      const error: InvalidOption = yield* Effect.flip(build(options))
      assert.deepInclude(error, { _tag: "InvalidOption", option }, JSON.stringify(options))
    }
    for (const options of [{ low: 4, high: 4 }, { low: Infinity, high: Infinity }, { maxWaiters: Infinity }]) {
      yield* build(options)
    }
  })

  test("shows its options, and the numbers of all endpoints, until it is closed", function*() {
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(
      WatermarkPool.layer(Text, { high: 1, maxWaiters: 1 }).pipe(
        Layer.provideMerge(Scripted.layer(Text, () => Effect.never)),
        Layer.provideMerge(Stack.layer("text"))
      ),
      scope
    )
    yield* Effect.provideContext(
      Effect.gen(function*() {
        const stack = yield* Stack
        const script = yield* ScriptedConnector
        const { make } = yield* Text.Endpoints
        const send = (sink: Effect.Success<ReturnType<typeof make>>) =>
          start(Effect.exit(sink.send("a", beginAttempt(makeCall(), endpoint, stack.now))))
        for (let index = 0; index < 2; index++) {
          const sink = yield* Scope.provide(make(Endpoint.tcp("h", index + 1)), scope)
          for (let call = 0; call < 3; call++) yield* send(sink)
        }
        script.refuse("h:3")
        yield* send(yield* Scope.provide(make(Endpoint.tcp("h", 3)), scope))
        script.born = { state: "Closed" }
        yield* send(yield* Scope.provide(make(Endpoint.tcp("h", 4)), scope))
        script.born = undefined
        yield* (yield* Scope.provide(make(Endpoint.tcp("h", 5)), scope)).open
        const node = describeStack(stack).stages.find(({ role }) => role === "pool")!
        assert.deepStrictEqual(
          node.options,
          inForce({ low: 0, idleTime: "60000 ms", lifeTime: "Infinity" }, { high: 1, maxWaiters: 1 })
        )
        assert.deepStrictEqual(node.state, {
          size: 3,
          inUse: 2,
          idle: 1,
          waiting: 2,
          refused: 2,
          waited: 6,
          connects: 5,
          connectFailures: 1,
          dead: 1,
          closes: 0,
          connectMillis: { p50: 0, p99: 0 }
        })
      }),
      context
    )
    const shown = Effect.map(Metric.snapshot, (all) =>
      Object.fromEntries(
        all.filter(({ id }) => id.startsWith("scales.pool.")).map(({ attributes, id, state }) => [
          `${id.slice("scales.pool.".length)} ${attributes?.["client"]}`,
          "count" in state ? state.count : "value" in state ? state.value : undefined
        ])
      ))
    assert.deepStrictEqual(yield* shown, {
      "size text": 3,
      "in_use text": 2,
      "idle text": 1,
      "waiting text": 2,
      "refused text": 2,
      "waited text": 6,
      "wait_ms text": 4,
      "wait_quantiles_ms text": 4,
      "connects text": 5,
      "connect_failures text": 1,
      "dead text": 1,
      "closes text": 0,
      "connect_latency_ms text": 4
    })
    yield* Scope.close(scope, Exit.void)
    assert.deepStrictEqual(yield* shown, {})
  })
})
