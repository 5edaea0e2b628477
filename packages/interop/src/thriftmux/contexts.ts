/** What travels beside a call, as the server saw it. */
import { ClientId, Destination, Dtab, Endpoint, RequestHeaders, Rpc, Trace } from "@scales-rpc/core"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import * as Net from "node:net"
import { holds, theme } from "../Suite.ts"
import { connect, connectAll, seen, uriOf } from "./echo.ts"
import { type Peers, shared } from "./peers.ts"

const toEcho = (options?: Parameters<typeof connect>[1]) =>
  Effect.flatMap(shared("echo"), (server) => Effect.map(connect(uriOf(server), options), ({ echo }) => echo))

const utf8 = (text: string): string => Buffer.from(text).toString("hex")

const hex = (id: bigint): string => id.toString(16).padStart(16, "0")

/** The clock, stopped at `millis`. */
const stopped = (millis: number) =>
  Effect.map(Clock.Clock, (clock): Clock.Clock => ({
    ...clock,
    currentTimeMillisUnsafe: () => millis,
    currentTimeMillis: Effect.succeed(millis),
    monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
    currentTimeNanosUnsafe: () => BigInt(millis) * 1_000_000n,
    sleep: (duration) => clock.sleep(duration)
  }))

/** The address of a port of 127.0.0.1 that refuses connections: it was free a moment ago. */
const refusing = Effect.callback<{ readonly address: string }>((resume) => {
  const server = Net.createServer()
  server.listen(0, "127.0.0.1", () => {
    const { port } = server.address() as Net.AddressInfo
    server.close(() => resume(Effect.succeed({ address: Endpoint.tcp("127.0.0.1", port).key })))
  })
})

export const contexts = theme<Peers>("contexts", [
  holds(
    "a bare call carries its attempt and its deadline, and nothing else",
    Effect.gen(function*() {
      const { clientId, contexts, destination, dtab, headers } = yield* seen(yield* toEcho())
      assert.deepEqual(Object.keys(contexts).toSorted(), [
        "com.twitter.finagle.Deadline",
        "com.twitter.finagle.Retries"
      ])
      assert.deepEqual({ clientId, destination, dtab, headers }, {
        clientId: null,
        destination: "/",
        dtab: "",
        headers: {}
      })
    })
  ),
  holds(
    "client id: of the client, over one that the caller set",
    Effect.gen(function*() {
      const own = yield* toEcho({ clientId: "interop.own" })
      assert.equal((yield* seen(own).pipe(Rpc.context(ClientId, "interop.caller"))).clientId, "interop.own")
      const none = yield* toEcho()
      assert.equal((yield* seen(none).pipe(Rpc.context(ClientId, "interop.caller"))).clientId, "interop.caller")
    })
  ),
  holds(
    "deadline: to the nanosecond",
    Effect.gen(function*() {
      const now = yield* Clock.currentTimeMillis
      const clock = yield* stopped(now)
      yield* Effect.gen(function*() {
        const echo = yield* toEcho()
        const atDefault = yield* seen(echo)
        assert.deepEqual(atDefault.deadline, {
          timestamp: String(BigInt(now) * 1_000_000n),
          deadline: String(BigInt(now + 10_000) * 1_000_000n)
        })
        const nearer = yield* seen(echo).pipe(Rpc.deadline("1234 millis"))
        assert.equal(nearer.deadline.deadline, String(BigInt(now + 1234) * 1_000_000n))
      }).pipe(Effect.provideService(Clock.Clock, clock))
    })
  ),
  holds(
    "trace: a fresh span under the one given, 64 and 128 bits, flags kept",
    Effect.gen(function*() {
      const echo = yield* toEcho()
      const given = { traceId: 2n ** 64n - 2n, spanId: 0x0102030405060708n, parentId: 7n, flags: 6n }
      for (const traceIdHigh of [undefined, 0xfedcba9876543210n]) {
        const ask = seen(echo).pipe(Rpc.context(Trace, { ...given, traceIdHigh }))
        const first = (yield* ask).trace
        const second = (yield* ask).trace
        for (const trace of [first, second]) {
          const { spanId, ...rest } = trace
          assert.deepEqual(rest, {
            traceId: hex(given.traceId),
            parentId: hex(given.spanId),
            traceIdHigh: traceIdHigh === undefined ? null : hex(traceIdHigh),
            flags: hex(6n),
            sampled: true
          })
          assert.match(spanId, /^[0-9a-f]{16}$/)
          assert.notEqual(spanId, hex(given.spanId))
        }
        assert.notEqual(first.spanId, second.spanId)
      }
    })
  ),
  holds(
    "retries: 0 at first, 1 where the call went after another endpoint was down",
    Effect.gen(function*() {
      const { echo, state } = yield* connectAll(yield* shared("echo"), yield* refusing)
      // Two at once: the balancer sends one to each endpoint.
      const both = yield* Effect.all([seen(echo), seen(echo)], { concurrency: 2 })
      const retries = both.map(({ contexts }) => contexts["com.twitter.finagle.Retries"])
      assert.deepEqual(new Set(retries), new Set(["00000000", "00000001"]))
      assert.equal(state("requeue").requeues, 1)
    })
  ),
  holds(
    "dtab and destination",
    Effect.gen(function*() {
      const { destination, dtab } = yield* seen(yield* toEcho()).pipe(
        Rpc.context(Dtab, [{ prefix: "/a", tree: "/b" }, { prefix: "/s", tree: "/x | /y" }]),
        Rpc.context(Destination, "/svc/echo")
      )
      assert.equal(dtab, "/a=>/b;/s=>/x | /y")
      assert.equal(destination, "/svc/echo")
    })
  ),
  holds(
    "entries of the user's own, as text under the name given",
    Effect.gen(function*() {
      const { contexts } = yield* seen(yield* toEcho()).pipe(
        Rpc.context("com.example.Tenant", "acme ünï€😀"),
        Rpc.context("com.example.Empty", "")
      )
      assert.equal(contexts["com.example.Tenant"], utf8("acme ünï€😀"))
      assert.equal(contexts["com.example.Empty"], "")
    })
  ),
  holds(
    "request headers: seen as headers, not as a context",
    Effect.gen(function*() {
      const { contexts, headers } = yield* seen(yield* toEcho()).pipe(
        Rpc.context(RequestHeaders, [["user", "ünï€😀"], ["empty", ""]])
      )
      assert.deepEqual(headers, { user: "ünï€😀", empty: "" })
      assert.ok(!Object.keys(contexts).some((key) => key.endsWith("headers")))
    })
  )
])
