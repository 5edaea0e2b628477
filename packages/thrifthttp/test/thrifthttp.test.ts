// Thrift over HTTP: calls of npm's own web server, and what becomes of what no Thrift server says.
import { describe as describeStack, Rpc } from "@scales-rpc/core"
import { HttpStatusError } from "@scales-rpc/http"
import { Protocols, ThriftApplicationException, ThriftException } from "@scales-rpc/thrift"
import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, Effect, Exit, Fiber, Layer, Scope } from "effect"
import Int64 from "node-int64"
import { inspect } from "node:util"
import { Message, Overdrawn, Refused } from "../../examples/gen/echo_types.js"
import { ThriftHttp } from "../src/index.ts"
import { answering, apache, client, Echo, npm, stateOf } from "./servers.ts"

const hi = new Message({ text: "h\u00e9!", number: new Int64(42), items: [1, 2] })

describe("a server of npm's", () => {
  const protocols = [
    ["binary", Protocols.binary, npm.TBinaryProtocol],
    ["compact", Protocols.compact, npm.TCompactProtocol],
    ["JSON", Protocols.json, npm.TJSONProtocol]
  ] as const
  for (const [name, protocol, theirs] of protocols) {
    it.live(`that speaks ${name} answers calls, exceptions and what fails in it`, () =>
      Effect.gen(function*() {
        const server = yield* apache(theirs)
        const { echo } = yield* client(server.uri, { protocol })
        assert.strictEqual(yield* echo.ping(), "pong")
        assert.isUndefined(yield* echo.touch("k"))
        const { items, number, text } = yield* echo.passMessage(hi)
        assert.deepStrictEqual([text, Number(number), items], ["h\u00e9!", 42, [1, 2]])
        const refused = yield* Effect.flip(echo.fail("why", new Int64(0)))
        assert.instanceOf(refused, ThriftException)
        assert.instanceOf(refused.exception, Refused)
        const overdrawn = yield* Effect.flip(echo.fail("why", new Int64(7)))
        assert.instanceOf((overdrawn as ThriftException<unknown>).exception, Overdrawn)
        assert.instanceOf(yield* Effect.flip(echo.crash("why")), ThriftApplicationException)
        assert.strictEqual(server.accepted(), 1)
      }))
  }

  it.live("answers many calls at once, one a connection", () =>
    Effect.gen(function*() {
      const server = yield* apache()
      const { echo } = yield* client(server.uri, { connections: { high: 4 } })
      const all = yield* Effect.all(Array.from({ length: 40 }, () => echo.slow(1)), { concurrency: "unbounded" })
      assert.deepStrictEqual(new Set(all), new Set(["1"]))
      assert.isAtMost(server.accepted(), 4)
    }))

  it.live("answers with as much as a reply may have", () =>
    Effect.gen(function*() {
      const server = yield* apache()
      const { echo } = yield* client(server.uri)
      const bytes = Buffer.alloc(300_000, "x")
      assert.isTrue(Buffer.from(yield* echo.blob(bytes)).equals(bytes))
      const small = yield* client(server.uri, { limits: { maxMessageBytes: 1000 } })
      assert.strictEqual((yield* Effect.flip(small.echo.blob(bytes)))._tag, "ThriftEncodeError")
      assert.strictEqual(yield* small.echo.ping(), "pong")
    }))

  it.live("that has no service at the path fails calls with its status", () =>
    Effect.gen(function*() {
      const server = yield* apache()
      const { echo } = yield* client(server.uri, { path: "/elsewhere" })
      const error = yield* Effect.flip(echo.ping())
      assert.strictEqual(error._tag, "ServerFailed")
      assert.deepInclude((error as { cause?: unknown }).cause as HttpStatusError, {
        _tag: "HttpStatusError",
        method: "POST",
        path: "/elsewhere",
        status: 403,
        reason: "No Apache Thrift Service at /elsewhere"
      })
      assert.strictEqual(error.message.split(": ").at(-1), "403 No Apache Thrift Service at /elsewhere")
    }))

  it.live("that ends is replaced by another", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const a = yield* Effect.provideService(apache(), Scope.Scope, scope)
      const b = yield* apache()
      const { echo } = yield* client(`${a.uri},127.0.0.1:${b.port}`, { idempotent: ["ping"] })
      const some = Effect.all(Array.from({ length: 20 }, () => echo.ping()), { concurrency: 4 })
      yield* some
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(new Set(yield* some), new Set(["pong"]))
      assert.isAbove(b.accepted(), 0)
    }))

  it.live("hears that a caller has left: its connection ends", () =>
    Effect.gen(function*() {
      const server = yield* apache()
      const { echo } = yield* client(server.uri)
      // The connection is there.
      yield* echo.ping()
      const late = yield* Effect.flip(echo.slow(5000).pipe(Rpc.deadline("50 millis")))
      assert.deepInclude(late, { _tag: "Timeout", waiting: "reply", reached: "maybe" })
      const calling = yield* Effect.forkChild(echo.slow(5000), { startImmediately: true })
      yield* Effect.repeat(Effect.sleep("1 millis"), { until: () => server.accepted() === 2 })
      yield* Fiber.interrupt(calling)
      yield* Effect.repeat(Effect.sleep("1 millis"), { until: () => server.open() === 0 })
    }))
})

/** A reply with "pong" in it. */
const pong = (sequenceId = 1, method = "ping"): Buffer => {
  const writer = Protocols.binary.writer()
  writer.writeMessageBegin(method, 2, sequenceId)
  writer.writeStructBegin("ping_result")
  writer.writeFieldBegin("success", 11, 0)
  writer.writeString("pong")
  writer.writeFieldEnd()
  writer.writeFieldStop()
  writer.writeStructEnd()
  writer.writeMessageEnd()
  return Buffer.from(writer.take())
}

describe("a call", () => {
  it.live("is a POST of its message, with what Apache's clients say of it", () =>
    Effect.gen(function*() {
      const server = yield* answering((_, response) => void response.end(pong()))
      const { echo, stack } = yield* client(server.uri, {
        path: "/a/b?c=d",
        headers: { authorization: "Bearer b", Authorization: "Bearer a", "X-Trace": "1" }
      })
      assert.deepStrictEqual(describeStack(stack).stages.find(({ role }) => role === "post")!.options, {
        path: { value: "/a/b", from: "given" },
        headers: {
          value: {
            "content-type": "application/x-thrift",
            accept: "application/x-thrift",
            authorization: "<redacted>",
            "x-trace": "<redacted>"
          },
          from: "given"
        },
        limits: { value: { maxMessageBytes: 104_857_600 }, from: "default" }
      })
      assert.strictEqual(yield* echo.ping(), "pong")
      const [posted] = server.posted
      assert.deepInclude(posted, { method: "POST", url: "/a/b?c=d" })
      assert.deepInclude(posted!.headers, {
        "content-type": "application/x-thrift",
        accept: "application/x-thrift",
        authorization: "Bearer a",
        "x-trace": "1",
        "content-length": String(posted!.body.length),
        host: `127.0.0.1:${server.port}`
      })
      const ping = "800100010000000470696e670000000100"
      assert.strictEqual(posted!.body.toString("hex"), ping)
    }))

  it.live("of a oneway method completes when it has been answered, with whatever", () =>
    Effect.gen(function*() {
      const replies = ["", "thank you", pong(3)]
      const server = yield* answering((_, response) => void response.end(replies[server.posted.length - 1]))
      const { echo } = yield* client(server.uri)
      for (let call = 0; call < 3; call++) assert.isUndefined(yield* echo.note("n"))
      assert.lengthOf(server.posted, 3)
    }))

  it.live("of a multiplexed service has its name", () =>
    Effect.gen(function*() {
      const server = yield* answering((_, response) => void response.end(pong()))
      const { echo } = yield* client(server.uri, { multiplexed: "echo" })
      yield* Effect.exit(echo.ping())
      assert.include(server.posted[0]!.body.toString("latin1"), "echo:ping")
    }))

  for (const status of [200, 204, 302, 400, 404, 500, 503]) {
    const good = status < 300
    it.live(`that is answered with ${status}${good ? " and nothing" : ""} fails, and ${status < 500 ? "nobody is to blame but the reply" : "its endpoint is to blame"}`, () =>
      Effect.gen(function*() {
        const server = yield* answering((_, response) => {
          response.writeHead(status, status === 302 ? { location: "http://127.0.0.1:1/" } : {})
          response.end(good ? "" : "no ".repeat(3000))
        })
        const { echo } = yield* client(server.uri, { headers: { authorization: "s3cr3t" } })
        const error = yield* Effect.flip(echo.ping())
        assert.notInclude(inspect(error, { depth: 20 }) + JSON.stringify(error) + error.message, "s3cr3t")
        if (good) return assert.strictEqual(error._tag, "ThriftProtocolError")
        assert.deepInclude(error, { _tag: "ServerFailed", reached: "maybe", retryable: false })
        const { cause } = error as unknown as { readonly cause: HttpStatusError }
        assert.instanceOf(cause, HttpStatusError)
        assert.deepStrictEqual([cause.status, cause.path, cause.body.length], [status, "/echo", 4096])
        assert.lengthOf(server.posted, 1)
      }))
  }

  it.live("that is refused with Finagle's nack is sent again, however it is called", () =>
    Effect.gen(function*() {
      const server = yield* answering((_, response) => {
        if (server.posted.length > 2) return void response.end(pong())
        response.writeHead(503, { "finagle-http-nack": "true" }).end()
      })
      const { echo } = yield* client(server.uri)
      assert.strictEqual(yield* echo.ping(), "pong")
      assert.lengthOf(server.posted, 3)
    }))

  it.live("whose connection breaks is sent again only if it may run twice", () =>
    Effect.gen(function*() {
      const server = yield* answering((_, response) => {
        if (server.posted.length % 2 === 0) return void response.end(pong(server.posted.length / 2))
        response.destroy()
      })
      const once = yield* client(server.uri)
      assert.deepInclude(yield* Effect.flip(once.echo.ping()), { _tag: "ConnectionClosed", reached: "maybe" })
      assert.lengthOf(server.posted, 1)
      yield* Effect.exit(once.echo.ping())
      const twice = yield* client(server.uri, { idempotent: ["ping"] })
      yield* Effect.exit(twice.echo.ping())
      assert.lengthOf(server.posted, 4)
    }))

  it.live("that is answered with what is no Thrift, or another call's, says so", () =>
    Effect.gen(function*() {
      const replies: ReadonlyArray<readonly [string | Buffer, string]> = [
        ["<html>no</html>", "ThriftProtocolError"],
        [pong(2).subarray(0, 20), "ThriftProtocolError"],
        [pong(3, "touch"), "ProtocolError"],
        [pong(7), "ProtocolError"]
      ]
      const server = yield* answering((_, response) => void response.end(replies[server.posted.length - 1]![0]))
      const { echo } = yield* client(server.uri)
      for (const [reply, tag] of replies) {
        assert.strictEqual((yield* Effect.flip(echo.ping()))._tag, tag, String(reply))
      }
    }))

  it.live("that is answered with more than it takes fails, without the rest", () =>
    Effect.gen(function*() {
      const server = yield* answering((_, response) => void response.end(Buffer.alloc(5000)))
      const { echo } = yield* client(server.uri, { limits: { maxMessageBytes: 1000 } })
      const error = yield* Effect.flip(echo.ping())
      assert.deepInclude(error, { _tag: "ProtocolError", what: "a reply of more than 1000 bytes" })
    }))

  it.live("counts against its endpoint with 500 and above", () =>
    Effect.gen(function*() {
      let status = 404
      const server = yield* answering((_, response) => void response.writeHead(status).end())
      const { echo, stack } = yield* client(server.uri)
      const some = Effect.all(Array.from({ length: 6 }, () => Effect.exit(echo.ping())))
      yield* some
      assert.strictEqual(stateOf(stack, "failureAccrual")["removals"], 0)
      status = 500
      yield* some
      assert.isAbove(stateOf(stack, "failureAccrual")["removals"], 0)
    }))
})

describe("an option", () => {
  const wrong: ReadonlyArray<readonly [string, ThriftHttp.ThriftHttpOptions]> = [
    ["path", { path: "echo" }],
    ["path", { path: "/a b" }],
    ["path", { path: "/a#b" }],
    ["path", { path: "/a\r\nx: y" }],
    ["headers", { headers: { "a b": "1" } }],
    ["headers", { headers: { "x-a": "1\r\nx-b: s3cr3t" } }],
    ["headers", { headers: { "Content-Type": "a/b" } }],
    ["headers", { headers: { "content-length": "1" } }],
    ["headers", { headers: { expect: "100-continue" } }]
  ]
  for (const [option, options] of wrong) {
    it.live(`cannot be ${inspect(options)}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(client("tcp://127.0.0.1:1", options))
        assert.deepInclude(error, { _tag: "InvalidOption", option })
        assert.notInclude(inspect(error) + error.message, "s3cr3t")
      }))
  }

  it.live("comes from a Config too", () =>
    Effect.gen(function*() {
      const server = yield* apache()
      const layer = ThriftHttp.layerConfig(Echo, { uri: Config.String("URI"), path: Config.succeed("/echo") })
      const from = (config: Record<string, string>) =>
        Effect.provide(
          Echo.use((echo) => echo.ping()),
          Layer.provide(layer, ConfigProvider.layer(ConfigProvider.fromUnknown(config)))
        )
      assert.strictEqual(yield* from({ URI: server.uri }), "pong")
      assert.strictEqual((yield* Effect.flip(from({})))._tag, "ConfigError")
    }))
})
