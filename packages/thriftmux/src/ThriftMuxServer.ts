/**
 * A ThriftMux server: handlers that are Effects, typed by the service, on an embedded mux server.
 *
 *     const EchoServer = ThriftMuxServer.layer(Echo, { passMessage: (message) => Effect.succeed(message), ... }, { port: 8080 })
 *
 * What a handler ends with reaches a client as Finagle's server would send it: a declared exception as itself; any other failure and a
 * defect as a Thrift application exception (`INTERNAL_ERROR`); `Nack` and `ErrorReply` of the mux package as the nack or the error
 * with flags that they are. A handler is interrupted when its caller discards the call or goes away.
 */
import type { InvalidOption } from "@scales-rpc/core"
import {
  ErrorReply,
  type ListenFailed,
  MuxServer,
  type MuxServerOptions,
  type MuxServerShape,
  Nack,
  serveMux
} from "@scales-rpc/mux"
import { type HandlersOf, type Limits, ThriftProcessor, type ThriftService } from "@scales-rpc/thrift"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"

/** Options of a ThriftMux server: those of the mux server, and what is accepted in a request. */
export interface ThriftMuxServerOptions extends MuxServerOptions {
  readonly thrift?: Limits | undefined
}

type MayRefuse<Methods> = {
  readonly [Name in keyof Methods]: Methods[Name] extends
    (...args: infer Args) => Effect.Effect<infer A, infer E, infer R>
    ? (...args: Args) => Effect.Effect<A, E | Nack | ErrorReply, R>
    : never
}

type ClientTypeOf<Service> = Service extends ThriftService<any, any, infer Client> ? Client : never

/** What implements a service, given as `typeof Echo`: a handler for each of its methods, each of which may need `R`. */
export type Handlers<Service, R = never> = MayRefuse<HandlersOf<ClientTypeOf<Service>, R>>

const refuses = (error: unknown): error is Nack | ErrorReply => error instanceof Nack || error instanceof ErrorReply

/** Serves until the scope closes, then drains. The result tells the address and the sessions. */
export const make = <Self, Id extends string, Client, R = never>(
  service: ThriftService<Self, Id, Client>,
  handlers: MayRefuse<HandlersOf<Client, R>>,
  options: ThriftMuxServerOptions = {}
): Effect.Effect<MuxServerShape, InvalidOption | ListenFailed, Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.gen(function*() {
    const processor = ThriftProcessor.make(
      service.definition,
      // Typed by the service above; from here on they are called by name.
      handlers as unknown as Readonly<Record<string, (...args: Array<unknown>) => Effect.Effect<unknown, unknown>>>,
      { passes: refuses, limits: options.thrift }
    )
    return yield* serveMux(
      (request) => Effect.map(processor.process(request.body), (body) => ({ body })),
      options
    )
  }) as Effect.Effect<MuxServerShape, InvalidOption | ListenFailed, Exclude<R, Scope.Scope> | Scope.Scope>

/** `make` as a layer. */
export const layer = <Self, Id extends string, Client, R = never>(
  service: ThriftService<Self, Id, Client>,
  handlers: MayRefuse<HandlersOf<Client, R>>,
  options: ThriftMuxServerOptions = {}
): Layer.Layer<MuxServer, InvalidOption | ListenFailed, Exclude<R, Scope.Scope>> =>
  Layer.effect(MuxServer, make(service, handlers, options)) as Layer.Layer<
    MuxServer,
    InvalidOption | ListenFailed,
    Exclude<R, Scope.Scope>
  >
