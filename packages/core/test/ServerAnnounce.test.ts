import { assert, describe, it } from "@effect/vitest"
import { Endpoint, InvalidOption } from "@scales-rpc/core"
import { announceServer, type ServerAnnounceOptions } from "@scales-rpc/core/socket"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import * as Os from "node:os"
import { registry } from "./announcing.ts"
import { settle, start } from "./support.ts"

/** A server's address. */
const listening = (host: string, port = 8080) => ({ host, port, path: undefined })

/** The endpoint that a server at that address is announced with. */
const announcedAs = (address: { host: string; port: number; path: string | undefined }, host?: string) =>
  Effect.map(
    announceServer({ uri: "test://set", host }, address).pipe(Effect.provide(registry("test").layer)),
    ([one]) => one?.endpoint.key
  )

describe("a server", () => {
  it.effect("is announced at the address it listens on", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* announcedAs(listening("127.0.0.1")), "127.0.0.1:8080")
      assert.strictEqual(yield* announcedAs(listening("10.1.2.3", 1)), "10.1.2.3:1")
      assert.strictEqual(yield* announcedAs(listening("2001:db8::1")), "[2001:db8::1]:8080")
    }))

  it.effect("is announced by the machine's name when it listens on every interface", () =>
    Effect.gen(function*() {
      for (const every of ["0.0.0.0", "::", "::ffff:0.0.0.0"]) {
        assert.strictEqual(yield* announcedAs(listening(every)), `${Os.hostname()}:8080`)
      }
    }))

  it.effect("is announced by the name it is given", () =>
    Effect.gen(function*() {
      for (const listens of ["127.0.0.1", "0.0.0.0", "::"]) {
        assert.strictEqual(yield* announcedAs(listening(listens), "echo.example.com"), "echo.example.com:8080")
        assert.strictEqual(yield* announcedAs(listening(listens), "10.0.0.7"), "10.0.0.7:8080")
        assert.strictEqual(yield* announcedAs(listening(listens), "2001:db8::7"), "[2001:db8::7]:8080")
      }
    }))

  it.effect("is not announced by what no client can connect to", () =>
    Effect.gen(function*() {
      for (const host of ["", "a b", "[::1]", "http://a", "a:80", "0.0.0.0", "::", "256.0.0.1"]) {
        const error = yield* Effect.flip(announcedAs(listening("127.0.0.1"), host))
        assert.instanceOf(error, InvalidOption, host)
        assert.deepInclude(error, { option: "announce.host", got: host })
      }
    }))

  it.effect("on a Unix socket is not announced", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(announcedAs({ host: "", port: 0, path: "/run/echo.sock" }, "a"))
      assert.deepInclude(error, { _tag: "InvalidOption", option: "announce", got: "test://set" })
      const none = yield* announceServer(undefined, { host: "", port: 0, path: "/run/echo.sock" })
      assert.deepStrictEqual(none, [])
    }))

  it.effect("says of itself what the options say, and later what an update says", () =>
    Effect.gen(function*() {
      const { announced, layer } = registry("test")
      const said = {
        status: "STARTING",
        shard: 3,
        metadata: { zone: "x" },
        additionalEndpoints: { admin: Endpoint.tcp("a", 9990) }
      } as const
      const [one] = yield* announceServer({ uri: "test://set", host: "a", ...said }, listening("127.0.0.1")).pipe(
        Effect.provide(layer)
      )
      assert.deepStrictEqual(announced(), [{ uri: "test://set", endpoint: Endpoint.tcp("a", 8080), options: said }])
      assert.deepStrictEqual([one?.uri, one?.endpoint], ["test://set", Endpoint.tcp("a", 8080)])
      assert.deepStrictEqual(one?.state(), { _tag: "Announced", name: "test://set a:8080" })
      yield* one!.announced
      yield* one!.update({ status: "STOPPING" })
      assert.deepStrictEqual(announced().map(({ options }) => options), [{ status: "STOPPING" }])
    }))

  it.effect("leaves all its sets at once, and the scope closes when the last has let go", () =>
    Effect.gen(function*() {
      const test = registry("test")
      const gate = Deferred.makeUnsafe<void>()
      test.leaving = (uri) => uri === "test://slow" ? Deferred.await(gate) : Effect.void
      const scope = yield* Scope.make()
      const uris = ["test://one", "test://slow", "test://two"]
      const all = yield* announceServer(uris.map((uri): ServerAnnounceOptions => ({ uri })), listening("a")).pipe(
        Effect.provide(test.layer),
        Scope.provide(scope)
      )
      assert.deepStrictEqual(all.map(({ uri }) => uri), uris)
      assert.deepStrictEqual(test.announced().map(({ uri }) => uri), uris)
      const closing = yield* start(Scope.close(scope, Exit.void))
      yield* settle
      assert.deepStrictEqual(test.announced().map(({ uri }) => uri), ["test://slow"])
      assert.isUndefined(closing.pollUnsafe())
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(closing)
      assert.deepStrictEqual(test.announced(), [])
    }))

  it.effect("is in no set when one of them cannot be told", () =>
    Effect.gen(function*() {
      const test = registry("test")
      for (const [wrong, tag] of [["other://set", "UnknownScheme"], ["set", "InvalidUri"]] as const) {
        const error = yield* Effect.flip(
          Effect.scoped(announceServer([{ uri: "test://set" }, { uri: wrong }], listening("a"))).pipe(
            Effect.provide(test.layer)
          )
        )
        assert.strictEqual(error._tag, tag)
        assert.deepStrictEqual(test.announced(), [])
      }
    }))
})
