/**
 * The platform's `fetch` over the stack, for code that is not written with Effect: one service, balanced.
 *
 *     const { close, fetch } = Fetch.make(Fetch.layer({ uri: "tcp://a:8080,b:8080", name: "users" }))
 */
import {
  type BuildError,
  PromiseClient,
  type ReadyMade,
  Rpc,
  type RpcError,
  type Stack,
  withoutSpan
} from "@scales-rpc/core"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { BodyOwner } from "./BodyOwner.ts"
import { InvalidRequest, RequestBodyFailed } from "./errors.ts"
import { FetchFailed, FetchUnsupported } from "./FetchError.ts"
import { type HttpStackOptions, type Roles, type Source, stack } from "./HttpLayer.ts"
import {
  type BodyStream,
  type HeaderFields,
  headerOf,
  type HttpResponse,
  isStreamed,
  type RequestBody
} from "./HttpWire.ts"
import { bodyOf, type FetchArguments, fieldsOf, redirectOf, unsupported } from "./internal/fetchRequest.ts"
import { responseOf, type Run } from "./internal/fetchResponse.ts"
import { type Named, nameOf, type ServiceUrl, serviceUrl } from "./internal/ServiceUrl.ts"
import { type StreamedCall, type StreamedCallOptions, streamedCalls } from "./internal/StreamedCalls.ts"

/** A function of the type of the global `fetch`, for one service: what `layer` gives. */
export class Fetch extends Context.Service<Fetch, typeof globalThis.fetch>()("@scales-rpc/http/Fetch") {}

/**
 * Options of a `fetch`: those of its calls, of the transport (`connectTimeout`, `tls`, `http2`, `maxHeaderBytes`, `finagle`; not
 * heeded by a `transport` of one's own), and of the parts that every stack has. `label` is `name` unless it is given.
 */
export interface FetchOptions extends StreamedCallOptions, HttpStackOptions {
  /**
   * The host of the service's URLs, with a port if they have one, and what is sent as `host`. Requests to any other reject with
   * `FetchFailed`, whose cause is a `ForeignUrl`. Default: the first address of a `tcp://` URI; with any other it has to be given.
   */
  readonly name?: string | undefined
}

/** Redirects of one request that are followed (Fetch standard). */
const maxRedirects = 20

/** Bytes of a redirect's own body that are read to keep its connection. */
const redirectBytes = 8192

/** One request, as it is when it is sent, and after each redirect. */
interface Sent {
  readonly method: string
  readonly url: URL
  readonly headers: HeaderFields
  readonly body: RequestBody | undefined
  readonly redirected: boolean
  readonly signal: AbortSignal
  /** What the signal hears of others by, as long as somebody has it. */
  readonly requests: ReadonlyArray<Request>
}

/**
 * The owner of an exchange's body. It keeps the requests, whatever becomes of their promise and their response: a `Request` that nobody has is
 * collected, and its signal no longer follows that of the caller.
 */
class RequestOwner extends BodyOwner {
  readonly requests: ReadonlyArray<Request>

  constructor(requests: ReadonlyArray<Request>) {
    super()
    this.requests = requests
  }
}

/** What calls share. */
interface Shared {
  readonly call: StreamedCall
  readonly service: ServiceUrl
  readonly run: Run
}

/** One exchange. Throws what the caller gets. */
const exchange = async ({ call, run, service }: Shared, sent: Sent): Promise<HttpResponse> => {
  const { body, headers, method, requests, signal, url } = sent
  const foreign = service.foreign(url)
  if (foreign !== undefined) throw new FetchFailed(foreign)
  const target = url.pathname + url.search
  const exit = await run(call({ method, target, headers, body, owner: new RequestOwner(requests) }, signal))
  if (Exit.isSuccess(exit)) return exit.value
  if (signal.aborted) throw signal.reason
  const error = Cause.squash(exit.cause) as RpcError
  throw new FetchFailed(
    error._tag === "Unsendable" && (error.cause instanceof InvalidRequest || error.cause instanceof RequestBodyFailed)
      ? error.cause
      : error
  )
}

const redirects = new Set([301, 302, 303, 307, 308])

/** Fields that say what a body is. */
const bodyFields = new Set([
  "content-encoding",
  "content-language",
  "content-location",
  "content-type",
  "content-length"
])

/** The request that a redirect asks for (Fetch standard, HTTP-redirect fetch). Credentials go nowhere else: no other host is called. */
const redirect = (sent: Sent, status: number, location: string): Sent => {
  let url: URL
  try {
    url = new URL(location, sent.url)
  } catch (cause) {
    throw new FetchFailed(cause)
  }
  const { method } = sent
  const asGet = (method === "POST" && (status === 301 || status === 302)) ||
    (status === 303 && method !== "GET" && method !== "HEAD")
  if (asGet) {
    const headers = sent.headers.filter(([name]) => !bodyFields.has(name))
    return { ...sent, url, method: "GET", headers, body: undefined, redirected: true }
  }
  if (isStreamed(sent.body)) throw new FetchUnsupported("redirect", "a body that is a stream is not sent twice")
  return { ...sent, url, redirected: true }
}

/** Reads a body to its end if that is near, and leaves it if not. */
const discard = async (body: Uint8Array | BodyStream, run: Run): Promise<void> => {
  if (body instanceof Uint8Array) return
  for (let size = 0; size <= redirectBytes;) {
    const exit = await run(body.next)
    if (Exit.isFailure(exit) || exit.value === undefined) return
    size += exit.value.length
  }
  body.cancel()
}

const answer = async (
  shared: Shared,
  first: Sent,
  mode: "follow" | "error" | "manual"
): Promise<Response> => {
  let sent = first
  for (let followed = 0;; followed++) {
    const response = await exchange(shared, sent)
    const { body, headers, status } = response
    const location = mode !== "manual" && redirects.has(status) ? headerOf(headers, "location") : undefined
    const coding = headerOf(headers, "content-encoding")
    const cancel = () => {
      if (!(body instanceof Uint8Array)) body.cancel()
    }
    if (location !== undefined) {
      if (mode === "error" || followed === maxRedirects) {
        cancel()
        throw new FetchFailed(new TypeError(mode === "error" ? "unexpected redirect" : "too many redirects"))
      }
      await discard(body, shared.run)
      sent = redirect(sent, status, location)
      continue
    }
    if (coding !== undefined && coding !== "identity" && headerOf(sent.headers, "accept-encoding") === undefined) {
      cancel()
      throw new FetchUnsupported("content-encoding", `${coding} was not asked for, and is not undone`)
    }
    try {
      return responseOf(response, sent, shared.run)
    } catch (cause) {
      // Of a status or a reason that HTTP has and the platform has not.
      cancel()
      throw new FetchFailed(cause)
    }
  }
}

const fetchOver = (shared: Shared): typeof globalThis.fetch => async (...[input, init]: FetchArguments) => {
  const { service } = shared
  const request = new Request(input instanceof Request ? input : service.absolute(String(input)), init)
  const wrong = unsupported(request, init)
  if (wrong !== undefined) throw wrong
  const { method, signal } = request
  if (signal.aborted) throw signal.reason
  const url = new URL(request.url)
  const foreign = service.foreign(url)
  if (foreign !== undefined) throw new FetchFailed(foreign)
  const body = await bodyOf(request, init)
  const headers = fieldsOf(request, url.host)
  const requests = input instanceof Request ? [request, input] : [request]
  return answer(shared, { method, url, headers, body, redirected: false, signal, requests }, redirectOf(request, init))
}

const client = (options: FetchOptions & Named): Layer.Layer<Fetch, BuildError, "Http/Balanced" | Stack> =>
  Layer.effect(
    Fetch,
    Effect.gen(function*() {
      const service = yield* serviceUrl(options)
      const call = yield* streamedCalls(service.name, options)
      // Not the settings and the span of whoever builds it: its calls are others'.
      const context = Context.add(
        withoutSpan(yield* Effect.context<never>()),
        Rpc.CallSettings,
        Rpc.defaultSettings
      )
      return Fetch.of(fetchOver({ call, service, run: (effect) => Effect.runPromiseExitWith(context)(effect) }))
    })
  )

/**
 * A `fetch` for one service. Absolute URLs with the service's name as their host work, and relative ones; no other request is sent to
 * anybody. What fails rejects with `FetchFailed`, what this one does not have with `FetchUnsupported`, what was aborted with its signal's
 * reason. Redirects are responses unless `redirect: "follow"` is in the second argument. A body that is not read holds its connection until the
 * deadline.
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
  options: FetchOptions & Roles<Above, Requeues, Bal, Below, Breaker, Pool, Transport> & Source<Set>
): Layer.Layer<
  Fetch,
  BuildError | RpcError,
  ReadyMade.Needs<"Http", Above, Requeues, Bal, Below, Breaker, Pool, Transport, Set>
> => stack(client(options), nameOf(options) ?? "http", options)

/** A `fetch` that is not part of an Effect program, and its end. */
export interface OpenFetch {
  /** The first call builds the layer; if that fails, every call rejects, with why as the cause. */
  readonly fetch: typeof globalThis.fetch
  /** Drains and closes. From here on calls reject, with `StackClosed` as the cause. Idempotent: every promise is for the same end. */
  readonly close: () => Promise<void>
}

/**
 * Makes a `fetch` of the layer that gives it. Nothing is built before the first call. It lives until `close`: a process in which nobody calls that
 * does not end by itself.
 */
export const make = <E>(layer: Layer.Layer<Fetch, E>): OpenFetch => {
  const { close, run } = PromiseClient.make(Fetch, layer)
  return {
    fetch: async (...args) => {
      let fetch: typeof globalThis.fetch
      try {
        fetch = await run(Effect.service(Fetch))
      } catch (cause) {
        throw new FetchFailed(cause)
      }
      return fetch(...args)
    },
    close
  }
}
