// Twitter's upgrade on the server: the question, the header before each request, the one before each reply.
import { assert, describe, it } from "@effect/vitest"
import { bytesKey, ClientId, Destination, Dtab, Rpc, Trace } from "@scales-rpc/core"
import { Effect, Exit } from "effect"
import { TestClock } from "effect/testing"
import {
  MessageType,
  type Protocol,
  Protocols,
  type ProtocolWriter,
  ThriftApplicationException,
  ThriftProtocolError,
  ThriftServer,
  Type
} from "../src/index.ts"
import { ServerUpgrade } from "../src/internal/ServerUpgrade.ts"
import { bare, call, Echo, errorOf, handlers, read } from "./echoServer.ts"
import { connect, until } from "./rawClient.ts"

const question = "__can__finagle__trace__v3__"

/** Writes a struct: fields by their ids. */
const struct = (
  writer: ProtocolWriter,
  fields: ReadonlyArray<readonly [id: number, type: number, write: () => void]>
) => {
  writer.writeStructBegin("")
  for (const [id, type, write] of fields) {
    writer.writeFieldBegin("", type, id)
    write()
    writer.writeFieldEnd()
  }
  writer.writeFieldStop()
  writer.writeStructEnd()
}

/** Writes a list of structs, each with two values. */
const pairs = <A>(writer: ProtocolWriter, list: ReadonlyArray<readonly [A, A]>, write: (value: A) => void) => {
  writer.writeListBegin(Type.STRUCT, list.length)
  for (const [first, second] of list) {
    struct(writer, [[1, Type.STRING, () => write(first)], [2, Type.STRING, () => write(second)]])
  }
  writer.writeListEnd()
}

/** The field of a header with the contexts: both the names and the values are binary. */
const contexts = (writer: ProtocolWriter, list: ReadonlyArray<readonly [name: string, value: Uint8Array | string]>) =>
  [
    8,
    Type.LIST,
    () =>
      pairs(
        writer,
        list.map(([name, value]) => [Buffer.from(name), Buffer.from(value)] as const),
        (value) => writer.writeBinary(value)
      )
  ] as const

/** The bytes of a request's header, with fields that are given by the test. */
const header = (
  protocol: Protocol,
  fields: (writer: ProtocolWriter) => ReadonlyArray<readonly [id: number, type: number, write: () => void]>
): Uint8Array => {
  const writer = protocol.writer()
  writer.reset()
  struct(writer, fields(writer))
  return writer.take()
}

/** The value of a deadline context. */
const deadline = (millis: number): Uint8Array => {
  const bytes = Buffer.alloc(16)
  bytes.writeBigInt64BE(BigInt(millis) * 1_000_000n, 8)
  return bytes
}

/** A server which notes the calls it serves. */
const noting = (options?: ThriftServer.ThriftServerOptions) =>
  Effect.gen(function*() {
    const seen: Array<Rpc.InboundCall> = []
    const settings: Array<Rpc.CallSettings> = []
    const server = yield* ThriftServer.make(Echo, {
      ...handlers,
      ping: () =>
        Effect.gen(function*() {
          seen.push((yield* Rpc.Inbound)!)
          settings.push(yield* Rpc.CallSettings)
          return "pong"
        })
    }, options)
    return { server, seen, settings }
  })

describe("a client that asks for the upgrade", () => {
  it.effect("gets it, byte for byte, and headers before its replies", () =>
    Effect.gen(function*() {
      const { server } = yield* noting()
      const client = yield* connect(server.address)
      const name = `0000001b ${Buffer.from(question).toString("hex")}`
      const expected = [
        `00000028 80010002 ${name} 00000000 00`,
        // The header has nothing in it: one byte.
        "0000001d 00 80010002 00000004 70696e67 00000001 0b0000 00000004 706f6e67 00"
      ].join("").replaceAll(" ", "")
      // The request right behind the question: its header has trace_id 1, span_id 2.
      client.write(`00000028 80010001 ${name} 00000000 00`)
      client.write("00000028 0a0001 0000000000000001 0a0002 0000000000000002 00 80010001 00000004 70696e67 00000001 00")
      assert.strictEqual(Buffer.from(yield* client.raw(expected.length / 2)).toString("hex"), expected)
      assert.strictEqual(server.counts.upgrades, 1)
      assert.strictEqual(server.counts.requests, 1)
    }))

  for (const protocol of [Protocols.binary, Protocols.compact, Protocols.json]) {
    it.effect(`says who calls, from where, and until when (${protocol.name})`, () =>
      Effect.gen(function*() {
        yield* TestClock.setTime(1000)
        const { seen, server, settings } = yield* noting({ protocol })
        const client = yield* connect(server.address, { framing: "framed", protocol })
        client.send(bare(question, 1, 7, protocol))
        yield* client.next
        const head = header(protocol, (writer) => [
          [1, Type.I64, () => writer.writeI64(-1n)],
          [2, Type.I64, () => writer.writeI64(2n)],
          [3, Type.I64, () => writer.writeI64(3n)],
          // Unknown, and known by another type.
          [4, Type.STRING, () => writer.writeString("unknown")],
          [5, Type.BOOL, () => writer.writeBool(true)],
          [6, Type.STRUCT, () => struct(writer, [[1, Type.STRING, () => writer.writeString("me")]])],
          [7, Type.I64, () => writer.writeI64(1n)],
          contexts(writer, [
            [ClientId.id, "not me"],
            ["com.twitter.finagle.Deadline", deadline(1500)],
            ["mine", Uint8Array.of(0xff, 0)],
            [Trace.id, new Uint8Array(32)]
          ]),
          [9, Type.STRING, () => writer.writeString("/svc/echo")],
          [10, Type.LIST, () => pairs(writer, [["/svc", "/dst"]], (value) => writer.writeString(value))],
          [11, Type.I64, () => writer.writeI64(9n)],
          [12, Type.STRUCT, () => struct(writer, [])]
        ])
        client.send(Buffer.concat([head, call("ping", [], 8, protocol)]))
        const reply = yield* client.next
        const start = protocol.reader().reset(reply)
        start.skip(Type.STRUCT)
        assert.deepStrictEqual(read("ping", reply.subarray(start.position), protocol).exit, Exit.succeed("pong"))
        const [inbound] = seen
        assert.strictEqual(inbound!.deadline, 1500)
        const { context } = inbound!
        assert.strictEqual(context.get(ClientId), "me")
        assert.deepStrictEqual(context.get(Trace), {
          traceId: 0xffff_ffff_ffff_ffffn,
          traceIdHigh: 9n,
          spanId: 2n,
          parentId: 3n,
          flags: 7n
        })
        assert.deepStrictEqual([...context.get(bytesKey("mine"))!], [0xff, 0])
        assert.strictEqual(context.get(Destination), "/svc/echo")
        assert.deepStrictEqual(context.get(Dtab), [{ prefix: "/svc", tree: "/dst" }])
        // What the calls of a handler inherit.
        assert.strictEqual(settings[0]!.deadline, 1500)
        assert.isUndefined(settings[0]!.context.get(ClientId))
        assert.isUndefined(settings[0]!.context.get(Trace))
      }))
  }

  it.effect("need say nothing, and may say it by contexts alone", () =>
    Effect.gen(function*() {
      const { binary } = Protocols
      const { seen, server } = yield* noting()
      const client = yield* connect(server.address)
      client.send(bare(question, 1))
      yield* client.next
      client.send(Buffer.concat([header(binary, () => []), call("ping", [])]))
      yield* client.next
      assert.isTrue(seen[0]!.context.isEmpty)
      assert.strictEqual(seen[0]!.deadline, Infinity)
      const some = header(binary, (writer) => [
        [2, Type.I64, () => writer.writeI64(5n)],
        [5, Type.BOOL, () => writer.writeBool(false)],
        contexts(writer, [[ClientId.id.toUpperCase(), "you"], ["com.twitter.finagle.Deadline", "short"]])
      ])
      client.send(Buffer.concat([some, call("ping", [])]))
      yield* client.next
      assert.strictEqual(seen[1]!.context.get(ClientId), "you")
      assert.strictEqual(seen[1]!.deadline, Infinity)
      assert.deepStrictEqual(seen[1]!.context.get(Trace), {
        traceId: 5n,
        traceIdHigh: undefined,
        spanId: 5n,
        parentId: 5n,
        flags: 2n
      })
    }))

  it.effect("is told of a deadline that has passed, and its call is not run", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(2000)
      const { seen, server } = yield* noting()
      const client = yield* connect(server.address)
      client.send(bare(question, 1))
      yield* client.next
      const late = header(Protocols.binary, (writer) => [
        contexts(writer, [["com.twitter.finagle.Deadline", deadline(1990)]])
      ])
      client.send(Buffer.concat([late, call("ping", [], 3)]))
      const { exit, id } = read("ping", (yield* client.next).subarray(1))
      assert.strictEqual(id, 3)
      const error = errorOf(exit)
      assert.instanceOf(error, ThriftApplicationException)
      assert.strictEqual(error.typeName, "INTERNAL_ERROR")
      assert.include(error.message, "deadline exceeded by 10 ms, not executed")
      assert.strictEqual(seen.length, 0)
      assert.strictEqual(server.counts.expired, 1)
      // Whatever it calls the method.
      for (const [name, shown] of [["a\nb", "a\ufffdb"], ["n".repeat(12_000_000), "n".repeat(100)]] as const) {
        client.send(Buffer.concat([late, bare(name, MessageType.CALL, 4)]))
        const answer = read("ping", (yield* client.next).subarray(1))
        assert.deepStrictEqual([answer.id, answer.name === name], [4, true])
        assert.strictEqual(
          (errorOf(answer.exit) as Error).message,
          `Internal error processing ${shown}: 'deadline exceeded by 10 ms, not executed'`
        )
      }
      assert.strictEqual(server.counts.expired, 3)
    }))

  it.effect("and then sends a header that is none loses the connection", () =>
    Effect.gen(function*() {
      const { server } = yield* noting()
      const client = yield* connect(server.address)
      client.send(bare(question, 1))
      yield* client.next
      client.send(call("ping", []))
      yield* client.ended
      assert.strictEqual(server.counts.undecodable, 1)
      yield* until(() => server.connections().length === 0)
    }))

  for (const [field, what] of [[8, "contexts"], [10, "delegations"]] as const) {
    it.effect(`and then sends more than 256 ${what} loses the connection`, () =>
      Effect.gen(function*() {
        const { seen, server } = yield* noting()
        const lists = (...sizes: ReadonlyArray<number>) =>
          header(Protocols.binary, (writer) =>
            sizes.map((size) =>
              [
                field,
                Type.LIST,
                () =>
                  pairs(
                    writer,
                    Array.from({ length: size }, () => ["/a", "/b"] as const),
                    (text) => writer.writeString(text)
                  )
              ] as const
            ))
        const open = Effect.gen(function*() {
          const client = yield* connect(server.address)
          client.send(bare(question, 1))
          yield* client.next
          return client
        })
        const client = yield* open
        client.send(Buffer.concat([lists(256), call("ping", [])]), Buffer.concat([lists(200, 56), call("ping", [])]))
        yield* client.count(3)
        for (const { context } of seen) {
          assert.strictEqual(field === 8 ? [...context].length : context.get(Dtab)?.length, field === 8 ? 1 : 256)
        }
        assert.strictEqual(server.counts.oversized, 0)
        client.send(Buffer.concat([lists(257), call("ping", [])]))
        yield* client.ended
        const other = yield* open
        other.send(Buffer.concat([lists(200, 57), call("ping", [])]))
        yield* other.ended
        assert.strictEqual(server.counts.oversized, 2)
        assert.strictEqual(seen.length, 2)
      }))

    it(`and then sends 1,000,000 ${what} makes the server read none of them`, () => {
      const protocol = Protocols.binary
      const million = header(protocol, (writer) => [[field, Type.LIST, () => {
        writer.writeListBegin(Type.STRUCT, 1_000_000)
        for (let i = 0; i < 1_000_000; i++) writer.writeFieldStop()
        writer.writeListEnd()
      }]])
      try {
        new ServerUpgrade(protocol.reader(), protocol.writer()).requestHeader(million)
        assert.fail("it was read")
      } catch (error) {
        assert.instanceOf(error, ThriftProtocolError)
        // Behind the field's 3 bytes and the list's 5.
        assert.deepStrictEqual([error.reason, error.offset], ["SizeLimit", 8])
        assert.strictEqual(error.message, `1000000 ${what} in a request's header, at most 256`)
      }
    })
  }

  it.effect("asks for a method that does not exist where the server has no upgrade, or no frames", () =>
    Effect.gen(function*() {
      for (const options of [{ upgrade: false }, { framing: "buffered" as const }]) {
        const { server } = yield* noting(options)
        const client = yield* connect(server.address, {
          framing: options.framing ?? "framed",
          protocol: Protocols.binary
        })
        client.send(bare(question, 1), call("ping", [], 2))
        const error = errorOf(read("ping", yield* client.next).exit)
        assert.instanceOf(error, ThriftApplicationException)
        assert.strictEqual(error.typeName, "UNKNOWN_METHOD")
        assert.deepStrictEqual(read("ping", yield* client.next).exit, Exit.succeed("pong"))
        assert.strictEqual(server.counts.upgrades, 0)
      }
    }))
})
