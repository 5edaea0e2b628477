/** grpc-js: one channel, its unary call with a callback, protocol buffers by a static codec, no deadline. */
import * as grpc from "@grpc/grpc-js"
import { echo } from "../grpc.ts"
import { type Client, promising } from "../Load.ts"
import type { Reply, Work } from "../workload.ts"

const { path, requestSerialize, responseDeserialize } = echo.passMessage

/** Connects. */
export const connect = async (port: number): Promise<Client> => {
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure())
  await new Promise<void>((resolve, reject) => {
    client.waitForReady(Date.now() + 10_000, (error) => error === undefined ? resolve() : reject(error))
  })
  const call = ({ plain }: Work): Promise<Reply> =>
    new Promise((resolve, reject) => {
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, plain, (error, reply) => {
        if (error === null) resolve(reply!)
        else reject(error)
      })
    })
  return { ...promising(call), close: async () => client.close() }
}
