/** Clients of ours for the cases: any method and body, answers as plain values, and a body that still comes piece by piece. */
import { HeapBalancer } from "@scales-rpc/core"
import {
  type HeaderFields,
  Http,
  HttpBody,
  type HttpReply,
  HttpService,
  HttpWire,
  type RequestBody
} from "@scales-rpc/http"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { build } from "../thriftmux/echo.ts"

/** The service that the cases call. */
class Site extends HttpService<Site>()("Site") {}

/** Options of a client. */
export type Options = Http.HttpOptions & Partial<typeof unguarded>

/** What a call sends besides its target. */
export interface Sent {
  /** Default `GET`. */
  readonly method?: string
  readonly headers?: HeaderFields
  readonly body?: RequestBody | undefined
}

/** An answer. */
export interface Answer {
  readonly status: number
  readonly reason: string
  readonly headers: HeaderFields
  readonly trailers: HeaderFields
  readonly body: Buffer
  /** The body as text. */
  readonly text: string
  readonly header: (name: string) => string | undefined
}

const bodyOf = (body: RequestBody): HttpBody.HttpBody =>
  body instanceof Uint8Array ? HttpBody.bytes(body) : HttpBody.stream(body.stream, { length: body.length })

/** No status is a failure here: the cases look at them. */
const callOf = ({ body, headers }: Sent) => {
  const fields: Record<string, Array<string>> = {}
  for (const [name, value] of headers ?? []) (fields[name] ??= []).push(value)
  return { headers: fields, body: body === undefined ? undefined : bodyOf(body), statusErrors: false }
}

const answerOf = (reply: HttpReply): Answer => ({
  status: reply.status,
  reason: reply.reason,
  headers: reply.headers,
  trailers: reply.trailers,
  body: Buffer.from(reply.bytes),
  text: reply.text,
  header: (name) => reply.header(name)
})

/** Takes no endpoint out of use: for cases of what one connection does, and then another one to the same server. */
export const unguarded = { breaker: Layer.effect(HttpWire.Endpoints, HttpWire.Endpoints) } satisfies Http.Roles<
  never,
  never,
  never,
  never,
  "Http/Endpoints",
  never,
  never
>

/** A client of these servers over its default stack, but that it uses all of them from its first call on: without an aperture. */
export const connect = (uri: string, options: Options = {}) =>
  Effect.map(
    build(Site, Http.layer(Site, { balancer: HeapBalancer.layer(HttpWire), ...options, uri })),
    ({ client, describe, state }) => ({
      state,
      describe,
      /** As its users have it. */
      site: client,
      /** A call that is answered whole. */
      send: (target: string, sent: Sent = {}) =>
        Effect.map(client.request(sent.method ?? "GET", target, callOf(sent)), answerOf),
      /** One whose body still comes: `read` takes all that comes of it, and what it fails with. */
      open: (target: string, sent: Sent = {}) =>
        Effect.map(client.stream(sent.method ?? "GET", target, callOf(sent)), (reply) => {
          let collected = ""
          const taken = Stream.runForEach(reply.stream, (chunk) =>
            Effect.sync(() => {
              collected += Buffer.from(chunk).toString("latin1")
            }))
          return {
            status: reply.status,
            stream: reply.stream,
            read: Effect.matchEager(taken, {
              onSuccess: () => ({ collected, failed: undefined }),
              onFailure: (failed) => ({ collected, failed })
            })
          }
        })
    })
  )
