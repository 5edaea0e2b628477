// What a transport shows of itself, compared with what the test and its servers have counted.
import { Abort, Endpoint, type Fault } from "@scales-rpc/core"
import { Certificates, Seed } from "@scales-rpc/core/testing"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Logger, Metric, Scope, Stream } from "effect"
import * as NodeHttp2 from "node:http2"
import * as NodeHttps from "node:https"
import type * as Net from "node:net"
import * as NodeTls from "node:tls"
import {
  BodyOwner,
  type BodyStream,
  Http,
  HttpBody,
  type HttpRequest,
  HttpService,
  metricTable,
  type StreamedRequest
} from "../src/index.ts"
import { listen, listening } from "./nodeServer.ts"
import * as Raw from "./raw.ts"
import { alone, callOf, connected, get, sending, shown, start, transport, transportOf, until } from "./support.ts"

const answer = (status: string, ...headers: ReadonlyArray<string>) =>
  [`HTTP/1.1 ${status}`, ...headers, "content-length: 3", "", "abc"].join("\r\n")

const streamed: () => StreamedRequest = () => ({
  method: "GET",
  target: "/x",
  headers: [],
  body: undefined,
  owner: new BodyOwner()
})

describe("requests", () => {
  it.live("are counted, with their responses by class, and every byte of both", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const { send, server } = connection
      let written = 0
      let asked = 0
      const exchange = (request: HttpRequest, text: string) =>
        Effect.gen(function*() {
          const calling = yield* start(send(request))
          yield* server.request
          asked++
          assert.deepInclude(yield* shown("scales.http."), { requests: asked, pending: 1 })
          server.write(text)
          written += text.length
          return yield* Effect.exit(Fiber.join(calling))
        })
      const body = Buffer.from("some bytes")
      const post: HttpRequest = { ...get("/x"), method: "POST", body }
      yield* exchange(get("/x"), answer("200 OK"))
      yield* exchange(post, `HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n${answer("201 Created")}`)
      yield* exchange(get("/x"), answer("302 Found"))
      yield* exchange(get("/x"), answer("404 Not Found"))
      yield* exchange(get("/x"), answer("404 Not Found"))
      yield* exchange(get("/x"), answer("500 Oh"))
      yield* exchange(get("/x"), answer("999 Whatever"))
      assert.isTrue(Exit.isFailure(yield* exchange(post, answer("503 No", "finagle-http-nack: true"))))
      assert.isTrue(Exit.isFailure(yield* exchange(post, answer("503 No", "retry-after: 0"))))
      assert.isTrue(Exit.isFailure(yield* exchange(post, answer("503 No", "finagle-http-nonretryable-nack: true"))))
      // That is an answer.
      assert.isTrue(Exit.isSuccess(yield* exchange(get("/x"), answer("503 No"))))
      assert.strictEqual(server.received.match(/HTTP\/1\.1\r\n/g)!.length, asked)
      assert.deepStrictEqual(yield* shown("scales.http."), {
        requests: 11,
        "responses 1xx": 1,
        "responses 2xx": 2,
        "responses 3xx": 1,
        "responses 4xx": 2,
        "responses 5xx": 5,
        "responses other": 1,
        "nacks true": 2,
        "nacks false": 1,
        "failures Nacked": 3,
        request_body_bytes: 4 * body.length,
        response_body_bytes: 11 * 3
      })
      const { received_bytes, sent_bytes } = yield* shown("scales.transport.")
      assert.deepStrictEqual([received_bytes, sent_bytes], [written, server.received.length])
      const { state } = transportOf(connection.stack) as { readonly state: Readonly<Record<string, unknown>> }
      assert.deepInclude(state, {
        calls: 11,
        responses: { other: 1, "1xx": 1, "2xx": 2, "3xx": 1, "4xx": 2, "5xx": 5 },
        requestFailures: { Nacked: 3 },
        receivedBytes: written,
        sentBytes: server.received.length
      })
    }).pipe(alone))

  it.live("that fail are counted by their errors, and their connections by why they ended", () =>
    Effect.gen(function*() {
      const peer = yield* Raw.listen
      const { connect, stack } = yield* transport()
      const endpoint = Endpoint.tcp("127.0.0.1", peer.port)
      const open = Effect.gen(function*() {
        const scope = yield* Scope.make()
        const sink = yield* Scope.provide(connect(peer.port), scope)
        const close = Scope.close(scope, Exit.void)
        return { sink, send: sending(sink, endpoint, stack, []), server: yield* peer.accept, close }
      })
      const tags: Record<string, number> = {}
      const failed = (calling: Fiber.Fiber<unknown, { readonly _tag: string }>) =>
        Effect.map(
          Effect.flip(Fiber.join(calling)),
          ({ _tag }) => void (tags[`failures ${_tag}`] = (tags[`failures ${_tag}`] ?? 0) + 1)
        )

      const reset = yield* open
      const broken = yield* start(reset.send(get("/x")))
      yield* reset.server.request
      reset.server.reset()
      yield* failed(broken)

      const garbled = yield* open
      const garbage = yield* start(garbled.send(get("/x")))
      yield* garbled.server.request
      garbled.server.write("SSH-2.0-OpenSSH\r\n\r\n")
      yield* failed(garbage)

      const slow = yield* open
      const abort = new Abort(Infinity, 50)
      const late = yield* start(slow.send(get("/x"), callOf({ abort })))
      yield* slow.server.request
      abort.fire()
      yield* failed(late)

      const left = yield* open
      const leaving = yield* start(left.send(get("/x")))
      yield* left.server.request
      yield* Fiber.interrupt(leaving)

      const idle = yield* open
      idle.server.end()
      yield* until("it is seen to be closed", () => idle.sink.status.state === "Closed")
      yield* Effect.flip(idle.send(get("/x")))

      const last = yield* open
      const closing = yield* start(last.send({ ...get("/x"), method: "HEAD" }))
      yield* last.server.request
      last.server.write("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
      yield* Fiber.join(closing)
      yield* until("it has ended with its response", () => last.sink.status.state === "Closed")

      const ours = yield* open
      assert.deepInclude(yield* shown("scales.transport."), { connections: 1, connects: 7 })
      yield* ours.close
      for (const each of [reset, garbled, slow, left, idle, last]) yield* each.close

      assert.deepStrictEqual(tags, {
        "failures ConnectionClosed": 1,
        "failures ProtocolError": 1,
        "failures Timeout": 1
      })
      assert.deepStrictEqual(yield* shown("scales.http."), {
        ...tags,
        requests: 5,
        "responses 2xx": 1,
        abandoned: 2,
        stale: 1,
        protocol_errors: 1
      })
      const { connection_duration_ms, received_bytes, sent_bytes, ...connections } = yield* shown("scales.transport.")
      assert.deepStrictEqual(connections, {
        connects: 7,
        connect_latency_ms: 7,
        "closes server": 1,
        "closes protocol_error": 1,
        "closes abandoned": 2,
        "closes idle": 1,
        "closes finished": 1,
        "closes client": 1
      })
      const servers = [reset, garbled, slow, left, idle, last, ours]
      assert.strictEqual(sent_bytes, servers.reduce((sum, { server }) => sum + server.received.length, 0))
      assert.isAtLeast(received_bytes!, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".length)
      assert.strictEqual(connection_duration_ms, 7)
    }).pipe(alone))

  it.live("whose connection cannot be made are counted by how far it came", () =>
    Effect.gen(function*() {
      const authority = Certificates.authority()
      const certified = authority.issue()
      const tls = { ca: authority.certificate, serverName: "localhost" }
      const gone = yield* Effect.scoped(Effect.map(Raw.listen, ({ port }) => port))
      const plain = yield* transport()
      yield* Effect.flip(Effect.scoped(plain.connect(gone)))
      assert.deepStrictEqual(yield* shown("scales.transport."), { "connect_failures connect": 1 })
      const old = yield* listening(NodeHttps.createServer({ cert: certified.certificate, key: certified.key }))
      const { connect } = yield* transport({ tls, http2: true })
      const unasked = yield* listening(
        NodeTls.createServer({ cert: certified.certificate, key: certified.key }, (socket) =>
          socket.on("error", () => {}))
      )
      for (const { port } of [old, old, unasked]) {
        yield* Effect.flip(Effect.scoped(connect(port)))
      }
      assert.deepStrictEqual(yield* shown("scales.transport.connect_failures"), {
        " connect": 1,
        " tls": 2,
        " handshake": 1
      })
      const all = yield* Metric.snapshot
      const refusals = all.filter(({ id }) =>
        id === "scales.http.alpn_refusals"
      ).map(({ attributes, state }) => [
        (attributes as Record<string, string>)["protocol"],
        (state as { readonly count: number }).count
      ])
      assert.deepStrictEqual(refusals, [["http/1.1", 0], ["h2", 3]])
    }).pipe(alone))
})

describe("bodies", () => {
  it.live("that are streamed are counted by how they ended, and what is sent as it is", () =>
    Effect.gen(function*() {
      const peer = yield* Raw.listen
      const { connect, stack } = yield* transport()
      const endpoint = Endpoint.tcp("127.0.0.1", peer.port)
      const begin = (abort = new Abort(Infinity, 50)) =>
        Effect.gen(function*() {
          const sink = yield* connect(peer.port)
          const server = yield* peer.accept
          const calling = yield* start(sending(sink, endpoint, stack, [])(streamed(), callOf({ abort })))
          yield* server.request
          server.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
          const body = (yield* Fiber.join(calling)).body as BodyStream
          yield* body.next
          return { body, server }
        })
      const whole = yield* begin()
      whole.server.write("defghi")
      while ((yield* whole.body.next) !== undefined) {}
      // Too late to count.
      whole.body.cancel()
      for (let i = 0; i < 2; i++) (yield* begin()).body.cancel()
      const abort = new Abort(Infinity, 50)
      const late = yield* begin(abort)
      assert.strictEqual((yield* shown("scales.http."))["pending"], 1)
      abort.fire()
      assert.strictEqual((yield* Effect.flip(late.body.next))._tag, "Timeout")
      for (let i = 0; i < 3; i++) {
        const { body, server } = yield* begin()
        server.reset()
        yield* Effect.flip(body.next)
      }

      const sink = yield* connect(peer.port)
      const server = yield* peer.accept
      const stream = Stream.make(Buffer.from("12345"), Buffer.from("678"))
      const post: HttpRequest = { ...get("/x", { collect: 4 }), method: "POST", body: { stream, length: undefined } }
      const sent = yield* start(sending(sink, endpoint, stack, [])(post))
      yield* until("all has come", () => server.received.endsWith("0\r\n\r\n"))
      server.write(Raw.ok("too long"))
      assert.deepInclude(yield* Fiber.join(sent), { truncated: true })

      assert.deepStrictEqual(yield* shown("scales.http."), {
        requests: 8,
        "responses 2xx": 8,
        "bodies complete": 1,
        "bodies cancelled": 2,
        "bodies aborted": 1,
        "bodies broken": 3,
        "failures Timeout": 1,
        "failures ConnectionClosed": 3,
        abandoned: 3,
        truncated: 1,
        request_body_bytes: 8,
        response_body_bytes: 9 + 6 * 3 + 8
      })
    }).pipe(alone))
})

describe("what a server has to answer for", () => {
  it.live("is logged ten times in a storm, then counted, and noted for whoever looks", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.make((options) => {
        const { annotations, level, message } = Logger.formatStructured.log(options)
        lines.push(`${level} ${String(message)} ${JSON.stringify(annotations)}`)
      })
      yield* Effect.gen(function*() {
        const peer = yield* Raw.listen
        const { connect, stack } = yield* transport()
        const endpoint = Endpoint.tcp("127.0.0.1", peer.port)
        for (let round = 0; round < 12; round++) {
          const sink = yield* connect(peer.port)
          const server = yield* peer.accept
          const calling = yield* start(sending(sink, endpoint, stack, [])(get("/x")))
          yield* server.request
          server.write("SSH-2.0-OpenSSH\r\n\r\n")
          yield* Effect.flip(Fiber.join(calling))
        }
        const [first] = lines
        assert.match(
          first!,
          /^WARN a server does not keep to HTTP \{"client":"test","endpoint":"127\.0\.0\.1:\d+","cause":".+"\}$/
        )
        assert.deepStrictEqual(lines, Array.from({ length: 10 }, () => first))
        assert.lengthOf(stack.faults.list, 12)
        const [{ cause, endpoint: where, what }] = stack.faults.list as [Fault]
        assert.deepStrictEqual([where, what], [endpoint.key, "a server does not keep to HTTP"])
        assert.include(first, cause)
        assert.strictEqual((yield* shown("scales.http."))["protocol_errors"], 12)
      }).pipe(Effect.provide(Logger.layer([logger])))
    }).pipe(alone))

  it.live("over HTTP/2 is also that nothing comes from it, and its connection is let go of", () =>
    Effect.gen(function*() {
      const peer = yield* Raw.listen
      const { connect, stack } = yield* transport({ http2: true })
      const sink = yield* connect(peer.port)
      const server = yield* peer.accept
      const abort = new Abort(Infinity, 50)
      const endpoint = Endpoint.tcp("127.0.0.1", peer.port)
      const calling = yield* start(sending(sink, endpoint, stack, [])(get("/x"), callOf({ abort })))
      yield* until(
        "the request has come",
        () => server.received.includes("PRI * HTTP/2.0") && server.received.length > 80
      )
      abort.fire()
      assert.strictEqual((yield* Effect.flip(Fiber.join(calling)))._tag, "Timeout")
      assert.deepStrictEqual(stack.faults.list.map(({ what }) => what), ["a server of HTTP/2 does not answer"])
      yield* until("it has ended", () => sink.status.state === "Closed")
      assert.deepInclude(yield* shown("scales.transport."), { "closes drained": 1 })
      assert.deepStrictEqual(yield* shown("scales.http."), { requests: 1, abandoned: 1, "failures Timeout": 1 })
    }).pipe(alone))
})

class Users extends HttpService<Users>()("Users") {}

const authority = Certificates.authority()
const certified = authority.issue()
const tls = { ca: authority.certificate, serverName: "localhost" }

/** Servers that answer with the status that the path names. */
const handlers = (counts: Map<string, number>) =>
(
  request: { readonly url?: string | undefined },
  response: { statusCode: number; readonly end: (text: string) => unknown }
) => {
  const status = Number(request.url!.slice(1))
  const name = `responses ${Math.floor(status / 100)}xx`
  counts.set(name, (counts.get(name) ?? 0) + 1)
  response.statusCode = status
  response.end("12345")
}

const kinds = {
  "HTTP/1.1": (counts: Map<string, number>) => ({ server: listen(handlers(counts)), options: {} }),
  "HTTP/2": (counts: Map<string, number>) => ({
    server: listening(
      NodeHttp2.createSecureServer({ cert: certified.certificate, key: certified.key }, handlers(counts)) as Net.Server
    ),
    options: { http2: true, tls }
  })
}

for (const [kind, make] of Object.entries(kinds)) {
  it.live(`a client's load over ${kind} is what its server has counted, and gone with it`, () =>
    Effect.gen(function*() {
      const counts = new Map<string, number>()
      const { options, server } = make(counts)
      const { accepted, uri } = yield* server
      const scope = yield* Scope.make()
      const users = yield* Layer.buildWithScope(
        Http.layer(Users, { ...options, uri, statusErrors: false, label: "users" }).pipe(Layer.provide(Seed.layer(1))),
        scope
      ).pipe(Effect.map(({ mapUnsafe }) => mapUnsafe.get(Users.key) as Users["Service"]))
      const statuses = [200, 201, 204, 301, 404, 500, 503]
      yield* Effect.forEach(
        Array.from({ length: 140 }, (_, index) => statuses[index % statuses.length]!),
        (status) => users.post(`/${status}`, { body: HttpBody.text("abc") }),
        { concurrency: 8 }
      )
      const http = yield* shown("scales.http.")
      assert.deepStrictEqual(http, {
        ...Object.fromEntries(counts),
        requests: 140,
        request_body_bytes: 3 * 140,
        // 204 has no body.
        response_body_bytes: 5 * 120
      })
      const of = yield* shown("scales.transport.")
      assert.strictEqual(of["connects"], accepted())
      assert.strictEqual(of["connections"], accepted())
      assert.strictEqual(of["connect_latency_ms"], accepted())
      if (kind === "HTTP/2") assert.strictEqual(of["tls_handshakes"], accepted())
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* Metric.snapshot, [])
    }).pipe(alone))
}

it.live("all that is shown is in the table, with the attributes that it says", () =>
  Effect.gen(function*() {
    const connection = yield* connected()
    const calling = yield* start(connection.send(get("/x")))
    yield* connection.server.request
    connection.server.write(answer("503 No", "retry-after: 0"))
    yield* Effect.flip(Fiber.join(calling))
    const rows = metricTable as Readonly<Record<string, { readonly attributes: ReadonlyArray<string> } | undefined>>
    const seen = new Set<string>()
    for (const { attributes, id } of yield* Metric.snapshot) {
      if (!id.startsWith("scales.http.")) continue
      seen.add(id)
      const { client, unit: _, ...own } = attributes as Record<string, string>
      assert.strictEqual(client, "test")
      assert.sameMembers(Object.keys(own), [...rows[id]?.attributes ?? ["no row"]], id)
    }
    assert.sameMembers([...seen], Object.keys(metricTable))
  }).pipe(alone))
