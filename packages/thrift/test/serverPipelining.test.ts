// Many requests on one connection: at once up to a bound, answered in their order, and what a client that misbehaves gets of it.
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Logger, Queue } from "effect"
import { TestClock } from "effect/testing"
import { MessageType, Protocols, ThriftServer } from "../src/index.ts"
import { bare, call, Echo, handlers, idsOf, open, read } from "./echoServer.ts"
import { connect, type RawClient, settled, until } from "./rawClient.ts"
import { randomOf } from "./values.ts"

/** A server whose `slow` waits until it is told to answer, and notes what became of each call. */
const held = (options?: ThriftServer.ThriftServerOptions) =>
  Effect.gen(function*() {
    const begun: Array<number> = []
    const interrupted: Array<number> = []
    const gates = new Map<number, Deferred.Deferred<void>>()
    const gate = (id: number) => {
      const found = gates.get(id) ?? Deferred.makeUnsafe<void>()
      gates.set(id, found)
      return found
    }
    const server = yield* ThriftServer.make(Echo, {
      ...handlers,
      slow: (id) =>
        Effect.suspend(() => {
          begun.push(id)
          return Effect.as(Deferred.await(gate(id)), `${id}`)
        }).pipe(Effect.onInterrupt(() => Effect.sync(() => interrupted.push(id))))
    }, options)
    const client = yield* connect(server.address)
    return {
      server,
      client,
      begun,
      interrupted,
      release: (id: number) => Deferred.succeed(gate(id), void 0)
    }
  })

const slow = (id: number) => call("slow", [id], id)

const sum = (client: RawClient) => client.received.reduce((bytes, message) => bytes + message.length, 0)

describe("requests of one connection", () => {
  for (const seed of [1, 2, 3]) {
    it.effect(`are answered in their order, whatever each takes (seed ${seed})`, () =>
      Effect.gen(function*() {
        const random = randomOf(seed)
        const finished: Array<number> = []
        let running = 0
        let most = 0
        const server = yield* ThriftServer.make(Echo, {
          ...handlers,
          slow: (millis) =>
            Effect.suspend(() => {
              most = Math.max(most, ++running)
              return Effect.as(Effect.sleep(millis), `${millis}`)
            }).pipe(Effect.ensuring(Effect.sync(() => {
              running--
              finished.push(millis)
            })))
        }, { maxPipelined: 16 })
        const client = yield* connect(server.address)
        const times = Array.from({ length: 200 }, () => random(100))
        // In pieces that know nothing of messages.
        const bytes = Buffer.concat(times.map((millis, id) => {
          const message = call("slow", [millis], id)
          const head = Buffer.alloc(4)
          head.writeInt32BE(message.length)
          return Buffer.concat([head, message])
        }))
        for (let at = 0; at < bytes.length;) {
          const next = at + 1 + random(400)
          client.write(bytes.subarray(at, next))
          at = next
        }
        const clock = yield* Effect.forkChild(
          Effect.forever(Effect.andThen(TestClock.adjust(1), until(() => true)))
        )
        yield* client.count(times.length)
        yield* Fiber.interrupt(clock)
        assert.deepStrictEqual(idsOf(client), times.map((_, id) => id))
        assert.deepStrictEqual(
          client.received.map((reply) => read("slow", reply).exit),
          times.map((millis) => Exit.succeed(`${millis}`))
        )
        assert.notDeepEqual(finished, times, "they did not run one after the other")
        assert.strictEqual(most, 16)
        assert.strictEqual(server.outstanding(), 0)
        assert.strictEqual(server.counts.requests, times.length)
      }))
  }

  it.effect("run one after the other with maxPipelined 1", () =>
    Effect.gen(function*() {
      const { begun, client, release } = yield* held({ maxPipelined: 1 })
      client.send(slow(1), slow(2), slow(3))
      yield* until(() => begun.length === 1)
      yield* release(2)
      yield* settled(() => begun.length)
      assert.deepStrictEqual(begun, [1])
      yield* release(1)
      yield* client.count(2)
      assert.deepStrictEqual(begun, [1, 2, 3])
      yield* release(3)
      yield* client.count(3)
      assert.deepStrictEqual(idsOf(client), [1, 2, 3])
    }))

  it.effect("without a reply count among those that run", () =>
    Effect.gen(function*() {
      const gate = Deferred.makeUnsafe<void>()
      const begun: Array<string> = []
      const server = yield* ThriftServer.make(Echo, {
        ...handlers,
        note: (text) =>
          Effect.suspend(() => {
            begun.push(text)
            return Deferred.await(gate)
          })
      }, { maxPipelined: 2 })
      const client = yield* connect(server.address)
      client.send(call("note", ["a"]), call("note", ["b"]), call("note", ["c"]), call("ping", [], 4))
      yield* until(() => server.connections()[0]?.outstanding === 4)
      assert.deepStrictEqual(begun, ["a", "b"])
      yield* Deferred.succeed(gate, void 0)
      yield* client.count(1)
      assert.deepStrictEqual(begun, ["a", "b", "c"])
    }))

  it.effect("of which too many wait are read no more, until there is room", () =>
    Effect.gen(function*() {
      const { begun, client, release, server } = yield* held({ maxPipelined: 4 })
      // 24 MiB, far beyond what the sockets of both ends hold.
      const filler = call("blob", [Buffer.alloc(1024 * 1024)], 0)
      client.send(slow(1), slow(2), slow(3), slow(4))
      for (let i = 0; i < 24; i++) client.send(filler)
      client.send(slow(5))
      yield* until(() => begun.length === 4)
      yield* settled(() => client.socket.writableLength)
      assert.isAbove(client.socket.writableLength, 4 * 1024 * 1024)
      assert.strictEqual(server.counts.requests, 4)
      for (let id = 1; id <= 5; id++) yield* release(id)
      yield* client.count(29)
      assert.deepStrictEqual(idsOf(client), [1, 2, 3, 4, ...Array(24).fill(0), 5])
    }))

  it.effect("are read no more while their replies wait for a client that does not read", () =>
    Effect.gen(function*() {
      const size = 512 * 1024
      const server = yield* ThriftServer.make(Echo, {
        ...handlers,
        ping: () => Effect.succeed("x".repeat(size))
      })
      const client = yield* connect(server.address)
      client.socket.pause()
      for (let id = 0; id < 60; id++) client.send(call("ping", [], id))
      yield* until(() => server.counts.requests > 0)
      yield* settled(() => server.counts.requests)
      assert.isBelow(server.counts.requests, 45)
      client.socket.resume()
      yield* client.count(60)
      assert.isAbove(sum(client), 60 * size)
      assert.deepStrictEqual(idsOf(client), Array.from({ length: 60 }, (_, id) => id))
    }))

  it.effect("are still answered when their client has closed its half, and then the connection ends", () =>
    Effect.gen(function*() {
      const { begun, client, interrupted, release, server } = yield* held()
      client.send(slow(1), slow(2))
      // And the beginning of one more, which never comes.
      client.write("00000020 8001")
      client.socket.end()
      yield* until(() => begun.length === 2)
      yield* settled(() => interrupted.length)
      yield* release(2)
      yield* release(1)
      yield* client.ended
      assert.deepStrictEqual(idsOf(client), [1, 2])
      assert.deepStrictEqual(interrupted, [])
      yield* until(() => server.connections().length === 0)
      assert.strictEqual(server.outstanding(), 0)
    }))

  it.effect("are interrupted when their client resets the connection", () =>
    Effect.gen(function*() {
      const { begun, client, interrupted, server } = yield* held({ maxPipelined: 2 })
      client.send(slow(1), slow(2), slow(3))
      yield* until(() => begun.length === 2)
      // One that has more to come than the server reads is not heard of, so this one has not.
      const other = yield* connect(server.address)
      other.send(slow(4))
      yield* until(() => begun.length === 3)
      other.socket.resetAndDestroy()
      yield* until(() => interrupted.length === 1)
      assert.deepStrictEqual(interrupted, [4])
      yield* until(() => server.connections().length === 1)
      server.connections()[0]!.destroy()
      yield* until(() => server.connections().length === 0)
      assert.sameMembers(interrupted, [1, 2, 4])
      assert.deepStrictEqual(begun, [1, 2, 4])
      yield* until(() => server.outstanding() === 0)
    }))
})

describe("bytes that are no call end the connection behind what was answered", () => {
  const frame = (hex: string) => Buffer.from(hex.replaceAll(" ", ""), "hex")
  const cases: ReadonlyArray<readonly [string, "oversized" | "undecodable", Uint8Array]> = [
    ["a frame over the limit", "oversized", frame("00002711")],
    ["a frame of 2 GiB", "oversized", frame("7fffffff 80010001")],
    ["a frame of negative length", "undecodable", frame("ffffffff")],
    ["an empty frame", "undecodable", frame("00000000")],
    ["a version that does not exist", "undecodable", frame("00000009 80020001 00000000 00")],
    ["a name that is longer than the limit", "oversized", frame("0000000c 80010001 7fffffff 70696e67")],
    ["a name that is longer than its frame", "undecodable", frame("0000000c 80010001 00000005 70696e67")],
    ["a header that ends too early", "undecodable", frame("00000006 80010001 0000")],
    ["a reply", "undecodable", Buffer.concat([frame("00000011"), bare("ping", MessageType.REPLY)])],
    ["an exception", "undecodable", Buffer.concat([frame("00000011"), bare("ping", MessageType.EXCEPTION)])],
    ["arguments that end too early", "undecodable", frame("00000010 80010001 00000004 70696e67 00000001")],
    ["a oneway call that ends too early", "undecodable", frame("00000010 80010004 00000004 6e6f7465 00000001")]
  ]
  for (const [what, counter, bytes] of cases) {
    it.effect(what, () =>
      Effect.gen(function*() {
        const { begun, client, interrupted, release, server } = yield* held({ limits: { maxMessageBytes: 10_000 } })
        client.send(slow(1), call("ping", [], 2))
        client.write(bytes)
        client.send(slow(3))
        yield* until(() => begun.length > 0 && server.counts[counter] === 1)
        // It is not over before all that was before it is answered.
        yield* settled(() => client.received.length)
        assert.strictEqual(server.connections().length, 1)
        yield* release(1)
        yield* client.ended
        assert.deepStrictEqual(idsOf(client), [1, 2])
        assert.isUndefined(client.fault)
        assert.deepStrictEqual(begun, [1])
        assert.deepStrictEqual(interrupted, [])
        assert.strictEqual(server.counts.oversized + server.counts.undecodable, 1)
        yield* until(() => server.outstanding() === 0 && server.connections().length === 0)
      }))
  }

  it.effect("a call whose answer the limits have no room for, and what has begun behind it is interrupted", () =>
    Effect.gen(function*() {
      const gates = [1, 2].map(() => Deferred.makeUnsafe<void>())
      const begun: Array<number> = []
      const interrupted: Array<number> = []
      const server = yield* ThriftServer.make(Echo, {
        ...handlers,
        slow: (id) =>
          Effect.suspend(() => {
            begun.push(id)
            if (id === 1) return Effect.as(Deferred.await(gates[0]!), "1")
            return id === 2 ? Effect.andThen(Deferred.await(gates[1]!), Effect.die("lost")) : Effect.never
          }).pipe(Effect.onInterrupt(() => Effect.sync(() => interrupted.push(id))))
      }, { limits: { maxMessageBytes: 60 } })
      const client = yield* connect(server.address)
      client.send(slow(1), slow(2), slow(3), call("ping", [], 4), slow(5))
      yield* until(() => begun.length === 4)
      yield* Deferred.succeed(gates[1]!, void 0)
      yield* until(() => server.counts.undecodable === 1)
      yield* until(() => server.outstanding() === 1)
      assert.deepStrictEqual(interrupted, [3, 5])
      assert.strictEqual(server.connections()[0]!.outstanding, 1)
      yield* Deferred.succeed(gates[0]!, void 0)
      yield* client.ended
      assert.deepStrictEqual(idsOf(client), [1])
      yield* until(() => server.outstanding() === 0 && server.connections().length === 0)
      assert.deepStrictEqual(interrupted, [3, 5])
    }).pipe(Effect.provide(Logger.layer([]))))

  it.effect("once: what was wrong before it, and is only found later, is not counted again", () =>
    Effect.gen(function*() {
      const { client, release, server } = yield* held({ maxPipelined: 1, limits: { maxMessageBytes: 10_000 } })
      client.send(slow(1), bare("ping", MessageType.REPLY), slow(3))
      client.write("7fffffff")
      yield* until(() => server.counts.oversized === 1)
      yield* release(1)
      yield* client.ended
      assert.deepStrictEqual(idsOf(client), [1])
      assert.strictEqual(server.counts.undecodable, 0)
      assert.strictEqual(server.counts.requests, 1)
    }))

  it.effect("although a message of exactly the limit is served", () =>
    Effect.gen(function*() {
      const around = call("blob", [Buffer.alloc(0)]).length
      const blob = (bytes: number) => call("blob", [Buffer.alloc(bytes - around)])
      const { client, server } = yield* open({ limits: { maxMessageBytes: 10_000 } })
      client.send(blob(10_000))
      // The reply has no more than the request.
      assert.isTrue(Exit.isSuccess(read("blob", yield* client.next).exit))
      client.send(blob(10_001))
      yield* client.ended
      assert.strictEqual(server.counts.oversized, 1)
    }))

  it.effect("in any protocol and framing, and leave nothing behind (seeded)", () =>
    Effect.gen(function*() {
      const random = randomOf(7)
      const { begun, server } = yield* held({ framing: "auto", protocol: "auto", limits: { maxMessageBytes: 4096 } })
      const starts = [
        "80010001 00000004 736c6f77 00000001 080001",
        "82 21 01 04 736c6f77 15",
        Buffer.from("[1,\"slow\",1,1,{\"1\":{\"i32\":").toString("hex"),
        "00000018 80010001 00000004 736c6f77 00000001 080001 0000000",
        "00000009 00000004 736c6f",
        ""
      ]
      for (let i = 0; i < 300; i++) {
        const start = Buffer.from(starts[i % starts.length]!.replaceAll(" ", ""), "hex")
        const noise = Buffer.from(Array.from({ length: random(200) }, () => random(256)))
        const client = yield* connect(server.address)
        // The first was made with the server.
        yield* until(() => server.counts.connections === i + 2)
        client.write(Buffer.concat([start, noise]))
        const how = random(3)
        if (how === 0) client.socket.end()
        else if (how === 1) client.socket.resetAndDestroy()
        else yield* until(() => client.socket.writableLength === 0 || client.socket.destroyed)
      }
      for (const connection of server.connections()) connection.destroy()
      yield* until(() => server.connections().length === 0 && server.outstanding() === 0)
      assert.isAbove(server.counts.undecodable, 50)
      assert.isAbove(server.counts.oversized, 10)
      assert.isBelow(begun.length, 300)
      const client = yield* connect(server.address)
      client.send(call("ping", [], 1))
      assert.deepStrictEqual(read("ping", yield* client.next).exit, Exit.succeed("pong"))
    }).pipe(Effect.provide(Logger.layer([]))))

  it.effect("also when they never end: a client that sends for ever is not kept for ever", () =>
    Effect.gen(function*() {
      const { client, server } = yield* open({ limits: { maxMessageBytes: 1000 } })
      client.write("7fffffff")
      client.socket.on("drain", () => client.socket.write(Buffer.alloc(256 * 1024)))
      client.socket.write(Buffer.alloc(256 * 1024))
      yield* until(() => server.connections().length === 0)
      assert.strictEqual(server.counts.oversized, 1)
      yield* client.ended
    }))

  it.effect("is said of what begins no protocol that the server can tell", () =>
    Effect.gen(function*() {
      const { client, server } = yield* open({ framing: "auto", protocol: "auto" })
      client.write("00000010 47455420")
      yield* client.ended
      assert.strictEqual(server.counts.undecodable, 1)
      assert.strictEqual(Protocols.binary.name, "binary")
    }))
})

describe("the queue of a flood", () => {
  it.effect("costs no more than what the socket has given at once", () =>
    Effect.gen(function*() {
      const begun = Effect.runSync(Queue.unbounded<void>())
      const server = yield* ThriftServer.make(Echo, {
        ...handlers,
        ping: () => Effect.andThen(Queue.offer(begun, void 0), Effect.never)
      }, { maxPipelined: 3, drainTimeout: 0 })
      const client = yield* connect(server.address)
      const batch = Buffer.concat(Array.from({ length: 10_000 }, () => {
        const message = call("ping", [])
        const head = Buffer.alloc(4)
        head.writeInt32BE(message.length)
        return Buffer.concat([head, message])
      }))
      for (let i = 0; i < 50; i++) client.write(batch)
      for (let i = 0; i < 3; i++) yield* Queue.take(begun)
      yield* settled(() => client.socket.writableLength)
      assert.isAbove(client.socket.writableLength, 0)
      assert.strictEqual(server.outstanding(), 3)
      // 64 KiB of calls of 21 bytes.
      assert.isAtMost(server.connections()[0]!.outstanding, 3 + 65_536 / 21)
    }))
})
