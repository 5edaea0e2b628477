/** Measures the clients of a group by turns, so that what disturbs the machine disturbs all alike. */
import { Child, type Part, type Sample } from "./Child.ts"
import { type ClientName, clients, type GroupName, groups, type Level, membersOf } from "./peers.ts"
import { isSteady } from "./statistics.ts"

/** How much is measured. */
export interface Size {
  /** Times that all processes are started anew: the compiler does not decide the same in each. */
  readonly starts: number
  /** Rounds with each set of processes. */
  readonly rounds: number
  /** The window of one measurement in milliseconds. */
  readonly millis: number
}

/**
 * What each client showed at each number of calls in flight, a sample a round; index i of every series of a group is the same
 * round.
 */
export type Series = ReadonlyMap<ClientName, ReadonlyMap<Level, ReadonlyArray<Sample>>>

/** All servers and clients of one start. */
interface Processes {
  readonly clients: ReadonlyMap<ClientName, Child>
  readonly stop: () => Promise<void>
}

/** Starts the clients that are named, and their servers before them. */
export const startProcesses = async (names: ReadonlyArray<ClientName>): Promise<Processes> => {
  const serverNames = [...new Set(names.map((name) => clients[name].server))]
  const running: Array<Child> = []
  const stop = async () => {
    // Clients first: a server that goes before them would leave them with broken connections.
    for (const child of running.toReversed()) await child.stop()
  }
  const startAll = async (parts: ReadonlyArray<Part>) => {
    const results = await Promise.allSettled(parts.map((part) => Child.start(part)))
    for (const result of results) if (result.status === "fulfilled") running.push(result.value.child)
    return results.map((result) => {
      if (result.status === "rejected") throw result.reason
      return result.value
    })
  }
  try {
    const listening = await startAll(serverNames.map((name) => ({ _tag: "Server", name })))
    const portsOf = (name: ClientName) =>
      listening[serverNames.indexOf(clients[name].server)]!.ports.slice(0, clients[name].servers)
    const connected = await startAll(
      names.map((name) => ({ _tag: "Client", name, ports: portsOf(name) }))
    )
    return { clients: new Map(names.map((name, i) => [name, connected[i]!.child])), stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Calls until three windows cost the same within a tenth, eight at the most. */
export const warmUp = async (client: Child, level: Level): Promise<void> => {
  const costs: Array<number> = []
  while (costs.length < 8 && !isSteady(costs, 3, 0.1)) {
    costs.push((await client.measure(level, 120)).microsPerCall)
  }
}

/** Measures a group; `progress` is told in words how far it is. */
export const measure = async (
  group: GroupName,
  size: Size,
  progress: (text: string) => void
): Promise<Series> => {
  const names = membersOf(group)
  const { levels } = groups[group]
  const series = new Map(
    names.map((name) => [name, new Map<Level, Array<Sample>>(levels.map((level) => [level, []]))])
  )
  for (let start = 1; start <= size.starts; start++) {
    const where = `${group}, start ${start} of ${size.starts}`
    progress(`${where}: warming up`)
    const processes = await startProcesses(names)
    try {
      for (const [, client] of processes.clients) for (const level of levels) await warmUp(client, level)
      for (let round = 1; round <= size.rounds; round++) {
        progress(`${where}: round ${round} of ${size.rounds}`)
        // There and back again, so that no client always comes after the same one.
        const order = round % 2 === 1 ? names : names.toReversed()
        for (const level of levels) {
          for (const name of order) {
            series.get(name)!.get(level)!.push(await processes.clients.get(name)!.measure(level, size.millis))
          }
        }
      }
    } finally {
      await processes.stop()
    }
  }
  return series
}
