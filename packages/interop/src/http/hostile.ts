/** Responses that are wrong: each is a typed failure or is read as it should be, and none is ever taken for another request's. */
import { Rpc } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { type Case, holds, theme } from "../Suite.ts"
import { failure, uriOf } from "../thriftmux/echo.ts"
import { connect as connectGuarded, type Options, unguarded } from "./client.ts"
import { ok, serve } from "./scripted.ts"

const connect = (uri: string, options: Options = {}) => connectGuarded(uri, { ...options, ...unguarded })

/** What no client may ever see. */
const poison = ok("poison")

/** A server that answers `/bad` so, and all else well. */
const badly = (text: string) =>
  Effect.gen(function*() {
    const server = yield* serve((request, connection) => {
      if (request.target === "/bad") connection.write(text)
      else connection.answer(request.target)
    })
    return { server, ...yield* connect(uriOf(server), { connections: { high: 1 } }) }
  })

/** That a response is one the client will not take, and what comes behind it is nobody's. */
const refused = (what: string, text: string) =>
  holds(
    what,
    Effect.gen(function*() {
      const { send, server } = yield* badly(text)
      yield* send("/before")
      yield* failure(send("/bad", { method: "POST" }), "ProtocolError")
      for (let i = 0; i < 5; i++) assert.equal((yield* send(`/${i}`)).text, `/${i}`)
      assert.ok(server.connections() >= 2, "its connection is used no more")
    })
  )

/** That a response is read as `body`, and what comes behind it is nobody's. */
const read = (what: string, text: string, body: string, method = "GET") =>
  holds(
    what,
    Effect.gen(function*() {
      const { send } = yield* badly(text)
      assert.equal((yield* send("/bad", { method })).text, body)
      for (let i = 0; i < 5; i++) assert.equal((yield* send(`/${i}`)).text, `/${i}`)
    })
  )

const chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"

/** The cases of responses that are wrong. */
export const hostile: ReadonlyArray<Case<never>> = [
  ...theme("a wrong response", [
    refused("no HTTP at all", "220 mail.example ESMTP\r\n\r\n"),
    refused("a status of two digits", "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n"),
    refused("a version that there is not", "HTTP/7.3 200 OK\r\ncontent-length: 0\r\n\r\n"),
    refused("a header without a colon", "HTTP/1.1 200 OK\r\nnonsense\r\ncontent-length: 0\r\n\r\n"),
    refused("a space before the colon", "HTTP/1.1 200 OK\r\ncontent-length : 0\r\n\r\n"),
    refused("a NUL in a header", "HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n"),
    refused("a CR alone in a header", "HTTP/1.1 200 OK\r\nx: a\rset-cookie: b\r\ncontent-length: 0\r\n\r\n"),
    refused(
      "two lengths that differ",
      `HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 4\r\n\r\nhello${poison}`
    ),
    refused("twice the same length", `HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 4\r\n\r\nmine${poison}`),
    refused("an interim 100, unasked", "HTTP/1.1 100 Continue\r\n\r\n"),
    refused("a length that is no number", `HTTP/1.1 200 OK\r\ncontent-length: 5x\r\n\r\nhello${poison}`),
    refused("a length below zero", `HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n${poison}`),
    refused(
      "a length that overflows",
      `HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551617\r\n\r\nh${poison}`
    ),
    refused(
      "a length and chunks both",
      `HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${poison}`
    ),
    refused("a chunk whose size is no number", `${chunked}xyz\r\nhello\r\n0\r\n\r\n${poison}`),
    refused("a chunk whose size overflows", `${chunked}10000000000000001\r\nh\r\n0\r\n\r\n${poison}`),
    refused("a chunk that is longer than its size", `${chunked}3\r\nhello\r\n0\r\n\r\n${poison}`),
    refused("another protocol, unasked", `HTTP/1.1 101 Switching Protocols\r\nupgrade: any\r\n\r\n${poison}`)
  ]),
  ...theme("more than one response", [
    read("a second one with the first is no answer to the next call", ok("mine") + poison, "mine"),
    read("the same of a HEAD with a body", ok("poison"), "", "HEAD"),
    read("the same of a 204 with a body", `HTTP/1.1 204 No Content\r\n\r\n${poison}`, ""),
    read("the same of a 304 that has a length", `HTTP/1.1 304 Not Modified\r\ncontent-length: 6\r\n\r\n`, ""),
    read("the same behind the last chunk", `${chunked}4\r\nmine\r\n0\r\n\r\n${poison}`, "mine"),
    read(
      "the same of a body longer than its length",
      `HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmine, and more`,
      "mine"
    ),
    holds(
      "one that comes while the connection idles is no answer to the next call",
      Effect.gen(function*() {
        const server = yield* serve((request, connection) => {
          connection.answer(request.target)
          setTimeout(() => connection.write(poison), 10)
        })
        const { send } = yield* connect(uriOf(server), { connections: { high: 1 } })
        for (let i = 0; i < 10; i++) {
          assert.equal((yield* send(`/${i}`)).text, `/${i}`)
          // What comes when the next call has been sent cannot be told from its answer: not by anybody.
          yield* server.until(() => server.open() === 0)
        }
      })
    )
  ]),
  ...theme("a strange response", [
    read(
      "names in any case, and blanks before values",
      "HTTP/1.1 200 OK\r\nCONTENT-Length: \t 4\r\n\r\nmine",
      "mine"
    ),
    read("no reason", "HTTP/1.1 200\r\ncontent-length: 4\r\n\r\nmine", "mine"),
    read(
      "interim ones before it, many",
      `${"HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n".repeat(50)}${ok("final")}`,
      "final"
    ),
    read("chunks with extensions", `${chunked}2;a=b\r\nmi\r\n2;c="d"\r\nne\r\n0;e\r\n\r\n`, "mine"),
    holds(
      "byte by byte",
      Effect.gen(function*() {
        const bytes = Buffer.from(`${chunked}2;a=b\r\nmi\r\n2\r\nne\r\n0\r\nx-last: yes\r\n\r\n`)
        const server = yield* serve((_, connection) => {
          let at = 0
          const next = () => {
            if (at === bytes.length) return
            connection.write(bytes.subarray(at, ++at))
            setImmediate(next)
          }
          next()
        })
        const { send } = yield* connect(uriOf(server))
        for (let i = 0; i < 5; i++) {
          const { text, trailers } = yield* send(`/${i}`)
          assert.deepEqual([text, trailers], ["mine", [["x-last", "yes"]]])
        }
      })
    ),
    holds(
      "interim ones without end: the deadline ends them",
      Effect.gen(function*() {
        const server = yield* serve((_, connection) => {
          const again = setInterval(() => connection.write("HTTP/1.1 102 Processing\r\n\r\n"), 5)
          setTimeout(() => clearInterval(again), 5000).unref()
        })
        const { send } = yield* connect(uriOf(server))
        yield* failure(send("/").pipe(Rpc.deadline("200 millis")), "Timeout")
        yield* server.until(() => server.open() === 0)
      })
    ),
    holds(
      "more headers than are taken: a failure that says so, and a connection that is used no more",
      Effect.gen(function*() {
        for (
          const headers of [
            "x: ".padEnd(1_000_000, "v"),
            Array.from({ length: 50_000 }, (_, i) => `x-${i}: v`).join("\r\n")
          ]
        ) {
          const { send, server } = yield* badly(`HTTP/1.1 200 OK\r\n${headers}\r\ncontent-length: 0\r\n\r\n`)
          yield* failure(send("/bad", { method: "POST" }), "ProtocolError")
          assert.equal((yield* send("/after")).text, "/after")
          assert.equal(server.connections(), 2)
        }
      })
    ),
    holds(
      "trailers without end: the same",
      Effect.gen(function*() {
        const { send } = yield* badly(
          `${chunked}0\r\n${Array.from({ length: 50_000 }, (_, i) => `x-${i}: v`).join("\r\n")}\r\n\r\n`
        )
        yield* failure(send("/bad", { method: "POST" }), "ProtocolError")
        assert.equal((yield* send("/after")).text, "/after")
      })
    )
  ])
]
