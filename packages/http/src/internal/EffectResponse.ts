/** A response as Effect's `HttpClient` has it, over one of the stack. */
import type { RpcError } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import * as Cookies from "effect/http/Cookies"
import * as Headers from "effect/http/Headers"
import { DecodeError, HttpClientError, StatusCodeError } from "effect/http/HttpClientError"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import * as Response from "effect/http/HttpClientResponse"
import * as IncomingMessage from "effect/http/HttpIncomingMessage"
import * as UrlParams from "effect/http/UrlParams"
import * as Inspectable from "effect/Inspectable"
import * as Option from "effect/Option"
import { pipeArguments } from "effect/Pipeable"
import type * as Schema from "effect/Schema"
import type * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import { type HeaderFields, headerOf, type HttpResponse, streamOf } from "../HttpWire.ts"
import { untraced } from "./untraced.ts"
import { WholeBody } from "./WholeBody.ts"

const utf8 = new TextDecoder()
/** A byte order mark is part of a form's first name. */
const formUtf8 = new TextDecoder("utf-8", { ignoreBOM: true })

/** That of all `Headers`, which have no other way to be filled one by one. */
const headersPrototype: object = Object.getPrototypeOf(Headers.empty)

const headersOf = (fields: HeaderFields): Headers.Headers => {
  const headers: Record<string, string> = Object.create(headersPrototype)
  for (let i = 0; i < fields.length; i++) {
    const [name, value] = fields[i]!
    const before = headers[name]
    headers[name] = before === undefined ? value : `${before}, ${value}`
  }
  return headers as Headers.Headers
}

/** The response. Its body is read once, and kept for whoever asks again, unless it was read as a stream. */
export class EffectResponse extends Inspectable.Class implements Response.HttpClientResponse {
  readonly [IncomingMessage.TypeId]: typeof IncomingMessage.TypeId
  readonly [Response.TypeId]: typeof Response.TypeId
  readonly request: HttpClientRequest
  readonly #response: HttpResponse
  readonly #url: URL
  #headers: Headers.Headers | undefined
  #cookies: Cookies.Cookies | undefined
  #whole: WholeBody | undefined

  constructor(request: HttpClientRequest, url: URL, response: HttpResponse) {
    super()
    this[IncomingMessage.TypeId] = IncomingMessage.TypeId
    this[Response.TypeId] = Response.TypeId
    this.request = request
    this.#url = url
    this.#response = response
  }

  get url(): string {
    return this.#url.href.replace(/#.*$/s, "")
  }

  get status(): number {
    return this.#response.status
  }

  get headers(): Headers.Headers {
    return this.#headers ??= headersOf(this.#response.headers)
  }

  get cookies(): Cookies.Cookies {
    return this.#cookies ??= Cookies.fromSetCookie(
      this.#response.headers.filter(([name]) => name === "set-cookie").map(([, value]) => value)
    )
  }

  get remoteAddress(): Option.Option<string> {
    return Option.none()
  }

  get stream(): Stream.Stream<Uint8Array, HttpClientError> {
    return Stream.mapError(
      this.#whole === undefined ? streamOf(this.#response.body) : Stream.fromEffect(this.#whole.read),
      this.#failed
    )
  }

  get arrayBuffer(): Effect.Effect<ArrayBuffer, HttpClientError> {
    return this.#decoded(({ buffer, byteLength, byteOffset }) =>
      buffer.slice(byteOffset, byteOffset + byteLength) as ArrayBuffer
    )
  }

  get text(): Effect.Effect<string, HttpClientError> {
    return this.#decoded((bytes) => utf8.decode(bytes))
  }

  get json(): Effect.Effect<Schema.Json, HttpClientError> {
    return this.#tried((bytes) => bytes.length === 0 ? null : JSON.parse(utf8.decode(bytes)))
  }

  get urlParamsBody(): Effect.Effect<UrlParams.UrlParams, HttpClientError> {
    // What begins with a question mark has it in its first name.
    return this.#tried((bytes) =>
      UrlParams.fromInput(new URLSearchParams(formUtf8.decode(bytes).replace(/^\?/, "%3F")))
    )
  }

  get formData(): Effect.Effect<FormData, HttpClientError> {
    return Effect.flatMap(this.arrayBuffer, (body) =>
      Effect.tryPromise({
        try: () => {
          const type = headerOf(this.#response.headers, "content-type")
          return new globalThis.Response(body, { headers: type === undefined ? {} : { "content-type": type } })
            .formData()
        },
        catch: this.#failed
      }))
  }

  get upgrade(): Effect.Effect<Socket.Socket, HttpClientError> {
    return Effect.suspend(() =>
      Effect.fail(
        untraced(() =>
          new HttpClientError({
            reason: new StatusCodeError({
              request: this.request,
              response: this,
              description: "a balanced client hands over no connection"
            })
          })
        )
      )
    )
  }

  toJSON(): unknown {
    return IncomingMessage.inspect(this, {
      _id: "HttpClientResponse",
      request: this.request.toJSON(),
      status: this.status
    })
  }

  pipe() {
    return pipeArguments(this, arguments)
  }

  readonly #failed = (cause: unknown): HttpClientError =>
    untraced(() =>
      new HttpClientError({
        reason: new DecodeError({
          request: this.request,
          response: this,
          cause,
          description: cause instanceof Error ? cause.message : undefined
        })
      })
    )

  get #bytes(): Effect.Effect<Uint8Array, RpcError> {
    return (this.#whole ??= new WholeBody(this.#response.body)).read
  }

  #decoded<A>(decode: (bytes: Uint8Array) => A): Effect.Effect<A, HttpClientError> {
    return Effect.mapBoth(this.#bytes, { onFailure: this.#failed, onSuccess: decode })
  }

  #tried<A>(decode: (bytes: Uint8Array) => A): Effect.Effect<A, HttpClientError> {
    return Effect.flatMap(Effect.mapError(this.#bytes, this.#failed), (bytes) =>
      Effect.suspend(() => {
        try {
          return Effect.succeed(decode(bytes))
        } catch (cause) {
          return Effect.fail(this.#failed(cause))
        }
      }))
  }
}
