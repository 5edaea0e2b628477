/** A deadline binds everything: wherever a call waits, it ends there and then, says where, and leaves nothing. */
import { assert, describe, it } from "@effect/vitest"
import {
  ConcurrencyLimit,
  ConnectFailed,
  describe as describeStack,
  Filter,
  Nacked,
  Rpc,
  type RpcError,
  type ServerSetState,
  Stack,
  type Timeout,
  type Waiting
} from "@scales-rpc/core"
import { type Script, ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Deferred, Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { endpoints, settle, stack, start, type TestStackOptions, Text, TextClient } from "./support.ts"

/** One place where a call may wait. */
interface Wait {
  readonly name: string
  readonly waiting: Waiting
  readonly reached: "no" | "maybe"
  /** What the wait had met, in the error's cause. */
  readonly cause?: RegExp
  readonly endpoint?: string
  readonly attempts?: number
  readonly options?: TestStackOptions
  readonly state?: ServerSetState
  /** Makes the stack such that the next call waits there. */
  readonly arrange: (
    script: Script<string, string, RpcError>,
    client: typeof TextClient.Service
  ) => Effect.Effect<void, RpcError>
}

const h1 = endpoints(1)[0]!

const waits: ReadonlyArray<Wait> = [
  {
    name: "for the first state of the server set",
    waiting: "endpoint",
    reached: "no",
    attempts: 0,
    state: { _tag: "Pending" },
    arrange: () => Effect.void
  },
  {
    name: "for the first endpoint to open, after all were tried in vain",
    waiting: "endpoint",
    reached: "no",
    cause: /refused by the script/,
    arrange: (script) => Effect.sync(() => script.refuse("h:1"))
  },
  {
    name: "for a connection that is not made",
    waiting: "connection",
    reached: "no",
    endpoint: "h:1",
    arrange: (script) =>
      Effect.sync(() => {
        script.connecting = () => Effect.never
      })
  },
  {
    name: "for a handshake that hangs and lets nobody interrupt it",
    waiting: "connection",
    reached: "no",
    endpoint: "h:1",
    arrange: (script) =>
      Effect.sync(() => {
        // It ends at last, long after the call: the stack closes.
        script.connecting = () => Effect.uninterruptible(Effect.sleep("1 minute"))
      })
  },
  {
    name: "for an attempt at reconnecting that it joined",
    waiting: "connection",
    reached: "no",
    cause: /broken by the script/,
    endpoint: "h:1",
    arrange: (script, { call }) =>
      Effect.gen(function*() {
        yield* call("connects")
        // A connection that breaks as soon as it is there is not made anew on demand.
        yield* TestClock.adjust(100)
        script.connecting = () => Effect.never
        script.breakAll("h:1")
      })
  },
  {
    name: "for its turn under a concurrency limit",
    waiting: "queue",
    reached: "no",
    attempts: 0,
    options: { above: Layer.orDie(ConcurrencyLimit.layer(Text, { maxConcurrent: 1, maxWaiting: 1 })) },
    arrange: (script, { call }) =>
      Effect.gen(function*() {
        script.answer = () => Effect.never
        yield* start(call("has the slot"))
      })
  },
  {
    name: "for its reply",
    waiting: "reply",
    reached: "maybe",
    endpoint: "h:1",
    attempts: 1,
    arrange: (script) =>
      Effect.sync(() => {
        script.answer = () => Effect.never
      })
  },
  {
    name: "for the reply to a requeue, of which none begins after it",
    waiting: "reply",
    reached: "maybe",
    endpoint: "h:1",
    attempts: 3,
    arrange: (script) =>
      Effect.sync(() => {
        const nacked = new Nacked({ endpoint: h1, why: "busy", retryable: true })
        script.answer = () => Effect.andThen(Effect.sleep(500), Effect.fail(nacked))
      })
  },
  {
    name: "in a filter of the user's",
    waiting: "filter",
    reached: "no",
    attempts: 0,
    options: { above: Filter.above(Text, (inner) => Effect.succeed({ ...inner, send: () => Effect.never })) },
    arrange: () => Effect.void
  }
]

/** What the stack holds of its calls. */
const held = Effect.gen(function*() {
  const shared = yield* Stack
  const { calls } = yield* TextClient
  const script = yield* ScriptedConnector
  const stateOf = (role: string): any => describeStack(shared).stages.find((node) => node.role === role)?.state
  return () => ({
    outstanding: stateOf("dispatcher").outstanding,
    timers: shared.deadlines.size,
    load: stateOf("balancer").endpoints.reduce((sum: number, { load }: { load: number }) => sum + load, 0),
    listeners: calls.reduce((sum, { abort }) => sum + abort.listeners, 0),
    exchanges: script.connections.reduce((sum, { outstanding }) => sum + outstanding, 0),
    waiting: stateOf("concurrencyLimit")?.waiting ?? 0,
    slots: stateOf("concurrencyLimit")?.inUse ?? 0
  })
})

describe("a deadline ends a call that waits", () => {
  for (const wait of waits) {
    it.effect(wait.name, () =>
      Effect.gen(function*() {
        const client = yield* TextClient
        const script = yield* ScriptedConnector
        const set = yield* TestServerSet
        const holds = yield* held
        yield* set.push(wait.state ?? { _tag: "Bound", endpoints: [h1] })
        yield* settle
        yield* wait.arrange(script, client)
        yield* settle
        const before = holds()
        const fiber = yield* start(Effect.flip(client.call("hi").pipe(Rpc.deadline(1234))))
        yield* settle
        assert.strictEqual(holds().outstanding, before.outstanding + 1)
        yield* TestClock.adjust(1233)
        assert.isUndefined(fiber.pollUnsafe(), "ended before its deadline")
        yield* TestClock.adjust(1)
        assert.isDefined(fiber.pollUnsafe(), "did not end at its deadline")
        const error = (yield* Fiber.join(fiber)) as Timeout
        assert.deepInclude(error, {
          _tag: "Timeout",
          timeoutMillis: 1234,
          waiting: wait.waiting,
          reached: wait.reached,
          retryable: false
        } as never)
        assert.strictEqual(error.endpoint?.key, wait.endpoint)
        if (wait.cause !== undefined) assert.match(error.message, wait.cause)
        const call = client.calls.at(-1)!
        if (wait.attempts !== undefined) assert.lengthOf(call.tried, wait.attempts)
        assert.deepStrictEqual(holds(), before)
      }).pipe(Effect.provide(stack({ ...wait.options, stack: { drainTimeout: 0 } }))))
  }

  it.effect("whatever its caller does meanwhile: one that has passed begins nothing", () =>
    Effect.gen(function*() {
      const { call, calls } = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1))
      const late = Effect.andThen(TestClock.adjust(100), Effect.flip(call("late"))).pipe(Rpc.deadline(100))
      assert.deepInclude(yield* late, { _tag: "Timeout", timeoutMillis: 0, reached: "no" } as never)
      assert.deepStrictEqual([calls.length, script.attempts.size], [0, 0])
    }).pipe(Effect.provide(stack())))

  it.effect("and is the nearest of all that there are: the caller's, an outer one, and the client's timeout", () =>
    Effect.gen(function*() {
      const { call } = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1))
      script.answer = () => Effect.never
      const calls = [
        call("a").pipe(Rpc.deadline(300), Rpc.deadline(700)),
        call("b").pipe(Rpc.deadline(700), Rpc.deadline(400)),
        call("c").pipe(Rpc.deadline("1 minute")),
        call("d")
      ]
      const fibers = yield* Effect.forEach(calls, (one) => start(Effect.flip(one)))
      const ended: Array<readonly [number, number]> = []
      for (let time = 100; time <= 1000; time += 100) {
        yield* TestClock.adjust(100)
        ended.push([time, fibers.filter((fiber) => fiber.pollUnsafe() !== undefined).length])
      }
      assert.deepStrictEqual(ended.filter(([, count], i) => count !== (ended[i - 1]?.[1] ?? 0)), [
        [300, 1],
        [400, 2],
        [1000, 4]
      ])
    }).pipe(Effect.provide(stack({ timeout: "1 second" }))))

  it.effect("for hundreds of calls in every wait at once, and leaves nothing of any", () =>
    Effect.gen(function*() {
      const { call } = yield* TextClient
      const script = yield* ScriptedConnector
      const set = yield* TestServerSet
      const holds = yield* held
      const gate = Deferred.makeUnsafe<void>()
      script.answer = () => Effect.never
      // One endpoint is connected, one connects, one is refused; some calls came before there was any.
      script.connecting = ({ port }) =>
        port === 1
          ? Effect.void
          : port === 2
          ? Deferred.await(gate)
          : Effect.fail(new ConnectFailed({ endpoint: h1, phase: "connect", cause: "refused" }))
      const fibers: Array<Fiber.Fiber<RpcError, string>> = []
      for (let i = 0; i < 300; i++) {
        if (i === 50) yield* set.bind(endpoints(1, 2, 3))
        if (i % 50 === 0) yield* settle
        // One ends each millisecond from 1000 on, in an order that is not theirs.
        fibers.push(yield* start(Effect.flip(call("hi").pipe(Rpc.deadline(1000 + (i * 7919) % 300)))))
      }
      yield* settle
      yield* TestClock.adjust(999)
      for (let ended = 0; ended <= 300; ended += 25) {
        assert.strictEqual(fibers.filter((fiber) => fiber.pollUnsafe() !== undefined).length, ended)
        yield* TestClock.adjust(25)
      }
      const errors = yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber))
      const seen = new Set(errors.map((error) => `${error._tag} ${"waiting" in error ? error.waiting : ""}`))
      assert.deepStrictEqual([...seen].toSorted(), ["Timeout connection", "Timeout queue", "Timeout reply"])
      assert.deepStrictEqual(holds(), {
        outstanding: 0,
        timers: 0,
        load: 0,
        listeners: 0,
        exchanges: 0,
        waiting: 0,
        slots: 0
      })
    }).pipe(
      Effect.provide(stack({
        above: Layer.orDie(ConcurrencyLimit.layer(Text, { maxConcurrent: 200, maxWaiting: 100 }))
      }))
    ))
})
