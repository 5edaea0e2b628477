/** Finagle's Mux clients call our servers, with bare bodies. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import * as Finagle from "../Finagle.ts"
import { holds, theme } from "../Suite.ts"
import * as Tap from "../Tap.ts"
import { serveBodies } from "./ours.ts"
import { type Peers, shared } from "./peers.ts"
import { noneLost, refused, result } from "./results.ts"

const mebibyte = 1024 * 1024

export const muxServer = theme<Peers>("mux 24.2 server", [
  holds(
    "bodies, errors, nacks, flags",
    Effect.gen(function*() {
      const { client } = yield* shared("ourBodies")
      for (const body of ["", "00", "ff".repeat(70_000)]) {
        const length = body.length / 2
        const answer = result(yield* client.call([body], { hex: true }))
        assert.deepEqual(answer, length > 65_536 ? { length } : { length, hex: body })
      }
      assert.deepEqual(result(yield* client.call(["x"], { pad: 16 * mebibyte - 1 })), { length: 16 * mebibyte })
      noneLost(yield* client.load(["body {}"], { requests: 2000, concurrency: 64 }))
      const error = refused(yield* client.call(["error:sad panda"]))
      assert.deepEqual([error.exception, error.message], [
        "com.twitter.finagle.mux.ServerApplicationError",
        "sad panda"
      ])
      assert.equal(result(yield* client.call(["once-nack:mux"])).text, "once-nack:mux")
      assert.deepEqual(refused(yield* client.call(["nack-nonretryable"])).flags, ["nonretryable", "rejected"])
      assert.deepEqual(refused(yield* client.call(["failure-nonretryable"])).flags, ["nonretryable"])
    })
  ),
  holds(
    "a cancelled call interrupts its handler",
    Effect.gen(function*() {
      const { client, events } = yield* shared("ourBodies")
      refused(yield* client.call(["slow:60001"], { cancel: 100 }))
      yield* events.first(({ millis }) => millis === 60_001)
    })
  ),
  holds(
    "contexts, destination and dtab as the handler sees them",
    Effect.gen(function*() {
      const { client } = yield* shared("ourBodies")
      const { text } = result(
        yield* client.call(["seen"], {
          clientId: "interop.mux",
          dst: "/svc/echo",
          dtab: "/a=>/b",
          context: ["com.example.Tenant=61636d65"]
        })
      )
      const { destination, dtab, retries, tenant } = JSON.parse(text)
      assert.deepEqual({ destination, dtab, retries, tenant }, {
        destination: "/svc/echo",
        dtab: [{ prefix: "/a", tree: "/b" }],
        retries: 0,
        tenant: "acme"
      })
    })
  ),
  holds(
    "fragments of 5 bytes both ways",
    Effect.gen(function*() {
      const { port } = yield* serveBodies({ window: 5 })
      const tap = yield* Tap.make(port)
      const client = yield* Finagle.client("mux24", [tap.address], { window: 5 })
      noneLost(yield* client.load([`${"x".repeat(1000)}{}`], { requests: 100, concurrency: 10 }))
      assert.deepEqual([tap.requests.largest, tap.replies.largest], [5, 5])
      assert.ok(tap.requests.fragments >= 20_000 && tap.replies.fragments >= 20_000)
    })
  ),
  holds(
    "Finagle answers our pings, and our lease makes it call the endpoint busy",
    Effect.gen(function*() {
      const { address, server } = yield* serveBodies()
      const client = yield* Finagle.client("mux24", [address])
      result(yield* client.call(["x"]))
      const [session] = server.sessions()
      const leased = (duration: Duration.Input) =>
        Effect.gen(function*() {
          yield* session!.lease(duration)
          assert.ok(yield* session!.ping, "the answer is behind all that was sent before")
          return (yield* client.command(["status"])).clients[0].status
        })
      assert.equal(yield* leased(0), "Busy")
      assert.equal(result(yield* client.call(["x"])).text, "x")
      assert.equal(yield* leased("1 minute"), "Open")
    })
  ),
  holds(
    "a session that we refuse fails Finagle's calls as rejected",
    Effect.gen(function*() {
      const { address } = yield* serveBodies({ maxSessions: 0 })
      const client = yield* Finagle.client("mux24", [address])
      assert.deepEqual(refused(yield* client.call(["x"])).flags, ["rejected"])
    })
  )
])
