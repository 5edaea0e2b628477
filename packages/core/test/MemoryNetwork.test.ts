/** A network in memory: sockets that behave as Node's do, under a clock that a test moves. */
import { assert, describe, it } from "@effect/vitest"
import { Endpoint } from "@scales-rpc/core"
import { addressOf, listen, Socket } from "@scales-rpc/core/socket"
import { MemoryNetwork } from "@scales-rpc/core/testing"
import { Effect, Exit, Fiber, Scope } from "effect"
import { TestClock } from "effect/testing"
import type * as Net from "node:net"
import { settle, start, stop } from "./support.ts"

/** Connects as a transport does. */
const connect = (host: string, port: number, connectTimeoutMillis = 1000) =>
  Socket.open(Endpoint.tcp(host, port), { connectTimeoutMillis })

/** All that a socket has said. */
const heard = (socket: Net.Socket) => {
  const events: Array<string> = []
  socket
    .on("data", (chunk: Buffer) => void events.push(chunk.toString()))
    .on("end", () => void events.push("end"))
    .on("error", (error) => void events.push((error as NodeJS.ErrnoException).code ?? error.message))
    .on("close", () => void events.push("close"))
  return events
}

/** A server that keeps its sockets for the test. */
const serve = (port: number, options: { readonly host?: string; readonly halfOpen?: boolean } = {}) =>
  Effect.gen(function*() {
    const sockets: Array<Net.Socket> = []
    const server = yield* listen({ host: "h", port, ...options }, (socket) => {
      sockets.push(socket.on("error", () => {}))
    })
    // A listener that is closed waits for its connections.
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        for (const socket of sockets) socket.destroy()
      })
    )
    return { server, sockets }
  })

/** A connection, both ends with what they hear. */
const pair = Effect.gen(function*() {
  const { sockets } = yield* serve(1)
  const client = yield* connect("h", 1)
  const [server] = sockets
  const network = yield* MemoryNetwork
  return {
    client,
    server: server!,
    atClient: heard(client),
    atServer: heard(server!),
    connection: network.connections.at(-1)!
  }
})

describe("a connection in memory", () => {
  it.effect("carries bytes both ways, in order, and tells each end the other's address", () =>
    Effect.gen(function*() {
      const { atClient, atServer, client, connection, server } = yield* pair
      client.write("a")
      client.write("b")
      server.write("c")
      assert.deepStrictEqual(atServer, [], "nothing arrives while it is being sent")
      yield* settle
      assert.deepStrictEqual([atServer.join(""), atClient.join("")], ["ab", "c"])
      assert.strictEqual(addressOf(client.remoteAddress, client.remotePort), "h:1")
      assert.strictEqual(
        addressOf(server.remoteAddress, server.remotePort),
        addressOf(client.localAddress, client.localPort)
      )
      assert.deepInclude(connection, { number: 0, address: "h:1", open: true })
      assert.deepStrictEqual([connection.toServer.bytes, connection.toClient.bytes], [2, 1])
    }).pipe(Effect.provide(MemoryNetwork.layer)))

  it.effect("ends as a socket does: what was written arrives, then the end", () =>
    Effect.gen(function*() {
      const { atClient, atServer, client, connection, server } = yield* pair
      client.end("bye")
      yield* settle
      assert.deepStrictEqual(atServer, ["bye", "end", "close"])
      assert.deepStrictEqual(atClient, ["end", "close"])
      assert.isTrue(server.destroyed)
      assert.isFalse(connection.open)
    }).pipe(Effect.provide(MemoryNetwork.layer)))

  it.effect("may be half open", () =>
    Effect.gen(function*() {
      const { sockets } = yield* serve(1, { halfOpen: true })
      const client = yield* connect("h", 1)
      const atServer = heard(sockets[0]!)
      client.end("bye")
      yield* settle
      assert.deepStrictEqual(atServer, ["bye", "end"])
      sockets[0]!.end()
      yield* settle
      assert.deepStrictEqual(atServer, ["bye", "end", "close"])
    }).pipe(Effect.provide(MemoryNetwork.layer)))

  it.effect("destroyed by one end is ended for the other", () =>
    Effect.gen(function*() {
      const { atServer, client } = yield* pair
      client.write("last")
      client.destroy()
      yield* settle
      assert.deepStrictEqual(atServer, ["last", "end", "close"])
    }).pipe(Effect.provide(MemoryNetwork.layer)))

  it.effect("reset by one end is an error for the other, and what was under way is lost", () =>
    Effect.gen(function*() {
      const { atClient, atServer, client } = yield* pair
      const network = yield* MemoryNetwork
      assert.lengthOf(network.open(), 1)
      client.write("lost")
      client.resetAndDestroy()
      yield* settle
      assert.deepStrictEqual([atClient, atServer], [["close"], ["ECONNRESET", "close"]])
      assert.lengthOf(network.open("h:1"), 0)
    }).pipe(Effect.provide(MemoryNetwork.layer)))

  it.effect("is reset for one who writes to an end that is gone", () =>
    Effect.gen(function*() {
      const { sockets } = yield* serve(1, { halfOpen: true })
      const client = yield* connect("h", 1)
      const server = sockets[0]!
      const atServer = heard(server)
      client.destroy()
      yield* settle
      server.write("too late")
      yield* settle
      assert.deepStrictEqual(atServer, ["end", "ECONNRESET", "close"])
    }).pipe(Effect.provide(MemoryNetwork.layer)))

  it.effect("tells a writer to wait when nobody reads, and when there is room again", () =>
    Effect.gen(function*() {
      const { sockets } = yield* serve(1)
      const client = yield* connect("h", 1)
      const network = yield* MemoryNetwork
      const chunk = Buffer.alloc(32 * 1024)
      let written = 0
      while (client.write(chunk)) {
        written += chunk.length
        yield* settle
        assert.isBelow(written, 1_000_000, "the writer never has to wait")
      }
      let drained = false
      client.once("drain", () => {
        drained = true
      })
      yield* settle
      assert.isFalse(drained)
      sockets[0]!.resume()
      yield* settle
      assert.isTrue(drained)
      assert.strictEqual(network.connections[0]!.toServer.bytes, written + chunk.length)
    }).pipe(Effect.provide(MemoryNetwork.layer)))

  it.effect("takes the bytes it was given, whatever their writer does with them afterwards", () =>
    Effect.gen(function*() {
      const { atServer, client } = yield* pair
      const bytes = Buffer.from("abc")
      client.write(bytes)
      bytes.fill("x")
      yield* settle
      assert.deepStrictEqual(atServer, ["abc"])
    }).pipe(Effect.provide(MemoryNetwork.layer)))
})

describe("a test", () => {
  it.effect("stalls a direction, and the other goes on", () =>
    Effect.gen(function*() {
      const { atClient, atServer, client, connection, server } = yield* pair
      connection.toServer.stall()
      client.write("a")
      server.write("b")
      yield* TestClock.adjust("1 day")
      assert.deepStrictEqual([atServer, atClient], [[], ["b"]])
      assert.strictEqual(connection.toServer.inFlight, 1)
      connection.toServer.resume()
      client.write("c")
      yield* settle
      assert.deepStrictEqual([atServer.join(""), connection.toServer.inFlight], ["ac", 0])
    }).pipe(Effect.provide(MemoryNetwork.layer)))

  it.effect("delays what is sent from now on, and keeps its order", () =>
    Effect.gen(function*() {
      const { atServer, client, connection } = yield* pair
      connection.toServer.delay("2 seconds")
      client.write("a")
      connection.toServer.delay("1 second")
      client.write("b")
      yield* TestClock.adjust("1999 millis")
      assert.deepStrictEqual(atServer, [])
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(atServer.join(""), "ab")
      client.end("c")
      yield* TestClock.adjust("999 millis")
      assert.strictEqual(atServer.join(""), "ab")
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(atServer.join(""), "abcendclose")
    }).pipe(Effect.provide(MemoryNetwork.layer)))

  it.effect("cuts a connection: what was under way is lost, both ends are told", () =>
    Effect.gen(function*() {
      const { atClient, atServer, client, connection } = yield* pair
      client.write("lost")
      connection.cut()
      yield* settle
      assert.deepStrictEqual([atClient, atServer], [["ECONNRESET", "close"], ["ECONNRESET", "close"]])
      assert.isFalse(connection.open)
    }).pipe(Effect.provide(MemoryNetwork.layer)))

  it.effect("sees every connection when it is made, and every chunk when it is sent", () =>
    Effect.gen(function*() {
      const network = yield* MemoryNetwork
      const seen: Array<string> = []
      const off = network.onConnection(({ address, toServer }) => {
        seen.push(address)
        const quiet = toServer.onChunk((chunk) => {
          seen.push(Buffer.from(chunk).toString())
          quiet()
        })
      })
      const { client } = yield* pair
      client.write("a")
      client.write("b")
      off()
      yield* connect("h", 1)
      assert.deepStrictEqual(seen, ["h:1", "a"])
    }).pipe(Effect.provide(MemoryNetwork.layer)))

  it.effect("refuses connects, leaves them without an answer, and lets them be again", () =>
    Effect.gen(function*() {
      const network = yield* MemoryNetwork
      yield* serve(1)
      network.refuse("h:1")
      const refused = yield* Effect.flip(connect("h", 1))
      assert.deepInclude(refused, { _tag: "ConnectFailed", phase: "connect" })
      assert.strictEqual((refused.cause as NodeJS.ErrnoException).code, "ECONNREFUSED")
      network.accept("h:1")
      network.silence("h:1")
      const silent = yield* start(Effect.flip(connect("h", 1)))
      yield* TestClock.adjust("999 millis")
      assert.isUndefined(silent.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.strictEqual((yield* Fiber.join(silent)).message, "connect failed at h:1: no connection within 1000 ms")
      network.accept("h:1")
      yield* connect("h", 1)
      assert.strictEqual(network.attempts("h:1"), 3)
      assert.strictEqual(network.attempts("h:2"), 0)
    }).pipe(Effect.provide(MemoryNetwork.layer)))

  it.effect("lets connecting take its time", () =>
    Effect.gen(function*() {
      const network = yield* MemoryNetwork
      const { sockets } = yield* serve(1)
      network.delay("300 millis")
      const connecting = yield* start(connect("h", 1))
      const given = yield* start(connect("h", 1))
      yield* stop(given)
      yield* TestClock.adjust("299 millis")
      assert.isUndefined(connecting.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const client = yield* Fiber.join(connecting)
      assert.lengthOf(sockets, 1)
      const atServer = heard(sockets[0]!)
      client.write("a")
      yield* TestClock.adjust("300 millis")
      assert.deepStrictEqual(atServer, ["a"])
    }).pipe(Effect.provide(MemoryNetwork.layer)))
})

describe("a server in memory", () => {
  it.effect("has a port of its own when it asks for none, and an address that is taken fails", () =>
    Effect.gen(function*() {
      const { server } = yield* serve(0)
      const { address, port } = server.address() as Net.AddressInfo
      assert.strictEqual(address, "h")
      assert.isAbove(port, 1024)
      const second = yield* Effect.flip(serve(port))
      assert.deepInclude(second, { _tag: "ListenFailed", address: `h:${port}` })
      assert.strictEqual((second.cause as NodeJS.ErrnoException).code, "EADDRINUSE")
    }).pipe(Effect.provide(MemoryNetwork.layer)))

  it.effect("on a Unix socket is reached by its path, on 127.0.0.1 by localhost, on 0.0.0.0 by any name", () =>
    Effect.gen(function*() {
      const reached: Array<string> = []
      const open = (endpoint: Endpoint) => Socket.open(endpoint, { connectTimeoutMillis: 1000 })
      const on = (name: string) => (socket: Net.Socket) => {
        reached.push(`${name} ${addressOf(socket.localAddress, socket.localPort)}`)
        socket.destroy()
      }
      yield* listen({ path: "/run/h" }, on("unix"))
      yield* listen({ port: 2 }, on("local"))
      yield* listen({ host: "0.0.0.0", port: 3 }, on("any"))
      yield* open(Endpoint.unix("/run/h"))
      yield* open(Endpoint.tcp("localhost", 2))
      yield* open(Endpoint.tcp("whatever", 3))
      assert.deepStrictEqual(reached, ["unix ", "local 127.0.0.1:2", "any whatever:3"])
      assert.strictEqual((yield* Effect.flip(open(Endpoint.tcp("whatever", 2))))._tag, "ConnectFailed")
    }).pipe(Effect.provide(MemoryNetwork.layer)))

  it.effect("that is closed accepts no more, and waits for its connections", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* listen({ host: "h", port: 1 }, (socket) => void heard(socket)).pipe(Scope.provide(scope))
      const client = yield* connect("h", 1)
      const closing = yield* start(Scope.close(scope, Exit.void))
      yield* settle
      assert.isUndefined(closing.pollUnsafe())
      assert.strictEqual((yield* Effect.flip(connect("h", 1)))._tag, "ConnectFailed")
      client.destroy()
      yield* Fiber.join(closing)
      yield* serve(1)
      yield* connect("h", 1)
    }).pipe(Effect.provide(MemoryNetwork.layer)))
})

describe("a network", () => {
  it.effect("does not keep a server from closing, slow or stalled as it may be, when its clients have gone", () =>
    Effect.gen(function*() {
      for (const clientFirst of [true, false]) {
        const network = yield* MemoryNetwork
        network.delay("20 millis")
        const scope = yield* Scope.make()
        const sockets: Array<Net.Socket> = []
        yield* listen({ host: "h", port: 1 }, (socket) => void sockets.push(socket)).pipe(Scope.provide(scope))
        const connecting = yield* start(Effect.all([connect("h", 1), connect("h", 1)]))
        yield* TestClock.adjust("40 millis")
        const clients = yield* Fiber.join(connecting)
        const atServer = sockets.map(heard)
        network.open()[1]!.toServer.stall()
        clients[0]!.write("last")
        if (!clientFirst) yield* start(Scope.close(scope, Exit.void))
        for (const client of clients) client.destroy()
        yield* settle
        if (clientFirst) {
          // On a network that is in use it takes its time.
          assert.deepStrictEqual(atServer, [[], []])
          yield* Fiber.join(yield* start(Scope.close(scope, Exit.void)))
        }
        yield* settle
        assert.deepStrictEqual(atServer, [["last", "end", "close"], ["end", "close"]])
        assert.lengthOf(network.open(), 0)
      }
    }).pipe(Effect.provide(MemoryNetwork.layer)))

  it.effect("counts the bytes of a socket as Node does", () =>
    Effect.gen(function*() {
      const { client, connection, server } = yield* pair
      assert.deepStrictEqual([client.bytesRead, client.bytesWritten], [0, 0])
      connection.toServer.stall()
      const chunk = Buffer.alloc(60_000)
      for (let i = 0; i < 3; i++) client.write(chunk)
      assert.strictEqual(client.bytesWritten, 180_000)
      assert.strictEqual(server.bytesRead, 0)
      connection.toServer.resume()
      yield* settle
      assert.deepStrictEqual([client.bytesWritten, server.bytesRead, server.bytesWritten], [180_000, 180_000, 0])
    }).pipe(Effect.provide(MemoryNetwork.layer)))

  it.effect("ends every connection when it is closed, and knows nothing of another", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const events = yield* Effect.gen(function*() {
        const { atClient, client } = yield* pair
        client.write("a")
        return atClient
      }).pipe(Scope.provide(scope), Effect.provide(MemoryNetwork.layer))
      yield* settle
      assert.deepStrictEqual(events, ["close"])
      const other = yield* Effect.provide(Effect.flip(connect("h", 1)), MemoryNetwork.layer)
      assert.strictEqual(other._tag, "ConnectFailed")
      yield* Scope.close(scope, Exit.void)
    }))
})
