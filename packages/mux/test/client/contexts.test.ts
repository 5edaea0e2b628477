import { assert, describe, it } from "@effect/vitest"
import {
  beginAttempt,
  bytesKey,
  type Call,
  CallContext,
  ClientId,
  Destination,
  Direct,
  Dtab,
  Endpoint,
  localKey,
  RequestHeaders,
  textKey,
  Trace,
  type TraceId
} from "@scales-rpc/core"
import {
  contextOf,
  Deadline,
  decodeHeaders,
  encodeHeaders,
  type Message,
  requestHeadersId,
  Retries
} from "@scales-rpc/mux"
import { Context as EffectContext, Effect, Option, Tracer } from "effect"
import { ClientContexts } from "../../src/ClientContexts.ts"
import { toHex, utf8 } from "../vectors.ts"
import { type Driven, endpoint, epoch, ok, opened, type SendOptions } from "./scripted.ts"

/** Random numbers that make span ids: each id takes two. */
const spans = (...ids: ReadonlyArray<bigint>): () => number => {
  const halves = ids.flatMap((id) => [Number(id >> 32n), Number(id & 0xffffffffn)])
  return () => halves.shift()! / 2 ** 32
}

const contextual = (random: () => number = () => 0.5): Promise<Driven> =>
  opened({ contexts: new ClientContexts(random) })

/** The request that a call comes to. */
const request = async (driven: Driven, options: SendOptions, body = "hi"): Promise<Message.Tdispatch> => {
  driven.send(body, options)
  const [message] = await driven.take()
  assert.strictEqual(message?._tag, "Tdispatch")
  driven.deliver(ok(message!.tag, ""))
  return message as Message.Tdispatch
}

/** Its contexts, one line each, the long prefixes cut. */
const lines = ({ contexts }: Message.Tdispatch): Array<string> =>
  contexts.map(([key, value]) => `${Buffer.from(key).toString().replace("com.twitter.finagle.", "")} ${toHex(value)}`)

const spanOf = (traceId: string, spanId: string, parent: Tracer.AnySpan | undefined): Tracer.Span => {
  const span = new Tracer.NativeSpan({
    name: "call",
    parent: Option.fromUndefinedOr(parent),
    annotations: EffectContext.empty(),
    links: [],
    startTime: 0n,
    kind: "client",
    sampled: true
  })
  return Object.assign(span, { _traceId: traceId, _spanId: spanId })
}

const trace: TraceId = { traceId: 3n, traceIdHigh: undefined, spanId: 2n, parentId: 7n, flags: 6n }

describe("a client's contexts", () => {
  it("are byte for byte those of a Finagle client's first call", async () => {
    const id = 0xcca1826607448febn
    const driven = await contextual(spans(id))
    const root: TraceId = { traceId: id, traceIdHigh: undefined, spanId: id, parentId: id, flags: 0n }
    driven.send("hi", { context: CallContext.empty.with(Trace, root), withoutDeadline: true })
    assert.deepStrictEqual(await driven.hex(), [
      "0000007b0200000200020028636f6d2e747769747465722e66696e61676c652e74726163696e672e5472616365436f6e7465787400" +
      "20cca1826607448febcca1826607448febcca1826607448feb0000000000000000001b636f6d2e747769747465722e66696e61676c" +
      "652e52657472696573000400000000000000006869"
    ])
    driven.deliver(ok(2, ""))
    await driven.finish()
  })

  it("come in Finagle's order: client id, trace, retries, deadline; then the user's own, then the headers", async () => {
    const driven = await contextual(spans(1n))
    const context = CallContext.empty
      .with(RequestHeaders, [["a", "b"]])
      .with(textKey("mine"), "1")
      .with(Trace, trace)
      .with(textKey("yours"), "2")
      .with(ClientId, "test.devel")
    const message = await request(driven, { context, timeoutMillis: 1000 })
    assert.deepStrictEqual(lines(message), [
      `thrift.ClientIdContext ${toHex(utf8("test.devel"))}`,
      "tracing.TraceContext 0000000000000001000000000000000200000000000000030000000000000006",
      "Retries 00000000",
      "Deadline 17979cfe362a000017979cfe71c4ca00",
      `mine ${toHex(utf8("1"))}`,
      `yours ${toHex(utf8("2"))}`,
      `thrift.Request.headers ${toHex(encodeHeaders([["a", "b"]]).bytes)}`
    ])
    await driven.finish()
  })

  it("tell the deadline in the wall's time, whatever the stack's is ahead of it", async () => {
    const driven = await contextual()
    const { time } = driven
    time.deadlines.now()
    time.now -= 20_000
    time.deadlines.now()
    assert.strictEqual(time.deadlines.ahead, 20_000)
    // From here on the stack's time is what it would have been.
    time.now += 20_000
    const message = await request(driven, { timeoutMillis: 1000 })
    const nanos = (millis: number) => (BigInt(millis) * 1_000_000n).toString(16).padStart(16, "0")
    assert.include(lines(message), `Deadline ${nanos(time.now - 20_000)}${nanos(time.now - 19_000)}`)
    await driven.finish()
  })

  it("tell the time at which a first try is sent that waited on the direct way", async () => {
    const driven = await contextual()
    const { session, time } = driven
    const begunAt = time.now
    const call: Call = { ...driven.send("first", { timeoutMillis: 5000 }).call, tried: [] }
    const [first] = await driven.take()
    time.advance(3000)
    Direct.throughEndpoint({ send: session.send, status: session.status, open: Effect.void })!.send(
      { body: utf8("hi") },
      beginAttempt(call, endpoint, () => time.now),
      () => {}
    )
    const message = (await driven.take())[0] as Message.Tdispatch
    const nanos = (millis: number) => (BigInt(millis) * 1_000_000n).toString(16).padStart(16, "0")
    assert.include(lines(message), `Deadline ${nanos(begunAt + 3000)}${nanos(begunAt + 5000)}`)
    driven.deliver(ok(first!.tag, ""), ok(message.tag, ""))
    await driven.finish()
  })

  it("are no more than the number of the try when there is nothing to say", async () => {
    const driven = await contextual()
    const message = await request(driven, { withoutDeadline: true })
    assert.deepStrictEqual(lines(message), ["Retries 00000000"])
    assert.strictEqual(message.destination, "")
    assert.deepStrictEqual(message.dtab, [])
    await driven.finish()
  })

  it("number the tries of a call", async () => {
    const driven = await contextual()
    const others = [Endpoint.tcp("h", 2), endpoint, Endpoint.tcp("h", 3)]
    for (const [i, context] of [CallContext.empty, CallContext.empty.with(ClientId, "me")].entries()) {
      const message = await request(driven, { context, tried: others, withoutDeadline: true })
      assert.strictEqual(lines(message)[i], "Retries 00000003")
    }
    // The entry of the first try, which all calls share, is as it was.
    assert.deepStrictEqual(lines(await request(driven, { withoutDeadline: true })), ["Retries 00000000"])
    await driven.finish()
  })

  it("give each try a span of its own, under the span of the call", async () => {
    const driven = await contextual(spans(0xfedcba9876543210n, 0x0123456789abcdefn))
    const context = CallContext.empty.with(Trace, trace)
    const first = await request(driven, { context, withoutDeadline: true })
    const second = await request(driven, { context, withoutDeadline: true, tried: [endpoint] })
    assert.deepStrictEqual(lines(first), [
      "tracing.TraceContext fedcba9876543210000000000000000200000000000000030000000000000006",
      "Retries 00000000"
    ])
    assert.deepStrictEqual(lines(second), [
      "tracing.TraceContext 0123456789abcdef000000000000000200000000000000030000000000000006",
      "Retries 00000001"
    ])
    await driven.finish()
  })

  it("carry the call's own span, the same with each try: 128 bits, its parent, and that it is sampled", async () => {
    const driven = await contextual()
    const span = spanOf(
      "0af7651916cd43dd8448eb211c80319c",
      "b7ad6b7169203331",
      Tracer.externalSpan({ traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "00f067aa0ba902b7" })
    )
    const bytes = "b7ad6b716920333100f067aa0ba902b78448eb211c80319c00000000000000060af7651916cd43dd"
    for (const [attempt, tried] of [[], [endpoint]].entries()) {
      assert.deepStrictEqual(lines(await request(driven, { span, withoutDeadline: true, tried })), [
        `tracing.TraceContext ${bytes}`,
        `Retries 0000000${attempt}`
      ])
    }
    const root = spanOf("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", undefined)
    assert.strictEqual(
      lines(await request(driven, { span: root, withoutDeadline: true }))[0],
      "tracing.TraceContext b7ad6b7169203331b7ad6b71692033318448eb211c80319c00000000000000060af7651916cd43dd"
    )
    await driven.finish()
  })

  it("carry a span under the one that the call is in when it has none of its own, and that it is not sampled", async () => {
    const driven = await contextual(spans(1n, 9n, 5n))
    const trace = Tracer.externalSpan({ traceId: "3".padStart(32, "0"), spanId: "2".padStart(16, "0"), sampled: false })
    for (const id of ["1", "9"]) {
      assert.strictEqual(
        lines(await request(driven, { trace, withoutDeadline: true }))[0],
        `tracing.TraceContext 000000000000000${id}000000000000000200000000000000030000000000000002`
      )
    }
    // Calls outside of it in the same millisecond have none of it.
    assert.deepStrictEqual(lines(await request(driven, { withoutDeadline: true })), ["Retries 00000000"])
    assert.lengthOf(lines(await request(driven, { trace, withoutDeadline: true })), 2)
    await driven.finish()
  })

  it("never have a span id of 0", async () => {
    const driven = await contextual(() => 0)
    const message = await request(driven, { context: CallContext.empty.with(Trace, trace), withoutDeadline: true })
    assert.include(lines(message)[0], " 0000000000000001")
    await driven.finish()
  })

  it("carry 128-bit trace ids", async () => {
    const driven = await contextual(spans(1n))
    const wide = { ...trace, traceIdHigh: 4n }
    const message = await request(driven, { context: CallContext.empty.with(Trace, wide), withoutDeadline: true })
    assert.deepStrictEqual(lines(message), [
      "tracing.TraceContext " +
      "00000000000000010000000000000002000000000000000300000000000000060000000000000004",
      "Retries 00000000"
    ])
    await driven.finish()
  })

  it("tell the deadline to the nanosecond, counted from when the request is made", async () => {
    const driven = await contextual()
    const at = (message: Message.Tdispatch) => Deadline.decode!(message.contexts[1]![1])
    assert.deepStrictEqual(at(await request(driven, { timeoutMillis: 300 })), {
      timestamp: epoch,
      deadline: epoch + 300
    })
    assert.deepStrictEqual(at(await request(driven, { timeoutMillis: 400 })), {
      timestamp: epoch,
      deadline: epoch + 400
    })
    driven.time.advance(77)
    assert.deepStrictEqual(at(await request(driven, { timeoutMillis: 323 })), {
      timestamp: epoch + 77,
      deadline: epoch + 400
    })
    assert.deepStrictEqual(at(await request(driven, { timeoutMillis: 323 })), {
      timestamp: epoch + 77,
      deadline: epoch + 400
    })
    await driven.finish()
  })

  it("have the deadline that a Finagle client wrote", async () => {
    const driven = await contextual()
    driven.time.now = 1_795_372_823_641
    const message = await request(driven, { timeoutMillis: 300 })
    assert.deepStrictEqual(lines(message), ["Retries 00000000", "Deadline 18ea72122083084018ea72123264ab40"])
    await driven.finish()
  })

  it("leave the values of tries and deadline to the call, whatever a user has set under their names", async () => {
    const driven = await contextual()
    const context = CallContext.empty
      .with(Retries, 9)
      .with(bytesKey("COM.TWITTER.FINAGLE.DEADLINE"), Uint8Array.of(1))
    assert.deepStrictEqual(lines(await request(driven, { context, withoutDeadline: true })), ["Retries 00000000"])
    await driven.finish()
  })

  it("read a trace or a client id that was set as bytes", async () => {
    const driven = await contextual(spans(1n))
    const context = CallContext.empty
      .with(bytesKey(Trace.id), Trace.encode!(trace))
      .with(bytesKey(ClientId.id.toUpperCase()), utf8("me"))
    assert.deepStrictEqual(lines(await request(driven, { context, withoutDeadline: true })), [
      `thrift.ClientIdContext ${toHex(utf8("me"))}`,
      "tracing.TraceContext 0000000000000001000000000000000200000000000000030000000000000006",
      "Retries 00000000"
    ])
    await driven.finish()
  })

  it("leave a trace that does not read out", async () => {
    const driven = await contextual()
    const context = CallContext.empty.with(bytesKey(Trace.id), Uint8Array.of(1, 2, 3))
    assert.deepStrictEqual(lines(await request(driven, { context, withoutDeadline: true })), ["Retries 00000000"])
    await driven.finish()
  })

  it("do not tell entries that stay in the process", async () => {
    const driven = await contextual()
    const context = CallContext.empty.with(localKey<number>("secret"), 1)
    assert.deepStrictEqual(lines(await request(driven, { context, withoutDeadline: true })), ["Retries 00000000"])
    await driven.finish()
  })

  it("carry destination and delegations beside them", async () => {
    const driven = await contextual()
    const context = CallContext.empty.with(Destination, "/svc/echo").with(Dtab, [{ prefix: "/a", tree: "/b" }])
    driven.send("hi", { context, withoutDeadline: true })
    const [hex] = await driven.hex()
    assert.isTrue(
      hex!.endsWith(
        `${toHex(utf8("Retries"))}0004000000000009${toHex(utf8("/svc/echo"))}00010002${toHex(utf8("/a"))}0002${
          toHex(utf8("/b"))
        }6869`
      )
    )
    driven.deliver(ok(2, ""))
    await driven.finish()
  })

  it("have a destination that is no path refused before it is sent", async () => {
    const driven = await contextual()
    const sent = driven.send("hi", { context: CallContext.empty.with(Destination, "nope") })
    assert.strictEqual(sent.error._tag, "Unsendable")
    assert.strictEqual(driven.session.tagsInUse, 0)
    await driven.finish()
  })

  it("carry no more headers than fit", async () => {
    const driven = await contextual()
    const headers = Array.from({ length: 400 }, (_, i) => [`name-${i}`, "v".repeat(100)] as const)
    const context = CallContext.empty.with(RequestHeaders, headers)
    const message = await request(driven, { context, withoutDeadline: true })
    const [key, value] = message.contexts[1]!
    assert.strictEqual(Buffer.from(key).toString(), requestHeadersId)
    const carried = decodeHeaders(value)!
    assert.isAbove(carried.length, 200)
    assert.deepStrictEqual(carried, headers.slice(0, carried.length))
    const none = await request(driven, { context: CallContext.empty.with(RequestHeaders, []), withoutDeadline: true })
    assert.deepStrictEqual(lines(none), ["Retries 00000000"])
    await driven.finish()
  })

  it("are the same for a call context that was met before and for one like it", async () => {
    const driven = await contextual(() => 0.25)
    const make = () =>
      CallContext.empty
        .with(ClientId, "me")
        .with(Trace, trace)
        .with(textKey("mine"), "1")
        .with(RequestHeaders, [["a", "b"]])
        .with(Destination, "/svc/echo")
        .with(Dtab, [{ prefix: "/a", tree: "/b" }])
    const context = make()
    const hexes: Array<string> = []
    for (const options of [{ context }, { context }, { context: make() }, { context, tried: [endpoint] }]) {
      driven.send("hi", options)
      hexes.push((await driven.hex())[0]!)
      driven.deliver(ok(2, ""))
    }
    assert.strictEqual(hexes[1], hexes[0])
    assert.strictEqual(hexes[2], hexes[0])
    const retries = toHex(utf8("Retries"))
    assert.strictEqual(hexes[3], hexes[0]!.replace(`${retries}000400000000`, `${retries}000400000001`))
    await driven.finish()
  })

  it("read at a server as what the caller has set", async () => {
    const driven = await contextual(spans(5n))
    const mine = textKey("mine")
    const context = CallContext.empty.with(ClientId, "me").with(Trace, trace).with(mine, "1")
      .with(RequestHeaders, [["a", "b"]]).with(Destination, "/svc/echo")
    const message = await request(driven, { context, timeoutMillis: 250 })
    const read = contextOf(message.contexts, message.destination, message.dtab)
    assert.strictEqual(read.get(ClientId), "me")
    assert.deepStrictEqual(read.get(Trace), { ...trace, spanId: 5n, parentId: 2n })
    assert.strictEqual(read.get(mine), "1")
    assert.deepStrictEqual(read.get(RequestHeaders), [["a", "b"]])
    assert.strictEqual(read.get(Destination), "/svc/echo")
    assert.deepStrictEqual(read.get(Deadline), { timestamp: epoch, deadline: epoch + 250 })
    assert.strictEqual(read.get(Retries), 0)
    await driven.finish()
  })
})
