// TLS, and HTTP/2 with and without it, against Node's own servers.
import { describe as described, Endpoint, Rpc, Stacks } from "@scales-rpc/core"
import { Certificates, Seed } from "@scales-rpc/core/testing"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Scope, Stream } from "effect"
import * as NodeHttp from "node:http"
import * as NodeHttp2 from "node:http2"
import * as NodeHttps from "node:https"
import type * as Net from "node:net"
import { Http, HttpBody, HttpService } from "../src/index.ts"
import { listening } from "./nodeServer.ts"
import * as Raw from "./raw.ts"
import { failureOf, get, sending, start, transport, until } from "./support.ts"

class Users extends HttpService<Users>()("Users") {}

const authority = Certificates.authority()
const certified = authority.issue()

/** Answers with what was asked for: `/slow` never, `/half` half of a body. */
const handle = (request: NodeHttp2.Http2ServerRequest, response: NodeHttp2.Http2ServerResponse) => {
  const chunks: Array<Buffer> = []
  request.on("data", (chunk: Buffer) => chunks.push(chunk))
  request.on("end", () => {
    if (request.url === "/slow") return
    response.setHeader("x-method", request.method)
    response.setHeader("x-authority", request.authority ?? request.headers.host ?? "")
    if (request.url === "/half") return void response.write("half")
    response.end(`${request.url} ${Buffer.concat(chunks).toString()}`)
  })
}

const listener = handle as unknown as NodeHttp.RequestListener

const client = (uri: string, options: Omit<Http.HttpOptions, "uri">) =>
  Effect.map(
    Layer.build(
      Layer.provideMerge(Http.layer(Users, { ...options, uri }), Stacks.layer).pipe(Layer.provide(Seed.layer(1)))
    ),
    (context) => {
      const stack = Context.get(context, Stacks).list()[0]!
      const state = (role: string) =>
        described(stack).stages.find((node) => node.role === role)!.state as Record<string, unknown>
      return { users: Context.get(context, Users), load: () => state("balancer")["load"], state }
    }
  )

const tls = { ca: authority.certificate, serverName: "localhost" }

describe("TLS", () => {
  const server = listening(NodeHttps.createServer({ cert: certified.certificate, key: certified.key }, listener))

  it.live("secures a connection, which serves many calls", () =>
    Effect.gen(function*() {
      const { accepted, uri } = yield* server
      const { users } = yield* client(uri, { tls })
      for (let i = 0; i < 3; i++) {
        assert.strictEqual((yield* users.post("/a", { body: HttpBody.text("hi") })).text, "/a hi")
      }
      assert.strictEqual(accepted(), 1)
    }))

  it.live("that cannot be had is a failure to connect, with what is wrong", () =>
    Effect.gen(function*() {
      const { port } = yield* listening(
        NodeHttps.createServer({ cert: certified.certificate, key: certified.key }, listener)
      )
      const { connect } = yield* transport({ tls: {} })
      const error = yield* Effect.flip(connect(port))
      assert.isTrue(error._tag === "ConnectFailed" && error.phase === "tls")
      assert.strictEqual((error.cause as { readonly reason?: string }).reason, "untrusted")
      const plain = yield* listening(NodeHttp.createServer(listener))
      const { connect: secure } = yield* transport({ tls })
      const refused = yield* Effect.flip(secure(plain.port))
      assert.isTrue(refused._tag === "ConnectFailed" && refused.phase === "tls")
    }))

  it.live("and the client's certificate, which a server of TLS 1.3 judges later", () =>
    Effect.gen(function*() {
      const { port } = yield* listening(NodeHttps.createServer({
        cert: certified.certificate,
        key: certified.key,
        ca: authority.certificate,
        requestCert: true,
        rejectUnauthorized: true
      }, listener))
      const { users } = yield* client(`tcp://127.0.0.1:${port}`, { tls, retry: { retries: 0 } })
      const error = yield* Effect.flip(users.post("/a"))
      assert.include(String(error), "wants a certificate")
      // The next connection would be refused as well.
      const { connect } = yield* transport({ tls })
      const refused = yield* connect(port)
      const { stack } = yield* transport()
      yield* Effect.flip(sending(refused, Endpoint.tcp("127.0.0.1", port), stack, [])(get("/a")))
      yield* until("the connection is closed", () => refused.status.state === "Closed")
      assert.strictEqual(refused.status.fault?._tag, "ConnectionClosed")
      const { certificate, key } = authority.issue({ name: "client" })
      const { users: known } = yield* client(`tcp://127.0.0.1:${port}`, { tls: { ...tls, certificate, key } })
      assert.strictEqual((yield* known.get("/a")).status, 200)
    }))
})

const servers = {
  "HTTP/2 over TLS": {
    make: () => NodeHttp2.createSecureServer({ cert: certified.certificate, key: certified.key }, handle) as Net.Server,
    options: { http2: true, tls }
  },
  "HTTP/2 without TLS": { make: () => NodeHttp2.createServer(handle) as Net.Server, options: { http2: true } }
}

for (const [name, { make, options }] of Object.entries(servers)) {
  describe(name, () => {
    const made = Effect.flatMap(
      Effect.suspend(() => listening(make())),
      (server) => Effect.map(client(server.uri, options), (built) => ({ ...built, server }))
    )

    it.live("carries many calls at once on one connection", () =>
      Effect.gen(function*() {
        const { load, server, users } = yield* made
        const replies = yield* Effect.forEach(
          Array.from({ length: 50 }, (_, i) => i),
          (i) => users.post(`/${i}`, { body: HttpBody.text(`body ${i}`), headers: { host: "users.example" } }),
          { concurrency: 50 }
        )
        assert.deepStrictEqual(replies.map(({ text }) => text), replies.map((_, i) => `/${i} body ${i}`))
        assert.deepStrictEqual(
          [replies[0]!.header("x-method"), replies[0]!.header("x-authority"), replies[0]!.reason],
          ["POST", "users.example", ""]
        )
        assert.deepStrictEqual([server.accepted(), load()], [1, 0])
      }))

    it.live("ends one call without the others", () =>
      Effect.gen(function*() {
        const { load, server, users } = yield* made
        const slow = yield* start(users.get("/slow"))
        yield* users.get("/a")
        assert.strictEqual(load(), 1)
        yield* Fiber.interrupt(slow)
        const late = yield* start(Effect.flip(Rpc.deadline("50 millis")(users.get("/slow"))))
        // Something comes meanwhile: the connection is alive.
        yield* Effect.sleep(10)
        yield* users.get("/a")
        assert.strictEqual((yield* Fiber.join(late))._tag, "Timeout")
        assert.strictEqual((yield* users.get("/a")).status, 200)
        assert.deepStrictEqual([server.accepted(), server.open(), load()], [1, 1, 0])
      }))

    it.live("sends bytes, and gives a body as it comes", () =>
      Effect.gen(function*() {
        const { users } = yield* made
        const text = yield* Effect.scoped(Effect.flatMap(
          users.stream("POST", "/a", { body: HttpBody.bytes(Uint8Array.of(104, 105)) }),
          (reply) => Stream.mkString(Stream.decodeText(reply.stream))
        ))
        assert.strictEqual(text, "/a hi")
      }))

    it.live("refuses a stream as a request's body, and sends nothing", () =>
      Effect.gen(function*() {
        const { server, users } = yield* made
        const body = HttpBody.stream(Stream.make(Uint8Array.of(1)))
        const error = yield* Effect.flip(users.post("/a", { body }))
        assert.strictEqual(error._tag, "Unsendable")
        assert.include(error.message, "not sent over HTTP/2")
        assert.strictEqual((yield* users.get("/a")).status, 200)
        assert.strictEqual(server.accepted(), 1)
      }))

    it.live("reads no more of a body than it is to take, and the connection serves on", () =>
      Effect.gen(function*() {
        const { server, users } = yield* made
        const error = yield* Effect.flip(users.get("/a-long-one", { maxBytes: 3 }))
        assert.strictEqual(error._tag, "ResponseTooLarge")
        assert.strictEqual((yield* users.get("/a")).status, 200)
        assert.strictEqual(server.accepted(), 1)
      }))

    it.live("lets go of a body that is not read to its end, and of nothing else", () =>
      Effect.gen(function*() {
        const { load, server, users } = yield* made
        const scope = yield* Scope.make()
        const reply = yield* Scope.provide(users.stream("GET", "/half"), scope)
        assert.strictEqual(load(), 1)
        assert.strictEqual((yield* Stream.runHead(Stream.decodeText(reply.stream)))._tag, "Some")
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(load(), 0)
        yield* users.get("/a")
        assert.strictEqual(server.accepted(), 1)
      }))

    it.live("connects anew when the connection breaks, and tells those who were on it", () =>
      Effect.gen(function*() {
        const sockets: Array<Net.Socket> = []
        const http = make()
        http.on("connection", (socket) => sockets.push(socket))
        const server = yield* listening(http)
        const { load, users } = yield* client(server.uri, options)
        const slow = yield* start(users.post("/slow"))
        yield* users.get("/a")
        sockets[0]!.destroy()
        const error = yield* failureOf(slow)
        assert.deepStrictEqual([error._tag, "reached" in error && error.reached], ["ConnectionClosed", "maybe"])
        assert.strictEqual((yield* users.get("/a")).status, 200)
        assert.deepStrictEqual([server.accepted(), load()], [2, 0])
      }))

    it.live("goes to a new connection when the server drains this one, and finishes what is on it", () =>
      Effect.gen(function*() {
        const sessions: Array<NodeHttp2.ServerHttp2Session> = []
        const streams: Array<NodeHttp2.ServerHttp2Stream> = []
        const http = make()
        http.on("session", (session: NodeHttp2.ServerHttp2Session) => sessions.push(session))
        http.on("stream", (stream: NodeHttp2.ServerHttp2Stream) => streams.push(stream))
        const server = yield* listening(http)
        const { load, users } = yield* client(server.uri, options)
        const slow = yield* start(users.get("/slow"))
        yield* until("the server has it", () => streams.length === 1)
        sessions[0]!.goaway(0, 1)
        for (let i = 0; i < 5; i++) assert.strictEqual((yield* users.post("/a")).status, 200)
        streams[0]!.respond({ ":status": 200 })
        streams[0]!.end("finished")
        assert.strictEqual((yield* Fiber.join(slow)).text, "finished")
        assert.deepStrictEqual([server.accepted(), load()], [2, 0])
      }))

    it.live("sends a call elsewhere that the server refuses while it drains, and the others go on", () =>
      Effect.gen(function*() {
        const sessions: Array<NodeHttp2.ServerHttp2Session> = []
        const streams: Array<NodeHttp2.ServerHttp2Stream> = []
        const http = make()
        http.on("session", (session: NodeHttp2.ServerHttp2Session) => sessions.push(session))
        http.on("stream", (stream: NodeHttp2.ServerHttp2Stream) => streams.push(stream))
        const server = yield* listening(http)
        const { load, users } = yield* client(server.uri, options)
        const slow = yield* start(users.get("/slow"))
        const refused = yield* start(users.post("/slow"))
        yield* until("the server has both", () => streams.length === 2)
        // As servers begin that stop: more may still come. undici would send again by itself what is refused after that.
        sessions[0]!.goaway(0, 2 ** 31 - 1)
        yield* users.get("/a")
        streams[1]!.close(NodeHttp2.constants.NGHTTP2_REFUSED_STREAM)
        yield* until("it has come again", () => streams.length === 4)
        streams[3]!.respond({ ":status": 200 })
        streams[3]!.end("elsewhere")
        streams[0]!.respond({ ":status": 200 })
        streams[0]!.end("finished")
        assert.deepStrictEqual([(yield* Fiber.join(refused)).text, (yield* Fiber.join(slow)).text], [
          "elsewhere",
          "finished"
        ])
        assert.deepStrictEqual([sessions.length, server.accepted(), load()], [2, 2, 0])
        yield* until("the one that drained is closed", () => server.open() === 1)
      }))

    it.live("lets the server speak first", () =>
      Effect.gen(function*() {
        const sockets: Array<Net.Socket> = []
        const http = make()
        http.on("connection", (socket) => sockets.push(socket))
        const server = yield* listening(http)
        const { connect, stack } = yield* transport(options)
        const sink = yield* connect(server.port)
        // Its settings come, and nobody has called.
        yield* Effect.sleep(50)
        assert.strictEqual(sink.status.state, "Open")
        const send = sending(sink, Endpoint.tcp("127.0.0.1", server.port), stack, [])
        assert.strictEqual((yield* send(get("/a"))).status, 200)
        // And its end is heard of, too.
        const idle = yield* connect(server.port)
        yield* until("the server has it", () => sockets.length === 2)
        sockets[1]!.end()
        yield* until("it is closed", () => idle.status.state === "Closed")
      }))

    it.live("leaves nothing when it is closed", () =>
      Effect.gen(function*() {
        const server = yield* listening(make())
        const scope = yield* Scope.make()
        const { users } = yield* Scope.provide(client(server.uri, options), scope)
        yield* users.get("/a")
        yield* Scope.close(scope, Exit.void)
        yield* until("no connection is left", () => server.open() === 0)
      }))
  })
}

describe("HTTP/2", () => {
  it.live("does not send what waited for its turn, and is not wanted any more", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const answers: Array<() => void> = []
      const http = NodeHttp2.createServer({ settings: { maxConcurrentStreams: 1 } }, (request, response) => {
        seen.push(request.url)
        if (request.url === "/slow") answers.push(() => response.end("slow"))
        else response.end()
      })
      const server = yield* listening(http as Net.Server)
      const { load, users } = yield* client(server.uri, { http2: true })
      yield* users.get("/first")
      const slow = yield* start(users.get("/slow"))
      yield* until("the server has it", () => answers.length === 1)
      const late = yield* Effect.flip(Rpc.deadline("20 millis")(users.get("/late")))
      assert.deepStrictEqual([late._tag, "reached" in late && late.reached], ["Timeout", "no"])
      answers[0]!()
      assert.strictEqual((yield* Fiber.join(slow)).text, "slow")
      yield* users.get("/last")
      assert.deepStrictEqual([seen, load()], [["/first", "/slow", "/last"], 0])
    }))

  it.live("connects anew when nothing comes any more", () =>
    Effect.gen(function*() {
      const server = yield* Raw.listen
      const { load, users } = yield* client(`tcp://127.0.0.1:${server.port}`, { http2: true })
      for (let i = 1; i <= 3; i++) {
        const error = yield* Effect.flip(Rpc.deadline("30 millis")(users.get("/")))
        assert.deepStrictEqual([error._tag, "reached" in error && error.reached], ["Timeout", "maybe"])
        assert.deepStrictEqual([server.accepted(), load()], [i, 0])
      }
    }))

  it.live("that a server of HTTP/1.1 does not choose is a failure to connect", () =>
    Effect.gen(function*() {
      const { port } = yield* listening(
        NodeHttps.createServer({ cert: certified.certificate, key: certified.key }, listener)
      )
      const { connect } = yield* transport({ tls, http2: true })
      const error = yield* Effect.flip(connect(port))
      assert.deepStrictEqual([error._tag, "phase" in error && error.phase !== "connect"], ["ConnectFailed", true])
    }))
})

describe("an address", () => {
  it.live("of a Unix socket is spoken to as localhost", () =>
    Effect.gen(function*() {
      const path = `/tmp/scales-http-${process.pid}.sock`
      const server = NodeHttp.createServer((request, response) => response.end(request.headers.host))
      yield* Effect.acquireRelease(
        Effect.callback<void>((resume) => void server.listen(path, () => resume(Effect.void))),
        () =>
          Effect.callback<void>((resume) => {
            server.closeAllConnections()
            server.close(() => resume(Effect.void))
          })
      )
      const { users } = yield* client(`unix://${path}`, {})
      assert.strictEqual((yield* users.get("/")).text, "localhost")
    }))
})
