/** Connections that a server closes at awkward moments: what is lost by it, what is sent again, and what must never be. */
import { Rpc } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { type Case, holds, theme } from "../Suite.ts"
import { failure, uriOf } from "../thriftmux/echo.ts"
import { connect as connectGuarded, type Options, unguarded } from "./client.ts"
import { type Connection, ok, type Seen, serve } from "./scripted.ts"

const calls = 200

const connect = (uri: string, options: Options = {}) => connectGuarded(uri, { ...options, ...unguarded })

/** So many GETs, one after the other, each with its own answer. */
const eachAnswered = (send: Effect.Success<ReturnType<typeof connect>>["send"], count = calls) =>
  Effect.forEach(
    Array.from({ length: count }, (_, i) => i),
    (i) => Effect.map(send(`/${i}`), ({ text }) => assert.equal(text, `GET /${i}`)),
    { discard: true }
  )

const echo = ({ method, target }: Seen): string => `${method} ${target}`

/** How often each target was asked for. */
const counts = (requests: ReadonlyArray<Seen>): ReadonlyArray<number> =>
  [...Map.groupBy(requests, ({ target }) => target).values()].map(({ length }) => length)

/** The cases of connections that end. */
export const awkward: ReadonlyArray<Case<never>> = theme("closed", [
  holds(
    "after each response, unannounced: no GET fails, and none is lost",
    Effect.gen(function*() {
      const server = yield* serve((request, connection) => {
        connection.answer(echo(request))
        connection.end()
      })
      const { send } = yield* connect(uriOf(server))
      // The next call may have left before the end is heard of: each can cost one that is made again, of which 100 are in reserve.
      yield* eachAnswered(send, 50)
    })
  ),
  holds(
    "after each response, announced: a connection is used once, and a POST never fails",
    Effect.gen(function*() {
      const server = yield* serve((request, connection) => {
        connection.write(ok(echo(request), "connection: close"))
        connection.end()
      })
      const { send } = yield* connect(uriOf(server))
      for (let i = 0; i < calls; i++) {
        assert.equal((yield* send(`/${i}`, { method: "POST", body: Buffer.from("x") })).text, `POST /${i}`)
      }
      assert.deepEqual([server.connections(), server.requests.length], [calls, calls])
    })
  ),
  holds(
    "after each response by HTTP/1.0, which says it by its version alone: a POST never fails",
    Effect.gen(function*() {
      const server = yield* serve((request, connection) => {
        connection.write(`HTTP/1.0 200 OK\r\n\r\n${echo(request)}`)
        connection.end()
      })
      const { send } = yield* connect(uriOf(server))
      for (let i = 0; i < 20; i++) {
        assert.equal((yield* send(`/${i}`, { method: "POST", body: Buffer.from("x") })).text, `POST /${i}`)
      }
    })
  ),
  holds(
    "while it idles: a POST after it goes out on another connection",
    Effect.gen(function*() {
      const server = yield* serve((request, connection) => {
        connection.answer(echo(request))
        connection.end()
      })
      const { send } = yield* connect(uriOf(server))
      for (let i = 0; i < 20; i++) {
        assert.equal((yield* send(`/${i}`, { method: "POST", body: Buffer.from("x") })).text, `POST /${i}`)
        yield* server.until(() => server.open() === 0)
      }
      assert.equal(server.requests.length, 20)
    })
  ),
  ...(["reset", "end"] as const).map((how) =>
    holds(
      `${
        how === "reset" ? "by a reset" : "without a word"
      } when the tenth request comes: a GET goes out again, a POST fails, and was sent once`,
      Effect.gen(function*() {
        const server = yield* serve((request, connection) => {
          if (request.turn < 10) connection.answer(echo(request))
          else connection[how]()
        })
        const { send } = yield* connect(uriOf(server), { connections: { high: 1 } })
        yield* eachAnswered(send)
        assert.ok(counts(server.requests).every((count) => count <= 2))
        while (server.requests.at(-1)!.turn < 9) yield* send("/on")
        const failed = yield* failure(send("/post", { method: "POST", body: Buffer.from("x") }), "ConnectionClosed")
        assert.equal(failed.reached, "maybe")
        assert.equal(server.requests.filter(({ target }) => target === "/post").length, 1)
        assert.equal((yield* send("/after")).text, "GET /after")
      })
    )
  ),
  holds(
    "as soon as it is accepted, every second one of one server of two: no call fails",
    Effect.gen(function*() {
      const answer = (request: Seen, connection: Connection) => {
        connection.write(ok(echo(request), "connection: close"))
        connection.end()
      }
      const flawed = yield* serve(answer, (connection, number) => {
        if (number % 2 === 0) connection.reset()
      })
      const { send } = yield* connectGuarded(uriOf(flawed, yield* serve(answer)))
      for (let i = 0; i < calls; i++) assert.equal((yield* send(`/${i}`)).text, `GET /${i}`)
      assert.ok(flawed.connections() >= 2)
    })
  ),
  ...(["end", "reset"] as const).flatMap((how) =>
    [
      ["in the middle of the head", "HTTP/1.1 200 OK\r\ncontent-le"],
      ["between head and body", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"],
      ["in the middle of a body", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"],
      ["in the middle of a chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\nhalf"],
      [
        "in the middle of the last body of a connection",
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 10\r\n\r\nhalf"
      ],
      [
        "in the middle of a chunk of it",
        "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\na\r\nhalf"
      ],
      [
        "between chunks of it",
        "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"
      ],
      ["between chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"],
      ["before the last chunk's end", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n"]
    ].map(([where, text]) =>
      holds(
        `${where}, ${
          how === "end" ? "in good order" : "by a reset"
        }: half a response is none; a GET is made again, a POST is not`,
        Effect.gen(function*() {
          const server = yield* serve((request, connection) => {
            if (request.target === "/once" && server.requests.filter(({ target }) => target === "/once").length > 1) {
              return connection.answer("whole")
            }
            connection.write(text!)
            // A reset takes along what has not left.
            if (how === "end") connection.end()
            else setTimeout(connection.reset, 5)
          })
          const { send } = yield* connect(uriOf(server))
          assert.equal((yield* send("/once")).text, "whole")
          const failed = yield* failure(send("/never", { method: "POST", body: Buffer.from("x") }), "ConnectionClosed")
          assert.equal(failed.reached, "maybe")
          assert.deepEqual(counts(server.requests), [2, 1])
        })
      )
    )
  ),
  holds(
    "in the middle of a body that is read as a stream: what came of it, then the failure",
    Effect.gen(function*() {
      const server = yield* serve((_, connection) => {
        connection.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        connection.end()
      })
      const { open } = yield* connect(uriOf(server))
      const { collected, failed } = yield* Effect.scoped(Effect.flatMap(open("/"), ({ read }) => read))
      assert.deepEqual([collected, failed?._tag], ["half", "ConnectionClosed"])
      assert.equal(server.requests.length, 1, "what was handed on is not asked for again")
    })
  ),
  holds(
    "at the end of a body without a length: that is its end",
    Effect.gen(function*() {
      const server = yield* serve((_, connection) => {
        connection.write("HTTP/1.1 200 OK\r\n\r\nall ")
        connection.write("of it")
        connection.end()
      })
      const { send } = yield* connect(uriOf(server))
      assert.equal((yield* send("/")).text, "all of it")
    })
  ),
  holds(
    "by a reset in a body without a length: that is no end",
    Effect.gen(function*() {
      const server = yield* serve((_, connection) => {
        connection.write("HTTP/1.1 200 OK\r\n\r\nnot all")
        setTimeout(connection.reset, 5)
      })
      const { send } = yield* connect(uriOf(server))
      yield* failure(send("/", { method: "POST" }), "ConnectionClosed")
    })
  ),
  holds(
    "never, with a body that stops: the deadline covers it, and the connection is given up",
    Effect.gen(function*() {
      const server = yield* serve((_, connection) => {
        connection.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
      })
      const { open, send, state } = yield* connect(uriOf(server))
      const late = yield* failure(send("/").pipe(Rpc.deadline("100 millis")), "Timeout")
      assert.equal(late.reached, "maybe")
      yield* server.until(() => server.open() === 0)
      const { collected, failed } = yield* Effect.scoped(
        Effect.flatMap(open("/").pipe(Rpc.deadline("100 millis")), ({ read }) => read)
      )
      assert.deepEqual([collected, failed?._tag], ["half", "Timeout"])
      yield* server.until(() => server.open() === 0)
      assert.equal(state("dispatcher").outstanding, 0)
    })
  ),
  holds(
    "by the client when it does not want the rest: the server hears of it, and the load is none",
    Effect.gen(function*() {
      const server = yield* serve((_, connection) => {
        connection.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
      })
      const { open, state } = yield* connect(uriOf(server))
      yield* Effect.scoped(Effect.gen(function*() {
        const { status } = yield* open("/")
        assert.equal(status, 200)
        assert.equal(state("balancer").endpoints[0].load, 1, "a body that is open is load")
        assert.equal(state("dispatcher").outstanding, 1)
      }))
      yield* server.until(() => server.open() === 0)
      assert.equal(state("balancer").endpoints[0].load, 0)
      assert.equal(state("dispatcher").outstanding, 0)
    })
  ),
  holds(
    "while a request's body is on its way, with an answer before: the answer counts",
    Effect.gen(function*() {
      const server = yield* serve(() => {}, (connection) => {
        setTimeout(() => {
          connection.write("HTTP/1.1 413 Too Much\r\ncontent-length: 4\r\nconnection: close\r\n\r\nmuch")
          connection.end()
        }, 20)
      })
      const { send } = yield* connect(uriOf(server))
      const { status, text } = yield* send("/", { method: "PUT", body: Buffer.alloc(20_000_000) })
      assert.deepEqual([status, text], [413, "much"])
    })
  )
])
