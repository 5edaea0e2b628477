/** Messages in fragments, and large ones. */
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import * as Finagle from "../Finagle.ts"
import { holds, theme } from "../Suite.ts"
import { checkedCall, connect, type EchoClient, seen, uriOf } from "./echo.ts"
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

const mebibyte = 1024 * 1024

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
    "1 MiB and 16 MiB there and back",
    Effect.gen(function*() {
      const { echo } = yield* connect(uriOf(yield* shared("echo")))
      yield* blobReturns(echo, mebibyte)
      yield* blobReturns(echo, 16 * mebibyte)
    })
  )
])
