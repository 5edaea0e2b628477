/**
 * Whole ThriftMux clients and servers without a socket, on a network in memory and under the clock of the test: what happens at which
 * millisecond, and which frames say so.
 */
import { assert, describe, it } from "@effect/vitest"
import { describe as describeStack, HeapBalancer, type InvalidOption, Rpc, type Stack, Stacks } from "@scales-rpc/core"
import { FaultySink, type MemoryConnection, MemoryNetwork, Seed } from "@scales-rpc/core/testing"
import { Mux, MuxTransport } from "@scales-rpc/mux"
import { MuxFrames } from "@scales-rpc/mux/testing"
import type { ThriftCallError } from "@scales-rpc/thrift"
import { ThriftMux, ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Context, Effect, Exit, Fiber, Layer, Random, Scope } from "effect"
import { TestClock } from "effect/testing"
import { echoHandlers } from "../../examples/src/echo.ts"
import { Echo, type EchoHandlers, message } from "./support.ts"

/** Numbers from 0 to 1, without 1, that repeat for a seed. */
const seeded = (seed: number): () => number => {
  const generator = Effect.runSync(Random.withSeed(Effect.service(Random.Random), seed))
  return () => generator.nextDoubleUnsafe()
}

/** What one server was told of its calls. */
interface Told {
  begun: number
  interrupted: number
}

/** A server at `echo:port`, whose `ping` never answers and whose `slow` takes its time on the clock of the test. */
const serve = (
  port: number,
  handlers: Partial<EchoHandlers> = {},
  options: ThriftMuxServer.ThriftMuxServerOptions = {}
) =>
  Effect.gen(function*() {
    const told: Told = { begun: 0, interrupted: 0 }
    const ping = () =>
      Effect.suspend(() => {
        told.begun++
        return Effect.onInterrupt(Effect.never, () => Effect.sync(() => void told.interrupted++))
      })
    const scope = yield* Scope.fork(yield* Scope.Scope)
    const server = yield* ThriftMuxServer.make(
      Echo,
      { ...echoHandlers(), ping, ...handlers },
      { host: "echo", port, ...options }
    ).pipe(Scope.provide(scope))
    return { ...server, told, close: Scope.close(scope, Exit.void) }
  })

/** A client, and what its stack says of itself. */
const connect = (
  uri: string,
  options: ThriftMux.ThriftMuxOptions = {},
  roles: {
    readonly below?: Layer.Layer<"Mux/Endpoints", never, "Mux/Endpoints" | Stack>
    readonly transport?: Layer.Layer<"Mux/Connector", InvalidOption, Stack>
  } = {}
) =>
  Effect.gen(function*() {
    const context = yield* Layer.build(
      ThriftMux.layer(Echo, { ...options, ...roles, uri, balancer: HeapBalancer.layer(Mux) }).pipe(
        Layer.provideMerge(Stacks.layer)
      )
    )
    const states = () =>
      Object.fromEntries(
        Context.get(context, Stacks).list().flatMap((stack) => describeStack(stack).stages).map((
          { role, state }
        ) => [role, state as any])
      )
    return {
      echo: Context.get(context, Echo),
      tags: () => states()["transport"].sessions.map(({ tags }: { readonly tags: number }) => tags) as Array<number>,
      load: () => states()["balancer"].load as number
    }
  })

const begin = <A, E>(self: Effect.Effect<A, E>) => Effect.forkChild(self, { startImmediately: true })

/** What was said, as `1000 client Tdiscarded`. */
const said = ({ sent }: MuxFrames.MuxFrames): ReadonlyArray<string> =>
  sent.map(({ at, from, message }) => `${at} ${from} ${message._tag}`)

const inMemory = Effect.provide([MemoryNetwork.layer, Seed.layer(1)])

describe("a client and a server in memory", () => {
  it.effect("speak the real protocol, and take no time", () =>
    Effect.gen(function*() {
      const frames = yield* MuxFrames.record
      yield* serve(1)
      const { echo } = yield* connect("tcp://echo:1")
      assert.strictEqual((yield* echo.passMessage(message("hi"))).text, "hi")
      assert.deepStrictEqual(said(frames).slice(0, 7), [
        "0 client Rerr",
        "0 server Rerr",
        "0 client Tinit",
        "0 server Rinit",
        "0 client Tping",
        "0 client Tdispatch",
        "0 server Rping"
      ])
      assert.strictEqual(frames.of("Rdispatch", "server").length, 1)
      assert.strictEqual(frames.of("Rdispatch", "client").length, 0)
    }).pipe(inMemory))

  it.effect("cut a large message in fragments, and the record says in how many", () =>
    Effect.gen(function*() {
      const frames = yield* MuxFrames.record
      yield* serve(1, {}, { window: 1000 })
      const { echo } = yield* connect("tcp://echo:1")
      const bytes = Buffer.alloc(10_000, "x")
      assert.isTrue(bytes.equals(yield* echo.blob(bytes)))
      const [request] = frames.of("Tdispatch")
      assert.isAtLeast(request!.frames, 11)
      assert.strictEqual(frames.of("Rdispatch")[0]!.frames, 1)
    }).pipe(inMemory))
})

describe("a deadline", () => {
  it.effect("that passes reaches the handler as an interruption, by way of a Tdiscarded", () =>
    Effect.gen(function*() {
      const frames = yield* MuxFrames.record
      const { outstanding, told } = yield* serve(1)
      const { echo, load, tags } = yield* connect("tcp://echo:1")
      const call = yield* begin(Effect.flip(echo.ping().pipe(Rpc.deadline("1 second"))))
      yield* frames.seen("Tdispatch")
      yield* TestClock.adjust("999 millis")
      assert.deepStrictEqual([told, load(), tags()], [{ begun: 1, interrupted: 0 }, 1, [1]])
      yield* TestClock.adjust("1 millis")
      assert.deepInclude(yield* Fiber.join(call), { _tag: "Timeout", timeoutMillis: 1000, reached: "maybe" })
      yield* frames.seen("Rdiscarded")
      assert.deepStrictEqual(said(frames).slice(-2), ["1000 client Tdiscarded", "1000 server Rdiscarded"])
      assert.strictEqual(told.interrupted, 1)
      assert.strictEqual(outstanding(), 0)
      assert.deepStrictEqual([load(), tags()], [0, [0]])
    }).pipe(inMemory))

  it.effect("travels with the call: one that came too late is not run", () =>
    Effect.gen(function*() {
      const network = yield* MemoryNetwork
      const { counts, told } = yield* serve(1)
      const { echo } = yield* connect("tcp://echo:1")
      yield* echo.passMessage(message("hi"))
      network.connections[0]!.toServer.delay("2 seconds")
      const call = yield* begin(Effect.flip(echo.ping().pipe(Rpc.deadline("1 second"))))
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(call)
      assert.deepStrictEqual([told.begun, counts.expired], [0, 1])
    }).pipe(inMemory))
})

describe("a ping that is lost", () => {
  it.effect("ends the session after the ping timeout, and a new one is made", () =>
    Effect.gen(function*() {
      const network = yield* MemoryNetwork
      const frames = yield* MuxFrames.record
      const { told } = yield* serve(1)
      const { echo } = yield* connect("tcp://echo:1", { mux: { pingInterval: "5 seconds", pingTimeout: "4 seconds" } })
      yield* echo.passMessage(message("hi"))
      const [connection] = network.connections as [MemoryConnection]
      yield* TestClock.adjust("4 seconds")
      const call = yield* begin(Effect.flip(echo.ping().pipe(Rpc.deadline("1 minute"))))
      yield* frames.seen("Tdispatch", 2)
      // The next ping is due at 5 seconds, and its time is over at 9.
      connection.toClient.stall()
      yield* TestClock.adjust("4999 millis")
      assert.isTrue(connection.open)
      assert.isUndefined(call.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const error = yield* Fiber.join(call)
      assert.deepInclude(error, { _tag: "ConnectionClosed", reached: "maybe" })
      assert.include(error.message, "no answer to a ping within 4000 ms")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(network.open().map(({ number }) => number), [1])
      assert.strictEqual((yield* echo.passMessage(message("again"))).text, "again")
      // The server was told when the client let the connection go.
      assert.strictEqual(told.interrupted, 1)
      assert.deepStrictEqual(frames.of("Tping").slice(0, 2).map(({ at }) => at), [0, 5000])
    }).pipe(inMemory))
})

describe("a server that is drained", () => {
  it.effect("finishes what it has, takes nothing more, and its clients go elsewhere", () =>
    Effect.gen(function*() {
      const frames = yield* MuxFrames.record
      const first = yield* serve(1)
      const { echo } = yield* connect("tcp://echo:1,echo:2")
      const slow = yield* begin(echo.slow(3000).pipe(Rpc.deadline("1 minute")))
      yield* frames.seen("Tdispatch")
      yield* serve(2)
      const closing = yield* begin(first.close)
      yield* frames.seen("Rdrain")
      assert.isUndefined(closing.pollUnsafe())
      for (let i = 0; i < 5; i++) yield* echo.passMessage(message("elsewhere"))
      assert.isTrue(frames.of("Tdispatch").slice(1).every(({ connection }) => connection.address === "echo:2"))
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(yield* Fiber.join(slow), "slow")
      yield* Fiber.join(closing)
      assert.deepStrictEqual((yield* MemoryNetwork).open("echo:1"), [])
      assert.deepStrictEqual(frames.of("Tdrain").map(({ at, from }) => [at, from]), [[0, "server"]])
    }).pipe(inMemory))

  it.effect("interrupts what has not ended when its drain timeout is over", () =>
    Effect.gen(function*() {
      const frames = yield* MuxFrames.record
      const { close, told } = yield* serve(1, {}, { drainTimeout: "2 seconds" })
      const { echo } = yield* connect("tcp://echo:1")
      const call = yield* begin(Effect.flip(echo.ping().pipe(Rpc.deadline("1 minute"))))
      yield* frames.seen("Tdispatch")
      const closing = yield* begin(close)
      yield* TestClock.adjust("1999 millis")
      assert.deepStrictEqual([told.interrupted, call.pollUnsafe()], [0, undefined])
      yield* TestClock.adjust("1 millis")
      assert.strictEqual((yield* Fiber.join(call))._tag, "ConnectionClosed")
      yield* Fiber.join(closing)
      assert.strictEqual(told.interrupted, 1)
    }).pipe(inMemory))
})

describe("a lease", () => {
  it.effect("that is over makes its endpoint the last resort", () =>
    Effect.gen(function*() {
      const frames = yield* MuxFrames.record
      const first = yield* serve(1)
      yield* serve(2)
      const { echo } = yield* connect("tcp://echo:1,echo:2")
      yield* Effect.forEach(Array.from({ length: 4 }), () => echo.passMessage(message("hi")))
      yield* first.sessions()[0]!.lease("3 seconds")
      yield* frames.seen("Tlease")
      yield* TestClock.adjust("3 seconds")
      const before = frames.of("Tdispatch").length
      for (let i = 0; i < 6; i++) yield* echo.passMessage(message("hi"))
      const after = frames.of("Tdispatch").slice(before)
      assert.deepStrictEqual([...new Set(after.map(({ connection }) => connection.address))], ["echo:2"])
    }).pipe(inMemory))
})

describe("a direction that is stalled", () => {
  it.effect("towards the server: requests wait, are discarded in their time, and never run", () =>
    Effect.gen(function*() {
      const network = yield* MemoryNetwork
      const { counts, told } = yield* serve(1)
      const { echo, load } = yield* connect("tcp://echo:1")
      yield* echo.passMessage(message("hi"))
      network.connections[0]!.toServer.stall()
      const call = yield* begin(Effect.flip(echo.ping().pipe(Rpc.deadline("1 second"))))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(call))._tag, "Timeout")
      assert.strictEqual(load(), 0)
      assert.isAbove(network.connections[0]!.toServer.inFlight, 0)
      yield* TestClock.adjust("1 millis")
      network.connections[0]!.toServer.resume()
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual([told.begun, counts.expired], [0, 1])
      assert.strictEqual((yield* echo.passMessage(message("on"))).text, "on")
      assert.lengthOf(network.connections, 1)
    }).pipe(inMemory))

  it.effect("with large requests: they are written no further than there is room", () =>
    Effect.gen(function*() {
      const network = yield* MemoryNetwork
      yield* serve(1)
      const { echo } = yield* connect("tcp://echo:1")
      yield* echo.passMessage(message("hi"))
      const [connection] = network.connections as [MemoryConnection]
      connection.toServer.stall()
      const calls = yield* begin(Effect.forEach(
        Array.from({ length: 50 }),
        () => Effect.exit(echo.blob(Buffer.alloc(50_000)).pipe(Rpc.deadline("2 seconds"))),
        { concurrency: "unbounded" }
      ))
      yield* TestClock.adjust("1 second")
      assert.isBelow(connection.toServer.inFlight, 1_000_000)
      yield* TestClock.adjust("1 second")
      assert.isTrue((yield* Fiber.join(calls)).every(Exit.isFailure))
    }).pipe(inMemory))
})

describe("a connection that is cut", () => {
  it.effect("fails its calls, interrupts their handlers, and is made again", () =>
    Effect.gen(function*() {
      const network = yield* MemoryNetwork
      const frames = yield* MuxFrames.record
      const { told } = yield* serve(1)
      const { echo } = yield* connect("tcp://echo:1")
      const call = yield* begin(Effect.flip(echo.ping()))
      yield* frames.seen("Tdispatch")
      yield* TestClock.adjust("100 millis")
      network.open()[0]!.cut()
      assert.deepInclude(yield* Fiber.join(call), { _tag: "ConnectionClosed", reached: "maybe" })
      yield* TestClock.adjust("1 second")
      assert.strictEqual(told.interrupted, 1)
      assert.strictEqual((yield* echo.passMessage(message("again"))).text, "again")
    }).pipe(inMemory))
})

describe("two clients", () => {
  it.effect("of one server have a connection each, and know nothing of each other's calls", () =>
    Effect.gen(function*() {
      const network = yield* MemoryNetwork
      const frames = yield* MuxFrames.record
      const { sessions, told } = yield* serve(1)
      const one = yield* connect("tcp://echo:1")
      const other = yield* connect("tcp://echo:1")
      const hanging = yield* begin(Effect.flip(one.echo.ping().pipe(Rpc.deadline("5 seconds"))))
      yield* frames.seen("Tdispatch")
      assert.strictEqual((yield* other.echo.passMessage(message("hi"))).text, "hi")
      assert.lengthOf(network.open("echo:1"), 2)
      assert.deepStrictEqual(sessions().map(({ outstanding }) => outstanding), [1, 0])
      network.connections[1]!.cut()
      yield* TestClock.adjust("1 second")
      assert.isUndefined(hanging.pollUnsafe())
      assert.strictEqual(told.interrupted, 0)
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual((yield* Fiber.join(hanging))._tag, "Timeout")
    }).pipe(inMemory))
})

describe("a hundred calls under a slow network", () => {
  it.effect("all end, each after one way there and one back", () =>
    Effect.gen(function*() {
      const network = yield* MemoryNetwork
      const frames = yield* MuxFrames.record
      network.delay("20 millis")
      yield* serve(1)
      const { echo } = yield* connect("tcp://echo:1")
      const calls = yield* begin(Effect.forEach(
        Array.from({ length: 100 }, (_, index) => index),
        (index) => echo.passMessage(message(`${index}`)),
        { concurrency: "unbounded" }
      ))
      // Connecting, the probe and its answer, Tinit and Rinit, the call and its reply.
      yield* TestClock.adjust("139 millis")
      assert.isUndefined(calls.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(
        (yield* Fiber.join(calls)).map(({ text }) => Number(text)),
        Array.from({ length: 100 }, (_, index) => index)
      )
      assert.deepStrictEqual([...new Set(frames.of("Rdispatch").map(({ at }) => at))], [120])
    }).pipe(inMemory))
})

/** Faults that nobody thought of. */
const anyPlans = (random: () => number) => {
  const below = (n: number) => Math.floor(random() * n)
  const one = <A>(of: ReadonlyArray<A>): A => of[below(of.length)]!
  const some = <A>(make: () => A): ReadonlyArray<A> => Array.from({ length: below(4) }, make)
  const chance = () => ({ probability: one([1, 0.3, 0.1]), times: one([1, 5, 1000]) })
  const { breakAfter, breakConnection, delay, hang, nack, plan, refuse } = FaultySink
  const seed = below(1_000_000)
  return {
    below: plan(
      some((): FaultySink.BelowRule => ({ ...chance(), fault: one([delay(below(2000)), nack(), hang]) })),
      { seed }
    ),
    connector: plan(
      some((): FaultySink.ConnectorRule =>
        random() < 0.5
          ? { ...chance(), on: "connect", fault: one([delay(below(2000)), refuse(), breakAfter(below(5000))]) }
          : { ...chance(), on: one(["request", "reply"]), fault: one([breakConnection, hang, delay(below(2000))]) }
      ),
      { seed }
    )
  }
}

const seeds = process.env["SEED"] === undefined
  ? Array.from({ length: 100 }, (_, index) => index + 1)
  : [Number(process.env["SEED"])]

describe("any faults, and any network", () => {
  it.effect(
    "leave no load, no tag and no request behind, every call ends in its time, and all is well once they end",
    () =>
      Effect.forEach(seeds, (seed) =>
        Effect.gen(function*() {
          const network = yield* MemoryNetwork
          const random = seeded(seed)
          const below = (n: number) => Math.floor(random() * n)
          const plans = anyPlans(random)
          const said = (what: string) => `${what} (seed ${seed}: ${String(plans.below)}, ${String(plans.connector)})`
          const servers = [yield* serve(1), yield* serve(2)]
          const { echo, load, tags } = yield* connect("tcp://echo:1,echo:2", {}, {
            below: FaultySink.below(Mux, plans.below),
            transport: FaultySink.connector(Mux, plans.connector).pipe(Layer.provide(MuxTransport.layer()))
          })
          const heal = () => {
            for (const connection of network.open()) connection.cut()
          }
          // A server that closes waits for what is stalled, on a clock that stands by then.
          yield* Effect.addFinalizer(() => Effect.sync(heal))
          const begun: Array<{ readonly fiber: Fiber.Fiber<unknown, unknown>; readonly due: number }> = []
          let now = 0
          for (let step = 0; step < 40; step++) {
            const dice = random()
            const connections = network.open()
            const connection = connections[below(connections.length)]
            if (dice < 0.5) {
              const millis = 1 + below(4000)
              const call: Effect.Effect<unknown, ThriftCallError> = dice < 0.1
                ? echo.ping()
                : dice < 0.2
                ? echo.blob(Buffer.alloc(100_000))
                : echo.slow(below(1000))
              begun.push({ fiber: yield* begin(call.pipe(Rpc.deadline(millis))), due: now + millis })
            } else if (dice < 0.55 && begun.length > 0) yield* Fiber.interrupt(begun[below(begun.length)]!.fiber)
            else if (dice < 0.6) connection?.cut()
            else if (dice < 0.65) (random() < 0.5 ? connection?.toServer : connection?.toClient)?.stall()
            else if (dice < 0.7) (random() < 0.5 ? connection?.toServer : connection?.toClient)?.delay(below(1000))
            else {
              const millis = below(1000)
              now += millis
              yield* TestClock.adjust(millis)
            }
            for (const { due, fiber } of begun) {
              if (due <= now) assert.isDefined(fiber.pollUnsafe(), said("a call outlives its deadline"))
            }
          }
          yield* TestClock.adjust("4 seconds")
          assert.isTrue(begun.every(({ fiber }) => fiber.pollUnsafe() !== undefined), said("a call has not ended"))
          plans.below.stop()
          plans.connector.stop()
          // What is stalled would stay so, and keep the handlers of a server that is not told.
          heal()
          // The longest backoff.
          yield* TestClock.adjust("40 seconds")
          assert.strictEqual(load(), 0, said("load is held"))
          assert.isTrue(tags().every((held) => held === 0), said("tags are held"))
          assert.deepStrictEqual(servers.map(({ outstanding }) => outstanding()), [0, 0], said("a handler runs"))
          const well = yield* begin(Effect.forEach(Array.from({ length: 4 }), () => echo.passMessage(message("well"))))
          yield* TestClock.adjust("5 seconds")
          assert.lengthOf(yield* Fiber.join(well), 4, said("it is not well"))
        }).pipe(Effect.scoped, inMemory, Effect.provide(TestClock.layer())), { discard: true }),
    60_000
  )
})
