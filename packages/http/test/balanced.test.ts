// Effect's HttpClient over the stack: programs that are written against it, over real servers.
import { describe as described, P2C, Rpc, Stacks, type StackShape } from "@scales-rpc/core"
import { Certificates, Recorder, Seed } from "@scales-rpc/core/testing"
import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Config,
  ConfigProvider,
  Context,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Option,
  Scope,
  Stream
} from "effect"
import { HttpBody, HttpClient, type HttpClientError, HttpClientRequest, type HttpClientResponse } from "effect/http"
import { EventEmitter, once } from "node:events"
import * as NodeHttp2 from "node:http2"
import * as NodeHttps from "node:https"
import { Readable } from "node:stream"
import { inspect } from "node:util"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { BalancedHttpClient, ForeignUrl, HttpWire, type InvalidRequest, type RequestBodyFailed } from "../src/index.ts"
import { echo, listen, listening } from "./nodeServer.ts"
import * as Raw from "./raw.ts"
import { failureOf, start, until } from "./support.ts"

type Options = Omit<BalancedHttpClient.BalancedHttpClientOptions, "uri">

/** A client, and its stack. */
const client = (uri: string, options: Options = {}) =>
  Effect.map(
    Layer.build(
      Layer.provideMerge(BalancedHttpClient.layer({ name: "users", ...options, uri }), Stacks.layer).pipe(
        Layer.provide(Seed.layer(1))
      )
    ),
    (context) => ({
      http: Context.get(context, HttpClient.HttpClient),
      stack: Context.get(context, Stacks).list()[0]!
    })
  )

interface Echoed {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** A client of a server that says what it was sent. */
const echoing = (options: Options = {}) =>
  Effect.flatMap(listen(echo), (server) => Effect.map(client(server.uri, options), (made) => ({ ...made, server })))

/** A server that gives each request to a handler of the test's, beside a client. */
const serving = (handler: Parameters<typeof listen>[0], options: Options = {}) =>
  Effect.flatMap(listen(handler), (server) => Effect.map(client(server.uri, options), (made) => ({ ...made, server })))

const echoed = <E, R>(response: Effect.Effect<HttpClientResponse.HttpClientResponse, E, R>) =>
  Effect.flatMap(response, ({ json }) => Effect.map(json, (body) => body as unknown as Echoed))

const snapshot = (stack: StackShape, role: string) =>
  described(stack).stages.find((node) => node.role === role)!.state as Record<string, any>

/** Attempts that count as load. */
const load = (stack: StackShape): number => snapshot(stack, "balancer")["load"]

/** What a request failed with: Effect's reason, and ours. */
const told = ({ cause, reason }: HttpClientError.HttpClientError): ReadonlyArray<string | undefined> => [
  reason._tag,
  (cause as { readonly _tag?: string } | undefined)?._tag
]

const bytesOf = (...chunks: ReadonlyArray<string>) => Stream.fromIterable(chunks.map((chunk) => Buffer.from(chunk)))

const text = <E>(response: Effect.Effect<HttpClientResponse.HttpClientResponse, E>) =>
  Effect.flatMap(response, (response) => response.text)

describe("a URL", () => {
  it.live("has the service's name as its host, or none", () =>
    Effect.gen(function*() {
      const { http, server } = yield* echoing()
      const sent = (url: string) => Effect.map(echoed(http.get(url)), ({ headers, url }) => [headers["host"], url])
      for (const url of ["http://users/a?b=1#c", "HTTP://Users:80/a?b=1", "/a?b=1", "a?b=1"]) {
        assert.deepStrictEqual(yield* sent(url), ["users", "/a?b=1"], url)
      }
      assert.deepStrictEqual(yield* sent("?b=1"), ["users", "/?b=1"])
      assert.deepStrictEqual(yield* sent(""), ["users", "/"])
      assert.deepStrictEqual(yield* sent("/a b/\u00e9"), ["users", "/a%20b/%C3%A9"])
      const query = yield* echoed(http.get("/a", { urlParams: { q: "c d", list: ["x", "y"] } }))
      assert.strictEqual(query.url, "/a?q=c+d&list=x&list=y")
      const own = yield* echoed(http.get("/a", { headers: { Host: "other" } }))
      assert.strictEqual(own.headers["host"], "other")
      assert.strictEqual(server.accepted(), 1)
    }))

  it.live("is completed after whatever a program puts before it", () =>
    Effect.gen(function*() {
      const { http } = yield* echoing()
      const under = (base: string) => HttpClient.mapRequest(http, HttpClientRequest.prependUrl(base))
      for (const base of ["http://users/api", "/api", "api"]) {
        assert.strictEqual((yield* echoed(under(base).get("/a"))).url, "/api/a", base)
      }
    }))

  it.live("leaves a request that is used again as it was", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* echoing({ name: "a" }), yield* echoing({ name: "b" })]
      const request = HttpClientRequest.get("/x")
      for (const { http, host } of [{ http: a.http, host: "a" }, { http: b.http, host: "b" }]) {
        assert.strictEqual((yield* echoed(http.execute(request))).headers["host"], host)
      }
      assert.strictEqual(request.url, "/x")
    }))

  it.live("has the first address of a tcp URI as its host when no name is given", () =>
    Effect.gen(function*() {
      const { port, uri } = yield* listen(echo)
      const { http } = yield* client(`${uri},127.0.0.1:1`, { name: undefined })
      const { headers } = yield* echoed(http.get(`http://127.0.0.1:${port}/a`))
      assert.strictEqual(headers["host"], `127.0.0.1:${port}`)
      assert.strictEqual((yield* echoed(http.get("/a"))).headers["host"], `127.0.0.1:${port}`)
    }))

  for (
    const url of [
      "http://other/a",
      "//other/a",
      "http://users:81/a",
      "http://users.evil.example/a",
      "https://users/a",
      "ftp://users/a",
      "http://ada:secret@users/a"
    ]
  ) {
    it.live(`${url} is sent to nobody`, () =>
      Effect.gen(function*() {
        const { http, server, stack } = yield* echoing()
        const error = yield* Effect.flip(http.get(url, { headers: { authorization: "Bearer secret" } }))
        assert.deepStrictEqual(told(error), ["InvalidUrlError", "ForeignUrl"])
        assert.instanceOf(error.cause, ForeignUrl)
        assert.notInclude(inspect(error, { depth: 9 }) + error.message, "secret")
        assert.deepStrictEqual([server.accepted(), snapshot(stack, "dispatcher")["calls"]], [0, 0])
      }))
  }

  it.live("that is none is sent to nobody", () =>
    Effect.gen(function*() {
      const { http, server } = yield* echoing()
      assert.deepStrictEqual(told(yield* Effect.flip(http.get("http://[/")))[0], "InvalidUrlError")
      assert.strictEqual(server.accepted(), 0)
    }))

  for (const name of ["a b", "users/x", "", "a@b", "users?", "http://users"]) {
    it.live(`cannot have "${name}" as its host`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(client("tcp://127.0.0.1:1", { name }))
        assert.deepInclude(error, { _tag: "InvalidOption", option: "name", got: name })
      }))
  }

  it.live("has a host that has to be given when the URI has none", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(client("unix:///tmp/none", { name: undefined }))
      assert.deepInclude(error, { _tag: "InvalidOption", option: "name", got: undefined })
    }))
})

it.effect("a failureStatus that is no function fails the build", () =>
  Effect.gen(function*() {
    const failureStatus = 5 as unknown as (status: number) => boolean
    const error = yield* Effect.flip(client("tcp://127.0.0.1:1", { failureStatus }))
    assert.deepInclude(error, { _tag: "InvalidOption", option: "failureStatus" })
  }))

it.live("its options come from a Config too", () =>
  Effect.gen(function*() {
    const { uri } = yield* listen(echo)
    const layer = BalancedHttpClient.layerConfig({ uri: Config.String("USERS_URI"), name: Config.succeed("users") })
    const sent = echoed(HttpClient.get("http://users/a")).pipe(
      Effect.provide(Layer.provide(layer, ConfigProvider.layer(ConfigProvider.fromUnknown({ USERS_URI: uri }))))
    )
    assert.strictEqual((yield* sent).url, "/a")
    const missing = yield* Effect.flip(
      Effect.provide(sent, Layer.provide(layer, ConfigProvider.layer(ConfigProvider.fromUnknown({}))))
    )
    assert.strictEqual(missing._tag, "ConfigError")
  }))

describe("a request", () => {
  it.live("has its method and its headers", () =>
    Effect.gen(function*() {
      const { http } = yield* echoing()
      for (const name of ["get", "del", "post", "put", "patch", "options"] as const) {
        const { headers, method } = yield* echoed(http[name]("/", { headers: { "X-One": "1", accept: "a/b" } }))
        assert.deepStrictEqual([method, headers["x-one"], headers["accept"]], [
          name === "del" ? "DELETE" : name.toUpperCase(),
          "1",
          "a/b"
        ])
      }
      const head = yield* http.head("/")
      assert.deepStrictEqual([head.status, yield* head.text, head.headers["content-type"]], [
        200,
        "",
        "application/json"
      ])
    }))

  it.live("has a body of text, JSON, bytes, fields, a stream, or what else the platform takes", () =>
    Effect.gen(function*() {
      const { http } = yield* echoing()
      const sent = (body: HttpBody.HttpBody) =>
        Effect.map(
          echoed(http.post("/", { body })),
          ({ body, headers }) => [headers["content-type"], headers["content-length"], body]
        )
      assert.deepStrictEqual(yield* sent(HttpBody.text("h\u00e9")), ["text/plain", "3", "h\u00e9"])
      assert.deepStrictEqual(yield* sent(HttpBody.jsonUnsafe({ a: 1 })), ["application/json", "7", `{"a":1}`])
      const bytes = Buffer.from("hi")
      assert.deepStrictEqual(yield* sent(HttpBody.uint8Array(bytes)), ["application/octet-stream", "2", "hi"])
      const form = "application/x-www-form-urlencoded"
      assert.deepStrictEqual(yield* sent(HttpBody.urlParams({ a: "b c" })), [form, "5", "a=b+c"])
      const octets = "application/octet-stream"
      assert.deepStrictEqual(yield* sent(HttpBody.stream(bytesOf("a", "bc"))), [octets, undefined, "abc"])
      assert.deepStrictEqual(yield* sent(HttpBody.stream(bytesOf("a", "bc"), octets, 3)), [
        octets,
        "3",
        "abc"
      ])
      assert.deepStrictEqual(yield* sent(HttpBody.empty), [undefined, "0", ""])
      assert.deepStrictEqual(yield* sent(HttpBody.raw("raw")), [undefined, "3", "raw"])
      assert.deepStrictEqual(yield* sent(HttpBody.raw(bytes)), [undefined, "2", "hi"])
      assert.deepStrictEqual(yield* sent(HttpBody.raw(null)), [undefined, "0", ""])
      assert.deepStrictEqual(yield* sent(HttpBody.raw(new Uint8Array(bytes).buffer)), [undefined, "2", "hi"])
      assert.deepStrictEqual(yield* sent(HttpBody.raw(new Blob(["hi"], { type: "a/b" }))), ["a/b", "2", "hi"])
      assert.deepStrictEqual(yield* sent(HttpBody.raw(new Blob(["hi"]).stream())), [undefined, undefined, "hi"])
      assert.deepStrictEqual(yield* sent(HttpBody.raw(new Blob(["hi"]).stream(), { contentLength: 2 })), [
        undefined,
        "2",
        "hi"
      ])
    }))

  it.live("has a form with files", () =>
    Effect.gen(function*() {
      const { http } = yield* echoing()
      const form = new FormData()
      form.append("name", "Ada")
      form.append("file", new Blob(["bytes"], { type: "a/b" }), "f.txt")
      const { body, headers } = yield* echoed(http.post("/", { body: HttpBody.formData(form) }))
      assert.strictEqual(headers["content-length"], String(body.length))
      const read = yield* Effect.promise(() =>
        new Response(body, { headers: { "content-type": headers["content-type"]! } }).formData()
      )
      const file = read.get("file") as File
      assert.deepStrictEqual([read.get("name"), file.name, file.type], ["Ada", "f.txt", "a/b"])
      assert.strictEqual(yield* Effect.promise(() => file.text()), "bytes")
    }))

  it.live("that cannot be sent is not sent, and says why", () =>
    Effect.gen(function*() {
      let requests = 0
      const { http } = yield* serving((request, response) => {
        requests++
        echo(request, response)
      })
      const refused = (request: HttpClientRequest.HttpClientRequest) => Effect.flip(http.execute(request))
      for (const name of ["expect", "upgrade", "connection", "transfer-encoding"]) {
        const error = yield* refused(HttpClientRequest.get("/", { headers: { [name]: "x", authorization: "secret" } }))
        assert.deepStrictEqual(told(error), ["EncodeError", "InvalidRequest"], name)
        assert.deepInclude(error.cause as InvalidRequest, { part: "header", name })
        assert.include(error.message, `header "${name}"`)
      }
      const split = yield* refused(HttpClientRequest.get("/", { headers: { "x-a": "1\r\nx-b: secret" } }))
      assert.deepStrictEqual(told(split), ["EncodeError", "InvalidRequest"])
      const length = yield* refused(
        HttpClientRequest.setHeader(
          HttpClientRequest.bodyText(HttpClientRequest.post("/"), "abc"),
          "content-length",
          "1"
        )
      )
      assert.deepStrictEqual(told(length), ["EncodeError", "InvalidRequest"])
      const junk = yield* refused(HttpClientRequest.post("/", { body: HttpBody.raw({}) }))
      assert.strictEqual(junk.reason._tag, "EncodeError")
      // They may have had connections; what a server got was nothing.
      assert.strictEqual((yield* echoed(http.get("/"))).method, "GET")
      assert.strictEqual(requests, 1)
    }))

  it.live("whose stream fails is its stream's failure", () =>
    Effect.gen(function*() {
      const { http } = yield* echoing()
      const body = HttpBody.stream(Stream.concat(bytesOf("a"), Stream.fail(new Error("disk"))))
      const error = yield* Effect.flip(http.post("/", { body }))
      assert.deepStrictEqual(told(error), ["EncodeError", "RequestBodyFailed"])
      assert.include(((error.cause as RequestBodyFailed).cause as Error).message, "disk")
    }))
})

describe("a body that can be read once", () => {
  const bytes = (text: string) => new TextEncoder().encode(text)
  const generator = async function*() {
    yield bytes("hello ")
    yield bytes("world")
  }
  const same = (): AsyncIterable<Uint8Array> => {
    const iterator = generator()
    return { [Symbol.asyncIterator]: () => iterator }
  }
  const kinds: ReadonlyArray<readonly [string, () => unknown]> = [
    ["a generator", generator],
    ["an iterable with one iterator", same],
    ["a ReadableStream", () => ReadableStream.from(generator())],
    ["a stream of Node's", () => Readable.from(generator(), { objectMode: false })]
  ]
  /** Breaks the first connection when it has some of the body. */
  const breaking = Effect.gen(function*() {
    const bodies: Array<string> = []
    let requests = 0
    const made = yield* serving((request, response) => {
      if (++requests === 1) return void request.once("data", () => response.destroy())
      const chunks: Array<Buffer> = []
      request.on("data", (chunk: Buffer) => chunks.push(chunk))
      request.on("end", () => {
        bodies.push(Buffer.concat(chunks).toString())
        response.end()
      })
    })
    return { ...made, bodies }
  })

  for (const [kind, make] of kinds) {
    it.live(`is not sent as an empty one the second time: ${kind}`, () =>
      Effect.gen(function*() {
        const { bodies, http } = yield* breaking
        const request = HttpClientRequest.setBody(HttpClientRequest.put("/"), HttpBody.raw(make()))
        const again = yield* Effect.flip(Rpc.idempotent(http.execute(request)))
        assert.deepStrictEqual(told(again), ["EncodeError", "RequestBodyFailed"])
        const later = yield* Effect.flip(http.execute(request))
        assert.deepStrictEqual(told(later), ["EncodeError", "RequestBodyFailed"])
        assert.deepStrictEqual(bodies, [])
      }))
  }

  it.live("is told from one that can be read again", () =>
    Effect.gen(function*() {
      const { bodies, http } = yield* breaking
      const body = HttpBody.raw({ [Symbol.asyncIterator]: generator })
      yield* Rpc.idempotent(http.put("/", { body }))
      assert.deepStrictEqual(bodies, ["hello world"])
    }))
})

describe("a response", () => {
  it.live("has status, headers, cookies and the URL it is of", () =>
    Effect.gen(function*() {
      const { http } = yield* serving((_, response) => {
        response.writeHead(
          404,
          [["X-Many", "1"], ["x-many", "2"], ["Set-Cookie", "a=1; Path=/"], ["set-cookie", "b=2"]] as any
        )
        response.end("no")
      })
      const response = yield* http.get("/a", { urlParams: { q: "1" }, hash: "part" })
      assert.deepStrictEqual([response.status, response.url], [404, "http://users/a?q=1"])
      assert.strictEqual(response.headers["x-many"], "1, 2")
      assert.deepStrictEqual(Object.keys(response.cookies.cookies), ["a", "b"])
      assert.isTrue(Option.isNone(response.remoteAddress))
      assert.strictEqual(response.request.url, "http://users/a")
    }))

  it.live("has a body as text, JSON, bytes, fields, a form or a stream, as often as one asks", () =>
    Effect.gen(function*() {
      const { http } = yield* serving((request, response) => {
        const body = decodeURIComponent(request.url!.slice(1))
        response.setHeader("content-type", body.includes("=") ? "application/x-www-form-urlencoded" : "text/plain")
        response.end(body)
      })
      const of = (body: string) => http.get(`/${encodeURIComponent(body)}`)
      const whole = yield* of(`{"a":"h\u00e9"}`)
      assert.strictEqual(yield* whole.text, `{"a":"h\u00e9"}`)
      assert.deepStrictEqual(yield* whole.json, { a: "h\u00e9" })
      assert.strictEqual(Buffer.from(yield* whole.arrayBuffer).toString(), `{"a":"h\u00e9"}`)
      assert.strictEqual((yield* whole.arrayBuffer).byteLength, 11)
      assert.strictEqual(Buffer.concat(yield* Stream.runCollect(whole.stream)).toString(), `{"a":"h\u00e9"}`)
      const streamed = yield* of("abc")
      assert.strictEqual(Buffer.concat(yield* Stream.runCollect(streamed.stream)).toString(), "abc")
      assert.strictEqual(yield* (yield* of("")).json, null)
      assert.deepStrictEqual((yield* (yield* of("?a=b+c&a=d")).urlParamsBody).params, [["?a", "b c"], ["a", "d"]])
      assert.strictEqual((yield* (yield* of("a=b+c")).formData).get("a"), "b c")
      const wrong = yield* of("no JSON")
      assert.strictEqual((yield* Effect.flip(wrong.json)).reason._tag, "DecodeError")
      assert.strictEqual((yield* Effect.flip(wrong.formData)).reason._tag, "DecodeError")
      assert.strictEqual((yield* Effect.flip(wrong.upgrade)).reason._tag, "StatusCodeError")
    }))

  it.live("is read once for all who ask at the same time, and by the next when one of them leaves", () =>
    Effect.gen(function*() {
      const peer = yield* Raw.listen
      const { http } = yield* client(`tcp://127.0.0.1:${peer.port}`)
      const calling = yield* start(http.get("/"))
      const server = yield* peer.accept
      yield* server.request
      server.write("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nab")
      const response = (yield* Fiber.join(calling)) as HttpClientResponse.HttpClientResponse & {
        readonly original: HttpClientResponse.HttpClientResponse
      }
      // Effect's own wrapper drops the whole response when one reader leaves: what is below it does not.
      const { original } = response
      const [first, second, third] = [
        yield* start(original.text),
        yield* start(original.text),
        yield* start(original.arrayBuffer)
      ]
      server.write("cd")
      yield* Fiber.interrupt(first)
      server.write("ef")
      assert.strictEqual(yield* Fiber.join(second), "abcdef")
      assert.strictEqual((yield* Fiber.join(third)).byteLength, 6)
      assert.strictEqual(yield* response.text, "abcdef")
    }))

  it.live("that is cut is an error of decoding, for whoever reads it", () =>
    Effect.gen(function*() {
      const peer = yield* Raw.listen
      const { http } = yield* client(`tcp://127.0.0.1:${peer.port}`)
      const calling = yield* start(http.get("/"))
      const server = yield* peer.accept
      yield* server.request
      server.write("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nab")
      const response = yield* Fiber.join(calling)
      server.reset()
      for (const error of [yield* Effect.flip(response.text), yield* Effect.flip(Stream.runDrain(response.stream))]) {
        assert.deepStrictEqual(told(error), ["DecodeError", "ConnectionClosed"])
      }
    }))

  it.live("that nobody reads frees its connection when it has come, or with its deadline, or when it is collected", () =>
    Effect.gen(function*() {
      const big = Buffer.alloc(1_000_000)
      const { http, stack } = yield* serving((request, response) => {
        response.end(request.url === "/small" ? "x" : big)
      }, { timeout: "500 millis" })
      yield* http.get("/small")
      yield* until("the small one has come", () => load(stack) === 0)
      const held = yield* http.get("/big")
      assert.strictEqual(load(stack), 1)
      yield* until("its time is over", () => load(stack) === 0)
      assert.deepStrictEqual(told(yield* Effect.flip(held.text)), ["DecodeError", "Timeout"])

      const patient = yield* serving((_, response) => void response.end(big))
      yield* Effect.asVoid(patient.http.get("/big"))
      setFlagsFromString("--expose-gc")
      const collect: () => void = runInNewContext("gc")
      yield* until("it is collected", () => {
        collect()
        return load(patient.stack) === 0
      })
    }))
})

describe("a failure", () => {
  it.live("to connect, of time, or of the connection is one of transport, with its cause", () =>
    Effect.gen(function*() {
      const peer = yield* Raw.listen
      const { http } = yield* client("tcp://127.0.0.1:1", { timeout: "50 millis" })
      const down = yield* Effect.flip(http.get("/"))
      assert.deepStrictEqual(told(down), ["TransportError", "Timeout"])
      assert.match(down.message, /connect failed at 127\.0\.0\.1:1: .*ECONNREFUSED/)
      const slow = yield* client(`tcp://127.0.0.1:${peer.port}`, { timeout: "300 millis" })
      const late = yield* Effect.flip(slow.http.get("/"))
      assert.deepStrictEqual(told(late), ["TransportError", "Timeout"])
      assert.match(
        late.message,
        /^Transport: no reply within 300 ms, waiting for reply at 127\.0\.0\.1:\d+ \(GET http:\/\/users\/\)$/
      )
      yield* peer.accept
      const broken = yield* client(`tcp://127.0.0.1:${peer.port}`)
      const calling = yield* start(broken.http.post("/"))
      const server = yield* peer.accept
      yield* server.request
      server.reset()
      assert.deepStrictEqual(told(yield* failureOf(calling)), ["TransportError", "ConnectionClosed"])
    }))

  it.live("shows no secret, wherever it is printed", () =>
    Effect.gen(function*() {
      const { http, server } = yield* serving((request, response) => {
        if (request.url === "/break") return void response.destroy()
        response.writeHead(Number(request.url!.slice(1)))
        response.end("x")
      })
      const lines: Array<string> = []
      const logger = Logger.layer([Logger.map(Logger.formatJson, (line) => void lines.push(line))])
      let traced = 0
      const secret = { authorization: "Bearer s3cr3t", cookie: "s=s3cr3t" }
      const ok = HttpClient.filterStatusOk(http)
      const failures = [
        ok.get("/500", { headers: secret }),
        http.post("/break", { headers: secret }),
        http.get("http://other/", { headers: secret }),
        http.get("/200", { headers: { ...secret, expect: "s3cr3t" } }),
        http.get("/200", { headers: { ...secret, "x-a": "s3cr3t\r\n" } }),
        http.post("/200", { headers: secret, body: HttpBody.raw({}) })
      ]
      for (const failing of failures) {
        const [exit, spans] = yield* Recorder.spans((spans) =>
          Effect.tapCause(failing, (cause) => Effect.logError("failed", cause)).pipe(
            Effect.provide(logger),
            Effect.exit,
            Effect.map((exit) => [exit, spans] as const)
          )
        )
        traced += spans.length
        const attributes = spans.flatMap(({ attributes }) => [...attributes.values()])
        assert.notInclude(attributes.join("\n"), "s3cr3t")
        assert.isTrue(Exit.isFailure(exit))
        const { cause } = exit as Exit.Failure<never, HttpClientError.HttpClientError>
        const error = Cause.squash(cause) as HttpClientError.HttpClientError
        for (
          const shown of [
            inspect(error, { depth: 20, showHidden: false }),
            inspect(error.cause, { depth: 20 }),
            JSON.stringify(error),
            JSON.stringify(error.cause),
            String(error),
            error.stack,
            Cause.pretty(cause)
          ]
        ) assert.notInclude(shown ?? "", "s3cr3t")
      }
      assert.lengthOf(lines, failures.length)
      assert.notInclude(lines.join(""), "s3cr3t")
      assert.isAbove(traced, 0)
      assert.isAbove(server.accepted(), 0)
    }))
})

describe("Effect's own combinators", () => {
  it.live("filterStatusOk fails what is not 200 to 299, and frees its connection", () =>
    Effect.gen(function*() {
      const { http, server, stack } = yield* serving((request, response) => {
        response.writeHead(Number(request.url!.slice(1))).end("x")
      })
      const ok = HttpClient.filterStatusOk(http)
      for (const status of [200, 201, 299]) {
        const response = yield* ok.get(`/${status}`)
        assert.deepStrictEqual([response.status, yield* response.text], [status, "x"])
      }
      for (const status of [300, 404, 500]) {
        const error = yield* Effect.flip(ok.get(`/${status}`))
        assert.deepStrictEqual([error.reason._tag, error.response?.status], ["StatusCodeError", status])
        yield* until("it has come", () => load(stack) === 0)
      }
      assert.strictEqual(server.accepted(), 1)
    }))

  it.live("retryTransient tries again what is transient, and nothing else", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const { http } = yield* serving((request, response) => {
        seen.push(request.url!)
        if (request.url === "/break") return void response.destroy()
        response.writeHead(seen.length < 3 ? 503 : 200).end("x")
      })
      const patient = http.pipe(HttpClient.filterStatusOk, HttpClient.retryTransient({ times: 3 }))
      assert.strictEqual((yield* patient.get("/a")).status, 200)
      assert.deepStrictEqual(seen.splice(0), ["/a", "/a", "/a"])
      assert.deepStrictEqual(told(yield* Effect.flip(patient.post("/break"))), ["TransportError", "ConnectionClosed"])
      assert.lengthOf(seen.splice(0), 4)
      yield* Effect.flip(patient.get("http://other/"))
      yield* Effect.flip(patient.get("/a", { headers: { expect: "100-continue" } }))
      assert.lengthOf(seen, 0)
    }))

  for (const url of ["http://users/", "/"]) {
    for (const mapped of [false, true]) {
      it.live(`withScope lets go of a body when the scope closes, for ${url}${mapped ? ", changed on the way" : ""}`, () =>
        Effect.gen(function*() {
          const peer = yield* Raw.listen
          const { http, stack } = yield* client(`tcp://127.0.0.1:${peer.port}`)
          const scope = yield* Scope.make()
          const inner = mapped ? HttpClient.mapRequest(http, HttpClientRequest.setHeader("x-a", "1")) : http
          const calling = yield* start(
            Effect.provideService(HttpClient.withScope(inner).get(url), Scope.Scope, scope)
          )
          const server = yield* peer.accept
          yield* server.request
          server.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
          const response = yield* Fiber.join(calling)
          const head = yield* Stream.runHead(response.stream).pipe(Effect.flatMap(() => Effect.exit(response.text)))
          assert.isTrue(Exit.isFailure(head))
          const again = yield* start(Effect.provideService(HttpClient.withScope(inner).get(url), Scope.Scope, scope))
          const second = yield* peer.accept
          yield* second.request
          second.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
          yield* Fiber.join(again)
          assert.strictEqual(load(stack), 1)
          yield* Scope.close(scope, Exit.void)
          assert.strictEqual(load(stack), 0)
          yield* second.ended
        }))

      it.live(`withScope ends a request when the scope closes, for ${url}${mapped ? ", changed on the way" : ""}`, () =>
        Effect.gen(function*() {
          const peer = yield* Raw.listen
          const { http, stack } = yield* client(`tcp://127.0.0.1:${peer.port}`)
          const scope = yield* Scope.make()
          const inner = mapped ? HttpClient.mapRequest(http, HttpClientRequest.setHeader("x-a", "1")) : http
          const calling = yield* start(
            Effect.provideService(HttpClient.withScope(inner).get(url), Scope.Scope, scope)
          )
          const server = yield* peer.accept
          yield* server.request
          yield* Scope.close(scope, Exit.void)
          const error = yield* failureOf(calling)
          assert.strictEqual(error.reason._tag, "TransportError")
          assert.include(error.message, "scope was closed")
          assert.strictEqual(load(stack), 0)
          yield* server.ended
        }))
    }
  }

  it.live("withScope sends nothing in a scope that has closed", () =>
    Effect.gen(function*() {
      const { http, server } = yield* echoing()
      const scope = yield* Scope.make()
      yield* Scope.close(scope, Exit.void)
      const error = yield* Effect.flip(Effect.provideService(HttpClient.withScope(http).get("/"), Scope.Scope, scope))
      assert.strictEqual(error.reason._tag, "TransportError")
      assert.strictEqual(server.accepted(), 0)
    }))

  it.live("followRedirects goes on to the same service, with what was sent", () =>
    Effect.gen(function*() {
      const { http, server } = yield* serving((request, response) => {
        if (request.url === "/from") return void response.writeHead(307, { location: "/to?x=1" }).end("moved")
        if (request.url === "/form") return void response.writeHead(303, { location: "http://users/done" }).end("moved")
        echo(request, response)
      })
      const moved = yield* http.get("/from")
      assert.deepStrictEqual([moved.status, moved.headers["location"], yield* moved.text], [307, "/to?x=1", "moved"])
      const following = HttpClient.followRedirects(http)
      for (const from of ["/from", "http://users/from"]) {
        const sent = yield* echoed(following.put(from, { body: HttpBody.text("b"), headers: { authorization: "a" } }))
        assert.deepInclude(sent, { method: "PUT", url: "/to?x=1", body: "b" })
        assert.strictEqual(sent.headers["authorization"], "a")
      }
      const done = yield* echoed(following.post("/form", { body: HttpBody.text("b") }))
      assert.deepInclude(done, { method: "GET", url: "/done", body: "" })
      // Who goes on at once may find the first connection not free yet: none was lost.
      assert.isAtMost(server.accepted(), 2)
      assert.strictEqual(server.open(), server.accepted())
    }))

  it.live("followRedirects takes nothing to another host", () =>
    Effect.gen(function*() {
      const other = yield* listen(echo)
      for (const location of [`http://127.0.0.1:${other.port}/`, `//127.0.0.1:${other.port}/`]) {
        const { http } = yield* serving((_, response) => void response.writeHead(302, { location }).end())
        const following = HttpClient.followRedirects(http)
        const error = yield* Effect.flip(following.get("/", { headers: { authorization: "Bearer secret" } }))
        assert.deepStrictEqual(told(error), ["InvalidUrlError", "ForeignUrl"])
        assert.notInclude(inspect(error, { depth: 9 }), "secret")
      }
      assert.strictEqual(other.accepted(), 0)
    }))

  it.live("many redirects at once over one connection all arrive", () =>
    Effect.gen(function*() {
      const { http, server, stack } = yield* serving((request, response) => {
        if (request.url === "/from") return void response.writeHead(302, { location: "/to" }).end("moved")
        response.end("here")
      }, { connections: { high: 1 } })
      const one = text(HttpClient.followRedirects(http).get("/from"))
      const all = yield* Effect.all(Array.from({ length: 50 }, () => one), { concurrency: "unbounded" })
      assert.deepStrictEqual(new Set(all), new Set(["here"]))
      assert.strictEqual(server.accepted(), 1)
      assert.strictEqual(snapshot(stack, "requeue")["requeues"], 0)
    }))
})

describe("a stream", () => {
  it.live("goes up and comes down at the same time", () =>
    Effect.gen(function*() {
      const { http, stack } = yield* serving((request, response) => void request.pipe(response))
      const gate = new EventEmitter()
      const up = Stream.concat(
        bytesOf("first"),
        Stream.fromEffect(Effect.promise(async () => {
          await once(gate, "open")
          return Buffer.from("second")
        }))
      )
      const response = yield* http.post("/", { body: HttpBody.stream(up) })
      const read: Array<string> = []
      yield* Stream.runForEach(response.stream, (chunk) =>
        Effect.sync(() => {
          read.push(Buffer.from(chunk).toString())
          gate.emit("open")
        }))
      assert.strictEqual(read.join(""), "firstsecond")
      assert.isAbove(read.length, 1)
      yield* until("it has ended", () => load(stack) === 0)
    }))

  it.live("is load until its end, keeps its connection, and loses it when it is left", () =>
    Effect.gen(function*() {
      const { http, server, stack } = yield* serving((_, response) => {
        response.write("a")
        response.write(Buffer.alloc(500_000))
        response.end()
      })
      const response = yield* http.get("/")
      assert.strictEqual(load(stack), 1)
      yield* Stream.runDrain(response.stream)
      assert.strictEqual(load(stack), 0)
      const left = yield* http.get("/")
      yield* Stream.runHead(left.stream)
      assert.strictEqual(load(stack), 0)
      yield* until("its connection has ended", () => server.open() === 0)
      assert.strictEqual(server.accepted(), 1)
    }))
})

/** A client that uses all servers from the first call on. */
const both = (uri: string) =>
  Effect.map(
    Layer.build(Layer.provide(BalancedHttpClient.layer({ uri, balancer: P2C.layer(HttpWire) }), Seed.layer(1))),
    (context) => ({ http: Context.get(context, HttpClient.HttpClient) })
  )

describe("a call", () => {
  it.live("that is interrupted aborts its request, before and after the head has come", () =>
    Effect.gen(function*() {
      const peer = yield* Raw.listen
      const { http, stack } = yield* client(`tcp://127.0.0.1:${peer.port}`)
      const waiting = yield* start(http.get("/"))
      const server = yield* peer.accept
      yield* server.request
      yield* Fiber.interrupt(waiting)
      yield* server.ended
      const reading = yield* start(text(http.get("/")))
      const second = yield* peer.accept
      yield* second.request
      second.write("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nab")
      yield* until("the head has come", () => load(stack) === 1)
      yield* Fiber.interrupt(reading)
      yield* second.ended
      assert.strictEqual(load(stack), 0)
    }))

  it.live("and 200 that are interrupted at any moment leave no load and no connection in use", () =>
    Effect.gen(function*() {
      const { http, stack } = yield* serving((_, response) => {
        response.write("a")
        setTimeout(() => response.end("b"), 3)
      })
      for (let i = 0; i < 200; i++) {
        const fiber = yield* start(text(http.get("/")))
        const turns = i % 20
        for (let turn = 0; turn < turns; turn++) yield* Effect.promise(() => new Promise((next) => setImmediate(next)))
        yield* Fiber.interrupt(fiber)
      }
      yield* until("nothing is left", () => load(stack) === 0)
      assert.strictEqual(snapshot(stack, "dispatcher")["outstanding"], 0)
      assert.strictEqual(yield* text(http.get("/")), "ab")
    }))

  it.live("keeps to the deadline of its caller, body included", () =>
    Effect.gen(function*() {
      const { http, server } = yield* serving((request, response) => {
        if (request.url === "/body") response.write("a")
      })
      const late = yield* Effect.flip(http.get("/").pipe(Rpc.deadline("300 millis")))
      assert.deepStrictEqual(told(late), ["TransportError", "Timeout"])
      const body = yield* Effect.flip(text(http.get("/body")).pipe(Rpc.deadline("300 millis")))
      assert.deepStrictEqual(told(body), ["DecodeError", "Timeout"])
      yield* until("their connections have ended", () => server.open() === 0)
    }))

  it.live("is sent again when its method or its caller allows it", () =>
    Effect.gen(function*() {
      let requests = 0
      const { http } = yield* serving((_, response) => {
        if (++requests === 1) return void response.destroy()
        response.end("ok")
      })
      assert.strictEqual(yield* text(http.get("/")), "ok")
      requests = 0
      assert.strictEqual(yield* text(http.put("/", { body: HttpBody.text("x") })), "ok")
      requests = 0
      assert.deepStrictEqual(told(yield* Effect.flip(http.post("/"))), ["TransportError", "ConnectionClosed"])
      requests = 0
      assert.strictEqual(yield* text(http.post("/")).pipe(Rpc.idempotent), "ok")
      requests = 0
      const stream = HttpBody.stream(bytesOf("x"))
      assert.deepStrictEqual(told(yield* Effect.flip(http.put("/", { body: stream }))), [
        "TransportError",
        "ConnectionClosed"
      ])
    }))

  it.live("goes to another server when one ends", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const [a, b] = [
        yield* Effect.provideService(listen((_, response) => void response.end("a")), Scope.Scope, scope),
        yield* listen((_, response) => void response.end("b"))
      ]
      const { http } = yield* both(`${a.uri},127.0.0.1:${b.port}`)
      const some = Effect.all(Array.from({ length: 40 }, () => text(http.get("/"))), { concurrency: 4 })
      assert.deepStrictEqual([...new Set(yield* some)].toSorted(), ["a", "b"])
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual([...new Set(yield* some)], ["b"])
    }))

  it.live("is in its caller's trace, on the wire too", () =>
    Effect.gen(function*() {
      const { http } = yield* echoing()
      const [{ headers }, spans] = yield* Recorder.spans((spans) =>
        Effect.map(Effect.withSpan(echoed(http.get("/a")), "caller"), (reply) => [reply, spans] as const)
      )
      const [, span, call] = spans
      assert.strictEqual(headers["traceparent"], `00-${call!.traceId}-${call!.spanId}-01`)
      assert.strictEqual(Option.getOrUndefined(call!.parent), span)
      assert.strictEqual(span!.attributes.get("url.full"), "http://users/a")
      const quiet = echoed(http.get("/a")).pipe(Effect.provideService(HttpClient.TracerPropagationEnabled, false))
      assert.isUndefined((yield* quiet).headers["traceparent"])
    }))
})

it.live("closing waits for what is outstanding, and refuses what comes after", () =>
  Effect.gen(function*() {
    const peer = yield* Raw.listen
    const scope = yield* Scope.make()
    const { http } = yield* Effect.provideService(client(`tcp://127.0.0.1:${peer.port}`), Scope.Scope, scope)
    const calling = yield* start(text(http.get("/")))
    const server = yield* peer.accept
    yield* server.request
    const closing = yield* start(Scope.close(scope, Exit.void))
    assert.deepStrictEqual(told(yield* Effect.flip(http.get("/"))), ["TransportError", "StackClosed"])
    server.write(Raw.ok("done"))
    assert.strictEqual(yield* Fiber.join(calling), "done")
    yield* Fiber.join(closing)
    yield* server.ended
  }))

describe("over TLS", () => {
  const authority = Certificates.authority()
  const { certificate: cert, key } = authority.issue()
  const tls = { ca: authority.certificate, serverName: "localhost" }

  for (
    const [version, http2, server] of [
      ["1.1", false, () => NodeHttps.createServer({ cert, key }, echo)],
      ["2", true, () => NodeHttp2.createSecureServer({ cert, key }, echo as never)]
    ] as const
  ) {
    it.live(`HTTP/${version} takes https, http and relative URLs, and sends all of them secured`, () =>
      Effect.gen(function*() {
        const { accepted, uri } = yield* listening(server())
        const { http } = yield* client(uri, { tls, http2, name: "users:8443" })
        for (const url of ["https://users:8443/a", "http://users:8443/a", "/a"]) {
          const { headers, method, url: sent } = yield* echoed(http.post(url, { body: HttpBody.text("b") }))
          assert.deepStrictEqual([method, sent], ["POST", "/a"])
          assert.strictEqual(http2 ? headers[":authority"] : headers["host"], "users:8443")
        }
        assert.deepStrictEqual(told(yield* Effect.flip(http.get("https://users/a"))), ["InvalidUrlError", "ForeignUrl"])
        assert.strictEqual(accepted(), 1)
      }))
  }

  it.live("a server that cannot prove who it is gets nothing", () =>
    Effect.gen(function*() {
      const { uri } = yield* listening(NodeHttps.createServer({ cert, key }, echo))
      const { http } = yield* client(uri, { tls: { serverName: "localhost" }, timeout: "1 second" })
      const error = yield* Effect.flip(http.get("https://users/a"))
      assert.deepStrictEqual(told(error), ["TransportError", "Timeout"])
      assert.include(error.message, "tls failed")
    }))
})
