// What the tests of the transport share: one connection over the real transport to a scripted peer, and requests made by hand.
import {
  Abort,
  beginAttempt,
  type Call,
  CallContext,
  classifyExit,
  describe,
  Endpoint,
  Stack,
  type StackShape
} from "@scales-rpc/core"
import { Seed } from "@scales-rpc/core/testing"
import { Context, Effect, type Exit, Fiber, Layer, type Scope } from "effect"
import { MessageType, type Protocol, Protocols, type Thrift, ThriftTransport, ThriftWire } from "../src/index.ts"
import { type RawConnection, RawPeer } from "../src/testing/index.ts"

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

/** A call with no arguments. */
export const requestOf = (
  method: string,
  sequenceId: number,
  { oneway = false, protocol = Protocols.binary, padding = 0 }: {
    readonly oneway?: boolean
    readonly protocol?: Protocol
    readonly padding?: number
  } = {}
): Thrift.ThriftRequest => {
  const writer = protocol.writer()
  writer.writeMessageBegin(method, oneway ? MessageType.ONEWAY : MessageType.CALL, sequenceId)
  writer.writeStructBegin("args")
  if (padding > 0) {
    writer.writeFieldBegin("padding", 11, 1)
    writer.writeBinary(Buffer.alloc(padding))
    writer.writeFieldEnd()
  }
  writer.writeFieldStop()
  writer.writeStructEnd()
  writer.writeMessageEnd()
  return { body: writer.take(), method, sequenceId, oneway }
}

/** A call that nothing ends but its abort. */
export const callOf = (fields: Partial<Call> = {}): Call => ({
  service: "s",
  method: "m",
  idempotent: false,
  deadline: Infinity,
  context: CallContext.empty,
  abort: new Abort(Infinity, 50),
  tried: [],
  classify: classifyExit,
  reply: undefined,
  span: undefined,
  trace: undefined,
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
      readonly upgrades: number
      readonly connections: ReadonlyArray<
        { readonly state: string; readonly busy: boolean; readonly upgraded: boolean }
      >
    }
  }

/** The transport, and what connects with it. */
export const transport = (options: ThriftTransport.ThriftTransportOptions = {}) =>
  Effect.gen(function*() {
    const context = yield* Layer.build(
      ThriftTransport.layer(options).pipe(Layer.provideMerge(Stack.layer("test")), Layer.provide(Seed.layer(1)))
    )
    const stack = Context.get(context, Stack)
    const { connect } = Context.get(context, ThriftWire.Connector)
    return { stack, connect: (port: number) => connect(Endpoint.tcp("127.0.0.1", port)) }
  })

/** One connection, and the peer's end of it. */
export const connected = (
  options: ThriftTransport.ThriftTransportOptions = {}
): Effect.Effect<Connected, never, Scope.Scope> =>
  Effect.gen(function*() {
    const peer = yield* RawPeer.listen({ framing: options.framing, protocol: options.protocol })
    const { connect, stack } = yield* transport(options)
    const sink = yield* connect(peer.port)
    const server = yield* peer.accept
    let sequenceId = 0
    const send = (request: Thrift.ThriftRequest, call: Call = callOf()) =>
      Effect.suspend(() => sink.send(request, beginAttempt(call, Endpoint.tcp("127.0.0.1", peer.port), stack.now)))
    return {
      server,
      stack,
      status: sink.status,
      send,
      call: (method: string, call?: Call) =>
        send(requestOf(method, ++sequenceId, { protocol: options.protocol ?? Protocols.binary }), call)
    }
  }).pipe(Effect.orDie)

type Sink = Effect.Success<ReturnType<Effect.Success<ReturnType<typeof transport>>["connect"]>>

/** One connection in a test. */
export interface Connected {
  readonly server: RawConnection
  readonly stack: StackShape
  readonly status: Sink["status"]
  readonly send: (request: Thrift.ThriftRequest, call?: Call) => ReturnType<Sink["send"]>
  /** The next call, with a sequence id of its own. */
  readonly call: (method: string, call?: Call) => ReturnType<Sink["send"]>
}

/** Runs an effect in a fiber of its own, now, until it first waits. */
export const start = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<Fiber.Fiber<A, E>, never, R> =>
  Effect.forkChild(self, { startImmediately: true })

/** What a fiber fails with. */
export const failureOf = <A, E>(fiber: Fiber.Fiber<A, E>): Effect.Effect<E> =>
  Effect.flip(Effect.flatMap(Fiber.await(fiber), (exit): Exit.Exit<A, E> => exit)) as Effect.Effect<E>
