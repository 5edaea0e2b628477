/** What a user may write and what must not compile. `tsc` checks the `@ts-expect-error` lines; the test only keeps the file honest. */
import {
  type BuildError,
  Filter,
  HeapBalancer,
  Requeue,
  Resurrector,
  type RpcError,
  ServerSet,
  SingletonPool,
  Stack,
  wire
} from "@scales-rpc/core"
import { Scripted } from "@scales-rpc/core/testing"
import { Mux, MuxTransport } from "@scales-rpc/mux"
import { Thrift, ThriftService } from "@scales-rpc/thrift"
import { ThriftMux } from "@scales-rpc/thriftmux"
import { Config, Context, Effect, Layer } from "effect"
import { assert, it } from "@effect/vitest"
import * as EchoGen from "../../examples/gen/Echo.js"

class Echo extends ThriftService<Echo>()("Echo", EchoGen) {}
class Token extends Context.Service<Token, string>()("Token") {}
const Other = wire<{ readonly path: string }, { readonly code: number }>()("Other")
const otherTransport = Scripted.layer(Other, () => Effect.succeed({ code: 200 }))

const auth = Filter.above(Mux, (inner) =>
  Effect.map(Token, (token) => ({
    ...inner,
    send: (request, call) => inner.send({ body: request.body }, { ...call, method: token })
  })))
const inspect = Filter.below(Mux, (inner) => Effect.succeed(inner))

const uri = "tcp://localhost:1"

export const typed = () => {
  const plain: Layer.Layer<Echo, BuildError | RpcError> = ThriftMux.layer(Echo, { uri })
  const needsToken: Layer.Layer<Echo, BuildError | RpcError, Token> = ThriftMux.layer(Echo, { uri, above: auth })
  const replaced: Layer.Layer<Echo, BuildError | RpcError> = ThriftMux.layer(Echo, {
    serverSet: ServerSet.fixed([]),
    below: inspect,
    balancer: HeapBalancer.layer(Mux),
    pool: SingletonPool.layer(Mux),
    transport: MuxTransport.layer({ window: 1000 })
  })
  const configured: Layer.Layer<Echo, BuildError | RpcError | Config.ConfigError> = ThriftMux.layerConfig(Echo, {
    uri: Config.String("ECHO_URI")
  })
  const byHand: Layer.Layer<Echo, BuildError, Token> = Thrift.layer(Echo, Mux).pipe(
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
  // @ts-expect-error the filter still needs its token
  const unmet: Layer.Layer<Echo, BuildError | RpcError> = needsToken
  // @ts-expect-error a filter for the plane below
  ThriftMux.layer(Echo, { uri, above: inspect })
  // @ts-expect-error a filter for the plane above
  ThriftMux.layer(Echo, { uri, below: auth })
  // @ts-expect-error a transport of another protocol
  ThriftMux.layer(Echo, { uri, transport: otherTransport })
  // @ts-expect-error a pool in the balancer's place
  ThriftMux.layer(Echo, { uri, balancer: SingletonPool.layer(Mux) })
  // @ts-expect-error a serializer of Thrift over a family without bytes
  Thrift.layer(Echo, Other)
  const forgotten = Thrift.layer(Echo, Mux).pipe(
    Layer.provide(HeapBalancer.layer(Mux)),
    Layer.provide(MuxTransport.layer()),
    Layer.provide(ServerSet.fromUri("tcp://a:1")),
    Layer.provide(Stack.layer("echo"))
  )
  // @ts-expect-error the pool is forgotten: Mux/Endpoints is still required
  const incomplete: Layer.Layer<Echo, BuildError> = forgotten
  return [plain, needsToken, replaced, configured, byHand, unmet, incomplete]
}

it("builds none of them by mentioning them", () => {
  assert.strictEqual(typed().length, 7)
})
