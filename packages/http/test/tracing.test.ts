// Spans of HTTP calls, of whichever client: what they say, and what servers are given to continue.
import { assert, describe, it } from "@effect/vitest"
import { Rpc } from "@scales-rpc/core"
import { Recorder, Seed } from "@scales-rpc/core/testing"
import { Context, Effect, Exit, Layer, Logger, Option, Stream, type Tracer } from "effect"
import { HttpClient, HttpTraceContext } from "effect/http"
import { BalancedHttpClient, Fetch, Http, HttpService } from "../src/index.ts"
import { echo, listen } from "./nodeServer.ts"
import { until } from "./support.ts"

class Users extends HttpService<Users>()("Users") {}

interface Echoed {
  readonly headers: Readonly<Record<string, string>>
}

const build = <Self, Shape, E>(service: Context.Key<Self, Shape>, layer: Layer.Layer<Self, E>) =>
  Effect.map(Layer.build(Layer.provide(layer, Seed.layer(1))), (context) => Context.get(context, service))

const client = (uri: string, options: Omit<Http.HttpOptions, "uri"> = {}) =>
  build(Users, Http.layer(Users, { ...options, uri }))

const parentOf = (span: Tracer.Span) => Option.getOrUndefined(span.parent)

const exitOf = ({ status }: Tracer.Span) => status._tag === "Ended" ? status.exit : Exit.fail("it has not ended")

const traceparentOf = (span: Tracer.AnySpan) => `00-${span.traceId}-${span.spanId}-01`

describe("the span of an HTTP call", () => {
  it.live("says method, URL, server, protocol and status, and is what the server is given", () =>
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const server = yield* listen(echo)
        const users = yield* client(server.uri)
        const reply = yield* Effect.withSpan(
          users.get("/a/b", { query: { q: "1", api_key: "hunter2", sig: "x" } }),
          "outer"
        )
        const { headers } = JSON.parse(reply.text) as Echoed
        const [outer, span] = spans as [Tracer.NativeSpan, Tracer.NativeSpan]
        const authority = server.uri.slice("tcp://".length)
        assert.deepStrictEqual([span.name, span.kind, parentOf(span)], ["GET", "client", outer])
        assert.deepStrictEqual(Object.fromEntries(span.attributes), {
          "http.request.method": "GET",
          "url.path": "/a/b",
          "url.full": `http://${authority}/a/b?q=1&api_key=REDACTED&sig=REDACTED`,
          "network.protocol.name": "http",
          "network.protocol.version": "1.1",
          "http.response.status_code": 200,
          "server.address": "127.0.0.1",
          "server.port": Number(authority.split(":")[1]),
          "network.peer.address": "127.0.0.1",
          "network.peer.port": Number(authority.split(":")[1])
        })
        assert.strictEqual(headers["traceparent"], traceparentOf(span))
        assert.strictEqual(spans.length, 2)
      })
    ))

  it.live("is an error for a status of 400 or above, whatever the caller takes it for; a method made up is one of all", () =>
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const server = yield* listen((request, response) => {
          response.statusCode = Number(request.url!.slice(1))
          response.end()
        })
        const users = yield* client(server.uri, { statusErrors: false })
        for (const status of [204, 399, 404, 599]) yield* users.request("PROPFIND", `/${status}`)
        assert.deepStrictEqual(
          spans.map((span) => [
            span.attributes.get("http.response.status_code"),
            span.attributes.get("error.type"),
            Exit.isSuccess(exitOf(span))
          ]),
          [[204, undefined, true], [399, undefined, true], [404, "404", false], [599, "599", false]]
        )
        for (const { attributes, name } of spans) {
          assert.deepStrictEqual(
            [name, attributes.get("http.request.method"), attributes.get("http.request.method_original")],
            ["HTTP", "_OTHER", "PROPFIND"]
          )
        }
      })
    ))

  it.live("says what it asked for when no server could be reached", () =>
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const users = yield* client("unix:///nowhere/at/all")
        yield* Effect.exit(users.get("/a/b", { query: { q: "1" } }).pipe(Rpc.deadline("50 millis")))
        const [{ attributes }] = spans as [Tracer.NativeSpan]
        assert.deepStrictEqual(
          ["url.path", "url.full", "error.type"].map((name) => attributes.get(name)),
          ["/a/b", undefined, "Timeout"]
        )
      }).pipe(Effect.provide(Logger.layer([])))
    ))

  it.live("says how often it was sent again", () =>
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        let requests = 0
        const server = yield* listen((_, response) => {
          requests++
          response.writeHead(requests < 3 ? 503 : 200, requests < 3 ? { "finagle-http-nack": "true" } : {}).end()
        })
        const users = yield* client(server.uri)
        yield* users.get("/")
        yield* users.get("/")
        const told = spans.map(({ attributes }) => attributes.get("http.request.resend_count"))
        assert.deepStrictEqual([requests, told], [4, [2, undefined]])
      })
    ))

  it.live("is a failure when the body of a stream breaks, and an interruption when its caller leaves it", () =>
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const server = yield* listen((request, response) => {
          response.writeHead(200, { "content-length": 100 }).write("abc")
          if (request.url === "/cut") setImmediate(() => response.socket!.destroy())
        })
        const users = yield* client(server.uri)
        const cut = Effect.flatMap(users.stream("GET", "/cut"), ({ stream }) => Effect.exit(Stream.runDrain(stream)))
        assert.isTrue(Exit.isFailure(yield* Effect.scoped(cut)))
        yield* Effect.scoped(users.stream("GET", "/left"))
        yield* until("both have ended", () => spans.every(({ status }) => status._tag === "Ended"))
        assert.deepStrictEqual(
          spans.map((span) => [span.attributes.get("error.type"), Exit.isFailure(exitOf(span))]),
          [["ReplyBroken", true], ["Interrupted", true]]
        )
      })
    ))

  it.live("lasts until the body of a stream has ended", () =>
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        let finish = () => {}
        const server = yield* listen((_, response) => {
          response.write("abc")
          finish = () => response.end("def")
        })
        const users = yield* client(server.uri)
        const reply = yield* users.stream("GET", "/")
        assert.strictEqual(spans[0]!.status._tag, "Started")
        finish()
        yield* Stream.runDrain(reply.stream)
        yield* until("the span has ended", () => spans[0]!.status._tag === "Ended")
        assert.isTrue(Exit.isSuccess(exitOf(spans[0]!)))
      })
    ))

  it.live("is given to servers as B3 too, with Finagle's fields; without a parent it is none", () =>
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const users = yield* client((yield* listen(echo)).uri, { finagle: true })
        const sent = Effect.map(users.get("/"), ({ text }) => (JSON.parse(text) as Echoed).headers)
        for (const call of [sent, Effect.withSpan(sent, "outer")]) {
          const headers = yield* call
          const span = spans.at(-1)!
          assert.deepStrictEqual(
            ["traceid", "spanid", "parentspanid", "sampled", "flags"].map((name) => headers[`x-b3-${name}`]),
            [span.traceId, span.spanId, parentOf(span)?.spanId, "true", "0"]
          )
          assert.strictEqual(headers["traceparent"], traceparentOf(span))
        }
      })
    ))

  it.live("is none for a trace that is not sampled, of which the server hears", () =>
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const users = yield* client((yield* listen(echo)).uri, { traceSampling: 0, finagle: true })
        const { headers } = JSON.parse((yield* users.get("/")).text) as Echoed
        assert.match(headers["traceparent"]!, /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/)
        assert.strictEqual(headers["x-b3-sampled"], "false")
        assert.include(headers["traceparent"], `${headers["x-b3-traceid"]}-${headers["x-b3-spanid"]}`)
        assert.lengthOf(spans, 0)
      })
    ))
})

describe("clients whose shape others have defined", () => {
  it.live("Effect's has its own span around the call's, which is the one that servers are given", () =>
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const { uri } = yield* listen(echo)
        const http = yield* build(HttpClient.HttpClient, BalancedHttpClient.layer({ uri, name: "users" }))
        const sent = (self: HttpClient.HttpClient) =>
          Effect.flatMap(self.get("http://users/"), ({ json }) =>
            Effect.map(json, (body) => (body as unknown as Echoed).headers))
        const headers = yield* sent(http)
        const [around, span] = spans as [Tracer.NativeSpan, Tracer.NativeSpan]
        assert.strictEqual(parentOf(span), around)
        assert.strictEqual(headers["traceparent"], traceparentOf(span))
        assert.strictEqual(headers["b3"], `${span.traceId}-${span.spanId}-1-${around.spanId}`)
        assert.deepStrictEqual(
          Option.getOrUndefined(HttpTraceContext.fromHeaders(headers as never))?.spanId,
          span.spanId
        )
        assert.strictEqual(span.attributes.get("url.full"), "http://users/")
        const silent = yield* Effect.provideService(sent(http), HttpClient.TracerPropagationEnabled, false)
        assert.isUndefined(silent["traceparent"])
        const own = HttpClient.mapRequest(http, (request) => ({
          ...request,
          headers: { ...request.headers, traceparent: "mine" } as never
        }))
        const given = yield* sent(own).pipe(Effect.provideService(HttpClient.TracerPropagationEnabled, false))
        assert.strictEqual(given["traceparent"], "mine")
      })
    ))

  it.live("`fetch` has the call's alone, a root, wherever it was built", () =>
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const { uri } = yield* listen(echo)
        const fetch = yield* Effect.withSpan(build(Fetch.Fetch, Fetch.layer({ uri, name: "users" })), "build")
        const ask = (init?: RequestInit) =>
          Effect.promise(async () => (await (await fetch("/", init)).json() as Echoed).headers)
        const headers = yield* ask()
        const span = spans.at(-1)!
        assert.isUndefined(parentOf(span))
        assert.strictEqual(headers["traceparent"], traceparentOf(span))
        assert.strictEqual((yield* ask({ headers: { traceparent: "mine" } }))["traceparent"], "mine")
      })
    ))
})
