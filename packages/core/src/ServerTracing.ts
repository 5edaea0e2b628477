/** Traces at a server: what came with a request goes on in its handler, and the handler runs in a span of its own where a tracer listens. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import type { TraceId } from "./CallContext.ts"
import { ratio } from "./options.ts"
import { Inbound } from "./Rpc.ts"
import type { InvalidOption } from "./RpcError.ts"
import { decide, InboundSpan, isDecided, isRefused, isTrace, Unsampled } from "./TraceContext.ts"
import { begin, callerSpan, end, listening, type MethodSpan, note } from "./Tracing.ts"

/** Options of a server's traces. */
export interface ServerTracingOptions {
  /**
   * Which share of the traces that begin at this server is recorded, where a tracer listens, and of those that came undecided: 0 to 1. A trace that came
   * decided goes by that. Default 1: the tracer may still decide by itself.
   */
  readonly traceSampling?: number | undefined
}

/** Gives each request of a server the span that its handler is to be in. */
export class ServerTracing {
  /** Whether handlers have a tracer that somebody reads. */
  readonly listens: boolean
  readonly #sampling: number
  readonly #random: () => number

  /**
   * `context` is what handlers run in. Of traces that begin at this server, and of those that came undecided, `sampling` is the share that is
   * recorded; `random` gives numbers from 0 to 1.
   */
  constructor(context: Context.Context<never>, sampling: number, random: () => number) {
    const tracer = Context.get(context, Tracer.Tracer)
    this.listens = tracer !== Tracer.nativeTracer && Context.get(context, References.TracerEnabled)
    this.#sampling = sampling
    this.#random = random
  }

  /** As the options say; `context` is what handlers run in. Fails with `InvalidOption` for an option out of its range. */
  static readonly make = (
    options: ServerTracingOptions,
    context: Context.Context<never>
  ): Effect.Effect<ServerTracing, InvalidOption> =>
    Effect.map(ratio("traceSampling", options.traceSampling, 1), (sampling) => {
      const random = Context.get(context, Random.Random)
      return new ServerTracing(context, sampling, () => random.nextDoubleUnsafe())
    })

  /**
   * The span that a request came with, decided where somebody listens; `undefined`: none came, and a trace may begin here. Ids of 0 are none, whatever
   * peer sends them: only what was decided with them holds.
   */
  parentOf(trace: TraceId | undefined): Tracer.AnySpan | undefined {
    if (trace !== undefined && isTrace(trace)) {
      return new InboundSpan(!this.listens || isDecided(trace) ? trace : decide(trace, this.#sampled()))
    }
    const recorded = trace !== undefined && isDecided(trace) ? !isRefused(trace) : !this.listens || this.#sampled()
    return recorded ? undefined : new Unsampled(this.#random, false)
  }

  #sampled(): boolean {
    return this.#sampling >= 1 || this.#random() < this.#sampling
  }
}

/** A context without the span that something was built in: it is no parent of what is asked of it later. */
export const withoutSpan = <R>(context: Context.Context<R>): Context.Context<R> =>
  Context.omit(Tracer.ParentSpan)(context as Context.Context<R | Tracer.ParentSpan>) as Context.Context<R>

/** The host and the port of `host:port` or `[host]:port`; without a port, all of it. */
const peerOf = (peer: string): readonly [address: string, port: number | undefined] => {
  const [, bracketed, plain, port] = /^(?:\[(.*)\]|(.*)):(\d+)$/.exec(peer) ?? []
  return port === undefined ? [peer, undefined] : [bracketed ?? plain!, Number(port)]
}

/**
 * Runs the handler of a request, which may throw: in a span of kind server where a tracer listens and the trace is sampled, else as it is. The
 * sampling of a trace that begins here has been decided by `ServerTracing`.
 */
export const withServerSpan = <A, E, R>(
  method: MethodSpan,
  handler: () => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber): Effect.Effect<A, E, R> => {
    if (!listening(fiber)) return handler()
    const nanos = () => fiber.getRef(Clock.Clock).currentTimeNanosUnsafe()
    const span = begin(fiber, callerSpan(fiber), "server", method, nanos())
    if (span === undefined) return handler()
    const peer = fiber.getRef(Inbound)?.peer
    if (span.sampled && peer !== undefined && peer !== "") {
      const [address, port] = peerOf(peer)
      note(span, () => {
        span.attribute("client.address", address)
        if (port !== undefined) span.attribute("client.port", port)
      })
    }
    return Effect.onExitPrimitive(Effect.provideService(Effect.suspend(handler), Tracer.ParentSpan, span), (exit) => {
      end(span, method, exit, nanos())
      return undefined
    })
  })
