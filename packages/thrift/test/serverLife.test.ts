// How a server and its connections end: drains, idle connections, limits on connections, TLS, and that nothing is left.
import { assert, describe, it } from "@effect/vitest"
import { Certificates } from "@scales-rpc/core/testing"
import { Clock, Deferred, Effect, Exit, Fiber, Logger, Queue, References, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Net from "node:net"
import * as NodeTls from "node:tls"
import { ThriftServer } from "../src/index.ts"
import { ask, call, Echo, handlers, idsOf, open, read } from "./echoServer.ts"
import { connect, settled, until } from "./rawClient.ts"

/** A scope that a test may close before it ends. */
const scopeOfItsOwn = Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))

/** A server in a scope of its own, whose `slow` and `note` wait for a gate. */
const held = (options?: ThriftServer.ThriftServerOptions) =>
  Effect.gen(function*() {
    const scope = yield* scopeOfItsOwn
    const gate = Deferred.makeUnsafe<void>()
    const begun = yield* Queue.unbounded<string>()
    const interrupted: Array<string> = []
    const wait = (name: string) =>
      Effect.suspend(() => {
        Queue.offerUnsafe(begun, name)
        return Effect.as(Deferred.await(gate), name)
      }).pipe(Effect.onInterrupt(() => Effect.sync(() => interrupted.push(name))))
    const server = yield* ThriftServer.make(Echo, {
      ...handlers,
      slow: (id) => wait(`slow ${id}`),
      note: (text) => Effect.asVoid(wait(`note ${text}`))
    }, options).pipe(Scope.provide(scope))
    return {
      server,
      client: yield* connect(server.address),
      begun: Queue.take(begun),
      interrupted,
      release: Deferred.succeed(gate, void 0),
      close: Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
    }
  })

const slow = (id: number) => call("slow", [id], id)

/** Whether anything listens. */
const reachable = (port: number) =>
  Effect.callback<boolean>((resume) => {
    const socket = Net.connect({ host: "127.0.0.1", port })
    socket.once("connect", () => {
      socket.destroy()
      resume(Effect.succeed(true))
    })
    socket.once("error", () => resume(Effect.succeed(false)))
  })

/** Sockets of this process that are open. */
const sockets = (): number => process.getActiveResourcesInfo().filter((name) => /^(TCP|TLS)/.test(name)).length

describe("closing a server", () => {
  it.effect("ends idle connections at once, and others when what has come is answered", () =>
    Effect.gen(function*() {
      const { begun, client, close, release, server } = yield* held({ maxPipelined: 1 })
      const idle = yield* connect(server.address)
      assert.deepStrictEqual((yield* ask(idle, "ping", [])).exit, Exit.succeed("pong"))
      // The second waits for its turn, the third is not whole.
      client.send(slow(1), slow(2))
      client.write("00000020 80")
      yield* begun
      yield* until(() => server.connections()[0]!.outstanding === 2)
      const closing = yield* close
      yield* idle.ended
      assert.isFalse(yield* reachable(server.address.port))
      client.send(slow(3))
      yield* until(() => server.connections().length === 1)
      yield* settled(() => client.socket.writableLength)
      assert.isUndefined(closing.pollUnsafe())
      yield* release
      yield* client.ended
      assert.deepStrictEqual(idsOf(client), [1, 2])
      assert.isUndefined(client.fault, "the end is no reset")
      yield* Fiber.join(closing)
      assert.strictEqual(server.outstanding() + server.connections().length, 0)
      assert.strictEqual(server.counts.requests, 3)
    }))

  it.effect("is no reset for a client whose requests it has not read", () =>
    Effect.gen(function*() {
      const { begun, client, close, release, server } = yield* held({ maxPipelined: 1 })
      client.send(slow(1))
      // More than the sockets of both ends hold.
      const blob = call("blob", [Buffer.alloc(200_000)], 2)
      for (let i = 0; i < 100; i++) client.send(blob)
      yield* begun
      yield* settled(() => client.socket.writableLength)
      assert.isAbove(client.socket.writableLength, 0)
      const closing = yield* close
      // It is read, and dropped.
      yield* until(() => client.socket.writableLength === 0)
      yield* settled(() => client.socket.bytesWritten)
      yield* release
      yield* client.ended
      // A reset would come behind the end.
      yield* settled(() => client.received.length)
      assert.isUndefined(client.fault)
      assert.isBelow(server.counts.requests, 100)
      assert.strictEqual(client.received.length, server.counts.requests)
      yield* Fiber.join(closing)
    }))

  it.effect("leaves no timer behind", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      let sleeping = 0
      const counting: Clock.Clock = {
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe(),
        currentTimeMillis: clock.currentTimeMillis,
        currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
        currentTimeNanos: clock.currentTimeNanos,
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
        monotonicTimeNanos: clock.monotonicTimeNanos,
        sleep: (duration) =>
          Effect.suspend(() => {
            sleeping++
            return Effect.ensuring(clock.sleep(duration), Effect.sync(() => void sleeping--))
          })
      }
      yield* Effect.scoped(Effect.gen(function*() {
        const server = yield* ThriftServer.make(Echo, handlers, { idleTimeout: "1 minute" })
        const client = yield* connect(server.address)
        yield* ask(client, "ping", [])
        yield* until(() => sleeping === 1)
        const other = yield* connect(server.address)
        yield* ask(other, "ping", [])
        yield* server.connections()[1]!.drain()
      })).pipe(Effect.provideService(Clock.Clock, counting))
      assert.strictEqual(sleeping, 0)
    }))

  it.effect("interrupts what still runs when the time for it is over, oneway calls too", () =>
    Effect.gen(function*() {
      const { begun, client, close, interrupted, server } = yield* held()
      const gone = yield* connect(server.address)
      gone.send(call("note", ["left"]))
      yield* begun
      gone.socket.destroy()
      client.send(slow(1))
      yield* begun
      yield* until(() => server.connections().length === 1)
      const closing = yield* close
      yield* TestClock.adjust(4999)
      yield* until(() => true)
      assert.isUndefined(closing.pollUnsafe())
      assert.deepStrictEqual(interrupted, [])
      yield* TestClock.adjust(1)
      yield* Fiber.join(closing)
      assert.sameMembers(interrupted, ["note left", "slow 1"])
      yield* client.ended
      assert.strictEqual(client.received.length, 0)
      assert.strictEqual(server.outstanding() + server.connections().length, 0)
    }))

  it.effect("waits no longer than drainTimeout says, nor for a client that does not read", () =>
    Effect.gen(function*() {
      const scope = yield* scopeOfItsOwn
      const server = yield* ThriftServer.make(
        Echo,
        { ...handlers, ping: () => Effect.succeed("x".repeat(8 * 1024 * 1024)) },
        { drainTimeout: "200 millis" }
      ).pipe(Scope.provide(scope))
      const client = yield* connect(server.address)
      client.socket.pause()
      for (let i = 0; i < 4; i++) client.send(call("ping", []))
      yield* until(() => server.counts.requests > 0)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* TestClock.adjust(200)
      yield* Fiber.join(closing)
      assert.strictEqual(server.connections().length, 0)
    }))

  it.effect("drains also when what it serves in is interrupted", () =>
    Effect.gen(function*() {
      const gate = Deferred.makeUnsafe<void>()
      const made = Deferred.makeUnsafe<ThriftServer.Shape>()
      const fiber = yield* Effect.forkChild(
        ThriftServer.make(Echo, { ...handlers, ping: () => Effect.as(Deferred.await(gate), "late") }).pipe(
          Effect.tap((server) => Deferred.succeed(made, server)),
          Effect.andThen(Effect.never),
          Effect.scoped
        )
      )
      const server = yield* Deferred.await(made)
      const client = yield* connect(server.address)
      client.send(call("ping", []))
      yield* until(() => server.outstanding() === 1)
      const ending = yield* Effect.forkChild(Fiber.interrupt(fiber), { startImmediately: true })
      yield* until(() => true)
      yield* Deferred.succeed(gate, void 0)
      assert.deepStrictEqual(read("ping", yield* client.next).exit, Exit.succeed("late"))
      yield* Fiber.join(ending)
      yield* client.ended
    }))

  it.effect("waits for a handler that cannot be interrupted", () =>
    Effect.gen(function*() {
      const scope = yield* scopeOfItsOwn
      const gate = Deferred.makeUnsafe<void>()
      const server = yield* ThriftServer.make(Echo, {
        ...handlers,
        ping: () => Effect.uninterruptible(Effect.as(Deferred.await(gate), "late"))
      }).pipe(Scope.provide(scope))
      const client = yield* connect(server.address)
      client.send(call("ping", []))
      yield* until(() => server.outstanding() === 1)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* TestClock.adjust("5 seconds")
      yield* client.ended
      yield* until(() => server.connections().length === 0)
      assert.isUndefined(closing.pollUnsafe())
      yield* Deferred.succeed(gate, void 0)
      yield* Fiber.join(closing)
      assert.strictEqual(server.outstanding(), 0)
    }))
})

describe("one connection", () => {
  it.effect("is drained by itself, and its time is its own", () =>
    Effect.gen(function*() {
      const { begun, client, interrupted, server } = yield* held()
      const other = yield* connect(server.address)
      client.send(slow(1))
      yield* begun
      const draining = yield* Effect.forkChild(server.connections()[0]!.drain("1 second"), { startImmediately: true })
      yield* TestClock.adjust(999)
      assert.deepStrictEqual(interrupted, [])
      yield* TestClock.adjust(1)
      yield* Fiber.join(draining)
      assert.deepStrictEqual(interrupted, ["slow 1"])
      assert.deepStrictEqual((yield* ask(other, "ping", [])).exit, Exit.succeed("pong"))
    }))

  it.effect("is reset", () =>
    Effect.gen(function*() {
      const { begun, client, interrupted, server } = yield* held()
      client.send(slow(1))
      yield* begun
      server.connections()[0]!.destroy()
      yield* client.ended
      assert.strictEqual((client.fault as NodeJS.ErrnoException).code, "ECONNRESET")
      yield* until(() => server.outstanding() === 0)
      assert.deepStrictEqual(interrupted, ["slow 1"])
    }))

  it.effect("is closed when it has been idle for idleTimeout, and no sooner", () =>
    Effect.gen(function*() {
      const { begun, client, release, server } = yield* held({ idleTimeout: "10 seconds" })
      const busy = yield* connect(server.address)
      busy.send(slow(1))
      yield* begun
      yield* TestClock.adjust(6000)
      assert.deepStrictEqual((yield* ask(client, "ping", [])).exit, Exit.succeed("pong"))
      // Part of a message is a sign of life as well.
      yield* TestClock.adjust(6000)
      client.write("00000020")
      yield* until(() => client.socket.writableLength === 0)
      yield* until(() => true)
      yield* ask(busy, "ping", [], 2).pipe(Effect.forkChild({ startImmediately: true }))
      yield* until(() => server.connections()[1]!.outstanding === 1)
      yield* TestClock.adjust(9999)
      yield* until(() => true)
      assert.strictEqual(server.connections().length, 2)
      yield* TestClock.adjust(1)
      yield* client.ended
      assert.isUndefined(client.fault)
      yield* until(() => server.connections().length === 1)
      assert.strictEqual(server.counts.idle, 1)
      // A call that takes longer is no idleness; its end is the beginning of one.
      yield* TestClock.adjust(60_000)
      yield* release
      yield* busy.count(2)
      yield* TestClock.adjust(9999)
      yield* until(() => true)
      assert.strictEqual(server.connections().length, 1)
      yield* TestClock.adjust(1)
      yield* busy.ended
      assert.strictEqual(server.counts.idle, 2)
    }))

  it.effect("is closed too when its client reads no replies, however much it has asked for", () =>
    Effect.gen(function*() {
      const server = yield* ThriftServer.make(
        Echo,
        { ...handlers, ping: () => Effect.succeed("x".repeat(1024 * 1024)) },
        { idleTimeout: "10 seconds" }
      )
      const client = yield* connect(server.address)
      client.socket.pause()
      for (let id = 0; id < 60; id++) client.send(call("ping", [], id))
      yield* until(() => server.connections()[0]!.outstanding > 0)
      yield* settled(() => client.socket.writableLength)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(server.connections().length, 1, "something has left since it was last looked at")
      yield* TestClock.adjust("10 seconds")
      yield* until(() => server.connections().length === 0)
      assert.strictEqual(server.counts.idle, 1)
    }))

  it.effect("over maxConnections is closed, and taken again when there is room", () =>
    Effect.gen(function*() {
      const { client, server } = yield* open({ maxConnections: 1 })
      const second = yield* connect(server.address)
      yield* second.ended
      assert.strictEqual(server.counts.refused, 1)
      assert.deepStrictEqual((yield* ask(client, "ping", [])).exit, Exit.succeed("pong"))
      client.socket.destroy()
      yield* until(() => server.connections().length === 0)
      const third = yield* connect(server.address)
      assert.deepStrictEqual((yield* ask(third, "ping", [])).exit, Exit.succeed("pong"))
      assert.strictEqual(server.counts.connections, 2)
    }))
})

describe("a thousand connections", () => {
  it.effect("are served, and leave nothing behind", () =>
    Effect.gen(function*() {
      // Those of other tests have ended, and may not be closed.
      yield* until(() => sockets() === 0)
      const scope = yield* scopeOfItsOwn
      const gate = Deferred.makeUnsafe<void>()
      const server = yield* ThriftServer.make(Echo, {
        ...handlers,
        slow: (id) => Effect.as(Deferred.await(gate), `${id}`)
      }, { maxConnections: 1000 }).pipe(Scope.provide(scope))
      yield* Effect.scoped(Effect.gen(function*() {
        const clients = yield* Effect.forEach(
          Array.from({ length: 1000 }),
          () => connect(server.address),
          { concurrency: 50 }
        )
        for (const [id, client] of clients.entries()) client.send(call("ping", [], 0), slow(id))
        yield* until(() => server.outstanding() === 1000)
        assert.isAtLeast(sockets(), 2000)
        // Half of them leave, one way or another.
        for (const client of clients.slice(500)) client.socket.resetAndDestroy()
        yield* until(() => server.outstanding() === 500 && server.connections().length === 500)
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
        yield* Deferred.succeed(gate, void 0)
        for (const [id, client] of clients.slice(0, 500).entries()) {
          yield* client.count(2)
          assert.deepStrictEqual(read("slow", client.received[1]!).exit, Exit.succeed(`${id}`))
        }
        yield* Fiber.join(closing)
      }))
      assert.strictEqual(server.outstanding() + server.connections().length, 0)
      assert.strictEqual(server.counts.requests, 2000)
      yield* until(() => sockets() === 0)
    }))
})

describe("a server with TLS", () => {
  const authority = Certificates.authority()
  const own = authority.issue()
  const tls = { certificate: own.certificate, key: own.key }

  const connectTls = (port: number, options: NodeTls.ConnectionOptions = {}) =>
    connect({ host: "127.0.0.1", port }, undefined, (onOpen) =>
      NodeTls.connect({
        host: "127.0.0.1",
        port,
        servername: "localhost",
        ca: authority.certificate,
        allowHalfOpen: true,
        ...options
      } as NodeTls.ConnectionOptions, onOpen))

  it.effect("serves those who are secured", () =>
    Effect.gen(function*() {
      const server = yield* ThriftServer.make(Echo, handlers, { tls })
      const client = yield* connectTls(server.address.port)
      assert.deepStrictEqual(
        (yield* ask(client, "seen", [])).exit,
        Exit.succeed(`127.0.0.1:${client.socket.localPort} Infinity`)
      )
      // A client that has sent all it has to send.
      client.send(call("ping", [], 2))
      client.socket.end()
      yield* client.count(2)
      yield* client.ended
      yield* until(() => server.connections().length === 0)
      const other = yield* connectTls(server.address.port)
      yield* ask(other, "ping", [])
      server.connections()[0]!.destroy()
      yield* other.ended
      yield* until(() => server.connections().length === 0)
    }))

  it.effect("closes those who are not, and counts them", () =>
    Effect.gen(function*() {
      const server = yield* ThriftServer.make(Echo, handlers, {
        maxConnections: 1,
        tls: { ...tls, clients: "required", ca: authority.certificate }
      })
      const plain = yield* connect(server.address)
      plain.send(call("ping", []))
      yield* plain.ended
      yield* until(() => server.counts.insecure === 1)
      const known = authority.issue({ name: "client" })
      const client = yield* connectTls(server.address.port, { cert: known.certificate, key: known.key })
      assert.deepStrictEqual((yield* ask(client, "ping", [])).exit, Exit.succeed("pong"))
      assert.strictEqual(server.counts.connections, 1)
    }))

  it.effect("knows who its clients are, and says once why one was not secured", () =>
    Effect.gen(function*() {
      const logged: Array<readonly [string, unknown, unknown]> = []
      const logger = Logger.make(({ fiber, logLevel, message }) => {
        logged.push([logLevel, message, fiber.getRef(References.CurrentLogAnnotations)])
      })
      const server = yield* Effect.provide(
        ThriftServer.make(Echo, handlers, { tls: { ...tls, clients: "required", ca: authority.certificate } }),
        Logger.layer([logger])
      )
      const known = authority.issue({ name: "alice" })
      const client = yield* connectTls(server.address.port, { cert: known.certificate, key: known.key })
      yield* ask(client, "ping", [])
      assert.deepStrictEqual(server.connections().map(({ certificate, secured }) => [certificate?.subject, secured]), [
        ["CN=alice", true]
      ])
      const plain = yield* connect(server.address)
      plain.send(call("ping", []))
      yield* plain.ended
      yield* until(() => server.counts.insecure === 1)
      assert.deepStrictEqual(logged.map(([level, message]) => [level, message]), [
        ["Info", ["listening"]],
        ["Warn", ["a client's connection could not be secured"]]
      ])
      assert.deepInclude(logged[1]![2], { server: "Echo", reason: "not-tls", cause: "the peer does not speak TLS" })
    }))

  it.effect("is told apart from one without", () =>
    Effect.gen(function*() {
      for (const options of [{}, { tls }]) {
        const server = yield* ThriftServer.make(Echo, handlers, options)
        const client = yield* "tls" in options ? connectTls(server.address.port) : connect(server.address)
        yield* ask(client, "ping", [])
        assert.deepStrictEqual(server.connections().map(({ certificate, secured }) => [certificate, secured]), [
          [undefined, "tls" in options]
        ])
      }
    }))

  it.effect("does not wait for handshakes when it closes, and counts them as connections", () =>
    Effect.gen(function*() {
      const scope = yield* scopeOfItsOwn
      const server = yield* ThriftServer.make(Echo, handlers, { tls, maxConnections: 1 }).pipe(Scope.provide(scope))
      const silent = yield* connect(server.address)
      const second = yield* connect(server.address)
      yield* second.ended
      assert.strictEqual(server.counts.refused, 1)
      yield* Scope.close(scope, Exit.void)
      yield* silent.ended
      assert.strictEqual(server.counts.connections, 0)
    }))
})
