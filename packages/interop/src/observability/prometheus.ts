/** A real Prometheus that scrapes a program of ours: what it stores is what the program counted, and what the docs tell to ask it can be asked. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { definitions } from "../../../examples/src/metrics.ts"
import * as Daemon from "../Daemon.ts"
import type { PeerError } from "../Peer.ts"
import { type Case, holds, theme } from "../Suite.ts"
import { execute, Missing } from "../Toolchain.ts"
import { unused } from "../zookeeper/ports.ts"
import { alerts, rulesOf } from "./alerts.ts"
import { type Watched, watched } from "./program.ts"

/** Makes sure that there is one. */
export const prepare: Effect.Effect<void, Missing> = Effect.flatMap(
  execute("prometheus", ["--version"]),
  ({ code }) =>
    code === 0
      ? Effect.void
      : Effect.fail(new Missing({ what: "no Prometheus (`prometheus`) here; on Debian: apt-get install prometheus" }))
)

/** Labels and value of each series that a query finds. */
type Found = ReadonlyArray<{ readonly metric: Readonly<Record<string, string>>; readonly value: number }>

/** What it answers to a query. */
type Ask = (query: string) => Effect.Effect<Found, Error>

/** A Prometheus that scrapes a page ten times a second. */
const scraping = ({ url }: Watched): Effect.Effect<Ask, PeerError, Scope.Scope> =>
  Effect.gen(function*() {
    const port = yield* unused
    const configuration = [
      "global: { scrape_interval: 100ms, scrape_timeout: 100ms }",
      `scrape_configs: [{ job_name: ours, static_configs: [{ targets: ["${new URL(url).host}"] }] }]`
    ].join("\n")
    const ask: Ask = (query) =>
      Effect.tryPromise({
        try: async () => {
          const response = await fetch(`http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(query)}`)
          const answer: any = await response.json()
          if (answer.status !== "success") throw new Error(`${query}: ${answer.error}`)
          return answer.data.result.map(({ metric, value }: any) => ({ metric, value: Number(value[1]) }))
        },
        catch: (error) => error as Error
      })
    yield* Daemon.start({
      name: "Prometheus",
      command: "prometheus",
      args: () => [
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        `--web.listen-address=127.0.0.1:${port}`,
        "--web.console.templates=none",
        "--web.console.libraries=none"
      ],
      files: { "prometheus.yml": configuration }
    }, () => Effect.filterOrFail(ask("up"), ([up]) => up?.value === 1, () => "not scraped yet"))
    return ask
  })

/** Asks until the answer is as it must be: a scrape may be on its way. */
const until = (ask: Ask, query: string, holds: (found: Found) => boolean): Effect.Effect<Found, Error> =>
  Effect.gen(function*() {
    for (let i = 0;; i++) {
      const found = yield* ask(query)
      if (holds(found)) return found
      if (i === 50) return yield* Effect.fail(new Error(`${query}: ${JSON.stringify(found)}`))
      yield* Effect.sleep("100 millis")
    }
  })

const is = (expected: number) => (found: Found) => found.length === 1 && found[0]!.value === expected

/** The queries that the docs give: each a block that says `promql`. */
const documented = (): ReadonlyArray<string> =>
  Array.from(
    readFileSync(new URL("../../../../docs/operations.md", import.meta.url), "utf8").matchAll(
      /^```promql\n(.*?)\n```$/gms
    ),
    ([, query]) => query!
  )

/** Calls that end in every way a server can end them. */
const load = ({ echo }: Watched) =>
  Effect.gen(function*() {
    for (let i = 0; i < 20; i++) yield* echo.ping()
    for (let i = 0; i < 5; i++) yield* Effect.flip(echo.fail("no", 0n as never))
    yield* Effect.flip(echo.crash("by hand"))
  })

/** The cases. */
export const prometheus: ReadonlyArray<Case<never>> = theme<never>("Prometheus", [
  holds(
    "stores what the program counted: calls, failures by tag, attempts of each endpoint, latencies",
    Effect.gen(function*() {
      const program = yield* watched()
      const ask = yield* scraping(program)
      yield* load(program)
      yield* until(ask, `scales_call_requests{client="echo",service="Echo",method="ping"}`, is(20))
      yield* until(ask, `scales_call_success{client="echo",method="ping"}`, is(20))
      yield* until(ask, `scales_call_failures{method="fail",error="ThriftException"}`, is(5))
      yield* until(ask, `sum(scales_call_failures{method="crash"})`, is(1))
      yield* until(ask, "sum(scales_endpoint_attempts)", is(26))
      yield* until(ask, "count(scales_endpoint_attempts)", is(2))
      yield* until(ask, "sum(scales_server_requests)", is(26))
      yield* until(ask, `scales_call_latency_ms_count{method="ping"}`, is(20))
      yield* until(ask, `scales_call_latency_ms_bucket{method="ping",le="+Inf"}`, is(20))
      yield* until(ask, `scales_balancer_usable`, is(2))
      const [quantile] = yield* ask(`scales_call_latency_quantiles_ms{method="ping",quantile="0.99"}`)
      const [sum] = yield* ask(`scales_call_latency_ms_sum{method="ping"}`)
      assert.ok(quantile!.value > 0 && quantile!.value <= sum!.value, `${quantile?.value} of ${sum?.value}`)
    })
  ),
  holds(
    "sees the series of an endpoint end when that leaves, and no other",
    Effect.gen(function*() {
      const program = yield* watched()
      const ask = yield* scraping(program)
      for (let i = 0; i < 10; i++) yield* program.echo.ping()
      const of = (i: number) => `scales_endpoint_attempts{endpoint="${program.servers[i]}"}`
      yield* until(ask, of(0), ({ length }) => length === 1)
      yield* until(ask, of(1), ({ length }) => length === 1)
      yield* program.leave
      yield* until(ask, of(1), ({ length }) => length === 0)
      yield* until(ask, of(0), ({ length }) => length === 1)
      yield* until(
        ask,
        `count({__name__=~"scales_endpoint_.*",endpoint="${program.servers[1]}"})`,
        ({ length }) => length === 0
      )
    })
  ),
  holds(
    "can be asked every query of the operations guide, and knows every metric they name",
    Effect.gen(function*() {
      const program = yield* watched()
      const ask = yield* scraping(program)
      yield* load(program)
      yield* until(ask, `scales_call_requests{method="ping"}`, is(20))
      const queries = documented()
      assert.ok(queries.length >= 8, `${queries.length} queries`)
      const known = Object.keys(definitions).map((name) => name.replaceAll(".", "_"))
      for (const query of queries) {
        yield* ask(query)
        for (const [name] of query.matchAll(/\bscales_\w+/g)) {
          assert.ok(known.includes(name.replace(/_(bucket|sum|count)$/, "")), `${query}: no metric ${name}`)
        }
      }
    })
  ),
  holds(
    "fires every alert of the operations guide at what it is for, and at nothing near it (promtool)",
    Effect.gen(function*() {
      const queries = documented()
      for (const { names } of alerts) assert.equal(queries.filter((query) => query.includes(names)).length, 1, names)
      assert.equal(queries.length, alerts.length)
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "scales-interop-"))),
        (made) => Effect.sync(() => rmSync(made, { recursive: true }))
      )
      for (const [file, content] of Object.entries(rulesOf(queries))) writeFileSync(join(folder, file), content)
      const { code, output } = yield* execute("promtool", ["test", "rules", "tests.yml"], folder)
      assert.equal(code, 0, output)
    })
  )
])
