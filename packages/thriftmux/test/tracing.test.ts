/** One trace through clients and servers on sockets: who is whose parent, what each span says, and what reaches an exporter. */
import { assert, describe, it } from "@effect/vitest"
import { Rpc, Trace } from "@scales-rpc/core"
import { Recorder } from "@scales-rpc/core/testing"
import { MuxServer } from "@scales-rpc/mux"
import { RawPeer } from "@scales-rpc/mux/testing"
import { Effect, Exit, Layer, Logger, Option, Tracer } from "effect"
import { HttpClient, HttpClientResponse } from "effect/http"
import { OtlpSerialization, OtlpTracer } from "effect/observability"
import { Refused } from "../../examples/gen/echo_types.js"
import { connect, type EchoHandlers, leavesNoSockets, serve } from "./support.ts"

leavesNoSockets()

/** A client of a server that asks another one, whose handlers are given. */
const chain = (far: Partial<EchoHandlers>, sampling?: { readonly near?: number; readonly client?: number }) =>
  Effect.gen(function*() {
    const { echo } = yield* connect(yield* serve(far))
    const near = yield* serve({
      ping: () => Effect.orDie(echo.ping()),
      fail: (why) => Effect.orDie(echo.fail(why, 0 as never))
    }, {
      traceSampling: sampling?.near
    })
    return yield* connect(near, { traceSampling: sampling?.client })
  })

const shape = (span: Tracer.NativeSpan, spans: ReadonlyArray<Tracer.NativeSpan>) => [
  span.name,
  span.kind,
  spans.findIndex(({ spanId }) => spanId === Option.getOrUndefined(span.parent)?.spanId)
]

describe("a call through two servers", () => {
  it.live("is one trace, each span under the one that made it", () =>
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const { echo } = yield* chain({ ping: () => Effect.withSpan(Effect.succeed("far"), "work") })
        assert.strictEqual(yield* Effect.withSpan(echo.ping(), "main"), "far")
        assert.deepStrictEqual(spans.map((span) => shape(span, spans)), [
          ["main", "internal", -1],
          ["Echo/ping", "client", 0],
          ["Echo/ping", "server", 1],
          ["Echo/ping", "client", 2],
          ["Echo/ping", "server", 3],
          ["work", "internal", 4]
        ])
        assert.strictEqual(new Set(spans.map(({ traceId }) => traceId)).size, 1)
        const [, client, server] = spans as [unknown, Tracer.NativeSpan, Tracer.NativeSpan]
        assert.deepStrictEqual(Object.fromEntries(client.attributes), {
          "rpc.system.name": "thrift",
          "rpc.method": "Echo/ping",
          "server.address": "127.0.0.1",
          "server.port": client.attributes.get("server.port"),
          "network.peer.address": "127.0.0.1",
          "network.peer.port": client.attributes.get("server.port")
        })
        assert.deepStrictEqual(Object.fromEntries(server.attributes), {
          "rpc.system.name": "thrift",
          "rpc.method": "Echo/ping",
          "client.address": "127.0.0.1",
          "client.port": server.attributes.get("client.port")
        })
        for (const { status } of spans) assert.strictEqual(status._tag, "Ended")
      })
    ))

  it.live("says at each of them what it failed with", () =>
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const { echo } = yield* chain({ fail: (why) => Effect.fail(new Refused({ why })) })
        assert.isTrue(Exit.isFailure(yield* Effect.exit(echo.fail("no", 0 as never))))
        assert.deepStrictEqual(
          spans.map(({ attributes, kind }) => [kind, attributes.get("error.type")]),
          // The server between lets it die: what its client gets is Thrift's application exception.
          [["client", "ThriftApplicationException"], ["server", "Defect"], ["client", "ThriftException"], [
            "server",
            "Refused"
          ]]
        )
      })
    ))

  it.live("is recorded by nobody when its client does not sample it", () =>
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const seen: Array<Tracer.AnySpan> = []
        const note = Effect.map(Effect.currentParentSpan, (span) => void seen.push(span))
        const { echo } = yield* chain({ ping: () => Effect.as(Effect.orDie(note), "far") }, { client: 0, near: 1 })
        for (let i = 0; i < 3; i++) yield* echo.ping()
        assert.lengthOf(spans, 0)
        assert.deepStrictEqual(seen.map(({ sampled }) => sampled), [false, false, false])
        assert.strictEqual(new Set(seen.map(({ traceId }) => traceId)).size, 3)
      })
    ))

  it.live("goes through servers to which nobody listens", () =>
    Effect.gen(function*() {
      const seen: Array<Tracer.AnySpan> = []
      const note = Effect.map(Effect.currentParentSpan, (span) => void seen.push(span))
      const { echo } = yield* chain({ ping: () => Effect.as(Effect.orDie(note), "far") })
      const traceId = "0af7651916cd43dd8448eb211c80319c"
      for (const sampled of [true, false]) {
        yield* echo.ping().pipe(
          Effect.withParentSpan(Tracer.externalSpan({ traceId, spanId: "b7ad6b7169203331", sampled }))
        )
      }
      assert.deepStrictEqual(seen.map(({ sampled, traceId }) => [traceId, sampled]), [[traceId, true], [
        traceId,
        false
      ]])
      assert.notInclude(seen.map(({ spanId }) => spanId), "b7ad6b7169203331")
    }))
})

describe("a server", () => {
  it.live("has no span of whoever built it as the parent of its requests", () =>
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const server = yield* Effect.withSpan(serve(), "build")
        const { echo } = yield* Effect.withSpan(connect(server), "build too")
        yield* echo.ping()
        assert.deepStrictEqual(spans.slice(-2).map((span) => shape(span, spans)), [
          ["Echo/ping", "client", -1],
          ["Echo/ping", "server", spans.length - 2]
        ])
      })
    ))

  it.live("takes ids of 0 for no trace, whichever way they come", () =>
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const { echo } = yield* connect(yield* serve())
        const ids = { traceIdHigh: undefined, parentId: 0n, spanId: 7n, flags: 6n }
        yield* echo.ping().pipe(
          Rpc.context(Trace, { ...ids, traceId: 0n }),
          Effect.provideService(Tracer.Tracer, Tracer.nativeTracer)
        )
        const { address } = yield* MuxServer.make(() => Effect.succeed({ body: new Uint8Array(0) }))
        const peer = yield* RawPeer.connect(address)
        for (const traceId of [0n, 5n]) {
          const trace = Trace.encode!({ ...ids, traceId, spanId: 0n })
          peer.send({
            _tag: "Tdispatch",
            tag: 2,
            contexts: [[Buffer.from(Trace.id), trace]],
            destination: "",
            dtab: [],
            body: new Uint8Array(0)
          })
          yield* peer.next("Rdispatch")
        }
        assert.strictEqual(spans.length, 3)
        for (const { kind, parent, spanId, traceId } of spans) {
          assert.deepStrictEqual([kind, Option.isNone(parent)], ["server", true])
          assert.match(`${traceId}-${spanId}`, /^(?!0+-)[0-9a-f]{32}-(?!0+$)[0-9a-f]{16}$/)
        }
      }).pipe(Effect.provide(Logger.layer([])))
    ))

  it.live("of bytes has spans of one name, with the destination, or as it is told", () =>
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const body = new Uint8Array(0)
        const ask = (options: Parameters<typeof MuxServer.make>[1], destination: string) =>
          Effect.scoped(Effect.gen(function*() {
            const { address } = yield* MuxServer.make(() => Effect.succeed({ body }), options)
            const peer = yield* RawPeer.connect(address)
            peer.send({ _tag: "Tdispatch", tag: 2, contexts: [], destination, dtab: [], body })
            yield* peer.next("Rdispatch")
          })).pipe(Effect.provide(Logger.layer([])))
        yield* ask({}, "/svc/blobs")
        yield* ask({}, "")
        yield* ask({ span: ({ body }) => ({ name: `blob ${body.length}`, attributes: {} }) }, "/svc/blobs")
        yield* ask({ span: () => undefined }, "/svc/blobs")
        assert.deepStrictEqual(spans.map(({ kind, name }) => `${kind} ${name}`), [
          "server mux",
          "server mux",
          "server blob 0"
        ])
        assert.deepStrictEqual(spans.map(({ attributes }) => attributes.get("mux.destination")), [
          "/svc/blobs",
          undefined,
          undefined
        ])
      })
    ))
})

describe("Effect's exporter of OTLP", () => {
  it.live("sends the spans of clients and servers", () =>
    Effect.gen(function*() {
      const bodies: Array<any> = []
      const collector = HttpClient.make((request) =>
        Effect.sync(() => {
          bodies.push(JSON.parse(Buffer.from((request.body as any).body).toString()))
          return HttpClientResponse.fromWeb(request, new Response("{}"))
        })
      )
      const otlp = OtlpTracer.layer({ url: "http://collector/v1/traces", resource: { serviceName: "tests" } }).pipe(
        Layer.provide(OtlpSerialization.layerJson),
        Layer.provide(Layer.succeed(HttpClient.HttpClient, collector))
      )
      const program = Effect.scoped(Effect.gen(function*() {
        const { echo } = yield* chain({ fail: (why) => Effect.fail(new Refused({ why })) }, { client: 1 })
        yield* echo.ping()
        yield* Effect.exit(echo.fail("no", 0 as never))
      }))
      yield* Effect.provide(program, otlp)
      const spans = bodies.flatMap(({ resourceSpans }) => resourceSpans[0].scopeSpans[0].spans)
      const calls = spans.filter(({ kind, name }) => kind === 3 && name === "Echo/ping")
      assert.strictEqual(spans.length, 8)
      assert.deepStrictEqual(spans.filter(({ kind }) => kind === 2).length, 4)
      assert.deepStrictEqual(calls.map(({ status }) => status.code), [1, 1])
      const root = calls.find(({ parentSpanId }) => parentSpanId === undefined)
      assert.match(root.traceId, /^[0-9a-f]{32}$/)
      assert.deepStrictEqual(root.events.map(({ name }: any) => name), ["attempt"])
      assert.isTrue(BigInt(root.endTimeUnixNano) >= BigInt(root.startTimeUnixNano))
      assert.deepInclude(root.attributes, { key: "rpc.method", value: { stringValue: "Echo/ping" } })
      const failed = spans.find(({ kind, name, parentSpanId }) =>
        kind === 3 && name === "Echo/fail" && parentSpanId === undefined
      )
      assert.strictEqual(failed.status.code, 2)
      assert.deepInclude(failed.attributes, {
        key: "error.type",
        value: { stringValue: "ThriftApplicationException" }
      })
    }))
})
