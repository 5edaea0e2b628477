/** Messages in fragments, and large ones. */
import { Rpc } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import assert from "node:assert/strict"
import * as Finagle from "../Finagle.ts"
import { Full, holds, theme } from "../Suite.ts"
import { checkedCall, connect, type EchoClient, failure, seen, uriOf } from "./echo.ts"
import { type Peers, shared } from "./peers.ts"

/** So many bytes, each unlike its neighbours and unlike the one 256 further on. */
const bytes = (length: number): Buffer => {
  const made = Buffer.allocUnsafe(length)
  for (let i = 0; i < length; i++) made[i] = i ^ (i >>> 8) ^ (i >>> 16)
  return made
}

const blobReturns = (echo: EchoClient, length: number) =>
  Effect.gen(function*() {
    const sent = bytes(length)
    // Not deepEqual: it would print both.
    assert.ok(sent.equals(yield* echo.blob(sent)), `${length} bytes came back changed`)
  })

/** Calls until every tag is free: at the latest when the next ping is answered. */
const noTagIsHeld = (echo: EchoClient, state: (role: string) => any) =>
  Effect.gen(function*() {
    while (state("transport").sessions[0].tags > 0) yield* echo.ping()
  })

const mebibyte = 1024 * 1024

/** The i-th of many calls: most are checked, some are given up by their caller or by their deadline, somewhere on the way. */
const mixedCall = (echo: EchoClient, i: number) => {
  const size = (i * 7919) % 20_000
  switch (i % 8) {
    case 0:
      return Effect.timeoutOption(echo.slow(60_000), i % 5)
    case 1:
      return failure(echo.slow(60_000).pipe(Rpc.deadline(`${1 + (i % 5)} millis`)), "Timeout")
    case 2:
      return Effect.timeoutOption(blobReturns(echo, size), i % 3)
    case 3:
      return blobReturns(echo, size)
    default:
      return checkedCall(echo, i)
  }
}

export const fragments = theme<Peers>("fragments", [
  holds(
    "requests go in fragments no larger than the server's window of 5 bytes",
    Effect.gen(function*() {
      const server = yield* Finagle.server("tm22", { window: 5 })
      const { echo } = yield* connect(uriOf(server))
      const { session } = yield* seen(echo)
      yield* blobReturns(echo, 1000)
      yield* Effect.forEach(Array.from({ length: 64 }, (_, i) => i), (i) => checkedCall(echo, i), { concurrency: 64 })
      const { largestIn, ...seenFrames } = yield* server.session(session)
      assert.equal(largestIn, 5)
      assert.ok(seenFrames.in["Tdispatch+"]! >= 200 + 64 * 10)
    })
  ),
  holds(
    "replies come in fragments no larger than our window of 1000 bytes",
    Effect.gen(function*() {
      const server = yield* shared("echo")
      const { echo } = yield* connect(uriOf(server), { mux: { window: 1000 } })
      const { session } = yield* seen(echo)
      yield* Effect.all([blobReturns(echo, mebibyte), blobReturns(echo, 300_000), checkedCall(echo, 1)], {
        concurrency: 3
      })
      const { largestIn, largestOut, out } = yield* server.session(session)
      assert.equal(largestOut, 1000)
      assert.ok(out["Rdispatch+"]! >= 1340)
      assert.ok(largestIn > mebibyte, "our window is not the server's")
    })
  ),
  holds(
    "calls of many sizes, some given up on the way, in fragments both ways: no reply goes astray, nothing is held",
    Effect.gen(function*() {
      const server = yield* shared("windowed")
      const { echo, state } = yield* connect(uriOf(server), { mux: { window: 100, pingInterval: "50 millis" } })
      yield* echo.ping()
      const total = (yield* Full) ? 100_000 : 5000
      yield* Effect.forEach(Array.from({ length: total }, (_, i) => i), (i) => mixedCall(echo, i), {
        concurrency: 64,
        discard: true
      })
      yield* noTagIsHeld(echo, state)
      assert.ok(state("transport").discards >= total / 4)
      assert.deepEqual(state("balancer").endpoints.map(({ load }: { readonly load: number }) => load), [0])
    }),
    "2 minutes"
  ),
  holds(
    "requests that are given up half sent are forgotten by the server, and their tags are free after the next ping",
    Effect.gen(function*() {
      const server = yield* shared("windowed")
      const { echo, state } = yield* connect(uriOf(server), { mux: { pingInterval: "50 millis" } })
      yield* echo.ping()
      const rounds = 5
      for (let i = 0; i < rounds; i++) {
        const call = yield* Effect.forkChild(echo.blob(bytes(16 * mebibyte)), { startImmediately: true })
        // The first of it leaves in this turn, and no socket takes the whole of it.
        yield* Effect.yieldNow
        yield* Fiber.interrupt(call)
        yield* echo.ping()
      }
      assert.equal(state("transport").discards, rounds)
      yield* noTagIsHeld(echo, state)
      yield* blobReturns(echo, 100_000)
    })
  ),
  holds(
    "1 MiB and 16 MiB there and back",
    Effect.gen(function*() {
      const { echo } = yield* connect(uriOf(yield* shared("echo")))
      yield* blobReturns(echo, mebibyte)
      yield* blobReturns(echo, 16 * mebibyte)
    })
  )
])
