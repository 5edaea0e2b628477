/** Measures the clients of a scene by turns, so that what disturbs the machine disturbs all alike. */
import { Child, cpuOf, type Memory, nodeProgram, type Program, type Sample, type Timed } from "./Child.ts"
import { type ClientName, clients, foreignClientNames, foreignClients, isNode, type ServerName } from "./peers.ts"
import { type Cell, type Level, type Scene, type SceneName, scenes } from "./scenes.ts"
import { isSteady } from "./statistics.ts"
import type { Payload } from "./workload.ts"

/** How much is measured. */
export interface Size {
  /** Times that all processes are started anew: the compiler does not decide the same in each. */
  readonly starts: number
  /** Rounds with each set of processes. */
  readonly rounds: number
  /** Rounds with each set in which calls are timed, and what they allocate is counted: apart from CPU, because it costs some. */
  readonly looks: number
  /** The window of one measurement in milliseconds. */
  readonly millis: number
}

/** What one client showed at one number of calls in flight; index i of all series of a scene is the same round. */
export interface CellSeries extends Cell {
  readonly samples: ReadonlyArray<Sample>
  readonly timed: ReadonlyArray<Timed>
  readonly memory: ReadonlyArray<Memory>
}

/** All of a scene. */
export interface SceneSeries {
  readonly scene: SceneName
  readonly cells: ReadonlyArray<CellSeries>
  readonly rounds: number
}

/** The clients that this machine cannot have, each with what is missing and how to get it. */
export type Absent = ReadonlyMap<ClientName, string>

/** Builds and installs what clients in other languages need, and tells which cannot be had. */
export const prepareForeign = async (progress: (text: string) => void): Promise<Absent> => {
  const absent = new Map<ClientName, string>()
  for (const name of foreignClientNames) {
    const missing = await foreignClients[name].prepare()
    if (missing === undefined) continue
    absent.set(name, missing)
    progress(`${clients[name].title} is left out: ${missing}`)
  }
  return absent
}

/** All servers and clients of one start. */
export interface Processes {
  readonly clients: ReadonlyMap<ClientName, Child>
  readonly stop: () => Promise<void>
}

const programOf = (name: ClientName, ports: ReadonlyArray<number>): Program =>
  isNode(name) ? nodeProgram({ _tag: "Client", name, ports }) : foreignClients[name].program(ports)

/** Starts the clients that are named, and their servers before them: `endpoints` of each, or as many as are the client's own. */
export const startProcesses = async (names: ReadonlyArray<ClientName>, endpoints?: number): Promise<Processes> => {
  const countOf = (name: ClientName): number => endpoints ?? clients[name].servers
  const counts = new Map<ServerName, number>()
  for (const name of names) {
    const { server } = clients[name]
    counts.set(server, Math.max(counts.get(server) ?? 0, countOf(name)))
  }
  const running: Array<Child> = []
  const stop = async () => {
    // Clients first: a server that goes before them would leave them with broken connections.
    for (const child of running.toReversed()) await child.stop()
  }
  const startAll = async (programs: ReadonlyArray<readonly [string, Program]>) => {
    const results = await Promise.allSettled(programs.map(([name, program]) => Child.start(name, program)))
    for (const result of results) if (result.status === "fulfilled") running.push(result.value.child)
    return results.map((result) => {
      if (result.status === "rejected") throw result.reason
      return result.value
    })
  }
  try {
    const serverNames = [...counts.keys()]
    const listening = await startAll(
      serverNames.map((name) => [`the server ${name}`, nodeProgram({ _tag: "Server", name, count: counts.get(name)! })])
    )
    const portsOf = (name: ClientName) =>
      listening[serverNames.indexOf(clients[name].server)]!.ports.slice(0, countOf(name))
    const connected = await startAll(names.map((name) => [`the client ${name}`, programOf(name, portsOf(name))]))
    return { clients: new Map(names.map((name, i) => [name, connected[i]!.child])), stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Calls until three windows cost the same within a tenth, eight at the most. */
export const warmUp = async (client: Child, level: Level, payload: Payload): Promise<void> => {
  const costs: Array<number> = []
  while (costs.length < 8 && !isSteady(costs, 3, 0.1)) {
    costs.push(cpuOf(await client.measure(level, payload, 120)))
  }
}

/**
 * Gives a client whose compiler works while it runs the time for that: seconds of calls until three cost the same within a tenth, six at
 * least and fifteen at the most. For what is in Node, `warmUp` is enough.
 */
export const firstCalls = async (name: ClientName, client: Child): Promise<void> => {
  if (isNode(name) || !foreignClients[name].compiles) return
  const costs: Array<number> = []
  while (costs.length < 6 || costs.length < 15 && !isSteady(costs, 3, 0.1)) {
    costs.push(cpuOf(await client.measure(64, 86, 1000)))
  }
}

/** Measures the cells of a scene; `progress` is told in words how far it is. */
export const measureScene = async (
  name: SceneName,
  cells: ReadonlyArray<Cell>,
  size: Size,
  progress: (text: string) => void
): Promise<SceneSeries> => {
  const { endpoints, payload }: Scene = scenes[name]
  const series = cells.map(({ client, level }) => ({
    client,
    level,
    samples: new Array<Sample>(),
    timed: new Array<Timed>(),
    memory: new Array<Memory>()
  }))
  const names = [...new Set(cells.map(({ client }) => client))]
  const levels = [...new Set(cells.map(({ level }) => level))]
  /** Level by level, there and back again, so that no client always comes after the same one. */
  const inTurn = (round: number) =>
    levels.flatMap((level) => {
      const ofLevel = series.filter((cell) => cell.level === level)
      return round % 2 === 1 ? ofLevel : ofLevel.toReversed()
    })
  for (let start = 1; start <= size.starts; start++) {
    const where = `${name}, start ${start} of ${size.starts}`
    progress(`${where}: warming up`)
    const processes = await startProcesses(names, endpoints)
    const childOf = (client: ClientName) => processes.clients.get(client)!
    try {
      for (const [client, child] of processes.clients) await firstCalls(client, child)
      for (const { client, level } of series) await warmUp(childOf(client), level, payload)
      for (let round = 1; round <= size.rounds; round++) {
        progress(`${where}: round ${round} of ${size.rounds}`)
        for (const { client, level, samples } of inTurn(round)) {
          samples.push(await childOf(client).measure(level, payload, size.millis))
        }
      }
      for (let look = 1; look <= size.looks; look++) {
        progress(`${where}: latency and memory, ${look} of ${size.looks}`)
        for (const { client, level, memory, timed } of inTurn(look)) {
          timed.push(await childOf(client).closed(level, payload, size.millis))
          memory.push(await childOf(client).memory(level, payload, size.millis))
        }
      }
    } finally {
      await processes.stop()
    }
  }
  return { scene: name, cells: series, rounds: size.starts * size.rounds }
}
