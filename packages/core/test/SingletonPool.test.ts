import { assert, describe, it } from "@effect/vitest"
import {
  beginAttempt,
  type Call,
  ConnectFailed,
  ConnectionClosed,
  describe as describeStack,
  Endpoint,
  Nacked,
  ProtocolError,
  type RpcError,
  SingletonPool,
  Stack
} from "@scales-rpc/core"
import { Scripted, ScriptedConnector } from "@scales-rpc/core/testing"
import { Deferred, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { makeCall, settle, start, stop, Text } from "./support.ts"

const endpoint = Endpoint.tcp("h", 1)
const draining = new Nacked({ endpoint, why: "draining", retryable: true })

/** The pool of one endpoint over a script, and the ways to use it. */
const pooled = Effect.gen(function*() {
  const stack = yield* Stack
  const script = yield* ScriptedConnector
  const scope = yield* Scope.make()
  const sink = yield* Scope.provide((yield* Text.Endpoints).make(endpoint), scope)
  const send = (text: string, call: Call = makeCall()) => sink.send(text, beginAttempt(call, endpoint, stack.now))
  const counts = () => describeStack(stack).stages.find(({ role }) => role === "pool")!.state
  /** Makes connecting wait; the result lets every attempt under way go on. */
  const hold = () => {
    const gate = Deferred.makeUnsafe<void, RpcError>()
    script.connecting = () => Deferred.await(gate)
    return {
      go: Deferred.succeed(gate, undefined),
      fail: (error: RpcError) => Deferred.fail(gate, error)
    }
  }
  const attempts = () => script.attempts.get(endpoint.key) ?? 0
  return {
    attempts,
    close: Scope.close(scope, Exit.void),
    counts,
    hold,
    script,
    send,
    sink,
    start: (text: string, call?: Call) => start(send(text, call))
  }
})

const scripted = Scripted.layer(Text, (request, { endpoint }) => Effect.succeed(`${endpoint.key} ${request}`)).pipe(
  Layer.provideMerge(Stack.layer("text"))
)
const layer = SingletonPool.layer(Text).pipe(Layer.provideMerge(scripted))

const test = (name: string, body: () => Generator<Effect.Effect<any, any, any>, void>) =>
  it.effect(name, () => Effect.gen(body).pipe(Effect.provide(Layer.fresh(layer))) as Effect.Effect<void>)

describe("a singleton pool", () => {
  test("connects on the first call, once, and keeps the connection", function*() {
    const { attempts, send, script, sink } = yield* pooled
    assert.strictEqual(sink.status.state, "Idle")
    assert.strictEqual(attempts(), 0)
    for (const text of ["a", "b", "c"]) assert.strictEqual(yield* send(text), `h:1 ${text}`)
    assert.strictEqual(attempts(), 1)
    assert.lengthOf(script.live(), 1)
    assert.strictEqual(sink.status.state, "Open")
  })

  test("lets calls at the same time share one attempt to connect", function*() {
    const { attempts, hold, sink, start: run } = yield* pooled
    const gate = hold()
    const fibers = [yield* run("a"), yield* run("b"), yield* start(sink.open), yield* run("c")]
    yield* settle
    assert.strictEqual(attempts(), 1)
    yield* gate.go
    const exits = yield* Effect.forEach(fibers, (fiber) => Fiber.await<unknown, RpcError>(fiber))
    assert.deepStrictEqual(exits, ["h:1 a", "h:1 b", undefined, "h:1 c"].map((value) => Exit.succeed(value)))
    assert.strictEqual(attempts(), 1)
  })

  test("is not kept from connecting by one caller that leaves, and keeps nothing of it", function*() {
    const { hold, script, sink, start: run } = yield* pooled
    const gate = hold()
    const calls = [makeCall(), makeCall(), makeCall()]
    const interrupted = yield* run("a", calls[0])
    const aborted = yield* run("b", calls[1])
    const stays = yield* run("c", calls[2])
    yield* settle
    yield* stop(interrupted)
    calls[1]!.abort.abort({ _tag: "Timeout", timeoutMillis: 5 })
    const error = yield* Effect.flip(Fiber.join(aborted))
    assert.deepInclude(error, { _tag: "Timeout", waiting: "connection", reached: "no", endpoint })
    yield* gate.go
    assert.strictEqual(yield* Fiber.join(stays), "h:1 c")
    assert.deepStrictEqual(calls.map(({ abort }) => abort.listeners), [0, 0, 0])
    assert.lengthOf(script.live(), 1)
    assert.strictEqual(sink.status.state, "Open")
  })

  test("connects for nobody when all who wanted it have left, and the next call finds the connection", function*() {
    const { attempts, hold, send, script, start: run } = yield* pooled
    const gate = hold()
    const only = yield* run("a")
    yield* settle
    yield* stop(only)
    yield* gate.go
    yield* settle
    assert.lengthOf(script.live(), 1)
    assert.strictEqual(yield* send("b"), "h:1 b")
    assert.strictEqual(attempts(), 1)
  })

  test("fails every waiting call when connecting fails, and the next call tries again", function*() {
    const { attempts, counts, hold, script, send, sink, start: run } = yield* pooled
    const gate = hold()
    const fibers = [yield* run("a"), yield* run("b"), yield* start(sink.open)]
    yield* settle
    const refused = new ConnectFailed({ endpoint, phase: "connect", cause: "refused" })
    yield* gate.fail(refused)
    for (const fiber of fibers) {
      assert.deepStrictEqual(yield* Fiber.await<unknown, RpcError>(fiber), Exit.fail(refused))
    }
    assert.strictEqual(sink.status.state, "Closed")
    assert.strictEqual(sink.status.fault, refused)
    script.connecting = () => Effect.void
    assert.strictEqual(yield* send("c"), "h:1 c")
    assert.strictEqual(attempts(), 2)
    assert.deepInclude(counts() as object, { connects: 2, connectFailures: 1, dead: 0 })
    assert.lengthOf(script.live(), 1)
  })

  test("says that a call which could not connect never ran, whatever connecting met", function*() {
    const { script, send, sink } = yield* pooled
    const garbage = new ProtocolError({ endpoint, what: "garbage in the handshake", cause: undefined })
    for (const met of [Effect.fail(garbage), Effect.die(new Error("a defect"))]) {
      script.connecting = () => met
      const error = yield* Effect.flip(send("a"))
      assert.strictEqual(error._tag, "ConnectFailed")
      assert.deepStrictEqual([error.reached, "retryable" in error && error.retryable], ["no", true])
      assert.match(error.message, /garbage in the handshake|a defect/)
      assert.strictEqual(sink.status.fault, error)
    }
  })

  test("takes a connection that is born dead for one that could not be made", function*() {
    const { counts, script, send, sink } = yield* pooled
    const reset = new ConnectionClosed({ endpoint, reached: "maybe", cause: "reset" })
    for (const fault of [reset, undefined]) {
      script.born = { state: "Closed", fault }
      const error = yield* Effect.flip(send("a"))
      assert.strictEqual(error._tag, "ConnectFailed")
      assert.strictEqual(error.reached, "no")
      assert.include(error.message, fault === undefined ? "closed at once" : "reset")
      assert.strictEqual(sink.status.state, "Closed")
      assert.strictEqual(sink.status.fault, error)
      assert.lengthOf(script.live(), 0)
    }
    assert.deepInclude(counts() as object, { connects: 2, connectFailures: 0, dead: 2 })
    script.born = undefined
    assert.strictEqual(yield* send("b"), "h:1 b")
  })

  test("does not connect again and again to a peer that drains every connection from its birth", function*() {
    const { attempts, script, send } = yield* pooled
    script.born = { state: "Busy", fault: draining }
    script.answer = () => Effect.fail(draining)
    assert.strictEqual((yield* Effect.flip(send("a")))._tag, "Nacked")
    assert.strictEqual(attempts(), 1)
  })
})

describe("the connection of a singleton pool", () => {
  test("that broke is closed, fails the pool, and the next call gets a new one", function*() {
    const { attempts, script, send, sink, start: run } = yield* pooled
    script.answer = () => Effect.never
    const hanging = yield* run("a")
    const [connection] = script.live()
    script.breakAll("h:1")
    const error = yield* Effect.flip(Fiber.join(hanging))
    assert.deepInclude(error, { _tag: "ConnectionClosed", reached: "maybe" })
    assert.strictEqual(sink.status.state, "Closed")
    assert.strictEqual(sink.status.fault?._tag, "ConnectionClosed")
    assert.isTrue(connection!.released)
    assert.deepStrictEqual([connection!.outstanding, connection!.status.listeners], [0, 0])
    script.answer = () => Effect.succeed("again")
    assert.strictEqual(yield* send("b"), "again")
    assert.strictEqual(attempts(), 2)
  })

  test("that was drained leaves the pool idle, and is replaced on the next call", function*() {
    const { attempts, script, send, sink } = yield* pooled
    yield* send("a")
    script.breakAll("h:1", { drained: true })
    assert.strictEqual(sink.status.state, "Idle")
    assert.isUndefined(sink.status.fault)
    assert.lengthOf(script.live(), 0)
    assert.strictEqual(attempts(), 1)
    assert.strictEqual(yield* send("b"), "h:1 b")
    assert.strictEqual(attempts(), 2)
  })

  test("that drains is replaced by the next call, and finishes what it has", function*() {
    const { attempts, script, send, sink, start: run } = yield* pooled
    const reply = Deferred.makeUnsafe<string>()
    script.answer = () => Deferred.await(reply)
    const early = yield* run("early")
    const [old] = script.live()
    old!.status.set("Busy", draining)
    assert.strictEqual(sink.status.state, "Busy")
    assert.strictEqual(sink.status.fault, draining)
    script.answer = () => Effect.succeed("new")
    assert.strictEqual(yield* send("late"), "new")
    assert.strictEqual(attempts(), 2)
    assert.strictEqual(sink.status.state, "Open")
    assert.lengthOf(script.live(), 2)
    assert.isUndefined(early.pollUnsafe())
    yield* Deferred.succeed(reply, "old")
    assert.strictEqual(yield* Fiber.join(early), "old")
    old!.status.set("Closed")
    assert.isTrue(old!.released)
    assert.strictEqual(old!.status.listeners, 0)
    assert.strictEqual(sink.status.state, "Open")
    assert.lengthOf(script.live(), 1)
  })

  test("that drains and breaks does not take its successor with it", function*() {
    const { script, send, sink } = yield* pooled
    yield* send("a")
    const [old] = script.live()
    old!.status.set("Busy", draining)
    yield* send("b")
    old!.status.set("Closed", new ConnectionClosed({ endpoint, reached: "maybe", cause: "reset" }))
    assert.strictEqual(sink.status.state, "Open")
    assert.strictEqual(yield* send("c"), "h:1 c")
    assert.lengthOf(script.live(), 1)
  })

  test("that drains and cannot be replaced leaves the pool down, and still finishes what it has", function*() {
    const { script, send, sink, start: run } = yield* pooled
    const reply = Deferred.makeUnsafe<string>()
    script.answer = () => Deferred.await(reply)
    const early = yield* run("early")
    script.live()[0]!.status.set("Busy", draining)
    script.refuse("h:1")
    assert.strictEqual((yield* Effect.flip(send("late")))._tag, "ConnectFailed")
    assert.strictEqual(sink.status.state, "Closed")
    assert.strictEqual(sink.status.fault?._tag, "ConnectFailed")
    yield* Deferred.succeed(reply, "old")
    assert.strictEqual(yield* Fiber.join(early), "old")
    const [old] = script.live()
    old!.status.set("Closed")
    assert.strictEqual(sink.status.state, "Closed")
    assert.strictEqual(sink.status.fault?._tag, "ConnectFailed")
    assert.lengthOf(script.live(), 0)
  })

  test("that is busy without a fault goes on taking calls", function*() {
    const { attempts, script, send, sink } = yield* pooled
    yield* send("a")
    script.setState("h:1", "Busy")
    assert.strictEqual(sink.status.state, "Busy")
    assert.strictEqual(yield* send("b"), "h:1 b")
    assert.strictEqual(attempts(), 1)
    script.setState("h:1", "Open")
    assert.strictEqual(sink.status.state, "Open")
  })

  test("that breaks while it is replaced leaves its successor alone", function*() {
    const { attempts, hold, script, send, sink, start: run } = yield* pooled
    yield* send("a")
    const [old] = script.live()
    old!.status.set("Busy", draining)
    const gate = hold()
    const waiting = yield* run("b")
    yield* settle
    old!.status.set("Closed", new ConnectionClosed({ endpoint, reached: "maybe", cause: "reset" }))
    assert.strictEqual(sink.status.state, "Closed")
    yield* gate.go
    assert.strictEqual(yield* Fiber.join(waiting), "h:1 b")
    assert.strictEqual(sink.status.state, "Open")
    assert.strictEqual(attempts(), 2)
  })

  test("that is lost between connecting and sending fails the call as never sent", function*() {
    const { hold, script, sink, start: run } = yield* pooled
    const gate = hold()
    const off = sink.status.subscribe(() => {
      if (sink.status.state === "Open") script.breakAll("h:1")
    })
    const fiber = yield* run("a")
    yield* settle
    yield* gate.go
    const error = yield* Effect.flip(Fiber.join(fiber))
    off()
    assert.strictEqual(error._tag, "ConnectFailed")
    assert.strictEqual(error.reached, "no")
    assert.lengthOf(script.live(), 0)
  })
})

describe("closing a singleton pool", () => {
  test("closes its connection and refuses calls", function*() {
    const { attempts, close, script, send, sink } = yield* pooled
    yield* send("a")
    const [connection] = script.live()
    yield* close
    assert.isTrue(connection!.released)
    assert.strictEqual(connection!.status.listeners, 0)
    assert.strictEqual(sink.status.state, "Closed")
    assert.isUndefined(sink.status.fault)
    for (const late of [send("b"), sink.open]) {
      const error = yield* Effect.flip(late as Effect.Effect<unknown, RpcError>)
      assert.deepInclude(error, { _tag: "StackClosed", reached: "no" })
    }
    assert.strictEqual(attempts(), 1)
  })

  test("ends an attempt to connect and fails those who wait for it", function*() {
    const { close, script, start: run } = yield* pooled
    let ended = false
    script.connecting = () =>
      Effect.onInterrupt(Effect.never, () =>
        Effect.sync(() => {
          ended = true
        }))
    const call = makeCall()
    const fiber = yield* run("a", call)
    yield* settle
    yield* close
    assert.isTrue(ended)
    assert.strictEqual((yield* Effect.flip(Fiber.join(fiber)))._tag, "StackClosed")
    assert.strictEqual(call.abort.listeners, 0)
    assert.lengthOf(script.live(), 0)
  })

  test("ends also an attempt that began while the one before it was being heard", function*() {
    const { attempts, close, script, send, sink, start: run } = yield* pooled
    let ended = false
    script.born = { state: "Busy", fault: draining }
    script.answer = () => Effect.fail(draining)
    script.connecting = () =>
      attempts() === 1 ? Effect.void : Effect.onInterrupt(Effect.never, () =>
        Effect.sync(() => {
          ended = true
        }))
    // Somebody who hears of the first connection sends on it, is refused, and tries again, all in one turn.
    const off = sink.status.subscribe(() => {
      off()
      Effect.runFork(Effect.catch(send("b"), () => send("c")))
    })
    const fiber = yield* run("a")
    assert.strictEqual(attempts(), 2)
    yield* close
    assert.isTrue(ended)
    assert.strictEqual((yield* Effect.flip(Fiber.join(fiber)))._tag, "StackClosed")
  })

  it.effect("closes a connection that still arrives", () => {
    const gate = Deferred.makeUnsafe<void>()
    const stubborn = Layer.effect(
      Text.Connector,
      Effect.map(
        Text.Connector,
        ({ connect }) => ({ connect: (endpoint) => Effect.uninterruptible(connect(endpoint)) })
      )
    )
    return Effect.gen(function*() {
      const { close, script, start: run } = yield* pooled
      script.connecting = () => Deferred.await(gate)
      const fiber = yield* run("a")
      yield* settle
      yield* close
      assert.strictEqual((yield* Effect.flip(Fiber.join(fiber)))._tag, "StackClosed")
      yield* Deferred.succeed(gate, undefined)
      yield* settle
      assert.lengthOf(script.connections, 1)
      assert.lengthOf(script.live(), 0)
    }).pipe(
      Effect.provide(Layer.fresh(SingletonPool.layer(Text).pipe(Layer.provide(stubborn), Layer.provideMerge(scripted))))
    )
  })

  test("closes a draining connection and its successor", function*() {
    const { close, script, send } = yield* pooled
    yield* send("a")
    script.live()[0]!.status.set("Busy", draining)
    yield* send("b")
    assert.lengthOf(script.live(), 2)
    yield* close
    assert.lengthOf(script.live(), 0)
  })
})
