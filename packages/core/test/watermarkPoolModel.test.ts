/**
 * The watermark pool under schedules that nobody thought of, and in a whole stack: calls, replies, held responses, breaks, refusals,
 * interruptions, deadlines, idle time and closing. What must hold, holds at every step; at the end nothing is held.
 *
 * A failure names its seed: `SEED=17 vitest run packages/core/test/watermarkPoolModel` runs that schedule alone.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  abortFailure,
  type Attempt,
  beginAttempt,
  ConnectFailed,
  ConnectionClosed,
  describe as describeStack,
  Endpoint,
  type EndpointSink,
  FailureAccrual,
  HeapBalancer,
  Nacked,
  type Outcome,
  Requeue,
  Resurrector,
  type RpcError,
  settleAttempt,
  Stack,
  StatusCell,
  WatermarkPool
} from "@scales-rpc/core"
import { Scripted, ScriptedConnector, Seed, TestServerSet } from "@scales-rpc/core/testing"
import { Deferred, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { TestClock } from "effect/testing"
import { endpoints, makeCall, seeded, settle, start, Text, TextClient } from "./support.ts"

const seeds = process.env["SEED"] === undefined
  ? Array.from({ length: 200 }, (_, index) => index + 1)
  : [Number(process.env["SEED"])]

const endpoint = Endpoint.tcp("h", 1)

/** A connection made by hand: knows which call it carries. */
interface Wire {
  readonly status: StatusCell
  released: boolean
  /** The call that it carries, with a held response too. */
  carries: number | undefined
  /** Since when it carries none. */
  freeSince: number
  /** Ends what it carries. */
  finish: ((how: "reply" | "fail") => void) | undefined
}

interface Placed {
  readonly call: ReturnType<typeof makeCall>
  fiber: Fiber.Fiber<string, RpcError> | undefined
  exit: Exit.Exit<string, RpcError> | undefined
  sent: boolean
  ended: Outcome | undefined
}

interface Counts {
  readonly size: number
  readonly idle: number
  readonly waiting: number
}

const schedule = (seed: number) =>
  Effect.gen(function*() {
    const random = seeded(seed)
    const below = (n: number) => Math.floor(random() * n)
    const one = <A>(of: ReadonlyArray<A>): A => of[below(of.length)]!
    const high = one([1, 2, 3, 8])
    const low = below(high + 1)
    const maxWaiters = one([0, 2, Infinity, Infinity])
    const idleMillis = 1_000
    const lifeMillis = one([Infinity, 1_700])

    const wires: Array<Wire> = []
    const live = () => wires.filter(({ released }) => !released)
    const gates: Array<(how: "accept" | "refuse" | "dead") => void> = []
    const placed: Array<Placed> = []
    /** Calls that are neither sent nor over, in the order they came. */
    const waiting: Array<number> = []
    const gone = (id: number) => {
      const index = waiting.indexOf(id)
      if (index >= 0) waiting.splice(index, 1)
    }
    let now = () => 0
    let connectsAtOnce = false

    const exchange = (wire: Wire, request: string, attempt: Attempt): Effect.Effect<string, RpcError> =>
      Effect.suspend(() => {
        const id = Number(request)
        assert.isUndefined(wire.carries, `seed ${seed}: two calls on a connection`)
        assert.strictEqual(wire.status.state, "Open", `seed ${seed}: handed out while it was not Open`)
        assert.strictEqual(waiting[0], id, `seed ${seed}: not the call that has waited longest`)
        waiting.shift()
        placed[id]!.sent = true
        wire.carries = id
        const closes = random() < 0.7
        const free = () => {
          wire.carries = undefined
          wire.finish = undefined
          wire.freeSince = now()
          off()
        }
        const off = wire.status.subscribe(() => {
          if (wire.status.state === "Closed") wire.finish?.("fail")
        })
        const behaviour = random()
        if (behaviour < 0.2) {
          free()
          return Effect.succeed(request)
        }
        return Effect.callback<string, RpcError>((resume) => {
          const listener = {
            onAbort: (reason: NonNullable<Attempt["abort"]["reason"]>) => {
              free()
              if (closes) wire.status.set("Closed")
              resume(Effect.fail(abortFailure(reason, { waiting: "reply", reached: "maybe", endpoint })))
            }
          }
          attempt.abort.on(listener)
          wire.finish = (how) => {
            attempt.abort.off(listener)
            if (how === "fail") {
              free()
              return resume(Effect.fail(new ConnectionClosed({ endpoint, reached: "maybe", cause: "broken" })))
            }
            if (behaviour < 0.4) {
              // A response that outlives its call.
              const release = attempt.hold()
              const body = {
                onAbort: () => {
                  if (wire.carries !== id) return
                  free()
                  wire.status.set("Closed")
                }
              }
              attempt.abort.on(body)
              wire.finish = (end) => {
                attempt.abort.off(body)
                free()
                release(end === "reply" ? "success" : "failure")
              }
            } else {
              free()
              if (behaviour < 0.5) wire.status.set("Busy", new Nacked({ endpoint, why: "draining", retryable: true }))
            }
            resume(Effect.succeed(request))
          }
          return Effect.sync(() => {
            attempt.abort.off(listener)
            free()
            if (closes) wire.status.set("Closed")
          })
        })
      })

    const connector = Layer.succeed(Text.Connector, {
      connect: () =>
        Effect.gen(function*() {
          const how = connectsAtOnce ? "accept" : yield* Effect.callback<"accept" | "refuse" | "dead">((resume) => {
            const gate = (decided: "accept" | "refuse" | "dead") => {
              gates.splice(gates.indexOf(gate), 1)
              resume(Effect.succeed(decided))
            }
            gates.push(gate)
            return Effect.sync(() => void gates.splice(gates.indexOf(gate), 1))
          })
          if (how === "refuse") {
            return yield* new ConnectFailed({ endpoint, phase: "connect", cause: "refused" })
          }
          const wire: Wire = {
            status: new StatusCell(how === "dead" ? "Closed" : "Open"),
            released: false,
            carries: undefined,
            freeSince: now(),
            finish: undefined
          }
          wires.push(wire)
          yield* Effect.addFinalizer(() =>
            Effect.sync(() => {
              wire.released = true
              wire.status.set("Closed")
            })
          )
          const sink: EndpointSink<string, string, RpcError> = {
            status: wire.status,
            open: Effect.void,
            send: (request, attempt) => exchange(wire, request, attempt)
          }
          return sink
        })
    })
    const scope = yield* Scope.make()
    const layer = WatermarkPool.layer(Text, {
      low,
      high,
      maxWaiters,
      idleTime: idleMillis,
      lifeTime: lifeMillis === Infinity ? undefined : lifeMillis
    }).pipe(Layer.provide(connector), Layer.provideMerge(Stack.layer("text")))
    const context = yield* Layer.buildWithScope(Layer.fresh(layer), yield* Scope.make())
    const { sink, stack } = yield* Effect.provideContext(
      Effect.gen(function*() {
        const { make } = yield* Text.Endpoints
        return { sink: yield* Scope.provide(make(endpoint), scope), stack: yield* Stack }
      }),
      context
    )
    now = stack.now
    const counts = () => describeStack(stack).stages.find(({ role }) => role === "pool")!.state as Counts
    const states: Array<string> = []
    sink.status.subscribe(() => void states.push(sink.status.state))

    const place = Effect.gen(function*() {
      const id = placed.length
      const entry: Placed = { call: makeCall(), fiber: undefined, exit: undefined, sent: false, ended: undefined }
      placed.push(entry)
      waiting.push(id)
      entry.fiber = yield* start(Effect.suspend(() => {
        const attempt = beginAttempt(entry.call, endpoint, stack.now)
        attempt.onEnd((outcome) => {
          assert.isUndefined(entry.ended)
          entry.ended = outcome
        })
        return Effect.onExitPrimitive(sink.send(String(id), attempt), (exit) => {
          entry.exit = exit
          gone(id)
          settleAttempt(attempt, exit)
          return undefined
        })
      }))
    })
    const openCalls = () => placed.filter(({ exit }) => exit === undefined)
    const opens: Array<Fiber.Fiber<void, RpcError>> = []
    const broken = () => new ConnectionClosed({ endpoint, reached: "maybe", cause: "broken" })

    const act = (f: () => void) => () => Effect.sync(f)
    const carrying = () => live().filter(({ finish }) => finish !== undefined)
    const actions: ReadonlyArray<readonly [share: number, run: () => Effect.Effect<void>]> = [
      [10, () => place],
      [6, act(() => one(carrying())?.finish?.("reply"))],
      [1, act(() => one(carrying())?.finish?.("fail"))],
      [2, act(() => one(live())?.status.set("Closed", random() < 0.5 ? broken() : undefined))],
      [1, act(() => one(live())?.status.set("Busy", random() < 0.5 ? broken() : undefined))],
      [5, act(() => one(gates)?.("accept"))],
      [2, act(() => one(gates)?.("refuse"))],
      [1, act(() => one(gates)?.("dead"))],
      [2, act(() => one(openCalls())?.fiber?.interruptUnsafe())],
      [2, act(() => one(placed)?.call.abort.abort({ _tag: "Timeout", timeoutMillis: 1 }))],
      [1, () => Effect.map(start(sink.open), (fiber) => void opens.push(fiber))],
      [2, () => TestClock.adjust(below(idleMillis))],
      [
        1,
        act(() => {
          connectsAtOnce = !connectsAtOnce
        })
      ]
    ]
    const total = actions.reduce((sum, [share]) => sum + share, 0)
    const next = Effect.suspend(() => {
      let dice = random() * total
      return actions.find(([share]) => (dice -= share) < 0)![1]()
    })

    const check = (when: string) => {
      const at = `seed ${seed}, ${when}`
      const { idle, size, waiting: queued } = counts()
      const open = live()
      assert.isAtMost(open.length + gates.length, high, `${at}: more than the high mark`)
      assert.strictEqual(size, open.length + gates.length, `${at}: size`)
      assert.strictEqual(queued, waiting.length, `${at}: waiting`)
      assert.strictEqual(idle, open.filter(({ carries }) => carries === undefined).length, `${at}: idle`)
      assert.isTrue(
        open.every(({ carries, status }) => carries !== undefined || status.state === "Open"),
        `${at}: not Open`
      )
      assert.isTrue(waiting.length === 0 || idle === 0, `${at}: somebody waits beside an idle connection`)
      assert.isTrue(waiting.length === 0 || size > 0, `${at}: somebody waits for nothing`)
      assert.strictEqual(sink.status.state === "Open", open.length > 0, `${at}: ${sink.status.state}`)
      assert.isTrue(opens.every((fiber) => fiber.pollUnsafe() !== undefined) || gates.length > 0, `${at}: open hangs`)
      const old = open.filter(({ carries, freeSince }) => carries === undefined && now() - freeSince > idleMillis)
      assert.isTrue(old.length === 0 || open.length <= low, `${at}: idle for too long`)
      for (const { exit, sent } of placed) {
        if (exit === undefined || Exit.isSuccess(exit) || !sent) continue
        const error = exit.cause.reasons[0]
        if (error?._tag === "Fail") assert.strictEqual(error.error.reached, "maybe", `${at}: ${error.error.message}`)
      }
    }

    const steps = 20 + below(80)
    for (let step = 0; step < steps; step++) {
      yield* next
      yield* settle
      check(`step ${step}`)
    }

    if (random() < 0.5) {
      // All is well again: whoever still waits is answered.
      connectsAtOnce = true
      const busy = () => openCalls().length + gates.length + carrying().length
      for (let turn = 0; turn < 200 && busy() > 0; turn++) {
        for (const gate of [...gates]) gate("accept")
        for (const { finish } of live()) finish?.("reply")
        yield* settle
      }
      check("calm")
      assert.deepStrictEqual(openCalls(), [], `seed ${seed}: never answered`)
      yield* place
      yield* settle
      for (const { finish } of live()) finish?.("reply")
      yield* settle
      const last = placed.at(-1)!
      assert.isTrue(last.exit !== undefined && Exit.isSuccess(last.exit), `seed ${seed}: works no more`)
    }
    yield* Scope.close(scope, Exit.void)
    yield* settle
    assert.deepStrictEqual(openCalls(), [], `seed ${seed}: outlived the pool`)
    assert.isTrue(opens.every((fiber) => fiber.pollUnsafe() !== undefined), `seed ${seed}: open outlived the pool`)
    assert.deepStrictEqual([live().length, gates.length, waiting.length], [0, 0, 0], `seed ${seed}`)
    assert.deepStrictEqual(wires.filter(({ status }) => status.listeners > 0), [], `seed ${seed}: listeners`)
    assert.deepStrictEqual(placed.filter(({ call }) => call.abort.listeners > 0), [], `seed ${seed}: abort listeners`)
    assert.isTrue(placed.every(({ ended }) => ended !== undefined), `seed ${seed}: an attempt never ended`)
    assert.strictEqual(stack.deadlines.size, 0, `seed ${seed}: timers`)
    assert.deepStrictEqual([sink.status.state, states.at(-1)], ["Closed", "Closed"], `seed ${seed}`)
  })

describe("a watermark pool under random schedules", () => {
  it.effect(
    "never has two calls on a connection or more connections than it may, answers in order, and keeps nothing",
    () => Effect.forEach(seeds, schedule, { discard: true }),
    120_000
  )
})

/** A whole client over the pool: requeues, balancer, accrual, resurrector. */
const client = (pool?: WatermarkPool.WatermarkPoolOptions) =>
  TextClient.layer("10 seconds").pipe(
    Layer.provide(Requeue.layer(Text)),
    Layer.provide(HeapBalancer.layer(Text)),
    Layer.provide(FailureAccrual.layer(Text)),
    Layer.provide(Resurrector.layer(Text)),
    Layer.provide(WatermarkPool.layer(Text, pool)),
    Layer.provideMerge(
      // Each call takes 20 ms.
      Scripted.layer(Text, (request, attempt) => Effect.delay(Effect.succeed(`${attempt.endpoint.key} ${request}`), 20))
    ),
    Layer.provideMerge(TestServerSet.layer()),
    Layer.provideMerge(Stack.layer("text")),
    Layer.provideMerge(Seed.layer(1)),
    Layer.fresh
  )

const whole = (
  name: string,
  pool: WatermarkPool.WatermarkPoolOptions | undefined,
  body: () => Generator<Effect.Effect<any, any, any>, void>
) => it.effect(name, () => Effect.gen(body).pipe(Effect.provide(client(pool))) as Effect.Effect<void>)

/** So many callers, each calling again as soon as it is answered, for so many milliseconds. Gives what every call came to. */
const traffic = (callers: number, millis: number) =>
  Effect.gen(function*() {
    const { call } = yield* TextClient
    const exits: Array<Exit.Exit<string, RpcError>> = []
    let on = true
    const caller = Effect.whileLoop({
      while: () => on,
      // A caller that fails at once does not ask again in the same moment.
      body: () => Effect.tap(Effect.exit(call("a")), (exit) => Exit.isFailure(exit) ? Effect.sleep(5) : Effect.void),
      step: (exit) => void exits.push(exit)
    })
    const fibers = yield* Effect.forEach(Array.from({ length: callers }), () => start(caller))
    const tick = Effect.andThen(TestClock.adjust("5 millis"), settle)
    yield* Effect.repeat(tick, { times: Math.ceil(millis / 5) - 1 })
    on = false
    yield* Effect.repeat(tick, { times: 100 })
    for (const fiber of fibers) assert.isDefined(fiber.pollUnsafe(), "a call was never completed")
    return exits
  })

/** How many there were of each. */
const tally = (exits: ReadonlyArray<Exit.Exit<string, RpcError>>) => {
  const found: Record<string, number> = {}
  for (const exit of exits) {
    const reason = Exit.isSuccess(exit) ? undefined : exit.cause.reasons[0]
    const what = Exit.isSuccess(exit)
      ? exit.value.split(" ")[0]!
      : reason?._tag === "Fail"
      ? reason.error._tag
      : "defect"
    found[what] = (found[what] ?? 0) + 1
  }
  return found
}

describe("a whole client over a watermark pool", () => {
  whole(
    "loses only the calls in flight when an endpoint goes away for 3 s, and uses it again",
    undefined,
    function*() {
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1, 2, 3, 4))
      const before = tally(yield* traffic(32, 500))
      assert.deepStrictEqual(Object.keys(before).toSorted(), ["h:1", "h:2", "h:3", "h:4"])
      const down = yield* start(traffic(32, 3_000))
      yield* settle
      const inFlight = script.live().filter((each) => each.endpoint.port === 1 && each.outstanding > 0).length
      assert.isAbove(inFlight, 4)
      script.refuse("h:1")
      script.breakAll("h:1")
      const during = tally(yield* Fiber.join(down))
      assert.strictEqual(during["ConnectionClosed"], inFlight)
      assert.deepStrictEqual(Object.keys(during).toSorted(), ["ConnectionClosed", "h:2", "h:3", "h:4"])
      script.accept("h:1")
      yield* TestClock.adjust("10 seconds")
      const after = tally(yield* traffic(32, 500))
      assert.deepStrictEqual(Object.keys(after).toSorted(), ["h:1", "h:2", "h:3", "h:4"])
      assert.isAbove(after["h:1"]!, before["h:1"]! / 2)
    }
  )

  whole("loses only the calls in flight of a small pool with a long queue, too", { high: 4 }, function*() {
    const script = yield* ScriptedConnector
    yield* (yield* TestServerSet).bind(endpoints(1, 2))
    const down = yield* start(traffic(40, 2_000))
    yield* settle
    script.refuse("h:1")
    script.breakAll("h:1")
    assert.deepStrictEqual(
      Object.entries(tally(yield* Fiber.join(down))).map(([key, count]) => key === "h:2" ? key : [key, count]),
      [
        ["ConnectionClosed", 4],
        "h:2"
      ]
    )
  })

  whole(
    "completes every call when its only server restarts, and reconnects without losing the queue",
    { high: 4 },
    function*() {
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1))
      const running = yield* start(traffic(20, 1_000))
      yield* settle
      // Accepts again at once: who was in the queue is served on new connections.
      script.breakAll("h:1")
      const found = tally(yield* Fiber.join(running))
      assert.deepStrictEqual(Object.keys(found).toSorted(), ["ConnectionClosed", "h:1"])
      assert.strictEqual(found["ConnectionClosed"], 4)
      assert.isAbove(found["h:1"]!, 150)
    }
  )

  whole("is not kept waiting by one slow call", { high: 2 }, function*() {
    const script = yield* ScriptedConnector
    const { call } = yield* TextClient
    yield* (yield* TestServerSet).bind(endpoints(1))
    const reply = Deferred.makeUnsafe<string>()
    const usual = script.answer
    script.answer = () => Deferred.await(reply)
    const slow = yield* start(call("slow"))
    yield* settle
    script.answer = usual
    assert.deepStrictEqual(Object.keys(tally(yield* traffic(4, 1_000))), ["h:1"])
    assert.isUndefined(slow.pollUnsafe())
    yield* Deferred.succeed(reply, "at last")
    assert.strictEqual(yield* Fiber.join(slow), "at last")
  })

  whole("fails no call when its server closes idle connections", undefined, function*() {
    const script = yield* ScriptedConnector
    yield* (yield* TestServerSet).bind(endpoints(1, 2))
    for (let round = 0; round < 5; round++) {
      assert.deepStrictEqual(Object.keys(tally(yield* traffic(16, 200))).toSorted(), ["h:1", "h:2"])
      for (const port of [1, 2]) script.breakAll(`h:${port}`, { drained: true })
      assert.lengthOf(script.live(), 0)
    }
  })

  whole("goes on when calls time out in a full pool's queue", { high: 1 }, function*() {
    const script = yield* ScriptedConnector
    const { call, calls } = yield* TextClient
    yield* (yield* TestServerSet).bind(endpoints(1))
    const reply = Deferred.makeUnsafe<string>()
    const usual = script.answer
    script.answer = () => Deferred.await(reply)
    const slow = yield* start(call("slow"))
    yield* TestClock.adjust("5 seconds")
    const late = yield* start(call("late"))
    yield* TestClock.adjust("4999 millis")
    const queued = yield* start(Effect.flip(call("queued")))
    yield* Deferred.succeed(reply, "in time")
    yield* settle
    assert.deepStrictEqual([yield* Fiber.join(slow), yield* Fiber.join(late)], ["in time", "in time"])
    yield* Fiber.interrupt(queued)
    // A server that is frozen: the one that has the connection times out, and those in the queue do.
    script.answer = () => Effect.never
    const fibers = yield* Effect.forEach(["a", "b", "c"], (text) => start(Effect.flip(call(text))))
    yield* TestClock.adjust("10 seconds")
    const errors = yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber))
    assert.deepStrictEqual(errors.map((error) => error._tag === "Timeout" && error.waiting), [
      "reply",
      "queue",
      "queue"
    ])
    script.answer = usual
    const next = yield* start(call("next"))
    yield* TestClock.adjust("20 millis")
    assert.strictEqual(yield* Fiber.join(next), "h:1 next")
    assert.isTrue(calls.every(({ abort }) => abort.listeners === 0))
  })

  whole("sends what finds a queue full to another endpoint", { high: 1, maxWaiters: 0 }, function*() {
    const script = yield* ScriptedConnector
    yield* (yield* TestServerSet).bind(endpoints(1, 2, 3))
    const { call } = yield* TextClient
    script.answer = () => Effect.never
    const fibers = yield* Effect.forEach(["a", "b", "c"], (text) => start(call(text)))
    yield* settle
    assert.deepStrictEqual(script.live().map(({ outstanding }) => outstanding), [1, 1, 1])
    const error = yield* Effect.flip(call("d"))
    assert.deepInclude(error, { _tag: "MaxWaiters", max: 0 } as never)
    for (const fiber of fibers) yield* Fiber.interrupt(fiber)
  })
})
