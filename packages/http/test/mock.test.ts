/** Mocks of HTTP services. */
import { assert, expectTypeOf, it } from "@effect/vitest"
import { Rpc } from "@scales-rpc/core"
import { Mock } from "@scales-rpc/core/testing"
import { type HttpCall, HttpReply, HttpService } from "@scales-rpc/http"
import { Effect } from "effect"

class Users extends HttpService<Users>()("Users") {}

const replyOf = (text: string) =>
  new HttpReply({
    status: 200,
    reason: "OK",
    headers: [],
    body: new TextEncoder().encode(text),
    truncated: false,
    trailers: []
  })

it.effect("a mock answers paths, and keeps the record of what was asked", () =>
  Effect.gen(function*() {
    const users = yield* Users
    assert.strictEqual((yield* users.get("/7", { query: { full: true } })).text, "/7")
    yield* Rpc.idempotent(users.post("/"))
    const { calls, of } = yield* Mock.recorded(Users)
    expectTypeOf(of("get")[0]!.args).toEqualTypeOf<Parameters<HttpCall>>()
    assert.deepStrictEqual(calls.map(({ args, idempotent, method }) => [method, args, idempotent]), [
      ["get", ["/7", { query: { full: true } }], false],
      ["post", ["/"], true]
    ])
  }).pipe(Effect.provide(Mock.layer(Users, {
    get: (path) => Effect.succeed(replyOf(path)),
    post: () => Effect.succeed(replyOf(""))
  }))))

it("what is no reply does not compile", () => {
  // @ts-expect-error a text is no reply
  assert.isDefined(Mock.layer(Users, { get: (path) => Effect.succeed(path) }))
})
