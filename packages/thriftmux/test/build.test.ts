import { assert, describe, it } from "@effect/vitest"
import {
  type BuildError,
  ClientId,
  Endpoint,
  Filter,
  HeapBalancer,
  Rpc,
  type RpcError,
  ServerSet,
  ServerSetState,
  SingletonPool
} from "@scales-rpc/core"
import { Recorder } from "@scales-rpc/core/testing"
import { Mux } from "@scales-rpc/mux"
import { ThriftMux, ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Config, ConfigProvider, Context, Effect, Exit, Fiber, Layer, Schedule, Stream } from "effect"
import { TestClock } from "effect/testing"
import { echoHandlers } from "../../examples/src/echo.ts"
import { build, closedPort, connect, Echo, leavesNoSockets, scripted, serve, until } from "./support.ts"

leavesNoSockets()

/** The reply to a ping. */
const pong = () => Effect.succeed(Buffer.from("800100020000000470696e67000000010b000000000004706f6e6700", "hex"))

type Built<E> = Layer.Layer<Echo, E>
const failure = <E>(layer: Built<E>) => Effect.scoped(Effect.flip(Layer.build(layer)))

describe("building a client", () => {
  it.live("connects nothing; the first call does", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const { echo, live } = yield* connect(server)
      assert.deepStrictEqual(live().endpoints, [
        {
          endpoint: `127.0.0.1:${server.address.port}`,
          state: "Idle",
          load: 0,
          weight: 1,
          active: true
        }
      ] as never)
      assert.deepStrictEqual([live().connects, server.counts.sessions], [0, 0])
      yield* echo.ping()
      assert.deepStrictEqual([live().connects, server.counts.sessions], [1, 1])
    }))

  it.effect("takes no time, whatever its server set does", () =>
    Effect.gen(function*() {
      for (
        const states of [
          Stream.never,
          Stream.empty,
          Stream.make(ServerSetState.Neg),
          Stream.make(ServerSetState.Pending)
        ]
      ) {
        const { live } = yield* build(ThriftMux.layer(Echo, { serverSet: ServerSet.fromStream(states) }))
        assert.deepStrictEqual(live().endpoints, [])
      }
    }))

  it.effect("refuses a URI that is none, and names the schemes there are", () =>
    Effect.gen(function*() {
      const error = (uri: string) => failure<BuildError | RpcError>(ThriftMux.layer(Echo, { uri }))
      for (
        const uri of [
          "",
          "localhost:8080",
          "tcp://",
          "tcp://localhost",
          "tcp://localhost:0",
          "tcp://::1:80",
          "tcp://a:1,",
          "unix://path"
        ]
      ) {
        const invalid = yield* error(uri)
        assert.strictEqual(invalid._tag, "InvalidUri", uri)
        assert.include(invalid.message, `invalid URI "${uri}"`)
      }
      const unknown = yield* error("consul://services/echo")
      assert.strictEqual(
        unknown.message,
        "unknown scheme \"consul\" in \"consul://services/echo\"; known: dns, file, srv, tcp, unix, zk"
      )
    }))

  it.effect("takes another scheme from the resolver that is provided", () =>
    Effect.gen(function*() {
      const { script, transport } = scripted(pong)
      const Local = ServerSet.resolver("local", (_, rest) =>
        Effect.succeed(Stream.succeed(ServerSetState.Bound([Endpoint.tcp("here", Number(rest))]))))
      const { echo } = yield* build(
        ThriftMux.layer(Echo, { uri: "local://7", transport }).pipe(Layer.provide(Local))
      )
      assert.strictEqual(yield* echo.ping(), "pong")
      assert.strictEqual(script.connections[0]!.endpoint.key, "here:7")
    }))

  it.effect("refuses an option out of its range, and says which", () =>
    Effect.gen(function*() {
      const uri = "tcp://localhost:1"
      const refused: ReadonlyArray<readonly [ThriftMux.ThriftMuxOptions, string]> = [
        [{ timeout: 0 }, "timeout"],
        [{ timeout: "soon" as never }, "timeout"],
        [{ drainTimeout: Infinity }, "drainTimeout"],
        [{ drainTimeout: -1 }, "drainTimeout"],
        [{ eager: 0 }, "eager"],
        [{ eager: Infinity }, "eager"],
        [{ idempotent: ["pong"] }, "idempotent"],
        [{ oneway: "send" as never }, "oneway"],
        [{ clientId: "x".repeat(32_768) }, "clientId"],
        [{ limits: { maxDepth: -1 } }, "limits.maxDepth"],
        [{ budget: { percentCanRetry: -1 } }, "budget.percentCanRetry"],
        [{ resurrector: { demandInterval: -1 } }, "demandInterval"],
        [{ mux: { window: 0 } }, "window"],
        [{ mux: { limits: { messageBytes: 0 } } }, "limits.messageBytes"],
        [{ mux: { connectTimeout: 0 } }, "connectTimeout"],
        [{ mux: { handshakeTimeout: NaN } }, "handshakeTimeout"],
        [{ mux: { pingInterval: 0 } }, "pingInterval"],
        [{ mux: { pingTimeout: 0 } }, "pingTimeout"],
        [{ mux: { limits: { messageBytes: 1.5 } } }, "limits.messageBytes"]
      ]
      for (const [options, name] of refused) {
        const error = yield* failure<BuildError | RpcError>(ThriftMux.layer(Echo, { ...options, uri }))
        assert.strictEqual(error._tag, "InvalidOption", name)
        assert.include(error.message, name)
      }
    }))

  it.effect("puts the parts it is given where they belong", () =>
    Effect.gen(function*() {
      const calls: Array<Recorder.RecordedCall> = []
      const attempts: Array<Recorder.RecordedAttempt> = []
      const { script, transport } = scripted(pong)
      script.refuse("a:1")
      const { echo } = yield* build(ThriftMux.layer(Echo, {
        uri: "tcp://a:1,b:1",
        above: Recorder.above(Mux, calls),
        below: Recorder.below(Mux, attempts),
        balancer: HeapBalancer.layer(Mux),
        pool: SingletonPool.layer(Mux),
        transport
      }))
      for (let i = 0; i < 5; i++) yield* echo.ping()
      assert.deepStrictEqual(
        calls.map(({ call, exit }) => [call.method, Exit.isSuccess(exit!)]),
        Array.from({ length: 5 }, () => ["ping", true])
      )
      // Each call once above, and once for every endpoint that it was tried at below.
      assert.deepStrictEqual(
        new Set(attempts.map(({ endpoint, outcome }) => `${endpoint} ${outcome}`)),
        new Set(["a:1 rejected", "b:1 success"])
      )
      assert.deepStrictEqual(attempts.find(({ number }) => number === 1)?.endpoint, "b:1")
    }))

  it.effect("hears what a filter needs, and a filter that waits ends at the deadline all the same", () =>
    Effect.gen(function*() {
      class Token extends Context.Service<Token, string>()("Token") {}
      const { transport } = scripted(pong)
      const seen: Array<string> = []
      const slow = Filter.above(Mux, (inner) =>
        Effect.map(Token, (token) => ({
          ...inner,
          send: (request, call) => {
            seen.push(token)
            return Effect.andThen(Effect.sleep("1 hour"), inner.send(request, call))
          }
        })))
      const { echo } = yield* build(
        ThriftMux.layer(Echo, { uri: "tcp://a:1", above: slow, transport }).pipe(
          Layer.provide(Layer.succeed(Token, "secret"))
        )
      )
      const call = yield* Effect.forkChild(Effect.flip(echo.ping()), { startImmediately: true })
      yield* TestClock.adjust("10 seconds")
      const error = yield* Fiber.join(call)
      assert.strictEqual(error._tag === "Timeout" && error.waiting, "filter")
      assert.deepStrictEqual(seen, ["secret"])
    }))
})

describe("two clients", () => {
  it.live("of one layer constant are two stacks", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const EchoLive = ThriftMux.layer(Echo, { uri: server.uri })
      const ping = Effect.flatMap(Echo, (echo) => echo.ping())
      const both = Effect.all([Effect.provide(ping, EchoLive), Effect.provide(ping, EchoLive)])
      assert.deepStrictEqual(yield* both, ["pong", "pong"])
      assert.strictEqual(server.counts.sessions, 2)
    }))

  it.effect("that are given the same parts share none of them", () =>
    Effect.gen(function*() {
      class Other extends Context.Service<Other, typeof Echo.Service>()("Other") {}
      const { script, transport } = scripted(pong)
      const options = { uri: "tcp://a:1", transport, pool: SingletonPool.layer(Mux), balancer: HeapBalancer.layer(Mux) }
      const both = Layer.mergeAll(
        ThriftMux.layer(Echo, options),
        Layer.effect(Other, Echo).pipe(Layer.provide(ThriftMux.layer(Echo, options)))
      )
      const context = yield* Layer.build(both)
      yield* Context.get(context, Echo).ping()
      yield* Context.get(context, Other).ping()
      assert.strictEqual(script.live().length, 2)
    }))
})

describe("an eager client", () => {
  it.live("has an open connection when it is built", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      for (const eager of [true, "1 second"] as const) {
        const { live } = yield* connect(server, { eager })
        assert.strictEqual(live().endpoints[0]!.state, "Open")
      }
      assert.strictEqual(server.counts.sessions, 2)
      yield* connect(server, { eager: false })
      assert.strictEqual(server.counts.sessions, 2)
    }))

  it.live("needs one endpoint, not all", () =>
    Effect.gen(function*() {
      const { echo, live } = yield* connect([yield* closedPort, yield* serve()], { eager: true })
      assert.isTrue(live().endpoints.some(({ state }) => state === "Open"))
      assert.strictEqual(yield* echo.ping(), "pong")
    }))

  it.live("that is built before its server comes waits for it", () =>
    Effect.gen(function*() {
      const { port, uri } = yield* closedPort
      const client = yield* Effect.forkChild(
        connect({ uri }, { eager: true, resurrector: { backoff: Schedule.spaced("5 millis"), demandInterval: 0 } })
      )
      yield* Effect.sleep("20 millis")
      assert.isUndefined(client.pollUnsafe())
      const server = yield* serve({}, { port })
      const { close } = yield* Fiber.join(client)
      assert.strictEqual(server.counts.sessions, 1)
      yield* close
    }))

  it.effect("gives up after ten seconds, or the time it is given", () =>
    Effect.gen(function*() {
      for (const [eager, millis] of [[true, 10_000], ["3 seconds", 3000]] as const) {
        const { script, transport } = scripted()
        script.refuse("a:1")
        const building = yield* Effect.forkChild(
          failure<BuildError | RpcError>(ThriftMux.layer(Echo, { uri: "tcp://a:1", transport, eager })),
          { startImmediately: true }
        )
        yield* TestClock.adjust(millis - 1)
        assert.isUndefined(building.pollUnsafe())
        yield* TestClock.adjust(1)
        const error = yield* Fiber.join(building)
        assert.strictEqual(error._tag, "Timeout")
        assert.deepInclude(error, { timeoutMillis: millis, waiting: "endpoint", reached: "no" })
        assert.include(error.message, "refused by the script")
      }
    }))

  it.effect("fails at once when its server set has no endpoint", () =>
    Effect.gen(function*() {
      for (const state of [ServerSetState.Neg, ServerSetState.Bound([]), ServerSetState.Failed("no DNS")]) {
        const serverSet = ServerSet.fromStream(Stream.make(state))
        const error = yield* failure<BuildError | RpcError>(ThriftMux.layer(Echo, { serverSet, eager: true }))
        assert.strictEqual(error._tag, "NoEndpoints")
      }
    }))
})

describe("a client from configuration", () => {
  const configured = (
    values: Record<string, unknown>,
    config: Parameters<typeof ThriftMux.layerConfig<Echo, "Echo", any>>[1]
  ) =>
    ThriftMux.layerConfig(Echo, config).pipe(
      Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown(values)))
    )

  it.live("is the one that its options describe", () =>
    Effect.gen(function*() {
      const server = yield* serve({
        ping: () =>
          Effect.map(Rpc.Inbound, (inbound) => {
            const seconds = (inbound!.deadline - Date.now()) / 1000
            return `${inbound!.context.get(ClientId)}, ${seconds > 50 && seconds <= 60 ? "a minute" : seconds}`
          })
      })
      const { echo, live } = yield* build(configured({ ECHO_URI: server.uri, ECHO: { TIMEOUT: "1 minute" } }, {
        uri: Config.String("ECHO_URI"),
        clientId: Config.succeed("configured"),
        timeout: Config.nested(Config.Duration("TIMEOUT"), "ECHO"),
        oneway: Config.succeed("await"),
        mux: { window: Config.succeed(1000) }
      }))
      assert.strictEqual(yield* echo.ping(), "configured, a minute")
      assert.isUndefined(yield* echo.note("awaited"))
      assert.strictEqual(live().connects, 1)
    }))

  it.effect("cannot be built of what is missing, or wrong", () =>
    Effect.gen(function*() {
      const uri = Config.String("ECHO_URI")
      assert.strictEqual((yield* failure(configured({}, { uri })))._tag, "ConfigError")
      assert.strictEqual((yield* failure(configured({ ECHO_URI: "nowhere" }, { uri })))._tag, "InvalidUri")
      const option = yield* failure(
        configured({ ECHO_URI: "tcp://a:1" }, { uri, idempotent: Config.succeed(["pong"]) })
      )
      assert.strictEqual(option._tag, "InvalidOption")
    }))
})

describe("building a server", () => {
  it.live("refuses an option out of its range, and a port that is taken", () =>
    Effect.gen(function*() {
      const { address } = yield* serve()
      const refused: ReadonlyArray<readonly [ThriftMuxServer.ThriftMuxServerOptions, string]> = [
        [{ thrift: { maxStringBytes: -1 } }, "thrift.maxStringBytes"],
        [{ limits: { messageBytes: -1 } }, "limits.messageBytes"],
        [{ port: 70_000 }, "port"],
        [{ drainTimeout: -1 }, "drainTimeout"],
        [{ maxConcurrent: -1 }, "maxConcurrent"],
        [{ port: address.port }, "cannot listen on 127.0.0.1"],
        [{ path: "/no/such/folder/echo.sock" }, "cannot listen on /no/such/folder/echo.sock"]
      ]
      for (const [options, what] of refused) {
        const error = yield* Effect.flip(Layer.build(ThriftMuxServer.layer(Echo, echoHandlers(), options)))
        assert.include(error.message, what)
      }
    }))
})

it.live("nothing of a client that failed to build is left", () =>
  Effect.gen(function*() {
    const server = yield* serve()
    const error = yield* failure(ThriftMux.layer(Echo, {
      uri: server.uri,
      eager: true,
      idempotent: ["pong"]
    }))
    assert.strictEqual(error._tag, "InvalidOption")
    yield* until("the connection is closed", () => server.sessions().length === 0)
  }))
