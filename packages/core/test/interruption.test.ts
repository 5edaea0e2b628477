/** A fiber may be interrupted, and a call aborted, between any two of its steps: each of them is tried here. */
import { assert, describe, it } from "@effect/vitest"
import { Filter, Nacked, type RpcError, Stack } from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Cause, Effect, Exit, Fiber, Scheduler, Stream } from "effect"
import { endpoints, settle, stack, Text, TextClient } from "./support.ts"

/** Something that happens to a call while it is at one step. */
type Happening = "interrupt" | "abort" | "bind"

/**
 * Runs calls that let others run after each so many steps, and lets something happen there; asserts that afterwards nothing is
 * held. Steps are counted until a call is done in fewer.
 */
const atEveryStep = (happening: Happening, connected: boolean) =>
  Effect.gen(function*() {
    const client = yield* TextClient
    const script = yield* ScriptedConnector
    const shared = yield* Stack
    const set = yield* TestServerSet
    if (connected) {
      yield* set.bind(endpoints(1, 2))
      yield* client.call("first")
    }
    script.answer = (request, { endpoint, number }) =>
      number === 0
        ? Effect.fail(new Nacked({ endpoint, why: "once", retryable: true }))
        : Effect.andThen(Effect.yieldNow, Effect.succeed(request))
    const state = (role: string) => shared.nodes().find((node) => node.role === role)!.snapshot()
    let steps = 1
    for (;; steps++) {
      assert.isBelow(steps, 500)
      const before = client.calls.length
      const fiber = yield* client.call(`call ${steps}`).pipe(
        Effect.provideService(Scheduler.MaxOpsBeforeYield, steps),
        Effect.forkChild({ startImmediately: true })
      )
      const done = fiber.pollUnsafe() !== undefined
      const [call] = client.calls.slice(before)
      if (happening === "interrupt") fiber.interruptUnsafe()
      else if (happening === "abort") call?.abort.abort({ _tag: "Timeout", timeoutMillis: steps })
      else yield* set.bind(endpoints(1, 2, 3))
      yield* settle
      // What goes on by itself needs as many turns as it has steps.
      for (let turn = 0; turn < 500 && fiber.pollUnsafe() === undefined; turn++) yield* Effect.yieldNow
      const exit: Exit.Exit<string, RpcError> | undefined = fiber.pollUnsafe()
      assert.isDefined(exit, `at step ${steps}: the call hangs`)
      if (exit !== undefined && Exit.isSuccess(exit)) assert.strictEqual(exit.value, `call ${steps}`)
      else if (exit !== undefined && happening === "abort") {
        assert.strictEqual((Cause.squash(exit.cause) as RpcError)._tag, "Timeout", `at step ${steps}`)
      } else if (exit !== undefined) assert.isTrue(Cause.hasInterruptsOnly(exit.cause), `at step ${steps}`)
      assert.deepInclude(state("dispatcher") as object, { outstanding: 0 }, `at step ${steps}`)
      assert.strictEqual(shared.deadlines.size, 0, `at step ${steps}: the deadline`)
      if (call !== undefined) assert.strictEqual(call.abort.listeners, 0, `at step ${steps}: the abort's listeners`)
      const { endpoints: views } = state("balancer") as { endpoints: ReadonlyArray<{ load: number }> }
      assert.deepStrictEqual(views.map(({ load }) => load), views.map(() => 0), `at step ${steps}: load`)
      assert.isTrue(script.connections.every(({ outstanding }) => outstanding === 0), `at step ${steps}: exchanges`)
      if (done) break
    }
    return steps
  })

const happenings: ReadonlyArray<Happening> = ["interrupt", "abort", "bind"]

describe("a call leaves nothing behind whatever happens at whichever step", () => {
  for (const happening of happenings.filter((each) => each !== "bind")) {
    it.effect(`${happening}, on a stack that is connected`, () =>
      Effect.gen(function*() {
        assert.isAbove(yield* atEveryStep(happening, true), 10)
      }).pipe(Effect.provide(stack())))

    it.effect(`${happening}, on a stack with filters above and below`, () => {
      const slow = Effect.andThen(Effect.yieldNow, Effect.yieldNow)
      const above = Filter.above(Text, (inner) =>
        Effect.succeed({ ...inner, send: (request, call) => Effect.andThen(slow, inner.send(request, call)) }))
      const below = Filter.below(Text, (inner) =>
        Effect.succeed({ ...inner, send: (request, attempt) => Effect.andThen(slow, inner.send(request, attempt)) }))
      return Effect.gen(function*() {
        assert.isAbove(yield* atEveryStep(happening, true), 10)
      }).pipe(Effect.provide(stack({ above, below })))
    })
  }
})
