/** What an HTTP call costs without a stack: pools of undici, and Effect's own client on undici. */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { Pool } from "undici"
import { type Client, promising } from "../Load.ts"
import type { Plain, Reply, Work } from "../workload.ts"
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
const pooled = (ports: ReadonlyArray<number>, call: (pool: Pool, work: Work) => Promise<Reply>): Client => {
  const pools = ports.map((port) => new Pool(`http://127.0.0.1:${port}`))
  const poolOf = inTurn(pools)
  return {
    ...promising((work) => call(poolOf(), work)),
    close: async () => {
      await Promise.all(pools.map((pool) => pool.destroy()))
    }
  }
}

const ok = (status: number): void => {
  if (status !== 200) throw new Error(`status ${status}`)
}

/** A GET, its body as text. */
export const connect = async (...ports: ReadonlyArray<number>): Promise<Client> =>
  pooled(ports, async (pool) => {
    const { body, statusCode } = await pool.request({ method: "GET", path: "/message" })
    ok(statusCode)
    return body.text()
  })

const jsonHeaders = { "content-type": "application/json" }

/** A POST of the struct as JSON, made of it and read into it again. */
export const connectJson = async (...ports: ReadonlyArray<number>): Promise<Client> =>
  pooled(ports, async (pool, { plain }) => {
    const { body, statusCode } = await pool.request({
      method: "POST",
      path: "/message",
      headers: jsonHeaders,
      body: JSON.stringify(plain)
    })
    ok(statusCode)
    return await body.json() as Plain
  })

/** Effect's client on undici, with as many connections as there are calls in flight; with several servers they are used in turn. */
export const connectEffect = async (...ports: ReadonlyArray<number>): Promise<Client> => {
  const runtime = ManagedRuntime.make(NodeHttpClient.layerUndici)
  const client = HttpClient.filterStatusOk(await runtime.runPromise(HttpClient.HttpClient))
  const urlOf = inTurn(ports.map((port) => `http://127.0.0.1:${port}/message`))
  return looping(runtime, () => Effect.flatMap(client.get(urlOf()), (response) => response.text))
}
