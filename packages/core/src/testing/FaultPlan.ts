/** Which faults are to happen to which calls and connections: rules, the chance that decides by a seed, and what has happened so far. */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type { Call } from "../Call.ts"
import type { Endpoint } from "../Endpoint.ts"
import { InvalidOption, type RpcError } from "../RpcError.ts"
import { seeded } from "./seeded.ts"

/** A time from a range, in milliseconds. */
interface Range {
  readonly least: number
  readonly most: number
}

/** It takes longer: each time anything from `least` to `most` milliseconds. */
export interface Delay extends Range {
  readonly _tag: "Delay"
}

/** It fails so. */
export interface Fail {
  readonly _tag: "Fail"
  readonly error: (endpoint: Endpoint | undefined) => RpcError
}

/** The call gets no answer until its deadline passes, its caller gives up, or its connection ends. */
export interface Hang {
  readonly _tag: "Hang"
}

/** The server refuses the call without running it. */
export interface Nack {
  readonly _tag: "Nack"
  readonly why: string
  readonly retryable: boolean
}

/** The connection breaks, with every call that is on it. */
export interface Break {
  readonly _tag: "Break"
}

/** The connection breaks some time after it was made. */
export interface BreakAfter extends Range {
  readonly _tag: "BreakAfter"
}

/** The connection is not made. */
export interface Refuse {
  readonly _tag: "Refuse"
  readonly cause: unknown
}

/** What can be injected. */
export type FaultKind = (Delay | Fail | Hang | Nack | Break | BreakAfter | Refuse)["_tag"]

/** How often a rule applies to what it matches. */
export interface Chance {
  /** Only to these of what it matches, counted from 1, those included that another rule has ended. Default: to all. */
  readonly nth?: number | ReadonlyArray<number> | undefined
  /** With this probability, 0 to 1. Default 1. */
  readonly probability?: number | undefined
  /** So many times at most. Default: no bound. */
  readonly times?: number | undefined
}

/** Matches calls. */
export interface CallRule<Fault> extends Chance {
  /** Calls of this method, or of one of these. Default: of any. */
  readonly method?: string | ReadonlyArray<string> | undefined
  /** Calls for which this holds. `endpoint` is `undefined` above the balancer. Default: for all. */
  readonly where?: ((call: Call, endpoint: Endpoint | undefined) => boolean) | undefined
  /**
   * `"request"`: before the call goes on down, which it does not when the fault ends it; `"reply"`: once it was answered with success,
   * so that a call which fails has been executed all the same. Default `"request"`.
   */
  readonly on?: "request" | "reply" | undefined
  readonly fault: Fault
}

/** Matches calls to some endpoints. */
interface OfEndpoint {
  /** Those to this endpoint, by its key, or to one of these. Default: to any. */
  readonly endpoint?: string | ReadonlyArray<string> | undefined
}

/** What can happen to calls above the balancer, where no endpoint is known. */
export interface AboveRule extends CallRule<Delay | Fail | Hang> {
  readonly endpoint?: undefined
}

/** What can happen to attempts at one endpoint, below the balancer. */
export interface BelowRule extends CallRule<Delay | Fail | Hang | Nack>, OfEndpoint {}

/** What can happen to attempts on one connection. */
export interface OnConnectionRule extends CallRule<Delay | Fail | Hang | Nack | Break>, OfEndpoint {}

/** What can happen to connecting, and to the connection that it makes. */
export interface ConnectRule extends Chance, OfEndpoint {
  readonly on: "connect"
  readonly fault: Delay | Refuse | BreakAfter
}

/** What can happen at a connector. */
export type ConnectorRule = OnConnectionRule | ConnectRule

/** One fault that has been injected. */
export interface Injected {
  /** The index of its rule. */
  readonly rule: number
  readonly fault: FaultKind
  readonly on: "request" | "reply" | "connect"
  /** `undefined` while connecting. */
  readonly method: string | undefined
  /** `undefined` above the balancer. */
  readonly endpoint: string | undefined
  /** Milliseconds of the stack's clock. */
  readonly at: number
}

/** How many of the faults that were injected are kept. */
const kept = 1000

/** What a rule is asked about. */
export interface Asked {
  readonly on: "request" | "reply" | "connect"
  readonly call: Call | undefined
  readonly endpoint: Endpoint | undefined
  readonly at: number
}

/** A fault that happens now. `millis`: how long, for those that take time. */
export interface Hit<Fault> {
  readonly fault: Fault
  readonly millis: number
}

type AnyFault = ConnectorRule["fault"]

/** Chance of its own for each rule of a plan (FNV-1a over the text of both). */
const chanceOf = (seed: string | number, index: number): () => number => {
  const text = `${seed}/${index}`
  let hash = 0x811c_9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x0100_0193)
  return seeded(hash)
}

const among = (one: string, of: string | ReadonlyArray<string> | undefined): boolean =>
  of === undefined || (typeof of === "string" ? of === one : of.includes(one))

/** A rule, and how often it was asked. Each has chance of its own: another rule beside it changes nothing of what it does. */
class Ruled {
  readonly rule: ConnectorRule
  readonly random: () => number
  seen = 0
  injected = 0

  constructor(rule: ConnectorRule, random: () => number) {
    this.rule = rule
    this.random = random
  }

  matches({ call, endpoint, on }: Asked): boolean {
    const { rule } = this
    if ((rule.on ?? "request") !== on) return false
    if (endpoint !== undefined && !among(endpoint.key, rule.endpoint)) return false
    if (rule.on === "connect" || call === undefined) return true
    return among(call.method, rule.method) && rule.where?.(call, endpoint) !== false
  }

  /**
   * What it does to the next of what it matches, unless a rule before it ends that. It draws as much each time, so that what it does to the
   * next does not depend on whether it did anything to this.
   */
  next(): Hit<AnyFault> | undefined {
    const { fault, nth, probability = 1, times = Infinity } = this.rule
    this.seen++
    const likely = probability === 1 || this.random() < probability
    const millis = "least" in fault ? fault.least + Math.round(this.random() * (fault.most - fault.least)) : 0
    if (nth !== undefined && (typeof nth === "number" ? nth !== this.seen : !nth.includes(this.seen))) return undefined
    return likely && this.injected < times ? { fault, millis } : undefined
  }
}

/**
 * Rules with a seed, and what they have done. A plan is for one stack: its counts go on where they stood when it is built into another.
 * As text it says its seed and its counts.
 */
export class FaultPlan<out Rule> {
  /** What all its chance comes from: with the same seed, the same calls in the same order meet the same faults. */
  readonly seed: string | number
  readonly rules: ReadonlyArray<Rule>
  /** How often each fault was injected. */
  readonly counts: Readonly<Record<FaultKind, number>> = {
    Delay: 0,
    Fail: 0,
    Hang: 0,
    Nack: 0,
    Break: 0,
    BreakAfter: 0,
    Refuse: 0
  }
  /** The last 1000 that were injected, oldest first. Live. */
  readonly injected: ReadonlyArray<Injected> = []
  readonly #ruled: ReadonlyArray<Ruled>
  #stopped = false

  constructor(rules: ReadonlyArray<Rule & ConnectorRule>, seed: string | number) {
    this.seed = seed
    this.rules = rules
    this.#ruled = rules.map((rule, index) => new Ruled(rule, chanceOf(seed, index)))
  }

  /** Nothing more is injected, and nothing counted, until `start`. What is under way goes on. */
  readonly stop = (): void => {
    this.#stopped = true
  }

  /** Injects again. */
  readonly start = (): void => {
    this.#stopped = false
  }

  /** How many calls or connects each rule has matched, in the order of the rules. */
  get matched(): ReadonlyArray<number> {
    return this.#ruled.map(({ seen }) => seen)
  }

  /**
   * What happens now, by the rules in their order, up to the first that ends what was asked about. `undefined`: nothing.
   *
   * @internal
   */
  strike(asked: Asked): ReadonlyArray<Hit<AnyFault>> | undefined {
    if (this.#stopped) return undefined
    let hits: Array<Hit<AnyFault>> | undefined
    let ended = false
    for (let index = 0; index < this.#ruled.length; index++) {
      const ruled = this.#ruled[index]!
      if (!ruled.matches(asked)) continue
      // Those behind the one that ends it count and draw too: what they do is not to depend on it.
      const hit = ruled.next()
      if (hit === undefined || ended) continue
      ruled.injected++
      ;(hits ??= []).push(hit)
      this.#note(index, hit.fault._tag, asked)
      ended = !("least" in hit.fault)
    }
    return hits
  }

  /** Whether any rule is about this. @internal */
  asks(on: Asked["on"]): boolean {
    return this.#ruled.some(({ rule }) => (rule.on ?? "request") === on)
  }

  toString(): string {
    const counts = Object.entries(this.counts).filter(([, count]) => count > 0).map(([fault, count]) =>
      `${fault} ${count}`
    )
    return `faults of seed ${JSON.stringify(this.seed)}: ${counts.length === 0 ? "none" : counts.join(", ")}`
  }

  #note(rule: number, fault: FaultKind, { at, call, endpoint, on }: Asked): void {
    const injected = this.injected as Array<Injected>
    ;(this.counts as Record<FaultKind, number>)[fault]++
    injected.push({ rule, fault, on, method: call?.method, endpoint: endpoint?.key, at })
    if (injected.length > kept) injected.shift()
  }
}

const invalid = (option: string, got: unknown, expected: string): InvalidOption =>
  new InvalidOption({ option, got, expected })

const checked = (rule: ConnectorRule, index: number): void => {
  const { fault, nth, on, probability = 1, times = 0 } = rule
  const name = (option: string) => `rules[${index}].${option}`
  const counts = nth === undefined ? [] : typeof nth === "number" ? [nth] : nth
  if (!counts.every((count) => Number.isInteger(count) && count >= 1)) {
    throw invalid(name("nth"), nth, "whole numbers of at least 1")
  }
  if (!(probability >= 0 && probability <= 1)) throw invalid(name("probability"), probability, "0 to 1")
  if (!Number.isInteger(times) || times < 0) throw invalid(name("times"), times, "a whole number of at least 0")
  if (on === "reply" && fault._tag === "Nack") {
    throw invalid(name("on"), on, `"request": what was answered has been executed, and a nack says that it was not`)
  }
}

/**
 * Makes a plan; its chance comes from `seed`, by default 1. Throws `InvalidOption` for a rule that is none: a probability that is not from 0
 * to 1, an `nth` below 1, `times` below 0, a nack in place of a reply.
 */
export const plan = <const Rule extends ConnectorRule>(
  rules: ReadonlyArray<Rule>,
  options: { readonly seed?: string | number | undefined } = {}
): FaultPlan<Rule> => {
  rules.forEach(checked)
  return new FaultPlan(rules, options.seed ?? 1)
}

/** A range from one duration to another, by default the same. Throws when one cannot be read, is not finite, or they are in the wrong order. */
const rangeOf = (least: Duration.Input, most: Duration.Input): Range => {
  const millis = [least, most].map((input) => {
    const duration = Duration.fromInput(input)
    return Option.isSome(duration) ? Duration.toMillis(duration.value) : NaN
  })
  const range = { least: millis[0]!, most: millis[1]! }
  if (!(range.least >= 0 && range.least <= range.most && range.most < Infinity)) {
    throw invalid("duration", `${String(least)} to ${String(most)}`, "finite durations, the shorter first")
  }
  return range
}

/** Latency: so long each time, or anything between two durations. */
export const delay = (least: Duration.Input, most: Duration.Input = least): Delay => ({
  _tag: "Delay",
  ...rangeOf(least, most)
})

/** A failure: this one, or one made for the endpoint (`undefined` above the balancer). */
export const fail = (error: RpcError | ((endpoint: Endpoint | undefined) => RpcError)): Fail => ({
  _tag: "Fail",
  error: typeof error === "function" ? error : () => error
})

/** Silence: no answer until the call's deadline passes, its caller gives up, or its connection ends. */
export const hang: Hang = { _tag: "Hang" }

/** A refusal of the server's: provably not executed; `retryable`, `true` by default, is its word on trying elsewhere. */
export const nack = (options: { readonly why?: string; readonly retryable?: boolean } = {}): Nack => ({
  _tag: "Nack",
  why: options.why ?? "injected",
  retryable: options.retryable ?? true
})

/** The connection breaks, and every call that is on it fails: it may have been executed. */
export const breakConnection: Break = { _tag: "Break" }

/** The connection that is made breaks so long after, or after anything between two durations. */
export const breakAfter = (least: Duration.Input, most: Duration.Input = least): BreakAfter => ({
  _tag: "BreakAfter",
  ...rangeOf(least, most)
})

/** The connection is not made: `ConnectFailed`, with this cause. A `delay` in a rule before it is a server that does not answer. */
export const refuse = (cause: unknown = "injected"): Refuse => ({ _tag: "Refuse", cause })
