/** Responses of the stack, as `fetch` has them. */
import type { RpcError } from "@scales-rpc/core"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Cause from "effect/Cause"
import { FetchFailed } from "../FetchError.ts"
import type { BodyStream, HttpResponse } from "../HttpWire.ts"

/** Runs what reads a body. */
export type Run = <A>(effect: Effect.Effect<A, RpcError>) => Promise<Exit.Exit<A, RpcError>>

/** Statuses that have no body. */
const bodiless = new Set([204, 205, 304])

const failureOf = (exit: Exit.Failure<unknown, RpcError>, signal: AbortSignal): unknown =>
  signal.aborted ? signal.reason : new FetchFailed(Cause.squash(exit.cause))

/** The body as it is read: nothing is taken from the connection before it is asked for. */
const readable = (body: BodyStream, run: Run, signal: AbortSignal): ReadableStream =>
  new ReadableStream({
    type: "bytes",
    pull: async (controller) => {
      const exit = await run(body.next)
      if (Exit.isFailure(exit)) throw failureOf(exit, signal)
      // Copied: the stream takes the memory of what it is given, of which the rest is another's.
      if (exit.value !== undefined) return controller.enqueue(new Uint8Array(exit.value))
      controller.close()
      // A reader with a buffer of its own waits for it. Node's types say that there never is one.
      const { byobRequest } = controller as { readonly byobRequest: unknown }
      ;(byobRequest as { readonly respond: (size: number) => void } | null)?.respond(0)
    },
    cancel: () => body.cancel()
  }, { highWaterMark: 0 })

/** A response, with what only those of `fetch` itself are made with. */
const arrived = (response: Response, url: string, redirected: boolean): Response =>
  Object.defineProperties(response, {
    url: { value: url },
    redirected: { value: redirected },
    clone: { value: () => arrived(Response.prototype.clone.call(response), url, redirected) }
  })

/** The response. */
export const responseOf = (
  response: HttpResponse,
  request: { readonly method: string; readonly url: URL; readonly redirected: boolean; readonly signal: AbortSignal },
  run: Run
): Response => {
  const { headers, reason, status } = response
  let body: BodyStream | Uint8Array | null = response.body
  if (request.method === "HEAD" || bodiless.has(status)) {
    if (!(body instanceof Uint8Array)) body.cancel()
    body = null
  }
  const whole = body === null || body instanceof Uint8Array ? body : readable(body, run, request.signal)
  return arrived(
    new Response(whole as ReadableStream | null, {
      status,
      statusText: reason,
      headers: headers.map(([...field]) => field)
    }),
    request.url.href.replace(/#.*$/s, ""),
    request.redirected
  )
}
