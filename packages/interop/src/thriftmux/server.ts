/** The other direction: Finagle's clients call our servers. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import * as Finagle from "../Finagle.ts"
import { Full, holds, theme } from "../Suite.ts"
import * as Tap from "../Tap.ts"
import { connect, uriOf } from "./echo.ts"
import { serve } from "./ours.ts"
import { type Peers, shared } from "./peers.ts"
import { noneLost, refused, result } from "./results.ts"

const mebibyte = 1024 * 1024

export const server = theme<Peers>("server", [
  holds(
    "every method, with the extremes of its types",
    Effect.gen(function*() {
      const { client, events } = yield* shared("ours")
      assert.equal(result(yield* client.call(["ping"])), "pong")
      assert.equal(result(yield* client.call(["touch", "key"])), null)
      for (const method of ["passMessage", "echo"]) {
        for (const number of ["-9223372036854775808", "9223372036854775807"]) {
          const text = "ünï€😀 \" \\"
          const message = { text, number, items: [2_147_483_647, -2_147_483_648, 0] }
          assert.deepEqual(result(yield* client.call([method, text, number, message.items.join(",")])), message)
        }
      }
      assert.deepEqual(result(yield* client.call(["blob", 100_000])), { length: 100_000, equal: true })
      assert.deepEqual(result(yield* client.call(["index"])), {
        empty: [],
        ends: ["-9223372036854775808", "-1", "9223372036854775807"]
      })
      const { names, ...rest } = yield* events.first(({ event }) => event === "index")
      assert.deepEqual([...names as Array<string>].toSorted(), ["one", "two"])
      assert.deepEqual(rest, { event: "index", ratio: 0.1, flag: true, small: -128, short: -32_768 })
    })
  ),
  holds(
    "a oneway message runs its handler and is answered with nothing",
    Effect.gen(function*() {
      const { client, events } = yield* shared("ours")
      assert.deepEqual(result(yield* client.call(["note", "by the way"])), { length: 0 })
      yield* events.first(({ event, text }) => event === "note" && text === "by the way")
    })
  ),
  holds(
    "declared exceptions, and what is not declared as an application exception",
    Effect.gen(function*() {
      const { client } = yield* shared("ours")
      const why = refused(yield* client.call(["fail", "not today"]))
      assert.deepEqual([why.declared, why.why], ["Refused", "not today"])
      const missing = refused(yield* client.call(["fail", "", "-9223372036854775808"]))
      assert.deepEqual([missing.declared, missing.missing], ["Overdrawn", "-9223372036854775808"])
      const crash = refused(yield* client.call(["crash", "oops"]))
      assert.equal(crash.exception, "org.apache.thrift.TApplicationException")
      assert.deepEqual([crash.type, crash.message], [6, "Internal error processing crash: 'TypeError: oops'"])
      const unknown = refused(yield* client.call(["nonesuch"]))
      assert.deepEqual([unknown.type, unknown.message], [1, "Invalid method name: 'nonesuch'"])
    })
  ),
  holds(
    "a call that times out, and one that is cancelled, interrupt their handlers",
    Effect.gen(function*() {
      const { client, events, server } = yield* shared("ours")
      const late = refused(yield* client.call(["slow", 60_001], { timeout: 200 }))
      assert.equal(late.exception, "com.twitter.finagle.IndividualRequestTimeoutException")
      yield* events.first(({ event, millis }) => event === "interrupted" && millis === 60_001)
      refused(yield* client.call(["slow", 60_002], { cancel: 200 }))
      yield* events.first(({ event, millis }) => event === "interrupted" && millis === 60_002)
      assert.equal(result(yield* client.call(["slow", 1])), "slow")
      assert.equal(server.counts.discards, 2)
    })
  ),
  holds(
    "what travels beside a call, as the handler sees it",
    Effect.gen(function*() {
      const { client } = yield* shared("ours")
      const started = Date.now()
      const seen = JSON.parse(result(
        yield* client.call(["seen"], {
          clientId: "interop.test",
          timeout: 5000,
          dtab: "/a=>/b;/s=>/x | /y",
          context: ["com.example.Tenant=61636d65"],
          header: ["user=ünï€😀", "empty="]
        })
      ))
      const ended = Date.now()
      assert.match(seen.peer, /^127\.0\.0\.1:\d+$/)
      assert.equal(seen.clientId, "interop.test")
      assert.ok(seen.deadline >= started + 4999 && seen.deadline <= ended + 5000)
      assert.ok(Math.abs(seen.sent.deadline - seen.sent.timestamp - 5000) <= 1, "to the millisecond")
      assert.equal(seen.retries, 0)
      assert.deepEqual(seen.dtab, [{ prefix: "/a", tree: "/b" }, { prefix: "/s", tree: "/x | /y" }])
      assert.equal(seen.tenant, "acme")
      assert.deepEqual(seen.headers, [["user", "ünï€😀"], ["empty", ""]])
      // A new root, as Finagle makes one.
      const { parentId, spanId, traceId } = seen.trace
      assert.ok(BigInt(traceId) !== 0n && traceId === spanId && spanId === parentId)
      const bare = JSON.parse(result(yield* client.call(["seen"])))
      assert.deepEqual(Object.keys(bare).toSorted(), ["deadline", "peer", "retries", "trace"])
      assert.equal(bare.deadline, null, "no deadline: Infinity")
    })
  ),
  holds(
    "the calls that a handler makes carry on trace, deadline, dtab and contexts, but neither client id nor headers",
    Effect.gen(function*() {
      const { echo } = yield* connect(uriOf(yield* shared("echo")))
      const { address } = yield* serve({}, () => Effect.orDie(echo.seen()))
      const client = yield* Finagle.client("tm22", [address])
      const before = Date.now()
      const seen = JSON.parse(result(
        yield* client.call(["seen"], {
          clientId: "interop.test",
          timeout: 5000,
          dtab: "/a=>/b",
          context: ["Com.Example.Tenant=61636d65"],
          header: ["user=me"]
        })
      ))
      // Finagle began the trace: the span of its call, which is the parent here, is the root.
      const { parentId, spanId, traceId } = seen.trace
      assert.ok(parentId === traceId && spanId !== parentId)
      assert.equal(seen.contexts["Com.Example.Tenant"], "61636d65")
      const deadline = Number(BigInt(seen.deadline.deadline) / 1_000_000n)
      assert.ok(deadline >= before + 4999 && deadline <= Date.now() + 5000)
      const { clientId, dtab, headers } = seen
      assert.deepEqual({ clientId, dtab, headers }, { clientId: null, dtab: "/a=>/b", headers: {} })
    })
  ),
  holds(
    "refusals of handlers arrive with their flags, and a nack is sent again",
    Effect.gen(function*() {
      const { client } = yield* shared("ours")
      // Nacks make Finagle mark an endpoint busy for seconds: each client id is a client of its own.
      const say = (text: string) => client.call(["passMessage", text], { clientId: text })
      assert.equal(result(yield* say("once-nack:server")).text, "once-nack:server")
      const nack = refused(yield* say("nack"))
      assert.deepEqual([nack.exception, nack.flags], ["com.twitter.finagle.Failure", ["rejected"]])
      const final = refused(yield* say("nack-nonretryable"))
      assert.deepEqual(final.flags, ["nonretryable", "rejected"])
      const flagged = refused(yield* say("failure-nonretryable"))
      assert.deepEqual(flagged.flags, ["nonretryable"])
    })
  ),
  holds(
    "fragments both ways: requests in our window, replies in the client's",
    Effect.gen(function*() {
      const { port } = yield* serve({ window: 1000 })
      const tap = yield* Tap.make(port)
      const client = yield* Finagle.client("tm22", [tap.address])
      assert.deepEqual(result(yield* client.call(["blob", mebibyte])), { length: mebibyte, equal: true })
      assert.equal(tap.requests.largest, 1000)
      assert.ok(tap.requests.fragments >= 1048)
      assert.deepEqual({ ...tap.replies, largest: tap.replies.largest > mebibyte }, { fragments: 0, largest: true })
      tap.replies.largest = 0
      assert.deepEqual(result(yield* client.call(["blob", 1000], { window: 5 })), { length: 1000, equal: true })
      assert.equal(tap.replies.largest, 5)
      assert.ok(tap.replies.fragments >= 200)
      const words = ["passMessage", `${"x".repeat(5000)}{}`]
      noneLost(yield* client.load(words, { window: 5, requests: 200, concurrency: 20 }))
    })
  ),
  holds(
    "16 MiB there and back",
    Effect.gen(function*() {
      const { client } = yield* shared("ours")
      assert.deepEqual(result(yield* client.call(["blob", 16 * mebibyte])), { length: 16 * mebibyte, equal: true })
    })
  ),
  holds(
    "many calls, 64 in flight: every reply is its own call's",
    Effect.gen(function*() {
      const { client } = yield* shared("ours")
      const requests = (yield* Full) ? 100_000 : 5000
      noneLost(yield* client.load(["passMessage", "text {}", "{}", "{},{}"], { requests, concurrency: 64 }))
      noneLost(yield* client.load(["blob", "{}"], { requests: 2000, concurrency: 64 }))
    }),
    "60 seconds"
  ),
  holds(
    "Finagle answers our pings, and our lease makes it call the endpoint busy",
    Effect.gen(function*() {
      const { address, server } = yield* serve()
      const client = yield* Finagle.client("tm22", [address])
      result(yield* client.call(["ping"]))
      const status = Effect.map(client.command(["status"]), ({ clients }) => clients[0].status)
      assert.equal(yield* status, "Open")
      const [session] = server.sessions()
      yield* session!.lease(0)
      assert.ok(yield* session!.ping, "the answer is behind all that was sent before")
      assert.equal(yield* status, "Busy")
      assert.equal(result(yield* client.call(["ping"])), "pong")
      yield* session!.lease("1 minute")
      assert.ok(yield* session!.ping)
      assert.equal(yield* status, "Open")
    })
  ),
  holds(
    "a session that we refuse fails Finagle's calls as rejected",
    Effect.gen(function*() {
      const { address } = yield* serve({ maxSessions: 0 })
      const client = yield* Finagle.client("tm22", [address])
      assert.deepEqual(refused(yield* client.call(["ping"])).flags, ["rejected"])
    })
  ),
  holds(
    "a server of ours that drains under load costs no call while another is up",
    Effect.gen(function*() {
      const scope = yield* Scope.fork(yield* Scope.Scope)
      const draining = yield* Scope.provide(serve(), scope)
      const staying = yield* serve()
      const client = yield* Finagle.client("tm22", [draining.address, staying.address])
      const requests = 20_000
      const load = yield* Effect.forkChild(client.load(["ping"], { requests, concurrency: 64 }), {
        startImmediately: true
      })
      yield* draining.pinged(1000)
      yield* Scope.close(scope, Exit.void)
      assert.ok(load.pollUnsafe() === undefined, "the load goes on while the server drains")
      noneLost(yield* Fiber.join(load))
      assert.equal(draining.server.counts.requests + staying.server.counts.requests, requests)
    })
  )
])
