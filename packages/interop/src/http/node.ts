/** Node's own server: every method and body, what HTTP says of them, and calls that are given up. */
import { Rpc } from "@scales-rpc/core"
import { HttpBody } from "@scales-rpc/http"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import assert from "node:assert/strict"
import { gunzipSync } from "node:zlib"
import { type Case, Full, holds, theme } from "../Suite.ts"
import { failure } from "../thriftmux/echo.ts"
import { loaded } from "../thriftmux/loaded.ts"
import { connect, type Options } from "./client.ts"
import { type Peers, shared } from "./peers.ts"

const toNode = (options: Options = {}) =>
  Effect.gen(function*() {
    const server = yield* shared("node")
    return { server, ...yield* connect(`tcp://${server.http1}`, options) }
  })

type Send = Effect.Success<ReturnType<typeof toNode>>["send"]

/** What the server saw of the call that asks. */
const seen = (send: Send, ...rest: Parameters<Send> extends [string, ...infer Rest] ? Rest : never) =>
  Effect.map(send("/seen", ...rest), ({ text }): any => JSON.parse(text))

const connectionOf = (send: Send) => Effect.map(seen(send), ({ connection }): number => connection)

/** Each pair of raw headers. */
const pairs = (raw: ReadonlyArray<string>): ReadonlyArray<string> =>
  raw.flatMap((name, i) => i % 2 === 0 ? [`${name.toLowerCase()}: ${raw[i + 1]}`] : [])

/** The i-th body, unlike its neighbours. */
const bodyOf = (i: number): Buffer => Buffer.alloc((i * 37) % 3000, `${i}:`)

/** The i-th of many calls; it dies when the answer is another's. */
export const checkedEcho = (send: Send, i: number) =>
  Effect.map(
    send(`/echo?${i}${i % 3 === 0 ? "&chunked" : ""}`, { method: "PUT", body: bodyOf(i) }),
    ({ body }) => assert.ok(body.equals(bodyOf(i)), `call ${i}: another body came back`)
  )

/** The cases of Node's server. */
export const node: ReadonlyArray<Case<Peers>> = theme<Peers>("Node's server", [
  holds(
    "every method, with a body and without",
    Effect.gen(function*() {
      const { send } = yield* toNode()
      for (const method of ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]) {
        for (const body of [undefined, "", "a body", "x".repeat(100_000)]) {
          const answer = yield* send("/echo", { method, body: body === undefined ? undefined : Buffer.from(body) })
          assert.deepEqual([answer.status, answer.header("x-method"), answer.text], [200, method, body ?? ""])
        }
      }
      const { body, header, status } = yield* send("/echo", { method: "HEAD" })
      assert.deepEqual([status, header("x-method"), body.length], [200, "HEAD", 0])
    })
  ),
  holds(
    "bodies up to a mebibyte, both ways, with a length and in chunks",
    Effect.gen(function*() {
      const { send } = yield* toNode()
      const bytes = Buffer.from(Array.from({ length: 2 ** 20 }, (_, i) => (i * 31 + (i >> 8)) & 0xff))
      for (const length of [0, 1, 1023, 65_536, 2 ** 20]) {
        const sent = bytes.subarray(0, length)
        const pieces = Array.from(
          { length: Math.ceil(length / 1000) },
          (_, i) => sent.subarray(i * 1000, i * 1000 + 1000)
        )
        for (const target of ["/echo", "/echo?chunked"]) {
          for (
            const body of [
              sent,
              { stream: Stream.fromIterable(pieces), length },
              { stream: Stream.fromIterable(pieces), length: undefined }
            ]
          ) {
            const { body: came } = yield* send(target, { method: "POST", body })
            assert.ok(came.equals(sent), `${length} bytes to ${target} came back changed`)
          }
        }
      }
    })
  ),
  holds(
    "a body whose length is known has it, one whose is not goes in chunks, and none has neither",
    Effect.gen(function*() {
      const { send } = yield* toNode()
      const framing = (sent: Parameters<Send>[1]) =>
        Effect.map(seen(send, sent), ({ headers, length }) => [
          length,
          pairs(headers).filter((each) => /^(content-length|transfer-encoding)/.test(each))
        ])
      const stream = Stream.fromIterable([Buffer.from("abc"), Buffer.from("de")])
      assert.deepEqual(yield* framing({}), [0, []])
      assert.deepEqual(yield* framing({ method: "POST", body: Buffer.from("abc") }), [3, ["content-length: 3"]])
      assert.deepEqual(yield* framing({ method: "POST", body: { stream, length: 5 } }), [5, ["content-length: 5"]])
      assert.deepEqual(yield* framing({ method: "POST", body: { stream, length: undefined } }), [5, [
        "transfer-encoding: chunked"
      ]])
      assert.deepEqual(yield* framing({ method: "POST" }), [0, ["content-length: 0"]])
    })
  ),
  holds(
    "headers as they were given, and a host",
    Effect.gen(function*() {
      const { send, server } = yield* toNode()
      const { headers } = yield* seen(send, { headers: [["x-a", "1"], ["x-b", "ü ÿ"], ["x-a", "2"]] })
      const got = pairs(headers)
      for (const header of ["x-a: 1", "x-b: ü ÿ", "x-a: 2", `host: ${server.http1}`]) {
        assert.equal(got.filter((each) => each === header).length, 1, `${header} in ${got.join("; ")}`)
      }
      const named = pairs((yield* seen(send, { headers: [["host", "users.example"]] })).headers)
      assert.deepEqual(named.filter((each) => each.startsWith("host:")), ["host: users.example"])
    })
  ),
  holds(
    "a path and a query with blanks, and beyond ASCII",
    Effect.gen(function*() {
      const { send } = yield* toNode()
      const { target } = JSON.parse((yield* send("/seen?a b=ü&%20=%")).text)
      assert.equal(target, "/seen?a%20b=%C3%BC&%20=%")
    })
  ),
  holds(
    "responses without a body leave the connection as it was: 204, 304; a HEAD takes it along",
    Effect.gen(function*() {
      const { send } = yield* toNode({ connections: { high: 1 } })
      const connection = yield* connectionOf(send)
      for (const code of [204, 304]) {
        const { body, status } = yield* send(`/status?code=${code}`)
        assert.deepEqual([status, body.length], [code, 0])
      }
      assert.equal(yield* connectionOf(send), connection)
      // It may be followed by a body that a server should not have sent.
      assert.equal((yield* send("/echo", { method: "HEAD" })).status, 200)
      assert.equal(yield* connectionOf(send), connection + 1)
    })
  ),
  holds(
    "interim responses are passed over: 102 and 103",
    Effect.gen(function*() {
      const { send } = yield* toNode()
      const { header, status, text } = yield* send("/interim")
      assert.deepEqual([status, text, header("x-last"), header("link")], [200, "final", "yes", undefined])
    })
  ),
  holds(
    "trailers",
    Effect.gen(function*() {
      const { send } = yield* toNode()
      const { text, trailers } = yield* send("/trailers")
      assert.deepEqual([text, trailers], ["body", [["x-sum", "4"], ["x-also", "yes"]]])
    })
  ),
  holds(
    "JSON by a schema, a form and a query",
    Effect.gen(function*() {
      const { site } = yield* toNode()
      const User = Schema.Struct({ name: Schema.String, since: Schema.DateFromString })
      const user = { name: "ünï", since: new Date("2026-01-02T03:04:05.000Z") }
      const reply = yield* site.post("/echo", { body: HttpBody.json(User, user) })
      assert.equal(reply.header("content-type"), "application/json")
      assert.deepEqual(yield* reply.json(User), user)
      const wrong = yield* failure(reply.json(Schema.Struct({ age: Schema.Number })), "HttpBodyError")
      assert.equal(wrong.what, "response")
      const form = yield* site.post("/echo", { body: HttpBody.form({ a: ["1", "x & y"], b: "ü" }) })
      assert.deepEqual(
        [form.header("content-type"), form.text],
        ["application/x-www-form-urlencoded", "a=1&a=x+%26+y&b=%C3%BC"]
      )
      const { text } = yield* site.get("/seen", { query: { a: [1, 2], b: "x & y", c: undefined } })
      assert.equal(JSON.parse(text).target, "/seen?a=1&a=2&b=x+%26+y")
    })
  ),
  holds(
    "a body with more bytes than are taken",
    Effect.gen(function*() {
      const { site } = yield* toNode()
      const large = yield* failure(site.get("/pieces?bytes=10000000", { maxBytes: 1_000_000 }), "ResponseTooLarge")
      assert.equal(large.limit, 1_000_000)
      assert.equal((yield* site.get("/pieces?bytes=1000000", { maxBytes: 1_100_000 })).bytes.length, 62 * 16_384)
    })
  ),
  holds(
    "the span that a call is made in",
    Effect.gen(function*() {
      const { send } = yield* toNode()
      const { spanId, traceId, traceparent } = yield* Effect.gen(function*() {
        const { spanId, traceId } = yield* Effect.currentSpan
        const { headers } = yield* seen(send)
        return { spanId, traceId, traceparent: pairs(headers).find((each) => each.startsWith("traceparent: ")) }
      }).pipe(Effect.withSpan("caller"))
      assert.equal(traceparent, `traceparent: 00-${traceId}-${spanId}-01`)
      const { headers } = yield* seen(send)
      assert.deepEqual(pairs(headers).filter((each) => each.startsWith("traceparent")), [])
    })
  ),
  holds(
    "a compressed body is as the server sent it",
    Effect.gen(function*() {
      const { send } = yield* toNode()
      const { body, header } = yield* send("/gzip")
      assert.equal(header("content-encoding"), "gzip")
      assert.equal(gunzipSync(body).toString(), "compressed ".repeat(1000))
    })
  ),
  holds(
    "every status is an answer, with its reason",
    Effect.gen(function*() {
      const { send } = yield* toNode()
      for (const code of [200, 201, 206, 299, 300, 400, 404, 418, 429, 499, 500, 502, 503, 599]) {
        const { reason, status, text } = yield* send(`/status?code=${code}&reason=Some%20words&body=why`)
        assert.deepEqual([status, reason, text], [code, "Some words", "why"])
      }
    })
  ),
  holds(
    "a header that is there twice is there twice",
    Effect.gen(function*() {
      const { send } = yield* toNode()
      const { headers } = yield* send("/headers?count=10&bytes=100")
      assert.deepEqual(headers.filter(([name]) => name === "set-cookie").map(([, value]) => value), ["a=1", "b=2"])
      assert.equal(headers.find(([name]) => name === "x-9")?.[1], "v".repeat(100))
    })
  ),
  holds(
    "a connection that the server announces to close is not used again",
    Effect.gen(function*() {
      const { send } = yield* toNode({ connections: { high: 1 } })
      const connection = yield* connectionOf(send)
      assert.equal((yield* send("/last", { method: "POST" })).text, "last")
      assert.ok((yield* connectionOf(send)) > connection)
    })
  ),
  holds(
    "an interrupted call is aborted at the server",
    Effect.gen(function*() {
      const { send, server } = yield* toNode()
      const target = "/slow?millis=60000&interrupted"
      const call = yield* Effect.forkChild(send(target), { startImmediately: true })
      yield* Effect.sleep("50 millis")
      yield* Fiber.interrupt(call)
      yield* server.event("aborted", (event) => event["target"] === target)
    })
  ),
  holds(
    "a call whose deadline passes is aborted at the server",
    Effect.gen(function*() {
      const { send, server } = yield* toNode()
      const target = "/slow?millis=60000&late"
      const late = yield* failure(send(target).pipe(Rpc.deadline("100 millis")), "Timeout")
      assert.deepEqual([late.waiting, late.reached], ["reply", "maybe"])
      yield* server.event("aborted", (event) => event["target"] === target)
    })
  ),
  holds(
    "a body that nobody reads stops the server, and the deadline ends it",
    Effect.gen(function*() {
      const { open, server, state } = yield* toNode()
      const bytes = 500_000_000
      yield* Effect.scoped(Effect.gen(function*() {
        const { read } = yield* open(`/pieces?bytes=${bytes}`).pipe(Rpc.deadline("500 millis"))
        const { finished, made } = yield* server.event("pieces")
        assert.equal(finished, false)
        assert.ok((made as number) < bytes / 10, `${String(made)} bytes were sent to nobody`)
        assert.equal((yield* read).failed?._tag, "Timeout")
      }))
      assert.equal(state("dispatcher").outstanding, 0)
    })
  ),
  holds(
    "a body of many megabytes through a stream, read slowly, is whole",
    Effect.gen(function*() {
      const { open } = yield* toNode()
      const bytes = 16 * 1024 * 1024
      const read = yield* Effect.scoped(
        Effect.flatMap(
          open(`/pieces?bytes=${bytes}`),
          ({ stream }) =>
            Stream.runFoldEffect(stream, () => 0, (sum, chunk) => Effect.as(Effect.yieldNow, sum + chunk.length))
        )
      )
      assert.equal(read, bytes)
    })
  ),
  holds(
    "connections that the server closes while they idle: no GET of a load fails",
    Effect.gen(function*() {
      const { send, server } = yield* toNode()
      const load = yield* loaded((i) =>
        Effect.map(send(`/echo?${i}`), ({ status }) => assert.equal(status, 200)).pipe(
          i % 7 === 0 ? Effect.delay("2 millis") : (call) => call
        )
      )
      // Each of those costs the calls that are on their way to it: not more than may be sent again, which is a fifth of all.
      for (let i = 0; i < 10; i++) {
        yield* load.more(500)
        yield* server.command(["close-idle"])
      }
      yield* load.stop
    })
  ),
  holds(
    "many calls, 64 in flight: every answer is its own call's",
    Effect.gen(function*() {
      const { send, state } = yield* toNode()
      const total = (yield* Full) ? 100_000 : 5000
      yield* Effect.forEach(Array.from({ length: total }, (_, i) => i), (i) => checkedEcho(send, i), {
        concurrency: 64,
        discard: true
      })
      assert.deepEqual([state("dispatcher").outstanding, state("balancer").endpoints[0].load], [0, 0])
    }),
    "60 seconds"
  ),
  holds(
    "many calls, some of them given up: no other is lost, and nothing is held",
    Effect.gen(function*() {
      const { send, state } = yield* toNode()
      const total = (yield* Full) ? 50_000 : 2000
      let answered = 0
      yield* Effect.forEach(Array.from({ length: total }, (_, i) => i), (i) => {
        const call = Effect.andThen(checkedEcho(send, i), Effect.sync(() => void answered++))
        if (i % 5 !== 0) return call
        return Effect.raceFirst(call, i % 2 === 0 ? Effect.yieldNow : Effect.sleep("1 millis"))
      }, { concurrency: 64, discard: true })
      assert.ok(answered >= total * 4 / 5)
      assert.deepEqual([state("dispatcher").outstanding, state("balancer").endpoints[0].load], [0, 0])
    }),
    "60 seconds"
  )
])
