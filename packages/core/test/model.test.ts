/**
 * The whole stack under schedules that nobody thought of: servers refuse, break, drain, nack, answer late or never; the server set
 * changes; callers leave; deadlines pass; the stack closes in the middle. What must hold, holds at every step; at the end nothing is held.
 *
 * A failure names its seed: `SEED=17 vitest run packages/core/test/model` runs that schedule alone.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  Abort,
  Aperture,
  type Attempt,
  Balancer,
  ConnectFailed,
  describe as describeStack,
  Endpoint,
  FailureAccrual,
  Filter,
  Hedge,
  NackAdmission,
  Nacked,
  Retry,
  Rpc,
  type RpcError,
  ServerFailed,
  ServerSetState,
  Stack
} from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Cause, Clock, Effect, Exit, type Fiber, Layer, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Heap } from "../src/internal/Heap.ts"
import { seeded, settle, stack, start, Text, TextClient } from "./support.ts"

const seeds = process.env["SEED"] === undefined
  ? Array.from({ length: 3_000 }, (_, index) => index + 1)
  : [Number(process.env["SEED"])]

/** What all schedules together must have made the stages do, and the role that counts it. */
const proven = [["requeues", "requeue"], ["retries", "retry"], ["removals", "failureAccrual"], [
  "revivals",
  "failureAccrual"
]] as const
const did = new Map<string, number>()

const tags = new Set([
  "Timeout",
  "StackClosed",
  "NoEndpoints",
  "ConnectFailed",
  "FastFailure",
  "ConnectionClosed",
  "Nacked",
  "ServerFailed"
])

/** What an endpoint does with one attempt of a call. */
type Behaviour = "echo" | "late" | "never" | "nack" | "poison" | "failed" | "retryable" | "stream" | "defect"

const behaviours: ReadonlyArray<Behaviour> = [
  "echo",
  "echo",
  "echo",
  "late",
  "late",
  "never",
  "nack",
  "nack",
  "poison",
  "failed",
  "retryable",
  "stream",
  "defect"
]

/** One call of the schedule. */
interface Placed {
  readonly id: string
  readonly due: number
  fiber: Fiber.Fiber<string, RpcError> | undefined
  interrupted: boolean
  defect: boolean
  endedAt: number | undefined
}

const schedule = (seed: number) =>
  Effect.gen(function*() {
    const random = seeded(seed)
    const below = (n: number) => Math.floor(random() * n)
    const chance = (share: number) => random() < share
    const one = <A>(of: ReadonlyArray<A>): A => of[below(of.length)]!
    const testClock = yield* Clock.Clock
    const now = () => testClock.currentTimeMillisUnsafe()

    /** From some time on everything is well again. */
    let calm = false
    let asleep = 0
    const clock = Layer.succeed(Clock.Clock, {
      ...testClock,
      sleep: (duration) =>
        Effect.acquireUseRelease(
          Effect.sync(() => asleep++),
          () => testClock.sleep(duration),
          () => Effect.sync(() => asleep--)
        )
    })

    /** Every stage of the default stack, in place of the fewest. */
    const whole = chance(0.5)
    // The balancer, with its heap in sight.
    let heap: Heap | undefined
    const bare = () =>
      Layer.effect(
        Text.Balanced,
        Effect.gen(function*() {
          const shared = yield* Stack
          const own = heap = new Heap(shared.random)
          return yield* Balancer.assemble(Text, {
            description: "the heap of a test",
            options: {},
            common: {},
            picker: () => Effect.succeed(own)
          })
        })
      )
    const balancer = () =>
      Layer.orDie(whole ? NackAdmission.layer(Text).pipe(Layer.provide(Aperture.layer(Text))) : bare())
    /** What a filter does before it passes a call on, or instead. */
    const filtered = (request: string) =>
      Effect.suspend((): Effect.Effect<void, RpcError> => {
        if (calm || chance(0.5)) return Effect.void
        const endpoint = Endpoint.tcp("filter", 1)
        const dice = random()
        if (dice < 0.7) return Effect.sleep(below(50))
        if (dice < 0.8) return Effect.fail(new Nacked({ endpoint, why: "filtered", retryable: chance(0.5) }))
        if (dice < 0.9) {
          return Effect.fail(new ServerFailed({ endpoint, why: "filtered", retryable: false, rejected: false }))
        }
        if (dice < 0.96) return Effect.never
        placed.get(request)!.defect = true
        return Effect.die(new Error("a filter's bug"))
      })
    const filters = {
      above: Filter.above(Text, (inner) =>
        Effect.succeed({
          ...inner,
          send: (request, call) => Effect.andThen(filtered(request), inner.send(request, call))
        })),
      below: Filter.below(Text, (inner) =>
        Effect.succeed({
          ...inner,
          send: (request, attempt) => Effect.andThen(filtered(request), inner.send(request, attempt))
        }))
    }
    const drainTimeout = one([0, 500, 3_000])
    const stages = chance(0.3) ? filters : whole
      ? {
        above: Layer.orDie(Retry.layer(Text).pipe(Layer.provide(Hedge.layer(Text, { maxExtraLoad: 0.5 })))),
        below: Layer.orDie(FailureAccrual.layer(Text))
      }
      : {}
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(
      stack({
        seed,
        balancer,
        stack: { drainTimeout, budget: { minRetriesPerSecond: below(4) } },
        ...stages
      }).pipe(Layer.provide(clock)),
      scope
    )
    const { client, script, set, shared } = yield* Effect.provideContext(
      Effect.gen(function*() {
        return {
          client: yield* TextClient,
          script: yield* ScriptedConnector,
          set: yield* TestServerSet,
          shared: yield* Stack
        }
      }),
      context
    )

    // What servers do.
    const ports = [1, 2, 3, 4, 5]
    const draining = (endpoint: Endpoint) => new Nacked({ endpoint, why: "draining", retryable: true })
    const placed = new Map<string, Placed>()
    const streams = new Set<() => void>()
    let begun = 0
    let ended = 0
    const behave = (request: string, attempt: Attempt): Effect.Effect<string, RpcError> => {
      const { endpoint } = attempt
      const echo = Effect.succeed(`${endpoint.key}|${request}`)
      switch (calm ? "echo" : one(behaviours)) {
        case "echo":
          return echo
        case "late":
          return Effect.andThen(Effect.sleep(below(4_000)), echo)
        case "never":
          return Effect.never
        case "nack":
          return Effect.fail(new Nacked({ endpoint, why: "busy", retryable: true }))
        case "poison":
          return Effect.fail(new Nacked({ endpoint, why: "poison", retryable: false }))
        case "failed":
          return Effect.fail(new ServerFailed({ endpoint, why: "sad", retryable: false, rejected: chance(0.5) }))
        case "retryable":
          return Effect.fail(new ServerFailed({ endpoint, why: "sad", retryable: true, rejected: chance(0.5) }))
        case "stream": {
          const release = attempt.hold()
          const outcome = one(["success", "failure", "ignored"] as const)
          // Who holds a body ends it with its call.
          const listener = { onAbort: () => end() }
          const end = () => {
            streams.delete(end)
            attempt.abort.off(listener)
            release(outcome)
          }
          streams.add(end)
          attempt.abort.on(listener)
          return echo
        }
        case "defect":
          placed.get(request)!.defect = true
          return Effect.die(new Error("a server's bug"))
      }
    }
    script.answer = (request: string, attempt: Attempt) => {
      begun++
      attempt.onEnd(() => ended++)
      return behave(request, attempt)
    }
    script.connecting = (endpoint) =>
      calm || chance(0.5)
        ? Effect.void
        : chance(0.7)
        // Some take longer than any call waits.
        ? Effect.sleep(below(chance(0.1) ? 20_000 : 1_500))
        : Effect.andThen(
          Effect.sleep(below(500)),
          Effect.fail(new ConnectFailed({ endpoint, phase: "handshake", cause: "no" }))
        )

    // What callers do.
    const opening: Array<Fiber.Fiber<void, RpcError>> = []
    const place = Effect.gen(function*() {
      const id = `call ${placed.size}`
      const timeout = one([1, 50, 300, 2_000, 10_000, 60_000])
      // Noted before it runs: it may end at once.
      const mine: Placed = {
        id,
        due: now() + Math.min(timeout, 10_000),
        fiber: undefined,
        interrupted: false,
        defect: false,
        endedAt: undefined
      }
      placed.set(id, mine)
      const sent = chance(0.5) ? client.call(id) : Rpc.idempotent(client.call(id))
      const call = Effect.onExit(sent.pipe(Rpc.deadline(timeout)), () =>
        Effect.sync(() => {
          mine.endedAt = now()
        }))
      mine.fiber = yield* start(call)
    })
    const push = Effect.suspend(() => {
      const some = () =>
        Array.from(
          { length: below(6) },
          () => Endpoint.tcp("h", one(ports), { weight: chance(0.7) ? 1 : 1 + below(3) })
        )
      return set.push(
        chance(0.8)
          ? ServerSetState.Bound(some())
          : one([
            ServerSetState.Pending,
            ServerSetState.Neg,
            ServerSetState.Failed("resolver"),
            ServerSetState.Bound([])
          ])
      )
    })
    const key = () => `h:${one(ports)}`

    // What must hold at every step.
    const running = () => [...placed.values()].filter(({ fiber }) => fiber?.pollUnsafe() === undefined)
    const state = (role: string) => shared.nodes().find((node) => node.role === role)?.snapshot()
    const loads = () => (state("balancer") as Balancer.BalancerView).endpoints.map(({ load }) => load)
    const check = (at: string) => {
      if (heap?.valid === false) assert.fail(`${at}: not a heap`)
      for (const load of loads()) if (load < 0) assert.fail(`${at}: load ${load}`)
      const { outstanding } = state("dispatcher") as { outstanding: number }
      const callers = running().length
      if (outstanding < callers || outstanding > callers + streams.size) {
        assert.fail(`${at}: ${outstanding} outstanding, ${callers} running, ${streams.size} streams`)
      }
      if (!whole && shared.deadlines.size > outstanding) {
        assert.fail(`${at}: ${shared.deadlines.size} deadlines for ${outstanding}`)
      }
      for (const { due, id } of running()) {
        if (due < now()) assert.fail(`${at}: ${id} runs since ${now() - due} ms too long`)
      }
    }
    const advance = (millis: number) => TestClock.adjust(millis)

    const steps = 10 + below(40)
    for (let step = 0; step < steps; step++) {
      const dice = random()
      if (dice < 0.34) yield* place
      else if (dice < 0.42) {
        const leaving = one(running())
        if (leaving !== undefined) {
          leaving.interrupted = true
          leaving.fiber?.interruptUnsafe()
        }
      } else if (dice < 0.52) yield* push
      else if (dice < 0.58) script.refuse(key())
      else if (dice < 0.64) script.accept(key())
      else if (dice < 0.7) script.breakAll(key(), { drained: chance(0.4) })
      else if (dice < 0.75) {
        const endpoint = Endpoint.tcp("h", one(ports))
        if (chance(0.5)) script.setState(endpoint.key, "Busy", chance(0.6) ? draining(endpoint) : undefined)
        else script.setState(endpoint.key, "Open")
      } else if (dice < 0.78) {
        const endpoint = Endpoint.tcp("h", one(ports))
        script.born = one([undefined, undefined, { state: "Closed" }, { state: "Busy", fault: draining(endpoint) }])
      } else if (dice < 0.82) { for (const end of streams) if (chance(0.5)) end() }
      else if (dice < 0.84) opening.push(yield* start(client.open))
      else if (dice < 0.97) yield* advance(below(one([5, 100, 1_000, 5_000])))
      else if (opening.length > 0) one(opening).interruptUnsafe()
      if (chance(0.7)) {
        yield* settle
        check(`step ${step}`)
      }
    }

    if (chance(0.5)) {
      // Everything is well again: nothing may stay broken, and nothing held.
      calm = true
      script.born = undefined
      for (const port of ports) script.accept(`h:${port}`)
      for (const port of ports) script.breakAll(`h:${port}`, { drained: true })
      yield* set.bind([Endpoint.tcp("h", one(ports)), Endpoint.tcp("h", one(ports))])
      yield* advance(30_000)
      yield* settle
      check("calm")
      assert.lengthOf(running(), 0)
      const probe = yield* start(client.call("probe"))
      yield* settle
      const reply: Exit.Exit<string, RpcError> | undefined = probe.pollUnsafe()
      if (reply === undefined || Exit.isFailure(reply)) {
        return assert.fail(`with all well, a call gave ${String(reply)}: ${JSON.stringify(describeStack(shared))}`)
      }
      assert.match(reply.value, /^h:[1-5]\|probe$/)
      for (const end of streams) end()
      // Stages have timers of their own; calls have none.
      assert.lengthOf([...shared.deadlines].filter((timer) => !whole || timer instanceof Abort), 0)
      assert.deepStrictEqual(loads().filter((load) => load !== 0), [])
      assert.strictEqual(script.connections.reduce((sum, { outstanding }) => sum + outstanding, 0), 0)
      assert.strictEqual(begun, ended)
    }
    for (const [what, role] of proven) {
      const shown = state(role) as Record<string, number> | undefined
      did.set(what, (did.get(what) ?? 0) + (shown?.[what] ?? 0))
    }
    const closing = yield* start(Scope.close(scope, Exit.void))
    yield* settle
    if (running().length + streams.size > 0) yield* advance(drainTimeout)
    yield* settle
    assert.isDefined(closing.pollUnsafe(), "closing takes no longer than the drain may")
    for (const end of streams) end()

    // Nothing is left of anything.
    assert.lengthOf(script.live(), 0, "connections")
    assert.strictEqual(asleep, 0, "fibers asleep")
    assert.strictEqual(shared.deadlines.size, 0, "deadlines")
    assert.lengthOf(shared.nodes(), 0, "stages")
    assert.strictEqual(begun, ended, "attempts")
    for (const { endpoint, outstanding, status } of script.connections) {
      if (outstanding !== 0 || status.listeners !== 0) {
        assert.fail(`${endpoint.key}: ${outstanding} exchanges, ${status.listeners} listeners`)
      }
    }
    for (const { abort } of client.calls) {
      if (abort.listeners !== 0) assert.fail(`${abort.listeners} listeners of an abort`)
    }
    for (const fiber of opening) assert.isDefined(fiber.pollUnsafe(), "who waits for the stack to open")
    assert.deepInclude(yield* Effect.flip(client.call("late")), { _tag: "StackClosed" })

    // Every call got an answer of its own.
    for (const { defect, due, endedAt, fiber, id, interrupted } of placed.values()) {
      const exit: Exit.Exit<string, RpcError> | undefined = fiber?.pollUnsafe()
      if (exit === undefined) return assert.fail(`${id} runs still`)
      if (endedAt === undefined || endedAt > due) assert.fail(`${id} ended at ${endedAt}, due at ${due}`)
      if (Exit.isSuccess(exit)) assert.match(exit.value, new RegExp(`^h:[1-5]\\|${id}$`))
      else if (Cause.hasInterruptsOnly(exit.cause)) assert.isTrue(interrupted, `${id} was interrupted by nobody`)
      else {
        const error: unknown = Cause.squash(exit.cause)
        const known = typeof error === "object" && error !== null && "_tag" in error && tags.has(String(error._tag))
        if (!known && !defect) assert.fail(`${id} failed with ${String(error)}`)
      }
    }
  }).pipe(Effect.provide(TestClock.layer()), Effect.scoped)

describe("any schedule", () => {
  it("leaves nothing behind, answers every call in time, and ends with a stack that works", async () => {
    for (const seed of seeds) {
      const exit = await Effect.runPromiseExit(schedule(seed))
      if (Exit.isFailure(exit)) {
        const error = Cause.squash(exit.cause)
        const message = error instanceof Error ? error.message : String(error)
        throw new Error(`seed ${seed}: ${message}`, { cause: error })
      }
    }
    if (seeds.length > 1) { for (const [what] of proven) assert.isAbove(did.get(what)!, 10, what) }
  }, 120_000)
})
