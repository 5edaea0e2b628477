/** A mock of a service: its methods, the record of its calls, and what a caller says of a call. */
import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import { ClientId, Rpc, type RpcError, Timeout } from "@scales-rpc/core"
import { Mock } from "@scales-rpc/core/testing"
import { Cause, Context, Data, Effect, Exit, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { settle, start, stop } from "./support.ts"

class Refused extends Data.TaggedError("Refused")<{ readonly why: string }> {}
class Undeclared extends Data.TaggedError("Undeclared")<{}> {}

class Echo extends Context.Service<Echo, {
  readonly echo: (text: string, times: number) => Effect.Effect<string, RpcError | Refused>
  readonly other: (text: string) => Effect.Effect<string, RpcError>
  readonly ready: Effect.Effect<boolean>
  readonly name: string
  readonly length: (text: string) => number
}>()("test/Echo") {}

class Shout extends Context.Service<Shout, (text: string) => Effect.Effect<string>>()("test/Shout") {}

const shout = Mock.layer(Echo, { echo: (text, times) => Effect.succeed(text.toUpperCase().repeat(times)) })

describe("a mock of a service", () => {
  it.effect("has the methods it was given", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* (yield* Echo).echo("hi", 2), "HIHI")
    }).pipe(Effect.provide(shout)))

  it.effect("dies in any other, and names it", () =>
    Effect.gen(function*() {
      const echo = yield* Echo
      const exit = yield* Effect.exit(Effect.suspend(() => echo.other("hi")))
      assert.strictEqual(
        Exit.isFailure(exit) && Cause.pretty(exit.cause).split("\n")[0],
        `Error: Mock of "test/Echo": method "other" was called but not given`
      )
      assert.deepStrictEqual((yield* Mock.recorded(Echo)).calls, [])
    }).pipe(Effect.provide(shout)))

  it("can be handed to a promise", async () => {
    const echo = await Effect.runPromise(Effect.provide(
      Effect.gen(function*() {
        return yield* Echo
      }),
      shout
    ))
    assert.strictEqual(await Effect.runPromise(echo.echo("hi", 1)), "HI")
  })

  it.effect("can be printed as JSON", () =>
    Effect.gen(function*() {
      assert.strictEqual(JSON.stringify(yield* Echo), `{"name":"e"}`)
    }).pipe(Effect.provide(Mock.layer(Echo, { name: "e" }))))

  it.effect("throws what a method throws, which makes no call then", () =>
    Effect.gen(function*() {
      const echo = yield* Echo
      assert.throws(() => echo.echo("a", 1), "broken")
      assert.deepStrictEqual((yield* Mock.recorded(Echo)).calls, [])
      // Asked anew, by a second run of its effect, it can only die.
      const once = echo.other("b")
      assert.deepStrictEqual([yield* Effect.exit(once), (yield* Effect.exit(once))._tag], [
        Exit.succeed("b"),
        "Failure"
      ])
      assert.deepStrictEqual((yield* Mock.recorded(Echo)).of("other").map(({ exit }) => exit!._tag), [
        "Success",
        "Failure"
      ])
    }).pipe(Effect.provide(
      Effect.sync(() => {
        let asked = 0
        return Mock.layer(Echo, {
          echo: () => {
            throw new Error("broken")
          },
          other: (text) => {
            if (asked++ > 0) throw new Error("broken")
            return Effect.succeed(text)
          }
        })
      }).pipe(Layer.unwrap)
    )))

  it.effect("passes on what is no effect as it is", () =>
    Effect.gen(function*() {
      const echo = yield* Echo
      assert.deepStrictEqual([echo.name, echo.length("four")], ["e", 4])
      assert.deepStrictEqual((yield* Mock.recorded(Echo)).calls, [])
    }).pipe(Effect.provide(Mock.layer(Echo, { name: "e", length: (text) => text.length }))))

  it.effect("asks a method anew each time that its effect runs, with the mock as `this`", () => {
    let asked = 0
    const flaky = Mock.layer(Echo, {
      ready: Effect.succeed(true),
      echo(this: typeof Echo.Service, text) {
        asked++
        return Effect.flatMap(
          this.ready,
          () => asked < 3 ? Effect.fail(new Refused({ why: `${asked}` })) : Effect.succeed(text)
        )
      }
    })
    return Effect.gen(function*() {
      const echo = yield* Echo
      assert.strictEqual(yield* Effect.retry(echo.echo("a", 1), { times: 5 }), "a")
      assert.strictEqual(asked, 3)
      const { of } = yield* Mock.recorded(Echo)
      assert.deepStrictEqual(of("echo").map(({ exit }) => exit), [
        Exit.fail(new Refused({ why: "1" })),
        Exit.fail(new Refused({ why: "2" })),
        Exit.succeed("a")
      ])
      assert.lengthOf(of("ready"), 3)
    }).pipe(Effect.provide(flaky))
  })
})

describe("the record of a mock", () => {
  it.effect("says what was called, with what, in which order, and how it ended", () =>
    Effect.gen(function*() {
      const echo = yield* Echo
      const { calls, of } = yield* Mock.recorded(Echo)
      const unused = echo.echo("never run", 0)
      yield* TestClock.adjust("3 seconds")
      yield* echo.echo("a", 1)
      yield* Effect.exit(echo.other("b"))
      const hanging = yield* start(echo.ready)
      assert.isDefined(unused)
      assert.deepStrictEqual(calls.map(({ args, at, exit, method }) => [method, args, at, exit]), [
        ["echo", ["a", 1], 3000, Exit.succeed("A")],
        ["other", ["b"], 3000, Exit.die("broken")],
        ["ready", [], 3000, undefined]
      ])
      yield* stop(hanging)
      assert.isTrue(Exit.hasInterrupts(of("ready")[0]!.exit!))
      assert.lengthOf(of("other"), 1)
    }).pipe(Effect.provide(Mock.layer(Echo, {
      echo: (text) => Effect.succeed(text.toUpperCase()),
      other: () => Effect.die("broken"),
      ready: Effect.never
    }))))

  it.effect("says what the caller said of the call", () =>
    Effect.gen(function*() {
      const echo = yield* Echo
      yield* TestClock.adjust("1 second")
      yield* echo.echo("plain", 1)
      yield* echo.echo("said", 1).pipe(
        Rpc.deadline("2 seconds"),
        Rpc.idempotent,
        Rpc.context(ClientId, "me")
      )
      const [plain, said] = (yield* Mock.recorded(Echo)).of("echo")
      assert.deepInclude(plain, { deadline: Infinity, remainingMillis: Infinity, idempotent: false })
      assert.isTrue(plain!.context.isEmpty)
      assert.deepInclude(said, { deadline: 3000, remainingMillis: 2000, idempotent: true })
      assert.strictEqual(said!.context.get(ClientId), "me")
    }).pipe(Effect.provide(shout)))

  it.effect("is waited for", () =>
    Effect.gen(function*() {
      const echo = yield* Echo
      const { called } = yield* Mock.recorded(Echo)
      const twice = yield* start(called("echo", 2))
      const left = yield* start(called("echo", 3))
      yield* stop(left)
      yield* echo.echo("a", 1)
      yield* settle
      assert.isUndefined(twice.pollUnsafe())
      yield* echo.echo("b", 1)
      assert.deepStrictEqual((yield* Fiber.join(twice)).map(({ args }) => args), [["a", 1], ["b", 1]])
      assert.lengthOf(yield* called("echo", 2), 2)
    }).pipe(Effect.provide(shout)))

  it.effect("is each layer's own", () =>
    Effect.gen(function*() {
      const callOnce = Effect.gen(function*() {
        yield* (yield* Echo).echo("a", 1)
        return (yield* Mock.recorded(Echo)).calls.length
      }).pipe(Effect.provide(shout))
      assert.deepStrictEqual([yield* callOnce, yield* callOnce], [1, 1])
    }))
})

describe("an answer of a mock", () => {
  const layer = Mock.layer(Echo, {
    echo: (text) => Effect.succeed(text).pipe(Mock.slow("3 seconds"), Mock.withReplyHeaders([["x", "1"]])),
    other: () => Mock.silent
  })

  it.effect("takes its time", () =>
    Effect.gen(function*() {
      const call = yield* start((yield* Echo).echo("a", 1))
      yield* TestClock.adjust("2999 millis")
      assert.isUndefined(call.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* Fiber.join(call), "a")
    }).pipe(Effect.provide(layer)))

  it.effect("that is slower than the call's deadline never comes", () =>
    Effect.gen(function*() {
      const echo = yield* Echo
      const slow = yield* start(Effect.flip(echo.echo("a", 1).pipe(Rpc.deadline("3 seconds"))))
      const silent = yield* start(Effect.flip(echo.other("a").pipe(Rpc.deadline("3 seconds"))))
      const forever = yield* start(echo.other("a"))
      yield* TestClock.adjust("2999 millis")
      assert.deepStrictEqual([slow.pollUnsafe(), silent.pollUnsafe()], [undefined, undefined])
      yield* TestClock.adjust("1 millis")
      for (const call of [slow, silent]) {
        assert.deepInclude(yield* Fiber.join(call), { _tag: "Timeout", timeoutMillis: 3000, waiting: "reply" })
      }
      yield* TestClock.adjust("1 day")
      assert.isUndefined(forever.pollUnsafe())
      yield* stop(forever)
    }).pipe(Effect.provide(layer)))

  it.effect("has headers for who asks for them", () =>
    Effect.gen(function*() {
      const echo = yield* Echo
      const call = yield* start(Effect.all([Rpc.withReplyHeaders(echo.echo("a", 1)), echo.echo("b", 1)], {
        concurrency: 2
      }))
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(yield* Fiber.join(call), [["a", [["x", "1"]]], "b"])
    }).pipe(Effect.provide(layer)))
})

describe("the types of a mock", () => {
  it("are those of the service: arguments, results, and the failures it declares", () => {
    Mock.layer(Echo, { echo: () => Effect.fail(new Refused({ why: "no" })) })
    Mock.layer(Echo, { echo: () => Mock.silent })
    // @ts-expect-error `echo` declares no such failure
    Mock.layer(Echo, { echo: () => Effect.fail(new Undeclared()) })
    // @ts-expect-error `ready` cannot fail, so that it cannot time out either
    Mock.layer(Echo, { ready: Mock.silent })
    // @ts-expect-error a number is no reply
    Mock.layer(Echo, { echo: () => Effect.succeed(1) })
    // @ts-expect-error the second argument is a number
    Mock.layer(Echo, { echo: (_: string, times: string) => Effect.succeed(times) })
    // @ts-expect-error a service that is a function has no methods
    Mock.layer(Shout, {})
    // @ts-expect-error no such method
    Mock.layer(Echo, { shout: () => Effect.succeed("hi") })
  })

  it("say of a record which calls there can be", () => {
    const program = Effect.gen(function*() {
      const { calls, of } = yield* Mock.recorded(Echo)
      expectTypeOf(of("echo")[0]!.args).toEqualTypeOf<[text: string, times: number]>()
      expectTypeOf(of("echo")[0]!.exit).toEqualTypeOf<Exit.Exit<string, RpcError | Refused> | undefined>()
      expectTypeOf(calls[0]!.method).toEqualTypeOf<"echo" | "other" | "ready">()
      for (const call of calls) {
        if (call.method === "ready") expectTypeOf(call.args).toEqualTypeOf<readonly []>()
        if (call.method === "other") expectTypeOf(call.args).toEqualTypeOf<[text: string]>()
      }
      // @ts-expect-error a name is never called
      of("name")
      // @ts-expect-error what gives no effect is not recorded
      of("length")
    })
    // @ts-expect-error only a mock has a record
    const unmocked: Effect.Effect<void> = Effect.provide(program, Layer.succeed(Echo, {} as never))
    const mocked: Effect.Effect<void> = Effect.provide(program, shout)
    assert.isDefined([unmocked, mocked, Timeout])
  })
})
