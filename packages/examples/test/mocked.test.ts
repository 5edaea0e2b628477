/** How to test code that calls a service: the service is mocked, typed by the real one, and the code is as it is. */
import { assert, it } from "@effect/vitest"
import { Timeout } from "@scales-rpc/core"
import { Mock } from "@scales-rpc/core/testing"
import { ThriftException } from "@scales-rpc/thrift"
import { Effect } from "effect"
import Int64 from "node-int64"
import { Overdrawn, Refused } from "../gen/echo_types.js"
import { Echo } from "../src/echo.ts"

/** The code under test. */
const submit = (text: string) =>
  Echo.use((echo) => echo.fail(text, new Int64(0))).pipe(
    Effect.as("accepted"),
    Effect.catchTag("ThriftException", ({ exception }) =>
      Effect.succeed(
        exception instanceof Refused ? `refused: ${exception.why}` : `${Number(exception.missing)} missing`
      )),
    Effect.catchTag("Timeout", () => Effect.succeed("nobody there"))
  )

/** What the service answers in a test. */
const answering = (fail: (typeof Echo.Service)["fail"]) => Effect.provide(submit("x"), Mock.layer(Echo, { fail }))

it.effect("says what was refused and why", () =>
  Effect.gen(function*() {
    assert.strictEqual(yield* answering(() => Effect.void), "accepted")
    const refusal = new ThriftException({ exception: new Refused({ why: "no x" }) })
    assert.strictEqual(yield* answering(() => Effect.fail(refusal)), "refused: no x")
    const overdraft = new ThriftException({ exception: new Overdrawn({ missing: new Int64(3) }) })
    assert.strictEqual(yield* answering(() => Effect.fail(overdraft)), "3 missing")
  }))

it.effect("takes no answer for nobody there", () =>
  Effect.gen(function*() {
    const late = {
      timeoutMillis: 10,
      waiting: "reply",
      reached: "maybe",
      endpoint: undefined,
      cause: undefined
    } as const
    assert.strictEqual(yield* answering(() => Effect.fail(new Timeout(late))), "nobody there")
  }))
