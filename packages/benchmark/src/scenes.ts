/** What is measured by turns: clients that are compared, over one payload, one number of servers, and each number of calls in flight. */
import type { ClientName } from "./peers.ts"
import type { Payload } from "./workload.ts"

/** Calls in flight. */
export type Level = 1 | 8 | 64 | 512

/** Clients that are measured by turns, each at every number of calls in flight. */
export interface Scene {
  readonly title: string
  readonly clients: ReadonlyArray<ClientName>
  readonly levels: ReadonlyArray<Level>
  readonly payload: Payload
  /** How many servers each client calls; `undefined`: what is its own. */
  readonly endpoints: number | undefined
}

const levels = [1, 8, 64, 512] as const

const ofPayload = (title: string, payload: Payload, levels: ReadonlyArray<Level>): Scene => ({
  title: `Payload of ${title}`,
  clients: ["floor", "ours", "thriftNpm", "grpcJs", "effectRpc", "undiciJson"],
  levels,
  payload,
  endpoints: undefined
})

const ofEndpoints = (endpoints: number): Scene => ({
  title: `${endpoints} endpoints`,
  clients: ["floor", "ours"],
  levels,
  payload: 86,
  endpoints
})

/** By name, in the order in which they are measured. */
export const scenes = {
  mux: {
    title: "One endpoint, the struct of 86 bytes",
    // Those that ours is measured against most closely are its neighbours.
    clients: [
      "floor",
      "ours",
      "oursQuiet",
      "oursTraced",
      "oursPromise",
      "thriftNpm",
      "grpcJs",
      "effectRpc",
      "undiciJson",
      "scalesPython",
      "finagle",
      "finagleQuiet"
    ],
    levels,
    payload: 86,
    endpoints: undefined
  },
  framed: {
    title: "Framed Thrift",
    clients: [
      "oursBinary1",
      "npmBinary1",
      "oursBinary8",
      "npmBinary8",
      "oursCompact1",
      "npmCompact1",
      "oursCompact8",
      "npmCompact8"
    ],
    levels,
    payload: 86,
    endpoints: undefined
  },
  http: {
    title: "HTTP",
    clients: [
      "undici",
      "oursHttp",
      "effectHttp",
      "oursBalancedHttp",
      "undiciFour",
      "oursHttpFour",
      "effectHttpFour",
      "oursBalancedHttpFour"
    ],
    levels,
    payload: 86,
    endpoints: undefined
  },
  payload4k: ofPayload("4 KiB", 4096, levels),
  // With 512 in flight a gigabyte would be on its way, and it is the machine's memory that is measured.
  payload1m: ofPayload("1 MiB", 1_048_576, [1, 8, 64]),
  endpoints10: ofEndpoints(10),
  endpoints1000: ofEndpoints(1000)
} as const satisfies Record<string, Scene>

/** The name of a scene. */
export type SceneName = keyof typeof scenes

/** The names, in order. */
export const sceneNames = Object.keys(scenes) as ReadonlyArray<SceneName>

/** A client with a number of calls in flight. */
export interface Cell {
  readonly client: ClientName
  readonly level: Level
}

/** All of a scene's, level by level. */
export const cellsOf = (name: SceneName): ReadonlyArray<Cell> => {
  const scene: Scene = scenes[name]
  return scene.levels.flatMap((level) => scene.clients.map((client) => ({ client, level })))
}
