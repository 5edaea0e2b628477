/** Calls that are answered as soon as the head of the response has come, for clients whose shape others have defined. */
import {
  type Call,
  type CallContext,
  Describe,
  Dispatcher,
  type InvalidOption,
  type RpcError,
  Stack,
  Superseded
} from "@scales-rpc/core"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { checkedClassifier, isIdempotent } from "../classify.ts"
import { type HttpResponse, HttpWire, isStreamed, type StreamedRequest } from "../HttpWire.ts"
import { joined, methodSpan, noteTarget } from "./spans.ts"

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
    const stack = yield* Stack
    const { dispatch } = yield* Dispatcher.make({
      service,
      timeout: options.timeout ?? "60 seconds",
      given: options,
      context: options.context
    })
    const classify = yield* checkedClassifier(options.failureStatus)
    yield* stack.register({
      role: "http",
      description: "sends requests to the URLs of one service",
      options: Describe.given(stack.given ?? options, {
        name: service,
        failureStatus: options.failureStatus ?? "500 and above"
      }),
      snapshot: () => undefined
    })
    const whole = new Map<string, Dispatcher.CalledMethod>()
    const streamed = new Map<string, Dispatcher.CalledMethod>()
    const methodOf = ({ body, method: name }: StreamedRequest): Dispatcher.CalledMethod => {
      const once = isStreamed(body)
      const methods = once ? streamed : whole
      let method = methods.get(name)
      if (method === undefined) {
        method = { name, idempotent: !once && isIdempotent(name), classify, span: methodSpan(name) }
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
        const { span, trace } = call
        if (span !== undefined) noteTarget(span, request.target)
        return trace === undefined
          ? sink.send(request, call)
          // The span of Effect's client keeps its response once it has ended, and what is sent is kept until the response has: it gets the ids alone.
          : Effect.withFiber((fiber) =>
            sink.send(
              joined(request, call, fiber),
              span === undefined ? { ...call, trace: Tracer.externalSpan(trace) } : call
            )
          )
      })
      return Effect.onExitPrimitive(sent, (exit) => {
        begun = undefined
        if (exit._tag === "Success") owner.keep(exit.value.body)
        else owner.release()
        return undefined
      })
    }
  })
