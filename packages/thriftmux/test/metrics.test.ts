import { assert, beforeEach, describe, it } from "@effect/vitest"
import { Describe, describe as describeServer, Rpc } from "@scales-rpc/core"
import { Nack } from "@scales-rpc/mux"
import { RawPeer } from "@scales-rpc/mux/testing"
import { limitsOf, Protocols } from "@scales-rpc/thrift"
import { Cause, Effect, Exit, Metric } from "effect"
import { Refused } from "../../examples/gen/echo_types.js"
import { type Line, logTo, shown } from "../../mux/test/series.ts"
import { Echo, type EchoClient, type EchoHandlers, leavesNoSockets, message, serve, spread, until } from "./support.ts"

leavesNoSockets()

beforeEach(() => Effect.runSync(Effect.service(Metric.MetricRegistry)).clear())

/** What a test counts by itself: handlers begun, and how they ended, by method. */
class Tally {
  readonly begun: Record<string, number> = {}
  readonly ended: Record<string, number> = {}

  count<A, E>(method: string, self: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.suspend(() => {
      this.begun[method] = (this.begun[method] ?? 0) + 1
      return Effect.onExit(self, (exit) =>
        Effect.sync(() => {
          const key = `${method} ${endOf(exit)}`
          this.ended[key] = (this.ended[key] ?? 0) + 1
        }))
    })
  }
}

const endOf = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) return "success"
  if (Cause.hasInterruptsOnly(exit.cause)) return "Interrupted"
  if (Cause.hasDies(exit.cause)) return "Defect"
  return Cause.squash(exit.cause) instanceof Refused ? "ThriftException" : "Nack"
}

/** Handlers that fail as their arguments say, every third `touch` with a nack. */
const faulty = (tally: Tally): Partial<EchoHandlers> => {
  let touched = 0
  return {
    passMessage: (message) => tally.count("passMessage", Effect.succeed(message)),
    touch: () =>
      tally.count("touch", Effect.suspend(() => ++touched % 3 === 0 ? Effect.fail(new Nack({})) : Effect.void)),
    fail: (why) => tally.count("fail", Effect.fail(new Refused({ why }))),
    crash: (why) => tally.count("crash", Effect.die(new Error(why))),
    slow: (millis) => tally.count("slow", Effect.as(Effect.sleep(millis), "slow"))
  }
}

/** The bytes of a request. */
const sizeOf = (method: string, args: ReadonlyArray<unknown>): number => {
  const writer = Protocols.binary.writer()
  Echo.definition.methods.get(method)!.encodeCall(1, args, writer)
  return writer.take().length
}

type Method = "passMessage" | "touch" | "fail" | "crash" | "slow"

/** The calls of a load, in an order that repeats. */
const plan = Array.from({ length: 300 }, (_, i): readonly [Method, ReadonlyArray<unknown>] => {
  switch ((i * 7) % 10) {
    case 0:
      return ["fail", ["no", 0]]
    case 1:
      return ["crash", ["broke"]]
    case 2:
      return ["slow", [60_000]]
    case 3:
    case 4:
    case 5:
      return ["touch", [`key ${i}`]]
    default:
      return ["passMessage", [message(`text ${i}`, i, [i])]]
  }
})

const run = (echo: EchoClient, method: Method, args: ReadonlyArray<unknown>): Effect.Effect<unknown, unknown> => {
  const call = (echo[method] as (...args: ReadonlyArray<unknown>) => Effect.Effect<unknown, unknown>)(...args)
  return method === "slow" ? Rpc.deadline("100 millis")(call) : call
}

describe("a load with faults over two servers", () => {
  it.live("is counted alike by its client, its servers and the test", () =>
    Effect.gen(function*() {
      const tally = new Tally()
      const lines: Array<Line> = []
      const handlers = faulty(tally)
      const servers = yield* Effect.all([serve(handlers), serve(handlers)])
      assert.deepStrictEqual(servers.map(({ id }) => id), ["Echo", "Echo-2"])
      const { close, echo, live } = yield* Effect.provide(
        spread(servers, { budget: { minRetriesPerSecond: 1000 } }),
        logTo(lines)
      )
      const ends = yield* Effect.forEach(
        plan,
        ([method, args]) => Effect.map(Effect.exit(run(echo, method, args)), (exit) => [method, exit] as const),
        { concurrency: 16 }
      )
      yield* until("every tag is free", () => live().sessions.every(({ tags }) => tags === 0))
      yield* until("every handler has ended", () => servers.every((server) => server.outstanding() === 0))

      const asked: Record<string, number> = {}
      const succeeded: Record<string, number> = {}
      const failed: Record<string, number> = {}
      for (const [method, exit] of ends) {
        asked[method] = (asked[method] ?? 0) + 1
        if (Exit.isSuccess(exit)) succeeded[method] = (succeeded[method] ?? 0) + 1
        else {
          const tag = (Cause.squash(exit.cause) as { readonly _tag: string })._tag
          failed[tag] = (failed[tag] ?? 0) + 1
        }
      }
      const now = yield* shown
      const client = { client: "Echo" }

      // The calls, as the client counts them.
      assert.deepStrictEqual(now.by("scales.call.requests", "method", client), asked)
      assert.deepStrictEqual(now.by("scales.call.success", "method", client), succeeded)
      assert.deepStrictEqual(now.by("scales.call.failures", "error", client), failed)

      // The requests, as both servers count them.
      assert.deepStrictEqual(now.by("scales.server.requests", "method", { service: "Echo" }), tally.begun)
      const ended: Record<string, number> = {}
      for (const method of Object.keys(tally.begun)) {
        const of = { service: "Echo", method }
        const success = now.sum("scales.server.success", of)
        if (success > 0) ended[`${method} success`] = success
        for (const [error, count] of Object.entries(now.by("scales.server.failures", "error", of))) {
          ended[`${method} ${error}`] = count
        }
        assert.strictEqual(now.sum("scales.server.latency_ms", of), tally.begun[method]!)
        assert.strictEqual(now.sum("scales.server.pending", of), 0)
      }
      assert.deepStrictEqual(ended, tally.ended)
      assert.isAbove(ended["touch Nack"]!, 0)
      assert.isAbove(ended["slow Interrupted"]!, 0)
      assert.strictEqual(now.sum("scales.server.deaths"), ended["crash Defect"]!)

      // What went between them.
      const begun = Object.values(tally.begun).reduce((sum, count) => sum + count, 0)
      assert.strictEqual(now.sum("scales.mux.dispatches"), begun + now.sum("scales.server.expired"))
      assert.strictEqual(now.sum("scales.mux.nacks"), ended["touch Nack"]!)
      assert.deepStrictEqual(now.by("scales.mux_server.nacks", "why"), { handler: ended["touch Nack"]! })
      assert.strictEqual(now.sum("scales.mux_server.discards"), ended["slow Interrupted"]!)
      // One that was too late for its deadline may have been answered before its discard came.
      assert.strictEqual(
        now.sum("scales.mux.discards"),
        now.sum("scales.mux_server.discards") + now.sum("scales.mux_server.orphaned_discards")
      )
      assert.strictEqual(now.sum("scales.mux.tags_in_use"), 0)
      assert.strictEqual(now.sum("scales.transport.connections"), 2)
      assert.strictEqual(now.sum("scales.server.connections"), 2)
      for (
        const [here, there] of [
          ["scales.transport.sent_bytes", "scales.server.received_bytes"],
          ["scales.transport.received_bytes", "scales.server.sent_bytes"],
          ["scales.mux.messages_sent", "scales.mux_server.messages_received"],
          ["scales.mux.messages_received", "scales.mux_server.messages_sent"]
        ] as const
      ) assert.strictEqual(now.sum(here), now.sum(there), here)
      assert.strictEqual(
        now.sum("scales.thrift.request_payload_bytes"),
        plan.reduce((sum, [method, args]) => sum + sizeOf(method, args), 0)
      )

      yield* close
      assert.deepStrictEqual((yield* shown).names.filter((name) => !/_?server\./.test(name)), [])
      yield* Effect.all(servers.map(({ close }) => close), { concurrency: "unbounded" })
      assert.deepStrictEqual((yield* shown).names, [])
      // An endpoint that is marked dead, or lives again: never a line a call.
      assert.deepStrictEqual(lines.filter(({ message }) => !message.startsWith("endpoint ")), [])
    }))

  it.live("whose arguments or replies cannot be read says so", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const { echo } = yield* spread([server])
      yield* Effect.flip(echo.passMessage({ text: 5, items: 5 } as never))
      const client = yield* RawPeer.connect(server.address)
      const ask = (body: string) =>
        Effect.suspend(() => {
          client.send({
            _tag: "Tdispatch",
            tag: 2,
            contexts: [],
            destination: "",
            dtab: [],
            body: Buffer.from(body, "hex")
          })
          return client.next("Rdispatch")
        })
      // A method that there is none of, and a list of 2^31 - 1 where a string is.
      yield* ask("80010001000000046e6f6e650000000100")
      yield* ask("800100010000000570696e67730000000100")
      const now = yield* shown
      assert.strictEqual(now.sum("scales.thrift.serialization_failures"), 1)
      assert.strictEqual(now.sum("scales.thrift.request_payload_bytes"), 0)
      assert.deepStrictEqual(now.by("scales.server.failures", "error"), { UnknownMethod: 2 })
      assert.deepStrictEqual(now.by("scales.server.requests", "method"), { unknown: 2 })
    }))
})

describe("a ThriftMux server", () => {
  it.live("describes itself with its methods, and tells once in a storm what its handlers fail with", () =>
    Effect.gen(function*() {
      const lines: Array<Line> = []
      const server = yield* serve({ crash: () => Effect.die(new Error("broke")) }, { label: "front" }, logTo(lines))
      const { echo } = yield* spread([server])
      yield* Effect.forEach(Array.from({ length: 30 }), () => Effect.exit(echo.crash("x")), { concurrency: 5 })
      const died = lines.filter(({ message }) => message === "a handler died")
      assert.strictEqual(died.length, 10)
      assert.deepInclude(died[0]!.annotations, { server: "front", service: "Echo", method: "crash" })
      assert.match(String(died[0]!.annotations["cause"]), /broke/)

      const description = describeServer(server)
      assert.deepStrictEqual(
        description.stages.map(({ role }) => role),
        ["listener", "sessions", "limits", "service"]
      )
      const service = description.stages.at(-1)!
      assert.include((service.options["methods"]!.value as any).Echo, "crash")
      assert.deepStrictEqual(service.options["thrift"], { value: limitsOf(undefined), from: "default" })
      assert.deepInclude((service.state as any).Echo.crash, { requests: 30, successes: 0, failures: { Defect: 30 } })
      assert.match(Describe.render(description), /^server front\n/)
    }))
})
