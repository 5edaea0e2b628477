// Several services on one connection: whose call it is stands before the method's name, and replies carry the method's name alone.
import { createRequire } from "node:module"
import { InvalidOption, Stack, Stacks, wire } from "@scales-rpc/core"
import { ScriptedSink } from "@scales-rpc/core/testing"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, Layer } from "effect"
import Int64 from "node-int64"
import {
  decodeReply,
  encodeApplicationException,
  MessageType,
  Multiplexed,
  type Protocol,
  Protocols,
  Thrift,
  ThriftApplicationException,
  ThriftProcessor,
  ThriftService
} from "../src/index.ts"
import * as EchoGen from "./gen24/Echo.js"
import { Message } from "./gen24/echo_types.js"
import * as HealthGen from "./gen24/Health.js"
import { compilers, methodOf } from "./generated.ts"

const thrift = createRequire(import.meta.url)("thrift")

class Echo extends ThriftService<Echo>()("Echo", EchoGen) {}
class Health extends ThriftService<Health>()("Health", HealthGen) {}
const Bytes = wire<Thrift.ThriftRequest, Thrift.ThriftResponse>()("Bytes")
const protocols = [Protocols.binary, Protocols.binaryOld, Protocols.compact, Protocols.json]
const { echo } = compilers[1]!

describe("the name of a call", () => {
  it("is the service's and the method's, with a colon between them", () => {
    assert.strictEqual(Multiplexed.prefixed("Echo", "ping"), "Echo:ping")
    assert.deepStrictEqual(Multiplexed.split("Echo:ping"), { service: "Echo", method: "ping" })
    assert.deepStrictEqual(Multiplexed.split("ping"), { service: undefined, method: "ping" })
    assert.deepStrictEqual(Multiplexed.split(":ping"), { service: "", method: "ping" })
    assert.deepStrictEqual(Multiplexed.split("A:b:c"), { service: "A", method: "b:c" })
  })

  it.each(protocols)("is prefixed in $name, and that of a reply or an exception is not", (protocol) => {
    const writer = protocol.writer({ multiplexed: "Echo" })
    const name = () => protocol.reader().reset(writer.take()).readMessageBegin().fname
    methodOf(echo, "ping").encodeCall(1, [], writer)
    assert.strictEqual(name(), "Echo:ping")
    methodOf(echo, "note").encodeCall(1, ["x"], writer)
    assert.strictEqual(name(), "Echo:note")
    methodOf(echo, "ping").encodeResult(1, "pong", writer)
    assert.strictEqual(name(), "ping")
    encodeApplicationException("ping", 1, new ThriftApplicationException({ type: 1, message: "" }), writer)
    assert.strictEqual(name(), "ping")
    assert.strictEqual(Object.keys(MessageType).length, 4, "there are no other kinds")
  })

  it("is what npm's multiplexer writes", () => {
    for (
      const [protocol, Theirs] of [[Protocols.binary, thrift.TBinaryProtocol], [
        Protocols.compact,
        thrift.TCompactProtocol
      ]]
    ) {
      let frame: Buffer = Buffer.alloc(0)
      const connection = {
        transport: thrift.TFramedTransport,
        protocol: Theirs,
        seqId2Service: {},
        write: (bytes: Buffer) => {
          frame = bytes.subarray(4)
        }
      }
      void new thrift.Multiplexer().createClient("Echo", EchoGen.Client, connection).touch("k")
      const writer = protocol.writer({ multiplexed: "Echo" })
      methodOf(echo, "touch").encodeCall(1, ["k"], writer)
      assert.isTrue(frame.equals(writer.take()))
    }
  })
})

/** A processor of two services that both know `ping`. */
const processor = (
  protocol: Protocol,
  options: { readonly unnamed?: string } = {}
): Effect.Effect<ThriftProcessor.Processor, InvalidOption> =>
  ThriftProcessor.multiplexed({
    Echo: {
      definition: Echo.definition,
      handlers: {
        ping: () => Effect.succeed("echo's"),
        passMessage: (message) => Effect.succeed(message),
        note: () => Effect.void
      }
    },
    health: { definition: Health.definition, handlers: { ping: () => Effect.succeed("health's") } }
  }, { protocol, ...options })

/** Calls a method under a service's name, and gives its result or the name of its failure. */
const call = (
  { process }: ThriftProcessor.Processor,
  protocol: Protocol,
  service: string | undefined,
  name: string,
  ...args: ReadonlyArray<unknown>
) =>
  Effect.gen(function*() {
    const writer = protocol.writer(service === undefined ? {} : { multiplexed: service })
    const method = methodOf(Echo.definition, name)
    method.encodeCall(9, args, writer)
    const bytes = yield* process(writer.take())
    if (bytes.length === 0) return "nothing"
    const reader = protocol.reader()
    const exit = decodeReply(method, reader.reset(bytes))
    assert.deepStrictEqual([reader.message.fname, reader.message.rseqid], [name, 9])
    if (Exit.isSuccess(exit)) return exit.value
    const error = Cause.squash(exit.cause)
    return error instanceof ThriftApplicationException ? `${error.typeName}: ${error.message}` : error
  })

describe.each(protocols)("a processor of several services in $name", (protocol) => {
  it.effect("gives each call to the service that it names", () =>
    Effect.gen(function*() {
      const several = yield* processor(protocol)
      assert.strictEqual(yield* call(several, protocol, "Echo", "ping"), "echo's")
      assert.strictEqual(yield* call(several, protocol, "health", "ping"), "health's")
      assert.strictEqual(yield* call(several, protocol, "Echo", "note", "x"), "nothing")
      const message = new Message({ text: "hi", number: new Int64(1), items: [1] })
      assert.deepStrictEqual(yield* call(several, protocol, "Echo", "passMessage", message), message)
    }))

  it.effect("answers an unknown service, an unknown method and a call without a service as unknown methods", () =>
    Effect.gen(function*() {
      const several = yield* processor(protocol)
      const unknown = (name: string) => `UNKNOWN_METHOD: Invalid method name: '${name}'`
      assert.strictEqual(yield* call(several, protocol, "Other", "ping"), unknown("Other:ping"))
      assert.strictEqual(yield* call(several, protocol, "health", "note", "x"), unknown("health:note"))
      assert.strictEqual(yield* call(several, protocol, undefined, "ping"), unknown("ping"))
      const one = yield* ThriftProcessor.make(Echo.definition, { ping: () => Effect.succeed("") }, { protocol })
      const writer = protocol.writer({ multiplexed: "Echo" })
      methodOf(echo, "ping").encodeCall(1, [], writer)
      const reply = decodeReply(
        methodOf(echo, "ping"),
        protocol.reader().reset(yield* one.process(writer.take()))
      )
      assert.isTrue(Exit.isFailure(reply), "a processor of one service knows bare names only")
    }))

  it.effect("gives calls without a service to the one that is chosen for them", () =>
    Effect.gen(function*() {
      const several = yield* processor(protocol, { unnamed: "health" })
      assert.strictEqual(yield* call(several, protocol, undefined, "ping"), "health's")
      assert.strictEqual(yield* call(several, protocol, "Echo", "ping"), "echo's")
    }))

  it.effect("answers npm's library's multiplexed client", () =>
    Effect.gen(function*() {
      const Theirs = protocol === Protocols.json
        ? thrift.TJSONProtocol
        : protocol === Protocols.compact
        ? thrift.TCompactProtocol
        : thrift.TBinaryProtocol
      let frame: Buffer = Buffer.alloc(0)
      const connection = {
        transport: thrift.TFramedTransport,
        protocol: Theirs,
        seqId2Service: {},
        write: (bytes: Buffer) => {
          frame = bytes.subarray(4)
        }
      }
      const client = new thrift.Multiplexer().createClient("health", HealthGen.Client, connection)
      const outcome: Promise<unknown> = client.ping()
      const several = yield* processor(protocol === Protocols.binaryOld ? Protocols.binary : protocol)
      const input = new Theirs(new thrift.TFramedTransport(yield* several.process(frame)))
      const { fname, mtype, rseqid } = input.readMessageBegin()
      client[`recv_${fname}`](input, mtype, rseqid)
      assert.strictEqual(yield* Effect.promise(() => outcome), "health's")
    }))
})

describe("a processor of several services refuses", () => {
  it.effect("a name that is empty or has a colon, and a service for unnamed calls that it does not have", () =>
    Effect.gen(function*() {
      for (const name of ["", "a:b", ":"]) {
        const error = yield* Effect.flip(
          ThriftProcessor.multiplexed({ [name]: { definition: Echo.definition, handlers: {} } })
        )
        assert.deepStrictEqual([error._tag, error.option], ["InvalidOption", "services"])
      }
      for (const unnamed of ["Other", "toString"]) {
        const error = yield* Effect.flip(processor(Protocols.binary, { unnamed }))
        assert.deepStrictEqual([error.option, error.expected], ["unnamed", "one of Echo, health"])
      }
    }))
})

describe("a client", () => {
  const client = (
    options: Thrift.ThriftClientOptions,
    answer: (body: Uint8Array) => Effect.Effect<Uint8Array>
  ) =>
    Thrift.client(Echo, Bytes, options).pipe(
      Layer.provide(ScriptedSink.layer(Bytes, ({ body }) => Effect.map(answer(body), (body) => ({ body })))),
      Layer.provide(Stack.layer("echo")),
      Layer.provide(Stacks.layer),
      Layer.build,
      Effect.map((context) => Context.get(context, Echo))
    )

  for (const protocol of protocols) {
    it.effect(`calls in ${protocol.name}, under a name or none`, () =>
      Effect.gen(function*() {
        const several = yield* processor(protocol, { unnamed: "health" })
        const answer = (body: Uint8Array) => Effect.orDie(several.process(body))
        const named = yield* client({ protocol, multiplexed: "Echo", oneway: "await" }, answer)
        assert.strictEqual(yield* named.ping(), "echo's")
        yield* named.note("x")
        const message = new Message({ text: "hi", number: new Int64(1), items: [1, 2] })
        assert.deepStrictEqual(yield* named.passMessage(message), message)
        const error = yield* Effect.flip(named.touch("k"))
        assert.deepInclude(error, { _tag: "ThriftApplicationException", typeName: "UNKNOWN_METHOD" })
        const bare = yield* client({ protocol }, answer)
        assert.strictEqual(yield* bare.ping(), "health's")
      }))
  }

  it.effect("fails the call whose reply is of another protocol", () =>
    Effect.gen(function*() {
      const binary = yield* processor(Protocols.binary, { unnamed: "health" })
      const writer = Protocols.binary.writer()
      methodOf(echo, "ping").encodeCall(1, [], writer)
      const request = writer.take()
      const compact = yield* client({ protocol: Protocols.compact }, () => Effect.orDie(binary.process(request)))
      const error = yield* Effect.flip(compact.ping())
      assert.deepInclude(error, { _tag: "ThriftProtocolError", reason: "BadVersion" })
    }))

  it.effect("is not built with a name that is empty or has a colon", () =>
    Effect.gen(function*() {
      for (const multiplexed of ["", "a:b"]) {
        const error = yield* Effect.flip(client({ multiplexed }, () => Effect.never))
        assert.instanceOf(error, InvalidOption)
        assert.deepStrictEqual([error.option, error.expected], ["multiplexed", "a name without a colon"])
      }
    }))
})
