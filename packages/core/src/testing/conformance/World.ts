/** A balancer under test, over endpoints, a server set and a clock that the case moves; and what must hold when the case is over. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { Abort, abortFailure, type AbortReason } from "../../Abort.ts"
import type { BalancerView } from "../../Balancer.ts"
import { type Call, classifyExit } from "../../Call.ts"
import { CallContext } from "../../CallContext.ts"
import type { Endpoint } from "../../Endpoint.ts"
import type { RpcError } from "../../RpcError.ts"
import { ServerSetState } from "../../ServerSet.ts"
import type { MessageSink } from "../../Sink.ts"
import { Stack, type StackShape } from "../../Stack.ts"
import * as Seed from "../Seed.ts"
import { seeded } from "../seeded.ts"
import { TestServerSet } from "../TestServerSet.ts"
import { family, type MakeBalancer } from "./family.ts"
import { causeOf, Mismatch, shown, WorldFailure } from "./Mismatch.ts"
import { type Exchange, replyTo, ScriptedEndpoints } from "./ScriptedEndpoints.ts"

/** The part of a balancer's snapshot that the suite reads. */
export type Seen = Pick<BalancerView, "size" | "load" | "endpoints">

/** A call of a case. */
export interface Placed {
  readonly request: string
  readonly call: Call
  readonly fiber: Fiber.Fiber<string, RpcError>
}

/** What a case sets before it begins. */
export interface WorldOptions {
  readonly seed: number
  readonly make: MakeBalancer
  /** What the calls carry, by their number in the case. */
  readonly context?: ((call: number) => CallContext) | undefined
  /** The first state of the set. Default `Pending`. */
  readonly first?: ServerSetState | undefined
}

/** How often every fiber that can go on does so before a case looks: enough for a balancer that takes some steps in fibers of its own. */
const turns = 16

/** What a case sees and moves. */
export class World {
  readonly seed: number
  /** The case's own chance; the balancer's comes from the same seed, but is another. */
  readonly random: () => number
  readonly endpoints = new ScriptedEndpoints()
  readonly placed: Array<Placed> = []
  readonly #options: WorldOptions
  readonly #scope: Scope.Closeable
  readonly #shared: Scope.Closeable
  #stack!: StackShape
  #sink!: MessageSink<string, string, RpcError>
  #set!: Context.Service.Shape<typeof TestServerSet>
  #asleep = 0
  #numbered = 0
  #closed = false

  private constructor(options: WorldOptions, scope: Scope.Closeable, shared: Scope.Closeable) {
    this.#options = options
    this.seed = options.seed
    this.random = seeded(options.seed)
    this.#scope = scope
    this.#shared = shared
  }

  /** Runs a case in a world of its own, with its end; ends without requirements, under a clock of its own. */
  static readonly use = <A>(
    options: WorldOptions,
    body: (world: World) => Effect.Effect<A, unknown>
  ): Effect.Effect<A, WorldFailure> =>
    Effect.gen(function*() {
      const world = new World(options, yield* Scope.make(), yield* Scope.make())
      yield* world.build
      const result = yield* body(world)
      yield* world.finish
      return result
    }).pipe(
      Effect.provide(Layer.fresh(TestClock.layer())),
      Effect.catchCause((cause) =>
        Cause.hasInterruptsOnly(cause)
          ? Effect.failCause(cause as Cause.Cause<never>)
          : Effect.fail(new WorldFailure(cause, options.seed))
      )
    )

  /** The balancer's stack. */
  get stack(): StackShape {
    return this.#stack
  }

  /** The balancer. */
  get sink(): MessageSink<string, string, RpcError> {
    return this.#sink
  }

  /** Fails the case unless both are equal, by structure. */
  expect(what: string, expected: unknown, seen: unknown): void {
    if (!Equal.equals(expected, seen)) throw new Mismatch(what, shown(expected), shown(seen))
  }

  /** Fails the case unless it is so. */
  must(what: string, expected: string, holds: boolean, seen: unknown): void {
    if (!holds) throw new Mismatch(what, expected, shown(seen))
  }

  /** Lets every fiber that can go on do so, without time passing, and looks whether the endpoints were treated well. */
  readonly settle: Effect.Effect<void> = Effect.gen({ self: this }, function*() {
    for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
    this.#lookAtEndpoints()
  })

  #lookAtEndpoints(): void {
    const [violation] = this.endpoints.violations
    if (violation !== undefined) throw new Mismatch("how endpoints are treated", "by the contract of a sink", violation)
  }

  /** Lets things go on until it is so, for a while. */
  readonly until = (what: string, holds: () => boolean, atMost = 1000): Effect.Effect<void> =>
    Effect.gen(function*() {
      for (let turn = 0; turn < atMost && !holds(); turn++) yield* Effect.yieldNow
      if (!holds()) throw new Mismatch(what, "it happens without time passing", "it does not")
    })

  /** Lets time pass. */
  readonly pass = (duration: Duration.Input): Effect.Effect<void> =>
    Effect.andThen(TestClock.adjust(duration), this.settle)

  /** The next state of the set, handed out. */
  readonly push = (state: ServerSetState): Effect.Effect<void> =>
    Effect.suspend(() => {
      // What is stale, or not known, leaves the set as it is.
      if (state._tag === "Pending" || state._tag === "Failed") return Effect.andThen(this.#set.push(state), this.settle)
      const keys = new Set(state._tag === "Bound" ? state.endpoints.map(({ key }) => key) : [])
      const { settled } = this.endpoints.expect(keys)
      const known = this.until("a new state of the set is taken up", () =>
        this.#closed || this.seen().size === keys.size, 20_000)
      return this.#set.push(state).pipe(
        Effect.andThen(this.settle),
        Effect.andThen(known),
        Effect.tap(() =>
          Effect.sync(settled)
        )
      )
    })

  /** The same as pushing these as `Bound`. */
  readonly bind = (endpoints: ReadonlyArray<Endpoint>): Effect.Effect<void> =>
    this.push(ServerSetState.Bound(endpoints))

  /** A call by hand, with a deadline so many milliseconds ahead, to send once or more. */
  newCall(deadline = Infinity): Call {
    const now = this.#stack.now()
    const abort = new Abort(now + deadline, deadline)
    const number = this.#numbered++
    return {
      service: "conformance",
      method: "call",
      idempotent: false,
      deadline: now + deadline,
      context: this.#options.context?.(number) ?? CallContext.empty,
      abort,
      tried: [],
      classify: classifyExit,
      reply: undefined,
      span: undefined,
      trace: undefined
    }
  }

  /** Begins a call, and does not let anything else go on. `steps`: how many its fiber takes before it pauses. */
  readonly begin = (call: Call = this.newCall(), steps?: number): Effect.Effect<Placed> =>
    Effect.suspend(() => {
      const request = `request ${this.placed.length}`
      const { deadlines } = this.#stack
      const sent = Effect.suspend(() => {
        if (call.deadline < Infinity) deadlines.add(call.abort, this.#stack.now())
        const exchange = this.#sink.send(request, call)
        return this.#stack.filtered() ? Effect.raceFirst(exchange, aborted(call)) : exchange
      })
      const ended = Effect.onExitPrimitive(sent, () => {
        if (call.abort.held) call.abort.whenReleased(() => deadlines.remove(call.abort))
        else deadlines.remove(call.abort)
        return undefined
      })
      const run = steps === undefined ? ended : Effect.provideService(ended, Scheduler.MaxOpsBeforeYield, steps)
      return Effect.map(Effect.forkDetach(run, { startImmediately: true }), (fiber) => {
        const placed: Placed = { request, call, fiber }
        this.placed.push(placed)
        return placed
      })
    })

  /** Begins a call and lets it come as far as it can. */
  readonly send = (call?: Call): Effect.Effect<Placed> =>
    Effect.gen({ self: this }, function*() {
      const placed = yield* this.begin(call)
      for (let turn = 0; turn < turns; turn++) {
        if (placed.fiber.pollUnsafe() !== undefined || this.endpoints.exchanges.has(placed.request)) break
        yield* Effect.yieldNow
      }
      this.#lookAtEndpoints()
      return placed
    })

  /** Where a request was received last; fails the case when it was not. */
  exchange(placed: Placed): Exchange {
    const exchange = this.endpoints.exchanges.get(placed.request)
    if (exchange === undefined) throw new Mismatch("where the call went", "an endpoint", this.stateOf(placed))
    return exchange
  }

  /** The key of the endpoint that a call went to. */
  keyOf(placed: Placed): string {
    return this.exchange(placed).sink.endpoint.key
  }

  /** Answers a call, and expects that it gets this answer. */
  readonly answer = (placed: Placed): Effect.Effect<void> =>
    Effect.gen({ self: this }, function*() {
      this.exchange(placed).end(Effect.succeed(replyTo(placed.request)))
      this.expect(`what ${placed.request} gets`, replyTo(placed.request), yield* this.reply(placed))
    })

  /** How a call ended; fails the case when it has not. */
  readonly exit = (placed: { readonly fiber: Fiber.Fiber<unknown, RpcError> }) =>
    Effect.gen({ self: this }, function*() {
      for (let turn = 0; turn < turns && placed.fiber.pollUnsafe() === undefined; turn++) yield* Effect.yieldNow
      const exit = placed.fiber.pollUnsafe()
      if (exit === undefined) throw new Mismatch("whether the call has ended", "yes", "it waits still")
      return exit
    })

  /** What a call was answered; fails the case when it was not. */
  readonly reply = (placed: Placed): Effect.Effect<unknown> =>
    Effect.map(this.exit(placed), (exit) => {
      if (Exit.isFailure(exit)) throw new Mismatch(`what ${placed.request} gets`, "a reply", causeOf(exit.cause))
      return exit.value
    })

  /** What a call failed with; fails the case when it did not, or died. */
  readonly failure = (placed: { readonly fiber: Fiber.Fiber<unknown, RpcError> }): Effect.Effect<RpcError> =>
    Effect.map(this.exit(placed), (exit) => {
      if (Exit.isSuccess(exit)) throw new Mismatch("how the call ends", "with a failure", "it succeeds")
      const reason = exit.cause.reasons[0]
      if (reason === undefined || !Cause.isFailReason(reason)) {
        throw new Mismatch("how the call ends", "with a typed failure", causeOf(exit.cause))
      }
      return reason.error
    })

  /** Interrupts a call, and expects that it ends. */
  readonly interrupt = (fiber: Fiber.Fiber<unknown, unknown>): Effect.Effect<void> =>
    Effect.suspend(() => {
      fiber.interruptUnsafe()
      return this.until("an interrupted call ends", () => fiber.pollUnsafe() !== undefined)
    })

  /** Runs `open` of the whole in a fiber of its own, as far as it can come. */
  readonly open: Effect.Effect<{ readonly fiber: Fiber.Fiber<void, RpcError> }> = Effect.suspend(() =>
    Effect.map(
      Effect.tap(Effect.forkDetach(this.#sink.open, { startImmediately: true }), () => this.settle),
      (fiber) => ({ fiber })
    )
  )

  /** What the balancer shows of itself. */
  seen(): Seen {
    const nodes = this.#stack.nodes().filter(({ role }) => role === "balancer")
    if (nodes.length !== 1) {
      throw new Mismatch(`stages that registered with the role "balancer"`, "1", String(nodes.length))
    }
    const snapshot = nodes[0]!.snapshot() as Partial<Seen> | undefined
    if (typeof snapshot?.size !== "number" || typeof snapshot.load !== "number" || !Array.isArray(snapshot.endpoints)) {
      throw new Mismatch("what the balancer's node shows", "a size, a load and endpoints", shown(snapshot))
    }
    return snapshot as Seen
  }

  /** What the balancer shows of its endpoints' loads, by key. */
  loads(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.seen().endpoints.map(({ endpoint, load }) => [endpoint, load]))
  }

  /** Closes the balancer, and no more. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.#closed = this.endpoints.closing = true
    return this.#closing("the balancer's scope closes", this.#scope)
  })

  #closing(what: string, scope: Scope.Closeable): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const fiber = yield* Effect.forkDetach(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* this.until(what, () => fiber.pollUnsafe() !== undefined)
      yield* this.settle
    })
  }

  /** Where a call has come to, as text. */
  stateOf({ fiber }: Placed): string {
    const exit = fiber.pollUnsafe()
    return exit === undefined ? "it waits" : Exit.isSuccess(exit) ? "it was answered" : causeOf(exit.cause)
  }

  /** Builds the balancer. */
  readonly build: Effect.Effect<void, unknown> = Effect.gen({ self: this }, function*() {
    const testClock = yield* Clock.Clock
    const clock = Layer.succeed(Clock.Clock, {
      ...testClock,
      sleep: (duration) =>
        Effect.acquireUseRelease(
          Effect.sync(() => this.#asleep++),
          () => testClock.sleep(duration),
          () => Effect.sync(() => this.#asleep--)
        )
    })
    const shared = yield* Layer.buildWithScope(
      Layer.fresh(
        Layer.mergeAll(TestServerSet.layer(this.#options.first), Stack.layer("conformance")).pipe(
          Layer.provideMerge(Seed.layer(this.seed)),
          Layer.provideMerge(clock)
        )
      ),
      this.#shared
    )
    this.#stack = Context.get(shared, Stack)
    this.#set = Context.get(shared, TestServerSet)
    const balancer = this.#options.make(family).pipe(
      Layer.provide(Layer.succeed(family.Endpoints, this.endpoints.factory)),
      Layer.provide(Layer.succeedContext(shared)),
      Layer.fresh
    )
    const first = this.#options.first
    const keys = first?._tag === "Bound" ? first.endpoints.map(({ key }) => key) : []
    this.endpoints.expect(new Set(keys)).settled()
    const fiber = yield* Effect.forkDetach(Layer.buildWithScope(balancer, this.#scope), { startImmediately: true })
    yield* this.until("the layer is built without waiting for an endpoint", () => fiber.pollUnsafe() !== undefined)
    const built = yield* fiber.pollUnsafe()!
    this.#sink = Context.get(built, family.Balanced)
    yield* this.settle
  })

  /** Whatever the case did: all that it began ends, and nothing is left. */
  readonly finish: Effect.Effect<void> = Effect.gen({ self: this }, function*() {
    if (!this.#closed) {
      for (const { end, request } of this.endpoints.pending()) end(Effect.succeed(replyTo(request)))
      yield* this.settle
      for (const { fiber } of this.placed) fiber.interruptUnsafe()
      yield* this.settle
      this.expect("attempts that have not ended when all calls have", 0, this.endpoints.running)
      this.expect("the load when all calls have ended", 0, this.seen().load)
      for (const { endpoint, load } of this.seen().endpoints) this.expect(`the load of ${endpoint} then`, 0, load)
      for (const { closes, endpoint, status } of this.endpoints.made) {
        if (closes > 0) this.expect(`listeners to the status of ${endpoint.key}, which is closed`, 0, status.listeners)
      }
      yield* this.close
    }
    for (const placed of this.placed) {
      this.must(
        `${placed.request} when the balancer is closed`,
        "ended",
        placed.fiber.pollUnsafe() !== undefined,
        "it waits"
      )
      this.expect(`listeners to the abort of ${placed.request} when it has ended`, 0, placed.call.abort.listeners)
    }
    for (const { closes, endpoint } of this.endpoints.made) {
      this.expect(`how often the sink of ${endpoint.key} was closed`, 1, closes)
    }
    this.expect("attempts that have not ended when the balancer is closed", 0, this.endpoints.running)
    // What is left out of the log in a storm is the stack's to tell, some time later.
    this.#stack.log.close()
    this.expect("timers in the stack's queue when the balancer is closed", 0, this.#stack.deadlines.size)
    // The stack has a node of its own.
    const stages = this.#stack.nodes().map(({ role }) => role).filter((role) => role !== "client")
    this.expect("stages registered when the balancer is closed", [], stages)
    yield* this.#closing("the stack's scope closes", this.#shared)
    this.expect("fibers that sleep when all is closed", 0, this.#asleep)
  })
}

/** Fails when the call is aborted: what the dispatcher does for a stack with filters. */
const aborted = (call: Call): Effect.Effect<never, RpcError> =>
  Effect.callback((resume) => {
    const fail = (reason: AbortReason) =>
      resume(
        Effect.fail(abortFailure(reason, { waiting: "filter", reached: call.tried.length === 0 ? "no" : "maybe" }))
      )
    if (call.abort.reason !== undefined) return fail(call.abort.reason)
    const listener = { onAbort: fail }
    call.abort.on(listener)
    return Effect.sync(() => call.abort.off(listener))
  })
