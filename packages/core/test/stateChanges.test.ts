import { assert, describe, it } from "@effect/vitest"
import {
  Aperture,
  ConnectionClosed,
  Endpoint,
  FailureAccrual,
  type RpcError,
  ServerFailed,
  ServerSet,
  ServerSetState,
  Stack
} from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Effect, Layer, Stream } from "effect"
import { TestClock } from "effect/testing"
import { logging } from "./logging.ts"
import { endpoints, settle, stack, type TestStackOptions, Text, TextClient } from "./support.ts"

/** Runs a test in a stack whose lines it is given. */
const inStack = <A, E>(
  f: (log: ReturnType<typeof logging>) => Effect.Effect<A, E, TextClient | ScriptedConnector | TestServerSet | Stack>,
  options?: TestStackOptions
) =>
  Effect.suspend(() => {
    const log = logging()
    return Effect.provide(f(log), Layer.provide(stack(options), log.layer))
  })

const brief = (lines: ReturnType<typeof logging>["lines"]) =>
  lines.map(({ annotations, level, message }) => {
    const { client, ...rest } = annotations
    assert.strictEqual(client, "text")
    return [level, message, rest]
  })

describe("an endpoint that goes down", () => {
  it.effect("is logged once with why, and once when it is back with how long that was; calls log nothing", () =>
    inStack((log) =>
      Effect.gen(function*() {
        const client = yield* TextClient
        const script = yield* ScriptedConnector
        yield* (yield* TestServerSet).bind(endpoints(1, 2))
        for (let i = 0; i < 20; i++) yield* client.call("hi")
        assert.lengthOf(log.lines, 0)
        script.refuse("h:1")
        script.breakAll("h:1")
        for (let second = 0; second < 30; second++) {
          yield* client.call("hi")
          yield* TestClock.adjust("1 second")
        }
        const cause = "connection closed at h:1: broken by the script"
        assert.deepStrictEqual(brief(log.lines), [["Warn", "endpoint down", { endpoint: "h:1", cause }]])
        script.accept("h:1")
        yield* TestClock.adjust("20 seconds")
        assert.lengthOf(log.lines, 2)
        const [, up] = brief(log.lines)
        assert.deepStrictEqual(up!.slice(0, 2), ["Info", "endpoint up"])
        const { downMillis, endpoint } = up![2] as { readonly downMillis: number; readonly endpoint: string }
        assert.strictEqual(endpoint, "h:1")
        assert.isTrue(downMillis > 30_000 && downMillis <= 45_000, String(downMillis))
        const { faults } = yield* Stack
        assert.deepStrictEqual(faults.list, [{ at: 0, endpoint: "h:1", what: "down", cause }])
      })
    ))

  it.effect("is an error when it was the last one, and news when the first is back", () =>
    inStack((log) =>
      Effect.gen(function*() {
        const client = yield* TextClient
        const script = yield* ScriptedConnector
        yield* (yield* TestServerSet).bind(endpoints(1, 2))
        for (let i = 0; i < 20; i++) yield* client.call("hi")
        yield* TestClock.adjust("1 second")
        for (const key of ["h:1", "h:2"]) {
          script.refuse(key)
          script.breakAll(key)
        }
        const all = log.of("all endpoints down")
        assert.lengthOf(all, 1)
        assert.deepInclude(all[0]!, { level: "Error" })
        assert.deepInclude(all[0]!.annotations, { endpoints: 2 })
        assert.include(String(all[0]!.annotations["cause"]), "broken by the script")
        yield* TestClock.adjust("10 seconds")
        assert.lengthOf(log.of("all endpoints down"), 1)
        assert.lengthOf(log.of("an endpoint can be used again"), 0)
        script.accept("h:2")
        yield* TestClock.adjust("10 seconds")
        const back = log.of("an endpoint can be used again")
        assert.lengthOf(back, 1)
        assert.isAtLeast(Number(back[0]!.annotations["downMillis"]), 10_000)
        const whats = (yield* Stack).faults.list.map(({ endpoint, what }) => `${endpoint}: ${what}`)
        assert.sameMembers(whats, ["h:1: down", "h:2: down", "undefined: all endpoints down"])
      })
    ))

  it.effect("is no outage when the others have left the set, nor when the set is empty", () =>
    inStack((log) =>
      Effect.gen(function*() {
        const client = yield* TextClient
        const set = yield* TestServerSet
        yield* set.bind(endpoints(1))
        yield* client.call("hi")
        yield* set.bind([])
        yield* settle
        yield* set.bind(endpoints(2))
        yield* settle
        yield* client.call("hi")
        assert.deepStrictEqual(log.lines, [])
      })
    ))

  it.effect("is one of 1000, in a storm: ten lines and one with how many were left out", () =>
    inStack((log) =>
      Effect.gen(function*() {
        const client = yield* TextClient
        const script = yield* ScriptedConnector
        const ports = Array.from({ length: 1000 }, (_, i) => i + 1)
        yield* (yield* TestServerSet).bind(endpoints(...ports))
        yield* Effect.forEach(Array(1000).fill("hi"), (text) => client.call(text))
        const shared = yield* Stack
        const keys = new Set(script.connections.map(({ endpoint }) => endpoint.key))
        for (const key of keys) script.refuse(key)
        for (const key of keys) script.breakAll(key)
        const { downs } = shared.nodes().find(({ role }) => role === "resurrector")!.snapshot() as {
          readonly downs: number
        }
        assert.isAbove(downs, 400)
        assert.lengthOf(log.of("endpoint down"), 10)
        yield* TestClock.adjust("10 seconds")
        assert.lengthOf(log.of("endpoint down"), 11)
        assert.deepStrictEqual(log.of("endpoint down").at(-1)!.annotations, { client: "text", leftOut: downs - 10 })
        assert.lengthOf(shared.faults.list, 50)
      })
    ))
})

describe("an endpoint whose calls fail", () => {
  const failing = new ServerFailed({
    endpoint: Endpoint.tcp("h", 1),
    why: "sad panda",
    retryable: false,
    rejected: false
  })

  it.effect("is logged when it is marked dead, and when it is revived", () =>
    inStack((log) =>
      Effect.gen(function*() {
        const client = yield* TextClient
        const script = yield* ScriptedConnector
        yield* (yield* TestServerSet).bind(endpoints(1))
        script.answer = () => Effect.fail(failing)
        for (let i = 0; i < 20; i++) yield* Effect.flip(client.call("hi"))
        const dead = log.of("endpoint marked dead")
        assert.lengthOf(dead, 1)
        assert.deepInclude(dead[0]!, { level: "Warn" })
        assert.deepInclude(dead[0]!.annotations, { endpoint: "h:1" })
        assert.isAtLeast(Number(dead[0]!.annotations["millis"]), 4000)
        script.answer = () => Effect.succeed("hello")
        yield* TestClock.adjust("1 minute")
        yield* client.call("hi")
        const revived = log.of("endpoint revived")
        assert.lengthOf(revived, 1)
        assert.deepInclude(revived[0]!, { level: "Info" })
        assert.strictEqual(revived[0]!.annotations["deadMillis"], 60_000)
        assert.lengthOf(log.lines, 2)
        const [fault] = (yield* Stack).faults.list
        assert.deepInclude(fault, { endpoint: "h:1", what: "marked dead", cause: "too many of its calls failed" })
      }), { below: Layer.orDie(FailureAccrual.layer(Text)) }))
})

describe("an aperture", () => {
  it.effect("logs its moves at debug", () =>
    inStack((log) =>
      Effect.gen(function*() {
        const client = yield* TextClient
        const script = yield* ScriptedConnector
        yield* (yield* TestServerSet).bind(endpoints(1, 2, 3))
        yield* client.call("hi")
        const used = script.connections[0]!.endpoint.key
        script.refuse(used)
        script.breakAll(used)
        yield* settle
        assert.deepStrictEqual(brief(log.of("aperture replaced")), [["Debug", "aperture replaced", { endpoint: used }]])
      }), { balancer: Aperture.layer }))
})

describe("a server set", () => {
  it.effect("is logged when it cannot be read, once, and when it can again", () =>
    inStack((log) =>
      Effect.gen(function*() {
        const set = yield* TestServerSet
        yield* set.push(ServerSetState.Failed(new Error("no quorum at zk://me:hunter2@h")))
        yield* settle
        yield* TestClock.adjust("3 seconds")
        yield* set.push(ServerSetState.Failed(new Error("still no quorum")))
        yield* settle
        yield* TestClock.adjust("2 seconds")
        yield* set.bind(endpoints(1))
        yield* settle
        yield* set.bind(endpoints(1, 2))
        yield* settle
        const cause = "no quorum at zk://<redacted>@h"
        assert.deepStrictEqual(brief(log.lines), [
          ["Warn", "server set cannot be read", { cause }],
          ["Info", "server set is back", { failedMillis: 5000 }]
        ])
        assert.deepStrictEqual((yield* Stack).faults.list.map(({ cause, what }) => [what, cause]), [
          ["server set cannot be read", cause]
        ])
      })
    ))

  it.effect("is watched on when its cause has no text", () =>
    inStack((log) =>
      Effect.gen(function*() {
        const client = yield* TextClient
        const set = yield* TestServerSet
        yield* set.push(ServerSetState.Failed(Object.create(null)))
        yield* settle
        yield* set.bind(endpoints(1))
        assert.strictEqual(yield* client.call("hi"), "h:1 hi")
        const cause = "what has no text"
        assert.deepStrictEqual(brief(log.lines), [
          ["Warn", "server set cannot be read", { cause }],
          ["Info", "server set is back", { failedMillis: 0 }]
        ])
        assert.strictEqual((yield* Stack).faults.list[0]!.cause, cause)
      })
    ))

  it.effect("is logged with its defect when it dies", () =>
    Effect.gen(function*() {
      const log = logging()
      yield* Effect.provide(
        Effect.gen(function*() {
          yield* Stack
          yield* settle
          const [line] = log.of("the server set is not watched any more")
          assert.deepInclude(line!, { level: "Error" })
          assert.include(String(line!.annotations["cause"]), "a defect")
          assert.lengthOf(log.lines, 1)
        }),
        TextClient.layer().pipe(
          Layer.provide(Aperture.layer(Text)),
          Layer.provide(Layer.succeed(Text.Endpoints, { make: () => Effect.never })),
          Layer.provide(Layer.succeed(ServerSet, Stream.die(new Error("a defect")))),
          Layer.provideMerge(Stack.layer("text")),
          Layer.provide(log.layer)
        )
      )
    }))
})

describe("a retry budget", () => {
  it.effect("is logged when it is exhausted, and again only after it has not been for ten seconds", () =>
    inStack((log) =>
      Effect.gen(function*() {
        const { budget } = yield* Stack
        const drain = Effect.sync(() => {
          while (budget.withdraw());
        })
        for (let second = 0; second < 60; second++) {
          yield* drain
          yield* TestClock.adjust("1 second")
        }
        assert.deepStrictEqual(brief(log.lines), [["Warn", "retry budget exhausted", {}]])
        yield* TestClock.adjust("10 seconds")
        yield* drain
        assert.lengthOf(log.lines, 2)
      }), { stack: { budget: { minRetriesPerSecond: 1 } } }))
})

describe("an endpoint whose sink cannot be made", () => {
  it.effect("is logged with the defect, once", () =>
    inStack((log) =>
      Effect.gen(function*() {
        const client = yield* TextClient
        yield* (yield* TestServerSet).bind(endpoints(1))
        const error: RpcError = yield* Effect.flip(client.call("hi"))
        assert.notInstanceOf(error, ConnectionClosed)
        const [line] = log.of("endpoint left out: its sink could not be made")
        assert.deepInclude(line!.annotations, { endpoint: "h:1" })
        assert.include(String(line!.annotations["cause"]), "broken filter")
        assert.deepInclude((yield* Stack).faults.list[0], { endpoint: "h:1", cause: "broken filter" })
      }), {
      below: Layer.effect(
        Text.Endpoints,
        Effect.succeed({ make: () => Effect.die(new Error("broken filter")) })
      ) as never
    }))
})
