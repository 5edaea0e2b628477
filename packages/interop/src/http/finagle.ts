/** Finagle's HTTP server: its nacks, what it reads of a call's context, calls that are given up, and rolling restarts. */
import { AccrualPolicy, Rpc, Trace } from "@scales-rpc/core"
import { Recorder } from "@scales-rpc/core/testing"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import assert from "node:assert/strict"
import { type Case, Full, holds, theme } from "../Suite.ts"
import { failure, uriOf } from "../thriftmux/echo.ts"
import { loaded } from "../thriftmux/loaded.ts"
import { connect, type Options } from "./client.ts"
import { type Peers, shared } from "./peers.ts"

const toFinagle = (options: Options = {}) =>
  Effect.gen(function*() {
    const server = yield* shared("finagle")
    return { server, ...yield* connect(uriOf(server), options) }
  })

type Send = Effect.Success<ReturnType<typeof toFinagle>>["send"]

const checkedEcho = (send: Send, i: number) => {
  const body = Buffer.alloc((i * 37) % 3000, `${i}:`)
  return Effect.map(
    send(`/echo?${i}`, { method: "PUT", body }),
    (answer) => assert.ok(answer.body.equals(body), `call ${i}: another body came back`)
  )
}

/** The cases of Finagle's server. */
export const finagle: ReadonlyArray<Case<Peers>> = theme<Peers>("Finagle's server", [
  holds(
    "every method, and statuses",
    Effect.gen(function*() {
      const { send } = yield* toFinagle()
      for (const method of ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]) {
        const body = method === "GET" ? undefined : Buffer.from("a body")
        const { status, text } = yield* send("/echo", { method, body })
        assert.deepEqual([status, text], [200, method === "GET" ? "" : "a body"])
      }
      const head = yield* send("/echo", { method: "HEAD" })
      assert.deepEqual([head.status, head.text], [200, ""])
      for (const code of [400, 404, 500, 503]) {
        const { status, text } = yield* send(`/status?code=${code}`)
        assert.deepEqual([status, text], [code, "as asked"], "a 503 without a header of Finagle's is no nack")
      }
    })
  ),
  holds(
    "a nack is tried again, of a POST too",
    Effect.gen(function*() {
      const { send } = yield* toFinagle()
      for (const method of ["GET", "POST"]) {
        const { status } = yield* send(`/echo?failure=once-nack:${method}`, { method, body: Buffer.from("x") })
        assert.equal(status, 200)
      }
    })
  ),
  holds(
    "nacks and nothing else are a failure that says so",
    Effect.gen(function*() {
      const { send } = yield* toFinagle()
      const nacked = yield* failure(send("/echo?failure=nack", { method: "POST" }), "Nacked")
      assert.equal(nacked.reached, "no")
    })
  ),
  holds(
    "a nack that is not to be tried again is not",
    Effect.gen(function*() {
      const { send, server } = yield* toFinagle()
      const nacks = Effect.map(server.stats, ({ calls }) => calls["nack-nonretryable"] ?? 0)
      const before = yield* nacks
      const nacked = yield* failure(send("/echo?failure=nack-nonretryable"), "Nacked")
      assert.equal(nacked.retryable, false)
      assert.equal((yield* nacks) - before, 1)
    })
  ),
  holds(
    "deadline, trace and which attempt it is travel as it reads them; the client's id as a header",
    Effect.gen(function*() {
      const { send } = yield* toFinagle({ finagle: true, clientId: "interop.test" })
      const given = { traceId: 2n ** 64n - 2n, spanId: 0x0102030405060708n, parentId: 7n, flags: 6n }
      const before = Date.now()
      const { text } = yield* send("/seen").pipe(
        Rpc.context(Trace, { ...given, traceIdHigh: undefined }),
        Rpc.deadline("5 seconds")
      )
      const { contexts, deadline, headers, trace } = JSON.parse(text)
      const until = Number(BigInt(deadline.deadline) / 1_000_000n)
      assert.ok(until >= before + 4999 && until <= Date.now() + 5000, `${until}`)
      const { spanId, ...rest } = trace
      assert.deepEqual(rest, {
        traceId: "fffffffffffffffe",
        parentId: "0102030405060708",
        traceIdHigh: null,
        // Of those of B3 over HTTP only the one for debugging is left: what else they say has a header of its own.
        flags: "0000000000000000",
        sampled: true
      })
      assert.notEqual(spanId, "0102030405060708")
      assert.deepEqual(Object.keys(contexts).toSorted(), [
        "com.twitter.finagle.Deadline",
        "com.twitter.finagle.Retries",
        "com.twitter.finagle.tracing.TraceContext"
      ])
      assert.equal(headers["finagle-ctx-com.twitter.finagle.thrift.clientidcontext"], "interop.test")
    })
  ),
  holds(
    "the server is in the span of the call",
    Recorder.spans((spans) =>
      Effect.gen(function*() {
        const { send } = yield* toFinagle({ finagle: true })
        for (const call of [send("/seen"), Effect.withSpan(send("/seen"), "outer")]) {
          const { trace } = JSON.parse((yield* call).text)
          const { name, parent, spanId, traceId } = spans.at(-1)!
          assert.equal(name, "GET")
          assert.deepEqual([trace.traceIdHigh, trace.traceId, trace.spanId, trace.parentId, trace.sampled], [
            traceId.slice(0, 16),
            traceId.slice(16),
            spanId,
            Option.getOrUndefined(parent)?.spanId ?? spanId,
            true
          ])
        }
      })
    )
  ),
  holds(
    "without it nothing of these is sent",
    Effect.gen(function*() {
      const { send } = yield* toFinagle()
      const { deadline, headers } = JSON.parse((yield* send("/seen").pipe(Rpc.deadline("5 seconds"))).text)
      assert.equal(deadline, null)
      assert.deepEqual(Object.keys(headers).filter((name) => /finagle|b3/i.test(name)), [])
    })
  ),
  holds(
    "a service that fails: a 500, and the connection goes with it",
    Effect.gen(function*() {
      const { send } = yield* toFinagle({ connections: { high: 1 } })
      const session = Effect.map(send("/seen"), ({ text }) => JSON.parse(text).session as number)
      const before = yield* session
      assert.equal((yield* send("/crash", { method: "POST" })).status, 500)
      assert.ok((yield* session) > before)
    })
  ),
  holds(
    "an interrupted call is interrupted there",
    Effect.gen(function*() {
      const { send, server } = yield* toFinagle({ connections: { high: 1 } })
      const { session } = JSON.parse((yield* send("/seen")).text)
      yield* failure(send("/slow?millis=60000").pipe(Rpc.deadline("200 millis")), "Timeout")
      yield* server.event("discarded", (event) => event.session === session)
    })
  ),
  holds(
    "a body that is too large for it is its own answer",
    Effect.gen(function*() {
      const { send } = yield* toFinagle()
      assert.equal((yield* send("/echo", { method: "POST", body: Buffer.alloc(6_000_000) })).status, 413)
      assert.equal((yield* send("/echo")).status, 200)
    })
  ),
  holds(
    "many calls, 64 in flight: every answer is its own call's",
    Effect.gen(function*() {
      const { send } = yield* toFinagle()
      const total = (yield* Full) ? 100_000 : 3000
      yield* Effect.forEach(Array.from({ length: total }, (_, i) => i), (i) => checkedEcho(send, i), {
        concurrency: 64,
        discard: true
      })
    }),
    "60 seconds"
  ),
  holds(
    "rolling restarts of two under load: no idempotent call fails, and each is used again before the other goes",
    Effect.gen(function*() {
      const servers = [yield* shared("finagle"), yield* shared("finagleToo")]
      yield* Effect.addFinalizer(() => Effect.forEach(servers, ({ listen }) => Effect.ignore(listen)))
      // Finagle resets connections that are in use, which looks like a failure of the endpoint for 5 s: as long need no case take.
      const policy = AccrualPolicy.consecutiveFailures(5, Schedule.spaced("500 millis"))
      const { send } = yield* connect(uriOf(...servers), { failureAccrual: { policy } })
      const load = yield* loaded((i) => checkedEcho(send, i))
      yield* load.more(500)
      for (const server of [...servers, ...servers]) {
        yield* server.drain(5000)
        yield* load.more(200)
        const served = Effect.map(server.stats, ({ calls }) => calls["echo"] ?? 0)
        const before = yield* served
        yield* server.listen
        while ((yield* served) === before) yield* load.more(50)
      }
      yield* load.stop
    }),
    "60 seconds"
  )
])
