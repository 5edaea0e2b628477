/** What the machinery of a balancer and its picker know of each other: the members, the picker, and what either shows of them. */
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { Call, Outcome } from "./Call.ts"
import type { CallCounts, CallStats } from "./CallStats.ts"
import type { DirectEndpoint } from "./Direct.ts"
import type { Endpoint } from "./Endpoint.ts"
import type { RpcError } from "./RpcError.ts"
import type { EndpointSink } from "./Sink.ts"
import type { StackShape } from "./Stack.ts"
import type { SinkState } from "./Status.ts"

/** One endpoint of a balancer. */
export class Member<Req = any, Res = any, E = any> {
  /** The newest description of the endpoint; weight and metadata may change. */
  endpoint: Endpoint
  /** Made when the endpoint is first picked or opened; until then it counts as Idle. */
  sink: EndpointSink<Req, Res, E> | undefined = undefined
  /** @internal The direct way through `sink`, if it has one. */
  direct: DirectEndpoint<Req, Res, E> | undefined = undefined
  /** Attempts that have begun and not ended. */
  load = 0
  /** 0 usable, 1 busy, 2 down. */
  rank: 0 | 1 | 2 = 0
  /** Where the picker keeps it; a picker's own. */
  index = -1
  /** What else the picker knows of it; a picker's own. */
  own: any = undefined
  /** It has left the set. */
  removed = false
  /** A moving average over the attempts that succeeded, in milliseconds; `undefined` before the first. */
  latencyMillis: number | undefined = undefined
  /** Given to every attempt as its end hook: made once, not once a call. */
  readonly release: (outcome: Outcome, millis: number, error: string | undefined, at: number) => void
  /** @internal What is counted of its attempts, from the first on. */
  counts: CallCounts | undefined = undefined
  /** @internal What is shown of them: series of its own, or shared with others beyond `endpointSeries`. */
  stats: CallStats | undefined = undefined
  /** @internal The last state that had it. */
  seen = 0
  /** @internal Of its sink. */
  scope: Scope.Closeable | undefined = undefined
  /** @internal Its sink is being made. */
  making: Fiber.Fiber<unknown, unknown> | undefined = undefined
  /** @internal Who waits for its sink to be made; `undefined`: nobody has. */
  wanting: Set<() => void> | undefined = undefined
  /** @internal */
  unsubscribe: () => void = () => {}

  constructor(
    endpoint: Endpoint,
    release: (
      member: Member<Req, Res, E>,
      outcome: Outcome,
      millis: number,
      error: string | undefined,
      at: number
    ) => void
  ) {
    this.endpoint = endpoint
    this.release = (outcome, millis, error, at) => release(this, outcome, millis, error, at)
  }

  /** The state of its sink. */
  get state(): SinkState {
    return this.sink === undefined ? "Idle" : this.sink.status.state
  }

  /** Why it is not usable. */
  get fault(): RpcError | undefined {
    return this.sink?.status.fault
  }
}

/** Chooses among the members. Told of every change that can matter to it. */
export interface Picker {
  readonly add: (member: Member) => void
  readonly remove: (member: Member) => void
  /** Its state, its rank or its weight changed. */
  readonly changed: (member: Member) => void
  /** An attempt has begun: its load is up by one. `at` is now, by the stack's `elapsed`, here and below. */
  readonly began: (member: Member, at: number) => void
  /** An attempt has ended so, `millis` after it began: its load is down by one. Not told of members that have left. */
  readonly ended: (member: Member, outcome: Outcome, millis: number, at: number) => void
  /**
   * The best one, not among `tried` when there is as good another; `undefined` only when there are none. Without a `call` it is asked which to
   * open first.
   */
  readonly pick: (tried: ReadonlyArray<Endpoint>, call: Call | undefined) => Member | undefined
  /** What it knows of a member: whether calls go there (`active`, an aperture's word), its own measure of latency. */
  readonly view?: (member: Member) => { readonly active?: boolean; readonly latencyMillis?: number | undefined }
  /** What it shows of itself. */
  readonly snapshot?: () => Readonly<Record<string, unknown>>
}

/** What the machinery does for a picker. */
export interface Control {
  readonly stack: StackShape
  /** Begins to open the member; nobody waits. `changed` tells what came of it. */
  readonly open: (member: Member) => void
  /** Closes the member's sink unless calls are on it. It is Idle then, and has its sink made anew when it is next needed. */
  readonly shelve: (member: Member) => void
}

/** Options that every balancer has. */
export interface BalancerOptions {
  /**
   * What a call meets while the server set is known to be empty: `"fail"`, `NoEndpoints` at once, or `"wait"`, until its deadline at most, for
   * an endpoint to join. Default `"fail"`.
   */
  readonly whenEmpty?: "fail" | "wait" | undefined
}

/** What was counted of the attempts at an endpoint. */
export interface EndpointCalls {
  readonly attempts: number
  readonly successes: number
  /** By the tag of the error. */
  readonly failures: Readonly<Record<string, number>>
  /** Those that say nothing of the endpoint: their caller gave up, say. */
  readonly ignored: number
  /**
   * Shares and the latencies in milliseconds that they are no longer than, of the last minute; empty with `metrics: false`, and for an endpoint that
   * has no series of its own.
   */
  readonly quantiles: ReadonlyArray<readonly [share: number, millis: number | undefined]>
}

/** One endpoint as a balancer sees it: what `describe` and pages show. */
export interface EndpointView {
  /** Its key, `host:port`. */
  readonly endpoint: string
  /** A `SinkState`. */
  readonly state: SinkState
  /** Attempts that have not ended. */
  readonly load: number
  /** Its share against other endpoints. */
  readonly weight: number
  /** How long an attempt that succeeds takes, a moving average in milliseconds; `undefined` before the first. */
  readonly latencyMillis: number | undefined
  /** Its attempts since the beginning, and how long they took in the last minute; `undefined` before the first. */
  readonly calls: EndpointCalls | undefined
  /** Whether calls go there: `false` only outside of an aperture. */
  readonly active: boolean
  /** Why it is not usable, as text: at most 1000 characters. */
  readonly fault: string | undefined
}

/** What a balancer shows of itself, and with it whatever its picker shows. */
export interface BalancerView {
  /** How many endpoints the set has. */
  readonly size: number
  /** How many of them can take calls as they are. */
  readonly usable: number
  /** How many work, but not well. */
  readonly busy: number
  /** How many are down. */
  readonly down: number
  /** How many have left the set and finish their calls. */
  readonly draining: number
  /** Attempts that have not ended. */
  readonly load: number
  /** Endpoints that have joined. */
  readonly adds: number
  /** Endpoints that have left. */
  readonly removes: number
  /** Calls that were sent to an endpoint that was not usable, because none was. */
  readonly panics: number
  /** Calls that wait for a first state of the server set, or for a first open endpoint. */
  readonly waiting: number
  /** All of the set, or as many as were asked for: those that are not well first, then those with the most load. */
  readonly endpoints: ReadonlyArray<EndpointView>
  /** How many of the set are not among them, if any. */
  readonly endpointsLeftOut: number | undefined
  /** The first 100 of those that have left. */
  readonly drainingEndpoints: ReadonlyArray<Pick<EndpointView, "endpoint" | "state" | "load">>
  /** How many have left besides them, if any. */
  readonly drainingEndpointsLeftOut: number | undefined
}
