/** Two hops: what a call carries on through a server of ours between two of Finagle's, and through one of Finagle's between two of ours. */
import { ClientId, Dtab, RequestHeaders, Rpc, Trace } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import * as Finagle from "../Finagle.ts"
import { holds, theme } from "../Suite.ts"
import { connectBody } from "./body.ts"
import { connect, seen, uriOf } from "./echo.ts"
import { serve, serveBodies } from "./ours.ts"
import { type Peers, shared } from "./peers.ts"
import { result } from "./results.ts"

/** What our client sends in both protocols. */
const carried = <A, E, R>(call: Effect.Effect<A, E, R>) =>
  call.pipe(
    Rpc.deadline("5 seconds"),
    Rpc.context(Dtab, [{ prefix: "/a", tree: "/b" }]),
    Rpc.context("com.example.tenant", "acme"),
    Rpc.context(ClientId, "interop.first"),
    Rpc.context(RequestHeaders, [["user", "me"]]),
    Rpc.context(Trace, { traceId: 11n, spanId: 12n, parentId: 13n, flags: 6n, traceIdHigh: undefined })
  )

/** And what of it is there behind a server of Finagle's. */
const carriedOn = (before: number, { deadline, dtab, parentId, tenant, traceId }: any) => {
  assert.deepEqual({ dtab, tenant, traceId: String(traceId) }, {
    dtab: [{ prefix: "/a", tree: "/b" }],
    tenant: "acme",
    traceId: "11"
  })
  assert.notEqual(String(parentId), "12", "the parent is a span of Finagle's, not the one that we were given")
  assert.ok(deadline >= before + 4999 && deadline <= Date.now() + 5000)
}

export const hops = theme<Peers>("two hops", [
  holds(
    "Finagle, ours, Finagle, over Mux: trace, deadline, dtab and contexts",
    Effect.gen(function*() {
      const last = yield* connectBody(uriOf(yield* shared("body")))
      const { address } = yield* serveBodies({}, (body) => Effect.orDie(last.text(Buffer.from(body).toString())))
      const client = yield* Finagle.client("mux24", [address])
      const before = Date.now()
      const { text } = result(
        yield* client.call(["seen"], {
          clientId: "interop.test",
          timeout: 5000,
          dst: "/svc/first",
          dtab: "/a=>/b;/s=>/x | /y",
          context: ["Com.Example.Tenant=61636d65"],
          header: ["user=me"]
        })
      )
      const { clientId, contexts, deadline, destination, dtab, trace } = JSON.parse(text)
      assert.deepEqual({ clientId, destination, dtab }, {
        clientId: null,
        destination: "/",
        dtab: "/a=>/b;/s=>/x | /y"
      })
      assert.equal(contexts["Com.Example.Tenant"], "61636d65")
      assert.ok(trace.parentId === trace.traceId && trace.spanId !== trace.parentId)
      const millis = Number(BigInt(deadline.deadline) / 1_000_000n)
      assert.ok(millis >= before + 4999 && millis <= Date.now() + 5000)
    })
  ),
  holds(
    "ours, Finagle, ours, over ThriftMux: the same, and headers, but no client id",
    Effect.gen(function*() {
      const { address } = yield* serve()
      const between = yield* Finagle.server("tm22", { forward: address })
      const { echo } = yield* connect(uriOf(between))
      const before = Date.now()
      const { trace, ...rest } = yield* carried(seen(echo))
      carriedOn(before, { ...rest, ...trace })
      assert.deepEqual([rest.clientId, rest.headers], [undefined, [["user", "me"]]])
    })
  ),
  holds(
    "ours, Finagle, ours, over Mux: the same, and the client id, which is a context like any other there",
    Effect.gen(function*() {
      const { address } = yield* serveBodies()
      const between = yield* Finagle.server("mux24", { forward: address })
      const { text } = yield* connectBody(uriOf(between))
      const before = Date.now()
      const { trace, ...rest } = JSON.parse(yield* carried(text("seen")))
      carriedOn(before, { ...rest, ...trace })
      assert.equal(rest.clientId, "interop.first")
    })
  )
])
