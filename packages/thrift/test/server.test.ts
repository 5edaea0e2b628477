// What a server answers, byte for byte, in every protocol and framing, and to which options it holds.
import { assert, describe, it } from "@effect/vitest"
import { InvalidOption } from "@scales-rpc/core"
import { Context, Effect, Exit, Layer, Logger } from "effect"
import Int64 from "node-int64"
import * as Os from "node:os"
import * as Path from "node:path"
import {
  MessageType,
  type Protocol,
  Protocols,
  ThriftApplicationException,
  ThriftException,
  ThriftServer,
  ThriftService
} from "../src/index.ts"
import { ask, bare, call, Echo, errorOf, handlers, open, read } from "./echoServer.ts"
import { Message, type Refused } from "./gen24/echo_types.js"
import * as HealthGen from "./gen24/Health.js"
import { connect, framed, type Speech, until } from "./rawClient.ts"

class Health extends ThriftService<Health>()("Health", HealthGen) {}

const quiet = Effect.provide(Logger.layer([]))

/** A call of ping, and its reply, written down by hand from the specifications. */
const golden: ReadonlyArray<readonly [Protocol, call: string, reply: string]> = [
  [
    Protocols.binary,
    "80010001 00000004 70696e67 00000001 00",
    "80010002 00000004 70696e67 00000001 0b0000 00000004 706f6e67 00"
  ],
  [
    Protocols.binaryOld,
    "00000004 70696e67 01 00000001 00",
    "00000004 70696e67 02 00000001 0b0000 00000004 706f6e67 00"
  ],
  [Protocols.compact, "82 21 01 04 70696e67 00", "82 41 01 04 70696e67 08 00 04 706f6e67 00"],
  [
    Protocols.json,
    Buffer.from("[1,\"ping\",1,1,{}]").toString("hex"),
    Buffer.from("[1,\"ping\",2,1,{\"0\":{\"str\":\"pong\"}}]").toString("hex")
  ]
]

const fromHex = (text: string): Uint8Array => Buffer.from(text.replaceAll(" ", ""), "hex")
const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

describe("a server answers, byte for byte,", () => {
  for (const framing of ["framed", "buffered"] as const) {
    for (const [protocol, request, reply] of golden) {
      const expected = toHex(framed(framing, fromHex(reply)))
      const bytes = framed(framing, fromHex(request))

      it.effect(`${protocol.name}, ${framing}`, () =>
        Effect.gen(function*() {
          const { client } = yield* open({ framing, protocol }, { framing, protocol })
          client.write(bytes)
          assert.strictEqual(toHex(yield* client.raw(expected.length / 2)), expected)
        }))

      it.effect(`${protocol.name}, ${framing}, in pieces of one byte`, () =>
        Effect.gen(function*() {
          const { client } = yield* open({ framing, protocol }, { framing, protocol })
          for (const byte of bytes) {
            client.write(Uint8Array.of(byte))
            yield* until(() => client.socket.writableLength === 0)
          }
          assert.strictEqual(toHex(yield* client.raw(expected.length / 2)), expected)
        }))

      // An old header begins with a length, as a frame does.
      if (framing === "buffered" && protocol === Protocols.binaryOld) continue
      it.effect(`${protocol.name}, ${framing}, to a client that it knows by its first bytes`, () =>
        Effect.gen(function*() {
          const { client } = yield* open({ framing: "auto", protocol: "auto" }, { framing, protocol })
          for (const byte of bytes.subarray(0, 6)) {
            client.write(Uint8Array.of(byte))
            yield* until(() => client.socket.writableLength === 0)
          }
          client.write(bytes.subarray(6))
          client.write(bytes)
          assert.strictEqual(toHex(yield* client.raw(expected.length)), expected + expected)
        }))
    }
  }

  it.effect("an old header without frames, if it need not tell it from frames", () =>
    Effect.gen(function*() {
      const [protocol, request, reply] = golden[1]!
      const { client } = yield* open({ framing: "buffered", protocol: "auto" }, { framing: "buffered", protocol })
      client.write(request)
      assert.strictEqual(toHex(yield* client.next), reply.replaceAll(" ", ""))
    }))
})

describe.each(golden.map(([protocol]) => protocol))("a call in $name that", (protocol) => {
  const speech: Speech = { framing: "framed", protocol }

  it.effect("has a result, an exception, or an end that nobody declared is answered with it", () =>
    Effect.gen(function*() {
      const { client, server } = yield* open({ protocol }, speech)
      const message = new Message({ text: "é", number: new Int64(3), items: [1, 2] })
      const echoed = yield* ask(client, "echo", [message], 5)
      assert.deepStrictEqual([echoed.name, echoed.id], ["echo", 5])
      assert.isTrue(Exit.isSuccess(echoed.exit))
      const refused = errorOf((yield* ask(client, "fail", ["no", 0], 6)).exit)
      assert.instanceOf(refused, ThriftException)
      assert.strictEqual((refused.exception as Refused).why, "no")
      const crashed = errorOf((yield* ask(client, "crash", ["boom"], -7)).exit)
      assert.instanceOf(crashed, ThriftApplicationException)
      assert.strictEqual(crashed.typeName, "INTERNAL_ERROR")
      assert.include(crashed.message, "boom")
      assert.strictEqual(server.counts.requests, 3)
    }).pipe(quiet))

  it.effect("names no method of the service is answered so, and the connection lives on", () =>
    Effect.gen(function*() {
      const { client } = yield* open({ protocol }, speech)
      client.send(bare("nope", MessageType.CALL, 9, protocol))
      const { exit, id } = read("ping", yield* client.next, protocol)
      assert.strictEqual(id, 9)
      const error = errorOf(exit)
      assert.instanceOf(error, ThriftApplicationException)
      assert.strictEqual(error.typeName, "UNKNOWN_METHOD")
      assert.deepStrictEqual((yield* ask(client, "ping", [])).exit, Exit.succeed("pong"))
    }))

  it.effect("has a name of 12 MB, and no room for an answer that repeats it, is answered like others", () =>
    Effect.gen(function*() {
      const request = bare("n".repeat(12_000_000), MessageType.CALL, 9, protocol)
      const { client, server } = yield* open({ protocol, limits: { maxMessageBytes: request.length } }, speech)
      client.send(request)
      const { exit, id, name } = read("ping", yield* client.next, protocol)
      assert.deepStrictEqual([id, name], [9, "n".repeat(100)])
      const error = errorOf(exit)
      assert.instanceOf(error, ThriftApplicationException)
      assert.deepStrictEqual([error.typeName, error.message], [
        "UNKNOWN_METHOD",
        `Invalid method name: '${"n".repeat(100)}'`
      ])
      assert.deepStrictEqual((yield* ask(client, "ping", [])).exit, Exit.succeed("pong"))
      assert.strictEqual(server.counts.undecodable, 0)
    }))

  it.effect("is oneway is answered with nothing, however it ends, and holds up nobody", () =>
    Effect.gen(function*() {
      const notes: Array<string> = []
      const server = yield* ThriftServer.make(Echo, {
        ...handlers,
        note: (text) => {
          notes.push(text)
          return text === "hang" ? Effect.never : Effect.die(new Error("nobody is told"))
        }
      }, { protocol, drainTimeout: 0 })
      const client = yield* connect(server.address, speech)
      client.send(call("note", ["hang"], 1, protocol), call("note", ["die"], 2, protocol))
      // One that is called as if it had an answer, as some old clients do, and one that does not exist.
      client.send(bare("note", MessageType.CALL, 3, protocol), bare("nope", MessageType.ONEWAY, 3, protocol))
      assert.strictEqual((yield* ask(client, "ping", [], 4)).id, 4)
      assert.strictEqual(client.received.length, 1)
      assert.deepStrictEqual(notes, ["hang", "die", null as never])
      assert.strictEqual(server.outstanding(), 1)
      client.socket.destroy()
      yield* until(() => server.connections().length === 0)
      assert.strictEqual(server.outstanding(), 1, "what its client left runs on")
    }).pipe(quiet))
})

describe("a handler", () => {
  it.effect("knows its peer, and may need services and a scope", () => {
    class Greeting extends Context.Service<Greeting, { readonly word: string }>()("Greeting") {}
    const released: Array<string> = []
    const layer = ThriftServer.layer(Echo, {
      ...handlers,
      ping: () =>
        Effect.gen(function*() {
          const { word } = yield* Greeting
          yield* Effect.acquireRelease(Effect.void, () => Effect.sync(() => released.push(word)))
          return word
        })
    }).pipe(Layer.provide(Layer.succeed(Greeting, { word: "hi" })))
    return Effect.gen(function*() {
      const server = yield* ThriftServer.Server
      const client = yield* connect(server.address)
      assert.strictEqual(server.uri, `tcp://127.0.0.1:${server.address.port}`)
      assert.deepStrictEqual((yield* ask(client, "ping", [])).exit, Exit.succeed("hi"))
      assert.deepStrictEqual(released, ["hi"])
      const peer = `127.0.0.1:${client.socket.localPort}`
      assert.deepStrictEqual((yield* ask(client, "seen", [])).exit, Exit.succeed(`${peer} Infinity`))
      assert.strictEqual(server.connections()[0]!.peer, peer)
    }).pipe(Effect.provide(layer))
  })

  it.effect("that interrupts itself is an internal error", () =>
    Effect.gen(function*() {
      const server = yield* ThriftServer.make(Echo, { ...handlers, ping: () => Effect.interrupt })
      const error = errorOf((yield* ask(yield* connect(server.address), "ping", [])).exit)
      assert.instanceOf(error, ThriftApplicationException)
      assert.strictEqual(error.typeName, "INTERNAL_ERROR")
      assert.include(error.message, "interrupted")
    }))
})

describe("a server", () => {
  it.effect("listens on a Unix socket", () =>
    Effect.gen(function*() {
      const path = Path.join(Os.tmpdir(), `thrift-server-${process.pid}.sock`)
      const { client, server } = yield* open({ path })
      assert.strictEqual(server.uri, `unix://${path}`)
      assert.deepStrictEqual((yield* ask(client, "seen", [])).exit, Exit.succeed(" Infinity"))
      server.connections()[0]!.destroy()
      yield* client.ended
    }))

  it.effect("serves several services by their names, and one of them also without", () =>
    Effect.gen(function*() {
      const services = {
        echo: ThriftServer.implement(Echo, handlers),
        health: ThriftServer.implement(Health, { ping: () => Effect.succeed("well"), touch: () => Effect.void })
      }
      const server = yield* ThriftServer.makeMultiplexed(services, { unnamed: "health" })
      const client = yield* connect(server.address)
      for (
        const [service, name, args] of [["echo", "ping", []], ["health", "ping", []], [undefined, "ping", []]] as const
      ) client.send(call(name, args, 1, Protocols.binary, service))
      client.send(
        call("note", ["silent"], 2, Protocols.binary, "echo"),
        call("ping", [], 3, Protocols.binary, "nobody")
      )
      const ends: Array<unknown> = []
      for (let i = 0; i < 3; i++) ends.push(read("ping", yield* client.next).exit)
      assert.deepStrictEqual(ends, [Exit.succeed("pong"), Exit.succeed("well"), Exit.succeed("well")])
      const { exit, id } = read("ping", yield* client.next)
      assert.strictEqual(id, 3)
      assert.strictEqual((errorOf(exit) as ThriftApplicationException).typeName, "UNKNOWN_METHOD")
      const layer = yield* Layer.build(ThriftServer.layerMultiplexed(services))
      const other = yield* connect(Context.get(layer, ThriftServer.Server).address)
      other.send(call("ping", [], 1, Protocols.binary, "health"))
      assert.deepStrictEqual(read("ping", yield* other.next).exit, Exit.succeed("well"))
    }))

  it.effect("fails when it cannot listen, and when an option is out of range", () =>
    Effect.gen(function*() {
      const { server } = yield* open()
      const taken = yield* Effect.flip(ThriftServer.make(Echo, handlers, { port: server.address.port }))
      assert.instanceOf(taken, ThriftServer.ListenFailed)
      assert.include(taken.message, `cannot listen on 127.0.0.1:${server.address.port}: `)
      const odd: Protocol = { ...Protocols.binary, name: "odd" }
      const wrong: ReadonlyArray<readonly [string, unknown]> = [
        ["port", { port: 65536 }],
        ["maxConnections", { maxConnections: 0 }],
        ["maxPipelined", { maxPipelined: 0 }],
        ["idleTimeout", { idleTimeout: 0 }],
        ["drainTimeout", { drainTimeout: Infinity }],
        ["limits.maxMessageBytes", { limits: { maxMessageBytes: -1 } }],
        ["framing", { framing: "raw" }],
        ["framing", { framing: "buffered", protocol: odd }],
        ["framing", { framing: "auto", protocol: odd }],
        ["tls.certificate", { tls: { key: "" } }]
      ]
      for (const [option, options] of wrong) {
        const error = yield* Effect.flip(
          ThriftServer.make(Echo, handlers, options as ThriftServer.ThriftServerOptions)
        )
        assert.instanceOf(error, InvalidOption)
        assert.strictEqual(error.option, option)
      }
      const unnamed = yield* Effect.flip(ThriftServer.makeMultiplexed({}, { unnamed: "none" }))
      assert.strictEqual((unnamed as InvalidOption).option, "unnamed")
    }))
})
