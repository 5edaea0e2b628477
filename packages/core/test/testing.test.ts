/** The stand-ins that tests of stacks are made of, each alone. */
import { assert, describe, it } from "@effect/vitest"
import { classifyExit, Dispatcher, Nacked, ServerSet, ServerSetState, Stack } from "@scales-rpc/core"
import { Recorder, ScriptedConnector, ScriptedSink, Seed, TestServerSet } from "@scales-rpc/core/testing"
import { Effect, Exit, Fiber, Layer, Random, Stream } from "effect"
import { TestClock } from "effect/testing"
import { endpoints, settle, stack, start, stop, Text, TextClient } from "./support.ts"

describe("a scripted sink", () => {
  it.effect("answers each request with the call it came in, below any dispatcher", () => {
    const sink = ScriptedSink.layer(Text, (request, call) => Effect.succeed(`${call.method} ${request}`))
    return Effect.gen(function*() {
      const { send, open, status } = yield* Text.Balanced
      const { dispatch } = yield* Dispatcher.make({ service: "text", timeout: "1 second" })
      const method = { name: "shout", idempotent: true, classify: classifyExit }
      assert.strictEqual(yield* dispatch(method, (call) => send("hi", call)), "shout hi")
      yield* open
      assert.strictEqual(status.state, "Open")
    }).pipe(Effect.provide(Layer.mergeAll(sink, Stack.layer("text"))))
  })
})

describe("a scripted connector", () => {
  it.effect("refuses, accepts, breaks, drains and keeps count", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1))
      yield* client.call("a")
      assert.strictEqual(script.attempts.get("h:1"), 1)
      assert.lengthOf(script.live(), 1)
      script.breakAll("h:1", { drained: true })
      assert.lengthOf(script.live(), 0)
      yield* client.call("b")
      script.refuse("h:1")
      script.breakAll("h:1")
      assert.strictEqual((yield* Effect.flip(client.call("c")))._tag, "FastFailure")
      assert.lengthOf(script.connections, 2)
      assert.isTrue(script.connections.every(({ outstanding, released }) => released && outstanding === 0))
    }).pipe(Effect.provide(stack())))

  it.effect("ends an exchange with the call's abort, and holds nothing of it", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      script.answer = () => Effect.never
      yield* (yield* TestServerSet).bind(endpoints(1))
      const fiber = yield* start(Effect.flip(client.call("a")))
      yield* settle
      const [connection] = script.live()
      assert.strictEqual(connection!.outstanding, 1)
      client.calls[0]!.abort.abort({ _tag: "Superseded" })
      yield* settle
      assert.deepInclude(yield* Fiber.join(fiber), { _tag: "Superseded", reached: "maybe" })
      // The pool listens; the exchange does not any more.
      assert.deepStrictEqual([connection!.outstanding, connection!.status.listeners], [0, 1])
    }).pipe(Effect.provide(stack())))
})

describe("a recorder", () => {
  it.effect("writes down calls above the balancer and attempts below it", () => {
    const calls: Array<Recorder.RecordedCall> = []
    const attempts: Array<Recorder.RecordedAttempt> = []
    const options = { above: Recorder.above(Text, calls), below: Recorder.below(Text, attempts) }
    return Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      script.answer = (request, { endpoint, number }) =>
        number === 0
          ? Effect.fail(new Nacked({ endpoint, why: "busy", retryable: true }))
          : request === "hang"
          ? Effect.never
          : Effect.succeed("hello")
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      yield* client.call("hi")
      const fiber = yield* start(client.call("hang"))
      yield* settle
      assert.deepStrictEqual(calls.map(({ exit, request }) => [request, exit]), [
        ["hi", Exit.succeed("hello")],
        ["hang", undefined]
      ])
      assert.deepStrictEqual(attempts.map(({ number, outcome, request }) => [request, number, outcome]), [
        ["hi", 0, "rejected"],
        ["hi", 1, "success"],
        ["hang", 0, "rejected"],
        ["hang", 1, undefined]
      ])
      assert.deepStrictEqual(
        calls[0]!.call.tried.map(({ key }) => key),
        attempts.slice(0, 2).map(({ endpoint }) => endpoint)
      )
      yield* stop(fiber)
      assert.strictEqual(attempts[3]!.outcome, "ignored")
      assert.isTrue(Exit.hasInterrupts(calls[1]!.exit!))
    }).pipe(Effect.provide(stack(options)))
  })
})

describe("a server set of a test", () => {
  it.effect("tells when the stacks have taken what was pushed", () =>
    Effect.gen(function*() {
      const servers = yield* TestServerSet
      const client = yield* TextClient
      assert.strictEqual(servers.followers(), 1)
      yield* servers.bind(endpoints(1))
      yield* servers.seen
      assert.strictEqual(yield* client.call("a"), "h:1 a")
      yield* servers.bind(endpoints(2))
      yield* servers.seen
      assert.strictEqual(yield* client.call("b"), "h:2 b")
      yield* servers.push(ServerSetState.Neg)
      yield* servers.seen
      assert.strictEqual((yield* Effect.flip(client.call("c")))._tag, "NoEndpoints")
      yield* servers.push(ServerSetState.Failed("gone"))
      yield* servers.push(ServerSetState.Pending)
      yield* servers.bind(endpoints(3))
      yield* servers.seen
      assert.strictEqual(yield* client.call("d"), "h:3 d")
    }).pipe(Effect.provide(stack())))

  it.effect("waits for the slowest that follows, and for nobody who has left", () =>
    Effect.gen(function*() {
      const servers = yield* TestServerSet
      yield* servers.seen
      const states = yield* ServerSet
      const taken: Array<string> = []
      const follow = (name: string, millis: number) =>
        start(Stream.runForEach(states, ({ _tag }) =>
          Effect.andThen(
            Effect.sleep(millis),
            Effect.sync(() => void taken.push(`${name} ${_tag}`))
          )))
      const quick = yield* follow("quick", 1)
      const slow = yield* follow("slow", 10)
      assert.strictEqual(servers.followers(), 2)
      yield* servers.push(ServerSetState.Neg)
      const seen = yield* start(servers.seen)
      yield* TestClock.adjust("19 millis")
      assert.isUndefined(seen.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(seen)
      assert.deepStrictEqual(taken, ["quick Pending", "quick Neg", "slow Pending", "slow Neg"])
      yield* servers.push(ServerSetState.Pending)
      const again = yield* start(servers.seen)
      const given = yield* start(servers.seen)
      yield* TestClock.adjust("1 millis")
      yield* stop(given)
      assert.isUndefined(again.pollUnsafe())
      yield* stop(slow)
      yield* Fiber.join(again)
      yield* stop(quick)
      assert.strictEqual(servers.followers(), 0)
    }).pipe(Effect.provide(TestServerSet.layer())))
})

describe("a seed", () => {
  it.effect("repeats every random number below it, for each build anew", () =>
    Effect.gen(function*() {
      const draw = Effect.all([Random.next, Random.next, Random.nextIntBetween(0, 1_000_000)])
      const first = yield* draw.pipe(Effect.provide(Seed.layer(1)))
      assert.deepStrictEqual(yield* draw.pipe(Effect.provide(Seed.layer(1))), first)
      assert.notDeepEqual(yield* draw.pipe(Effect.provide(Seed.layer(2))), first)
    }))
})
