/** HTTP as a wire family: what a request and a response of any version of it look like on their way to and from a connection. */
import { type Family, type RpcError, wire } from "@scales-rpc/core"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { BodyOwner } from "./BodyOwner.ts"

/**
 * Header fields in order; a name may be there more than once. Names are in lower case in all that comes from a server, and are to be so in
 * all that is sent. Values are ISO 8859-1.
 */
export type HeaderFields = ReadonlyArray<readonly [name: string, value: string]>

/**
 * A request's body that is not in memory. It is run once for each attempt that begins to send it, in no context but that of the call, and
 * interrupted when the request is.
 */
export interface StreamedBody {
  readonly stream: Stream.Stream<Uint8Array, unknown>
  /** Its bytes. `undefined`: not known, and sent in chunks. */
  readonly length: number | undefined
}

/** A request's body: bytes, which can be sent again, or a stream. */
export type RequestBody = Uint8Array | StreamedBody

/** Whether a body is a stream. */
export const isStreamed = (body: RequestBody | undefined): body is StreamedBody =>
  body !== undefined && !(body instanceof Uint8Array)

/** What every request has. */
export interface RequestHead {
  /** A token of RFC 9110, in upper case as a rule: methods are told apart by case. Not `CONNECT`. */
  readonly method: string
  /** Path and query as they are sent, `/...`: visible ASCII, without a fragment. The `*` of `OPTIONS` is not supported. */
  readonly target: string
  /**
   * As they are sent, without those that belong to the connection: `connection`, `keep-alive`, `proxy-connection`, `transfer-encoding`,
   * `upgrade`, `http2-settings`, `expect` and any `te` but `trailers` are refused, and a `content-length` that is not the body's. Without
   * `host`, the endpoint's address is sent.
   */
  readonly headers: HeaderFields
  readonly body: RequestBody | undefined
}

/** A request whose response is read to its end before `send` completes. */
export interface CollectedRequest extends RequestHead {
  /** The most bytes of the response's body that are kept; what has more is cut there, and marked as `truncated`. */
  readonly collect: number
  readonly owner?: undefined
}

/** A request whose response is handed on as soon as its head has come. */
export interface StreamedRequest extends RequestHead {
  readonly collect?: undefined
  /** Told of each body before anybody else is, so that there is no moment at which none has it to close. */
  readonly owner: BodyOwner
}

/** What is sent. */
export type HttpRequest = CollectedRequest | StreamedRequest

/**
 * A response's body that still comes. While it does, the attempt lasts: its connection and its load are held, and the deadline of the call
 * counts. It is one reader's: several that wait at once are served in the order in which they came, each with other bytes.
 */
export interface BodyStream {
  /**
   * The next bytes, at least one; `undefined` at the end. Waits for them; interrupting the wait does no harm, and the next
   * goes on from there. What has been failed with once is failed with again.
   *
   * Fails with `ConnectionClosed` when the connection ended before the body, `ProtocolError` when the server did not keep to HTTP, `Timeout`
   * when the deadline passed, `StackClosed` when the client was closed.
   */
  readonly next: Effect.Effect<Uint8Array | undefined, RpcError>
  /** Nobody wants the rest: over HTTP/1 this closes the connection. Does nothing once the body has ended. */
  readonly cancel: () => void
}

/** A response, whatever its status. */
export interface HttpResponse {
  /** 200 to 999: HTTP has none from 600 on, but servers have. What comes with 1xx before it is passed over. */
  readonly status: number
  /** The text beside the status; empty over HTTP/2. */
  readonly reason: string
  readonly headers: HeaderFields
  /** Bytes for a request with `collect`, else a stream. As the server sent it: no `content-encoding` is undone. */
  readonly body: Uint8Array | BodyStream
  /** There was more than `collect` bytes, and the rest was not read. */
  readonly truncated: boolean
  /** What came behind the body; empty until that has ended. */
  readonly trailers: HeaderFields
}

/** The planes of HTTP: `Http.Connector`, `Http.Endpoints`, `Http.Balanced`. */
export const HttpWire: Family<"Http", HttpRequest, HttpResponse, RpcError> = wire<HttpRequest, HttpResponse>()("Http")

/** The value of a header, by its name in lower case; of several, joined by commas as RFC 9110 says. `undefined`: it is not there. */
export const headerOf = (headers: HeaderFields, name: string): string | undefined => {
  let found: string | undefined
  for (let i = 0; i < headers.length; i++) {
    const [key, value] = headers[i]!
    if (key === name) found = found === undefined ? value : `${found}, ${value}`
  }
  return found
}

/** A body as a stream, to be run once. Whoever ends it before the body's end cancels the body. */
export const streamOf = (body: Uint8Array | BodyStream): Stream.Stream<Uint8Array, RpcError> =>
  body instanceof Uint8Array
    ? body.length === 0 ? Stream.empty : Stream.succeed(body)
    : Stream.ensuring(
      Stream.fromEffectRepeat(
        Effect.flatMap(body.next, (chunk) => chunk === undefined ? Cause.done() : Effect.succeed(chunk))
      ),
      Effect.sync(body.cancel)
    )
