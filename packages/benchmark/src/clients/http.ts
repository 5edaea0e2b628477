/** Ours over HTTP: the lean client, and Effect's own client interface, each through the full default stack, called from fibers. */
import { BalancedHttpClient, Http, HttpService } from "@scales-rpc/http"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as ManagedRuntime from "effect/ManagedRuntime"
import type { Client } from "../Load.ts"
import { looping } from "./fibers.ts"

class Site extends HttpService<Site>()("Site") {}

const uriOf = (ports: ReadonlyArray<number>): string => `tcp://${ports.map((port) => `127.0.0.1:${port}`).join(",")}`

/** The lean client. */
export const connect = async (...ports: ReadonlyArray<number>): Promise<Client> => {
  const runtime = ManagedRuntime.make(Http.layer(Site, { uri: uriOf(ports) }))
  const site = await runtime.runPromise(Site)
  return looping(runtime, () => Effect.map(site.get("/message"), ({ text }) => text))
}

/** Effect's `HttpClient` over the stack. */
export const connectBalanced = async (...ports: ReadonlyArray<number>): Promise<Client> => {
  const runtime = ManagedRuntime.make(BalancedHttpClient.layer({ uri: uriOf(ports) }))
  const client = HttpClient.filterStatusOk(await runtime.runPromise(HttpClient.HttpClient))
  return looping(runtime, () => Effect.flatMap(client.get("/message"), (response) => response.text))
}
