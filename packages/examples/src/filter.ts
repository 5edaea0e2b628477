/** Two filters: one above the balancer that signs every call, one below it that hears how long each attempt took. */
import { type Endpoint, Filter, RequestHeaders } from "@scales-rpc/core"
import { Mux } from "@scales-rpc/mux"
import { Context, Effect } from "effect"

/** Whom the calls are made for: what a filter needs becomes what the client's layer needs. */
export class Token extends Context.Service<Token, { readonly current: Effect.Effect<string> }>()("Token") {}

/** Sends an `authorization` header with every call, beside the headers that its caller set. */
export const signed = Filter.above(Mux, (inner) =>
  Effect.map(Token, ({ current }) => ({
    ...inner,
    send: (request, call) =>
      Effect.flatMap(current, (token) => {
        const headers = call.context.get(RequestHeaders) ?? []
        const context = call.context.with(RequestHeaders, [...headers, ["authorization", token]])
        return inner.send(request, { ...call, context })
      })
  })))

/** Tells of every attempt that took longer than `millis`, whatever it ended with. */
export const slow = (millis: number, tell: (endpoint: Endpoint, millis: number) => void) =>
  Filter.below(Mux, (inner, endpoint) =>
    Effect.succeed({
      ...inner,
      send: (request, attempt) =>
        Effect.suspend(() => {
          attempt.onEnd((_, took) => {
            if (took > millis) tell(endpoint, took)
          })
          return inner.send(request, attempt)
        })
    }))
