/**
 * What the tests of thriftmux share: servers and clients of Echo on real sockets. Whatever a test leaves behind fails it: loads,
 * tags and timers of calls at a client's end, sessions and requests at a server's, sockets at the file's.
 */
import { describe as describeStack, type Endpoint, HeapBalancer, Stacks } from "@scales-rpc/core"
import { Mux, type MuxRequest, type MuxResponse, type MuxServerShape } from "@scales-rpc/mux"
import { Scripted, Seed } from "@scales-rpc/core/testing"
import { ThriftMux, ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Context, Effect, Exit, Layer, Logger, Scope } from "effect"
import Int64 from "node-int64"
import Net from "node:net"
import { afterAll, beforeAll } from "@effect/vitest"
import { Message } from "../../examples/gen/echo_types.js"
import { Echo, echoHandlers } from "../../examples/src/echo.ts"

export { Echo }
export type EchoClient = typeof Echo.Service
export type EchoHandlers = ThriftMuxServer.Handlers<typeof Echo>

/** Waits, in real time whatever the clock, until something holds; not longer than five seconds. */
export const until = (what: string, holds: () => boolean): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const started = performance.now()
    let timer: NodeJS.Timeout | undefined
    const look = () => {
      if (holds()) return resume(Effect.void)
      if (performance.now() - started > 5000) return resume(Effect.die(new Error(`in vain: ${what}`)))
      timer = setTimeout(look, 1)
    }
    look()
    return Effect.sync(() => clearTimeout(timer))
  })

/** Of the process: sockets, listeners and pipes that are open. */
const sockets = () => process.getActiveResourcesInfo().filter((name) => /^(TCP|Pipe)/.test(name)).toSorted()

/** Fails the file when a socket that one of its tests opened outlives them. */
export const leavesNoSockets = (): void => {
  let before: ReadonlyArray<string>
  beforeAll(() => {
    before = sockets()
  })
  afterAll(() => Effect.runPromise(until("every socket is closed", () => sockets().join() === before.join())))
}

/** A server that lives until it is closed, or with the test. */
export interface Served extends MuxServerShape {
  /** Drains it. */
  readonly close: Effect.Effect<void>
  /** Ends it as a crash does: every connection is reset, and connecting is refused. */
  readonly kill: Effect.Effect<void>
}

/** Serves Echo on a free port of 127.0.0.1, with the handlers of the examples but for those given. By default its log is nobody's. */
export const serve = (
  handlers: Partial<EchoHandlers> = {},
  options: ThriftMuxServer.ThriftMuxServerOptions = {},
  logger: Layer.Layer<never> = Logger.layer([])
): Effect.Effect<Served, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Scope.Scope)
    const server = yield* ThriftMuxServer.make(Echo, { ...echoHandlers(), ...handlers }, options).pipe(
      Scope.provide(scope),
      Effect.provide(logger),
      Effect.orDie
    )
    yield* Effect.addFinalizer(() =>
      until("the server is idle", () => server.sessions().length === 0 && server.outstanding() === 0)
    )
    const close = Scope.close(scope, Exit.void)
    return {
      ...server,
      close,
      kill: Effect.suspend(() => {
        for (const session of server.sessions()) session.destroy()
        return close
      })
    }
  })

/** What the stages of a stack say of themselves, as far as tests ask. */
interface Live {
  readonly endpoints: ReadonlyArray<{ readonly endpoint: string; readonly state: string; readonly load: number }>
  readonly sessions: ReadonlyArray<{ readonly endpoint: string; readonly tags: number; readonly outstanding: number }>
  readonly outstanding: number
  readonly requeues: number
  readonly connects: number
}

/** A client of Echo, and the live state of its stack. */
export interface Connected {
  readonly echo: EchoClient
  readonly live: () => Live
  /** Drains it. */
  readonly close: Effect.Effect<void>
}

const liveOf = (stacks: typeof Stacks.Service): Live => {
  const states = Object.fromEntries(
    stacks.list().flatMap((stack) => describeStack(stack).stages).map(({ role, state }) => [role, state as any])
  )
  return {
    endpoints: states["balancer"]?.endpoints ?? [],
    sessions: states["transport"]?.sessions ?? [],
    outstanding: states["dispatcher"]?.outstanding ?? 0,
    requeues: states["requeue"]?.requeues ?? 0,
    connects: states["pool"]?.connects ?? 0
  }
}

/** Builds a client's layer, whose picks and jitter repeat, in a scope of its own. */
export const build = <E>(
  layer: Layer.Layer<Echo, E>
): Effect.Effect<Connected, E, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Scope.Scope)
    const context = yield* Layer.build(layer.pipe(Layer.provide(Seed.layer(1)), Layer.provideMerge(Stacks.layer))).pipe(
      Scope.provide(scope)
    )
    const live = () => liveOf(Context.get(context, Stacks))
    const held = () => {
      const { endpoints, outstanding, sessions } = live()
      const tags = sessions.reduce((sum, session) => sum + session.tags, 0)
      return outstanding + tags + endpoints.reduce((sum, { load }) => sum + load, 0)
    }
    yield* Effect.addFinalizer(() => until("every load, tag and call is released", () => held() === 0))
    return { echo: Context.get(context, Echo), live, close: Scope.close(scope, Exit.void) }
  })

/** A URI of these servers. */
export const uriOf = (...servers: ReadonlyArray<{ readonly uri: string }>): string =>
  `tcp://${servers.map(({ uri }) => uri.slice("tcp://".length)).join(",")}`

/** A client of these servers over the default stack. */
export const connect = (
  servers: { readonly uri: string } | ReadonlyArray<{ readonly uri: string }>,
  options: ThriftMux.ThriftMuxOptions = {}
): Effect.Effect<Connected, never, Scope.Scope> =>
  Effect.orDie(build(ThriftMux.layer(Echo, { ...options, uri: uriOf(...[servers].flat()) })))

/** A client that uses all of these servers from its first calls on: without an aperture. */
export const spread = (
  servers: ReadonlyArray<{ readonly uri: string }>,
  options: ThriftMux.ThriftMuxOptions = {}
): Effect.Effect<Connected, never, Scope.Scope> =>
  Effect.orDie(
    build(ThriftMux.layer(Echo, { ...options, uri: uriOf(...servers), balancer: HeapBalancer.layer(Mux) }))
  )

/** A port on which nobody listens: connecting is refused. */
export const closedPort: Effect.Effect<{ readonly port: number; readonly uri: string }> = Effect.callback((resume) => {
  const server = Net.createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address() as Net.AddressInfo
    server.close(() => resume(Effect.succeed({ port, uri: `tcp://127.0.0.1:${port}` })))
  })
})

/** A connector that follows a script in place of the transport, so that no socket is opened and time is the test's. */
export const scripted = (
  answer: (body: Uint8Array, endpoint: Endpoint) => Effect.Effect<Uint8Array> = () => Effect.never
) => {
  const { connector, script } = Scripted.make<MuxRequest, MuxResponse, never>(({ body }, { endpoint }) =>
    Effect.map(answer(body, endpoint), (body) => ({ body, contexts: [] }))
  )
  return { script, transport: Layer.succeed(Mux.Connector, connector) }
}

/** A message, and what is in one. */
export const message = (text: string, number: bigint | number = 0, items: Array<number> = []): Message => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(BigInt(number))
  return new Message({ text, number: new Int64(bytes), items })
}
export const plain = ({ items, number, text }: Message) => ({
  text,
  number: number.buffer.readBigInt64BE(number.offset),
  items
})
