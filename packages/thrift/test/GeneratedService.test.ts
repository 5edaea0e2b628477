// Services from the modules that both of Apache's compilers write: every message to the byte, and every way a call can end.
import { Cause, Effect, Exit } from "effect"
import { assert, describe, it } from "vitest"
import {
  ApplicationExceptionType,
  BinaryReader,
  BinaryWriter,
  decodeReply,
  encodeApplicationException,
  fromGenerated,
  type MethodDefinition,
  type Reply,
  ThriftApplicationException,
  ThriftEncodeError,
  ThriftException,
  ThriftProtocolError
} from "../src/index.ts"
import * as UuidsGen from "./gen24/Uuids.js"
import * as uuidTypes from "./gen24/uuid_types.js"
import { type Compiled, compilers, methodOf, plain, samples } from "./generated.ts"

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ""), "hex")

const writer = new BinaryWriter()
const reader = new BinaryReader()

const call = (method: MethodDefinition, args: ReadonlyArray<unknown>, sequenceId = 0): Buffer => {
  method.encodeCall(sequenceId, args, writer)
  return writer.take()
}
const result = (method: MethodDefinition, value: unknown, sequenceId = 0): Buffer => {
  method.encodeResult(sequenceId, value, writer)
  return writer.take()
}
const argumentsOf = (method: MethodDefinition, message: Uint8Array): Array<unknown> => {
  reader.reset(message).readMessageBegin()
  return method.decodeArguments(reader)
}
const replyOf = (method: MethodDefinition, message: Uint8Array): Reply => decodeReply(method, reader.reset(message))

const failureOf = (reply: Reply): unknown => {
  assert.isTrue(Exit.isFailure(reply))
  return Exit.isFailure(reply) ? Cause.squash(reply.cause) : undefined
}
const thrown = (f: () => unknown): unknown => {
  try {
    f()
  } catch (error) {
    return error
  }
  return assert.fail("nothing was thrown")
}

/** What Finagle 22.7 was sent and what it answered. */
const echoBody = `0c0001 0b0001 00000017 68656c6c6f20776f726c642068656c6c6f20776f726c64 0a0002 000000000000000c
  0f0003 08 00000004 00000001 00000002 00000003 00000004 00 00`
const echoCall = hex(`80010001 00000004 6563686f 00000001 ${echoBody}`)
const echoReply = hex(`80010002 00000004 6563686f 00000000 ${echoBody.replace("0c0001", "0c0000")}`)
const failReply = hex("80010002 00000004 6661696c 00000001 0c0001 0b0001 00000003 776879 0000")
const crashReply = hex(`80010003 00000005 6372617368 00000001 0b0001 00000048
  496e7465726e616c206572726f722070726f63657373696e672063726173683a20276a6176612e6c616e672e496c6c6567616c53746174
  65457863657074696f6e3a206f6f707327 080002 00000006 00`)

const message = ({ i64, types }: Compiled) =>
  new types.Message({ text: "hello world hello world", number: i64(12n), items: [1, 2, 3, 4] })

describe.each(compilers)("a service of compiler $compiler", (compiled) => {
  const { echo, i64, types, wide } = compiled

  it("knows its methods, those it inherits, and which are oneway", () => {
    assert.strictEqual(echo.name, "Echo")
    assert.strictEqual(wide.name, "Wide")
    assert.sameMembers([...echo.methods.keys()], [
      "passMessage",
      "echo",
      "fail",
      "crash",
      "slow",
      "seen",
      "blob",
      "index",
      "note",
      "ping",
      "touch"
    ])
    assert.includeMembers([...wide.methods.keys()], ["move", "reset", "scalars", "nudge"])
    const oneway = [...echo.methods.values(), ...wide.methods.values()].filter((method) => method.oneway)
    assert.sameMembers(oneway.map((method) => method.name), ["note", "tell", "nudge"])
  })

  it("writes the call that Finagle reads, and reads it", () => {
    const method = methodOf(echo, "echo")
    assert.strictEqual(call(method, [message(compiled)], 1).toString("hex"), echoCall.toString("hex"))
    const args = argumentsOf(method, echoCall)
    assert.deepStrictEqual(args, [message(compiled)])
    assert.instanceOf(args[0], types.Message)
    assert.deepStrictEqual(reader.message, { fname: "echo", mtype: 1, rseqid: 1 })
  })

  it("writes the reply that Finagle writes, and reads it", () => {
    const method = methodOf(echo, "echo")
    assert.strictEqual(result(method, message(compiled)).toString("hex"), echoReply.toString("hex"))
    const reply = replyOf(method, echoReply)
    assert.deepStrictEqual(reply, Exit.succeed(message(compiled)))
    assert.deepStrictEqual(reader.message, { fname: "echo", mtype: 2, rseqid: 0 })
  })

  it("writes and reads a declared exception, bare or wrapped", () => {
    const method = methodOf(echo, "fail")
    const refused = new types.Refused({ why: "why" })
    for (const exception of [refused, new ThriftException({ exception: refused })]) {
      assert.isTrue(method.encodeException(1, exception, writer))
      assert.strictEqual(writer.take().toString("hex"), failReply.toString("hex"))
    }
    const failure = failureOf(replyOf(method, failReply)) as ThriftException<any>
    assert.strictEqual(failure._tag, "ThriftException")
    assert.isTrue(failure.exception instanceof types.Refused)
    assert.strictEqual(failure.exception.why, "why")
    assert.strictEqual(failure.message, "Refused")
    assert.strictEqual(Effect.runSync(Effect.flip(failure)), failure)
  })

  it("tells exceptions of one shape apart", () => {
    const method = methodOf(wide, "guarded")
    for (const name of ["Missing", "Denied"]) {
      assert.isTrue(method.encodeException(0, new types[name]({ key: "k" }), writer))
      const { exception } = failureOf(replyOf(method, writer.take())) as ThriftException<any>
      assert.isTrue(exception instanceof types[name])
      assert.deepStrictEqual(Object.keys(exception).filter((key) => key !== "name" && key !== "message"), ["key"])
    }
  })

  it("writes nothing for an exception that the method does not declare", () => {
    const method = methodOf(wide, "quiet")
    const undeclared = [new types.Missing({ key: "k" }), new Error("oops"), { message: 1 }, "oops", undefined, null]
    for (const exception of undeclared) {
      assert.isFalse(method.encodeException(0, exception, writer))
      assert.strictEqual(writer.take().length, 0)
    }
    assert.isFalse(methodOf(echo, "ping").encodeException(0, new Error("oops"), writer))
    assert.isFalse(methodOf(echo, "note").encodeException(0, new Error("oops"), writer))
  })

  it("reads the application exception that Finagle writes, and writes one", () => {
    const failure = failureOf(replyOf(methodOf(echo, "crash"), crashReply)) as ThriftApplicationException
    assert.instanceOf(failure, ThriftApplicationException)
    assert.strictEqual(failure.type, ApplicationExceptionType.INTERNAL_ERROR)
    assert.strictEqual(failure.typeName, "INTERNAL_ERROR")
    assert.strictEqual(
      failure.message,
      "Internal error processing crash: 'java.lang.IllegalStateException: oops'"
    )
    encodeApplicationException("crash", 1, failure, writer)
    assert.strictEqual(writer.take().toString("hex"), crashReply.toString("hex"))
  })

  it("writes and reads calls and replies without content", () => {
    const ping = methodOf(echo, "ping")
    assert.strictEqual(call(ping, []).toString("hex"), "800100010000000470696e670000000000")
    assert.deepStrictEqual(argumentsOf(ping, call(ping, [])), [])
    const touch = methodOf(echo, "touch")
    assert.strictEqual(result(touch, undefined).toString("hex"), "8001000200000005746f7563680000000000")
    assert.deepStrictEqual(replyOf(touch, result(touch, "ignored")), Exit.void)
    assert.deepStrictEqual(argumentsOf(touch, call(touch, ["k"])), ["k"])
  })

  it("writes oneway calls, which have no reply", () => {
    const note = methodOf(echo, "note")
    assert.strictEqual(call(note, ["hi"], 3).toString("hex"), "80010004000000046e6f7465000000030b000100000002686900")
    assert.deepStrictEqual(argumentsOf(note, call(note, ["hi"])), ["hi"])
    assert.deepStrictEqual(argumentsOf(methodOf(wide, "nudge"), call(methodOf(wide, "nudge"), [])), [])
    note.encodeResult(0, undefined, writer)
    assert.strictEqual(writer.take().length, 0)
  })

  it("hands over results that are falsy, and null for arguments that were not sent", () => {
    for (const [name, value] of [["flag", false], ["medium", 0], ["text", ""], ["real", -0]] as const) {
      const method = methodOf(wide, name)
      assert.deepStrictEqual(replyOf(method, result(method, value)), Exit.succeed(value))
    }
    const sum = methodOf(wide, "sum")
    assert.deepStrictEqual(argumentsOf(sum, call(sum, [1, undefined])), [1, null, null])
  })

  it("says MISSING_RESULT for a reply in which nothing is set, and writes none", () => {
    const seen = methodOf(echo, "seen")
    const failure = failureOf(
      replyOf(seen, hex("80010002 00000004 7365656e 00000000 00"))
    ) as ThriftApplicationException
    assert.strictEqual(failure.typeName, "MISSING_RESULT")
    for (const nothing of [undefined, null]) {
      const error = thrown(() => result(seen, nothing))
      assert.instanceOf(error, ThriftEncodeError)
      assert.strictEqual(error.reason, "MissingResult")
    }
  })

  it("refuses a reply that is no reply", () => {
    const method = methodOf(echo, "echo")
    const failure = failureOf(replyOf(method, echoCall)) as ThriftProtocolError
    assert.instanceOf(failure, ThriftProtocolError)
    assert.strictEqual(failure.reason, "UnexpectedMessage")
  })

  it("reads past fields and types that it does not know", () => {
    const method = methodOf(echo, "passMessage")
    const reply = hex(`80010002 00000001 78 00000000
      0c0000 0b0009 00000001 61 0a0001 0000000000000001 0b0001 00000002 6869 0d0063 0b0c 00000001 00000001 6b 00 00
      0f0064 0b 00000000 00`)
    assert.deepStrictEqual(replyOf(method, reply), Exit.succeed(new types.Message({ text: "hi" })))
  })

  it("carries every type there and back, at its limits", () => {
    for (const [name, value] of Object.entries(samples(compiled))) {
      const method = methodOf(wide, name)
      assert.deepStrictEqual(plain(argumentsOf(method, call(method, [value]))), plain([value]), `argument of ${name}`)
      const reply = replyOf(method, result(method, value))
      assert.deepStrictEqual(plain(Exit.isSuccess(reply) ? reply.value : reply), plain(value), `result of ${name}`)
    }
  })

  it("keeps every digit of an i64, as a value and as a map key", () => {
    const large = methodOf(wide, "large")
    for (const value of [0n, -1n, 2n ** 53n, 2n ** 53n + 1n, -(2n ** 53n) - 1n, 2n ** 63n - 1n, -(2n ** 63n)]) {
      assert.deepStrictEqual(plain(argumentsOf(large, call(large, [i64(value)]))), [value])
    }
    const byId = { "9007199254740993": "a", "9007199254740995": "b", "-9223372036854775808": "c" }
    const containers = methodOf(wide, "containers")
    const [read] = argumentsOf(containers, call(containers, [new types.Containers({ byId })])) as [any]
    assert.deepStrictEqual(read.byId, byId)
    const again = replyOf(containers, result(containers, read))
    assert.deepStrictEqual(Exit.isSuccess(again) && (again.value as any).byId, byId)
  })

  it("turns what generated code throws into an encode error, and the next message is untouched", () => {
    const cyclic = new types.Tree({ value: 1 })
    cyclic.left = cyclic
    let deep = new types.Tree({ value: 0 })
    for (let i = 0; i < 70; i++) {
      const parent = new types.Tree({ value: i })
      parent.left = deep
      deep = parent
    }
    const bad: ReadonlyArray<[string, unknown, string]> = [
      ["presence", {}, "InvalidStruct"],
      ["tree", cyclic, "InvalidStruct"],
      ["tree", deep, "DepthLimit"],
      ["medium", 2 ** 31, "InvalidValue"],
      ["scalars", new types.Scalars({ small: 1.5 }), "InvalidValue"],
      ["text", 3, "InvalidValue"]
    ]
    for (const [name, value, reason] of bad) {
      const method = methodOf(wide, name)
      for (const encode of [() => call(method, [value]), () => result(method, value)]) {
        const error = thrown(encode)
        assert.instanceOf(error, ThriftEncodeError, name)
        assert.strictEqual(error.reason, reason, `${name}: ${error.message}`)
        assert.strictEqual(writer.take().length, 0)
      }
    }
    assert.strictEqual(call(methodOf(echo, "echo"), [message(compiled)], 1).toString("hex"), echoCall.toString("hex"))
  })

  it("takes plain objects where the IDL has a struct", () => {
    const method = methodOf(echo, "echo")
    const { items, number, text } = message(compiled)
    assert.strictEqual(call(method, [{ items, number, text }], 1).toString("hex"), echoCall.toString("hex"))
  })

  it("captures no stack trace for what it makes of a reply, and leaves the limit as it was", () => {
    const limit = Error.stackTraceLimit
    const failure = failureOf(replyOf(methodOf(echo, "fail"), failReply)) as ThriftException<Error>
    assert.notInclude(failure.stack, "    at ")
    assert.notInclude(failure.exception.stack, "    at ")
    assert.strictEqual(Error.stackTraceLimit, limit)
  })
})

describe("what only compiler 0.24 knows", () => {
  it("writes and reads uuids, as values, in lists and as map keys", () => {
    const uuids = fromGenerated(UuidsGen)
    const id = "00112233-4455-6677-8899-aabbccddeeff"
    const next = methodOf(uuids, "next")
    assert.strictEqual(
      call(next, [id]).toString("hex"),
      "80010001000000046e65787400000000100001" + id.replaceAll("-", "") + "00"
    )
    assert.deepStrictEqual(replyOf(next, result(next, id)), Exit.succeed(id))
    const named = methodOf(uuids, "named")
    const value = new uuidTypes.Named({ id, more: [id, id], names: { [id]: "one" } })
    assert.deepStrictEqual(argumentsOf(named, call(named, [value])), [value])
  })
})
