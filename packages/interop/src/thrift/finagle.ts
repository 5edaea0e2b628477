/** Finagle's plain Thrift, server and client, with Twitter's upgrade of it and without. */
import { ClientId, Dtab, Rpc, Trace } from "@scales-rpc/core"
import { Thrift } from "@scales-rpc/thrift"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { Message, Refused } from "../../../examples/gen/echo_types.js"
import * as Finagle from "../Finagle.ts"
import { type Case, Full, holds, theme } from "../Suite.ts"
import { build, checkedCall, Echo, failure, int64, plain, seen, uriOf } from "../thriftmux/echo.ts"
import { noneLost, refused, result } from "../thriftmux/results.ts"
import { fromFinagle } from "./echo.ts"
import { type Peers, shared } from "./peers.ts"

const toFinagle = (options: Thrift.ThriftOptions = {}) =>
  Effect.gen(function*() {
    const server = yield* shared("Finagle server")
    const { client } = yield* build(Echo, Thrift.layer(Echo, { uri: uriOf(server), ...options }))
    return { server, echo: client }
  })

/** What holds for our client whether or not it asks for the upgrade. */
const callsOf = (upgrade: boolean) =>
  Effect.gen(function*() {
    const { echo, server } = yield* toFinagle({ upgrade })
    assert.equal(yield* echo.ping(), "pong")
    assert.equal(yield* echo.touch("key"), undefined)
    for (const text of ["", "ünï€😀\u0000", "x".repeat(70_000)]) {
      const message = { text, number: "-9223372036854775808", items: [0, -1, 2 ** 31 - 1] }
      const sent = new Message({ text, number: int64(-(2n ** 63n)), items: message.items })
      assert.deepEqual(plain(yield* echo.passMessage(sent)), message)
    }
    const bytes = Buffer.alloc(2 ** 20, 7)
    assert.deepEqual(Buffer.from(yield* echo.blob(bytes)), bytes)
    const declared = yield* failure(echo.fail("not today", int64(0n)), "ThriftException")
    assert.ok(declared.exception instanceof Refused && declared.exception.why === "not today")
    const crash = yield* failure(echo.crash("oops"), "ThriftApplicationException")
    assert.equal(crash.typeName, "INTERNAL_ERROR")
    yield* echo.note(`upgrade: ${upgrade}`)
    yield* server.event("note", ({ oneway, text }) => text === `upgrade: ${upgrade}` && oneway === true)
    assert.equal(yield* echo.ping(), "pong")
  })

const ours: ReadonlyArray<Case<Peers>> = theme<Peers>("our client, Finagle server", [
  holds("every call through the upgrade", callsOf(true)),
  holds("every call without it", callsOf(false)),
  holds(
    "its ThriftMux server takes plain Thrift too, with the upgrade and without",
    Effect.gen(function*() {
      const server = yield* Finagle.server("tm22")
      for (const upgrade of [true, false]) {
        const { client } = yield* build(Echo, Thrift.layer(Echo, { uri: uriOf(server), upgrade }))
        yield* checkedCall(client, 1)
      }
    })
  ),
  holds(
    "the upgrade carries client id, deadline, trace, dtab and contexts",
    Effect.gen(function*() {
      const { echo } = yield* toFinagle({ upgrade: { clientId: "interop.test" } })
      const given = { traceId: 2n ** 64n - 2n, spanId: 0x0102030405060708n, parentId: 7n, flags: 6n }
      const before = Date.now()
      const { clientId, contexts, deadline, dtab, trace } = yield* seen(echo).pipe(
        Rpc.context(ClientId, "interop.caller"),
        Rpc.context(Trace, { ...given, traceIdHigh: undefined }),
        Rpc.context(Dtab, [{ prefix: "/a", tree: "/b" }]),
        Rpc.context("com.example.Tenant", "acme"),
        Rpc.deadline("5 seconds")
      )
      assert.deepEqual([clientId, dtab], ["interop.test", "/a=>/b"])
      const until = Number(BigInt(deadline.deadline) / 1_000_000n)
      assert.ok(until >= before + 4999 && until <= Date.now() + 5000)
      const { spanId, ...rest } = trace
      assert.deepEqual(rest, {
        traceId: "fffffffffffffffe",
        parentId: "0102030405060708",
        traceIdHigh: null,
        flags: "0000000000000006",
        sampled: true
      })
      assert.notEqual(spanId, "0102030405060708")
      assert.equal(contexts["com.example.Tenant"], Buffer.from("acme").toString("hex"))
    })
  ),
  holds(
    "without it nothing of these arrives",
    Effect.gen(function*() {
      const { echo } = yield* toFinagle()
      const { clientId, contexts, deadline, dtab } = yield* seen(echo).pipe(
        Rpc.context(ClientId, "interop.caller"),
        Rpc.context(Dtab, [{ prefix: "/a", tree: "/b" }])
      )
      assert.deepEqual({ clientId, contexts, deadline, dtab }, {
        clientId: null,
        contexts: {},
        deadline: null,
        dtab: ""
      })
    })
  ),
  holds(
    "a call that times out gives up its connection, and the next one has its own reply",
    Effect.gen(function*() {
      const { echo, server } = yield* toFinagle({ upgrade: true, connections: { high: 1 } })
      const session = (yield* seen(echo)).session
      yield* failure(echo.slow(60_000).pipe(Rpc.deadline("200 millis")), "Timeout")
      yield* server.event("session-close", (event) => event.session === session)
      yield* server.event("discarded", (event) => event.session === session)
      assert.notEqual((yield* seen(echo)).session, session)
    })
  ),
  holds(
    "many calls, 64 in flight over 8 connections: every reply is its own call's",
    Effect.gen(function*() {
      const { echo } = yield* toFinagle({ upgrade: true, connections: { high: 8 } })
      const total = (yield* Full) ? 100_000 : 5000
      yield* Effect.forEach(Array.from({ length: total }, (_, i) => i), (i) => checkedCall(echo, i), {
        concurrency: 64,
        discard: true
      })
    }),
    "60 seconds"
  )
])

/** What holds for Finagle's client whether or not our server knows the upgrade. */
const served = ({ client, notes }: Effect.Success<ReturnType<typeof fromFinagle>>) =>
  Effect.gen(function*() {
    assert.equal(result(yield* client.call(["ping"])), "pong")
    const message = { text: "ünï€😀 \" \\", number: "-9223372036854775808", items: [2_147_483_647, -2_147_483_648] }
    const words = ["passMessage", message.text, message.number, message.items.join(",")]
    assert.deepEqual(result(yield* client.call(words)), message)
    assert.deepEqual(result(yield* client.call(["blob", 1_000_000])), { length: 1_000_000, equal: true })
    assert.deepEqual(result(yield* client.call(["index"])), {
      empty: [],
      ends: ["-9223372036854775808", "-1", "9223372036854775807"]
    })
    const why = refused(yield* client.call(["fail", "not today"]))
    assert.deepEqual([why.declared, why.why], ["Refused", "not today"])
    const crash = refused(yield* client.call(["crash", "oops"]))
    assert.deepEqual([crash.type, crash.message], [6, "Internal error processing crash: 'TypeError: oops'"])
    const unknown = refused(yield* client.call(["nonesuch"]))
    assert.deepEqual([unknown.type, unknown.message], [1, "Invalid method name: 'nonesuch'"])
    assert.deepEqual(result(yield* client.call(["note", "by the way"])), { length: 0 })
    yield* notes.first((text) => text === "by the way")
  })

const theirs: ReadonlyArray<Case<Peers>> = theme<Peers>("Finagle client, our server", [
  holds(
    "every call through the upgrade",
    Effect.gen(function*() {
      const peers = yield* shared("Finagle client")
      yield* served(peers)
      const { connections, upgrades } = peers.server.counts
      assert.ok(connections > 0 && upgrades === connections)
    })
  ),
  holds(
    "every call of a client that is refused it",
    Effect.gen(function*() {
      const peers = yield* fromFinagle({ upgrade: false })
      yield* served(peers)
      assert.equal(peers.server.counts.upgrades, 0)
    })
  ),
  holds(
    "handlers see what the upgrade carries",
    Effect.gen(function*() {
      const { client } = yield* shared("Finagle client")
      const before = Date.now()
      const seen = JSON.parse(result(
        yield* client.call(["seen"], {
          clientId: "interop.test",
          timeout: 5000,
          dtab: "/a=>/b",
          context: ["com.example.tenant=61636d65"]
        })
      ))
      assert.equal(seen.clientId, "interop.test")
      assert.ok(seen.deadline >= before + 4999 && seen.deadline <= Date.now() + 5000)
      assert.equal(seen.retries, 0)
      assert.deepEqual(seen.dtab, [{ prefix: "/a", tree: "/b" }])
      assert.equal(seen.tenant, "acme")
      // A new root, as Finagle makes one.
      const { parentId, spanId, traceId } = seen.trace
      assert.ok(BigInt(traceId) !== 0n && traceId === spanId && spanId === parentId)
    })
  ),
  holds(
    "a call that Finagle gives up costs its connection, and the next one has its own reply",
    Effect.gen(function*() {
      const { client, server } = yield* fromFinagle({}, { timeout: 500 })
      const late = refused(yield* client.call(["slow", 1500]))
      assert.equal(late.exception, "com.twitter.finagle.IndividualRequestTimeoutException")
      assert.equal(result(yield* client.call(["ping"])), "pong")
      assert.equal(server.counts.connections, 2)
    })
  ),
  holds(
    "many calls, 64 in flight: every reply is its own call's",
    Effect.gen(function*() {
      const { client } = yield* shared("Finagle client")
      const requests = (yield* Full) ? 100_000 : 5000
      noneLost(yield* client.load(["passMessage", "text {}", "{}", "{},{}"], { requests, concurrency: 64 }))
    }),
    "60 seconds"
  )
])

/** Finagle's cases. */
export const finagle = [...ours, ...theirs]
