import { Failure, InvalidOption } from "@scales-rpc/core"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Data, Deferred, Effect, Exit, Fiber, Logger } from "effect"
import Int64 from "node-int64"
import {
  ApplicationExceptionType,
  BinaryReader,
  BinaryWriter,
  decodeReply,
  type HandlersOf,
  ThriftApplicationException,
  ThriftException,
  ThriftProcessor,
  ThriftProtocolError,
  ThriftService
} from "../src/index.ts"
import * as EchoGen from "./gen24/Echo.js"
import { Message, Overdrawn, Refused } from "./gen24/echo_types.js"

class Echo extends ThriftService<Echo>()("Echo", EchoGen) {}
type Handlers = HandlersOf<EchoGen.Client>

/** A failure that the wire answers. */
class Busy extends Failure("Busy")<{ readonly why: string }> {}
const isBusy = (error: unknown): error is Busy => error instanceof Busy

/** A processor over some handlers. They are untyped here, so that a test can do what the types forbid. */
const processor = <R = never>(
  handlers: { readonly [Name in keyof Handlers]?: ThriftProcessor.Handler<R> },
  options: Omit<ThriftProcessor.ProcessorOptions<Busy>, "passes"> = {}
) =>
  ThriftProcessor.make<Busy, R>(Echo.definition, handlers as Record<string, ThriftProcessor.Handler<R>>, {
    ...options,
    passes: isBusy
  })

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")
const fromHex = (text: string): Uint8Array => Buffer.from(text.replaceAll(" ", ""), "hex")

/** The bytes of a call. */
const call = (name: string, ...args: ReadonlyArray<unknown>): Uint8Array => {
  const writer = new BinaryWriter()
  Echo.definition.methods.get(name)!.encodeCall(7, args, writer)
  return writer.take()
}

/** What the client makes of a reply. */
const read = (name: string, reply: Uint8Array) => {
  const reader = new BinaryReader().reset(reply)
  const exit = decodeReply(Echo.definition.methods.get(name)!, reader)
  assert.deepStrictEqual([reader.message.fname, reader.message.rseqid], [name, 7])
  return exit
}

/** Calls a method of a processor over one handler. */
const reply = (name: keyof Handlers, args: ReadonlyArray<unknown>, handler: ThriftProcessor.Handler) =>
  Effect.gen(function*() {
    const { process } = yield* processor({ [name]: handler })
    return read(name, yield* process(call(name, ...args)))
  })

/** The application exception that a reply holds. */
const applicationException = (exit: Exit.Exit<unknown, unknown>): readonly [string, string] => {
  const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
  assert.instanceOf(error, ThriftApplicationException)
  return [error.typeName, error.message]
}

const hello =
  "0b00010000001768656c6c6f20776f726c642068656c6c6f20776f726c640a0002000000000000000c0f0003080000000400000001000000020000000300000004"

/** The struct of an application exception. */
const exception = (message: string, type: number): string => {
  const length = Buffer.alloc(4)
  length.writeInt32BE(message.length)
  return `0b0001 ${length.toString("hex")} ${Buffer.from(message).toString("hex")} 080002 0000000${type} 00`
}

describe("a Thrift processor answers as Finagle does", () => {
  const answers = (name: string, request: string, expected: string, handlers: Parameters<typeof processor<never>>[0]) =>
    it.effect(name, () =>
      Effect.gen(function*() {
        const { process } = yield* processor(handlers)
        assert.strictEqual(hex(yield* process(fromHex(request))), expected.replaceAll(" ", ""))
      }))

  answers(
    "a result",
    `80010001000000046563686f000000000c0001${hello}0000`,
    `80010002000000046563686f000000000c0000${hello}0000`,
    { echo: (message) => Effect.succeed(message) }
  )
  answers(
    "a declared exception",
    "80010001 00000004 6661696c 00000001 0b0001 00000003 776879 0a0002 0000000000000000 00",
    "80010002000000046661696c000000010c00010b0001000000037768790000",
    { fail: (why) => Effect.fail(new Refused({ why })) }
  )
  answers(
    "an undeclared failure, in our own words for it",
    "80010001 00000005 6372617368 00000001 0b0001 00000004 6f6f7073 00",
    `80010003 00000005 6372617368 00000001 ${exception("Internal error processing crash: 'Error: oops'", 6)}`,
    { crash: (why) => Effect.die(new Error(why)) }
  )
  answers(
    "a method it does not know",
    "80010001 00000004 6e6f7065 00000009 00",
    `80010003 00000004 6e6f7065 00000009 ${exception("Invalid method name: 'nope'", 1)}`,
    {}
  )
  answers("a oneway call, with nothing", "80010004000000046e6f7465000000010b0001000000047465787400", "", {
    note: () => Effect.void
  })
  answers(
    "a void method",
    "8001000100000005746f75636800000001 0b0001 00000001 6b 00",
    "8001000200000005746f7563680000000100",
    {
      touch: () => Effect.succeed("what a void method returns is nobody's")
    }
  )
})

describe("a handler that", () => {
  it.effect("fails with the declared class, bare or wrapped, is answered with it", () =>
    Effect.gen(function*() {
      const bare = yield* reply(
        "fail",
        ["no", new Int64(5)],
        () => Effect.fail(new Overdrawn({ missing: new Int64(5) }))
      )
      const wrapped = yield* reply(
        "fail",
        ["no", new Int64(0)],
        (why) => Effect.fail(new ThriftException({ exception: new Refused({ why }) }))
      )
      const exceptions = [bare, wrapped].map((exit) => {
        const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
        assert.instanceOf(error, ThriftException)
        return error.exception
      })
      assert.instanceOf(exceptions[0], Overdrawn)
      assert.strictEqual(Number(exceptions[0].missing), 5)
      assert.instanceOf(exceptions[1], Refused)
      assert.strictEqual(exceptions[1].why, "no")
    }))

  it.effect("ends in any other way is an internal error, with the kind and the words of it", () =>
    Effect.gen(function*() {
      class Plain extends Data.TaggedClass("Plain")<{ readonly secret: string }> {}
      class Tagged extends Data.TaggedError("Tagged")<{ readonly why: string }> {
        override get message(): string {
          return `because ${this.why}`
        }
      }
      const ends: ReadonlyArray<readonly [ThriftProcessor.Handler, string]> = [
        [() => Effect.fail(new Refused({ why: "declared by another method" })), "Refused"],
        [() => Effect.fail(new Tagged({ why: "not" })), "Tagged: because not"],
        [() => Effect.fail(new Plain({ secret: "kept" })), "Plain"],
        [() => Effect.fail({ some: "object" }), "Object"],
        [() => Effect.fail("words"), "words"],
        [() => Effect.fail(undefined), "undefined"],
        [() => Effect.die(new TypeError("no")), "TypeError: no"],
        [() => Effect.die(new Error()), "Error"],
        [() => Effect.die(Object.create(null)), "Object"],
        [
          () => {
            throw new RangeError("thrown before there was an effect")
          },
          "RangeError: thrown before there was an effect"
        ]
      ]
      for (const [handler, text] of ends) {
        const [type, message] = applicationException(yield* reply("slow", [1], handler))
        assert.strictEqual(type, "INTERNAL_ERROR")
        assert.include(message, `Internal error processing slow: '${text}`)
      }
    }))

  it.effect("dies of a declared exception is an internal error: it did not mean it as its answer", () =>
    Effect.gen(function*() {
      const [type] = applicationException(
        yield* reply("fail", ["", new Int64(0)], () => Effect.die(new Refused({ why: "" })))
      )
      assert.strictEqual(type, "INTERNAL_ERROR")
    }))

  it.effect("gives what cannot be written is an internal error that says what", () =>
    Effect.gen(function*() {
      const symbol = applicationException(yield* reply("slow", [1], () => Effect.succeed(Symbol.iterator)))
      assert.strictEqual(symbol[0], "INTERNAL_ERROR")
      const nothing = applicationException(yield* reply("slow", [1], () => Effect.void))
      assert.include(nothing[1], "ThriftEncodeError: slow: no result to write")
      const field = applicationException(
        yield* reply("passMessage", [new Message()], () =>
          Effect.succeed(new Message({ text: "", number: new Int64(0), items: [1.5] })))
      )
      assert.include(field[1], "ThriftEncodeError")
      const exception = applicationException(
        yield* reply("fail", ["", new Int64(0)], () =>
          Effect.fail(new Overdrawn({ missing: "many" as never })))
      )
      assert.include(exception[1], "ThriftEncodeError")
    }))

  it.effect("answers after such a failure is answered whole", () =>
    Effect.gen(function*() {
      const { process } = yield* processor({ slow: (millis) => Effect.succeed(millis === 1 ? {} : "slow") })
      yield* process(call("slow", 1))
      assert.deepStrictEqual(read("slow", yield* process(call("slow", 2))), Exit.succeed("slow"))
    }))

  it.effect("fails or dies with what the wire answers leaves it to the wire", () =>
    Effect.gen(function*() {
      const busy = new Busy({ why: "full" })
      for (const refuse of [Effect.fail(busy), Effect.die(busy)]) {
        const { process } = yield* processor({ ping: () => refuse, note: () => refuse })
        assert.strictEqual(yield* Effect.flip(process(call("ping"))), busy)
        assert.strictEqual(yield* Effect.flip(process(call("note", "text"))), busy)
      }
    }))

  it.effect("fails in a oneway method is heard of, as far as the wire answers", () =>
    Effect.gen(function*() {
      const [type, message] = applicationException(yield* reply("note", ["text"], () => Effect.die(new Error("lost"))))
      assert.deepStrictEqual([type, message], ["INTERNAL_ERROR", "Internal error processing note: 'Error: lost'"])
    }))

  it.effect("ends in a way that its caller is not told in detail leaves that in the log, and nothing else does", () =>
    Effect.gen(function*() {
      const logged: Array<string> = []
      const logger = Logger.make(({ cause, logLevel, message }) => {
        logged.push(`${logLevel} ${String(message)} ${Cause.pretty(cause).split("\n")[0]}`)
      })
      const { process } = yield* processor({
        ping: () => Effect.die(new TypeError("no")),
        slow: () => Effect.void,
        fail: (why) => Effect.fail(new Refused({ why })),
        touch: () => Effect.fail(new Busy({ why: "full" })),
        echo: (message) => Effect.succeed(message)
      })
      const calls = [
        call("ping"),
        call("slow", 1),
        call("fail", "", new Int64(0)),
        call("touch", ""),
        call("echo", new Message())
      ]
      yield* Effect.forEach(calls, (body) => Effect.exit(process(body))).pipe(Effect.provide(Logger.layer([logger])))
      assert.deepStrictEqual(logged, [
        "Error Echo.ping: internal error TypeError: no",
        "Error Echo.slow: internal error ThriftEncodeError: slow: no result to write"
      ])
    }))

  it.effect("is interrupted when nobody wants its answer any more", () =>
    Effect.gen(function*() {
      let interrupted = false
      const { process } = yield* processor({
        ping: () =>
          Effect.onInterrupt(Effect.never, () =>
            Effect.sync(() => {
              interrupted = true
            }))
      })
      const fiber = yield* Effect.forkChild(process(call("ping")), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      assert.isTrue(interrupted)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
    }))

  it.effect("interrupts itself gives no answer of its own", () =>
    Effect.gen(function*() {
      const { process } = yield* processor({ ping: () => Effect.interrupt })
      assert.isTrue(Exit.hasInterrupts(yield* Effect.exit(process(call("ping")))))
    }))

  it.effect("has services, and its own object as `this`", () =>
    Effect.gen(function*() {
      class Name extends Context.Service<Name, string>()("Name") {}
      class Greeter {
        readonly greeting = "hello"
        ping() {
          return Effect.map(Name, (name) => `${this.greeting} ${name}`)
        }
      }
      const { process } = yield* processor<Name>(new Greeter())
      const answer = yield* process(call("ping")).pipe(Effect.provideService(Name, "you"))
      assert.deepStrictEqual(read("ping", answer), Exit.succeed("hello you"))
    }))
})

describe("a Thrift processor", () => {
  it.effect("serves many calls at once, each with its own arguments and its own sequence id", () =>
    Effect.gen(function*() {
      const gates = [Deferred.makeUnsafe<void>(), Deferred.makeUnsafe<void>()]
      const { process } = yield* processor({
        slow: (millis: number) => Effect.as(Deferred.await(gates[millis]!), `slow ${millis}`)
      })
      const fibers = yield* Effect.forEach([0, 1], (millis) => {
        const request = call("slow", millis)
        request[request.indexOf(7)] = 8 + millis
        return Effect.forkChild(process(request), { startImmediately: true })
      })
      for (const gate of gates.toReversed()) yield* Deferred.succeed(gate, undefined)
      const replies = yield* Effect.forEach(fibers, Fiber.join)
      assert.deepStrictEqual(
        replies.map((bytes) => {
          const reader = new BinaryReader().reset(bytes)
          return [decodeReply(Echo.definition.methods.get("slow")!, reader), reader.message.rseqid]
        }),
        [[Exit.succeed("slow 0"), 8], [Exit.succeed("slow 1"), 9]]
      )
    }))

  it.effect("gives a handler `null` for what the caller left out", () =>
    Effect.gen(function*() {
      let got: ReadonlyArray<unknown> = []
      const { process } = yield* processor({
        fail: (...args) => {
          got = args
          return Effect.void
        }
      })
      yield* process(fromHex("80010001 00000004 6661696c 00000001 00"))
      assert.deepStrictEqual(got, [null, null])
    }))

  it.effect("knows no method but those of the service", () =>
    Effect.gen(function*() {
      const { process } = yield* processor({ ping: () => Effect.succeed("pong") })
      for (const name of ["Ping", "", "constructor", "__proto__", "toString", "touch", "x".repeat(5000), "ünï"]) {
        const writer = new BinaryWriter()
        writer.writeMessageBegin(name, 1, 7)
        writer.writeFieldStop()
        const reader = new BinaryReader().reset(yield* process(writer.take()))
        const exit = decodeReply(Echo.definition.methods.get("ping")!, reader)
        assert.strictEqual(reader.message.fname, name)
        assert.deepStrictEqual(applicationException(exit), [
          "UNKNOWN_METHOD",
          `Invalid method name: '${name.slice(0, 100)}'`
        ])
      }
    }))

  it.effect("repeats no name in full, or with what would break a line, in what it says", () =>
    Effect.gen(function*() {
      const ask = (name: string, limits = {}) =>
        Effect.gen(function*() {
          const { process } = yield* processor({ ping: () => Effect.succeed("pong") }, { limits })
          const writer = new BinaryWriter()
          writer.writeMessageBegin(name, 1, 7)
          writer.writeFieldStop()
          const request = writer.take()
          const reader = new BinaryReader().reset(yield* process(request))
          const exit = decodeReply(Echo.definition.methods.get("ping")!, reader)
          assert.strictEqual(reader.message.rseqid, 7)
          return { fname: reader.message.fname, length: request.length, said: applicationException(exit) }
        })
      const broken = yield* ask("a\r\nb\u001b[31m\u0085\u2028\0")
      assert.deepStrictEqual(broken.said, [
        "UNKNOWN_METHOD",
        "Invalid method name: 'a\ufffd\ufffdb\ufffd[31m\ufffd\ufffd\ufffd'"
      ])
      assert.strictEqual(broken.fname, "a\r\nb\u001b[31m\u0085\u2028\0")
      const name = "n".repeat(12_000_000)
      const said = ["UNKNOWN_METHOD", `Invalid method name: '${"n".repeat(100)}'`]
      const whole = yield* ask(name)
      assert.deepStrictEqual([whole.fname.length, whole.said], [12_000_000, said])
      // No room for the name and what is said: the reply is to the name as it is shown.
      const cut = yield* ask(name, { maxMessageBytes: whole.length })
      assert.deepStrictEqual([cut.fname, cut.said], ["n".repeat(100), said])
      // Between the halves of a character.
      assert.strictEqual(
        (yield* ask(`${"n".repeat(99)}\u{1f600}`)).said[1],
        `Invalid method name: '${"n".repeat(99)}\ufffd'`
      )
    }))

  it.effect("leaves an answer to the wire that its limits have no room for", () =>
    Effect.gen(function*() {
      const { process } = yield* processor({}, { limits: { maxMessageBytes: 40 } })
      const error = yield* Effect.flip(process(call("ping")))
      assert.instanceOf(error, ThriftProtocolError)
      assert.strictEqual(error.reason, "SizeLimit")
    }))

  it.effect("leaves to the wire what is no Thrift call, or ends too early", () =>
    Effect.gen(function*() {
      const { process } = yield* processor({ ping: () => Effect.succeed("pong"), touch: () => Effect.void })
      const requests: ReadonlyArray<readonly [string, string]> = [
        ["", "Truncated"],
        [Buffer.from("hello").toString("hex"), "SizeLimit"],
        [Buffer.from("\0\0\0\x10hello").toString("hex"), "Truncated"],
        ["80020001 00000004 70696e67 00000001 00", "BadVersion"],
        ["80010001 ffffffff 70696e67 00000001 00", "NegativeSize"],
        ["80010002 00000004 70696e67 00000001 00", "UnexpectedMessage"],
        ["80010001 00000004 70696e67 00000001", "Truncated"],
        ["80010001 00000005 746f756368 00000001 0b0001 00000009 6b", "Truncated"]
      ]
      for (const [request, reason] of requests) {
        const error = yield* Effect.flip(process(fromHex(request)))
        assert.instanceOf(error, ThriftProtocolError)
        assert.strictEqual(error.reason, reason)
      }
    }))

  it.effect("answers arguments that are not what they should be with a protocol error", () =>
    Effect.gen(function*() {
      const { process } = yield* processor({ touch: () => Effect.void })
      for (const args of ["0b0001 ffffffff 6b 00", "63 0001 00"]) {
        const answer = yield* process(fromHex(`80010001 00000005 746f756368 00000007 ${args}`))
        assert.strictEqual(applicationException(read("touch", answer))[0], "PROTOCOL_ERROR")
      }
    }))

  it.effect("holds requests and replies to its limits", () =>
    Effect.gen(function*() {
      const { process } = yield* processor(
        { touch: () => Effect.void, slow: () => Effect.succeed("x".repeat(200)) },
        { limits: { maxStringBytes: 150 } }
      )
      const request = applicationException(read("touch", yield* process(call("touch", "x".repeat(200)))))
      assert.strictEqual(request[0], "PROTOCOL_ERROR")
      const answer = applicationException(read("slow", yield* process(call("slow", 1))))
      assert.strictEqual(answer[0], "INTERNAL_ERROR")
      const whole = yield* processor({ touch: () => Effect.void }, { limits: { maxMessageBytes: 100 } })
      const error = yield* Effect.flip(whole.process(call("touch", "x".repeat(200))))
      assert.strictEqual((error as ThriftProtocolError).reason, "SizeLimit")
    }))

  it.effect("checks its limits when it is made", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(processor({}, { limits: { maxDepth: -1 } }))
      assert.instanceOf(error, InvalidOption)
      assert.strictEqual(error.option, "thrift.maxDepth")
    }))
})

it("numbers application exceptions as the specification does", () => {
  assert.deepStrictEqual(
    [
      ApplicationExceptionType.UNKNOWN_METHOD,
      ApplicationExceptionType.INTERNAL_ERROR,
      ApplicationExceptionType.PROTOCOL_ERROR
    ],
    [1, 6, 7]
  )
})
