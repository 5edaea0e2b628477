/** Bodies of requests: text, JSON by a schema, bytes, a form, a stream. */
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import { HttpBodyError } from "./errors.ts"
import type { RequestBody } from "./HttpWire.ts"

/** A body, and what it is sent as. */
export interface HttpBody {
  /** Sent as `content-type` unless the call says another; `undefined`: none. */
  readonly contentType: string | undefined
  /** Made when the call starts. */
  readonly encode: () => Exit.Exit<RequestBody, HttpBodyError>
}

const utf8 = new TextEncoder()

const ready = (body: RequestBody, contentType: string | undefined): HttpBody => {
  const encoded = Exit.succeed(body)
  return { contentType, encode: () => encoded }
}

/** Bytes, which are not to be changed before the call has ended. */
export const bytes = (content: Uint8Array, contentType = "application/octet-stream"): HttpBody =>
  ready(content, contentType)

/** Text, as UTF-8. */
export const text = (content: string, contentType = "text/plain; charset=utf-8"): HttpBody =>
  ready(utf8.encode(content), contentType)

/** Fields of a form, URL-encoded; a list is a field several times. */
export const form = (
  fields: Readonly<Record<string, string | number | boolean | ReadonlyArray<string | number | boolean>>>
): HttpBody => {
  const params = new URLSearchParams()
  for (const [name, value] of Object.entries(fields)) {
    for (const each of Array.isArray(value) ? value : [value]) params.append(name, String(each))
  }
  return text(params.toString(), "application/x-www-form-urlencoded")
}

/**
 * A value as JSON, encoded by its schema. A value that the schema refuses fails the call with `HttpBodyError` before anything is sent.
 */
export const json = <S extends Schema.ConstraintEncoder<unknown>>(schema: S, value: S["Type"]): HttpBody => {
  const encode = Schema.encodeUnknownExit(schema)
  return {
    contentType: "application/json",
    encode: () => {
      const encoded = encode(value)
      if (Exit.isFailure(encoded)) return failed(Cause.squash(encoded.cause))
      try {
        return Exit.succeed(utf8.encode(JSON.stringify(encoded.value)))
      } catch (cause) {
        return failed(cause)
      }
    }
  }
}

const failed = (cause: unknown): Exit.Exit<never, HttpBodyError> =>
  Exit.fail(new HttpBodyError({ what: "request", cause }))

/**
 * Bytes as they come. With `length`, in bytes, that many are announced, and it is an error to have more or less; without, they are sent in
 * chunks. A call with a stream is sent a second time only when its first connection took nothing of it, or when its caller says that it may
 * (`Rpc.idempotent`): the stream runs again then. One that gives its bytes only once, such as that of a generator, is not for such a call: a
 * second run of it may be an empty body.
 */
export const stream = (
  content: Stream.Stream<Uint8Array, unknown>,
  options: { readonly length?: number | undefined; readonly contentType?: string | undefined } = {}
): HttpBody => ready({ stream: content, length: options.length }, options.contentType ?? "application/octet-stream")
