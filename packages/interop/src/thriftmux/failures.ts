/** Calls that fail, each in its typed way, and calls that are given up. */
import { Rpc } from "@scales-rpc/core"
import { ApplicationExceptionType } from "@scales-rpc/thrift"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import assert from "node:assert/strict"
import { Message, Overdrawn, Refused } from "../../../examples/gen/echo_types.js"
import * as Finagle from "../Finagle.ts"
import { holds, theme } from "../Suite.ts"
import { connect, connectAll, type EchoClient, failure, int64, plain, seen, uriOf } from "./echo.ts"
import { type Peers, shared } from "./peers.ts"

/** A client of the shared server, and the number that the server gave its session. */
const toEcho = Effect.gen(function*() {
  const server = yield* shared("echo")
  const { echo, state } = yield* connect(uriOf(server))
  const { session } = yield* seen(echo)
  return { server, echo, state, session: session as number }
})

const say = (echo: EchoClient, text: string) => echo.passMessage(new Message({ text, number: int64(0n), items: [] }))

/** What the server tells of a call of this session that it was told to give up. */
const discardOf = (server: Finagle.Server, session: number) =>
  server.event("discarded", (event) => event.session === session)

/** Every tag is free again. The ping's reply is behind all that the server had to say before. */
const noTagIsHeld = (echo: EchoClient, state: (role: string) => any) =>
  Effect.map(echo.ping(), () => assert.deepEqual(state("transport").sessions.map(({ tags }: any) => tags), [0]))

export const failures = theme<Peers>("failures", [
  holds(
    "a declared exception is the instance of its class, each of two",
    Effect.gen(function*() {
      const { echo } = yield* toEcho
      const refused = yield* failure(echo.fail("not today", int64(0n)), "ThriftException")
      assert.ok(refused.exception instanceof Refused)
      assert.equal(refused.exception.why, "not today")
      const overdrawn = yield* failure(echo.fail("", int64(-(2n ** 63n))), "ThriftException")
      assert.ok(overdrawn.exception instanceof Overdrawn)
      assert.equal(String(overdrawn.exception.missing), String(-(2n ** 63n)))
    })
  ),
  holds(
    "an undeclared failure of the handler is an application exception with Finagle's text",
    Effect.gen(function*() {
      const { echo } = yield* toEcho
      const error = yield* failure(echo.crash("oops"), "ThriftApplicationException")
      assert.equal(error.type, ApplicationExceptionType.INTERNAL_ERROR)
      assert.equal(error.message, "Internal error processing crash: 'java.lang.IllegalStateException: oops'")
    })
  ),
  holds(
    "a oneway method is refused before anything is sent",
    Effect.gen(function*() {
      const { echo, server, session } = yield* toEcho
      const before = (yield* server.session(session)).in
      assert.equal((yield* failure(echo.note("never"), "Unsendable")).reached, "no")
      assert.deepEqual((yield* server.session(session)).in, before)
    })
  ),
  holds(
    "a call past its deadline fails with Timeout in time, and the server hears the discard",
    Effect.gen(function*() {
      const { echo, server, session, state } = yield* toEcho
      const started = performance.now()
      const error = yield* failure(echo.slow(60_000).pipe(Rpc.deadline("200 millis")), "Timeout")
      const millis = performance.now() - started
      assert.ok(millis >= 199 && millis < 1000, `it took ${millis} ms`)
      assert.deepEqual([error.waiting, error.reached], ["reply", "maybe"])
      // Between the deadline and the call that heeds it a millisecond may pass.
      assert.ok(error.timeoutMillis > 150 && error.timeoutMillis <= 200, `it had ${error.timeoutMillis} ms`)
      const event = yield* discardOf(server, session)
      assert.equal(event["exception"], "com.twitter.finagle.mux.ClientDiscardedRequestException")
      assert.equal(event["why"], `no reply within ${error.timeoutMillis} ms`)
      yield* noTagIsHeld(echo, state)
    })
  ),
  holds(
    "an interrupted call is discarded at the server",
    Effect.gen(function*() {
      const { echo, server, session, state } = yield* toEcho
      const call = yield* Effect.forkChild(echo.slow(60_000), { startImmediately: true })
      // Behind it on the same connection: when this is answered, the server has the other.
      yield* echo.ping()
      yield* Fiber.interrupt(call)
      assert.equal((yield* discardOf(server, session))["why"], "interrupted by the caller")
      yield* noTagIsHeld(echo, state)
    })
  ),
  holds(
    "a nacked call is sent again and succeeds",
    Effect.gen(function*() {
      const { echo, state } = yield* toEcho
      assert.equal(plain(yield* say(echo, "once-nack:failures")).text, "once-nack:failures")
      assert.equal(state("requeue").requeues, 1)
      assert.equal(state("transport").nacks, 1)
    })
  ),
  holds(
    "a call that is always nacked ends with Nacked: the fifth makes failure accrual avoid its endpoint, and after one more it gives up",
    Effect.gen(function*() {
      const { echo, server, session, state } = yield* toEcho
      const before = (yield* server.session(session)).in["Tdispatch"]!
      const error = yield* failure(say(echo, "nack"), "Nacked")
      assert.deepEqual([error.retryable, error.reached], [true, "no"])
      const { notOpen, requeues } = state("requeue")
      assert.deepEqual([requeues, notOpen, state("failureAccrual").removals], [5, 1, 1])
      assert.equal((yield* server.session(session)).in["Tdispatch"], before + requeues + 1)
    })
  ),
  holds(
    "a nack that forbids another try is final",
    Effect.gen(function*() {
      const { echo, state } = yield* toEcho
      const error = yield* failure(say(echo, "nack-nonretryable"), "ServerFailed")
      assert.deepEqual([error.retryable, error.rejected, error.reached], [false, true, "no"])
      assert.equal(state("requeue").requeues, 0)
    })
  ),
  holds(
    "failure flags: NonRetryable, with the server's text",
    Effect.gen(function*() {
      const { echo, state } = yield* toEcho
      const error = yield* failure(say(echo, "failure-nonretryable"), "ServerFailed")
      assert.deepEqual([error.retryable, error.rejected, error.reached], [false, false, "maybe"])
      assert.match(error.why, /^Failure\(no, flags=0x10\)/)
      assert.equal(state("requeue").requeues, 0)
    })
  ),
  holds(
    "of two servers, the one that did not nack gets the call",
    Effect.gen(function*() {
      const one = yield* shared("echo")
      const two = yield* shared("second")
      const text = "once-nack:two servers"
      // From now on `two` takes it, and `one` nacks it once.
      yield* say((yield* connect(uriOf(two))).echo, text)
      const { echo, state } = yield* connectAll(one, two)
      // Two at once: the balancer sends one to each server.
      yield* Effect.all([say(echo, text), say(echo, text)], { concurrency: 2 })
      assert.equal(state("requeue").requeues, 1)
      const { sessions } = state("transport")
      assert.equal(sessions.length, 2)
      const dispatches = yield* Effect.forEach(
        [one, two],
        (server) => Effect.map(server.stats, ({ sessions }) => sessions.at(-1)!.in["Tdispatch"])
      )
      assert.deepEqual(dispatches, [1, 2])
    })
  ),
  holds(
    "a server that refuses sessions fails calls with Nacked, and none while another is up",
    Effect.gen(function*() {
      const server = yield* Finagle.server("tm22", { rejectSessions: true })
      const { echo } = yield* connect(uriOf(server))
      assert.equal((yield* failure(echo.ping(), "Nacked")).reached, "no")
      const both = yield* connect(uriOf(server, yield* shared("echo")))
      for (let i = 0; i < 20; i++) assert.equal(yield* both.echo.ping(), "pong")
    })
  )
])
