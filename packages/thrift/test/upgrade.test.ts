// Twitter's upgrade, from the client's side: the bytes of Finagle's own structs, and servers that know it, do not, or misbehave.
import {
  beginAttempt,
  CallContext,
  ClientId,
  type ContextKey,
  Destination,
  Direct,
  Dtab,
  Endpoint,
  textKey,
  Trace
} from "@scales-rpc/core"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber } from "effect"
import { UpgradeCodec, upgradeMethod } from "../src/internal/UpgradeCodec.ts"
import { BinaryReader, MessageType, type Protocol, Protocols, ThriftEncodeError, Type } from "../src/index.ts"
import { type RawConnection, RawPeer } from "../src/testing/index.ts"
import { callOf, failureOf, requestOf, start, transport, transportOf, until } from "./wire.ts"

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex")
const endpoint = Endpoint.tcp("h", 1)

/** Random numbers whose first two make the id 0x1112131415161718. */
const ids = () => {
  const halves = [0x11121314, 0x15161718]
  return () => (halves.shift() ?? 0) / 2 ** 32
}

const codec = (protocol: Protocol = Protocols.binary, clientId?: string) =>
  new UpgradeCodec(protocol.writer(), clientId, ids())

const attempt = (context: CallContext, deadline = Infinity) =>
  beginAttempt(callOf({ context, deadline }), endpoint, () => 0)

/** Every field of a header. */
const everything = CallContext.empty
  .with(Trace, {
    traceId: 0x0102030405060708n,
    traceIdHigh: 0x3132333435363738n,
    spanId: 0x2122232425262728n,
    parentId: 9n,
    flags: 7n
  })
  .with(textKey("k"), "v")
  .with(ClientId, "web")
  .with(Destination, "/s/echo")
  .with(Dtab, [{ prefix: "/a", tree: "/b" }])

const text = (value: string) => Buffer.from(value).toString("hex")

/** A context as the binary protocol has it. */
const context = (key: string, value: string) => {
  const length = (bytes: number) => bytes.toString(16).padStart(8, "0")
  return `0b0001${length(key.length)}${text(key)}0b0002${length(value.length / 2)}${value}00`
}

/** The contexts of `everything`. */
const traceContext = context(
  "com.twitter.finagle.tracing.TraceContext",
  ["1112131415161718", "2122232425262728", "0102030405060708", "0000000000000007", "3132333435363738"].join("")
)
const otherContexts = context("com.twitter.finagle.Retries", "00000000") + context("k", "76") +
  context("com.twitter.finagle.thrift.ClientIdContext", text("web"))

describe("the bytes", () => {
  // From Finagle 22.7's classes, over Apache's TBinaryProtocol and TCompactProtocol
  it("of the question are Finagle's", () => {
    assert.strictEqual(
      hex(codec().offer()),
      "800100010000001b5f5f63616e5f5f66696e61676c655f5f74726163655f5f76335f5f0000000000"
    )
    assert.strictEqual(
      hex(codec(Protocols.compact).offer()),
      "8221001b5f5f63616e5f5f66696e61676c655f5f74726163655f5f76335f5f00"
    )
  })

  it("of a request's header are Finagle's, with its trace among the contexts", () => {
    assert.strictEqual(
      hex(codec().requestHeader(attempt(everything), 0)),
      "0a000101020304050607080a000211121314151617180a00032122232425262728020005010c00060b000100000003776562000a0007" +
        "00000000000000010f00080c00000004" + traceContext + otherContexts +
        "0b0009000000072f732f6563686f0f000a0c000000010b0001000000022f610b0002000000022f62000a000b313233343536373800"
    )
  })

  it("of a header are readable in every protocol, and what comes behind it begins where it ends", () => {
    for (const protocol of [Protocols.binary, Protocols.compact, Protocols.json]) {
      const header = codec(protocol).requestHeader(attempt(everything), 0)
      const { body } = requestOf("ping", 1, { protocol })
      const rest = codec(protocol).replyBody(protocol.reader(), Buffer.concat([header, body]))
      assert.strictEqual(hex(rest), hex(body))
    }
  })

  it("of a header without a trace begin one, and a span of its own for each attempt", () => {
    const reader = new BinaryReader()
    const read = (bytes: Uint8Array) => {
      const fields: Record<number, bigint> = {}
      reader.reset(bytes).readStructBegin()
      for (let field = reader.readFieldBegin(); field.ftype !== Type.STOP; field = reader.readFieldBegin()) {
        if (field.ftype === Type.I64) {
          const { buffer, offset } = reader.readI64()
          fields[field.fid] = Buffer.from(buffer).readBigInt64BE(offset)
        } else reader.skip(field.ftype)
      }
      return fields
    }
    let next = 0.25
    const own = new UpgradeCodec(Protocols.binary.writer(), undefined, () => (next += 0.01))
    const [first, second] = [0, 0].map(() => read(own.requestHeader(attempt(CallContext.empty), 0)))
    assert.deepStrictEqual(Object.keys(first!), ["1", "2", "7"])
    assert.strictEqual(first![1], first![2])
    assert.strictEqual(first![7], 0n)
    assert.notStrictEqual(first![1], second![1])
  })

  it("of a deadline are nanoseconds, and its client id beats that of the context", () => {
    const header = codec(Protocols.binary, "me").requestHeader(
      attempt(everything, 1_700_000_001_000),
      1_700_000_000_000
    )
    const nanos = Buffer.alloc(16)
    nanos.writeBigInt64BE(1_700_000_000_000_000_000n, 0)
    nanos.writeBigInt64BE(1_700_000_001_000_000_000n, 8)
    assert.include(hex(header), text("com.twitter.finagle.Deadline") + "0b000200000010" + hex(nanos))
    assert.include(hex(header), "0c00060b0001000000026d6500")
    assert.notInclude(hex(header), text("web"))
  })

  it("of a reply's header are skipped, contexts and all", () => {
    const contexts = "0f00020c00000003" + otherContexts + "00"
    for (const header of ["00", contexts]) {
      const body = codec().replyBody(new BinaryReader(), Buffer.from(`${header}80010002`, "hex"))
      assert.strictEqual(hex(body), "80010002")
    }
  })
})

/** Connects with the upgrade; gives what comes of it and the server's end. */
const connecting = (upgrade: { readonly clientId?: string } | true = true, connectTimeout = 1000) =>
  Effect.gen(function*() {
    const peer = yield* RawPeer.listen()
    const { connect, stack } = yield* transport({ upgrade, connectTimeout })
    const fiber = yield* start(connect(peer.port))
    const server = yield* peer.accept
    const send = (sink: Effect.Success<ReturnType<typeof connect>>, sequenceId: number, context = CallContext.empty) =>
      sink.send(requestOf("ping", sequenceId), beginAttempt(callOf({ context }), endpoint, stack.now))
    return { fiber, server, stack, send }
  })

describe("a server", () => {
  it.live("that knows it gets a header before each request, and puts one before each reply", () =>
    Effect.gen(function*() {
      const { fiber, send, server, stack } = yield* connecting({ clientId: "web" })
      const question = yield* server.next
      assert.deepStrictEqual([question.name, question.type, question.sequenceId], [upgradeMethod, MessageType.CALL, 0])
      // From now on a frame is no message of its own
      const frames: Array<Buffer> = []
      server.socket.removeAllListeners("data")
      server.socket.on("data", (chunk) => frames.push(chunk))
      assert.isUndefined(fiber.pollUnsafe())
      server.reply(question)
      const sink = yield* Fiber.join(fiber)
      for (const sequenceId of [1, 2]) {
        const calling = yield* start(send(sink, sequenceId, everything))
        yield* until("it is sent", () => frames.length === sequenceId)
        const frame = frames[sequenceId - 1]!
        assert.strictEqual(frame.readInt32BE(0), frame.length - 4)
        const { body } = requestOf("ping", sequenceId)
        assert.strictEqual(hex(frame).slice(-2 * body.length), hex(body))
        assert.include(hex(frame), "0c00060b00010000000377656200")
        const reply = Buffer.from(
          server.bytesOf({ name: "ping", type: 1, sequenceId, body }, { result: "pong" }).subarray(4)
        )
        server.write(Buffer.concat([Buffer.from([0, 0, 0, reply.length + 1, 0]), reply]))
        assert.strictEqual(hex((yield* Fiber.join(calling)).body), hex(reply))
      }
      assert.deepInclude(transportOf(stack).state, { upgrades: 1 })
      assert.deepInclude(transportOf(stack).state.connections[0], { upgraded: true })
    }))

  it.live("hears nothing of a request whose context cannot be written: it ends alone, whatever way it came", () =>
    Effect.gen(function*() {
      const { fiber, send, server, stack } = yield* connecting()
      const question = yield* server.next
      server.reply(question)
      const sink = yield* Fiber.join(fiber)
      server.socket.removeAllListeners("data")
      server.socket.on("data", () => assert.fail("the server was sent something"))
      const bad = CallContext.empty.with(
        {
          id: "bad",
          encode: () => {
            throw new RangeError("a bug")
          }
        } satisfies ContextKey<number>,
        1
      )
      const direct = Direct.throughEndpoint(sink)!
      const ways: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
        send(sink, 1, bad),
        Effect.callback<unknown, unknown>((resume) =>
          direct.send(requestOf("ping", 1), beginAttempt(callOf({ context: bad }), endpoint, stack.now), resume)
        )
      ]
      // Idle for some time, a connection is looked at first, and the request goes in a later turn.
      for (const idleMillis of [0, 20]) {
        for (const way of ways) {
          yield* Effect.sleep(idleMillis)
          const exit = yield* Effect.exit(way)
          assert.isTrue(Exit.isFailure(exit) && Cause.squash(exit.cause) instanceof RangeError)
          assert.isTrue(direct.ready())
          assert.deepInclude(transportOf(stack).state.connections[0], { busy: false })
        }
      }
    }))

  it.live("that does not know it is spoken to plainly", () =>
    Effect.gen(function*() {
      const { fiber, send, server, stack } = yield* connecting()
      const question = yield* server.next
      server.reply(question, { type: MessageType.EXCEPTION })
      const sink = yield* Fiber.join(fiber)
      const calling = yield* start(send(sink, 1, everything))
      const message = yield* server.next
      assert.strictEqual(hex(message.body), hex(requestOf("ping", 1).body))
      server.reply(message, { result: "pong" })
      yield* Fiber.join(calling)
      assert.deepInclude(transportOf(stack).state, { upgrades: 0 })
    }))

  const wrong: ReadonlyArray<readonly [string, (server: RawConnection) => void]> = [
    ["says nothing", () => {}],
    ["closes the connection", (server) => server.end()],
    ["answers for another method", (server) => server.reply({ ...server.received[0]!, name: "pong" })],
    ["answers with garbage", (server) => server.write("0000000401020304")],
    ["answers with a length that is none", (server) => server.write("ffffffff")],
    ["answers twice at once", (server) => {
      const reply = server.bytesOf(server.received[0]!)
      server.write(Buffer.concat([reply, reply]))
    }]
  ]
  it.live.each(wrong)("that %s fails the connection", ([, answer]) =>
    Effect.gen(function*() {
      const { fiber, server, stack } = yield* connecting(true, 100)
      yield* server.next
      answer!(server)
      const error = yield* failureOf(fiber)
      assert.deepStrictEqual([error._tag, error._tag === "ConnectFailed" && error.phase, error.reached], [
        "ConnectFailed",
        "handshake",
        "no"
      ])
      yield* server.ended
      assert.strictEqual(transportOf(stack).state.connections.length, 0)
    }))

  it.live("that has answered has no time limit any more", () =>
    Effect.gen(function*() {
      const { fiber, server } = yield* connecting(true, 30)
      server.reply(yield* server.next)
      const sink = yield* Fiber.join(fiber)
      yield* Effect.sleep(60)
      assert.strictEqual(sink.status.state, "Open")
    }))

  it.live("whose reply has a header that is none fails the call", () =>
    Effect.gen(function*() {
      const { fiber, send, server } = yield* connecting()
      const question = yield* server.next
      server.reply(question)
      const sink = yield* Fiber.join(fiber)
      const calling = yield* start(send(sink, 1))
      yield* until("it is sent", () => server.chunks === 2)
      server.write("0000000105")
      assert.strictEqual((yield* failureOf(calling))._tag, "ProtocolError")
      assert.strictEqual(sink.status.state, "Closed")
    }))
})

describe("a call", () => {
  it.live("whose header cannot be written fails, and leaves the connection as it was", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const { connect, stack } = yield* transport({ upgrade: true, limits: { maxMessageBytes: 500 } })
      const fiber = yield* start(connect(peer.port))
      const server = yield* peer.accept
      server.reply(yield* server.next)
      const sink = yield* Fiber.join(fiber)
      const context = CallContext.empty.with(Destination, `/${"x".repeat(600)}`)
      const error = yield* Effect.flip(
        sink.send(requestOf("ping", 1), beginAttempt(callOf({ context }), endpoint, stack.now))
      )
      assert.deepStrictEqual([error._tag, error.reached], ["Unsendable", "no"])
      assert.instanceOf(error._tag === "Unsendable" && error.cause, ThriftEncodeError)
      assert.strictEqual(sink.status.state, "Open")
    }))
})
