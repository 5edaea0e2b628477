import { assert, describe, it } from "@effect/vitest"
import { InvalidOption } from "@scales-rpc/core"
import { MuxServer, type MuxServerOptions } from "@scales-rpc/mux"
import { RawPeer } from "@scales-rpc/mux/testing"
import { Deferred, Effect, Exit, Fiber, Layer, Scope } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { registry } from "../../core/test/announcing.ts"
import { utf8 } from "./vectors.ts"

const request = (tag: number, body = "hi") =>
  ({ _tag: "Tdispatch", tag, contexts: [], destination: "", dtab: [], body: utf8(body) }) as const

/** A server with a registry that knows `test://`, in a scope of its own. */
const announced = (options: MuxServerOptions) =>
  Effect.gen(function*() {
    const test = registry("test")
    const scope = yield* Scope.fork(yield* Effect.scope)
    const gate = Deferred.makeUnsafe<void>()
    const server = yield* MuxServer.make(
      ({ body }) => body.length === 4 ? Effect.as(Deferred.await(gate), { body }) : Effect.succeed({ body }),
      options
    ).pipe(Effect.provide(test.layer), Scope.provide(scope))
    return {
      test,
      server,
      answer: Deferred.succeed(gate, undefined),
      close: Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
    }
  })

/** Whether anything listens. */
const reachable = (port: number) => Effect.map(Effect.exit(Effect.scoped(RawPeer.connect({ port }))), Exit.isSuccess)

describe("an announced server", () => {
  it.effect("is in its sets, with the port that it listens on, once it is made", () =>
    Effect.gen(function*() {
      const { server, test } = yield* announced({
        announce: [{ uri: "test://one", shard: 1 }, { uri: "test://two", host: "mux.example.com" }]
      })
      const { port } = server.address
      assert.deepStrictEqual(test.announced().map(({ endpoint, options, uri }) => [uri, endpoint.key, options]), [
        ["test://one", `127.0.0.1:${port}`, { shard: 1 }],
        ["test://two", `mux.example.com:${port}`, {}]
      ])
      assert.deepStrictEqual(server.announcements.map(({ endpoint, uri }) => [uri, endpoint.key]), [
        ["test://one", `127.0.0.1:${port}`],
        ["test://two", `mux.example.com:${port}`]
      ])
      yield* server.announcements[1]!.update({ status: "STOPPING" })
      assert.deepStrictEqual(test.announced()[1]?.options, { status: "STOPPING" })
    }))

  it.effect("on every interface is announced by the machine's name", () =>
    Effect.gen(function*() {
      const { server, test } = yield* announced({ host: "0.0.0.0", announce: { uri: "test://set" } })
      assert.deepStrictEqual(
        test.announced().map(({ endpoint }) => endpoint.key),
        [`${Os.hostname()}:${server.address.port}`]
      )
    }))

  it.effect("that nobody asked to announce is in no set", () =>
    Effect.gen(function*() {
      for (const announce of [undefined, []]) {
        const { server, test } = yield* announced({ announce })
        assert.deepStrictEqual([test.announced(), server.announcements], [[], []])
      }
    }))

  it.effect("leaves its sets before it drains, and drains when it has left", () =>
    Effect.gen(function*() {
      const { answer, close, server, test } = yield* announced({ announce: { uri: "test://set" } })
      const left = Deferred.makeUnsafe<void>()
      test.leaving = () => Deferred.await(left)
      const client = yield* RawPeer.connect(server.address)
      yield* client.offerHandshake()
      client.send(request(2, "wait"))
      const closing = yield* close
      // Whoever still reads the set finds a server that serves.
      client.send(request(3))
      assert.strictEqual((yield* client.next("Rdispatch")).tag, 3)
      assert.isTrue(yield* reachable(server.address.port))
      assert.lengthOf(test.announced(), 1)
      yield* Deferred.succeed(left, undefined)
      yield* client.next("Tdrain")
      assert.lengthOf(test.announced(), 0)
      assert.isFalse(yield* reachable(server.address.port))
      client.send({ _tag: "Rdrain", tag: 1 })
      yield* answer
      yield* client.next("Rdispatch")
      yield* client.ended
      yield* Fiber.join(closing)
    }))

  it.effect("leaves its sets also when what it serves in is interrupted", () =>
    Effect.gen(function*() {
      const test = registry("test")
      const program = yield* Effect.forkChild(
        Effect.never.pipe(
          Effect.provide(MuxServer.layer(({ body }) => Effect.succeed({ body }), { announce: { uri: "test://set" } })),
          Effect.provide(test.layer)
        )
      )
      const looks = Effect.callback<void>((resume) => {
        const look = () => test.announced().length === 1 ? resume(Effect.void) : setImmediate(look)
        look()
      })
      yield* looks
      yield* Fiber.interrupt(program)
      assert.deepStrictEqual(test.announced(), [])
    }))

  it.effect("does not listen when it cannot be announced", () =>
    Effect.gen(function*() {
      const test = registry("test")
      const path = Path.join(Os.tmpdir(), `mux-announce-${process.pid}.sock`)
      const { port } = yield* Effect.scoped(Effect.map(RawPeer.listen(), ({ port }) => ({ port })))
      const build = (options: MuxServerOptions) =>
        Effect.flip(
          Effect.scoped(Layer.build(MuxServer.layer(({ body }) => Effect.succeed({ body }), options))).pipe(
            Effect.provide(test.layer)
          )
        )
      const set = { uri: "test://set" }
      assert.strictEqual((yield* build({ port, announce: [set, { uri: "nobody://set" }] }))._tag, "UnknownScheme")
      assert.strictEqual((yield* build({ port, announce: [set, { uri: "set" }] }))._tag, "InvalidUri")
      const host = yield* build({ port, announce: { uri: "test://set", host: "no host" } })
      assert.instanceOf(host, InvalidOption)
      const unix = yield* build({ path, announce: set })
      assert.instanceOf(unix, InvalidOption)
      assert.strictEqual(unix.option, "announce")
      assert.deepStrictEqual([test.announced(), yield* reachable(port), Fs.existsSync(path)], [[], false, false])
    }))
})
