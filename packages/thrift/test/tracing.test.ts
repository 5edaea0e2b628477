// Traces in plain Thrift: Twitter's header carries the span of a call, and a server continues what it is told; without the header, nothing travels.
import { beginAttempt, CallContext, Endpoint, Rpc, Trace } from "@scales-rpc/core"
import { Recorder } from "@scales-rpc/core/testing"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Logger, Option, Tracer } from "effect"
import { Protocols, Thrift, ThriftServer } from "../src/index.ts"
import { ServerUpgrade } from "../src/internal/ServerUpgrade.ts"
import { UpgradeCodec } from "../src/internal/UpgradeCodec.ts"
import { Echo, handlers } from "./echoServer.ts"
import { callOf } from "./wire.ts"

/** Runs an effect with its spans kept, and without its logs. */
const recorded = <A, E, R>(self: (spans: ReadonlyArray<Tracer.NativeSpan>) => Effect.Effect<A, E, R>) =>
  Effect.provide(Recorder.spans(self), Logger.layer([]))

const connect = (uri: string, options: Omit<Thrift.ThriftOptions, "uri"> = {}) =>
  Effect.map(Layer.build(Thrift.layer(Echo, { uri, ...options })), (context) => Context.get(context, Echo))

const parentId = (span: Tracer.Span) => Option.getOrUndefined(span.parent)?.spanId

describe("Twitter's header", () => {
  it("has the call's own span, and that it is sampled, in fields of their own", () => {
    const { binary } = Protocols
    const parent = Tracer.externalSpan({ traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "00f067aa0ba902b7" })
    const span = new Tracer.NativeSpan({
      name: "ping",
      parent: Option.some(parent),
      annotations: Context.empty(),
      links: [],
      startTime: 0n,
      kind: "client",
      sampled: true
    })
    const codec = new UpgradeCodec(binary.writer(), undefined, () => 0.5)
    const read = (fields: Parameters<typeof callOf>[0]) => {
      const attempt = beginAttempt(
        callOf({ context: CallContext.empty, deadline: Infinity, ...fields }),
        Endpoint.tcp("h", 1),
        () => 0
      )
      const { context } = new ServerUpgrade(binary.reader(), binary.writer()).requestHeader(
        codec.requestHeader(attempt, 0)
      )
      return context.get(Trace)
    }
    const traced = {
      traceId: 0x8448eb211c80319cn,
      traceIdHigh: 0x0af7651916cd43ddn,
      spanId: BigInt(`0x${span.spanId}`),
      parentId: 0x00f067aa0ba902b7n,
      flags: 6n
    }
    assert.deepStrictEqual(read({ span, trace: span }), traced)
    const not = Tracer.externalSpan({ traceId: "1", spanId: "2", sampled: false })
    assert.deepStrictEqual(read({ trace: not }), {
      traceId: 1n,
      traceIdHigh: undefined,
      spanId: 0x8000000080000000n,
      parentId: 2n,
      flags: 2n
    })
    // Without a span a trace begins in the header, undecided.
    const root = 0x8000000080000000n
    assert.deepStrictEqual(read({}), { traceId: root, traceIdHigh: undefined, spanId: root, parentId: root, flags: 0n })
  })
})

describe("a call through two servers", () => {
  it.live("is one trace with the upgrade, and one for each server without", () =>
    recorded((spans) =>
      Effect.gen(function*() {
        const far = yield* ThriftServer.make(Echo, handlers)
        for (const upgrade of [true, false]) {
          const echo = yield* connect(far.uri, { upgrade })
          const near = yield* ThriftServer.make(Echo, { ...handlers, ping: () => Effect.orDie(echo.ping()) })
          const first = spans.length
          yield* (yield* connect(near.uri, { upgrade })).ping()
          const [outer, served, inner, last] = spans.slice(first) as [
            Tracer.NativeSpan,
            Tracer.NativeSpan,
            Tracer.NativeSpan,
            Tracer.NativeSpan
          ]
          assert.deepStrictEqual([outer, served, inner, last].map(({ kind, name }) => `${kind} ${name}`), [
            "client Echo/ping",
            "server Echo/ping",
            "client Echo/ping",
            "server Echo/ping"
          ])
          assert.deepStrictEqual(
            [served, inner, last].map(parentId),
            upgrade ? [outer.spanId, served.spanId, inner.spanId] : [undefined, served.spanId, undefined]
          )
          assert.strictEqual(new Set(spans.slice(first).map(({ traceId }) => traceId)).size, upgrade ? 1 : 3)
        }
      })
    ))
})

describe("a server with Twitter's header", () => {
  it.live("takes ids of 0 for no trace", () =>
    recorded((spans) =>
      Effect.gen(function*() {
        const { uri } = yield* ThriftServer.make(Echo, handlers)
        const echo = yield* connect(uri, { upgrade: true })
        const none = { traceId: 0n, traceIdHigh: undefined, parentId: 0n, spanId: 7n, flags: 6n }
        yield* echo.ping().pipe(Rpc.context(Trace, none), Effect.provideService(Tracer.Tracer, Tracer.nativeTracer))
        const [span] = spans as [Tracer.NativeSpan]
        assert.deepStrictEqual([span.kind, parentId(span)], ["server", undefined])
        assert.match(span.traceId, /^(?!0+$)[0-9a-f]{32}$/)
      })
    ))
})
