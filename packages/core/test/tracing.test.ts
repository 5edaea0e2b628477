/** Spans of calls: when there is one, what it says, and what the server is given to continue. */
import { assert, describe, it } from "@effect/vitest"
import {
  type Attempt,
  type Call,
  CallContext,
  classifyExit,
  Dispatcher,
  Filter,
  Hedge,
  InboundSpan,
  Nacked,
  outboundTrace,
  outboundTraceBytes,
  Rpc,
  type RpcError,
  ServerTracing,
  Stack,
  type StackOptions,
  Trace,
  type TraceId,
  Tracing,
  withServerSpan
} from "@scales-rpc/core"
import { ScriptedConnector, Seed, TestServerSet } from "@scales-rpc/core/testing"
import { Context, Effect, Exit, Fiber, Layer, Option, References, Scope, Tracer } from "effect"
import { TestClock } from "effect/testing"
import { logging } from "./logging.ts"
import { endpoints, makeCall, seeded, stack, start, stop, Text, TextClient } from "./support.ts"

/** A tracer that keeps what it made; `sampled` says what it thinks of each. */
const recording = (sampled?: boolean) => {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan({ ...options, sampled: sampled ?? options.sampled })
      spans.push(span)
      return span
    }
  })
  return { spans, tracer, listen: Effect.provideService(Tracer.Tracer, tracer) }
}

/** The events of a span, their times in milliseconds. */
const eventsOf = (span: Tracer.NativeSpan) =>
  span.events.map(([name, at, attributes]) => [name, Number(at) / 1e6, attributes] as const)

const parentOf = (span: Tracer.Span) => Option.getOrUndefined(span.parent)

/** When it ended, in milliseconds. */
const endOf = ({ status }: Tracer.NativeSpan): number =>
  status._tag === "Ended" ? Number(status.endTime) / 1e6 : Infinity

/** The endpoint that its attributes tell of. */
const portOf = (span: Tracer.Span): string => `h:${String(span.attributes.get("server.port"))}`

const exitOf = ({ status }: Tracer.NativeSpan): Exit.Exit<unknown, unknown> | undefined =>
  status._tag === "Ended" ? status.exit : undefined

const method: Dispatcher.CalledMethod = { name: "call", idempotent: false, classify: classifyExit }

/** A dispatcher alone, seeded. */
const dispatcher = (options?: StackOptions) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(
      Layer.provideMerge(Stack.layer("text", options), Seed.layer(1)),
      scope
    )
    const { dispatch } = yield* Dispatcher.make({ service: "text", timeout: "10 seconds" }).pipe(
      Effect.provideContext(context),
      Scope.provide(scope)
    )
    return { close: Scope.close(scope, Exit.void), dispatch }
  })

/** The call that a dispatch makes. */
const callOf = (dispatch: Dispatcher.Dispatcher["dispatch"]) => dispatch(method, (call) => Effect.succeed(call))

const external = (sampled: boolean) =>
  Tracer.externalSpan({ traceId: "ab".repeat(16), spanId: "cd".repeat(8), sampled })

/** A client over endpoints 1 and 2, whose answers the script gives. */
const client = (options?: Parameters<typeof stack>[0]) =>
  Effect.gen(function*() {
    const context = yield* Layer.build(stack(options))
    const script = Context.get(context, ScriptedConnector)
    const set = Context.get(context, TestServerSet)
    yield* set.bind(endpoints(1, 2))
    return { call: Context.get(context, TextClient).call, script, set }
  })

describe("a call nobody listens to", () => {
  it.effect("has no span, and gives its server none", () =>
    Effect.gen(function*() {
      const { dispatch } = yield* dispatcher()
      const { span, trace } = yield* callOf(dispatch)
      assert.deepStrictEqual([span, trace], [undefined, undefined])
    }))

  it.effect("gives its server the span that it is made in, be that Effect's or another's", () =>
    Effect.gen(function*() {
      const { dispatch } = yield* dispatcher({ traceSampling: 0 })
      const around = external(true)
      const { span, trace } = yield* callOf(dispatch).pipe(Effect.withParentSpan(around))
      assert.deepStrictEqual([span, trace], [undefined, around])
      const [call, outer] = yield* Effect.withSpan(Effect.all([callOf(dispatch), Effect.currentSpan]), "outer")
      assert.isUndefined(call.span)
      assert.strictEqual(call.trace, outer)
    }))

  it.effect("is one whose tracer is Effect's default, or turned off; it is never asked", () =>
    Effect.gen(function*() {
      const { dispatch } = yield* dispatcher()
      const { listen, spans } = recording()
      const given = Effect.provideService(Tracer.Tracer, Tracer.nativeTracer)
      const off = (self: ReturnType<typeof callOf>) => listen(Effect.withTracerEnabled(self, false))
      for (const quiet of [given, off]) {
        const { span, trace } = yield* quiet(callOf(dispatch))
        assert.deepStrictEqual([span, trace], [undefined, undefined])
        const around = external(true)
        assert.strictEqual((yield* Effect.withParentSpan(quiet(callOf(dispatch)), around)).trace, around)
      }
      assert.lengthOf(spans, 0)
    }))

  it.effect("hands nothing on where propagation is turned off", () =>
    Effect.gen(function*() {
      const { dispatch } = yield* dispatcher()
      const { listen, spans } = recording()
      const { span, trace } = yield* callOf(dispatch).pipe(
        Effect.provideService(Tracer.DisablePropagation, true),
        Effect.withParentSpan(external(true)),
        listen
      )
      assert.deepStrictEqual([span, trace, spans.length], [undefined, undefined, 0])
      // A span that is marked with it is passed over for what is around it.
      const around = external(true)
      const passed = yield* callOf(dispatch).pipe(
        Effect.withSpan("marked", { annotations: Context.make(Tracer.DisablePropagation, true) }),
        Effect.withParentSpan(around)
      )
      assert.strictEqual(passed.trace, around)
    }))
})

describe("the span of a call", () => {
  it.effect("is a client's, named after service and method, under the span that the call is made in", () =>
    Effect.gen(function*() {
      const { dispatch } = yield* dispatcher()
      const { listen, spans } = recording()
      yield* TestClock.setTime(5000)
      const call = yield* dispatch(method, (call) => Effect.as(TestClock.adjust(20), call)).pipe(
        Effect.withSpan("outer"),
        listen
      )
      const [outer, span] = spans as [Tracer.NativeSpan, Tracer.NativeSpan]
      assert.strictEqual(call.span, span)
      assert.strictEqual(call.trace, span)
      assert.deepStrictEqual([span.name, span.kind, parentOf(span)], ["text/call", "client", outer])
      assert.deepStrictEqual(Object.fromEntries(span.attributes), { "rpc.method": "text/call" })
      assert.deepStrictEqual([Number(span.startTime) / 1e6, endOf(span)], [5000, 5020])
      assert.isTrue(Exit.isSuccess(exitOf(span)!))
    }))

  it.effect("is what its method says, with the annotations and links of the effect", () =>
    Effect.gen(function*() {
      const { dispatch } = yield* dispatcher()
      const { listen, spans } = recording()
      const link = { span: external(true), attributes: {} }
      const named = {
        ...method,
        span: { name: "GET", attributes: { a: 1 }, errorOf: (value: unknown) => String(value) }
      }
      yield* dispatch(named, () => Effect.succeed(404)).pipe(
        Effect.annotateSpans("tenant", "acme"),
        Effect.provideService(References.TracerSpanLinks, [link]),
        listen
      )
      const [span] = spans as [Tracer.NativeSpan]
      assert.strictEqual(span.name, "GET")
      assert.deepStrictEqual(Object.fromEntries(span.attributes), { tenant: "acme", a: 1, "error.type": "404" })
      assert.deepStrictEqual(span.links, [link])
      assert.isTrue(Exit.isFailure(exitOf(span)!))
    }))

  it.effect("tells the tag of what the call failed with", () =>
    Effect.gen(function*() {
      const { close, dispatch } = yield* dispatcher()
      const { listen, spans } = recording()
      const failures = [
        Effect.fail(new Nacked({ endpoint: endpoints(1)[0]!, why: "", retryable: true })),
        Effect.die("x")
      ]
      for (const failure of failures) yield* Effect.exit(listen(dispatch(method, () => failure)))
      const fiber = yield* start(listen(dispatch(method, () => Effect.never)))
      yield* stop(fiber)
      yield* Effect.exit(listen(dispatch(method, () => Effect.void).pipe(Rpc.deadline(0))))
      yield* close
      yield* Effect.exit(listen(dispatch(method, () => Effect.void)))
      assert.deepStrictEqual(spans.map((span) => span.attributes.get("error.type")), [
        "Nacked",
        "Defect",
        "Interrupted",
        "Timeout",
        "StackClosed"
      ])
      for (const span of spans) assert.isTrue(Exit.isFailure(exitOf(span)!))
    }))

  it.effect("ends with the body of a reply that is held", () =>
    Effect.gen(function*() {
      const { dispatch } = yield* dispatcher()
      const { listen, spans } = recording()
      const held = dispatch(method, ({ abort }) =>
        Effect.sync(() => {
          abort.hold(1)
          return abort
        }))
      const abort = yield* listen(held)
      const [span] = spans as [Tracer.NativeSpan]
      yield* TestClock.adjust(70)
      assert.strictEqual(span.status._tag, "Started")
      abort.hold(-1)
      assert.strictEqual(endOf(span), 70)
      assert.isTrue(Exit.isSuccess(exitOf(span)!))
      const late = yield* listen(held)
      yield* TestClock.adjust("10 seconds")
      late.hold(-1)
      assert.deepStrictEqual([spans[1]!.attributes.get("error.type"), endOf(spans[1]!)], ["Timeout", 10_070])
    }))

  it.effect("tells that the body of a reply broke, or that its caller left it", () =>
    Effect.gen(function*() {
      const { call, script } = yield* client()
      const { listen, spans } = recording()
      let release: ReturnType<Attempt["hold"]> | undefined
      script.answer = (_, attempt) => {
        release = attempt.hold()
        return Effect.succeed("head")
      }
      for (const outcome of ["failure", "ignored", "success"] as const) {
        yield* listen(call("hi"))
        release!(outcome)
      }
      assert.deepStrictEqual(
        spans.map((span) => [
          span.attributes.get("error.type"),
          span.events.find(([name]) => name === "attempt.failed")?.[2]["error.type"],
          Exit.isSuccess(exitOf(span)!)
        ]),
        [["ReplyBroken", "ReplyBroken", false], ["Interrupted", "Interrupted", false], [undefined, undefined, true]]
      )
    }))

  it.effect("is what filters of the user's run in", () =>
    Effect.gen(function*() {
      const above = Filter.above(Text, (inner) =>
        Effect.succeed({
          ...inner,
          send: (request, call) => Effect.withSpan(inner.send(request, call), "auth")
        }))
      const { call } = yield* client({ above })
      const { listen, spans } = recording()
      yield* listen(call("hi"))
      assert.deepStrictEqual(spans.map(({ name }) => name), ["text/call", "auth"])
      assert.strictEqual(parentOf(spans[1]!), spans[0])
    }))
})

describe("what is noted on the span of a call", () => {
  it.effect("is its attempt, and the address of its server", () =>
    Effect.gen(function*() {
      const { call, script } = yield* client()
      const { listen, spans } = recording()
      script.answer = () => Effect.as(Effect.sleep(30), "hello")
      const fiber = yield* start(listen(call("hi")))
      yield* TestClock.adjust(30)
      assert.strictEqual(yield* Fiber.join(fiber), "hello")
      const [span] = spans as [Tracer.NativeSpan]
      const endpoint = portOf(span)
      assert.deepStrictEqual(eventsOf(span), [["attempt", 0, { endpoint, number: 0 }]])
      assert.strictEqual(span.attributes.get("server.address"), "h")
      assert.deepStrictEqual([spans.length, endOf(span)], [1, 30])
    }))

  it.effect("is where it is sent from the beginning of the attempt on", () =>
    Effect.gen(function*() {
      const { call, script } = yield* client()
      const { listen, spans } = recording()
      script.answer = () => Effect.never
      const fiber = yield* start(listen(call("hi")))
      const [span] = spans as [Tracer.NativeSpan]
      assert.strictEqual(span.status._tag, "Started")
      const { attributes } = span
      assert.deepStrictEqual(
        ["server.address", "server.port", "network.peer.address"].map((name) => attributes.get(name)),
        ["h", attributes.get("network.peer.port"), "h"]
      )
      assert.match(portOf(span), /^h:[12]$/)
      yield* stop(fiber)
    }))

  it.effect("is nothing once the span has ended, and no secret", () =>
    Effect.gen(function*() {
      const { call, script } = yield* client()
      const { listen, spans } = recording()
      const why = `http://u:hunter2@h ${"x".repeat(2000)}`
      script.answer = (_, { endpoint }) => Effect.fail(new Nacked({ endpoint, why, retryable: false }))
      yield* Effect.exit(listen(call("hi")))
      const [span] = spans as [Tracer.NativeSpan]
      const message = String(span.events.at(-1)![2]["error.message"])
      assert.notInclude(message, "hunter2")
      assert.isBelow(message.length, 1010)
      const { events: { length }, attributes: { size } } = span
      Tracing.note(span, () => span.attribute("late", 1))
      const silent = { nanos: () => 0n } as unknown as Parameters<typeof Tracing.event>[0]
      Tracing.event(silent, span, "late")
      assert.deepStrictEqual([span.events.length, span.attributes.size], [length, size])
    }))

  it.effect("is each requeue, with what the attempt before it failed with", () =>
    Effect.gen(function*() {
      const { call, script } = yield* client()
      const { listen, spans } = recording()
      script.answer = (_, attempt: Attempt) =>
        attempt.number === 0
          ? Effect.fail(new Nacked({ endpoint: attempt.endpoint, why: "busy", retryable: true }))
          : Effect.succeed("hello")
      yield* listen(call("hi"))
      const [span] = spans as [Tracer.NativeSpan]
      const [first, failed, requeue, second] = eventsOf(span)
      const [one, other] = [first![2]["endpoint"], second![2]["endpoint"]]
      assert.notStrictEqual(one, other)
      assert.deepStrictEqual([first![0], second], ["attempt", ["attempt", 0, { endpoint: other, number: 1 }]])
      assert.deepStrictEqual(failed, [
        "attempt.failed",
        0,
        {
          endpoint: one,
          number: 0,
          outcome: "rejected",
          "error.type": "Nacked",
          "error.message": `refused at ${String(one)}: busy`
        }
      ])
      assert.deepStrictEqual(requeue, ["requeue", 0, { "error.type": "Nacked" }])
      assert.strictEqual(portOf(span), other)
      assert.isTrue(Exit.isSuccess(exitOf(span)!))
    }))

  it.effect("is an attempt that its caller left", () =>
    Effect.gen(function*() {
      const { call, script } = yield* client()
      const { listen, spans } = recording()
      script.answer = () => Effect.never
      const fiber = yield* start(listen(call("hi")))
      yield* stop(fiber)
      const [span] = spans as [Tracer.NativeSpan]
      assert.deepStrictEqual(
        eventsOf(span).map(([name, , { outcome, "error.type": error }]) => [name, outcome, error]),
        [
          ["attempt", undefined, undefined],
          ["attempt.failed", "ignored", "Interrupted"]
        ]
      )
    }))

  it.effect("is a hedge, and that it won; the address is that of the winner", () =>
    Effect.gen(function*() {
      const { call, script } = yield* client({
        above: Layer.orDie(Hedge.layer(Text, { maxExtraLoad: 0.5 })),
        stack: { budget: { minRetriesPerSecond: 100 } }
      })
      const { listen, spans } = recording()
      script.answer = () => Effect.as(Effect.sleep(10), "fast")
      for (let i = 0; i < 20; i++) {
        const fiber = yield* start(call("hi").pipe(Rpc.idempotent))
        yield* TestClock.adjust(700)
        yield* Fiber.join(fiber)
      }
      script.answer = (_, attempt: Attempt) =>
        attempt.number === 0 ? Effect.never : Effect.as(Effect.sleep(1), "second")
      const fiber = yield* start(listen(call("hi").pipe(Rpc.idempotent)))
      yield* TestClock.adjust(9)
      assert.lengthOf(spans[0]!.events, 1)
      yield* TestClock.adjust(20)
      assert.strictEqual(yield* Fiber.join(fiber), "second")
      const [span] = spans as [Tracer.NativeSpan]
      const events = eventsOf(span)
      assert.deepStrictEqual(
        events.map(([name, , { "error.type": error }]) => error === undefined ? name : `${name} ${String(error)}`),
        ["attempt", "hedge", "attempt", "attempt.failed Superseded", "hedge.won"]
      )
      const winner = events[2]![2]["endpoint"]
      assert.notStrictEqual(events[0]![2]["endpoint"], winner)
      assert.strictEqual(portOf(span), winner)
      assert.strictEqual(spans.length, 1)
    }))
})

describe("a tracer that throws", () => {
  for (const what of ["span", "event", "attribute", "end"]) {
    it.effect(`in \`${what}\` breaks no call, and is told of`, () => {
      const log = logging()
      return Effect.gen(function*() {
        const tracer = Tracer.make({
          span: (options) => {
            if (what === "span") throw new Error("broken")
            return Object.assign(new Tracer.NativeSpan(options), {
              [what]: () => {
                throw new Error("broken")
              }
            })
          }
        })
        const context = yield* Layer.build(
          stack({
            above: Layer.orDie(Hedge.layer(Text, { maxExtraLoad: 0.5 })),
            stack: { budget: { minRetriesPerSecond: 100 } }
          })
        )
        const script = Context.get(context, ScriptedConnector)
        yield* Context.get(context, TestServerSet).bind(endpoints(1, 2))
        const { call } = Context.get(context, TextClient)
        const listen = Effect.provideService(Tracer.Tracer, tracer)
        script.answer = () => Effect.as(Effect.sleep(10), "hello")
        // Until a hedge is sent to what does not answer.
        for (let i = 0; i < 20; i++) {
          const fiber = yield* start(listen(call("hi").pipe(Rpc.idempotent)))
          yield* TestClock.adjust(700)
          assert.strictEqual(yield* Fiber.join(fiber), "hello")
        }
        script.answer = (_, { number }) => number === 0 ? Effect.never : Effect.succeed("second")
        const hedged = yield* start(listen(call("hi").pipe(Rpc.idempotent)))
        yield* TestClock.adjust(100)
        assert.strictEqual(yield* Fiber.join(hedged), "second")
        script.answer = (_, { endpoint, number }) =>
          number === 0 ? Effect.fail(new Nacked({ endpoint, why: "", retryable: true })) : Effect.succeed("again")
        assert.strictEqual(yield* listen(call("hi")), "again")
        const nodes = Context.get(context, Stack).nodes()
        const state = (role: string) => nodes.find((node) => node.role === role)!.snapshot() as Record<string, unknown>
        assert.deepStrictEqual([state("dispatcher")["outstanding"], state("balancer")["load"]], [0, 0])
        const lines = log.of("the tracer has thrown")
        assert.isTrue(lines.length > 0 && lines.length < 40, String(lines.length))
        assert.strictEqual(lines[0]!.annotations["cause"], "broken")
        const served = serve(
          yield* ServerTracing.make({}, Context.make(Tracer.Tracer, tracer) as Context.Context<never>),
          undefined,
          Effect.succeed("served")
        )
        assert.strictEqual(yield* listen(served), "served")
      }).pipe(Effect.provide(log.layer))
    })
  }
})

describe("sampling", () => {
  it.effect("is decided once for a call that leaves the direct way", () =>
    Effect.gen(function*() {
      const { dispatch } = yield* dispatcher({ traceSampling: 0.5 })
      const { listen, spans } = recording()
      const traces: Array<Tracer.AnySpan> = []
      const one = dispatch(method, ({ trace }) => Effect.sync(() => traces.push(trace!)), (call) => {
        traces.push(call.trace!)
        return false
      })
      for (let i = 0; i < 2000; i++) yield* listen(one)
      // 1000 expected; 4 standard deviations are 90.
      assert.isTrue(spans.length > 910 && spans.length < 1090, String(spans.length))
      // The one that the direct way saw is that of the call.
      assert.strictEqual(traces.length, 4000)
      assert.strictEqual(new Set(traces).size, 2000)
    }))

  it.effect("records the share of traces that was asked for, and tells servers of the others", () =>
    Effect.gen(function*() {
      const { dispatch } = yield* dispatcher({ traceSampling: 0.01 })
      const { listen, spans } = recording()
      const calls = yield* listen(Effect.forEach(Array.from({ length: 5000 }), () => callOf(dispatch)))
      const recorded = calls.filter(({ span }) => span !== undefined)
      assert.strictEqual(recorded.length, spans.length)
      // 50 expected; 4 standard deviations are 28.
      assert.isTrue(spans.length > 22 && spans.length < 78, String(spans.length))
      for (const call of calls) {
        const bytes = outboundTraceBytes(call, seeded(1))!
        assert.deepStrictEqual(Trace.decode!(bytes), outboundTrace(call, seeded(1)))
        assert.strictEqual(bytes[31], call.span === undefined ? 2 : 6)
      }
      for (const { span, trace } of calls) assert.strictEqual(trace!.sampled, span !== undefined)
      const ids = new Set(calls.map(({ trace }) => `${trace!.traceId} ${trace!.spanId}`))
      assert.strictEqual(ids.size, 5000)
      for (const id of ids) assert.match(id, /^[0-9a-f]{32} [0-9a-f]{16}$/)
    }))

  it.effect("follows the span that a call is made in", () =>
    Effect.gen(function*() {
      const { dispatch } = yield* dispatcher({ traceSampling: 0 })
      const { listen, spans } = recording()
      const sampled = yield* callOf(dispatch).pipe(Effect.withParentSpan(external(true)), listen)
      assert.strictEqual(sampled.span, spans[0])
      const not = external(false)
      const { span, trace } = yield* callOf(dispatch).pipe(Effect.withParentSpan(not), listen)
      assert.deepStrictEqual([span, trace, spans.length], [undefined, not, 1])
    }))

  it.effect("may be the tracer's, or a matter of levels: the span is handed on, and nothing is noted on it", () =>
    Effect.gen(function*() {
      const { dispatch } = yield* dispatcher()
      const own = recording(false)
      const level = recording()
      const calls = [
        yield* own.listen(callOf(dispatch)),
        yield* level.listen(callOf(dispatch)).pipe(Effect.provideService(Tracer.MinimumTraceLevel, "Warn"))
      ]
      for (const [i, { spans }] of [own, level].entries()) {
        assert.isUndefined(calls[i]!.span)
        assert.strictEqual(calls[i]!.trace, spans[0])
        assert.deepStrictEqual([spans[0]!.attributes.size, spans[0]!.status._tag], [0, "Ended"])
      }
    }))

  it.effect("is a number from 0 to 1", () =>
    Effect.gen(function*() {
      for (const traceSampling of [-0.1, 1.1, NaN]) {
        const error = yield* Effect.flip(Effect.scoped(Layer.build(Stack.layer("text", { traceSampling }))))
        assert.strictEqual(error.option, "traceSampling")
        const other = yield* Effect.flip(ServerTracing.make({ traceSampling }, Context.empty()))
        assert.strictEqual(other.option, "traceSampling")
      }
    }))
})

/** A call in a span. */
const under = (trace: Tracer.AnySpan | undefined, fields?: Partial<Call>) =>
  makeCall({ span: undefined, trace, ...fields })

const native = (parent?: Tracer.AnySpan, sampled = true) =>
  new Tracer.NativeSpan({
    name: "n",
    parent: Option.fromUndefinedOr(parent),
    annotations: Context.empty(),
    links: [],
    startTime: 0n,
    kind: "client",
    sampled
  })

const inbound: TraceId = { traceId: 0x21n, traceIdHigh: undefined, spanId: 0x22n, parentId: 0x23n, flags: 6n }

describe("the trace that a server is sent", () => {
  const random = () => seeded(7)

  it("is the call's own span, with its parent", () => {
    const parent = external(true)
    const span = native(parent)
    const trace = outboundTrace(under(span, { span }), random())!
    assert.strictEqual(trace.traceIdHigh, 0xababababababababn)
    assert.strictEqual(trace.traceId, 0xababababababababn)
    assert.strictEqual(trace.spanId, BigInt(`0x${span.spanId}`))
    assert.strictEqual(trace.parentId, 0xcdcdcdcdcdcdcdcdn)
    assert.strictEqual(trace.flags, 6n)
    const root = native()
    const begun = outboundTrace(under(root, { span: root }), random())!
    assert.strictEqual(begun.parentId, begun.spanId)
    assert.notStrictEqual(begun.traceId, begun.spanId)
  })

  it("is a span of its own under one that is only handed on, another for each attempt", () => {
    const next = random()
    const call = under(external(true))
    const [one, other] = [outboundTrace(call, next)!, outboundTrace(call, next)!]
    assert.notStrictEqual(one.spanId, other.spanId)
    for (const { flags, parentId, spanId, traceId } of [one, other]) {
      assert.deepStrictEqual([parentId, traceId, flags], [0xcdcdcdcdcdcdcdcdn, 0xababababababababn, 6n])
      assert.notStrictEqual(spanId, parentId)
    }
  })

  it("says whether it is sampled where somebody has decided, and nothing where nobody has", () => {
    const flagsOf = (trace: Tracer.AnySpan, span?: Tracer.Span) =>
      outboundTrace(under(trace, { span }), random())!.flags
    const undecided = new InboundSpan({ ...inbound, flags: 0n })
    const debug = new InboundSpan({ ...inbound, flags: 1n | 5n << 3n })
    const not = new InboundSpan({ ...inbound, flags: 2n })
    const recorded = native(undecided)
    assert.deepStrictEqual([
      flagsOf(external(true)),
      flagsOf(external(false)),
      flagsOf(native()),
      flagsOf(native(external(true))),
      flagsOf(native(undefined, false)),
      flagsOf(undecided),
      flagsOf(native(undecided)),
      flagsOf(recorded, recorded),
      flagsOf(not),
      flagsOf(debug),
      flagsOf(native(debug))
    ], [6n, 2n, 0n, 6n, 2n, 0n, 0n, 6n, 2n, 41n, 41n])
  })

  it("is what the caller set, whatever span the call is in", () => {
    const context = CallContext.empty.with(Trace, inbound)
    const span = native()
    const { spanId, ...rest } = outboundTrace(under(span, { context, span }), random())!
    assert.deepStrictEqual(rest, { traceId: 0x21n, traceIdHigh: undefined, parentId: 0x22n, flags: 6n })
    assert.notStrictEqual(spanId, 0x22n)
  })

  it("is none without a span, and for ids that are no hexadecimal numbers of 128 and 64 bits, or 0", () => {
    assert.isUndefined(outboundTrace(under(undefined), random()))
    for (
      const [traceId, spanId] of [["x", "1"], ["1", "x"], ["0", "1"], ["1", "0"], ["1", "1".repeat(17)], [
        "1".repeat(33),
        "1"
      ]]
    ) {
      const trace = Tracer.externalSpan({ traceId: traceId!, spanId: spanId! })
      assert.isUndefined(outboundTrace(under(trace), random()), `${traceId} ${spanId}`)
    }
  })

  it("is the same in bytes", () => {
    const span = native(external(true))
    const root = native(new InboundSpan(inbound))
    const wide = new InboundSpan({ ...inbound, traceIdHigh: 5n, flags: 1n | 9n << 40n })
    const context = CallContext.empty.with(Trace, inbound)
    const calls = [
      under(undefined),
      under(undefined, { context }),
      under(span, { span, context }),
      under(span, { span }),
      under(root, { span: root }),
      under(native()),
      under(external(false)),
      under(wide),
      under(native(wide, false)),
      under(Tracer.externalSpan({ traceId: "ABC", spanId: "f" })),
      under(Tracer.externalSpan({ traceId: "x", spanId: "f" })),
      under(Tracer.externalSpan({ traceId: "1", spanId: "0" }))
    ]
    for (const call of calls) {
      const trace = outboundTrace(call, random())
      const bytes = outboundTraceBytes(call, random())
      assert.deepStrictEqual(bytes && Trace.decode!(bytes), trace)
    }
  })

  it("is of 64 bits if it came so", () => {
    const span = native(new InboundSpan(inbound))
    const trace = outboundTrace(under(span, { span }), random())!
    assert.deepStrictEqual([trace.traceIdHigh, trace.traceId, trace.parentId], [undefined, 0x21n, 0x22n])
  })
})

/** What a server of ours does with a request, in a fiber of its own. */
const serve = <A, E>(
  tracing: ServerTracing,
  trace: TraceId | undefined,
  handler: Effect.Effect<A, E>
): Effect.Effect<A, E> =>
  Rpc.serving(
    { peer: "[::1]:99", deadline: Infinity, context: CallContext.empty, setReplyHeaders: () => {} },
    withServerSpan({ name: "s/m", attributes: { "rpc.method": "s/m" } }, () => handler),
    tracing.parentOf(trace)
  )

describe("a server", () => {
  const tracingOf = (tracer: Tracer.Tracer | undefined, traceSampling?: number) =>
    Effect.provide(
      Effect.contextWith((context: Context.Context<never>) =>
        ServerTracing.make(
          { traceSampling },
          tracer === undefined ? context : Context.add(context, Tracer.Tracer, tracer) as Context.Context<never>
        )
      ),
      Seed.layer(3)
    )

  it.effect("runs a handler in the span that came, whoever listens", () =>
    Effect.gen(function*() {
      const tracing = yield* tracingOf(undefined)
      const span = yield* serve(tracing, { ...inbound, traceIdHigh: 1n }, Effect.currentParentSpan)
      assert.deepStrictEqual([span.traceId, span.spanId, span.sampled], [
        "00000000000000010000000000000021",
        "0000000000000022",
        true
      ])
      assert.isTrue(Exit.isFailure(yield* Effect.exit(serve(tracing, undefined, Effect.currentParentSpan))))
    }))

  it.effect("runs it in a span of its own where a tracer listens", () =>
    Effect.gen(function*() {
      const { listen, spans, tracer } = recording()
      const tracing = yield* tracingOf(tracer)
      const inside = yield* listen(serve(tracing, inbound, Effect.currentParentSpan))
      yield* Effect.exit(listen(serve(tracing, undefined, Effect.fail({ _tag: "Broken" }))))
      assert.strictEqual(inside, spans[0])
      assert.deepStrictEqual(
        spans.map(({ attributes, kind, name }) => [name, kind, Object.fromEntries(attributes)]),
        [
          ["s/m", "server", { "rpc.method": "s/m", "client.address": "::1", "client.port": 99 }],
          ["s/m", "server", {
            "rpc.method": "s/m",
            "client.address": "::1",
            "client.port": 99,
            "error.type": "Broken"
          }]
        ]
      )
      assert.strictEqual(parentOf(spans[0]!)?.spanId, "0000000000000022")
      assert.isUndefined(parentOf(spans[1]!))
    }))

  it.effect("follows what came decided, and decides the rest by its own share", () =>
    Effect.gen(function*() {
      const { listen, spans, tracer } = recording()
      const none = yield* tracingOf(tracer, 0)
      const not = yield* listen(serve(none, { ...inbound, flags: 2n }, Effect.currentParentSpan))
      const undecided = yield* listen(serve(none, { ...inbound, flags: 0n }, Effect.currentParentSpan))
      const root = yield* listen(serve(none, undefined, Effect.currentParentSpan))
      assert.deepStrictEqual([not.sampled, undecided.sampled, root.sampled, spans.length], [false, false, false, 0])
      assert.strictEqual(outboundTrace(under(undecided), seeded(1))!.flags, 2n)
      yield* listen(serve(none, inbound, Effect.void))
      yield* listen(serve(none, { ...inbound, flags: 1n }, Effect.void))
      assert.strictEqual(spans.length, 2)
      const some = yield* tracingOf(tracer, 0.5)
      for (let i = 0; i < 400; i++) {
        yield* listen(serve(some, i % 2 === 0 ? undefined : { ...inbound, flags: 0n }, Effect.void))
      }
      // 200 expected of 400; 4 standard deviations are 40.
      assert.isTrue(spans.length > 162 && spans.length < 242, String(spans.length))
    }))
})

describe("what a server takes for no trace", () => {
  const none: TraceId = { ...inbound, traceId: 0n, spanId: 0n, parentId: 0n }
  const listener = (traceSampling: number) =>
    Effect.provide(
      Effect.contextWith((context: Context.Context<never>) =>
        ServerTracing.make(
          { traceSampling },
          Context.add(context, Tracer.Tracer, recording().tracer) as Context.Context<never>
        )
      ),
      Seed.layer(3)
    )

  it.effect("is ids of 0", () =>
    Effect.gen(function*() {
      const tracing = yield* listener(1)
      for (const trace of [none, { ...none, spanId: 5n }, { ...none, traceId: 5n }, { ...none, traceIdHigh: 0n }]) {
        for (const flags of [0n, 1n, 6n]) assert.isUndefined(tracing.parentOf({ ...trace, flags }))
      }
      assert.isDefined(tracing.parentOf({ ...none, traceIdHigh: 5n, spanId: 5n }))
    }))

  it.effect("still says that it is not recorded, or is for debugging", () =>
    Effect.gen(function*() {
      const all = yield* listener(1)
      const not = all.parentOf({ ...none, flags: 2n })!
      assert.isFalse(not.sampled)
      assert.match(`${not.traceId}-${not.spanId}`, /^(?!0+-)[0-9a-f]{32}-(?!0+$)[0-9a-f]{16}$/)
      const few = yield* listener(0)
      assert.deepStrictEqual([0n, 1n, 6n].map((flags) => few.parentOf({ ...none, flags })?.sampled), [
        false,
        undefined,
        undefined
      ])
    }))

  it.effect("has calls under it that are spans of their own", () =>
    Effect.gen(function*() {
      const root = (yield* listener(0)).parentOf(undefined)!
      const next = seeded(1)
      const sent = [1, 2].map(() => outboundTrace(under(root), next)!)
      assert.deepStrictEqual(sent.map(({ flags, parentId }) => [flags, parentId]), [
        [2n, BigInt(`0x${root.spanId}`)],
        [2n, BigInt(`0x${root.spanId}`)]
      ])
      assert.strictEqual(new Set([root.spanId, ...sent.map(({ spanId }) => spanId.toString(16))]).size, 3)
      assert.deepStrictEqual(
        Trace.decode!(outboundTraceBytes(under(root), seeded(1))!),
        outboundTrace(under(root), seeded(1))
      )
    }))
})

describe("a trace through clients and servers", () => {
  it.effect("is one, each call under the handler that made it", () =>
    Effect.gen(function*() {
      const { listen, spans, tracer } = recording()
      const tracing = yield* ServerTracing.make({}, Context.make(Tracer.Tracer, tracer) as Context.Context<never>)
      const random = seeded(1)
      const back = yield* dispatcher()
      const front = yield* dispatcher()
      const through = (
        dispatch: Dispatcher.Dispatcher["dispatch"],
        handler: Effect.Effect<unknown, RpcError>
      ): Effect.Effect<unknown, RpcError> =>
        dispatch(method, (call) => serve(tracing, outboundTrace(call, random), handler))
      yield* listen(through(front.dispatch, through(back.dispatch, Effect.void)))
      assert.deepStrictEqual(spans.map(({ kind }) => kind), ["client", "server", "client", "server"])
      assert.strictEqual(new Set(spans.map(({ traceId }) => traceId)).size, 1)
      assert.deepStrictEqual(
        spans.slice(1).map((span) => parentOf(span)!.spanId),
        spans.slice(0, -1).map(({ spanId }) => spanId)
      )
    }))
})
