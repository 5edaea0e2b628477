// npm's clients against the server, in every transport and protocol that they have, alone and multiplexed.
import { createRequire } from "node:module"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Protocols, ThriftServer } from "../src/index.ts"
import { Echo, handlers } from "./echoServer.ts"
import * as EchoGen from "./gen24/Echo.js"
import { Message } from "./gen24/echo_types.js"

const require = createRequire(import.meta.url)
const thrift = require("thrift")
const Int64 = require("node-int64")

const transports = { framed: thrift.TFramedTransport, buffered: thrift.TBufferedTransport }
const theirs = {
  binary: thrift.TBinaryProtocol,
  compact: thrift.TCompactProtocol,
  json: thrift.TJSONProtocol
}

/** A client of npm's, closed with the scope. */
const connect = (port: number, transport: any, protocol: any, service?: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<any, Error>((resume) => {
        const connection = thrift.createConnection("127.0.0.1", port, { transport, protocol })
        connection.once("connect", () => resume(Effect.succeed(connection)))
        connection.once("error", (error: Error) => resume(Effect.fail(error)))
      }),
      (connection) => Effect.sync(() => connection.end())
    ),
    (connection): EchoGen.Client =>
      service === undefined
        ? thrift.createClient(EchoGen, connection)
        : new thrift.Multiplexer().createClient(service, EchoGen, connection)
  )

const calls = (client: EchoGen.Client) =>
  Effect.promise(async () => {
    assert.strictEqual(await client.ping(), "pong")
    await client.touch("k")
    const message = new Message({ text: "h\u00e9 \"{[\\", number: new Int64(-5), items: [1, -2, 2_147_483_647] })
    const echoed = await client.echo(message)
    assert.strictEqual(echoed.text, message.text)
    assert.strictEqual(Number(echoed.number), -5)
    assert.deepStrictEqual(echoed.items, message.items)
    const refused = await client.fail("no", new Int64(0)).then(() => undefined, (error) => error)
    assert.strictEqual(refused.name, "Refused")
    assert.strictEqual(refused.why, "no")
    const crashed = await client.crash("boom").then(() => undefined, (error) => error)
    assert.strictEqual(crashed.type, 6)
    assert.include(crashed.message, "boom")
    await client.note("nobody answers")
    // All of these on their way at once.
    const texts = Array.from({ length: 50 }, (_, i) => `text ${i}`)
    const all = await Promise.all(
      texts.map((text) => client.passMessage(new Message({ text, number: new Int64(1), items: [] })))
    )
    assert.deepStrictEqual(all.map(({ text }) => text), texts)
    const blob = await client.blob(Buffer.alloc(300_000, 7))
    assert.strictEqual(blob.length, 300_000)
  })

describe("npm's client", () => {
  for (const framing of ["framed", "buffered"] as const) {
    for (const name of ["binary", "compact", "json"] as const) {
      it.effect(`over ${framing} ${name} calls every kind of method`, () =>
        Effect.gen(function*() {
          const server = yield* ThriftServer.make(Echo, handlers, { framing, protocol: Protocols[name] })
          yield* calls(yield* connect(server.address.port, transports[framing], theirs[name]))
          assert.strictEqual(server.outstanding(), 0)
          assert.strictEqual(server.counts.undecodable, 0)
        }))

      it.effect(`over ${framing} ${name} is known by its first bytes, and may share its connection`, () =>
        Effect.gen(function*() {
          const server = yield* ThriftServer.makeMultiplexed({ Echo: ThriftServer.implement(Echo, handlers) }, {
            framing: "auto",
            protocol: "auto"
          })
          yield* calls(yield* connect(server.address.port, transports[framing], theirs[name], "Echo"))
        }))
    }
  }
})
