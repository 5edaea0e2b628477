/**
 * HTTP, ready made: a client over the whole default stack, whose parts can be replaced by role.
 *
 *     class Users extends HttpService<Users>()("Users") {}
 *     const UsersLive = Http.layer(Users, { uri: "tcp://a:80,b:80" })
 */
import {
  type BuildError,
  CallContext,
  ClientId,
  InvalidOption,
  ReadyMade,
  type RpcError,
  SingletonPool,
  type Stack,
  WatermarkPool
} from "@scales-rpc/core"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { client, type HttpClientOptions } from "./HttpClient.ts"
import { HttpService } from "./HttpService.ts"
import * as HttpTransport from "./HttpTransport.ts"
import { HttpWire } from "./HttpWire.ts"
import { invalidField } from "./internal/requestCheck.ts"

/** The client of a program that has one: what `Http.layer` gives for a name, as in `yield* Http.Client`. */
export class Client extends HttpService<Client>()("@scales-rpc/http/Client") {}

/**
 * The parts of the stack that can be given. Each is a layer over the plane below it; the defaults are those of `ReadyMade.Roles`, with
 * `WatermarkPool.layer(HttpWire, options.connections)`, over HTTP/2 `SingletonPool.layer(HttpWire)`, and `HttpTransport.layer(options)`.
 */
export interface Roles<Above, Requeues, Bal, Below, Breaker, Pool, Transport>
  extends ReadyMade.Roles<"Http", Above, Requeues, Bal, Below, Breaker, Pool, Transport>
{}

/** Where the endpoints come from: a URI (`ServerSet.fromUri`), or a server set of one's own. */
export type Source<Set> = ReadyMade.Source<Set>

/** Options of what every HTTP stack has below its client, whatever that is. */
export interface HttpStackOptions extends HttpTransport.HttpTransportOptions, ReadyMade.ReadyMadeOptions {
  /** How many connections to each endpoint, and for how long; not heeded by a `pool` of one's own, nor over HTTP/2, which has one. */
  readonly connections?: WatermarkPool.WatermarkPoolOptions | undefined
}

/**
 * Options of an HTTP client: those of the calls, of the transport (`connectTimeout`, `tls`, `http2`, `maxHeaderBytes`, `finagle`; not heeded by
 * a `transport` of one's own), and of the parts that every stack has.
 */
export interface HttpOptions extends HttpClientOptions, HttpStackOptions {
  /** Who calls, sent with every call; it beats one that a caller set. Needs `finagle`, or a `transport` of one's own. Default: none is sent. */
  readonly clientId?: string | undefined
}

/**
 * The stack of an HTTP client of another shape: `top`, over the default parts and those that are given in their place. What `layer` does for
 * its own client.
 */
export const stack = <
  Self,
  Above = never,
  Requeues = never,
  Bal = never,
  Below = never,
  Breaker = never,
  Pool = never,
  Transport = never,
  Set = never
>(
  top: Layer.Layer<Self, BuildError, "Http/Balanced" | Stack>,
  label: string,
  options: HttpStackOptions & Roles<Above, Requeues, Bal, Below, Breaker, Pool, Transport> & Source<Set>
): Layer.Layer<
  Self,
  BuildError | RpcError,
  ReadyMade.Needs<"Http", Above, Requeues, Bal, Below, Breaker, Pool, Transport, Set>
> =>
  ReadyMade.under(
    top,
    {
      family: HttpWire,
      label,
      pool: options.http2 === true ? SingletonPool.layer(HttpWire) : WatermarkPool.layer(HttpWire, options.connections),
      transport: HttpTransport.layer(options)
    },
    options
  )

type AnyRoles = Roles<any, any, any, any, any, any, any> & Source<any>

/**
 * A client for any HTTP server. Given a name, the client is `Http.Client`, and the name is what logs and metrics call it. Building it
 * checks the URI and every option and connects nothing; closing its scope drains it. Two layers made of one service and one URI are two
 * clients, with connections of their own.
 *
 * Fails with `InvalidUri`, `UnknownScheme` or `InvalidOption`, and with `eager` also with `Timeout` and what kept the endpoints from
 * opening.
 */
export const layer: {
  <
    Above = never,
    Requeues = never,
    Bal = never,
    Below = never,
    Breaker = never,
    Pool = never,
    Transport = never,
    Set = never
  >(
    name: string,
    options: HttpOptions & Roles<Above, Requeues, Bal, Below, Breaker, Pool, Transport> & Source<Set>
  ): Layer.Layer<
    Client,
    BuildError | RpcError,
    ReadyMade.Needs<"Http", Above, Requeues, Bal, Below, Breaker, Pool, Transport, Set>
  >
  <
    Self,
    Id extends string,
    Above = never,
    Requeues = never,
    Bal = never,
    Below = never,
    Breaker = never,
    Pool = never,
    Transport = never,
    Set = never
  >(
    service: HttpService<Self, Id>,
    options: HttpOptions & Roles<Above, Requeues, Bal, Below, Breaker, Pool, Transport> & Source<Set>
  ): Layer.Layer<
    Self,
    BuildError | RpcError,
    ReadyMade.Needs<"Http", Above, Requeues, Bal, Below, Breaker, Pool, Transport, Set>
  >
} = <Self, Id extends string>(given: string | HttpService<Self, Id>, options: HttpOptions & AnyRoles) => {
  // The name's client is of another type than the service's, and what the roles need is in the types above.
  const service = (typeof given === "string" ? Client : given) as HttpService<Self, Id>
  const { clientId } = options
  if (clientId !== undefined && invalidField("client-id", clientId) !== undefined) {
    return Layer.effect(
      service,
      Effect.fail(new InvalidOption({ option: "clientId", got: clientId, expected: "what may be in a header" }))
    )
  }
  if (clientId !== undefined && options.finagle !== true && options.transport === undefined) {
    return Layer.effect(
      service,
      Effect.fail(
        new InvalidOption({ option: "clientId", got: clientId, expected: "`finagle` with it, which sends it" })
      )
    )
  }
  const context = clientId === undefined
    ? options.context
    : (options.context ?? CallContext.empty).with(ClientId, clientId)
  return stack(
    client(service, { ...options, context }),
    typeof given === "string" ? given : service.key,
    options
  ) as Layer.Layer<any, BuildError | RpcError>
}

/**
 * `layer` with its options read from Effect's `Config`, each from its own or all from one:
 *
 *     Http.layerConfig(Users, { uri: Config.String("USERS_URI"), timeout: Config.Duration("USERS_TIMEOUT") })
 *
 * Fails as `layer` does, and with `ConfigError` when a value is missing or wrong.
 */
export const layerConfig = <Self, Id extends string>(
  service: HttpService<Self, Id>,
  config: Config.Wrap<HttpOptions & { readonly uri: string }>
): Layer.Layer<Self, BuildError | RpcError | Config.ConfigError> =>
  ReadyMade.fromConfig(config, (options) => layer(service, options))
