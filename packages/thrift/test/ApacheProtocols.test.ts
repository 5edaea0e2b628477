// npm's thrift reads what our compact and JSON protocols wrote, and the other way: structs of every type, and whole calls. Where its
// library is wrong, ours is right, and reads what it writes.
import { createRequire } from "node:module"
import { Cause, Exit } from "effect"
import { assert, describe, it } from "vitest"
import {
  decodeReply,
  encodeApplicationException,
  fromGenerated,
  Protocols,
  ThriftApplicationException,
  type ThriftException
} from "../src/index.ts"
import { type Compiled, compilers, methodOf, plain, readStruct, samples, writeStruct } from "./generated.ts"

const require = createRequire(import.meta.url)
const thrift = require("thrift")

const both = [
  { protocol: Protocols.compact, Theirs: thrift.TCompactProtocol },
  { protocol: Protocols.json, Theirs: thrift.TJSONProtocol }
]
const cases = both.flatMap((one) =>
  compilers.map((compiled) => ({ ...one, compiled, name: `${one.protocol.name}, compiler ${compiled.compiler}` }))
)

/** What npm's writer writes. */
const writtenByApache = (Theirs: any, write: (protocol: any) => void): Buffer => {
  const parts: Array<Buffer> = []
  const protocol = new Theirs(new thrift.TBufferedTransport(undefined, (bytes: Buffer) => parts.push(bytes)))
  write(protocol)
  protocol.flush()
  return Buffer.concat(parts)
}

const apacheReader = (Theirs: any, bytes: Uint8Array): any => new Theirs(new thrift.TFramedTransport(bytes))

/** A struct as a whole reply, since npm's JSON reads nothing less. */
const reply = (value: any) => (protocol: any) => {
  protocol.writeMessageBegin("m", 2, 7)
  writeStruct(value, protocol)
  protocol.writeMessageEnd()
}

const readReply = (empty: any, protocol: any): any => {
  const { fname, mtype, rseqid } = protocol.readMessageBegin()
  assert.deepStrictEqual([fname, mtype, rseqid], ["m", 2, 7])
  const read = readStruct(empty, protocol)
  protocol.readMessageEnd()
  return read
}

/** Values that npm's library gets right; `containers` with what it gets wrong as a map key or an element left out. */
const structs = (compiled: Compiled): ReadonlyArray<[string, any]> => {
  const { containers, ...values } = samples(compiled)
  const { types: t } = compiled
  return [
    ["Scalars", values["scalars"]],
    ["Scalars", new t.Scalars()],
    ["Presence", values["presence"]],
    [
      "Containers",
      Object.assign(containers, { flags: [], byFlag: {}, byId: {}, ids: [compiled.i64(0n)], reals: [0.1, -1e300] })
    ],
    ["Tree", values["tree"]],
    ["Choice", values["choice"]],
    ["Empties", values["empties"]],
    ["Denied", new t.Denied({ key: "k" })],
    ["Broken", new t.Broken({ code: 1, detail: values["scalars"] })]
  ]
}

describe.each(cases)("structs in $name", ({ Theirs, compiled, protocol }) => {
  const reader = protocol.reader()
  const writer = protocol.writer()
  const { types } = compiled
  const ours = (value: any): Uint8Array => {
    writer.reset()
    reply(value)(writer)
    return writer.take()
  }

  it("are the same bytes from both libraries, and each reads them", () => {
    for (const [name, value] of structs(compiled)) {
      const bytes = ours(value)
      assert.strictEqual(
        Buffer.from(bytes).toString("latin1"),
        writtenByApache(Theirs, reply(value)).toString("latin1")
      )
      assert.deepStrictEqual(plain(readReply(new types[name](), reader.reset(bytes))), plain(value), name)
      assert.deepStrictEqual(plain(readReply(new types[name](), apacheReader(Theirs, bytes))), plain(value), name)
    }
  })

  it("with long strings and binaries cross over too", () => {
    const { Scalars } = types
    for (const text of ["a".repeat(10_000), "é".repeat(3000), "\"\\\n".repeat(500), "👋".repeat(500)]) {
      const value = new Scalars({ text, bytes: Buffer.from(text) })
      const bytes = ours(value)
      assert.isTrue(writtenByApache(Theirs, reply(value)).equals(bytes))
      assert.deepStrictEqual(plain(readReply(new Scalars(), apacheReader(Theirs, bytes))), plain(value))
    }
  })

  it("as npm's library writes them are read, whatever is odd about them", () => {
    const { containers } = samples(compiled)
    containers.byId = {}
    containers.reals = [NaN, Infinity, -Infinity, 0.5]
    const read = readReply(new types.Containers(), reader.reset(writtenByApache(Theirs, reply(containers))))
    assert.deepStrictEqual(plain(read), plain(containers))
  })
})

describe.each(cases)("calls in $name", ({ Theirs, compiled, protocol }) => {
  const { EchoModule, WideModule, echo, i64, types, wide } = compiled
  const reader = protocol.reader()
  const writer = protocol.writer()

  /** A call by the generated client; its bytes, and what it makes of a reply. */
  const apacheCall = (Module: any, method: string, args: ReadonlyArray<unknown>) => {
    let frame: Buffer = Buffer.alloc(0)
    const transport = new thrift.TFramedTransport(undefined, (bytes: Buffer) => {
      frame = bytes.subarray(4)
    })
    const client = new Module.Client(transport, Theirs)
    const outcome: Promise<unknown> = client[method](...args)
    return {
      frame,
      outcome,
      receive: (bytes: Uint8Array) => {
        const input = apacheReader(Theirs, bytes)
        const header = input.readMessageBegin()
        client[`recv_${header.fname}`](input, header.mtype, header.rseqid)
      }
    }
  }

  it("of npm's client are answered by ours", async () => {
    const { scalars, text, tree, unique } = samples(compiled)
    for (const [name, value] of Object.entries({ scalars, text, tree, unique })) {
      const method = methodOf(wide, name)
      const { frame, outcome, receive } = apacheCall(WideModule, name, [value])
      const header = reader.reset(frame).readMessageBegin()
      assert.deepStrictEqual([header.fname, header.mtype], [name, 1])
      const [argument] = method.decodeArguments(reader)
      assert.deepStrictEqual(plain(argument), plain(value))
      method.encodeResult(header.rseqid, argument, writer)
      receive(writer.take())
      assert.deepStrictEqual(plain(await outcome), plain(value))
    }
    const declared = apacheCall(EchoModule, "fail", ["no", i64(3n)])
    const { rseqid } = reader.reset(declared.frame).readMessageBegin()
    assert.isTrue(methodOf(echo, "fail").encodeException(rseqid, new types.Refused({ why: "no" }), writer))
    declared.receive(writer.take())
    assert.isTrue(await declared.outcome.catch((error) => error instanceof types.Refused))
    const unknown = apacheCall(EchoModule, "fail", ["no", i64(0n)])
    encodeApplicationException("fail", 1, new ThriftApplicationException({ type: 6, message: "boom" }), writer)
    unknown.receive(writer.take())
    assert.deepInclude(await unknown.outcome.catch((error) => error), { type: 6, message: "boom" })
  })

  it("of ours are answered by npm's processor", () => {
    const handler = {
      passMessage: (message: any, done: (error: unknown, value?: unknown) => void) => done(null, message),
      fail: (why: string, _: unknown, done: (error: unknown) => void) => done(new types.Refused({ why })),
      touch: (_: string, done: (error: unknown) => void) => done(null)
    }
    const answered = (name: string, args: ReadonlyArray<unknown>, service = echo) => {
      const method = methodOf(service, name)
      method.encodeCall(5, args, writer)
      const call = writer.take()
      const bytes = writtenByApache(
        Theirs,
        (output) => new EchoModule.Processor(handler).process(apacheReader(Theirs, call), output)
      )
      return decodeReply(method, reader.reset(bytes))
    }
    const failure = (exit: Exit.Exit<unknown, unknown>): any =>
      Exit.isFailure(exit) ? Cause.squash(exit.cause) : assert.fail("it succeeded")
    const message = new types.Message({ text: "hi", number: i64(1n), items: [1, -1] })
    assert.deepStrictEqual(answered("passMessage", [message]), Exit.succeed(message))
    assert.deepStrictEqual(reader.message, { fname: "passMessage", mtype: 2, rseqid: 5 })
    assert.deepStrictEqual(answered("touch", ["k"]), Exit.void)
    const refused: ThriftException<any> = failure(answered("fail", ["no", i64(0n)]))
    assert.isTrue(refused.exception instanceof types.Refused && refused.exception.why === "no")
    assert.strictEqual(failure(answered("medium", [1], wide)).message, "Unknown function medium")
  })
})

describe.each([...both, { protocol: Protocols.binary, Theirs: thrift.TBinaryProtocol }])(
  "uuids in $protocol.name",
  ({ Theirs, protocol }) => {
    it.each(["gen24", "gen24bigint"])("of %s are written and read as npm's library does", (folder) => {
      const { Named } = require(`./${folder}/uuid_types.js`)
      const id = "00112233-4455-4677-8899-aabbccddeeff"
      const value = new Named({ id, more: [id], names: { [id]: "a" } })
      const writer = protocol.writer()
      const named = methodOf(fromGenerated(require(`./${folder}/Uuids.js`)), "named")
      named.encodeResult(1, value, writer)
      assert.deepStrictEqual(
        plain(decodeReply(named, protocol.reader().reset(writer.take()))),
        plain(Exit.succeed(value))
      )
      reply(value)(writer)
      const bytes = writer.take()
      assert.isTrue(writtenByApache(Theirs, reply(value)).equals(bytes))
      assert.deepStrictEqual(plain(readReply(new Named(), apacheReader(Theirs, bytes))), plain(value))
    })
  }
)

describe("where npm's library is wrong", () => {
  it("JSON: -0 loses its sign, NaN and infinities are not quoted; ours are right", () => {
    const { types } = compilers[0]!
    const value = new types.Containers({ reals: [-0, NaN, Infinity, -Infinity] })
    const writer = Protocols.json.writer()
    writeStruct(value, writer)
    assert.strictEqual(
      Buffer.from(writer.take()).toString(),
      `{"12":{"lst":["dbl",4,-0.0,"NaN","Infinity","-Infinity"]}}`
    )
    assert.include(
      writtenByApache(thrift.TJSONProtocol, reply(value)).toString(),
      `["dbl",4,0,NaN,Infinity,-Infinity]`
    )
  })

  it("JSON: a small negative i64 has zeros before its digits; ours has none, and reads them", () => {
    const { i64, types } = compilers[0]!
    const value = new types.Containers({ more: [i64(-1n)] })
    const bytes = writtenByApache(thrift.TJSONProtocol, reply(value))
    assert.include(bytes.toString(), `["i64",1,-000000000001]`)
    assert.deepStrictEqual(plain(readReply(new types.Containers(), Protocols.json.reader().reset(bytes)).more), [-1n])
    const writer = Protocols.json.writer()
    writeStruct(value, writer)
    assert.include(Buffer.from(writer.take()).toString(), `["i64",1,-1]`)
  })

  it("compact: it reads every bool of a container as false, and -0 loses its sign; ours are right", () => {
    const { types } = compilers[0]!
    const writer = Protocols.compact.writer()
    const value = new types.Containers({ flags: [true, false], reals: [-0] })
    reply(value)(writer)
    const bytes = writer.take()
    assert.deepStrictEqual(readReply(new types.Containers(), apacheReader(thrift.TCompactProtocol, bytes)).flags, [
      false,
      false
    ])
    const read = readReply(new types.Containers(), Protocols.compact.reader().reset(bytes))
    assert.deepStrictEqual(read.flags, [true, false])
    assert.deepStrictEqual(read.reals, [-0])
    const theirs = readReply(
      new types.Containers(),
      Protocols.compact.reader().reset(writtenByApache(thrift.TCompactProtocol, reply(value)))
    )
    assert.deepStrictEqual(theirs.reals, [0])
  })
})
