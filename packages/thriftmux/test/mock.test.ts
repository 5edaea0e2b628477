/** Mocks of Thrift services: typed by what Apache's compiler declares. */
import { assert, expectTypeOf, it } from "@effect/vitest"
import { Rpc, ServerFailed } from "@scales-rpc/core"
import { Mock } from "@scales-rpc/core/testing"
import { type ThriftCallError, ThriftException } from "@scales-rpc/thrift"
import { Effect, type Exit, Fiber } from "effect"
import { TestClock } from "effect/testing"
import Int64 from "node-int64"
import { type Overdrawn, Refused } from "../../examples/gen/echo_types.js"
import { Echo } from "./support.ts"

const refusal = new ThriftException({ exception: new Refused({ why: "no" }) })

it.effect("a mock answers, fails with what its methods declare and what any call may fail with, and keeps the record", () =>
  Effect.gen(function*() {
    const echo = yield* Echo
    assert.strictEqual(yield* echo.ping(), "pong")
    const declared = yield* Effect.flip(echo.fail("x", new Int64(0)))
    assert.strictEqual(declared, refusal)
    const slow = yield* Effect.forkChild(Effect.flip(echo.slow(5).pipe(Rpc.deadline("1 second"))), {
      startImmediately: true
    })
    yield* TestClock.adjust("1 second")
    assert.strictEqual((yield* Fiber.join(slow))._tag, "Timeout")
    const { calls, of } = yield* Mock.recorded(Echo)
    assert.deepStrictEqual(calls.map(({ method }) => method), ["ping", "fail", "slow"])
    expectTypeOf(of("slow")[0]!.args).toEqualTypeOf<[millis: number]>()
    expectTypeOf(of("fail")[0]!.exit).toEqualTypeOf<
      Exit.Exit<void, ThriftException<Refused | Overdrawn> | ThriftCallError> | undefined
    >()
    assert.deepStrictEqual(of("slow").map(({ args }) => args), [[5]])
  }).pipe(Effect.provide(Mock.layer(Echo, {
    ping: () => Effect.succeed("pong"),
    fail: () => Effect.fail(refusal),
    slow: () => Mock.silent
  }))))

it("what a method does not declare does not compile", () => {
  const failed = new ServerFailed({ endpoint: {} as never, why: "", retryable: false, rejected: false })
  const compiled = [
    Mock.layer(Echo, { ping: () => Effect.fail(failed) }),
    // @ts-expect-error `ping` declares no exception
    Mock.layer(Echo, { ping: () => Effect.fail(refusal) }),
    // @ts-expect-error a client's caller gets an exception as a `ThriftException`, never bare
    Mock.layer(Echo, { fail: () => Effect.fail(new Refused({ why: "no" })) }),
    // @ts-expect-error nor any error of one's own
    Mock.layer(Echo, { fail: () => Effect.fail(new Error("no")) }),
    // @ts-expect-error an argument of another type
    Mock.layer(Echo, { slow: (millis: string) => Effect.succeed(millis) })
  ]
  assert.lengthOf(compiled, 5)
})
