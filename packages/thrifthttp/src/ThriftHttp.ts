/**
 * Thrift over HTTP, ready made: a typed client over the whole default stack of HTTP, for the servers of Apache's libraries.
 *
 *     class Echo extends ThriftService<Echo>()("Echo", EchoGen) {}
 *     const EchoLive = ThriftHttp.layer(Echo, { uri: "tcp://localhost:9090", path: "/echo" })
 *
 * A call is a POST with the message as its body, as Apache's `THttpClient` sends it, and the reply is the body of the response. One call
 * at a time is on a connection over HTTP/1.1, which is kept for the next.
 */
import {
  type BuildError,
  type Call,
  Describe,
  type Endpoint,
  InvalidOption,
  ProtocolError,
  ReadyMade,
  type RpcError,
  ServerFailed,
  Stack,
  wire
} from "@scales-rpc/core"
import {
  classifier,
  type CollectedRequest,
  type HeaderFields,
  Http,
  type HttpResponse,
  HttpStatusError,
  HttpWire,
  invalidPart,
  shownHeaders
} from "@scales-rpc/http"
import {
  type Limits,
  MessageType,
  type ProtocolReader,
  Protocols,
  Thrift,
  type ThriftService
} from "@scales-rpc/thrift"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/** What the client above and the POST below speak of: it never meets a connection of its own. */
const ThriftHttpWire = wire<Thrift.ThriftRequest, Thrift.ThriftResponse>()("ThriftHttp")

/**
 * Options of a client: those of Thrift's calls, of the transport (`connectTimeout`, `tls`, `http2`, `finagle`; not heeded by a
 * `transport` of one's own), and of the parts that every HTTP stack has.
 */
export interface ThriftHttpOptions extends Omit<Thrift.ThriftClientOptions, "oneway">, Http.HttpStackOptions {
  /** Where the server has the service: a path, with a query if it likes. Default `"/"`. */
  readonly path?: string | undefined
  /** Sent with every call, such as `authorization`; names and values as `Http` takes them, but no `content-type`. Default: none. */
  readonly headers?: Readonly<Record<string, string>> | undefined
}

/** What POST needs, when its options have been found good. */
interface Post {
  readonly target: string
  readonly headers: HeaderFields
  readonly maxBytes: number
}

/** What `Limits` has when it is not told; a reader refuses what is longer, so more need not be collected. */
const defaultMaxBytes = 104_857_600

const contentType = "application/x-thrift"

const checked = (
  path: string = "/",
  headers: Readonly<Record<string, string>> = {},
  limits: Limits | undefined
): Effect.Effect<Post, InvalidOption> => {
  const fields: Array<readonly [string, string]> = [["content-type", contentType], ["accept", contentType]]
  // One field a name: of two that differ in case only, the last.
  fields.push(...new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value])))
  const wrong = invalidPart({ method: "POST", target: path, headers: fields, body: undefined, collect: 0 })
  if (wrong?.part === "target") return Effect.fail(new InvalidOption({ option: "path", got: path, expected: "/..." }))
  const again = fields.slice(2).find(([name]) => name === "content-type" || name === "content-length")?.[0]
  const name = wrong?.name ?? again
  if (name !== undefined) {
    // The value may be a secret.
    const expected = wrong === undefined
      ? "no such field: it is the client's"
      : `a field that may be sent: it ${wrong.what}`
    return Effect.fail(new InvalidOption({ option: "headers", got: name, expected }))
  }
  return Effect.succeed({ target: path, headers: fields, maxBytes: limits?.maxMessageBytes ?? defaultMaxBytes })
}

/** What shows that a reply is another call's: something between client and server has mixed them up. What is no message the client finds out. */
const strayOf = (
  reader: ProtocolReader,
  body: Uint8Array,
  { method, sequenceId }: Thrift.ThriftRequest
): string | undefined => {
  try {
    const { fname, mtype, rseqid } = reader.reset(body).readMessageBegin()
    if (rseqid !== sequenceId) return `sequence id ${rseqid} in answer to ${method}, which has ${sequenceId}`
    // A multiplexing server that does not know the service answers to the whole name.
    return fname === method || (mtype === MessageType.EXCEPTION && fname.endsWith(`:${method}`))
      ? undefined
      : `a reply to ${fname.slice(0, 100)} in answer to ${method}`
  } catch {
    return undefined
  }
}

/** A reply that is none is its endpoint's failure, as it is with any HTTP client of ours. */
const classify = classifier()

const endpointOf = (call: Call): Endpoint => call.tried[call.tried.length - 1]!

/** Whatever else a server says to a oneway call. */
const noReply: Effect.Effect<Thrift.ThriftResponse> = Effect.succeed({ body: new Uint8Array(0) })

const replyOf = (
  message: Thrift.ThriftRequest,
  reader: ProtocolReader,
  request: CollectedRequest,
  response: HttpResponse,
  call: Call
): Effect.Effect<Thrift.ThriftResponse, RpcError> => {
  // `collect` has asked for bytes.
  const body = response.body as Uint8Array
  const { headers, reason, status } = response
  if (status < 200 || status > 299) {
    const { method, target } = request
    const path = target.replace(/\?.*$/s, "")
    const cause = new HttpStatusError({ method, path, status, reason, headers, body: body.slice(0, 4096) })
    return Effect.fail(
      new ServerFailed({ endpoint: endpointOf(call), why: cause.message, retryable: false, rejected: false, cause })
    )
  }
  if (message.oneway) return noReply
  const what = response.truncated
    ? `a reply of more than ${request.collect} bytes`
    : strayOf(reader, body, message)
  return what === undefined
    ? Effect.succeed({ body })
    : Effect.fail(new ProtocolError({ endpoint: endpointOf(call), what, cause: undefined }))
}

/** Turns messages into requests, and responses into messages. */
const post = (options: ThriftHttpOptions) =>
  Layer.effect(
    ThriftHttpWire.Balanced,
    Effect.gen(function*() {
      const http = yield* HttpWire.Balanced
      const { headers, maxBytes, target } = yield* checked(options.path, options.headers, options.limits)
      const reader = (options.protocol ?? Protocols.binary).reader()
      const stack = yield* Stack
      yield* stack.register({
        role: "post",
        description: "sends each call as a POST, whose response is the reply",
        options: Describe.given(options, {
          // What a query has may be a secret.
          path: target.replace(/\?.*$/s, ""),
          headers: shownHeaders(headers),
          limits: { maxMessageBytes: maxBytes }
        }),
        snapshot: () => undefined
      })
      return {
        status: http.status,
        open: http.open,
        send: (message: Thrift.ThriftRequest, call: Call): Effect.Effect<Thrift.ThriftResponse, RpcError> => {
          const { body } = message
          const request: CollectedRequest = { method: "POST", target, headers, body, collect: maxBytes }
          const posted = { ...call, classify }
          return Effect.flatMap(
            http.send(request, posted),
            (response) => replyOf(message, reader, request, response, posted)
          )
        }
      }
    })
  )

/** The parts of the stack that can be given, as those of `Http.layer`. */
export type Roles<Above, Requeues, Bal, Below, Breaker, Pool, Transport> = Http.Roles<
  Above,
  Requeues,
  Bal,
  Below,
  Breaker,
  Pool,
  Transport
>

/**
 * A client of `service` for any Thrift server behind HTTP. Building it checks the URI and every option and connects nothing; closing its
 * scope drains it.
 *
 * A status other than 200 to 299 fails the call with `ServerFailed`, whose `cause` is an `HttpStatusError`; from 500 on it counts against
 * the endpoint. A oneway call completes when the server has answered the POST. `protocol` is binary by default, as in Apache's clients;
 * Scales' write `Protocols.json`.
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
  options:
    & ThriftHttpOptions
    & Roles<Above, Requeues, Bal, Below, Breaker, Pool, Transport>
    & ReadyMade.Source<Set>
): Layer.Layer<
  Self,
  BuildError | RpcError,
  ReadyMade.Needs<"Http", Above, Requeues, Bal, Below, Breaker, Pool, Transport, Set>
> =>
  Http.stack(
    Layer.provide(Thrift.client(service, ThriftHttpWire, { ...options, oneway: "await" }), post(options)),
    service.key,
    options
  )

/**
 * `layer` with its options read from Effect's `Config`, each from its own or all from one. Fails as `layer` does, and with `ConfigError`
 * when a value is missing or wrong.
 */
export const layerConfig = <Self, Id extends string, Client>(
  service: ThriftService<Self, Id, Client>,
  config: Config.Wrap<ThriftHttpOptions & { readonly uri: string }>
): Layer.Layer<Self, BuildError | RpcError | Config.ConfigError> =>
  ReadyMade.fromConfig(config, (options) => layer(service, options))
