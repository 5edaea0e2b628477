// What Thrift clients, their plain connections and Thrift servers show of themselves, against what a test has counted.
import { assert, beforeEach, describe, it } from "@effect/vitest"
import { Describe, describe as describeServer, Endpoint, metricTable as coreTable, Rpc, Stacks } from "@scales-rpc/core"
import { Seed } from "@scales-rpc/core/testing"
import { RawPeer } from "@scales-rpc/thrift/testing"
import { Cause, Context, Effect, Exit, Fiber, Layer, Metric, Scope } from "effect"
import { TestClock } from "effect/testing"
import { type Line, logTo, shown, until } from "../../mux/test/series.ts"
import { metricTable, Thrift, ThriftServer } from "../src/index.ts"
import { ask, bare, call, Echo, handlers } from "./echoServer.ts"
import { connect, type RawClient } from "./rawClient.ts"
import { start, transport } from "./wire.ts"

beforeEach(() => Effect.runSync(Effect.service(Metric.MetricRegistry)).clear())

/** A server in a scope of its own. */
const serve = (options?: ThriftServer.ThriftServerOptions) =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Scope.Scope)
    const server = yield* Scope.provide(ThriftServer.make(Echo, handlers, options), scope)
    return { server, close: Scope.close(scope, Exit.void) }
  })

describe("the series of a Thrift server", () => {
  it.effect("count what its clients have asked for, and got", () =>
    Effect.gen(function*() {
      const lines: Array<Line> = []
      const { close, server } = yield* Effect.provide(
        serve({ maxConnections: 2, drainTimeout: "1 second", limits: { maxMessageBytes: 1000 } }),
        logTo(lines)
      )
      const client = yield* connect(server.address)
      yield* ask(client, "ping", [])
      yield* ask(client, "ping", [])
      yield* ask(client, "fail", ["no", 0])
      yield* ask(client, "crash", ["broke"])
      client.send(call("note", ["text"]), bare("none", 1))
      yield* client.count(5)
      client.send(call("slow", [40]))
      yield* until("the slow one runs", () => server.outstanding() === 1)
      let now = yield* shown
      const of = (method: string) => ({ server: "Echo", service: "Echo", method })
      assert.deepStrictEqual(
        [now.sum("scales.server.pending", of("slow")), now.sum("scales.thrift_server.outstanding")],
        [1, 1]
      )
      yield* TestClock.adjust("40 millis")
      yield* client.count(6)

      // One connection too many; one that says it will send too much; one that sends what is no call.
      const second = yield* connect(server.address)
      yield* ask(second, "ping", [])
      const third = yield* connect(server.address)
      yield* third.ended
      second.write("7fffffff")
      yield* second.ended
      yield* until("it has one connection", () => server.connections().length === 1)
      const fourth = yield* connect(server.address)
      fourth.send(bare("ping", 2))
      yield* fourth.ended
      yield* until("it has one connection", () => server.connections().length === 1)

      now = yield* shown
      assert.deepStrictEqual(now.by("scales.server.requests", "method"), {
        ping: 3,
        fail: 1,
        crash: 1,
        note: 1,
        slow: 1,
        unknown: 1
      })
      assert.deepStrictEqual(now.by("scales.server.success", "method"), { ping: 3, note: 1, slow: 1 })
      assert.deepStrictEqual(now.by("scales.server.failures", "error"), {
        ThriftException: 1,
        Defect: 1,
        UnknownMethod: 1
      })
      assert.strictEqual(now.millis("scales.server.latency_ms", of("slow")), 40)
      assert.deepStrictEqual(
        [
          "connections",
          "connects",
          "refused_connections",
          "protocol_errors",
          "deaths",
          "connection_duration_ms"
        ].map((what) => now.sum(`scales.server.${what}`)),
        [1, 3, 1, 2, 1, 2]
      )
      assert.deepStrictEqual(
        ["oversized", "undecodable", "upgrades", "idle_closed"].map((what) => now.sum(`scales.thrift_server.${what}`)),
        [1, 1, 0, 0]
      )
      const total = (of: (client: RawClient) => number) =>
        [client, second, fourth].reduce((sum, one) => sum + of(one), 0)
      assert.strictEqual(now.sum("scales.server.sent_bytes"), total(({ bytes }) => bytes.length))
      assert.strictEqual(now.sum("scales.server.received_bytes"), total(({ socket }) => socket.bytesWritten))

      client.send(call("slow", [60_000]))
      yield* until("it runs", () => server.outstanding() === 1)
      const closing = yield* Effect.forkScoped(close, { startImmediately: true })
      assert.strictEqual((yield* shown).sum("scales.server.drains"), 1)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closing)
      assert.strictEqual(server.counts.aborted, 1)
      assert.deepStrictEqual((yield* shown).names, [])
      assert.deepStrictEqual(lines.map(({ level, message }) => [level, message]), [
        ["Info", "listening"],
        ["Error", "a handler died"],
        ["Warn", "a client's connection ended: protocol error"],
        ["Warn", "a client's connection ended: protocol error"],
        ["Info", "draining"],
        ["Info", "drained"]
      ])
      assert.deepInclude(lines[1]!.annotations, { server: "Echo", service: "Echo", method: "crash" })
      assert.deepInclude(lines[4]!.annotations, { connections: 1, running: 1 })
      assert.deepInclude(lines[5]!.annotations, { aborted: 1, millis: 1000 })
    }))

  it.effect("are those of the tables", () =>
    Effect.gen(function*() {
      const { server } = yield* serve()
      yield* ask(yield* connect(server.address), "ping", [])
      const rows = [...Object.keys(coreTable), ...Object.keys(metricTable)].filter((name) =>
        // One of an error there is from the first on.
        /^scales\.(thrift_)?server\./.test(name) && name !== "scales.server.failures"
      )
      assert.deepStrictEqual([...new Set((yield* shown).names)].toSorted(), rows.toSorted())
    }))

  it.effect("of several services say which was called", () =>
    Effect.gen(function*() {
      const echo = ThriftServer.implement(Echo, handlers)
      const server = yield* ThriftServer.makeMultiplexed({ one: echo, two: echo }, { label: "both", unnamed: "one" })
      const client = yield* connect(server.address)
      client.send(call("ping", [], 1, undefined, "two"), call("ping", [], 2), call("ping", [], 3, undefined, "three"))
      yield* client.count(3)
      const now = yield* shown
      assert.deepStrictEqual(now.by("scales.server.success", "service", { server: "both" }), { one: 1, two: 1 })
      assert.deepStrictEqual(now.by("scales.server.failures", "service", { server: "both" }), { both: 1 })
    }))
})

describe("a described Thrift server", () => {
  it.effect("is plain data and text, from the wire up", () =>
    Effect.gen(function*() {
      const context = yield* Layer.build(
        ThriftServer.layer(Echo, handlers, { maxPipelined: 3 }).pipe(Layer.provideMerge(Stacks.layer))
      )
      const server = Context.get(context, ThriftServer.Server)
      const client = yield* connect(server.address)
      yield* ask(client, "ping", [])
      assert.deepStrictEqual(Context.get(context, Stacks).servers().map(({ id }) => id), ["Echo"])
      const description = describeServer(server)
      assert.deepStrictEqual(JSON.parse(JSON.stringify(description)), description)
      assert.deepStrictEqual(
        description.stages.map(({ role }) => role),
        ["listener", "connections", "limits", "service"]
      )
      const stage = (role: string): any => description.stages.find((stage) => stage.role === role)
      assert.deepStrictEqual(stage("connections").options.maxPipelined, { value: 3, from: "given" })
      assert.deepInclude(stage("connections").state.connections[0], {
        peer: `127.0.0.1:${client.socket.localPort}`,
        outstanding: 0
      })
      assert.include(stage("service").options.methods.value.Echo, "ping")
      assert.strictEqual(stage("service").state.Echo.ping.successes, 1)
      assert.match(Describe.render(description), /^server Echo\nlistener: /)
      assert.strictEqual((yield* serve({ metrics: false })).server.metrics.on, false)
    }))
})

describe("the series of a Thrift client", () => {
  it.live("say the same as its server's", () =>
    Effect.gen(function*() {
      const { close, server } = yield* Effect.provide(serve(), logTo([]))
      const scope = yield* Scope.fork(yield* Scope.Scope)
      const context = yield* Layer.buildWithScope(
        Thrift.layer(Echo, { uri: server.uri, label: "plain", upgrade: true, connections: { high: 4 } }).pipe(
          Layer.provide(Seed.layer(1))
        ),
        scope
      )
      const echo = Context.get(context, Echo)
      const calls: ReadonlyArray<Effect.Effect<unknown, unknown>> = Array.from(
        { length: 60 },
        (_, i) => i % 3 === 0 ? echo.ping() : i % 3 === 1 ? echo.fail(`no ${i}`, 0 as never) : echo.crash(`broke ${i}`)
      )
      const ends = yield* Effect.forEach(calls, (call) => Effect.exit(call), { concurrency: 4 })
      let now = yield* shown
      const client = { client: "plain" }
      assert.deepStrictEqual(
        now.by("scales.call.requests", "method", client),
        now.by("scales.server.requests", "method")
      )
      assert.deepStrictEqual(now.by("scales.call.success", "method", client), { ping: 20 })
      assert.deepStrictEqual(now.by("scales.server.success", "method"), { ping: 20 })
      assert.deepStrictEqual(now.by("scales.server.failures", "error"), { ThriftException: 20, Defect: 20 })
      const tags = ends.flatMap((exit) =>
        Exit.isFailure(exit) ? [(Cause.squash(exit.cause) as { readonly _tag: string })._tag] : []
      )
      assert.strictEqual(now.by("scales.call.failures", "error", client)["ThriftException"], 20)
      assert.strictEqual(tags.length, 40)
      for (
        const [here, there] of [
          ["scales.transport.sent_bytes", "scales.server.received_bytes"],
          ["scales.transport.received_bytes", "scales.server.sent_bytes"],
          ["scales.transport.connects", "scales.server.connects"],
          ["scales.transport.connections", "scales.server.connections"],
          ["scales.thrift.upgrades", "scales.thrift_server.upgrades"]
        ] as const
      ) assert.strictEqual(now.sum(here), now.sum(there), here)
      assert.strictEqual(now.sum("scales.thrift.calls"), 60)
      assert.strictEqual(now.sum("scales.thrift.busy"), 0)
      assert.isAbove(now.sum("scales.thrift.response_payload_bytes"), 0)

      // Calls whose deadline ends them take their connection with them.
      const before = now.sum("scales.server.connections")
      yield* Effect.forEach(
        Array.from({ length: 5 }),
        () => Effect.exit(echo.slow(60_000).pipe(Rpc.deadline("50 millis"))),
        { concurrency: 1 }
      )
      yield* until("the server has seen them go", () => server.outstanding() === 0)
      now = yield* shown
      const abandoned = now.sum("scales.thrift.abandoned")
      assert.isAbove(abandoned, 0)
      assert.strictEqual(now.sum("scales.transport.closes", { why: "abandoned" }), abandoned)
      assert.strictEqual(
        now.sum("scales.transport.connects"),
        now.sum("scales.transport.connections") + now.sum("scales.transport.closes")
      )
      assert.isAbove(before, 0)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual((yield* shown).names.filter((name) => !/_?server\./.test(name)), [])
      yield* close
      assert.deepStrictEqual((yield* shown).names, [])
    }))

  it.live("say how each connection was made, or not, and how it ended", () =>
    Effect.gen(function*() {
      const lines: Array<Line> = []
      yield* Effect.gen(function*() {
        const peer = yield* RawPeer.listen()
        const { connect, stack } = yield* transport()
        const opened = Effect.gen(function*() {
          const scope = yield* Scope.make()
          const sink = yield* Scope.provide(connect(peer.port), scope)
          return { sink, server: yield* peer.accept, close: Scope.close(scope, Exit.void) }
        })
        const broken = yield* opened
        broken.server.socket.write(Buffer.from("00000004deadbeef", "hex"))
        yield* until("the protocol error is seen", () => broken.sink.status.state === "Closed")
        const ended = yield* opened
        ended.server.socket.end()
        yield* until("the end is seen", () => ended.sink.status.state === "Closed")
        yield* (yield* opened).close
        const kept = yield* opened

        const upgraded = yield* transport({ upgrade: true })
        const asking = yield* start(Effect.exit(Effect.scoped(upgraded.connect(peer.port))))
        ;(yield* peer.accept).socket.end()
        yield* Fiber.join(asking)
        yield* peer.stop
        yield* Effect.exit(Effect.scoped(connect(peer.port)))

        const now = yield* shown
        const client = { client: "test" }
        assert.deepStrictEqual(now.by("scales.transport.closes", "why", client), {
          protocol_error: 1,
          server: 1,
          client: 1
        })
        assert.deepStrictEqual(now.by("scales.transport.connect_failures", "phase"), { handshake: 1, connect: 1 })
        assert.deepStrictEqual(
          ["connects", "connections", "connecting"].map((what) => now.sum(`scales.transport.${what}`, client)),
          [4, 1, 0]
        )
        assert.deepStrictEqual(
          ["protocol_errors", "idle_closed"].map((what) => now.sum(`scales.thrift.${what}`, client)),
          [1, 1]
        )
        assert.deepStrictEqual(stack.faults.list.map(({ endpoint, what }) => [endpoint, what]), [
          [Endpoint.tcp("127.0.0.1", peer.port).key, "a server broke the Thrift protocol"]
        ])
        yield* kept.close
      }).pipe(Effect.provide(logTo(lines)), Effect.scoped)
      assert.deepStrictEqual(lines.map(({ level, message }) => [level, message]), [
        ["Warn", "a server broke the Thrift protocol"],
        ["Warn", "no Thrift connection with a server"]
      ])
      assert.deepStrictEqual((yield* shown).names, [])
    }))
})
