/** What the tests of core share: a family of plain strings, a whole stack over a script, calls and sinks made by hand. */
import {
  Abort,
  abortFailure,
  type Attempt,
  type Call,
  CallContext,
  classifyExit,
  Dispatcher,
  Endpoint,
  HeapBalancer,
  type OptionInForce,
  Requeue,
  Resurrector,
  type RpcError,
  SingletonPool,
  type SinkFactory,
  Stack,
  type StackOptions,
  StatusCell,
  wire
} from "@scales-rpc/core"
import { Scripted, Seed, TestServerSet } from "@scales-rpc/core/testing"
import { Context, type Duration, Effect, Fiber, Layer, Metric } from "effect"
import { beforeEach } from "@effect/vitest"

// A stack that a test leaves open ends with the test's file: the next test is to find none of its series.
beforeEach(() => Effect.runSync(Effect.service(Metric.MetricRegistry)).clear())

/** A family of plain strings. */
export const Text = wire<string, string>()("Text")

/** Calls text over a stack. */
export class TextClient extends Context.Service<TextClient, {
  readonly call: (text: string) => Effect.Effect<string, RpcError>
  readonly open: Effect.Effect<void, RpcError>
  /** Every call that was begun. */
  readonly calls: ReadonlyArray<Call>
}>()("test/TextClient") {
  static readonly layer = (timeout: Duration.Input = "10 seconds") =>
    Layer.effect(
      TextClient,
      Effect.gen(function*() {
        const sink = yield* Text.Balanced
        const { dispatch } = yield* Dispatcher.make({ service: "text", timeout })
        const method = { name: "call", idempotent: false, classify: classifyExit }
        const calls: Array<Call> = []
        return TextClient.of({
          call: (text) =>
            dispatch(method, (call) => {
              calls.push(call)
              return sink.send(text, call)
            }),
          open: sink.open,
          calls
        })
      })
    )
}

/** Endpoints `h:port`. */
export const endpoints = (...ports: ReadonlyArray<number>): ReadonlyArray<Endpoint> =>
  ports.map((port) => Endpoint.tcp("h", port))

/** What a test may change of the whole stack. */
export interface TestStackOptions {
  readonly timeout?: Duration.Input
  readonly stack?: StackOptions
  readonly seed?: number
  readonly resurrector?: Resurrector.ResurrectorOptions
  readonly balancer?: typeof HeapBalancer.layer<"Text", string, string, RpcError>
  readonly above?: Layer.Layer<"Text/Balanced", never, "Text/Balanced" | Stack>
  readonly below?: Layer.Layer<"Text/Endpoints", never, "Text/Endpoints" | Stack>
}

/** The whole stack; `Scripted` answers with `host:port text` unless told otherwise. */
export const stack = (options?: TestStackOptions) =>
  TextClient.layer(options?.timeout).pipe(
    Layer.provide(options?.above ?? Layer.effect(Text.Balanced, Text.Balanced)),
    Layer.provide(Requeue.layer(Text)),
    Layer.provide((options?.balancer ?? HeapBalancer.layer)(Text)),
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

/** Numbers from 0 to 1, without 1, that repeat for a seed (mulberry32). */
export const seeded = (seed: number): () => number => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** Options in force as a description shows them: those that nobody gave, and those that somebody did. */
export const inForce = (
  defaults: Readonly<Record<string, unknown>>,
  given: Readonly<Record<string, unknown>> = {}
): Readonly<Record<string, OptionInForce>> => ({
  ...Object.fromEntries(Object.entries(defaults).map(([name, value]) => [name, { value, from: "default" }])),
  ...Object.fromEntries(Object.entries(given).map(([name, value]) => [name, { value, from: "given" }]))
})

/** A call made by hand, aborted by nothing but the test. */
export const makeCall = (fields?: Partial<Call>): Call => ({
  service: "text",
  method: "call",
  idempotent: false,
  deadline: Infinity,
  context: CallContext.empty,
  abort: new Abort(Infinity, Infinity),
  tried: [],
  classify: classifyExit,
  reply: undefined,
  span: undefined,
  trace: undefined,
  ...fields
})

/** Runs an effect in a fiber of its own, now, until it first waits. */
export const start = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<Fiber.Fiber<A, E>, never, R> =>
  Effect.forkChild(self, { startImmediately: true })

/** Lets every fiber that can go on do so, without time passing. */
export const settle: Effect.Effect<void> = Effect.gen(function*() {
  for (let turn = 0; turn < 8; turn++) yield* Effect.yieldNow
})

/** Interrupts an effect that has started, and waits until it has ended. */
export const stop = (fiber: Fiber.Fiber<unknown, unknown>): Effect.Effect<void> => Fiber.interrupt(fiber)

/** An exchange that a hand-made endpoint holds until the test answers it. */
export interface Exchange {
  readonly request: string
  readonly attempt: Attempt
  readonly answer: (reply: string) => void
  readonly fail: (error: RpcError) => void
}

/** An endpoint's sink made by hand: its status, its opening and its answers are the test's. */
export class HandSink {
  readonly endpoint: Endpoint
  readonly status = new StatusCell("Idle")
  /** Exchanges that wait for an answer. */
  readonly pending: Array<Exchange> = []
  /** What opening does; the test may replace it. */
  opening: Effect.Effect<void, RpcError> = Effect.void
  opens = 0
  closed = false

  constructor(endpoint: Endpoint) {
    this.endpoint = endpoint
  }

  readonly open = Effect.suspend(() => {
    this.opens++
    return this.opening
  })

  readonly send = (request: string, attempt: Attempt): Effect.Effect<string, RpcError> =>
    Effect.callback((resume) => {
      const end = (result: Effect.Effect<string, RpcError>) => {
        leave()
        resume(result)
      }
      const listener = {
        onAbort: (reason: NonNullable<Abort["reason"]>) =>
          end(Effect.fail(abortFailure(reason, { waiting: "reply", reached: "maybe", endpoint: this.endpoint })))
      }
      const exchange: Exchange = {
        request,
        attempt,
        answer: (reply) => end(Effect.succeed(reply)),
        fail: (error) => end(Effect.fail(error))
      }
      const leave = () => {
        attempt.abort.off(listener)
        const index = this.pending.indexOf(exchange)
        if (index >= 0) this.pending.splice(index, 1)
      }
      this.pending.push(exchange)
      attempt.abort.on(listener)
      return Effect.sync(leave)
    })
}

/** Endpoints made by hand, in the order they were made. */
export const handEndpoints = () => {
  const made: Array<HandSink> = []
  const factory: SinkFactory<string, string, RpcError> = {
    make: (endpoint) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const sink = new HandSink(endpoint)
          made.push(sink)
          return sink
        }),
        (sink) =>
          Effect.sync(() => {
            sink.closed = true
          })
      )
  }
  /** The newest sink of `h:port`. */
  const at = (port: number): HandSink => made.findLast((sink) => sink.endpoint.port === port)!
  return { made, factory, at }
}
