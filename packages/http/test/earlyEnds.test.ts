// Exchanges that end before they are whole, on one connection of HTTP/1.1: what becomes of the connection, and of who waits.
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { BodyOwner } from "../src/index.ts"
import { callOf, connected, get, start, transportOf, until } from "./support.ts"

const streamed = { method: "GET", target: "/x", headers: [], body: undefined }

describe("an exchange", () => {
  it.live("that a nack has refused does not wait for the body of that", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* start(Effect.flip(connection.send(get("/x"))))
      yield* connection.server.request
      connection.server.write("HTTP/1.1 503 Busy\r\nfinagle-http-nack: true\r\ncontent-length: 50\r\n\r\nfirst")
      assert.strictEqual((yield* Fiber.join(calling))._tag, "Nacked")
      yield* until("the connection is closed", () => connection.status.state === "Closed")
    }))

  it.live("that is answered before its body has left costs its connection", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const body = new Uint8Array(50_000_000)
      const calling = yield* start(connection.send({ ...get("/x"), method: "POST", body }))
      yield* until("the server has its head", () => connection.server.received.includes("POST /x"))
      connection.server.write("HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n")
      assert.strictEqual((yield* Fiber.join(calling)).status, 413)
      yield* until("the connection is closed", () => connection.status.state === "Closed")
    }))

  it.live("with two readers of its body gives each what is its turn", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      const calling = yield* start(connection.send({ ...streamed, owner: new BodyOwner() }))
      yield* connection.server.request
      connection.server.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
      const { body } = yield* Fiber.join(calling)
      if (body instanceof Uint8Array) throw new Error("a collected body")
      const [first, second] = [yield* start(body.next), yield* start(body.next)]
      connection.server.write("a")
      assert.deepStrictEqual([...(yield* Fiber.join(first))!], [97])
      connection.server.write("b")
      assert.deepStrictEqual([...(yield* Fiber.join(second))!], [98])
      assert.isUndefined(yield* body.next)
    }))

  it.live("given up before its request was begun leaves the connection", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      yield* Effect.sleep(20)
      const calling = yield* start(connection.send(get("/x")))
      yield* Fiber.interrupt(calling)
      assert.deepStrictEqual([connection.status.state, transportOf(connection.stack).state.abandoned], ["Open", 0])
    }))

  it.live("whose classifier throws at its end is a failure, and its reader dies", () =>
    Effect.gen(function*() {
      const connection = yield* connected()
      let judged = 0
      const classify = () => {
        // Asked at the head, and again at the end.
        if (++judged > 1) throw new Error("no judgement")
        return "success" as const
      }
      const call = callOf({ classify })
      const calling = yield* start(connection.send({ ...streamed, owner: new BodyOwner() }, call))
      yield* connection.server.request
      connection.server.write("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n")
      const { body } = yield* Fiber.join(calling)
      if (body instanceof Uint8Array) throw new Error("a collected body")
      const [first, second] = [yield* start(body.next), yield* start(Effect.exit(body.next))]
      connection.server.write("abc")
      assert.strictEqual((yield* Fiber.join(first))?.length, 3)
      assert.include(String(yield* Fiber.join(second)), "no judgement")
    }))
})
