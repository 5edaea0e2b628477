/** A stack of the core's own stages over a scripted connector, for tests. */
import {
  classifyExit,
  Dispatcher,
  Endpoint,
  HeapBalancer,
  Requeue,
  Resurrector,
  type RpcError,
  SingletonPool,
  Stack,
  type StackOptions,
  wire
} from "@scales-rpc/core"
import { Scripted, Seed, TestServerSet } from "@scales-rpc/core/testing"
import { Context, type Duration, Effect, Layer, type Scope } from "effect"

/** A family of plain strings. */
export const Text = wire<string, string>()("Text")

/** Calls text over a stack. */
export class TextClient extends Context.Service<TextClient, {
  readonly call: (text: string) => Effect.Effect<string, RpcError>
  readonly open: Effect.Effect<void, RpcError>
}>()("test/TextClient") {
  static readonly layer = (timeout: Duration.Input = "10 seconds") =>
    Layer.effect(
      TextClient,
      Effect.gen(function*() {
        const sink = yield* Text.Balanced
        const { dispatch } = yield* Dispatcher.make({ service: "text", timeout })
        const method = { name: "call", idempotent: false, classify: classifyExit }
        return TextClient.of({
          call: (text) => dispatch(method, (call) => sink.send(text, call)),
          open: sink.open
        })
      })
    )
}

export const endpoints = (...ports: ReadonlyArray<number>): ReadonlyArray<Endpoint> =>
  ports.map((port) => Endpoint.tcp("h", port))

/** The whole stack; `Scripted` answers with `host:port text` unless told otherwise. */
export const stack = (options?: {
  readonly timeout?: Duration.Input
  readonly stack?: StackOptions
  readonly seed?: number
  readonly resurrector?: Resurrector.ResurrectorOptions
  readonly above?: Layer.Layer<"Text/Balanced", never, "Text/Balanced" | Stack>
  readonly below?: Layer.Layer<"Text/Endpoints", never, "Text/Endpoints" | Stack>
}) =>
  TextClient.layer(options?.timeout).pipe(
    Layer.provide(options?.above ?? Layer.effect(Text.Balanced, Text.Balanced)),
    Layer.provide(Requeue.layer(Text)),
    Layer.provide(HeapBalancer.layer(Text)),
    Layer.provide(options?.below ?? Layer.effect(Text.Endpoints, Text.Endpoints)),
    Layer.provide(Resurrector.layer(Text, options?.resurrector)),
    Layer.provide(SingletonPool.layer(Text)),
    Layer.provideMerge(
      Scripted.layer(Text, (request, attempt) => Effect.succeed(`${attempt.endpoint.key} ${request}`))
    ),
    Layer.provideMerge(TestServerSet.layer()),
    Layer.provideMerge(Stack.layer("text", options?.stack)),
    Layer.provideMerge(Seed.layer(options?.seed ?? 1)),
    Layer.fresh
  )

export type Scoped = Scope.Scope
