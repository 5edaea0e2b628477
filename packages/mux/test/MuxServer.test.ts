import { assert, describe, it } from "@effect/vitest"
import { ClientId, InvalidOption, RequestHeaders, Rpc, Trace } from "@scales-rpc/core"
import {
  decodeHeaders,
  encodeDeadline,
  encodeHeaders,
  ErrorReply,
  type Handler,
  ListenFailed,
  type Message,
  MuxFailure,
  muxFailureOf,
  MuxServer,
  type MuxServerOptions,
  type MuxServerRequest,
  type MuxServerShape,
  Nack
} from "@scales-rpc/mux"
import { type RawConnection, RawPeer } from "@scales-rpc/mux/testing"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Logger, Queue, References, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { fragments, fromHex, none, random, replyFragments, toHex, utf8 } from "./vectors.ts"

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

const request = (tag: number, body: string | Uint8Array = "hi", contexts: ReadonlyArray<Message.Pair> = []) =>
  ({
    _tag: "Tdispatch",
    tag,
    contexts,
    destination: "",
    dtab: [],
    body: typeof body === "string" ? utf8(body) : body
  }) satisfies Message.Tdispatch

const discard = (which: number, why = "timeout") =>
  ({ _tag: "Tdiscarded", tag: 0, which, why }) satisfies Message.Tdiscarded

const echo: Handler<never, never> = ({ body }) => Effect.succeed({ body })

/** A server, which may have a scope of its own, and a client that has done its handshake. */
const open = <E, R>(handler: Handler<E, R>, options?: MuxServerOptions, serverScope?: Scope.Scope) =>
  Effect.gen(function*() {
    const server = yield* MuxServer.make(handler, options).pipe(
      serverScope === undefined ? (self) => self : Scope.provide(serverScope)
    )
    const client = yield* RawPeer.connect(server.address)
    yield* client.offerHandshake()
    return { server, client }
  })

/** Sends a request and gives its answer. */
const call = (client: RawConnection, message: Message.Tdispatch | Message.Treq) =>
  Effect.suspend(() => {
    client.send(message)
    return client.next()
  })

/** A handler whose requests wait until they are told to answer, and which notes what became of them. */
const held = () => {
  const requests = Effect.runSync(Queue.unbounded<MuxServerRequest>())
  const interrupted = Effect.runSync(Queue.unbounded<MuxServerRequest>())
  const gate = Deferred.makeUnsafe<void>()
  const handler: Handler<never, never> = (request) =>
    Effect.suspend(() => {
      Queue.offerUnsafe(requests, request)
      return Effect.as(Deferred.await(gate), { body: request.body })
    }).pipe(Effect.onInterrupt(() => Queue.offer(interrupted, request)))
  return {
    handler,
    next: Queue.take(requests),
    interrupted: Queue.take(interrupted),
    release: Deferred.succeed(gate, void 0)
  }
}

const assertIdle = (server: MuxServerShape) => {
  assert.strictEqual(server.outstanding(), 0)
  for (const session of server.sessions()) assert.strictEqual(session.outstanding, 0)
}

/** Whether anything listens. */
const reachable = (port: number) =>
  Effect.callback<boolean>((resume) => {
    const socket = Net.connect({ host: "127.0.0.1", port })
    socket.once("connect", () => {
      socket.destroy()
      resume(Effect.succeed(true))
    })
    socket.once("error", () => resume(Effect.succeed(false)))
  })

describe("MuxServer", () => {
  it.effect("serves requests on a port it has chosen", () =>
    Effect.gen(function*() {
      const { client, server } = yield* open(echo)
      assert.strictEqual(server.uri, `tcp://127.0.0.1:${server.address.port}`)
      const reply = yield* call(client, request(2, "hello"))
      assert.deepStrictEqual(reply, { _tag: "Rdispatch", tag: 2, status: 0, contexts: [], body: utf8("hello") })
      assert.strictEqual(server.sessions()[0]!.peer, `127.0.0.1:${client.socket.localPort}`)
      assert.strictEqual(server.counts.requests, 1)
      assertIdle(server)
    }))

  it.effect("serves requests on a Unix socket", () =>
    Effect.gen(function*() {
      const path = Path.join(Os.tmpdir(), `mux-server-${process.pid}.sock`)
      const server = yield* MuxServer.make(echo, { path })
      assert.strictEqual(server.uri, `unix://${path}`)
      const client = yield* RawPeer.connect({ path })
      assert.strictEqual((yield* call(client, request(2)))._tag, "Rdispatch")
      server.sessions()[0]!.destroy()
      yield* client.ended
    }))

  it.effect("offers its window, cuts replies to the client's, and holds to its limits", () =>
    Effect.gen(function*() {
      const server = yield* MuxServer.make(() => Effect.succeed({ body: utf8("x".repeat(20)) }), {
        window: 5,
        limits: { messageBytes: 64 }
      })
      const client = yield* RawPeer.connect(server.address)
      yield* client.offerHandshake(8)
      for (const fragment of fragments) client.write(fragment)
      yield* client.next("Rdispatch")
      assert.deepStrictEqual(client.frames.slice(1), [
        "0000002abc00000100010000000a6d75782d6672616d6572000000040000000500000003746c73000000036f6666",
        ...replyFragments
      ])
      client.send(request(2, new Uint8Array(64)))
      yield* client.ended
      assert.strictEqual(server.counts.undecodable, 1)
    }))

  it.effect("is a layer, whose handler may need services", () => {
    class Greeting extends Context.Service<Greeting, string>()("test/Greeting") {}
    return Effect.gen(function*() {
      const { address } = yield* MuxServer
      const client = yield* RawPeer.connect(address)
      assert.strictEqual(text((yield* call(client, request(2)) as Effect.Effect<Message.Rdispatch>).body), "hello")
    }).pipe(
      Effect.scoped,
      Effect.provide(
        MuxServer.layer(() => Effect.map(Greeting, (greeting) => ({ body: utf8(greeting) }))).pipe(
          Layer.provide(Layer.succeed(Greeting, "hello"))
        )
      )
    )
  })

  it.effect("fails when it cannot listen, and when an option is out of range", () =>
    Effect.gen(function*() {
      const { port } = yield* RawPeer.listen()
      const taken = yield* Effect.flip(MuxServer.make(echo, { port }))
      assert.instanceOf(taken, ListenFailed)
      assert.strictEqual(taken.address, `127.0.0.1:${port}`)
      for (
        const options of [
          { window: 0 },
          { port: 65536 },
          { maxConcurrent: -1 },
          { maxSessions: 0.5 },
          { drainTimeout: "forever" as never },
          { limits: { contexts: -1 } }
        ]
      ) assert.instanceOf(yield* Effect.flip(MuxServer.make(echo, options)), InvalidOption)
    }))

  it.effect("runs requests at once, and answers them as they end", () =>
    Effect.gen(function*() {
      const gates = new Map<string, Deferred.Deferred<void>>()
      const { client, server } = yield* open(({ body }) =>
        Effect.suspend(() => {
          const gate = Deferred.makeUnsafe<void>()
          gates.set(text(body), gate)
          return Effect.as(Deferred.await(gate), { body })
        })
      )
      client.send(request(2, "a"), request(3, "b"), { _tag: "Tping", tag: 1 })
      yield* client.next("Rping")
      assert.strictEqual(server.outstanding(), 2)
      assert.strictEqual(server.sessions()[0]!.outstanding, 2)
      yield* Deferred.succeed(gates.get("b")!, void 0)
      assert.strictEqual((yield* client.next()).tag, 3)
      yield* Deferred.succeed(gates.get("a")!, void 0)
      assert.strictEqual((yield* client.next()).tag, 2)
      assertIdle(server)
    }))
})

describe("how a handler's end reaches the client", () => {
  const outcomes: Record<string, Effect.Effect<{ readonly body: Uint8Array }, unknown>> = {
    nack: Effect.fail(new Nack({})),
    plain: Effect.fail(new Nack({ flags: 0 })),
    because: Effect.fail(new Nack({ why: "full" })),
    flags: Effect.fail(
      new ErrorReply({
        why: "Failure(no, flags=0x10) with Service ->  with AppId -> vm",
        flags: MuxFailure.NonRetryable
      })
    ),
    final: Effect.fail(new ErrorReply({ why: "no", flags: MuxFailure.NonRetryable | MuxFailure.Rejected })),
    panda: Effect.fail("java.lang.Exception: sad panda"),
    boom: Effect.fail("java.lang.Exception: boom"),
    error: Effect.fail(new TypeError("of its own")),
    tagged: Effect.fail({ _tag: "Odd" }),
    defect: Effect.die(new RangeError("broke")),
    interrupted: Effect.interrupt,
    contexts: Effect.succeed({ body: none, contexts: [[new Uint8Array(32768), none]] })
  }
  const handler: Handler<unknown, never> = ({ body }) =>
    outcomes[text(body)] ?? (() => {
      throw new Error("thrown")
    })()

  /** The frame of the answer, in hexadecimal. */
  const answerTo = (body: string, treq = false) =>
    Effect.gen(function*() {
      const { client, server } = yield* open(handler)
      const before = client.frames.length
      yield* call(
        client,
        treq ? { _tag: "Treq", tag: 2, trace: undefined, body: utf8(body) } : request(2, body)
      )
      assertIdle(server)
      return client.frames[before]!
    }).pipe(Effect.provide(Logger.layer([])))

  for (
    const [body, frame] of [
      ["nack", "0000001dfe000002020001000a4d75784661696c75726500080000000000000003"],
      ["plain", "00000007fe000002020000"],
      [
        "flags",
        "00000056fe000002010001000a4d75784661696c757265000800000000000000044661696c757265286e6f2c20666c6167733d3078313029" +
        "20776974682053657276696365202d3e202077697468204170704964202d3e20766d"
      ],
      ["panda", "00000025fe0000020100006a6176612e6c616e672e457863657074696f6e3a207361642070616e6461"]
    ] as const
  ) {
    it.effect(`${body}, byte for byte as Finagle`, () =>
      Effect.map(answerTo(body), (answer) => assert.strictEqual(answer, frame)))
  }

  it.effect("and a defect to the log", () =>
    Effect.gen(function*() {
      const logged: Array<readonly [string, unknown, Readonly<Record<string, unknown>>]> = []
      const logger = Logger.make(({ fiber, logLevel, message }) => {
        logged.push([logLevel, message, fiber.getRef(References.CurrentLogAnnotations)])
      })
      yield* Effect.gen(function*() {
        const { client } = yield* open(handler)
        yield* call(client, request(2, "error"))
        yield* call(client, request(2, "defect"))
      }).pipe(Effect.provide(Logger.layer([logger])))
      const died = logged.filter(([level]) => level === "Error")
      assert.strictEqual(died.length, 1)
      const [, message, annotations] = died[0]!
      assert.deepStrictEqual(message, ["a handler died"])
      assert.strictEqual(annotations["server"], "mux")
      assert.match(String(annotations["cause"]), /RangeError: broke/)
    }))

  it.effect("to a Treq, without flags", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* answerTo("nack", true), "00000005ff00000202")
      assert.strictEqual(
        yield* answerTo("boom", true),
        "0000001eff000002016a6176612e6c616e672e457863657074696f6e3a20626f6f6d"
      )
    }))

  for (
    const [body, status, why, flags] of [
      ["because", 2, "full", 3],
      ["final", 1, "no", 6],
      ["error", 1, "TypeError: of its own", undefined],
      ["tagged", 1, "Odd", undefined],
      ["defect", 1, "RangeError: broke", undefined],
      ["interrupted", 1, "interrupted", undefined],
      ["throws", 1, "Error: thrown", undefined],
      [
        "contexts",
        1,
        "MuxEncodeError: bytes of a context key: 32768, at most 32767",
        undefined
      ]
    ] as const
  ) {
    it.effect(`${body}, as status ${status} with its text`, () =>
      Effect.gen(function*() {
        const { client } = yield* open(handler)
        const reply = (yield* call(client, request(2, body))) as Message.Rdispatch
        assert.strictEqual(reply.status, status)
        assert.strictEqual(text(reply.body), why)
        assert.strictEqual(muxFailureOf(reply.contexts), flags)
      }).pipe(Effect.provide(Logger.layer([]))))
  }
})

describe("what a handler is told", () => {
  it.effect("is the request with its contexts, and the calls it makes inherit what is for more than one hop", () =>
    Effect.gen(function*() {
      const seen: Array<unknown> = []
      const { client } = yield* open((request) =>
        Effect.gen(function*() {
          const inbound = yield* Rpc.Inbound
          const settings = yield* Rpc.CallSettings
          assert.strictEqual(inbound, request)
          seen.push(
            request.context.get(ClientId),
            request.context.get(RequestHeaders),
            request.destination,
            request.dtab,
            request.deadline,
            settings.deadline,
            settings.context.get(ClientId),
            settings.context.get(Trace),
            (yield* Effect.currentParentSpan).traceId
          )
          inbound!.setReplyHeaders([["served-by", "test"]])
          return { body: none, contexts: [[utf8("own"), utf8("context")]] }
        })
      )
      const contexts: ReadonlyArray<Message.Pair> = [
        [utf8("com.twitter.finagle.thrift.ClientIdContext"), utf8("test.devel")],
        [
          utf8("com.twitter.finagle.tracing.TraceContext"),
          fromHex("0000000000000001000000000000000200000000000000030000000000000006")
        ],
        [utf8("com.twitter.finagle.Deadline"), encodeDeadline({ timestamp: 0, deadline: 5000 })],
        [utf8("com.twitter.finagle.thrift.Request.headers"), encodeHeaders([["a", "b"]]).bytes]
      ]
      client.send({
        ...request(2, "", contexts),
        destination: "/svc",
        dtab: [{ prefix: "/a", tree: "/b" }]
      })
      const reply = yield* client.next("Rdispatch")
      assert.deepStrictEqual(seen, [
        "test.devel",
        [["a", "b"]],
        "/svc",
        [{ prefix: "/a", tree: "/b" }],
        5000,
        5000,
        undefined,
        undefined,
        "00000000000000000000000000000003"
      ])
      assert.deepStrictEqual(reply.contexts.map(([key]) => text(key)), [
        "own",
        "com.twitter.finagle.thrift.Response.headers"
      ])
      assert.deepStrictEqual(decodeHeaders(reply.contexts[1]![1]), [["served-by", "test"]])
    }))

  it.effect("is the trace of a Treq", () =>
    Effect.gen(function*() {
      const { client } = yield* open(({ context }) =>
        Effect.succeed({ body: utf8(String(context.get(Trace)?.traceId)) })
      )
      const trace = { spanId: 1n, parentId: 2n, traceId: 3n, flags: 0 }
      const reply = yield* call(client, { _tag: "Treq", tag: 2, trace, body: none })
      assert.strictEqual(text((reply as Message.Rreq).body), "3")
    }))

  it.effect("is nothing of a request whose deadline has passed: it is refused, for good", () =>
    Effect.gen(function*() {
      let ran = 0
      const { client, server } = yield* open(({ deadline }) => {
        ran++
        return Effect.succeed({ body: utf8(String(deadline)) })
      })
      yield* TestClock.adjust(1000)
      const until = (deadline: number): ReadonlyArray<Message.Pair> => [
        [utf8("COM.twitter.finagle.DEADLINE"), encodeDeadline({ timestamp: 0, deadline })]
      ]
      const late = (yield* call(client, request(2, "", until(999)))) as Message.Rdispatch
      assert.strictEqual(late.status, 1)
      assert.strictEqual(text(late.body), "deadline exceeded by 1 ms, not executed")
      assert.strictEqual(muxFailureOf(late.contexts), MuxFailure.Rejected | MuxFailure.NonRetryable)
      assert.strictEqual(ran, 0)
      assert.strictEqual(server.counts.expired, 1)
      const intime = (yield* call(client, request(2, "", until(1000)))) as Message.Rdispatch
      assert.strictEqual(text(intime.body), "1000")
      const malformed = yield* call(client, request(2, "", [[utf8("com.twitter.finagle.Deadline"), fromHex("010203")]]))
      assert.strictEqual(text((malformed as Message.Rdispatch).body), "Infinity")
    }))
})

describe("what interrupts a handler", () => {
  it.effect("a discard, which is answered", () =>
    Effect.gen(function*() {
      const { handler, interrupted, next } = held()
      const { client, server } = yield* open(handler)
      client.send(request(2))
      yield* next
      client.send(discard(2, "gone"))
      assert.deepStrictEqual(yield* client.next(), { _tag: "Rdiscarded", tag: 2 })
      assert.deepStrictEqual((yield* interrupted).interruption, { _tag: "Discarded", why: "gone" })
      assertIdle(server)
    }))

  it.effect("a discard, although a handler that cannot be interrupted runs on; its answer goes nowhere", () =>
    Effect.gen(function*() {
      const { handler, next, release } = held()
      const { client, server } = yield* open((request) => Effect.uninterruptible(handler(request)))
      client.send(request(2, "first"))
      yield* next
      client.send(discard(2), request(2, "second"))
      assert.strictEqual((yield* client.next())._tag, "Rdiscarded")
      yield* next
      assert.strictEqual(server.outstanding(), 2)
      assert.strictEqual(server.sessions()[0]!.outstanding, 1)
      yield* release
      assert.strictEqual(text((yield* client.next("Rdispatch")).body), "second")
      client.send({ _tag: "Tping", tag: 1 })
      assert.strictEqual((yield* client.next())._tag, "Rping")
      assertIdle(server)
    }))

  for (const how of ["reset", "end"] as const) {
    it.effect(`the end of its connection by ${how}`, () =>
      Effect.gen(function*() {
        const { handler, interrupted, next } = held()
        const { client, server } = yield* open(handler)
        client.send(request(2))
        yield* next
        client[how]()
        assert.strictEqual((yield* interrupted).interruption!._tag, "ConnectionLost")
        yield* client.ended
        assertIdle(server)
      }))
  }

  it.effect("the end of its client's half, although the client reads no replies", () =>
    Effect.gen(function*() {
      const { handler, interrupted, next } = held()
      const { client, server } = yield* open((request) =>
        request.body.length === 0 ? Effect.succeed({ body: new Uint8Array(16 << 20) }) : handler(request)
      )
      client.pause()
      client.send(request(2, ""), request(3))
      yield* next
      client.end()
      assert.strictEqual((yield* interrupted).interruption!._tag, "ConnectionLost")
      assertIdle(server)
    }))

  it.effect("a tag used twice", () =>
    Effect.gen(function*() {
      const { handler, interrupted, next } = held()
      const { client, server } = yield* open(handler)
      client.send(request(2), request(2))
      yield* next
      assert.strictEqual((yield* client.next("Rerr")).why, "Received duplicate tag 2 from client.")
      assert.deepStrictEqual((yield* interrupted).interruption, { _tag: "DuplicateTag", tag: 2 })
      yield* client.ended
      assert.strictEqual(server.counts.duplicateTags, 1)
    }))

  it.effect("garbage, after which the connection ends without a word", () =>
    Effect.gen(function*() {
      for (const garbage of ["0000000403000002", "7fffffff", "00000003ffffff", toHex(utf8("GET / HTTP/1.1\r\n\r\n"))]) {
        const { handler, interrupted, next } = held()
        const { client, server } = yield* open(handler)
        client.send(request(2))
        yield* next
        const before = client.frames.length
        client.write(garbage)
        yield* client.ended
        assert.strictEqual(client.frames.length, before)
        assert.strictEqual((yield* interrupted).interruption!._tag, "ConnectionLost")
        assert.strictEqual(server.counts.undecodable, 1)
        assertIdle(server)
      }
    }))
})

describe("what a server refuses", () => {
  it.effect("requests over maxConcurrent, with a nack that may be tried elsewhere", () =>
    Effect.gen(function*() {
      const { handler, next, release } = held()
      const { client, server } = yield* open(handler, { maxConcurrent: 1 })
      client.send(request(2))
      yield* next
      const before = client.frames.length
      yield* call(client, request(3))
      assert.strictEqual(
        client.frames[before],
        "0000001dfe000003020001000a4d75784661696c75726500080000000000000003"
      )
      assert.strictEqual(server.counts.concurrencyNacks, 1)
      yield* release
      assert.strictEqual((yield* client.next()).tag, 2)
      client.send(request(3))
      yield* next
      assert.strictEqual(((yield* client.next()) as Message.Rdispatch).status, 0)
    }))

  it.effect("every request of a session over maxSessions, which is drained after 10 s", () =>
    Effect.gen(function*() {
      const { client, server } = yield* open(echo, { maxSessions: 1 })
      const second = yield* RawPeer.connect(server.address)
      yield* second.offerHandshake()
      assert.strictEqual(((yield* call(second, request(2))) as Message.Rdispatch).status, 2)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* second.next())._tag, "Tdrain")
      assert.strictEqual(((yield* call(second, request(2))) as Message.Rdispatch).status, 2)
      assert.strictEqual(server.counts.refusals, 2)
      assert.strictEqual(((yield* call(client, request(2))) as Message.Rdispatch).status, 0)
      client.end()
      yield* client.ended
      const third = yield* RawPeer.connect(server.address)
      yield* third.offerHandshake()
      assert.strictEqual(((yield* call(third, request(2))) as Message.Rdispatch).status, 0)
      second.send({ _tag: "Rdrain", tag: 1 })
      yield* second.ended
    }))
})

describe("closing a server", () => {
  it.effect("drains: requests that run are answered, and nothing is left", () =>
    Effect.gen(function*() {
      const { handler, next, release } = held()
      const scope = yield* Scope.make()
      const { client, server } = yield* open(handler, {}, scope)
      client.send(request(2))
      yield* next
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      assert.strictEqual((yield* client.next())._tag, "Tdrain")
      assert.isFalse(yield* reachable(server.address.port))
      client.send(request(3))
      yield* next
      client.send({ _tag: "Rdrain", tag: 1 }, request(4))
      assert.deepStrictEqual(yield* client.next(), { _tag: "Rdispatch", tag: 4, status: 2, contexts: [], body: none })
      assert.isUndefined(closing.pollUnsafe())
      yield* release
      const answered = [yield* client.next(), yield* client.next()] as ReadonlyArray<Message.Rdispatch>
      assert.deepStrictEqual(answered.map(({ status, tag }) => [tag, status]), [[2, 0], [3, 0]])
      yield* client.ended
      yield* Fiber.join(closing)
      assert.deepStrictEqual(server.sessions(), [])
      assertIdle(server)
    }))

  it.effect("interrupts what still runs when the drain timeout is over", () =>
    Effect.gen(function*() {
      const { handler, interrupted, next } = held()
      const scope = yield* Scope.make()
      const { client, server } = yield* open(handler, { drainTimeout: "3 seconds" }, scope)
      client.send(request(2))
      yield* next
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* client.next("Tdrain")
      yield* TestClock.adjust(2999)
      assert.isUndefined(closing.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.deepStrictEqual((yield* interrupted).interruption, { _tag: "DrainTimeout" })
      yield* client.ended
      yield* Fiber.join(closing)
      assertIdle(server)
    }))

  it.effect("drains also when what it serves in is interrupted", () =>
    Effect.gen(function*() {
      const { handler, interrupted, next } = held()
      const started = Deferred.makeUnsafe<MuxServerShape>()
      const program = yield* MuxServer.make(handler).pipe(
        Effect.tap((server) => Deferred.succeed(started, server)),
        Effect.andThen(Effect.never),
        Effect.scoped,
        Effect.forkChild
      )
      const server = yield* Deferred.await(started)
      const client = yield* RawPeer.connect(server.address)
      yield* client.offerHandshake()
      client.send(request(2))
      yield* next
      const stopping = yield* Effect.forkChild(Fiber.interrupt(program))
      yield* client.next("Tdrain")
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual((yield* interrupted).interruption, { _tag: "DrainTimeout" })
      yield* client.ended
      yield* Fiber.join(stopping)
      assertIdle(server)
    }))

  it.effect("ends sessions that are in their handshake, and those of clients that never agree to drain", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { client, server } = yield* open(echo, { drainTimeout: 100 }, scope)
      const silent = yield* RawPeer.connect(server.address)
      const probing = yield* RawPeer.connect(server.address)
      probing.send({ _tag: "Rerr", tag: 1, why: "tinit check" })
      yield* probing.next("Rerr")
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* probing.ended
      yield* silent.ended
      yield* client.next("Tdrain")
      yield* TestClock.adjust(100)
      yield* client.ended
      yield* Fiber.join(closing)
      assert.isFalse(yield* reachable(server.address.port))
    }))

  it.effect("lets go of a client that does not read", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const asked = Deferred.makeUnsafe<void>()
      const { client } = yield* open(
        () => Effect.as(Deferred.succeed(asked, void 0), { body: new Uint8Array(16 << 20) }),
        { drainTimeout: 100 },
        scope
      )
      client.pause()
      client.send(request(2))
      yield* Deferred.await(asked)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* TestClock.adjust(100)
      yield* Fiber.join(closing)
    }))

  it.effect("waits for a handler that cannot be interrupted", () =>
    Effect.gen(function*() {
      const { handler, next, release } = held()
      const scope = yield* Scope.make()
      const { client } = yield* open((request) => Effect.uninterruptible(handler(request)), { drainTimeout: 0 }, scope)
      client.send(request(2))
      yield* next
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* client.ended
      assert.isUndefined(closing.pollUnsafe())
      yield* release
      yield* Fiber.join(closing)
    }))
})

describe("a server that misbehaves on purpose", () => {
  it.effect("drains one session, and serves the others", () =>
    Effect.gen(function*() {
      const { client, server } = yield* open(echo)
      const other = yield* RawPeer.connect(server.address)
      yield* other.offerHandshake()
      const draining = yield* Effect.forkChild(server.sessions()[0]!.drain())
      assert.strictEqual((yield* client.next())._tag, "Tdrain")
      client.send({ _tag: "Rdrain", tag: 1 })
      yield* client.ended
      yield* Fiber.join(draining)
      assert.strictEqual((yield* call(other, request(2)))._tag, "Rdispatch")
      assert.strictEqual(server.sessions().length, 1)
    }))

  it.effect("leases and pings", () =>
    Effect.gen(function*() {
      const { client, server } = yield* open(echo)
      const session = server.sessions()[0]!
      yield* session.lease("1 second")
      yield* session.lease(0)
      assert.deepStrictEqual(
        [yield* client.next("Tlease"), yield* client.next("Tlease")].map(({ howMuch }) => howMuch),
        [
          1000n,
          0n
        ]
      )
      const ping = yield* Effect.forkChild(session.ping)
      client.send({ _tag: "Rping", tag: (yield* client.next("Tping")).tag })
      assert.isTrue(yield* Fiber.join(ping))
      const unanswered = yield* Effect.forkChild(session.ping)
      yield* client.next("Tping")
      client.end()
      assert.isFalse(yield* Fiber.join(unanswered))
    }))

  it.effect("resets a connection", () =>
    Effect.gen(function*() {
      const { client, server } = yield* open(echo)
      server.sessions()[0]!.destroy()
      yield* client.ended
      assert.strictEqual((client.fault as NodeJS.ErrnoException).code, "ECONNRESET")
    }))
})

describe("a slow reader", () => {
  it.effect("is read from no more while its replies wait, and gets all of them in the end", () =>
    Effect.gen(function*() {
      const body = new Uint8Array(1 << 20).fill(1)
      const { client, server } = yield* open(() => Effect.succeed({ body }))
      client.pause()
      const wanted = 64
      for (let tag = 2; tag < 2 + wanted; tag++) client.send(request(tag, new Uint8Array(100_000)))
      // Every request that is read is answered at once: that some are not read is all there is to see.
      let seen = -1
      while (seen !== server.counts.requests) {
        seen = server.counts.requests
        for (let i = 0; i < 50; i++) yield* Effect.yieldNow
      }
      assert.isBelow(server.counts.requests, wanted)
      client.resume()
      for (let i = 0; i < wanted; i++) {
        const reply = yield* client.next("Rdispatch")
        assert.strictEqual(reply.body.length, body.length)
      }
      assert.strictEqual(server.counts.requests, wanted)
      assertIdle(server)
    }))
})

describe("any clients", () => {
  it.effect("leave nothing behind: no handler runs on, no connection stays", () =>
    Effect.gen(function*() {
      const sockets = () => process.getActiveResourcesInfo().filter((name) => name.startsWith("TCP")).length
      const before = sockets()
      let started = 0
      let ended = 0
      const scope = yield* Scope.make()
      const server = yield* MuxServer.make(({ body }) =>
        Effect.suspend(() => {
          started++
          return body[0] === 0
            ? Effect.never
            : body[0] === 1
            ? Effect.as(Effect.yieldNow, { body })
            : Effect.succeed({ body })
        }).pipe(Effect.ensuring(Effect.sync(() => ended++))), { window: 16 }).pipe(Scope.provide(scope))
      const next = random(4)
      yield* Effect.forEach(Array.from({ length: 12 }, (_, i) => i), (index) =>
        Effect.gen(function*() {
          const client = yield* RawPeer.connect(server.address)
          yield* client.offerHandshake(64)
          for (let step = 0; step < 60; step++) {
            const tag = 2 + step
            client.send(request(tag, Uint8Array.from({ length: 1 + next(300) }, () => next(3))))
            if (next(2) === 0) client.send(discard(2 + next(tag)))
            if (next(20) === 0) yield* Effect.yieldNow
          }
          client.send({ _tag: "Tping", tag: 1 })
          yield* client.next("Rping")
          if (index % 4 === 0) client.reset()
          else if (index % 4 === 1) client.end()
          else if (index % 4 === 2) client.write("00000003")
          if (index % 4 !== 3) yield* client.ended
        }).pipe(Effect.scoped), { concurrency: "unbounded" })
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(closing)
      assert.isAbove(started, 500)
      assert.strictEqual(ended, started)
      assert.deepStrictEqual(server.sessions(), [])
      assertIdle(server)
      assert.isAtMost(sockets(), before)
    }))
})

describe("RawPeer", () => {
  it.effect("scripts a server: connections, frames, handshake, and silence", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const client = yield* RawPeer.connect(peer)
      const connection = yield* peer.accept
      const shaken = yield* Effect.forkChild(client.offerHandshake(64))
      const init = yield* connection.acceptHandshake(32)
      assert.strictEqual(init.version, 1)
      yield* Fiber.join(shaken)
      client.write("0000000441000001")
      assert.deepStrictEqual(yield* connection.next(), { _tag: "Tping", tag: 1 })
      assert.strictEqual(connection.frames.at(-1), "0000000441000001")
      connection.end()
      yield* client.ended
      const exit = yield* Effect.exit(client.next("Tping"))
      assert.match(String(exit), /connection ended while waiting for Tping; came: Rerr Rinit/)
      yield* peer.stop
      assert.isFalse(yield* reachable(peer.port))
      assert.strictEqual(peer.connections.length, 1)
    }))
})
