/**
 * Sends a second attempt of a call whose first takes longer than most have lately; the first good reply wins, and the other attempt
 * is called off, on the wire too. It cuts the tail that one slow server in many makes, for a bounded share of extra load.
 *
 * Finagle's `BackupRequestFilter` with its numbers. Only calls that may run twice (`call.idempotent`) are hedged; others pass
 * through untouched. Its place is above requeues: each attempt has its own, and the second avoids where the first has been.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type { Abort } from "./Abort.ts"
import type { Call } from "./Call.ts"
import type { CallContext, ContextKey } from "./CallContext.ts"
import { Timer } from "./Deadlines.ts"
import { duration, given } from "./Describe.ts"
import * as Direct from "./Direct.ts"
import { highestMillis, LatencyWindow } from "./internal/LatencyWindow.ts"
import { table } from "./metricTable.ts"
import * as Metrics from "./Metrics.ts"
import { durationMillis, fraction } from "./options.ts"
import { RetryBudget } from "./RetryBudget.ts"
import type { InvalidOption } from "./RpcError.ts"
import type { Family, MessageSink } from "./Sink.ts"
import { Stack, type StackShape } from "./Stack.ts"
import * as Tracing from "./Tracing.ts"

/** Options of hedging. */
export interface HedgeOptions {
  /**
   * How many second attempts there may be for each call, above 0 and below 1: 0.01 sends them after the 99th percentile of recent latency,
   * and over any 10 seconds to no more than one call in a hundred. Default 0.01, as Finagle's guide has it; Finagle itself has no default.
   */
  readonly maxExtraLoad?: number | undefined
  /** No second attempt is sent before this, however fast most replies are: 1 ms at least. Default 1 ms. */
  readonly minDelay?: Duration.Input | undefined
}

const noBytes = new Uint8Array(0)

/** Travels with a second attempt, and with the calls that its server makes for it, so that they can be told apart. Finagle's key. */
export const BackupRequest: ContextKey<true> = {
  id: "com.twitter.finagle.BackupRequest",
  encode: () => noBytes,
  decode: () => true
}

/** How often the delay is worked out anew. */
const refreshMillis = 3000

/** How slow is too slow, and how much is left to spend on it. */
class Hedging {
  readonly stack: StackShape
  readonly #window: LatencyWindow
  readonly #budget: RetryBudget
  readonly #share: number
  readonly #minDelayMillis: number
  #refreshAt: number
  /** The latency that a share of the recent calls did not exceed; `undefined`: not known, or too long to hedge at all. */
  #percentile: number | undefined = undefined
  sent = 0
  won = 0
  budgetExhausted = 0

  constructor(stack: StackShape, maxExtraLoad: number, minDelayMillis: number) {
    this.stack = stack
    this.#window = new LatencyWindow(stack.now)
    // None are free: a client of few calls is held to its share too.
    this.#budget = new RetryBudget(stack.now, { minRetriesPerSecond: 0, percentCanRetry: maxExtraLoad })
    this.#share = 1 - maxExtraLoad
    this.#minDelayMillis = minDelayMillis
    this.#refreshAt = stack.now() + refreshMillis
  }

  /** After how many milliseconds a second attempt is sent; `undefined`: none is. */
  delay(now: number): number | undefined {
    if (now >= this.#refreshAt) {
      this.#refreshAt += Math.ceil((now - this.#refreshAt + 1) / refreshMillis) * refreshMillis
      this.#percentile = this.#window.percentile(this.#share)
    }
    if (this.#percentile === undefined) return undefined
    const millis = Math.max(this.#minDelayMillis, this.#percentile)
    return millis < highestMillis ? millis : undefined
  }

  /** Whether a second attempt that starts at `at` is likely to finish before the deadline. */
  inTime(call: Call, at: number): boolean {
    return this.#percentile !== undefined && call.deadline - at > this.#percentile
  }

  /** A call that may be hedged has begun. */
  began(): void {
    this.#budget.deposit()
  }

  /** Takes one second attempt from both budgets; nothing from either when one of them is empty. */
  withdraw(): boolean {
    if (this.#budget.balance === 0 || !this.stack.budget.withdraw()) {
      this.budgetExhausted++
      return false
    }
    this.#budget.withdraw()
    this.sent++
    return true
  }

  /** Notes how long something took that began at `startedAt`. */
  note(startedAt: number): void {
    this.#window.add(this.stack.now() - startedAt)
  }

  /**
   * Whether an attempt has succeeded. What ran into the call's deadline is noted as well, or slow servers would look fast; other
   * failures come quickly and would make the rest look slow.
   */
  judge(call: Call, startedAt: number, exit: Exit.Exit<unknown, unknown>): boolean {
    const { reason } = call.abort
    let good = false
    if (reason === undefined || Exit.isSuccess(exit)) {
      try {
        good = call.classify(exit) === "success"
      } catch {
        // It has thrown for the balancer as well, whose attempt ended with it: the call's defect, which is in `exit`.
      }
    }
    if (good || reason?._tag === "Timeout") this.note(startedAt)
    return good
  }
}

/** One attempt of a hedged call. */
interface Side<Res, E> {
  /** The call with an abort and a place for headers of its own. */
  readonly call: Call
  readonly startedAt: number
  fiber: Fiber.Fiber<Res, E> | undefined
  exit: Exit.Exit<Res, E> | undefined
}

/** What a failed attempt is worth to its caller: a reply most, and "never ran" only when it holds for both. */
const worth = (exit: Exit.Exit<unknown, unknown>): number => {
  if (Exit.isSuccess(exit)) return 2
  const reason = exit.cause.reasons[0]
  const error: unknown = reason !== undefined && Cause.isFailReason(reason) ? reason.error : undefined
  return typeof error === "object" && error !== null && "reached" in error && error.reached === "no" ? 0 : 1
}

/** Lets an abort go: at once, or when the response that its attempt holds has ended. */
const letGo = (abort: Abort): void => {
  // What is held is not to keep its caller.
  abort.context = Context.empty()
  if (abort.held) abort.whenReleased(() => abort.release())
  else abort.release()
}

/**
 * One hedged call, and the timer of its second attempt. Each attempt has an abort of its own, so that either can be ended alone, and in a call that did
 * not come the direct way a fiber: what a filter waits for hears of no abort.
 */
class Race<Req, Res, E> extends Timer {
  readonly #hedging: Hedging
  readonly #inner: MessageSink<Req, Res, E>
  readonly #request: Req
  readonly #call: Call
  /** What the fibers of the attempts are given; `undefined` in a call that came the direct way. */
  readonly #context: Context.Context<never> | undefined
  readonly #resume: (exit: Exit.Exit<Res, E>) => void
  readonly #first: Side<Res, E>
  /** How many endpoints the call had tried before. */
  readonly #tried: number
  #second: Side<Res, E> | undefined = undefined
  #done = false

  constructor(
    hedging: Hedging,
    inner: MessageSink<Req, Res, E>,
    request: Req,
    call: Call,
    startedAt: number,
    at: number,
    context: Context.Context<never> | undefined,
    resume: (exit: Exit.Exit<Res, E>) => void
  ) {
    super(at)
    this.#hedging = hedging
    this.#inner = inner
    this.#request = request
    this.#call = call
    this.#context = context
    this.#resume = resume
    this.#tried = call.tried.length
    this.#first = this.#side(call.context, startedAt)
  }

  /** Sends the first attempt. */
  start(): void {
    this.#run(this.#first)
    if (!this.#done) this.#hedging.stack.deadlines.add(this, this.#first.startedAt)
  }

  /** Sends the first attempt the direct way; `false`: it is not to be had, and nothing was done. */
  startDirect(direct: Direct.Direct<Req, Res, E>): boolean {
    const first = this.#first
    if (!direct(this.#request, first.call, (exit) => this.#ended(first, exit))) {
      first.call.abort.release()
      return false
    }
    if (!this.#done) this.#hedging.stack.deadlines.add(this, first.startedAt)
    return true
  }

  /** The first attempt takes long: sends the second, unless there is nothing to hedge, no time, or no budget. */
  fire(): void {
    const now = this.#hedging.stack.now()
    const call = this.#call
    if (call.abort.reason !== undefined || call.tried.length === this.#tried || !this.#hedging.inTime(call, now)) return
    if (!this.#hedging.withdraw()) return
    if (call.span !== undefined) {
      Tracing.event(this.#hedging.stack, call.span, "hedge", { delay_ms: now - this.#first.startedAt })
    }
    this.#second = this.#side(call.context.with(BackupRequest, true), now)
    this.#run(this.#second)
  }

  /** The caller has gone: ends both. */
  leave(): Effect.Effect<void> {
    this.#done = true
    this.#hedging.stack.deadlines.remove(this)
    const fibers: Array<Fiber.Fiber<Res, E>> = []
    for (const side of [this.#first, this.#second]) {
      if (side === undefined) continue
      if (side.exit === undefined && side.fiber !== undefined) fibers.push(side.fiber)
      else this.#supersede(side)
      letGo(side.call.abort)
    }
    return Fiber.interruptAll(fibers)
  }

  #side(context: CallContext, startedAt: number): Side<Res, E> {
    const call = this.#call
    return {
      call: { ...call, context, abort: call.abort.fork(), reply: call.reply && { headers: [] } },
      startedAt,
      fiber: undefined,
      exit: undefined
    }
  }

  #run(side: Side<Res, E>): void {
    const attempt = () => this.#inner.send(this.#request, side.call)
    if (this.#context === undefined) return Direct.goOn(attempt, side.call, (exit) => this.#ended(side, exit))
    const fiber = Effect.runForkWith(this.#context)(Effect.suspend(attempt))
    side.fiber = fiber
    fiber.addObserver((exit) => this.#ended(side, exit))
    // The other may have won while this one began.
    if (this.#done && side.exit === undefined) fiber.interruptUnsafe()
  }

  #ended(side: Side<Res, E>, exit: Exit.Exit<Res, E>): void {
    side.exit = exit
    if (this.#done) return
    const good = this.#hedging.judge(side.call, side.startedAt, exit)
    const other = side === this.#first ? this.#second : this.#first
    if (good || other === undefined) return this.#finish(side, exit, other, good)
    if (other.exit === undefined) return
    // Both have failed.
    const [first, second] = side === this.#first ? [side, other] : [other, side]
    const chosen = worth(second.exit!) > worth(first.exit!) ? second : first
    this.#finish(chosen, chosen.exit!, chosen === first ? second : first, false)
  }

  #finish(side: Side<Res, E>, exit: Exit.Exit<Res, E>, other: Side<Res, E> | undefined, good: boolean): void {
    this.#done = true
    this.#hedging.stack.deadlines.remove(this)
    if (other !== undefined) {
      if (other.exit === undefined) this.#hedging.note(other.startedAt)
      this.#supersede(other)
      letGo(other.call.abort)
    }
    letGo(side.call.abort)
    if (good && side === this.#second) {
      this.#hedging.won++
      const { span } = side.call
      if (span !== undefined) Tracing.event(this.#hedging.stack, span, "hedge.won")
    }
    const { reply } = this.#call
    if (reply !== undefined) reply.headers = side.call.reply!.headers
    this.#resume(exit)
  }

  /** Calls an attempt off: its exchange, or the response that it holds. */
  #supersede(side: Side<Res, E>): void {
    side.call.abort.abort({ _tag: "Superseded" })
    // A filter may wait in ways that do not hear of it.
    if (side.exit === undefined) side.fiber?.interruptUnsafe()
  }
}

const hedged = <Req, Res, E>(hedging: Hedging, inner: MessageSink<Req, Res, E>): MessageSink<Req, Res, E> => {
  const { now } = hedging.stack
  const send = (request: Req, call: Call): Effect.Effect<Res, E> =>
    Effect.withFiber((fiber) => {
      const startedAt = now()
      const delay = hedging.delay(startedAt)
      hedging.began()
      // No second attempt can come of it: the first needs neither a fiber nor an abort of its own.
      if (delay === undefined || !hedging.inTime(call, startedAt + delay)) {
        return Effect.onExitPrimitive(inner.send(request, call), (exit) => {
          hedging.judge(call, startedAt, exit)
          return undefined
        })
      }
      return Effect.callback<Res, E>((resume) => {
        const race = new Race(hedging, inner, request, call, startedAt, startedAt + delay, fiber.context, resume)
        race.start()
        return Effect.suspend(() => race.leave())
      })
    })
  const direct = Direct.through(inner)
  const sendDirect = direct && ((request: Req, call: Call, done: Direct.Done<Res, E>): boolean => {
    if (!call.idempotent) return direct(request, call, done)
    const startedAt = now()
    const delay = hedging.delay(startedAt)
    const begun = delay === undefined || !hedging.inTime(call, startedAt + delay)
      ? direct(request, call, (exit) => {
        hedging.judge(call, startedAt, exit)
        done(exit)
      })
      : new Race(hedging, inner, request, call, startedAt, startedAt + delay, undefined, done).startDirect(direct)
    // Not before: one that is not to be had comes again by `send`.
    if (begun) hedging.began()
    return begun
  })
  return {
    ...inner,
    send: Direct.offer(
      (request: Req, call: Call) => call.idempotent ? send(request, call) : inner.send(request, call),
      sendDirect
    )
  }
}

/**
 * Hedging for a family. The delay is the percentile `1 - maxExtraLoad` of the latency of the last 10 to 30 seconds, worked out every
 * 3 seconds: there is none in the first 10 to 12 seconds of a client and after 30 idle ones, and none is sent while it is 2 seconds or more. A
 * second attempt is paid from a budget of its own and from the client's, and is not sent when the time that is left is no longer than
 * that percentile, or while the first still waits for an endpoint.
 *
 * The first attempt that its classifier calls a success is the call's reply. Of two that failed the first counts, unless only
 * the second got a reply, or only the second may have reached a server. Latency is noted of successes, of what ran into the deadline and of
 * what was called off, as in Finagle.
 *
 * Shown as `scales.hedge.sent`, `.won`, `.budget_exhausted` and `.delay_ms` (0: no second attempts for now). Fails with `InvalidOption`
 * for an option out of its range.
 */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E>,
  options: HedgeOptions = {}
): Layer.Layer<`${Id}/Balanced`, InvalidOption, `${Id}/Balanced` | Stack> =>
  Layer.effect(
    family.Balanced,
    Effect.gen(function*() {
      const stack = yield* Stack
      const inner = yield* family.Balanced
      const maxExtraLoad = yield* fraction("maxExtraLoad", options.maxExtraLoad, 0.01)
      const minDelayMillis = yield* durationMillis("minDelay", options.minDelay, 1, 1)
      const hedging = new Hedging(stack, maxExtraLoad, minDelayMillis)
      const delayMillis = () => hedging.delay(stack.now()) ?? 0
      yield* Metrics.show(
        stack,
        Metrics.value(table["scales.hedge.sent"], () => hedging.sent),
        Metrics.value(table["scales.hedge.won"], () => hedging.won),
        Metrics.value(table["scales.hedge.budget_exhausted"], () => hedging.budgetExhausted),
        Metrics.value(table["scales.hedge.delay_ms"], delayMillis)
      )
      yield* stack.register({
        role: "hedge",
        description: "sends a second attempt of what takes longer than most, and takes the first good reply",
        options: given(options, { maxExtraLoad, minDelay: duration(minDelayMillis) }),
        snapshot: () => ({
          sent: hedging.sent,
          won: hedging.won,
          budgetExhausted: hedging.budgetExhausted,
          delayMillis: delayMillis()
        })
      })
      return hedged(hedging, inner)
    })
  )
