// One connection of HTTP/1.1 on a real socket: what a response is, and what becomes of a call when its connection does not behave.
import { Abort, ConnectionClosed, Endpoint, RequestHeaders, type RpcError } from "@scales-rpc/core"
import { assert, describe, it, vi } from "@effect/vitest"
import { CallContext } from "@scales-rpc/core"
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import { type HttpRequest, InvalidRequest, RequestBodyFailed } from "../src/index.ts"
import {
  callOf,
  type Connected,
  connected,
  failureOf,
  get,
  sending,
  start,
  textOf,
  told,
  transport,
  transportOf,
  until
} from "./support.ts"
import * as Raw from "./raw.ts"
import { ok } from "./raw.ts"

/** One call, answered with what is written. */
const answered = (connection: Connected, text: string, request: HttpRequest = get("/x")) =>
  Effect.gen(function*() {
    const calling = yield* start(connection.send(request))
    const received = yield* connection.server.request
    connection.server.write(text)
    return { received, response: yield* Fiber.join(calling) }
  })

/** One call, whose request has come. */
const called = (connection: Connected, request: HttpRequest = get("/x"), call = callOf()) =>
  Effect.gen(function*() {
    const calling = yield* start(connection.send(request, call))
    yield* connection.server.request
    return calling
  })

/** The connection is over, for this reason. */
const isOver = ({ server, status }: Connected, fault?: string) =>
  Effect.gen(function*() {
    yield* until("the connection is closed", () => status.state === "Closed")
    assert.strictEqual(status.fault?._tag, fault)
    yield* server.ended
  })

const post = (body: HttpRequest["body"], fields: object = {}): HttpRequest => ({
  ...get("/x"),
  method: "POST",
  body,
  ...fields
})

/** The event loop sees nothing for a while: what comes meanwhile lies unread in the socket. */
const busy = Effect.sync(() => {
  const until = performance.now() + 20
  while (performance.now() < until) {}
})

const utf8 = new TextEncoder()

describe("a call", () => {
  it.live("is answered, one after the other on one connection", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      for (let i = 1; i <= 3; i++) {
        const { received, response } = yield* answered(
          connection,
          ok(`answer ${i}`, "X-One: a", "x-one: b"),
          get(`/${i}?q`)
        )
        assert.strictEqual(received.line, `GET /${i}?q HTTP/1.1`)
        assert.deepStrictEqual([response.status, response.reason, textOf(response)], [200, "OK", `answer ${i}`])
        assert.deepStrictEqual(response.headers, [["x-one", "a"], ["x-one", "b"], ["content-length", "8"]])
        assert.deepStrictEqual([response.truncated, response.trailers], [false, []])
        assert.strictEqual(connection.status.state, "Open")
      }
      assert.deepStrictEqual(connection.ends, ["success", "success", "success"])
      const { connections } = transportOf(connection.stack).state
      assert.deepStrictEqual(connections.map(({ busy, state }) => [state, busy]), [["Open", 0]])
    }))

  it.live("has the endpoint as its host, unless it says another", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const first = yield* answered(connection, ok(""))
      assert.include(first.received.headers, `host: 127.0.0.1:${connection.server.socket.localPort}`)
      const second = yield* answered(connection, ok(""), get("/x", { headers: [["host", "users.example"]] }))
      assert.deepStrictEqual(second.received.headers.filter((header) => header.startsWith("host")), [
        "host: users.example"
      ])
    }))

  it.live("sends the fields that its caller has set for it, and gives back those of the reply", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const context = CallContext.empty.with(RequestHeaders, [["x-tenant", "7"]])
      const reply = { headers: [] as ReadonlyArray<readonly [string, string]> }
      const calling = yield* called(connection, get("/"), callOf({ context, reply }))
      assert.include(connection.server.received, "x-tenant: 7\r\n")
      connection.server.write(ok("", "x-seen: yes"))
      yield* Fiber.join(calling)
      assert.deepStrictEqual(reply.headers, [["x-seen", "yes"], ["content-length", "0"]])
    }))

  it.live("sends a body of bytes with its length", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const { received } = yield* answered(connection, ok(""), post(utf8.encode("hello")))
      assert.include(received.headers, "content-length: 5")
      assert.strictEqual(received.body, "hello")
      const empty = yield* answered(connection, ok(""), post(new Uint8Array(0)))
      assert.include(empty.received.headers, "content-length: 0")
    }))

  it.live("is answered in as many pieces as the server likes", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* called(connection)
      for (
        const byte
          of "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 5\r\n\r\n"
      ) {
        connection.server.write(byte)
        yield* Effect.yieldNow
      }
      const response = yield* Fiber.join(calling)
      assert.strictEqual(textOf(response), "abcde")
      assert.deepStrictEqual(response.trailers, [["x-sum", "5"]])
      assert.strictEqual(connection.status.state, "Open")
    }))

  it.live("is answered after as many 1xx as the server likes", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const { response } = yield* answered(
        connection,
        `HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n${ok("last")}`
      )
      assert.deepStrictEqual([response.status, textOf(response)], [200, "last"])
      assert.deepStrictEqual(response.headers, [["content-length", "4"]])
    }))

  for (const status of [204, 304]) {
    it.live(`that is answered with ${status} has no body, and its connection serves the next`, () =>
      Effect.gen(function*() {
        const connection = yield* connected()
        const { response } = yield* answered(connection, `HTTP/1.1 ${status} X\r\netag: "a"\r\n\r\n`)
        assert.deepStrictEqual([response.status, textOf(response)], [status, ""])
        assert.strictEqual(textOf((yield* answered(connection, ok("next"))).response), "next")
      }))
  }

  it.live("HEAD has no body, whatever length is announced", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const { response } = yield* answered(
        connection,
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        get("/x", { method: "HEAD" })
      )
      assert.deepStrictEqual([textOf(response), response.headers], ["", [["content-length", "5"]]])
    }))

  it.live("is answered with a body up to the end of the connection", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* called(connection)
      connection.server.end("HTTP/1.0 200 OK\r\n\r\nall of it")
      assert.strictEqual(textOf(yield* Fiber.join(calling)), "all of it")
      yield* isOver(connection)
    }))

  it.live("takes no more of a body than it is to collect, and nothing behind that", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* called(connection, get("/x", { collect: 4 }))
      connection.server.write(ok("123456789"))
      const response = yield* Fiber.join(calling)
      assert.deepStrictEqual([textOf(response), response.truncated], ["1234", true])
      yield* isOver(connection)
      assert.deepStrictEqual(connection.ends, ["success"])
    }))

  it.live("takes a body of just as many bytes, and the connection lives on", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const { response } = yield* answered(connection, ok("1234"), get("/x", { collect: 4 }))
      assert.deepStrictEqual([textOf(response), response.truncated], ["1234", false])
      assert.strictEqual(connection.status.state, "Open")
    }))

  it.live("is given gzip as it was sent", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const { received, response } = yield* answered(connection, ok("\x1f\x8b\x08 packed", "content-encoding: gzip"))
      assert.strictEqual(textOf(response), "\x1f\x8b\x08 packed")
      assert.isFalse(received.headers.some((header) => header.startsWith("accept-encoding")))
    }))

  it.live("is refused while another has the connection", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* called(connection)
      const refused = yield* Effect.flip(connection.send(get("/y")))
      assert.deepStrictEqual([told(refused), refused.retryable], [["Nacked", "no"], true])
      connection.server.write(ok("first"))
      assert.strictEqual(textOf(yield* Fiber.join(calling)), "first")
    }))
})

describe("a connection that is idle", () => {
  it.live("is kept for as long as its pool likes, and not by undici's clock", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const timers = vi.spyOn(globalThis, "setTimeout")
      yield* Effect.addFinalizer(() => Effect.sync(() => timers.mockRestore()))
      yield* answered(connection, ok(""))
      const idle = () => timers.mock.calls.map(([, delay]) => delay ?? 0).filter((delay) => delay > 1000)
      yield* until("undici has set its timer", () => idle().length > 0)
      assert.deepStrictEqual(idle(), [2 ** 31 - 1])
    }))
})

describe("a connection that ends", () => {
  it.live("after a response is replaced without a fault, and the response counts", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* called(connection)
      connection.server.end(ok("bye", "connection: close"))
      assert.strictEqual(textOf(yield* Fiber.join(calling)), "bye")
      // Before anybody hears of the response: the next call is not to be given this connection.
      assert.deepStrictEqual([connection.status.state, connection.status.fault], ["Closed", undefined])
    }))

  it.live("soon, as its server has said, is not used again", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* called(connection)
      connection.server.write(ok("bye", "keep-alive: timeout=1"))
      assert.strictEqual(textOf(yield* Fiber.join(calling)), "bye")
      assert.deepStrictEqual([connection.status.state, connection.status.fault], ["Closed", undefined])
    }))

  it.live("with its response, unannounced, is heard before anybody is told: it is handed on to no other call", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* called(connection)
      connection.server.end(ok("bye"))
      assert.strictEqual(textOf(yield* Fiber.join(calling)), "bye")
      assert.deepStrictEqual([connection.status.state, connection.status.fault], ["Closed", undefined])
    }))

  it.live("is shown among the first hundred, and counted beyond", () =>
    Effect.gen(function*() {
      const peer = yield* Raw.listen
      const { connect, stack } = yield* transport()
      for (let count = 0; count < 103; count++) yield* connect(peer.port)
      const { connections, ...state } = transportOf(stack).state
      assert.lengthOf(connections, 100)
      assert.deepInclude(state, { connectionsLeftOut: 3 } as never)
    }))

  it.live("says why to the call that was on it, which its pool closes at once", () =>
    Effect.gen(function*() {
      const peer = yield* Raw.listen
      const { connect, stack } = yield* transport()
      for (const left of [true, false]) {
        const scope = yield* Scope.make()
        const sink = yield* Scope.provide(connect(peer.port), scope)
        const server = yield* peer.accept
        sink.status.subscribe(() => {
          if (sink.status.state === "Closed") Effect.runFork(Scope.close(scope, Exit.void))
        })
        const send = sending(sink, Endpoint.tcp("127.0.0.1", peer.port), stack, [])
        const answering = yield* start(send(get("/1")))
        yield* server.request
        server.write(ok(""))
        yield* Fiber.join(answering)
        if (!left) {
          server.end()
          yield* busy
        }
        const calling = yield* start(send(get("/2")))
        if (left) {
          yield* server.request
          server.end()
        }
        const error = yield* failureOf(calling)
        assert.deepStrictEqual(told(error), ["ConnectionClosed", left ? "maybe" : "no"])
        assert.match(error.message, /other side closed/)
      }
    }))

  it.live("before the first request is dropped without a fault", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      connection.server.end()
      yield* isOver(connection)
      assert.strictEqual(transportOf(connection.stack).state.idleClosed, 1)
      const error = yield* Effect.flip(connection.send(get("/x")))
      assert.deepStrictEqual([told(error), error.retryable], [["ConnectionClosed", "no"], true])
    }))

  for (const how of ["end", "reset"] as const) {
    it.live(`while it is idle, by ${how}, is dropped without a fault`, () =>
      Effect.gen(function*() {
        const connection = yield* connected()
        yield* answered(connection, ok(""))
        connection.server[how]()
        yield* isOver(connection)
        assert.strictEqual(transportOf(connection.stack).state.idleClosed, 1)
      }))

    it.live(`with a request on its way that it never read, by ${how}, fails no request that could go elsewhere`, () =>
      Effect.gen(function*() {
        const connection = yield* connected()
        yield* answered(connection, ok(""))
        connection.server[how]()
        // It lies unread in the socket when the next request comes.
        yield* busy
        const error = yield* Effect.flip(connection.send(get("/x")))
        assert.deepStrictEqual([told(error), error.retryable], [["ConnectionClosed", "no"], true])
        assert.notInclude(connection.server.received, "GET /x HTTP/1.1\r\nGET /x")
        yield* isOver(connection)
        const { requestFailures, stale } = transportOf(connection.stack).state
        assert.deepStrictEqual([stale, requestFailures], [1, { ConnectionClosed: 1 }])
      }))

    it.live(`before the response, by ${how}, leaves open whether the call was run`, () =>
      Effect.gen(function*() {
        const connection = yield* connected()
        const calling = yield* called(connection)
        connection.server[how]()
        const error = yield* failureOf(calling)
        assert.deepStrictEqual([told(error), error.retryable], [["ConnectionClosed", "maybe"], false])
        // It says nothing of the endpoint: the next connection will tell.
        yield* isOver(connection)
        assert.deepStrictEqual(connection.ends, ["failure"])
      }))
  }

  const cut: ReadonlyArray<readonly [string, string]> = [
    ["in the head", "HTTP/1.1 200 OK\r\ncontent-le"],
    ["in a body of announced length", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"],
    ["before a body of announced length", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"],
    ["in a chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc"],
    ["between two chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"],
    ["before the last line of the chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"],
    ["in a body, though it was to be the last", "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 9\r\n\r\nabc"],
    [
      "in a chunk, though it was to be the last",
      "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc"
    ]
  ]
  it.live.each(cut)("%s fails the call, which never gets half of a body", ([, text]) =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* called(connection)
      connection.server.end(text)
      const error = yield* failureOf(calling)
      assert.deepStrictEqual(told(error), ["ConnectionClosed", "maybe"])
      yield* until("closed", () => connection.status.state === "Closed")
      assert.deepStrictEqual(connection.ends, ["failure"])
    }))
})

describe("a server that does not keep to HTTP", () => {
  const hostile: ReadonlyArray<readonly [string, string]> = [
    ["no HTTP at all", "\x00\x00\x00\x05hello"],
    ["another protocol", "SSH-2.0-OpenSSH_9.2\r\n"],
    ["two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd"],
    [
      "a length and chunks",
      "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    ],
    ["a length that is none", "HTTP/1.1 200 OK\r\ncontent-length: 3x\r\n\r\nabc"],
    ["a negative length", "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"],
    ["a chunk length that is none", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"],
    ["a space in a header's name", "HTTP/1.1 200 OK\r\nx bad: 1\r\ncontent-length: 0\r\n\r\n"],
    ["a control character in a header", "HTTP/1.1 200 OK\r\nx: a\x00b\r\ncontent-length: 0\r\n\r\n"],
    ["an upgrade that nobody asked for", "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"],
    ["another protocol that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\n\r\n"],
    // Allowed, or for whoever reads it to allow; not to undici.
    ["a blank behind a length", "HTTP/1.1 200 OK\r\ncontent-length: 4 \r\n\r\nmine"],
    ["one length twice", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 4\r\n\r\nmine"],
    // Not against HTTP (RFC 9110, 15.2), but undici takes it for that.
    ["100 Continue that nobody asked for", `HTTP/1.1 100 Continue\r\n\r\n${ok("")}`],
    ["a head without end", `HTTP/1.1 200 OK\r\nx: ${"a".repeat(20_000)}`]
  ]
  it.live.each(hostile)(
    "%s: the call fails, the connection ends, its endpoint is at fault",
    ([, text]) =>
      Effect.gen(function*() {
        const connection = yield* connected()
        const calling = yield* called(connection)
        connection.server.write(text)
        const error = yield* failureOf(calling)
        assert.deepStrictEqual(told(error), ["ProtocolError", "maybe"])
        yield* isOver(connection, "ProtocolError")
        assert.strictEqual(transportOf(connection.stack).state.protocolErrors, 1)
      })
  )

  it.live("is said to have gone over to another protocol", () =>
    Effect.gen(function*() {
      for (const more of ["", "connection: upgrade\r\nupgrade: x\r\n"]) {
        const connection = yield* connected()
        const calling = yield* called(connection)
        connection.server.write(`HTTP/1.1 101 Switching Protocols\r\n${more}\r\n`)
        assert.match((yield* failureOf(calling)).message, /101 Switching Protocols, which nobody asked for/)
      }
    }))

  it.live("a head over the limit that was set", () =>
    Effect.gen(function*() {
      const connection = yield* connected({ maxHeaderBytes: 1000 })
      yield* answered(connection, ok("", `x: ${"a".repeat(900)}`))
      const calling = yield* called(connection)
      connection.server.write(ok("", `x: ${"a".repeat(1000)}`))
      assert.deepStrictEqual(told(yield* failureOf(calling)), ["ProtocolError", "maybe"])
    }))

  it.live("a second response with the first: it meets no later call", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* called(connection)
      connection.server.write(ok("mine") + ok("not asked for"))
      assert.strictEqual(textOf(yield* Fiber.join(calling)), "mine")
      yield* until("closed", () => connection.status.state === "Closed")
    }))

  it.live("a response before any request", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      connection.server.write(ok("early"))
      yield* isOver(connection, "ProtocolError")
    }))

  it.live("a response between two requests: it meets no later call", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      yield* answered(connection, ok("first"))
      connection.server.write(ok("poison"))
      yield* busy
      const calling = yield* start(connection.send(get("/x")))
      const error = yield* failureOf(calling)
      assert.deepStrictEqual(told(error), ["ConnectionClosed", "no"])
    }))

  it.live("a body behind 204: it meets no later call", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* called(connection)
      connection.server.write(`HTTP/1.1 204 No\r\ncontent-length: ${ok("x").length}\r\n\r\n${ok("x")}`)
      assert.strictEqual((yield* Fiber.join(calling)).status, 204)
      yield* until("closed", () => connection.status.state === "Closed")
    }))
})

describe("Finagle's refusals", () => {
  const refusals: ReadonlyArray<readonly [string, string, boolean]> = [
    ["finagle-http-nack: true", "503 Service Unavailable", true],
    ["finagle-http-nonretryable-nack: true", "503 Service Unavailable", false],
    ["retry-after: 0", "503 Service Unavailable", true],
    ["retry-after: 0\r\nfinagle-http-nonretryable-nack: true", "503 Service Unavailable", false]
  ]
  it.live.each(refusals)(
    "503 with %s is one, and its connection lives on",
    ([header, status, retryable]) =>
      Effect.gen(function*() {
        const connection = yield* connected()
        const calling = yield* called(connection)
        connection.server.write(`HTTP/1.1 ${status}\r\n${header}\r\ncontent-length: 3\r\n\r\nwhy`)
        const error = yield* failureOf(calling)
        assert.deepStrictEqual([told(error), error.retryable], [["Nacked", "no"], retryable])
        assert.deepStrictEqual([connection.status.state, connection.ends], ["Open", ["rejected"]])
        assert.strictEqual(textOf((yield* answered(connection, ok("next"))).response), "next")
      })
  )

  it.live("are nothing without their status", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const { response } = yield* answered(connection, ok("", "finagle-http-nack: true"))
      assert.strictEqual(response.status, 200)
    }))

  it.live("of a stream that has begun are final, unless the call may run twice", () =>
    Effect.gen(function*() {
      for (const idempotent of [false, true]) {
        const connection = yield* connected()
        const body = { stream: Stream.make(utf8.encode("abc")), length: 3 }
        const calling = yield* called(connection, post(body), callOf({ idempotent }))
        connection.server.write("HTTP/1.1 503 No\r\nfinagle-http-nack: true\r\ncontent-length: 0\r\n\r\n")
        assert.strictEqual((yield* failureOf(calling)).retryable, idempotent)
      }
    }))
})

describe("a status", () => {
  it.live("of 500 and above counts against its endpoint, and is an answer all the same", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      for (const status of [404, 499, 500, 503]) {
        const { response } = yield* answered(connection, `HTTP/1.1 ${status} X\r\ncontent-length: 0\r\n\r\n`)
        assert.strictEqual(response.status, status)
      }
      assert.deepStrictEqual(connection.ends, ["success", "success", "failure", "failure"])
    }))
})

describe("a request that may not be sent", () => {
  const header = (name: string, value: string): Partial<HttpRequest> => ({ headers: [[name, value]] })
  const refused: ReadonlyArray<readonly [string, Partial<HttpRequest>, string, string]> = [
    ["a line break in a value", header("x", "a\r\nx-admin: 1"), "header", "x"],
    ["a line feed in a value", header("x", "a\nb"), "header", "x"],
    ["a null in a value", header("x", "a\0b"), "header", "x"],
    ["a value beyond ISO 8859-1", header("x", "\u0159"), "header", "x"],
    ["a space before a value", header("x", " a"), "header", "x"],
    ["a line break in a name", header("x\r\ny", "a"), "header", "x??y"],
    ["a colon in a name", header("x:y", "a"), "header", "x:y"],
    ["a name that is empty", header("", "a"), "header", ""],
    ["expect", header("Expect", "100-continue"), "header", "expect"],
    ["transfer-encoding", header("Transfer-Encoding", "chunked"), "header", "transfer-encoding"],
    ["te, but trailers", header("TE", "gzip"), "header", "te"],
    ["http2-settings", header("HTTP2-Settings", "x"), "header", "http2-settings"],
    ["connection", header("connection", "close"), "header", "connection"],
    ["keep-alive", header("keep-alive", "timeout=5"), "header", "keep-alive"],
    ["upgrade", header("upgrade", "websocket"), "header", "upgrade"],
    [
      "a length that is not the body's",
      { ...header("content-length", "5"), body: utf8.encode("abc") },
      "header",
      "content-length"
    ],
    ["a length without a body", header("content-length", "5"), "header", "content-length"],
    [
      "two lengths",
      {
        headers: [["content-length", "3"], ["Content-Length", "3"]],
        body: utf8.encode("abc")
      },
      "header",
      "content-length"
    ],
    [
      "a length of a stream that is not known",
      {
        ...header("content-length", "3"),
        body: { stream: Stream.empty, length: undefined }
      },
      "header",
      "content-length"
    ],
    ["a stream of a negative length", { body: { stream: Stream.empty, length: -1 } }, "body", "body"],
    ["two hosts", { headers: [["host", "a"], ["host", "b"]] }, "header", "host"],
    ["a method that is no token", { method: "GET /admin HTTP/1.1\r\n" }, "method", "method"],
    ["CONNECT", { method: "CONNECT" }, "method", "method"],
    ["a target with a line break", { target: "/x HTTP/1.1\r\nx-admin: 1" }, "target", "target"],
    ["the target of a server as a whole", { method: "OPTIONS", target: "*" }, "target", "target"],
    ["a target with a space", { target: "/a b" }, "target", "target"],
    ["a target of another host", { target: "http://evil.example/" }, "target", "target"],
    ["a target with a fragment", { target: "/a#b" }, "target", "target"],
    ["a target beyond ASCII", { target: "/\u00e9" }, "target", "target"],
    ["TRACE with a body", { method: "TRACE", body: utf8.encode("a") }, "body", "body"]
  ]
  it.live.each(refused)("%s", ([, fields, part, name]) =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const error = yield* Effect.flip(connection.send({ ...get("/x"), ...fields } as HttpRequest))
      assert.deepStrictEqual(told(error), ["Unsendable", "no"])
      const cause = error._tag === "Unsendable" ? error.cause : undefined
      if (!(cause instanceof InvalidRequest)) throw new Error(String(cause))
      assert.deepStrictEqual([cause.part, cause.name], [part, name])
      assert.notInclude(cause.message, "x-admin")
      // Nothing of it has left, and it was nobody's fault.
      assert.deepStrictEqual([connection.status.state, connection.ends], ["Open", ["ignored"]])
      yield* answered(connection, ok("next"), get("/next"))
      assert.isTrue(connection.server.received.startsWith("GET /next"))
    }))

  it.live("a length that is the body's own may be there", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const body = utf8.encode("abc")
      const { received } = yield* answered(connection, ok(""), post(body, { headers: [["content-length", "3"]] }))
      assert.deepStrictEqual(received.headers.filter((line) => line.startsWith("content-length")), [
        "content-length: 3"
      ])
    }))
})

describe("a body that is a stream", () => {
  it.live("of known length is sent with it", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const stream = Stream.make(utf8.encode("abc"), utf8.encode("de"))
      const { received } = yield* answered(connection, ok("done"), post({ stream, length: 5 }))
      assert.include(received.headers, "content-length: 5")
      assert.strictEqual(received.body, "abcde")
      assert.strictEqual(connection.status.state, "Open")
    }))

  it.live("of unknown length is sent in chunks", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const stream = Stream.make(utf8.encode("abc"), utf8.encode("de"))
      const calling = yield* called(connection, post({ stream, length: undefined }))
      yield* until("the last chunk", () => connection.server.received.endsWith("\r\n0\r\n\r\n"))
      assert.include(connection.server.received, "transfer-encoding: chunked")
      assert.include(connection.server.received, "\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
      connection.server.write(ok("done"))
      assert.strictEqual(textOf(yield* Fiber.join(calling)), "done")
    }))

  const broken = (error: RpcError) => {
    const cause = error._tag === "Unsendable" ? error.cause : undefined
    if (!(cause instanceof RequestBodyFailed)) throw new Error(String(cause))
    return cause.cause
  }

  it.live("that fails ends the call and its connection, so that the server does not take it for whole", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const stream = Stream.concat(Stream.make(utf8.encode("abc")), Stream.fail("disk full"))
      const calling = yield* called(connection, post({ stream, length: undefined }))
      assert.strictEqual(broken(yield* failureOf(calling)), "disk full")
      yield* isOver(connection)
      assert.notInclude(connection.server.received, "0\r\n\r\n")
      assert.deepStrictEqual(connection.ends, ["ignored"])
    }))

  for (const [what, length] of [["less", 5], ["more", 2]] as const) {
    it.live(`that has ${what} than it was said to have ends the call and its connection`, () =>
      Effect.gen(function*() {
        const connection = yield* connected()
        const calling = yield* start(connection.send(post({ stream: Stream.make(utf8.encode("abc")), length })))
        assert.strictEqual(broken(yield* failureOf(calling)), "it has not as many bytes as it was said to have")
        yield* isOver(connection)
      }))
  }

  it.live("is interrupted with its call", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      let interrupted = false
      const stream = Stream.concat(
        Stream.make(utf8.encode("abc")),
        Stream.fromEffect(Effect.onInterrupt(Effect.never, () => Effect.sync(() => void (interrupted = true))))
      )
      const calling = yield* called(connection, post({ stream, length: undefined }))
      yield* until("some of it", () =>
        connection.server.received.endsWith("abc\r\n") || connection.server.received.endsWith("abc"))
      yield* Fiber.interrupt(calling)
      yield* until("the stream is interrupted", () =>
        interrupted)
      yield* isOver(connection)
    }))

  it.live("is interrupted when the server has answered before its end", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      let interrupted = false
      const stream = Stream.concat(
        Stream.make(utf8.encode("abc")),
        Stream.fromEffect(Effect.onInterrupt(Effect.never, () => Effect.sync(() => void (interrupted = true))))
      )
      const calling = yield* called(connection, post({ stream, length: undefined }))
      connection.server.write("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
      assert.strictEqual((yield* Fiber.join(calling)).status, 413)
      yield* until("the stream is interrupted", () => interrupted)
      yield* isOver(connection)
    }))

  it.live("is not run when the connection is gone", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      connection.server.end()
      yield* isOver(connection)
      let ran = false
      const stream = Stream.fromEffect(Effect.sync(() => {
        ran = true
        return utf8.encode("abc")
      }))
      const error = yield* Effect.flip(connection.send(post({ stream, length: 3 })))
      assert.deepStrictEqual([told(error), ran], [["ConnectionClosed", "no"], false])
    }))
})

describe("a call that is not waited for any more", () => {
  it.live("takes its connection with it when it is interrupted, and its endpoint is not to blame", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* called(connection)
      yield* Fiber.interrupt(calling)
      assert.strictEqual(connection.status.state, "Closed")
      yield* isOver(connection)
      assert.deepStrictEqual([transportOf(connection.stack).state.abandoned, connection.ends], [1, ["ignored"]])
    }))

  for (
    const [when, text] of [["its response", ""], [
      "the rest of a body",
      "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"
    ]]
  ) {
    it.live(`fails with Timeout while it waits for ${when}`, () =>
      Effect.gen(function*() {
        const connection = yield* connected()
        const abort = new Abort(Infinity, 50)
        const calling = yield* called(connection, get("/x"), callOf({ abort }))
        connection.server.write(text!)
        if (text !== "") yield* Effect.sleep(20)
        abort.fire()
        assert.deepStrictEqual(told(yield* failureOf(calling)), ["Timeout", "maybe"])
        yield* isOver(connection)
        assert.strictEqual(abort.listeners, 0)
        assert.deepStrictEqual(connection.ends, ["failure"])
      }))
  }

  it.live("before it was sent is not sent", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const abort = new Abort(Infinity, 50)
      const calling = yield* start(connection.send(get("/x"), callOf({ abort })))
      abort.fire()
      assert.deepStrictEqual(told(yield* failureOf(calling)), ["Timeout", "no"])
      yield* isOver(connection)
      assert.strictEqual(connection.server.received, "")
    }))

  it.live("fails when its connection is closed under it", () =>
    Effect.gen(function*() {
      const connection = yield* Effect.scoped(Effect.gen(function*() {
        const inner = yield* connected()
        const calling = yield* called(inner)
        return { calling, inner }
      }))
      const error = yield* failureOf(connection.calling)
      assert.isTrue(error instanceof ConnectionClosed && error.reached === "maybe")
    }))
})
