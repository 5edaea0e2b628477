/** The contracts that every stage of a stack is made to: sinks, and the three planes they live on. */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Attempt, Call } from "./Call.ts"
import type { Endpoint } from "./Endpoint.ts"
import type { RpcError } from "./RpcError.ts"
import type { Status } from "./Status.ts"

/**
 * Takes requests down and brings responses up. A plain object: a filter is `{ ...inner, send }`.
 *
 * `send` describes one exchange and does nothing before it is run; running it twice sends twice. Interrupting it cancels
 * the exchange all the way to the wire. A wait inside it ends when the call's `abort` fires (`abortFailure` makes the failure); only
 * filters made with `Filter` need not care, because a stack with one runs each call in a fiber of its own.
 */
export interface MessageSink<in Req, out Res, out E, in C extends Call = Call> {
  /** One exchange. Fails with what the wire family fails with, `RpcError` as a rule. */
  readonly send: (request: Req, call: C) => Effect.Effect<Res, E>
  readonly status: Status
  /** Ready to send, at once or after connecting. Joins an attempt under way; fails with why none succeeded. */
  readonly open: Effect.Effect<void, RpcError>
}

/** A sink of one endpoint: one attempt at a time passes through it for each call. */
export type EndpointSink<Req, Res, E> = MessageSink<Req, Res, E, Attempt>

/**
 * Opens one connection, which lives as long as the scope it is opened in. Fails if it cannot. A connection's Closed is final and
 * means that no exchange on it can still succeed; its `open` is already done.
 */
export interface Connector<in Req, out Res, out E> {
  readonly connect: (endpoint: Endpoint) => Effect.Effect<EndpointSink<Req, Res, E>, RpcError, Scope.Scope>
}

/** Makes the sink of one endpoint for its whole life: never fails, starts Idle, connects when needed and heals itself. */
export interface SinkFactory<in Req, out Res, out E> {
  readonly make: (endpoint: Endpoint) => Effect.Effect<EndpointSink<Req, Res, E>, never, Scope.Scope>
}

/**
 * One protocol's request and response on its three planes. The planes are services keyed by the family's name, so that a
 * forgotten pool, or a transport of another protocol, does not compile.
 */
export interface Family<Id extends string, Req, Res, E> {
  readonly id: Id
  /** Opens connections: what a transport gives, and a pool turns into `Endpoints`. */
  readonly Connector: Context.Service<`${Id}/Connector`, Connector<Req, Res, E>>
  /** Makes endpoint sinks: what pools and breakers give, and a balancer turns into `Balanced`. */
  readonly Endpoints: Context.Service<`${Id}/Endpoints`, SinkFactory<Req, Res, E>>
  /** One sink for the client: what a balancer and the filters above it give. */
  readonly Balanced: Context.Service<`${Id}/Balanced`, MessageSink<Req, Res, E>>
}

/** Any family: for what only passes messages through. */
export type AnyFamily = Family<any, any, any, any>

/** Declares a family: `wire<Request, Response>()("Name")`. Failures are `RpcError` unless a protocol adds its own. */
export const wire = <Req, Res, E = RpcError>() => <const Id extends string>(id: Id): Family<Id, Req, Res, E> => ({
  id,
  Connector: Context.Service<`${Id}/Connector`, Connector<Req, Res, E>>(`${id}/Connector`),
  Endpoints: Context.Service<`${Id}/Endpoints`, SinkFactory<Req, Res, E>>(`${id}/Endpoints`),
  Balanced: Context.Service<`${Id}/Balanced`, MessageSink<Req, Res, E>>(`${id}/Balanced`)
})
