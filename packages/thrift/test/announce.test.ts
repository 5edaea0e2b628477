// A Thrift server in server sets: from when it listens until its drain begins.
import { assert, describe, it } from "@effect/vitest"
import { InvalidOption } from "@scales-rpc/core"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { registry } from "../../core/test/announcing.ts"
import { ThriftServer } from "../src/index.ts"
import { ask, call, Echo, handlers, idsOf } from "./echoServer.ts"
import { connect } from "./rawClient.ts"

describe("an announced server", () => {
  it.effect("is in its sets, and leaves them before it drains", () =>
    Effect.gen(function*() {
      const test = registry("test")
      const left = Deferred.makeUnsafe<void>()
      const gate = Deferred.makeUnsafe<void>()
      test.leaving = () => Deferred.await(left)
      const scope = yield* Scope.fork(yield* Effect.scope)
      const server = yield* ThriftServer.make(Echo, {
        ...handlers,
        slow: () => Effect.as(Deferred.await(gate), "slow")
      }, { announce: [{ uri: "test://one", shard: 4 }, { uri: "test://two", host: "thrift.example.com" }] }).pipe(
        Effect.provide(test.layer),
        Scope.provide(scope)
      )
      const { port } = server.address
      const expected = [["test://one", `127.0.0.1:${port}`], ["test://two", `thrift.example.com:${port}`]]
      assert.deepStrictEqual(test.announced().map(({ endpoint, uri }) => [uri, endpoint.key]), expected)
      assert.deepStrictEqual(test.announced().map(({ options }) => options), [{ shard: 4 }, {}])
      assert.deepStrictEqual(server.announcements.map(({ endpoint, uri }) => [uri, endpoint.key]), expected)

      const busy = yield* connect(server.address)
      busy.send(call("slow", [1], 7))
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      // Whoever still reads the sets finds a server that serves.
      const late = yield* connect(server.address)
      assert.deepStrictEqual((yield* ask(late, "ping", [])).exit, Exit.succeed("pong"))
      assert.isUndefined(closing.pollUnsafe())
      yield* Deferred.succeed(left, undefined)
      yield* late.ended
      assert.deepStrictEqual(test.announced(), [])
      yield* Deferred.succeed(gate, undefined)
      yield* busy.ended
      assert.deepStrictEqual(idsOf(busy), [7])
      yield* Fiber.join(closing)
    }))

  it.effect("is of several services in the same way", () =>
    Effect.gen(function*() {
      const test = registry("test")
      const server = yield* ThriftServer.makeMultiplexed({ echo: ThriftServer.implement(Echo, handlers) }, {
        announce: { uri: "test://set" }
      }).pipe(Effect.provide(test.layer))
      assert.deepStrictEqual(test.announced().map(({ endpoint }) => endpoint.port), [server.address.port])
    }))

  it.effect("is not made when it cannot be announced", () =>
    Effect.gen(function*() {
      const test = registry("test")
      const failure = (announce: ThriftServer.ThriftServerOptions["announce"]) =>
        Effect.flip(
          Effect.scoped(ThriftServer.make(Echo, handlers, { announce })).pipe(Effect.provide(test.layer))
        )
      assert.strictEqual((yield* failure([{ uri: "test://set" }, { uri: "nobody://set" }]))._tag, "UnknownScheme")
      assert.instanceOf(yield* failure({ uri: "test://set", host: "no host" }), InvalidOption)
      assert.deepStrictEqual(test.announced(), [])
    }))
})
