/**
 * Keeps members of a server set that leave for a moment: a registry that forgets, a session that is renewed or a process that restarts
 * then moves no load.
 *
 * After Finagle's stabilizer, which holds all changes for epochs of 10 s. This one holds back removals only, each for exactly its time:
 * what joins or changes is shown at once. And it does not believe at first that all members left together, which is more often said by a
 * registry that was wiped than by servers that all ended.
 */
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { duration, given, type OptionInForce } from "./Describe.ts"
import type { Endpoint } from "./Endpoint.ts"
import { membersOf, sameEndpoint } from "./internal/membership.ts"
import { table } from "./metricTable.ts"
import * as Metrics from "./Metrics.ts"
import { durationMillis } from "./options.ts"
import type { InvalidOption } from "./RpcError.ts"
import { ServerSetState, type States } from "./ServerSet.ts"
import { Stack, type StackShape } from "./Stack.ts"

/** How long what a server set says of those that left is not acted on. */
export interface StabilizerOptions {
  /**
   * How long a member must have been gone before it leaves. One that is back before never left, however often that happens. 0: it leaves
   * at once. Default 10 seconds, which is one of Finagle's epochs; its removals wait for the end of the second.
   */
  readonly removals?: Duration.Input | undefined
  /**
   * How long a set that had members must have been empty, or gone (`Neg`), before the members leave; each must have been gone for `removals`
   * too. If others appear before, the time in which it was empty does not count for `removals`. 0: an empty set is nothing special.
   * Default 1 minute.
   */
  readonly empty?: Duration.Input | undefined
}

/** A member that left and is still shown. */
interface Held {
  readonly endpoint: Endpoint
  /** When it left, ms. */
  since: number
}

/** What a set said last, and what is shown of it. Times are ms. */
class Stabilized {
  readonly #removals: number
  readonly #empty: number
  /** What the set says. */
  #current: ReadonlyMap<string, Endpoint> = new Map()
  /** In the order they left; none is in `#current`. */
  readonly #held = new Map<string, Held>()
  #emptySince = 0
  /** The last state that said who the members are; `undefined`: none was `Bound` yet. */
  #known: ServerSetState | undefined
  #shown: ServerSetState | undefined
  #shownMembers: ReadonlyMap<string, Endpoint> = new Map()
  /** When `advance` has something to do; `Infinity` while nobody is held. */
  due = Infinity
  /** Members that were back before they were let go of. */
  returned = 0
  /** Members that were let go of, or replaced. */
  released = 0

  constructor(removals: number, empty: number) {
    this.#removals = removals
    this.#empty = empty
  }

  /** Takes the next state of the set, and gives what is to be shown now if it is something else. */
  observe(state: ServerSetState, now: number): ServerSetState | undefined {
    if (state._tag !== "Bound" && this.#known === undefined) {
      // One failure is not another: its cause tells.
      if (state._tag === this.#shown?._tag && state._tag !== "Failed") return undefined
      return this.#shown = state
    }
    if (state._tag === "Pending" || state._tag === "Failed") return undefined
    const before = this.#current
    const next = membersOf(state)
    if (before.size === 0 && next.size > 0) {
      const empty = now - this.#emptySince
      if (empty < this.#empty) { for (const held of this.#held.values()) held.since += empty }
    }
    if (before.size > 0 && next.size === 0) this.#emptySince = now
    for (const [key, endpoint] of before) if (!next.has(key)) this.#held.set(key, { endpoint, since: now })
    // A replica that served the shard all along is nobody's successor.
    const taken = new Set<number>()
    for (const [key, { shard }] of next) {
      const earlier = before.get(key) ?? this.#held.get(key)?.endpoint
      if (shard !== undefined && earlier?.shard !== shard) taken.add(shard)
      if (this.#held.delete(key)) this.returned++
    }
    for (const [key, { endpoint: { shard } }] of this.#held) {
      if (shard !== undefined && taken.has(shard)) this.#release(key)
    }
    this.#current = next
    this.#known = state
    return this.advance(now)
  }

  /** Lets go of those that have been held for long enough, and gives what is to be shown now if it is something else. */
  advance(now: number): ServerSetState | undefined {
    const emptied = this.#current.size === 0 ? this.#emptySince + this.#empty : 0
    this.due = Infinity
    for (const [key, { since }] of this.#held) {
      const due = Math.max(since + this.#removals, emptied)
      if (due <= now) this.#release(key)
      else if (due < this.due) this.due = due
    }
    return this.#show()
  }

  /** How many have left and are still shown. */
  get held(): number {
    return this.#held.size
  }

  #release(key: string): void {
    this.#held.delete(key)
    this.released++
  }

  #show(): ServerSetState | undefined {
    const members = new Map(this.#current)
    for (const [key, { endpoint }] of this.#held) members.set(key, endpoint)
    const state = members.size === 0 ? this.#known! : ServerSetState.Bound([...members.values()])
    const same = this.#shown?._tag === state._tag && members.size === this.#shownMembers.size &&
      [...members.values()].every((endpoint) => {
        const shown = this.#shownMembers.get(endpoint.key)
        return shown !== undefined && sameEndpoint(shown, endpoint)
      })
    if (same) return undefined
    this.#shownMembers = members
    return this.#shown = state
  }
}

/** Shows what is held back from a client. */
const shown = (stack: StackShape, stabilized: Stabilized, options: Readonly<Record<string, OptionInForce>>) =>
  Effect.andThen(
    stack.register({
      role: "stabilizer",
      description: "keeps endpoints that leave the server set for a moment",
      options,
      snapshot: () => ({ held: stabilized.held, returned: stabilized.returned, released: stabilized.released })
    }),
    Metrics.show(
      stack,
      Metrics.value(table["scales.stabilizer.held"], () => stabilized.held),
      Metrics.value(table["scales.stabilizer.returned"], () => stabilized.returned),
      Metrics.value(table["scales.stabilizer.released"], () => stabilized.released)
    )
  )

/**
 * The same server set, slower to lose members. The first `Bound` is shown at once, and so are members that join, or change their weight,
 * shard or metadata; for those that leave see the options. A member that joins with the shard of one that left, or takes over its shard,
 * replaces it at once, as in Finagle: it is the same server elsewhere.
 *
 * `Pending` and `Failed` say nothing of who left: before the first `Bound` they are passed on, later they are left out and the last state
 * stands. A state in which nothing is new is left out too. Whoever reads slowly gets the newest state in place of all that he missed.
 *
 * The stream ends when `states` has ended and the last of those that left is let go. Each run of it is on its own. Time is the monotonic one of
 * `Clock`: a clock that is set empties no set. Fails with `InvalidOption`.
 */
export const stabilize = (
  states: States,
  options: StabilizerOptions = {}
): Effect.Effect<States, InvalidOption> =>
  Effect.gen(function*() {
    const removals = yield* durationMillis("removals", options.removals, 10_000)
    const empty = yield* durationMillis("empty", options.empty, 60_000)
    const described = given(options, { removals: duration(removals), empty: duration(empty) })
    return Stream.callback<ServerSetState>(
      (queue) =>
        Effect.gen(function*() {
          const clock = yield* Clock.Clock
          const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
          const stabilized = new Stabilized(removals, empty)
          const stack = yield* Effect.serviceOption(Stack)
          if (Option.isSome(stack)) yield* shown(stack.value, stabilized, described)
          const show = (state: ServerSetState | undefined) => {
            if (state !== undefined) Queue.offerUnsafe(queue, state)
          }
          const timer = yield* FiberHandle.make<void, never>()
          let armed = Infinity
          const wait = Effect.whileLoop({
            while: () => (armed = stabilized.due) < Infinity,
            body: () => Effect.suspend(() => Effect.sleep(Math.ceil(armed - now()))),
            step: () => show(stabilized.advance(now()))
          })
          yield* Stream.runForEach(states, (state) =>
            Effect.suspend(() => {
              show(stabilized.observe(state, now()))
              if (stabilized.due === armed) return Effect.void
              armed = stabilized.due
              return armed === Infinity ? FiberHandle.clear(timer) : FiberHandle.run(timer, wait)
            }))
          yield* FiberHandle.awaitEmpty(timer)
          yield* Queue.end(queue)
        }),
      { bufferSize: 1, strategy: "sliding" }
    )
  })
