/**
 * One call through two servers, and the tree of its spans: a ThriftMux server, which is too busy for the first attempt, asks a plain Thrift one.
 * `node tracing.ts`
 */
import { Nack } from "@scales-rpc/mux"
import { Thrift, ThriftServer, ThriftService } from "@scales-rpc/thrift"
import { ThriftMux, ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Context, Effect, Layer, Logger, Option, Tracer } from "effect"
import * as EchoGen from "../gen/Echo.js"
import { Echo, echoHandlers } from "./echo.ts"

/** The same IDL in another place. */
class Behind extends ThriftService<Behind>()("Behind", EchoGen) {}

/** A tracer that keeps the spans it makes: in place of it, an application has the layer of its exporter (`OtlpTracer.layer`). */
const spans: Array<Tracer.NativeSpan> = []
const tracer = Tracer.make({
  span: (options) => {
    const span = new Tracer.NativeSpan(options)
    spans.push(span)
    return span
  }
})

const program = Effect.gen(function*() {
  const behind = yield* ThriftServer.make(Behind, {
    ...echoHandlers(),
    ping: () => Effect.withSpan(Effect.succeed("pong"), "look it up")
  })
  const toBehind = yield* Layer.build(Thrift.layer(Behind, { uri: behind.uri, upgrade: true }))
  let busy = true
  const front = yield* ThriftMuxServer.make(Echo, {
    ...echoHandlers(),
    ping: () =>
      Effect.suspend(() => {
        if (!busy) return Effect.orDie(Context.get(toBehind, Behind).ping())
        busy = false
        return Effect.fail(new Nack({ why: "busy" }))
      })
  })
  const toFront = yield* Layer.build(ThriftMux.layer(Echo, { uri: front.uri }))
  yield* Effect.withSpan(Context.get(toFront, Echo).ping(), "main")
})

// The clients and servers are built under the tracer: the handlers have it too.
await Effect.runPromise(
  Effect.scoped(program).pipe(Effect.provideService(Tracer.Tracer, tracer), Effect.provide(Logger.layer([])))
)

/** A span and what is below it, two blanks a level: its kind, its name and what it failed with, and what was noted on it. */
const print = (span: Tracer.NativeSpan, indent: string): void => {
  const error = span.attributes.get("error.type")
  console.log(`${indent}${span.name} (${span.kind}${error === undefined ? "" : `, ${String(error)}`})`)
  for (const [name, , { "error.type": why }] of span.events) {
    console.log(`${indent}  - ${name}${why === undefined ? "" : `: ${String(why)}`}`)
  }
  for (const child of spans) {
    if (Option.getOrUndefined(child.parent)?.spanId === span.spanId) print(child, `${indent}  `)
  }
}
for (const span of spans) if (Option.isNone(span.parent)) print(span, "")
console.log(`traces: ${new Set(spans.map(({ traceId }) => traceId)).size}`)
