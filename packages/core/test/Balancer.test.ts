import { assert, describe, it } from "@effect/vitest"
import {
  type Attempt,
  type Call,
  ConnectFailed,
  Endpoint,
  Nacked,
  type RpcError,
  ServerSet,
  ServerSetState,
  Stack
} from "@scales-rpc/core"
import { Seed, TestServerSet } from "@scales-rpc/core/testing"
import { Cause, type Context, Deferred, Effect, Exit, Fiber, Layer, Metric, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Heap } from "../src/internal/Heap.ts"
import * as Balancer from "../src/Balancer.ts"
import { endpoints, handEndpoints, makeCall, settle, start, stop } from "./support.ts"

const refused = (port: number) =>
  new ConnectFailed({ endpoint: Endpoint.tcp("h", port), phase: "connect", cause: "refused" })

/**
 * Members over endpoints made by hand, and a server set that the test pushes states into. The sink of an endpoint is made as it
 * joins unless the test is about just that.
 */
const balancedWith = (options: Balancer.BalancerOptions & { readonly lazy?: boolean }) =>
  Effect.gen(function*() {
    const hand = handEndpoints()
    const stack = yield* Stack
    const set = yield* TestServerSet
    const scope = yield* Scope.make()
    const heap = new Heap(stack.random)
    let control!: Balancer.Control
    const picker = (given: Balancer.Control) =>
      Effect.sync((): Balancer.Picker => {
        control = given
        return options.lazy === true ? heap : {
          ...heap,
          add: (member) => {
            heap.add(member)
            given.open(member)
            for (const made of hand.made) made.opens = 0
          }
        }
      })
    const { members, sink, view } = yield* Scope.provide(
      Balancer.make(stack, hand.factory, yield* ServerSet, picker, options),
      scope
    )
    const push = (state: ServerSetState) => Effect.andThen(set.push(state), settle)
    const bind = (...ports: ReadonlyArray<number>) => push(ServerSetState.Bound(endpoints(...ports)))
    const loads = () => Object.fromEntries(Array.from(members(), ({ endpoint, load }) => [endpoint.port, load]))
    /** A call that has been sent, in a fiber of its own. */
    const send = (text = "hi", call: Call = makeCall()) => start(sink.send(text, call))
    /** Opens an endpoint, as its pool would. */
    const up = (port: number) => hand.at(port).status.set("Open")
    const down = (port: number) => hand.at(port).status.set("Closed", refused(port))
    return {
      bind,
      close: Scope.close(scope, Exit.void),
      control,
      down,
      hand,
      heap,
      loads,
      members,
      push,
      send,
      sink,
      up,
      view
    }
  })

const balanced = balancedWith({})

const test = (name: string, body: () => Generator<Effect.Effect<any, any, any>, void>) =>
  it.effect(name, () =>
    Effect.gen(body).pipe(
      Effect.provide(Layer.mergeAll(TestServerSet.layer(), Stack.layer("text")).pipe(Layer.provide(Seed.layer(1))))
    ) as Effect.Effect<void>)

describe("the members of a set", () => {
  test("get a sink each when they join, none twice, and it is closed when they leave", function*() {
    const { bind, hand, heap, loads, push } = yield* balanced
    yield* bind(1, 2, 2, 1)
    assert.deepStrictEqual(hand.made.map(({ endpoint }) => endpoint.key), ["h:1", "h:2"])
    yield* bind(2, 3)
    assert.deepStrictEqual(hand.made.map(({ closed }) => closed), [true, false, false])
    assert.deepStrictEqual(loads(), { 2: 0, 3: 0 })
    yield* push(ServerSetState.Neg)
    assert.deepStrictEqual(hand.made.map(({ closed }) => closed), [true, true, true])
    assert.strictEqual(heap.size, 0)
    assert.deepStrictEqual(hand.made.map(({ status }) => status.listeners), [0, 0, 0])
  })

  test("stay when the same set is seen again, and when the stream of states ends", function*() {
    const hand = handEndpoints()
    const stack = yield* Stack
    const states = Stream.fromIterable([ServerSetState.Bound(endpoints(1)), ServerSetState.Bound(endpoints(1))])
    const heap = new Heap(stack.random)
    const { sink } = yield* Balancer.make(stack, hand.factory, states, () => Effect.succeed(heap))
    yield* settle
    const fiber = yield* start(sink.send("hi", makeCall()))
    assert.lengthOf(hand.made, 1)
    hand.at(1).pending[0]!.answer("hello")
    assert.strictEqual(yield* Fiber.join(fiber), "hello")
  })

  test("are counted by the attempts they have, whatever ends them", function*() {
    const { bind, hand, loads, send } = yield* balanced
    yield* bind(1)
    const aborted = makeCall()
    const fibers = [yield* send("a"), yield* send("b"), yield* send("c"), yield* send("d", aborted), yield* send("e")]
    assert.deepStrictEqual(loads(), { 1: 5 })
    const [answered, failed] = hand.at(1).pending
    answered!.answer("A")
    failed!.fail(refused(1))
    assert.deepStrictEqual(loads(), { 1: 3 })
    yield* stop(fibers[2]!)
    assert.deepStrictEqual(loads(), { 1: 2 })
    aborted.abort.abort({ _tag: "Timeout", timeoutMillis: 5 })
    assert.deepStrictEqual(loads(), { 1: 1 })
    hand.at(1).pending[0]!.answer("E")
    assert.deepStrictEqual(loads(), { 1: 0 })
  })

  test("count a streamed body until it ends", function*() {
    const { bind, hand, loads, send } = yield* balanced
    yield* bind(1)
    const fiber = yield* send()
    const [exchange] = hand.at(1).pending
    const release = exchange!.attempt.hold()
    exchange!.answer("head")
    assert.strictEqual(yield* Fiber.join(fiber), "head")
    assert.deepStrictEqual(loads(), { 1: 1 })
    release("success")
    assert.deepStrictEqual(loads(), { 1: 0 })
  })

  test("that leave with calls on them answer those, take no new ones, and are closed when the last has ended", function*() {
    const { bind, hand, heap, loads, send } = yield* balanced
    yield* bind(1)
    const first = yield* send("first")
    const second = yield* send("second")
    yield* bind(2)
    assert.isFalse(hand.at(1).closed)
    assert.strictEqual(heap.size, 1)
    const third = yield* send("third")
    assert.lengthOf(hand.at(2).pending, 1)
    hand.at(1).pending[0]!.answer("1")
    assert.isFalse(hand.at(1).closed)
    hand.at(1).pending[0]!.answer("2")
    assert.isTrue(hand.at(1).closed)
    assert.strictEqual(hand.at(1).status.listeners, 0)
    hand.at(2).pending[0]!.answer("3")
    assert.deepStrictEqual([yield* Fiber.join(first), yield* Fiber.join(second), yield* Fiber.join(third)], [
      "1",
      "2",
      "3"
    ])
    assert.deepStrictEqual(loads(), { 2: 0 })
  })

  test("that come back while they drain are taken up again, with their calls and their connection", function*() {
    const { bind, hand, heap, loads, send } = yield* balanced
    yield* bind(1)
    const fiber = yield* send()
    yield* bind()
    assert.strictEqual(heap.size, 0)
    yield* bind(1)
    assert.lengthOf(hand.made, 1)
    assert.deepStrictEqual(loads(), { 1: 1 })
    hand.at(1).pending[0]!.answer("same")
    assert.strictEqual(yield* Fiber.join(fiber), "same")
    assert.isFalse(hand.at(1).closed)
    assert.deepStrictEqual(loads(), { 1: 0 })
    yield* bind()
    assert.isTrue(hand.at(1).closed)
  })

  test("that come back after they were closed get a new sink", function*() {
    const { bind, hand } = yield* balanced
    yield* bind(1)
    yield* bind()
    yield* bind(1)
    assert.deepStrictEqual(hand.made.map(({ closed }) => closed), [true, false])
  })

  test("that went down while they drained are down when they come back", function*() {
    const { bind, down, hand, heap, send, up } = yield* balanced
    yield* bind(1, 2)
    up(1)
    up(2)
    const calls = [yield* send("a"), yield* send("b")]
    yield* bind(2)
    down(1)
    yield* bind(1, 2)
    assert.isTrue(heap.valid)
    yield* send("c")
    assert.lengthOf(hand.at(1).pending, 1)
    assert.lengthOf(hand.at(2).pending, 2)
    for (const call of calls) yield* stop(call)
  })

  test("take a new weight and new metadata in place", function*() {
    const { hand, heap, loads, push, send } = yield* balanced
    yield* push(ServerSetState.Bound([Endpoint.tcp("h", 1), Endpoint.tcp("h", 2)]))
    for (let i = 0; i < 8; i++) yield* send()
    assert.deepStrictEqual(loads(), { 1: 4, 2: 4 })
    yield* push(ServerSetState.Bound([
      Endpoint.tcp("h", 1, { weight: 3, metadata: { member: "member_1" } }),
      Endpoint.tcp("h", 2)
    ]))
    assert.isTrue(heap.valid)
    for (let i = 0; i < 8; i++) yield* send()
    assert.deepStrictEqual(loads(), { 1: 12, 2: 4 })
    assert.lengthOf(hand.made, 2)
    assert.deepStrictEqual(hand.at(1).pending.at(-1)!.attempt.endpoint.metadata, { member: "member_1" })
  })
})

describe("the states of a set", () => {
  test("that are stale change nothing once it was bound", function*() {
    const { bind, hand, loads, push } = yield* balanced
    yield* bind(1, 2)
    for (const state of [ServerSetState.Pending, ServerSetState.Failed("gone")]) {
      yield* push(state)
      assert.deepStrictEqual(loads(), { 1: 0, 2: 0 })
    }
    yield* bind(2)
    assert.deepStrictEqual(hand.made.map(({ closed }) => closed), [true, false])
  })

  test("without an endpoint fail calls at once", function*() {
    const { bind, push, sink } = yield* balanced
    const fail = () => Effect.flip(sink.send("hi", makeCall()))
    for (const state of [ServerSetState.Bound([]), ServerSetState.Neg]) {
      yield* push(state)
      const error = yield* fail()
      assert.strictEqual(error._tag, "NoEndpoints")
      assert.strictEqual(error.reached, "no")
      assert.strictEqual(error.message, `no endpoint for "text"`)
      assert.strictEqual((yield* Effect.flip(sink.open))._tag, "NoEndpoints")
    }
    yield* bind(1)
    yield* push(ServerSetState.Neg)
    assert.strictEqual((yield* fail())._tag, "NoEndpoints")
  })

  test("that failed before any was bound fail calls with the cause", function*() {
    const { bind, hand, push, send, sink } = yield* balanced
    yield* push(ServerSetState.Failed(new Error("no such zookeeper")))
    const error = yield* Effect.flip(sink.send("hi", makeCall()))
    assert.strictEqual(error._tag, "NoEndpoints")
    assert.strictEqual(error.message, `no endpoint for "text": no such zookeeper`)
    yield* bind(1)
    const fiber = yield* send()
    hand.at(1).pending[0]!.answer("hello")
    assert.strictEqual(yield* Fiber.join(fiber), "hello")
  })

  test("that are pending again before any was bound make calls wait again", function*() {
    const { bind, hand, push, send } = yield* balanced
    yield* push(ServerSetState.Failed("x"))
    yield* push(ServerSetState.Pending)
    const fiber = yield* send()
    assert.isUndefined(fiber.pollUnsafe())
    yield* bind(1)
    hand.at(1).pending[0]!.answer("hello")
    assert.strictEqual(yield* Fiber.join(fiber), "hello")
  })
})

describe("a call before there is an endpoint", () => {
  test("waits for the first state, and is sent when it comes", function*() {
    const { bind, hand, loads, send } = yield* balanced
    const call = makeCall()
    const fiber = yield* send("hi", call)
    assert.isUndefined(fiber.pollUnsafe())
    assert.strictEqual(call.abort.listeners, 1)
    yield* bind(1, 2)
    const [exchange] = [...hand.at(1).pending, ...hand.at(2).pending]
    exchange!.answer("hello")
    assert.strictEqual(yield* Fiber.join(fiber), "hello")
    assert.strictEqual(call.abort.listeners, 0)
    assert.deepStrictEqual(loads(), { 1: 0, 2: 0 })
  })

  test("fails with what the first state says", function*() {
    const { push, send } = yield* balanced
    const fiber = yield* send()
    yield* push(ServerSetState.Failed("gone"))
    const exit = yield* Fiber.await(fiber)
    assert.strictEqual(
      Exit.isFailure(exit) && String(Cause.squash(exit.cause)),
      `NoEndpoints: no endpoint for "text": gone`
    )
  })

  test("waits for the first to open when all are down, and is sent when one does", function*() {
    const { bind, down, hand, send, up } = yield* balanced
    yield* bind(1, 2)
    down(1)
    down(2)
    const call = makeCall()
    const fiber = yield* send("hi", call)
    assert.isUndefined(fiber.pollUnsafe())
    up(2)
    assert.lengthOf(hand.at(2).pending, 1)
    hand.at(2).pending[0]!.answer("hello")
    assert.strictEqual(yield* Fiber.join(fiber), "hello")
    assert.strictEqual(call.abort.listeners, 0)
  })

  test("is sent as soon as one can be used, open or not", function*() {
    for (const state of ["Idle", "Busy"] as const) {
      const { bind, close, down, hand, send } = yield* balanced
      yield* bind(1)
      down(1)
      const fiber = yield* send()
      hand.at(1).status.set(state)
      assert.lengthOf(hand.at(1).pending, 1, state)
      hand.at(1).pending[0]!.answer("hello")
      assert.strictEqual(yield* Fiber.join(fiber), "hello")
      yield* close
    }
  })

  test("makes the endpoints try to open now, and stops that when it leaves", function*() {
    const { bind, down, hand, send } = yield* balanced
    yield* bind(1)
    down(1)
    let ended = 0
    hand.at(1).opening = Effect.onInterrupt(Effect.never, () => Effect.sync(() => void ended++))
    const fiber = yield* send()
    assert.strictEqual(hand.at(1).opens, 1)
    yield* stop(fiber)
    assert.strictEqual(ended, 1)
  })

  test("is sent to one that joins while all others are down", function*() {
    const { bind, down, hand, send } = yield* balanced
    yield* bind(1)
    down(1)
    const fiber = yield* send()
    yield* bind(1, 2)
    hand.at(2).pending[0]!.answer("hello")
    assert.strictEqual(yield* Fiber.join(fiber), "hello")
  })

  test("does not wait when one that was open is down: it is sent to the least loaded", function*() {
    const { bind, down, hand, send, up } = yield* balanced
    yield* bind(1, 2)
    up(1)
    down(1)
    down(2)
    yield* send()
    yield* send()
    assert.deepStrictEqual([hand.at(1).pending.length, hand.at(2).pending.length], [1, 1])
  })

  test("leaves nothing behind when it is aborted while it waits, and says what it met", function*() {
    const { bind, down, loads, send, up } = yield* balanced
    const early = makeCall()
    const first = yield* send("hi", early)
    early.abort.abort({ _tag: "Timeout", timeoutMillis: 5 })
    const error = yield* Effect.flip(Fiber.join(first))
    assert.strictEqual((error as RpcError).message, "no reply within 5 ms, waiting for endpoint")
    yield* bind(1)
    down(1)
    const later = makeCall()
    const second = yield* send("hi", later)
    later.abort.abort({ _tag: "Timeout", timeoutMillis: 5 })
    assert.strictEqual(
      ((yield* Effect.flip(Fiber.join(second))) as RpcError).message,
      "no reply within 5 ms, waiting for endpoint: connect failed at h:1: refused"
    )
    up(1)
    assert.deepStrictEqual([early.abort.listeners, later.abort.listeners], [0, 0])
    assert.deepStrictEqual(loads(), { 1: 0 })
  })

  test("leaves nothing behind when it is interrupted while it waits", function*() {
    const { bind, hand, loads, send } = yield* balanced
    const call = makeCall()
    const fiber = yield* send("hi", call)
    yield* stop(fiber)
    assert.strictEqual(call.abort.listeners, 0)
    yield* bind(1)
    assert.lengthOf(hand.at(1).pending, 0)
    assert.deepStrictEqual(loads(), { 1: 0 })
  })

  test("that was aborted before it was sent is sent nowhere", function*() {
    const { bind, hand, sink } = yield* balanced
    yield* bind(1)
    const call = makeCall()
    call.abort.abort({ _tag: "Superseded" })
    assert.strictEqual((yield* Effect.flip(sink.send("hi", call)))._tag, "Superseded")
    assert.lengthOf(hand.at(1).pending, 0)
    assert.lengthOf(call.tried, 0)
  })
})

describe("an attempt", () => {
  test("goes to another endpoint than those the call was tried at", function*() {
    const { bind, hand, send } = yield* balanced
    yield* bind(1, 2, 3)
    const call = makeCall()
    for (let i = 0; i < 3; i++) yield* send("hi", call)
    assert.deepStrictEqual([1, 2, 3].map((port) => hand.at(port).pending.length), [1, 1, 1])
    assert.sameMembers(call.tried.map(({ key }) => key), ["h:1", "h:2", "h:3"])
    const numbers = [1, 2, 3].flatMap((port) => hand.at(port).pending.map(({ attempt }) => attempt.number))
    assert.sameMembers(numbers, [0, 1, 2])
  })

  test("tells its outcome to those who asked below", function*() {
    const { bind, hand, send } = yield* balanced
    yield* bind(1)
    const outcomes: Array<string> = []
    const watch = (attempt: Attempt) => attempt.onEnd((outcome) => outcomes.push(outcome))
    for (const end of ["answer", "nack", "break"]) {
      yield* send()
      const [exchange] = hand.at(1).pending
      watch(exchange!.attempt)
      if (end === "answer") exchange!.answer("A")
      else if (end === "nack") exchange!.fail(new Nacked({ endpoint: hand.at(1).endpoint, why: "", retryable: true }))
      else exchange!.fail(refused(1))
    }
    const fiber = yield* send()
    watch(hand.at(1).pending[0]!.attempt)
    yield* stop(fiber)
    assert.deepStrictEqual(outcomes, ["success", "rejected", "rejected", "ignored"])
  })

  test("is made anew each time that its effect is run", function*() {
    const { bind, hand, loads, sink } = yield* balanced
    yield* bind(1)
    const call = makeCall()
    const once = sink.send("hi", call)
    const both = [yield* start(once), yield* start(once)]
    assert.deepStrictEqual(loads(), { 1: 2 })
    hand.at(1).pending[0]!.answer("A")
    hand.at(1).pending[0]!.answer("B")
    assert.deepStrictEqual([yield* Fiber.join(both[0]!), yield* Fiber.join(both[1]!)], ["A", "B"])
    assert.deepStrictEqual(loads(), { 1: 0 })
  })
})

describe("the status of the whole", () => {
  test("is Idle until one was open, then its best member's", function*() {
    const { bind, down, hand, sink, up } = yield* balanced
    const faultTag = () => sink.status.fault?._tag
    assert.strictEqual(sink.status.state, "Idle")
    yield* bind(1, 2)
    down(1)
    down(2)
    assert.strictEqual(sink.status.state, "Idle")
    assert.strictEqual(faultTag(), "ConnectFailed")
    up(1)
    assert.strictEqual(sink.status.state, "Open")
    assert.isUndefined(faultTag())
    hand.at(1).status.set("Busy")
    assert.strictEqual(sink.status.state, "Busy")
    down(1)
    assert.strictEqual(sink.status.state, "Closed")
    assert.strictEqual(faultTag(), "ConnectFailed")
    up(2)
    assert.strictEqual(sink.status.state, "Open")
  })

  test("is Closed when the set is empty after one was open, and Open with the next endpoint", function*() {
    const { bind, sink, up } = yield* balanced
    yield* bind(1)
    up(1)
    yield* bind()
    assert.strictEqual(sink.status.state, "Closed")
    yield* bind(2)
    assert.strictEqual(sink.status.state, "Open")
  })

  test("tells its listeners of each change", function*() {
    const { bind, down, sink, up } = yield* balanced
    yield* bind(1)
    const states: Array<string> = []
    const off = sink.status.subscribe(() => states.push(sink.status.state))
    up(1)
    down(1)
    up(1)
    off()
    down(1)
    assert.deepStrictEqual(states, ["Open", "Closed", "Open"])
  })
})

describe("opening", () => {
  test("tries one endpoint after another until one opens", function*() {
    const { bind, hand, sink } = yield* balanced
    yield* bind(1, 2, 3)
    for (const port of [1, 2]) {
      hand.at(port).opening = Effect.suspend(() => {
        hand.at(port).status.set("Closed", refused(port))
        return Effect.fail(refused(port))
      })
    }
    hand.at(3).opening = Effect.sync(() => hand.at(3).status.set("Open"))
    yield* sink.open
    assert.strictEqual(hand.at(3).opens, 1)
    const before = hand.made.map(({ opens }) => opens)
    yield* sink.open
    assert.deepStrictEqual(hand.made.map(({ opens }) => opens), before)
  })

  test("does nothing when any is open, wherever that stands", function*() {
    const { bind, hand, sink, up } = yield* balanced
    yield* bind(1, 2, 3)
    up(3)
    yield* sink.open
    assert.deepStrictEqual(hand.made.map(({ opens }) => opens), [0, 0, 0])
  })

  test("waits for the first state, then opens", function*() {
    const { bind, hand, sink } = yield* balanced
    const fiber = yield* start(sink.open)
    yield* settle
    assert.isUndefined(fiber.pollUnsafe())
    yield* bind(1)
    yield* Fiber.join(fiber)
    assert.strictEqual(hand.at(1).opens, 1)
  })

  test("waits for one that heals when none can be opened", function*() {
    const { bind, down, hand, sink, up } = yield* balanced
    yield* bind(1, 2)
    for (const port of [1, 2]) {
      down(port)
      hand.at(port).opening = Effect.fail(refused(port))
    }
    const fiber = yield* start(sink.open)
    yield* settle
    assert.isUndefined(fiber.pollUnsafe())
    up(2)
    yield* Fiber.join(fiber)
    assert.deepStrictEqual(hand.made.map(({ opens }) => opens), [1, 1])
  })

  test("fails when it waits and the set becomes empty", function*() {
    const { bind, down, hand, sink } = yield* balanced
    yield* bind(1)
    down(1)
    hand.at(1).opening = Effect.fail(refused(1))
    const fiber = yield* start(Effect.flip(sink.open))
    yield* bind()
    assert.strictEqual((yield* Fiber.join(fiber))._tag, "NoEndpoints")
  })

  test("fails with why none succeeded when one was open before", function*() {
    const { bind, down, hand, sink, up } = yield* balanced
    yield* bind(1)
    up(1)
    down(1)
    hand.at(1).opening = Effect.fail(refused(1))
    assert.strictEqual((yield* Effect.flip(sink.open))._tag, "ConnectFailed")
  })

  test("ends with its interruption, and opens nothing after it", function*() {
    const { bind, hand, sink } = yield* balanced
    yield* bind(1, 2)
    hand.at(1).opening = Effect.never
    hand.at(2).opening = Effect.never
    const fiber = yield* start(sink.open)
    yield* stop(fiber)
    assert.deepStrictEqual(hand.made.map(({ opens }) => opens), [1, 1])
    yield* TestClock.adjust("1 minute")
    assert.deepStrictEqual(hand.made.map(({ opens }) => opens), [1, 1])
  })

  test("does not wait for endpoints that say nothing before it tries others", function*() {
    const { bind, hand, sink, up } = yield* balanced
    yield* bind(1, 2, 3, 4, 5)
    for (const port of [1, 2, 3, 4]) hand.at(port).opening = Effect.never
    hand.at(5).opening = Effect.sync(() => up(5))
    const fiber = yield* start(sink.open)
    yield* settle
    assert.deepStrictEqual(fiber.pollUnsafe(), Exit.void)
  })
})

describe("closing", () => {
  test("closes every sink, those that drain included, and takes no more", function*() {
    const { bind, close, hand, send, sink } = yield* balanced
    yield* bind(1, 2)
    yield* send()
    yield* send()
    yield* bind(2)
    yield* close
    assert.deepStrictEqual(hand.made.map(({ closed }) => closed), [true, true])
    assert.strictEqual(sink.status.state, "Closed")
    yield* bind(3)
    assert.lengthOf(hand.made, 2)
  })

  test("ends every wait, and every later one", function*() {
    const { close, send, sink } = yield* balanced
    const call = makeCall()
    const waiting = [yield* send("hi", call), yield* start(sink.open)]
    yield* settle
    yield* close
    for (const fiber of waiting) {
      const exit: Exit.Exit<unknown, RpcError> = yield* Fiber.await<unknown, RpcError>(fiber)
      assert.strictEqual(Exit.isFailure(exit) && (Cause.squash(exit.cause) as RpcError)._tag, "StackClosed")
    }
    assert.strictEqual(call.abort.listeners, 0)
    assert.strictEqual((yield* Effect.flip(sink.open))._tag, "StackClosed")
    assert.strictEqual((yield* Effect.flip(sink.send("hi", makeCall())))._tag, "StackClosed")
  })
})

describe("a sink", () => {
  const lazy = balancedWith({ lazy: true })

  test("is made when its endpoint is first picked, and not before", function*() {
    const { bind, hand, send, view } = yield* lazy
    yield* bind(1, 2, 3)
    assert.lengthOf(hand.made, 0)
    assert.deepInclude(view(), { size: 3, usable: 3, busy: 0, down: 0, adds: 3 })
    yield* send()
    assert.lengthOf(hand.made, 1)
    yield* send()
    yield* send()
    yield* send()
    assert.sameMembers(hand.made.map(({ endpoint }) => endpoint.port), [1, 2, 3])
  })

  test("is not made for an endpoint that leaves before it was picked", function*() {
    const { bind, hand, heap } = yield* lazy
    yield* bind(1, 2, 3)
    yield* bind()
    assert.lengthOf(hand.made, 0)
    assert.strictEqual(heap.size, 0)
  })

  test("is made anew after it was shelved, which is refused while calls are on it", function*() {
    const { bind, control, hand, members, send } = yield* lazy
    yield* bind(1)
    const [member] = members()
    control.shelve(member!)
    yield* send()
    control.shelve(member!)
    assert.deepStrictEqual(hand.made.map(({ closed }) => closed), [false])
    hand.at(1).pending[0]!.answer("A")
    hand.at(1).status.set("Closed", refused(1))
    assert.strictEqual(member!.rank, 2)
    control.shelve(member!)
    assert.deepStrictEqual(hand.made.map(({ closed }) => closed), [true])
    assert.deepStrictEqual([member!.state, member!.rank, member!.fault], ["Idle", 0, undefined])
    assert.strictEqual(hand.at(1).status.listeners, 0)
    yield* send()
    assert.lengthOf(hand.made, 2)
    assert.lengthOf(hand.at(1).pending, 1)
  })

  test("is opened for a picker that asks, and heard of", function*() {
    const { bind, control, hand, members, sink } = yield* lazy
    yield* bind(1)
    const [member] = members()
    control.open(member!)
    assert.deepStrictEqual(hand.made.map(({ opens }) => opens), [1])
    hand.at(1).status.set("Open")
    assert.strictEqual(sink.status.state, "Open")
    control.open(member!)
    assert.deepStrictEqual(hand.made.map(({ opens }) => opens), [1])
  })

  /** Endpoints whose sinks take their time to be made. */
  const slow = Effect.gen(function*() {
    const hand = handEndpoints()
    const gate = yield* Deferred.make<void>()
    const stack = yield* Stack
    const set = yield* TestServerSet
    const scope = yield* Scope.make()
    const { members, sink } = yield* Scope.provide(
      Balancer.make(
        stack,
        { make: (endpoint) => Effect.andThen(Deferred.await(gate), hand.factory.make(endpoint)) },
        yield* ServerSet,
        () => Effect.sync(() => new Heap(stack.random))
      ),
      scope
    )
    yield* set.bind(endpoints(1))
    yield* settle
    const load = () => [...members()].map(({ load }) => load)
    return { close: Scope.close(scope, Exit.void), gate, hand, load, members, set, sink }
  })

  test("that takes its time to be made keeps its calls until it is, once for all", function*() {
    const { gate, hand, load, sink } = yield* slow
    const call = makeCall()
    const first = yield* start(sink.send("a", call))
    yield* start(sink.send("b", makeCall()))
    yield* start(sink.open)
    yield* settle
    assert.deepStrictEqual(load(), [2])
    yield* Deferred.succeed(gate, undefined)
    yield* settle
    assert.lengthOf(hand.made, 1)
    assert.deepStrictEqual(hand.at(1).pending.map(({ request }) => request), ["a", "b"])
    assert.strictEqual(hand.at(1).opens, 1)
    for (const exchange of [...hand.at(1).pending]) exchange.answer(exchange.request)
    assert.strictEqual(yield* Fiber.join(first), "a")
    assert.deepStrictEqual([load(), call.abort.listeners], [[0], 0])
  })

  test("that is still being made lets go of a call that is aborted or interrupted, and of all on closing", function*() {
    const { close, gate, hand, load, sink } = yield* slow
    const calls = [makeCall(), makeCall(), makeCall()]
    const [aborted, interrupted, left] = [
      yield* start(sink.send("a", calls[0]!)),
      yield* start(sink.send("b", calls[1]!)),
      yield* start(sink.send("c", calls[2]!))
    ]
    yield* settle
    calls[0]!.abort.abort({ _tag: "Timeout", timeoutMillis: 5 })
    assert.deepInclude(yield* Effect.flip(Fiber.join(aborted)), { _tag: "Timeout", waiting: "connection" } as never)
    yield* stop(interrupted)
    assert.deepStrictEqual(load(), [1])
    yield* close
    assert.deepInclude(yield* Effect.flip(Fiber.join(left)), { _tag: "StackClosed" } as never)
    assert.deepStrictEqual(calls.map(({ abort }) => abort.listeners), [0, 0, 0])
    yield* Deferred.succeed(gate, undefined)
    yield* settle
    assert.isTrue(hand.made.every(({ closed }) => closed))
  })

  test("that takes its time is not kept when its endpoint has left meanwhile", function*() {
    const { gate, hand, members, set, sink } = yield* slow
    const waiting = yield* start(sink.open)
    yield* settle
    yield* set.bind([])
    yield* settle
    assert.isTrue(Exit.isFailure(yield* Fiber.await(waiting)))
    yield* Deferred.succeed(gate, undefined)
    yield* settle
    assert.lengthOf([...members()], 0)
    assert.isTrue(hand.made.every(({ closed }) => closed))
  })

  test("that cannot be made costs its endpoint, not the others", function*() {
    const hand = handEndpoints()
    const stack = yield* Stack
    const { members, sink } = yield* Balancer.make(
      stack,
      {
        make: (endpoint) => endpoint.port === 2 ? Effect.die(new Error("a filter's bug")) : hand.factory.make(endpoint)
      },
      Stream.succeed(ServerSetState.Bound(endpoints(1, 2))),
      () => Effect.sync(() => new Heap(() => 0))
    )
    yield* settle
    const first = yield* Effect.flip(sink.send("hi", makeCall()))
    assert.deepInclude(first, { _tag: "ConnectFailed", reached: "no", retryable: true } as never)
    assert.deepStrictEqual([...members()].map(({ endpoint }) => endpoint.port), [1])
    const fiber = yield* start(sink.send("hi", makeCall()))
    hand.at(1).pending[0]!.answer("hello")
    assert.strictEqual(yield* Fiber.join(fiber), "hello")
  })
})

describe("an empty set", () => {
  const patient = balancedWith({ whenEmpty: "wait" })

  test("is waited out by those who said so: a call goes to the first that joins", function*() {
    const { bind, hand, push, send, sink } = yield* patient
    for (const state of [ServerSetState.Bound([]), ServerSetState.Neg]) {
      yield* push(state)
      const call = makeCall()
      const sent = yield* send("hi", call)
      const opened = yield* start(sink.open)
      yield* settle
      assert.isUndefined(sent.pollUnsafe())
      assert.isUndefined(opened.pollUnsafe())
      yield* bind(1)
      hand.at(1).pending[0]!.answer("hello")
      assert.strictEqual(yield* Fiber.join(sent), "hello")
      yield* Fiber.join(opened)
      assert.strictEqual(call.abort.listeners, 0)
    }
  })

  test("is named by a call that waited until its deadline, with why it is empty", function*() {
    const { bind, push, send, up } = yield* patient
    yield* push(ServerSetState.Failed("no such host"))
    const call = makeCall()
    const early = yield* send("hi", call)
    call.abort.abort({ _tag: "Timeout", timeoutMillis: 5 })
    assert.strictEqual(
      ((yield* Effect.flip(Fiber.join(early))) as RpcError).message,
      `no reply within 5 ms, waiting for endpoint: no endpoint for "text": no such host`
    )
    // Also when the set had endpoints once, and one was open.
    yield* bind(1)
    up(1)
    yield* bind()
    const later = makeCall()
    const fiber = yield* send("hi", later)
    later.abort.abort({ _tag: "Timeout", timeoutMillis: 5 })
    assert.include(((yield* Effect.flip(Fiber.join(fiber))) as RpcError).message, "no endpoint")
    assert.deepStrictEqual([call.abort.listeners, later.abort.listeners], [0, 0])
  })

  test("is an option of two words", function*() {
    const error = yield* Effect.flip(balancedWith({ whenEmpty: "never" as never }))
    assert.deepInclude(error, { _tag: "InvalidOption", option: "whenEmpty" } as never)
  })
})

describe("what can be seen", () => {
  const seen = (registry: Context.Context<never>) =>
    Object.fromEntries(
      Metric.snapshotUnsafe(registry).map(({ attributes, id, state }) => [
        `${id} ${attributes?.["client"]}`,
        "count" in state ? state.count : "value" in state ? state.value : undefined
      ])
    )

  test("counts members by state, load, joins, leaves and panics, as metrics too, and ends with the balancer", function*() {
    const { bind, close, down, hand, send, up, view } = yield* balanced
    const registry = yield* Effect.context<never>()
    yield* bind(1, 2, 3)
    up(1)
    up(2)
    up(3)
    yield* send()
    yield* bind(2, 3)
    yield* send()
    hand.at(2).status.set("Busy")
    down(3)
    const counts = { size: 2, usable: 0, busy: 1, down: 1, load: 2, adds: 3, removes: 1, panics: 0 }
    assert.deepInclude(view(), counts)
    yield* send()
    assert.deepInclude(view(), { load: 3, panics: 1 })
    const names = Object.entries(view()).filter(([, value]) => typeof value === "number")
    const shown = seen(registry)
    for (const [name, value] of names) assert.strictEqual(shown[`scales.balancer.${name} text`], value as number, name)
    assert.lengthOf(names, 10)
    yield* close
    assert.deepStrictEqual(Object.keys(seen(registry)).filter((id) => id.startsWith("scales.balancer")), [])
  })

  test("averages the latency of what succeeds", function*() {
    const { bind, hand, send, view } = yield* balanced
    yield* bind(1)
    const latency = () => view().endpoints[0]!.latencyMillis
    yield* send()
    hand.at(1).pending[0]!.fail(refused(1))
    assert.isUndefined(latency())
    for (const [millis, expected] of [[100, 100], [200, 110]] as const) {
      yield* send()
      yield* TestClock.adjust(millis)
      hand.at(1).pending[0]!.answer("A")
      assert.strictEqual(latency(), expected)
    }
  })

  test("deposits each attempt that succeeds in the retry budget, and no other", function*() {
    const { bind, hand, send } = yield* balanced
    const { budget } = yield* Stack
    yield* bind(1)
    while (budget.withdraw());
    for (let i = 0; i < 5; i++) {
      yield* send()
      hand.at(1).pending[0]!.fail(refused(1))
    }
    assert.strictEqual(budget.balance, 0)
    for (let i = 0; i < 5; i++) {
      yield* send()
      hand.at(1).pending[0]!.answer("A")
    }
    assert.strictEqual(budget.balance, 1)
  })
})

describe("a large set", () => {
  const many = (count: number, from = 0) =>
    Array.from({ length: count }, (_, index) => Endpoint.tcp(`h${from + index}`, 1))

  test("of 10,000 is replaced in one state: all that were leave, but for calls on them", function*() {
    const { hand, heap, push, send, view } = yield* balancedWith({ lazy: true })
    yield* push(ServerSetState.Bound(many(10_000)))
    const fiber = yield* send()
    const exchange = hand.made[0]!.pending[0]!
    yield* push(ServerSetState.Bound(many(10_000, 10_000)))
    assert.deepInclude(view(), { size: 10_000, adds: 20_000, removes: 10_000, draining: 1, load: 1 })
    assert.isTrue(heap.valid)
    assert.lengthOf(hand.made, 1)
    exchange.answer("hello")
    assert.strictEqual(yield* Fiber.join(fiber), "hello")
    assert.isTrue(hand.made[0]!.closed)
    assert.deepInclude(view(), { draining: 0, load: 0 })
  })

  test("with one change touches one member", function*() {
    const { heap, members, push, view } = yield* balancedWith({ lazy: true })
    const set = many(10_000)
    yield* push(ServerSetState.Bound(set))
    const before = new Set(members())
    // Read again from wherever it comes: equal endpoints, not the same objects.
    yield* push(ServerSetState.Bound([...many(9_999), Endpoint.tcp("new", 1)]))
    assert.deepInclude(view(), { size: 10_000, adds: 10_001, removes: 1 })
    assert.strictEqual([...members()].filter((member) => before.has(member)).length, 9_999)
    assert.isTrue(heap.valid)
  })

  test("that flaps keeps the calls it has, and its size right", function*() {
    const { bind, hand, heap, send, view } = yield* balancedWith({ lazy: true })
    const fibers = []
    for (let i = 0; i < 200; i++) {
      yield* i % 2 === 0 ? bind(1, 2, 3) : bind(2)
      fibers.push(yield* send())
    }
    assert.strictEqual(view().load, 200)
    assert.isTrue(heap.valid)
    yield* bind(1, 2, 3)
    for (const { pending } of hand.made) for (const exchange of [...pending]) exchange.answer("A")
    for (const fiber of fibers) assert.strictEqual(yield* Fiber.join(fiber), "A")
    assert.deepInclude(view(), { size: 3, load: 0, draining: 0 })
    yield* bind()
    assert.isTrue(hand.made.every(({ closed }) => closed))
  })
})

describe("a server set that dies", () => {
  it.effect("tells the calls that wait, and what was known stands", () =>
    Effect.gen(function*() {
      const hand = handEndpoints()
      const stack = yield* Stack
      const gate = yield* Deferred.make<void>()
      const bug = new Error("a resolver's bug")
      const states = Stream.fromEffect(Effect.andThen(Deferred.await(gate), Effect.die(bug)))
      const { sink } = yield* Balancer.make(
        stack,
        hand.factory,
        states,
        () => Effect.sync(() => new Heap(stack.random))
      )
      const waiting = yield* start(Effect.flip(sink.send("hi", makeCall())))
      yield* Deferred.succeed(gate, undefined)
      const error = yield* Fiber.join(waiting)
      assert.strictEqual(error._tag, "NoEndpoints")
      assert.include(error.message, "a resolver's bug")
    }).pipe(Effect.provide(Stack.layer("text"))))
})
