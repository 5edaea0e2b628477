// Ours and npm's thrift read what the other wrote: structs of every type, and whole calls over its framed and buffered transports.
import { createRequire } from "node:module"
import { Cause, Exit } from "effect"
import { assert, describe, it } from "vitest"
import {
  BinaryReader,
  BinaryWriter,
  decodeReply,
  encodeApplicationException,
  ThriftApplicationException,
  type ThriftException
} from "../src/index.ts"
import { type Compiled, compilers, methodOf, plain, readStruct, samples, writeStruct } from "./generated.ts"

const thrift = createRequire(import.meta.url)("thrift")

/** npm's writer: hands out the bytes, without the length that the framed transport puts before them. */
const writtenByApache = (write: (protocol: any) => void, Transport = thrift.TBufferedTransport): Buffer => {
  const parts: Array<Buffer> = []
  const transport = new Transport(undefined, (bytes: Buffer) => parts.push(bytes))
  const protocol = new thrift.TBinaryProtocol(transport)
  write(protocol)
  protocol.flush()
  const bytes = parts[0]!
  if (Transport === thrift.TBufferedTransport) return bytes
  assert.strictEqual(bytes.readInt32BE(), bytes.length - 4)
  return bytes.subarray(4)
}

const apacheReader = (bytes: Buffer): any => new thrift.TBinaryProtocol(new thrift.TFramedTransport(bytes))

const writtenByUs = (write: (writer: BinaryWriter) => void): Buffer => {
  const writer = new BinaryWriter()
  write(writer)
  return writer.take()
}

/** Of the samples, those that npm's library writes wrongly are changed: it makes hexadecimal of i64 map keys, and true of every bool key. */
const structs = (compiled: Compiled): ReadonlyArray<[string, any]> => {
  const { bytes: _, containers, ...values } = samples(compiled)
  containers.byId = {}
  const t = compiled.types
  return [
    ["Scalars", values["scalars"]],
    ["Scalars", new t.Scalars()],
    ["Presence", values["presence"]],
    ["Containers", containers],
    ["Tree", values["tree"]],
    ["Choice", values["choice"]],
    ["Empties", values["empties"]],
    ["Denied", new t.Denied({ key: "k" })],
    ["Broken", new t.Broken({ code: 1, detail: values["scalars"] })]
  ]
}

describe.each(compilers)("structs of compiler $compiler", (compiled) => {
  it("are the same bytes from both libraries, and each reads them", () => {
    for (const [name, value] of structs(compiled)) {
      const ours = writtenByUs((writer) => writeStruct(value, writer))
      const theirs = writtenByApache((protocol) => writeStruct(value, protocol))
      assert.strictEqual(ours.toString("hex"), theirs.toString("hex"), name)
      const readByUs = readStruct(new compiled.types[name](), new BinaryReader().reset(theirs))
      const readByThem = readStruct(new compiled.types[name](), apacheReader(ours))
      assert.deepStrictEqual(plain(readByUs), plain(value), name)
      assert.deepStrictEqual(plain(readByThem), plain(value), name)
    }
  })

  it("with long strings and binaries cross over too", () => {
    const { Scalars } = compiled.types
    for (const text of ["a".repeat(100_000), "é".repeat(3000), "👋".repeat(500)]) {
      const value = new Scalars({ text, bytes: Buffer.from(text) })
      const ours = writtenByUs((writer) => writeStruct(value, writer))
      assert.isTrue(ours.equals(writtenByApache((protocol) => writeStruct(value, protocol))))
      assert.deepStrictEqual(plain(readStruct(new Scalars(), apacheReader(ours))), plain(value))
    }
  })
})

describe.each(compilers)("calls of compiler $compiler", (compiled) => {
  const { EchoModule, WideModule, echo, i64, types, wide } = compiled
  const writer = new BinaryWriter()
  const reader = new BinaryReader()

  /** A call by the generated client over npm's framed transport; its bytes, and what it makes of a reply. */
  const apacheCall = (Module: any, method: string, args: ReadonlyArray<unknown>) => {
    let frame: Buffer = Buffer.alloc(0)
    const transport = new thrift.TFramedTransport(undefined, (bytes: Buffer) => {
      frame = bytes.subarray(4)
    })
    const client = new Module.Client(transport, thrift.TBinaryProtocol)
    const outcome: Promise<unknown> = client[method](...args)
    return {
      frame,
      outcome,
      receive: (reply: Buffer) => {
        const protocol = apacheReader(reply)
        const header = protocol.readMessageBegin()
        client[`recv_${header.fname}`](protocol, header.mtype, header.rseqid)
      }
    }
  }

  it("of npm's client are answered by ours, with every type", async () => {
    for (const [name, value] of Object.entries(samples(compiled))) {
      if (name === "containers") value.byId = {}
      const method = methodOf(wide, name)
      const { frame, outcome, receive } = apacheCall(WideModule, name, [value])
      const header = reader.reset(frame).readMessageBegin()
      assert.strictEqual(header.fname, name)
      const [argument] = method.decodeArguments(reader)
      assert.deepStrictEqual(plain(argument), plain(value))
      method.encodeResult(header.rseqid, argument, writer)
      receive(writer.take())
      assert.deepStrictEqual(plain(await outcome), plain(value))
    }
  })

  it("of npm's client end with our exceptions, declared or not", async () => {
    const method = methodOf(echo, "fail")
    const declared = apacheCall(EchoModule, "fail", ["no", i64(3n)])
    const { rseqid } = reader.reset(declared.frame).readMessageBegin()
    assert.deepStrictEqual(plain(method.decodeArguments(reader)), ["no", 3n])
    assert.isTrue(method.encodeException(rseqid, new types.Overdrawn({ missing: i64(3n) }), writer))
    declared.receive(writer.take())
    const overdrawn: any = await declared.outcome.catch((error) => error)
    assert.isTrue(overdrawn instanceof types.Overdrawn)
    assert.strictEqual(plain(overdrawn.missing), 3n)

    const undeclared = apacheCall(EchoModule, "fail", ["no", i64(0n)])
    encodeApplicationException("fail", 1, new ThriftApplicationException({ type: 6, message: "boom" }), writer)
    undeclared.receive(writer.take())
    const error: any = await undeclared.outcome.catch((error) => error)
    assert.deepInclude(error, { type: 6, message: "boom" })
  })

  it("of ours are answered by npm's processor", () => {
    const handler = {
      passMessage: (message: any, done: (error: unknown, value?: unknown) => void) => done(null, message),
      fail: (why: string, missing: any, done: (error: unknown) => void) =>
        done(plain(missing) === 0n ? new types.Refused({ why }) : new types.Overdrawn({ missing })),
      crash: (why: string, done: (error: unknown) => void) => done(new Error(why)),
      touch: (_: string, done: (error: unknown) => void) => done(null)
    }
    const answered = (name: string, args: ReadonlyArray<unknown>, service = echo) => {
      const method = methodOf(service, name)
      method.encodeCall(5, args, writer)
      const reply = writtenByApache(
        (protocol) => new EchoModule.Processor(handler).process(apacheReader(writer.take()), protocol),
        thrift.TFramedTransport
      )
      return decodeReply(method, reader.reset(reply))
    }
    const failure = (name: string, args: ReadonlyArray<unknown>, service = echo): any => {
      const exit = answered(name, args, service)
      return Exit.isFailure(exit) ? Cause.squash(exit.cause) : assert.fail("it succeeded")
    }
    const message = new types.Message({ text: "hi", number: i64(-1n), items: [1] })
    assert.deepStrictEqual(answered("passMessage", [message]), Exit.succeed(message))
    assert.deepStrictEqual(reader.message, { fname: "passMessage", mtype: 2, rseqid: 5 })
    assert.deepStrictEqual(answered("touch", ["k"]), Exit.void)
    const refused: ThriftException<any> = failure("fail", ["no", i64(0n)])
    assert.isTrue(refused.exception instanceof types.Refused)
    const overdrawn: ThriftException<any> = failure("fail", ["no", i64(7n)])
    assert.strictEqual(plain(overdrawn.exception.missing), 7n)
    const crash: ThriftApplicationException = failure("crash", ["oops"])
    assert.deepInclude([crash._tag, crash.message], "oops")
    assert.strictEqual(failure("medium", [1], wide).message, "Unknown function medium")
  })
})
