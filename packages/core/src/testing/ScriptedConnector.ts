/** A connector whose endpoints do what the test says: refuse, accept, answer, break, drain. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { abortFailure } from "../Abort.ts"
import type { Attempt } from "../Call.ts"
import type { Endpoint } from "../Endpoint.ts"
import { ConnectFailed, ConnectionClosed, type RpcError } from "../RpcError.ts"
import type { Connector, Family } from "../Sink.ts"
import { type SinkState, StatusCell } from "../Status.ts"

/** One connection that was opened. */
export interface ScriptedConnection {
  readonly endpoint: Endpoint
  readonly status: StatusCell
  /** Exchanges begun and not ended. */
  outstanding: number
  /** Its scope was closed. */
  released: boolean
}

/** What the endpoints do now; a test changes it while calls run. Endpoints are named by their key. */
export interface Script<Req, Res, E> {
  /** Answers a request. Default: every request is answered with `undefined as Res`; give one. */
  answer: (request: Req, attempt: Attempt) => Effect.Effect<Res, E>
  /** Runs before a connection is there. Default: at once. */
  connecting: (endpoint: Endpoint) => Effect.Effect<void, RpcError>
  /** The status that new connections begin with. Default: Open. */
  born: { readonly state: SinkState; readonly fault?: RpcError | undefined } | undefined
  /** Refuses new connections to an endpoint. */
  readonly refuse: (key: string) => void
  /** Accepts connections again. */
  readonly accept: (key: string) => void
  /** Breaks every connection to an endpoint: with a fault by default, or as its peer would close a drained one. */
  readonly breakAll: (key: string, options?: { readonly drained?: boolean }) => void
  /** Sets the state of every connection to an endpoint. */
  readonly setState: (key: string, state: SinkState, fault?: RpcError) => void
  /** Every attempt to connect so far, by endpoint. */
  readonly attempts: Map<string, number>
  /** Every connection that was made, also those that have ended. */
  readonly connections: Array<ScriptedConnection>
  /** Connections whose scope is open. */
  readonly live: () => ReadonlyArray<ScriptedConnection>
}

/** The script behind the layers of `layer`. */
export class ScriptedConnector extends Context.Service<ScriptedConnector, Script<any, any, any>>()(
  "@scales-rpc/core/testing/ScriptedConnector"
) {}

/** A script and the connector that follows it. */
export const make = <Req, Res, E>(
  answer: (request: Req, attempt: Attempt) => Effect.Effect<Res, E>
): { readonly script: Script<Req, Res, E>; readonly connector: Connector<Req, Res, E | RpcError> } => {
  const refused = new Set<string>()
  const connections: Array<ScriptedConnection> = []
  const attempts = new Map<string, number>()
  const live = () => connections.filter((connection) => !connection.released)
  const of = (key: string) => live().filter((connection) => connection.endpoint.key === key)
  const script: Script<Req, Res, E> = {
    answer,
    connecting: () => Effect.void,
    born: undefined,
    refuse: (key) => void refused.add(key),
    accept: (key) => void refused.delete(key),
    breakAll: (key, options) => {
      for (const { endpoint, status } of of(key)) {
        if (options?.drained === true) status.set("Closed")
        else status.set("Closed", new ConnectionClosed({ endpoint, reached: "maybe", cause: "broken by the script" }))
      }
    },
    setState: (key, state, fault) => {
      for (const { status } of of(key)) status.set(state, fault)
    },
    attempts,
    connections,
    live
  }
  const connector: Connector<Req, Res, E | RpcError> = {
    connect: (endpoint) =>
      Effect.gen(function*() {
        attempts.set(endpoint.key, (attempts.get(endpoint.key) ?? 0) + 1)
        yield* script.connecting(endpoint)
        if (refused.has(endpoint.key)) {
          return yield* new ConnectFailed({ endpoint, phase: "connect", cause: "refused by the script" })
        }
        const connection: ScriptedConnection = {
          endpoint,
          status: new StatusCell(script.born?.state ?? "Open", script.born?.fault),
          outstanding: 0,
          released: false
        }
        connections.push(connection)
        yield* Effect.addFinalizer(() =>
          Effect.sync(() => {
            connection.released = true
            connection.status.set("Closed")
          })
        )
        return {
          status: connection.status,
          open: Effect.void,
          send: (request, attempt) => exchange(script, connection, request, attempt)
        }
      })
  }
  return { script, connector }
}

/** One exchange: ends with the script's answer, with the connection, or with the call's abort. */
const exchange = <Req, Res, E>(
  script: Script<Req, Res, E>,
  connection: ScriptedConnection,
  request: Req,
  attempt: Attempt
): Effect.Effect<Res, E | RpcError> =>
  Effect.suspend(() => {
    const { status } = connection
    let begun = false
    const closed = () =>
      Effect.fail(
        status.fault ?? new ConnectionClosed({ endpoint: connection.endpoint, reached: "maybe", cause: "closed" })
      )
    const broken = Effect.callback<never, RpcError>((resume) => {
      if (status.state === "Closed") return resume(closed())
      const off = status.subscribe(() => {
        if (status.state !== "Closed") return
        off()
        resume(closed())
      })
      return Effect.sync(off)
    })
    return Effect.onExitPrimitive(
      Effect.suspend(() => {
        begun = true
        connection.outstanding++
        return Effect.raceFirst(Effect.raceFirst(script.answer(request, attempt), broken), aborted(attempt))
      }),
      () => {
        if (begun) connection.outstanding--
        return undefined
      }
    )
  })

/** Fails when the attempt's call is aborted. */
const aborted = (attempt: Attempt): Effect.Effect<never, RpcError> =>
  Effect.callback((resume) => {
    const fail = (reason: NonNullable<typeof attempt.abort.reason>) =>
      resume(Effect.fail(abortFailure(reason, { waiting: "reply", reached: "maybe", endpoint: attempt.endpoint })))
    if (attempt.abort.reason !== undefined) return fail(attempt.abort.reason)
    const listener = { onAbort: fail }
    attempt.abort.on(listener)
    return Effect.sync(() => attempt.abort.off(listener))
  })

/** The connector of a family, with its script as the service `ScriptedConnector`. */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  answer: (request: Req, attempt: Attempt) => Effect.Effect<Res, E | RpcError>
): Layer.Layer<`${Id}/Connector` | ScriptedConnector> =>
  Layer.effectContext(Effect.sync(() => {
    const { connector, script } = make(answer)
    return Context.make(family.Connector, family.Connector.of(connector)).pipe(
      Context.add(ScriptedConnector, script as Script<any, any, any>)
    )
  }))
