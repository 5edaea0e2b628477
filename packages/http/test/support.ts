// What the tests share: one connection over the real transport to a scripted server, and calls made by hand.
import {
  Abort,
  beginAttempt,
  type Call,
  CallContext,
  describe,
  Endpoint,
  type EndpointSink,
  type RpcError,
  settleAttempt,
  Stack,
  type StackShape
} from "@scales-rpc/core"
import { Seed } from "@scales-rpc/core/testing"
import { Context, Effect, type Exit, Fiber, Layer, Metric, type Scope } from "effect"
import {
  classifier,
  type CollectedRequest,
  type HttpRequest,
  type HttpResponse,
  HttpTransport,
  HttpWire
} from "../src/index.ts"
import * as Raw from "./raw.ts"

/** Waits, in real time, until something holds; not longer than five seconds. */
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

/** Runs an effect in a fiber of its own, now, until it first waits. */
export const start = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<Fiber.Fiber<A, E>, never, R> =>
  Effect.forkChild(self, { startImmediately: true })

/** What a fiber fails with. */
export const failureOf = <A, E>(fiber: Fiber.Fiber<A, E>): Effect.Effect<E> =>
  Effect.flip(Effect.flatMap(Fiber.await(fiber), (exit): Exit.Exit<A, E> => exit)) as Effect.Effect<E>

/** What a failure says of what became of the call. */
export const told = (error: RpcError) => [error._tag, error.reached]

/** A call that nothing ends but its abort. */
export const callOf = (fields: Partial<Call> = {}): Call => ({
  service: "s",
  method: "m",
  idempotent: false,
  deadline: Infinity,
  context: CallContext.empty,
  abort: new Abort(Infinity, 50),
  tried: [],
  classify: classifier(),
  reply: undefined,
  span: undefined,
  trace: undefined,
  ...fields
})

/** A request without a body, whose response is collected. */
export const get = (target: string, fields: Partial<CollectedRequest> = {}): CollectedRequest => ({
  method: "GET",
  target,
  headers: [],
  body: undefined,
  collect: 1000,
  ...fields
})

/** The transport's node in the register. */
export const transportOf = (stack: StackShape) =>
  describe(stack).stages.find(({ role }) => role === "transport")! as unknown as {
    readonly options: Record<string, unknown>
    readonly state: {
      readonly abandoned: number
      readonly calls: number
      readonly idleClosed: number
      readonly protocolErrors: number
      readonly requestFailures: Readonly<Record<string, number>>
      readonly stale: number
      readonly connections: ReadonlyArray<{ readonly state: string; readonly busy: number }>
    }
  }

/** The transport, and what connects with it. */
export const transport = (options: HttpTransport.HttpTransportOptions = {}) =>
  Effect.gen(function*() {
    const context = yield* Layer.build(
      HttpTransport.layer(options).pipe(Layer.provideMerge(Stack.layer("test")), Layer.provide(Seed.layer(1)))
    )
    const stack = Context.get(context, Stack)
    const { connect } = Context.get(context, HttpWire.Connector)
    return { stack, connect: (port: number) => connect(Endpoint.tcp("127.0.0.1", port)) }
  })

/** How each attempt ended, in order. */
export type Ends = Array<string>

/** One connection in a test. */
export interface Connected {
  readonly server: Raw.RawConnection
  readonly stack: StackShape
  readonly status: EndpointSink<HttpRequest, HttpResponse, RpcError>["status"]
  readonly send: (request: HttpRequest, call?: Call) => Effect.Effect<HttpResponse, RpcError>
  /** Outcomes of the attempts that have ended. */
  readonly ends: Ends
}

/** One connection, and the server's end of it. */
export const connected = (
  options: HttpTransport.HttpTransportOptions = {}
): Effect.Effect<Connected, never, Scope.Scope> =>
  Effect.gen(function*() {
    const peer = yield* Raw.listen
    const { connect, stack } = yield* transport(options)
    const sink = yield* connect(peer.port)
    const server = yield* peer.accept
    const ends: Ends = []
    return {
      server,
      stack,
      status: sink.status,
      ends,
      send: sending(sink, Endpoint.tcp("127.0.0.1", peer.port), stack, ends)
    }
  }).pipe(Effect.orDie)

/** Sends as a balancer does: an attempt that ends with what it held. */
export const sending = (
  sink: EndpointSink<HttpRequest, HttpResponse, RpcError>,
  endpoint: Endpoint,
  stack: StackShape,
  ends: Ends
) =>
(request: HttpRequest, call: Call = callOf()): Effect.Effect<HttpResponse, RpcError> =>
  Effect.suspend(() => {
    const attempt = beginAttempt(call, endpoint, stack.now)
    attempt.onEnd((outcome) => void ends.push(outcome))
    return Effect.onExitPrimitive(sink.send(request, attempt), (exit) => {
      settleAttempt(attempt, exit)
      return undefined
    })
  })

/** The text of a collected response. */
export const textOf = ({ body }: HttpResponse): string => {
  if (!(body instanceof Uint8Array)) throw new Error("a streamed body")
  return Buffer.from(body).toString("latin1")
}

/** Runs it with a registry that no other test has. */
export const alone = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => Effect.provideService(self, Metric.MetricRegistry, new Map()))

/**
 * What the series say whose names begin with `prefix`, without that, and with their attributes but those of the whole client and transport; of
 * latencies, how many there are. Those of nothing are left out.
 */
export const shown = (prefix: string): Effect.Effect<Readonly<Record<string, number>>> =>
  Effect.map(Metric.snapshot, (all) => {
    const numbers: Record<string, number> = {}
    for (const { attributes, id, state } of all) {
      if (!id.startsWith(prefix)) continue
      const { client: _, protocol: __, unit: ___, ...own } = (attributes ?? {}) as Record<string, string>
      const { count, value } = state as { readonly count?: number; readonly value?: number }
      const number = (count ?? value)!
      if (number !== 0) numbers[[id.slice(prefix.length), ...Object.values(own)].join(" ")] = number
    }
    return numbers
  })
