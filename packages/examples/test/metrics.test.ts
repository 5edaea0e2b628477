/** `docs/metrics.md` has every metric there is, and says of each what it is. */
import { assert, it } from "@effect/vitest"
import { Aperture, ConcurrencyLimit, DeterministicAperture, PendingLimit } from "@scales-rpc/core"
import { Http } from "@scales-rpc/http"
import { Mux } from "@scales-rpc/mux"
import { Thrift, ThriftServer } from "@scales-rpc/thrift"
import { ThriftMux, ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Context, Effect, Layer, Logger, Metric } from "effect"
import { readFileSync } from "node:fs"
import { Echo, echoHandlers } from "../src/echo.ts"
import { definitions, page, written } from "../src/metrics.ts"

it("the table is as the packages say", () => {
  assert.strictEqual(
    readFileSync(page, "utf8"),
    written(),
    "docs/metrics.md is not up to date: its comment says how to write it"
  )
})

it.live("every series of a program is in the table, of its kind and with its attributes", () =>
  Effect.gen(function*() {
    const registry: Metric.MetricRegistry = new Map()
    yield* Effect.gen(function*() {
      const mux = yield* ThriftMuxServer.make(Echo, echoHandlers())
      const plain = yield* ThriftServer.make(Echo, echoHandlers())
      const balancers = [Aperture.layer(Mux), DeterministicAperture.layer(Mux, { instance: 0, instances: 1 })]
      for (const balancer of balancers) {
        const context = yield* Layer.build(ThriftMux.layer(Echo, {
          uri: `${mux.uri},127.0.0.1:1`,
          hedge: {},
          balancer,
          above: ConcurrencyLimit.layer(Mux, { maxConcurrent: 1 }),
          below: PendingLimit.layer(Mux, { maxPending: 1 })
        }))
        for (let i = 0; i < 5; i++) yield* Context.get(context, Echo).ping()
        yield* Effect.ignore(Context.get(context, Echo).crash("by hand"))
      }
      const context = yield* Layer.build(Thrift.layer(Echo, { uri: plain.uri }))
      yield* Context.get(context, Echo).ping()
      const { port } = new URL(mux.uri)
      yield* Layer.build(Http.layer("web", { uri: `tcp://127.0.0.1:${port}` }))
    }).pipe(
      Effect.andThen(Effect.sync(() => {
        const wrong: Array<string> = []
        let seen = 0
        for (const { attributes, id, type } of registry.values()) {
          if (!id.startsWith("scales.")) continue
          seen++
          const definition =
            (definitions as Record<string, { kind: string; attributes: ReadonlyArray<string> } | undefined>)[id]
          if (definition === undefined) {
            wrong.push(`${id} is not in the table`)
            continue
          }
          if (type.toLowerCase() !== definition.kind) wrong.push(`${id} is a ${type}`)
          const own = Object.keys(attributes ?? {}).filter((name) =>
            !["client", "server", "connect", "nth", "unit"].includes(name)
          )
          if (own.toSorted().join() !== definition.attributes.toSorted().join()) {
            wrong.push(`${id} has ${own.join(", ")}`)
          }
        }
        assert.deepStrictEqual(wrong, [])
        assert.isAbove(seen, 150)
      })),
      Effect.scoped,
      Effect.provide(Logger.layer([])),
      Effect.provideService(Metric.MetricRegistry, registry)
    )
    assert.deepStrictEqual([...registry.values()].map(({ id }) => id), [])
  }))
