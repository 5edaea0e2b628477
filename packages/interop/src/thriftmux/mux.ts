/** Mux without Thrift: the family used directly, with bare bodies. */
import { Destination, Dtab, Rpc } from "@scales-rpc/core"
import type { MuxTransport } from "@scales-rpc/mux"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import assert from "node:assert/strict"
import * as Finagle from "../Finagle.ts"
import { holds, theme } from "../Suite.ts"
import { connectBody } from "./body.ts"
import { failure, uriOf } from "./echo.ts"
import { type Peers, shared } from "./peers.ts"

const toBody = (options?: MuxTransport.MuxTransportOptions) =>
  Effect.gen(function*() {
    const server = yield* shared("body")
    return { server, ...yield* connectBody(uriOf(server), options) }
  })

export const mux = theme<Peers>("mux 24.2", [
  holds(
    "a body comes back, whatever its bytes and its size",
    Effect.gen(function*() {
      const { send } = yield* toBody()
      for (const length of [0, 1, 255, 65_536, 16 * 1024 * 1024]) {
        const body = Buffer.alloc(length, "\u0000\u0001\u0080\u00ff", "latin1")
        assert.ok(body.equals(yield* send(body)), `${length} bytes came back changed`)
      }
    })
  ),
  holds(
    "a failure of the service is ServerFailed with the exception's text",
    Effect.gen(function*() {
      const { text } = yield* toBody()
      const error = yield* failure(text("error:sad panda"), "ServerFailed")
      assert.deepEqual([error.why, error.retryable, error.reached], [
        "java.lang.RuntimeException: sad panda",
        false,
        "maybe"
      ])
    })
  ),
  holds(
    "nacks are sent again, up to a limit; flags decide",
    Effect.gen(function*() {
      const { state, text } = yield* toBody()
      assert.equal(yield* text("once-nack:mux"), "once-nack:mux")
      assert.equal(state("requeue").requeues, 1)
      const final = yield* failure(text("nack-nonretryable"), "ServerFailed")
      assert.deepEqual([final.retryable, final.rejected], [false, true])
      const flagged = yield* failure(text("failure-nonretryable"), "ServerFailed")
      assert.deepEqual([flagged.retryable, flagged.rejected], [false, false])
      assert.equal(state("requeue").requeues, 1)
      assert.equal((yield* failure(text("nack"), "Nacked")).retryable, false)
      assert.equal(state("requeue").limitReached, 1)
    })
  ),
  holds(
    "a call that times out and one that is interrupted are discarded at the server",
    Effect.gen(function*() {
      const { server, state, text } = yield* toBody()
      const { session } = JSON.parse(yield* text("seen"))
      const late = yield* failure(text("slow:60000").pipe(Rpc.deadline("100 millis")), "Timeout")
      assert.deepEqual([late.waiting, late.reached], ["reply", "maybe"])
      const call = yield* Effect.forkChild(text("slow:60000"), { startImmediately: true })
      yield* text("behind it")
      yield* Fiber.interrupt(call)
      // Between the deadline and the call that heeds it a millisecond may pass.
      for (const why of [/^no reply within \d+ ms$/, /^interrupted by the caller$/]) {
        yield* server.event("discarded", (event) => event.session === session && why.test(String(event["why"])))
      }
      yield* text("behind the answers to both")
      assert.deepEqual(state("transport").sessions.map(({ tags }: any) => tags), [0])
    })
  ),
  holds(
    "contexts, destination and dtab as the server saw them",
    Effect.gen(function*() {
      const { text } = yield* toBody()
      const { contexts, destination, dtab } = JSON.parse(
        yield* text("seen").pipe(
          Rpc.context("com.example.Tenant", "acme"),
          Rpc.context(Destination, String.raw`/svc/echo/\xc3\xbc\x20`),
          Rpc.context(Dtab, [{ prefix: "/a", tree: "/b" }])
        )
      )
      assert.equal(contexts["com.example.Tenant"], Buffer.from("acme").toString("hex"))
      assert.equal(contexts["com.twitter.finagle.Retries"], "00000000")
      assert.equal(destination, String.raw`/svc/echo/\xc3\xbc\x20`)
      assert.equal(dtab, "/a=>/b")
    })
  ),
  holds(
    "a large reply in fragments of our window",
    Effect.gen(function*() {
      const { send, server, text } = yield* toBody({ window: 1000 })
      const { session } = JSON.parse(yield* text("seen"))
      assert.ok(Buffer.alloc(1_048_576, "x").equals(yield* send("big:1048576")))
      const { largestOut, out } = yield* server.session(session)
      assert.equal(largestOut, 1000)
      assert.equal(out["Rdispatch+"], 1048)
    })
  ),
  holds(
    "requests in fragments of the server's window of 5 bytes, and replies in ours",
    Effect.gen(function*() {
      const server = yield* Finagle.server("mux24", { window: 5 })
      const { send, text } = yield* connectBody(uriOf(server), { window: 5 })
      const { session } = JSON.parse(yield* text("seen"))
      const body = Buffer.alloc(1000, "0123456")
      assert.ok(body.equals(yield* send(body)))
      const { largestIn, largestOut, ...frames } = yield* server.session(session)
      assert.deepEqual([largestIn, largestOut], [5, 5])
      assert.ok(frames.in["Tdispatch+"]! >= 200 && frames.out["Rdispatch+"]! >= 200)
    })
  ),
  holds(
    "a lease that is over makes the endpoint Busy, another one makes it Open, and the server's pings are answered",
    Effect.gen(function*() {
      const { server, state, text } = yield* toBody()
      yield* text("first")
      const leased = (millis: number) =>
        Effect.gen(function*() {
          yield* server.lease(millis)
          const { answered, sessions } = yield* server.ping
          assert.equal(answered, sessions)
          return state("balancer").endpoints.map((endpoint: { readonly state: string }) => endpoint.state)
        })
      assert.deepEqual(yield* leased(0), ["Busy"])
      assert.equal(yield* text("Busy"), "Busy")
      assert.deepEqual(yield* leased(60_000), ["Open"])
      assert.equal(yield* text("Open"), "Open")
    })
  ),
  holds(
    "a server that refuses sessions fails calls with Nacked, and none while another is up",
    Effect.gen(function*() {
      const refusing = yield* Finagle.server("mux24", { rejectSessions: true })
      const { text } = yield* connectBody(uriOf(refusing))
      assert.equal((yield* failure(text("x"), "Nacked")).reached, "no")
      const both = yield* connectBody(uriOf(refusing, yield* shared("body")))
      for (let i = 0; i < 20; i++) assert.equal(yield* both.text("x"), "x")
    })
  )
])
