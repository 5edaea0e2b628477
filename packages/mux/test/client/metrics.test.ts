import { assert, beforeEach, describe, it } from "@effect/vitest"
import {
  Abort,
  type Attempt,
  beginAttempt,
  CallContext,
  classifyExit,
  describe as describeStack,
  Endpoint,
  Stack
} from "@scales-rpc/core"
import { Seed } from "@scales-rpc/core/testing"
import {
  encode,
  type Message,
  metricTable,
  Mux,
  type MuxRequest,
  type MuxResponse,
  MuxTransport
} from "@scales-rpc/mux"
import { type RawConnection, RawPeer } from "@scales-rpc/mux/testing"
import { Context, Effect, Exit, Fiber, Layer, Metric, Scope } from "effect"
import { TestClock } from "effect/testing"
import { type Line, logTo, shown, until } from "../series.ts"
import { utf8 } from "../vectors.ts"

beforeEach(() => Effect.runSync(Effect.service(Metric.MetricRegistry)).clear())

/** A connector of one endpoint, with the stack that it belongs to, and how to close both. */
const transport = (port: number, options?: MuxTransport.MuxTransportOptions, stackOptions?: { metrics: boolean }) =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Scope.Scope)
    const context = yield* Layer.buildWithScope(
      MuxTransport.layer({ pingInterval: "1 minute", handshakeTimeout: "1 minute", ...options }).pipe(
        Layer.provideMerge(Stack.layer("test", stackOptions)),
        Layer.provide(Seed.layer(1)),
        Layer.fresh
      ),
      scope
    )
    const { connect } = Context.get(context, Mux.Connector)
    const endpoint = Endpoint.tcp("127.0.0.1", port)
    return {
      stack: Context.get(context, Stack),
      endpoint,
      close: Scope.close(scope, Exit.void),
      /** Begins to connect, in a scope of its own. */
      connect: Effect.gen(function*() {
        const scope = yield* Scope.make()
        const fiber = yield* Effect.forkScoped(Scope.provide(connect(endpoint), scope), { startImmediately: true })
        return { fiber, close: Scope.close(scope, Exit.void) }
      })
    }
  })

/** A connection of a transport, and the server's end of it: the client's first ping has come and is not answered. */
const opened = (peer: RawPeer.RawPeer, { connect }: Effect.Success<ReturnType<typeof transport>>, window?: number) =>
  Effect.gen(function*() {
    const { close, fiber } = yield* connect
    const server = yield* peer.accept
    yield* server.acceptHandshake(window)
    yield* server.next("Tping")
    return { server, close, sink: yield* Fiber.join(fiber) }
  })

const attemptAt = (endpoint: Endpoint): Attempt =>
  beginAttempt(
    {
      service: "test",
      method: "call",
      idempotent: false,
      deadline: Infinity,
      context: CallContext.empty,
      abort: new Abort(Infinity, 1000),
      tried: [],
      classify: classifyExit,
      reply: undefined,
      span: undefined,
      trace: undefined
    },
    endpoint,
    () => 0
  )

const ok = (tag: number, text: string): Message.Rdispatch => ({
  _tag: "Rdispatch",
  tag,
  status: 0,
  contexts: [],
  body: utf8(text)
})

/** A server's ping, whose answer says that the client has read all that came before. */
const readAll = (server: RawConnection) =>
  Effect.suspend(() => {
    server.send({ _tag: "Tping", tag: 1 })
    return server.next("Rping")
  })

/** A frame that is not the last of its message. */
const isFragment = (frame: string): boolean => (Number.parseInt(frame.slice(10, 12), 16) & 0x80) !== 0

describe("the series of a client's sessions", () => {
  it.effect("count what a server has seen and sent, by the byte", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const client = yield* transport(peer.port)
      const { endpoint } = client

      // The handshake takes 30 ms, the answer to the first ping 7.
      const { close, fiber } = yield* client.connect
      const server = yield* peer.accept
      const probe = yield* server.next("Rerr")
      let now = yield* shown
      assert.deepStrictEqual(
        ["negotiating", "sessions"].map((what) => now.sum(`scales.mux.${what}`)),
        [1, 0]
      )
      assert.deepStrictEqual(
        ["connecting", "connections", "connects"].map((what) => now.sum(`scales.transport.${what}`)),
        [1, 0, 0]
      )
      yield* TestClock.adjust("30 millis")
      server.send(probe)
      const init = yield* server.next("Tinit")
      server.send({
        _tag: "Rinit",
        tag: init.tag,
        version: 1,
        headers: [[utf8("mux-framer"), Uint8Array.of(0, 0, 0, 16)]]
      })
      yield* server.next("Tping")
      const sink = yield* Fiber.join(fiber)
      yield* TestClock.adjust("7 millis")
      server.send({ _tag: "Rping", tag: 1 })
      yield* readAll(server)
      now = yield* shown
      assert.deepStrictEqual(
        ["negotiating", "sessions", "handshakes", "pings"].map((what) => now.sum(`scales.mux.${what}`)),
        [0, 1, 1, 1]
      )
      assert.strictEqual(now.millis("scales.mux.handshake_latency_ms"), 30)
      assert.strictEqual(now.millis("scales.mux.ping_latency_ms"), 7)

      const send = (body: string) =>
        Effect.gen(function*() {
          const attempt = attemptAt(endpoint)
          const request: MuxRequest = { body: utf8(body) }
          const fiber: Fiber.Fiber<MuxResponse, unknown> = yield* Effect.forkScoped(sink.send(request, attempt), {
            startImmediately: true
          })
          const { tag } = yield* server.next("Tdispatch")
          return { attempt, fiber, tag }
        })

      // One that is answered, in fragments, one that is refused, one that nobody waits for any more, and an answer to none.
      const good = yield* send("hello")
      now = yield* shown
      assert.deepStrictEqual(
        ["outstanding", "tags_in_use", "tags_held", "dispatches"].map((what) => now.sum(`scales.mux.${what}`)),
        [1, 1, 0, 1]
      )
      const whole = Buffer.from(encode(ok(good.tag, "hello")))
      const part = Buffer.from(whole.subarray(0, 12))
      part.writeInt32BE(8, 0)
      part[5]! |= 0x80
      const rest = Buffer.concat([whole.subarray(0, 8), whole.subarray(12)])
      rest.writeInt32BE(rest.length - 4, 0)
      server.write(Buffer.concat([part, rest]))
      assert.strictEqual(Buffer.from((yield* Fiber.join(good.fiber)).body).toString(), "hello")
      const nacked = yield* send("refused")
      server.send({ ...ok(nacked.tag, ""), status: 2 })
      yield* Fiber.await(nacked.fiber)
      const given = yield* send("given up")
      given.attempt.abort.abort({ _tag: "Timeout", timeoutMillis: 5 })
      yield* server.next("Tdiscarded")
      now = yield* shown
      assert.deepStrictEqual(
        ["outstanding", "tags_in_use", "tags_held"].map((what) => now.sum(`scales.mux.${what}`)),
        [0, 1, 1]
      )
      server.send({ _tag: "Rdiscarded", tag: given.tag }, ok(77, "to nothing"))
      server.send({ _tag: "Tlease", tag: 0, unit: 0, howMuch: 5000n })
      yield* readAll(server)
      now = yield* shown
      assert.deepStrictEqual(
        ["tags_in_use", "tags_held", "discards", "nacks", "unknown_tags", "leases", "leased", "lease_remaining_ms"].map(
          (
            what
          ) => now.sum(`scales.mux.${what}`)
        ),
        [0, 0, 1, 1, 1, 1, 1, 5000]
      )
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual((yield* shown).sum("scales.mux.lease_remaining_ms"), 3000)
      yield* TestClock.adjust("3 seconds")
      now = yield* shown
      assert.deepStrictEqual([now.sum("scales.mux.leased"), now.sum("scales.mux.lease_remaining_ms")], [0, 0])

      // It drains with a call outstanding.
      const last = yield* send("last")
      server.send({ _tag: "Tdrain", tag: 1 })
      yield* server.next("Rdrain")
      now = yield* shown
      assert.deepStrictEqual(
        ["draining", "drains", "drained", "sessions"].map((what) => now.sum(`scales.mux.${what}`)),
        [1, 1, 0, 1]
      )
      server.send(ok(last.tag, "last"))
      yield* Fiber.join(last.fiber)
      yield* server.ended
      now = yield* shown
      assert.deepStrictEqual(
        ["draining", "drains", "drained", "sessions", "outstanding", "dispatches", "queued", "queued_bytes"].map((
          what
        ) => now.sum(`scales.mux.${what}`)),
        [0, 1, 1, 0, 0, 4, 0, 0]
      )

      // Probe, Rinit, Rping, two Tpings, three answers, one to nothing, Rdiscarded, Tlease and Tdrain.
      assert.strictEqual(now.sum("scales.mux.messages_received"), 12)
      assert.strictEqual(now.sum("scales.mux.fragments_received"), 1)
      assert.strictEqual(now.sum("scales.mux.messages_sent"), server.received.length)
      const fragments = server.frames.filter(isFragment).length
      assert.isAbove(fragments, 0)
      assert.strictEqual(now.sum("scales.mux.fragments_sent"), fragments)
      assert.strictEqual(now.sum("scales.transport.sent_bytes"), server.socket.bytesRead)
      assert.strictEqual(now.sum("scales.transport.received_bytes"), server.socket.bytesWritten)
      assert.deepStrictEqual(now.by("scales.transport.closes", "why"), { drained: 1 })
      // All of it but the 30 ms of the handshake.
      assert.strictEqual(now.millis("scales.transport.connection_duration_ms"), 5007)
      yield* close
    }))

  it.effect("say how each connection was made, or not, and how it ended", () =>
    Effect.gen(function*() {
      const lines: Array<Line> = []
      yield* Effect.gen(function*() {
        const peer = yield* RawPeer.listen()
        const client = yield* transport(peer.port)

        const broken = yield* opened(peer, client)
        broken.server.write("ffffffff00000000")
        yield* until("the protocol error is seen", () => broken.sink.status.state === "Closed")
        const cut = yield* opened(peer, client)
        cut.server.reset()
        yield* until("the reset is seen", () => cut.sink.status.state === "Closed")
        const ended = yield* opened(peer, client)
        ended.server.end()
        yield* until("the end is seen", () => ended.sink.status.state === "Closed")
        const left = yield* opened(peer, client)
        yield* left.close
        const silent = yield* opened(peer, client)
        yield* TestClock.adjust("4 seconds")
        assert.strictEqual(silent.sink.status.state, "Closed")

        const refused = yield* client.connect
        ;(yield* peer.accept).end()
        yield* Fiber.await(refused.fiber)
        const given = yield* client.connect
        yield* (yield* peer.accept).next("Rerr")
        yield* Fiber.interrupt(given.fiber)
        yield* peer.stop
        const nobody = yield* client.connect
        yield* Fiber.await(nobody.fiber)

        const now = yield* shown
        assert.deepStrictEqual(now.by("scales.transport.closes", "why"), {
          protocol_error: 1,
          error: 1,
          server: 1,
          client: 1,
          ping_timeout: 1
        })
        assert.deepStrictEqual(now.by("scales.transport.connect_failures", "phase"), {
          handshake: 1,
          cancelled: 1,
          connect: 1
        })
        assert.strictEqual(now.sum("scales.transport.connects"), 5)
        assert.strictEqual(now.sum("scales.transport.connections"), 0)
        assert.strictEqual(now.sum("scales.transport.connecting"), 0)
        assert.strictEqual(now.sum("scales.transport.connection_duration_ms"), 5)
        // Seven were connected, five of them agreed upon.
        assert.strictEqual(now.sum("scales.transport.connect_latency_ms"), 7)
        assert.strictEqual(now.sum("scales.mux.handshake_latency_ms"), 5)
        assert.strictEqual(now.sum("scales.mux.protocol_errors"), 1)
        assert.strictEqual(now.sum("scales.mux.ping_timeouts"), 1)

        const key = client.endpoint.key
        assert.deepStrictEqual(client.stack.faults.list.map(({ endpoint, what }) => [endpoint, what]), [
          [key, "a server does not answer pings"],
          [key, "a server broke the mux protocol"]
        ])
      }).pipe(Effect.provide(logTo(lines)), Effect.scoped)
      assert.deepStrictEqual(lines.map(({ level, message }) => [level, message]), [
        ["Warn", "a server broke the mux protocol"],
        ["Warn", "a server does not answer pings"],
        ["Warn", "no mux session with a server"]
      ])
      for (const { annotations } of lines) assert.containsAllKeys(annotations, ["client", "endpoint", "cause"])
    }))

  it.effect("sum all sessions that came and went in as many series as one", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const client = yield* transport(peer.port)
      const { names } = yield* shown
      for (let i = 0; i < 50; i++) {
        const { close } = yield* opened(peer, client)
        yield* close
      }
      const now = yield* shown
      assert.deepStrictEqual(now.names, names)
      assert.strictEqual(now.sum("scales.transport.closes", { why: "client" }), 50)
      assert.strictEqual(now.sum("scales.mux.sessions"), 0)
      const state = describeStack(client.stack).stages.find(({ role }) => role === "transport")!.state as any
      assert.deepStrictEqual(state.sessions, [])
      yield* client.close
      assert.deepStrictEqual((yield* shown).names, [])
    }))

  it.effect("are those of the table, with what it says of them", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      yield* transport(peer.port)
      const names = new Set((yield* shown).names.filter((name) => name.startsWith("scales.mux.")))
      assert.deepStrictEqual(
        [...names].toSorted(),
        Object.keys(metricTable).filter((name) => name.startsWith("scales.mux.")).toSorted()
      )
    }))

  it.effect("are not there without metrics, and what describe shows is", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const client = yield* transport(peer.port, {}, { metrics: false })
      yield* opened(peer, client, 100)
      assert.deepStrictEqual((yield* shown).names, [])
      yield* TestClock.adjust("1 second")
      const transportStage = describeStack(client.stack).stages.find(({ role }) => role === "transport")!
      const { connects, handshakes, sessions } = transportStage.state as any
      assert.deepStrictEqual([connects, handshakes], [1, 1])
      assert.deepInclude(sessions[0], {
        endpoint: client.endpoint.key,
        state: "Open",
        secured: false,
        outstanding: 0,
        ageMillis: 1000
      })
      assert.deepStrictEqual(transportStage.options["pingInterval"], { value: "60000 ms", from: "given" })
      assert.deepStrictEqual(transportStage.options["pingTimeout"], { value: "4000 ms", from: "default" })
    }))
})
