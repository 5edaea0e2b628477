/** The server of grpc-js: its own, which hands back the bytes of the request and so spares itself the codec. */
import * as grpc from "@grpc/grpc-js"
import { echo } from "../grpc.ts"
import type { Server } from "./Server.ts"

const asItIs = (bytes: Buffer): Buffer => bytes

/** Starts the server. */
export const start = async (): Promise<Server> => {
  const server = new grpc.Server({ "grpc.max_receive_message_length": -1 })
  server.addService(
    { passMessage: { ...echo.passMessage, requestDeserialize: asItIs, responseSerialize: asItIs } },
    {
      passMessage: (call: grpc.ServerUnaryCall<Buffer, Buffer>, callback: grpc.sendUnaryData<Buffer>) =>
        callback(null, call.request)
    }
  )
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) resolve(bound)
      else reject(error)
    })
  })
  return { ports: [port], close: async () => server.forceShutdown() }
}
