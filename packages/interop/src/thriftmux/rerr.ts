/**
 * What clients make of an Rerr. No stock client says what a stock server answers by one, so a tap says it in its place: both ends are
 * as they are shipped.
 */
import { Rpc } from "@scales-rpc/core"
import { Message } from "@scales-rpc/mux"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import assert from "node:assert/strict"
import * as Finagle from "../Finagle.ts"
import { holds, theme } from "../Suite.ts"
import * as Tap from "../Tap.ts"
import { connectBody } from "./body.ts"
import { connect, type EchoClient, failure, uriOf } from "./echo.ts"
import { serve, serveBodies } from "./ours.ts"
import { type Peers, shared } from "./peers.ts"
import { refused, result } from "./results.ts"

/** Our client of Finagle's server, with the tap in between. */
const ourClient = (change: Tap.Change) =>
  Effect.gen(function*() {
    const server = yield* shared("echo")
    const tap = yield* Tap.make(server.port, change)
    return { ...yield* connect(uriOf(tap)), server, tap }
  })

/** Finagle's client of our server, with the tap in between. */
const finagleClient = (change: Tap.Change) =>
  Effect.gen(function*() {
    const ours = yield* serve()
    const tap = yield* Tap.make(ours.port, change)
    return { client: yield* Finagle.client("tm22", [tap.address]), server: ours.server, tap }
  })

const { Type } = Message

/** To a Tdrain from a client both servers answer Rerr. */
const unexpected = "Unexpected mux message type 64"
const drained = (tag: number) => [Tap.frame(Type.Tdrain, tag)]

/** A server of a time before Tdispatch; `seen` counts the requests that reached it as Treq. */
const withoutTdispatch = () => {
  const seen = { treqs: 0 }
  const change: Tap.Change = (type, tag) => {
    if (type === Type.Treq) seen.treqs++
    return type === Type.Tdispatch ? drained(tag) : undefined
  }
  return { seen, change }
}

/** The second Tdispatch of a connection is one that the server cannot act on. */
const secondSpoiled = (): Tap.Change => {
  let dispatches = 0
  return (type, tag) => type === Type.Tdispatch && ++dispatches === 2 ? drained(tag) : undefined
}

/** The third Tdispatch comes twice. */
const thirdTwice = (): Tap.Change => {
  let dispatches = 0
  return (type, tag, body) => {
    if (type !== Type.Tdispatch || ++dispatches !== 3) return undefined
    const frame = Tap.frame(type, tag, body)
    return [frame, frame]
  }
}

/** A server of a time before the handshake. */
const otherProbe: Tap.Change = (type, tag) => type === 127 ? [Tap.frame(type, tag, "tinit cheque")] : undefined

/** A client of a version to come. */
const version2: Tap.Change = (type, tag) => type === Type.Tinit ? [Tap.frame(type, tag, "\u0000\u0002")] : undefined

/** A call waits for the first endpoint to open; when none does it says why. */
const neverOpen = (echo: EchoClient, why: RegExp) =>
  Effect.map(
    failure(echo.ping().pipe(Rpc.deadline("200 millis")), "Timeout"),
    ({ message, reached, waiting }) => {
      assert.deepEqual([reached, waiting], ["no", "endpoint"])
      assert.match(message, why)
    }
  )

/** Waits for what comes behind the last answer of a session. Each `turn` is a word with the peer. */
const until = <E>(condition: () => boolean, turn: Effect.Effect<unknown, E>): Effect.Effect<void, E> =>
  Effect.suspend(() => condition() ? Effect.void : Effect.andThen(turn, until(condition, turn)))

export const rerr = theme<Peers>("Rerr", [
  holds(
    "our client falls back to Treq where the server knows no Tdispatch",
    Effect.gen(function*() {
      const { change, seen } = withoutTdispatch()
      const { echo, state } = yield* ourClient(change)
      for (let calls = 1; calls <= 3; calls++) {
        assert.equal(yield* echo.ping(), "pong")
        assert.equal(seen.treqs, calls)
      }
      assert.equal(state("transport").downgrades, 1)
    })
  ),
  holds(
    "so does Finagle's of ours",
    Effect.gen(function*() {
      const { change, seen } = withoutTdispatch()
      const { client } = yield* finagleClient(change)
      for (let calls = 1; calls <= 3; calls++) {
        assert.equal(result(yield* client.call(["ping"])), "pong")
        assert.equal(seen.treqs, calls)
      }
    })
  ),
  holds(
    "our client fails the one call that it answers, with its text, and the session goes on",
    Effect.gen(function*() {
      const { echo, state, tap } = yield* ourClient(secondSpoiled())
      yield* echo.ping()
      const { reached, retryable, why } = yield* failure(echo.ping(), "ServerFailed")
      assert.deepEqual({ reached, retryable, why }, { reached: "maybe", retryable: false, why: unexpected })
      assert.equal(yield* echo.ping(), "pong")
      assert.equal(state("requeue").requeues, 0)
      assert.equal(tap.connections(), 1)
    })
  ),
  holds(
    "so does Finagle's of ours, with its ServerError",
    Effect.gen(function*() {
      const { client, server } = yield* finagleClient(secondSpoiled())
      result(yield* client.call(["ping"]))
      const { exception, message } = refused(yield* client.call(["ping"]))
      assert.deepEqual([exception, message], ["com.twitter.finagle.mux.ServerError", unexpected])
      assert.equal(result(yield* client.call(["ping"])), "pong")
      assert.equal(server.counts.sessions, 1)
    })
  ),
  holds(
    "a tag used twice fails all of our client's calls of that session; the next has a new one",
    Effect.gen(function*() {
      const { echo, server, state, tap } = yield* ourClient(thirdTwice())
      yield* echo.ping()
      const first = yield* Effect.forkChild(failure(echo.slow(60_000), "ServerFailed"), { startImmediately: true })
      const second = yield* failure(echo.slow(60_000), "ServerFailed")
      const why = "Received duplicate tag 3 from client."
      assert.deepEqual([(yield* Fiber.join(first)).why, second.why], [why, why])
      // The session was too short for a call to have the endpoint tried at once: it comes back by itself.
      const isOpen = () => state("balancer").endpoints[0].state === "Open"
      yield* until(() => tap.connections() === 2 && isOpen(), server.stats)
      assert.equal(yield* echo.ping(), "pong")
      assert.equal(tap.connections(), 2)
    })
  ),
  holds(
    "a tag used twice at our server fails all of Finagle's calls of that session; the next has a new one",
    Effect.gen(function*() {
      const { client, server, tap } = yield* finagleClient(thirdTwice())
      result(yield* client.call(["ping"]))
      const both = yield* Effect.all([client.call(["slow", 60_000]), client.call(["slow", 60_000])], {
        concurrency: 2
      })
      for (const answer of both) {
        const { exception, message } = refused(answer)
        assert.deepEqual([exception, message], [
          "com.twitter.finagle.mux.ServerError",
          "Received duplicate tag 3 from client."
        ])
      }
      yield* until(() => tap.connected() === 0, client.command(["status"]))
      assert.equal(result(yield* client.call(["ping"])), "pong")
      assert.deepEqual([server.counts.duplicateTags, server.counts.sessions], [1, 2])
    })
  ),
  holds(
    "Mux 24.2 in both directions: the fall back to Treq, and the failure of one call",
    Effect.gen(function*() {
      const finagle = yield* shared("body")
      const ours = yield* serveBodies()
      const old = yield* Tap.make(finagle.port, withoutTdispatch().change)
      assert.equal(yield* (yield* connectBody(uriOf(old))).text("Treq"), "Treq")
      const oldOurs = yield* Tap.make(ours.port, withoutTdispatch().change)
      assert.equal(result(yield* (yield* Finagle.client("mux24", [oldOurs.address])).call(["Treq"])).text, "Treq")
      const spoiled = yield* Tap.make(finagle.port, secondSpoiled())
      const { text } = yield* connectBody(uriOf(spoiled))
      yield* text("first")
      assert.equal((yield* failure(text("second"), "ServerFailed")).why, unexpected)
      const spoiledOurs = yield* Tap.make(ours.port, secondSpoiled())
      const client = yield* Finagle.client("mux24", [spoiledOurs.address])
      result(yield* client.call(["first"]))
      const { exception, message } = refused(yield* client.call(["second"]))
      assert.deepEqual([exception, message], ["com.twitter.finagle.mux.ServerError", unexpected])
    })
  ),
  holds(
    "where the probe is answered by another Rerr, either client goes on without a handshake",
    Effect.gen(function*() {
      const { echo } = yield* ourClient(otherProbe)
      assert.equal(yield* echo.ping(), "pong")
      assert.equal(yield* echo.ping(), "pong")
      const { client } = yield* finagleClient(otherProbe)
      assert.equal(result(yield* client.call(["ping"])), "pong")
      assert.equal(result(yield* client.call(["ping"])), "pong")
    })
  ),
  holds(
    "where Tinit is answered by one, either client's connection has failed, with its text",
    Effect.gen(function*() {
      const { echo } = yield* ourClient(version2)
      yield* neverOpen(echo, /handshake failed .*Unsupported Mux version: 2$/)
      const { client } = yield* finagleClient(version2)
      assert.match(refused(yield* client.call(["ping"])).message!, /Unsupported Mux version: 2/)
    })
  )
])
