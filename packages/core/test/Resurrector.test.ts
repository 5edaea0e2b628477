import { assert, describe, it } from "@effect/vitest"
import {
  beginAttempt,
  type Call,
  ConnectFailed,
  ConnectionClosed,
  describe as describeStack,
  Endpoint,
  type EndpointSink,
  type FastFailure,
  Resurrector,
  type RpcError,
  Stack
} from "@scales-rpc/core"
import { Seed } from "@scales-rpc/core/testing"
import { Clock, Deferred, Effect, Exit, Fiber, Layer, Random, Schedule, Scope } from "effect"
import { TestClock } from "effect/testing"
import { handEndpoints, makeCall, settle, start, stop, Text } from "./support.ts"

const broken = (port: number) =>
  new ConnectionClosed({ endpoint: Endpoint.tcp("h", port), reached: "maybe", cause: "reset" })
const refused = (port: number) =>
  new ConnectFailed({ endpoint: Endpoint.tcp("h", port), phase: "connect", cause: "refused" })

/** Resurrected endpoints over ones made by hand, and when each of them tried to open. */
const resurrected = (options?: Resurrector.ResurrectorOptions, ports: ReadonlyArray<number> = [1]) =>
  Effect.gen(function*() {
    const hand = handEndpoints()
    const scope = yield* Scope.make()
    const inner = Layer.succeed(Text.Endpoints, hand.factory)
    const layer = Resurrector.layer(Text, options).pipe(
      Layer.provide(inner),
      Layer.provideMerge(Stack.layer("text")),
      Layer.provideMerge(Seed.layer(1))
    )
    const context = yield* Layer.buildWithScope(Layer.fresh(layer), scope)
    const { factory, stack } = yield* Effect.provideContext(
      Effect.gen(function*() {
        return { factory: yield* Text.Endpoints, stack: yield* Stack }
      }),
      context
    )
    const clock = yield* Clock.Clock
    const attempts = new Map<number, Array<number>>()
    const sinks = new Map<number, EndpointSink<string, string, RpcError>>()
    for (const port of ports) {
      const made = Scope.provide(factory.make(Endpoint.tcp("h", port)), scope)
      sinks.set(port, yield* Effect.provideContext(made, context))
      refuse(port)
    }
    /** Opening fails from now on. */
    function refuse(port: number) {
      const times = attempts.get(port) ?? []
      attempts.set(port, times)
      hand.at(port).opening = Effect.suspend(() => {
        times.push(clock.currentTimeMillisUnsafe())
        return Effect.fail(refused(port))
      })
    }
    /** Opening succeeds from now on. */
    const accept = (port: number) => {
      hand.at(port).opening = Effect.suspend(() => {
        attempts.get(port)!.push(clock.currentTimeMillisUnsafe())
        hand.at(port).status.set("Open")
        return Effect.void
      })
    }
    /** Opening waits until the result is used. */
    const hang = (port: number) => {
      const gate = Deferred.makeUnsafe<void, RpcError>()
      hand.at(port).opening = Effect.suspend(() => {
        attempts.get(port)!.push(clock.currentTimeMillisUnsafe())
        return Deferred.await(gate)
      })
      return {
        succeed: Effect.suspend(() => {
          hand.at(port).status.set("Open")
          return Deferred.succeed(gate, undefined)
        }),
        fail: Deferred.fail(gate, refused(port))
      }
    }
    const breakIt = (port: number) => hand.at(port).status.set("Closed", broken(port))
    const sink = (port = 1) => sinks.get(port)!
    const send = (text = "hi", call: Call = makeCall(), port = 1) =>
      sink(port).send(text, beginAttempt(call, Endpoint.tcp("h", port), stack.now))
    const counts = () => describeStack(stack).stages.find(({ role }) => role === "resurrector")!.state
    return {
      accept,
      attempts: (port = 1) => attempts.get(port)!,
      breakIt,
      close: Scope.close(scope, Exit.void),
      counts,
      hand,
      hang,
      refuse,
      send,
      sink
    }
  })

/** The delays of the default backoff, jittered as the seed says. */
const expectedDelays = (count: number) =>
  Effect.gen(function*() {
    const random = yield* Random.Random
    return Array.from({ length: count }, (_, n) => {
      const delay = 250 * 1.5 ** n
      const dice = random.nextDoubleUnsafe()
      return Math.min(10_000, delay * 0.8 * (1 - dice) + delay * 1.2 * dice)
    })
  }).pipe(Effect.provide(Seed.layer(1)))

const test = (name: string, body: () => Generator<Effect.Effect<any, any, any>, void>) =>
  it.effect(name, () => Effect.gen(body) as Effect.Effect<void>)

describe("a resurrector", () => {
  test("passes calls and status through while its endpoint is up", function*() {
    const { hand, send, sink } = yield* resurrected()
    assert.strictEqual(sink().status.state, "Idle")
    const fiber = yield* start(send())
    hand.at(1).pending[0]!.answer("hello")
    assert.strictEqual(yield* Fiber.join(fiber), "hello")
    for (const state of ["Open", "Busy", "Open", "Idle"] as const) {
      hand.at(1).status.set(state)
      assert.strictEqual(sink().status.state, state)
    }
    hand.at(1).opening = Effect.void
    yield* sink().open
  })

  test("tries 250 ms after a break, then half as long again each time up to 10 s, each within a fifth", function*() {
    const { attempts, breakIt } = yield* resurrected()
    breakIt(1)
    yield* TestClock.adjust("2 minutes")
    const times = attempts()
    const delays = times.map((at, n) => at - (n === 0 ? 0 : times[n - 1]!))
    const expected = yield* expectedDelays(delays.length)
    assert.isAbove(delays.length, 15)
    for (const [n, delay] of delays.entries()) {
      const plain = 250 * 1.5 ** n
      assert.isAtLeast(delay, Math.min(10_000, plain * 0.8) - 1e-6)
      assert.isAtMost(delay, Math.min(10_000, plain * 1.2) + 1e-6)
      assert.approximately(delay, expected[n]!, 1e-5, `attempt ${n} is where the seed puts it`)
    }
    assert.isTrue(delays.includes(10_000))
  })

  test("goes on with calls when an attempt succeeds, and begins its backoff anew with the next break", function*() {
    const { accept, attempts, breakIt, counts, refuse, send, sink } = yield* resurrected()
    breakIt(1)
    yield* TestClock.adjust("5 seconds")
    const tried = attempts().length
    assert.isAbove(tried, 3)
    accept(1)
    yield* TestClock.adjust("10 seconds")
    assert.lengthOf(attempts(), tried + 1)
    assert.strictEqual(sink().status.state, "Open")
    assert.isUndefined(sink().status.fault)
    assert.deepInclude(counts() as object, { down: 0, attempts: tried + 1, revivals: 1 })
    const fiber = yield* start(send())
    assert.isUndefined(fiber.pollUnsafe())
    refuse(1)
    const before = yield* Clock.currentTimeMillis
    breakIt(1)
    yield* TestClock.adjust("301 millis")
    assert.isAtMost(attempts().at(-1)! - before, 300)
    assert.isAtLeast(attempts().at(-1)! - before, 200)
  })

  test("fails calls fast while it is down, with the cause and when it tries next", function*() {
    const { attempts, breakIt, send, sink } = yield* resurrected()
    breakIt(1)
    assert.include(sink().status.fault!.message, "reset")
    // A break is no failed attempt: the first call that needs the endpoint has it tried at once.
    const error = (yield* Effect.flip(send())) as FastFailure
    assert.strictEqual(error._tag, "FastFailure")
    assert.deepStrictEqual([error.reached, error.retryable], ["no", true])
    assert.include(error.message, "refused")
    assert.strictEqual(error.cause, (sink().status.fault as FastFailure).cause)
    assert.deepStrictEqual(attempts(), [0])
    // The next call's demand: as soon as the interval allows.
    const later = (yield* Effect.flip(send())) as FastFailure
    assert.strictEqual(later.nextAttempt, 50)
    yield* TestClock.adjust("50 millis")
    assert.deepStrictEqual(attempts(), [0, 50])
  })

  test("is Closed with that failure as its fault, renewed with each attempt", function*() {
    const { attempts, breakIt, sink } = yield* resurrected()
    const faults: Array<RpcError> = []
    const off = sink().status.subscribe(() => faults.push(sink().status.fault!))
    breakIt(1)
    assert.strictEqual(sink().status.state, "Closed")
    yield* TestClock.adjust("1 second")
    off()
    assert.lengthOf(faults, 1 + attempts().length)
    assert.deepStrictEqual(faults.map(({ _tag }) => _tag), faults.map(() => "FastFailure"))
    const nexts = faults.map((fault) => (fault as FastFailure).nextAttempt)
    assert.deepStrictEqual(nexts.slice(0, -1), attempts())
    assert.include(faults[0]!.message, "reset")
    assert.include(faults[1]!.message, "refused")
  })

  test("has nothing to do with a connection that was drained: it stays usable, with no backoff", function*() {
    const { attempts, counts, hand, send, sink } = yield* resurrected()
    hand.at(1).status.set("Open")
    hand.at(1).status.set("Closed")
    assert.strictEqual(sink().status.state, "Idle")
    yield* TestClock.adjust("1 minute")
    assert.deepStrictEqual(attempts(), [])
    assert.deepInclude(counts() as object, { down: 0, attempts: 0, revivals: 0 })
    const fiber = yield* start(send())
    hand.at(1).pending[0]!.answer("hello")
    assert.strictEqual(yield* Fiber.join(fiber), "hello")
  })

  test("is not up when the connection it opened broke at once", function*() {
    const { accept, breakIt, hand, sink } = yield* resurrected()
    breakIt(1)
    hand.at(1).opening = Effect.sync(() => {
      hand.at(1).status.set("Open")
      breakIt(1)
    })
    yield* TestClock.adjust("1 second")
    assert.strictEqual(sink().status.state, "Closed")
    assert.strictEqual(sink().status.fault?._tag, "FastFailure")
    accept(1)
    yield* TestClock.adjust("5 seconds")
    assert.strictEqual(sink().status.state, "Open")
  })
})

describe("a call to an endpoint that is down", () => {
  test("makes it try now, and is sent when that succeeds", function*() {
    const { accept, attempts, breakIt, hand, send } = yield* resurrected()
    breakIt(1)
    yield* TestClock.adjust("60 millis")
    accept(1)
    const fiber = yield* start(send())
    assert.deepStrictEqual(attempts(), [60])
    hand.at(1).pending[0]!.answer("hello")
    assert.strictEqual(yield* Fiber.join(fiber), "hello")
    yield* TestClock.adjust("1 minute")
    assert.deepStrictEqual(attempts(), [60])
  })

  test("joins an attempt that is under way, one at a time however many calls there are", function*() {
    const { attempts, breakIt, hand, hang, send } = yield* resurrected()
    breakIt(1)
    yield* TestClock.adjust("60 millis")
    const gate = hang(1)
    const fibers = yield* Effect.forEach(["a", "b", "c"], (text) => start(send(text)))
    yield* TestClock.adjust("10 seconds")
    assert.lengthOf(attempts(), 1)
    yield* gate.succeed
    yield* settle
    assert.lengthOf(hand.at(1).pending, 3)
    for (const exchange of hand.at(1).pending.slice()) exchange.answer(exchange.request.toUpperCase())
    assert.deepStrictEqual(yield* Effect.forEach(fibers, Fiber.join), ["A", "B", "C"])
  })

  test("fails with the attempt that it joined, with what that met", function*() {
    const { breakIt, hang, send } = yield* resurrected()
    breakIt(1)
    yield* TestClock.adjust("60 millis")
    const gate = hang(1)
    const calls = [makeCall(), makeCall()]
    const fibers = yield* Effect.forEach(calls, (call) => start(Effect.flip(send("hi", call))))
    yield* gate.fail
    for (const error of yield* Effect.forEach(fibers, Fiber.join)) {
      assert.strictEqual(error._tag, "FastFailure")
      assert.include(error.message, "refused")
    }
    assert.deepStrictEqual(calls.map(({ abort }) => abort.listeners), [0, 0])
  })

  test("is no reason to try again sooner than the demand interval, then it is", function*() {
    const { attempts, breakIt, send } = yield* resurrected({
      demandInterval: "100 millis",
      backoff: Schedule.spaced("1 hour")
    })
    breakIt(1)
    for (let i = 0; i < 1_000; i++) {
      yield* Effect.flip(send())
      yield* TestClock.adjust("1 millis")
    }
    assert.deepStrictEqual(attempts(), [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1_000])
  })

  test("that broke as soon as it was there is tried no sooner than the interval allows", function*() {
    const { accept, attempts, breakIt, hand, send } = yield* resurrected({ backoff: Schedule.spaced("1 hour") })
    accept(1)
    hand.at(1).status.set("Open")
    breakIt(1)
    for (let i = 0; i < 5; i++) assert.strictEqual((yield* Effect.flip(send()))._tag, "FastFailure")
    assert.deepStrictEqual(attempts(), [])
    yield* TestClock.adjust("50 millis")
    assert.deepStrictEqual(attempts(), [50])
  })

  test("does not put off an attempt that is nearer", function*() {
    const { attempts, breakIt, send } = yield* resurrected({
      demandInterval: "1 second",
      backoff: Schedule.spaced("300 millis")
    })
    breakIt(1)
    yield* Effect.flip(send())
    yield* TestClock.adjust("300 millis")
    assert.deepStrictEqual(attempts(), [0, 300])
  })

  test("leaves the attempt and nothing else behind when it is interrupted or aborted", function*() {
    const { breakIt, hand, hang, send, sink } = yield* resurrected()
    breakIt(1)
    yield* TestClock.adjust("60 millis")
    const gate = hang(1)
    const calls = [makeCall(), makeCall(), makeCall()]
    const interrupted = yield* start(send("a", calls[0]))
    const aborted = yield* start(Effect.flip(send("b", calls[1])))
    const stays = yield* start(send("c", calls[2]))
    yield* stop(interrupted)
    calls[1]!.abort.abort({ _tag: "Timeout", timeoutMillis: 7 })
    const error = yield* Fiber.join(aborted)
    assert.deepInclude(error, { _tag: "Timeout", waiting: "connection", reached: "no" })
    assert.include(error.message, "reset")
    yield* gate.succeed
    yield* settle
    assert.deepStrictEqual(hand.at(1).pending.map(({ request }) => request), ["c"])
    hand.at(1).pending[0]!.answer("C")
    assert.strictEqual(yield* Fiber.join(stays), "C")
    assert.deepStrictEqual(calls.map(({ abort }) => abort.listeners), [0, 0, 0])
    assert.strictEqual(sink().status.state, "Open")
  })

  test("that was aborted before it came goes nowhere", function*() {
    const { attempts, breakIt, send } = yield* resurrected()
    breakIt(1)
    yield* TestClock.adjust("60 millis")
    const call = makeCall()
    call.abort.abort({ _tag: "Superseded" })
    assert.strictEqual((yield* Effect.flip(send("hi", call)))._tag, "Superseded")
    assert.deepStrictEqual(attempts(), [])
  })
})

describe("attempts on demand", () => {
  test("leave the backoff where it stands: under load an endpoint that is down is no longer waited for", function*() {
    const { accept, attempts, breakIt, send, sink } = yield* resurrected()
    breakIt(1)
    // A storm of a minute: an attempt every 50 ms.
    for (let i = 0; i < 1200; i++) {
      yield* TestClock.adjust("50 millis")
      yield* Effect.flip(send())
    }
    assert.isAbove(attempts().length, 1000)
    accept(1)
    // Nobody calls any more: the first delay of the backoff, within a fifth.
    yield* TestClock.adjust("300 millis")
    assert.strictEqual(sink().status.state, "Open")
  })
})

describe("endpoints of one client", () => {
  const hourly = { backoff: Schedule.spaced("1 hour") }

  test("all try when a call finds one of them down", function*() {
    const { attempts, breakIt, send } = yield* resurrected(hourly, [1, 2, 3])
    for (const port of [1, 2]) breakIt(port)
    yield* TestClock.adjust("60 millis")
    yield* Effect.flip(send())
    assert.deepStrictEqual([1, 2, 3].map((port) => attempts(port)), [[60], [60], []])
  })

  test("all try when the first comes back after all were down", function*() {
    const { accept, attempts, breakIt, sink } = yield* resurrected(hourly, [1, 2, 3])
    for (const port of [1, 2, 3]) breakIt(port)
    yield* TestClock.adjust("60 millis")
    for (const port of [1, 3]) accept(port)
    yield* sink(1).open
    assert.deepStrictEqual([1, 2, 3].map((port) => attempts(port)), [[60], [60], [60]])
    assert.deepStrictEqual([1, 2, 3].map((port) => sink(port).status.state), ["Open", "Closed", "Open"])
  })

  test("all try when one comes back by its own backoff after all were down, and none when others were up", function*() {
    for (const thirdIsUp of [false, true]) {
      const { accept, attempts, breakIt, close } = yield* resurrected(hourly, [1, 2, 3])
      const begin = yield* Clock.currentTimeMillis
      breakIt(1)
      yield* TestClock.adjust("10 minutes")
      breakIt(2)
      if (!thirdIsUp) breakIt(3)
      accept(1)
      yield* TestClock.adjust("50 minutes")
      const times = [1, 2, 3].map((port) => attempts(port).map((at) => at - begin))
      assert.deepStrictEqual(times, thirdIsUp ? [[3_600_000], [], []] : [[3_600_000], [3_600_000], [3_600_000]])
      yield* close
    }
  })

  test("are no storm of connects however many are down: a hundred at a time, no sooner than the interval", function*() {
    const ports = Array.from({ length: 250 }, (_, index) => index + 1)
    const { attempts, breakIt, send } = yield* resurrected(hourly, ports)
    for (const port of ports) breakIt(port)
    const tried = () => ports.filter((port) => attempts(port).length > 0).length
    yield* TestClock.adjust("60 millis")
    for (let i = 0; i < 10; i++) yield* Effect.flip(send())
    assert.strictEqual(tried(), 100)
    yield* TestClock.adjust("50 millis")
    for (let i = 0; i < 10; i++) yield* Effect.flip(send())
    assert.isAtLeast(tried(), 199)
    yield* TestClock.adjust("50 millis")
    yield* Effect.flip(send())
    assert.strictEqual(tried(), 250)
  })

  test("that closed are woken by nobody", function*() {
    const { attempts, breakIt, close, counts } = yield* resurrected(undefined, [1, 2])
    for (const port of [1, 2]) breakIt(port)
    assert.deepInclude(counts() as object, { down: 2, attempts: 0, revivals: 0 })
    yield* close
    yield* TestClock.adjust("1 minute")
    assert.deepStrictEqual([attempts(1), attempts(2)], [[], []])
  })
})

describe("opening through a resurrector", () => {
  test("tries now, and is done when that succeeds", function*() {
    const { accept, attempts, breakIt, sink } = yield* resurrected()
    breakIt(1)
    yield* TestClock.adjust("60 millis")
    accept(1)
    yield* sink().open
    assert.deepStrictEqual(attempts(), [60])
  })

  test("joins an attempt that is under way and fails with what that met", function*() {
    const { attempts, breakIt, hang, sink } = yield* resurrected()
    breakIt(1)
    yield* TestClock.adjust("60 millis")
    const gate = hang(1)
    const fibers = yield* Effect.forEach([1, 2], () => start(Effect.flip(sink().open)))
    yield* gate.fail
    for (const error of yield* Effect.forEach(fibers, Fiber.join)) assert.strictEqual(error._tag, "ConnectFailed")
    assert.lengthOf(attempts(), 1)
  })

  test("is a demand like any other: no sooner than the interval allows", function*() {
    const { attempts, breakIt, sink } = yield* resurrected({ backoff: Schedule.spaced("1 hour") })
    breakIt(1)
    // An attempt that fails in this turn has failed before it can be joined.
    assert.strictEqual((yield* Effect.flip(sink().open))._tag, "FastFailure")
    assert.strictEqual((yield* Effect.flip(sink().open))._tag, "FastFailure")
    assert.deepStrictEqual(attempts(), [0])
    yield* TestClock.adjust("50 millis")
    assert.deepStrictEqual(attempts(), [0, 50])
  })
})

describe("a backoff", () => {
  test("that ends leaves trying to demand", function*() {
    const { accept, attempts, breakIt, hand, send, sink } = yield* resurrected({
      backoff: Schedule.spaced("100 millis").pipe(Schedule.upTo({ times: 2 }))
    })
    breakIt(1)
    yield* TestClock.adjust("1 hour")
    assert.deepStrictEqual(attempts(), [100, 200])
    assert.strictEqual((sink().status.fault as FastFailure).nextAttempt, Infinity)
    const error = yield* Effect.flip(send())
    assert.strictEqual(error._tag, "FastFailure")
    assert.lengthOf(attempts(), 3)
    yield* TestClock.adjust("1 hour")
    assert.lengthOf(attempts(), 3)
    accept(1)
    const fiber = yield* start(send())
    hand.at(1).pending[0]!.answer("hello")
    assert.strictEqual(yield* Fiber.join(fiber), "hello")
  })

  test("without delays tries once a millisecond at most, never within its own turn", function*() {
    const { accept, attempts, breakIt, sink } = yield* resurrected({ backoff: Schedule.forever })
    breakIt(1)
    assert.deepStrictEqual(attempts(), [])
    yield* TestClock.adjust("5 millis")
    assert.deepStrictEqual(attempts(), [1, 2, 3, 4, 5])
    accept(1)
    yield* TestClock.adjust("1 millis")
    assert.strictEqual(sink().status.state, "Open")
  })

  test("that waits for something else is none", function*() {
    const { attempts, breakIt } = yield* resurrected({
      backoff: Schedule.spaced("1 millis").pipe(Schedule.modifyDelay(() => Effect.as(Effect.never, "1 millis")))
    })
    breakIt(1)
    yield* TestClock.adjust("1 hour")
    assert.deepStrictEqual(attempts(), [])
  })
})

describe("closing a resurrector", () => {
  test("ends its sleep and its attempt, and fails those who joined it", function*() {
    const { attempts, breakIt, close, hand, send, sink } = yield* resurrected()
    breakIt(1)
    yield* TestClock.adjust("60 millis")
    let ended = false
    hand.at(1).opening = Effect.onInterrupt(Effect.never, () =>
      Effect.sync(() => {
        ended = true
      }))
    const call = makeCall()
    const fiber = yield* start(Effect.flip(send("hi", call)))
    const opening = yield* start(Effect.flip(sink().open))
    yield* close
    assert.isTrue(ended)
    assert.strictEqual((yield* Fiber.join(fiber))._tag, "FastFailure")
    yield* Fiber.join(opening)
    assert.strictEqual(call.abort.listeners, 0)
    assert.strictEqual(sink().status.state, "Closed")
    assert.isUndefined(sink().status.fault)
    assert.strictEqual(hand.at(1).status.listeners, 0)
    yield* TestClock.adjust("1 minute")
    assert.deepStrictEqual(attempts(), [])
  })

  test("leaves an endpoint that never broke alone", function*() {
    const { close, hand, sink } = yield* resurrected()
    hand.at(1).status.set("Open")
    yield* close
    assert.strictEqual(sink().status.state, "Closed")
    assert.isTrue(hand.at(1).closed)
  })
})

describe("the options of a resurrector", () => {
  it.effect("are checked", () =>
    Effect.gen(function*() {
      const layer = Resurrector.layer(Text, { demandInterval: -1 }).pipe(
        Layer.provide(Layer.succeed(Text.Endpoints, handEndpoints().factory)),
        Layer.provide(Stack.layer("text"))
      )
      const error = yield* Effect.flip(Effect.scoped(Layer.build(layer)))
      assert.strictEqual(error.option, "demandInterval")
    }))
})
