/** What an HTTP call costs without a stack: pools of undici, and Effect's own client on undici. */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { Pool } from "undici"
import type { Client, Load } from "../Load.ts"
import { looping } from "./fibers.ts"

/** These, one after the other, again and again. */
const inTurn = <A>(all: ReadonlyArray<A>): () => A => {
  let next = 0
  return () => {
    const one = all[next]!
    next = next + 1 === all.length ? 0 : next + 1
    return one
  }
}

/** A pool of undici for each server, with as many connections as there are calls in flight; with several they are used in turn, call by call. */
export const connect = async (...ports: ReadonlyArray<number>): Promise<Client> => {
  const pools = ports.map((port) => new Pool(`http://127.0.0.1:${port}`))
  const poolOf = inTurn(pools)
  const calls = async (load: Load) => {
    do {
      const { body, statusCode } = await poolOf().request({ method: "GET", path: "/message" })
      if (statusCode !== 200) throw new Error(`status ${statusCode}`)
      load.accept(await body.text())
    } while (load.running)
  }
  return {
    drive: async (inFlight, load) => {
      await Promise.all(Array.from({ length: inFlight }, () => calls(load)))
    },
    close: async () => {
      await Promise.all(pools.map((pool) => pool.destroy()))
    }
  }
}

/** Effect's client on undici, with as many connections as there are calls in flight; with several servers they are used in turn. */
export const connectEffect = async (...ports: ReadonlyArray<number>): Promise<Client> => {
  const runtime = ManagedRuntime.make(NodeHttpClient.layerUndici)
  const client = HttpClient.filterStatusOk(await runtime.runPromise(HttpClient.HttpClient))
  const urlOf = inTurn(ports.map((port) => `http://127.0.0.1:${port}/message`))
  return looping(runtime, () => Effect.flatMap(client.get(urlOf()), (response) => response.text))
}
