/** The program that is looked at: a client of Echo over a set that can be changed, its servers, and its page, with metrics of its own. */
import { Admin } from "@scales-rpc/admin"
import { Endpoint, ServerSetState } from "@scales-rpc/core"
import { Seed, TestServerSet } from "@scales-rpc/core/testing"
import { HeapBalancer } from "@scales-rpc/core"
import { Mux } from "@scales-rpc/mux"
import { ThriftMux, ThriftMuxServer } from "@scales-rpc/thriftmux"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import { Echo, echoHandlers } from "../../../examples/src/echo.ts"

/** It, as its cases see it. */
export interface Watched {
  readonly echo: typeof Echo.Service
  /** `http://127.0.0.1:PORT` of its page. */
  readonly url: string
  /** The two servers, `host:port`. */
  readonly servers: readonly [string, string]
  /** Takes the second server out of the set. */
  readonly leave: Effect.Effect<void>
  /** Its metrics. */
  readonly registry: Metric.MetricRegistry
}

const endpointOf = (address: string): Endpoint =>
  Endpoint.tcp(address.slice(0, address.lastIndexOf(":")), Number(address.slice(address.lastIndexOf(":") + 1)))

/** Starts it; `over` is a layer that it all runs under: a tracer, a logger; nobody reads its log by default. */
export const watched = (over: Layer.Layer<never> = Logger.layer([])): Effect.Effect<Watched, unknown, Scope.Scope> =>
  Effect.gen(function*() {
    const registry: Metric.MetricRegistry = new Map()
    const start = Effect.gen(function*() {
      const serve = Effect.map(
        ThriftMuxServer.make(Echo, echoHandlers(), { label: "echo server" }),
        ({ uri }) => uri.slice("tcp://".length)
      )
      const servers = [yield* serve, yield* serve] as const
      const set = yield* Layer.build(TestServerSet.layer(ServerSetState.Bound(servers.map(endpointOf))))
      const context = yield* Layer.build(
        ThriftMux.layer(Echo, { serverSet: TestServerSet.serverSet, balancer: HeapBalancer.layer(Mux), label: "echo" })
          .pipe(Layer.provide(Layer.succeedContext(set)), Layer.provide(Seed.layer(1)))
      )
      return {
        echo: Context.get(context, Echo),
        url: (yield* Admin).url,
        servers,
        leave: Context.get(set, TestServerSet).bind([endpointOf(servers[0])]),
        registry
      }
    })
    const context = yield* Layer.build(Layer.provideMerge(Admin.layer({ port: 0 }), over)).pipe(
      Effect.provideService(Metric.MetricRegistry, registry)
    )
    return yield* start.pipe(Effect.provide(context), Effect.provideService(Metric.MetricRegistry, registry))
  })
