import { assert, beforeEach, describe, it } from "@effect/vitest"
import {
  Describe,
  describe as describeServer,
  Endpoint,
  metricTable as coreTable,
  Stack,
  Stacks
} from "@scales-rpc/core"
import { Certificates, Seed } from "@scales-rpc/core/testing"
import {
  encodeDeadline,
  ErrorReply,
  type Handler,
  type Message,
  metricTable,
  Mux,
  MuxServer,
  type MuxServerOptions,
  MuxTransport,
  Nack
} from "@scales-rpc/mux"
import { type RawConnection, RawPeer } from "@scales-rpc/mux/testing"
import { Context, Effect, Exit, Fiber, Layer, Metric, Redacted, Scope } from "effect"
import { TestClock } from "effect/testing"
import { type Line, logTo, shown, until } from "./series.ts"
import { utf8 } from "./vectors.ts"

beforeEach(() => Effect.runSync(Effect.service(Metric.MetricRegistry)).clear())

const request = (tag: number, body: string, contexts: ReadonlyArray<Message.Pair> = []): Message.Tdispatch => ({
  _tag: "Tdispatch",
  tag,
  contexts,
  destination: "",
  dtab: [],
  body: utf8(body)
})

/** Does what the request says. */
const handler: Handler<unknown, never> = ({ body }) => {
  switch (Buffer.from(body).toString()) {
    case "wait":
      return Effect.never
    case "nack":
      return Effect.fail(new Nack({}))
    case "error":
      return Effect.fail(new ErrorReply({ why: "no" }))
    case "die":
      return Effect.die(new RangeError("broke"))
    default:
      return Effect.as(Effect.sleep("10 millis"), { body })
  }
}

/** A server in a scope of its own. */
const serve = (options?: MuxServerOptions) =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Scope.Scope)
    const server = yield* Scope.provide(MuxServer.make(handler, options), scope)
    return { server, close: Scope.close(scope, Exit.void) }
  })

const connected = (port: number) =>
  Effect.gen(function*() {
    const client = yield* RawPeer.connect({ port })
    yield* client.offerHandshake()
    return client
  })

/** A ping, whose answer says that the server has read all that came before. */
const readAll = (client: RawConnection) =>
  Effect.suspend(() => {
    client.send({ _tag: "Tping", tag: 1 })
    return client.next("Rping")
  })

const discard = (which: number): Message.Tdiscarded => ({ _tag: "Tdiscarded", tag: 0, which, why: "not wanted" })

describe("the series of a server", () => {
  it.effect("count what its clients have asked for, and got", () =>
    Effect.gen(function*() {
      const lines: Array<Line> = []
      const { close, server } = yield* Effect.provide(
        serve({ label: "bytes", maxConcurrent: 2, maxSessions: 2, drainTimeout: "1 second" }),
        logTo(lines)
      )
      const client = yield* connected(server.address.port)
      const idle = yield* connected(server.address.port)
      const of = { server: "bytes", service: "bytes", method: "any" }

      client.send(request(2, "a"), request(3, "b"))
      yield* readAll(client)
      let now = yield* shown
      assert.deepStrictEqual(
        [now.sum("scales.server.pending", of), now.sum("scales.mux_server.outstanding")],
        [2, 2]
      )
      // A third one is too many.
      client.send(request(4, "c"))
      assert.strictEqual((yield* client.next("Rdispatch")).status, 2)
      yield* TestClock.adjust("10 millis")
      yield* client.next("Rdispatch")
      yield* client.next("Rdispatch")
      for (const [body, status] of [["nack", 2], ["error", 1], ["die", 1]] as const) {
        client.send(request(2, body))
        assert.strictEqual((yield* client.next("Rdispatch")).status, status)
      }
      // One whose time is over, one that is not wanted any more, and one that nobody knows.
      client.send(request(2, "late", [
        [utf8("com.twitter.finagle.Deadline"), encodeDeadline({ timestamp: 0, deadline: 5 })]
      ]))
      assert.strictEqual((yield* client.next("Rdispatch")).status, 1)
      client.send(request(2, "wait"), discard(2), discard(99))
      yield* client.next("Rdiscarded")
      yield* readAll(client)

      now = yield* shown
      assert.strictEqual(now.sum("scales.server.requests", of), 6)
      assert.strictEqual(now.sum("scales.server.success", of), 2)
      assert.deepStrictEqual(now.by("scales.server.failures", "error", of), {
        Nack: 1,
        ErrorReply: 1,
        Defect: 1,
        Interrupted: 1
      })
      assert.strictEqual(now.sum("scales.server.pending", of), 0)
      assert.strictEqual(now.sum("scales.server.latency_ms", of), 6)
      assert.strictEqual(now.millis("scales.server.latency_ms", of), 20)
      assert.strictEqual(now.sum("scales.server.expired"), 1)
      assert.strictEqual(now.sum("scales.server.deaths"), 1)
      assert.deepStrictEqual(now.by("scales.mux_server.nacks", "why"), { concurrency: 1, handler: 1 })
      assert.strictEqual(now.sum("scales.mux_server.discards"), 1)
      assert.strictEqual(now.sum("scales.mux_server.orphaned_discards"), 1)

      // A session too many, bytes that are no mux, and a tag that is used twice.
      const third = yield* connected(server.address.port)
      third.send(request(2, "refused"))
      assert.strictEqual((yield* third.next("Rdispatch")).status, 2)
      third.write("ffffffff00000000")
      yield* third.ended
      idle.send(request(2, "wait"), request(2, "wait"))
      yield* idle.ended
      yield* until("two connections have ended", () => server.sessions().length === 1)
      now = yield* shown
      assert.deepStrictEqual(now.by("scales.mux_server.nacks", "why"), { concurrency: 1, handler: 1, sessions: 1 })
      assert.deepStrictEqual(
        ["connections", "connects", "refused_connections", "protocol_errors", "connection_duration_ms"].map((what) =>
          now.sum(`scales.server.${what}`)
        ),
        [1, 2, 1, 2, 2]
      )
      assert.strictEqual(now.sum("scales.mux_server.duplicate_tags"), 1)

      // Two that run when it closes, of which neither ends in time, and one that comes too late.
      server.sessions()[0]!.lease("5 seconds").pipe(Effect.runSync)
      client.send(request(2, "wait"), request(3, "wait"))
      yield* readAll(client)
      const closing = yield* Effect.forkScoped(close, { startImmediately: true })
      yield* client.next("Tdrain")
      client.send({ _tag: "Rdrain", tag: 1 }, request(4, "more"))
      assert.strictEqual((yield* client.next("Rdispatch")).status, 2)
      now = yield* shown
      assert.deepStrictEqual(now.by("scales.mux_server.nacks", "why"), {
        concurrency: 1,
        handler: 1,
        sessions: 1,
        draining: 1
      })
      assert.strictEqual(now.sum("scales.server.drains"), 1)
      assert.strictEqual(now.sum("scales.mux_server.leases"), 1)
      const all = [client, idle, third]
      const total = (of: (connection: RawConnection) => number) => all.reduce((sum, one) => sum + of(one), 0)
      assert.strictEqual(now.sum("scales.server.sent_bytes"), total(({ socket }) => socket.bytesRead))
      assert.strictEqual(now.sum("scales.server.received_bytes"), total(({ socket }) => socket.bytesWritten))
      assert.strictEqual(now.sum("scales.mux_server.messages_sent"), total(({ received }) => received.length))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closing)
      assert.strictEqual(server.counts.aborted, 2)
      assert.deepStrictEqual((yield* shown).names, [])

      assert.deepStrictEqual(lines.map(({ level, message }) => [level, message]), [
        ["Info", "listening"],
        ["Error", "a handler died"],
        ["Warn", "a client's session ended: protocol error"],
        ["Warn", "a client's session ended: protocol error"],
        ["Info", "draining"],
        ["Info", "drained"]
      ])
      assert.deepInclude(lines[0]!.annotations, { server: "bytes", uri: server.uri })
      assert.deepInclude(lines[3]!.annotations, { cause: "tag 2 was used twice" })
      assert.deepInclude(lines[4]!.annotations, { connections: 1, running: 2 })
      assert.deepInclude(lines[5]!.annotations, { aborted: 2, millis: 1000 })
    }))

  it.effect("are those of the tables", () =>
    Effect.gen(function*() {
      yield* serve()
      const names = new Set((yield* shown).names)
      const rows = [...Object.keys(coreTable), ...Object.keys(metricTable)].filter((name) =>
        // One of an error there is from the first on.
        /^scales\.(mux_)?server\./.test(name) && name !== "scales.server.failures"
      )
      assert.deepStrictEqual([...names].toSorted(), rows.toSorted())
    }))

  it.effect("of two servers of one name are told apart, and go with each", () =>
    Effect.gen(function*() {
      const one = yield* serve()
      const two = yield* serve()
      assert.deepStrictEqual([one.server.id, two.server.id], ["mux", "mux-2"])
      const client = yield* connected(two.server.address.port)
      assert.deepStrictEqual((yield* shown).by("scales.server.connections", "server"), { "mux-2": 1 })
      yield* one.close
      assert.strictEqual((yield* shown).sum("scales.server.connections"), 1)
      client.reset()
      yield* two.close
      assert.deepStrictEqual((yield* shown).names, [])
    }))

  it.effect("are not there without metrics; it serves all the same", () =>
    Effect.gen(function*() {
      const { server } = yield* serve({ metrics: false })
      const client = yield* connected(server.address.port)
      client.send(request(2, "die"))
      yield* client.next("Rdispatch")
      assert.deepStrictEqual((yield* shown).names, [])
      assert.strictEqual(server.counts.requests, 1)
    }))
})

describe("TLS", () => {
  it.live("is counted at both ends, and when it fails", () =>
    Effect.gen(function*() {
      const lines: Array<Line> = []
      const authority = Certificates.authority("good")
      const { server } = yield* Effect.provide(
        serve({ tls: { ...authority.issue(), mode: "always" } }),
        logTo(lines)
      )
      const connect = (trusted: Certificates.Authority) =>
        Effect.gen(function*() {
          const context = yield* Layer.build(
            MuxTransport.layer({ tls: { ca: trusted.certificate, serverName: "localhost" } }).pipe(
              Layer.provide(Stack.layer("secured")),
              Layer.provide(Seed.layer(1)),
              Layer.fresh
            )
          )
          const { connect } = Context.get(context, Mux.Connector)
          return yield* Effect.exit(connect(Endpoint.tcp("127.0.0.1", server.address.port)))
        }).pipe(Effect.provide(logTo([])))
      assert.isTrue(Exit.isSuccess(yield* connect(authority)))
      let now = yield* shown
      for (const end of ["transport", "server"]) {
        assert.strictEqual(now.sum(`scales.${end}.tls_handshakes`), 1)
        assert.strictEqual(now.sum(`scales.${end}.tls_handshake_latency_ms`), 1)
        assert.isAbove(now.millis(`scales.${end}.tls_handshake_latency_ms`), 0)
      }
      assert.strictEqual(now.sum("scales.server.received_bytes"), now.sum("scales.transport.sent_bytes"))
      assert.isTrue(Exit.isFailure(yield* connect(Certificates.authority("other"))))
      yield* until("the server has heard of it", () => server.counts.tlsFailures === 1)
      now = yield* shown
      assert.deepStrictEqual(now.by("scales.transport.connect_failures", "phase"), { tls: 1 })
      assert.strictEqual(now.sum("scales.transport.connect_latency_ms"), 2)
      assert.strictEqual(now.sum("scales.server.tls_failures"), 1)
      assert.deepStrictEqual(lines.map(({ message }) => message), [
        "listening",
        "a client's connection could not be secured"
      ])
      assert.containsAllKeys(lines[1]!.annotations, ["server", "peer", "reason", "cause"])
    }))
})

describe("a server's log", () => {
  it.effect("has ten lines of a storm, and then how many there would have been", () =>
    Effect.gen(function*() {
      const lines: Array<Line> = []
      const { server } = yield* Effect.provide(serve(), logTo(lines))
      for (let i = 0; i < 25; i++) {
        const client = yield* RawPeer.connect({ port: server.address.port })
        client.write("ffffffff00000000")
        yield* client.ended
      }
      yield* until("all are gone", () => server.sessions().length === 0)
      const storm = () => lines.filter(({ message }) => message === "a client's session ended: protocol error")
      assert.strictEqual(storm().length, 10)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(storm().length, 11)
      assert.deepStrictEqual(storm()[10]!.annotations, { server: "mux", leftOut: 15 })
      assert.strictEqual((yield* shown).sum("scales.server.protocol_errors"), 25)
    }))
})

describe("a described server", () => {
  it.live("is plain data and text, from the wire up, without secrets", () =>
    Effect.gen(function*() {
      const authority = Certificates.authority("described")
      const { certificate, key } = authority.issue()
      const context = yield* Layer.build(
        MuxServer.layer(handler, {
          label: "described",
          maxConcurrent: 7,
          tls: { certificate, key, passphrase: Redacted.make("open sesame"), mode: "desired" }
        }).pipe(Layer.provideMerge(Stacks.layer))
      )
      const server = Context.get(context, MuxServer)
      const client = yield* connected(server.address.port)
      client.send(request(2, "wait"))
      yield* readAll(client)
      const [listed] = Context.get(context, Stacks).servers()
      const description = describeServer(server)
      assert.deepStrictEqual(
        describeServer(listed!).stages.map(({ role }) => role),
        description.stages.map(({ role }) => role)
      )
      assert.deepStrictEqual(JSON.parse(JSON.stringify(description)), description)
      assert.deepInclude(description, { kind: "server", name: "described", id: "described" })
      const stage = (role: string): any => description.stages.find((stage) => stage.role === role)
      assert.deepStrictEqual(
        description.stages.map(({ role }) => role),
        ["listener", "tls", "sessions", "limits", "service"]
      )
      assert.deepInclude(stage("listener").state, { listening: true, port: server.address.port })
      assert.deepStrictEqual(stage("listener").options.host, { value: "127.0.0.1", from: "default" })
      assert.deepStrictEqual(stage("limits").options.maxConcurrent, { value: 7, from: "given" })
      assert.strictEqual(stage("limits").state.running, 1)
      const [session] = stage("sessions").state.sessions
      assert.deepInclude(session, { peer: `127.0.0.1:${client.socket.localPort}`, secured: false, outstanding: 1 })
      assert.strictEqual(stage("service").state.described.any.pending, 1)
      const text = Describe.render(description)
      assert.match(text, /^server described\n/)
      assert.match(text, /maxConcurrent = 7 \(given\)/)
      assert.notMatch(text + JSON.stringify(description), /BEGIN|open sesame/)
      client.send(discard(2))
      yield* client.next("Rdiscarded")
    }))
})
