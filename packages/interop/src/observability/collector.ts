/** A real OpenTelemetry collector: it takes the spans, metrics and logs that Effect's exporters send of our stacks, and prints them as it read them. */
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Otlp from "effect/observability/Otlp"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { fileURLToPath } from "node:url"
import * as Daemon from "../Daemon.ts"
import * as Go from "../Go.ts"
import { type Case, holds, theme } from "../Suite.ts"
import { unused } from "../zookeeper/ports.ts"
import { watched } from "./program.ts"

const folder = fileURLToPath(new URL("../../collector", import.meta.url))

/** Makes sure that there is one. */
export const prepare = Effect.asVoid(Go.build(folder, "collector"))

interface Collector extends Daemon.Daemon {
  readonly url: string
}

const start: Effect.Effect<Collector, unknown, Scope.Scope> = Effect.gen(function*() {
  const command = yield* Go.build(folder, "collector")
  const port = yield* unused
  const configuration = `
receivers: { otlp: { protocols: { http: { endpoint: "127.0.0.1:${port}" } } } }
exporters: { debug: { verbosity: detailed, sampling_initial: 100000 } }
service:
  telemetry: { metrics: { level: none } }
  pipelines:
    traces: { receivers: [otlp], exporters: [debug] }
    metrics: { receivers: [otlp], exporters: [debug] }
    logs: { receivers: [otlp], exporters: [debug] }
`
  const daemon = yield* Daemon.start(
    {
      name: "the collector",
      command,
      args: () => ["--config=collector.yaml"],
      files: { "collector.yaml": configuration }
    },
    ({ output }) => output().includes("Everything is ready") ? Effect.void : Effect.fail("not ready")
  )
  return { ...daemon, url: `http://127.0.0.1:${port}` }
})

/** The program's log, spans and metrics, sent to a collector when its scope closes at the latest. */
const exporting = ({ url }: Collector, form: "json" | "protobuf") => {
  const options = {
    baseUrl: url,
    resource: { serviceName: "observed" },
    tracerExportInterval: "50 millis",
    metricsExportInterval: "50 millis"
  } as const
  return (form === "json" ? Otlp.layerJson(options) : Otlp.layerProtobuf(options)).pipe(
    Layer.provide(FetchHttpClient.layer)
  )
}

/** What it prints of one span, metric or log record. */
interface Printed {
  readonly kind: "Span" | "Metric" | "LogRecord"
  readonly text: string
}

const printed = (output: string): ReadonlyArray<Printed> =>
  output.split(/^(?=(?:Span|Metric|LogRecord) #\d+$)/m).flatMap((text) => {
    const kind = /^(Span|Metric|LogRecord) #/.exec(text)?.[1] as Printed["kind"] | undefined
    return kind === undefined ? [] : [{ kind, text }]
  })

const field = ({ text }: Printed, name: string): string | undefined =>
  new RegExp(`^\\s*(?:-> )?${name.replaceAll(".", "\\.")}\\s*: (.*)$`, "m").exec(text)?.[1]

const until = (collector: Collector, holds: (all: ReadonlyArray<Printed>) => boolean) =>
  Effect.gen(function*() {
    for (let i = 0; i < 100; i++) {
      const all = printed(collector.output())
      if (holds(all)) return all
      yield* Effect.sleep("50 millis")
    }
    return yield* Effect.fail(new Error(`in vain; it printed\n${collector.output().slice(-4000)}`))
  })

const named = (all: ReadonlyArray<Printed>, kind: Printed["kind"], name: string) =>
  all.filter((one) => one.kind === kind && field(one, "Name") === name)

/** The cases. */
export const collector: ReadonlyArray<Case<never>> = theme<never>("OpenTelemetry collector", [
  ...(["json", "protobuf"] as const).map((form) =>
    holds(
      `takes the spans of client and server as ${form}: one trace, the server's span under the client's`,
      Effect.gen(function*() {
        const peer = yield* start
        yield* Effect.scoped(Effect.gen(function*() {
          const exporter = yield* Layer.build(exporting(peer, form))
          const { echo, servers } = yield* watched(Layer.succeedContext(exporter as never))
          yield* echo.ping().pipe(Effect.provide(exporter))
          yield* Effect.flip(echo.fail("no", 0n as never)).pipe(Effect.provide(exporter))
          const all = yield* until(peer, (all) =>
            named(all, "Span", "Echo/ping").length === 2 && named(all, "Span", "Echo/fail").length === 2)
          const of = (name: string, kind: string) =>
            named(all, "Span", name).find((span) =>
              field(span, "Kind") === kind
            )!
          const client = of("Echo/ping", "Client")
          const server = of("Echo/ping", "Server")
          assert.match(field(client, "Trace ID")!, /^[0-9a-f]{32}$/)
          assert.equal(field(server, "Trace ID"), field(client, "Trace ID"))
          assert.equal(field(server, "Parent ID"), field(client, "ID"))
          assert.equal(field(client, "rpc.method"), "Str(Echo/ping)")
          assert.ok(servers.some((address) => field(client, "server.port")?.includes(address.split(":")[1]!)))
          assert.equal(field(of("Echo/fail", "Client"), "error.type"), "Str(ThriftException)")
        }))
      })
    )
  ),
  holds(
    "takes the metrics, with their units and attributes, and the histogram of latencies",
    Effect.gen(function*() {
      const peer = yield* start
      yield* Effect.scoped(Effect.gen(function*() {
        const { echo, registry } = yield* watched()
        for (let i = 0; i < 7; i++) yield* echo.ping()
        yield* Layer.build(exporting(peer, "protobuf")).pipe(
          Effect.provideService((yield* Effect.promise(() => import("effect/Metric"))).MetricRegistry, registry)
        )
        const all = yield* until(
          peer,
          (all) =>
            named(all, "Metric", "scales.call.requests").length > 0 &&
            named(all, "Metric", "scales.call.latency_ms").length > 0
        )
        const requests = named(all, "Metric", "scales.call.requests")[0]!
        assert.equal(field(requests, "DataType"), "Sum")
        assert.equal(field(requests, "IsMonotonic"), "true")
        assert.equal(field(requests, "Value"), "7.000000")
        assert.equal(field(requests, "method"), "Str(ping)")
        assert.equal(field(requests, "client"), "Str(echo)")
        const latency = named(all, "Metric", "scales.call.latency_ms")[0]!
        assert.equal(field(latency, "DataType"), "Histogram")
        assert.equal(field(latency, "Unit"), "ms")
        assert.equal(field(latency, "Count"), "7")
      }))
    })
  ),
  holds(
    "takes the log of what changes, with its annotations as attributes",
    Effect.gen(function*() {
      const peer = yield* start
      yield* Effect.scoped(Effect.gen(function*() {
        const exporter = yield* Layer.build(exporting(peer, "json"))
        yield* watched(Layer.succeedContext(exporter as never))
        const all = yield* until(
          peer,
          (all) => all.some(({ kind, text }) => kind === "LogRecord" && text.includes("admin page is served"))
        )
        const record = all.find(({ text }) => text.includes("admin page is served"))!
        assert.match(field(record, "url") ?? "", /^Str\(http:\/\/127\.0\.0\.1:\d+\)$/)
      }))
    })
  )
])
