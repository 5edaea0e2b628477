/**
 * Injects faults into a stack by a plan: latency, failures, refusals, silence and broken connections, above the balancer, below it, or at
 * the connector. Each wait that it adds ends with the call's abort, as those of a real stack do.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { abortFailure, type AbortListener, type AbortReason } from "../Abort.ts"
import type { Call } from "../Call.ts"
import { CallAt } from "../Deadlines.ts"
import { given } from "../Describe.ts"
import type { Endpoint } from "../Endpoint.ts"
import { ConnectFailed, ConnectionClosed, Nacked, type RpcError } from "../RpcError.ts"
import type { Connector, EndpointSink, Family, MessageSink } from "../Sink.ts"
import { Stack, type StackShape } from "../Stack.ts"
import { type Status, StatusCell } from "../Status.ts"
import type { AboveRule, BelowRule, ConnectorRule, FaultPlan, Hit } from "./FaultPlan.ts"

export {
  type AboveRule,
  type BelowRule,
  type Break,
  type BreakAfter,
  breakAfter,
  breakConnection,
  type CallRule,
  type Chance,
  type ConnectorRule,
  type ConnectRule,
  type Delay,
  delay,
  type Fail,
  fail,
  type FaultKind,
  type FaultPlan,
  type Hang,
  hang,
  type Injected,
  type Nack,
  nack,
  type OnConnectionRule,
  plan,
  type Refuse,
  refuse
} from "./FaultPlan.ts"

/** Where faults happen. */
interface Place {
  readonly stack: StackShape
  readonly plan: FaultPlan<ConnectorRule>
  /** `undefined` above the balancer. */
  readonly endpoint: Endpoint | undefined
  /** Of the connection, where there is one: what waits on it ends with it. */
  readonly connection: { readonly status: Status; readonly breakNow: (cause: unknown) => RpcError } | undefined
}

const injected = (plan: FaultPlan<unknown>): string => `injected, seed ${JSON.stringify(plan.seed)}`

/** Waits so long, or until the call is aborted or its connection ends, which fails. */
const wait = ({ connection, endpoint, stack }: Place, call: Call, millis: number): Effect.Effect<void, RpcError> =>
  Effect.callback((resume) => {
    const status = connection?.status
    // As from a server that says nothing: whether it has the request, nobody knows.
    const aborted = (reason: AbortReason) =>
      Effect.fail(abortFailure(reason, { waiting: "reply", reached: "maybe", endpoint }))
    const broken = (fault: RpcError | undefined) =>
      Effect.fail(fault ?? new ConnectionClosed({ endpoint: endpoint!, reached: "maybe", cause: "closed" }))
    if (call.abort.reason !== undefined) return resume(aborted(call.abort.reason))
    if (status?.state === "Closed") return resume(broken(status.fault))
    const end = (result: Effect.Effect<void, RpcError>) => {
      leave()
      resume(result)
    }
    const listener: AbortListener = { onAbort: (reason) => end(aborted(reason)) }
    const now = stack.now()
    const timer = millis === Infinity ? undefined : new CallAt(now + millis, () => end(Effect.void))
    const off = status?.subscribe(() => {
      if (status.state === "Closed") end(broken(status.fault))
    })
    const leave = () => {
      call.abort.off(listener)
      off?.()
      if (timer !== undefined) stack.deadlines.remove(timer)
    }
    call.abort.on(listener)
    if (timer !== undefined) stack.deadlines.add(timer, now)
    return Effect.sync(leave)
  })

/** What the faults make of a call that would go on as `rest`. */
const meet = <A, E>(
  place: Place,
  call: Call,
  hits: ReadonlyArray<Hit<ConnectorRule["fault"]>>,
  rest: Effect.Effect<A, E>
): Effect.Effect<A, E | RpcError> => {
  const { connection, endpoint, plan } = place
  let millis = 0
  let end: Effect.Effect<A, E | RpcError> = rest
  for (const hit of hits) {
    const { fault } = hit
    if (fault._tag === "Delay") millis += hit.millis
    else if (fault._tag === "Hang") millis = Infinity
    else if (fault._tag === "Fail") end = Effect.suspend(() => Effect.fail(fault.error(endpoint)))
    else if (fault._tag === "Nack") {
      const { retryable, why } = fault
      end = Effect.suspend(() => Effect.fail(new Nacked({ endpoint: endpoint!, why, retryable })))
    } else end = Effect.suspend(() => Effect.fail(connection!.breakNow(injected(plan))))
  }
  return millis === 0 ? end : Effect.andThen(wait(place, call, millis), end)
}

/** Sends with what the plan says. */
const sendFaulty = <Req, Res, E, C extends Call>(
  place: Place,
  inner: MessageSink<Req, Res, E, C>
): MessageSink<Req, Res, E | RpcError, C>["send"] => {
  const { endpoint, plan, stack } = place
  const replies = plan.asks("reply")
  const strike = (on: "request" | "reply", call: C) => plan.strike({ on, call, endpoint, at: stack.now() })
  const answered = (request: Req, call: C): Effect.Effect<Res, E | RpcError> =>
    Effect.flatMap(inner.send(request, call), (reply) => {
      const hits = strike("reply", call)
      return hits === undefined ? Effect.succeed(reply) : meet(place, call, hits, Effect.succeed(reply))
    })
  return (request, call) =>
    Effect.suspend(() => {
      const hits = strike("request", call)
      const rest = replies ? answered(request, call) : inner.send(request, call)
      return hits === undefined ? rest : meet(place, call, hits, rest)
    })
}

const register = (stack: StackShape, plan: FaultPlan<unknown>, where: string) =>
  stack.register({
    role: "faults",
    description: `injects faults ${where}`,
    options: given(plan, { seed: plan.seed, rules: plan.rules.length }),
    snapshot: () => ({ ...plan.counts })
  })

/**
 * Faults above the balancer: each call meets them once, whatever is sent again below. A streamed body that came with a reply which a fault
 * took is held until the call's deadline.
 */
export const above = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  plan: FaultPlan<AboveRule>
): Layer.Layer<`${Id}/Balanced`, never, `${Id}/Balanced` | Stack> =>
  Layer.effect(
    family.Balanced,
    Effect.gen(function*() {
      const stack = yield* Stack
      const inner = yield* family.Balanced
      yield* register(stack, plan, "above the balancer")
      return { ...inner, send: sendFaulty({ stack, plan, endpoint: undefined, connection: undefined }, inner) }
    })
  )

/** Faults below the balancer: each attempt at an endpoint meets them. They are the endpoint's to breakers and load. */
export const below = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  plan: FaultPlan<BelowRule>
): Layer.Layer<`${Id}/Endpoints`, never, `${Id}/Endpoints` | Stack> =>
  Layer.effect(
    family.Endpoints,
    Effect.gen(function*() {
      const stack = yield* Stack
      const inner = yield* family.Endpoints
      yield* register(stack, plan, "below the balancer")
      return family.Endpoints.of({
        make: (endpoint) =>
          Effect.map(inner.make(endpoint), (sink) => ({
            ...sink,
            send: sendFaulty({ stack, plan, endpoint, connection: undefined }, sink)
          }))
      })
    })
  )

/** Takes the time that the faults of a connect take. */
const pause = (stack: StackShape, millis: number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const now = stack.now()
    const timer = new CallAt(now + millis, () => resume(Effect.void))
    stack.deadlines.add(timer, now)
    return Effect.sync(() => stack.deadlines.remove(timer))
  })

const connectFaulty = <Req, Res, E>(
  stack: StackShape,
  plan: FaultPlan<ConnectorRule>,
  inner: Connector<Req, Res, E | RpcError>,
  endpoint: Endpoint
) =>
  Effect.gen(function*() {
    let breakAfter: number | undefined
    for (const { fault, millis } of plan.strike({ on: "connect", call: undefined, endpoint, at: stack.now() }) ?? []) {
      if (fault._tag === "Delay") yield* pause(stack, millis)
      else if (fault._tag === "BreakAfter") breakAfter = Math.min(breakAfter ?? Infinity, millis)
      else if (fault._tag === "Refuse") {
        return yield* new ConnectFailed({ endpoint, phase: "connect", cause: fault.cause })
      }
    }
    const sink = yield* inner.connect(endpoint)
    const status = new StatusCell(sink.status.state, sink.status.fault)
    const off = sink.status.subscribe(() => {
      if (status.state !== "Closed") status.set(sink.status.state, sink.status.fault)
    })
    const breakNow = (cause: unknown): RpcError => {
      const fault = new ConnectionClosed({ endpoint, reached: "maybe", cause })
      if (status.state !== "Closed") status.set("Closed", fault)
      return fault
    }
    const now = stack.now()
    const timer = breakAfter === undefined ? undefined : new CallAt(now + breakAfter, () => breakNow(injected(plan)))
    if (timer !== undefined) stack.deadlines.add(timer, now)
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        off()
        if (timer !== undefined) stack.deadlines.remove(timer)
        if (status.state !== "Closed") status.set("Closed")
      })
    )
    const send = sendFaulty({ stack, plan, endpoint, connection: { status, breakNow } }, sink)
    return { ...sink, status, send } satisfies EndpointSink<Req, Res, E | RpcError>
  })

/**
 * Faults at the connector: connecting fails or takes its time, connections break, and attempts meet the rest on the connection they were sent
 * on. A connection that a fault breaks closes the one below it with the pool that let it go.
 */
export const connector = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  plan: FaultPlan<ConnectorRule>
): Layer.Layer<`${Id}/Connector`, never, `${Id}/Connector` | Stack> =>
  Layer.effect(
    family.Connector,
    Effect.gen(function*() {
      const stack = yield* Stack
      const inner = yield* family.Connector
      yield* register(stack, plan, "at the connector")
      return family.Connector.of({ connect: (endpoint) => connectFaulty(stack, plan, inner, endpoint) })
    })
  )
