/**
 * The ready-made stack of a protocol: which parts stand where in it, what each is by default, and how one of one's own takes its place.
 * Protocols give the pool and the transport, and put their typed client on top.
 */
import type * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Aperture from "./Aperture.ts"
import { duration } from "./Describe.ts"
import * as FailureAccrual from "./FailureAccrual.ts"
import * as Hedge from "./Hedge.ts"
import { shownDuration } from "./internal/shownDuration.ts"
import * as NackAdmission from "./NackAdmission.ts"
import { durationMillis } from "./options.ts"
import * as Requeue from "./Requeue.ts"
import * as Resurrector from "./Resurrector.ts"
import * as Retry from "./Retry.ts"
import { type BuildError, type RpcError, Timeout } from "./RpcError.ts"
import { ServerSet } from "./ServerSet.ts"
import type { Family } from "./Sink.ts"
import { Stack, type StackOptions } from "./Stack.ts"

/**
 * The parts of a stack of the family `Id` that can be given. Each is a layer over the plane below it, and may need services of the
 * user's.
 */
export interface Roles<Id extends string, Above, Requeues, Bal, Below, Breaker, Pool, Transport> {
  /** Filters over every call, above all that sends it again, and the balancer (`Filter.above`). Default: none. */
  readonly above?: Layer.Layer<`${Id}/Balanced`, BuildError, Above> | undefined
  /**
   * What is sent again, and what is held back. Default, from the caller down: `Retry` with `options.retry`, `Hedge` with `options.hedge` if
   * that is given, `Requeue`, `NackAdmission`.
   */
  readonly requeue?: Layer.Layer<`${Id}/Balanced`, BuildError, Requeues> | undefined
  /** Default `Aperture`. */
  readonly balancer?: Layer.Layer<`${Id}/Balanced`, BuildError, Bal> | undefined
  /** Filters over every attempt at one endpoint, above the breaker (`Filter.below`). Default: none. */
  readonly below?: Layer.Layer<`${Id}/Endpoints`, BuildError, Below> | undefined
  /**
   * What takes an endpoint out of use and back. Default `FailureAccrual` with `options.failureAccrual` over `Resurrector` with
   * `options.resurrector`.
   */
  readonly breaker?: Layer.Layer<`${Id}/Endpoints`, BuildError, Breaker> | undefined
  /** The connections to one endpoint. The default is the protocol's. */
  readonly pool?: Layer.Layer<`${Id}/Endpoints`, BuildError, Pool> | undefined
  /** What connects. The default is the protocol's. */
  readonly transport?: Layer.Layer<`${Id}/Connector`, BuildError, Transport> | undefined
}

/** Where the endpoints come from: a URI (`ServerSet.fromUri`), or a server set of one's own. */
export type Source<Set> =
  | { readonly uri: string; readonly serverSet?: undefined }
  | { readonly uri?: undefined; readonly serverSet: Layer.Layer<ServerSet, BuildError, Set> }

/** Options of the parts that every ready-made stack has. */
export interface ReadyMadeOptions extends StackOptions {
  /** What the client is called in logs, metrics and errors. Default: the service's key. */
  readonly label?: string | undefined
  /**
   * Building the layer waits until an endpoint is open: `true` for at most 10 seconds, or for the time given; then it fails with
   * `Timeout`. Default: building never connects, the first call does.
   */
  readonly eager?: boolean | Duration.Input | undefined
  /**
   * How often calls that may run twice (declared `idempotent`, or said to be by the caller) are sent again when they failed and may have
   * run: twice by default; not heeded by a `requeue` of one's own.
   */
  readonly retry?: Retry.RetryOptions | undefined
  /**
   * Sends calls that may run twice a second time when the first takes longer than most. Default: never; not heeded by a
   * `requeue` of one's own.
   */
  readonly hedge?: Hedge.HedgeOptions | undefined
  /** When an endpoint whose calls fail is avoided; not heeded by a `breaker` of one's own. */
  readonly failureAccrual?: FailureAccrual.FailureAccrualOptions | undefined
  /** When to connect again: 250 ms after a failure first, at most 10 s by default; not heeded by a `breaker` of one's own. */
  readonly resurrector?: Resurrector.ResurrectorOptions | undefined
}

/** What is left to provide once a stack has given each of its parts what is below it. */
export type Needs<Id extends string, Above, Requeues, Bal, Below, Breaker, Pool, Transport, Set> =
  | Exclude<Above | Requeues, `${Id}/Balanced` | Stack>
  | Exclude<Bal, `${Id}/Endpoints` | ServerSet | Stack>
  | Exclude<Below | Breaker, `${Id}/Endpoints` | Stack>
  | Exclude<Pool, `${Id}/Connector` | Stack>
  | Exclude<Transport | Set, Stack>

/** A stage that is not there. One a place: a layer that is used twice is built once, and would skip what is between. */
const pass = <Id extends string, Req, Res>(family: Family<Id, Req, Res, RpcError>) =>
  Layer.effect(family.Balanced, family.Balanced)
const passEndpoints = <Id extends string, Req, Res>(family: Family<Id, Req, Res, RpcError>) =>
  Layer.effect(family.Endpoints, family.Endpoints)

/** How `eager` is described; what is wrong with it is said when the layer is built. */
const waited = (eager: ReadyMadeOptions["eager"]): string | false => {
  if (eager === undefined || eager === false) return false
  return eager === true ? duration(eagerMillis) : shownDuration(eager)
}

/** How long `eager: true` waits. */
const eagerMillis = 10_000

/** Waits for a first open endpoint while the layer is built. */
const eagerly = <Id extends string, Req, Res>(
  family: Family<Id, Req, Res, RpcError>,
  eager: ReadyMadeOptions["eager"]
) =>
  eager === undefined || eager === false ? pass(family) : Layer.effect(
    family.Balanced,
    Effect.gen(function*() {
      const sink = yield* family.Balanced
      const timeoutMillis = yield* durationMillis("eager", eager === true ? undefined : eager, eagerMillis, 1)
      yield* Effect.timeoutOrElse(sink.open, {
        duration: timeoutMillis,
        orElse: () =>
          Effect.fail(
            new Timeout({
              timeoutMillis,
              waiting: "endpoint",
              reached: "no",
              endpoint: undefined,
              cause: sink.status.fault
            })
          )
      })
      return sink
    })
  )

/** What is sent again, and what is held back. */
const sendAgain = <Id extends string, Req, Res>(
  family: Family<Id, Req, Res, RpcError>,
  options: ReadyMadeOptions
) =>
  Retry.layer(family, options.retry).pipe(
    Layer.provide(options.hedge === undefined ? pass(family) : Hedge.layer(family, options.hedge)),
    Layer.provide(Requeue.layer(family)),
    Layer.provide(NackAdmission.layer(family))
  )

/** What takes an endpoint out of use and back. */
const recover = <Id extends string, Req, Res>(family: Family<Id, Req, Res, RpcError>, options: ReadyMadeOptions) =>
  Layer.provide(
    FailureAccrual.layer(family, options.failureAccrual),
    Resurrector.layer(family, options.resurrector)
  )

/** What a protocol gives to a stack of its own. */
export interface ReadyMadeParts<Id extends string, Req, Res> {
  readonly family: Family<Id, Req, Res, RpcError>
  /** What the client is called when its user does not say. */
  readonly label: string
  readonly pool: Layer.Layer<`${Id}/Endpoints`, BuildError, `${Id}/Connector` | Stack>
  readonly transport: Layer.Layer<`${Id}/Connector`, BuildError, Stack>
}

/**
 * The stack below `client`, the typed client of a service: the default parts of the family, and those that are given in their place. Building it
 * fails as its parts do, and with `eager` with `Timeout` or what kept the endpoints from opening.
 */
export const under = <
  Self,
  Id extends string,
  Req,
  Res,
  Above = never,
  Requeues = never,
  Bal = never,
  Below = never,
  Breaker = never,
  Pool = never,
  Transport = never,
  Set = never
>(
  client: Layer.Layer<Self, BuildError, `${Id}/Balanced` | Stack>,
  parts: ReadyMadeParts<Id, Req, Res>,
  options: ReadyMadeOptions & Roles<Id, Above, Requeues, Bal, Below, Breaker, Pool, Transport> & Source<Set>
): Layer.Layer<
  Self,
  BuildError | RpcError,
  Needs<Id, Above, Requeues, Bal, Below, Breaker, Pool, Transport, Set>
> => {
  const { family } = parts
  const eager = waited(options.eager)
  // What the roles need is in the type above: the conditional types of `Layer.provide` cannot be followed through a choice.
  const role = (given: Layer.Any | undefined, standard: Layer.Any) =>
    (given ?? standard) as Layer.Layer<any, BuildError>
  return (client as Layer.Layer<Self, BuildError, any>).pipe(
    Layer.provide(eagerly(family, options.eager) as Layer.Layer<any, BuildError | RpcError>),
    Layer.provide(role(options.above, pass(family))),
    Layer.provide(role(options.requeue, sendAgain(family, options))),
    Layer.provide(role(options.balancer, Aperture.layer(family))),
    Layer.provide(role(options.below, passEndpoints(family))),
    Layer.provide(role(options.breaker, recover(family, options))),
    Layer.provide(role(options.pool, parts.pool)),
    Layer.provide(role(options.transport, parts.transport)),
    Layer.provide(role(options.serverSet, ServerSet.fromUri(options.uri!))),
    Layer.provide(Stack.layer(options.label ?? parts.label, options, { label: options.label ?? parts.label, eager })),
    Layer.fresh
  ) as never
}

/**
 * A client's layer with its options read from Effect's `Config`, each from its own or all from one. `Config` is loaded when the layer is built: the schemas
 * behind it are a third of what a client would load. Fails as the layer does, and with `ConfigError` when a value is missing or wrong.
 */
export const fromConfig = <Options, Self, E>(
  config: Config.Wrap<Options>,
  layer: (options: Options) => Layer.Layer<Self, E>
): Layer.Layer<Self, E | Config.ConfigError> =>
  Layer.unwrap(
    Effect.flatMap(
      Effect.promise(() => import("effect/Config")),
      ({ unwrap }) => Effect.map(unwrap(config), layer)
    )
  )
