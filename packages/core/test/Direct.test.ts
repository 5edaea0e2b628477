/** The direct way down a stack: when calls take it, what hides it, and that it leaves nothing behind however they end. */
import { assert, describe, it } from "@effect/vitest"
import {
  Abort,
  type Call,
  type Classifier,
  classifyExit,
  ConnectionClosed,
  Direct,
  Dispatcher,
  FailureAccrual,
  HeapBalancer,
  NackAdmission,
  Nacked,
  Requeue,
  Resurrector,
  Retry,
  Rpc,
  type RpcError,
  SingletonPool,
  Stack,
  Superseded,
  WatermarkPool
} from "@scales-rpc/core"
import { Recorder, Scripted, ScriptedConnector, Seed, TestServerSet } from "@scales-rpc/core/testing"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Layer, Scheduler, Scope } from "effect"
import { TestClock } from "effect/testing"
import { endpoints, makeCall, settle, start, stop, Text } from "./support.ts"

/** Calls, and how many of them went which way. */
class Client extends Context.Service<Client, {
  readonly call: (text: string) => Effect.Effect<string, RpcError>
  /** Calls that were asked to go the direct way, that did, and that went by `send`. */
  readonly ways: { asked: number; direct: number; send: number }
  /** Every call, once or twice. */
  readonly calls: ReadonlyArray<Call>
}>()("test/DirectClient") {}

interface Options {
  readonly pool?: "singleton" | "watermark"
  readonly above?: Layer.Layer<"Text/Balanced", never, "Text/Balanced" | Stack>
  readonly below?: Layer.Layer<"Text/Endpoints", never, "Text/Endpoints" | Stack>
  /** Whether connections offer the direct way. Default true. */
  readonly offered?: boolean
  readonly classify?: Classifier
  /** What the direct way of a connection does. Default: what the script says, as for `send`. */
  readonly exchange?: Direct.DirectEndpoint<string, string, RpcError>["send"]
  readonly retry?: Retry.RetryOptions
  readonly nackAdmission?: NackAdmission.NackAdmissionOptions
  readonly idempotent?: boolean
  /** Says what of a reply is a failure. */
  readonly errorOf?: (value: unknown) => string | undefined
}

const client = ({ classify = classifyExit, errorOf, idempotent = false }: Options) =>
  Layer.effect(
    Client,
    Effect.gen(function*() {
      const sink = yield* Text.Balanced
      const direct = Direct.through(sink)
      const { dispatch } = yield* Dispatcher.make({ service: "text", timeout: "10 seconds" })
      const ways = { asked: 0, direct: 0, send: 0 }
      const calls: Array<Call> = []
      return Client.of({
        ways,
        calls,
        call: (text) =>
          dispatch(
            { name: "call", idempotent, classify, span: errorOf && { name: "call", attributes: {}, errorOf } },
            (call) => {
              ways.send++
              calls.push(call)
              return sink.send(text, call)
            },
            direct && ((call, done) => {
              ways.asked++
              calls.push(call)
              const begun = direct(text, call, done)
              if (begun) ways.direct++
              return begun
            })
          )
      })
    })
  )

/** Connections that offer the direct way. */
const offering = (exchange: Options["exchange"]) =>
  Layer.effect(
    Text.Connector,
    Effect.map(Text.Connector, (connector) =>
      Text.Connector.of({
        connect: (endpoint) =>
          Effect.map(connector.connect(endpoint), (sink) => ({
            ...sink,
            send: Direct.offer(
              sink.send,
              {
                ready: () => sink.status.state === "Open",
                send: exchange ?? ((request: string, attempt, done: Direct.Done<string, RpcError>) =>
                  Direct.goOn(() => sink.send(request, attempt), attempt, done))
              } satisfies Direct.DirectEndpoint<string, string, RpcError>
            )
          }))
      }))
  )

const passBalanced = Layer.effect(Text.Balanced, Text.Balanced)
const passEndpoints = Layer.effect(Text.Endpoints, Text.Endpoints)
const passConnector = Layer.effect(Text.Connector, Text.Connector)

const stack = (options: Options = {}) =>
  client(options).pipe(
    Layer.provide(options.above ?? passBalanced),
    Layer.provide(Retry.layer(Text, options.retry)),
    Layer.provide(Requeue.layer(Text)),
    Layer.provide(NackAdmission.layer(Text, options.nackAdmission)),
    Layer.provideMerge(HeapBalancer.layer(Text)),
    Layer.provide(options.below ?? passEndpoints),
    Layer.provide(FailureAccrual.layer(Text)),
    Layer.provide(Resurrector.layer(Text)),
    Layer.provide(options.pool === "watermark" ? WatermarkPool.layer(Text, { high: 1 }) : SingletonPool.layer(Text)),
    Layer.provide(options.offered === false ? passConnector : offering(options.exchange)),
    Layer.provideMerge(
      Scripted.layer(Text, (request, attempt) => Effect.succeed(`${attempt.endpoint.key} ${request}`))
    ),
    Layer.provideMerge(TestServerSet.layer()),
    Layer.provideMerge(Stack.layer("text")),
    Layer.provideMerge(Seed.layer(1)),
    Layer.fresh
  )

/** What is left of calls that have all ended: nothing. */
const assertNothingLeft = Effect.gen(function*() {
  const shared = yield* Stack
  const script = yield* ScriptedConnector
  const state = (role: string) => shared.nodes().find((node) => node.role === role)!.snapshot()
  const { calls } = yield* Client
  assert.deepInclude(state("dispatcher") as object, { outstanding: 0 })
  for (const { abort } of calls) assert.strictEqual(abort.listeners, 0)
  const views = (state("balancer") as { endpoints: ReadonlyArray<{ load: number }> }).endpoints
  assert.deepEqual(views.map(({ load }) => load), views.map(() => 0))
  assert.deepEqual(script.connections.map(({ outstanding }) => outstanding), script.connections.map(() => 0))
  // Idle connections, and probes, have timers of their own: those of calls are none of them.
  for (const timer of shared.deadlines) assert.notProperty(timer, "timeoutMillis")
})

/** Runs a test on a stack with one endpoint, which is connected by a first call. */
const connected = <A, E>(
  options: Options,
  test: Effect.Effect<A, E, Client | Stack | ScriptedConnector | TestServerSet | "Text/Balanced">
) =>
  Effect.gen(function*() {
    const set = yield* TestServerSet
    yield* set.bind(endpoints(1))
    yield* settle
    const { call, ways } = yield* Client
    assert.strictEqual(yield* call("first"), "h:1 first")
    assert.strictEqual(ways.direct, 0, "a call that has to wait for the connection goes by send")
    ways.asked = ways.send = 0
    return yield* test
  }).pipe(Effect.provide(stack(options)))

const pools = ["singleton", "watermark"] as const

const lost = new ConnectionClosed({ endpoint: endpoints(1)[0]!, reached: "maybe", cause: "reset" })

const unable = (): never => {
  throw new Error("cannot tell")
}

/** What the defect says that a call ended with; `undefined`: it has not ended, or not with one. */
const defectOf = (exit: Exit.Exit<unknown, unknown> | undefined): unknown =>
  exit !== undefined && Exit.isFailure(exit) && Cause.hasDies(exit.cause)
    ? (Cause.squash(exit.cause) as Error).message
    : undefined

describe("a call on the direct way", () => {
  for (const pool of pools) {
    describe(`with a ${pool} pool`, () => {
      it.effect("goes there once the endpoint is connected, and gets its reply", () =>
        connected(
          { pool },
          Effect.gen(function*() {
            const { call, ways } = yield* Client
            assert.strictEqual(yield* call("hi"), "h:1 hi")
            assert.deepEqual(ways, { asked: 1, direct: 1, send: 0 })
            yield* assertNothingLeft
          })
        ))

      it.effect("fails with what the endpoint fails with, and that is no end of the direct way", () =>
        connected(
          { pool },
          Effect.gen(function*() {
            const script = yield* ScriptedConnector
            const { call, ways } = yield* Client
            script.answer = (_, { endpoint }) => Effect.fail(new Nacked({ endpoint, why: "no", retryable: false }))
            assert.strictEqual((yield* Effect.flip(call("hi")))._tag, "Nacked")
            assert.deepEqual(ways, { asked: 1, direct: 1, send: 0 })
            yield* assertNothingLeft
          })
        ))

      it.effect("is sent again when it was refused", () =>
        connected(
          { pool },
          Effect.gen(function*() {
            const script = yield* ScriptedConnector
            const { call } = yield* Client
            script.answer = (request, { endpoint, number }) =>
              number < 3 ? Effect.fail(new Nacked({ endpoint, why: "no", retryable: true })) : Effect.succeed(request)
            assert.strictEqual(yield* call("hi"), "hi")
            yield* assertNothingLeft
          })
        ))

      it.effect("goes on by send when it is refused by a connection that breaks as it refuses", () =>
        connected(
          { pool },
          Effect.gen(function*() {
            const script = yield* ScriptedConnector
            const { call, ways } = yield* Client
            script.answer = (request, { endpoint, number }) =>
              number > 0 ? Effect.succeed(request) : Effect.suspend(() => {
                script.breakAll(endpoint.key, { drained: true })
                return Effect.fail(new Nacked({ endpoint, why: "no", retryable: true }))
              })
            assert.strictEqual(yield* call("hi"), "hi")
            assert.deepEqual(ways, { asked: 1, direct: 1, send: 0 })
            assert.lengthOf(script.connections, 2)
            yield* assertNothingLeft
          })
        ))

      it.effect("times out, and the connection hears of it", () =>
        connected(
          { pool },
          Effect.gen(function*() {
            const script = yield* ScriptedConnector
            const { call, ways } = yield* Client
            script.answer = () => Effect.never
            const fiber = yield* start(Effect.flip(call("hi").pipe(Rpc.deadline("1 second"))))
            assert.strictEqual(ways.direct, 1)
            yield* TestClock.adjust("1 second")
            assert.deepInclude(yield* Fiber.join(fiber), { _tag: "Timeout", timeoutMillis: 1000, reached: "maybe" })
            yield* assertNothingLeft
          })
        ))

      it.effect("is interrupted with its caller, at once, and counted as such", () =>
        connected(
          { pool },
          Effect.gen(function*() {
            const script = yield* ScriptedConnector
            const shared = yield* Stack
            const { call } = yield* Client
            script.answer = () => Effect.never
            const fiber = yield* start(call("hi"))
            yield* stop(fiber)
            const exit = fiber.pollUnsafe()
            assert.isTrue(exit !== undefined && Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
            const dispatcher = shared.nodes().find(({ role }) => role === "dispatcher")!.snapshot()
            assert.deepInclude(dispatcher as object, { failures: { Interrupted: 1 } })
            yield* assertNothingLeft
          })
        ))

      it.effect("is told of in its span when it is interrupted, with no failure that its caller had nothing to do with", () =>
        connected(
          {
            pool,
            exchange: (_, { abort, endpoint }, done) =>
              abort.on({ onAbort: () => done(Exit.fail(new Superseded({ reached: "maybe", endpoint }))) })
          },
          Recorder.spans(Effect.fnUntraced(function*(spans) {
            const { call, ways } = yield* Client
            const fiber = yield* start(call("hi"))
            assert.strictEqual(ways.direct, 1)
            yield* stop(fiber)
            assert.deepStrictEqual(spans[0]!.events.map(([name, , attributes]) => [name, attributes]), [
              ["attempt", { endpoint: "h:1", number: 0 }],
              ["attempt.failed", { endpoint: "h:1", number: 0, outcome: "ignored", "error.type": "Interrupted" }]
            ])
          }))
        ))

      it.effect("is interrupted after its endpoint was lost, while it waits for the next connection", () =>
        connected(
          { pool },
          Effect.gen(function*() {
            const script = yield* ScriptedConnector
            const { call } = yield* Client
            script.connecting = () => Effect.never
            script.answer = (_, { endpoint }) =>
              Effect.suspend(() => {
                script.breakAll(endpoint.key, { drained: true })
                return Effect.fail(new Nacked({ endpoint, why: "no", retryable: true }))
              })
            const fiber = yield* start(call("hi"))
            yield* settle
            assert.isUndefined(fiber.pollUnsafe())
            yield* stop(fiber)
            yield* assertNothingLeft
          })
        ))

      it.effect("ends with the defect of a classifier, and lets go of the endpoint", () =>
        connected(
          { pool, classify: (exit) => Exit.isSuccess(exit) && exit.value === "bad" ? unable() : classifyExit(exit) },
          Effect.gen(function*() {
            const script = yield* ScriptedConnector
            const { call } = yield* Client
            script.answer = (request) => Effect.succeed(request)
            const exit = yield* Effect.exit(call("bad"))
            assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
            assert.strictEqual(yield* call("good"), "good")
            yield* assertNothingLeft
          })
        ))

      it.effect("keeps each of many apart, those that wait for the connection among them", () =>
        connected(
          { pool },
          Effect.gen(function*() {
            const script = yield* ScriptedConnector
            const { call, ways } = yield* Client
            script.answer = (request) => Effect.as(Effect.yieldNow, request)
            const texts = Array.from({ length: 50 }, (_, i) => `${i}`)
            assert.deepEqual(yield* Effect.forEach(texts, call, { concurrency: "unbounded" }), texts)
            assert.deepEqual(ways, { asked: 50, direct: 50, send: 0 })
            yield* assertNothingLeft
          })
        ))

      it.effect("holds nothing after an interruption or an abort, whichever step of an attempt it was at", () =>
        Effect.gen(function*() {
          for (let steps = 4; steps < 30; steps++) {
            for (const happening of ["interrupt", "deadline"] as const) {
              yield* connected(
                { pool },
                Effect.gen(function*() {
                  const script = yield* ScriptedConnector
                  const { call } = yield* Client
                  script.answer = (request, { endpoint, number }) =>
                    Effect.andThen(
                      Effect.yieldNow,
                      number === 0
                        ? Effect.fail(new Nacked({ endpoint, why: "once", retryable: true }))
                        : Effect.succeed(request)
                    )
                  const fiber = yield* start(
                    call("hi").pipe(
                      Rpc.deadline("1 second"),
                      Effect.provideService(Scheduler.MaxOpsBeforeYield, steps)
                    )
                  )
                  for (let turn = 0; turn < steps % 5; turn++) yield* Effect.yieldNow
                  if (happening === "interrupt") fiber.interruptUnsafe()
                  else yield* TestClock.adjust("1 second")
                  for (let turn = 0; turn < 100 && fiber.pollUnsafe() === undefined; turn++) yield* Effect.yieldNow
                  assert.isDefined(fiber.pollUnsafe(), `${happening} at ${steps}: the call hangs`)
                  yield* settle
                  yield* assertNothingLeft
                })
              )
            }
          }
        }))
    })
  }

  it.effect("is interrupted in what goes on in a fiber of its own and hears of no abort", () =>
    Effect.gen(function*() {
      let interrupted = false
      const deaf = Effect.onInterrupt(Effect.never, () =>
        Effect.sync(() => {
          interrupted = true
        }))
      const abort = new Abort(Infinity, Infinity)
      const exits: Array<Exit.Exit<never, never>> = []
      Direct.goOn(() => deaf, makeCall({ abort }), (exit) => exits.push(exit))
      abort.abort({ _tag: "Interrupted" })
      yield* settle
      assert.isTrue(interrupted)
      assert.lengthOf(exits, 1)
      assert.strictEqual(abort.listeners, 0)
    }))

  for (const masked of [false, true]) {
    const what = masked ? "lets nothing interrupt it" : "hears of no abort"
    it.effect(`times out in what goes on in a fiber of its own and ${what}`, () =>
      Effect.gen(function*() {
        let ended = false
        const end = Deferred.makeUnsafe<void>()
        const deaf = Effect.ensuring(
          Effect.andThen(Deferred.await(end), Effect.fail(lost)),
          Effect.sync(() => {
            ended = true
          })
        )
        const abort = new Abort(1000, 1000)
        const exits: Array<Exit.Exit<void, RpcError>> = []
        Direct.goOn(
          () => masked ? Effect.uninterruptible(deaf) : deaf,
          makeCall({ abort }),
          (exit) => exits.push(exit)
        )
        abort.abort({ _tag: "Timeout", timeoutMillis: 1000 })
        assert.lengthOf(exits, 0, "a wait that hears of the abort answers first")
        yield* settle
        const [exit] = exits
        assert.isTrue(exit !== undefined && Exit.isFailure(exit))
        assert.deepInclude(Cause.squash((exit as Exit.Failure<void, RpcError>).cause), {
          _tag: "Timeout",
          timeoutMillis: 1000,
          waiting: "filter",
          reached: "no"
        })
        assert.strictEqual(ended, !masked)
        Deferred.doneUnsafe(end, Exit.void)
        yield* settle
        assert.isTrue(ended)
        assert.lengthOf(exits, 1)
        assert.strictEqual(abort.listeners, 0)
      }))
  }

  it("ends with the defect of what it was to go on by, and throws nothing", () => {
    const exits: Array<Exit.Exit<unknown, unknown>> = []
    Direct.goOn(unable, makeCall(), (exit) => exits.push(exit))
    assert.deepStrictEqual(exits.map(defectOf), ["cannot tell"])
  })

  const throwing: ReadonlyArray<readonly [string, Options, RpcError]> = [
    ["what retries it", { idempotent: true, retry: { when: () => unable() } }, lost],
    [
      "what requeues it",
      {},
      Object.defineProperty(new Nacked({ endpoint: endpoints(1)[0]!, why: "no", retryable: true }), "retryable", {
        get: unable
      })
    ]
  ]
  for (const [what, options, failure] of throwing) {
    it.effect(`ends with the defect of ${what}, and the connection that it failed on hears nothing of it`, () => {
      let end: Direct.Done<string, RpcError> | undefined
      return connected(
        {
          ...options,
          exchange: (_request, _attempt, done) => {
            end = done
          }
        },
        Effect.gen(function*() {
          const { call, ways } = yield* Client
          const fiber = yield* start(call("hi"))
          assert.strictEqual(ways.direct, 1)
          assert.doesNotThrow(() => end!(Exit.fail(failure)))
          yield* settle
          assert.strictEqual(defectOf(fiber.pollUnsafe()), "cannot tell")
          yield* assertNothingLeft
        })
      )
    })
  }

  for (const when of ["at once", "later"] as const) {
    it.effect(`that is answered ${when} ends with the defect of what looks at its reply, and is waited for no more`, () =>
      Effect.gen(function*() {
        let end = (): void => {}
        const scope = yield* Scope.make()
        const context = yield* Layer.buildWithScope(
          stack({
            errorOf: (value) => value === "bad" ? unable() : undefined,
            exchange: (_request, _attempt, done) => {
              end = () => done(Exit.succeed("bad"))
              if (when === "at once") end()
            }
          }),
          scope
        )
        yield* Effect.gen(function*() {
          const set = yield* TestServerSet
          const { call, ways } = yield* Client
          yield* set.bind(endpoints(1))
          yield* call("first")
          const fiber = yield* start(call("hi"))
          const closing = yield* start(Scope.close(scope, Exit.void))
          assert.strictEqual(ways.direct, 1)
          if (when === "later") assert.doesNotThrow(end)
          yield* settle
          assert.strictEqual(defectOf(fiber.pollUnsafe()), "cannot tell")
          assert.isDefined(closing.pollUnsafe())
        }).pipe(Effect.provideContext(context))
      }))
  }

  it.effect("is heard of once by what throws when it hears of it", () =>
    connected(
      { exchange: (_request, _attempt, done) => done(Exit.succeed("good")) },
      Effect.gen(function*() {
        const direct = Direct.through(yield* Text.Balanced)!
        const exits: Array<unknown> = []
        assert.throws(() =>
          direct("hi", makeCall(), (exit) => {
            exits.push(exit)
            unable()
          }), "cannot tell")
        assert.deepEqual(exits, [Exit.succeed("good")])
        yield* assertNothingLeft
      })
    ))

  it.effect("that waited for a connection and cannot be sent ends alone: neither who had it nor who has it next hears", () => {
    let end: Direct.Done<string, RpcError> | undefined
    return connected(
      {
        pool: "watermark",
        exchange: (request, _attempt, done) => {
          if (request === "bad") unable()
          if (request === "early") end = done
          else done(Exit.succeed(request))
        }
      },
      Effect.gen(function*() {
        const { call, ways } = yield* Client
        const fibers = yield* Effect.forEach(["early", "bad", "late"], (text) => start(call(text)))
        assert.strictEqual(ways.direct, 3)
        assert.doesNotThrow(() => end!(Exit.succeed("early")))
        yield* settle
        const [early, bad, late] = fibers.map((fiber) => fiber.pollUnsafe())
        assert.deepEqual(early, Exit.succeed("early"))
        assert.strictEqual(defectOf(bad), "cannot tell")
        assert.deepEqual(late, Exit.succeed("late"))
        yield* assertNothingLeft
      })
    )
  })

  it.effect("drains when its stack closes: it is waited for", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(stack(), scope)
      yield* Effect.gen(function*() {
        const set = yield* TestServerSet
        const script = yield* ScriptedConnector
        const { call } = yield* Client
        yield* set.bind(endpoints(1))
        yield* call("first")
        script.answer = (request) => Effect.as(Effect.sleep("1 second"), request)
        const fiber = yield* start(call("hi"))
        const closing = yield* start(Scope.close(scope, Exit.void))
        assert.strictEqual((yield* Effect.flip(call("late")))._tag, "StackClosed")
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* Fiber.join(fiber), "hi")
        yield* Fiber.join(closing)
      }).pipe(Effect.provideContext(context))
    }))
})

describe("the direct way", () => {
  it.effect("is no way past a filter above that puts its own send in place, however it was made", () => {
    const seen: Array<string> = []
    const above = Layer.effect(
      Text.Balanced,
      Effect.map(Text.Balanced, (inner) =>
        Text.Balanced.of({
          ...inner,
          send: (request, call) => {
            seen.push(request)
            return inner.send(request, call)
          }
        }))
    )
    return connected(
      { above },
      Effect.gen(function*() {
        const { call, ways } = yield* Client
        yield* call("hi")
        assert.deepEqual(seen, ["first", "hi"])
        assert.deepEqual(ways, { asked: 0, direct: 0, send: 1 })
      })
    )
  })

  it.effect("is no way past a filter below", () => {
    const seen: Array<string> = []
    const below = Layer.effect(
      Text.Endpoints,
      Effect.map(Text.Endpoints, (factory) =>
        Text.Endpoints.of({
          make: (endpoint) =>
            Effect.map(factory.make(endpoint), (inner) => ({
              ...inner,
              send: (request, attempt) => {
                seen.push(request)
                return inner.send(request, attempt)
              }
            }))
        }))
    )
    return connected(
      { below },
      Effect.gen(function*() {
        const { call, ways } = yield* Client
        yield* call("hi")
        assert.deepEqual(seen, ["first", "hi"])
        assert.deepEqual(ways, { asked: 1, direct: 0, send: 1 })
        yield* assertNothingLeft
      })
    )
  })

  for (const pool of pools) {
    it.effect(`is not taken when connections have none, with a ${pool} pool`, () =>
      connected(
        { pool, offered: false },
        Effect.gen(function*() {
          const { call, ways } = yield* Client
          assert.strictEqual(yield* call("hi"), "h:1 hi")
          assert.deepEqual(ways, { asked: 1, direct: 0, send: 1 })
          yield* assertNothingLeft
        })
      ))
  }

  it.effect("is admitted once by nack admission when it is declined below", () =>
    connected(
      { offered: false },
      Effect.gen(function*() {
        const shared = yield* Stack
        const script = yield* ScriptedConnector
        const { call } = yield* Client
        const accepted = () =>
          shared.nodes().find(({ role }) => role === "nackAdmission")!.snapshot() as { readonly accepted: number }
        script.answer = (_, { endpoint }) => Effect.fail(new Nacked({ endpoint, why: "no", retryable: false }))
        const refused = (times: number) => Effect.forEach(Array.from({ length: times }), () => Effect.exit(call("hi")))
        yield* TestClock.adjust("10 seconds")
        // What is less than 5 attempts in a second is no load, and its refusals say nothing.
        yield* refused(4)
        assert.strictEqual(accepted().accepted, 1)
        yield* TestClock.adjust("10 millis")
        yield* refused(2)
        assert.isBelow(accepted().accepted, 1)
      })
    ))

  it.effect("is dropped no more often by nack admission when it is declined below", () =>
    connected(
      { offered: false, nackAdmission: { window: "1 second" } },
      Effect.gen(function*() {
        const shared = yield* Stack
        const script = yield* ScriptedConnector
        const { call } = yield* Client
        const dropped = () =>
          (shared.nodes().find(({ role }) => role === "nackAdmission")!.snapshot() as { readonly dropped: number })
            .dropped
        script.answer = (_, { endpoint }) => Effect.fail(new Nacked({ endpoint, why: "no", retryable: false }))
        const refused = (times: number) =>
          Effect.forEach(Array.from({ length: times }), () =>
            Effect.andThen(TestClock.adjust("100 millis"), Effect.exit(call("hi"))))
        yield* refused(200)
        const before = dropped()
        yield* refused(1000)
        // 0.75 of them, 4 standard deviations off at most.
        assert.approximately((dropped() - before) / 1000, 0.75, 0.055)
      })
    ))

  it.effect("counts a call once that is declined", () =>
    connected(
      { offered: false },
      Effect.gen(function*() {
        const shared = yield* Stack
        const { call } = yield* Client
        yield* call("hi")
        const dispatcher = shared.nodes().find(({ role }) => role === "dispatcher")!.snapshot()
        assert.deepInclude(dispatcher as object, { calls: 2, successes: 2 })
      })
    ))
})
