import { assert, it } from "@effect/vitest"
import { HeapBalancer } from "@scales-rpc/core"
import { Mux } from "@scales-rpc/mux"
import { ThriftMux, ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Effect, Exit, Fiber, Layer, Scope } from "effect"
import { registry } from "../../core/test/announcing.ts"
import { echoHandlers } from "../../examples/src/echo.ts"
import { build, Echo, leavesNoSockets, until } from "./support.ts"

leavesNoSockets()

it.live("servers that announce themselves are found, and left without the loss of a call", () =>
  Effect.gen(function*() {
    const test = registry("test")
    const announce = { uri: "test://echo" }
    const serve = (name: string) =>
      Effect.gen(function*() {
        const scope = yield* Scope.fork(yield* Effect.scope)
        const handlers = { ...echoHandlers(), ping: () => Effect.succeed(name) }
        const server = yield* ThriftMuxServer.make(Echo, handlers, { announce }).pipe(
          Effect.provide(test.layer),
          Scope.provide(scope)
        )
        return { ...server, close: Scope.close(scope, Exit.void) }
      })
    const one = yield* serve("one")
    assert.deepStrictEqual(one.announcements.map(({ endpoint, uri }) => [uri, `tcp://${endpoint.key}`]), [[
      "test://echo",
      one.uri
    ]])
    const { echo } = yield* build(
      ThriftMux.layer(Echo, { uri: "test://echo", balancer: HeapBalancer.layer(Mux) }).pipe(Layer.provide(test.layer))
    )
    assert.strictEqual(yield* echo.ping(), "one")

    const answers: Array<string> = []
    const callers = yield* Effect.forkChild(
      Effect.all(
        Array.from({ length: 10 }, () => Effect.forever(Effect.map(echo.ping(), (name) => void answers.push(name)))),
        { concurrency: "unbounded" }
      )
    )
    const two = yield* serve("two")
    yield* until("both are called", () => answers.includes("two"))
    yield* one.close
    assert.deepStrictEqual(test.announced().map(({ endpoint }) => endpoint.port), [two.address.port])
    assert.lengthOf(one.sessions(), 0)
    answers.length = 0
    yield* until("the other is called", () => answers.length > 100)
    assert.notInclude(answers.slice(50), "one")
    assert.isUndefined(callers.pollUnsafe(), "a call failed")
    yield* Fiber.interrupt(callers)
  }))

it.live("a server that cannot be announced is not made", () =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(
      Effect.scoped(Layer.build(ThriftMuxServer.layer(Echo, echoHandlers(), { announce: { uri: "nobody://set" } })))
    )
    assert.strictEqual(error._tag, "UnknownScheme")
  }))
