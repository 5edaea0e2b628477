/** What Finagle holds its singleton pool to, with numbers, beside what `SingletonPool.test.ts` tells of ours. */
import { assert, describe, it } from "@effect/vitest"
import {
  type Abort,
  beginAttempt,
  ConnectFailed,
  describe as describeStack,
  Endpoint,
  Nacked,
  type RpcError,
  SingletonPool,
  Stack
} from "@scales-rpc/core"
import { Scripted, ScriptedConnector } from "@scales-rpc/core/testing"
import { Deferred, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { makeCall, seeded, settle, start, Text } from "./support.ts"

const endpoint = Endpoint.tcp("h", 1)
const draining = new Nacked({ endpoint, why: "draining", retryable: true })
const refused = new ConnectFailed({ endpoint, phase: "connect", cause: "refused" })

/** A pool over a script. */
const pooled = Effect.gen(function*() {
  const stack = yield* Stack
  const script = yield* ScriptedConnector
  const scope = yield* Scope.make()
  const sink = yield* Scope.provide((yield* Text.Endpoints).make(endpoint), scope)
  const aborts: Array<Abort> = []
  const send = (text: string) =>
    Effect.suspend(() => {
      const call = makeCall()
      aborts.push(call.abort)
      return sink.send(text, beginAttempt(call, endpoint, stack.now))
    })
  const counts = () =>
    describeStack(stack).stages.find(({ role }) => role === "pool")!.state as {
      readonly connects: number
      readonly connectFailures: number
      readonly dead: number
    }
  return { aborts, close: Scope.close(scope, Exit.void), counts, script, send, sink }
})

const layer = Layer.fresh(
  SingletonPool.layer(Text).pipe(
    Layer.provideMerge(
      Scripted.layer(Text, (request, attempt) => Effect.succeed(`${attempt.endpoint.key} ${request}`)).pipe(
        Layer.provideMerge(Stack.layer("text"))
      )
    )
  )
)

const test = (name: string, body: () => Generator<Effect.Effect<any, any, any>, void>) =>
  it.effect(name, () => Effect.gen(body).pipe(Effect.provide(layer)) as Effect.Effect<void>)

describe("a singleton pool, as Finagle has it,", () => {
  test("is Idle and connects to nothing until somebody wants it, also when it is closed before", function*() {
    const { close, counts, script, sink } = yield* pooled
    assert.strictEqual(sink.status.state, "Idle")
    yield* close
    assert.deepStrictEqual([sink.status.state, script.connections.length], ["Closed", 0])
    assert.deepInclude(counts() as object, { connects: 0, connectFailures: 0, dead: 0 })
  })

  test("makes one connection for a thousand callers at once, and keeps it when all are done", function*() {
    const { counts, script, send } = yield* pooled
    const gate = Deferred.makeUnsafe<void>()
    script.connecting = () => Deferred.await(gate)
    const fibers = yield* Effect.forEach(Array.from({ length: 1000 }, (_, i) => String(i)), (text) => start(send(text)))
    yield* settle
    assert.strictEqual(counts().connects, 1)
    yield* Deferred.succeed(gate, undefined)
    const replies = yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber))
    assert.deepStrictEqual(replies, Array.from({ length: 1000 }, (_, i) => `h:1 ${i}`))
    assert.deepInclude(counts() as object, { connects: 1, connectFailures: 0, dead: 0 })
    assert.deepStrictEqual(script.live().map(({ outstanding }) => outstanding), [0])
  })

  test("gives the connection to those who stay when 999 of a thousand have left before it was there", function*() {
    const { aborts, counts, script, send } = yield* pooled
    const gate = Deferred.makeUnsafe<void>()
    script.connecting = () => Deferred.await(gate)
    const fibers = yield* Effect.forEach(Array.from({ length: 1000 }, (_, i) => String(i)), (text) => start(send(text)))
    yield* settle
    for (const [index, fiber] of fibers.entries()) if (index !== 500) yield* Fiber.interrupt(fiber)
    yield* Deferred.succeed(gate, undefined)
    assert.strictEqual(yield* Fiber.join(fibers[500]!), "h:1 500")
    assert.strictEqual(counts().connects, 1)
    assert.isTrue(aborts.every(({ listeners }) => listeners === 0))
  })

  test("counts what could not be made and what was dead when it came, and starts anew each time", function*() {
    const { counts, script, send } = yield* pooled
    for (let i = 1; i <= 10; i++) {
      script.connecting = () => Effect.fail(refused)
      assert.strictEqual(yield* Effect.flip(send("a")), refused)
      script.connecting = () => Effect.void
      script.born = { state: "Closed" }
      assert.strictEqual((yield* Effect.flip(send("b")))._tag, "ConnectFailed")
      assert.deepInclude(counts() as object, { connects: 2 * i, connectFailures: i, dead: i })
    }
    script.born = undefined
    assert.strictEqual(yield* send("c"), "h:1 c")
    assert.deepInclude(counts() as object, { connects: 21, connectFailures: 10, dead: 10 })
  })

  test("fails with an attempt only those who waited for it: who comes when it fails has the next one", function*() {
    const { counts, script, send } = yield* pooled
    const gates: Array<Deferred.Deferred<void, RpcError>> = []
    script.connecting = () => {
      const gate = Deferred.makeUnsafe<void, RpcError>()
      gates.push(gate)
      return Deferred.await(gate)
    }
    const early = yield* start(send("early"))
    yield* settle
    let late: Fiber.Fiber<string, RpcError> | undefined
    early.addObserver(() => {
      late = Effect.runFork(send("late"))
    })
    yield* Deferred.fail(gates[0]!, refused)
    assert.deepStrictEqual(yield* Fiber.await(early), Exit.fail(refused))
    yield* settle
    assert.isUndefined(late!.pollUnsafe())
    yield* Deferred.succeed(gates[1]!, undefined)
    assert.strictEqual(yield* Fiber.join(late!), "h:1 late")
    assert.deepInclude(counts() as object, { connects: 2, connectFailures: 1, dead: 0 })
  })

  test("makes one new connection for each that breaks, however many callers meet the break", function*() {
    const { counts, script, send } = yield* pooled
    for (let breaks = 0; breaks < 20; breaks++) {
      const replies = yield* Effect.all(Array.from({ length: 50 }, () => send("a")), { concurrency: "unbounded" })
      assert.lengthOf(replies, 50)
      assert.strictEqual(counts().connects, breaks + 1)
      script.breakAll("h:1", { drained: breaks % 2 === 0 })
      assert.lengthOf(script.live(), 0)
    }
  })

  test("is as good as its connection, and as good as new without one", function*() {
    const { script, send, sink } = yield* pooled
    yield* send("a")
    const seen: Array<string> = []
    for (const state of ["Busy", "Open", "Idle", "Busy"] as const) {
      script.setState("h:1", state)
      seen.push(sink.status.state)
    }
    script.breakAll("h:1", { drained: true })
    assert.deepStrictEqual([...seen, sink.status.state], ["Busy", "Open", "Idle", "Busy", "Idle"])
  })

  test("closed twice is closed", function*() {
    const { close, script, send, sink } = yield* pooled
    yield* send("a")
    yield* close
    yield* close
    assert.deepStrictEqual([sink.status.state, script.live().length], ["Closed", 0])
  })

  it.effect("never has two connections that take calls and leaves none behind, whatever happens in which order", () =>
    Effect.gen(function*() {
      for (let seed = 1; seed <= 40; seed++) {
        const random = seeded(seed)
        yield* Effect.gen(function*() {
          const { aborts, close, counts, script, send, sink } = yield* pooled
          const gates: Array<Deferred.Deferred<void, RpcError>> = []
          const fibers: Array<Fiber.Fiber<string, RpcError>> = []
          let failures = 0
          script.connecting = () => {
            if (random() < 0.5) return Effect.void
            const gate = Deferred.makeUnsafe<void, RpcError>()
            gates.push(gate)
            return Deferred.await(gate)
          }
          script.answer = (request) => random() < 0.5 ? Effect.succeed(request) : Effect.never
          for (let step = 0; step < 60; step++) {
            const what = Math.floor(random() * 7)
            if (what <= 2) fibers.push(yield* start(send("a")))
            else if (what === 3) fibers[Math.floor(random() * fibers.length)]?.interruptUnsafe()
            else if (what === 4) {
              const gate = gates.pop()
              if (gate !== undefined && random() < 0.5) yield* Deferred.succeed(gate, undefined)
              else if (gate !== undefined) {
                failures++
                yield* Deferred.fail(gate, refused)
              }
            } else if (what === 5) script.breakAll("h:1", { drained: random() < 0.5 })
            else script.live().find(({ status }) => status.state === "Open")?.status.set("Busy", draining)
            if (random() < 0.5) yield* settle
            const taking = script.live().filter(({ status }) => status.state === "Open")
            assert.isAtMost(taking.length, 1, `seed ${seed}, step ${step}`)
            if (taking.length === 1) assert.strictEqual(sink.status.state, "Open", `seed ${seed}, step ${step}`)
          }
          yield* settle
          const { connectFailures, connects, dead } = counts()
          assert.deepStrictEqual([connectFailures, dead], [failures, 0], `seed ${seed}`)
          assert.strictEqual(connects, failures + script.connections.length + gates.length, `seed ${seed}`)
          yield* close
          yield* settle
          script.breakAll("h:1")
          for (const fiber of fibers) {
            fiber.interruptUnsafe()
            yield* Fiber.await(fiber)
          }
          assert.lengthOf(script.live(), 0, `seed ${seed}`)
          assert.isTrue(script.connections.every((one) => one.outstanding === 0 && one.status.listeners === 0))
          assert.isTrue(aborts.every(({ listeners }) => listeners === 0), `seed ${seed}`)
          assert.strictEqual(sink.status.state, "Closed")
        }).pipe(Effect.provide(layer))
      }
    }))
})
