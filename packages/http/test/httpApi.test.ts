// An HttpApi of Effect's, served by Effect's own servers, and its clients over the stack.
import { P2C } from "@scales-rpc/core"
import { Seed } from "@scales-rpc/core/testing"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Schema, Scope, Stream } from "effect"
import { HttpClient, HttpClientRequest, HttpRouter, HttpServer } from "effect/http"
import { HttpApi, HttpApiBuilder, HttpApiClient, HttpApiEndpoint, HttpApiGroup, HttpApiSchema } from "effect/http-api"
import { createServer } from "node:http"
import { BalancedHttpClient, HttpWire } from "../src/index.ts"
import { start, until } from "./support.ts"

const User = Schema.Struct({ id: Schema.Number, name: Schema.String, born: Schema.DateFromString })

class NoSuchUser extends Schema.TaggedError<NoSuchUser>()("NoSuchUser", { id: Schema.Number }, {
  httpApiStatus: 404
}) {}

class Users extends HttpApiGroup.make("users")
  .add(
    HttpApiEndpoint.get("get", "/:id", { params: { id: Schema.NumberFromString }, success: User, error: NoSuchUser }),
    HttpApiEndpoint.put("put", "/:id", { params: { id: Schema.NumberFromString }, payload: User, success: User }),
    HttpApiEndpoint.get("letters", "/letters", { success: HttpApiSchema.StreamUint8Array() }),
    HttpApiEndpoint.post("shout", "/shout", {
      payload: HttpApiSchema.StreamUint8Array(),
      success: HttpApiSchema.StreamUint8Array()
    }),
    HttpApiEndpoint.get("who", "/who", { success: Schema.String }),
    HttpApiEndpoint.get("never", "/never", { success: Schema.String })
  )
  .prefix("/users")
{}

class Api extends HttpApi.make("api").add(Users) {}

const born = new Date(0)

/** A server called `name`, until the scope closes; what it holds up it counts in `held`. */
const serve = (name: string, held = { count: 0 }) =>
  Effect.gen(function*() {
    const handlers = HttpApiBuilder.group(Api, "users", (handlers) =>
      handlers.handleAll({
        get: ({ params: { id } }) =>
          id === 0 ? Effect.fail(new NoSuchUser({ id })) : Effect.succeed({ id, name: "Ada", born }),
        put: ({ params: { id }, payload }) => Effect.succeed({ ...payload, id }),
        letters: () => Effect.succeed(Stream.map(Stream.fromIterable("abc"), (letter) => Buffer.from(letter))),
        shout: ({ payload }) =>
          Effect.succeed(Stream.map(payload, (bytes) => Buffer.from(Buffer.from(bytes).toString().toUpperCase()))),
        who: () => Effect.succeed(name),
        never: () =>
          Effect.suspend(() => {
            held.count++
            return Effect.onExit(Effect.never, () => Effect.sync(() => held.count--))
          })
      }))
    const context = yield* Layer.build(
      HttpRouter.serve(Layer.provide(HttpApiBuilder.layer(Api), handlers), {
        disableListenLog: true,
        disableLogger: true
      }).pipe(
        Layer.provideMerge(
          NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1", gracefulShutdownTimeout: 0 })
        ),
        Layer.fresh
      )
    )
    const { address } = Context.get(context, HttpServer.HttpServer)
    return address._tag === "InetAddressV4" ? `127.0.0.1:${address.port}` : assert.fail(address._tag)
  })

/** Its client, as the program that has one makes it; over a balancer that uses all servers from the first call on. */
const api = (
  servers: string,
  options: Parameters<typeof HttpApiClient.make>[1] = { baseUrl: "http://users" }
) =>
  Effect.flatMap(
    Layer.build(
      Layer.provide(
        BalancedHttpClient.layer({ uri: `tcp://${servers}`, name: "users", balancer: P2C.layer(HttpWire) }),
        Seed.layer(1)
      )
    ),
    (context) => Effect.provide(HttpApiClient.make(Api, options), context)
  )

describe("a client of an HttpApi", () => {
  const ways: ReadonlyArray<readonly [string, Parameters<typeof HttpApiClient.make>[1]]> = [
    ["a base URL", { baseUrl: "http://users" }],
    ["no base URL", {}],
    ["one that is put before each URL", {
      transformClient: (client) => HttpClient.mapRequest(client, HttpClientRequest.prependUrl("http://users"))
    }]
  ]
  for (const [way, options] of ways) {
    it.live(`with ${way} calls it by its types`, () =>
      Effect.gen(function*() {
        const { users } = yield* api(yield* serve("a"), options)
        assert.deepStrictEqual(yield* users.get({ params: { id: 7 } }), { id: 7, name: "Ada", born })
        const user = { id: 1, name: "Gr\u00e4ce", born }
        assert.deepStrictEqual(yield* users.put({ params: { id: 8 }, payload: user }), { ...user, id: 8 })
        const missing = yield* Effect.flip(users.get({ params: { id: 0 } }))
        assert.isTrue(missing instanceof NoSuchUser && missing.id === 0)
      }))
  }

  it.live("streams down and up", () =>
    Effect.gen(function*() {
      const { users } = yield* api(yield* serve("a"))
      const textOf = <E>(stream: Stream.Stream<Uint8Array, E>) =>
        Effect.map(Stream.runCollect(stream), (chunks) => Buffer.concat(chunks).toString())
      assert.strictEqual(yield* textOf(yield* users.letters()), "abc")
      const said = Stream.map(Stream.fromIterable(["hel", "lo"]), (word) => Buffer.from(word))
      assert.strictEqual(yield* textOf(yield* users.shout({ payload: said })), "HELLO")
    }))

  it.live("leaves its handler when its caller has gone", () =>
    Effect.gen(function*() {
      const held = { count: 0 }
      const { users } = yield* api(yield* serve("a", held))
      const calling = yield* start(users.never())
      yield* until("it is in its handler", () => held.count === 1)
      yield* Fiber.interrupt(calling)
      yield* until("it has left", () => held.count === 0)
    }))

  it.live("is balanced over its servers, and goes on with those that are left", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const [a, b] = [yield* Effect.provideService(serve("a"), Scope.Scope, scope), yield* serve("b")]
      const { users } = yield* api(`${a},${b}`)
      const asked = Effect.all(Array.from({ length: 50 }, () => users.who()), { concurrency: 5 })
      assert.deepStrictEqual([...new Set(yield* asked)].toSorted(), ["a", "b"])
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual([...new Set(yield* asked)], ["b"])
    }))
})
