/** A fiber may be interrupted, and a call aborted, between any two of its steps: each of them is tried here. */
import { assert, describe, it } from "@effect/vitest"
import { Filter, Nacked, type RpcError, ServerSetState, Stack } from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Cause, Effect, Exit, Layer, Scheduler, Scope } from "effect"
import { endpoints, settle, stack, type TestStackOptions, Text, TextClient } from "./support.ts"

/**
 * What comes in the middle of a call: its caller's interruption, its deadline (`early`: before there is an endpoint), or the first
 * endpoints.
 */
type Happening = "interrupt" | "abort" | "early abort" | "bind"

/**
 * Runs a call that pauses after so many steps, and lets something happen there, on a stack of its own; asserts that afterwards
 * nothing is held. Says whether the call was done before it paused.
 */
const atStep = (steps: number, happening: Happening, options?: TestStackOptions) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(stack(options), scope)
    const done = yield* Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const shared = yield* Stack
      const set = yield* TestServerSet
      if (happening === "interrupt" || happening === "abort") {
        yield* set.bind(endpoints(1, 2))
        yield* settle
        if (steps % 2 === 0) yield* client.call("connects one")
      }
      script.answer = (request, { endpoint, number }) =>
        number === 0
          ? Effect.fail(new Nacked({ endpoint, why: "once", retryable: true }))
          : Effect.succeed(request)
      const before = client.calls.length
      const fiber = yield* client.call("hi").pipe(
        Effect.provideService(Scheduler.MaxOpsBeforeYield, steps),
        Effect.forkChild({ startImmediately: true })
      )
      const done = fiber.pollUnsafe() !== undefined
      const call = client.calls[before]
      if (happening === "bind") yield* set.push(ServerSetState.Bound(endpoints(1, 2)))
      else if (happening === "interrupt" || call === undefined) fiber.interruptUnsafe()
      else call.abort.abort({ _tag: "Timeout", timeoutMillis: steps })
      // What goes on by itself needs more turns the fewer steps it takes in one.
      for (let turn = 0; turn < 500 && fiber.pollUnsafe() === undefined; turn++) yield* Effect.yieldNow
      yield* settle
      const exit: Exit.Exit<string, RpcError> | undefined = fiber.pollUnsafe()
      if (exit === undefined) return assert.fail(`at step ${steps}: the call hangs`)
      if (Exit.isSuccess(exit)) assert.strictEqual(exit.value, "hi")
      else if (happening === "interrupt" || call === undefined) {
        assert.isTrue(Cause.hasInterruptsOnly(exit.cause), `at step ${steps}`)
      } else {
        // A refusal may have come before the abort; then it is only not sent again.
        const expected = happening === "bind" ? [] : happening === "abort" ? ["Timeout", "Nacked"] : ["Timeout"]
        assert.include(expected, (Cause.squash(exit.cause) as RpcError)._tag, `at step ${steps}`)
      }
      const state = (role: string) => shared.nodes().find((node) => node.role === role)!.snapshot()
      assert.deepInclude(state("dispatcher") as object, { outstanding: 0 }, `at step ${steps}`)
      assert.strictEqual(shared.deadlines.size, 0, `at step ${steps}: the deadline`)
      for (const { abort } of client.calls) assert.strictEqual(abort.listeners, 0, `at step ${steps}: listeners`)
      const views = (state("balancer") as { endpoints: ReadonlyArray<{ load: number }> }).endpoints
      assert.isTrue(views.every(({ load }) => load === 0), `at step ${steps}: load`)
      assert.isTrue(script.connections.every(({ outstanding }) => outstanding === 0), `at step ${steps}: exchanges`)
      return done
    }).pipe(Effect.provideContext(context))
    yield* Scope.close(scope, Exit.void)
    return done
  })

/** Goes through all steps of a call, and then some. A fiber that may take fewer than the first in a turn gets nowhere. */
const atEveryStep = (happening: Happening, options?: TestStackOptions) =>
  Effect.gen(function*() {
    let done = false
    for (let steps = 4; steps < 70; steps++) done = yield* atStep(steps, happening, options)
    return done
  })

const pause = Effect.andThen(Effect.yieldNow, Effect.yieldNow)
const filters: TestStackOptions = {
  above: Filter.above(
    Text,
    (inner) => Effect.succeed({ ...inner, send: (request, call) => Effect.andThen(pause, inner.send(request, call)) })
  ),
  below: Filter.below(
    Text,
    (inner) =>
      Effect.succeed({ ...inner, send: (request, attempt) => Effect.andThen(pause, inner.send(request, attempt)) })
  )
}

describe("a call", () => {
  for (
    const [happening, name] of [
      ["interrupt", "holds nothing after an interruption, whichever step it was at"],
      ["abort", "holds nothing and has timed out after its abort, whichever step it was at"]
    ] as const
  ) {
    it.effect(name, () =>
      Effect.gen(function*() {
        assert.isTrue(yield* atEveryStep(happening), "the last step is past the end of the call")
      }))
  }

  it.effect("times out when its abort comes while it begins to wait, whichever step it was at", () =>
    atEveryStep("early abort"))

  it.effect("misses no server set that comes while it begins to wait, whichever step it was at", () =>
    atEveryStep("bind"))
})

describe("a call through filters", () => {
  it.effect("holds nothing after an interruption, whichever step it was at", () => atEveryStep("interrupt", filters))

  it.effect("holds nothing and has timed out after its abort, whichever step it was at", () =>
    atEveryStep("abort", filters))

  it.effect("misses no server set that comes while it begins to wait, whichever step it was at", () =>
    atEveryStep("bind", filters))
})
