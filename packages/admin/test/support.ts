/** What the tests of the page share: a program with clients and servers, and its page. */
import { Admin, type AdminOptions } from "@scales-rpc/admin"
import { Seed } from "@scales-rpc/core/testing"
import { ThriftMux, ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Context, Effect, Layer, Logger, Metric, type Scope } from "effect"
import { Echo, echoHandlers } from "../../examples/src/echo.ts"

export { Echo }

/** A server of Echo on a free port; nobody's log. */
export const serve = (
  handlers: Partial<ThriftMuxServer.Handlers<typeof Echo>> = {}
): Effect.Effect<{ readonly uri: string }, never, Scope.Scope> =>
  ThriftMuxServer.make(Echo, { ...echoHandlers(), ...handlers }, {}).pipe(
    Effect.provide(Logger.layer([])),
    Effect.orDie
  )

/** The addresses of servers as a URI of one set. */
export const uriOf = (...uris: ReadonlyArray<string>): string =>
  `tcp://${uris.map((uri) => uri.slice("tcp://".length)).join(",")}`

/** A page on a free port, and what is built over it. Metrics are of this program alone. */
export const program = <A>(
  run: (at: {
    readonly url: string
    /** A client of Echo that shows up on the page. */
    readonly client: (
      uri: string,
      options?: { readonly label?: string }
    ) => Effect.Effect<typeof Echo.Service, never, Scope.Scope>
    /** A server of Echo that does. */
    readonly server: (
      handlers?: Partial<ThriftMuxServer.Handlers<typeof Echo>>
    ) => Effect.Effect<{ readonly uri: string }, never, Scope.Scope>
  }) => Effect.Effect<A, never, Scope.Scope>,
  options: AdminOptions = { port: 0 }
): Effect.Effect<A> =>
  Effect.gen(function*() {
    const context = yield* Layer.build(Admin.layer(options))
    return yield* run({
      url: Context.get(context, Admin).url,
      client: (uri, given) =>
        Effect.map(
          Layer.build(ThriftMux.layer(Echo, { uri, ...given })),
          (built) => Context.get(built, Echo)
        ).pipe(Effect.provide(context), Effect.provide(Seed.layer(1)), Effect.orDie),
      server: (handlers) => serve(handlers).pipe(Effect.provide(context))
    })
  }).pipe(
    Effect.scoped,
    Effect.provide(Logger.layer([])),
    Effect.provideService(Metric.MetricRegistry, new Map()),
    Effect.orDie
  )
