/**
 * Thrift over mux, ready made: a typed client over the whole default stack, whose parts can be replaced by role.
 *
 *     class Echo extends ThriftService<Echo>()("Echo", EchoGen) {}
 *     const EchoLive = ThriftMux.layer(Echo, { uri: "tcp://localhost:8080" })
 */
import {
  Aperture,
  type BuildError,
  CallContext,
  ClientId,
  FailureAccrual,
  Hedge,
  InvalidOption,
  NackAdmission,
  Requeue,
  Resurrector,
  Retry,
  type RpcError,
  ServerSet,
  SingletonPool,
  Stack,
  type StackOptions,
  Timeout
} from "@scales-rpc/core"
import { durationMillis } from "@scales-rpc/core/options"
import { Mux, MuxTransport } from "@scales-rpc/mux"
import { Thrift, type ThriftService } from "@scales-rpc/thrift"
import * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/** A stage of the balanced plane: gets what is below it, may need `R` of the user's. */
type Balanced<R> = Layer.Layer<"Mux/Balanced", BuildError, R>
type Endpoints<R> = Layer.Layer<"Mux/Endpoints", BuildError, R>
type Connector<R> = Layer.Layer<"Mux/Connector", BuildError, R>

/** The parts of the stack that can be given. Each is a layer over the plane below it; the default is named with it. */
export interface Roles<Above, Requeues, Bal, Below, Breaker, Pool, Transport> {
  /** Filters over every call, above all that sends it again, and the balancer (`Filter.above`). Default: none. */
  readonly above?: Balanced<Above> | undefined
  /**
   * What is sent again, and what is held back. Default, from the caller down: `Retry.layer(Mux, options.retry)`, `Hedge.layer(Mux,
   * options.hedge)` if that is given, `Requeue.layer(Mux)`, `NackAdmission.layer(Mux)`.
   */
  readonly requeue?: Balanced<Requeues> | undefined
  /** Default `Aperture.layer(Mux)`. */
  readonly balancer?: Balanced<Bal> | undefined
  /** Filters over every attempt at one endpoint, above the breaker (`Filter.below`). Default: none. */
  readonly below?: Endpoints<Below> | undefined
  /**
   * What takes an endpoint out of use and back. Default `FailureAccrual.layer(Mux, options.failureAccrual)` over
   * `Resurrector.layer(Mux, options.resurrector)`.
   */
  readonly breaker?: Endpoints<Breaker> | undefined
  /** Default `SingletonPool.layer(Mux)`. */
  readonly pool?: Endpoints<Pool> | undefined
  /** Default `MuxTransport.layer(options.mux)`. */
  readonly transport?: Connector<Transport> | undefined
}

/** Where the endpoints come from: a URI (`ServerSet.fromUri`), or a server set of one's own. */
export type Source<Set> =
  | { readonly uri: string; readonly serverSet?: undefined }
  | { readonly uri?: undefined; readonly serverSet: Layer.Layer<ServerSet, BuildError, Set> }

/** Options of a ThriftMux client. */
export interface ThriftMuxOptions extends Thrift.ThriftClientOptions, StackOptions {
  /** What the client is called in logs, metrics and errors. Default: the service's key. */
  readonly label?: string | undefined
  /** Who calls, sent with every call; it beats one that a caller set. Default: none is sent. */
  readonly clientId?: string | undefined
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
  /** Of the connections; not heeded by a `transport` of one's own. */
  readonly mux?: MuxTransport.MuxTransportOptions | undefined
}

/** What a context's value may have on the wire: a length that Finagle reads as a signed short. */
const maxContextBytes = 0x7fff

/** A stage that is not there. One a place: a layer that is used twice is built once, and would skip what is between. */
const pass = () => Layer.effect(Mux.Balanced, Mux.Balanced)
const passEndpoints = () => Layer.effect(Mux.Endpoints, Mux.Endpoints)

/** Waits for a first open endpoint while the layer is built. */
const eagerly = (eager: ThriftMuxOptions["eager"]) =>
  eager === undefined || eager === false ? pass() : Layer.effect(
    Mux.Balanced,
    Effect.gen(function*() {
      const sink = yield* Mux.Balanced
      const timeoutMillis = yield* durationMillis("eager", eager === true ? undefined : eager, 10_000, 1)
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
const sendAgain = (options: ThriftMuxOptions) =>
  Retry.layer(Mux, options.retry).pipe(
    Layer.provide(options.hedge === undefined ? pass() : Hedge.layer(Mux, options.hedge)),
    Layer.provide(Requeue.layer(Mux)),
    Layer.provide(NackAdmission.layer(Mux))
  )

/** What takes an endpoint out of use and back. */
const recover = (options: ThriftMuxOptions) =>
  Layer.provide(FailureAccrual.layer(Mux, options.failureAccrual), Resurrector.layer(Mux, options.resurrector))

/**
 * A client of `service`. Building it checks the URI and every option and connects nothing; closing its scope drains it. Two
 * layers made of one service and one URI are two clients, with connections of their own.
 *
 * Fails with `InvalidUri`, `UnknownScheme` or `InvalidOption`, and with `eager` also with `Timeout` and what kept the endpoints from
 * opening.
 */
export const layer = <
  Self,
  Id extends string,
  Client,
  Above = never,
  Requeues = never,
  Bal = never,
  Below = never,
  Breaker = never,
  Pool = never,
  Transport = never,
  Set = never
>(
  service: ThriftService<Self, Id, Client>,
  options: ThriftMuxOptions & Roles<Above, Requeues, Bal, Below, Breaker, Pool, Transport> & Source<Set>
): Layer.Layer<
  Self,
  BuildError | RpcError,
  // What is left to provide once the stack has given each role what is below it.
  | Exclude<Above | Requeues, "Mux/Balanced" | Stack>
  | Exclude<Bal, "Mux/Endpoints" | ServerSet | Stack>
  | Exclude<Below | Breaker, "Mux/Endpoints" | Stack>
  | Exclude<Pool, "Mux/Connector" | Stack>
  | Exclude<Transport | Set, Stack>
> => {
  if (options.clientId !== undefined && Buffer.byteLength(options.clientId) > maxContextBytes) {
    return Layer.effect(
      service,
      Effect.fail(
        new InvalidOption({
          option: "clientId",
          got: `${options.clientId.slice(0, 20)}...`,
          expected: `at most ${maxContextBytes} bytes`
        })
      )
    )
  }
  const context = options.clientId === undefined
    ? options.context
    : (options.context ?? CallContext.empty).with(ClientId, options.clientId)
  // What the roles need is in the type above: the conditional types of `Layer.provide` cannot be followed through a choice.
  const role = (given: Layer.Any | undefined, standard: Layer.Any) =>
    (given ?? standard) as Layer.Layer<any, BuildError>
  return Thrift.client(service, Mux, { ...options, timeout: options.timeout ?? "10 seconds", context }).pipe(
    Layer.provide(eagerly(options.eager)),
    Layer.provide(role(options.above, pass())),
    Layer.provide(role(options.requeue, sendAgain(options))),
    Layer.provide(role(options.balancer, Aperture.layer(Mux))),
    Layer.provide(role(options.below, passEndpoints())),
    Layer.provide(role(options.breaker, recover(options))),
    Layer.provide(role(options.pool, SingletonPool.layer(Mux))),
    Layer.provide(role(options.transport, MuxTransport.layer(options.mux))),
    Layer.provide(role(options.serverSet, ServerSet.fromUri(options.uri!))),
    Layer.provide(Stack.layer(options.label ?? service.key, options)),
    Layer.fresh
  )
}

/**
 * `layer` with its options read from Effect's `Config`, each from its own or all from one:
 *
 *     ThriftMux.layerConfig(Echo, { uri: Config.String("ECHO_URI"), timeout: Config.Duration("ECHO_TIMEOUT") })
 *
 * Fails as `layer` does, and with `ConfigError` when a value is missing or wrong.
 */
export const layerConfig = <Self, Id extends string, Client>(
  service: ThriftService<Self, Id, Client>,
  config: Config.Wrap<ThriftMuxOptions & { readonly uri: string }>
): Layer.Layer<Self, BuildError | RpcError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), (options) => layer(service, options)))
