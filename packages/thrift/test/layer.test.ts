// The ready-made stack of plain Thrift: many calls over connections that carry one at a time, on servers that fail in every way.
import {
  type BuildError,
  describe as describeStack,
  Filter,
  HeapBalancer,
  Requeue,
  Resurrector,
  type RpcError,
  ServerSet,
  type Stack,
  Stacks,
  WatermarkPool
} from "@scales-rpc/core"
import { Seed } from "@scales-rpc/core/testing"
import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import { Config, ConfigProvider, Context, Effect, Exit, Fiber, Layer, Schedule, type Scope } from "effect"
import { Protocols, Thrift, ThriftService, ThriftTransport, ThriftWire } from "../src/index.ts"
import { type RawConnection, type RawMessage, RawPeer } from "../src/testing/index.ts"
import * as EchoGen from "./gen24/Echo.js"
import { start, until } from "./wire.ts"

class Echo extends ThriftService<Echo>()("Echo", EchoGen) {}
class Token extends Context.Service<Token, string>()("Token") {}

/** A client, and what its stages say of themselves. */
const build = <E>(layer: Layer.Layer<Echo, E>) =>
  Effect.gen(function*() {
    const context = yield* Layer.build(layer.pipe(Layer.provide(Seed.layer(1)), Layer.provideMerge(Stacks.layer)))
    const state = (role: string): any =>
      Context.get(context, Stacks).list().flatMap((stack) => describeStack(stack).stages).find((node) =>
        node.role === role
      )?.state
    return { echo: Context.get(context, Echo), state }
  })

const client = (uri: string, options: Thrift.ThriftOptions = {}) =>
  Effect.orDie(build(Thrift.layer(Echo, { ...options, uri })))

/** Handles each message of each connection of a peer until the test is over. */
const serving = (
  peer: RawPeer.RawPeer,
  handle: (message: RawMessage, connection: RawConnection) => Effect.Effect<void>
): Effect.Effect<void, never, Scope.Scope> =>
  peer.accept.pipe(
    Effect.flatMap((connection) =>
      connection.next.pipe(
        Effect.flatMap((message) => handle(message, connection)),
        Effect.forever,
        Effect.catchDefect(() => Effect.void),
        Effect.forkScoped
      )
    ),
    Effect.forever,
    Effect.forkScoped,
    Effect.asVoid
  )

const pong = (message: RawMessage, connection: RawConnection) =>
  Effect.sync(() => connection.reply(message, { result: `pong ${message.sequenceId}` }))

/** A server that answers pings, or does what it is told, on a free port. */
const server = (
  handle: (message: RawMessage, connection: RawConnection) => Effect.Effect<void> = pong,
  options: RawPeer.RawPeerOptions & { readonly port?: number } = {}
) => Effect.tap(RawPeer.listen(options), (peer) => serving(peer, handle))

/** The failure of a call, as far as it says what became of it. */
const told = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) return "success"
  const reason = exit.cause.reasons[0]!
  return reason._tag === "Fail" ? (reason.error as RpcError)._tag : reason._tag
}

describe("a client", () => {
  const spoken = (["framed", "buffered"] as const).flatMap((framing) =>
    [Protocols.binary, Protocols.compact, Protocols.json].flatMap((protocol) =>
      [undefined, "Echo"].map((multiplexed) => ({
        framing,
        protocol,
        multiplexed,
        name: `${framing} ${protocol.name} ${multiplexed ?? "alone"}`
      }))
    )
  )
  it.live.each(spoken)("calls a server over $name", ({ framing, multiplexed, protocol }) =>
    Effect.gen(function*() {
      const peer = yield* server(
        (message, connection) =>
          Effect.sync(() =>
            connection.reply(message, { name: message.name.replace("Echo:", ""), result: message.name })
          ),
        { framing, protocol }
      )
      const { echo } = yield* client(peer.uri, { framing, protocol, multiplexed })
      const name = multiplexed === undefined ? "ping" : "Echo:ping"
      assert.deepStrictEqual(yield* Effect.all([echo.ping(), echo.ping()], { concurrency: 2 }), [name, name])
    }))

  it.live("sends oneway calls, and waits for nobody", () =>
    Effect.gen(function*() {
      const notes: Array<string> = []
      const peer = yield* server((message, connection) =>
        message.name === "note" ? Effect.sync(() => notes.push(message.name)) : pong(message, connection)
      )
      const { echo, state } = yield* client(peer.uri)
      yield* echo.note("a")
      yield* echo.note("b")
      assert.strictEqual(yield* echo.ping(), "pong 3")
      assert.deepStrictEqual([notes.length, state("pool").connects], [2, 1])
    }))

  it.live("keeps its connections between the calls of a crowd, and makes no more than it needs", () =>
    Effect.gen(function*() {
      const peer = yield* server()
      const { echo, state } = yield* client(peer.uri)
      for (let round = 0; round < 5; round++) {
        yield* Effect.forEach(Array.from({ length: 64 }), () => echo.ping(), { concurrency: 64 })
      }
      assert.isAtMost(state("pool").connects, 64)
      assert.deepStrictEqual([state("pool").waiting, state("transport").connections.length], [0, state("pool").size])
    }))

  it.live("connects nothing when it is built, unless it is to", () =>
    Effect.gen(function*() {
      const peer = yield* server()
      yield* client(peer.uri)
      assert.strictEqual(peer.connections.length, 0)
      const { state } = yield* client(peer.uri, { eager: true })
      assert.strictEqual(state("pool").connects, 1)
      yield* peer.stop
      const refused = yield* Effect.flip(
        Effect.scoped(Layer.build(Thrift.layer(Echo, { uri: peer.uri, eager: "100 millis" })))
      )
      assert.strictEqual(refused._tag, "Timeout")
      assert.include(refused.message, "ECONNREFUSED")
    }))

  it.effect("refuses an option out of its range, and says which", () =>
    Effect.gen(function*() {
      const refused: ReadonlyArray<readonly [Thrift.ThriftOptions, string]> = [
        [{ timeout: 0 }, "timeout"],
        [{ idempotent: ["pong"] }, "idempotent"],
        [{ multiplexed: "a:b" }, "multiplexed"],
        [{ connectTimeout: 0 }, "connectTimeout"],
        [{ framing: "none" as never }, "framing"],
        [{ limits: { maxDepth: -1 } }, "limits.maxDepth"],
        [{ connections: { high: 0 } }, "high"],
        [{ resurrector: { demandInterval: -1 } }, "demandInterval"],
        [{ upgrade: true, framing: "buffered" }, "upgrade"],
        [{ eager: 0 }, "eager"]
      ]
      for (const [options, name] of refused) {
        const error = yield* Effect.flip(
          Effect.scoped(Layer.build(Thrift.layer(Echo, { ...options, uri: "tcp://localhost:1" })))
        )
        assert.deepStrictEqual([error._tag, error._tag === "InvalidOption" && error.option], ["InvalidOption", name])
      }
    }))

  it.live("reads its options from a configuration", () =>
    Effect.gen(function*() {
      const peer = yield* server()
      const layer = Thrift.layerConfig(Echo, {
        uri: Config.String("URI"),
        timeout: Config.Duration("TIMEOUT"),
        connections: { high: Config.Int("HIGH") }
      })
      const env = ConfigProvider.layer(ConfigProvider.fromUnknown({ URI: peer.uri, TIMEOUT: "1 second", HIGH: 2 }))
      const { echo } = yield* build(layer.pipe(Layer.provide(env)))
      assert.strictEqual(yield* echo.ping(), "pong 1")
    }))
})

describe("a call", () => {
  it.live("that is slow does not block another", () =>
    Effect.gen(function*() {
      const peer = yield* server((message, connection) =>
        message.name === "slow" ? Effect.void : pong(message, connection)
      )
      const { echo } = yield* client(peer.uri)
      const slow = yield* start(echo.slow(1))
      yield* until("it has arrived", () => peer.connections.some(({ received }) => received.length > 0))
      for (let i = 0; i < 10; i++) yield* echo.ping()
      assert.isUndefined(slow.pollUnsafe())
      assert.strictEqual(peer.connections.length, 2)
      yield* Fiber.interrupt(slow)
    }))

  it.live("whose connection dies is always completed", () =>
    Effect.gen(function*() {
      const peer = yield* server(() => Effect.void)
      const { echo } = yield* client(peer.uri)
      const calls = yield* Effect.forEach(Array.from({ length: 50 }), () => start(Effect.exit(echo.ping())))
      yield* until("all have arrived", () =>
        peer.connections.reduce((sum, { received }) => sum + received.length, 0) === 50)
      peer.connections.forEach((connection, i) => {
        if (i % 3 === 0) {
          connection.end()
        } else if (i % 3 === 1) {
          connection.reset()
        } else connection.socket.end(connection.bytesOf(connection.received[0]!, { result: "pong" }).subarray(0, 9))
      })
      for (const call of calls) {
        assert.strictEqual(told(yield* Fiber.join(call)), "ConnectionClosed")
      }
    }))

  it.live("that times out never has its late reply reach the next call", () =>
    Effect.gen(function*() {
      const late: Array<() => void> = []
      const peer = yield* server((message, connection) =>
        message.name === "slow"
          ? Effect.sync(() => late.push(() => connection.reply(message, { result: "late" })))
          : pong(message, connection)
      )
      const { echo, state } = yield* client(peer.uri, { timeout: "60 millis", connections: { high: 1 } })
      for (let round = 0; round < 5; round++) {
        assert.strictEqual(told(yield* Effect.exit(echo.slow(1))), "Timeout")
        const ping = yield* start(echo.ping())
        for (const reply of late.splice(0)) reply()
        assert.match(yield* Fiber.join(ping), /^pong \d+$/)
      }
      assert.strictEqual(state("transport").abandoned, 5)
    }))

  it.live("that times out in the queue of a full pool leaves the pool whole", () =>
    Effect.gen(function*() {
      let held: (() => void) | undefined
      const peer = yield* server((message, connection) =>
        message.name === "slow"
          ? Effect.sync(() => {
            held = () => connection.reply(message, { result: "slow" })
          })
          : pong(message, connection)
      )
      const { echo, state } = yield* client(peer.uri, { connections: { high: 1 } })
      const slow = yield* start(echo.slow(1))
      yield* until("it has arrived", () => held !== undefined)
      const waiting = yield* Effect.forEach(Array.from({ length: 5 }), () =>
        start(Effect.exit(Effect.timeout(echo.ping(), 30))))
      for (const call of waiting) {
        assert.strictEqual(told(yield* Fiber.join(call)), "TimeoutError")
      }
      assert.deepInclude(state("pool"), { size: 1, waiting: 0 })
      held!()
      assert.strictEqual(yield* Fiber.join(slow), "slow")
      assert.match(yield* echo.ping(), /^pong/)
      assert.strictEqual(state("pool").connects, 1)
    }))
})

describe("what Scales was measured to do wrong", () => {
  it.live("a connect that is refused takes no call with it: another server answers all of them", () =>
    Effect.gen(function*() {
      const [up, down] = [yield* server(), yield* server()]
      const uri = `${up.uri},127.0.0.1:${down.port}`
      const { echo, state } = yield* Effect.orDie(
        build(Thrift.layer(Echo, {
          uri,
          balancer: HeapBalancer.layer(ThriftWire),
          resurrector: { backoff: Schedule.spaced(5), demandInterval: 0 }
        }))
      )
      const crowd = Effect.forEach(Array.from({ length: 8 }), () => echo.ping(), { concurrency: 8 })
      yield* crowd
      yield* down.stop
      for (const connection of down.connections) connection.reset()
      const left = (port: number) =>
        state("transport").connections.filter((each: any) => each.endpoint.endsWith(`:${port}`))
      yield* until("its end is seen", () => left(down.port).length === 0)
      yield* Effect.repeat(Effect.andThen(crowd, Effect.sleep(2)), { times: 30 })
      assert.strictEqual(state("dispatcher").successes, 8 * 32)
      assert.isAbove(state("resurrector").attempts, 5)
    }))

  it.live("more calls than may wait fail at once, with an error that says so", () =>
    Effect.gen(function*() {
      const peer = yield* server(() => Effect.void)
      const { echo, state } = yield* client(peer.uri, { connections: { high: 1, maxWaiters: 2 } })
      const waiting = yield* Effect.forEach(Array.from({ length: 3 }), () => start(echo.ping()))
      yield* until("one is sent, and two wait", () => state("pool").waiting === 2)
      assert.strictEqual(told(yield* Effect.exit(echo.ping())), "MaxWaiters")
      for (const call of waiting) yield* Fiber.interrupt(call)
      assert.strictEqual(state("pool").waiting, 0)
    }))

  it.live("a missing result is an error and no value, and a void method has none", () =>
    Effect.gen(function*() {
      const peer = yield* server((message, connection) => Effect.sync(() => connection.reply(message)))
      const { echo } = yield* client(peer.uri)
      const missing = yield* Effect.flip(echo.ping())
      assert.strictEqual(missing._tag === "ThriftApplicationException" && missing.typeName, "MISSING_RESULT")
      assert.isUndefined(yield* echo.touch("key"))
    }))
})

describe("a server", () => {
  it.live("that closes idle connections fails no call, not even one in the same turn", () =>
    Effect.gen(function*() {
      const peer = yield* server()
      const { echo, state } = yield* client(peer.uri)
      const crowd = Effect.forEach(Array.from({ length: 4 }), () => echo.ping(), { concurrency: 4 })
      for (let round = 0; round < 12; round++) {
        yield* crowd
        yield* Effect.sleep(10)
        // Closed for the kernel at once; the client has not heard of it
        for (const { socket } of peer.connections) {
          if (round % 2 === 0) socket.destroy()
          else socket.resetAndDestroy()
        }
        yield* crowd
      }
      assert.strictEqual(state("dispatcher").successes, 96)
      assert.strictEqual(state("transport").idleClosed, 48)
    }))

  it.live("that takes a connection from under a queue loses none of it", () =>
    Effect.gen(function*() {
      let cut = 0
      const peer = yield* server((message, connection) =>
        Effect.suspend(() => {
          if (cut++ === 0) return Effect.sync(() => connection.reset())
          return Effect.delay(pong(message, connection), 2)
        })
      )
      const { echo, state } = yield* client(peer.uri, { connections: { high: 1 } })
      const exits = yield* Effect.forEach(Array.from({ length: 20 }), () => Effect.exit(echo.ping()), {
        concurrency: 20
      })
      // The one that the server had may have run; the rest was never sent
      assert.deepStrictEqual(exits.map(told).filter((tag) => tag !== "success"), ["ConnectionClosed"])
      assert.strictEqual(state("pool").connects, 2)
    }))

  it.live("that is frozen fails its calls at their deadlines, and takes no connection for ever", () =>
    Effect.gen(function*() {
      let frozen = true
      const peer = yield* server((message, connection) => frozen ? Effect.void : pong(message, connection))
      const { echo, state } = yield* client(peer.uri, { timeout: "80 millis", connections: { high: 4 } })
      const exits = yield* Effect.forEach(Array.from({ length: 12 }), () => Effect.exit(echo.ping()), {
        concurrency: 12
      })
      assert.deepStrictEqual(new Set(exits.map(told)), new Set(["Timeout"]))
      yield* until("its connections are given up", () => state("transport").connections.every(({ busy }: any) => !busy))
      frozen = false
      yield* until("it is used again", () => state("pool").waiting === 0)
      assert.match(yield* Effect.retry(echo.ping(), { times: 50 }), /^pong/)
    }))

  it.live("that is gone fails calls at once with the cause, none of them sent, and is used again when it is back", () =>
    Effect.gen(function*() {
      const first = yield* server()
      const { echo, state } = yield* client(first.uri, { resurrector: { demandInterval: 0 } })
      yield* echo.ping()
      yield* first.stop
      for (const connection of first.connections) connection.reset()
      yield* until("its end is seen", () => state("transport").connections.length === 0)
      const exits: Array<Exit.Exit<unknown, any>> = []
      for (let i = 0; i < 30; i++) exits.push(yield* Effect.exit(echo.ping()))
      for (const exit of exits) {
        const error = Exit.isFailure(exit) && exit.cause.reasons[0]!._tag === "Fail"
          ? exit.cause.reasons[0]!.error
          : undefined
        assert.strictEqual(error?.reached, "no")
        assert.include(error?.message, "ECONNREFUSED")
      }
      yield* server(pong, { port: first.port })
      assert.match(yield* echo.ping(), /^pong/)
    }))
})

export const types = () => {
  const uri = "tcp://localhost:1"
  const token = Filter.above(ThriftWire, (inner) => Effect.as(Token, inner))
  const plain = Thrift.layer(Echo, { uri })
  expectTypeOf(plain).toEqualTypeOf<Layer.Layer<Echo, BuildError | RpcError>>()
  const needsToken = Thrift.layer(Echo, { uri, above: token })
  expectTypeOf(needsToken).toEqualTypeOf<Layer.Layer<Echo, BuildError | RpcError, Token>>()
  const replaced = Thrift.layer(Echo, {
    serverSet: ServerSet.fixed([]),
    requeue: Requeue.layer(ThriftWire),
    balancer: HeapBalancer.layer(ThriftWire),
    breaker: Resurrector.layer(ThriftWire),
    pool: WatermarkPool.layer(ThriftWire, { high: 1 }),
    transport: ThriftTransport.layer({ protocol: Protocols.compact }),
    protocol: Protocols.compact
  })
  expectTypeOf(replaced).toEqualTypeOf<Layer.Layer<Echo, BuildError | RpcError>>()
  const byHand = Thrift.client(Echo, ThriftWire).pipe(
    Layer.provide(HeapBalancer.layer(ThriftWire)),
    Layer.provide(WatermarkPool.layer(ThriftWire)),
    Layer.provide(ThriftTransport.layer())
  )
  expectTypeOf<Layer.Services<typeof byHand>>().toEqualTypeOf<ServerSet | Stack>()
  // @ts-expect-error neither a URI nor a server set
  Thrift.layer(Echo, {})
  // @ts-expect-error an option that is none
  Thrift.layer(Echo, { uri, tiemout: "1 second" })
  // @ts-expect-error this wire answers no oneway call: there is no choice
  Thrift.layer(Echo, { uri, oneway: "await" })
  // @ts-expect-error the filter still needs its token
  const unmet: Layer.Layer<Echo, BuildError | RpcError> = needsToken
  // @ts-expect-error a pool in the balancer's place
  Thrift.layer(Echo, { uri, balancer: WatermarkPool.layer(ThriftWire) })
  return [plain, needsToken, replaced, byHand, unmet]
}

it("builds no client by mentioning it", () => {
  assert.strictEqual(types().length, 5)
})
