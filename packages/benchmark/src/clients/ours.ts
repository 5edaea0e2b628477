/** Ours: the typed client through the full default stack, called from Effect fibers, or by a Promise a call. */
import { type Protocol, Thrift } from "@scales-rpc/thrift"
import { ThriftMux } from "@scales-rpc/thriftmux"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Tracer from "effect/Tracer"
import { type Client, promising } from "../Load.ts"
import { Echo, method } from "../workload.ts"
import { looping } from "./fibers.ts"

const uriOf = (ports: ReadonlyArray<number>): string => `tcp://${ports.map((port) => `127.0.0.1:${port}`).join(",")}`

const open = (ports: ReadonlyArray<number>) => ManagedRuntime.make(ThriftMux.layer(Echo, { uri: uriOf(ports) }))

/** A fiber for each call in flight. */
const byFibers = async (runtime: ReturnType<typeof open>): Promise<Client> => {
  const echo = await runtime.runPromise(Echo)
  return looping(runtime, ({ message }) => echo[method](message))
}

/** Over mux, a fiber for each call in flight. */
export const connect = (...ports: ReadonlyArray<number>): Promise<Client> => byFibers(open(ports))

/** The same with nothing recorded of its calls. */
export const connectQuiet = (...ports: ReadonlyArray<number>): Promise<Client> =>
  byFibers(ManagedRuntime.make(ThriftMux.layer(Echo, { uri: uriOf(ports), metrics: false })))

/** Makes spans as Effect's own tracer does; nothing exports them, which is not the client's to pay. */
const recording = Tracer.make({ span: (options) => new Tracer.NativeSpan(options) })

/** The same as `connect` with a tracer, and one trace in a hundred sampled. */
export const connectTraced = (...ports: ReadonlyArray<number>): Promise<Client> =>
  byFibers(ManagedRuntime.make(
    ThriftMux.layer(Echo, { uri: uriOf(ports), traceSampling: 0.01 }).pipe(
      Layer.provideMerge(Layer.succeed(Tracer.Tracer, recording))
    )
  ))

/**
 * Over framed Thrift, a fiber for each call in flight: one call at a time on each of so many connections, the others wait. With fewer
 * calls than connections, those that are left over are not opened.
 */
export const connectFramed = (protocol: Protocol, connections: number) => (port: number): Promise<Client> =>
  byFibers(ManagedRuntime.make(
    Thrift.layer(Echo, {
      uri: `tcp://127.0.0.1:${port}`,
      protocol,
      connections: { low: connections, high: connections }
    })
  ))

/** Over mux, each call run by itself and awaited, as a program without Effect does. */
export const connectByPromise = async (...ports: ReadonlyArray<number>): Promise<Client> => {
  const runtime = open(ports)
  const echo = await runtime.runPromise(Echo)
  return {
    ...promising(({ message }) => runtime.runPromise(echo[method](message))),
    close: () => runtime.dispose()
  }
}
