/** What a user may write and what must not compile. `tsc` checks the `@ts-expect-error` lines; the tests only keep the file honest. */
import {
  type BuildError,
  Filter,
  HeapBalancer,
  type PromiseClient,
  Requeue,
  Resurrector,
  Rpc,
  type RpcError,
  ServerSet,
  SingletonPool,
  Stack,
  wire
} from "@scales-rpc/core"
import { Mock, Scripted } from "@scales-rpc/core/testing"
import { ErrorReply, type ListenFailed, Mux, type MuxServer, MuxTransport, Nack } from "@scales-rpc/mux"
import { Thrift, type ThriftCallError, type ThriftException, ThriftService } from "@scales-rpc/thrift"
import { ThriftMux, ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Config, Context, Effect, Layer } from "effect"
import { assert, expectTypeOf, it } from "@effect/vitest"
import * as EchoGen from "../../examples/gen/Echo.js"
import { Message, type Overdrawn, Refused } from "../../examples/gen/echo_types.js"
import { echoHandlers } from "../../examples/src/echo.ts"

class Echo extends ThriftService<Echo>()("Echo", EchoGen) {}
class Token extends Context.Service<Token, string>()("Token") {}
class Log extends Context.Service<Log, (line: string) => Effect.Effect<void>>()("Log") {}
const Other = wire<{ readonly path: string }, { readonly code: number }>()("Other")
const otherTransport = Scripted.layer(Other, () => Effect.succeed({ code: 200 }))

const auth = Filter.above(Mux, (inner) =>
  Effect.map(Token, (token) => ({
    ...inner,
    send: (request, call) => inner.send({ body: request.body }, { ...call, method: token })
  })))
const inspect = Filter.below(Mux, (inner) => Effect.succeed(inner))
const logging = Filter.below(Mux, (inner) => Effect.as(Log, inner))

const uri = "tcp://localhost:1"

export const clients = () => {
  const plain = ThriftMux.layer(Echo, { uri })
  expectTypeOf(plain).toEqualTypeOf<Layer.Layer<Echo, BuildError | RpcError>>()
  const needsToken = ThriftMux.layer(Echo, { uri, above: auth })
  expectTypeOf(needsToken).toEqualTypeOf<Layer.Layer<Echo, BuildError | RpcError, Token>>()
  const needsBoth = ThriftMux.layer(Echo, { uri, above: auth, below: logging })
  expectTypeOf(needsBoth).toEqualTypeOf<Layer.Layer<Echo, BuildError | RpcError, Token | Log>>()
  const replaced = ThriftMux.layer(Echo, {
    serverSet: ServerSet.fixed([]),
    below: inspect,
    requeue: Requeue.layer(Mux),
    balancer: HeapBalancer.layer(Mux),
    breaker: Resurrector.layer(Mux, { demandInterval: "1 second" }),
    pool: SingletonPool.layer(Mux),
    transport: MuxTransport.layer({ window: 1000 })
  })
  expectTypeOf(replaced).toEqualTypeOf<Layer.Layer<Echo, BuildError | RpcError>>()
  const configured = ThriftMux.layerConfig(Echo, {
    uri: Config.String("ECHO_URI"),
    timeout: Config.Duration("ECHO_TIMEOUT"),
    eager: Config.Boolean("ECHO_EAGER"),
    mux: { pingInterval: Config.Duration("ECHO_PING") }
  })
  expectTypeOf(configured).toEqualTypeOf<Layer.Layer<Echo, BuildError | RpcError | Config.ConfigError>>()
  const byHand: Layer.Layer<Echo, BuildError, Token> = Thrift.client(Echo, Mux).pipe(
    Layer.provide(auth),
    Layer.provide(Requeue.layer(Mux)),
    Layer.provide(HeapBalancer.layer(Mux)),
    Layer.provide(Resurrector.layer(Mux)),
    Layer.provide(SingletonPool.layer(Mux)),
    Layer.provide(MuxTransport.layer()),
    Layer.provide(ServerSet.fromUri("tcp://a:1,b:1")),
    Layer.provide(Stack.layer("echo"))
  )
  // @ts-expect-error neither a URI nor a server set
  ThriftMux.layer(Echo, {})
  // @ts-expect-error both
  ThriftMux.layer(Echo, { uri, serverSet: ServerSet.fixed([]) })
  // @ts-expect-error an option that is none
  ThriftMux.layer(Echo, { uri, tiemout: "1 second" })
  // @ts-expect-error no way to treat a oneway method
  ThriftMux.layer(Echo, { uri, oneway: "drop" })
  // @ts-expect-error the URI is missing
  ThriftMux.layerConfig(Echo, { timeout: Config.Duration("ECHO_TIMEOUT") })
  // @ts-expect-error a value where a config is expected
  void (() => ThriftMux.layerConfig(Echo, { uri }))
  // @ts-expect-error the filter still needs its token
  const unmet: Layer.Layer<Echo, BuildError | RpcError> = needsToken
  // @ts-expect-error a filter for the plane below
  ThriftMux.layer(Echo, { uri, above: inspect })
  // @ts-expect-error a filter for the plane above
  ThriftMux.layer(Echo, { uri, below: auth })
  // @ts-expect-error a transport of another protocol
  ThriftMux.layer(Echo, { uri, transport: otherTransport })
  // @ts-expect-error a balancer in the breaker's place
  ThriftMux.layer(Echo, { uri, breaker: HeapBalancer.layer(Mux) })
  // @ts-expect-error a pool in the balancer's place
  ThriftMux.layer(Echo, { uri, balancer: SingletonPool.layer(Mux) })
  // @ts-expect-error a serializer of Thrift over a family without bytes
  Thrift.client(Echo, Other)
  const forgotten = Thrift.client(Echo, Mux).pipe(
    Layer.provide(HeapBalancer.layer(Mux)),
    Layer.provide(MuxTransport.layer()),
    Layer.provide(ServerSet.fromUri("tcp://a:1")),
    Layer.provide(Stack.layer("echo"))
  )
  // @ts-expect-error the pool is forgotten: Mux/Endpoints is still required
  const incomplete: Layer.Layer<Echo, BuildError> = forgotten
  return [plain, needsToken, needsBoth, replaced, configured, byHand, unmet, incomplete]
}

export const calls = Effect.gen(function*() {
  const echo = yield* Echo
  const reply = echo.passMessage(new Message()).pipe(
    Rpc.deadline("1 second"),
    Rpc.idempotent,
    Rpc.context("key", "value")
  )
  expectTypeOf(reply).toEqualTypeOf<Effect.Effect<Message, ThriftCallError>>()
  const failing = echo.fail("why", new Message().number)
  expectTypeOf(failing).toEqualTypeOf<Effect.Effect<void, ThriftException<Refused | Overdrawn> | ThriftCallError>>()
  const headed = Rpc.withReplyHeaders(echo.ping())
  type Headers = ReadonlyArray<readonly [string, string]>
  expectTypeOf(headed).toEqualTypeOf<Effect.Effect<readonly [result: string, headers: Headers], ThriftCallError>>()
  // @ts-expect-error an argument of another type
  echo.slow("1")
  // @ts-expect-error no such method
  void echo.pong
  // @ts-expect-error the method declares no exception
  yield* Effect.catchTag(echo.ping(), "ThriftException", () => Effect.void)
})

/** The methods as promises. */
export const promises = (client: PromiseClient.PromisesOf<typeof Echo.Service>) => {
  expectTypeOf(client.passMessage).toEqualTypeOf<(message: Message) => Promise<Message>>()
  expectTypeOf(client.note).toEqualTypeOf<(text: string) => Promise<void>>()
}

export const servers = () => {
  const handlers = echoHandlers()
  const plain = ThriftMuxServer.layer(Echo, handlers, { port: 8080 })
  expectTypeOf(plain).toEqualTypeOf<Layer.Layer<MuxServer, BuildError | ListenFailed>>()

  // Parameters are typed by the service; what handlers need is gathered, and the scope of a call is given.
  const needing = ThriftMuxServer.layer(Echo, {
    ...handlers,
    ping: () => Effect.map(Token, (token) => token),
    slow: (millis) => Effect.flatMap(Log, (log) => Effect.as(log(millis.toFixed()), "slow")),
    touch: (key) => Effect.acquireRelease(Effect.void, () => Effect.sync(() => key.length)),
    passMessage: (message) => {
      expectTypeOf(message).toEqualTypeOf<Message>()
      return Effect.fail(new Nack({ why: message.text }))
    },
    fail: (why) => why === "" ? Effect.fail(new ErrorReply({ why })) : Effect.fail(new Refused({ why }))
  })
  expectTypeOf(needing).toEqualTypeOf<Layer.Layer<MuxServer, BuildError | ListenFailed, Token | Log>>()

  const apart: ThriftMuxServer.Handlers<typeof Echo, Token> = { ...handlers, ping: () => Token }
  const ofApart = ThriftMuxServer.layer(Echo, apart)
  expectTypeOf(ofApart).toEqualTypeOf<Layer.Layer<MuxServer, BuildError | ListenFailed, Token>>()

  const { note: _, ...incomplete } = handlers
  // @ts-expect-error a method has no handler
  ThriftMuxServer.layer(Echo, incomplete)
  // @ts-expect-error a result of another type
  ThriftMuxServer.layer(Echo, { ...handlers, ping: () => Effect.succeed(1) })
  // @ts-expect-error a failure that the method does not declare
  ThriftMuxServer.layer(Echo, { ...handlers, ping: () => Effect.fail(new Refused({ why: "" })) })
  // @ts-expect-error a failure that no method declares
  ThriftMuxServer.layer(Echo, { ...handlers, fail: () => Effect.fail(new Error("no")) })
  // @ts-expect-error an argument of another type
  ThriftMuxServer.layer(Echo, { ...handlers, slow: (millis: string) => Effect.succeed(millis) })
  // @ts-expect-error no effect
  ThriftMuxServer.layer(Echo, { ...handlers, ping: () => "pong" })
  // @ts-expect-error handlers apart that need what is not said
  const unsaid: ThriftMuxServer.Handlers<typeof Echo> = { ...handlers, ping: () => Token }
  return [plain, needing, ofApart, unsaid]
}

export const mocks = () => [
  Mock.layer(Echo, { passMessage: (message) => Effect.succeed(message) }),
  // @ts-expect-error a result of another type
  Mock.layer(Echo, { ping: () => Effect.succeed(1) })
]

it("builds none of them by mentioning them", () => {
  assert.strictEqual(clients().length, 8)
  assert.strictEqual(servers().length, 4)
  assert.strictEqual(mocks().length, 2)
})
