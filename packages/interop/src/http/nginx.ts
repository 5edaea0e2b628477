/** nginx: files, limits, connections that it closes soon, reloads under load, a server behind it, TLS and HTTP/2. */
import { ConnectFailed, FastFailure, Rpc, Timeout } from "@scales-rpc/core"
import { Certificates } from "@scales-rpc/core/testing"
import { headerOf } from "@scales-rpc/http"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import assert from "node:assert/strict"
import { gunzipSync } from "node:zlib"
import { type Case, Full, holds, theme } from "../Suite.ts"
import { failure } from "../thriftmux/echo.ts"
import { loaded } from "../thriftmux/loaded.ts"
import { connect, type Options } from "./client.ts"
import { authority, largestBody, type Nginx, text } from "./nginx/serve.ts"
import { checkedEcho } from "./node.ts"
import { type Peers, shared } from "./peers.ts"

const toNginx = (way: keyof Nginx["address"], options: Options = {}) =>
  Effect.gen(function*() {
    const { address, reload } = yield* shared("nginx")
    return { reload, ...yield* connect(`tcp://${address[way]}`, options) }
  })

type Send = Effect.Success<ReturnType<typeof toNginx>>["send"]

/** The connection and the number of the request on it, as nginx counts them. */
const seen = (send: Send) =>
  Effect.map(send("/seen"), ({ text }) => {
    const [connection = "", turn = "", version = ""] = text.split(" ")
    return { connection, turn: Number(turn), version }
  })

const tlsOf = (way: "tls" | "mutual" | "http2", tls: Options["tls"], options: Options = {}) =>
  toNginx(way, { ...options, tls })

/** What kept a call from a connection. */
const faultOf = (send: Send) =>
  Effect.map(Effect.flip(send("/seen").pipe(Rpc.deadline("2 seconds"))), (error) => {
    let fault: unknown = error
    while (fault instanceof Timeout || fault instanceof FastFailure) fault = fault.cause
    return fault
  })

const byHttp2 = { tls: { ca: authority.certificate }, http2: true } satisfies Options

/** The cases of nginx. */
export const nginx: ReadonlyArray<Case<Peers>> = theme<Peers>("nginx", [
  holds(
    "a file: whole, in part, its head, and not again when it has not changed; all over one connection",
    Effect.gen(function*() {
      const { send } = yield* toNginx("plain", { connections: { high: 1 } })
      const { connection } = yield* seen(send)
      const whole = yield* send("/text")
      assert.equal(whole.text, text)
      assert.equal(whole.header("content-length"), String(text.length))
      const part = yield* send("/text", { headers: [["range", "bytes=5-9"]] })
      assert.deepEqual([part.status, part.text, part.header("content-length")], [206, text.slice(5, 10), "5"])
      const same = yield* send("/text", { headers: [["if-none-match", whole.header("etag")!]] })
      assert.deepEqual([same.status, same.text], [304, ""])
      assert.equal((yield* send("/nothing")).status, 204)
      assert.deepEqual(yield* seen(send), { connection, turn: 6, version: "HTTP/1.1" })
      const head = yield* send("/text", { method: "HEAD" })
      assert.deepEqual([head.status, head.text, head.header("content-length")], [200, "", String(text.length)])
    })
  ),
  holds(
    "a compressed file is in chunks, and as the server sent it",
    Effect.gen(function*() {
      const { send } = yield* toNginx("plain")
      const { body, header } = yield* send("/text", { headers: [["accept-encoding", "gzip"]] })
      assert.deepEqual([header("content-encoding"), header("transfer-encoding")], ["gzip", "chunked"])
      assert.equal(gunzipSync(body).toString(), text)
    })
  ),
  holds(
    "trailers behind a file",
    Effect.gen(function*() {
      const { send } = yield* toNginx("plain")
      const { text: came, trailers } = yield* send("/trailed")
      assert.equal(came, text)
      assert.deepEqual(trailers, [["x-sum", "GET"]])
    })
  ),
  holds(
    "statuses: moved and not followed, refused, not found",
    Effect.gen(function*() {
      const { send } = yield* toNginx("plain")
      const moved = yield* send("/moved")
      assert.deepEqual([moved.status, moved.header("location")], [301, "http://elsewhere.invalid/there"])
      const refused = yield* send("/refused")
      assert.deepEqual([refused.status, refused.reason, refused.text], [403, "Forbidden", "not for you"])
      assert.deepEqual((yield* send("/nonesuch")).status, 404)
    })
  ),
  holds(
    "a status that is an error is one: its code, reason and body, and no header of the request",
    Effect.gen(function*() {
      const { site } = yield* toNginx("plain")
      const refused = yield* failure(site.get("/refused?key=secret"), "HttpStatusError")
      assert.deepEqual([refused.status, refused.reason, refused.text], [403, "Forbidden", "not for you"])
      assert.deepEqual([refused.message, headerOf(refused.headers, "x-served-by")], [
        "GET /refused: 403 Forbidden",
        "nginx"
      ])
      assert.equal((yield* site.get("/moved")).status, 301)
    })
  ),
  holds(
    "a body that drips: the deadline covers it",
    Effect.gen(function*() {
      const { send, state } = yield* toNginx("plain")
      const late = yield* failure(send("/dripping").pipe(Rpc.deadline("300 millis")), "Timeout")
      assert.equal(late.reached, "maybe")
      assert.equal(state("dispatcher").outstanding, 0)
    })
  ),
  holds(
    "headers that are too large for it, and a body: its own answers, and the next call is well",
    Effect.gen(function*() {
      const { send } = yield* toNginx("plain")
      assert.equal((yield* send("/seen", { headers: [["x", "v".repeat(60_000)]] })).status, 400)
      assert.equal((yield* send(`/${"p".repeat(60_000)}`)).status, 414)
      for (
        const body of [
          Buffer.alloc(largestBody + 1),
          { stream: Stream.forever(Stream.succeed(Buffer.alloc(16_384))), length: undefined }
        ]
      ) assert.equal((yield* send("/node/echo", { method: "PUT", body })).status, 413)
      assert.equal((yield* send("/seen")).status, 200)
    })
  ),
  holds(
    "connections that it closes with their third response: no call fails, not even a POST",
    Effect.gen(function*() {
      const { send } = yield* toNginx("few")
      yield* Effect.forEach(
        Array.from({ length: 600 }, (_, i) => i),
        (i) =>
          Effect.map(send("/seen", { method: i % 2 === 0 ? "GET" : "POST" }), ({ status, text }) => {
            assert.equal(status, 200)
            assert.ok(Number(text.split(" ")[1]) <= 3, text)
          }),
        { concurrency: 8, discard: true }
      )
    })
  ),
  holds(
    "connections that it closes when they idle for 50 ms: no GET fails, whenever it comes",
    Effect.gen(function*() {
      const { send } = yield* toNginx("brief")
      yield* Effect.forEach(
        Array.from({ length: 8 }, (_, i) => i),
        (i) =>
          Effect.forEach(Array.from({ length: 20 }, (_, j) => j), (j) =>
            Effect.andThen(
              Effect.map(send("/seen"), ({ status }) => assert.equal(status, 200)),
              Effect.sleep(46 + (i + j) % 8)
            ), { discard: true }),
        { concurrency: 8, discard: true }
      )
    })
  ),
  holds(
    "a reload under load: no GET fails, and new workers answer",
    Effect.gen(function*() {
      const { reload, send } = yield* toNginx("plain")
      const workers = new Set<string>()
      const load = yield* loaded(() =>
        Effect.map(send("/seen"), ({ status, text }) => {
          assert.equal(status, 200)
          workers.add(text.split("-")[0]!)
        })
      )
      const rounds = (yield* Full) ? 20 : 3
      for (let i = 0; i < rounds; i++) {
        yield* load.more(300)
        yield* reload
      }
      yield* load.more(300)
      yield* load.stop
      assert.ok(workers.size > rounds, `${workers.size} workers have answered`)
    })
  ),
  holds(
    "Node's server behind it: bodies both ways, in chunks through it",
    Effect.gen(function*() {
      const { send } = yield* toNginx("plain")
      const through = (target: string, sent: Parameters<Send>[1]) => send(`/node${target}`, sent)
      yield* Effect.forEach(Array.from({ length: 500 }, (_, i) => i), (i) => checkedEcho(through, i), {
        concurrency: 16,
        discard: true
      })
      const bytes = Buffer.alloc(largestBody, "0123456789")
      const stream = Stream.fromIterable(
        Array.from({ length: 100 }, (_, i) => bytes.subarray(i * 10_000, (i + 1) * 10_000))
      )
      const { body } = yield* through("/echo?chunked", { method: "POST", body: { stream, length: undefined } })
      assert.ok(bytes.equals(body))
    })
  ),
  holds(
    "TLS: with its authority, and not with a stranger",
    Effect.gen(function*() {
      const { send } = yield* tlsOf("tls", { ca: authority.certificate })
      assert.equal((yield* send("/text")).text, text)
      const stranger = yield* tlsOf("tls", { ca: Certificates.authority("stranger").certificate })
      const fault = yield* faultOf(stranger.send)
      assert.ok(fault instanceof ConnectFailed, String(fault))
      assert.match(fault.message, /tls failed.*certificate/i)
    })
  ),
  holds(
    "TLS with a certificate of the client's",
    Effect.gen(function*() {
      const ours = authority.issue({ name: "our client" })
      const { send } = yield* tlsOf("mutual", { ca: authority.certificate, ...ours })
      assert.match((yield* send("/seen")).text, /CN=our client$/)
      const without = yield* tlsOf("mutual", { ca: authority.certificate })
      const { status, text: why } = yield* without.send("/seen")
      assert.equal(status, 400)
      assert.match(why, /No required SSL certificate/)
    })
  ),
  holds(
    "plain HTTP to its TLS, and TLS to its plain HTTP",
    Effect.gen(function*() {
      const { send } = yield* toNginx("tls")
      assert.equal((yield* send("/seen")).status, 400)
      const wrong = yield* faultOf((yield* toNginx("plain", { tls: { ca: authority.certificate } })).send)
      assert.ok(wrong instanceof ConnectFailed, String(wrong))
    })
  ),
  holds(
    "HTTP/2: many calls at once over one connection, each with its own answer",
    Effect.gen(function*() {
      const { send } = yield* toNginx("http2", byHttp2)
      const answers = yield* Effect.forEach(Array.from({ length: 500 }, (_, i) => i), (i) => send(`/seen?${i}`), {
        concurrency: 64
      })
      const connections = new Set(answers.map(({ text: line }, i) => {
        assert.match(line, new RegExp(`HTTP/2.0 GET /seen\\?${i}$`))
        return line.split(" ")[0]
      }))
      assert.equal(connections.size, 1)
    })
  ),
  holds(
    "HTTP/2: a file, its head, and no body where there is none",
    Effect.gen(function*() {
      const { send } = yield* toNginx("http2", byHttp2)
      const whole = yield* send("/text")
      assert.deepEqual([whole.text, whole.reason], [text, ""])
      const head = yield* send("/text", { method: "HEAD" })
      assert.deepEqual([head.status, head.text], [200, ""])
      const same = yield* send("/text", { headers: [["if-none-match", whole.header("etag")!]] })
      assert.deepEqual([same.status, same.text], [304, ""])
      assert.equal((yield* send("/nonesuch")).status, 404)
    })
  ),
  holds(
    "HTTP/2: a reload under load: no GET fails",
    Effect.gen(function*() {
      const { reload, send } = yield* toNginx("http2", byHttp2)
      const load = yield* loaded(() => Effect.map(send("/seen"), ({ status }) => assert.equal(status, 200)))
      for (let i = 0; i < 2; i++) {
        yield* load.more(300)
        yield* reload
      }
      yield* load.more(300)
      yield* load.stop
    })
  )
])
