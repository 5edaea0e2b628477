import {
  type Call,
  CallContext,
  describe as describeStack,
  Endpoint,
  InvalidOption,
  Rpc,
  type RpcError,
  Stack,
  Stacks,
  textKey,
  Timeout,
  Unsendable,
  wire
} from "@scales-rpc/core"
import { ScriptedSink } from "@scales-rpc/core/testing"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Layer } from "effect"
import Int64 from "node-int64"
import {
  ApplicationExceptionType,
  BinaryReader,
  BinaryWriter,
  encodeApplicationException,
  type MethodDefinition,
  Thrift,
  ThriftApplicationException,
  ThriftEncodeError,
  ThriftException,
  ThriftProtocolError,
  ThriftService
} from "../src/index.ts"
import * as EchoGen from "./gen24/Echo.js"
import { Message, Refused } from "./gen24/echo_types.js"

class Echo extends ThriftService<Echo>()("Echo", EchoGen) {}
const Bytes = wire<Thrift.ThriftRequest, Thrift.ThriftResponse>()("Bytes")

interface Sent {
  readonly hex: string
  readonly call: Call
}

/** A client whose sink the test answers, what was sent, and how many calls and timers have not ended. */
const client = <Self = Echo, Id extends string = "Echo">(
  answer: (body: Uint8Array, call: Call) => Effect.Effect<string | Uint8Array, RpcError>,
  options?: Thrift.ThriftClientOptions,
  service = Echo as unknown as ThriftService<Self, Id, EchoGen.Client>
) => {
  const sent: Array<Sent> = []
  return Thrift.client(service, Bytes, options).pipe(
    Layer.provide(ScriptedSink.layer(Bytes, ({ body }, call) => {
      sent.push({ hex: Buffer.from(body).toString("hex"), call })
      return Effect.map(
        answer(body, call),
        (reply) => ({ body: typeof reply === "string" ? Buffer.from(reply, "hex") : reply })
      )
    })),
    Layer.provide(Stack.layer("echo")),
    Layer.provideMerge(Stacks.layer),
    Layer.build,
    Effect.map((context) => ({
      echo: Context.get(context, service),
      sent,
      outstanding: () => {
        const stack = Context.get(context, Stacks).list()[0]!
        const state = describeStack(stack).stages.find(({ role }) => role === "dispatcher")!.state
        return [(state as { readonly outstanding: number }).outstanding, stack.deadlines.size]
      }
    }))
  )
}

/** The failure of building a client with these options. */
const buildFailure = (options: Thrift.ThriftClientOptions) => Effect.flip(client(() => Effect.succeed(""), options))

/** The reply of the method that was called, with this result or exception. */
const replyTo = (
  body: Uint8Array,
  write: (
    method: NonNullable<ReturnType<typeof Echo.definition.methods.get>>,
    sequenceId: number,
    writer: BinaryWriter
  ) => void
): Uint8Array => {
  const { fname, rseqid } = new BinaryReader().reset(body).readMessageBegin()
  const writer = new BinaryWriter()
  write(Echo.definition.methods.get(fname)!, rseqid, writer)
  return writer.take()
}
const succeedWith = (value: unknown) => (body: Uint8Array) =>
  Effect.sync(() => replyTo(body, (method, id, writer) => method.encodeResult(id, value, writer)))
const int64 = (value: number) => new Int64(value)

const hello =
  "0b00010000001768656c6c6f20776f726c642068656c6c6f20776f726c640a0002000000000000000c0f0003080000000400000001000000020000000300000004"

describe("a Thrift client", () => {
  it.effect("writes and reads what Finagle does", () =>
    Effect.gen(function*() {
      const { echo, sent } = yield* client(() => Effect.succeed(`80010002000000046563686f000000010c0000${hello}0000`))
      const reply = yield* echo.echo(
        new Message({ text: "hello world hello world", number: int64(12), items: [1, 2, 3, 4] })
      )
      assert.strictEqual(sent[0]!.hex, `80010001000000046563686f000000010c0001${hello}0000`)
      assert.deepStrictEqual([reply.text, Number(reply.number), reply.items], ["hello world hello world", 12, [
        1,
        2,
        3,
        4
      ]])
    }))

  it.effect("ends a call with the result, with nothing, with the declared exception, with the server's words", () =>
    Effect.gen(function*() {
      const replies: Record<string, string> = {
        ping: "800100020000000470696e67000000010b000000000004706f6e6700",
        touch: "8001000200000005746f7563680000000000",
        fail: "80010002000000046661696c000000010c00010b0001000000037768790000",
        crash:
          "80010003000000056372617368000000010b000100000048496e7465726e616c206572726f722070726f63657373696e672063726173683a20276a6176612e6c616e672e496c6c6567616c5374617465457863657074696f6e3a206f6f7073270800020000000600"
      }
      const { echo } = yield* client((body) =>
        Effect.succeed(replies[new BinaryReader().reset(body).readMessageBegin().fname]!)
      )
      assert.strictEqual(yield* echo.ping(), "pong")
      assert.isUndefined(yield* echo.touch("key"))
      const declared = yield* Effect.flip(echo.fail("why", int64(0)))
      assert.instanceOf(declared, ThriftException)
      assert.instanceOf((declared as ThriftException<unknown>).exception, Refused)
      assert.strictEqual((declared as ThriftException<Refused>).exception.why, "why")
      const crashed = yield* Effect.flip(echo.crash("oops"))
      assert.instanceOf(crashed, ThriftApplicationException)
      assert.deepStrictEqual(
        [(crashed as ThriftApplicationException).typeName, crashed.message],
        ["INTERNAL_ERROR", "Internal error processing crash: 'java.lang.IllegalStateException: oops'"]
      )
    }))

  it.effect("does nothing before it is run, and sends again when it is run again, with another sequence id", () =>
    Effect.gen(function*() {
      const { echo, sent } = yield* client(succeedWith("pong"))
      const ping = echo.ping()
      assert.strictEqual(sent.length, 0)
      yield* ping
      yield* ping
      assert.deepStrictEqual(sent.map(({ hex }) => hex), [1, 2].map((id) => `800100010000000470696e670000000${id}00`))
    }))

  it.effect("gives each of many calls its own reply, in whatever order they come", () =>
    Effect.gen(function*() {
      const waiting: Array<() => void> = []
      const { echo } = yield* client((body) => {
        const copy = Uint8Array.from(body)
        const reply = Deferred.makeUnsafe<Uint8Array>()
        waiting.push(() => {
          const method = Echo.definition.methods.get("slow")!
          const reader = new BinaryReader()
          reader.reset(copy).readMessageBegin()
          const [millis] = method.decodeArguments(reader)
          Deferred.doneUnsafe(
            reply,
            Exit.succeed(replyTo(copy, (_, id, writer) => method.encodeResult(id, `slow ${String(millis)}`, writer)))
          )
        })
        return Deferred.await(reply)
      })
      const calls = yield* Effect.forEach([1, 2, 3], (millis) =>
        Effect.forkChild(echo.slow(millis), { startImmediately: true }))
      for (const answer of waiting.toReversed()) {
        answer()
      }
      assert.deepStrictEqual(yield* Effect.forEach(calls, Fiber.join), ["slow 1", "slow 2", "slow 3"])
    }))

  it.effect("fails with what is wrong with a reply", () =>
    Effect.gen(function*() {
      const failure = (reply: string) =>
        Effect.flatMap(client(() => Effect.succeed(reply)), ({ echo }) => Effect.flip(echo.ping()))
      const empty = yield* failure("")
      assert.instanceOf(empty, ThriftProtocolError)
      assert.strictEqual((empty as ThriftProtocolError).reason, "Truncated")
      const html = yield* failure(Buffer.from("<html><body>not found</body></html>").toString("hex"))
      assert.instanceOf(html, ThriftProtocolError)
      const call = yield* failure("80010001000000046563686f0000000100")
      assert.strictEqual((call as ThriftProtocolError).reason, "UnexpectedMessage")
      const cut = yield* failure("800100020000000470696e67000000010b0000000000047066")
      assert.strictEqual((cut as ThriftProtocolError).reason, "Truncated")
      const nothing = yield* failure("800100020000000470696e670000000100")
      assert.strictEqual((nothing as ThriftApplicationException).typeName, "MISSING_RESULT")
    }))

  it.effect("sends nothing of arguments that cannot be written, and forgets the call", () =>
    Effect.gen(function*() {
      const { echo, outstanding, sent } = yield* client(succeedWith("slow"))
      const error = yield* Effect.flip(echo.slow(1.5))
      assert.instanceOf(error, ThriftEncodeError)
      assert.strictEqual((error as ThriftEncodeError).reason, "InvalidValue")
      assert.strictEqual(sent.length, 0)
      assert.deepStrictEqual(outstanding(), [0, 0])
      assert.strictEqual(yield* echo.slow(1), "slow")
    }))

  it.effect("dies, and forgets the call, when a definition throws", () =>
    Effect.gen(function*() {
      const ping: MethodDefinition = {
        ...Echo.definition.methods.get("ping")!,
        name: "ping",
        encodeCall: () => {
          throw new RangeError("a bug")
        }
      }
      class Broken extends ThriftService<Broken>()("Broken", EchoGen) {
        static override readonly definition = { name: "Broken", methods: new Map([["ping", ping]]) }
      }
      const { echo, outstanding } = yield* client(succeedWith("pong"), {}, Broken)
      const exit = yield* Effect.exit(echo.ping())
      assert.isTrue(Exit.isFailure(exit) && Cause.squash(exit.cause) instanceof RangeError)
      assert.deepStrictEqual(outstanding(), [0, 0])
    }))

  it.effect("holds requests and replies to its limits", () =>
    Effect.gen(function*() {
      const { echo, sent } = yield* client(succeedWith("x".repeat(100)), { limits: { maxStringBytes: 64 } })
      const reply = yield* Effect.flip(echo.ping())
      assert.strictEqual((reply as ThriftProtocolError).reason, "SizeLimit")
      const request = yield* Effect.flip(echo.touch("x".repeat(100)))
      assert.strictEqual((request as ThriftEncodeError).reason, "SizeLimit")
      assert.strictEqual(sent.length, 1)
      const whole = yield* client(succeedWith("x".repeat(100)), { limits: { maxMessageBytes: 64 } })
      assert.strictEqual(((yield* Effect.flip(whole.echo.ping())) as ThriftProtocolError).reason, "SizeLimit")
    }))

  it.effect("passes on what the sink fails with", () =>
    Effect.gen(function*() {
      const failure = new Timeout({
        timeoutMillis: 5,
        waiting: "reply",
        reached: "maybe",
        endpoint: Endpoint.tcp("a", 1),
        cause: undefined
      })
      const { echo } = yield* client(() => Effect.fail(failure))
      assert.strictEqual(yield* Effect.flip(echo.ping()), failure)
    }))
})

describe("a oneway method", () => {
  it.effect("is refused by default: nothing is sent", () =>
    Effect.gen(function*() {
      const { echo, sent } = yield* client(() => Effect.succeed(""))
      const error = yield* Effect.flip(echo.note("text"))
      assert.instanceOf(error, Unsendable)
      assert.deepStrictEqual(
        [(error as Unsendable).reached, error.message],
        ["no", "cannot be sent: note is oneway, and this wire answers every call"]
      )
      assert.strictEqual(sent.length, 0)
    }))

  it.effect("ends with the empty reply when told to await it", () =>
    Effect.gen(function*() {
      const reply = Deferred.makeUnsafe<string>()
      const { echo, sent } = yield* client(() => Deferred.await(reply), { oneway: "await" })
      const call = yield* Effect.forkChild(echo.note("text"), { startImmediately: true })
      assert.strictEqual(sent[0]!.hex, "80010004000000046e6f7465000000010b0001000000047465787400")
      assert.isUndefined(call.pollUnsafe())
      Deferred.doneUnsafe(reply, Exit.succeed(""))
      assert.isUndefined(yield* Fiber.join(call))
    }))

  it.effect("fails with what the server says when told to await it", () =>
    Effect.gen(function*() {
      const writer = new BinaryWriter()
      const exception = new ThriftApplicationException({
        type: ApplicationExceptionType.UNKNOWN_METHOD,
        message: "note?"
      })
      encodeApplicationException("note", 1, exception, writer)
      const { echo } = yield* client(() => Effect.sync(() => writer.take()), { oneway: "await" })
      const error = yield* Effect.flip(echo.note("text"))
      assert.strictEqual((error as ThriftApplicationException).typeName, "UNKNOWN_METHOD")
    }))
})

describe("a call of a Thrift client", () => {
  it.effect("is told what method of what service it is, and whether it may run twice", () =>
    Effect.gen(function*() {
      const { echo, sent } = yield* client(succeedWith("pong"), { idempotent: ["ping", "slow"] })
      yield* echo.ping()
      yield* echo.crash("no").pipe(Effect.exit)
      yield* echo.crash("no").pipe(Rpc.idempotent, Effect.exit)
      assert.deepStrictEqual(
        sent.map(({ call }) => [call.service, call.method, call.idempotent]),
        [["Echo", "ping", true], ["Echo", "crash", false], ["Echo", "crash", true]]
      )
    }))

  it.effect("has ten seconds, the client's own timeout, or the caller's deadline when that is nearer", () =>
    Effect.gen(function*() {
      const standard = yield* client(succeedWith("pong"))
      yield* standard.echo.ping()
      const own = yield* client(succeedWith("pong"), { timeout: "2 seconds" })
      yield* own.echo.ping()
      yield* own.echo.ping().pipe(Rpc.deadline("5 seconds"))
      yield* own.echo.ping().pipe(Rpc.deadline("500 millis"))
      const deadlines = [...standard.sent, ...own.sent].map(({ call }) => call.deadline)
      assert.deepStrictEqual(deadlines, [60_000, 2000, 2000, 500])
    }))

  it.effect("carries the client's entries over the caller's", () =>
    Effect.gen(function*() {
      const own = textKey("own")
      const { echo, sent } = yield* client(succeedWith("pong"), { context: CallContext.empty.with(own, "client") })
      yield* echo.ping()
      yield* echo.ping().pipe(Rpc.context(own, "caller"), Rpc.context("other", "caller"))
      assert.deepStrictEqual(
        sent.map(({ call }) => [call.context.get(own), call.context.get(textKey("other"))]),
        [["client", undefined], ["client", "caller"]]
      )
    }))
})

describe("the options of a Thrift client", () => {
  it.effect("are checked when it is built", () =>
    Effect.gen(function*() {
      const refused: ReadonlyArray<readonly [Thrift.ThriftClientOptions, string]> = [
        [{ timeout: 0 }, "timeout"],
        [{ timeout: "-1 seconds" as never }, "timeout"],
        [{ timeout: Infinity }, "timeout"],
        [{ timeout: "soon" as never }, "timeout"],
        [{ idempotent: ["ping", "pong"] }, "idempotent"],
        [{ limits: { maxMessageBytes: -1 } }, "limits.maxMessageBytes"],
        [{ limits: { maxStringBytes: NaN } }, "limits.maxStringBytes"],
        [{ limits: { maxElements: 1.5 } }, "limits.maxElements"],
        [{ limits: { maxDepth: 2 ** 31 } }, "limits.maxDepth"]
      ]
      for (const [options, name] of refused) {
        const error = yield* buildFailure(options)
        assert.instanceOf(error, InvalidOption)
        assert.strictEqual(error.option, name)
      }
      assert.strictEqual(
        (yield* buildFailure({ idempotent: ["pong"] })).message,
        "invalid option idempotent: got pong, expected methods of Echo: " +
          [...Echo.definition.methods.keys()].join(", ")
      )
    }))
})
