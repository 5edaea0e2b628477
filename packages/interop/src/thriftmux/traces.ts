/** Traces between Effect and Finagle: what each of them makes of the other's. */
import { Recorder } from "@scales-rpc/core/testing"
import { Thrift, ThriftServer } from "@scales-rpc/thrift"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import assert from "node:assert/strict"
import * as Finagle from "../Finagle.ts"
import { holds, theme } from "../Suite.ts"
import { connectBody } from "./body.ts"
import { build, connect, Echo, seen, uriOf } from "./echo.ts"
import { serve, serveBodies } from "./ours.ts"
import { type Peers, shared } from "./peers.ts"
import { result } from "./results.ts"

/** What a server of Finagle's saw of a call's trace, and the span that the call is to have had. */
const sameSpan = (trace: any, span: Tracer.Span) => {
  const parent = Option.getOrUndefined(span.parent)
  assert.deepEqual(trace, {
    traceId: span.traceId.slice(16),
    traceIdHigh: span.traceId.slice(0, 16),
    spanId: span.spanId,
    parentId: parent?.spanId ?? span.spanId,
    flags: "0000000000000006",
    sampled: true
  })
}

/** What our handlers see of the span that they run in, as JSON. */
const handlerSpan = Effect.orDie(Effect.map(Effect.currentParentSpan, (span) => {
  const parent = span._tag === "Span" ? Option.getOrUndefined(span.parent) : undefined
  return JSON.stringify({
    tag: span._tag,
    traceId: span.traceId,
    sampled: span.sampled,
    spanId: span.spanId,
    parent: parent?.spanId
  })
}))

const callerSpan = Tracer.externalSpan({
  traceId: "0af7651916cd43dd8448eb211c80319c",
  spanId: "b7ad6b7169203331",
  sampled: false
})

export const traces = theme<Peers>("traces", [
  holds(
    "a ThriftMux server of Finagle's is in the span of our call, a root or under another",
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const { echo } = yield* connect(uriOf(yield* shared("echo")))
        sameSpan((yield* seen(echo)).trace, spans.at(-1)!)
        sameSpan((yield* Effect.withSpan(seen(echo), "outer")).trace, spans.at(-1)!)
        assert.deepEqual(spans.map(({ kind, name }) => `${kind} ${name}`), [
          "client Echo/seen",
          "internal outer",
          "client Echo/seen"
        ])
      })
    )
  ),
  holds(
    "a Mux server of Finagle 24.2 is too",
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const { text } = yield* connectBody(uriOf(yield* shared("body")))
        sameSpan(JSON.parse(yield* text("seen")).trace, spans.at(-1)!)
      })
    )
  ),
  holds(
    "a Thrift server of Finagle's is too, through the upgrade",
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const server = yield* Finagle.server("tm22")
        const { client } = yield* build(Echo, Thrift.layer(Echo, { uri: uriOf(server), upgrade: true }))
        sameSpan((yield* seen(client)).trace, spans.at(-1)!)
      })
    )
  ),
  holds(
    "it hears that a trace is not sampled: one that begins with the call, and one that is handed on",
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const { echo } = yield* connect(uriOf(yield* shared("echo")), { traceSampling: 0 })
        const { flags, parentId, sampled, spanId } = (yield* seen(echo)).trace
        assert.deepEqual([flags, sampled, parentId], ["0000000000000002", false, spanId])
        const { spanId: own, ...rest } = (yield* Effect.withParentSpan(seen(echo), callerSpan)).trace
        assert.deepEqual(rest, {
          traceId: "8448eb211c80319c",
          traceIdHigh: "0af7651916cd43dd",
          parentId: "b7ad6b7169203331",
          flags: "0000000000000002",
          sampled: false
        })
        assert.notEqual(own, "b7ad6b7169203331")
        assert.equal(spans.length, 0)
      })
    )
  ),
  holds(
    "a handler of ours is in the span of Finagle's call, whoever listens",
    Effect.gen(function*() {
      const { address } = yield* serve({}, () => Effect.map(handlerSpan, String))
      const client = yield* Finagle.client("tm22", [address])
      const { parent, spanId, tag, traceId } = JSON.parse(result(yield* client.call(["seen"])))
      // A new root of 64 bits, as Finagle makes one.
      assert.deepEqual([tag, parent, traceId], ["ExternalSpan", undefined, `0000000000000000${spanId}`])
    })
  ),
  holds(
    "and in one of the server's under it where a tracer listens, over ThriftMux, Mux and the upgrade",
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const thriftMux = yield* serve({}, () => handlerSpan)
        const bodies = yield* serveBodies({}, () => handlerSpan)
        const handlers = { seen: () => handlerSpan } as unknown as ThriftServer.Handlers<typeof Echo>
        const thrift = yield* ThriftServer.make(Echo, handlers)
        const told = [
          result(yield* (yield* Finagle.client("tm22", [thriftMux.address])).call(["seen"])),
          result(yield* (yield* Finagle.client("mux24", [bodies.address])).call(["seen"])).text,
          result(yield* (yield* Finagle.thriftClient([`127.0.0.1:${thrift.address.port}`])).call(["seen"]))
        ]
        for (const [i, text] of told.entries()) {
          const { parent, spanId, tag, traceId } = JSON.parse(text)
          assert.equal(tag, "Span")
          assert.equal(traceId, `0000000000000000${parent}`, "Finagle's root span is its trace id")
          assert.equal(spanId, spans[i]!.spanId)
          assert.equal(spans[i]!.kind, "server")
        }
      })
    )
  ),
  holds(
    "a trace goes on through Finagle between two of ours",
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const { address } = yield* serve({}, () => handlerSpan)
        const { echo } = yield* connect(uriOf(yield* Finagle.server("tm22", { forward: address })))
        const { parent, traceId } = JSON.parse(yield* echo.seen())
        const [client, server] = spans as [Tracer.NativeSpan, Tracer.NativeSpan]
        assert.deepEqual([client.kind, server.kind, spans.length], ["client", "server", 2])
        assert.equal(traceId, client.traceId)
        // Finagle's own call is a span of its own, under ours.
        assert.notEqual(parent, client.spanId)
      })
    )
  )
])
