/**
 * A ThriftMux server: handlers that are Effects, typed by the service, on an embedded mux server.
 *
 *     const EchoServer = ThriftMuxServer.layer(Echo, { passMessage: (message) => Effect.succeed(message), ... }, { port: 8080 })
 *
 * What a handler ends with reaches a client as Finagle's server would send it: a declared exception as itself; any other failure and a
 * defect as a Thrift application exception (`INTERNAL_ERROR`); `Nack` and `ErrorReply` of the mux package as the nack or the error
 * with flags that they are. A handler is interrupted when its caller discards the call or goes away.
 */
import { type BuildError, Describe } from "@scales-rpc/core"
import {
  ErrorReply,
  type ListenFailed,
  MuxServer,
  type MuxServerOptions,
  type MuxServerRequest,
  type MuxServerShape,
  Nack
} from "@scales-rpc/mux"
import { type HandlersOf, type Limits, limitsOf, ThriftProcessor, type ThriftService } from "@scales-rpc/thrift"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"

/** Options of a ThriftMux server, whose label is the service's name by default: those of the mux server, whose `limits` are of a mux message, and of Thrift. */
export interface ThriftMuxServerOptions extends Omit<MuxServerOptions, "span"> {
  /** Of a Thrift message: what is accepted in a request and written in a reply; the defaults are those of `Limits`. */
  readonly thrift?: Limits | undefined
}

/** What any handler may fail with beside what its method declares. */
export type Refusal = Nack | ErrorReply

const isRefusal = (error: unknown): error is Refusal => error instanceof Nack || error instanceof ErrorReply

type ClientTypeOf<Service> = Service extends ThriftService<any, any, infer Client> ? Client : never

/** What implements a service, given as `typeof Echo`: a handler for each of its methods, each of which may need `R`. */
export type Handlers<Service, R = never> = HandlersOf<ClientTypeOf<Service>, R, Refusal>

/** What handlers need beside the scope of their call: a resource that a handler acquires is released before its reply leaves. */
type Needs<H> = Exclude<
  { [Name in keyof H]: H[Name] extends ThriftProcessor.Handler<infer R> ? R : never }[keyof H],
  Scope.Scope
>

/**
 * Serves until the scope closes, then drains. The result tells the address and the sessions. Fails with `ListenFailed` when the address
 * cannot be listened on, with `InvalidOption` for an option out of its range, and as `ServerSet.announce` does when it is to be announced.
 */
export const make = <Self, Id extends string, Client, H extends HandlersOf<Client, unknown, Refusal>>(
  service: ThriftService<Self, Id, Client>,
  handlers: H,
  options: ThriftMuxServerOptions = {}
): Effect.Effect<MuxServerShape, BuildError | ListenFailed, Needs<H> | Scope.Scope> =>
  MuxServer.makeObserved(
    (observed) =>
      Effect.gen(function*() {
        const { definition } = service
        const { process } = yield* ThriftProcessor.make(
          definition,
          // Typed by the service above; from here on they are called by name.
          handlers as unknown as Readonly<Record<string, ThriftProcessor.Handler<Needs<H> | Scope.Scope>>>,
          { passes: isRefusal, limits: options.thrift, observed }
        )
        yield* observed.register({
          role: "service",
          description: "handlers by method",
          options: Describe.given(options, {
            methods: { [definition.name]: Object.keys(handlers) },
            thrift: limitsOf(options.thrift)
          }),
          snapshot: () => observed.calls.snapshot
        })
        return ({ body }: MuxServerRequest) => Effect.map(Effect.scoped(process(body)), (body) => ({ body }))
      }),
    service.definition.name,
    {
      ...options,
      // The processor knows the method.
      span: () => undefined
    }
  )

/** `make` as a layer. */
export const layer = <Self, Id extends string, Client, H extends HandlersOf<Client, unknown, Refusal>>(
  service: ThriftService<Self, Id, Client>,
  handlers: H,
  options: ThriftMuxServerOptions = {}
): Layer.Layer<MuxServer, BuildError | ListenFailed, Needs<H>> =>
  Layer.effect(MuxServer, make(service, handlers, options))
