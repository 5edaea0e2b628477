/** Clients of ours that send bodies of bytes, over the family of mux itself. */
import {
  classifyExit,
  Dispatcher,
  HeapBalancer,
  Requeue,
  Resurrector,
  type RpcError,
  ServerSet,
  SingletonPool,
  Stack
} from "@scales-rpc/core"
import { Mux, MuxTransport } from "@scales-rpc/mux"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { build } from "./echo.ts"

/** Sends bodies. */
class Body extends Context.Service<Body, {
  readonly send: (body: string | Uint8Array) => Effect.Effect<Buffer, RpcError>
}>()("@scales-rpc/interop/Body") {
  static readonly layer = (uri: string, options?: MuxTransport.MuxTransportOptions) =>
    Layer.effect(
      Body,
      Effect.gen(function*() {
        const sink = yield* Mux.Balanced
        const { dispatch } = yield* Dispatcher.make({ service: "body", timeout: "10 seconds" })
        const method = { name: "send", idempotent: false, classify: classifyExit }
        return Body.of({
          send: (body) =>
            // A reply's body is a view of what the socket gave.
            Effect.map(
              dispatch(method, (call) => sink.send({ body: Buffer.from(body) }, call)),
              (response) => Buffer.from(response.body)
            )
        })
      })
    ).pipe(
      Layer.provide(Requeue.layer(Mux)),
      Layer.provide(HeapBalancer.layer(Mux)),
      Layer.provide(Resurrector.layer(Mux)),
      Layer.provide(SingletonPool.layer(Mux)),
      Layer.provide(MuxTransport.layer(options)),
      Layer.provide(ServerSet.fromUri(uri)),
      Layer.provide(Stack.layer("body"))
    )
}

/** A client of these servers. */
export const connectBody = (uri: string, options?: MuxTransport.MuxTransportOptions) =>
  Effect.map(build(Body, Body.layer(uri, options)), ({ client, state }) => ({
    state,
    send: client.send,
    text: (body: string) => Effect.map(client.send(body), String)
  }))

/** The i-th of many bodies, each unlike its neighbours; it dies when the reply is another's. */
export const checkedBody = (text: (body: string) => Effect.Effect<string, RpcError>, i: number) => {
  const body = `${i} `.padEnd((i * 37) % 300, "-")
  return Effect.map(text(body), (reply) => assert.equal(reply, body))
}
