/**
 * Effect's `HttpClient` over the stack: a program that is written against it gets discovery, balancing, recovery and deadlines with this layer
 * in the place of another.
 *
 *     const HttpLive = BalancedHttpClient.layer({ uri: "tcp://a:8080,b:8080", name: "users" })
 */
import { type BuildError, ReadyMade, type RpcError, type Stack } from "@scales-rpc/core"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import { EncodeError, HttpClientError, InvalidUrlError, TransportError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import { BodyOwner } from "./BodyOwner.ts"
import { InvalidRequest, RequestBodyFailed } from "./errors.ts"
import { type HttpStackOptions, type Roles, type Source, stack } from "./HttpLayer.ts"
import { type EffectBody, effectBody, effectFields } from "./internal/effectBody.ts"
import { EffectResponse } from "./internal/EffectResponse.ts"
import { isRelative, type Named, nameOf, type ServiceUrl, serviceUrl } from "./internal/ServiceUrl.ts"
import { type StreamedCall, type StreamedCallOptions, streamedCalls } from "./internal/StreamedCalls.ts"
import { untraced } from "./internal/untraced.ts"

/**
 * Options of a balanced client: those of its calls, of the transport (`connectTimeout`, `tls`, `http2`, `maxHeaderBytes`, `finagle`; not
 * heeded by a `transport` of one's own), and of the parts that every stack has. `label` is `name` unless it is given.
 */
export interface BalancedHttpClientOptions extends StreamedCallOptions, HttpStackOptions {
  /**
   * The host of the service's URLs, with a port if they have one, and what is sent as `host`. Requests to any other fail, with
   * `InvalidUrlError`, whose cause is a `ForeignUrl`. Default: the first address of a `tcp://` URI; with any other it has to be given.
   */
  readonly name?: string | undefined
}

type Failed = RpcError | RequestBodyFailed

const failure = (
  request: HttpClientRequest.HttpClientRequest,
  error: Failed,
  signal: AbortSignal
): HttpClientError =>
  untraced(() => {
    if (error._tag === "Unsendable") {
      const cause = error.cause instanceof RequestBodyFailed || error.cause instanceof InvalidRequest
        ? error.cause
        : error
      return new HttpClientError({ reason: new EncodeError({ request, cause, description: cause.message }) })
    }
    const description = error._tag === "Superseded" && signal.aborted ? "the request's scope was closed" : error.message
    return new HttpClientError({ reason: new TransportError({ request, cause: error, description }) })
  })

const unencodable = (request: HttpClientRequest.HttpClientRequest, cause: unknown): HttpClientError =>
  untraced(() => new HttpClientError({ reason: new EncodeError({ request, cause }) }))

/** The client's runner: one request. */
const exchange = (
  call: StreamedCall,
  { foreign }: ServiceUrl,
  request: HttpClientRequest.HttpClientRequest,
  url: URL,
  signal: AbortSignal
): Effect.Effect<HttpClientResponse, HttpClientError> => {
  const wrong = foreign(url)
  if (wrong !== undefined) {
    return Effect.fail(
      untraced(() =>
        new HttpClientError({ reason: new InvalidUrlError({ request, cause: wrong, description: wrong.message }) })
      )
    )
  }
  const send = ({ body, type }: EffectBody) =>
    Effect.mapBoth(
      call({
        method: request.method,
        target: url.pathname + url.search,
        headers: effectFields(request, url.host, type),
        body,
        owner: new BodyOwner()
      }, signal),
      {
        onFailure: (error) => failure(request, error, signal),
        onSuccess: (response) => new EffectResponse(request, url, response)
      }
    )
  const body = effectBody(request)
  return Effect.isEffect(body)
    ? Effect.flatMap(Effect.mapError(body, (cause) => unencodable(request, cause)), send)
    : send(body)
}

/** A copy, which nobody else has. */
const copyOf = (
  { body, hash, headers, method, url, urlParams }: HttpClientRequest.HttpClientRequest
): HttpClientRequest.HttpClientRequest => HttpClientRequest.makeWith(method, url, urlParams, hash, headers, body)

/**
 * Takes relative URLs too, last of all: what is put before a client's URLs (`prependUrl`) comes first. It is done in place, because a
 * scope is bound to the very request (`withScope`), so each relative one is copied when it comes in.
 */
const relative = (client: HttpClient.HttpClient, { absolute }: ServiceUrl): HttpClient.HttpClient =>
  HttpClient.makeWith(
    (effect: Effect.Effect<HttpClientRequest.HttpClientRequest>) =>
      client.postprocess(
        Effect.map(effect, (request) =>
          isRelative(request.url) ? Object.assign(request, { url: absolute(request.url) }) : request)
      ),
    (request) => Effect.succeed(isRelative(request.url) ? copyOf(request) : request)
  )

/** The client over the balanced sink of a stack. */
const client = (
  options: BalancedHttpClientOptions & Named
): Layer.Layer<HttpClient.HttpClient, BuildError, "Http/Balanced" | Stack> =>
  Layer.effect(
    HttpClient.HttpClient,
    Effect.gen(function*() {
      const service = yield* serviceUrl(options)
      const call = yield* streamedCalls(service.name, options)
      return relative(
        HttpClient.make((request, url, signal) => exchange(call, service, request, url, signal)),
        service
      )
    })
  )

/**
 * Effect's `HttpClient` for one service. Absolute URLs with the service's name as their host work, and relative ones; no other request is
 * sent to anybody. Redirects are responses unless the program follows them (`HttpClient.followRedirects`). A response's body is streamed: it
 * holds its connection until it has been read, dropped, or its request's scope closed (`HttpClient.withScope`), at most until the deadline. Its
 * length has no limit, and no `content-encoding` is undone.
 *
 * What the stack fails with is the `cause` of a `TransportError`; of an `EncodeError` when the request cannot be sent as it is, of a
 * `DecodeError` when the body broke. Only the first is taken for transient by `HttpClient.retryTransient`, which comes on top of what the stack
 * has sent again already.
 *
 * Building it checks the URI and every option and connects nothing; closing its scope drains it. Fails with `InvalidUri`, `UnknownScheme` or
 * `InvalidOption`, and with `eager` also with `Timeout` and what kept the endpoints from opening.
 */
export const layer = <
  Above = never,
  Requeues = never,
  Bal = never,
  Below = never,
  Breaker = never,
  Pool = never,
  Transport = never,
  Set = never
>(
  options: BalancedHttpClientOptions & Roles<Above, Requeues, Bal, Below, Breaker, Pool, Transport> & Source<Set>
): Layer.Layer<
  HttpClient.HttpClient,
  BuildError | RpcError,
  ReadyMade.Needs<"Http", Above, Requeues, Bal, Below, Breaker, Pool, Transport, Set>
> => stack(client(options), nameOf(options) ?? "http", options)

/**
 * `layer` with its options read from Effect's `Config`, each from its own or all from one:
 *
 *     BalancedHttpClient.layerConfig({ uri: Config.String("USERS_URI"), name: Config.succeed("users") })
 *
 * Fails as `layer` does, and with `ConfigError` when a value is missing or wrong.
 */
export const layerConfig = (
  config: Config.Wrap<BalancedHttpClientOptions & { readonly uri: string }>
): Layer.Layer<HttpClient.HttpClient, BuildError | RpcError | Config.ConfigError> => ReadyMade.fromConfig(config, layer)
