/** Mux connections on real sockets, under the whole default stack: each way a server can fail, and the way back. */
import { assert, describe, it } from "@effect/vitest"
import {
  classifyExit,
  type ConnectFailed,
  Dispatcher,
  Endpoint,
  HeapBalancer,
  Requeue,
  Resurrector,
  Rpc,
  type RpcError,
  ServerSet,
  SingletonPool,
  Stack,
  type StackShape,
  type Status
} from "@scales-rpc/core"
import { Mux, MuxTransport } from "@scales-rpc/mux"
import { type RawConnection, RawPeer } from "@scales-rpc/mux/testing"
import { Context, Effect, Exit, Fiber, Layer, References, Schedule, Scope } from "effect"
import Dns from "node:dns"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { vi } from "vitest"
import { utf8 } from "../vectors.ts"
import { ok, turn } from "./scripted.ts"

const local = (port: number): Endpoint => Endpoint.tcp("127.0.0.1", port)

/** What the transport tells of itself. */
interface Snapshot {
  readonly sessions: ReadonlyArray<{ readonly state: string; readonly outstanding: number; readonly tags: number }>
  readonly dispatches: number
  readonly discards: number
  readonly pingTimeouts: number
}

/** A client of bytes, its stack, and what is left of both. */
interface Client {
  readonly call: (body: string | Uint8Array) => Effect.Effect<string, RpcError>
  readonly status: Status
  readonly stack: StackShape
  readonly transport: () => Snapshot
  /** Closes the client: afterwards no timer and no session is left. */
  readonly close: Effect.Effect<void>
}

class Bytes extends Context.Service<Bytes, Pick<Client, "call" | "status">>()("test/Bytes") {
  static readonly layer = Layer.effect(
    Bytes,
    Effect.gen(function*() {
      const sink = yield* Mux.Balanced
      const { dispatch } = yield* Dispatcher.make({ service: "bytes", timeout: "5 seconds" })
      const method = { name: "call", idempotent: false, classify: classifyExit }
      return Bytes.of({
        status: sink.status,
        call: (body) =>
          Effect.map(
            dispatch(method, (call) => sink.send({ body: typeof body === "string" ? utf8(body) : body }, call)),
            (response) => Buffer.from(response.body).toString()
          )
      })
    })
  )
}

/** The default stack over real connections; what waits, waits briefly. */
const clientOf = (
  endpoints: ReadonlyArray<Endpoint>,
  options?: MuxTransport.MuxTransportOptions
): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Scope.Scope)
    const context = yield* Layer.buildWithScope(
      Bytes.layer.pipe(
        Layer.provide(Requeue.layer(Mux)),
        Layer.provide(HeapBalancer.layer(Mux)),
        Layer.provide(Resurrector.layer(Mux, { backoff: Schedule.spaced("20 millis"), demandInterval: "5 millis" })),
        Layer.provide(SingletonPool.layer(Mux)),
        Layer.provide(MuxTransport.layer({ handshakeTimeout: "5 seconds", pingInterval: "1 minute", ...options })),
        Layer.provide(ServerSet.fixed(endpoints)),
        Layer.provideMerge(Stack.layer("test", { drainTimeout: 0 })),
        Layer.fresh
      ),
      scope
    )
    const stack = Context.get(context, Stack)
    const node = stack.nodes().find(({ role }) => role === "transport")!
    const transport = () => node.snapshot() as Snapshot
    const close = Effect.gen(function*() {
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(transport().sessions, [])
      assert.strictEqual(stack.deadlines.size, 0)
    })
    return { ...Context.get(context, Bytes), stack, transport, close }
  }).pipe(Effect.orDie)

/** Does what a server does. */
const serve = (connection: RawConnection): Effect.Effect<Fiber.Fiber<void>, never, Scope.Scope> =>
  Effect.gen(function*() {
    for (;;) {
      const message = yield* connection.next()
      if (message._tag === "Rerr") connection.send(message)
      else if (message._tag === "Tinit") {
        connection.send({ _tag: "Rinit", tag: message.tag, version: 1, headers: message.headers })
      } else if (message._tag === "Tping") connection.send({ _tag: "Rping", tag: message.tag })
      else if (message._tag === "Tdispatch") connection.send(ok(message.tag, Buffer.from(message.body).toString()))
      else if (message._tag === "Tdiscarded") connection.send({ _tag: "Rdiscarded", tag: message.which })
    }
  }).pipe(Effect.ignoreCause, Effect.forkScoped({ startImmediately: true }))

/** Serves every connection that comes from now on. */
const serveAll = (peer: RawPeer.RawPeer): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(Effect.forkScoped(Effect.forever(Effect.flatMap(peer.accept, serve)), { startImmediately: true }))

/** Completes when the client can send again, whoever makes it so. */
const opened = ({ status }: Client): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (status.state === "Open") return resume(Effect.void)
    const unsubscribe = status.subscribe(() => {
      if (status.state === "Open") resume(Effect.void)
    })
    return Effect.sync(unsubscribe)
  })

/** Forks a call and gives it once the server has its request. */
const outstanding = (client: Client, connection: RawConnection, body: string, deadline = "5 seconds") =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkScoped(Effect.flip(client.call(body).pipe(Rpc.deadline(deadline as "5 seconds"))), {
      startImmediately: true
    })
    const request = yield* connection.next("Tdispatch")
    return { fiber, tag: request.tag }
  })

/** Opens one connection as a pool would, and gives what it fails with. */
const connectFailure = (endpoint: Endpoint, options?: MuxTransport.MuxTransportOptions) =>
  Effect.gen(function*() {
    const connector = yield* Mux.Connector
    const error = yield* Effect.flip(Effect.scoped(connector.connect(endpoint)))
    const { deadlines } = yield* Stack
    assert.isAtMost(deadlines.size, 1, "but for the end of the log's storm")
    if (error._tag !== "ConnectFailed") throw new Error(`expected ConnectFailed, got ${error._tag}`)
    assert.strictEqual(error.endpoint, endpoint)
    return error
  }).pipe(Effect.provide(
    MuxTransport.layer({ handshakeTimeout: "5 seconds", ...options }).pipe(
      Layer.provideMerge(Stack.layer("test")),
      Layer.fresh
    )
  ))

const codeOf = (error: ConnectFailed): unknown => (error.cause as { readonly code?: unknown } | undefined)?.code

describe("a connection that cannot be made", () => {
  it.live("because it is refused", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      yield* peer.stop
      const error = yield* connectFailure(local(peer.port))
      assert.strictEqual(error.phase, "connect")
      assert.strictEqual(codeOf(error), "ECONNREFUSED")
    }))

  it.live("because its name means nothing", () =>
    Effect.gen(function*() {
      // An empty label: refused by the resolver itself, no name server is asked.
      const error = yield* connectFailure(Endpoint.tcp("a..b", 80))
      assert.strictEqual(error.phase, "resolve")
      assert.strictEqual(codeOf(error), "ENOTFOUND")
    }))

  it.live("because there is no such Unix socket", () =>
    Effect.gen(function*() {
      const error = yield* connectFailure(Endpoint.unix(Path.join(Os.tmpdir(), "no-such-directory", "socket")))
      assert.strictEqual(error.phase, "connect")
      assert.strictEqual(codeOf(error), "ENOENT")
    }))

  it.live("because its name is not resolved in time", () =>
    Effect.gen(function*() {
      yield* Effect.acquireRelease(
        Effect.sync(() => vi.spyOn(Dns, "lookup").mockImplementation((() => {}) as never)),
        (spy) => Effect.sync(() => spy.mockRestore())
      )
      const error = yield* connectFailure(Endpoint.tcp("slow", 80), { connectTimeout: "30 millis" })
      assert.strictEqual(error.phase, "resolve")
      assert.include(error.message, "no connection within 30 ms")
    }))

  it.live("at any address of its name says what the first one said", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      yield* peer.stop
      const addresses = [{ address: "127.0.0.1", family: 4 }, { address: "::1", family: 6 }]
      yield* Effect.acquireRelease(
        Effect.sync(() =>
          vi.spyOn(Dns, "lookup").mockImplementation(
            ((
              _: string,
              _options: object,
              callback: (error: null, addresses: unknown) => void
            ) => process.nextTick(callback, null, addresses)) as never
          )
        ),
        (spy) => Effect.sync(() => spy.mockRestore())
      )
      const error = yield* connectFailure(Endpoint.tcp("several", peer.port))
      assert.strictEqual(error.phase, "connect")
      assert.strictEqual(codeOf(error), "ECONNREFUSED")
      assert.include(error.message, "ECONNREFUSED")
    }))
})

/** What servers do to a handshake. `act` has the connection; `message` is what the failure tells. */
const spoiled: ReadonlyArray<{
  readonly name: string
  readonly message: RegExp
  readonly act: (connection: RawConnection) => Effect.Effect<unknown>
  /** The system may find it while it still connects. */
  readonly early?: boolean
  /** Found by nothing but the timeout. */
  readonly silent?: boolean
}> = [
  { name: "says nothing", message: /no answer within 50 ms/, act: () => Effect.void, silent: true },
  {
    name: "falls silent after the probe",
    message: /no answer within 50 ms/,
    act: (connection) => Effect.map(connection.next("Rerr"), (probe) => connection.send(probe)),
    silent: true
  },
  {
    name: "closes at once",
    message: /closed the connection|lost at once|ECONNRESET|EPIPE/,
    act: (connection) => Effect.sync(() => connection.end())
  },
  {
    name: "resets at once",
    message: /ECONNRESET|EPIPE|closed the connection|lost at once/,
    act: (connection) => Effect.sync(() => connection.reset()),
    early: true
  },
  {
    name: "closes after the probe",
    message: /closed the connection/,
    act: (connection) => Effect.map(connection.next("Rerr"), () => connection.end())
  },
  {
    name: "resets after the Tinit",
    message: /ECONNRESET/,
    act: (connection) =>
      Effect.gen(function*() {
        connection.send(yield* connection.next("Rerr"))
        yield* connection.next("Tinit")
        connection.reset()
      })
  },
  {
    name: "speaks HTTP",
    message: /frame of \d+ bytes/,
    act: (connection) => Effect.sync(() => connection.write(utf8("HTTP/1.1 400 Bad Request\r\n\r\n")))
  },
  {
    name: "announces a frame of 2^31 - 1 bytes",
    message: /frame of 2147483647 bytes/,
    act: (connection) => Effect.sync(() => connection.write("7fffffff"))
  },
  {
    name: "refuses the Tinit",
    message: /Unsupported Mux version: 1/,
    act: (connection) =>
      Effect.gen(function*() {
        connection.send(yield* connection.next("Rerr"))
        const { tag } = yield* connection.next("Tinit")
        connection.send({ _tag: "Rerr", tag, why: "Unsupported Mux version: 1" })
      })
  }
]

describe("a server that, in the handshake,", () => {
  for (const { act, early, message, name, silent } of spoiled) {
    const options = silent === true ? { handshakeTimeout: "50 millis" } as const : {}

    it.live(`${name} fails the connection, in time, and closes it`, () =>
      Effect.gen(function*() {
        const peer = yield* RawPeer.listen()
        const fiber = yield* Effect.forkScoped(connectFailure(local(peer.port), options), { startImmediately: true })
        const connection = yield* peer.accept
        yield* act(connection)
        const error = yield* Fiber.join(fiber).pipe(Effect.timeout("2 seconds"))
        if (early !== true || error.phase !== "connect") assert.strictEqual(error.phase, "handshake")
        assert.match(error.message, message)
        yield* connection.ended
      }))

    it.live(`${name} is called as soon as it behaves`, () =>
      Effect.gen(function*() {
        const peer = yield* RawPeer.listen()
        const client = yield* clientOf([local(peer.port)], options)
        const call = yield* Effect.forkScoped(client.call("hi"), { startImmediately: true })
        for (let i = 0; i < 2; i++) yield* act(yield* peer.accept)
        yield* serveAll(peer)
        assert.strictEqual(yield* Fiber.join(call), "hi")
        yield* client.close
        for (const connection of peer.connections) yield* connection.ended
      }))
  }

  it.live("says nothing hurts no call while another server answers", () =>
    Effect.gen(function*() {
      const [silent, good] = [yield* RawPeer.listen(), yield* RawPeer.listen()]
      yield* serveAll(good)
      const client = yield* clientOf([local(silent.port), local(good.port)], { handshakeTimeout: "50 millis" })
      const replies = yield* Effect.all(Array.from({ length: 20 }, (_, i) => client.call(`${i}`)), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(replies, Array.from({ length: 20 }, (_, i) => `${i}`))
      assert.isAbove(silent.connections.length, 0)
      yield* client.close
    }))
})

/** What servers do to a session with calls outstanding. */
const broken: ReadonlyArray<{
  readonly name: string
  readonly tag: "ConnectionClosed" | "ProtocolError"
  readonly message: RegExp
  readonly act: (connection: RawConnection) => void
  readonly options?: MuxTransport.MuxTransportOptions
}> = [
  {
    name: "resets the connection",
    tag: "ConnectionClosed",
    message: /ECONNRESET/,
    act: (connection) => connection.reset()
  },
  {
    name: "closes its half of the connection",
    tag: "ConnectionClosed",
    message: /the server closed the connection/,
    act: (connection) => connection.end()
  },
  {
    name: "sends garbage",
    tag: "ProtocolError",
    message: /frame of \d+ bytes/,
    act: (connection) => connection.write(utf8("220 mail.example ESMTP\r\n"))
  },
  {
    name: "announces a frame of 2^31 - 1 bytes",
    tag: "ProtocolError",
    message: /frame of 2147483647 bytes/,
    act: (connection) => connection.write("7fffffff")
  },
  {
    name: "sends a message of no known type",
    tag: "ProtocolError",
    message: /unknown message type: 3/,
    act: (connection) => connection.write("0000000403000002")
  },
  {
    name: "answers nothing any more, pings among it,",
    tag: "ConnectionClosed",
    message: /no answer to a ping within 250 ms/,
    act: () => {},
    options: { pingInterval: "10 millis", pingTimeout: "250 millis" }
  }
]

describe("a server that, with calls outstanding,", () => {
  for (const { act, message, name, options, tag } of broken) {
    it.live(`${name} fails them, and the endpoint comes back by itself`, () =>
      Effect.gen(function*() {
        const peer = yield* RawPeer.listen()
        const client = yield* clientOf([local(peer.port)], options)
        const first = yield* Effect.forkScoped(client.call("first"), { startImmediately: true })
        const connection = yield* peer.accept
        const serving = yield* serve(connection)
        assert.strictEqual(yield* Fiber.join(first), "first")
        yield* Fiber.interrupt(serving)

        const calls = [
          yield* outstanding(client, connection, "a"),
          yield* outstanding(client, connection, "b")
        ]
        act(connection)
        for (const { fiber } of calls) {
          const error = yield* Fiber.join(fiber).pipe(Effect.timeout("2 seconds"))
          assert.strictEqual(error._tag, tag)
          assert.deepInclude(error, { reached: "maybe", retryable: false } as never)
          assert.match(error.message, message)
        }
        yield* connection.ended

        yield* serveAll(peer)
        yield* opened(client)
        assert.strictEqual(yield* client.call("again"), "again")
        const [session] = client.transport().sessions
        assert.deepInclude(session, { state: "Open", outstanding: 0, tags: 0 })
        yield* client.close
        for (const each of peer.connections) yield* each.ended
      }))
  }

  it.live("is shown among the first hundred of its transport, and counted beyond", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      yield* serveAll(peer)
      const context = yield* Layer.build(
        MuxTransport.layer().pipe(Layer.provideMerge(Stack.layer("test")), Layer.fresh)
      )
      const { connect } = Context.get(context, Mux.Connector)
      for (let count = 0; count < 103; count++) yield* connect(Endpoint.tcp("127.0.0.1", peer.port))
      const node = Context.get(context, Stack).nodes().find(({ role }) => role === "transport")!
      const { sessions, sessionsLeftOut } = node.snapshot() as Snapshot & { readonly sessionsLeftOut: number }
      assert.lengthOf(sessions, 100)
      assert.strictEqual(sessionsLeftOut, 3)
    }))

  it.live("dies, and is refused, fails calls at once with the cause, and comes back by itself", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const client = yield* clientOf([local(peer.port)])
      const first = yield* Effect.forkScoped(client.call("first"), { startImmediately: true })
      const connection = yield* peer.accept
      const serving = yield* serve(connection)
      yield* Fiber.join(first)
      yield* Fiber.interrupt(serving)
      const { fiber } = yield* outstanding(client, connection, "a")
      yield* peer.stop
      connection.reset()
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "ConnectionClosed")
      const error = yield* Effect.flip(client.call("b"))
      assert.deepInclude(error, { _tag: "FastFailure", reached: "no", retryable: true } as never)
      yield* serveAll(yield* RawPeer.listen(peer.port))
      yield* opened(client)
      assert.strictEqual(yield* client.call("c"), "c")
      yield* client.close
    }))

  it.live("answers pings but no calls has them end at their deadlines, and keeps its connection", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const client = yield* clientOf([local(peer.port)])
      const first = yield* Effect.forkScoped(client.call("first"), { startImmediately: true })
      const connection = yield* peer.accept
      const serving = yield* serve(connection)
      yield* Fiber.join(first)
      yield* Fiber.interrupt(serving)
      const { fiber, tag } = yield* outstanding(client, connection, "a", "50 millis")
      const error = yield* Fiber.join(fiber).pipe(Effect.timeout("2 seconds"))
      assert.deepInclude(error, { _tag: "Timeout", waiting: "reply", reached: "maybe" } as never)
      const discard = yield* connection.next("Tdiscarded")
      assert.strictEqual(discard.which, tag)
      assert.deepInclude(client.transport().sessions[0], { state: "Open", outstanding: 0, tags: 1 })
      // Too late: nobody waits for it, and it frees the tag.
      connection.send(ok(tag, "a"))
      yield* serve(connection)
      assert.strictEqual(yield* client.call("b"), "b")
      assert.deepInclude(client.transport().sessions[0], { tags: 0 })
      assert.strictEqual(peer.connections.length, 1)
      yield* client.close
    }))

  it.live("drains ends them, and the next call has a new connection", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const client = yield* clientOf([local(peer.port)])
      const first = yield* Effect.forkScoped(client.call("first"), { startImmediately: true })
      const connection = yield* peer.accept
      const serving = yield* serve(connection)
      yield* Fiber.join(first)
      yield* Fiber.interrupt(serving)
      const last = yield* Effect.forkScoped(client.call("last"), { startImmediately: true })
      const request = yield* connection.next("Tdispatch")
      connection.send({ _tag: "Tdrain", tag: 1 })
      yield* connection.next("Rdrain")
      connection.send(ok(request.tag, "last"))
      assert.strictEqual(yield* Fiber.join(last), "last")
      yield* connection.ended
      yield* serveAll(peer)
      assert.strictEqual(yield* client.call("next"), "next")
      assert.strictEqual(peer.connections.length, 2)
      yield* client.close
    }))
})

describe("a server that reads nothing", () => {
  const size = 1024 * 1024

  it.live("has 64 MiB of calls end at their deadlines, holding no more than their callers do", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const client = yield* clientOf([local(peer.port)])
      const first = yield* Effect.forkScoped(client.call("first"), { startImmediately: true })
      const connection = yield* peer.accept
      const serving = yield* serve(connection)
      yield* Fiber.join(first)
      connection.pause()
      const body = new Uint8Array(size)
      const before = process.memoryUsage().arrayBuffers
      const calls = yield* Effect.forEach(
        Array.from({ length: 64 }),
        () =>
          Effect.forkScoped(Effect.flip(client.call(body).pipe(Rpc.deadline("300 millis"))), { startImmediately: true })
      )
      assert.deepInclude(client.transport().sessions[0], { outstanding: 64, tags: 64 })
      const errors = yield* Effect.forEach(calls, Fiber.join)
      // Their one body, and what is on its way to the socket.
      assert.isBelow(process.memoryUsage().arrayBuffers - before, 4 * size)
      for (const error of errors) assert.strictEqual(error._tag, "Timeout")
      const queued = errors.filter(({ reached }) => reached === "no").length
      assert.isAtLeast(queued, 32)
      assert.deepInclude(client.transport(), { discards: 64 - queued })
      assert.deepInclude(client.transport().sessions[0], { outstanding: 0, tags: 64 - queued })

      // It reads on: what had left is whole, and what had not left does not come.
      connection.resume()
      assert.strictEqual(yield* client.call("and now"), "and now")
      const requests = connection.received.filter((message) => message._tag === "Tdispatch")
      assert.deepStrictEqual(requests.map((request) => request.body.length), [
        5,
        ...Array.from({ length: 64 - queued }, () => size),
        7
      ])
      yield* Fiber.interrupt(serving)
      yield* client.close
    }))

  it.live("is given up when it answers no ping: calls that can have reached it fail, the others try once more to connect", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const client = yield* clientOf([local(peer.port)], {
        pingInterval: "20 millis",
        pingTimeout: "250 millis",
        handshakeTimeout: "500 millis"
      })
      const first = yield* Effect.forkScoped(client.call("first"), { startImmediately: true })
      const connection = yield* peer.accept
      yield* serve(connection)
      yield* Fiber.join(first)
      connection.pause()
      const body = new Uint8Array(size)
      const calls = yield* Effect.forEach(
        Array.from({ length: 64 }),
        () => Effect.forkScoped(Effect.flip(client.call(body)), { startImmediately: true })
      )
      const errors = yield* Effect.forEach(calls, Fiber.join)
      const sent = errors.filter(({ reached }) => reached === "maybe")
      for (const error of sent) {
        assert.strictEqual(error._tag, "ConnectionClosed")
        assert.match(error.message, /no answer to a ping within 250 ms/)
      }
      // Nobody answers the handshake of the connection that they waited for.
      const unsent = errors.filter(({ reached }) => reached === "no")
      for (const error of unsent) assert.include(["ConnectFailed", "FastFailure"], error._tag)
      assert.isAtLeast(unsent.length, 32)
      assert.isAtLeast(sent.length, 1)
      yield* serveAll(peer)
      yield* opened(client)
      assert.strictEqual(yield* client.call("and now"), "and now")
      assert.strictEqual(client.transport().pingTimeouts, 1)
      assert.deepInclude(client.transport().sessions[0], { outstanding: 0, tags: 0 })
      yield* client.close
    }))
})

/** Completes when the other side has let go of the connection altogether: what is written to it meets nobody. */
const gone = ({ socket }: RawConnection): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const writing = setInterval(() => socket.write("?"), 1)
    socket.once("close", () => {
      clearInterval(writing)
      resume(Effect.void)
    })
  })

describe("a connection", () => {
  it.live("that is drained ends by itself, whatever becomes of its scope", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const connector = yield* Mux.Connector
      const connecting = yield* Effect.forkScoped(connector.connect(local(peer.port)), { startImmediately: true })
      const connection = yield* peer.accept
      yield* connection.acceptHandshake()
      const sink = yield* Fiber.join(connecting)
      connection.send({ _tag: "Tdrain", tag: 1 })
      yield* connection.next("Rdrain")
      yield* connection.ended
      assert.strictEqual(sink.status.state, "Closed")
      assert.isUndefined(sink.status.fault)
    }).pipe(Effect.provide(MuxTransport.layer().pipe(Layer.provideMerge(Stack.layer("test")), Layer.fresh))))

  it.live("that breaks before the session listens to it is found at once", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const fiber = yield* Effect.forkScoped(connectFailure(local(peer.port), { handshakeTimeout: "1 minute" }), {
        startImmediately: true
      })
      const connection = yield* peer.accept
      yield* Effect.promise(turn)
      connection.reset()
      const error = yield* Fiber.join(fiber).pipe(Effect.timeout("2 seconds"))
      assert.match(error.message, /ECONNRESET|EPIPE|lost at once/)
      // Every few steps the client gives way to everybody else.
    }).pipe(Effect.provideService(References.MaxOpsBeforeYield, 4)))
})

describe("a client that closes", () => {
  it.live("lets go of a connection whose other half the server keeps open", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const client = yield* clientOf([local(peer.port)])
      const call = yield* Effect.forkScoped(client.call("hi"), { startImmediately: true })
      const connection = yield* peer.accept
      yield* serve(connection)
      yield* Fiber.join(call)
      yield* client.close
      yield* connection.ended
      yield* gone(connection)
    }))

  it.live("in the handshake leaves nothing", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const client = yield* clientOf([local(peer.port)], { handshakeTimeout: "1 minute" })
      const call = yield* Effect.forkScoped(Effect.flip(client.call("hi")), { startImmediately: true })
      const connection = yield* peer.accept
      yield* connection.next("Rerr")
      yield* client.close
      assert.strictEqual((yield* Fiber.join(call))._tag, "StackClosed")
      yield* connection.ended
    }))

  it.live("with calls outstanding ends them and its connections", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const client = yield* clientOf([local(peer.port)])
      const call = yield* Effect.forkScoped(Effect.flip(client.call("hi")), { startImmediately: true })
      const connection = yield* peer.accept
      yield* connection.acceptHandshake()
      yield* connection.next("Tdispatch")
      yield* client.close
      assert.deepInclude(yield* Fiber.join(call), { _tag: "StackClosed", reached: "maybe" } as never)
      yield* connection.ended
    }))
})

describe("an endpoint", () => {
  it.live("may be a Unix socket", () =>
    Effect.gen(function*() {
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "mux-"))),
        (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
      )
      const path = Path.join(directory, "socket")
      const sockets: Array<Net.Socket> = []
      yield* Effect.acquireRelease(
        Effect.callback<Net.Server>((resume) => {
          const server = Net.createServer((socket) => {
            sockets.push(socket)
            // Knows no handshake, and answers everything with one reply.
            socket.once("data", () => socket.write(Buffer.from("000000057f00000100", "hex")))
          })
          server.listen(path, () => resume(Effect.succeed(server)))
        }),
        (server) =>
          Effect.callback<void>((resume) => {
            for (const socket of sockets) socket.destroy()
            server.close(() => resume(Effect.void))
          })
      )
      const client = yield* clientOf([Endpoint.unix(path)])
      const call = yield* Effect.forkScoped(client.call("hi"), { startImmediately: true })
      yield* opened(client)
      sockets[0]!.write(Buffer.from("0000000cfe000002000000776f726c64", "hex"))
      assert.strictEqual(yield* Fiber.join(call), "world")
      yield* client.close
    }))

  it.live("may be a name, resolved at each connect", () =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      yield* serveAll(peer)
      const client = yield* clientOf([Endpoint.tcp("localhost", peer.port)])
      assert.strictEqual(yield* client.call("hi"), "hi")
      yield* client.close
    }))
})

describe("options", () => {
  const build = (options: MuxTransport.MuxTransportOptions) =>
    Effect.flip(Effect.scoped(Layer.build(Layer.provide(MuxTransport.layer(options), Stack.layer("test")))))

  it.effect("that are wrong fail the build, by name", () =>
    Effect.gen(function*() {
      const wrong: ReadonlyArray<readonly [string, MuxTransport.MuxTransportOptions]> = [
        ["connectTimeout", { connectTimeout: 0 }],
        ["handshakeTimeout", { handshakeTimeout: "-1 seconds" as never }],
        ["pingInterval", { pingInterval: Infinity }],
        ["pingTimeout", { pingTimeout: 0 }],
        ["window", { window: 0 }],
        ["window", { window: 2 ** 31 }],
        ["limits.messageBytes", { limits: { messageBytes: -1 } }],
        ["limits.contexts", { limits: { contexts: 1.5 } }]
      ]
      for (const [option, options] of wrong) {
        const error = yield* build(options)
        assert.deepInclude(error, { _tag: "InvalidOption", option } as never)
      }
    }))
})
