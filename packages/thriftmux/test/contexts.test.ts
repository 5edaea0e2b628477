import { assert, describe, it } from "@effect/vitest"
import {
  bytesKey,
  CallContext,
  ClientId,
  type ContextKey,
  type Dentry,
  Destination,
  Dtab,
  RequestHeaders,
  Rpc,
  textKey,
  Trace,
  type TraceId
} from "@scales-rpc/core"
import { Deadline, MuxServer, Retries } from "@scales-rpc/mux"
import { RawPeer } from "@scales-rpc/mux/testing"
import { ThriftMux, ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Context, Effect, Fiber, Layer } from "effect"
import { echoHandlers } from "../../examples/src/echo.ts"
import { build, connect, Echo, type EchoHandlers, leavesNoSockets, message, serve, until } from "./support.ts"

leavesNoSockets()

const trace: TraceId = { traceId: 3n, traceIdHigh: 4n, spanId: 1n, parentId: 2n, flags: 6n }
const dtab: ReadonlyArray<Dentry> = [{ prefix: "/a", tree: "/b" }]
const tenant = textKey("com.example.Tenant")
const blob = bytesKey("com.example.Blob")
/** An entry with a form of its own on the wire. */
const level: ContextKey<number> = {
  id: "com.example.Level",
  encode: (value) => Uint8Array.of(value),
  decode: (bytes) => bytes.length === 1 ? bytes[0] : undefined
}

/** A handler of `ping` that notes the call it serves. */
const noting = (into: Array<Rpc.InboundCall>): Partial<EchoHandlers> => ({
  ping: () =>
    Effect.map(Rpc.Inbound, (inbound) => {
      into.push(inbound!)
      return "pong"
    })
})

/** What every entry of interest comes to at a server. */
const seen = ({ context }: Rpc.InboundCall) => ({
  clientId: context.get(ClientId),
  trace: context.get(Trace),
  destination: context.get(Destination),
  dtab: context.get(Dtab),
  headers: context.get(RequestHeaders),
  tenant: context.get(tenant),
  level: context.get(level),
  retries: context.get(Retries)
})

describe("what a caller says of a call", () => {
  it.live("reaches the handler", () =>
    Effect.gen(function*() {
      const calls: Array<Rpc.InboundCall> = []
      const { echo } = yield* connect(yield* serve(noting(calls)))
      yield* echo.ping().pipe(
        Rpc.context(ClientId, "caller"),
        Rpc.context(Trace, trace),
        Rpc.context(Destination, "/svc/echo"),
        Rpc.context(Dtab, dtab),
        Rpc.context(RequestHeaders, [["a", "1"], ["a", "2"], ["ü", ""]]),
        Rpc.context(tenant, "blue"),
        Rpc.context(level, 7),
        Rpc.context("com.example.Plain", "text"),
        Rpc.context(blob, Uint8Array.of(0, 255))
      )
      const [inbound] = calls
      assert.isDefined(inbound)
      const { trace: received, ...rest } = seen(inbound)
      assert.deepStrictEqual(rest, {
        clientId: "caller",
        destination: "/svc/echo",
        dtab,
        headers: [["a", "1"], ["a", "2"], ["ü", ""]],
        tenant: "blue",
        level: 7,
        retries: 0
      })
      // The attempt is a span of its own under the caller's.
      assert.deepInclude(received, { traceId: 3n, traceIdHigh: 4n, parentId: 1n, flags: 6n })
      assert.notStrictEqual(received!.spanId, 1n)
      assert.strictEqual(inbound.context.get(textKey("COM.EXAMPLE.plain")), "text")
      assert.deepStrictEqual([...inbound.context.get(blob)!], [0, 255])
      assert.match(inbound.peer, /^127\.0\.0\.1:\d+$/)
    }))

  it.live("is nothing when it says nothing: no id, no trace, the client's own timeout", () =>
    Effect.gen(function*() {
      const calls: Array<Rpc.InboundCall> = []
      const { echo } = yield* connect(yield* serve(noting(calls)), { timeout: "3 seconds" })
      const before = Date.now()
      yield* echo.ping()
      const [inbound] = calls
      const { retries, ...rest } = seen(inbound!)
      assert.deepStrictEqual(new Set(Object.values(rest)), new Set([undefined]))
      assert.strictEqual(retries, 0)
      assert.isTrue(inbound!.deadline >= before + 3000 && inbound!.deadline <= Date.now() + 3000)
    }))

  it.live("is beaten by what the client says of itself", () =>
    Effect.gen(function*() {
      const calls: Array<Rpc.InboundCall> = []
      const server = yield* serve(noting(calls))
      const { echo } = yield* connect(server, {
        clientId: "client",
        context: CallContext.empty.with(tenant, "green").with(ClientId, "forgotten")
      })
      yield* echo.ping().pipe(Rpc.context(ClientId, "caller"), Rpc.context(tenant, "blue"), Rpc.context(level, 1))
      assert.deepInclude(seen(calls[0]!), { clientId: "client", tenant: "green", level: 1 })
    }))

  it.live("is refused here when it is too much for the wire", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const { echo } = yield* connect(server)
      const error = yield* Effect.flip(echo.ping().pipe(Rpc.context(tenant, "x".repeat(40_000))))
      assert.strictEqual(error._tag, "Unsendable")
      assert.strictEqual(server.counts.requests, 0)
    }))
})

describe("reply headers", () => {
  it.live("are those that the handler set last, for whoever asks", () =>
    Effect.gen(function*() {
      const { echo } = yield* connect(
        yield* serve({
          ping: () =>
            Effect.map(Rpc.Inbound, (inbound) => {
              inbound!.setReplyHeaders([["first", "lost"]])
              inbound!.setReplyHeaders([["served-by", "ping"], ["ü", "ñ"]])
              return "pong"
            })
        })
      )
      assert.deepStrictEqual(yield* echo.ping().pipe(Rpc.withReplyHeaders), ["pong", [["served-by", "ping"], [
        "ü",
        "ñ"
      ]]])
      assert.deepStrictEqual(
        yield* echo.echo(message("")).pipe(Rpc.withReplyHeaders, Effect.map(([, headers]) => headers)),
        []
      )
      assert.strictEqual(yield* echo.ping(), "pong")
    }))

  it.live("of many calls at once are each call's own", () =>
    Effect.gen(function*() {
      const { echo } = yield* connect(
        yield* serve({
          slow: (millis) =>
            Effect.flatMap(Rpc.Inbound, (inbound) => {
              inbound!.setReplyHeaders([["millis", String(millis)]])
              return Effect.as(Effect.sleep(millis), "slow")
            })
        })
      )
      const replies = yield* Effect.forEach([9, 1, 5, 3], (millis) => Rpc.withReplyHeaders(echo.slow(millis)), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(replies.map(([, headers]) => headers), [
        [["millis", "9"]],
        [["millis", "1"]],
        [["millis", "5"]],
        [["millis", "3"]]
      ])
    }))
})

/** A server whose handlers call another one through a client of their own, and what that other one saw. */
const twoHops = (options: ThriftMux.ThriftMuxOptions = {}, handlers: Partial<EchoHandlers> = {}) =>
  Effect.gen(function*() {
    const calls: Array<Rpc.InboundCall> = []
    const far = yield* serve({ ...noting(calls), ...handlers })
    const downstream = yield* connect(far, options)
    const near = yield* serve({
      ping: () => Effect.orDie(downstream.echo.ping()),
      slow: (millis) => Effect.orDie(downstream.echo.slow(millis))
    })
    return { ...(yield* connect(near)), calls, far, near }
  })

describe("a handler's own call to another server", () => {
  it.live("carries on what is for the whole call, and not what was for one hop", () =>
    Effect.gen(function*() {
      const { calls, echo } = yield* twoHops()
      yield* echo.ping().pipe(
        Rpc.context(ClientId, "caller"),
        Rpc.context(Trace, trace),
        Rpc.context(Destination, "/svc/echo"),
        Rpc.context(Dtab, dtab),
        Rpc.context(RequestHeaders, [["a", "1"]]),
        Rpc.context(tenant, "blue"),
        Rpc.context(level, 7)
      )
      const { trace: received, ...rest } = seen(calls[0]!)
      assert.deepStrictEqual(rest, {
        clientId: undefined,
        destination: undefined,
        dtab,
        headers: undefined,
        tenant: "blue",
        level: 7,
        retries: 0
      })
      assert.deepInclude(received, { traceId: 3n, traceIdHigh: 4n, flags: 6n })
      assert.notInclude([1n, 2n], received!.parentId)
    }))

  it.live("has the client id of the client that makes it", () =>
    Effect.gen(function*() {
      const { calls, echo } = yield* twoHops({ clientId: "near" })
      yield* echo.ping().pipe(Rpc.context(ClientId, "caller"))
      assert.strictEqual(seen(calls[0]!).clientId, "near")
    }))

  it.live("has the caller's deadline when that is nearer than its own", () =>
    Effect.gen(function*() {
      const { calls, echo } = yield* twoHops()
      const before = Date.now()
      yield* echo.ping().pipe(Rpc.deadline("700 millis"))
      yield* echo.ping().pipe(Rpc.deadline("1 minute"))
      const [near, far] = calls.map(({ deadline }) => deadline - before)
      assert.isTrue(near! >= 700 && near! < 5000, `${near}`)
      assert.isTrue(far! >= 10_000 && far! < 30_000, `${far}`)
    }))

  it.live("ends with the caller's: at its deadline, and when it leaves", () =>
    Effect.gen(function*() {
      let interrupted = 0
      const { echo, far } = yield* twoHops({}, {
        slow: () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => void interrupted++))
      })
      // Connected all the way, so that the deadline is the handler's.
      yield* echo.ping()
      // Both calls have one deadline: which of them is over first is anybody's guess.
      const error = yield* Effect.flip(echo.slow(1).pipe(Rpc.deadline("100 millis")))
      assert.include(error.message, "no reply within")
      yield* until("the far handler is interrupted", () => interrupted === 1)
      const call = yield* Effect.forkChild(echo.slow(1))
      yield* until("the far handler runs", () => far.outstanding() === 1)
      yield* Fiber.interrupt(call)
      yield* until("the far handler is interrupted again", () => interrupted === 2)
    }))

  it.live("is made through a layer that the handlers need", () =>
    Effect.gen(function*() {
      const far = yield* serve({ ping: () => Effect.succeed("far pong") })
      const Near = ThriftMuxServer.layer(Echo, {
        ...echoHandlers(),
        ping: () => Effect.flatMap(Echo, (echo) => Effect.orDie(echo.ping()))
      }).pipe(Layer.provide(ThriftMux.layer(Echo, { uri: far.uri })))
      const server = yield* Effect.map(Layer.build(Near), (context) => Context.get(context, MuxServer))
      const { echo } = yield* connect(server)
      assert.strictEqual(yield* echo.ping(), "far pong")
    }))
})

describe("a deadline", () => {
  it.live("that has passed when the request comes: the handler is not run", () =>
    Effect.gen(function*() {
      const calls: Array<Rpc.InboundCall> = []
      const server = yield* serve(noting(calls))
      const connection = yield* RawPeer.connect(server.address)
      const now = Date.now()
      const body = Buffer.from("800100010000000470696e670000000100", "hex")
      const send = (tag: number, deadline: number) =>
        connection.send({
          _tag: "Tdispatch",
          tag,
          contexts: [[Buffer.from(Deadline.id), Deadline.encode!({ timestamp: now - 1000, deadline })]],
          destination: "",
          dtab: [],
          body
        })
      send(2, now - 10)
      const refused = yield* connection.next("Rdispatch")
      assert.strictEqual(refused.status, 1)
      assert.match(Buffer.from(refused.body).toString(), /^deadline exceeded by \d+ ms, not executed$/)
      assert.strictEqual(calls.length, 0)
      assert.strictEqual(server.counts.expired, 1)
      send(3, now + 60_000)
      assert.strictEqual((yield* connection.next("Rdispatch")).status, 0)
      assert.strictEqual(calls[0]!.deadline, now + 60_000)
    }).pipe(Effect.scoped))

  it.live("that has passed before the call is made: nothing is sent", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const { echo } = yield* connect(server)
      const late = Effect.andThen(Effect.sleep("5 millis"), echo.ping()).pipe(Rpc.deadline("1 millis"))
      const error = yield* Effect.flip(late)
      assert.strictEqual(error._tag, "Timeout")
      assert.deepInclude(error, { reached: "no" })
      assert.strictEqual(server.counts.requests, 0)
    }))
})

it.live("outside a handler there is no inbound call", () =>
  Effect.gen(function*() {
    assert.isUndefined(yield* Rpc.Inbound)
    const { echo } = yield* build(ThriftMux.layer(Echo, { uri: (yield* serve()).uri }))
    yield* echo.ping()
    assert.isUndefined(yield* Rpc.Inbound)
  }))
