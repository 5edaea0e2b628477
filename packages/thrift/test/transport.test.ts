// One connection of plain Thrift on a real socket: one call at a time, and no byte of one call ever meets another.
import { ConnectionClosed, type RpcError } from "@scales-rpc/core"
import { Certificates } from "@scales-rpc/core/testing"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import type * as Net from "node:net"
import * as NodeTls from "node:tls"
import { BinaryReader, MessageType, Protocols, type ThriftTransport } from "../src/index.ts"
import { type RawConnection, RawPeer } from "../src/testing/index.ts"
import {
  callOf,
  type Connected,
  connected,
  failureOf,
  requestOf,
  start,
  transport,
  transportOf,
  until
} from "./wire.ts"

/** The string in a reply. */
const resultOf = ({ body }: { readonly body: Uint8Array }): string => {
  const reader = new BinaryReader().reset(body)
  reader.readMessageBegin()
  reader.readStructBegin()
  reader.readFieldBegin()
  return reader.readString()
}

/** What an RPC failure says of what became of the call. */
const told = (error: RpcError) => [error._tag, error.reached]

/** The connection is over, for this reason, and the server hears of it. */
const isOver = ({ server, status }: Connected, fault: string | undefined) =>
  Effect.gen(function*() {
    assert.deepStrictEqual([status.state, status.fault?._tag], ["Closed", fault])
    yield* server.ended
  })

describe("a call", () => {
  const spoken = (["framed", "buffered"] as const).flatMap((framing) =>
    [Protocols.binary, Protocols.binaryOld, Protocols.compact, Protocols.json].map((protocol) => ({
      framing,
      protocol,
      name: `${framing} ${protocol.name}`
    }))
  )

  it.live.each(spoken)(
    "is answered over $name, one after the other, each in one write",
    ({ framing, protocol }) =>
      Effect.gen(function*() {
        const { call, server, status } = yield* connected({ framing, protocol })
        for (let i = 1; i <= 3; i++) {
          const calling = yield* start(call("ping"))
          const message = yield* server.next
          assert.deepStrictEqual([message.name, message.sequenceId, server.chunks], ["ping", i, i])
          server.reply(message, { result: `pong ${i}` })
          const { body } = yield* Fiber.join(calling)
          const reader = protocol.reader().reset(body)
          assert.strictEqual(reader.readMessageBegin().rseqid, i)
          reader.readStructBegin()
          reader.readFieldBegin()
          assert.strictEqual(reader.readString(), `pong ${i}`)
          assert.strictEqual(status.state, "Open")
        }
      })
  )

  it.live("is answered in as many pieces as the server likes", () =>
    Effect.gen(function*() {
      const { call, server } = yield* connected()
      const calling = yield* start(call("ping"))
      const message = yield* server.next
      for (const byte of server.bytesOf(message, { result: "pong" })) {
        server.write(Uint8Array.of(byte))
        yield* Effect.yieldNow
      }
      assert.strictEqual(resultOf(yield* Fiber.join(calling)), "pong")
    }))

  it.live("may be answered with an exception that names the service too, as a multiplexed server does", () =>
    Effect.gen(function*() {
      const { call, server, status } = yield* connected()
      const calling = yield* start(call("ping"))
      server.reply(yield* server.next, { name: "Echo:ping", type: MessageType.EXCEPTION })
      yield* Fiber.join(calling)
      assert.strictEqual(status.state, "Open")
    }))

  const wrong: ReadonlyArray<readonly [string, Parameters<Connected["server"]["reply"]>[1], string]> = [
    ["sequence id", { sequenceId: 7 }, "sequence id 7 in answer to ping, which has 1"],
    ["method", { name: "pong" }, "a reply to pong in answer to ping"],
    ["method of the same service", { name: "Echo:ping" }, "a reply to Echo:ping in answer to ping"],
    ["method in an exception", { name: "pong", type: MessageType.EXCEPTION }, "a reply to pong in answer to ping"],
    ["type", { type: MessageType.CALL }, "a message of type 1 in answer to ping"]
  ]
  it.live.each(wrong)(
    "that is answered with the wrong %s fails, and its connection ends",
    ([, reply, what]) =>
      Effect.gen(function*() {
        const connection = yield* connected()
        const calling = yield* start(connection.call("ping"))
        connection.server.reply(yield* connection.server.next, reply!)
        const error = yield* failureOf(calling)
        assert.deepStrictEqual([told(error), error._tag === "ProtocolError" && error.what], [
          ["ProtocolError", "maybe"],
          what
        ])
        yield* isOver(connection, "ProtocolError")
      })
  )

  const garbage: ReadonlyArray<readonly [string, string]> = [
    ["a length that is negative", "ffffffff"],
    ["a length over the limit", "00001001"],
    ["HTTP", Buffer.from("HTTP/1.1 400 Bad Request").toString("hex")],
    ["an empty frame", "00000000"],
    ["a frame of another protocol", "0000000482210101"]
  ]
  it.live.each(garbage)(
    "that is answered with %s fails, and its connection ends",
    ([, bytes]) =>
      Effect.gen(function*() {
        const connection = yield* connected({ limits: { maxMessageBytes: 4096 } })
        const calling = yield* start(connection.call("ping"))
        yield* connection.server.next
        connection.server.write(bytes!)
        assert.deepStrictEqual(told(yield* failureOf(calling)), ["ProtocolError", "maybe"])
        yield* isOver(connection, "ProtocolError")
      })
  )

  it.live("beside another is refused, and can go elsewhere; the other is none the worse", () =>
    Effect.gen(function*() {
      const { call, server } = yield* connected()
      const first = yield* start(call("slow"))
      const error = yield* Effect.flip(call("ping"))
      assert.deepStrictEqual([...told(error), error.retryable], ["Nacked", "no", true])
      const message = yield* server.next
      server.reply(message, { result: "slow" })
      assert.strictEqual(resultOf(yield* Fiber.join(first)), "slow")
      assert.deepStrictEqual(server.received.map(({ name }) => name), ["slow"])
    }))

  it.live("that was aborted before is not sent", () =>
    Effect.gen(function*() {
      const { call, server, status } = yield* connected()
      const aborted = callOf()
      aborted.abort.abort({ _tag: "Timeout", timeoutMillis: 50 })
      assert.deepStrictEqual(told(yield* Effect.flip(call("ping", aborted))), ["Timeout", "no"])
      const next = yield* start(call("ping"))
      server.reply(yield* server.next)
      yield* Fiber.join(next)
      assert.deepStrictEqual([server.received.length, status.state], [1, "Open"])
    }))
})

describe("two replies", () => {
  it.live("to one call give it the first, and end the connection before the next call", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const { call, server, status } = connection
      const calling = yield* start(call("ping"))
      const message = yield* server.next
      const reply = (result: string) => server.bytesOf(message, { result })
      server.write(Buffer.concat([reply("first"), reply("second")]))
      assert.strictEqual(resultOf(yield* Fiber.join(calling)), "first")
      // Already: a caller that goes on at once does not meet the second
      assert.strictEqual(status.state, "Closed")
      assert.deepStrictEqual(told(yield* Effect.flip(call("ping"))), ["ConnectionClosed", "no"])
      yield* isOver(connection, "ProtocolError")
    }))

  it.live("the second in part, do the same", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* start(connection.call("ping"))
      const reply = connection.server.bytesOf(yield* connection.server.next, { result: "first" })
      connection.server.write(Buffer.concat([reply, reply.subarray(0, 3)]))
      assert.strictEqual(resultOf(yield* Fiber.join(calling)), "first")
      yield* isOver(connection, "ProtocolError")
    }))

  it.live("the second later, end the idle connection", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const { call, server, status } = connection
      const calling = yield* start(call("ping"))
      const message = yield* server.next
      server.reply(message, { result: "first" })
      yield* Fiber.join(calling)
      assert.strictEqual(status.state, "Open")
      server.reply(message, { result: "second" })
      yield* until("the connection is closed", () => status.state === "Closed")
      yield* isOver(connection, "ProtocolError")
    }))

  it.live("a byte before the first call ends the connection", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      connection.server.write("00")
      yield* until("the connection is closed", () => connection.status.state === "Closed")
      yield* isOver(connection, "ProtocolError")
    }))
})

describe("a call that is given up", () => {
  it.live("at its deadline takes its connection with it, without a fault: the late reply meets nobody", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const { server, stack, status } = connection
      const call = callOf()
      const calling = yield* start(connection.call("slow", call))
      const message = yield* server.next
      call.abort.abort({ _tag: "Timeout", timeoutMillis: 50 })
      // In this turn: whoever has the connection next looks at its status first
      assert.strictEqual(status.state, "Closed")
      server.reply(message, { result: "late" })
      const error = yield* failureOf(calling)
      assert.deepStrictEqual(told(error), ["Timeout", "maybe"])
      assert.include(error.message, "waiting for reply at 127.0.0.1")
      assert.deepStrictEqual(told(yield* Effect.flip(connection.call("ping"))), ["ConnectionClosed", "no"])
      yield* isOver(connection, undefined)
      assert.deepStrictEqual([call.abort.listeners, transportOf(stack).state.abandoned], [0, 1])
    }))

  it.live("by interruption does the same", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const call = callOf()
      const calling = yield* start(connection.call("slow", call))
      yield* connection.server.next
      yield* Fiber.interrupt(calling)
      assert.strictEqual(call.abort.listeners, 0)
      yield* isOver(connection, undefined)
    }))

  it.live("before it was sent leaves the connection as it was", () =>
    Effect.gen(function*() {
      const { call, server, status } = yield* connected()
      // Idle long enough to be looked at first
      yield* Effect.sleep(20)
      const given = callOf()
      const calling = yield* start(call("ping", given))
      given.abort.abort({ _tag: "Timeout", timeoutMillis: 50 })
      assert.deepStrictEqual(told(yield* failureOf(calling)), ["Timeout", "no"])
      const interrupted = yield* start(call("ping"))
      yield* Fiber.interrupt(interrupted)
      assert.strictEqual(status.state, "Open")
      const next = yield* start(call("pong"))
      server.reply(yield* server.next, { result: "pong" })
      assert.strictEqual(resultOf(yield* Fiber.join(next)), "pong")
      assert.deepStrictEqual(server.received.map(({ name }) => name), ["pong"])
    }))
})

describe("oneway", () => {
  it.live("completes when its bytes have left, and the connection is free at once", () =>
    Effect.gen(function*() {
      const { call, send, server, status } = yield* connected()
      const { body } = yield* send(requestOf("note", 100, { oneway: true }))
      assert.strictEqual(body.length, 0)
      const calling = yield* start(call("ping"))
      const first = yield* server.next
      assert.deepStrictEqual([first.name, first.type], ["note", MessageType.ONEWAY])
      server.reply(yield* server.next, { result: "pong" })
      assert.strictEqual(resultOf(yield* Fiber.join(calling)), "pong")
      assert.strictEqual(status.state, "Open")
    }))

  it.live("waits for a server that does not read, and not for its answer", () =>
    Effect.gen(function*() {
      const { send, server, status } = yield* connected()
      server.pause()
      const padding = 32 * 1024 * 1024
      const sending = yield* start(send(requestOf("note", 1, { oneway: true, padding })))
      yield* Effect.sleep(50)
      assert.isUndefined(sending.pollUnsafe())
      server.resume()
      yield* Fiber.join(sending)
      assert.strictEqual((yield* server.next).name, "note")
      assert.strictEqual(status.state, "Open")
    }))

  it.live("at its deadline before its bytes have left takes its connection with it", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      connection.server.pause()
      const call = callOf()
      const padding = 32 * 1024 * 1024
      const sending = yield* start(connection.send(requestOf("note", 1, { oneway: true, padding }), call))
      yield* Effect.sleep(20)
      call.abort.abort({ _tag: "Timeout", timeoutMillis: 20 })
      assert.deepStrictEqual(told(yield* failureOf(sending)), ["Timeout", "maybe"])
      assert.deepStrictEqual([connection.status.state, connection.status.fault], ["Closed", undefined])
      connection.server.resume()
      yield* connection.server.ended
    }))

  it.live("that is answered before its bytes have left fails, and its connection ends", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const { send, server } = connection
      server.pause()
      const request = requestOf("note", 1, { oneway: true, padding: 32 * 1024 * 1024 })
      const sending = yield* start(send(request))
      yield* Effect.sleep(20)
      server.reply({ name: "note", type: MessageType.ONEWAY, sequenceId: 1, body: request.body })
      assert.deepStrictEqual(told(yield* failureOf(sending)), ["ProtocolError", "maybe"])
      server.resume()
      yield* isOver(connection, "ProtocolError")
    }))

  it.live("that is answered all the same harms nobody: neither the connection nor the call that has it then", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const { server } = connection
      yield* connection.send(requestOf("note", 1, { oneway: true }))
      const note = yield* server.next
      yield* connection.send(requestOf("note", 2, { oneway: true }))
      const second = yield* server.next
      // While nobody waits.
      server.reply(note, { type: MessageType.EXCEPTION })
      const calling = yield* start(connection.call("ping"))
      const ping = yield* server.next
      server.reply(second, { type: MessageType.EXCEPTION })
      server.reply(ping, { result: "pong" })
      assert.include(Buffer.from((yield* Fiber.join(calling)).body).toString("latin1"), "pong")
      assert.strictEqual(connection.status.state, "Open")
      // Once each: what nobody has asked for ends the connection still.
      server.reply(second, { type: MessageType.EXCEPTION })
      yield* until("the connection is closed", () => connection.status.state === "Closed")
      yield* isOver(connection, "ProtocolError")
    }))
})

describe("a server", () => {
  it.live("that dies between frames, inside a frame, or resets, fails the call that it may have run", () =>
    Effect.gen(function*() {
      const deaths: ReadonlyArray<readonly [string, (server: Connected["server"], reply: Uint8Array) => void]> = [
        ["closed the connection", (server) => server.end()],
        ["closed the connection within a reply", (server, reply) => server.socket.end(reply.subarray(0, 3))],
        ["closed the connection within a reply", (server, reply) => server.socket.end(reply.subarray(0, 20))],
        ["ECONNRESET", (server) => server.reset()]
      ]
      for (const [what, die] of deaths) {
        const connection = yield* connected()
        const calling = yield* start(connection.call("ping"))
        die(connection.server, connection.server.bytesOf(yield* connection.server.next, { result: "pong" }))
        const error = yield* failureOf(calling)
        assert.deepStrictEqual([...told(error), error.retryable], ["ConnectionClosed", "maybe", false])
        assert.include(error.message, what)
        assert.deepStrictEqual([connection.status.state, connection.status.fault?._tag], ["Closed", "ConnectionClosed"])
      }
    }))

  it.live("that dies after the reply fails nothing, and gives no fault", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* start(connection.call("ping"))
      connection.server.socket.end(connection.server.bytesOf(yield* connection.server.next, { result: "pong" }))
      assert.strictEqual(resultOf(yield* Fiber.join(calling)), "pong")
      yield* until("the connection is closed", () => connection.status.state === "Closed")
      yield* isOver(connection, undefined)
    }))

  it.live.each(["end", "reset"] as const)(
    "that closes an idle connection (%s) is noticed, and has no fault",
    (how) =>
      Effect.gen(function*() {
        const connection = yield* connected()
        connection.server[how]()
        yield* until("the connection is closed", () => connection.status.state === "Closed")
        assert.isUndefined(connection.status.fault)
        assert.strictEqual(transportOf(connection.stack).state.idleClosed, 1)
        const error = yield* Effect.flip(connection.call("ping"))
        assert.deepStrictEqual([...told(error), error.retryable], ["ConnectionClosed", "no", true])
      })
  )

  it.live("that closes an idle connection in the turn of a call: it is noticed before the call is sent", () =>
    Effect.gen(function*() {
      for (let round = 0; round < 20; round++) {
        const { call, server, status } = yield* connected()
        yield* Effect.sleep(10)
        // Closed for the kernel at once; this process has not heard of it
        server.socket.destroy()
        assert.strictEqual(status.state, "Open")
        const error = yield* Effect.flip(call("ping"))
        assert.deepStrictEqual([...told(error), error.retryable], ["ConnectionClosed", "no", true])
        assert.isUndefined(status.fault)
      }
    }))

  it.live("that cannot be connected to is told as such", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      yield* peer.stop
      const { connect } = yield* transport()
      const error = yield* Effect.flip(connect(peer.port))
      assert.deepStrictEqual([...told(error), error._tag === "ConnectFailed" && error.phase], [
        "ConnectFailed",
        "no",
        "connect"
      ])
    }))
})

/** A scripted server behind TLS. */
const secured = (certified: Certificates.Certified) =>
  Effect.gen(function*() {
    const accepted: Array<RawConnection> = []
    const port = yield* Effect.acquireRelease(
      Effect.callback<NodeTls.Server>((resume) => {
        const server = NodeTls.createServer(
          { cert: certified.certificate, key: certified.key },
          (socket) => accepted.push(new RawPeer.RawConnection(socket, {}))
        )
        server.on("tlsClientError", () => {})
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
          for (const { socket } of accepted) socket.destroy()
        })
    ).pipe(Effect.map((server) => (server.address() as Net.AddressInfo).port))
    return { accepted, port }
  })

describe("over TLS", () => {
  it.live("calls are answered, oneway calls complete, and an idle connection may be closed", () =>
    Effect.gen(function*() {
      const authority = Certificates.authority()
      const { accepted, port } = yield* secured(authority.issue())
      const { connect } = yield* transport({ tls: { ca: authority.certificate } })
      const sink = yield* connect(port)
      yield* until("the server has accepted", () => accepted.length === 1)
      const server = accepted[0]!
      const calling = yield* start(sink.send(requestOf("ping", 1), callOf() as never))
      server.reply(yield* server.next, { result: "pong" })
      assert.strictEqual(resultOf(yield* Fiber.join(calling)), "pong")
      yield* sink.send(requestOf("note", 2, { oneway: true }), callOf() as never)
      assert.strictEqual((yield* server.next).name, "note")
      server.end()
      yield* until("the connection is closed", () => sink.status.state === "Closed")
      assert.isUndefined(sink.status.fault)
    }))

  it.live("a server that nobody vouches for is not connected to", () =>
    Effect.gen(function*() {
      const { port } = yield* secured(Certificates.selfSigned())
      const { connect } = yield* transport({ tls: { ca: Certificates.authority().certificate } })
      const error = yield* Effect.flip(connect(port))
      assert.deepStrictEqual([error._tag, error._tag === "ConnectFailed" && error.phase], ["ConnectFailed", "tls"])
      assert.include(error.message, "untrusted issuer")
    }))
})

describe("a transport of many connections", () => {
  it.live("shows the first hundred, and how many more there are", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const { connect, stack } = yield* transport()
      for (let count = 0; count < 103; count++) yield* connect(peer.port)
      const { connections, ...state } = transportOf(stack).state
      assert.lengthOf(connections, 100)
      assert.deepInclude(state, { connectionsLeftOut: 3 } as never)
    }))
})

describe("closing the scope", () => {
  it.live("ends the connection and the call on it", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const { connect, stack } = yield* transport()
      const scope = yield* Scope.make()
      const sink = yield* Scope.provide(connect(peer.port), scope)
      const server = yield* peer.accept
      assert.strictEqual(transportOf(stack).state.connections.length, 1)
      const calling = yield* start(sink.send(requestOf("ping", 1), callOf() as never))
      yield* server.next
      yield* Scope.close(scope, Exit.void)
      const error = yield* failureOf(calling)
      assert.instanceOf(error, ConnectionClosed)
      assert.strictEqual(error.reached, "maybe")
      yield* server.ended
      assert.strictEqual(transportOf(stack).state.connections.length, 0)
    }))
})

describe("options", () => {
  it.live("are shown, with the state of each connection", () =>
    Effect.gen(function*() {
      const { call, server, stack } = yield* connected({ framing: "buffered", protocol: Protocols.compact })
      yield* start(call("ping"))
      yield* server.next
      const { options, state } = transportOf(stack)
      assert.deepInclude(options, {
        framing: { value: "buffered", from: "given" },
        protocol: { value: "compact", from: "given" },
        connectTimeout: { value: "1000 ms", from: "default" }
      })
      assert.deepInclude(state, { calls: 1, abandoned: 0, protocolErrors: 0 })
      assert.deepInclude(state.connections[0], { state: "Open", busy: true, upgraded: false })
    }))

  it.effect("that are wrong fail the build, by name", () =>
    Effect.gen(function*() {
      const refused: ReadonlyArray<readonly [ThriftTransport.ThriftTransportOptions, string]> = [
        [{ connectTimeout: 0 }, "connectTimeout"],
        [{ framing: "frames" as never }, "framing"],
        [{ framing: "buffered", protocol: { ...Protocols.binary, name: "own" } }, "framing"],
        [{ limits: { maxMessageBytes: -1 } }, "limits.maxMessageBytes"],
        [{ tls: { serverName: "" } }, "tls.serverName"],
        [{ framing: "buffered", upgrade: true }, "upgrade"]
      ]
      for (const [options, name] of refused) {
        const error = yield* Effect.flip(Effect.scoped(transport(options)))
        assert.deepStrictEqual([error._tag, error.option], ["InvalidOption", name])
      }
    }))
})
