/** Connecting, on real sockets: how far it came when it fails, and what is left when it ends. */
import { assert, describe, it } from "@effect/vitest"
import { Endpoint } from "@scales-rpc/core"
import { Socket } from "@scales-rpc/core/socket"
import { Effect, Fiber } from "effect"
import Dns from "node:dns"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { vi } from "vitest"

/** A server which accepts and stays silent; what it has accepted. */
const silent = (where: { readonly port: number; readonly host: string } | { readonly path: string }) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const accepted: Array<Net.Socket> = []
      const server = Net.createServer((socket) => void accepted.push(socket.on("error", () => {}).resume())).listen(
        where
      )
      await once(server, "listening")
      return { server, accepted, port: (server.address() as Net.AddressInfo).port }
    }),
    ({ accepted, server }) =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        for (const socket of accepted) socket.destroy()
      })
  )

const local = { host: "127.0.0.1", port: 0 }
const open = (endpoint: Endpoint, connectTimeoutMillis = 5000) => Socket.open(endpoint, { connectTimeoutMillis })
const failure = (endpoint: Endpoint, connectTimeoutMillis?: number) =>
  Effect.flip(Effect.scoped(open(endpoint, connectTimeoutMillis)))

describe("a socket", () => {
  it.live("is connected, and destroyed with its scope", () =>
    Effect.gen(function*() {
      const server = yield* silent(local)
      const socket = yield* Effect.scoped(
        Effect.tap(open(Endpoint.tcp("127.0.0.1", server.port)), (socket) =>
          Effect.sync(() => {
            assert.strictEqual(socket.readyState, "open")
            assert.isFalse("encrypted" in socket)
          }))
      )
      assert.isTrue(socket.destroyed)
    }))

  it.live("goes to a Unix socket", () =>
    Effect.gen(function*() {
      const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "scales-socket-"))
      yield* Effect.addFinalizer(() => Effect.sync(() => Fs.rmSync(folder, { recursive: true })))
      const path = Path.join(folder, "socket")
      yield* silent({ path })
      assert.strictEqual((yield* open(Endpoint.unix(path))).readyState, "open")
      assert.strictEqual((yield* failure(Endpoint.unix(`${path}-not`))).phase, "connect")
    }))

  it.live("that is refused says so, with the cause of the operating system", () =>
    Effect.gen(function*() {
      const { port } = yield* Effect.scoped(silent(local))
      const error = yield* failure(Endpoint.tcp("127.0.0.1", port))
      assert.deepStrictEqual([error.phase, error.reached, error.retryable], ["connect", "no", true])
      assert.strictEqual((error.cause as { readonly code: string }).code, "ECONNREFUSED")
      // A name with several addresses: the first one's cause stands for all.
      assert.match((yield* failure(Endpoint.tcp("localhost", port))).message, /ECONNREFUSED/)
    }))

  it.live("whose name nobody knows fails while resolving", () =>
    Effect.gen(function*() {
      vi.spyOn(Dns, "lookup").mockImplementation(
        ((_: string, __: unknown, done: (error: Error) => void) => done(new Error("no such name"))) as never
      )
      yield* Effect.addFinalizer(() => Effect.sync(() => vi.restoreAllMocks()))
      const error = yield* failure(Endpoint.tcp("nobody.invalid", 1))
      assert.strictEqual(error.phase, "resolve")
      assert.match(error.message, /no such name$/)
    }))

  it.live("whose name is never resolved is given up in time", () =>
    Effect.gen(function*() {
      vi.spyOn(Dns, "lookup").mockImplementation((() => {}) as never)
      yield* Effect.addFinalizer(() => Effect.sync(() => vi.restoreAllMocks()))
      const error = yield* failure(Endpoint.tcp("slow.invalid", 1), 20)
      assert.deepStrictEqual([error.phase, error.cause], ["resolve", "no connection within 20 ms"])
    }))

  it.live("that breaks before anybody listens does not throw", () =>
    Effect.gen(function*() {
      const server = yield* silent(local)
      const socket = yield* open(Endpoint.tcp("127.0.0.1", server.port))
      while (server.accepted.length === 0) yield* Effect.sleep("1 millis")
      server.accepted[0]!.resetAndDestroy()
      socket.resume()
      yield* Effect.promise(() => new Promise((resolve) => socket.once("close", resolve)))
      assert.strictEqual((socket.errored as { readonly code?: string } | null)?.code, "ECONNRESET")
    }))

  it.live("whose connecting is interrupted is gone", () =>
    Effect.gen(function*() {
      const connect = vi.spyOn(Net.Socket.prototype, "connect")
      yield* Effect.addFinalizer(() => Effect.sync(() => vi.restoreAllMocks()))
      vi.spyOn(Dns, "lookup").mockImplementation((() => {}) as never)
      const fiber = yield* Effect.forkChild(Effect.scoped(open(Endpoint.tcp("slow.invalid", 1))), {
        startImmediately: true
      })
      yield* Fiber.interrupt(fiber)
      assert.isTrue((connect.mock.contexts[0] as Net.Socket).destroyed)
    }))
})
