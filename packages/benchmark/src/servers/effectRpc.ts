/** The server of Effect's own rpc: its socket server. */
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as RpcServer from "effect/rpc/RpcServer"
import * as SocketServer from "effect/socket/SocketServer"
import { Echo, serialization } from "../effectRpc.ts"
import type { Server } from "./Server.ts"

const handlers = Echo.toLayer({ passMessage: (message) => Effect.succeed(message) })

/** Starts the server. */
export const start = async (): Promise<Server> => {
  const runtime = ManagedRuntime.make(
    RpcServer.layer(Echo, { disableTracing: true }).pipe(
      Layer.provide(handlers),
      Layer.provide(RpcServer.layerProtocolSocketServer),
      Layer.provide(serialization),
      Layer.provideMerge(NodeSocketServer.layer({ host: "127.0.0.1", port: 0 }))
    )
  )
  const { address } = await runtime.runPromise(SocketServer.SocketServer)
  if (address._tag === "UnixPathAddress") throw new Error("the server of Effect's rpc listens on no port")
  return { ports: [address.port], close: () => runtime.dispose() }
}
