/** Requests of `fetch`, as those of the stack. */
import * as Stream from "effect/Stream"
import { FetchUnsupported } from "../FetchError.ts"
import type { HeaderFields, RequestBody } from "../HttpWire.ts"

/** The arguments of `fetch`. */
export type FetchArguments = Parameters<typeof globalThis.fetch>

/** What is asked for that only a browser, or another `fetch`, can give; `undefined`: nothing. */
export const unsupported = (request: Request, init: FetchArguments[1]): FetchUnsupported | undefined => {
  if (request.integrity !== "") return new FetchUnsupported("integrity", "bodies are not checked")
  if (request.cache === "only-if-cached" || request.cache === "force-cache") {
    return new FetchUnsupported("cache", "there is none")
  }
  if (request.mode === "navigate" || request.mode === "no-cors") {
    return new FetchUnsupported("mode", `${request.mode} is for browsers`)
  }
  if (request.referrer !== "about:client" && request.referrer !== "") {
    return new FetchUnsupported("referrer", "none is sent: set the header")
  }
  return init !== undefined && "dispatcher" in init && init.dispatcher !== undefined
    ? new FetchUnsupported("dispatcher", "the stack decides who is called")
    : undefined
}

/** Whether to go where a redirect points. A `Request` follows unless it is told otherwise, so one that does has not asked for it. */
export const redirectOf = (request: Request, init: FetchArguments[1]): "follow" | "error" | "manual" =>
  init?.redirect ?? (request.redirect === "follow" ? "manual" : request.redirect)

const isStream = (body: unknown): boolean =>
  typeof body === "object" && body !== null && (body instanceof ReadableStream || Symbol.asyncIterator in body)

/** The body: whole if it was given whole, which may be sent again. */
export const bodyOf = async (request: Request, init: FetchArguments[1]): Promise<RequestBody | undefined> => {
  const { body } = request
  if (body === null) return undefined
  const given = init?.body
  return given === undefined || given === null || isStream(given)
    ? {
      stream: Stream.fromReadableStream<Uint8Array, unknown>({ evaluate: () => body, onError: (cause) => cause }),
      length: lengthOf(request)
    }
    : new Uint8Array(await request.arrayBuffer())
}

const lengthOf = ({ headers }: Request): number | undefined => {
  const length = headers.get("content-length")
  return length === null ? undefined : Number(length)
}

/** The fields, which `Headers` has in lower case already. */
export const fieldsOf = (request: Request, host: string): HeaderFields => {
  const fields = [...request.headers]
  if (!request.headers.has("host")) fields.push(["host", host])
  return fields
}
