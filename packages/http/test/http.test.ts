// The whole client over real servers: what a call sends, what becomes of its answer, and what is sent again.
import {
  Backoff,
  type Call,
  ClientId,
  Describe,
  describe as described,
  Hedge,
  RequestHeaders,
  Rpc,
  StackClosed,
  Stacks,
  type StackShape,
  Trace,
  type Unsendable,
  WatermarkPool
} from "@scales-rpc/core"
import { Seed } from "@scales-rpc/core/testing"
import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, Context, Effect, Exit, Fiber, Layer, Schema, Scope, Stream, Tracer } from "effect"
import { TracerPropagationEnabled } from "effect/http/HttpClient"
import {
  Http,
  HttpBody,
  HttpBodyError,
  type HttpCallOptions,
  type HttpError,
  type HttpRequest,
  HttpService,
  HttpStatusError,
  HttpWire,
  InvalidRequest,
  RequestBodyFailed,
  ResponseTooLarge,
  serverErrors
} from "../src/index.ts"
import { echo, listen } from "./nodeServer.ts"
import * as Raw from "./raw.ts"
import { failureOf, start, until } from "./support.ts"

class Users extends HttpService<Users>()("Users") {}

/** A client, and its stack. */
const client = (uri: string, options: Omit<Http.HttpOptions, "uri"> = {}) =>
  Effect.map(
    Layer.build(
      Layer.provideMerge(Http.layer(Users, { ...options, uri }), Stacks.layer).pipe(Layer.provide(Seed.layer(1)))
    ),
    (context) => ({ users: Context.get(context, Users), stack: Context.get(context, Stacks).list()[0]! })
  )

const Echoed = Schema.Struct({
  method: Schema.String,
  url: Schema.String,
  headers: Schema.Record(Schema.String, Schema.Union([Schema.String, Schema.Array(Schema.String)])),
  body: Schema.String
})

/** A client of a server that says what it was sent. */
const echoing = (options: Omit<Http.HttpOptions, "uri"> = {}) =>
  Effect.flatMap(listen(echo), (server) => Effect.map(client(server.uri, options), (made) => ({ ...made, server })))

const snapshot = (stack: StackShape, role: string) =>
  described(stack).stages.find((node) => node.role === role)!.state as Record<string, any>

/** Attempts that count as load. */
const load = (stack: StackShape): number => snapshot(stack, "balancer")["load"]

const told = (error: HttpError) => [error._tag, "reached" in error ? error.reached : undefined]

const User = Schema.Struct({ name: Schema.String, born: Schema.DateFromString })

describe("a call", () => {
  it.live("is of the method that it is called by", () =>
    Effect.gen(function*() {
      const { users } = yield* echoing()
      for (const name of ["get", "delete", "post", "put", "patch", "options"] as const) {
        const reply = yield* users[name]("/a")
        assert.strictEqual((yield* reply.json(Echoed)).method, name.toUpperCase())
      }
      const head = yield* users.head("/a")
      assert.deepStrictEqual([head.status, head.text, head.header("Content-Type")], [200, "", "application/json"])
      assert.strictEqual((yield* (yield* users.request("REPORT", "/a")).json(Echoed)).method, "REPORT")
    }))

  it.live("has a path and a query", () =>
    Effect.gen(function*() {
      const { users } = yield* echoing()
      const urlOf = (path: string, query?: Parameters<typeof users.get>[1]) =>
        Effect.flatMap(users.get(path, query), (reply) => Effect.map(reply.json(Echoed), ({ url }) => url))
      assert.strictEqual(yield* urlOf("/a/b%2Fc"), "/a/b%2Fc")
      assert.strictEqual(yield* urlOf("/a b/\u00e9\ud83d\ude00"), "/a%20b/%C3%A9%F0%9F%98%80")
      assert.strictEqual(
        yield* urlOf("/a", { query: { q: "a&b=c d", n: 7, yes: true, list: ["x", "y"], none: undefined } }),
        "/a?q=a%26b%3Dc+d&n=7&yes=true&list=x&list=y"
      )
      assert.strictEqual(yield* urlOf("/a?x=1", { query: { y: 2 } }), "/a?x=1&y=2")
      assert.strictEqual(yield* urlOf("/a?x=1", { query: {} }), "/a?x=1")
    }))

  it.live("has headers over those of its client", () =>
    Effect.gen(function*() {
      const { users } = yield* echoing({ headers: { Authorization: "Bearer a", "x-many": ["1", "2"] } })
      const { headers } = yield* (yield* users.get("/", { headers: { "X-One": "1" } })).json(Echoed)
      assert.deepStrictEqual([headers["authorization"], headers["x-many"], headers["x-one"]], ["Bearer a", "1, 2", "1"])
      const own = yield* (yield* users.get("/", { headers: { authorization: "Bearer b", "X-Many": "3" } }))
        .json(Echoed)
      assert.deepStrictEqual([own.headers["authorization"], own.headers["x-many"]], ["Bearer b", "3"])
    }))

  it.live("has a body of text, JSON, bytes, a form or a stream", () =>
    Effect.gen(function*() {
      const { users } = yield* echoing()
      const sent = (body: HttpBody.HttpBody, headers = {}) =>
        Effect.map(
          Effect.flatMap(users.post("/", { body, headers }), (reply) => reply.json(Echoed)),
          (echoed) => [echoed.headers["content-type"], echoed.headers["content-length"], echoed.body]
        )
      assert.deepStrictEqual(yield* sent(HttpBody.text("h\u00e9")), ["text/plain; charset=utf-8", "3", "h\u00e9"])
      const born = new Date(0)
      assert.deepStrictEqual(yield* sent(HttpBody.json(User, { name: "Ada", born })), [
        "application/json",
        "48",
        `{"name":"Ada","born":"1970-01-01T00:00:00.000Z"}`
      ])
      assert.deepStrictEqual(yield* sent(HttpBody.bytes(Uint8Array.of(104, 105))), [
        "application/octet-stream",
        "2",
        "hi"
      ])
      assert.deepStrictEqual(yield* sent(HttpBody.form({ a: "1 2", b: [3, true] })), [
        "application/x-www-form-urlencoded",
        "16",
        "a=1+2&b=3&b=true"
      ])
      const chunks = Stream.make(Uint8Array.of(104), Uint8Array.of(105))
      assert.deepStrictEqual(yield* sent(HttpBody.stream(chunks)), ["application/octet-stream", undefined, "hi"])
      assert.deepStrictEqual(yield* sent(HttpBody.stream(chunks, { length: 2, contentType: "text/x" })), [
        "text/x",
        "2",
        "hi"
      ])
      assert.deepStrictEqual(yield* sent(HttpBody.text("x"), { "content-type": "text/html" }), ["text/html", "1", "x"])
    }))

  it.live("that its schema refuses is not sent", () =>
    Effect.gen(function*() {
      const { server, users } = yield* echoing()
      const error = yield* Effect.flip(users.post("/", { body: HttpBody.json(Schema.Int, 0.5) }))
      assert.isTrue(error instanceof HttpBodyError && error.what === "request" && error.reached === "no")
      assert.strictEqual(server.accepted(), 0)
    }))

  it.live("is answered with JSON by a schema, or fails with what it is not", () =>
    Effect.gen(function*() {
      const server = yield* listen((request, response) =>
        response.end(
          request.url === "/ada" ? `{"name":"Ada","born":"1815-12-10"}` : request.url === "/list" ? "[]" : "no"
        )
      )
      const { users } = yield* client(server.uri)
      const ada = yield* (yield* users.get("/ada")).json(User)
      assert.deepStrictEqual([ada.name, ada.born.getUTCFullYear()], ["Ada", 1815])
      for (const path of ["/list", "/none"]) {
        const error = yield* Effect.flip(Effect.flatMap(users.get(path), (reply) => reply.json(User)))
        assert.isTrue(error instanceof HttpBodyError && error.what === "response" && error.reached === "maybe")
      }
    }))

  it.live("goes by a name to the client of the program", () =>
    Effect.gen(function*() {
      const server = yield* listen((_, response) => response.end("hi"))
      const context = yield* Layer.build(Layer.provideMerge(Http.layer("Users", { uri: server.uri }), Stacks.layer))
      assert.strictEqual((yield* Context.get(context, Http.Client).get("/")).text, "hi")
      assert.strictEqual(Context.get(context, Stacks).list()[0]!.name, "Users")
    }))

  it.live("takes its options from a Config", () =>
    Effect.gen(function*() {
      const server = yield* listen((_, response) => response.end("hi"))
      const layer = Http.layerConfig(Users, {
        uri: Config.String("USERS_URI"),
        timeout: Config.Duration("USERS_TIMEOUT")
      })
      const provider = ConfigProvider.fromUnknown({ USERS_URI: server.uri, USERS_TIMEOUT: "3 seconds" })
      const context = yield* Layer.build(Layer.provideMerge(layer, Stacks.layer)).pipe(
        Effect.provideService(ConfigProvider.ConfigProvider, provider)
      )
      assert.strictEqual((yield* Context.get(context, Users).get("/")).text, "hi")
      const [stack] = Context.get(context, Stacks).list()
      const { options } = described(stack!).stages.find(({ role }) => role === "dispatcher")!
      assert.deepStrictEqual(options["timeout"], { value: "3000 ms", from: "given" })
    }))
})

describe("a status", () => {
  const answering = (status: number, body: string, options: Omit<Http.HttpOptions, "uri"> = {}) =>
    Effect.flatMap(
      listen((_, response) => {
        response.writeHead(status, "Made up", { "x-why": "because" })
        response.end(body)
      }),
      ({ uri }) => client(uri, options)
    )

  for (const status of [400, 404, 500, 599, 600, 999]) {
    it.live(`of ${status} is an error with its code, reason and the first bytes of its body`, () =>
      Effect.gen(function*() {
        const { users } = yield* answering(status, "x".repeat(5000))
        const secret = "s3cret"
        const error = yield* Effect.flip(users.get(`/a?token=${secret}`, { headers: { authorization: secret } }))
        if (!(error instanceof HttpStatusError)) throw new Error(String(error))
        assert.deepStrictEqual([error.status, error.reason, error.path, error.method], [status, "Made up", "/a", "GET"])
        assert.strictEqual(error.text, "x".repeat(4096))
        assert.deepStrictEqual(error.headers.find(([name]) => name === "x-why"), ["x-why", "because"])
        assert.strictEqual(error.message, `GET /a: ${status} Made up`)
        assert.notInclude(JSON.stringify(error) + String(error), secret)
      }))
  }

  it.live("of 300 to 399 is an answer: no redirect is followed", () =>
    Effect.gen(function*() {
      const elsewhere = yield* listen((_, response) => response.end("elsewhere"))
      const server = yield* listen((_, response) => {
        response.writeHead(302, { location: `http://127.0.0.1:${elsewhere.port}/` })
        response.end()
      })
      const { users } = yield* client(server.uri, { headers: { authorization: "Bearer a" } })
      const reply = yield* users.get("/")
      assert.deepStrictEqual([reply.status, reply.header("location")], [302, `http://127.0.0.1:${elsewhere.port}/`])
      assert.strictEqual(elsewhere.accepted(), 0)
    }))

  it.live("is an answer when errors are turned off, for a client or for a call", () =>
    Effect.gen(function*() {
      const { users } = yield* answering(404, "no")
      assert.strictEqual((yield* users.get("/", { statusErrors: false })).text, "no")
      const { users: quiet } = yield* answering(500, "no", { statusErrors: false })
      assert.strictEqual((yield* quiet.get("/")).status, 500)
      assert.isTrue((yield* Effect.flip(quiet.get("/", { statusErrors: true }))) instanceof HttpStatusError)
    }))

  it.live("fails a streamed call too, and frees its connection", () =>
    Effect.gen(function*() {
      const { stack, users } = yield* answering(404, "x".repeat(100_000))
      const error = yield* Effect.flip(Effect.scoped(users.stream("GET", "/")))
      if (!(error instanceof HttpStatusError)) throw new Error(String(error))
      assert.deepStrictEqual([error.status, error.text], [404, "x".repeat(4096)])
      yield* until("the connection is free", () => load(stack) === 0)
    }))

  for (const how of ["is late", "breaks"]) {
    it.live(`is told by a streamed call whose body ${how}`, () =>
      Effect.gen(function*() {
        const { server, users } = yield* scripted((connection) =>
          Effect.gen(function*() {
            yield* connection.request
            connection.write("HTTP/1.1 503 Busy\r\ncontent-length: 50\r\n\r\nfirst words")
            if (how === "breaks") connection.end()
            yield* connection.ended
          })
        )
        const error = yield* Effect.scoped(users.stream("GET", "/")).pipe(Rpc.deadline("200 millis"), Effect.flip)
        if (!(error instanceof HttpStatusError)) throw new Error(String(error))
        assert.deepStrictEqual([error.status, error.text], [503, "first words"])
        assert.strictEqual(server.accepted(), 1)
      }))
  }

  it.live("of 500 and above marks an endpoint dead in the end, of 4xx does not", () =>
    Effect.gen(function*() {
      for (const [status, failures] of [[500, 1], [404, 0]] as const) {
        const { stack, users } = yield* answering(status, "")
        for (let i = 0; i < 6; i++) yield* Effect.exit(users.get("/"))
        assert.strictEqual(snapshot(stack, "failureAccrual")["removals"], failures)
      }
      const { stack, users } = yield* answering(500, "", { failureStatus: () => false })
      for (let i = 0; i < 6; i++) yield* Effect.exit(users.get("/"))
      assert.strictEqual(snapshot(stack, "failureAccrual")["removals"], 0)
      assert.deepStrictEqual([499, 500].map(serverErrors), [false, true])
    }))
})

describe("the size of an answer", () => {
  it.live("is bounded, by the client and by the call", () =>
    Effect.gen(function*() {
      const server = yield* listen((_, response) => response.end("x".repeat(1000)))
      const { users } = yield* client(server.uri, { maxBytes: 999 })
      const error = yield* Effect.flip(users.get("/"))
      assert.isTrue(error instanceof ResponseTooLarge && error.limit === 999 && error.status === 200)
      assert.strictEqual((yield* users.get("/", { maxBytes: 1000 })).bytes.length, 1000)
    }))

  it.live("has to be a whole number in a call too, or nothing is sent", () =>
    Effect.gen(function*() {
      const { server, users } = yield* echoing()
      for (const maxBytes of [NaN, -1, 1.5, Infinity, "5" as unknown as number]) {
        const error = yield* Effect.flip(users.get("/", { maxBytes }))
        assert.deepStrictEqual(told(error), ["Unsendable", "no"])
        assert.deepInclude((error as Unsendable).cause, { _tag: "InvalidOption", option: "maxBytes", got: maxBytes })
      }
      assert.strictEqual(server.accepted(), 0)
    }))
})

/** Two raw servers under one client, of which each connection is handled by the test. */
const scripted = (handle: (connection: Raw.RawConnection, nth: number) => Effect.Effect<void>, options = {}) =>
  Effect.gen(function*() {
    const server = yield* Raw.listen
    let nth = 0
    yield* Effect.forkScoped(
      Effect.forever(Effect.flatMap(server.accept, (connection) => Effect.forkScoped(handle(connection, nth++))))
    )
    return { ...(yield* client(`tcp://127.0.0.1:${server.port}`, options)), server }
  })

/** Quick, so that the tests are. */
const quick = { retry: { backoff: Backoff.decorrelatedJittered(1, 2) } }

describe("what is sent again", () => {
  /** The first connection breaks once it has a request; later ones answer. */
  const breaking = scripted((connection, nth) =>
    Effect.gen(function*() {
      for (;;) {
        yield* connection.request
        if (nth === 0) return connection.reset()
        connection.write(Raw.ok(`connection ${nth}`))
      }
    }), quick)

  for (const method of ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"]) {
    it.live(`a ${method} that may have been executed`, () =>
      Effect.gen(function*() {
        const { stack, users } = yield* breaking
        const body = method === "PUT" ? { body: HttpBody.text("x") } : {}
        assert.strictEqual((yield* users.request(method, "/", body)).status, 200)
        assert.strictEqual(snapshot(stack, "retry")["retries"], 1)
      }))
  }

  for (const method of ["POST", "PATCH", "REPORT"]) {
    it.live(`no ${method}, unless its caller says so`, () =>
      Effect.gen(function*() {
        const { users } = yield* breaking
        const error = yield* Effect.flip(users.request(method, "/", { body: HttpBody.text("x") }))
        assert.deepStrictEqual(told(error), ["ConnectionClosed", "maybe"])
        const { users: told2 } = yield* breaking
        const reply = yield* told2.request(method, "/", { body: HttpBody.text("x") }).pipe(Rpc.idempotent)
        assert.strictEqual(reply.text, "connection 1")
      }))
  }

  it.live("a GET whose body broke", () =>
    Effect.gen(function*() {
      const { users } = yield* scripted((connection, nth) =>
        Effect.gen(function*() {
          for (;;) {
            yield* connection.request
            if (nth === 0) return connection.end("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
            connection.write(Raw.ok("whole"))
          }
        }), quick)
      assert.strictEqual((yield* users.get("/")).text, "whole")
    }))

  it.live("no stream that has begun to be sent", () =>
    Effect.gen(function*() {
      let runs = 0
      const body = HttpBody.stream(
        Stream.suspend(() => {
          runs++
          return Stream.make(Uint8Array.of(1))
        }),
        { length: 1 }
      )
      const { users } = yield* breaking
      assert.deepStrictEqual(told(yield* Effect.flip(users.put("/", { body }))), ["ConnectionClosed", "maybe"])
      assert.strictEqual(runs, 1)
      const { users: willing } = yield* breaking
      assert.strictEqual((yield* Rpc.idempotent(willing.put("/", { body }))).status, 200)
      assert.strictEqual(runs, 3)
    }))

  it.live("everything that a server refused with Finagle's nack", () =>
    Effect.gen(function*() {
      let requests = 0
      const server = yield* listen((_, response) => {
        if (++requests > 1) return void response.end("now")
        response.writeHead(503, { "finagle-http-nack": "true" })
        response.end()
      })
      const { stack, users } = yield* client(server.uri)
      assert.strictEqual((yield* users.post("/", { body: HttpBody.text("x") })).text, "now")
      assert.strictEqual(snapshot(stack, "requeue")["requeues"], 1)
    }))

  it.live("nothing that a server refused for good", () =>
    Effect.gen(function*() {
      const server = yield* listen((_, response) => {
        response.writeHead(503, { "finagle-http-nonretryable-nack": "true" })
        response.end()
      })
      const { stack, users } = yield* client(server.uri)
      assert.deepStrictEqual(told(yield* Effect.flip(users.get("/"))), ["Nacked", "no"])
      assert.strictEqual(snapshot(stack, "requeue")["requeues"], 0)
    }))

  for (const how of ["end", "reset"] as const) {
    it.live(`whatever finds its connection closed before it was used, by ${how}, without a failure`, () =>
      Effect.gen(function*() {
        const { server, stack, users } = yield* scripted((connection, nth) =>
          Effect.gen(function*() {
            yield* connection.request
            connection.write(Raw.ok(`connection ${nth}`))
            // The client is to have its answer, and not to know yet.
            yield* Effect.sleep(1)
            connection[how]()
          })
        )
        for (let i = 0; i < 10; i++) {
          assert.strictEqual((yield* users.post("/", { body: HttpBody.text("x") })).text, `connection ${i}`)
          // It sees nothing for a while: what the server says lies unread in the socket when the next call comes.
          const until = performance.now() + 10
          while (performance.now() < until) {}
        }
        assert.strictEqual(server.accepted(), 10)
        assert.strictEqual(snapshot(stack, "retry")["retries"], 0)
      }))
  }
})

describe("a body that its caller cannot give", () => {
  it.live("fails the call with its cause, and is not tried again", () =>
    Effect.gen(function*() {
      const { stack, users } = yield* echoing()
      const stream = Stream.concat(Stream.make(Uint8Array.of(1)), Stream.fail("disk full"))
      const error = yield* Effect.flip(users.put("/", { body: HttpBody.stream(stream) }))
      assert.isTrue(error instanceof RequestBodyFailed && error.cause === "disk full" && error.reached === "maybe")
      assert.deepStrictEqual([snapshot(stack, "retry")["retries"], load(stack)], [0, 0])
    }))

  it.live("or that HTTP does not allow is not sent", () =>
    Effect.gen(function*() {
      const { users } = yield* echoing()
      const error = yield* Effect.flip(users.get("/", { headers: { expect: "100-continue" } }))
      assert.isTrue(
        error._tag === "Unsendable" && error.cause instanceof InvalidRequest && error.cause.name === "expect"
      )
      const split = yield* Effect.flip(users.get("/a\r\nx-admin: 1"))
      assert.isTrue(
        split._tag === "Unsendable" && split.cause instanceof InvalidRequest && split.cause.part === "target"
      )
    }))
})

describe("a call's time", () => {
  it.live("covers the body", () =>
    Effect.gen(function*() {
      const server = yield* listen((_, response) => {
        response.writeHead(200, { "content-length": "10" })
        response.write("abc")
      })
      const { stack, users } = yield* client(server.uri)
      const error = yield* Effect.flip(Rpc.deadline("50 millis")(users.get("/")))
      assert.deepStrictEqual(told(error), ["Timeout", "maybe"])
      yield* until("the server's end is closed", () => server.open() === 0)
      assert.strictEqual(load(stack), 0)
    }))

  it.live("covers a streamed body, though the head came in time", () =>
    Effect.gen(function*() {
      const server = yield* listen((_, response) => {
        response.writeHead(200, { "content-length": "10" })
        response.write("abc")
      })
      const { stack, users } = yield* client(server.uri)
      const reply = yield* Rpc.deadline("100 millis")(users.stream("GET", "/"))
      assert.strictEqual(load(stack), 1)
      const error = yield* Effect.flip(Stream.runDrain(reply.stream))
      assert.deepStrictEqual(told(error), ["Timeout", "maybe"])
      yield* until("the server's end is closed", () => server.open() === 0)
      assert.strictEqual(load(stack), 0)
    }))

  it.live("ends when it is interrupted, and the server hears of it", () =>
    Effect.gen(function*() {
      let closed = false
      let begun = false
      const server = yield* listen((request, response) => {
        begun = true
        response.on("close", () => void (closed = true))
        request.resume()
      })
      const { stack, users } = yield* client(server.uri)
      const calling = yield* start(users.get("/"))
      yield* until("the server has it", () => begun)
      assert.strictEqual(load(stack), 1)
      yield* Fiber.interrupt(calling)
      yield* until("the server hears of it", () => closed)
      assert.strictEqual(load(stack), 0)
      yield* until("no connection is left", () => server.open() === 0)
    }))
})

describe("a streamed answer", () => {
  const slow = listen((_, response) => {
    response.writeHead(200, { "content-length": "6" })
    response.write("abc")
    setTimeout(() => response.end("def"), 20)
  })

  it.live("is load until its end, and its connection is used again", () =>
    Effect.gen(function*() {
      const server = yield* slow
      const { stack, users } = yield* client(server.uri)
      for (let i = 0; i < 3; i++) {
        yield* Effect.scoped(Effect.gen(function*() {
          const reply = yield* users.stream("GET", "/")
          assert.deepStrictEqual([reply.status, load(stack)], [200, 1])
          const text = yield* Stream.mkString(Stream.decodeText(reply.stream))
          assert.deepStrictEqual([text, load(stack)], ["abcdef", 0])
        }))
      }
      assert.strictEqual(server.accepted(), 1)
      assert.strictEqual(snapshot(stack, "dispatcher")["outstanding"], 0)
    }))

  it.live("frees its connection when its scope closes", () =>
    Effect.gen(function*() {
      const server = yield* listen((_, response) => void response.write("abc"))
      const { stack, users } = yield* client(server.uri)
      const scope = yield* Scope.make()
      yield* Scope.provide(users.stream("GET", "/"), scope)
      assert.strictEqual(load(stack), 1)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(load(stack), 0)
      assert.strictEqual(snapshot(stack, "dispatcher")["outstanding"], 0)
      yield* until("no connection is left", () => server.open() === 0)
    }))

  it.live("that a filter drops is closed, whether the call fails or has another answer", () =>
    Effect.gen(function*() {
      const server = yield* listen((_, response) => void response.write("abc"))
      const above = (again: boolean) =>
        Layer.effect(
          HttpWire.Balanced,
          Effect.map(HttpWire.Balanced, (inner) => ({
            ...inner,
            send: (request: HttpRequest, call: Call) =>
              Effect.flatMap(inner.send(request, call), () =>
                again
                  ? inner.send(request, call)
                  : Effect.fail(new StackClosed({ stack: "s", reached: "maybe", endpoint: undefined })))
          }))
        )
      const built = (again: boolean) =>
        Effect.map(
          Layer.build(Layer.provideMerge(Http.layer(Users, { uri: server.uri, above: above(again) }), Stacks.layer)),
          (context) => ({ users: Context.get(context, Users), stack: Context.get(context, Stacks).list().at(-1)! })
        )
      const failing = yield* built(false)
      assert.strictEqual((yield* Effect.flip(failing.users.stream("GET", "/")))._tag, "StackClosed")
      assert.strictEqual(load(failing.stack), 0)
      const twice = yield* built(true)
      yield* Effect.scoped(Effect.gen(function*() {
        const reply = yield* twice.users.stream("GET", "/")
        assert.strictEqual(load(twice.stack), 1)
        assert.strictEqual((yield* Stream.runHead(Stream.decodeText(reply.stream)))._tag, "Some")
      }))
      assert.strictEqual(load(twice.stack), 0)
      yield* until("no connection is left", () => server.open() === 0)
    }))

  it.live("and 200 calls that are interrupted at any moment leave no load and no connection", () =>
    Effect.gen(function*() {
      const server = yield* slow
      const { stack, users } = yield* client(server.uri, { connections: { idleTime: "10 millis" } })
      yield* Effect.forEach(Array.from({ length: 200 }, (_, i) => i), (i) =>
        Effect.gen(function*() {
          const calling = yield* start(
            Effect.scoped(Effect.flatMap(users.stream("GET", "/"), (reply) => Stream.runDrain(reply.stream)))
          )
          yield* Effect.sleep(i % 25)
          yield* Fiber.interrupt(calling)
        }), { concurrency: 20 })
      assert.strictEqual(load(stack), 0)
      assert.strictEqual(snapshot(stack, "dispatcher")["outstanding"], 0)
      yield* until("idle connections are closed", () => server.open() === 0)
      assert.deepStrictEqual(snapshot(stack, "transport")["connections"], [])
    }))
})

describe("a client that is closed", () => {
  it.live("waits for what is outstanding, then ends it, and leaves nothing", () =>
    Effect.gen(function*() {
      const server = yield* listen((request, response) => {
        if (request.url === "/slow") setTimeout(() => response.end("done"), 50)
        else if (request.url === "/stream") response.write("abc")
      })
      const scope = yield* Scope.make()
      const { users } = yield* Scope.provide(client(server.uri, { drainTimeout: "200 millis" }), scope)
      const slow = yield* start(users.get("/slow"))
      const stuck = yield* start(users.get("/stuck"))
      const body = yield* users.stream("GET", "/stream")
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* Fiber.join(slow)).text, "done")
      assert.deepStrictEqual(told(yield* failureOf(stuck)), ["StackClosed", "maybe"])
      assert.deepStrictEqual(told(yield* Effect.flip(Stream.runDrain(body.stream))), ["StackClosed", "maybe"])
      assert.deepStrictEqual(told(yield* Effect.flip(users.get("/"))), ["StackClosed", "no"])
      yield* until("no connection is left", () => server.open() === 0)
    }))
})

describe("what travels with a call", () => {
  it.live("is the span it is made in, unless told otherwise", () =>
    Effect.gen(function*() {
      const { users } = yield* echoing()
      const sent = yield* Effect.gen(function*() {
        const span = yield* Effect.currentSpan
        const { headers } = yield* (yield* users.get("/")).json(Echoed)
        assert.strictEqual(headers["traceparent"], `00-${span.traceId}-${span.spanId}-01`)
        const own = yield* (yield* users.get("/", { headers: { traceparent: "mine" } })).json(Echoed)
        return own.headers["traceparent"]
      }).pipe(Effect.withSpan("outer"))
      assert.strictEqual(sent, "mine")
      assert.isUndefined((yield* (yield* users.get("/")).json(Echoed)).headers["traceparent"])
      const { users: silent } = yield* echoing({ traceparent: false })
      const { headers } = yield* (yield* silent.get("/").pipe(Effect.withSpan("outer"))).json(Echoed)
      assert.isUndefined(headers["traceparent"])
    }))

  it.live("is no span whose ids W3C does not have, or that is not to be propagated", () =>
    Effect.gen(function*() {
      const { users } = yield* echoing()
      const sent = <E, R>(around: (self: Effect.Effect<unknown, HttpError>) => Effect.Effect<unknown, E, R>) =>
        Effect.gen(function*() {
          let headers: Readonly<Record<string, unknown>> = {}
          yield* around(
            Effect.map(Effect.flatMap(users.get("/"), (reply) => reply.json(Echoed)), (echoed) => {
              headers = echoed.headers
            })
          )
          assert.isDefined(headers["host"])
          return headers["traceparent"]
        })
      const under = (traceId: string, spanId: string) =>
        sent(Effect.withParentSpan(Tracer.externalSpan({ traceId, spanId, sampled: true })))
      assert.strictEqual(yield* under("ABC", "7"), `00-${"abc".padStart(32, "0")}-${"7".padStart(16, "0")}-01`)
      for (const id of ["noop", "a\r\nb", "", "0", "1".repeat(33)]) assert.isUndefined(yield* under(id, "7"), id)
      for (const id of ["noop", "a\r\nb", "", "0", "12345678901234567"]) assert.isUndefined(yield* under("7", id), id)
      assert.isUndefined(yield* sent((self) => Effect.withTracerEnabled(Effect.withSpan(self, "s"), false)))
      const external = Effect.withParentSpan(Tracer.externalSpan({ traceId: "1", spanId: "2" }))
      assert.isDefined(yield* sent(external))
      for (const [off, value] of [[TracerPropagationEnabled, false], [Tracer.DisablePropagation, true]] as const) {
        assert.isUndefined(yield* sent((self) => Effect.provideService(external(self), off, value)))
      }
    }))

  /** What a POST's fields were, line by line, but for the transport's. */
  const linesOf = (
    headers: NonNullable<Http.HttpOptions["headers"]>,
    options: HttpCallOptions,
    given: ReadonlyArray<readonly [string, string]>
  ) =>
    Effect.scoped(Effect.gen(function*() {
      const peer = yield* Raw.listen
      const { users } = yield* client(`tcp://127.0.0.1:${peer.port}`, { headers })
      yield* start(Effect.exit(Rpc.context(RequestHeaders, given)(users.post("/", options))))
      const server = yield* peer.accept
      const request = yield* server.request
      server.write(Raw.ok(""))
      return request.headers.filter((line) => /^(authorization|content-type|x-)/i.test(line))
    }))

  it.live("are fields of the caller's context, over the client's and under those of the call", () =>
    Effect.gen(function*() {
      const headers = { Authorization: "client" }
      assert.deepStrictEqual(yield* linesOf(headers, {}, [["x-a", "1"], ["X-A", "2"]]), [
        "authorization: client",
        "x-a: 1",
        "X-A: 2"
      ])
      assert.deepStrictEqual(
        yield* linesOf(headers, { headers: { authorization: "mine", "X-a": "1" } }, [["Authorization", "o"], [
          "x-A",
          "o"
        ]]),
        ["authorization: mine", "x-a: 1"]
      )
      assert.deepStrictEqual(yield* linesOf(headers, {}, [["authorization", "first"], ["Authorization", "last"]]), [
        "Authorization: last"
      ])
    }))

  it.live("has one content-type and one authorization, or is not sent", () =>
    Effect.gen(function*() {
      const body = HttpBody.text("x", "call/body")
      const type = { "content-type": "client/x" }
      assert.deepStrictEqual(yield* linesOf(type, { body }, [["Content-Type", "o/o"]]), ["content-type: call/body"])
      assert.deepStrictEqual(
        yield* linesOf(type, { body, headers: { "Content-Type": "a/b", "content-type": "c/d" } }, []),
        [
          "content-type: c/d"
        ]
      )
      const { server, users } = yield* echoing()
      for (const name of ["Authorization", "content-type", "Host"]) {
        const error = yield* Effect.flip(users.get("/", { headers: { [name]: ["a", "b"] } }))
        assert.deepStrictEqual(told(error), ["Unsendable", "no"])
        assert.deepInclude((error as Unsendable).cause, { _tag: "InvalidRequest", name: name.toLowerCase() })
      }
      assert.strictEqual(server.accepted(), 0)
      const absent = yield* Effect.flip(users.get("/", { headers: { "x-a": undefined as unknown as string } }))
      assert.deepInclude((absent as Unsendable).cause, { _tag: "InvalidRequest", name: "x-a" })
    }))

  it.live("are Finagle's fields when they are asked for", () =>
    Effect.gen(function*() {
      const { users } = yield* echoing({ finagle: true, clientId: "scales" })
      const trace = { traceId: 0x1fn, traceIdHigh: 0x2n, spanId: 0x3n, parentId: 0x4n, flags: 6n }
      const before = Date.now()
      const { headers } = yield* (yield* users.post("/", { body: HttpBody.text("x") }).pipe(
        Rpc.context(Trace, trace),
        Rpc.deadline("7 seconds")
      )).json(Echoed)
      const [now, due] = String(headers["finagle-ctx-com.twitter.finagle.deadline"]).split(" ").map(BigInt)
      assert.isTrue(now! >= BigInt(before) * 1_000_000n && now! <= BigInt(Date.now()) * 1_000_000n)
      assert.isAtMost(Math.abs(Number(due! - now!) / 1e6 - 7000), 1000)
      assert.strictEqual(headers["finagle-ctx-com.twitter.finagle.retries"], "0")
      assert.strictEqual(headers["finagle-http-retryable-request"], "")
      assert.strictEqual(headers[`finagle-ctx-${ClientId.id.toLowerCase()}`], "scales")
      assert.strictEqual(headers["x-b3-traceid"], "0000000000000002000000000000001f")
      assert.match(String(headers["x-b3-spanid"]), /^[0-9a-f]{16}$/)
      assert.deepStrictEqual(
        [headers["x-b3-parentspanid"], headers["x-b3-sampled"], headers["x-b3-flags"]],
        ["0000000000000003", "true", "0"]
      )
      const backup = "finagle-ctx-com.twitter.finagle.backuprequest"
      assert.isUndefined(headers[backup])
      const second = yield* Rpc.context(Hedge.BackupRequest, true)(users.get("/"))
      assert.strictEqual((yield* second.json(Echoed)).headers[backup], "1")
      const get = yield* (yield* users.get("/")).json(Echoed)
      assert.isUndefined(get.headers["finagle-http-retryable-request"])
    }))

  it.live("are none of Finagle's unless they are", () =>
    Effect.gen(function*() {
      const { users } = yield* echoing()
      const { headers } = yield* (yield* users.get("/").pipe(
        Rpc.context(ClientId, "scales"),
        Rpc.context(Hedge.BackupRequest, true)
      )).json(Echoed)
      assert.deepStrictEqual(Object.keys(headers).filter((name) => /finagle|b3/.test(name)), [])
    }))

  it.live("are the headers of the reply, for a caller that asks", () =>
    Effect.gen(function*() {
      const server = yield* listen((_, response) => {
        response.setHeader("x-version", "7")
        response.end()
      })
      const { users } = yield* client(server.uri)
      const [, headers] = yield* Rpc.withReplyHeaders(users.get("/"))
      assert.deepStrictEqual(headers.find(([name]) => name === "x-version"), ["x-version", "7"])
    }))
})

describe("options", () => {
  const wrong: ReadonlyArray<readonly [string, Omit<Http.HttpOptions, "uri">, string]> = [
    ["timeout", { timeout: 0 }, "timeout"],
    ["maxBytes", { maxBytes: -1 }, "maxBytes"],
    ["maxHeaderBytes", { maxHeaderBytes: 1 }, "maxHeaderBytes"],
    ["connectTimeout", { connectTimeout: 0 }, "connectTimeout"],
    ["a header", { headers: { "x-a": "a\r\nb" } }, "headers.x-a"],
    ["a header that is no text", { headers: { "x-a": 5 as unknown as string } }, "headers.x-a"],
    ["a header that has to be alone", { headers: { Authorization: ["a", "b"] } }, "headers.authorization"],
    ["a host that is there twice", { headers: { host: ["a", "b"] } }, "headers.host"],
    ["the length of a body", { headers: { "Content-Length": "0" } }, "headers.content-length"],
    ["failureStatus", { failureStatus: 5 as unknown as () => boolean }, "failureStatus"],
    ["clientId", { clientId: "a\nb", finagle: true }, "clientId"],
    ["clientId without finagle", { clientId: "a" }, "clientId"]
  ]
  it.effect.each(wrong)("%s out of its range fails the build", ([, options, option]) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(client("tcp://127.0.0.1:1", options))
      assert.isTrue(error._tag === "InvalidOption" && error.option === option)
    }))

  it.effect("have the defaults that are written", () =>
    Effect.gen(function*() {
      const { stack } = yield* client("tcp://127.0.0.1:1")
      const optionsOf = (role: string) => described(stack).stages.find((node) => node.role === role)!.options
      const byDefault = (options: Readonly<Record<string, unknown>>) =>
        Object.fromEntries(Object.entries(options).map(([name, value]) => [name, { value, from: "default" }]))
      assert.deepStrictEqual(optionsOf("dispatcher")["timeout"], { value: "60000 ms", from: "default" })
      assert.deepStrictEqual(
        optionsOf("transport"),
        byDefault({
          http2: false,
          connectTimeout: "1000 ms",
          tls: "none",
          maxHeaderBytes: 16_384,
          finagle: false
        })
      )
      assert.deepStrictEqual(
        optionsOf("http"),
        byDefault({
          headers: {},
          statusErrors: true,
          maxBytes: 5_242_880,
          failureStatus: "500 and above",
          traceparent: true
        })
      )
    }))

  it.effect("are described as they were given, without what may be a secret", () =>
    Effect.gen(function*() {
      const { stack } = yield* client("tcp://127.0.0.1:1", {
        headers: {
          accept: ["text/plain", "text/html"],
          authorization: "Bearer hunter2",
          "x-own": "hunter3",
          "user-agent": "tests"
        },
        maxBytes: 7,
        connectTimeout: "2 seconds",
        failureStatus: (status) => status > 500
      })
      const optionsOf = (role: string) => described(stack).stages.find((node) => node.role === role)!.options
      assert.deepInclude(optionsOf("http"), {
        headers: {
          value: {
            accept: "text/plain, text/html",
            authorization: "<redacted>",
            "x-own": "<redacted>",
            "user-agent": "tests"
          },
          from: "given"
        },
        maxBytes: { value: 7, from: "given" },
        statusErrors: { value: true, from: "default" },
        failureStatus: { value: "a function", from: "given" }
      })
      assert.deepInclude(optionsOf("transport"), {
        connectTimeout: { value: "2000 ms", from: "given" },
        finagle: { value: false, from: "default" }
      })
      assert.notInclude(Describe.render(described(stack)), "hunter")
    }))

  it.effect("show no secret", () =>
    Effect.gen(function*() {
      const { stack } = yield* client("tcp://127.0.0.1:1", { headers: { authorization: "s3cret" } })
      assert.notInclude(JSON.stringify(described(stack)), "s3cret")
    }))

  it.live("a role of one's own takes its place", () =>
    Effect.gen(function*() {
      const { server, users } = yield* Effect.gen(function*() {
        const server = yield* listen(echo)
        const context = yield* Layer.build(
          Http.layer(Users, { uri: server.uri, pool: WatermarkPool.layer(HttpWire, { high: 1 }) })
        )
        return { server, users: Context.get(context, Users) }
      })
      yield* Effect.forEach([1, 2, 3, 4], () => users.get("/"), { concurrency: 4 })
      assert.strictEqual(server.accepted(), 1)
    }))
})
