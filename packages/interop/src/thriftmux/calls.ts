/** Calls that succeed: every type of the language there and back, by every way of composing a client. */
import { HeapBalancer, Requeue, Resurrector, ServerSet, SingletonPool, Stack } from "@scales-rpc/core"
import { Mux, MuxTransport } from "@scales-rpc/mux"
import { Thrift } from "@scales-rpc/thrift"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { Message } from "../../../examples/gen/echo_types.js"
import { Full, holds, theme } from "../Suite.ts"
import { build, checkedCall, connect, Echo, int64, plain, uriOf } from "./echo.ts"
import { type Peers, shared } from "./peers.ts"

const texts = ["", "hello", "ünï€😀\u0000", "x".repeat(70_000)]
const numbers = [0n, 1n, -1n, 2n ** 53n + 1n, -(2n ** 53n) - 1n, 2n ** 63n - 1n, -(2n ** 63n)]
const items = [[], [0, -1, 2 ** 31 - 1, -(2 ** 31)]]

const roundTrips = (send: (message: Message) => Effect.Effect<Message, unknown>) =>
  Effect.gen(function*() {
    for (const text of texts) {
      for (const number of numbers) {
        for (const list of items) {
          const message = new Message({ text, number: int64(number), items: list })
          assert.deepEqual(plain(yield* send(message)), { text, number: String(number), items: list })
        }
      }
    }
  })

const mapLists = <A, B>(
  lists: Readonly<Record<string, ReadonlyArray<A>>>,
  f: (value: A) => B
): Record<string, Array<B>> =>
  Object.fromEntries(Object.entries(lists).map(([key, list]) => [key, list.map((value) => f(value))]))

const toEcho = Effect.gen(function*() {
  const server = yield* shared("echo")
  const { echo } = yield* connect(uriOf(server))
  return { server, echo }
})

export const calls = theme<Peers>("calls", [
  holds(
    "passMessage returns its argument: text, 64-bit and 32-bit extremes, empty and long",
    Effect.flatMap(toEcho, ({ echo }) => roundTrips(echo.passMessage))
  ),
  holds("so does echo", Effect.flatMap(toEcho, ({ echo }) => roundTrips(echo.echo))),
  holds(
    "ping, and touch, which has no result",
    Effect.gen(function*() {
      const { echo } = yield* toEcho
      assert.equal(yield* echo.ping(), "pong")
      assert.equal(yield* echo.touch("key"), undefined)
    })
  ),
  holds(
    "blob returns bytes as they are",
    Effect.gen(function*() {
      const { echo } = yield* toEcho
      for (const bytes of [Buffer.alloc(0), Buffer.from(Array.from({ length: 256 }, (_, i) => i))]) {
        assert.deepEqual(Buffer.from(yield* echo.blob(bytes)), bytes)
      }
    })
  ),
  holds(
    "index: map, lists, set, double, bool, byte and i16 at the ends of their ranges",
    Effect.gen(function*() {
      const { echo, server } = yield* toEcho
      const sent = { empty: [], ends: [-(2n ** 63n), -1n, 2n ** 63n - 1n], "": [0n] }
      const index = mapLists(sent, int64)
      for (
        const { flag, ratio, short, small } of [
          { ratio: 0.1, flag: true, small: -128, short: -32_768 },
          { ratio: -0, flag: false, small: 127, short: 32_767 },
          { ratio: NaN, flag: true, small: 0, short: 0 },
          { ratio: Infinity, flag: true, small: 0, short: 1 },
          { ratio: -Infinity, flag: true, small: 0, short: 2 },
          { ratio: Number.MAX_VALUE, flag: true, small: 0, short: 3 },
          { ratio: Number.MIN_VALUE, flag: true, small: 0, short: 4 }
        ]
      ) {
        const reply = yield* echo.index(index, ["two", "one"], ratio, flag, small, short)
        assert.deepEqual(mapLists(reply, String), mapLists(sent, String))
        const event = yield* server.event("index", (event) => event["short"] === short)
        assert.deepEqual(event["names"], ["one", "two"])
        // JSON has no word for a double that is not finite: the peer writes it as text.
        assert.ok(Object.is(Number(event["ratio"]), ratio), `ratio ${ratio} came as ${String(event["ratio"])}`)
        assert.deepEqual([event["flag"], event["small"]], [flag, small])
      }
    })
  ),
  holds(
    "a oneway method is awaited when asked to",
    Effect.gen(function*() {
      const server = yield* shared("echo")
      const { echo } = yield* connect(uriOf(server), { oneway: "await" })
      assert.equal(yield* echo.note("by the way"), undefined)
      const event = yield* server.event("note", ({ text }) => text === "by the way")
      assert.equal(event["oneway"], true)
    })
  ),
  holds(
    "a stack composed by hand",
    Effect.gen(function*() {
      const server = yield* shared("echo")
      const { client } = yield* build(
        Echo,
        Thrift.client(Echo, Mux).pipe(
          Layer.provide(Requeue.layer(Mux)),
          Layer.provide(HeapBalancer.layer(Mux)),
          Layer.provide(Resurrector.layer(Mux)),
          Layer.provide(SingletonPool.layer(Mux)),
          Layer.provide(MuxTransport.layer()),
          Layer.provide(ServerSet.fromUri(uriOf(server))),
          Layer.provide(Stack.layer("echo"))
        )
      )
      yield* checkedCall(client, 1)
    })
  ),
  holds(
    "many calls, 64 in flight: every reply is its own call's",
    Effect.gen(function*() {
      const { echo } = yield* toEcho
      const total = (yield* Full) ? 100_000 : 5000
      yield* Effect.forEach(Array.from({ length: total }, (_, i) => i), (i) => checkedCall(echo, i), {
        concurrency: 64,
        discard: true
      })
    }),
    "60 seconds"
  )
])
