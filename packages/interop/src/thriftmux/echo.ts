/** The service that the cases call, clients of ours for it, and how they and what they end with are looked at. */
import { describe, HeapBalancer, Stacks } from "@scales-rpc/core"
import { Mux } from "@scales-rpc/mux"
import { ThriftService } from "@scales-rpc/thrift"
import { ThriftMux } from "@scales-rpc/thriftmux"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { Int64 } from "thrift"
import * as EchoGen from "../../../examples/gen/Echo.js"
import { Message } from "../../../examples/gen/echo_types.js"

/** The service of echo.thrift. */
export class Echo extends ThriftService<Echo>()("Echo", EchoGen) {}

/** A URI of these servers. */
export const uriOf = (...servers: ReadonlyArray<{ readonly address: string }>): string =>
  `tcp://${servers.map(({ address }) => address).join(",")}`

/** Builds a client's layer in the scope of the case; `state` reads the live state of a stage of its stack, `describe` all. */
export const build = <Self, Shape, E>(service: Context.Key<Self, Shape>, layer: Layer.Layer<Self, E>) =>
  Effect.map(Layer.build(Layer.provideMerge(layer, Stacks.layer)), (context) => {
    const [stack] = Context.get(context, Stacks).list()
    return {
      client: Context.get(context, service),
      describe: () => describe(stack!),
      state: (role: string): any => describe(stack!).stages.find((stage) => stage.role === role)?.state
    }
  })

/** A client of ours over its default stack. */
export const connect = (
  uri: string,
  options: ThriftMux.ThriftMuxOptions = {}
) =>
  Effect.map(build(Echo, ThriftMux.layer(Echo, { ...options, uri })), ({ client, state }) => ({ echo: client, state }))

/** A client of ours that uses all of these servers from its first calls on: without an aperture. */
export const connectAll = (...servers: ReadonlyArray<{ readonly address: string }>) =>
  Effect.map(
    build(Echo, ThriftMux.layer(Echo, { uri: uriOf(...servers), balancer: HeapBalancer.layer(Mux) })),
    ({ client, state }) => ({ echo: client, state })
  )

/** A client of Echo. */
export type EchoClient = typeof Echo.Service

/** What the server saw of the call that asks. */
export const seen = (echo: EchoClient) => Effect.map(echo.seen(), (text): any => JSON.parse(text))

/** An i64 as the generated code takes it. */
export const int64 = (value: bigint): Int64 => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(value)
  return new Int64(bytes)
}

/** A message as plain values. */
export const plain = ({ items, number, text }: Message) => ({ text, number: String(number), items })

/** The i-th of many calls, each unlike its neighbours; it dies when the reply is another's. */
export const checkedCall = (echo: EchoClient, i: number) => {
  const text = `${i}:`.padEnd((i * 37) % 300, "-")
  const number = BigInt(i) * 2n ** 32n
  return Effect.map(
    echo.passMessage(new Message({ text, number: int64(number), items: [i, ~i] })),
    (reply) => assert.deepEqual(plain(reply), { text, number: String(number), items: [i, ~i] })
  )
}

/** The failure of an effect that must fail with this tag. */
export const failure = <A, E extends { readonly _tag: string }, R, Tag extends E["_tag"]>(
  self: Effect.Effect<A, E, R>,
  tag: Tag
): Effect.Effect<Extract<E, { readonly _tag: Tag }>, never, R> =>
  Effect.matchEffect(self, {
    onSuccess: (value) =>
      Effect.die(new assert.AssertionError({ message: `succeeded with ${String(value)}, not ${tag}` })),
    onFailure: (error) =>
      error._tag === tag
        ? Effect.succeed(error as Extract<E, { readonly _tag: Tag }>)
        : Effect.die(new assert.AssertionError({ message: `failed with ${error._tag}, not ${tag}: ${String(error)}` }))
  })
