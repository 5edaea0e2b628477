/** Calls that are answered as soon as the head of the response has come, for clients whose shape others have defined. */
import {
  type Call,
  type CallContext,
  Dispatcher,
  type InvalidOption,
  type RpcError,
  type Stack,
  Superseded
} from "@scales-rpc/core"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { checkedClassifier, isIdempotent } from "../classify.ts"
import { type HttpResponse, HttpWire, isStreamed, type StreamedRequest } from "../HttpWire.ts"

/** Options of such a client. */
export interface StreamedCallOptions {
  /** How long a call may take, its body included, when its caller says nothing nearer. Default 60 seconds (Scales'). */
  readonly timeout?: Duration.Input | undefined
  /** Which statuses count against their endpoint. Default: 500 and above. The caller gets the response all the same. */
  readonly failureStatus?: ((status: number) => boolean) | undefined
  /** Entries that every call carries, over what its caller set. Default: none. */
  readonly context?: CallContext | undefined
}

/**
 * Makes one call. The signal ends it at any time, its body included: what it waits for then fails with `Superseded`, and the signal says why.
 */
export type StreamedCall = (request: StreamedRequest, signal: AbortSignal) => Effect.Effect<HttpResponse, RpcError>

/** Names of methods that are kept; made-up ones have no end. */
const maxMethods = 64

/** The calls of `service`, which drain when the scope closes. Fails with `InvalidOption` for an option out of its range. */
export const streamedCalls = (
  service: string,
  options: StreamedCallOptions
): Effect.Effect<StreamedCall, InvalidOption, "Http/Balanced" | Stack | Scope.Scope> =>
  Effect.gen(function*() {
    const sink = yield* HttpWire.Balanced
    const { dispatch } = yield* Dispatcher.make({
      service,
      timeout: options.timeout ?? "60 seconds",
      context: options.context
    })
    const classify = yield* checkedClassifier(options.failureStatus)
    const whole = new Map<string, Dispatcher.CalledMethod>()
    const streamed = new Map<string, Dispatcher.CalledMethod>()
    const methodOf = ({ body, method: name }: StreamedRequest): Dispatcher.CalledMethod => {
      const once = isStreamed(body)
      const methods = once ? streamed : whole
      let method = methods.get(name)
      if (method === undefined) {
        method = { name, idempotent: !once && isIdempotent(name), classify }
        if (methods.size < maxMethods) methods.set(name, method)
      }
      return method
    }

    return (request, signal) => {
      if (signal.aborted) return Effect.fail(new Superseded({ reached: "no", endpoint: undefined }))
      const { owner } = request
      let begun: Call | undefined
      signal.addEventListener("abort", () => {
        owner.release()
        begun?.abort.abort({ _tag: "Superseded" })
      })
      const sent = dispatch(methodOf(request), (call) => {
        begun = call
        return sink.send(request, call)
      })
      return Effect.onExitPrimitive(sent, (exit) => {
        begun = undefined
        if (exit._tag === "Success") owner.keep(exit.value.body)
        else owner.release()
        return undefined
      })
    }
  })
