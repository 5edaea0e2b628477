/** What a client of ours does not send: what is no HTTP, what would mean something else to a server, and secrets to strangers. */
import { BalancedHttpClient, ForeignUrl, InvalidRequest } from "@scales-rpc/http"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import assert from "node:assert/strict"
import { inspect } from "node:util"
import { type Case, holds, theme } from "../Suite.ts"
import { failure, uriOf } from "../thriftmux/echo.ts"
import { connect, type Sent } from "./client.ts"
import { serve } from "./scripted.ts"

const injection = "\r\nx-injected: yes\r\n\r\nGET /injected HTTP/1.1\r\n\r\n"

/** Requests that are refused: what of them is wrong, and the name that the failure has of it. */
const wrong: ReadonlyArray<readonly [what: string, name: string, target: string, sent: Sent]> = [
  ["a line break in a header's value", "x", "/", { headers: [["x", `a${injection}`]] }],
  ["a CR alone in it", "x", "/", { headers: [["x", "a\rb"]] }],
  ["an LF alone in it", "x", "/", { headers: [["x", "a\nb"]] }],
  ["a NUL in it", "x", "/", { headers: [["x", "a\0b"]] }],
  ["a character beyond ISO 8859-1 in it, of which a CR and LF would be left", "x", "/", {
    headers: [["x", "a\u010d\u010ax-injected: yes"]]
  }],
  ["a line break in a header's name", `x: 1${injection}`, "/", { headers: [[`x: 1${injection}`, "a"]] }],
  ["a space in a header's name", "x y", "/", { headers: [["x y", "a"]] }],
  ["no name of a header", "", "/", { headers: [["", "a"]] }],
  ["a line break in the target", "target", `/ HTTP/1.1${injection}`, {}],
  ["a target that is none of ours", "target", "http://elsewhere.invalid/", {}],
  ["a target that is no path", "target", "seen", {}],
  ["a method with a space", "method", "/", { method: "GET /injected HTTP/1.1\r\n\r\nGET" }],
  ["no method", "method", "/", { method: "" }],
  ["the method CONNECT", "method", "/", { method: "CONNECT" }],
  ["a length that is not the body's", "content-length", "/", {
    method: "POST",
    headers: [["content-length", "3"]],
    body: Buffer.from("GET /injected HTTP/1.1\r\n\r\n")
  }],
  ["two lengths", "content-length", "/", {
    method: "POST",
    headers: [["content-length", "1"], ["content-length", "2"]],
    body: Buffer.from("x")
  }],
  ["a transfer-encoding of the caller's", "transfer-encoding", "/", {
    method: "POST",
    headers: [["transfer-encoding", "chunked"]],
    body: Buffer.from("0\r\n\r\nGET /injected HTTP/1.1\r\n\r\n")
  }],
  ["a connection header", "connection", "/", { headers: [["connection", "close"]] }],
  ["an upgrade", "upgrade", "/", { headers: [["upgrade", "websocket"]] }],
  ["an expectation", "expect", "/", { method: "POST", headers: [["expect", "100-continue"]], body: Buffer.from("x") }]
]

const secret = "S3cret-0f-many-bytes"

/** All that a client of ours says while it runs: logs of every level, whatever they are given. */
const listening = (said: Array<string>) =>
  Logger.layer([
    Logger.make(({ cause, fiber, message }) => {
      said.push(inspect([message, cause, fiber.getRef(References.CurrentLogAnnotations)], { depth: 20 }))
    })
  ])

/** The cases of requests. */
export const requests: ReadonlyArray<Case<never>> = [
  ...theme("not sent", [
    ...wrong.map(([what, name, target, sent]) =>
      holds(
        what,
        Effect.gen(function*() {
          const server = yield* serve((request, connection) => connection.answer(request.target))
          const { send } = yield* connect(uriOf(server))
          yield* send("/before")
          const before = server.bytes()
          const { cause } = yield* failure(send(target, sent), "Unsendable")
          assert.ok(cause instanceof InvalidRequest, String(cause))
          assert.equal(cause.name, name.toLowerCase().replace(/[^!-~]/g, "?"))
          assert.equal(server.bytes(), before)
          assert.equal((yield* send("/after")).text, "/after")
          assert.deepEqual(server.requests.map((request) => request.target), ["/before", "/after"])
        })
      )
    )
  ]),
  ...theme("secrets", [
    holds(
      "a redirect to another host is not followed, and takes nothing along",
      Effect.gen(function*() {
        const other = yield* serve((_, connection) => connection.answer("caught"))
        const server = yield* serve((request, connection) =>
          connection.write(
            `HTTP/1.1 ${
              request.target.slice(1)
            } There\r\nlocation: http://${other.address}/\r\ncontent-length: 0\r\n\r\n`
          )
        )
        const { send } = yield* connect(uriOf(server))
        const headers = [["authorization", `Bearer ${secret}`], ["cookie", secret]] as const
        for (const status of [301, 302, 303, 307, 308]) {
          for (const method of ["GET", "POST"]) {
            const answer = yield* send(`/${status}`, { method, headers })
            assert.deepEqual([answer.status, answer.header("location")], [status, `http://${other.address}/`])
          }
        }
        assert.equal(other.connections(), 0)
      })
    ),
    holds(
      "nor through Effect's HttpClient, told to follow it: a URL of another host is refused",
      Effect.gen(function*() {
        const other = yield* serve((_, connection) => connection.answer("caught"))
        const server = yield* serve((request, connection) =>
          connection.write(
            request.target === "/here"
              ? "HTTP/1.1 302 There\r\nlocation: /there\r\ncontent-length: 0\r\n\r\n"
              : `HTTP/1.1 302 There\r\nlocation: http://${other.address}/\r\ncontent-length: 0\r\n\r\n`
          )
        )
        const context = yield* Layer.build(BalancedHttpClient.layer({ uri: uriOf(server), name: "users" }))
        const client = Context.get(context, HttpClient.HttpClient).pipe(HttpClient.followRedirects())
        const request = HttpClientRequest.get("http://users/here").pipe(HttpClientRequest.bearerToken(secret))
        for (const sent of [request, HttpClientRequest.setUrl(request, `http://${other.address}/`)]) {
          const { reason } = yield* failure(client.execute(sent), "HttpClientError")
          assert.equal(reason._tag, "InvalidUrlError")
          assert.ok(reason.cause instanceof ForeignUrl, String(reason.cause))
          assert.ok(!inspect(reason.cause, { depth: 20 }).includes(secret))
        }
        assert.deepEqual(server.requests.map(({ target }) => target), ["/here", "/there"])
        assert.equal(other.connections(), 0)
      })
    ),
    holds(
      "what authorizes is in no log, no error and no view of the stack, whatever happens to the call",
      Effect.gen(function*() {
        const said: Array<string> = []
        const server = yield* serve((request, connection) => {
          if (request.target === "/reset") connection.reset()
          else if (request.target === "/wrong") connection.write("nonsense\r\n\r\n")
          else if (request.target === "/500") connection.write("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n")
          else if (request.target === "/ok") connection.answer("ok")
        })
        const headers = [
          ["authorization", `Bearer ${secret}`],
          ["cookie", `session=${secret}`],
          ["proxy-authorization", secret]
        ] as const
        yield* Effect.gen(function*() {
          const { describe, send } = yield* connect(uriOf(server), { timeout: "100 millis" })
          for (const target of ["/ok", "/reset", "/wrong", "/500", "/silent"]) {
            const exit = yield* Effect.exit(send(target, { method: "POST", headers }))
            said.push(inspect(exit, { depth: 20 }), JSON.stringify(exit), String(exit))
            if (Exit.isFailure(exit)) said.push(Cause.pretty(exit.cause))
            said.push(inspect(describe(), { depth: 20 }))
          }
          const exit = yield* Effect.exit(send("/", { headers: [["authorization", `${secret}\n`]] }))
          assert.ok(Exit.isFailure(exit))
          said.push(inspect(exit, { depth: 20 }), JSON.stringify(exit), Cause.pretty(exit.cause))
        }).pipe(
          Effect.provide(listening(said)),
          Effect.provideService(References.MinimumLogLevel, "All")
        )
        assert.ok(server.requests.some(({ head }) => head.includes(secret)), "it was sent")
        assert.deepEqual(said.filter((each) => each.includes(secret)), [])
      })
    )
  ])
]
