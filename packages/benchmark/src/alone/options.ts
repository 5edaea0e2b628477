/**
 * What each option of the ready-made client costs: CPU a call with it, against the client with its defaults, at 64 calls in flight. Each in a process of
 * its own, by turns, all against one server.
 */
import {
  type Endpoint,
  type EndpointSink,
  Filter,
  HeapBalancer,
  type MessageSink,
  Resurrector,
  Rpc,
  type RpcError
} from "@scales-rpc/core"
import { Mux, type MuxRequest, type MuxResponse } from "@scales-rpc/mux"
import { ThriftMux } from "@scales-rpc/thriftmux"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Tracer from "effect/Tracer"
import { looping } from "../clients/fibers.ts"
import { type Client, Load } from "../Load.ts"
import { neighbourRatios, summarize, type Summary } from "../statistics.ts"
import { Echo, method } from "../workload.ts"
import { answering, type Extent, Isolated } from "./isolated.ts"
import { startServers } from "./muxServers.ts"

interface Server {
  readonly uri: string
  readonly ca: string | undefined
}

type EchoLayer = Layer.Layer<Echo, unknown>

/** Makes spans as Effect's own tracer does; of those that are sampled nothing is exported, which is not the client's to pay. */
const tracing = (share: number): Layer.Layer<never> =>
  Layer.sync(Tracer.Tracer, () => {
    let calls = 0
    return Tracer.make({
      span: (options) => new Tracer.NativeSpan({ ...options, sampled: ++calls % Math.round(1 / share) === 0 })
    })
  })

const sinkAbove = (inner: MessageSink<MuxRequest, MuxResponse, RpcError>) =>
  Effect.succeed({ ...inner, send: (...args: Parameters<typeof inner.send>) => inner.send(...args) })

const sinkBelow = (inner: EndpointSink<MuxRequest, MuxResponse, RpcError>, _endpoint: Endpoint) =>
  Effect.succeed({ ...inner, send: (...args: Parameters<typeof inner.send>) => inner.send(...args) })

/** Each option by what it is called in the table. */
const variants = {
  defaults: ({ uri }: Server) => ThriftMux.layer(Echo, { uri }),
  "`metrics: false`": ({ uri }: Server) => ThriftMux.layer(Echo, { uri, metrics: false }),
  "a tracer that samples 1 %": ({ uri }: Server) => Layer.provideMerge(ThriftMux.layer(Echo, { uri }), tracing(0.01)),
  "a tracer that samples all": ({ uri }: Server) => Layer.provideMerge(ThriftMux.layer(Echo, { uri }), tracing(1)),
  "`mux.tls`": ({ ca, uri }: Server) => ThriftMux.layer(Echo, { uri, mux: { tls: { ca: ca! } } }),
  "a filter above, `Filter.above`": ({ uri }: Server) =>
    ThriftMux.layer(Echo, { uri, above: Filter.above(Mux, sinkAbove) }),
  "a filter below, `Filter.below`": ({ uri }: Server) =>
    ThriftMux.layer(Echo, { uri, below: Filter.below(Mux, sinkBelow) }),
  "calls that may run twice, `Rpc.idempotent`": ({ uri }: Server) => ThriftMux.layer(Echo, { uri }),
  "the same with `hedge: {}`": ({ uri }: Server) => ThriftMux.layer(Echo, { uri, hedge: {} }),
  "no failure accrual": ({ uri }: Server) => ThriftMux.layer(Echo, { uri, breaker: Resurrector.layer(Mux) }),
  "`balancer: HeapBalancer.layer(Mux)`": ({ uri }: Server) =>
    ThriftMux.layer(Echo, { uri, balancer: HeapBalancer.layer(Mux) })
} satisfies Record<string, (server: Server) => EchoLayer>

/** What is set. */
export type OptionName = keyof typeof variants

const idempotent: ReadonlyArray<OptionName> = [
  "calls that may run twice, `Rpc.idempotent`",
  "the same with `hedge: {}`"
]

/** One option: microseconds a call, and how many times those of the defaults. */
export interface OptionCost {
  readonly name: OptionName
  readonly microsPerCall: Summary
  readonly ratio: Summary
}

type Task =
  | { readonly _tag: "Connect"; readonly name: OptionName; readonly server: Server }
  | { readonly _tag: "Measure"; readonly millis: number }

let client: Client | undefined

const connect = async (name: OptionName, server: Server): Promise<Client> => {
  const runtime = ManagedRuntime.make((variants[name] as (server: Server) => EchoLayer)(server))
  const echo = await runtime.runPromise(Echo)
  const call = (message: Parameters<typeof echo.passMessage>[0]) => echo[method](message)
  return looping(
    runtime,
    idempotent.includes(name) ? ({ message }) => Rpc.idempotent(call(message)) : ({ message }) => call(message)
  )
}

/** CPU microseconds a call, over a window of a closed loop. */
const cost = async (driven: Client, millis: number): Promise<number> => {
  const load = new Load()
  const done = driven.drive(64, load)
  await new Promise((resolve) => setTimeout(resolve, 40))
  const cpu = process.cpuUsage()
  const before = load.replies
  await new Promise((resolve) => setTimeout(resolve, millis))
  const { system, user } = process.cpuUsage(cpu)
  const calls = load.replies - before
  load.stop()
  await done
  return (user + system) / calls
}

const answerTask = async (task: Task): Promise<number> => {
  if (task._tag === "Measure") return cost(client!, task.millis)
  client = await connect(task.name, task.server)
  return 0
}

/** Rounds that are the compiler's. */
const warmUps = 5

/** Measures each option; `quick` measures nothing. */
export const measureOptions = async (
  extent: Extent,
  progress: (line: string) => void
): Promise<ReadonlyArray<OptionCost>> => {
  if (extent === "quick") return []
  const { millis, rounds } = extent === "full" ? { rounds: 25, millis: 250 } : { rounds: 7, millis: 150 }
  const names = Object.keys(variants) as ReadonlyArray<OptionName>
  const plain = await startServers(1)
  const secure = await startServers(1, true)
  const children = names.map(() => new Isolated<Task, number>(import.meta.url))
  try {
    for (const [i, name] of names.entries()) {
      const { ca, ports } = name === "`mux.tls`" ? secure : plain
      const server = { uri: `tcp://localhost:${ports[0]!}`, ca }
      await children[i]!.ask({ _tag: "Connect", name, server })
    }
    const costs = names.map((): Array<number> => [])
    for (let round = -warmUps; round < rounds; round++) {
      progress(`options: round ${round + warmUps + 1} of ${rounds + warmUps}`)
      // There and back again, so that none always comes after the same one.
      const order = round % 2 === 0 ? names.keys() : names.map((_, i) => names.length - 1 - i)
      for (const i of order) {
        const micros = await children[i]!.ask({ _tag: "Measure", millis })
        if (round >= 0) costs[i]!.push(micros)
      }
    }
    return names.map((name, i) => ({
      name,
      microsPerCall: summarize(costs[i]!),
      ratio: summarize(neighbourRatios(costs[i]!, costs[0]!))
    }))
  } finally {
    await Promise.all(children.map((child) => child.stop()))
    await Promise.all([plain.stop(), secure.stop()])
  }
}

answering(import.meta, answerTask)
