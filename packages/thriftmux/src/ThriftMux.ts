/**
 * Thrift over mux, ready made: a typed client over the whole default stack, whose parts can be replaced by role.
 *
 *     class Echo extends ThriftService<Echo>()("Echo", EchoGen) {}
 *     const EchoLive = ThriftMux.layer(Echo, { uri: "tcp://localhost:8080" })
 */
import {
  type BuildError,
  CallContext,
  ClientId,
  InvalidOption,
  ReadyMade,
  type RpcError,
  SingletonPool
} from "@scales-rpc/core"
import { Mux, MuxTransport } from "@scales-rpc/mux"
import { Thrift, type ThriftService } from "@scales-rpc/thrift"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/**
 * The parts of the stack that can be given. Each is a layer over the plane below it; the defaults are those of `ReadyMade.Roles`, with
 * `SingletonPool.layer(Mux)` and `MuxTransport.layer(options.mux)`.
 */
export interface Roles<Above, Requeues, Bal, Below, Breaker, Pool, Transport>
  extends ReadyMade.Roles<"Mux", Above, Requeues, Bal, Below, Breaker, Pool, Transport>
{}

/** Where the endpoints come from: a URI (`ServerSet.fromUri`), or a server set of one's own. */
export type Source<Set> = ReadyMade.Source<Set>

/** Options of a ThriftMux client. */
export interface ThriftMuxOptions extends Thrift.ThriftClientOptions, ReadyMade.ReadyMadeOptions {
  /** Who calls, sent with every call; it beats one that a caller set. Default: none is sent. */
  readonly clientId?: string | undefined
  /** Of the connections; not heeded by a `transport` of one's own. */
  readonly mux?: MuxTransport.MuxTransportOptions | undefined
}

/** What a context's value may have on the wire: a length that Finagle reads as a signed short. */
const maxContextBytes = 0x7fff

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
  ReadyMade.Needs<"Mux", Above, Requeues, Bal, Below, Breaker, Pool, Transport, Set>
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
  return ReadyMade.under(
    Thrift.client(service, Mux, { ...options, timeout: options.timeout ?? "10 seconds", context }),
    {
      family: Mux,
      label: service.key,
      pool: SingletonPool.layer(Mux),
      transport: MuxTransport.layer(options.mux)
    },
    options
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
  ReadyMade.fromConfig(config, (options) => layer(service, options))
