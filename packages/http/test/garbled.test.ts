// Responses that were garbled on the way: each call ends, once, with an answer or a failure of its own, and leaves nothing.
import { Abort, Endpoint } from "@scales-rpc/core"
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Stream } from "effect"
import { BodyOwner, type HttpRequest, streamOf } from "../src/index.ts"
import * as Raw from "./raw.ts"
import { callOf, get, sending, start, transport, until } from "./support.ts"

const whole = [
  "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 11\r\n\r\nhello world",
  "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nx-sum: 11\r\n\r\n",
  "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno",
  "HTTP/1.1 503 Busy\r\nfinagle-http-nack: true\r\ncontent-length: 0\r\n\r\n",
  "HTTP/1.0 200 OK\r\n\r\nto the end"
]

/** Numbers from 0 to 1 that are the same each time (mulberry32). */
const numbers = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

/** One to three changes: a byte is another, is gone, or is new; a part comes twice; the rest is missing. */
const garble = (text: string, random: () => number): string => {
  const at = (end: number) => Math.floor(random() * end)
  for (let changes = 1 + at(3); changes > 0; changes--) {
    const i = at(text.length)
    const j = i + at(10)
    const byte = String.fromCharCode(random() < 0.3 ? at(256) : [13, 10, 58, 32, 48, 57][at(6)]!)
    text = [
      text.slice(0, i) + byte + text.slice(i + 1),
      text.slice(0, i) + text.slice(i + 1),
      text.slice(0, i) + byte + text.slice(i),
      text.slice(0, j) + text.slice(i),
      text.slice(0, i)
    ][at(5)]!
  }
  return text
}

const expected = new Set(["ConnectionClosed", "ProtocolError", "Nacked"])

it.live("a garbled response, in pieces, is an answer or a failure", () =>
  Effect.gen(function*() {
    const server = yield* Raw.listen
    const { connect, stack } = yield* transport()
    const endpoint = Endpoint.tcp("127.0.0.1", server.port)
    const seen = new Map<string, number>()
    for (let seed = 1; seed <= 400; seed++) {
      const random = numbers(seed)
      const text = garble(whole[seed % whole.length]!, random)
      yield* Effect.scoped(Effect.gen(function*() {
        const sink = yield* connect(server.port)
        const connection = yield* server.accept
        const abort = new Abort(Infinity, 1000)
        const ends: Array<string> = []
        const send = sending(sink, endpoint, stack, ends)
        const request: HttpRequest = seed % 2 === 0
          ? get("/")
          : { method: "GET", target: "/", headers: [], body: undefined, owner: new BodyOwner() }
        const calling = yield* start(
          Effect.flatMap(send(request, callOf({ abort })), ({ body }) => Stream.runDrain(streamOf(body)))
        )
        yield* connection.request
        for (let i = 0; i < text.length;) {
          const size = 1 + Math.floor(random() * 40)
          connection.write(text.slice(i, i + size))
          i += size
          if (random() < 0.3) yield* Effect.yieldNow
        }
        connection.end()
        const exit = yield* Fiber.await(calling)
        const reason = Exit.isSuccess(exit) ? undefined : exit.cause.reasons[0]
        const outcome = reason === undefined ? "answer" : reason._tag === "Fail" ? reason.error._tag : String(reason)
        assert.isTrue(outcome === "answer" || expected.has(outcome), `seed ${seed}: ${outcome}`)
        seen.set(outcome, (seen.get(outcome) ?? 0) + 1)
        yield* until(`seed ${seed}: the connection is closed`, () => sink.status.state === "Closed")
        assert.deepStrictEqual([ends.length, abort.listeners, abort.held], [1, 0, false], `seed ${seed}`)
      })).pipe(Effect.orDie)
    }
    // Each of them is met: the changes are neither too many nor too few.
    assert.deepStrictEqual([...seen.keys()].toSorted(), ["ConnectionClosed", "Nacked", "ProtocolError", "answer"])
  }), 60_000)
