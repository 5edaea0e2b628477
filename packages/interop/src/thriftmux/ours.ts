/** Our servers as Finagle's clients meet them: echo.thrift with the behaviour of Finagle's peer, and a record of what happened. */
import { ClientId, Destination, Dtab, RequestHeaders, Rpc, Trace } from "@scales-rpc/core"
import {
  Deadline,
  ErrorReply,
  MuxFailure,
  MuxServer,
  type MuxServerOptions,
  type MuxServerReply,
  type MuxServerShape,
  Nack,
  Retries
} from "@scales-rpc/mux"
import { ThriftMuxServer } from "@scales-rpc/thriftmux"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { Overdrawn, Refused } from "../../../examples/gen/echo_types.js"
import * as Events from "../Events.ts"
import { Echo } from "./echo.ts"

/** What a handler tells beside its answer. */
export interface HandlerEvent {
  readonly event: "index" | "interrupted" | "note"
  readonly [field: string]: unknown
}

/** What a handler sees of its call through `Rpc.Inbound`. */
export const seenInbound = Effect.map(Effect.service(Rpc.Inbound), (inbound) => {
  const { context, deadline, peer } = inbound!
  const trace = context.get(Trace)
  return {
    peer,
    deadline,
    clientId: context.get(ClientId),
    trace: trace && { ...trace },
    sent: context.get(Deadline),
    retries: context.get(Retries),
    dtab: context.get(Dtab),
    destination: context.get(Destination),
    headers: context.get(RequestHeaders),
    tenant: context.get({ id: "com.example.tenant", decode: (bytes) => Buffer.from(bytes).toString() })
  }
})

/** JSON of anything that a handler saw: 64-bit numbers as decimal text. */
export const json = (value: unknown): string =>
  JSON.stringify(value, (_, field) => typeof field === "bigint" ? String(field) : field)

/** The failure that a text asks for: as Finagle's peer does it. */
const refusal = (nackedOnce: Set<string>, text: string): Nack | ErrorReply | undefined => {
  switch (text) {
    case "nack":
      return new Nack({})
    case "nack-nonretryable":
      return new ErrorReply({ why: "not run", flags: MuxFailure.NonRetryable | MuxFailure.Rejected })
    case "failure-nonretryable":
      return new ErrorReply({ why: "no", flags: MuxFailure.NonRetryable })
  }
  if (!text.startsWith("once-nack:") || nackedOnce.has(text)) return undefined
  nackedOnce.add(text)
  return new Nack({})
}

/** Answers late, and tells when it is interrupted. */
const late = (millis: number, events: Events.Events<HandlerEvent>) =>
  Effect.sleep(millis).pipe(
    Effect.as("slow"),
    Effect.onInterrupt(() => Effect.sync(() => events.add({ event: "interrupted", millis })))
  )

const addressOf = (server: MuxServerShape): string => `127.0.0.1:${server.address.port}`

/** Waits for the n-th call. */
const counting = () => {
  const waiting = new Map<number, Deferred.Deferred<void>>()
  let calls = 0
  return {
    count: Effect.sync(() => {
      const waits = waiting.get(++calls)
      if (waits !== undefined) Deferred.doneUnsafe(waits, Effect.void)
    }),
    reached: (n: number) =>
      Effect.suspend(() => {
        if (calls >= n) return Effect.void
        const waits = waiting.get(n) ?? Deferred.makeUnsafe<void>()
        waiting.set(n, waits)
        return Deferred.await(waits)
      })
  }
}

/**
 * A ThriftMux server of ours; it drains when the scope closes. `pinged(n)` waits for the n-th call of `ping`; `seen` is the handler
 * of the method of that name.
 */
export const serve = (
  options: ThriftMuxServer.ThriftMuxServerOptions = {},
  seen: () => Effect.Effect<string> = () => Effect.map(seenInbound, json)
) =>
  Effect.gen(function*() {
    const events = yield* Events.make<HandlerEvent>()
    const nackedOnce = new Set<string>()
    const pings = counting()
    const server = yield* ThriftMuxServer.make(Echo, {
      ping: () => Effect.as(pings.count, "pong"),
      touch: () => Effect.void,
      passMessage: (message) => {
        const refused = refusal(nackedOnce, message.text)
        return refused === undefined ? Effect.succeed(message) : Effect.fail(refused)
      },
      echo: (message) => Effect.succeed(message),
      fail: (why, missing) => Effect.fail(String(missing) === "0" ? new Refused({ why }) : new Overdrawn({ missing })),
      crash: (why) => Effect.die(new TypeError(why)),
      slow: (millis) => late(millis, events),
      seen,
      blob: (bytes) => Effect.succeed(bytes),
      index: (index, names, ratio, flag, small, short) =>
        Effect.sync(() => {
          events.add({ event: "index", names, ratio, flag, small, short })
          return index
        }),
      note: (text) => Effect.sync(() => events.add({ event: "note", text }))
    }, options)
    return { server, events, pinged: pings.reached, address: addressOf(server), port: server.address.port }
  })

/**
 * A Mux server of ours: the first word of a body says what to do, any other body is answered by itself. `echoed(n)` waits for the n-th of
 * these; `seen` is what the word of that name is answered with.
 */
export const serveBodies = (
  options: MuxServerOptions = {},
  seen: (body: Uint8Array) => Effect.Effect<string> = () => Effect.map(seenInbound, json)
) =>
  Effect.gen(function*() {
    const events = yield* Events.make<HandlerEvent>()
    const nackedOnce = new Set<string>()
    const echoes = counting()
    const server = yield* MuxServer.make((request): Effect.Effect<MuxServerReply, string | Nack | ErrorReply> => {
      const text = Buffer.from(request.body).toString()
      const [word = "", rest = ""] = text.slice(0, 100).split(":")
      const answer = (text: string) => ({ body: Buffer.from(text) })
      const refused = refusal(nackedOnce, text)
      if (refused !== undefined) return Effect.fail(refused)
      switch (word) {
        case "error":
          return Effect.fail(rest)
        case "slow":
          return Effect.map(late(Number(rest), events), answer)
        case "seen":
          return Effect.map(seen(request.body), answer)
        default:
          return Effect.as(echoes.count, { body: request.body })
      }
    }, options)
    return { server, events, echoed: echoes.reached, address: addressOf(server), port: server.address.port }
  })
