/**
 * TLS on mux connections: from the first byte, and negotiated in the handshake; our client, our server, and peers that
 * do what a test says.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  type Call,
  classifyExit,
  ConnectFailed,
  Dispatcher,
  HeapBalancer,
  InvalidOption,
  Resurrector,
  type RpcError,
  ServerSet,
  SingletonPool,
  Stack
} from "@scales-rpc/core"
import { Tls } from "@scales-rpc/core/socket"
import { Certificates } from "@scales-rpc/core/testing"
import { type Message, Mux, MuxServer, type MuxServerOptions, MuxTransport, type TlsMode } from "@scales-rpc/mux"
import { type RawConnection, RawPeer } from "@scales-rpc/mux/testing"
import { Context, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as NodeTls from "node:tls"
import * as Util from "node:util"
import { negotiateTls, type TlsLevel } from "../src/Handshake.ts"
import { fromHex, toHex, utf8 } from "./vectors.ts"

const authority = Certificates.authority("tests")
const own = authority.issue()

/** A client of bytes, and the stack that it is the top of. */
const clientOf = (uri: string, options: MuxTransport.MuxTransportOptions) =>
  Effect.gen(function*() {
    const context = yield* Layer.build(
      HeapBalancer.layer(Mux).pipe(
        Layer.provide(Resurrector.layer(Mux)),
        Layer.provide(SingletonPool.layer(Mux)),
        Layer.provide(MuxTransport.layer(options)),
        Layer.provide(ServerSet.fromUri(uri)),
        Layer.provideMerge(Stack.layer("bytes")),
        Layer.fresh
      )
    )
    const sink = Context.get(context, Mux.Balanced)
    const stack = Context.get(context, Stack)
    const { dispatch } = yield* Effect.provide(Dispatcher.make({ service: "bytes", timeout: "10 seconds" }), context)
    const method = { name: "call", idempotent: false, classify: classifyExit }
    const call = (body: string | Uint8Array): Effect.Effect<Uint8Array, RpcError> =>
      Effect.map(
        dispatch(method, (call: Call) => sink.send({ body: typeof body === "string" ? utf8(body) : body }, call)),
        (response) => response.body
      )
    const transport = stack.nodes().find(({ role }) => role === "transport")!
    return {
      call,
      text: (body: string) => Effect.map(call(body), (bytes) => Buffer.from(bytes).toString()),
      transport,
      secured: () =>
        (transport.snapshot() as { sessions: ReadonlyArray<{ secured: boolean }> }).sessions.map(({ secured }) =>
          secured
        )
    }
  })

const echo = (options?: MuxServerOptions) => MuxServer.make(({ body }) => Effect.succeed({ body }), options)

const trusting = (mode?: TlsMode) => ({ tls: { ca: authority.certificate, mode } })
const serving = (mode?: TlsMode) => ({ tls: { ...own, mode } })

const toText = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

/** Frames of the handshake, in hexadecimal. */
const frame = (type: string, body: string): string =>
  (body.length / 2 + 4).toString(16).padStart(8, "0") + type + "000001" + body
const sized = (text: string): string => text.length.toString(16).padStart(8, "0") + toHex(utf8(text))
const headers = (level: TlsLevel): string => `${sized("mux-framer")}000000047fffffff${sized("tls")}${sized(level)}`
const probe = frame("7f", toHex(utf8("tinit check")))
const tinit = (level: TlsLevel): string => frame("44", `0001${headers(level)}`)
const rinit = (level: TlsLevel): string => frame("bc", `0001${headers(level)}`)

/** Why no connection could be made. */
const refusal = (opening: Effect.Effect<unknown, RpcError>) =>
  Effect.map(Effect.flip(opening), (error) => {
    const fault = error._tag === "FastFailure" ? error.cause : error
    assert.instanceOf(fault, ConnectFailed)
    return fault
  })

describe("levels of TLS", () => {
  const table: ReadonlyArray<readonly [TlsLevel, TlsLevel, ReturnType<typeof negotiateTls>]> = [
    ["off", "off", "plain"],
    ["off", "desired", "plain"],
    ["desired", "desired", "tls"],
    ["desired", "required", "tls"],
    ["required", "required", "tls"],
    ["off", "required", "incompatible"]
  ]
  it("come to what they do in Finagle, in either order", () => {
    for (const [one, other, result] of table) {
      assert.strictEqual(negotiateTls(one, other), result)
      assert.strictEqual(negotiateTls(other, one), result)
    }
  })

  for (const client of ["off", "desired", "required"] as const) {
    for (const server of ["off", "desired", "required"] as const) {
      const result = negotiateTls(client, server)
      it.live(`client ${client}, server ${server}: ${result}`, () =>
        Effect.gen(function*() {
          const { address, sessions, uri } = yield* echo(serving(server))
          assert.notStrictEqual(address.port, 0)
          const { call, secured, text } = yield* clientOf(uri, trusting(client))
          if (result === "incompatible") {
            const fault = yield* refusal(text("hi"))
            assert.strictEqual(fault.phase, "tls")
            assert.instanceOf(fault.cause, Tls.TlsFailed)
            assert.strictEqual(fault.cause.reason, "not-negotiated")
            assert.match(
              fault.message,
              client === "off"
                ? /the server requires TLS, and this client has none$/
                : /this client requires TLS, and the server does not offer it$/
            )
            return
          }
          // More than one read or write of TLS takes.
          const body = Buffer.alloc(1_000_000, "0123456789")
          assert.isTrue(body.equals(yield* call(body)))
          assert.deepStrictEqual(secured(), [result === "tls"])
          assert.deepStrictEqual(sessions().map(({ secured }) => secured), [result === "tls"])
        }))
    }
  }

  it.live("are not spoken of where TLS is there from the first byte", () =>
    Effect.gen(function*() {
      const { sessions, uri } = yield* echo(serving())
      const { secured, text } = yield* clientOf(uri, trusting())
      assert.strictEqual(yield* text("hi"), "hi")
      assert.deepStrictEqual([secured(), sessions().map(({ secured }) => secured)], [[true], [true]])
    }))

  it.live("are refused when there is no such mode", () =>
    Effect.gen(function*() {
      const tls = { ...own, mode: "sometimes" as never }
      for (
        const build of [echo({ tls }), Effect.scoped(clientOf("tcp://127.0.0.1:1", { tls }))] as ReadonlyArray<
          Effect.Effect<unknown, unknown, Scope.Scope>
        >
      ) {
        const error = yield* Effect.flip(build)
        assert.instanceOf(error, InvalidOption)
        assert.strictEqual(error.option, "tls.mode")
      }
    }))

  it.live("off leaves the other options alone: files need not be there", () =>
    Effect.gen(function*() {
      const path = "/nowhere"
      const { uri } = yield* echo({ tls: { certificate: { path }, key: { path }, mode: "off" } })
      const { secured, text } = yield* clientOf(uri, { tls: { ca: { path }, mode: "off" } })
      assert.strictEqual(yield* text("hi"), "hi")
      assert.deepStrictEqual(secured(), [false])
    }))
})

describe("a client that negotiates TLS", () => {
  /** A raw server which answers the handshake with a level, and whatever else it is told. */
  const answering = (
    client: MuxTransport.MuxTransportOptions,
    answer: (connection: RawConnection, init: Message.Tinit) => void
  ) =>
    Effect.gen(function*() {
      const peer = yield* RawPeer.listen()
      const { text } = yield* clientOf(peer.uri, client)
      const opening = yield* Effect.forkChild(text("hi"), { startImmediately: true })
      const connection = yield* peer.accept
      connection.send(yield* connection.next("Rerr"))
      answer(connection, yield* connection.next("Tinit"))
      return { exit: yield* Fiber.await(opening), connection }
    })

  it.live("says how much it wants it", () =>
    Effect.gen(function*() {
      for (const mode of ["desired", "required"] as const) {
        yield* answering(trusting(mode), (connection, init) => {
          assert.deepStrictEqual(init.headers.map(([key, value]) => [toText(key), toText(value)])[1], ["tls", mode])
          connection.socket.destroy()
        })
      }
    }))

  it.live("refuses a server that knows no handshake if it requires TLS, and goes on without if it does not", () =>
    Effect.gen(function*() {
      for (const mode of ["desired", "required"] as const) {
        const peer = yield* RawPeer.listen()
        const { secured, text } = yield* clientOf(peer.uri, trusting(mode))
        const opening = yield* Effect.forkChild(text("hi"), { startImmediately: true })
        const connection = yield* peer.accept
        yield* connection.next("Rerr")
        connection.send({ _tag: "Rerr", tag: 1, why: "Unexpected mux message type 127" })
        if (mode === "desired") {
          yield* connection.next("Tping")
          assert.deepStrictEqual(secured(), [false])
          yield* Fiber.interrupt(opening)
        } else {
          const fault = yield* refusal(Fiber.join(opening))
          assert.match(fault.message, /^tls failed .*this client requires TLS, and the server does not negotiate$/)
        }
      }
    }))

  const ping = "0000000441000001"
  for (
    const [name, behind] of [
      ["a whole message", ping],
      ["a part of one", ping.slice(0, 6)],
      ["what could be the hello of TLS", "160303"]
    ] as const
  ) {
    it.live(`does not take ${name} between Rinit and TLS`, () =>
      Effect.gen(function*() {
        const { exit } = yield* answering(trusting("desired"), (connection) => {
          connection.write(`${rinit("desired")}${behind}`)
        })
        const fault = yield* refusal(exit)
        assert.strictEqual(fault.phase, "handshake")
        assert.match(fault.message, /between Rinit and TLS$/)
      }))
  }

  it.live("says what is wrong with the server's TLS", () =>
    Effect.gen(function*() {
      const { exit } = yield* answering(trusting("required"), (connection) => {
        connection.write(rinit("required"))
        connection.socket.once("data", () => connection.write("7f".repeat(20)))
      })
      const fault = yield* refusal(exit)
      assert.strictEqual(fault.phase, "tls")
      assert.strictEqual((fault.cause as Tls.TlsFailed).reason, "not-tls")
    }))

  it.live("waits no longer than its handshake timeout for a server that falls silent after Rinit", () =>
    Effect.gen(function*() {
      const { exit } = yield* answering(
        { tls: { ...trusting("required").tls, handshakeTimeout: "50 millis" } },
        (connection) => connection.write(rinit("required"))
      )
      const fault = yield* refusal(exit)
      assert.strictEqual((fault.cause as Tls.TlsFailed).reason, "timeout")
    }))

  it.live("is not open before the server has said something over TLS, and gives up on one that does not", () =>
    Effect.gen(function*() {
      const context = NodeTls.createSecureContext({ cert: own.certificate, key: own.key })
      const { exit } = yield* answering(
        { ...trusting("required"), pingTimeout: "50 millis" },
        (connection) => {
          connection.write(rinit("required"))
          connection.socket.removeAllListeners("data").pause()
          new NodeTls.TLSSocket(connection.socket, { isServer: true, secureContext: context }).resume()
        }
      )
      const fault = yield* refusal(exit)
      assert.match(fault.message, /^handshake failed .*no answer to a ping within 50 ms$/)
    }))

  it.live("does not accept what it would not accept from the first byte on", () =>
    Effect.gen(function*() {
      for (const mode of ["always", "desired", "required"] as const) {
        const { uri } = yield* echo({ tls: { ...Certificates.authority("stranger").issue(), mode } })
        const { text } = yield* clientOf(uri, trusting(mode))
        const fault = yield* refusal(text("hi"))
        assert.strictEqual(fault.phase, "tls")
        assert.match(fault.message, /^tls failed at 127\.0\.0\.1:\d+: untrusted issuer/)
      }
    }))

  it.live("tells neither keys nor content where a stack describes itself", () =>
    Effect.gen(function*() {
      const { uri } = yield* echo(serving())
      const { text, transport } = yield* clientOf(uri, {
        tls: { ...own, ca: authority.certificate, passphrase: "open sesame" }
      })
      assert.strictEqual(yield* text("hi"), "hi")
      assert.deepStrictEqual(transport.options["tls"]!.value, {
        mode: "always",
        ca: "text",
        certificate: "text",
        minVersion: "TLSv1.2",
        handshakeTimeoutMillis: 5000,
        serverName: "the endpoint's host"
      })
      assert.notMatch(Util.inspect([transport, transport.snapshot()], { depth: 9 }), /BEGIN|open sesame/)
    }))
})

describe("a server that negotiates TLS", () => {
  it.live("refuses a client that does not negotiate if it requires TLS, in Finagle's words", () =>
    Effect.gen(function*() {
      const { address } = yield* echo(serving("required"))
      const client = yield* RawPeer.connect(address)
      client.send({ _tag: "Tdispatch", tag: 7, contexts: [], destination: "", dtab: [], body: utf8("hi") })
      assert.deepStrictEqual(yield* client.next(), {
        _tag: "Rerr",
        tag: 7,
        why: "Could not negotiate whether to use TLS or not.. Remote Info: Not Available"
      })
      yield* client.ended
    }))

  it.live("serves a client that does not negotiate if it only desires TLS", () =>
    Effect.gen(function*() {
      const { address } = yield* echo(serving("desired"))
      const client = yield* RawPeer.connect(address)
      client.send({ _tag: "Tdispatch", tag: 7, contexts: [], destination: "", dtab: [], body: utf8("hi") })
      assert.strictEqual((yield* client.next())._tag, "Rdispatch")
    }))

  it.live("takes nothing between Tinit and TLS", () =>
    Effect.gen(function*() {
      const server = yield* echo(serving("desired"))
      for (const behind of ["0000000441000001", "000000", "160303"]) {
        const client = yield* RawPeer.connect(server.address)
        client.write(probe)
        yield* client.next("Rerr")
        client.write(`${tinit("desired")}${behind}`)
        yield* client.ended
        assert.notInclude(client.received.map(({ _tag }) => _tag), "Rping")
      }
      assert.strictEqual(server.counts.undecodable, 3)
    }))

  it.live("sends nothing between Rinit and TLS, and begins at once", () =>
    Effect.gen(function*() {
      const server = yield* echo(serving("desired"))
      const socket = Net.connect(server.address.port, "127.0.0.1")
      yield* Effect.addFinalizer(() => Effect.sync(() => socket.destroy()))
      const read = () => Effect.promise(async () => toHex((await once(socket, "data"))[0] as Buffer))
      socket.write(fromHex(probe))
      assert.strictEqual(yield* read(), probe)
      socket.write(fromHex(tinit("required")))
      assert.strictEqual(yield* read(), rinit("desired"))
      const secured = NodeTls.connect({ socket, ca: authority.certificate, host: "127.0.0.1" })
      secured.write(fromHex("0000000441000001"))
      assert.strictEqual(toHex((yield* Effect.promise(() => once(secured, "data")))[0]), "00000004bf000001")
      assert.isTrue(server.sessions()[0]!.secured)
    }))

  it.live("knows who the client is", () =>
    Effect.gen(function*() {
      for (const mode of ["always", "required"] as const) {
        const tls = { ...own, mode, ca: authority.certificate, clients: "required" as const }
        const { sessions, uri } = yield* echo({ tls })
        const alice = authority.issue({ name: "alice" })
        const { text } = yield* clientOf(uri, { tls: { ...alice, ca: authority.certificate, mode } })
        assert.strictEqual(yield* text("hi"), "hi")
        assert.deepStrictEqual(sessions().map(({ certificate }) => certificate?.subject), ["CN=alice"])
      }
    }))

  it.live("refuses a client without a certificate before any call, and the client's fault says so", () =>
    Effect.gen(function*() {
      for (const mode of ["always", "required"] as const) {
        const tls = { ...own, mode, ca: authority.certificate, clients: "required" as const }
        const { counts, uri } = yield* echo({ tls })
        const { text } = yield* clientOf(uri, trusting(mode))
        const fault = yield* refusal(text("hi"))
        assert.strictEqual(fault.phase, "tls")
        assert.strictEqual((fault.cause as Tls.TlsFailed).reason, "certificate-required")
        assert.isAtLeast(counts.tlsFailures, 1)
        assert.strictEqual(counts.requests, 0)
      }
    }))

  it.live("cuts a client that stops in the handshake, in both ways", () =>
    Effect.gen(function*() {
      for (const mode of ["always", "required"] as const) {
        const server = yield* echo({ tls: { ...own, mode, handshakeTimeout: "50 millis" } })
        const client = yield* RawPeer.connect(server.address)
        if (mode === "required") {
          client.write(probe)
          yield* client.next("Rerr")
          client.write(tinit("required"))
          yield* client.next("Rinit")
        }
        client.write("160301")
        yield* client.ended
        assert.strictEqual(server.counts.tlsFailures, 1)
        while (server.sessions().length > 0) yield* Effect.sleep("1 millis")
      }
    }))

  it.live("drains a session that is in the handshake of TLS at once", () =>
    Effect.gen(function*() {
      for (const mode of ["always", "required"] as const) {
        const scope = yield* Scope.make()
        const server = yield* Scope.provide(echo(serving(mode)), scope)
        const client = yield* RawPeer.connect(server.address)
        if (mode === "required") {
          client.write(probe)
          yield* client.next("Rerr")
          client.write(tinit("required"))
          yield* client.next("Rinit")
        } else {
          client.write("160301")
          while (server.sessions().length === 0) yield* Effect.sleep("1 millis")
        }
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(server.sessions().length, 0)
        yield* client.ended
      }
    }))

  it.live("drains, and resets, a secured session", () =>
    Effect.gen(function*() {
      for (const mode of ["always", "required"] as const) {
        const server = yield* echo(serving(mode))
        const { text } = yield* clientOf(server.uri, trusting(mode))
        assert.strictEqual(yield* text("one"), "one")
        yield* server.sessions()[0]!.drain()
        assert.strictEqual(yield* text("two"), "two")
        server.sessions()[0]!.destroy()
        // Its calls may fail, later ones find another connection.
        yield* Effect.exit(text("three"))
        while ((yield* Effect.exit(text("four")))._tag === "Failure") yield* Effect.sleep("10 millis")
      }
    }))

  it.live("goes on with another certificate for the next session", () =>
    Effect.gen(function*() {
      const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "scales-mux-tls-"))
      yield* Effect.addFinalizer(() => Effect.sync(() => Fs.rmSync(folder, { recursive: true })))
      const at = (name: string) => ({ path: Path.join(folder, name) })
      const write = (certified: Certificates.Certified) => {
        Fs.writeFileSync(at("certificate").path, certified.certificate)
        Fs.writeFileSync(at("key").path, certified.key)
      }
      write(own)
      const { uri } = yield* echo({ tls: { certificate: at("certificate"), key: at("key") } })
      const before = yield* clientOf(uri, trusting())
      assert.strictEqual(yield* before.text("hi"), "hi")
      const next = Certificates.authority("next")
      write(next.issue())
      const after = yield* clientOf(uri, { tls: { ca: next.certificate } })
      assert.strictEqual(yield* after.text("hi"), "hi")
      assert.strictEqual(yield* before.text("hi"), "hi")
    }))
})

describe("two hundred clients", () => {
  it.live("that negotiate TLS, are refused or are cut leave no socket behind", () =>
    Effect.gen(function*() {
      const held = () => process.getActiveResourcesInfo().filter((name) => /TCPSocket|TLS/.test(name)).length
      const before = held()
      yield* Effect.scoped(Effect.gen(function*() {
        const server = yield* echo(serving("required"))
        const stranger = Certificates.authority("stranger").certificate
        yield* Effect.forEach(
          Array.from({ length: 200 }, (_, i) => i),
          (i) =>
            Effect.scoped(Effect.gen(function*() {
              const tls = {
                ca: i % 4 === 1 ? stranger : authority.certificate,
                mode: i % 4 === 2 ? "off" : "desired"
              } as const
              // One that cuts its only client.
              const cutting = i % 4 === 3 ? yield* echo(serving("required")) : undefined
              const { text } = yield* clientOf((cutting ?? server).uri, { tls })
              const exit = yield* Effect.exit(text("hi"))
              assert.strictEqual(Exit.isSuccess(exit), i % 4 === 0 || i % 4 === 3)
              cutting?.sessions()[0]!.destroy()
            })),
          { concurrency: 10, discard: true }
        )
        while (server.sessions().length > 0) yield* Effect.sleep("1 millis")
      }))
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      assert.isAtMost(held(), before)
    }))
})
