/** Ours: the typed client through the full default stack, called from Effect fibers, or by a Promise a call. */
import { type Protocol, Thrift } from "@scales-rpc/thrift"
import { ThriftMux } from "@scales-rpc/thriftmux"
import * as ManagedRuntime from "effect/ManagedRuntime"
import type { Client, Load } from "../Load.ts"
import { Echo, message, method } from "../workload.ts"
import { looping } from "./fibers.ts"

const open = (port: number) => ManagedRuntime.make(ThriftMux.layer(Echo, { uri: `tcp://127.0.0.1:${port}` }))

/** A fiber for each call in flight. */
const byFibers = async (runtime: ReturnType<typeof open>): Promise<Client> => {
  const echo = await runtime.runPromise(Echo)
  return looping(runtime, () => echo[method](message))
}

/** Over mux, a fiber for each call in flight. */
export const connect = (port: number): Promise<Client> => byFibers(open(port))

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
export const connectByPromise = async (port: number): Promise<Client> => {
  const runtime = open(port)
  const echo = await runtime.runPromise(Echo)
  const calls = async (load: Load) => {
    do load.accept(await runtime.runPromise(echo[method](message)))
    while (load.running)
  }
  return {
    drive: async (inFlight, load) => {
      await Promise.all(Array.from({ length: inFlight }, () => calls(load)))
    },
    close: () => runtime.dispose()
  }
}
