import { assert, describe, it } from "@effect/vitest"
import { ConnectionClosed, Rpc, type Timeout } from "@scales-rpc/core"
import { RawPeer } from "@scales-rpc/mux/testing"
import { ThriftMux } from "@scales-rpc/thriftmux"
import { Effect, Exit, Fiber, Schedule } from "effect"
import {
  build,
  closedPort,
  connect,
  Echo,
  type EchoHandlers,
  leavesNoSockets,
  serve,
  spread,
  until
} from "./support.ts"

leavesNoSockets()

/** Quick enough for a test: what is down is tried every few milliseconds, and at once when it is called. */
const quick: ThriftMux.ThriftMuxOptions = {
  resurrector: { backoff: Schedule.spaced("5 millis"), demandInterval: 0 },
  mux: { handshakeTimeout: "200 millis" }
}

/** A server of which `slow` never answers and `seen` says who it is. */
const named = (name: string, options: { readonly port?: number } = {}) => {
  const handlers: Partial<EchoHandlers> = { slow: () => Effect.never, seen: () => Effect.succeed(name) }
  return serve(handlers, options)
}

const times = (n: number) => Array.from({ length: n }, (_, i) => i)

describe("a server that is killed", () => {
  it.live("fails exactly the calls that it had; the next go elsewhere", () =>
    Effect.gen(function*() {
      const [victim, other] = [yield* named("victim"), yield* named("other")]
      const { echo, live } = yield* spread([victim, other], quick)
      const calls = yield* Effect.forEach(times(20), (i) => Effect.forkChild(Effect.exit(echo.slow(i))))
      yield* until("both have half", () => victim.outstanding() === 10 && other.outstanding() === 10)
      yield* victim.kill
      yield* until("its calls have failed", () => live().outstanding === 10)
      assert.deepStrictEqual(yield* Effect.forEach(times(30), () => echo.seen()), times(30).map(() => "other"))
      const ended = calls.map((call) => call.pollUnsafe()).filter((exit) => exit !== undefined)
      assert.strictEqual(ended.length, 10)
      for (const exit of ended) {
        assert.isTrue(Exit.isSuccess(exit))
        const failure = Exit.isSuccess(exit) ? Exit.findErrorOption(exit.value) : undefined
        const error = failure?._tag === "Some" ? failure.value : undefined
        assert.instanceOf(error, ConnectionClosed)
        assert.deepInclude(error, { reached: "maybe", retryable: false })
        assert.strictEqual(error.endpoint.port, victim.address.port)
      }
      yield* Effect.forEach(calls, Fiber.interrupt)
    }))

  it.live("and starts again on its port is used again by itself", () =>
    Effect.gen(function*() {
      const [victim, other] = [yield* named("victim"), yield* named("other")]
      const { port } = victim.address
      const { close, echo, live } = yield* spread([victim, other], quick)
      const state = () => live().endpoints.find(({ endpoint }) => endpoint.endsWith(`:${port}`))!.state
      yield* Effect.forEach(times(4), () => echo.ping())
      yield* victim.kill
      yield* until("it is down", () => state() === "Closed")
      yield* Effect.forEach(times(4), () => echo.ping())
      const again = yield* named("victim, again", { port })
      // Nobody calls it: it is the resurrector that connects.
      yield* until("it is connected", () => state() === "Open")
      assert.strictEqual(again.counts.sessions, 1)
      const names = yield* Effect.forEach(times(20), () => echo.seen(), { concurrency: "unbounded" })
      assert.deepStrictEqual([...new Set(names)].toSorted(), ["other", "victim, again"])
      yield* close
    }))

  it.live("and was the only one: calls fail fast with why, until it is back", () =>
    Effect.gen(function*() {
      const victim = yield* named("victim")
      const { port } = victim.address
      const { close, echo, live } = yield* connect(victim, quick)
      yield* echo.ping()
      yield* victim.kill
      yield* until("it is down", () => live().endpoints[0]!.state === "Closed")
      const error = yield* Effect.flip(echo.ping())
      assert.deepInclude(error, { _tag: "FastFailure", reached: "no", retryable: true })
      assert.include(error.message, `ECONNREFUSED 127.0.0.1:${port}`)
      const again = yield* named("again", { port })
      assert.strictEqual(yield* echo.seen(), "again")
      assert.strictEqual(again.counts.sessions, 1)
      yield* close
    }))

  it.live("again and again loses only calls that may have run", () =>
    Effect.gen(function*() {
      const other = yield* serve()
      let victim = yield* serve()
      const { port } = victim.address
      const { close, echo } = yield* spread([victim, other], quick)
      const tags = new Map<string, number>()
      const run = { over: false }
      const caller = Effect.gen(function*() {
        while (!run.over) {
          const exit = yield* Effect.exit(echo.blob(Buffer.alloc(2000)))
          const failure = Exit.findErrorOption(exit)
          const tag = failure._tag === "None" ? "ok" : failure.value._tag
          tags.set(tag, (tags.get(tag) ?? 0) + 1)
          yield* Effect.yieldNow
        }
      })
      const callers = yield* Effect.forEach(times(16), () => Effect.forkChild(caller))
      for (let i = 0; i < 5; i++) {
        const before = victim.counts.requests
        yield* until("it is used", () => victim.counts.requests > before + 20)
        yield* victim.kill
        victim = yield* serve({}, { port })
      }
      yield* until("it is used", () => victim.counts.requests > 20)
      run.over = true
      yield* Effect.forEach(callers, Fiber.join)
      assert.deepStrictEqual([...tags.keys()].filter((tag) => tag !== "ok" && tag !== "ConnectionClosed"), [])
      assert.isAbove(tags.get("ok")!, 100)
      yield* close
    }))
})

describe("a black hole among two servers", () => {
  it.live("that answers no handshake costs no call; only the first ones wait for it", () =>
    Effect.gen(function*() {
      const hole = yield* RawPeer.listen()
      const server = yield* serve()
      const { echo, live } = yield* spread([hole, server], quick)
      assert.deepStrictEqual(
        yield* Effect.forEach(times(50), () => echo.ping(), { concurrency: 10 }),
        times(50).map(() => "pong")
      )
      assert.strictEqual(server.counts.requests, 50)
      assert.isAbove(hole.connections.length, 0)
      yield* until("it is known", () =>
        live().endpoints.some(({ endpoint, state }) => endpoint.endsWith(`:${hole.port}`) && state === "Closed"))
    }))

  it.live("that falls silent is found out by a ping; calls it has fail, the next go elsewhere", () =>
    Effect.gen(function*() {
      const hole = yield* RawPeer.listen()
      const server = yield* serve({ slow: () => Effect.never })
      const { close, echo, live } = yield* spread([hole, server], {
        ...quick,
        mux: { pingInterval: "20 millis", pingTimeout: "200 millis" },
        resurrector: { backoff: Schedule.spaced("1 hour") }
      })
      const calls = yield* Effect.forEach(times(4), (i) => Effect.forkChild(Effect.exit(echo.slow(i))))
      const connection = yield* hole.accept
      yield* connection.acceptHandshake()
      // The first ping is answered, no other: it is there, and then it is not.
      connection.send({ _tag: "Rping", tag: (yield* connection.next("Tping")).tag })
      yield* until("its calls have failed", () => live().outstanding === 2)
      const ended = calls.map((call) => call.pollUnsafe()).filter((exit) => exit !== undefined)
      assert.deepStrictEqual(
        ended.map((exit) => Exit.isSuccess(exit) && Exit.findErrorOption(exit.value)).map((error) =>
          error !== false && error._tag === "Some" ? error.value.message : ""
        ),
        times(2).map(() => `connection closed at 127.0.0.1:${hole.port}: no answer to a ping within 200 ms`)
      )
      assert.deepStrictEqual(yield* Effect.forEach(times(10), () => echo.ping()), times(10).map(() => "pong"))
      yield* Effect.forEach(calls, Fiber.interrupt)
      yield* close
    }))

  it.live("that never replies costs a call its time, and no more", () =>
    Effect.gen(function*() {
      const hole = yield* RawPeer.listen()
      const building = yield* Effect.forkChild(build(ThriftMux.layer(Echo, { uri: hole.uri, eager: true })))
      const connection = yield* hole.accept
      yield* connection.acceptHandshake()
      const { close, echo, live } = yield* Fiber.join(building)
      const error = yield* Effect.flip(echo.ping().pipe(Rpc.deadline("50 millis")))
      assert.deepInclude(error, { _tag: "Timeout", waiting: "reply", reached: "maybe" })
      // What is left of the 50 ms when the call begins: the clock may have gone on since the caller asked.
      const { timeoutMillis } = error as Timeout
      assert.isAtMost(timeoutMillis, 50)
      assert.strictEqual((yield* connection.next("Tdiscarded")).why, `no reply within ${timeoutMillis} ms`)
      // Held until the server answers for it, so that a late reply meets no other call.
      assert.strictEqual(live().sessions[0]!.tags, 1)
      connection.send({ _tag: "Rdiscarded", tag: 2 })
      yield* until("the tag is free", () => live().sessions[0]!.tags === 0)
      yield* close
    }))
})

describe("a server that", () => {
  /** A call to a server that does something once it has the request. */
  const against = (act: (connection: RawPeer.RawConnection) => void) =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const { close, echo } = yield* build(ThriftMux.layer(Echo, { ...quick, uri: peer.uri }))
      const call = yield* Effect.forkChild(Effect.flip(echo.ping()))
      const connection = yield* peer.accept
      yield* connection.acceptHandshake()
      yield* connection.next("Tdispatch")
      act(connection)
      const error = yield* Fiber.join(call)
      yield* close
      return error
    })

  it.live("closes the connection, half or whole, ends its calls: they may have run", () =>
    Effect.gen(function*() {
      for (const end of ["end", "reset"] as const) {
        const error = yield* against((connection) => connection[end]())
        assert.deepInclude(error, { _tag: "ConnectionClosed", reached: "maybe" })
      }
    }))

  it.live("sends what is no mux, or a size without end, is cut off", () =>
    Effect.gen(function*() {
      for (
        const bytes of ["00000000", "7fffffff", "0000000403000002", Buffer.from("HTTP/1.1 200 OK").toString("hex")]
      ) {
        const error = yield* against((connection) => connection.write(bytes))
        assert.deepInclude(error, { _tag: "ProtocolError", reached: "maybe" })
      }
    }))

  it.live("answers what is no Thrift fails that call alone", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const { close, echo } = yield* build(ThriftMux.layer(Echo, { uri: peer.uri }))
      const call = yield* Effect.forkChild(Effect.flip(echo.ping()))
      const connection = yield* peer.accept
      yield* connection.acceptHandshake()
      const reply = (tag: number, hex: string) =>
        connection.send({ _tag: "Rdispatch", tag, status: 0, contexts: [], body: Buffer.from(hex, "hex") })
      reply((yield* connection.next("Tdispatch")).tag, "00ff00ff00")
      assert.strictEqual((yield* Fiber.join(call))._tag, "ThriftProtocolError")
      const next = yield* Effect.forkChild(echo.ping())
      reply((yield* connection.next("Tdispatch")).tag, "800100020000000470696e67000000010b000000000004706f6e6700")
      assert.strictEqual(yield* Fiber.join(next), "pong")
      assert.strictEqual(peer.connections.length, 1)
      yield* close
    }))
})

it.live("servers that all are down fail a call by its deadline, with why", () =>
  Effect.gen(function*() {
    const { echo } = yield* connect([yield* closedPort, yield* closedPort], { ...quick, timeout: "300 millis" })
    const error = yield* Effect.flip(echo.ping())
    assert.deepInclude(error, { _tag: "Timeout", waiting: "endpoint", reached: "no" })
    assert.include(error.message, "ECONNREFUSED")
  }))
