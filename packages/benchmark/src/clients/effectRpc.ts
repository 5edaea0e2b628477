/** Effect's own rpc over one TCP socket, without its tracing, called from fibers. */
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as RpcClient from "effect/rpc/RpcClient"
import { Echo, serialization } from "../effectRpc.ts"
import type { Client } from "../Load.ts"
import { looping } from "./fibers.ts"

const make = RpcClient.make(Echo, { disableTracing: true })

class EchoClient extends Context.Service<EchoClient, Effect.Success<typeof make>>()("benchmark/EchoClient") {}

/** Connects. */
export const connect = async (port: number): Promise<Client> => {
  const runtime = ManagedRuntime.make(
    Layer.effect(EchoClient, make).pipe(
      Layer.provide(RpcClient.layerProtocolSocket()),
      Layer.provide(serialization),
      Layer.provide(NodeSocket.layerNet({ host: "127.0.0.1", port }))
    )
  )
  const client = await runtime.runPromise(EchoClient)
  return looping(runtime, ({ plain }) => client.passMessage(plain))
}
