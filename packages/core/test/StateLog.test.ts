import { assert, describe, it } from "@effect/vitest"
import { ConnectionClosed, Endpoint, Stack, type StackShape } from "@scales-rpc/core"
import { Effect, Exit, Layer, Logger, References, Scope } from "effect"
import { TestClock } from "effect/testing"
import { logging } from "./logging.ts"

const built = Effect.gen(function*() {
  const log = logging()
  const scope = yield* Scope.make()
  const context = yield* Layer.buildWithScope(Layer.provide(Stack.layer("text"), log.layer), scope)
  const stack: StackShape = yield* Effect.provideContext(Stack, context)
  const close = Scope.close(scope, Exit.void)
  yield* Effect.addFinalizer(() => close)
  return { ...log, close, stack }
})

const times = (count: number, f: (nth: number) => void) => {
  for (let nth = 0; nth < count; nth++) f(nth)
}

describe("a log of changes of state", () => {
  it.effect("writes a line at once, with its level, whose it is and what differs", () =>
    Effect.gen(function*() {
      const { lines, stack } = yield* built
      stack.log.say("warning", "endpoint down", { endpoint: "h:1", cause: "reset" })
      stack.log.say("debug", "aperture widened")
      assert.deepStrictEqual(lines, [
        { level: "Warn", message: "endpoint down", annotations: { client: "text", endpoint: "h:1", cause: "reset" } },
        { level: "Debug", message: "aperture widened", annotations: { client: "text" } }
      ])
    }))

  it.effect("leaves no timer behind for lines that were written", () =>
    Effect.gen(function*() {
      const { stack } = yield* built
      times(10, () => stack.log.say("info", "endpoint up"))
      assert.strictEqual(stack.deadlines.size, 0)
    }))

  it.effect("writes ten lines of one message in ten seconds, then how many were left out", () =>
    Effect.gen(function*() {
      const { lines, stack } = yield* built
      times(1000, (nth) => stack.log.say("warning", "endpoint down", { endpoint: `h:${nth}` }))
      assert.deepStrictEqual(lines.map(({ annotations }) => annotations["endpoint"]), [
        ...Array.from({ length: 10 }, (_, nth) => `h:${nth}`)
      ])
      yield* TestClock.adjust("9999 millis")
      assert.lengthOf(lines, 10)
      yield* TestClock.adjust("1 millis")
      assert.lengthOf(lines, 11)
      assert.deepStrictEqual(lines[10], {
        level: "Warn",
        message: "endpoint down",
        annotations: { client: "text", leftOut: 990 }
      })
      assert.strictEqual(stack.deadlines.size, 0)
      yield* TestClock.adjust("1 minute")
      assert.lengthOf(lines, 11)
    }))

  it.effect("tells messages apart: a storm of one takes nothing from another", () =>
    Effect.gen(function*() {
      const { of, stack } = yield* built
      times(30, () => stack.log.say("warning", "endpoint down"))
      times(3, () => stack.log.say("info", "endpoint up"))
      assert.deepStrictEqual([of("endpoint down").length, of("endpoint up").length], [10, 3])
    }))

  it.effect("begins anew ten seconds after the first line of a storm, however long that lasts", () =>
    Effect.gen(function*() {
      const { lines, stack } = yield* built
      for (let second = 0; second < 30; second++) {
        times(5, () => stack.log.say("warning", "endpoint down"))
        yield* TestClock.adjust("1 second")
      }
      const leftOut = lines.flatMap(({ annotations }) => annotations["leftOut"] ?? [])
      assert.deepStrictEqual(leftOut, [40, 40, 40])
      assert.lengthOf(lines, 3 * (10 + 1))
    }))

  it.effect("counts each line once, written or left out, whenever they come", () =>
    Effect.gen(function*() {
      const { close, lines, stack } = yield* built
      let said = 0
      for (let turn = 0; turn < 100; turn++) {
        const burst = (turn * 7919) % 13
        times(burst, () => stack.log.say("warning", "endpoint down"))
        said += burst
        yield* TestClock.adjust((turn * 104_729) % 4000)
      }
      yield* close
      const leftOut = lines.reduce((sum, { annotations }) => sum + Number(annotations["leftOut"] ?? 0), 0)
      const written = lines.filter(({ annotations }) => annotations["leftOut"] === undefined).length
      assert.strictEqual(written + leftOut, said)
      assert.isAbove(leftOut, 0)
    }))

  it.effect("says what it has left out when the client closes, and nothing after that", () =>
    Effect.gen(function*() {
      const { close, lines, stack } = yield* built
      times(12, () => stack.log.say("warning", "endpoint down"))
      yield* close
      assert.deepStrictEqual(lines.at(-1)!.annotations, { client: "text", leftOut: 2 })
      assert.strictEqual(stack.deadlines.size, 0)
      yield* TestClock.adjust("1 minute")
      assert.lengthOf(lines, 11)
    }))

  it.effect("shows no secrets", () =>
    Effect.gen(function*() {
      const { lines, stack } = yield* built
      stack.log.say("warning", "server set cannot be read", {
        cause: "no answer of zk://me:hunter2@h",
        password: "hunter2"
      })
      assert.notInclude(JSON.stringify(lines), "hunter2")
    }))

  it.effect("does not look at what nobody reads", () =>
    Effect.gen(function*() {
      for (const [minimum, looks] of [["Error", 0], ["Warn", 1]] as const) {
        let looked = 0
        const cause = { toJSON: () => looked++ }
        yield* Effect.gen(function*() {
          ;(yield* Stack).log.say("warning", "endpoint down", { cause })
        }).pipe(
          Effect.provide(Stack.layer("text")),
          Effect.provide(Layer.mergeAll(Logger.layer([]), Layer.succeed(References.MinimumLogLevel, minimum)))
        )
        assert.strictEqual(looked, looks)
      }
    }))
})

describe("the last faults", () => {
  it.effect("are the newest 50, the newest first, with when and why", () =>
    Effect.gen(function*() {
      const { stack } = yield* built
      assert.deepStrictEqual(stack.faults.list, [])
      yield* TestClock.setTime(1_000_000)
      stack.faults.note({ endpoint: "h:1", what: "down", cause: new Error("reset") })
      yield* TestClock.adjust("1 second")
      stack.faults.note({ what: "server set cannot be read" })
      assert.deepStrictEqual(stack.faults.list, [
        { at: 1_001_000, endpoint: undefined, what: "server set cannot be read", cause: undefined },
        { at: 1_000_000, endpoint: "h:1", what: "down", cause: "reset" }
      ])
      for (let count = 3; count <= 175; count++) {
        stack.faults.note({ what: `fault ${count}` })
        const { list } = stack.faults
        assert.lengthOf(list, Math.min(count, 50))
        assert.strictEqual(list[0]!.what, `fault ${count}`)
        if (count > 52) assert.strictEqual(list.at(-1)!.what, `fault ${count - 49}`)
      }
    }))

  it.effect("are noted whatever their cause is", () =>
    Effect.gen(function*() {
      const { stack } = yield* built
      const odd: ReadonlyArray<readonly [unknown, string]> = [
        [Object.create(null), "what has no text"],
        [{ toString: () => ({}) }, "what has no text"],
        [Object.assign(new Error(), { message: { a: 1 } }), "Error"],
        [Object.assign(new Error(), { message: "", name: "" }), ""],
        [
          new Proxy(new Error("no"), {
            get: () => {
              throw new Error("no")
            }
          }),
          "what has no text"
        ],
        [Symbol("why"), "Symbol(why)"],
        [null, "null"]
      ]
      for (const [cause, text] of odd) {
        stack.faults.note({ what: "down", cause })
        assert.strictEqual(stack.faults.list[0]!.cause, text)
        const closed = new ConnectionClosed({ endpoint: Endpoint.tcp("h", 1), reached: "no", cause })
        assert.strictEqual(closed.message, `connection closed at h:1: ${text}`)
      }
    }))

  it.effect("are bounded in what they say: a peer's message may be as long as it likes", () =>
    Effect.gen(function*() {
      const { stack } = yield* built
      stack.faults.note({ what: "down", cause: "x".repeat(100_000) })
      assert.lengthOf(stack.faults.list[0]!.cause!, 1003)
    }))
})
