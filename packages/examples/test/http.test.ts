/** A program over Effect's `HttpClient`: run over two servers, and tested with none. */
import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { HttpClient, HttpClientResponse } from "effect/http"
import { namesOf } from "../src/users.ts"
import { pathOf, run } from "./program.ts"

it.live("balanced.ts loses no call when one of its servers ends", () =>
  Effect.gen(function*() {
    const { code, stderr, stdout } = yield* run(pathOf("src/balanced.ts"))
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 0)
    // Whether it has tried the server that is down before it ends, and says so, is a matter of time.
    const said = stdout.replace(/^\[.* endpoint down \{[^}]*\}\n/m, "")
    assert.strictEqual(said, "over two servers: Ada Grace Barbara\nover one: Ada Grace Barbara\nnobody: undefined\n")
  }))

/** What the service answers in a test, by the path. */
const answering = (answer: (path: string) => Response) =>
  Layer.succeed(
    HttpClient.HttpClient,
    HttpClient.make((request, url) => Effect.succeed(HttpClientResponse.fromWeb(request, answer(url.pathname))))
  )

it.effect("users.ts asks for each user, and takes 404 for nobody", () =>
  Effect.gen(function*() {
    const asked: Array<string> = []
    const names = namesOf([1, 2]).pipe(Effect.provide(answering((path) => {
      asked.push(path)
      return path === "/users/1" ? Response.json({ id: 1, name: "Ada" }) : new Response(null, { status: 404 })
    })))
    assert.deepStrictEqual(yield* names, ["Ada", undefined])
    assert.deepStrictEqual(asked, ["/users/1", "/users/2"])
  }))

it.effect("users.ts fails with what else a server says", () =>
  Effect.gen(function*() {
    const failing = namesOf([1]).pipe(Effect.provide(answering(() => new Response("busy", { status: 503 }))))
    const error = yield* Effect.flip(failing)
    assert.isTrue(error._tag === "HttpClientError" && error.response?.status === 503)
  }))
