/** What the types of core promise: each `@ts-expect-error` is a mistake that must not compile, and `tsc` checks that it does not. */
import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import {
  type BuildError,
  ClientId,
  type Connector,
  type EndpointSink,
  Filter,
  HeapBalancer,
  type MessageSink,
  Requeue,
  Resurrector,
  Rpc,
  type RpcError,
  ServerSet,
  SingletonPool,
  type SinkFactory,
  Stack,
  textKey,
  wire
} from "@scales-rpc/core"
import { Mock, Recorder, ScriptedSink } from "@scales-rpc/core/testing"
import { Context, Effect, Layer } from "effect"
import { stack, Text, TextClient } from "./support.ts"

class Token extends Context.Service<Token, string>()("test/Token") {}
class Other extends Context.Service<Other, number>()("test/Other") {}

/** Another family, with the same shape of messages but for one. */
const Json = wire<string, { readonly status: number }>()("Json")

const textTransport = Layer.succeed(Text.Connector, {} as Connector<string, string, RpcError>)
const jsonTransport = Layer.succeed(Json.Connector, {} as Connector<string, { readonly status: number }, RpcError>)
const servers = ServerSet.fromUri("tcp://a:1")
const shared = Stack.layer("text")

/** Names a layer's three sides. */
type Sides<L> = L extends Layer.Layer<infer Out, infer E, infer In> ? [Out, E, In] : never

describe("a stack composed by hand", () => {
  it("needs nothing when every plane is there, and says what its build can fail with", () => {
    const whole = HeapBalancer.layer(Text).pipe(
      Layer.provide(Resurrector.layer(Text)),
      Layer.provide(SingletonPool.layer(Text)),
      Layer.provide(textTransport),
      Layer.provide(servers),
      Layer.provide(shared)
    )
    expectTypeOf<Sides<typeof whole>>().toEqualTypeOf<
      ["Text/Balanced", BuildError, never]
    >()
    const asBuilt: Layer.Layer<"Text/Balanced", BuildError> = whole
    assert.isDefined(asBuilt)
  })

  it("does not compile without a pool", () => {
    const forgotten = HeapBalancer.layer(Text).pipe(
      Layer.provide(textTransport),
      Layer.provide(servers),
      Layer.provide(shared)
    )
    expectTypeOf<Sides<typeof forgotten>[2]>().toEqualTypeOf<"Text/Endpoints">()
    // @ts-expect-error the pool is forgotten: Text/Endpoints is left to be provided
    const whole: Layer.Layer<"Text/Balanced", BuildError> = forgotten
    assert.isDefined(whole)
  })

  it("does not compile with the transport of another family", () => {
    const foreign = HeapBalancer.layer(Text).pipe(
      Layer.provide(SingletonPool.layer(Text)),
      Layer.provide(jsonTransport),
      Layer.provide(servers),
      Layer.provide(shared)
    )
    expectTypeOf<Sides<typeof foreign>[2]>().toEqualTypeOf<"Text/Connector">()
    // @ts-expect-error a Json transport gives no Text/Connector
    const whole: Layer.Layer<"Text/Balanced", BuildError> = foreign
    assert.isDefined(whole)
  })

  it("does not compile without a server set, nor without its stack", () => {
    const endpoints = SingletonPool.layer(Text).pipe(Layer.provide(textTransport))
    const lonely = HeapBalancer.layer(Text).pipe(Layer.provide(endpoints))
    expectTypeOf<Sides<typeof lonely>[2]>().toEqualTypeOf<ServerSet | Stack>()
    // @ts-expect-error no server set
    const whole: Layer.Layer<"Text/Balanced", BuildError, Stack> = lonely
    assert.isDefined(whole)
  })

  it("takes breakers and requeues only where they belong", () => {
    expectTypeOf<Sides<ReturnType<typeof Resurrector.layer<"Text", string, string, RpcError>>>[0]>().toEqualTypeOf<
      "Text/Endpoints"
    >()
    expectTypeOf<Sides<ReturnType<typeof Requeue.layer<"Text", string, string, RpcError>>>[0]>().toEqualTypeOf<
      "Text/Balanced"
    >()
    const upsideDown = Resurrector.layer(Text).pipe(Layer.provide(Requeue.layer(Text)), Layer.provide(shared))
    // @ts-expect-error a stage of the balanced plane gives no endpoints
    const whole: Layer.Layer<"Text/Endpoints", BuildError, "Text/Balanced"> = upsideDown
    assert.isDefined(whole)
  })
})

describe("a filter", () => {
  const auth = Filter.above(Text, (inner) =>
    Effect.map(Token, (token) => ({
      ...inner,
      send: (request, call) => inner.send(request, { ...call, context: call.context.with(ClientId, token) })
    })))
  const inspect = Filter.below(Text, (inner, endpoint) =>
    Effect.map(Other, (other) => ({
      ...inner,
      send: (request, attempt) => {
        attempt.onEnd((outcome, millis) => void [endpoint.key, outcome, millis + other])
        return inner.send(request, attempt)
      }
    })))

  it("brings its own requirements to the stack", () => {
    expectTypeOf<Sides<typeof auth>>().toEqualTypeOf<["Text/Balanced", never, "Text/Balanced" | Stack | Token]>()
    expectTypeOf<Sides<typeof inspect>>().toEqualTypeOf<["Text/Endpoints", never, "Text/Endpoints" | Stack | Other]>()
    const client = TextClient.layer().pipe(
      Layer.provide(auth),
      Layer.provide(HeapBalancer.layer(Text)),
      Layer.provide(inspect),
      Layer.provide(SingletonPool.layer(Text)),
      Layer.provide(textTransport),
      Layer.provide(servers),
      Layer.provide(shared)
    )
    expectTypeOf<Sides<typeof client>[2]>().toEqualTypeOf<Token | Other>()
    // @ts-expect-error Token and Other are still required
    const closed: Layer.Layer<TextClient, BuildError> = client
    assert.isDefined(closed)
  })

  it("does not bring its scope: the stack has that", () => {
    const scoped = Filter.above(
      Text,
      (inner) => Effect.as(Effect.acquireRelease(Effect.void, () => Effect.void), inner)
    )
    expectTypeOf<Sides<typeof scoped>[2]>().toEqualTypeOf<"Text/Balanced" | Stack>()
    assert.isDefined(scoped)
  })

  it("brings the failures of its making to the build", () => {
    const failing = Filter.above(Text, (inner) => Effect.as(Effect.fail("no token" as const), inner))
    expectTypeOf<Sides<typeof failing>[1]>().toEqualTypeOf<"no token">()
    assert.isDefined(failing)
  })

  it("does not compile for the wrong plane", () => {
    const recorded = Recorder.below(Text, [])
    // @ts-expect-error a filter of the endpoints above the balancer
    assert.isDefined(stack({ above: recorded }))
    // @ts-expect-error a filter of calls below it
    assert.isDefined(stack({ below: Recorder.above(Text, []) }))
    assert.isDefined(stack({ above: Recorder.above(Text, []), below: recorded }))
  })

  it("does not compile when it gives another response, or a failure that the family does not have", () => {
    // @ts-expect-error a number is no response of this family
    Filter.above(Text, (inner) => Effect.succeed({ ...inner, send: () => Effect.succeed(1) }))
    // @ts-expect-error a plain string is no failure of this family
    Filter.above(Text, (inner) => Effect.succeed({ ...inner, send: () => Effect.fail("no") }))
    // @ts-expect-error a number is no request of this family
    Filter.above(Text, (inner) => Effect.succeed({ ...inner, send: (_, call) => inner.send(1, call) }))
  })

  it("below the balancer may not ask to fail", () => {
    // @ts-expect-error an endpoint's sink is always made
    Filter.below(Text, () => Effect.fail("no"))
  })
})

describe("the planes", () => {
  it("keep a sink of one endpoint apart from one for the client", () => {
    const endpoint = {} as EndpointSink<string, string, RpcError>
    // @ts-expect-error it wants an attempt, and a call is none
    const balanced: MessageSink<string, string, RpcError> = endpoint
    const turned: EndpointSink<string, string, RpcError> = {} as MessageSink<string, string, RpcError>
    assert.isDefined([balanced, turned])
  })

  it("keep what opens one connection apart from what makes an endpoint", () => {
    const connector = {} as Connector<string, string, RpcError>
    // @ts-expect-error a connector connects, and may fail
    const factory: SinkFactory<string, string, RpcError> = connector
    assert.isDefined(factory)
    // @ts-expect-error a factory under the key of a connector
    Layer.succeed(Text.Connector, {} as SinkFactory<string, string, RpcError>)
  })

  it("keep the messages of two families apart", () => {
    // @ts-expect-error a response of Json is no text
    const sink: MessageSink<string, string, RpcError> = {} as MessageSink<string, { readonly status: number }, RpcError>
    assert.isDefined(sink)
    assert.notStrictEqual(Text.Balanced.key as string, Json.Balanced.key as string)
  })
})

describe("options by pipe", () => {
  const call: Effect.Effect<number, "boom", Token> = Effect.as(Token, 1)

  it("leave the type of what they are piped onto alone", () => {
    const piped = call.pipe(
      Rpc.deadline("1 second"),
      Rpc.context(ClientId, "me"),
      Rpc.context("key", "value"),
      Rpc.idempotent
    )
    expectTypeOf<typeof piped>().toEqualTypeOf<Effect.Effect<number, "boom", Token>>()
    const headers = call.pipe(Rpc.withReplyHeaders)
    expectTypeOf<Effect.Success<typeof headers>>().toEqualTypeOf<
      readonly [result: number, headers: ReadonlyArray<readonly [string, string]>]
    >()
    assert.isDefined([piped, headers])
  })

  it("take for a key a value of its type", () => {
    // @ts-expect-error a client id is text
    call.pipe(Rpc.context(ClientId, 1))
    // @ts-expect-error a name alone takes text
    call.pipe(Rpc.context("key", 1))
    call.pipe(Rpc.context(textKey("key"), "value"))
  })
})

describe("stand-ins", () => {
  it("are typed by what they stand in for", () => {
    Mock.layer(TextClient, { call: (text) => Effect.succeed(text) })
    // @ts-expect-error a number is no reply
    Mock.layer(TextClient, { call: () => Effect.succeed(1) })
    // @ts-expect-error no such method
    Mock.layer(TextClient, { shout: () => Effect.succeed("hi") })
    expectTypeOf<Sides<ReturnType<typeof ScriptedSink.layer<"Text", string, string, RpcError>>>>().toEqualTypeOf<
      ["Text/Balanced", never, never]
    >()
    // @ts-expect-error a number is no response
    ScriptedSink.layer(Text, () => Effect.succeed(1))
  })
})

describe("a resolver", () => {
  it("is provided under its scheme", () => {
    const zk = ServerSet.resolver("zk", () => Effect.never)
    expectTypeOf<Sides<typeof zk>>().toEqualTypeOf<["Resolver/zk", never, never]>()
    assert.isDefined(zk)
  })
})
