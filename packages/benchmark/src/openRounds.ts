/** How long calls take when they come at a fixed rate: ours and the floor at half of our highest, all clients at a low one. */
import type { Timed } from "./Child.ts"
import type { ClientName } from "./peers.ts"
import { firstCalls, startProcesses, warmUp } from "./rounds.ts"

/** How much is measured. */
export interface OpenSize {
  readonly starts: number
  /** Many and short: what stops a machine for some milliseconds spoils a few of them, and not the median. */
  readonly rounds: number
  /** The window of one measurement in milliseconds. */
  readonly millis: number
  /** Rounds at the low rate, in each start. */
  readonly lowRounds: number
  /** Their window. */
  readonly lowMillis: number
}

/** What was seen; index i of both series is the same round. */
export interface OpenSeries {
  /** Calls a second that each round was at: half of what ours came to just before it in a closed loop of 64. */
  readonly rates: ReadonlyArray<number>
  readonly ours: ReadonlyArray<Timed>
  readonly floor: ReadonlyArray<Timed>
  /** Of each client, at the low rate. */
  readonly low: ReadonlyMap<ClientName, ReadonlyArray<Timed>>
}

/** Calls a second that every peer can keep up with. */
export const lowRate = 1000

/** Rounds at first that do not count: this way to call is another than that of the closed loop, and is compiled while it runs. */
const warmUpRounds = 6

/** Long enough for our highest rate. */
const paceMillis = 150

/**
 * Measures; `others` are those that are timed at the low rate, too. Each round asks anew what our highest rate is: on a machine that has become
 * slower, half of what it was would be more than there is.
 */
export const measureOpen = async (
  others: ReadonlyArray<ClientName>,
  size: OpenSize,
  progress: (text: string) => void
): Promise<OpenSeries> => {
  const rates: Array<number> = []
  const seen = { floor: new Array<Timed>(), ours: new Array<Timed>() }
  const low = new Map<ClientName, Array<Timed>>()
  const lowNames: ReadonlyArray<ClientName> = size.lowRounds === 0 ? [] : ["floor", "ours", ...others]
  for (const name of lowNames) low.set(name, [])
  for (let start = 1; start <= size.starts; start++) {
    const where = `fixed rates, start ${start} of ${size.starts}`
    progress(`${where}: warming up`)
    const processes = await startProcesses(["floor", "ours", ...lowNames.slice(2)])
    const childOf = (name: ClientName) => processes.clients.get(name)!
    try {
      for (const [name, child] of processes.clients) {
        await firstCalls(name, child)
        await warmUp(child, 64, 86)
      }
      for (let round = 1 - warmUpRounds; round <= size.rounds; round++) {
        if (round > 0) progress(`${where}: round ${round} of ${size.rounds}`)
        const { callsPerSecond } = await childOf("ours").measure(64, 86, paceMillis)
        if (round > 0) rates.push(callsPerSecond / 2)
        for (const name of round % 2 === 0 ? ["ours", "floor"] as const : ["floor", "ours"] as const) {
          const timed = await childOf(name).open(callsPerSecond / 2, 86, size.millis)
          if (round > 0) seen[name].push(timed)
        }
      }
      for (let round = 1; round <= size.lowRounds; round++) {
        progress(`${where}: ${lowRate} calls a second, round ${round} of ${size.lowRounds}`)
        for (const [name, timed] of low) timed.push(await childOf(name).open(lowRate, 86, size.lowMillis))
      }
    } finally {
      await processes.stop()
    }
  }
  return { rates, ...seen, low }
}
