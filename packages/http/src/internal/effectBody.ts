/** Bodies of Effect's requests, as those of the stack. */
import * as Effect from "effect/Effect"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import * as Stream from "effect/Stream"
import { Readable } from "node:stream"
import type { HeaderFields, RequestBody } from "../HttpWire.ts"

/** A body and the fields that go with it; `type` only where the request cannot have it. */
export interface EffectBody {
  readonly body: RequestBody | undefined
  readonly type?: string | undefined
}

/** A body that is none. */
export const noBody: EffectBody = { body: undefined }

const utf8 = new TextEncoder()

const identity = (cause: unknown): unknown => cause

/** What the platform reads as a body: a form gets its boundary with it. It is put together in memory. */
const put = (body: ConstructorParameters<typeof Response>[0]): Effect.Effect<EffectBody, unknown> =>
  Effect.tryPromise({
    try: async () => {
      const response = new Response(body)
      return {
        body: new Uint8Array(await response.arrayBuffer()),
        type: response.headers.get("content-type") ?? undefined
      }
    },
    catch: identity
  })

const isAsyncIterable = (value: unknown): value is AsyncIterable<Uint8Array> =>
  typeof value === "object" && value !== null && Symbol.asyncIterator in value

/** What gives its bytes only once, and has begun to. */
const begun = new WeakSet<object>()

/** Each run of an iterable, which fails when it cannot give the bytes again: it would be an empty body, or the rest of one. */
const runsOf = (raw: AsyncIterable<Uint8Array>): Stream.Stream<Uint8Array, unknown> =>
  Stream.suspend((): Stream.Stream<Uint8Array, unknown> => {
    const single = raw instanceof ReadableStream || raw instanceof Readable
    if (!(single && begun.has(raw))) {
      const iterator = raw[Symbol.asyncIterator]()
      const once = single ? raw : iterator
      if (!begun.has(once)) {
        begun.add(once)
        return Stream.fromAsyncIterable({ [Symbol.asyncIterator]: () => iterator }, identity)
      }
    }
    return Stream.fail(new TypeError("the body can be read once, and has been"))
  })

const lengthOf = (request: HttpClientRequest, known: number | undefined): number | undefined => {
  const said = known ?? request.headers["content-length"]
  return said === undefined ? undefined : Number(said)
}

/** The body of a request. Fails with why it cannot be one. */
export const effectBody = (request: HttpClientRequest): EffectBody | Effect.Effect<EffectBody, unknown> => {
  const { body } = request
  switch (body._tag) {
    case "Empty":
      return noBody
    case "Uint8Array":
      return { body: body.body }
    case "FormData":
      return put(body.formData)
    case "Stream":
      return { body: { stream: body.stream, length: lengthOf(request, body.contentLength) } }
    case "Raw":
      return rawBody(request, body.body, body.contentLength)
  }
}

const rawBody = (
  request: HttpClientRequest,
  raw: unknown,
  contentLength: number | undefined
): EffectBody | Effect.Effect<EffectBody, unknown> => {
  if (raw === undefined || raw === null) return noBody
  if (typeof raw === "string") return { body: utf8.encode(raw) }
  if (raw instanceof Uint8Array) return { body: raw }
  if (
    raw instanceof ArrayBuffer || ArrayBuffer.isView(raw) || raw instanceof Blob || raw instanceof FormData ||
    raw instanceof URLSearchParams
  ) {
    return put(raw as Blob)
  }
  // Web streams, and those of Node.
  if (isAsyncIterable(raw)) {
    return { body: { stream: runsOf(raw), length: lengthOf(request, contentLength) } }
  }
  return Effect.fail(new TypeError("a raw body that is neither text, bytes, a form nor a stream"))
}

/** The fields of a request. */
export const effectFields = (
  request: HttpClientRequest,
  host: string,
  type: string | undefined
): HeaderFields => {
  const { headers } = request
  const fields: Array<readonly [string, string]> = []
  for (const name of Object.keys(headers)) fields.push([name, headers[name]!])
  if (headers["host"] === undefined) fields.push(["host", host])
  if (type !== undefined && headers["content-type"] === undefined) fields.push(["content-type", type])
  return fields
}
