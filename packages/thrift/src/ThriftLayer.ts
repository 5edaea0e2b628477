/**
 * Plain Thrift, ready made: a typed client over the whole default stack, whose parts can be replaced by role.
 *
 *     class Echo extends ThriftService<Echo>()("Echo", EchoGen) {}
 *     const EchoLive = Thrift.layer(Echo, { uri: "tcp://localhost:9090" })
 */
import { type BuildError, ReadyMade, type RpcError, WatermarkPool } from "@scales-rpc/core"
import type * as Config from "effect/Config"
import type * as Layer from "effect/Layer"
import { client, type ThriftClientOptions } from "./ThriftClient.ts"
import type { ThriftService } from "./ThriftService.ts"
import * as ThriftTransport from "./ThriftTransport.ts"
import { ThriftWire } from "./ThriftWire.ts"

/**
 * The parts of the stack that can be given. Each is a layer over the plane below it; the defaults are those of `ReadyMade.Roles`, with
 * `WatermarkPool.layer(ThriftWire, options.connections)` and `ThriftTransport.layer(options)`.
 */
export interface Roles<Above, Requeues, Bal, Below, Breaker, Pool, Transport>
  extends ReadyMade.Roles<"Thrift", Above, Requeues, Bal, Below, Breaker, Pool, Transport>
{}

/** Where the endpoints come from: a URI (`ServerSet.fromUri`), or a server set of one's own. */
export type Source<Set> = ReadyMade.Source<Set>

/**
 * Options of a Thrift client: those of the calls, of the transport (`framing`, `connectTimeout`, `tls`, `upgrade`; not heeded by
 * a `transport` of one's own), and of the parts that every stack has.
 */
export interface ThriftOptions
  extends
    Omit<ThriftClientOptions, "oneway">,
    Omit<ThriftTransport.ThriftTransportOptions, keyof ThriftClientOptions>,
    ReadyMade.ReadyMadeOptions
{
  /** How many connections to each endpoint, and for how long; not heeded by a `pool` of one's own. */
  readonly connections?: WatermarkPool.WatermarkPoolOptions | undefined
}

/**
 * A client of `service` for any Apache Thrift server. Building it checks the URI and every option and connects nothing; closing its
 * scope drains it. Two layers made of one service and one URI are two clients, with connections of their own.
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
  options: ThriftOptions & Roles<Above, Requeues, Bal, Below, Breaker, Pool, Transport> & Source<Set>
): Layer.Layer<
  Self,
  BuildError | RpcError,
  ReadyMade.Needs<"Thrift", Above, Requeues, Bal, Below, Breaker, Pool, Transport, Set>
> =>
  ReadyMade.under(
    client(service, ThriftWire, options),
    {
      family: ThriftWire,
      label: service.key,
      pool: WatermarkPool.layer(ThriftWire, options.connections),
      transport: ThriftTransport.layer(options)
    },
    options
  )

/**
 * `layer` with its options read from Effect's `Config`, each from its own or all from one:
 *
 *     Thrift.layerConfig(Echo, { uri: Config.String("ECHO_URI"), timeout: Config.Duration("ECHO_TIMEOUT") })
 *
 * Fails as `layer` does, and with `ConfigError` when a value is missing or wrong.
 */
export const layerConfig = <Self, Id extends string, Client>(
  service: ThriftService<Self, Id, Client>,
  config: Config.Wrap<ThriftOptions & { readonly uri: string }>
): Layer.Layer<Self, BuildError | RpcError | Config.ConfigError> =>
  ReadyMade.fromConfig(config, (options) => layer(service, options))
