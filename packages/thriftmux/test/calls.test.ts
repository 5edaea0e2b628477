import { assert, describe, it } from "@effect/vitest"
import { Endpoint, ServerSet, Unsendable } from "@scales-rpc/core"
import { ThriftProtocolError } from "@scales-rpc/thrift"
import { ThriftMux } from "@scales-rpc/thriftmux"
import { Deferred, Effect, Fiber } from "effect"
import Net from "node:net"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { build, connect, Echo, leavesNoSockets, message, plain, serve, until } from "./support.ts"

leavesNoSockets()

const hasIPv6 = await new Promise<boolean>((resolve) => {
  const server = Net.createServer()
  server.once("error", () => resolve(false))
  server.listen(0, "::1", () => server.close(() => resolve(true)))
})

describe("a call over ThriftMux", () => {
  it.live("takes arguments there and brings the result back: every type of the language", () =>
    Effect.gen(function*() {
      const { echo } = yield* connect(yield* serve())
      const numbers = [0n, -1n, 2n ** 53n + 1n, 2n ** 63n - 1n, -(2n ** 63n)]
      for (const number of numbers) {
        const sent = message("ünï€😀\0", number, [0, -1, 2 ** 31 - 1, -(2 ** 31)])
        assert.deepStrictEqual(plain(yield* echo.passMessage(sent)), plain(sent))
      }
      const index = { "": [], ends: numbers.map((number) => message("", number).number) }
      const reply = yield* echo.index(index, ["b", "a"], -0.1, true, -128, 32_767)
      assert.deepStrictEqual(Object.keys(reply), ["", "ends"])
      assert.deepStrictEqual(reply["ends"]!.map((number) => number.buffer.readBigInt64BE(number.offset)), numbers)
    }))

  it.live("has a result of nothing when the method is void, and arguments of nothing when it has none", () =>
    Effect.gen(function*() {
      const { echo } = yield* connect(yield* serve())
      assert.isUndefined(yield* echo.touch("key"))
      assert.strictEqual(yield* echo.ping(), "pong")
    }))

  it.live("takes empty and huge payloads, in fragments when one of both asks for them", () =>
    Effect.gen(function*() {
      for (const window of [undefined, 1000]) {
        const server = yield* serve({}, { window })
        const { echo } = yield* connect(server, { mux: { window } })
        for (const size of [0, 1, 999, 100_000, 8 * 1024 * 1024]) {
          const sent = Buffer.alloc(size, size % 251)
          assert.isTrue(sent.equals(yield* echo.blob(sent)), `${size} bytes`)
        }
        assert.strictEqual(plain(yield* echo.echo(message(""))).text, "")
      }
    }))

  it.live("shares one connection with every other, and each gets its own reply", () =>
    Effect.gen(function*() {
      const server = yield* serve({ slow: (millis) => Effect.as(Effect.sleep(millis), `slow ${millis}`) })
      const { echo, live } = yield* connect(server)
      const millis = Array.from({ length: 300 }, (_, i) => (i * 7) % 40)
      const replies = yield* Effect.forEach(millis, (millis) => echo.slow(millis), { concurrency: "unbounded" })
      assert.deepStrictEqual(replies, millis.map((millis) => `slow ${millis}`))
      assert.strictEqual(server.counts.sessions, 1)
      assert.strictEqual(live().connects, 1)
    }))

  it.live("whose reply is over the client's Thrift limits fails, and the connection goes on", () =>
    Effect.gen(function*() {
      const server = yield* serve({ blob: () => Effect.succeed(Buffer.alloc(1001)) })
      const { echo } = yield* connect(server, { limits: { maxStringBytes: 1000 } })
      const error = yield* Effect.flip(echo.blob(Buffer.alloc(1)))
      assert.instanceOf(error, ThriftProtocolError)
      assert.strictEqual(error.reason, "SizeLimit")
      assert.strictEqual(yield* echo.ping(), "pong")
      assert.strictEqual(server.counts.sessions, 1)
    }))

  it.live("whose arguments are over the server's Thrift limits is answered with why, and the connection goes on", () =>
    Effect.gen(function*() {
      const server = yield* serve({}, { thrift: { maxStringBytes: 1000 } })
      const { echo } = yield* connect(server)
      const error = yield* Effect.flip(echo.blob(Buffer.alloc(1001)))
      assert.strictEqual(error._tag === "ThriftApplicationException" && error.typeName, "PROTOCOL_ERROR")
      assert.strictEqual((yield* echo.blob(Buffer.alloc(1000))).length, 1000)
      assert.strictEqual(server.counts.sessions, 1)
    }))

  it.live("whose reply is over the client's mux limits costs the connection, and the next call has a new one", () =>
    Effect.gen(function*() {
      const server = yield* serve({ blob: () => Effect.succeed(Buffer.alloc(5000)) })
      const { echo } = yield* connect(server, {
        mux: { limits: { messageBytes: 4000 } },
        resurrector: { demandInterval: 0 }
      })
      const error = yield* Effect.flip(echo.blob(Buffer.alloc(1)))
      assert.strictEqual(error._tag, "ProtocolError")
      assert.strictEqual(yield* echo.ping(), "pong")
      assert.strictEqual(server.counts.sessions, 2)
    }))
})

describe("a oneway method", () => {
  it.live("is refused without a word to the server", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const { echo } = yield* connect(server)
      assert.instanceOf(yield* Effect.flip(echo.note("text")), Unsendable)
      assert.strictEqual(server.counts.sessions, 0)
    }))

  it.live("ends when the server's empty reply has come, when told to await it", () =>
    Effect.gen(function*() {
      const gate = Deferred.makeUnsafe<void>()
      const notes: Array<string> = []
      const server = yield* serve({
        note: (text) => {
          notes.push(text)
          return Deferred.await(gate)
        }
      })
      const { echo } = yield* connect(server, { oneway: "await" })
      const call = yield* Effect.forkChild(echo.note("text"))
      yield* until("the note has come", () => notes.length === 1)
      assert.isUndefined(call.pollUnsafe())
      yield* Deferred.succeed(gate, undefined)
      assert.isUndefined(yield* Fiber.join(call))
      assert.deepStrictEqual(notes, ["text"])
    }))

  it.live("fails when its handler did, when told to await it", () =>
    Effect.gen(function*() {
      const { echo } = yield* connect(yield* serve({ note: () => Effect.die(new Error("lost")) }), { oneway: "await" })
      const error = yield* Effect.flip(echo.note("text"))
      assert.strictEqual(error._tag, "ThriftApplicationException")
      assert.strictEqual(error.message, "Internal error processing note: 'Error: lost'")
    }))
})

describe("a server is reached", () => {
  it.live("by a Unix socket", () =>
    Effect.gen(function*() {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "scales-"))),
        (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
      )
      const server = yield* serve({}, { path: join(folder, "echo.sock") })
      assert.strictEqual(server.uri, `unix://${folder}/echo.sock`)
      const { echo, live } = yield* build(ThriftMux.layer(Echo, { uri: server.uri }))
      assert.strictEqual(yield* echo.ping(), "pong")
      assert.strictEqual(live().endpoints[0]!.endpoint, `unix:${folder}/echo.sock`)
    }))

  it.live.skipIf(!hasIPv6)("by an IPv6 address", () =>
    Effect.gen(function*() {
      const server = yield* serve({}, { host: "::1" })
      assert.match(server.uri, /^tcp:\/\/\[::1\]:\d+$/)
      const { echo } = yield* build(ThriftMux.layer(Echo, { uri: server.uri }))
      assert.strictEqual(yield* echo.ping(), "pong")
      assert.strictEqual(JSON.parse(yield* echo.seen()).peer.slice(0, 6), "[::1]:")
    }))

  it.live("by a name", () =>
    Effect.gen(function*() {
      const server = yield* serve({}, { host: "localhost" })
      const { echo, live } = yield* build(ThriftMux.layer(Echo, { uri: `tcp://localhost:${server.address.port}` }))
      assert.strictEqual(yield* echo.ping(), "pong")
      assert.strictEqual(live().endpoints[0]!.endpoint, `localhost:${server.address.port}`)
    }))

  it.live("by a server set of one's own", () =>
    Effect.gen(function*() {
      const { address } = yield* serve()
      const serverSet = ServerSet.fixed([Endpoint.tcp(address.host, address.port)])
      const { echo } = yield* build(ThriftMux.layer(Echo, { serverSet }))
      assert.strictEqual(yield* echo.ping(), "pong")
    }))
})
