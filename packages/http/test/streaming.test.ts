// A response whose body still comes: it holds its attempt, and whatever ends it lets go of the connection.
import { Abort } from "@scales-rpc/core"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Stream } from "effect"
import { BodyOwner, type BodyStream, type HttpResponse, type StreamedRequest, streamOf } from "../src/index.ts"
import { callOf, type Connected, connected, failureOf, start, told, until } from "./support.ts"
import { ok } from "./raw.ts"

const streamed = (owner = new BodyOwner(), method = "GET"): StreamedRequest => ({
  method,
  target: "/x",
  headers: [],
  body: undefined,
  owner
})

const bodyOf = ({ body }: HttpResponse): BodyStream => {
  if (body instanceof Uint8Array) throw new Error("a collected body")
  return body
}

const text = (chunk: Uint8Array | undefined) => chunk === undefined ? undefined : Buffer.from(chunk).toString("latin1")

const head = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"

/** A response whose head has come, with the first three bytes of nine. */
const begun = (connection: Connected, owner = new BodyOwner(), call = callOf()) =>
  Effect.gen(function*() {
    const calling = yield* start(connection.send(streamed(owner), call))
    yield* connection.server.request
    connection.server.write(`${head}abc`)
    return yield* Fiber.join(calling)
  })

const isOver = ({ server, status }: Connected) =>
  Effect.gen(function*() {
    yield* until("the connection is closed", () => status.state === "Closed")
    yield* server.ended
  })

describe("a streamed body", () => {
  it.live("comes piece by piece, and holds its attempt until its end", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const abort = new Abort(Infinity, 50)
      const response = yield* begun(connection, new BodyOwner(), callOf({ abort }))
      const body = bodyOf(response)
      assert.strictEqual(text(yield* body.next), "abc")
      const waiting = yield* start(body.next)
      assert.isUndefined(waiting.pollUnsafe())
      connection.server.write("def")
      assert.strictEqual(text(yield* Fiber.join(waiting)), "def")
      assert.deepStrictEqual(connection.ends, [])
      connection.server.write("ghi")
      assert.strictEqual(text(yield* body.next), "ghi")
      assert.isUndefined(yield* body.next)
      assert.isUndefined(yield* body.next)
      assert.deepStrictEqual([connection.ends, connection.status.state], [["success"], "Open"])
      assert.deepStrictEqual([abort.held, abort.listeners], [false, 0])
      // Too late to matter.
      body.cancel()
      assert.strictEqual(connection.status.state, "Open")
    }))

  it.live("is read as a stream, with the trailers behind it", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* start(connection.send(streamed()))
      yield* connection.server.request
      connection.server.write(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 5\r\n\r\n"
      )
      const response = yield* Fiber.join(calling)
      const all = yield* Stream.runFold(streamOf(response.body), () => "", (sum, chunk) => sum + text(chunk))
      assert.strictEqual(all, "abcde")
      assert.deepStrictEqual(response.trailers, [["x-sum", "5"]])
      assert.deepStrictEqual([connection.ends, connection.status.state], [["success"], "Open"])
    }))

  it.live("is that of the last head, after as many 1xx as the server likes", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* start(connection.send(streamed()))
      yield* connection.server.request
      connection.server.write(`HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n`)
      yield* Effect.sleep(5)
      assert.isUndefined(calling.pollUnsafe())
      connection.server.write(ok("last"))
      const response = yield* Fiber.join(calling)
      assert.deepStrictEqual([response.status, text(yield* bodyOf(response).next)], [200, "last"])
    }))

  it.live("that is empty ends at once", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* start(connection.send(streamed()))
      yield* connection.server.request
      connection.server.write(ok(""))
      assert.isUndefined(yield* bodyOf(yield* Fiber.join(calling)).next)
      assert.deepStrictEqual(connection.ends, ["success"])
    }))

  it.live("of a failing status counts against its endpoint, at its end", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* start(connection.send(streamed()))
      yield* connection.server.request
      connection.server.write("HTTP/1.1 500 No\r\ncontent-length: 3\r\n\r\na")
      const body = bodyOf(yield* Fiber.join(calling))
      assert.strictEqual(text(yield* body.next), "a")
      assert.deepStrictEqual(connection.ends, [])
      connection.server.write("bc")
      assert.strictEqual(text(yield* body.next), "bc")
      assert.isUndefined(yield* body.next)
      assert.deepStrictEqual([connection.ends, connection.status.state], [["failure"], "Open"])
    }))

  it.live("that breaks fails, after what has come of it, and stays failed", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const body = bodyOf(yield* begun(connection))
      connection.server.end("def")
      yield* isOver(connection)
      assert.strictEqual(text(yield* body.next), "abc")
      assert.strictEqual(text(yield* body.next), "def")
      assert.deepStrictEqual(told(yield* Effect.flip(body.next)), ["ConnectionClosed", "maybe"])
      assert.deepStrictEqual(told(yield* Effect.flip(body.next)), ["ConnectionClosed", "maybe"])
      assert.deepStrictEqual(connection.ends, ["failure"])
    }))

  const last: ReadonlyArray<readonly [string, string]> = [
    ["that has no length", "\r\nabc"],
    ["of announced length, the last of its connection", "connection: close\r\ncontent-length: 9\r\n\r\nabc"],
    ["in chunks, the last of its connection", "connection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"],
    ["of announced length", "content-length: 9\r\n\r\nabc"]
  ]
  it.live.each(last)(
    "%s, is not ended by a reset: it fails with what has happened",
    ([, rest]) =>
      Effect.gen(function*() {
        const connection = yield* connected()
        const calling = yield* start(connection.send(streamed()))
        yield* connection.server.request
        connection.server.write(`HTTP/1.1 200 OK\r\n${rest}`)
        const body = bodyOf(yield* Fiber.join(calling))
        assert.strictEqual(text(yield* body.next), "abc")
        connection.server.reset()
        const error = yield* Effect.flip(body.next)
        assert.deepStrictEqual(told(error), ["ConnectionClosed", "maybe"])
        assert.include(error.message, "ECONNRESET")
        yield* isOver(connection)
        assert.deepStrictEqual([connection.status.fault, connection.ends], [undefined, ["failure"]])
      })
  )

  it.live("that is cancelled closes the connection, and whoever waits for it is told", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const body = bodyOf(yield* begun(connection))
      yield* body.next
      const waiting = yield* start(body.next)
      body.cancel()
      assert.strictEqual(connection.status.state, "Closed")
      assert.deepStrictEqual(told(yield* failureOf(waiting)), ["ConnectionClosed", "maybe"])
      yield* isOver(connection)
      assert.deepStrictEqual(connection.ends, ["ignored"])
    }))

  it.live("ends with its call's deadline, and what had come is not read any more", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const abort = new Abort(Infinity, 50)
      const body = bodyOf(yield* begun(connection, new BodyOwner(), callOf({ abort })))
      assert.isTrue(abort.held)
      abort.fire()
      assert.deepStrictEqual(told(yield* Effect.flip(body.next)), ["Timeout", "maybe"])
      assert.deepStrictEqual([connection.ends, abort.held, abort.listeners], [["failure"], false, 0])
      yield* isOver(connection)
    }))

  it.live("ends with its deadline while it is waited for", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const abort = new Abort(Infinity, 50)
      const body = bodyOf(yield* begun(connection, new BodyOwner(), callOf({ abort })))
      yield* body.next
      const waiting = yield* start(body.next)
      abort.fire()
      assert.deepStrictEqual(told(yield* failureOf(waiting)), ["Timeout", "maybe"])
      yield* isOver(connection)
    }))

  it.live("goes on after a wait for it was interrupted", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const body = bodyOf(yield* begun(connection))
      yield* body.next
      yield* Fiber.interrupt(yield* start(body.next))
      connection.server.write("defghi")
      assert.strictEqual(text(yield* body.next), "defghi")
      assert.isUndefined(yield* body.next)
    }))

  it.live("that is left early as a stream is cancelled", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const response = yield* begun(connection)
      yield* Stream.runHead(streamOf(response.body))
      yield* isOver(connection)
      assert.deepStrictEqual(connection.ends, ["ignored"])
    }))

  it.live("that nobody reads does not fill the memory: the server has to wait", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* start(connection.send(streamed()))
      yield* connection.server.request
      const chunk = Buffer.alloc(65_536, "x")
      const chunks = 512
      const size = chunks * chunk.length
      connection.server.write(`HTTP/1.1 200 OK\r\ncontent-length: ${size}\r\n\r\n`)
      let taken = 0
      const write = () => {
        if (++taken <= chunks) connection.server.socket.write(chunk, write)
      }
      write()
      const body = bodyOf(yield* Fiber.join(calling))
      // Until the sockets of both sides are full.
      for (let before = -1; taken !== before;) {
        before = taken
        yield* Effect.sleep(100)
      }
      assert.isBelow(taken, chunks)
      let got = 0
      for (let chunk = yield* body.next; chunk !== undefined; chunk = yield* body.next) got += chunk.length
      assert.strictEqual(got, size)
      assert.deepStrictEqual([connection.ends, connection.status.state], [["success"], "Open"])
    }))

  it.live("is not shared with another call meanwhile", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      yield* begun(connection)
      assert.deepStrictEqual(told(yield* Effect.flip(connection.send(streamed()))), ["Nacked", "no"])
    }))
})

describe("the owner of a body", () => {
  it.live("closes it when nobody else can: its call was interrupted just as the head came", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const owner = new BodyOwner()
      const calling = yield* start(connection.send(streamed(owner)))
      yield* connection.server.request
      const interrupting: { current: Fiber.Fiber<unknown> | undefined } = { current: undefined }
      // Before the fiber has the response, though the transport has made it.
      const take = owner.take.bind(owner)
      owner.take = (body) => {
        take(body)
        interrupting.current = Effect.runFork(Fiber.interrupt(calling))
      }
      connection.server.write(`${head}abc`)
      yield* until("the head has come", () => interrupting.current !== undefined)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(calling)))
      owner.release()
      yield* isOver(connection)
    }))

  it.live("closes what comes after its release", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const owner = new BodyOwner()
      const calling = yield* start(connection.send(streamed(owner)))
      yield* connection.server.request
      owner.release()
      connection.server.write(`${head}abc`)
      const body = bodyOf(yield* Fiber.join(calling))
      assert.deepStrictEqual(told(yield* Effect.flip(body.next)), ["ConnectionClosed", "maybe"])
      yield* isOver(connection)
    }))

  it.live("keeps one, and closes the others", () =>
    Effect.gen(function*() {
      const [first, second] = [yield* connected(), yield* connected()]
      const owner = new BodyOwner()
      yield* begun(first, owner)
      const kept = yield* begun(second, owner)
      owner.keep(kept.body)
      yield* isOver(first)
      assert.strictEqual(second.status.state, "Open")
      owner.release()
      yield* isOver(second)
    }))

  it.live("lets go of a body that has ended", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const owner = new BodyOwner()
      const body = bodyOf(yield* begun(connection, owner))
      connection.server.write("defghi")
      while ((yield* body.next) !== undefined) {}
      owner.release()
      assert.deepStrictEqual([connection.ends, connection.status.state], [["success"], "Open"])
    }))
})
