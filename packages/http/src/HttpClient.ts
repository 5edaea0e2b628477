/** The top of an HTTP stack: calls by method and path, the dispatcher that bounds them, and what becomes of their statuses. */
import {
  type Call,
  type CallContext,
  Describe,
  Dispatcher,
  InvalidOption,
  RequestHeaders,
  type RpcError,
  Stack,
  Unsendable
} from "@scales-rpc/core"
import { wholeNumber } from "@scales-rpc/core/options"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { TracerPropagationEnabled } from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { BodyOwner } from "./BodyOwner.ts"
import { checkedClassifier, isIdempotent } from "./classify.ts"
import { type HttpError, HttpStatusError, RequestBodyFailed, ResponseTooLarge } from "./errors.ts"
import { HttpReply, StreamedReply } from "./HttpReply.ts"
import type { HttpCall, HttpCallOptions, HttpCalls, HttpService } from "./HttpService.ts"
import {
  type BodyStream,
  type HeaderFields,
  type HttpResponse,
  HttpWire,
  isStreamed,
  type RequestHead
} from "./HttpWire.ts"
import { fieldsOf, repeatedField } from "./internal/callFields.ts"
import { invalidPart } from "./internal/requestCheck.ts"
import { shownHeaders } from "./internal/shownHeaders.ts"
import { methodSpan, noteTarget } from "./internal/spans.ts"
import { targetOf } from "./internal/target.ts"
import { traceparentOf } from "./traceparent.ts"

/** Options of an HTTP client. */
export interface HttpClientOptions {
  /** How long a call may take, its body included, when its caller says nothing nearer. Default 60 seconds (Scales'). */
  readonly timeout?: Duration.Input | undefined
  /** Sent with every call, unless that, or its `Rpc.context(RequestHeaders, ...)`, has the same names. Default: none. */
  readonly headers?: Readonly<Record<string, string | ReadonlyArray<string>>> | undefined
  /** Whether a status of 400 or above fails a call, with `HttpStatusError`. Default `true`. */
  readonly statusErrors?: boolean | undefined
  /** The most bytes of a body that are taken, for calls that are answered whole. Default 5242880, 5 MB (Finagle's). */
  readonly maxBytes?: number | undefined
  /**
   * Which statuses count against their endpoint, as a connection that breaks does: one with too many is avoided for a while. Default: 500 and
   * above. The caller gets the response, or the error, all the same.
   */
  readonly failureStatus?: ((status: number) => boolean) | undefined
  /**
   * Whether calls carry their span, or the one that they are made in, as W3C's `traceparent`. Default `true`; nothing is sent without a span, for
   * one whose ids are not W3C's, and where `HttpClient.TracerPropagationEnabled` of Effect is off.
   */
  readonly traceparent?: boolean | undefined
  /** Entries that every call carries, over what its caller set. Default: none. */
  readonly context?: CallContext | undefined
}

/** How much of an error's body is kept. */
const errorBytes = 4096

const nothing = new Uint8Array(0)

/** What the calls of a client share. */
interface Shared {
  readonly dispatch: Dispatcher.Dispatcher["dispatch"]
  readonly send: (request: Parameters<Sink["send"]>[0], call: Call) => Effect.Effect<HttpResponse, RpcError>
  readonly headers: HeaderFields
  readonly statusErrors: boolean
  readonly maxBytes: number
  readonly traceparent: boolean
  /** The methods that were called so far, those that may run twice and those that may not. */
  readonly methodOf: (name: string, idempotent: boolean) => Dispatcher.CalledMethod
}

type Sink = (typeof HttpWire)["Balanced"]["Service"]

/** The fields of one call: its own, and those of the client whose names neither it has nor its context, which the transport adds. */
const headersOf = (
  shared: Shared,
  options: HttpCallOptions,
  { context, trace }: Call,
  fiber: Fiber.Fiber<unknown, unknown>
): Array<readonly [string, string]> => {
  const fields = fieldsOf(options.headers)
  const names = new Set(fields.map(([name]) => name))
  const contentType = options.body?.contentType
  if (contentType !== undefined && !names.has("content-type")) {
    fields.push(["content-type", contentType])
    names.add("content-type")
  }
  const given = context.isEmpty ? undefined : context.get(RequestHeaders)
  if (given !== undefined) { for (const [name] of given) names.add(name.toLowerCase()) }
  for (const field of shared.headers) if (!names.has(field[0])) fields.push(field)
  if (trace !== undefined && shared.traceparent && !names.has("traceparent")) {
    const traceparent = fiber.getRef(TracerPropagationEnabled) ? traceparentOf(trace) : undefined
    if (traceparent !== undefined) fields.push(["traceparent", traceparent])
  }
  return fields
}

/** One exchange through the stack. `how` says what becomes of the response's body. */
const exchange = (
  shared: Shared,
  method: string,
  path: string,
  options: HttpCallOptions,
  how: { readonly collect: number } | { readonly owner: BodyOwner }
): Effect.Effect<HttpResponse, HttpError> =>
  Effect.withFiber((fiber): Effect.Effect<HttpResponse, HttpError> => {
    const encoded = options.body?.encode()
    if (encoded !== undefined && Exit.isFailure(encoded)) return Effect.failCause(encoded.cause)
    const body = encoded?.value
    const target = targetOf(path, options.query)
    const streamed = isStreamed(body)
    const called = shared.methodOf(method, !streamed && isIdempotent(method))
    const sent = shared.dispatch(called, (call) => {
      if (call.span !== undefined) noteTarget(call.span, target)
      const headers = headersOf(shared, options, call, fiber)
      const invalid = repeatedField(headers)
      if (invalid !== undefined) return Effect.fail(new Unsendable({ what: invalid.message, cause: invalid }))
      const head: RequestHead = { method, target, headers, body }
      return shared.send({ ...head, ...how }, call)
    })
    return streamed ? Effect.mapError(sent, unwrapped) : sent
  })

/** A body that broke is its own failure, and not the request's. */
const unwrapped = (error: RpcError): HttpError =>
  error._tag === "Unsendable" && error.cause instanceof RequestBodyFailed ? error.cause : error

const statusError = (method: string, path: string, response: HttpResponse, body: Uint8Array): HttpStatusError =>
  new HttpStatusError({
    method,
    path: path.replace(/\?.*$/s, ""),
    status: response.status,
    reason: response.reason,
    headers: response.headers,
    body: body.slice(0, errorBytes)
  })

/** A call that is answered whole. */
const request = (
  shared: Shared,
  method: string,
  path: string,
  options: HttpCallOptions
): Effect.Effect<HttpReply, HttpError> => {
  const collect = options.maxBytes ?? shared.maxBytes
  if (!Number.isSafeInteger(collect) || collect < 0) {
    const invalid = new InvalidOption({ option: "maxBytes", got: collect, expected: "a whole number from 0 on" })
    return Effect.fail(new Unsendable({ what: invalid.message, cause: invalid }))
  }
  const statusErrors = options.statusErrors ?? shared.statusErrors
  return Effect.flatMap(
    exchange(shared, method, path, options, { collect }),
    (response): Exit.Exit<HttpReply, HttpError> => {
      if (statusErrors && response.status >= 400) {
        return Exit.fail(statusError(method, path, response, response.body as Uint8Array))
      }
      return response.truncated
        ? Exit.fail(new ResponseTooLarge({ status: response.status, limit: collect }))
        : Exit.succeed(new HttpReply(response))
    }
  )
}

/** The first bytes of a body, as many as come of them. */
const firstBytes = (body: BodyStream, got = nothing): Effect.Effect<Uint8Array> =>
  got.length >= errorBytes ? Effect.succeed(got) : Effect.matchEffect(body.next, {
    // The status says more than how its body ended, be that by the deadline.
    onFailure: () => Effect.succeed(got),
    onSuccess: (chunk) => chunk === undefined ? Effect.succeed(got) : firstBytes(body, Buffer.concat([got, chunk]))
  })

/** A call whose body is handed on as it comes. */
const stream = (
  shared: Shared,
  method: string,
  path: string,
  options: HttpCallOptions
): Effect.Effect<StreamedReply, HttpError, Scope.Scope> => {
  const statusErrors = options.statusErrors ?? shared.statusErrors
  return Effect.suspend(() => {
    const owner = new BodyOwner()
    const release = Effect.sync(() => owner.release())
    const begun = Effect.flatMap(
      exchange(shared, method, path, options, { owner }),
      (response): Effect.Effect<StreamedReply, HttpError> => {
        owner.keep(response.body)
        if (!statusErrors || response.status < 400) return Effect.succeed(new StreamedReply(response))
        const { body } = response
        return Effect.flatMap(
          body instanceof Uint8Array ? Effect.succeed(body) : firstBytes(body),
          (first) => Effect.fail(statusError(method, path, response, first))
        )
      }
    )
    return Effect.acquireRelease(Effect.onError(begun, () => release), () => release, { interruptible: true })
  })
}

/** Checks the fields that every call has. */
const checkedHeaders = (headers: HttpClientOptions["headers"]): Effect.Effect<HeaderFields, InvalidOption> => {
  const fields = fieldsOf(headers)
  const wrong = repeatedField(fields) ??
    invalidPart({ method: "GET", target: "/", headers: fields, body: undefined, collect: 0 })
  const name = wrong?.name ?? fields.find(([name]) => name === "content-length")?.[0]
  if (name === undefined) return Effect.succeed(fields)
  const expected = wrong?.message ?? "no such field: calls have bodies of different lengths"
  // Not its value: that may be a secret.
  return Effect.fail(new InvalidOption({ option: `headers.${name}`, got: "a field", expected }))
}

/**
 * The client of an HTTP service over the balanced sink of the stack. It drains when its scope closes. Fails with `InvalidOption` for an
 * option out of its range.
 */
export const client = <Self, Id extends string>(
  service: HttpService<Self, Id>,
  options: HttpClientOptions = {}
): Layer.Layer<Self, InvalidOption, "Http/Balanced" | Stack> =>
  Layer.effect(
    service,
    Effect.gen(function*() {
      const sink = yield* HttpWire.Balanced
      const stack = yield* Stack
      const { dispatch } = yield* Dispatcher.make({
        service: service.key,
        timeout: options.timeout ?? "60 seconds",
        given: options,
        context: options.context
      })
      const classify = yield* checkedClassifier(options.failureStatus)
      const methods = new Map<string, Dispatcher.CalledMethod>()
      const shared: Shared = {
        dispatch,
        send: sink.send,
        headers: yield* checkedHeaders(options.headers),
        statusErrors: options.statusErrors ?? true,
        maxBytes: yield* wholeNumber("maxBytes", options.maxBytes, 5 * 1024 * 1024, 0),
        traceparent: options.traceparent ?? true,
        methodOf: (name, idempotent) => {
          const key = idempotent ? name : `${name} once`
          let method = methods.get(key)
          // Made-up names are not kept: a caller has as many of them as it likes.
          if (method === undefined) {
            method = { name, idempotent, classify, span: methodSpan(name) }
            if (methods.size < 64) methods.set(key, method)
          }
          return method
        }
      }
      const { headers, maxBytes, statusErrors, traceparent } = shared
      yield* stack.register({
        role: "http",
        description: "turns paths into requests, and statuses into failures",
        options: Describe.given(stack.given ?? options, {
          headers: shownHeaders(headers),
          statusErrors,
          maxBytes,
          failureStatus: options.failureStatus ?? "500 and above",
          traceparent
        }),
        snapshot: () => undefined
      })
      const of = (method: string): HttpCall => (path, given = {}) => request(shared, method, path, given)
      const calls: HttpCalls = {
        get: of("GET"),
        head: of("HEAD"),
        options: of("OPTIONS"),
        delete: of("DELETE"),
        post: of("POST"),
        put: of("PUT"),
        patch: of("PATCH"),
        request: (method, path, given = {}) => request(shared, method, path, given),
        stream: (method, path, given = {}) => stream(shared, method, path, given)
      }
      return calls
    })
  )
